/* SPDX-License-Identifier: Apache-2.0
 * Batches of plans through the step program in float, with their costs and violations. Sample-major within a step, so
 * that one step of all samples is one batch. */
#include "plan/rollout.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

esp_code esp_sampler_create(const esp_program *step, esp_sampler **ret_sampler, esp_error *reterr) {
    esp_sampler *sampler = calloc(1, sizeof *sampler);
    if (!sampler) return esp_fail(reterr, ESP_NOMEM, "a sampler");
    sampler->step = step;
    esp_code code = esp_batch_create(step, ESP_SAMPLES, &sampler->batch, reterr);
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

esp_code esp_sampler_reserve(esp_sampler *s, const esp_problem *p, esp_error *reterr) {
    if (s->arena && s->horizon == p->horizon) return ESP_OK;
    esp_arena_free(s->arena);
    s->arena = esp_arena_create(0);
    if (!s->arena) return esp_fail(reterr, ESP_NOMEM, "a sampler's workspace");
    size_t hu = (size_t)(p->horizon * p->nu), n = ESP_SAMPLES;
    s->ny = p->ny;
    s->nu = p->nu;
    s->inputs = ESP_NEW(s->arena, double, n *hu);
    s->u = ESP_NEW(s->arena, float, n *hu);
    s->y = ESP_NEW(s->arena, float, n *(size_t)(p->horizon * p->ny));
    s->x = ESP_NEW(s->arena, float, n *(size_t)s->step->n_x);
    s->noise = ESP_NEW(s->arena, float, hu + 1);
    s->cost = ESP_NEW(s->arena, double, n);
    s->violation = ESP_NEW(s->arena, double, n);
    s->part = ESP_NEW(s->arena, double, n);
    s->mean = ESP_NEW(s->arena, double, hu);
    s->spread = ESP_NEW(s->arena, double, hu);
    s->weighted = ESP_NEW(s->arena, double, hu);
    s->order = ESP_NEW(s->arena, int, n);
    bool ok = s->inputs && s->u && s->y && s->x && s->noise && s->cost && s->violation && s->part && s->mean && s->spread && s->weighted && s->order;
    if (ok) {
        s->horizon = p->horizon;
        return ESP_OK;
    }
    esp_arena_free(s->arena);
    s->arena = NULL;
    return esp_fail(reterr, ESP_NOMEM, "a sampler's workspace");
}

static void fill(float *x, int n, int stride, const double *row, int width) {
    for (int k = 0; k < n; k++)
        for (int i = 0; i < width; i++) x[k * stride + i] = (float)row[i];
}

static void gather(float *x, int n, int stride, const float *rows, int width) {
    for (int k = 0; k < n; k++) memcpy(x + k * stride, rows + k * width, (size_t)width * sizeof *x);
}

/* x (n x n_x) = [Y, U] of step t for every sample. */
static void windows(esp_sampler *s, const esp_problem *p, int n, int t) {
    int stride = s->step->n_x;
    float *x = s->x;
    for (int k = 0; k < p->history; k++, x += p->ny) {
        int at = esp_window_y(p, t, k);
        if (at < 0)
            fill(x, n, stride, p->y_past + (p->history + at) * p->ny, p->ny);
        else
            gather(x, n, stride, s->y + (size_t)at * ESP_SAMPLES * (size_t)p->ny, p->ny);
    }
    for (int k = 0; k < p->history; k++, x += p->nu) {
        int at = esp_window_u(p, t, k);
        if (at < 0)
            fill(x, n, stride, p->u_past + (p->history - 1 + at) * p->nu, p->nu);
        else
            gather(x, n, stride, s->u + (size_t)at * ESP_SAMPLES * (size_t)p->nu, p->nu);
    }
}

/* Component k of a piece for sample j lies at base[j * stride]; for du the step before at before[j * stride], or the
 * constant `last`. */
typedef struct component {
    const float *base, *before;
    int stride;
    double last;
} component;

static component component_of(const esp_sampler *s, const esp_problem *p, const esp_piece *piece, int k) {
    size_t row = (size_t)piece->t * ESP_SAMPLES;
    int i = piece->index[k];
    if (piece->on == ESP_ON_Y) return (component){s->y + row * (size_t)p->ny + i, NULL, p->ny, 0.0};
    component c = {s->u + row * (size_t)p->nu + i, NULL, p->nu, 0.0};
    if (piece->on == ESP_ON_U) return c;
    if (piece->t > 0)
        c.before = c.base - (size_t)ESP_SAMPLES * (size_t)p->nu;
    else
        c.last = p->u_last[i];
    return c;
}

static double component_at(const component *c, int j) {
    return (double)c->base[j * c->stride] - (c->before ? (double)c->before[j * c->stride] : c->last);
}

static void add_cost(esp_sampler *s, const esp_problem *p, const esp_piece *piece, int n) {
    if (piece->norm == ESP_COST_LINF) memset(s->part, 0, (size_t)n * sizeof *s->part);
    for (int k = 0; k < piece->n; k++) {
        component c = component_of(s, p, piece, k);
        double w = piece->weight[k], target = piece->target[k];
        switch (piece->norm) {
        case ESP_COST_L1:
            for (int j = 0; j < n; j++) s->cost[j] += w * fabs(component_at(&c, j) - target);
            break;
        case ESP_COST_LINF:
            for (int j = 0; j < n; j++) s->part[j] = fmax(s->part[j], w * fabs(component_at(&c, j) - target));
            break;
        case ESP_COST_L2SQ:
            for (int j = 0; j < n; j++) {
                double d = component_at(&c, j) - target;
                s->cost[j] += w * d * d;
            }
            break;
        }
    }
    if (piece->norm == ESP_COST_LINF)
        for (int j = 0; j < n; j++) s->cost[j] += s->part[j];
}

static void add_excess(esp_sampler *s, int j, double excess) {
    if (excess > -ESP_ROLLOUT_MARGIN) s->violation[j] += excess + ESP_ROLLOUT_MARGIN;
}

/* Limits that the present violates are cost. */
static void add_penalty(esp_sampler *s, const esp_problem *p, const esp_soft *soft, int t, int n) {
    const float *y = s->y + (size_t)t * ESP_SAMPLES * (size_t)p->ny;
    for (int j = 0; j < n; j++) {
        for (int i = 0; i < p->ny; i++) p->y[i] = (double)y[j * p->ny + i];
        s->cost[j] += p->penalty * esp_soft_excess(soft, p->y);
    }
}

/* The same scales as verify.c. */
static void add_box(esp_sampler *s, const esp_problem *p, int t, int n) {
    const float *y = s->y + (size_t)t * ESP_SAMPLES * (size_t)p->ny;
    for (int i = 0; i < p->ny; i++) {
        double lower = p->y_lower[t * p->ny + i], upper = p->y_upper[t * p->ny + i];
        for (int j = 0; isfinite(lower) && j < n; j++) add_excess(s, j, (lower - (double)y[j * p->ny + i]) / fmax(1.0, fabs(lower)));
        for (int j = 0; isfinite(upper) && j < n; j++) add_excess(s, j, ((double)y[j * p->ny + i] - upper) / fmax(1.0, fabs(upper)));
    }
}

static void add_halfspace(esp_sampler *s, const esp_problem *p, const esp_halfspace *h, int t, int n) {
    const float *y = s->y + (size_t)t * ESP_SAMPLES * (size_t)p->ny;
    double scale = fabs(h->b);
    for (int i = 0; i < p->ny; i++) scale = fmax(scale, fabs(h->a[i]));
    if (!(scale > 0.0)) return;
    for (int j = 0; j < n; j++) {
        double sum = -h->b;
        for (int i = 0; i < p->ny; i++) sum += h->a[i] * (double)y[j * p->ny + i];
        add_excess(s, j, sum / scale);
    }
}

static void add_avoid(esp_sampler *s, const esp_problem *p, const esp_avoid *avoid, int t, int n) {
    const float *y = s->y + (size_t)t * ESP_SAMPLES * (size_t)p->ny;
    for (int j = 0; j < n; j++) {
        double depth = INFINITY;
        for (int k = 0; k < avoid->n; k++) {
            double v = (double)y[j * p->ny + avoid->index[k]];
            depth = fmin(depth, (v - avoid->lower[k]) / fmax(1.0, fabs(avoid->lower[k])));
            depth = fmin(depth, (avoid->upper[k] - v) / fmax(1.0, fabs(avoid->upper[k])));
        }
        add_excess(s, j, depth);
    }
}

/* Only where values keep the projection from reaching the rate. */
static void add_rate(esp_sampler *s, const esp_problem *p, int n) {
    int hu = p->horizon * p->nu;
    for (int j = 0; j < n; j++)
        if (!esp_verify_limits_u(p, s->inputs + (size_t)j * (size_t)hu)) s->violation[j] += 1.0;
}

void esp_sampler_rollout(esp_sampler *s, const esp_problem *p, int n) {
    int hu = p->horizon * p->nu;
    for (int t = 0; t < p->horizon; t++)
        for (int j = 0; j < n; j++)
            for (int i = 0; i < p->nu; i++)
                s->u[((size_t)t * ESP_SAMPLES + (size_t)j) * (size_t)p->nu + (size_t)i] =
                    (float)s->inputs[(size_t)j * (size_t)hu + (size_t)(t * p->nu + i)];
    for (int t = 0; t < p->horizon; t++) {
        windows(s, p, n, t);
        esp_batch_forward(s->batch, n, s->x, s->y + (size_t)t * ESP_SAMPLES * (size_t)p->ny);
    }
    memset(s->cost, 0, (size_t)n * sizeof *s->cost);
    memset(s->violation, 0, (size_t)n * sizeof *s->violation);
    for (int k = 0; k < p->n_pieces; k++) add_cost(s, p, &p->pieces[k], n);
    for (int t = 0; t < p->horizon; t++) {
        add_box(s, p, t, n);
        for (int k = 0; k < p->n_halfspaces; k++) add_halfspace(s, p, &p->halfspaces[k], t, n);
        for (int k = 0; k < p->n_avoid; k++) add_avoid(s, p, &p->avoid[k], t, n);
        for (int k = 0; k < p->n_softs; k++) add_penalty(s, p, &p->softs[k], t, n);
    }
    if (p->task->rate && p->task->values) add_rate(s, p, n);
    for (int j = 0; j < n; j++)
        if (!isfinite(s->cost[j]) || isnan(s->violation[j])) s->cost[j] = s->violation[j] = INFINITY;
}
