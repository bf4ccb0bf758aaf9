/* SPDX-License-Identifier: Apache-2.0
 * A pole on a cart, gym's CartPole-v1 with a force between its two: the same mechanism in MuJoCo, stepped as gym steps it. */
#ifndef ESP_ROBOTS_CARTPOLE_H
#define ESP_ROBOTS_CARTPOLE_H

#include "robots/robot.h"

/* Observation: x, velocity, angle (0: upright, positive: towards +x), angular velocity. SI units. */
enum { ESP_CARTPOLE_X, ESP_CARTPOLE_VELOCITY, ESP_CARTPOLE_ANGLE, ESP_CARTPOLE_TURN, ESP_CARTPOLE_NY };
#define ESP_CARTPOLE_FORCE 10.0 /* N at u = 1 */
#define ESP_CARTPOLE_TAU   0.02 /* s, a step */

typedef struct esp_cartpole esp_cartpole;

esp_cartpole *esp_cartpole_create(const double y[ESP_CARTPOLE_NY]); /* NULL without memory */
void esp_cartpole_free(esp_cartpole *cartpole);
/* u is the force's share of ESP_CARTPOLE_FORCE, clipped to [-1, 1]; gym has -1 and 1. */
void esp_cartpole_step(esp_cartpole *cartpole, double u);
void esp_cartpole_observe(const esp_cartpole *cartpole, double ret_y[ESP_CARTPOLE_NY]);

#endif
