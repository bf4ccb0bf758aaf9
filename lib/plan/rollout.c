/* SPDX-License-Identifier: Apache-2.0
 * Tiles of plans through the step program in float, with their costs and violations. */
#include "plan/rollout.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "net/split.h"

#define LANES        ESP_LANES
#define PAIR         ESP_BATCH_MOST
#define AT_ONCE      8 /* tiles */
#define FOR_LANES(j) for (int j = 0; j < LANES; j++)

static int lead_of_u(const esp_problem *p) {
    return p->history > 2 ? p->history - 1 : 1;
}

size_t esp_tile_size_y(const esp_problem *p) {
    return (size_t)((p->history + p->horizon) * p->ny) * LANES;
}

size_t esp_tile_size_u(const esp_problem *p) {
    return (size_t)((lead_of_u(p) + p->horizon) * p->nu) * LANES;
}

static void fill(float *rows, const double *values, int n) {
    for (int i = 0; i < n; i++) FOR_LANES(j) rows[i * LANES + j] = (float)values[i];
}

esp_tile esp_tile_on(const esp_problem *p, float *y, float *u) {
    esp_tile tile = {.problem = p, .y_lead = p->history, .u_lead = lead_of_u(p), .y = y, .u = u};
    fill(y, p->y_past, p->history * p->ny);
    if (p->history > 1)
        fill(u, p->u_past, (p->history - 1) * p->nu);
    else
        fill(u, p->u_last, p->nu);
    return tile;
}

/* The windows at t into x. */
static void gather(const esp_tile *tile, int t, float *x) {
    const esp_problem *p = tile->problem;
    size_t n_y = (size_t)(p->history * p->ny) * LANES, n_u = (size_t)(p->history * p->nu) * LANES;
    memcpy(x, esp_tile_y(tile, t - p->history), n_y * sizeof *x);
    memcpy(x + n_y, esp_tile_u(tile, t - p->history + 1), n_u * sizeof *x);
}

void esp_tile_step(const esp_tile *tile, const esp_batch *batch, int t, float *values) {
    gather(tile, t, values);
    esp_batch_forward(batch, values, esp_tile_y(tile, t));
}

/* ---- projection ------------------------------------------------------------------------------------------------------------------------------------------------------------------------ */

static void project_values(const esp_tile *tile, double *row) {
    const esp_problem *p = tile->problem;
    float *u = esp_tile_u(tile, 0);
    int hu = p->horizon * p->nu;
    FOR_LANES(j) {
        for (int k = 0; k < hu; k++) row[k] = (double)u[k * LANES + j];
        esp_problem_project(p, row);
        for (int k = 0; k < hu; k++) u[k * LANES + j] = (float)row[k];
    }
}

static void project_rate(float *restrict u, const float *restrict before, float rate) {
    FOR_LANES(j) {
        float lower = before[j] - rate, upper = before[j] + rate, v = u[j] < lower ? lower : u[j];
        u[j] = v > upper ? upper : v;
    }
}

void esp_tile_project(const esp_tile *tile, double *row) {
    const esp_problem *p = tile->problem;
    if (p->task->values) {
        project_values(tile, row);
        return;
    }
    for (int k = 0; k < p->horizon * p->nu; k++) {
        float *u = esp_tile_u(tile, 0) + (size_t)k * LANES, lower = (float)p->task->u_lower[k % p->nu], upper = (float)p->task->u_upper[k % p->nu];
        if (esp_problem_rated(p, k / p->nu)) project_rate(u, u - p->nu * LANES, (float)p->task->rate[k % p->nu]);
        FOR_LANES(j) {
            float v = u[j] < lower ? lower : u[j];
            u[j] = v > upper ? upper : v;
        }
    }
}

/* ---- cost --------------------------------------------------------------------------------------------------------- */

/* The rows whose difference, less the target, is the distance; no second one but for changes of u. */
static const float *rows_of(const esp_tile *tile, const esp_piece *piece, int k, const float **ret_before) {
    const float *v = (piece->on == ESP_ON_Y ? esp_tile_y(tile, piece->t) : esp_tile_u(tile, piece->t)) + (size_t)piece->index[k] * LANES;
    *ret_before = piece->on == ESP_ON_DU ? v - (size_t)tile->problem->nu * LANES : NULL;
    return v;
}

