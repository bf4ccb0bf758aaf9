/* SPDX-License-Identifier: Apache-2.0
 * A two-link arm in the plane, gym's Reacher-v4: the same mechanism in MuJoCo, with its integrator and its two time steps an action. */
#ifndef ESP_ROBOTS_REACHER_H
#define ESP_ROBOTS_REACHER_H

#include "robots/robot.h"

/* Observation: cosines and sines of the joints' angles, their velocities in 10 rad/s, so that all are about 1, and the fingertip in m. The target is
 * the task's. */
#define ESP_REACHER_SPEED 10.0 /* rad/s that are 1 */
enum { ESP_REACHER_COS, ESP_REACHER_SIN = 2, ESP_REACHER_VELOCITY = 4, ESP_REACHER_TIP = 6, ESP_REACHER_NY = 8, ESP_REACHER_NU = 2 };
#define ESP_REACHER_STEP 0.02 /* s */

typedef struct esp_reacher esp_reacher;

esp_reacher *esp_reacher_create(const double q[2], const double v[2]); /* NULL without memory */
void esp_reacher_free(esp_reacher *reacher);
void esp_reacher_step(esp_reacher *reacher, const double u[ESP_REACHER_NU]); /* clipped to [-1, 1]; 200 N m at 1 */
void esp_reacher_observe(const esp_reacher *reacher, double ret_y[ESP_REACHER_NY]);
/* For tests: angles and velocities, accelerations under u, kinetic energy, mass. */
void esp_reacher_state(const esp_reacher *reacher, double ret_q[2], double ret_v[2]);
void esp_reacher_accelerations(esp_reacher *reacher, const double u[ESP_REACHER_NU], double ret_a[2]);
double esp_reacher_kinetic(const esp_reacher *reacher);
double esp_reacher_mass(const esp_reacher *reacher);

#endif
