/* SPDX-License-Identifier: Apache-2.0
 * Projected Adam (Kingma and Ba, 2015) on the inputs of many plans side by side, by back-propagation through time. */
#include "plan/gradient.h"

#include <assert.h>
#include <math.h>
#include <string.h>

#include "base/rng.h"
#include "plan/slope.h"

const esp_gradient_options esp_gradient_defaults = {.iterations = 200, .starts = 256, .rate = 0.05, .seconds = INFINITY};

#define LANES        ESP_LANES
#define FOR_LANES(j) for (int j = 0; j < LANES; j++)
#define BETA1        0.9f
#define BETA2        0.99f
#define PENALTY      2.0f /* length of the penalties' gradient, in lengths of the cost's */
#define SLOWEST      0.001 /* last step over the first */
#define FIRST_SHARE  3 /* of the iterations: all starts do a third */
#define SLACK        1e-5 /* a float cost this share above the best is worth a replay */
#define APART        0.05f /* plans nearer than this share of the box in every input are one */

typedef struct descent {
    const esp_problem *p;
    const esp_batch *batch;
    esp_tile tile;
    size_t n_values; /* of one step */
    float *latent; /* H*nu x LANES, as all of these: before projection */
    float *m, *v; /* Adam's moments */
    float *du, *outward; /* gradients of the cost and of the penalties */
    float *best; /* the best iterate of each plan */
    float *kept; /* the best plans of all tiles */
    float *dy; /* H*ny x LANES */
    float *values, *g, *dx; /* workspace of net/batch.h; values for each step */
    float key[LANES], kept_key[LANES]; /* of best and kept: cost, with a penalty outside the limits */
    double *row; /* H*nu */
    int hu;
    bool limits;
} descent;

static bool take(descent *d, esp_arena *arena) {
    const esp_problem *p = d->p;
    size_t hu = (size_t)d->hu * LANES, n_x = (size_t)p->step->n_x, n_r = (size_t)p->step->n_r, horizon = (size_t)p->horizon;
    float **plans[] = {&d->latent, &d->m, &d->v, &d->du, &d->outward, &d->best, &d->kept};
    for (size_t k = 0; k < sizeof plans / sizeof *plans; k++)
        if (!(*plans[k] = ESP_NEW(arena, float, hu))) return false;
    float *y = ESP_NEW(arena, float, esp_tile_size_y(p)), *u = ESP_NEW(arena, float, esp_tile_size_u(p));
    d->n_values = (n_x + n_r) * LANES;
    d->dy = ESP_NEW(arena, float, horizon *(size_t)p->ny *LANES);
    d->values = ESP_NEW(arena, float, horizon * d->n_values);
    d->g = ESP_NEW(arena, float, ((size_t)p->ny + n_r) * LANES);
    d->dx = ESP_NEW(arena, float, n_x *LANES);
    d->row = ESP_NEW(arena, double, (size_t)d->hu);
    if (!y || !u || !d->dy || !d->values || !d->g || !d->dx || !d->row) return false;
    d->tile = esp_tile_on(p, y, u);
    d->limits = esp_problem_limits_y(p);
    FOR_LANES(j) d->kept_key[j] = INFINITY;
    return true;
}

/* ---- starts --------------------------------------------------------------------------------------------------------- */

static double resting(const esp_problem *p, int k) {
    return p->task->safe ? p->task->safe[k % p->nu] : fmin(fmax(0.0, p->u_lower[k]), p->u_upper[k]);
}

/* Start number `start` into plan j. */
static void start_plan(descent *d, const esp_track *track, int start, int j, esp_rng *rng) {
    const esp_problem *p = d->p;
    int kind = start % 3, turn = kind == 1 ? p->horizon : (int)esp_rng_below(rng, (size_t)p->horizon);
    for (int k = 0; k < d->hu; k++) {
        int t = k / p->nu;
        double u;
        if (start == 0 && track->found)
            u = track->best.inputs[k];
        else if (start <= 1)
            u = resting(p, k);
        else if (kind == 0 || t == 0 || t == turn)
            u = esp_rng_range(rng, p->u_lower[k], p->u_upper[k]);
        else
            u = (double)d->latent[(k - p->nu) * LANES + j];
        d->latent[k * LANES + j] = (float)u;
    }
}

/* ---- one iteration of a tile -------------------------------------------------------------------------------------------- */

