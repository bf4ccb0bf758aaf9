/* SPDX-License-Identifier: Apache-2.0
 * A world for graph networks: like objects on a plane that go away from each other and from a finger, the nearer the faster. */
#ifndef ESP_TESTS_FLOCK_H
#define ESP_TESTS_FLOCK_H

#include "data/dataset.h"
#include "train/train.h"

enum { FLOCK_NY = 7, FLOCK_NU = 2, FLOCK_OBJECTS = 2 }; /* of the data */

/* n objects of two numbers, between the shared ones: a constant first, then a finger that moves as it is told. */
void flock_step(int n, const double *y, const double *u, double *next);
/* So many trajectories of two objects, always the same; to free. */
esp_dataset *flock_drive(size_t n);
/* A small network for it, seen within the radius; no ladder. */
esp_train_opts flock_opts(double radius);

#endif
