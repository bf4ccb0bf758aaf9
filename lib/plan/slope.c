/* SPDX-License-Identifier: Apache-2.0
 * Subgradients over tiles of plans, and back-propagation through time. */
#include "plan/slope.h"

#include <math.h>
#include <string.h>

#define LANES        ESP_LANES
#define FOR_LANES(j) for (int j = 0; j < LANES; j++)

static float sign(float v) {
    return (v > 0.0f ? 1.0f : 0.0f) - (v < 0.0f ? 1.0f : 0.0f);
}

/* g (LANES) into component i of what the piece is on. */
static void add(const esp_tile *tile, const esp_piece *piece, int i, const float *restrict g, esp_slope *slope) {
    const esp_problem *p = tile->problem;
    if (piece->on == ESP_ON_Y) {
        float *restrict dy = slope->dy + (size_t)(piece->t * p->ny + i) * LANES;
        FOR_LANES(j) dy[j] += g[j];
        return;
    }
    float *restrict du = slope->du + (size_t)(piece->t * p->nu + i) * LANES;
    FOR_LANES(j) du[j] += g[j];
    if (piece->on != ESP_ON_DU || piece->t == 0) return;
    float *restrict before = du - (size_t)p->nu * LANES;
    FOR_LANES(j) before[j] -= g[j];
}

static void add_l1_or_l2(const esp_tile *tile, const esp_piece *piece, esp_slope *slope) {
    float d[LANES];
    for (int k = 0; k < piece->n; k++) {
        float w = (float)piece->weight[k];
        esp_tile_distance(tile, piece, k, d);
        if (piece->norm == ESP_COST_L1)
            FOR_LANES(j) d[j] = w * sign(d[j]);
        else
            FOR_LANES(j) d[j] = 2.0f * w * d[j];
        add(tile, piece, piece->index[k], d, slope);
    }
}

/* Of the first largest component, per plan. */
static void add_linf(const esp_tile *tile, const esp_piece *piece, esp_slope *slope) {
    float d[LANES], g[LANES], most[LANES] = {0}, open[LANES];
    for (int k = 0; k < piece->n; k++) {
        float w = (float)piece->weight[k];
        esp_tile_distance(tile, piece, k, d);
        FOR_LANES(j) most[j] = w * fabsf(d[j]) > most[j] ? w * fabsf(d[j]) : most[j];
    }
    FOR_LANES(j) open[j] = 1.0f;
    for (int k = 0; k < piece->n; k++) {
        float w = (float)piece->weight[k];
        esp_tile_distance(tile, piece, k, d);
        FOR_LANES(j) {
            float mine = w * fabsf(d[j]) >= most[j] ? open[j] : 0.0f;
            g[j] = mine * w * sign(d[j]);
            open[j] -= mine;
        }
        add(tile, piece, piece->index[k], g, slope);
    }
}

/* A limit that the present violates: the penalty's slope towards the nearest way back. */
static void add_soft(const esp_tile *tile, const esp_soft *soft, int t, esp_slope *slope) {
    const esp_problem *p = tile->problem;
    float nearest[LANES], value[LANES], penalty = (float)p->penalty;
    float *dy = slope->dy + (size_t)(t * p->ny) * LANES;
    esp_tile_soft(tile, soft, t, nearest);
    FOR_LANES(j) nearest[j] = nearest[j] > 0.0f ? nearest[j] : -INFINITY;
    for (int i = 0; i < soft->n_sides; i++) {
        const esp_side *side = &soft->sides[i];
        esp_tile_side(tile, side, t, value);
        FOR_LANES(j) value[j] = value[j] == nearest[j] ? penalty : 0.0f;
        FOR_LANES(j) nearest[j] = value[j] > 0.0f ? -INFINITY : nearest[j]; /* one side only */
        for (int k = 0; k < side->n; k++) {
            float a = (float)side->a[k], *restrict to = dy + (size_t)side->index[k] * LANES;
            FOR_LANES(j) to[j] += a * value[j];
        }
    }
}

void esp_tile_cost_slope(const esp_tile *tile, esp_slope *slope) {
    const esp_problem *p = tile->problem;
    for (int k = 0; k < p->n_pieces; k++)
        if (p->pieces[k].norm == ESP_COST_LINF)
            add_linf(tile, &p->pieces[k], slope);
        else
            add_l1_or_l2(tile, &p->pieces[k], slope);
    for (int t = 0; t < p->horizon; t++)
        for (int k = 0; k < p->n_softs; k++) add_soft(tile, &p->softs[k], t, slope);
}

