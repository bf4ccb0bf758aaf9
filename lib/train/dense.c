/* SPDX-License-Identifier: Apache-2.0
 * Forward and backward passes of one layer. */
#include "train/dense.h"

#include <string.h>

size_t esp_dense_lay_out(esp_dense *layer, size_t at) {
    layer->there = at;
    layer->back = layer->there + layer->k * esp_padded(layer->w);
    layer->ends = layer->back + layer->w * esp_padded(layer->k);
    return layer->ends + 3 * esp_padded(layer->w) - at;
}

static void pad(size_t n, const float *from, size_t padded, float *to) {
    for (size_t i = 0; i < padded; i++) to[i] = i < n ? from[i] : 0;
}

void esp_dense_pack(const esp_dense *layer, const float *params, const float *pos, const float *neg, float *packed) {
    size_t padded = esp_padded(layer->w);
    float *ends = packed + layer->ends;
    esp_panels_transposed(layer->w, layer->k, params + layer->weight, packed + layer->there);
    esp_panels(layer->w, layer->k, params + layer->weight, packed + layer->back);
    pad(layer->w, params + layer->bias, padded, ends);
    if (!layer->activated) return;
    pad(layer->w, pos + layer->neuron, padded, ends + padded);
    pad(layer->w, neg + layer->neuron, padded, ends + 2 * padded);
}

static void activate(size_t n, size_t padded, const float *restrict pos, const float *restrict neg, const float *restrict residual, float *restrict p,
                     float *restrict h) {
    for (size_t i = 0; i < n; i++, p += padded, h += padded, residual += padded)
        for (size_t j = 0; j < padded; j++) {
            p[j] += residual[j];
            h[j] = p[j] * (p[j] > 0 ? pos[j] : neg[j]);
        }
}

void esp_dense_forward(const esp_dense *layer, const float *packed, size_t n, const float *x, const float *residual, float *p, float *h) {
    size_t padded = esp_padded(layer->w);
    const float *ends = packed + layer->ends, *pos = ends + padded, *neg = pos + padded;
    esp_product product = {n, layer->k, layer->w, x, packed + layer->there, ends, h};
    if (!layer->activated) {
        esp_product_run(&product);
    } else if (!residual) {
        esp_product_activate(&product, pos, neg, p);
    } else {
        product.to = p;
        esp_product_run(&product);
        activate(n, padded, pos, neg, residual, p, h);
    }
}

static void mask(size_t n, size_t padded, const float *restrict pos, const float *restrict neg, const float *restrict p, float *restrict d) {
    for (size_t i = 0; i < n; i++, p += padded, d += padded)
        for (size_t j = 0; j < padded; j++) d[j] *= p[j] > 0 ? pos[j] : neg[j];
}

/* sum dh max(p, 0) and sum dh min(p, 0), by neuron. */
static void sum_slopes(size_t n, size_t w, size_t padded, const float *restrict p, const float *restrict d, float *restrict positive,
                       float *restrict negative) {
    for (size_t i = 0; i < n; i++, p += padded, d += padded)
        for (size_t j = 0; j < w; j++) {
            positive[j] += p[j] > 0 ? d[j] * p[j] : 0;
            negative[j] += p[j] > 0 ? 0 : d[j] * p[j];
        }
}

size_t esp_dense_work(const esp_dense *layer) {
    return esp_outer_work(layer->w, layer->k) + esp_padded(layer->w);
}

void esp_dense_backward(const esp_dense *layer, const float *packed, size_t n, const float *x, const float *p, float *d, float *grads,
                        const esp_slope_grads *slopes, float *ret_dx, float *work) {
    size_t padded = esp_padded(layer->w);
    const float *ends = packed + layer->ends;
    if (layer->activated && slopes) sum_slopes(n, layer->w, padded, p, d, slopes->positive + layer->neuron, slopes->negative + layer->neuron);
    if (layer->activated) mask(n, padded, ends + padded, ends + 2 * padded, p, d);
    float *sums = work + esp_outer_work(layer->w, layer->k);
    memset(sums, 0, padded * sizeof *sums);
    esp_column_sums(n, layer->w, d, sums);
    for (size_t i = 0; i < layer->w; i++) grads[layer->bias + i] += sums[i];
    esp_outer(n, layer->w, layer->k, d, x, grads + layer->weight, work);
    if (ret_dx) esp_product_run(&(esp_product){n, layer->w, layer->k, d, packed + layer->back, NULL, ret_dx});
}
