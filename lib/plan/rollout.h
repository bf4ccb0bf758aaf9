/* SPDX-License-Identifier: Apache-2.0
 * Many plans at once through the step program in float: what sampling runs on. Estimates only; verify.h recomputes. */
#ifndef ESP_PLAN_ROLLOUT_H
#define ESP_PLAN_ROLLOUT_H

#include "plan/sample.h"

/* Limits are drawn in by this share of their scale, so that a sample that holds them in float holds them in double. */
#define ESP_ROLLOUT_MARGIN 1e-5

struct esp_sampler {
    const esp_program *step;
    esp_batch *batch;
    esp_arena *arena; /* the arrays below, for `horizon` steps */
    int horizon, ny, nu;
    double *inputs; /* ESP_SAMPLES x H*nu: the samples, projected */
    float *u; /* H x ESP_SAMPLES x nu */
    float *y; /* H x ESP_SAMPLES x ny */
    float *x; /* ESP_SAMPLES x n_x */
    float *noise; /* H*nu + 1 */
    double *cost; /* ESP_SAMPLES */
    double *violation; /* ESP_SAMPLES: 0 = inside the drawn-in limits */
    double *part; /* ESP_SAMPLES: largest component of an linf term */
    double *mean, *spread, *weighted; /* H*nu */
    int *order; /* ESP_SAMPLES */
};

/* Memory for problems of this horizon. */
ESP_MUST_CHECK esp_code esp_sampler_reserve(esp_sampler *sampler, const esp_problem *problem, esp_error *reterr);
/* Fills cost and violation of the first n rows of inputs. A sample that is not finite costs INFINITY. */
void esp_sampler_rollout(esp_sampler *sampler, const esp_problem *problem, int n);

#endif