static void roll_out(descent *d) {
    memcpy(esp_tile_u(&d->tile, 0), d->latent, (size_t)d->hu * LANES * sizeof *d->latent);
    esp_tile_project(&d->tile, d->row);
    for (int t = 0; t < d->p->horizon; t++) esp_tile_step(&d->tile, d->batch, t, d->values + (size_t)t * d->n_values);
}

static void offer(descent *d, esp_track *track, const float *cost, const float *violation) {
    int best = -1;
    FOR_LANES(j) if (!(violation[j] > 0.0f) && isfinite(cost[j]) && (best < 0 || cost[j] < cost[best])) best = j;
    if (best < 0 || (track->found && !((double)cost[best] * (1.0 - SLACK) < track->best.objective))) return;
    for (int k = 0; k < d->hu; k++) d->row[k] = (double)esp_tile_u(&d->tile, 0)[k * LANES + best];
    (void)esp_track_offer(track, d->row, "gradient");
}

/* Costs what the iterates cost, offers the cheapest and keeps each plan's best. */
static void judge(descent *d, esp_track *track) {
    float cost[LANES], violation[LANES] = {0}, better[LANES];
    esp_tile_cost(&d->tile, cost);
    if (d->limits) esp_tile_violation(&d->tile, violation);
    offer(d, track, cost, violation);
    FOR_LANES(j) {
        float key = cost[j] + (violation[j] > 0.0f ? 100.0f * (1.0f + fabsf(cost[j])) * (0.01f + violation[j]) : 0.0f);
        better[j] = key < d->key[j] ? 1.0f : 0.0f;
        d->key[j] = key < d->key[j] ? key : d->key[j];
    }
    const float *u = esp_tile_u(&d->tile, 0);
    for (int k = 0; k < d->hu; k++) {
        float *restrict best = d->best + (size_t)k * LANES;
        FOR_LANES(j) best[j] = better[j] > 0.0f ? u[k * LANES + j] : best[j];
    }
}

static void add_squares(const float *v, int n, float *restrict sum) {
    for (int k = 0; k < n; k++) FOR_LANES(j) sum[j] += v[k * LANES + j] * v[k * LANES + j];
}

static void clear(descent *d, float *du) {
    memset(du, 0, (size_t)d->hu * LANES * sizeof *du);
    memset(d->dy, 0, (size_t)(d->p->horizon * d->p->ny) * LANES * sizeof *d->dy);
}

/* Of cost and penalties. Adam divides by the size of what it has seen, so a penalty that dwarfs the cost would freeze
 * it for many iterations; outside the limits the penalties pull with twice the cost's strength, whatever its scale. */
static void gradient(descent *d) {
    float outside[LANES], cost[LANES] = {0}, pull[LANES] = {0};
    esp_slope slope = {.dy = d->dy, .du = d->du}, limits = {.dy = d->dy, .du = d->outward};
    bool any = false;
    if (d->limits) {
        clear(d, d->outward);
        any = esp_tile_limit_slope(&d->tile, &limits, outside);
        if (any) esp_tile_back(&d->tile, d->batch, d->values, d->n_values, &limits, d->g, d->dx);
    }
    clear(d, d->du);
    esp_tile_cost_slope(&d->tile, &slope);
    esp_tile_back(&d->tile, d->batch, d->values, d->n_values, &slope, d->g, d->dx);
    if (!any) return;
    add_squares(d->du, d->hu, cost);
    add_squares(d->outward, d->hu, pull);
    FOR_LANES(j) pull[j] = outside[j] > 0.0f && pull[j] > 0.0f ? PENALTY * (cost[j] > 0.0f ? sqrtf(cost[j] / pull[j]) : 1.0f / sqrtf(pull[j])) : 0.0f;
    for (int k = 0; k < d->hu; k++) FOR_LANES(j) d->du[k * LANES + j] += pull[j] * d->outward[k * LANES + j];
}

