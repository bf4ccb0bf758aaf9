/* SPDX-License-Identifier: Apache-2.0
 * One layer in training, over the products of train/product.h: what a graph network is put together from (train/graph_net.h).
 * Plain networks have their own passes, which fuse neighbouring layers (train/mlp.h). */
#ifndef ESP_TRAIN_DENSE_H
#define ESP_TRAIN_DENSE_H

#include "train/mlp.h"

typedef struct esp_dense {
    size_t k, w; /* inputs, outputs */
    bool activated; /* p -> p * (p > 0 ? pos : neg); otherwise linear */
    size_t weight, bias; /* where they begin in the parameters */
    size_t neuron; /* number of the first neuron, when activated */
    size_t there, back, ends; /* in what esp_dense_pack writes: panels, and bias, pos and neg */
} esp_dense;

/* Floats of the packed layer; it begins at `at`. */
size_t esp_dense_lay_out(esp_dense *layer, size_t at);
void esp_dense_pack(const esp_dense *layer, const float *params, const float *pos, const float *neg, float *packed);

/* h (n x w) of x (n x k), rows padded and as many as whole tiles take. p (n x w) is kept for the way back; it is untouched by a
 * linear layer. `residual` (n x w, or NULL) is added to p. */
void esp_dense_forward(const esp_dense *layer, const float *packed, size_t n, const float *x, const float *residual, float *p, float *h);
/* d (n x w) comes as the gradient of h and leaves as that of p, and so of the residual. Adds to grads and, unless NULL, slopes;
 * ret_dx (n x k, padded) may be NULL. work holds esp_dense_work floats. */
void esp_dense_backward(const esp_dense *layer, const float *packed, size_t n, const float *x, const float *p, float *d, float *grads,
                        const esp_slope_grads *slopes, float *ret_dx, float *work);
size_t esp_dense_work(const esp_dense *layer);

#endif
