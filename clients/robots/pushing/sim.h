/* SPDX-License-Identifier: Apache-2.0
 * The pushing world: a square box and a round pusher on a plane, in Chipmunk2D. Physics only: no policy, no network.
 *
 * The set-up is that of the sparse-dynamics paper's object pushing and of its follow-up's public simulators: no gravity, strong
 * damping, a box of 50 x 50 px whose four corners are the keypoints, a disc of radius 5 px whose velocity is commanded.
 * One action moves the pusher by u over one second, in ESP_PUSH_SUBSTEPS steps of the physics. The world is
 * quasi-static: whatever still moves when an action ends is stopped, so positions alone are the state.
 *
 * Units outside this file are the paper's: 100 px = 1, radians, y up. One world, one thread. Same calls, same bits. */
#ifndef ESP_PUSHING_SIM_H
#define ESP_PUSHING_SIM_H

#include <stdbool.h>

#define ESP_PUSH_KEYPOINTS 4
#define ESP_PUSH_NY        16 /* keypoints in the world x0 y0 .. x3 y3, then the same relative to the pusher */
#define ESP_PUSH_NU        2 /* displacement of the pusher */
#define ESP_PUSH_U_MAX     0.3 /* per component */
#define ESP_PUSH_SUBSTEPS  60
#define ESP_PUSH_HALF      0.25 /* half the side of the box */
#define ESP_PUSH_RADIUS    0.05 /* of the pusher */

typedef struct esp_pose {
    double x, y, angle;
} esp_pose;

typedef struct esp_push_world esp_push_world;

/* A new world with the box and the pusher at rest; NULL without memory. */
esp_push_world *esp_push_create(esp_pose box, double pusher_x, double pusher_y);
void esp_push_free(esp_push_world *world);

/* Carries out one action, each component clipped to +-ESP_PUSH_U_MAX. True when the pusher touched the box. */
bool esp_push_step(esp_push_world *world, const double u[ESP_PUSH_NU]);
void esp_push_observe(const esp_push_world *world, double ret_y[ESP_PUSH_NY]);
void esp_push_pusher(const esp_push_world *world, double *ret_x, double *ret_y);

/* Corners of a box at a pose, anticlockwise: x0 y0 .. x3 y3. */
void esp_push_corners(esp_pose pose, double ret_corners[2 * ESP_PUSH_KEYPOINTS]);
/* Distance from a point to the box at a pose; 0 inside. */
double esp_push_distance(esp_pose pose, double x, double y);

#endif
