/* SPDX-License-Identifier: Apache-2.0
 * Masks, their gradients, and the ranking. */
#include "sparsify/ladder.h"

#include <assert.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

esp_code esp_ladder_create(size_t n, const esp_ladder_opts *opts, esp_ladder **ret_ladder, esp_error *reterr) {
    esp_ladder *ladder = calloc(1, sizeof *ladder);
    float *memory = calloc((3 * ESP_CLASSES + 2) * n + 1, sizeof *memory);
    double *wide = calloc(2 * ESP_CLASSES * n + 1, sizeof *wide);
    uint8_t *state = malloc(n + 1);
    esp_ranked *table = malloc((n + 1) * sizeof *table);
    if (!ladder || !memory || !wide || !state || !table) {
        free(ladder);
        free(memory);
        free(wide);
        free(state);
        free(table);
        return esp_fail(reterr, ESP_NOMEM, "masks of %zu neurons", n);
    }
    *ladder = (esp_ladder){.n = n,
                           .n_undecided = n,
                           .lambda = (float)opts->lambda,
                           .lambda_id = (float)opts->lambda_id,
                           .tau = (float)opts->tau,
                           .straight_through = opts->straight_through,
                           .state = state,
                           .logits = memory,
                           .noise = wide,
                           .scratch = wide + ESP_CLASSES * n,
                           .table = table};
    ladder->grads = memory + ESP_CLASSES * n;
    ladder->soft = ladder->grads + ESP_CLASSES * n;
    ladder->pos = ladder->soft + ESP_CLASSES * n;
    ladder->neg = ladder->pos + n;
    memset(state, ESP_UNDECIDED, n);
    esp_ladder_reset(ladder);
    esp_ladder_relu(ladder);
    *ret_ladder = ladder;
    return ESP_OK;
}

void esp_ladder_free(esp_ladder *ladder) {
    if (!ladder) return;
    free(ladder->state);
    free(ladder->logits);
    free(ladder->noise);
    free(ladder->table);
    free(ladder);
}

void esp_ladder_reset(esp_ladder *ladder) {
    static const double start[ESP_CLASSES] = {0.8, 0.1, 0.1};
    for (size_t i = 0; i < ESP_CLASSES * ladder->n; i++) ladder->logits[i] = (float)log(start[i % ESP_CLASSES]);
}

static void softmax(const double a[ESP_CLASSES], double ret[ESP_CLASSES]) {
    double top = fmax(a[0], fmax(a[1], a[2])), sum = 0;
    for (int k = 0; k < ESP_CLASSES; k++) sum += ret[k] = exp(a[k] - top);
    for (int k = 0; k < ESP_CLASSES; k++) ret[k] /= sum;
}

void esp_ladder_pi(const esp_ladder *ladder, size_t i, double ret_pi[ESP_CLASSES]) {
    const float *a = ladder->logits + ESP_CLASSES * i;
    softmax((double[ESP_CLASSES]){(double)a[0], (double)a[1], (double)a[2]}, ret_pi);
}

static void set_slopes(esp_ladder *ladder, size_t i, float relu, float identity) {
    ladder->pos[i] = relu + identity;
    ladder->neg[i] = identity;
}

static void set_frozen_slopes(esp_ladder *ladder, size_t i) {
    set_slopes(ladder, i, ladder->state[i] == ESP_ACT_RELU, ladder->state[i] == ESP_ACT_IDENTITY);
}

void esp_ladder_relu(esp_ladder *ladder) {
    for (size_t i = 0; i < ladder->n; i++)
        if (ladder->state[i] == ESP_UNDECIDED)
            set_slopes(ladder, i, 1, 0);
        else
            set_frozen_slopes(ladder, i);
}

void esp_ladder_begin(esp_ladder *ladder, const uint8_t *acts) {
    ladder->n_undecided = 0;
    for (size_t i = 0; i < ladder->n; i++) {
        bool relu = acts[i] == ESP_ACT_RELU;
        ladder->state[i] = relu ? ESP_UNDECIDED : acts[i];
        ladder->n_undecided += relu;
    }
    esp_ladder_reset(ladder);
    esp_ladder_relu(ladder);
}

/* ---- logarithms and exponentials of whole arrays ---------------------------------------------------------------------
 * Plain sums and products on the bits of a number, which the compiler turns into vectors; some 1e-10 off, relative. */

