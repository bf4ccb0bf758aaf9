/* SPDX-License-Identifier: Apache-2.0
 * A rope on a plane whose end a gripper holds: beads and springs in Chipmunk2D, in the place of the sparse-dynamics paper's FleX rope.
 *
 * ESP_ROPE_BEADS beads, 10 px apart at rest; springs between neighbours, weaker ones between next neighbours against bending; no
 * gravity, strong damping as the friction with the plane; beads do not touch each other. The first bead is the gripper, which goes where it
 * is told: one action moves it by u over one second. Whatever still moves when an action ends is stopped. Four beads are the keypoints;
 * what lies between them is not observed.
 *
 * Units outside are those of pushing: 100 px = 1, radians, y up. One world, one thread. Same calls, same bits. */
#ifndef ESP_ROPE_SIM_H
#define ESP_ROPE_SIM_H

#include "robots/robot.h"

#define ESP_ROPE_BEADS     13
#define ESP_ROPE_KEYPOINTS 4 /* beads 0 (the gripper), 4, 8, 12 */
#define ESP_ROPE_NY        8 /* x0 y0 .. x3 y3 */
#define ESP_ROPE_NU        2 /* displacement of the gripper */
#define ESP_ROPE_U_MAX     0.3 /* per component */
#define ESP_ROPE_SPACING   0.1

typedef struct esp_rope esp_rope;

/* A rope at rest whose gripper is at x, y; its first link points along `angle`, each next one is turned by `bend` more. NULL without memory. */
esp_rope *esp_rope_create(double x, double y, double angle, double bend);
void esp_rope_free(esp_rope *rope);

/* Carries out one action, each component clipped to +-ESP_ROPE_U_MAX. */
void esp_rope_step(esp_rope *rope, const double u[ESP_ROPE_NU]);
void esp_rope_observe(const esp_rope *rope, double ret_y[ESP_ROPE_NY]);
void esp_rope_bead(const esp_rope *rope, int bead, double *ret_x, double *ret_y);
/* What the springs hold, in units in which that of a link stretched by 1 is 1/2. */
double esp_rope_energy(const esp_rope *rope);

#endif
