/* SPDX-License-Identifier: Apache-2.0
 * CEM and MPPI over batches. */
#include "plan/sample.h"

#include <assert.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "plan/noise.h"
#include "plan/rollout.h"

const esp_sample_options esp_cem_defaults = {.samples = 300, .iterations = 30, .starts = 5, .seconds = INFINITY};
const esp_sample_options esp_mppi_defaults = {.samples = 1000, .iterations = 30, .starts = 3, .seconds = INFINITY};

#define ELITE_SHARE  10 /* the best tenth */
#define SMOOTHING    0.2 /* share of the old mean and spread kept */
#define FIRST_SPREAD 0.4 /* of the width of the input box */
#define LAST_SPREAD  0.01 /* MPPI: annealed to this */
#define LEAST_SPREAD 1e-4 /* CEM: never below this share of the width */
#define FILTER       0.5f /* MPPI: noise of a step keeps this much of the step before */

static void start_mean(esp_sampler *s, const esp_track *track, int start, esp_rng *rng) {
    const esp_problem *p = track->problem;
    for (int t = 0; t < p->horizon; t++) {
        for (int i = 0; i < p->nu; i++) {
            int k = t * p->nu + i;
            double lower = p->u_lower[k], upper = p->u_upper[k];
            if (start == 0 && track->found)
                s->mean[k] = track->best.inputs[k];
            else if (start <= 1)
                s->mean[k] = p->task->safe ? p->task->safe[i] : fmin(fmax(0.0, lower), upper);
            else
                s->mean[k] = esp_rng_range(rng, lower, upper);
        }
    }
}

static void start_spread(esp_sampler *s, const esp_problem *p, double share) {
    for (int k = 0; k < p->horizon * p->nu; k++) s->spread[k] = share * (p->u_upper[k] - p->u_lower[k]);
}

static void set_sample(esp_sampler *s, const esp_problem *p, int j, const double *inputs) {
    for (int k = 0; k < s->hu; k++) *esp_sampler_at(s, p, j, k) = (float)inputs[k];
}

/* Sample 0 is the mean itself, sample 1 the best plan known, the others mean + spread * noise (filtered in time). */
static void draw(esp_sampler *s, const esp_track *track, int n, float filter, esp_noise *noise) {
    const esp_problem *p = track->problem;
    float scale = sqrtf(1.0f - filter * filter);
    for (int first = 0; first < n; first += ESP_LANES) {
        esp_tile tile = esp_sampler_tile(s, p, first / ESP_LANES);
        esp_noise_normals(noise, s->noise, (size_t)s->hu * ESP_LANES);
        for (int k = 0; k < s->hu; k++) {
            float *z = s->noise + (size_t)k * ESP_LANES, *u = esp_sampler_at(s, p, first, k);
            float mean = (float)s->mean[k], spread = (float)s->spread[k];
            if (filter > 0.0f && k >= p->nu)
                for (int j = 0; j < ESP_LANES; j++) z[j] = filter * z[j - p->nu * ESP_LANES] + scale * z[j];
            for (int j = 0; j < ESP_LANES; j++) u[j] = mean + spread * z[j];
        }
        if (first == 0) {
            set_sample(s, p, 0, s->mean);
            if (track->found) set_sample(s, p, 1, track->best.inputs);
        }
        esp_tile_project(&tile, s->row);
    }
}

/* The least of n keys, none of them NaN, each lane's first: the compiler does not part a least by itself. */
static float least_of(const float *restrict key, int n) {
    float lanes[ESP_LANES], least = INFINITY;
    for (int j = 0; j < ESP_LANES; j++) lanes[j] = INFINITY;
    for (; n >= ESP_LANES; n -= ESP_LANES, key += ESP_LANES)
        for (int j = 0; j < ESP_LANES; j++) lanes[j] = key[j] < lanes[j] ? key[j] : lanes[j];
    for (int j = 0; j < n; j++) lanes[j] = key[j] < lanes[j] ? key[j] : lanes[j];
    for (int j = 0; j < ESP_LANES; j++) least = lanes[j] < least ? lanes[j] : least;
    return least;
}

