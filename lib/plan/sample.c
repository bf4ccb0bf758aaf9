/* SPDX-License-Identifier: Apache-2.0
 * CEM and MPPI over batches. */
#include "plan/sample.h"

#include <assert.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/rng.h"
#include "plan/rollout.h"

const esp_sample_options esp_cem_defaults = {.samples = 300, .iterations = 30, .starts = 5, .seconds = INFINITY};
const esp_sample_options esp_mppi_defaults = {.samples = 1000, .iterations = 30, .starts = 3, .seconds = INFINITY};

#define ELITE_SHARE  10 /* the best tenth */
#define SMOOTHING    0.2 /* share of the old mean and spread kept */
#define FIRST_SPREAD 0.4 /* of the width of the input box */
#define LAST_SPREAD  0.01 /* MPPI: annealed to this */
#define LEAST_SPREAD 1e-4 /* CEM: never below this share of the width */
#define FILTER       0.5 /* MPPI: noise of a step keeps this much of the step before */

/* A penalty large against the costs seen, so that the weighted ranking is by violation first. */
static double penalised(const esp_sampler *s, int j, double penalty) {
    return s->cost[j] + (s->violation[j] > 0.0 ? penalty * (0.01 + s->violation[j]) : 0.0);
}

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

/* Row 0 is the mean itself, row 1 the best plan known, the others mean + spread * noise (filtered in time). */
static void draw(esp_sampler *s, const esp_track *track, int n, double filter, esp_rng *rng) {
    const esp_problem *p = track->problem;
    int hu = p->horizon * p->nu;
    double scale = sqrt(1.0 - filter * filter);
    for (int j = 0; j < n; j++) {
        double *row = s->inputs + (size_t)j * (size_t)hu;
        if (j == 1 && track->found) {
            memcpy(row, track->best.inputs, (size_t)hu * sizeof *row);
            continue;
        }
        esp_rng_normals_f(rng, s->noise, (size_t)hu);
        for (int k = 0; k < hu; k++) {
            double noise = (double)s->noise[k];
            if (filter > 0.0 && k >= p->nu) noise = filter * (double)s->noise[k - p->nu] + scale * noise;
            s->noise[k] = (float)noise;
            row[k] = s->mean[k] + (j > 0 ? s->spread[k] * noise : 0.0);
        }
        esp_problem_project(p, row);
    }
}

/* Offers the cheapest sample inside all limits when it looks better than the best known. */
static void offer_best(const esp_sampler *s, esp_track *track, int n, const char *found_by) {
    int best = -1, hu = track->problem->horizon * track->problem->nu;
    for (int j = 0; j < n; j++)
        if (!(s->violation[j] > 0.0) && (best < 0 || s->cost[j] < s->cost[best])) best = j;
    if (best < 0) return;
    double slack = 1e-5 * fabs(s->cost[best]);
    if (!track->found || s->cost[best] - slack < track->best.objective) (void)esp_track_offer(track, s->inputs + (size_t)best * (size_t)hu, found_by);
}

/* Puts the m rows of least key first; partial selection sort would be quadratic in m, so a heap of m. */
static void sift(int *order, const double *key, int m, int at) {
    for (int child; (child = 2 * at + 1) < m; at = child) {
        if (child + 1 < m && key[order[child + 1]] > key[order[child]]) child++;
        if (key[order[at]] >= key[order[child]]) return;
        int swap = order[at];
        order[at] = order[child];
        order[child] = swap;
    }
}

static void select_least(int *order, const double *key, int n, int m) {
    for (int j = 0; j < m; j++) order[j] = j;
    for (int j = m / 2; j-- > 0;) sift(order, key, m, j);
    for (int j = m; j < n; j++) {
        if (!(key[j] < key[order[0]])) continue;
        order[0] = j;
        sift(order, key, m, 0);
    }
}

/* The ranking key of each sample, in s->part. The penalty scales with the cheapest finite cost. */
static bool rank_keys(esp_sampler *s, int n) {
    double least = INFINITY;
    for (int j = 0; j < n; j++) least = fmin(least, s->cost[j]);
    if (!isfinite(least)) return false;
    for (int j = 0; j < n; j++) s->part[j] = penalised(s, j, 100.0 * (1.0 + fabs(least)));
    return true;
}

