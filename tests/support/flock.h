/* SPDX-License-Identifier: Apache-2.0
 * A world for graph networks: like objects on a plane that go away from each other and from a finger, the nearer the faster; and runs of
 * training in it. */
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

/* What came of a run: its models in order. */
enum { FLOCK_MODELS = 4 };
typedef struct flock_run {
    int n;
    double rmse[FLOCK_MODELS];
    esp_model *model[FLOCK_MODELS];
    esp_buf bytes[FLOCK_MODELS];
    esp_buf kept; /* a checkpoint */
    int wanted, taken; /* which is kept, counted from 1, one after each minibatch; how many there were */
} flock_run;

/* Trains; the test fails when that does. */
void flock_train(const esp_dataset *data, const esp_train_opts *opts, flock_run *ret_run);
/* The same into a run whose `wanted` is set, from a checkpoint on or (NULL) from the beginning; its models are then the last ones. */
esp_code flock_resume(const esp_dataset *data, const esp_train_opts *opts, const esp_buf *from, flock_run *run);
/* The models of b are the last ones of a, byte by byte. */
void flock_expect_end(const flock_run *a, const flock_run *b);
void flock_run_done(flock_run *run);

#endif
