/* SPDX-License-Identifier: Apache-2.0
 * Random graph models for property tests, and a plain evaluator that shares no code with the library. */
#ifndef ESP_TESTS_GRAPHS_H
#define ESP_TESTS_GRAPHS_H

#include "base/rng.h"
#include "net/model.h"

/* Objects of 1 to 4 numbers in 0 to 2 dimensions, 0 to 3 points and shared numbers, 0 to 3 inputs, 1 to 3 rounds, networks of 1 to 3 layers of
 * up to 5 neurons with relu, identity and zero mixed; half of them with a radius near 1. Aborts when memory is out. */
esp_model *random_graph(esp_rng *rng);
/* The model for n objects at normal positions; *ret_x (to free) is [y, u] there. */
esp_model *random_state(esp_rng *rng, const esp_model *graph, int n, double **ret_x);

/* y(t+1) of x = [y, u] for the model as it is bound, in long double, from the definition in net/graph.h. */
void graph_oracle(const esp_model *model, const double *x, double *y);

#endif
