/* SPDX-License-Identifier: Apache-2.0
 * A mechanism in MuJoCo from its description in XML; mechanism.c is the only file that includes MuJoCo. One mechanism, one thread. */
#ifndef ESP_ROBOTS_MECHANISM_H
#define ESP_ROBOTS_MECHANISM_H

typedef struct esp_mechanism esp_mechanism;

/* NULL without memory; a description that MuJoCo refuses ends the program, since it is part of it. */
esp_mechanism *esp_mechanism_create(const char *xml);
void esp_mechanism_free(esp_mechanism *mechanism);

/* Joint positions and velocities, nq and nv numbers, borrowed, for reading and writing. */
double *esp_mechanism_q(esp_mechanism *mechanism);
double *esp_mechanism_v(esp_mechanism *mechanism);
/* The controls, one for each actuator. */
void esp_mechanism_control(esp_mechanism *mechanism, const double *u);
/* Joint accelerations where it is, under its controls: nv numbers, borrowed until the next call. */
const double *esp_mechanism_accelerations(esp_mechanism *mechanism);
/* The description's integrator, n of its time steps. */
void esp_mechanism_step(esp_mechanism *mechanism, int n);
/* The place of a body in the world, 3 numbers. */
void esp_mechanism_place(esp_mechanism *mechanism, const char *body, double ret_place[3]);
/* Kinetic energy and mass of the whole. */
double esp_mechanism_kinetic(esp_mechanism *mechanism);
double esp_mechanism_mass(const esp_mechanism *mechanism);

#endif