static void cem_update(esp_sampler *s, const esp_problem *p, int n) {
    int m = n / ELITE_SHARE > 2 ? n / ELITE_SHARE : 2, hu = p->horizon * p->nu;
    select_least(s->order, s->part, n, m);
    for (int k = 0; k < hu; k++) {
        double mean = 0.0, square = 0.0, least = LEAST_SPREAD * (p->u_upper[k] - p->u_lower[k]);
        for (int e = 0; e < m; e++) mean += s->inputs[(size_t)s->order[e] * (size_t)hu + (size_t)k];
        mean /= m;
        for (int e = 0; e < m; e++) {
            double d = s->inputs[(size_t)s->order[e] * (size_t)hu + (size_t)k] - mean;
            square += d * d;
        }
        s->mean[k] = SMOOTHING * s->mean[k] + (1.0 - SMOOTHING) * mean;
        s->spread[k] = fmax(SMOOTHING * s->spread[k] + (1.0 - SMOOTHING) * sqrt(square / m), least);
    }
}

/* lambda is half the distance from the least key to the tenth-best share's worst: invariant to the cost's scale. */
static void mppi_update(esp_sampler *s, const esp_problem *p, int n) {
    int m = n / ELITE_SHARE > 2 ? n / ELITE_SHARE : 2, hu = p->horizon * p->nu;
    select_least(s->order, s->part, n, m);
    double least = INFINITY, total = 0.0;
    for (int j = 0; j < n; j++) least = fmin(least, s->part[j]);
    double lambda = fmax(0.5 * (s->part[s->order[0]] - least), 1e-12 * (1.0 + fabs(least)));
    memset(s->weighted, 0, (size_t)hu * sizeof *s->weighted);
    for (int j = 0; j < n; j++) {
        double w = exp((least - s->part[j]) / lambda);
        if (!(w > 1e-9)) continue;
        total += w;
        for (int k = 0; k < hu; k++) s->weighted[k] += w * s->inputs[(size_t)j * (size_t)hu + (size_t)k];
    }
    for (int k = 0; k < hu; k++) s->mean[k] = s->weighted[k] / total;
}

typedef struct method {
    const char *name;
    double filter;
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
    esp_code code = esp_sampler_reserve(s, p, reterr);
    if (code != ESP_OK || p->empty) return code;
    double shrink = pow(LAST_SPREAD / FIRST_SPREAD, 1.0 / (options->iterations > 1 ? options->iterations - 1 : 1));
    for (int start = 0; start < options->starts; start++) {
        esp_rng rng;
        esp_rng_init(&rng, options->seed, (uint64_t)start);
        start_mean(s, track, start, &rng);
        start_spread(s, p, FIRST_SPREAD);
        double mark = INFINITY;
        int since = 0;
        for (int iteration = 0; iteration < options->iterations; iteration++) {
            if (enough(track, started, options)) return ESP_OK;
            if (how->anneal) start_spread(s, p, FIRST_SPREAD * pow(shrink, iteration));
            draw(s, track, options->samples, how->filter, &rng);
            esp_sampler_rollout(s, p, options->samples);
            offer_best(s, track, options->samples, how->name);
            if (rank_keys(s, options->samples)) how->update(s, p, options->samples);
            if (stalled(track, options->patience, &mark, &since)) break;
        }
    }
    return ESP_OK;
}

esp_code esp_cem_run(esp_sampler *sampler, esp_track *track, const esp_sample_options *options, esp_error *reterr) {
    static const method cem = {"cem", 0.0, cem_update, false};
    return run(sampler, track, options, &cem, reterr);
}

esp_code esp_mppi_run(esp_sampler *sampler, esp_track *track, const esp_sample_options *options, esp_error *reterr) {
    static const method mppi = {"mppi", FILTER, mppi_update, true};
    return run(sampler, track, options, &mppi, reterr);
}