#define LN2 0.693147180559945309

/* ln x, 2^-1022 <= x < infinity: x = 2^k m with m in [2/3, 4/3), ln m = 2 atanh z by its series, z = (m - 1) / (m + 1) and
 * |z| <= 1/5: eight terms. k comes out of the bits as 2^52 + k + 2048. */
static inline double array_log(double x) {
    uint64_t image, shift, magic;
    double k, m;
    memcpy(&image, &x, sizeof image);
    shift = (image - UINT64_C(0x3fe5555555555555) + (UINT64_C(2048) << 52)) >> 52; /* k + 2048, modulo 4096 */
    magic = UINT64_C(0x4330000000000000) | shift;
    memcpy(&k, &magic, sizeof k);
    k -= 0x1p52 + 2048;
    image -= (shift - 2048) << 52;
    memcpy(&m, &image, sizeof m);
    double z = (m - 1) / (m + 1), q = z * z;
    return k * LN2 + 2 * z * (1 + q * (1.0 / 3 + q * (1.0 / 5 + q * (1.0 / 7 + q * (1.0 / 9 + q * (1.0 / 11 + q * (1.0 / 13 + q * (1.0 / 15))))))));
}

/* e^x, x <= 0; what is below e^-700 counts as that: x = k ln 2 + r, |r| <= 0.35, nine terms of Taylor's series. */
static inline double array_exp(double x) {
    double at = x > -700 ? x : -700, k, power;
    uint64_t image;
    double magic = at * (1 / LN2) + 0x1.8p52; /* the sum rounds to a whole k, in its last bits */
    memcpy(&image, &magic, sizeof image);
    k = magic - 0x1.8p52;
    image = (image + 1023) << 52;
    memcpy(&power, &image, sizeof power);
    double r = at - k * LN2;
    return power *
           (1 + r * (1 + r * (1.0 / 2 + r * (1.0 / 6 + r * (1.0 / 24 + r * (1.0 / 120 + r * (1.0 / 720 + r * (1.0 / 5040 + r * (1.0 / 40320)))))))));
}

/* u (0, 1) to Gumbel noise. */
static void gumbels(size_t n, double *restrict u) {
    for (size_t i = 0; i < n; i++) u[i] = -array_log(-array_log(u[i]));
}

/* z = softmax((logits + noise) / tau), neuron by neuron; noise may be NULL. */
static void softmaxes(size_t n, const float *restrict logits, const double *restrict noise, double tau, double *restrict z) {
    double by = 1 / tau;
    for (size_t j = 0; j < ESP_CLASSES * n; j++) z[j] = ((double)logits[j] + (noise ? noise[j] : 0)) * by;
    for (size_t i = 0; i < n; i++, z += ESP_CLASSES) {
        double top = z[0] > z[1] ? z[0] : z[1];
        top = top > z[2] ? top : z[2];
        for (int k = 0; k < ESP_CLASSES; k++) z[k] -= top;
    }
    z -= ESP_CLASSES * n;
    for (size_t j = 0; j < ESP_CLASSES * n; j++) z[j] = array_exp(z[j]);
    for (size_t i = 0; i < n; i++, z += ESP_CLASSES) {
        double share = 1 / (z[0] + z[1] + z[2]);
        for (int k = 0; k < ESP_CLASSES; k++) z[k] *= share;
    }
}

void esp_ladder_sample(esp_ladder *ladder, esp_rng *rng) {
    size_t n = ladder->n;
    double *noise = ladder->noise, *z = ladder->scratch;
    for (size_t i = 0; i < n; i++)
        for (size_t k = 0; k < ESP_CLASSES; k++) noise[ESP_CLASSES * i + k] = ladder->state[i] == ESP_UNDECIDED ? esp_rng_uniform(rng) : 0.5;
    gumbels(ESP_CLASSES * n, noise);
    softmaxes(n, ladder->logits, noise, (double)ladder->tau, z); /* log pi is the logit less a constant, which it does not see */
    for (size_t j = 0; j < ESP_CLASSES * n; j++) ladder->soft[j] = (float)z[j];
    for (size_t i = 0; i < n; i++, z += ESP_CLASSES) {
        bool relu = z[0] >= z[1] && z[0] >= z[2], identity = !relu && z[1] >= z[2];
        if (ladder->state[i] != ESP_UNDECIDED)
            set_frozen_slopes(ladder, i);
        else if (ladder->straight_through)
            set_slopes(ladder, i, relu, identity);
        else
            set_slopes(ladder, i, (float)z[ESP_CLASS_RELU], (float)z[ESP_CLASS_IDENTITY]);
    }
}