void esp_tile_distance(const esp_tile *tile, const esp_piece *piece, int k, float *restrict d) {
    const float *before, *v = rows_of(tile, piece, k, &before);
    float target = (float)piece->target[k];
    if (before)
        FOR_LANES(j) d[j] = v[j] - before[j] - target;
    else
        FOR_LANES(j) d[j] = v[j] - target;
}

/* The most common term, the distance of a y or u in size, is summed where it is computed. */
static bool add_size(const esp_tile *tile, const esp_piece *piece, int k, float *restrict cost) {
    const float *before, *restrict v = rows_of(tile, piece, k, &before);
    float target = (float)piece->target[k], w = (float)piece->weight[k];
    if (before || piece->norm != ESP_COST_L1) return false;
    FOR_LANES(j) cost[j] += w * fabsf(v[j] - target);
    return true;
}

static void add_piece(const esp_tile *tile, const esp_piece *piece, float *restrict cost) {
    float d[LANES], most[LANES] = {0};
    for (int k = 0; k < piece->n; k++) {
        float w = (float)piece->weight[k];
        if (add_size(tile, piece, k, cost)) continue;
        esp_tile_distance(tile, piece, k, d);
        switch (piece->norm) {
        case ESP_COST_L1: FOR_LANES(j) cost[j] += w * fabsf(d[j]); break;
        case ESP_COST_LINF: FOR_LANES(j) most[j] = w * fabsf(d[j]) > most[j] ? w * fabsf(d[j]) : most[j]; break;
        case ESP_COST_L2SQ: FOR_LANES(j) cost[j] += w * d[j] * d[j]; break;
        }
    }
    if (piece->norm == ESP_COST_LINF) FOR_LANES(j) cost[j] += most[j];
}

void esp_tile_side(const esp_tile *tile, const esp_side *side, int t, float *restrict value) {
    const float *y = esp_tile_y(tile, t);
    FOR_LANES(j) value[j] = -(float)side->b;
    for (int k = 0; k < side->n; k++) {
        const float *v = y + (size_t)side->index[k] * LANES;
        float a = (float)side->a[k];
        FOR_LANES(j) value[j] += a * v[j];
    }
}

void esp_tile_soft(const esp_tile *tile, const esp_soft *soft, int t, float *restrict nearest) {
    float value[LANES];
    FOR_LANES(j) nearest[j] = INFINITY;
    for (int i = 0; i < soft->n_sides; i++) {
        esp_tile_side(tile, &soft->sides[i], t, value);
        FOR_LANES(j) nearest[j] = value[j] < nearest[j] ? value[j] : nearest[j];
    }
}

/* A limit that the present violates is cost: how far the nearest of its sides is. */
static void add_soft(const esp_tile *tile, const esp_soft *soft, int t, float *restrict cost) {
    float nearest[LANES], penalty = (float)tile->problem->penalty;
    esp_tile_soft(tile, soft, t, nearest);
    FOR_LANES(j) cost[j] += nearest[j] > 0.0f ? penalty * nearest[j] : 0.0f;
}

void esp_tile_cost(const esp_tile *tile, float *ret_cost) {
    const esp_problem *p = tile->problem;
    memset(ret_cost, 0, LANES * sizeof *ret_cost);
    for (int k = 0; k < p->n_pieces; k++) add_piece(tile, &p->pieces[k], ret_cost);
    for (int t = 0; t < p->horizon; t++)
        for (int k = 0; k < p->n_softs; k++) add_soft(tile, &p->softs[k], t, ret_cost);
}

/* ---- limits on y, in the scales of verify.c --------------------------------------------------------------------------- */

static void add_excess(float *restrict violation, const float *restrict excess) {
    FOR_LANES(j) {
        float over = excess[j] + (float)ESP_ROLLOUT_MARGIN;
        violation[j] += over < 0.0f ? 0.0f : over;
    }
}

static void add_side(float *violation, const float *v, double bound, float side) {
    float excess[LANES], b = (float)bound, scale = side / (float)fmax(1.0, fabs(bound));
    FOR_LANES(j) excess[j] = (v[j] - b) * scale;
    add_excess(violation, excess);
}

