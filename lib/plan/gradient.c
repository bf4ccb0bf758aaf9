/* SPDX-License-Identifier: Apache-2.0
 * Projected Adam (Kingma and Ba, 2015) on the inputs of many plans side by side, by back-propagation through time. */
#include "plan/gradient.h"

#include <assert.h>
#include <math.h>
#include <string.h>

#include "base/rng.h"
#include "plan/slope.h"

const esp_gradient_options esp_gradient_defaults = {.iterations = 200, .starts = 1024, .repeats = 10, .rate = 0.1, .seconds = INFINITY};

#define LANES        ESP_LANES
#define FOR_LANES(j) for (int j = 0; j < LANES; j++)
#define KINDS        5 /* of starts */
#define SWING        1.4 /* half widths of the box, cut at 1 */
#define FASTEST      1.6 /* radians a step */
#define PI           3.14159265358979323846
#define BETA1        0.9f
#define BETA2        0.99f
#define PENALTY      2.0f /* length of the penalties' gradient, in lengths of the cost's */
#define SLOWEST      0.001 /* last step over the first */
#define CUT          8 /* a round goes on with one plan in so many, */
#define SHARE        0.5 /* of the time to the deadline that starts are planned for */
#define TRIALS       2 /* iterations that time one */
#define TINY         1e-9
#define LONGER       4 /* for so many times the iterations of the round before */
#define SLACK        1e-5 /* a float cost this share above the best is worth a replay */
#define ALIKE        0.02f /* costs this share apart are of different plans */
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
    float *pool[2]; /* plans of this round and of the next: tiles of H*nu x LANES */
    float *pool_key[2]; /* what they cost */
    float *dy; /* H*ny x LANES */
    float *values, *g, *dx; /* workspace of net/batch.h; values for each step */
    float key[LANES]; /* of best: cost, with a penalty outside the limits */
    double *row; /* H*nu */
    int hu;
    bool limits;
} descent;

static bool take(descent *d, size_t room, esp_arena *arena) {
    const esp_problem *p = d->p;
    size_t hu = (size_t)d->hu * LANES, n_x = (size_t)p->step->n_x, n_r = (size_t)p->step->n_r, horizon = (size_t)p->horizon;
    float **plans[] = {&d->latent, &d->m, &d->v, &d->du, &d->outward, &d->best};
    for (size_t k = 0; k < sizeof plans / sizeof *plans; k++)
        if (!(*plans[k] = ESP_NEW(arena, float, hu))) return false;
    for (int k = 0; k < 2; k++) {
        d->pool[k] = ESP_NEW(arena, float, room *(size_t)d->hu);
        d->pool_key[k] = ESP_NEW(arena, float, room);
        if (!d->pool[k] || !d->pool_key[k]) return false;
    }
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
    return true;
}

/* ---- starts --------------------------------------------------------------------------------------------------------- */

static double resting(const esp_problem *p, int k) {
    return p->task->safe ? p->task->safe[k % p->nu] : fmin(fmax(0.0, p->u_lower[k]), p->u_upper[k]);
}

/* Every input swings at one speed, each with its own phase: round a corner where there are two. */
static void swing_plan(descent *d, int j, esp_rng *rng) {
    const esp_problem *p = d->p;
    double speed = esp_rng_range(rng, -FASTEST, FASTEST);
    for (int i = 0; i < p->nu; i++) {
        double phase = esp_rng_range(rng, -PI, PI);
        for (int t = 0, k = i; t < p->horizon; t++, k += p->nu) {
            double lower = p->u_lower[k], upper = p->u_upper[k];
            d->latent[k * LANES + j] = (float)(lower + 0.5 * (upper - lower) * (1.0 + fmin(fmax(SWING * sin(speed * t + phase), -1.0), 1.0)));
        }
    }
}

