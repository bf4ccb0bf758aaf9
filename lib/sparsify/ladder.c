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
    uint8_t *state = malloc(n + 1);
    esp_ranked *table = malloc((n + 1) * sizeof *table);
    if (!ladder || !memory || !state || !table) {
        free(ladder);
        free(memory);
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

static int largest(const double z[ESP_CLASSES]) {
    int best = 0;
    for (int k = 1; k < ESP_CLASSES; k++)
        if (z[k] > z[best]) best = k;
    return best;
}

void esp_ladder_sample(esp_ladder *ladder, esp_rng *rng) {
    for (size_t i = 0; i < ladder->n; i++) {
        if (ladder->state[i] != ESP_UNDECIDED) {
            set_frozen_slopes(ladder, i);
            continue;
        }
        double a[ESP_CLASSES], z[ESP_CLASSES];
        /* log pi is the logit less a constant, which the softmax does not see */
        for (int k = 0; k < ESP_CLASSES; k++)
            a[k] = ((double)ladder->logits[ESP_CLASSES * i + (size_t)k] + esp_rng_gumbel(rng)) / (double)ladder->tau;
        softmax(a, z);
        for (int k = 0; k < ESP_CLASSES; k++) ladder->soft[ESP_CLASSES * i + (size_t)k] = (float)z[k];
        int hard = largest(z);
        if (ladder->straight_through)
            set_slopes(ladder, i, hard == ESP_CLASS_RELU, hard == ESP_CLASS_IDENTITY);
        else
            set_slopes(ladder, i, (float)z[ESP_CLASS_RELU], (float)z[ESP_CLASS_IDENTITY]);
    }
}

/* d value / d logit j of value = sum_k weight_k p_k, p = softmax(logits / tau): p_j (weight_j - sum_k p_k weight_k) / tau. */
static void softmax_backward(const double p[ESP_CLASSES], const double weight[ESP_CLASSES], double tau, float *ret_grad) {
    double mean = p[0] * weight[0] + p[1] * weight[1] + p[2] * weight[2];
    for (int k = 0; k < ESP_CLASSES; k++) ret_grad[k] += (float)(p[k] * (weight[k] - mean) / tau);
}

double esp_ladder_backward(esp_ladder *ladder, const float *positive, const float *negative) {
    double penalty = 0, lambda = (double)ladder->lambda, lambda_id = lambda * (double)ladder->lambda_id;
    memset(ladder->grads, 0, ESP_CLASSES * ladder->n * sizeof *ladder->grads);
    for (size_t i = 0; i < ladder->n; i++) {
        if (ladder->state[i] != ESP_UNDECIDED) continue;
        const float *soft = ladder->soft + ESP_CLASSES * i;
        double z[ESP_CLASSES] = {(double)soft[0], (double)soft[1], (double)soft[2]}, pi[ESP_CLASSES];
        /* h = z1 max(p, 0) + z2 p */
        double dz[ESP_CLASSES] = {(double)positive[i], (double)positive[i] + (double)negative[i], 0}, cost[ESP_CLASSES] = {lambda, lambda_id, 0};
        float *grad = ladder->grads + ESP_CLASSES * i;
        esp_ladder_pi(ladder, i, pi);
        softmax_backward(z, dz, (double)ladder->tau, grad);
        softmax_backward(pi, cost, 1, grad);
        penalty += lambda * pi[ESP_CLASS_RELU] + lambda_id * pi[ESP_CLASS_IDENTITY];
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
