/* SPDX-License-Identifier: Apache-2.0
 * What the benchmarks of sparsification share: the pushing task's data, options of training on them, and the time of a proof. An error
 * ends the program. */
#ifndef ESP_TESTS_BENCH_SPARSIFY_PUSHING_H
#define ESP_TESTS_BENCH_SPARSIFY_PUSHING_H

#include "train/train.h"

/* Says which program, and what; does not return unless the code is OK. */
extern esp_error error;
void must(esp_code code);

/* Of this thread; run with OPENBLAS_NUM_THREADS=1. */
double cpu_seconds(void);

esp_dataset *push_data(int transitions, uint64_t seed);
/* The robots' frame, a network with two layers of 64, no ladder. */
esp_train_opts push_opts(int epochs, int rung_epochs, uint64_t seed);
esp_model *copy_of(const esp_model *model);
/* The dense model of the options. */
esp_model *push_dense(const esp_dataset *data, const esp_train_opts *opts);

/* Models of one kind, and proofs of plans by them. */
typedef struct point {
    double rmse, nonzero; /* sums over models */
    double log_seconds, log_nodes; /* sums over proofs */
    int models, proofs, open; /* open: not proved in time */
} point;

#define PROOF_HORIZON 5

/* Plans of pushing instances 1 to n (bench/instances.h), each to 1 % by the tree search within so many seconds. */
void prove(const esp_model *model, int n, double seconds, point *point);
double point_rmse(const point *point);
double point_seconds(const point *point); /* geometric means; what was not proved counts with its limit */
double point_nodes(const point *point);

/* argv as pairs of a name and a number from 0 to 10 million; false when it is not. */
bool read_options(int argc, char **argv, const char *const *names, int n, double *values);

#endif
