/* SPDX-License-Identifier: Apache-2.0
 * Forward and backward passes of the network in training; forward and backward of each step stand side by side. */
#include "train/mlp.h"

#include <assert.h>
#include <math.h>
#include <string.h>

#include "base/linalg.h"

void esp_mlp_init(esp_mlp *mlp, int n_in, const int *hidden, int n_hidden, int n_out) {
    assert(n_hidden >= 0 && n_hidden <= ESP_MAX_HIDDEN);
    memset(mlp, 0, sizeof *mlp);
    mlp->n_layers = n_hidden + 1;
    mlp->width[0] = n_in;
    for (int l = 0; l < n_hidden; l++) {
        mlp->width[l + 1] = hidden[l];
        mlp->neuron[l] = mlp->n_neurons;
        mlp->n_neurons += (size_t)hidden[l];
    }
    mlp->width[n_hidden + 1] = n_out;
    for (int l = 0; l < mlp->n_layers; l++) {
        mlp->weight[l] = mlp->n_weights;
        mlp->n_weights += (size_t)mlp->width[l] * (size_t)mlp->width[l + 1];
    }
    mlp->n_params = mlp->n_weights;
    for (int l = 0; l < mlp->n_layers; l++) {
        mlp->bias[l] = mlp->n_params;
        mlp->n_params += (size_t)mlp->width[l + 1];
    }
}

int esp_mlp_widest(const esp_mlp *mlp) {
    int widest = 1;
    for (int l = 1; l < mlp->n_layers; l++)
        if (mlp->width[l] > widest) widest = mlp->width[l];
    return widest;
}

void esp_mlp_seed(const esp_mlp *mlp, const float *live, esp_rng *rng, float *ret_params) {
    for (int l = 0; l < mlp->n_layers; l++) {
        size_t n_in = (size_t)mlp->width[l], n_out = (size_t)mlp->width[l + 1];
        bool last = l == mlp->n_layers - 1;
        double spread = sqrt((last ? 1.0 : 2.0) / (double)n_in), bias = last ? 0 : 1 / sqrt((double)n_in);
        float *w = ret_params + mlp->weight[l], *b = ret_params + mlp->bias[l];
        for (size_t i = 0; i < n_out * n_in; i++) w[i] = (float)(spread * esp_rng_normal(rng)) * (l == 0 ? live[i % n_in] : 1.0f);
        for (size_t i = 0; i < n_out; i++) b[i] = (float)esp_rng_range(rng, -bias, bias);
    }
}

size_t esp_tape_floats(const esp_mlp *mlp, size_t n) {
    size_t per_row = (size_t)mlp->width[0] + (size_t)mlp->width[mlp->n_layers];
    return n * (per_row + 2 * mlp->n_neurons);
}

void esp_tape_init(esp_tape *tape, const esp_mlp *mlp, size_t n, float *memory) {
    tape->x = memory;
    memory += n * (size_t)mlp->width[0];
    for (int l = 0; l < mlp->n_layers; l++) {
        size_t floats = n * (size_t)mlp->width[l + 1];
        bool hidden = l < mlp->n_layers - 1;
        tape->p[l] = hidden ? memory : NULL;
        memory += hidden ? floats : 0;
        tape->h[l] = memory;
        memory += floats;
    }
}

/* p += b and h = p * slope(p), in one pass; p, h (n x w). */
static void activate(size_t n, size_t w, const float *restrict b, const float *restrict pos, const float *restrict neg, float *restrict p,
                     float *restrict h) {
    for (size_t i = 0; i < n; i++, p += w, h += w)
        for (size_t j = 0; j < w; j++) {
            float value = p[j] + b[j], on = pos[j], off = neg[j]; /* both loaded: a select, not a branch */
            p[j] = value;
            h[j] = value * (value > 0 ? on : off);
        }
}

/* d (n x w): gradient of h in, of p out. At p = 0 the ReLU counts as off, as in the program. */
static void activate_backward(size_t n, size_t w, const float *restrict pos, const float *restrict neg, const float *restrict p, float *restrict d) {
    for (size_t i = 0; i < n; i++, p += w, d += w)
        for (size_t j = 0; j < w; j++) {
            float on = pos[j], off = neg[j];
            d[j] *= p[j] > 0 ? on : off;
        }
}

static void slopes_backward(size_t n, size_t w, const float *restrict p, const float *restrict d, float *restrict positive,
                            float *restrict negative) {
    for (size_t i = 0; i < n; i++, p += w, d += w)
        for (size_t j = 0; j < w; j++) {
            float product = d[j] * p[j];
            positive[j] += p[j] > 0 ? product : 0;
            negative[j] += p[j] > 0 ? 0 : product;
        }
}

static void add_bias(size_t n, size_t w, const float *restrict b, float *restrict y) {
    for (size_t i = 0; i < n; i++, y += w)
        for (size_t j = 0; j < w; j++) y[j] += b[j];
}

static void add_bias_backward(size_t n, size_t w, const float *restrict d, float *restrict db) {
    for (size_t i = 0; i < n; i++, d += w)
        for (size_t j = 0; j < w; j++) db[j] += d[j];
}

void esp_mlp_forward(const esp_mlp *mlp, const float *params, const float *pos, const float *neg, size_t n, esp_tape *tape) {
    const float *in = tape->x;
    for (int l = 0; l < mlp->n_layers; l++) {
        size_t k = (size_t)mlp->width[l], w = (size_t)mlp->width[l + 1];
        bool hidden = l < mlp->n_layers - 1;
        float *out = hidden ? tape->p[l] : tape->h[l];
        esp_sgemm(ESP_NO, ESP_T, n, w, k, 1, in, k, params + mlp->weight[l], k, 0, out, w);
        if (hidden)
            activate(n, w, params + mlp->bias[l], pos + mlp->neuron[l], neg + mlp->neuron[l], out, tape->h[l]);
        else
            add_bias(n, w, params + mlp->bias[l], out);
        in = tape->h[l];
    }
}

void esp_mlp_backward(const esp_mlp *mlp, const float *params, const float *pos, const float *neg, size_t n, const esp_tape *tape, const float *d_out,
                      float *grads, const esp_slope_grads *slopes, float *ret_dx, float *work) {
    size_t half = n * (size_t)esp_mlp_widest(mlp);
    const float *d = d_out;
    for (int l = mlp->n_layers - 1; l >= 0; l--) {
        size_t k = (size_t)mlp->width[l], w = (size_t)mlp->width[l + 1];
        const float *in = l == 0 ? tape->x : tape->h[l - 1];
        esp_sgemm(ESP_T, ESP_NO, w, k, n, 1, d, w, in, k, 1, grads + mlp->weight[l], k);
        add_bias_backward(n, w, d, grads + mlp->bias[l]);
        float *d_in = l == 0 ? ret_dx : work + (l % 2 ? half : 0);
        if (!d_in) break;
        esp_sgemm(ESP_NO, ESP_NO, n, k, w, 1, d, w, params + mlp->weight[l], k, 0, d_in, k);
        if (l == 0) break;
        size_t first = mlp->neuron[l - 1];
        if (slopes) slopes_backward(n, k, tape->p[l - 1], d_in, slopes->positive + first, slopes->negative + first);
        activate_backward(n, k, pos + first, neg + first, tape->p[l - 1], d_in);
        d = d_in;
    }
}
