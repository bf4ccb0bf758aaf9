/* SPDX-License-Identifier: Apache-2.0
 * Subgradients of what plans side by side cost and of how far outside they are, in float: what descent goes by. The values
 * themselves are rollout.h. */
#ifndef ESP_PLAN_SLOPE_H
#define ESP_PLAN_SLOPE_H

#include "plan/rollout.h"

/* Gradient arrays of a tile: row t * ny + i of dy, t * nu + i of du, LANES wide. */
typedef struct esp_slope {
    float *dy, *du;
} esp_slope;

/* Adds the slope of the cost in y and u, each taken as free of the other. */
void esp_tile_cost_slope(const esp_tile *tile, esp_slope *slope);
/* Adds, for each plan outside a limit on y, a slope of 1 back inside; a box to avoid is left through its nearest face.
 * Sets outside (LANES) to 1 for these, 0 for others; true when there is one. */
bool esp_tile_limit_slope(const esp_tile *tile, esp_slope *slope, float *ret_outside);
/* Takes dy back through the steps into du (adds), values as esp_tile_step left them, one block of n_values floats a step.
 * g: (n_y + n_r) x LANES and dx: n_x x LANES of workspace. dy is used up. */
void esp_tile_back(const esp_tile *tile, const esp_batch *batch, const float *values, size_t n_values, esp_slope *slope, float *g, float *dx);

#endif
