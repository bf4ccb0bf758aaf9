/* SPDX-License-Identifier: Apache-2.0
 * Planning by sampling: the cross-entropy method and model predictive path integral control. Finds plans, proves
 * nothing.
 *
 * Both keep a mean plan, sample around it, run all samples through the step program in float, many side by side
 * (plan/rollout.h), and move the mean towards the good ones: CEM to the average of the best tenth, its spread with it (Rubinstein
 * and Kroese, 2004); MPPI to the average weighted by exp(-cost / lambda), lambda from the spread of the costs and the
 * spread annealed (Williams et al., 2017). Samples are projected onto box, rate and values before they are run, limits
 * on y are a penalty. The best sample is replayed in double and rechecked (esp_track_offer) before it counts.
 *
 * Several starts: the best plan known, the fall-back input, then random means. One seed gives one sequence of samples;
 * only where it is cut off depends on time. */
#ifndef ESP_PLAN_SAMPLE_H
#define ESP_PLAN_SAMPLE_H

#include "plan/verify.h"

/* Most samples of an iteration. */
#define ESP_SAMPLES 4096

/* A float copy of one step program and the workspace of its samples, kept between plans. One thread. */
typedef struct esp_sampler esp_sampler;
ESP_MUST_CHECK esp_code esp_sampler_create(const esp_program *step, esp_sampler **ret_sampler, esp_error *reterr);
void esp_sampler_free(esp_sampler *sampler);

typedef struct esp_sample_options {
    int samples; /* per iteration, at most ESP_SAMPLES */
    int iterations; /* per start */
    int starts; /* at least 1 */
    double seconds; /* stop after this long, INFINITY for no limit of its own */
    int patience; /* a start ends after this many iterations without a better plan (by a share 1e-4); 0: never */
    uint64_t seed;
} esp_sample_options;

extern const esp_sample_options esp_cem_defaults, esp_mppi_defaults;

/* Improve track->best until the iterations are done, the gap is met or it is time to stop. NOMEM only. */
ESP_MUST_CHECK esp_code esp_cem_run(esp_sampler *sampler, esp_track *track, const esp_sample_options *options, esp_error *reterr);
ESP_MUST_CHECK esp_code esp_mppi_run(esp_sampler *sampler, esp_track *track, const esp_sample_options *options, esp_error *reterr);

#endif
