/* SPDX-License-Identifier: Apache-2.0
 * Planning by projected Adam: the gradient of cost and penalties through the step program, back through time.
 *
 * Finds plans, proves nothing; local, so several starts: the best plan known, the fall-back input, random plans. Each
 * iterate is projected onto box, rate and values, evaluated in double, and rechecked before it counts. With a finite
 * set of values the gradient is taken at the snapped plan and applied to the plan before snapping (straight-through). */
#ifndef ESP_PLAN_GRADIENT_H
#define ESP_PLAN_GRADIENT_H

#include "plan/verify.h"

typedef struct esp_gradient_options {
    int iterations; /* per start */
    int starts; /* at least 1 */
    double rate; /* first step, as a share of the input box's width; falls to a hundredth of it */
    double seconds; /* stop after this long, INFINITY for no limit of its own */
    uint64_t seed;
} esp_gradient_options;

extern const esp_gradient_options esp_gradient_defaults;

/* Improves track->best until the iterations are done, the gap is met or it is time to stop. NOMEM only. */
ESP_MUST_CHECK esp_code esp_gradient_run(esp_track *track, const esp_gradient_options *options, esp_error *reterr);

#endif
