/* SPDX-License-Identifier: Apache-2.0
 * Weights tried one by one, then rounded together. */
#include "train/rounding.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

typedef struct candidate {
    esp_compact_entry at;
    double rank; /* what the weight adds, root mean square; then the loss without it */
} candidate;

typedef struct rounding {
    const esp_rounding_call *call;
    float *params;
    float *before; /* n_params */
    candidate *list; /* n */
    size_t n;
    double *mean, *square; /* n_in + n_r: of what weights are multiplied by */
} rounding;

static void release(rounding *r) {
    free(r->before);
    free(r->list);
    free(r->mean);
}

static esp_code allocate(rounding *r, size_t entries, size_t n_from, esp_error *reterr) {
    r->before = malloc(r->call->mlp->n_params * sizeof *r->before);
    r->list = malloc((entries + 1) * sizeof *r->list);
    r->mean = calloc(2 * n_from, sizeof *r->mean);
    if (!r->before || !r->list || !r->mean) return esp_fail(reterr, ESP_NOMEM, "rounding of %zu weights", entries);
    r->square = r->mean + n_from;
    memcpy(r->before, r->params, r->call->mlp->n_params * sizeof *r->before);
    return ESP_OK;
}

static void add_moments(const float *values, size_t n, double share, double *mean, double *square) {
    for (size_t i = 0; i < n; i++) {
        mean[i] += share * (double)values[i];
        square[i] += share * (double)values[i] * (double)values[i];
    }
}

/* Of inputs and ReLUs over the rows, one step from the data. */
static esp_code measure(rounding *r, const esp_compact *compact, esp_error *reterr) {
    const esp_rounding_call *call = r->call;
    size_t n_in = (size_t)call->mlp->width[0], n_r = esp_compact_relus(compact), n_y = (size_t)call->mlp->width[call->mlp->n_layers];
    float *memory = calloc(esp_gap_floats(n_in, n_r, n_y) + 2 * n_r + 1, sizeof *memory), *p = memory + esp_gap_floats(n_in, n_r, n_y);
    if (!memory) return esp_fail(reterr, ESP_NOMEM, "rounding");
    esp_gap_program program = esp_gap_program_at(n_in, n_r, n_y, memory);
    esp_compact_get(compact, r->params, &program);
    for (size_t i = 0; i < call->n; i++) {
        const float *x = call->windows->features + call->rows[i] * n_in;
        esp_gap_forward(&program, x, p, p + n_r);
        add_moments(x, n_in, 1 / (double)call->n, r->mean, r->square);
        add_moments(p + n_r, n_r, 1 / (double)call->n, r->mean + n_in, r->square + n_in);
    }
    free(memory);
    return ESP_OK;
}

/* Ties by place, so that the order is one whatever sorts it. */
static int by_rank(const void *a, const void *b) {
    const candidate *x = a, *y = b;
    if (x->rank != y->rank) return (x->rank > y->rank) - (x->rank < y->rank);
    return (x->at.weight > y->at.weight) - (x->at.weight < y->at.weight);
}

/* Those that are not 0 yet, the cheapest to have a look at. */
static esp_code list(rounding *r, const esp_compact *compact, size_t entries, esp_error *reterr) {
    esp_compact_entry *all = malloc((entries + 1) * sizeof *all);
    if (!all) return esp_fail(reterr, ESP_NOMEM, "rounding of %zu weights", entries);
    (void)esp_compact_entries(compact, all);
    for (size_t i = 0; i < entries; i++) {
        double w = (double)r->params[all[i].weight];
        if (w != 0) r->list[r->n++] = (candidate){all[i], fabs(w) * sqrt(r->square[all[i].from])};
    }
    free(all);
    qsort(r->list, r->n, sizeof *r->list, by_rank);
    if (r->n > ESP_ROUNDING_TRIED) r->n = ESP_ROUNDING_TRIED;
    return ESP_OK;
}

static void put_to_zero(rounding *r, const candidate *c) {
    r->params[c->at.bias] += (float)((double)r->params[c->at.weight] * r->mean[c->at.from]);
    r->params[c->at.weight] = 0;
}

static void put_back(rounding *r) {
    memcpy(r->params, r->before, r->call->mlp->n_params * sizeof *r->params);
}

/* The loss without each of them. False: broken off. */
static bool try_each(rounding *r) {
    for (size_t i = 0; i < r->n; i++) {
        candidate *c = &r->list[i];
        put_to_zero(r, c);
        c->rank = r->call->loss(r->call->user);
        r->params[c->at.weight] = r->before[c->at.weight];
        r->params[c->at.bias] = r->before[c->at.bias];
        if (!isfinite(c->rank)) return false;
    }
    return true;
}

/* How many of the first may go: by halves, which takes it that more cost more. False: broken off. */
static bool round_first(rounding *r, double limit, size_t *ret_zeros) {
    size_t good = 0, bad = r->n + 1;
    while (bad - good > 1) {
        size_t middle = good + (bad - good) / 2;
        for (size_t i = 0; i < middle; i++) put_to_zero(r, &r->list[i]);
        double loss = r->call->loss(r->call->user);
        put_back(r);
        if (!isfinite(loss)) return false;
        if (loss <= limit) good = middle;
        if (loss > limit) bad = middle;
    }
    for (size_t i = 0; i < good; i++) put_to_zero(r, &r->list[i]);
    *ret_zeros = good;
    return true;
}

esp_code esp_rounding_run(const esp_rounding_call *call, float *params, size_t *ret_zeros, esp_error *reterr) {
    rounding r = {.call = call, .params = params};
    esp_compact *compact = NULL;
    *ret_zeros = 0;
    esp_code code = esp_compact_create(call->mlp, call->ladder, &compact, reterr);
    if (code != ESP_OK) return code;
    size_t entries = esp_compact_entries(compact, NULL);
    code = allocate(&r, entries, (size_t)call->mlp->width[0] + esp_compact_relus(compact), reterr);
    if (code == ESP_OK) code = measure(&r, compact, reterr);
    if (code == ESP_OK) code = list(&r, compact, entries, reterr);
    double loss = code == ESP_OK ? call->loss(call->user) : (double)NAN;
    if (isfinite(loss) && try_each(&r)) {
        qsort(r.list, r.n, sizeof *r.list, by_rank);
        (void)round_first(&r, (1 + call->share) * loss, ret_zeros);
    }
    esp_compact_free(compact);
    release(&r);
    return code;
}
