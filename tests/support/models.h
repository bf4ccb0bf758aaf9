/* SPDX-License-Identifier: Apache-2.0
 * Random models for property tests, and a plain model evaluator that shares no code with the library. */
#ifndef ESP_TESTS_MODELS_H
#define ESP_TESTS_MODELS_H

#include "base/rng.h"
#include "net/model.h"

/* The seeds of a property: 1 .. n, or only ESP_SEED when the environment has it, or ESP_TIMES as many. */
typedef struct seed_range {
    uint64_t first, last;
} seed_range;
seed_range seeds(uint64_t n);

/* 1 to 4 layers of 1 to 8 neurons, relu, identity and zero mixed (outputs too, now and then); any kind and frame;
 * history 1 to 3, nu from 0. Weights of scale 1/sqrt(n_in), some exactly 0. Aborts when memory is out. */
esp_model *random_model(esp_rng *rng);
/* The same with given sizes: another dynamics of the same n_x and ny. */
esp_model *random_dynamics(esp_rng *rng, int ny, int nu, int history);
/* A network of the given widths, all hidden neurons of one activation (or mixed when act < 0). */
esp_net *random_net(esp_rng *rng, int n_layers, const int *widths, int act);

/* y of x in long double, straight from the definition in net/model.h. p, when not NULL, gets the pre-activations of the
 * ReLU neurons in layer order. */
void oracle_step(const esp_model *model, const double *x, double *y, double *p);

#endif