static void add_box(const esp_tile *tile, int t, float *violation) {
    const esp_problem *p = tile->problem;
    const float *y = esp_tile_y(tile, t);
    for (int i = 0; i < p->ny; i++) {
        double lower = p->y_lower[t * p->ny + i], upper = p->y_upper[t * p->ny + i];
        if (isfinite(lower)) add_side(violation, y + i * LANES, lower, -1.0f);
        if (isfinite(upper)) add_side(violation, y + i * LANES, upper, 1.0f);
    }
}

static void add_halfspace(const esp_tile *tile, const esp_halfspace *h, int t, float *violation) {
    const esp_problem *p = tile->problem;
    const float *y = esp_tile_y(tile, t);
    double scale = fabs(h->b);
    for (int i = 0; i < p->ny; i++) scale = fmax(scale, fabs(h->a[i]));
    if (!(scale > 0.0)) return;
    float excess[LANES];
    FOR_LANES(j) excess[j] = (float)(-h->b / scale);
    for (int i = 0; i < p->ny; i++) {
        float a = (float)(h->a[i] / scale);
        if (a != 0.0f) FOR_LANES(j) excess[j] += a * y[i * LANES + j];
    }
    add_excess(violation, excess);
}

static void add_avoid(const esp_tile *tile, const esp_avoid *avoid, int t, float *violation) {
    const float *y = esp_tile_y(tile, t);
    float depth[LANES];
    FOR_LANES(j) depth[j] = INFINITY;
    for (int k = 0; k < avoid->n; k++) {
        const float *v = y + (size_t)avoid->index[k] * LANES;
        float lower = (float)avoid->lower[k], upper = (float)avoid->upper[k];
        float low = 1.0f / fmaxf(1.0f, fabsf(lower)), high = 1.0f / fmaxf(1.0f, fabsf(upper));
        FOR_LANES(j) {
            float below = (v[j] - lower) * low, above = (upper - v[j]) * high, least = below < above ? below : above;
            depth[j] = least < depth[j] ? least : depth[j];
        }
    }
    add_excess(violation, depth);
}

void esp_tile_violation(const esp_tile *tile, float *ret_violation) {
    const esp_problem *p = tile->problem;
    memset(ret_violation, 0, LANES * sizeof *ret_violation);
    for (int t = 0; t < p->horizon; t++) {
        add_box(tile, t, ret_violation);
        for (int k = 0; k < p->n_halfspaces; k++) add_halfspace(tile, &p->halfspaces[k], t, ret_violation);
        for (int k = 0; k < p->n_avoid; k++) add_avoid(tile, &p->avoid[k], t, ret_violation);
    }
}

/* ---- the sampler ------------------------------------------------------------------------------------------------------ */

esp_code esp_sampler_create(const esp_program *step, esp_sampler **ret_sampler, esp_error *reterr) {
    esp_sampler *sampler = calloc(1, sizeof *sampler);
    if (!sampler) return esp_fail(reterr, ESP_NOMEM, "a sampler");
    sampler->step = step;
    esp_code code = esp_batch_create(step, esp_split_granted(), &sampler->batch, reterr);
    if (code == ESP_OK)
        *ret_sampler = sampler;
    else
        esp_sampler_free(sampler);
    return code;
}

void esp_sampler_free(esp_sampler *sampler) {
    if (!sampler) return;
    esp_batch_free(sampler->batch);
    esp_arena_free(sampler->arena);
    free(sampler);
}

static bool take(esp_sampler *s, const esp_problem *p, size_t room) {
    size_t hu = (size_t)(p->horizon * p->nu);
    s->arena = esp_arena_create(0);
    if (!s->arena) return false;
    s->u = ESP_NEW(s->arena, float, room / LANES * esp_tile_size_u(p));
    s->y = ESP_NEW(s->arena, float, AT_ONCE *esp_tile_size_y(p));
    s->values = ESP_NEW(s->arena, float, PAIR *(size_t)(s->step->n_x + s->step->n_r) * LANES);
    s->noise = ESP_NEW(s->arena, float, hu *LANES);
    s->weighted = ESP_NEW(s->arena, float, hu *LANES);
    s->cost = ESP_NEW(s->arena, float, room);
    s->violation = ESP_NEW(s->arena, float, room);
    s->key = ESP_NEW(s->arena, float, room);
    s->mean = ESP_NEW(s->arena, double, hu);
    s->spread = ESP_NEW(s->arena, double, hu);
    s->row = ESP_NEW(s->arena, double, hu);
    s->order = ESP_NEW(s->arena, int, room);
    return s->u && s->y && s->values && s->noise && s->weighted && s->cost && s->violation && s->key && s->mean && s->spread && s->row && s->order;
}

