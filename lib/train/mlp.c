/* SPDX-License-Identifier: Apache-2.0
 * Forward and backward passes of the network in training, over the products of train/product.h. */
#include "train/mlp.h"

#include <assert.h>
#include <math.h>
#include <string.h>

static size_t width_of(const esp_mlp *mlp, int l) {
    return esp_padded((size_t)mlp->width[l]);
}

static void lay_out(esp_mlp *mlp) {
    for (int l = 0; l < mlp->n_layers; l++) {
        mlp->there[l] = mlp->n_packed;
        mlp->back[l] = mlp->there[l] + (size_t)mlp->width[l] * width_of(mlp, l + 1);
        mlp->ends[l] = mlp->back[l] + (size_t)mlp->width[l + 1] * width_of(mlp, l);
        mlp->n_packed = mlp->ends[l] + 3 * width_of(mlp, l + 1);
    }
}

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
    lay_out(mlp);
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

static void pad(size_t n, const float *from, size_t padded, float *to) {
    for (size_t i = 0; i < padded; i++) to[i] = i < n ? from[i] : 0;
}

void esp_mlp_pack(const esp_mlp *mlp, const float *params, const float *pos, const float *neg, float *packed) {
    for (int l = 0; l < mlp->n_layers; l++) {
        size_t k = (size_t)mlp->width[l], w = (size_t)mlp->width[l + 1], padded = esp_padded(w);
        const float *weights = params + mlp->weight[l];
        float *ends = packed + mlp->ends[l];
        esp_panels_transposed(w, k, weights, packed + mlp->there[l]);
        esp_panels(w, k, weights, packed + mlp->back[l]);
        pad(w, params + mlp->bias[l], padded, ends);
        if (l == mlp->n_layers - 1) break;
        pad(w, pos + mlp->neuron[l], padded, ends + padded);
        pad(w, neg + mlp->neuron[l], padded, ends + 2 * padded);
    }
}

size_t esp_tape_floats(const esp_mlp *mlp, size_t n) {
    size_t per_row = width_of(mlp, 0) + width_of(mlp, mlp->n_layers);
    for (int l = 1; l < mlp->n_layers; l++) per_row += 2 * width_of(mlp, l);
    return n * per_row;
}

void esp_tape_init(esp_tape *tape, const esp_mlp *mlp, size_t n, float *memory) {
    assert(n % ESP_TILE == 0);
    tape->x = memory;
    memory += n * width_of(mlp, 0);
    for (int l = 0; l < mlp->n_layers; l++) {
        size_t floats = n * width_of(mlp, l + 1);
        bool hidden = l < mlp->n_layers - 1;
        tape->p[l] = hidden ? memory : NULL;
        memory += hidden ? floats : 0;
        tape->h[l] = memory;
        memory += floats;
    }
}

void esp_mlp_forward(const esp_mlp *mlp, const float *packed, size_t n, bool keep, esp_tape *tape) {
    const float *in = tape->x;
    for (int l = 0; l < mlp->n_layers; l++) {
        size_t padded = width_of(mlp, l + 1);
        const float *ends = packed + mlp->ends[l];
        esp_product product = {n, (size_t)mlp->width[l], (size_t)mlp->width[l + 1], in, packed + mlp->there[l], ends, tape->h[l]};
        if (l < mlp->n_layers - 1)
            esp_product_activate(&product, ends + padded, ends + 2 * padded, keep ? tape->p[l] : NULL);
        else
            esp_product_run(&product);
        in = tape->h[l];
    }
}

/* Work of the way back: the gradient of two layers' activations in turn, products' sums, and sums over the rows. */
typedef struct workspace {
    float *d[2], *outer, *sums, *positive, *negative; /* d: rows x the widest; the last three: the widest, padded */
} workspace;

static size_t widest_padded(const esp_mlp *mlp) {
    size_t widest = ESP_VECTOR;
    for (int l = 0; l <= mlp->n_layers; l++)
        if (width_of(mlp, l) > widest) widest = width_of(mlp, l);
    return widest;
}

static size_t lay_work(const esp_mlp *mlp, size_t n, float *memory, workspace *ret) {
    size_t widest = widest_padded(mlp), rows = (n + ESP_TILE - 1) / ESP_TILE * ESP_TILE, outer = 0;
    for (int l = 0; l < mlp->n_layers; l++) {
        size_t floats = esp_outer_work((size_t)mlp->width[l + 1], (size_t)mlp->width[l]);
        if (floats > outer) outer = floats;
    }
    if (ret) {
        ret->d[0] = memory;
        ret->d[1] = ret->d[0] + rows * widest;
        ret->sums = ret->d[1] + rows * widest;
        ret->positive = ret->sums + widest;
        ret->negative = ret->positive + widest;
        ret->outer = ret->negative + widest;
    }
    return (2 * rows + 3) * widest + outer;
}

size_t esp_mlp_work(const esp_mlp *mlp, size_t n) {
    return lay_work(mlp, n, NULL, NULL);
}

static void add_to(size_t n, const float *from, float *to) {
    for (size_t i = 0; i < n; i++) to[i] += from[i];
}

/* The gradient d of layer l's sums to that of the sums before it, `to`; the bias's, and the slopes', of that layer are added. */
static void hidden_backward(const esp_mlp *mlp, const float *packed, size_t n, const esp_tape *tape, int l, const float *d, float *grads,
                            const esp_slope_grads *slopes, const workspace *work, float *to) {
    size_t k = (size_t)mlp->width[l], padded = esp_padded(k), first = mlp->neuron[l - 1];
    const float *ends = packed + mlp->ends[l - 1];
    esp_product product = {n, (size_t)mlp->width[l + 1], k, d, packed + mlp->back[l], NULL, to};
    esp_mask mask = {ends + padded, ends + 2 * padded, tape->h[l - 1], work->sums, slopes ? tape->p[l - 1] : NULL, work->positive, work->negative};
    memset(work->sums, 0, padded * sizeof *work->sums);
    memset(work->positive, 0, padded * sizeof *work->positive);
    memset(work->negative, 0, padded * sizeof *work->negative);
    esp_product_mask(&product, &mask);
    add_to(k, work->sums, grads + mlp->bias[l - 1]);
    if (!slopes) return;
    add_to(k, work->positive, slopes->positive + first);
    add_to(k, work->negative, slopes->negative + first);
}

void esp_mlp_backward(const esp_mlp *mlp, const float *packed, size_t n, const esp_tape *tape, const float *d_out, float *grads,
                      const esp_slope_grads *slopes, float *ret_dx, float *memory) {
    int last = mlp->n_layers - 1;
    size_t n_out = (size_t)mlp->width[last + 1];
    const float *d = d_out;
    workspace work;
    (void)lay_work(mlp, n, memory, &work);
    memset(work.sums, 0, esp_padded(n_out) * sizeof *work.sums);
    esp_column_sums(n, n_out, d_out, work.sums);
    add_to(n_out, work.sums, grads + mlp->bias[last]);
    for (int l = last; l >= 0; l--) {
        size_t k = (size_t)mlp->width[l], w = (size_t)mlp->width[l + 1];
        esp_outer(n, w, k, d, l == 0 ? tape->x : tape->h[l - 1], grads + mlp->weight[l], work.outer);
        if (l == 0) break;
        hidden_backward(mlp, packed, n, tape, l, d, grads, slopes, &work, work.d[l % 2]);
        d = work.d[l % 2];
    }
    if (ret_dx) esp_product_run(&(esp_product){n, (size_t)mlp->width[1], (size_t)mlp->width[0], d, packed + mlp->back[0], NULL, ret_dx});
}
