/* SPDX-License-Identifier: Apache-2.0
 * Planning instances from a seed: what the planner's benchmark is run on. No solver here.
 *
 *     15x5         pushing a box, the networks of 15 ReLUs in tests/bench/models, 5 steps (24 and 36 ReLUs too)
 *     cart12x10    a pole on a cart with dry friction, its nonlinear terms hinged at 12 places drawn from the seed
 *     random16x5   a residual network of two hidden layers, 16 ReLUs in all, drawn from the seed
 *
 * Start and goal come from the seed. Same text, network and seed: same instance, whatever the machine. */
#ifndef ESP_TESTS_BENCH_INSTANCES_H
#define ESP_TESTS_BENCH_INSTANCES_H

#include "plan/encode.h"
#include "support/planning.h"

typedef struct bench_size {
    char text[32];
    enum { BENCH_PUSH, BENCH_CART, BENCH_RANDOM } family;
    int relus, horizon;
} bench_size;
/* False: not a size. */
bool bench_size_parse(const char *text, bench_size *ret_size);

typedef struct bench_instance {
    bench_size size;
    int network, seed; /* network 1 or 2 */
    char name[64];
    double y[16], goal[8];
} bench_instance;
bench_instance bench_instance_of(const bench_size *size, int network, int seed);

/* The instance as a planning case; `planner` is the task's member of that name. Aborts on error, like case_of. */
plan_case bench_case(const bench_instance *instance, const char *planner);
esp_plan_request bench_request(const bench_instance *instance);

/* The big-M model of the sparse-dynamics paper's equation 11. `sampled` false: ranges by CROWN from the input box, sound.
 * True: each ReLU's least and largest value over sampled pushes, 10 % wider, as hard limits besides, as the paper has
 * them from its data: these cut plans off. */
void bench_model(const plan_case *c, const bench_instance *instance, bool sampled, esp_encoding *ret_model);
/* Free MPS. */
bool bench_write_mps(const esp_lp *lp, const char *path);

#endif