esp_code esp_sampler_reserve(esp_sampler *s, const esp_problem *p, int n, esp_error *reterr) {
    int room = (n + LANES - 1) / LANES * LANES;
    if (s->arena && s->horizon == p->horizon && s->room >= room) return ESP_OK;
    esp_arena_free(s->arena);
    s->arena = NULL;
    if (take(s, p, (size_t)room)) {
        s->horizon = p->horizon;
        s->room = room;
        s->hu = p->horizon * p->nu;
        return ESP_OK;
    }
    esp_arena_free(s->arena);
    s->arena = NULL;
    return esp_fail(reterr, ESP_NOMEM, "a sampler's workspace");
}

esp_tile esp_sampler_tile(const esp_sampler *s, const esp_problem *p, int k) {
    return esp_tile_on(p, s->y, s->u + (size_t)k * esp_tile_size_u(p));
}

/* Only where values keep the projection from reaching the rate. */
static void add_rate(const esp_sampler *s, const esp_problem *p, int first) {
    FOR_LANES(j) {
        for (int k = 0; k < s->hu; k++) s->row[k] = (double)*esp_sampler_at(s, p, first + j, k);
        esp_problem_project(p, s->row);
        if (!esp_verify_limits_u(p, s->row)) s->violation[first + j] += 1.0f;
    }
}

/* n tiles step by step, a pair beside the next. */
static void step_tiles(const esp_sampler *s, const esp_tile *tiles, int n, esp_split_work *work) {
    const esp_problem *p = tiles->problem;
    float *values[PAIR], *y[PAIR];
    for (int k = 0; k < PAIR; k++) values[k] = s->values + (size_t)k * (size_t)(s->step->n_x + s->step->n_r) * LANES;
    for (int t = 0; t < p->horizon; t++)
        for (int first = 0; first < n; first += PAIR) {
            int m = n - first < PAIR ? n - first : PAIR;
            if (n <= PAIR) esp_batch_finish(s->batch, work);
            for (int k = 0; k < m; k++) {
                y[k] = esp_tile_y(&tiles[first + k], t);
                gather(&tiles[first + k], t, values[k]);
            }
            esp_batch_outputs(s->batch, m, values, y, work);
        }
    esp_batch_finish(s->batch, work);
}

static void judge(esp_sampler *s, const esp_tile *tile, bool limited, int first) {
    const esp_problem *p = tile->problem;
    float *cost = s->cost + first, *violation = s->violation + first;
    esp_tile_cost(tile, cost);
    if (limited) esp_tile_violation(tile, violation);
    if (p->task->rate && p->task->values) add_rate(s, p, first);
    FOR_LANES(j) if (!isfinite(cost[j]) || isnan(violation[j])) cost[j] = violation[j] = INFINITY;
}

void esp_sampler_rollout(esp_sampler *s, const esp_problem *p, int n) {
    bool limited = esp_problem_limits_y(p);
    memset(s->violation, 0, (size_t)s->room * sizeof *s->violation);
    int n_tiles = (n + LANES - 1) / LANES;
    esp_split_work work;
    esp_batch_ready(s->batch, &work);
    for (int first = 0; first < n_tiles; first += AT_ONCE) {
        esp_tile tiles[AT_ONCE];
        int m = n_tiles - first < AT_ONCE ? n_tiles - first : AT_ONCE;
        for (int k = 0; k < m; k++) tiles[k] = esp_tile_on(p, s->y + (size_t)k * esp_tile_size_y(p), s->u + (size_t)(first + k) * esp_tile_size_u(p));
        step_tiles(s, tiles, m, &work);
        for (int k = 0; k < m; k++) judge(s, &tiles[k], limited, (first + k) * LANES);
    }
    esp_batch_rest(s->batch);
}