/* ---- limits --------------------------------------------------------------------------------------------------------- */

static void leave_box(const esp_tile *tile, int t, float *dy, float *restrict outside) {
    const esp_problem *p = tile->problem;
    const float *y = esp_tile_y(tile, t);
    for (int i = 0; i < p->ny; i++, y += LANES, dy += LANES) {
        float lower = (float)p->y_lower[t * p->ny + i], upper = (float)p->y_upper[t * p->ny + i];
        if (!isfinite(lower) && !isfinite(upper)) continue;
        float *restrict to = dy;
        FOR_LANES(j) {
            float side = (y[j] > upper ? 1.0f : 0.0f) - (y[j] < lower ? 1.0f : 0.0f);
            to[j] += side;
            outside[j] = side != 0.0f ? 1.0f : outside[j];
        }
    }
}

static void leave_halfspace(const esp_tile *tile, const esp_halfspace *h, int t, float *dy, float *restrict outside) {
    const esp_problem *p = tile->problem;
    const float *y = esp_tile_y(tile, t);
    float sum[LANES];
    FOR_LANES(j) sum[j] = -(float)h->b;
    for (int i = 0; i < p->ny; i++) FOR_LANES(j) sum[j] += (float)h->a[i] * y[i * LANES + j];
    for (int i = 0; i < p->ny; i++) FOR_LANES(j) dy[i * LANES + j] += sum[j] > 0.0f ? (float)h->a[i] : 0.0f;
    FOR_LANES(j) outside[j] = sum[j] > 0.0f ? 1.0f : outside[j];
}

static void leave_avoid(const esp_tile *tile, const esp_avoid *avoid, int t, float *dy, float *restrict outside) {
    const float *y = esp_tile_y(tile, t);
    FOR_LANES(j) {
        float depth = INFINITY, side = 0.0f;
        int at = 0;
        for (int k = 0; k < avoid->n; k++) {
            float v = y[avoid->index[k] * LANES + j], below = v - (float)avoid->lower[k], above = (float)avoid->upper[k] - v;
            if (below < depth || above < depth) {
                side = below < above ? 1.0f : -1.0f;
                depth = below < above ? below : above;
                at = avoid->index[k];
            }
        }
        if (!(depth > 0.0f)) continue;
        dy[at * LANES + j] += side;
        outside[j] = 1.0f;
    }
}

bool esp_tile_limit_slope(const esp_tile *tile, esp_slope *slope, float *ret_outside) {
    const esp_problem *p = tile->problem;
    float most = 0.0f;
    memset(ret_outside, 0, LANES * sizeof *ret_outside);
    for (int t = 0; t < p->horizon; t++) {
        float *dy = slope->dy + (size_t)(t * p->ny) * LANES;
        leave_box(tile, t, dy, ret_outside);
        for (int k = 0; k < p->n_halfspaces; k++) leave_halfspace(tile, &p->halfspaces[k], t, dy, ret_outside);
        for (int k = 0; k < p->n_avoid; k++) leave_avoid(tile, &p->avoid[k], t, dy, ret_outside);
    }
    FOR_LANES(j) most = ret_outside[j] > most ? ret_outside[j] : most;
    return most > 0.0f;
}

/* ---- back through time ------------------------------------------------------------------------------------------------ */

static void add_rows(float *restrict to, const float *restrict from, int rows) {
    for (int k = 0; k < rows * LANES; k++) to[k] += from[k];
}

void esp_tile_back(const esp_tile *tile, const esp_batch *batch, const float *values, size_t n_values, esp_slope *slope, float *g, float *dx) {
    const esp_problem *p = tile->problem;
    for (int t = p->horizon - 1; t >= 0; t--) {
        memcpy(g, slope->dy + (size_t)(t * p->ny) * LANES, (size_t)(p->ny * LANES) * sizeof *g);
        esp_batch_backward(batch, values + (size_t)t * n_values, g, dx);
        for (int s = 0; s < p->history; s++) {
            int y = esp_window_y(p, t, s), u = esp_window_u(p, t, s);
            if (y >= 0) add_rows(slope->dy + (size_t)(y * p->ny) * LANES, dx + (size_t)(s * p->ny) * LANES, p->ny);
            if (u >= 0) add_rows(slope->du + (size_t)(u * p->nu) * LANES, dx + (size_t)(p->history * p->ny + s * p->nu) * LANES, p->nu);
        }
    }
}