/* d value / d logit j of value = sum_k weight_k p_k, p = softmax(logits / tau): p_j (weight_j - sum_k p_k weight_k) / tau. Added. */
static inline void softmax_backward(const double p[ESP_CLASSES], const double weight[ESP_CLASSES], double by_tau, double *ret_grad) {
    double mean = p[0] * weight[0] + p[1] * weight[1] + p[2] * weight[2];
    for (int k = 0; k < ESP_CLASSES; k++) ret_grad[k] += p[k] * (weight[k] - mean) * by_tau;
}

double esp_ladder_backward(esp_ladder *ladder, const float *positive, const float *negative) {
    double penalty = 0, lambda = (double)ladder->lambda, lambda_id = lambda * (double)ladder->lambda_id, by_tau = 1 / (double)ladder->tau;
    const double cost[ESP_CLASSES] = {lambda, lambda_id, 0}, *pi = ladder->scratch;
    softmaxes(ladder->n, ladder->logits, NULL, 1, ladder->scratch);
    for (size_t i = 0; i < ladder->n; i++, pi += ESP_CLASSES) {
        const float *soft = ladder->soft + ESP_CLASSES * i;
        double active = ladder->state[i] == ESP_UNDECIDED, grad[ESP_CLASSES] = {0};
        double z[ESP_CLASSES] = {(double)soft[0], (double)soft[1], (double)soft[2]};
        /* h = z1 max(p, 0) + z2 p */
        double dz[ESP_CLASSES] = {(double)positive[i], (double)positive[i] + (double)negative[i], 0};
        softmax_backward(z, dz, by_tau, grad);
        softmax_backward(pi, cost, 1, grad);
        for (size_t k = 0; k < ESP_CLASSES; k++) ladder->grads[ESP_CLASSES * i + k] = active > 0 ? (float)grad[k] : 0;
        penalty += active * (lambda * pi[ESP_CLASS_RELU] + lambda_id * pi[ESP_CLASS_IDENTITY]);
    }
    return penalty;
}

static int by_rank(const void *a, const void *b) {
    const esp_ranked *x = a, *y = b;
    if (x->score > y->score || x->score < y->score) return x->score > y->score ? -1 : 1;
    return x->neuron < y->neuron ? -1 : 1;
}

/* log max(pi2, pi3): the same order as the maximum itself, but it still tells neurons apart whose pi rounds to 1. */
static double score(const float a[ESP_CLASSES]) {
    double top = fmax((double)a[ESP_CLASS_IDENTITY], (double)a[ESP_CLASS_ZERO]),
           other = fmin((double)a[ESP_CLASS_IDENTITY], (double)a[ESP_CLASS_ZERO]);
    return -log1p(exp((double)a[ESP_CLASS_RELU] - top) + exp(other - top));
}

/* The undecided neurons in rank order. */
static size_t rank(const esp_ladder *ladder, esp_ranked *table) {
    size_t n = 0;
    for (size_t i = 0; i < ladder->n; i++) {
        const float *a = ladder->logits + ESP_CLASSES * i;
        if (ladder->state[i] == ESP_UNDECIDED) table[n++] = (esp_ranked){score(a), i, a[ESP_CLASS_IDENTITY] >= a[ESP_CLASS_ZERO]};
    }
    qsort(table, n, sizeof *table, by_rank);
    return n;
}

size_t esp_ladder_freeze(esp_ladder *ladder, size_t keep, size_t *ret_frozen) {
    size_t n_frozen = 0;
    if (keep < ladder->n_undecided) {
        size_t n = rank(ladder, ladder->table);
        n_frozen = n - keep;
        for (size_t r = 0; r < n_frozen; r++) {
            ladder->state[ladder->table[r].neuron] = ladder->table[r].identity ? ESP_ACT_IDENTITY : ESP_ACT_ZERO;
            if (ret_frozen) ret_frozen[r] = ladder->table[r].neuron;
        }
        ladder->n_undecided = keep;
    }
    esp_ladder_reset(ladder);
    esp_ladder_relu(ladder);
    return n_frozen;
}
