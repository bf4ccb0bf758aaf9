/* SPDX-License-Identifier: Apache-2.0
 * Networks for the benchmark of certificates. The controller is a saturated linear feedback; a network of the asked shape is
 * trained on it by the library, as the dynamics y+ = f(y, u) whose y and u together are the controller's input. */
#include "bench/certify/nets.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/rng.h"
#include "certify/norms.h"
#include "train/train.h"

#define SAMPLES 4000
#define REACH   1.2 /* of the inputs in training */

typedef struct shape {
    int n;
    int width[8];
} shape;

static shape shape_of(const char *text) {
    shape s = {0};
    for (const char *at = text; s.n < 8; at++) {
        char *end;
        s.width[s.n++] = (int)strtol(at, &end, 10);
        at = end;
        if (*at != '-') break;
    }
    return s;
}

/* What is imitated: output i = clip(gain_i x) of a gain drawn from the seed. */
static void controller(uint64_t seed, int n_in, int n_out, const double *x, double *y) {
    esp_rng rng;
    esp_rng_init(&rng, seed, 11);
    for (int i = 0; i < n_out; i++) {
        double sum = 0;
        for (int k = 0; k < n_in; k++) sum += 2.5 * esp_rng_normal(&rng) / sqrt(n_in) * x[k];
        y[i] = fmax(-1, fmin(1, sum + 0.3 * sin(3 * x[0])));
    }
}

static esp_dataset *imitation(const shape *s, uint64_t seed) {
    int n_in = s->width[0], ny = s->width[s->n - 1], nu = n_in - ny;
    esp_dataset *d = calloc(1, sizeof *d);
    if (!d) return NULL;
    *d = (esp_dataset){.ny = ny, .nu = nu, .n_trajectories = SAMPLES, .n_transitions = SAMPLES, .n_rows = 2 * SAMPLES};
    d->start = malloc((SAMPLES + 1) * sizeof *d->start);
    d->y = calloc(d->n_rows * (size_t)ny, sizeof *d->y);
    d->u = calloc(d->n_rows * (size_t)nu, sizeof *d->u);
    if (!d->start || !d->y || !d->u) {
        esp_dataset_free(d);
        return NULL;
    }
    esp_rng rng;
    esp_rng_init(&rng, seed, 12);
    for (size_t i = 0; i <= SAMPLES; i++) d->start[i] = 2 * i;
    for (size_t i = 0; i < SAMPLES; i++) {
        double x[8];
        for (int k = 0; k < n_in; k++) x[k] = esp_rng_range(&rng, -REACH, REACH);
        memcpy(d->y + 2 * i * (size_t)ny, x, (size_t)ny * sizeof *x);
        memcpy(d->u + 2 * i * (size_t)nu, x + ny, (size_t)nu * sizeof *x);
        controller(seed, n_in, ny, x, d->y + (2 * i + 1) * (size_t)ny);
    }
    return d;
}

static esp_code keep(void *user, const esp_train_model *made, esp_error *reterr) {
    return esp_net_copy(made->model->net, (esp_net **)user, reterr);
}

static esp_code train(const shape *s, uint64_t seed, esp_net **ret_net, esp_error *reterr) {
    esp_train_opts opts;
    esp_train_opts_init(&opts);
    opts.n_hidden = s->n - 2;
    for (int k = 1; k < s->n - 1; k++) opts.hidden[k - 1] = s->width[k];
    opts.seed = seed;
    opts.epochs = 60;
    opts.batch = 128;
    esp_dataset *data = imitation(s, seed);
    if (!data) return esp_fail(reterr, ESP_NOMEM, "no memory for samples");
    const esp_train_hooks hooks = {.user = ret_net, .model = keep};
    esp_code code = esp_train_run(data, &opts, &hooks, NULL, reterr);
    esp_dataset_free(data);
    return code;
}

static int by_size(const void *a, const void *b) {
    double x = fabs(*(const double *)a), y = fabs(*(const double *)b);
    return (x > y) - (x < y);
}

/* The weight below which the share lies. */
static double threshold(const esp_layer *layer, double share) {
    size_t n = (size_t)layer->n_in * (size_t)layer->n_out, at = (size_t)(share * (double)n);
    double *sorted = malloc((n + 1) * sizeof *sorted);
    if (!sorted) return 0;
    memcpy(sorted, layer->w, n * sizeof *sorted);
    qsort(sorted, n, sizeof *sorted, by_size);
    double value = at > 0 ? fabs(sorted[at - 1]) : -1;
    free(sorted);
    return value;
}

