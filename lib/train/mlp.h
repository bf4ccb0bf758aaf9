/* SPDX-License-Identifier: Apache-2.0
 * The network while it is being trained: float parameters in one block, a minibatch at a time, forward and backward.
 *
 * Not the network anyone else sees (net/net.h, in double): train/emit.h turns one into the other.
 *
 * A hidden neuron is p -> p * (p > 0 ? pos : neg). Its pair of slopes says what it is: ReLU (1, 0), identity (1, 1),
 * zero (0, 0), and under the Gumbel-softmax mask z of equation 6 of the sparse-dynamics paper, z1 ReLU + z2 identity,
 * it is (z1 + z2, z2). So one fused loop serves every kind, and the ladder only ever writes slopes.
 *
 * The parameter block holds all weights, layer by layer (n_out x n_in), then all biases. Gradients and Adam's moments
 * have the same layout. Dimension letters: n rows of a batch, w a layer's width. */
#ifndef ESP_TRAIN_MLP_H
#define ESP_TRAIN_MLP_H

#include <stdbool.h>
#include <stddef.h>

#include "base/error.h"
#include "base/rng.h"
#include "train/product.h"
#include "train/train.h"

typedef struct esp_mlp {
    int n_layers; /* of weights: hidden layers + 1 */
    int width[ESP_MAX_HIDDEN + 2]; /* n_layers + 1, input first */
    size_t weight[ESP_MAX_HIDDEN + 1]; /* where layer l's weights begin in the block */
    size_t bias[ESP_MAX_HIDDEN + 1];
    size_t neuron[ESP_MAX_HIDDEN + 1]; /* number of the first neuron of hidden layer l */
    size_t n_weights, n_params, n_neurons; /* n_neurons: hidden ones */
    size_t there[ESP_MAX_HIDDEN + 1], back[ESP_MAX_HIDDEN + 1]; /* where layer l's panels begin in what esp_mlp_pack writes */
    size_t ends[ESP_MAX_HIDDEN + 1]; /* and its bias, pos and neg, esp_padded each */
    size_t n_packed;
} esp_mlp;

void esp_mlp_init(esp_mlp *mlp, int n_in, const int *hidden, int n_hidden, int n_out);

/* He-normal weights, uniform biases. A column of the first layer whose `live` is 0 (an input that never varies in the
 * data) starts at weight 0, so that it has no say unless training gives it one. */
void esp_mlp_seed(const esp_mlp *mlp, const float *live, esp_rng *rng, float *ret_params);

/* The parameters and the neurons' slopes (pos, neg: n_neurons each, pos >= neg >= 0) as the passes read them, n_packed floats:
 * once for each change of either. */
void esp_mlp_pack(const esp_mlp *mlp, const float *params, const float *pos, const float *neg, float *ret_packed);

/* What a pass leaves behind for the way back. Rows are esp_padded(their width) apart and as many as whole tiles take
 * (train/product.h): `rows` of a pass is n up to the next multiple of ESP_TILE. */
typedef struct esp_tape {
    float *x; /* rows x width[0] */
    float *p[ESP_MAX_HIDDEN + 1]; /* hidden layers: pre-activations, where they were kept */
    float *h[ESP_MAX_HIDDEN + 1]; /* hidden layers: activations; h[n_layers - 1] is the output */
} esp_tape;

/* Floats that a tape of n rows takes (n a multiple of ESP_TILE), and the tape laid into them. */
size_t esp_tape_floats(const esp_mlp *mlp, size_t n);
void esp_tape_init(esp_tape *tape, const esp_mlp *mlp, size_t n, float *memory);

/* From tape->x to the output; `keep` the pre-activations, which gradients of slopes need. */
void esp_mlp_forward(const esp_mlp *mlp, const float *packed, size_t n, bool keep, esp_tape *tape);

/* Gradients of the slopes summed over the batch, for the ladder: positive = sum dh max(p, 0), negative = sum dh
 * min(p, 0), each n_neurons. */
typedef struct esp_slope_grads {
    float *positive, *negative;
} esp_slope_grads;

/* Adds to grads (n_params) and, unless NULL, to `slopes`, for which the pass must have kept p. d_out (rows x
 * width[n_layers], padded, 0 beyond row n) is the gradient of the output; ret_dx (rows x width[0], padded) may be NULL; work
 * holds esp_mlp_work floats. */
void esp_mlp_backward(const esp_mlp *mlp, const float *packed, size_t n, const esp_tape *tape, const float *d_out, float *grads,
                      const esp_slope_grads *slopes, float *ret_dx, float *work);
size_t esp_mlp_work(const esp_mlp *mlp, size_t n);

int esp_mlp_widest(const esp_mlp *mlp); /* hidden layer; at least 1 */

#endif