/* Start number `start` into plan j. */
static void start_plan(descent *d, const esp_track *track, int start, int j, esp_rng *rng) {
    const esp_problem *p = d->p;
    int kind = start % KINDS, turn = kind == 1 ? p->horizon : (int)esp_rng_below(rng, (size_t)p->horizon);
    if (kind == 4) swing_plan(d, j, rng);
    for (int k = 0; kind != 4 && k < d->hu; k++) {
        int t = k / p->nu;
        double u;
        if (track->found && (start == 0 || (kind == 3 && t < turn)))
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

/* Input k of plan j of a pool. */
static float *at_pool(const descent *d, int pool, int j, int k) {
    return d->pool[pool] + (size_t)(j / LANES) * (size_t)d->hu * LANES + (size_t)k * LANES + (size_t)(j % LANES);
}

static bool near(const descent *d, int j, int pool, int other) {
    for (int k = 0; k < d->hu; k++) {
        float width = (float)(d->p->u_upper[k] - d->p->u_lower[k]);
        if (fabsf(d->best[k * LANES + j] - *at_pool(d, pool, other, k)) > APART * width) return false;
    }
    return true;
}

/* Plan j of the tile takes the place of one next to it that is worse, or else of the worst of n. */
static void keep(descent *d, int j, int pool, int n) {
    float *key = d->pool_key[pool], mine = d->key[j], alike = ALIKE * fabsf(mine);
    int worst = 0;
    for (int i = 0; i < n; i++) {
        if (fabsf(key[i] - mine) <= alike && near(d, j, pool, i)) {
            worst = i;
            break;
        }
        if (key[i] > key[worst]) worst = i;
    }
    if (!(mine < key[worst])) return;
    key[worst] = mine;
    for (int k = 0; k < d->hu; k++) *at_pool(d, pool, worst, k) = d->best[k * LANES + j];
}

/* One round: n plans of a pool go down, the best `next` of them into the other pool. False when the search is over. */
static bool go_round(descent *d, const search *s, int pool, int n, int next, int iterations, double first, double last) {
    size_t tile = (size_t)d->hu * LANES;
    for (int j = 0; j < next; j++) d->pool_key[!pool][j] = INFINITY;
    memset(d->pool[!pool], 0, (size_t)(next + LANES - 1) / LANES * tile * sizeof(float));
    for (int start = 0; start < n; start += LANES) {
        memcpy(d->latent, d->pool[pool] + (size_t)(start / LANES) * tile, tile * sizeof *d->latent);
        if (!descend(d, s, iterations, first, last)) return false;
        FOR_LANES(j) if (start + j < n) keep(d, j, !pool, next);
    }
    return true;
}

static void fill_pool(descent *d, const search *s, int repeat) {
    size_t tile = (size_t)d->hu * LANES;
    for (int start = 0; start < s->options->starts; start += LANES) {
        esp_rng rng;
        esp_rng_init(&rng, s->options->seed, 1000 + (uint64_t)repeat * (uint64_t)s->options->starts + (uint64_t)start);
        FOR_LANES(j) start_plan(d, s->track, start + j, j, &rng);
        memcpy(d->pool[0] + (size_t)(start / LANES) * tile, d->latent, tile * sizeof *d->latent);
    }
}

typedef struct plan_of_rounds {
    int rounds;
    double first; /* the first round's share of the iterations; each has LONGER times those of the one before */
} plan_of_rounds;

static plan_of_rounds rounds_of(int n) {
    plan_of_rounds plan = {.rounds = 1};
    double all = 1.0;
    for (; n > LANES; n = (n + CUT - 1) / CUT, plan.rounds++) all = all * LONGER + 1.0;
    plan.first = 1.0 / all;
    return plan;
}

/* Iterations of a tile that n starts take in all. */
static double work(int n, int iterations) {
    plan_of_rounds plan = rounds_of(n);
    double share = plan.first, sum = 0.0;
    for (int r = 0; r < plan.rounds; r++, share *= LONGER, n = (n + CUT - 1) / CUT) sum += (n + LANES - 1) / LANES * ceil(share * iterations);
    return sum;
}

/* Seconds that the search still has. */
static double left(const search *s) {
    return fmin(s->options->seconds - esp_clock_seconds_since(s->started), SHARE * esp_track_left(s->track));
}

/* How many of n plans there is time for, if an iteration of a tile takes `one`. */
static int affordable(const search *s, int n, int iterations, double one) {
    double seconds = left(s);
    while (n > LANES && work(n, iterations) * one > seconds) n /= 2;
    return n;
}

/* The time of one iteration; the plans stay where they are. */
static double time_one(descent *d, const search *s) {
    if (!isfinite(left(s))) return 0.0;
    int64_t zero = esp_clock_now_ns();
    memcpy(d->latent, d->pool[0], (size_t)d->hu * LANES * sizeof *d->latent);
    (void)descend(d, s, TRIALS, TINY, TINY);
    return esp_clock_seconds_since(zero) / TRIALS;
}

/* The machine may turn out to be slower than it was: what goes on is cut down to what there is time for. */
static void run(descent *d, const search *s, int repeat) {
    fill_pool(d, s, repeat);
    double one = time_one(d, s), first = s->options->rate, share;
    int pool = 0, n = affordable(s, s->options->starts, s->options->iterations, one), rest = s->options->iterations;
    for (; n > 0; pool = !pool) {
        plan_of_rounds plan = rounds_of(n);
        share = plan.first;
        int next = n > LANES ? (n + CUT - 1) / CUT : 0, iterations = (int)ceil(share * rest), tiles = (n + LANES - 1) / LANES;
        double last = first * pow(s->options->rate * SLOWEST / first, share);
        int64_t zero = esp_clock_now_ns();
        if (!go_round(d, s, pool, n, next > 0 ? next : n, iterations, first, last)) return;
        one = isfinite(left(s)) ? esp_clock_seconds_since(zero) / (tiles * iterations) : 0.0;
        rest -= iterations;
        first = last;
        n = next > 0 && rest > 0 ? affordable(s, next, rest, one) : 0;
    }
}

esp_code esp_gradient_run(const esp_sampler *sampler, esp_track *track, const esp_gradient_options *options, esp_error *reterr) {
    const esp_problem *p = track->problem;
    descent d = {.p = p, .batch = sampler->batch, .hu = p->horizon * p->nu};
    search s = {.track = track, .options = options, .started = esp_clock_now_ns()};
    assert(options->iterations >= 1 && options->starts >= 1);
    if (p->empty) return ESP_OK;
    esp_arena *arena = esp_arena_create(0);
    bool ok = arena && take(&d, ((size_t)options->starts + LANES - 1) / LANES * LANES, arena);
    for (int repeat = 0; ok && repeat < options->repeats && !over(&s); repeat++) run(&d, &s, repeat);
    esp_batch_rest(sampler->batch);
    esp_arena_free(arena);
    return ok ? ESP_OK : esp_fail(reterr, ESP_NOMEM, "a gradient search");
}