static void prune(esp_net *net, bool random, double sparsity, double t, uint64_t seed) {
    esp_rng rng;
    esp_rng_init(&rng, seed, 13);
    for (int k = 0; k < net->n_layers; k++) {
        esp_layer *layer = &net->layers[k];
        double below = threshold(layer, sparsity);
        for (int i = 0; i < layer->n_in * layer->n_out; i++) {
            bool gone = random ? esp_rng_uniform(&rng) < sparsity : fabs(layer->w[i]) <= below;
            if (gone) layer->w[i] = t < 1 ? layer->w[i] - t * layer->w[i] : 0;
        }
    }
}

static esp_code policy(esp_net *net, esp_model **ret_model, esp_error *reterr) {
    esp_frame frame = {.kind = ESP_FRAME_NONE};
    return esp_model_create(ESP_MODEL_POLICY, esp_net_inputs(net), esp_net_outputs(net), 1, &frame, net, ret_model, reterr);
}

int bench_pair_make(const char *text, const char *how, double sparsity, double t, uint64_t seed, bench_pair *ret_pair) {
    shape s = shape_of(text);
    esp_error error = {0};
    esp_net *net = NULL, *pruned = NULL;
    *ret_pair = (bench_pair){0};
    esp_code code = train(&s, seed, &net, &error);
    if (!code) code = esp_net_copy(net, &pruned, &error);
    if (!code) prune(pruned, strcmp(how, "random") == 0, sparsity, t, seed);
    if (!code) code = policy(net, &ret_pair->f, &error);
    if (!code) code = policy(pruned, &ret_pair->g, &error);
    if (code) fprintf(stderr, "bench_certify: %s\n", error.message);
    return code;
}

void bench_pair_done(bench_pair *pair) {
    esp_model_free(pair->f);
    esp_model_free(pair->g);
    *pair = (bench_pair){0};
}

esp_box bench_box(bench_pair *pair, double half) {
    int n = pair->f ? pair->f->ny : 0;
    for (int k = 0; k < n; k++) {
        pair->lower[k] = -half;
        pair->upper[k] = half;
    }
    return (esp_box){n, pair->lower, pair->upper};
}

/* ---- norms alone ---------------------------------------------------------------------------------------------------- */

static int spectral(const esp_layer *layer, const double *w, double *ret_norm) {
    return esp_norm_upper((size_t)layer->n_out, (size_t)layer->n_in, w, ret_norm, NULL);
}

/* Intervals of the activations, layer by layer, and their norm; a measurement, so without outward rounding. */
static double interval_layer(const esp_layer *layer, const double *lo, const double *hi, double *ret_lo, double *ret_hi) {
    double sum = 0;
    for (int i = 0; i < layer->n_out; i++) {
        double l = layer->b[i], u = layer->b[i];
        for (int j = 0; j < layer->n_in; j++) {
            double w = layer->w[i * layer->n_in + j];
            l += w * (w > 0 ? lo[j] : hi[j]);
            u += w * (w > 0 ? hi[j] : lo[j]);
        }
        bool relu = layer->act[i] == ESP_ACT_RELU;
        ret_lo[i] = relu ? fmax(0, l) : l;
        ret_hi[i] = relu ? fmax(0, u) : u;
        sum += fmax(ret_lo[i] * ret_lo[i], ret_hi[i] * ret_hi[i]);
    }
    return sqrt(sum);
}

int bench_norm_bound(const bench_pair *pair, const esp_box *box, bool activation, double *ret_bound) {
    const esp_net *f = pair->f->net, *g = pair->g->net;
    double e = 0, h = 0, lo[256], hi[256], next_lo[256], next_hi[256], delta[256 * 256];
    for (int k = 0; k < box->n; k++) {
        lo[k] = box->lower[k];
        hi[k] = box->upper[k];
        h += fmax(lo[k] * lo[k], hi[k] * hi[k]);
    }
    h = sqrt(h);
    for (int k = 0; k < f->n_layers; k++) {
        const esp_layer *a = &f->layers[k], *b = &g->layers[k];
        int n = a->n_in * a->n_out;
        double d, w, pruned, bias = esp_norm2_up((size_t)a->n_out, a->b);
        if (n > 256 * 256) return 1;
        for (int i = 0; i < n; i++) delta[i] = b->w[i] - a->w[i];
        if (spectral(a, delta, &d) || spectral(a, a->w, &w) || spectral(b, b->w, &pruned)) return 1;
        e = pruned * e + d * h;
        double from_interval = interval_layer(a, lo, hi, next_lo, next_hi);
        h = activation ? fmin(from_interval, w * h + bias) : w * h + bias;
        memcpy(lo, next_lo, sizeof lo);
        memcpy(hi, next_hi, sizeof hi);
    }
    *ret_bound = e;
    return 0;
}
