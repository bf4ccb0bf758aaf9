/* SPDX-License-Identifier: Apache-2.0
 * Planning by projected Adam: the gradient of cost and penalties through the step program, back through time, for many
 * plans side by side.
 *
 * Finds plans, proves nothing; local, so many starts: the best plan known, the fall-back input, then random plans of five
 * kinds - every step its own input, one input throughout, two inputs with a change at a random step, the best plan known up to
 * a random step, all inputs swinging with random phases - since good plans mostly hold a direction or turn steadily. Starts go in tiles of ESP_LANES (plan/rollout.h), in rounds: the best eighth of a
 * round that do not lie next to a better one goes on for four times as many iterations in smaller steps, until one tile is
 * left. Under a deadline there are as many starts as it has time for.
 *
 * Each iterate is projected onto box, rate and values; one that looks better than the best plan known is replayed in double
 * and rechecked (esp_track_offer) before it counts. With a finite set of values the gradient is taken at the snapped plan and
 * applied to the plan before snapping (straight-through). */
#ifndef ESP_PLAN_GRADIENT_H
#define ESP_PLAN_GRADIENT_H

#include "plan/sample.h"

typedef struct esp_gradient_options {
    int iterations; /* of a start that goes all the way, at least 1 */
    int starts; /* at least 1 */
    int repeats; /* the whole search again from other starts, at least 1 */
    double rate; /* first step, as a share of the input box's width; falls to a thousandth of it */
    double seconds; /* stop after this long, INFINITY for no limit of its own */
    uint64_t seed;
} esp_gradient_options;

extern const esp_gradient_options esp_gradient_defaults;

/* Improves track->best until the iterations are done, the gap is met or it is time to stop. The sampler is one for the
 * track's step program. NOMEM only. */
ESP_MUST_CHECK esp_code esp_gradient_run(const esp_sampler *sampler, esp_track *track, const esp_gradient_options *options, esp_error *reterr);

#endif