/* Offers the cheapest sample inside all limits when it looks better than the best known, which is sample 1 itself. */
static void offer_best(esp_sampler *s, esp_track *track, int n, const char *found_by) {
    float *key = s->key;
    int best = 0;
    for (int j = 0; j < n; j++) key[j] = s->violation[j] > 0.0f ? INFINITY : s->cost[j];
    if (track->found) key[1] = INFINITY;
    float least = least_of(key, n);
    if (!isfinite(least)) return;
    double cost = (double)least, slack = 1e-5 * fabs(cost);
    if (track->found && !(cost - slack < track->best.objective)) return;
    while (key[best] != least) best++;
    for (int k = 0; k < s->hu; k++) s->row[k] = (double)*esp_sampler_at(s, track->problem, best, k);
    (void)esp_track_offer(track, s->row, found_by);
}

/* The m-th least of n keys, none of them NaN: a float's bits, as an integer, have its order, so the answer is closed in on bit by bit,
 * each time by a count of the keys below. 32 passes without a branch take less than one heap. */
static float least_but(const float *restrict key, int n, int m, int *restrict image) {
    int64_t lower = INT32_MIN, upper = INT32_MAX;
    for (int j = 0; j < n; j++) {
        int32_t bits;
        memcpy(&bits, &key[j], sizeof bits);
        image[j] = bits ^ (bits >> 31 & INT32_MAX);
    }
    while (lower < upper) {
        int64_t middle = lower + (upper - lower) / 2;
        int at_most = (int)middle, count = 0;
        for (int j = 0; j < n; j++) count += image[j] <= at_most;
        if (count >= m)
            upper = middle;
        else
            lower = middle + 1;
    }
    int32_t bits = (int32_t)lower ^ ((int32_t)lower >> 31 & INT32_MAX);
    float found;
    memcpy(&found, &bits, sizeof found);
    return found;
}

/* The m samples of least key, in their order; of equals the first. */
static void select_least(int *order, const float *key, int n, int m) {
    float most = least_but(key, n, m, order);
    int taken = 0, below = 0;
    for (int j = 0; j < n; j++) below += key[j] < most;
    for (int j = 0, equals = m - below; j < n; j++)
        if (key[j] < most || (key[j] == most && equals-- > 0)) order[taken++] = j;
}

/* The ranking key of each sample: its cost, and a penalty that is large against the costs seen, so that the ranking is by
 * violation first. False when no sample is finite. */
static bool rank_keys(esp_sampler *s, int n) {
    float least = least_of(s->cost, n);
    if (!isfinite(least)) return false;
    float penalty = 100.0f * (1.0f + fabsf(least));
    for (int j = 0; j < n; j++) s->key[j] = s->cost[j] + (s->violation[j] > 0.0f ? penalty * (0.01f + s->violation[j]) : 0.0f);
    return true;
}

static int elite(int n) {
    return n / ELITE_SHARE > 2 ? n / ELITE_SHARE : 2;
}

static void cem_update(esp_sampler *s, const esp_problem *p, int n) {
    int m = elite(n);
    select_least(s->order, s->key, n, m);
    for (int k = 0; k < s->hu; k++) {
        double mean = 0.0, square = 0.0, least = LEAST_SPREAD * (p->u_upper[k] - p->u_lower[k]);
        for (int e = 0; e < m; e++) mean += (double)*esp_sampler_at(s, p, s->order[e], k);
        mean /= m;
        for (int e = 0; e < m; e++) {
            double d = (double)*esp_sampler_at(s, p, s->order[e], k) - mean;
            square += d * d;
        }
        s->mean[k] = SMOOTHING * s->mean[k] + (1.0 - SMOOTHING) * mean;
        s->spread[k] = fmax(SMOOTHING * s->spread[k] + (1.0 - SMOOTHING) * sqrt(square / m), least);
    }
}

/* weighted (hu x LANES) += w * u over one tile. */
static void weigh(esp_sampler *s, const esp_problem *p, int first, const float *restrict w) {
    for (int k = 0; k < s->hu; k++) {
        const float *u = esp_sampler_at(s, p, first, k);
        float *restrict sum = s->weighted + (size_t)k * ESP_LANES;
        for (int j = 0; j < ESP_LANES; j++) sum[j] += w[j] * u[j];
    }
}

/* e^x for x <= 0, 0 below -20: 2^k times the series to the sixth order of what is left, within ln 2 / 2; 2e-7 off. */
static inline float exp_below(float x) {
    float in = x > -20.0f ? x : -20.0f, k = floorf(in * 1.44269504f + 0.5f), r = in - k * 0.693145752f - k * 1.42860677e-6f;
    float series = 1.0f + r * (1.0f + r * (0.5f + r * (1.66666667e-1f + r * (4.16666667e-2f + r * (8.33333333e-3f + r * 1.38888889e-3f)))));
    int32_t power = ((int32_t)k + 127) * (1 << 23);
    float scale;
    memcpy(&scale, &power, sizeof scale);
    return x > -20.0f ? series * scale : 0.0f;
}

