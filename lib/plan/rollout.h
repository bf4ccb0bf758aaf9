/* SPDX-License-Identifier: Apache-2.0
 * Many plans at once through the step program in float, with their costs and violations: what sampling runs on. Estimates
 * only; verify.h recomputes.
 *
 * Plans stand in tiles of ESP_LANES side by side (net/batch.h), a whole horizon of a tile before the next one, so that
 * between two steps nothing leaves the cache. What was observed and applied before the plan stands in the rows before it, so
 * that a window is two runs of rows. */
#ifndef ESP_PLAN_ROLLOUT_H
#define ESP_PLAN_ROLLOUT_H

#include "net/batch.h"
#include "plan/sample.h"

/* Limits are drawn in by this share of their scale, so that a sample that holds them in float holds them in double. */
#define ESP_ROLLOUT_MARGIN 5e-5

/* ESP_LANES plans of a problem. Row t of y(t+1) or u(t) is `lead` rows after the first. */
typedef struct esp_tile {
    const esp_problem *problem;
    int y_lead, u_lead; /* history; the larger of 1 and history - 1 */
    float *y; /* (history + H) x ny x LANES */
    float *u; /* (u_lead + H) x nu x LANES */
} esp_tile;

static inline float *esp_tile_y(const esp_tile *tile, int t) {
    return tile->y + (size_t)((tile->y_lead + t) * tile->problem->ny) * ESP_LANES;
}
static inline float *esp_tile_u(const esp_tile *tile, int t) {
    return tile->u + (size_t)((tile->u_lead + t) * tile->problem->nu) * ESP_LANES;
}
/* Floats of y and of u. */
size_t esp_tile_size_y(const esp_problem *problem);
size_t esp_tile_size_u(const esp_problem *problem);
/* A tile in the given memory, the rows before the plan filled. */
esp_tile esp_tile_on(const esp_problem *problem, float *y, float *u);
/* One step, y(t+1) from the windows at t; values: workspace for net/batch.h, which holds x and r after. */
void esp_tile_step(const esp_tile *tile, const esp_batch *batch, int t, float *values);
/* Moves the inputs onto box, rate and values; in float, so the last digit is left to the replay. row: H * nu of workspace. */
void esp_tile_project(const esp_tile *tile, double *row);
/* ret (LANES): how far component k of a piece is from its target; a'y - b of one side at y(t+1); the least of a limit's. */
void esp_tile_distance(const esp_tile *tile, const esp_piece *piece, int k, float *ret);
void esp_tile_side(const esp_tile *tile, const esp_side *side, int t, float *ret);
void esp_tile_soft(const esp_tile *tile, const esp_soft *soft, int t, float *ret);
/* Cost and violation of each plan (LANES); 0 = inside the drawn-in limits on y. */
void esp_tile_cost(const esp_tile *tile, float *ret_cost);
void esp_tile_violation(const esp_tile *tile, float *ret_violation);

struct esp_sampler {
    const esp_program *step;
    esp_batch *batch;
    esp_arena *arena; /* the arrays below, for `horizon` steps and `room` samples */
    int horizon, room, hu;
    float *u; /* the samples: room / LANES tiles */
    float *y; /* of one tile */
    float *values; /* n_x + n_r x LANES */
    float *noise, *weighted; /* H*nu x LANES */
    float *cost, *violation, *key; /* room; violation 0 = inside the drawn-in limits */
    double *mean, *spread, *row; /* H*nu */
    int *order; /* room */
};

/* Memory for problems of this horizon and batches of n samples. */
ESP_MUST_CHECK esp_code esp_sampler_reserve(esp_sampler *sampler, const esp_problem *problem, int n, esp_error *reterr);
/* Tile k of the samples. */
esp_tile esp_sampler_tile(const esp_sampler *sampler, const esp_problem *problem, int k);
/* Input k (t * nu + i) of sample j. */
static inline float *esp_sampler_at(const esp_sampler *s, const esp_problem *p, int j, int k) {
    int lead = p->history > 2 ? p->history - 1 : 1;
    size_t tile = esp_tile_size_u(p);
    return s->u + (size_t)(j / ESP_LANES) * tile + (size_t)(lead * p->nu + k) * ESP_LANES + (size_t)(j % ESP_LANES);
}
/* Fills cost and violation of the first n samples. A sample that is not finite costs INFINITY. */
void esp_sampler_rollout(esp_sampler *sampler, const esp_problem *problem, int n);

#endif
