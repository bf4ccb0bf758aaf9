/* SPDX-License-Identifier: Apache-2.0
 * Sound ranges of a planning problem: what every ReLU of every step and every predicted output can be, for any plan in
 * the input box, from the known present; and the cheap lower bound on the cost that follows.
 *
 * From the input box and the present alone, so no plan is cut off, whatever the data looked like: interval arithmetic
 * and CROWN over the unrolled program (certify/bounds.h), strength `proved`. Limits on y are not used for them; solvers
 * meet them with the ranges of y as limits of their columns. */
#ifndef ESP_PLAN_TIGHTEN_H
#define ESP_PLAN_TIGHTEN_H

#include "certify/bounds.h"
#include "plan/problem.h"

typedef struct esp_tightened {
    esp_program *unrolled; /* x = [u(0) .. u(H-1)], ReLU t * n_r + j, y = [y(1) .. y(H)] */
    esp_ranges *ranges; /* H * n_r pre-activations, H * ny outputs */
} esp_tightened;

/* Rough cost of CROWN over the horizon in seconds, to be held against the time left. */
double esp_tighten_seconds(const esp_problem *problem);
/* crown false: interval arithmetic only. Errors: NUMERIC when a range is not finite, TOO_LARGE, NOMEM. */
ESP_MUST_CHECK esp_code esp_tighten(const esp_problem *problem, bool crown, esp_tightened *ret_tightened, esp_error *reterr);
void esp_tightened_done(esp_tightened *tightened);

/* No plan costs less, penalties included, by the ranges of y, u and du; rounded down. Never below 0, which every cost is. */
double esp_tighten_bound(const esp_problem *problem, const esp_ranges *ranges);
/* Some limit on y that holds lies outside the ranges at some step: no plan exists, proved. */
bool esp_tighten_refutes(const esp_problem *problem, const esp_ranges *ranges);

/* The range of what a piece's component k is on. */
void esp_tighten_component(const esp_problem *problem, const esp_ranges *ranges, const esp_piece *piece, int k, double *ret_lower, double *ret_upper);

#endif