/* Steps are in units of the box's width. Without a finite set the latent plan is the projected one. */
static void adam_step(descent *d, int iteration, float rate) {
    const esp_problem *p = d->p;
    float fix1 = 1.0f / (1.0f - powf(BETA1, (float)iteration + 1.0f)), fix2 = 1.0f / (1.0f - powf(BETA2, (float)iteration + 1.0f));
    for (int k = 0; k < d->hu; k++) {
        float lower = (float)p->u_lower[k], upper = (float)p->u_upper[k], width = upper - lower, step = rate * width * fix1;
        float *restrict m = d->m + (size_t)k * LANES, *restrict v = d->v + (size_t)k * LANES, *restrict latent = d->latent + (size_t)k * LANES;
        const float *du = d->du + (size_t)k * LANES, *base = p->task->values ? latent : esp_tile_u(&d->tile, 0) + (size_t)k * LANES;
        FOR_LANES(j) {
            float g = du[j] * width;
            g = g - g == 0.0f ? g : 0.0f; /* infinite or not a number */
            m[j] = BETA1 * m[j] + (1.0f - BETA1) * g;
            v[j] = BETA2 * v[j] + (1.0f - BETA2) * g * g;
            float next = base[j] - step * m[j] / (sqrtf(v[j] * fix2) + 1e-12f);
            next = next > lower ? next : lower;
            latent[j] = next < upper ? next : upper;
        }
    }
}

/* ---- rounds ------------------------------------------------------------------------------------------------------------- */

typedef struct search {
    esp_track *track;
    const esp_gradient_options *options;
    int64_t started;
} search;

static bool over(const search *s) {
    return esp_track_stop(s->track) || esp_track_met(s->track) || esp_clock_seconds_since(s->started) >= s->options->seconds;
}

/* The latent plans go down for some iterations. False when the search is over. */
static bool descend(descent *d, const search *s, int iterations, double first, double last) {
    memset(d->m, 0, (size_t)d->hu * LANES * sizeof *d->m);
    memset(d->v, 0, (size_t)d->hu * LANES * sizeof *d->v);
    FOR_LANES(j) d->key[j] = INFINITY;
    for (int iteration = 0; iteration < iterations; iteration++) {
        if (over(s)) return false;
        roll_out(d);
        judge(d, s->track);
        gradient(d);
        adam_step(d, iteration, (float)(first * pow(last / first, (double)iteration / iterations)));
    }
    return true;
}

static bool near(const descent *d, int j, int kept) {
    for (int k = 0; k < d->hu; k++) {
        float width = (float)(d->p->u_upper[k] - d->p->u_lower[k]);
        if (fabsf(d->best[k * LANES + j] - d->kept[k * LANES + kept]) > APART * width) return false;
    }
    return true;
}

/* Plan j of the tile takes the place of one next to it that is worse, or else of the worst kept. */
static void keep(descent *d, int j) {
    int at = 0;
    for (int k = 0; k < LANES; k++) {
        if (isfinite(d->kept_key[k]) && near(d, j, k)) {
            at = k;
            break;
        }
        if (d->kept_key[k] > d->kept_key[at]) at = k;
    }
    if (!(d->key[j] < d->kept_key[at])) return;
    d->kept_key[at] = d->key[j];
    for (int k = 0; k < d->hu; k++) d->kept[k * LANES + at] = d->best[k * LANES + j];
}

static void run(descent *d, const search *s) {
    const esp_gradient_options *o = s->options;
    int first = o->iterations / FIRST_SHARE;
    double middle = o->rate * pow(SLOWEST, 1.0 / FIRST_SHARE);
    for (int start = 0; start < o->starts; start += LANES) {
        esp_rng rng;
        esp_rng_init(&rng, o->seed, 1000 + (uint64_t)start);
        FOR_LANES(j) start_plan(d, s->track, start + j, j, &rng);
        if (!descend(d, s, first, o->rate, middle)) return;
        FOR_LANES(j) if (start + j < o->starts) keep(d, j);
    }
    FOR_LANES(j) if (!isfinite(d->kept_key[j])) for (int k = 0; k < d->hu; k++) d->kept[k * LANES + j] = d->best[k * LANES + j];
    memcpy(d->latent, d->kept, (size_t)d->hu * LANES * sizeof *d->latent);
    (void)descend(d, s, o->iterations - first, middle, o->rate * SLOWEST);
}

esp_code esp_gradient_run(const esp_sampler *sampler, esp_track *track, const esp_gradient_options *options, esp_error *reterr) {
    const esp_problem *p = track->problem;
    descent d = {.p = p, .batch = sampler->batch, .hu = p->horizon * p->nu};
    search s = {.track = track, .options = options, .started = esp_clock_now_ns()};
    assert(options->iterations >= FIRST_SHARE && options->starts >= 1);
    if (p->empty) return ESP_OK;
    esp_arena *arena = esp_arena_create(0);
    bool ok = arena && take(&d, arena);
    if (ok) run(&d, &s);
    esp_arena_free(arena);
    return ok ? ESP_OK : esp_fail(reterr, ESP_NOMEM, "a gradient search");
}