/* exp((least - key) / lambda) of a tile's samples, none of those from n on. */
static void weights_of(const float *restrict key, int n, float least, float lambda, float *restrict w) {
    for (int j = 0; j < ESP_LANES; j++) w[j] = exp_below((least - key[j]) / lambda);
    for (int j = n; j < ESP_LANES; j++) w[j] = 0.0f;
}

/* lambda is half the distance from the least key to the tenth-best share's worst: invariant to the cost's scale. */
static void mppi_update(esp_sampler *s, const esp_problem *p, int n) {
    float least = least_of(s->key, n), worst = least_but(s->key, n, elite(n), s->order), totals[ESP_LANES] = {0};
    float lambda = fmaxf(0.5f * (worst - least), 1e-7f * (1.0f + fabsf(least)));
    double total = 0.0;
    memset(s->weighted, 0, (size_t)s->hu * ESP_LANES * sizeof *s->weighted);
    for (int first = 0; first < n; first += ESP_LANES) {
        float w[ESP_LANES];
        weights_of(s->key + first, n - first, least, lambda, w);
        weigh(s, p, first, w);
        for (int j = 0; j < ESP_LANES; j++) totals[j] += w[j];
    }
    for (int j = 0; j < ESP_LANES; j++) total += (double)totals[j];
    for (int k = 0; k < s->hu; k++) {
        double sum = 0.0;
        for (int j = 0; j < ESP_LANES; j++) sum += (double)s->weighted[(size_t)k * ESP_LANES + (size_t)j];
        s->mean[k] = sum / total;
    }
}

typedef struct method {
    const char *name;
    float filter;
    void (*update)(esp_sampler *sampler, const esp_problem *problem, int n);
    bool anneal;
} method;

static bool enough(const esp_track *track, int64_t started, const esp_sample_options *options) {
    return esp_track_stop(track) || esp_track_met(track) || esp_clock_seconds_since(started) >= options->seconds;
}

static bool stalled(const esp_track *track, int patience, double *mark, int *since) {
    if (patience == 0 || !track->found) return false;
    double best = track->best.objective;
    if (best < *mark - 1e-4 * fabs(best)) {
        *mark = best;
        *since = 0;
        return false;
    }
    return ++*since >= patience;
}

static esp_code run(esp_sampler *s, esp_track *track, const esp_sample_options *options, const method *how, esp_error *reterr) {
    const esp_problem *p = track->problem;
    assert(options->samples >= 2 && options->samples <= ESP_SAMPLES);
    int64_t started = esp_clock_now_ns();
    esp_code code = esp_sampler_reserve(s, p, options->samples, reterr);
    if (code != ESP_OK || p->empty) return code;
    double shrink = pow(LAST_SPREAD / FIRST_SPREAD, 1.0 / (options->iterations > 1 ? options->iterations - 1 : 1));
    for (int start = 0; start < options->starts; start++) {
        esp_rng rng;
        esp_noise noise;
        esp_rng_init(&rng, options->seed, (uint64_t)start);
        esp_noise_init(&noise, &rng);
        start_mean(s, track, start, &rng);
        start_spread(s, p, FIRST_SPREAD);
        double mark = INFINITY;
        int since = 0;
        for (int iteration = 0; iteration < options->iterations; iteration++) {
            if (enough(track, started, options)) return ESP_OK;
            if (how->anneal) start_spread(s, p, FIRST_SPREAD * pow(shrink, iteration));
            draw(s, track, options->samples, how->filter, &noise);
            esp_sampler_rollout(s, p, options->samples);
            offer_best(s, track, options->samples, how->name);
            if (rank_keys(s, options->samples)) how->update(s, p, options->samples);
            if (stalled(track, options->patience, &mark, &since)) break;
        }
    }
    return ESP_OK;
}

esp_code esp_cem_run(esp_sampler *sampler, esp_track *track, const esp_sample_options *options, esp_error *reterr) {
    static const method cem = {"cem", 0.0f, cem_update, false};
    return run(sampler, track, options, &cem, reterr);
}

esp_code esp_mppi_run(esp_sampler *sampler, esp_track *track, const esp_sample_options *options, esp_error *reterr) {
    static const method mppi = {"mppi", FILTER, mppi_update, true};
    return run(sampler, track, options, &mppi, reterr);
}
