/* SPDX-License-Identifier: Apache-2.0
 * What the pruning methods share. Not an interface: lib/sparsify only.
 *
 *     prune.c         options, order of the layers     calibration.c   activations, a layer's Hessian
 *     saliency.c      ranking, magnitude, OBD          gauss_newton.c  the Hessian of the outputs
 *     obs.c           OBS                              sparsegpt.c     SparseGPT */
#ifndef ESP_SPARSIFY_PRUNE_PARTS_H
#define ESP_SPARSIFY_PRUNE_PARTS_H

#include "base/arena.h"
#include "sparsify/prune.h"

/* A layer under OBS or SparseGPT, and what it is done by. */
typedef struct esp_prune_layer {
    const esp_prune_opts *opts;
    const esp_stop *stop;
    size_t rows, cols;
    double *w, *b; /* rows x cols, rows: changed in place */
    const uint8_t *act; /* rows of esp_act */
    uint8_t *mask; /* rows x cols: 1 where a weight is gone; on entry those that came as 0 */
    size_t target; /* weights to be gone in the end, those that came as 0 included */
    size_t n;
    const double *x; /* n x cols: the layer's inputs */
    double *importance; /* rows: what a row's error counts, 0 for a neuron that nothing listens to */
    double *panel; /* PRUNE_PANEL x cols */
    double *h, *mean; /* cols x cols, cols: room for a Hessian */
    uint8_t *dead; /* cols */
} esp_prune_layer;

/* A weight in a ranking. */
typedef struct esp_prune_item {
    double score;
    size_t index;
} esp_prune_item;

static inline bool esp_prune_chosen(const esp_prune_opts *opts, int layer) {
    for (int i = 0; i < opts->n_layers; i++)
        if (opts->layers[i] == layer) return true;
    return opts->n_layers == 0;
}
static inline size_t esp_prune_weights(const esp_layer *layer) {
    return (size_t)layer->n_out * (size_t)layer->n_in;
}
/* Weights of `n` that the sparsity takes. */
size_t esp_prune_target(double sparsity, size_t n);
/* Zeros that the pattern wants of a group of t inputs. */
static inline size_t esp_prune_group_zeros(size_t t) {
    return t / 2;
}
ESP_MUST_CHECK esp_code esp_prune_check_stop(const esp_stop *stop, esp_error *reterr);

/* --- saliency.c --- */
/* Marks the lowest scores until `target` of n are marked, ties by index; items has room for n. Negative scores are not made. */
void esp_prune_choose(size_t n, const double *score, size_t target, uint8_t *mask, esp_prune_item *items);
/* Marks in each of `rows` rows (stride ld) the lowest of t <= 64 scores until esp_prune_group_zeros(t) are marked. */
void esp_prune_choose_group(size_t rows, size_t t, const double *score, size_t ld, uint8_t *mask, size_t mask_ld);
/* Weights of each layer that `obd` over the network takes, those that came as 0 included; 0 for layers not chosen. */
ESP_MUST_CHECK esp_code esp_prune_shares(const esp_net *net, size_t n, const double *inputs, const esp_prune_opts *opts, const esp_stop *stop,
                                         size_t ret_targets[ESP_MAX_LAYERS], esp_error *reterr);
/* Magnitude and OBD: sets weights of `net` (a copy of the network) to 0. */
ESP_MUST_CHECK esp_code esp_prune_by_saliency(esp_net *net, size_t n, const double *inputs, const esp_prune_opts *opts, const esp_stop *stop,
                                              esp_error *reterr);

/* --- calibration.c --- */
/* to (n x n_out) = the layer at from (n x n_in). */
void esp_prune_forward(const esp_layer *layer, size_t n, const double *from, double *to);
#define PRUNE_PANEL 256
/* H = 2/n sum x x' into layer->h, with `bias` about the mean, which goes to layer->mean (0 without); damped; layer->dead. */
ESP_MUST_CHECK esp_code esp_prune_hessian(esp_prune_layer *layer, esp_error *reterr);
/* b_i of row i takes up what the row has lost of the mean: before is the row as it came. */
void esp_prune_shift_bias(esp_prune_layer *layer, size_t i, const double *before);
/* Damping and dead inputs of an H (d x d) whose zeros on the diagonal are exact. */
void esp_prune_damp(size_t d, double damping, double *h, uint8_t *ret_dead);

/* --- gauss_newton.c --- */
/* ret[k] (n_out x n_in of layer k) = diagonal of H = 2/n sum J'J for the weights of layer k. */
ESP_MUST_CHECK esp_code esp_prune_output_diagonal(const esp_net *net, size_t n, const double *inputs, const esp_stop *stop, double *const *ret,
                                                  esp_error *reterr);
/* Importance of layer k's neurons: ret (n_out of the layer) = mean over inputs of the sum over outputs of (df_o/dp_i)^2. */
ESP_MUST_CHECK esp_code esp_prune_importance(const esp_net *net, int k, size_t n, const double *inputs, const esp_stop *stop, double *ret,
                                             esp_error *reterr);
/* All of H for the chosen layers' parameters, layer by layer, row by row, each row's weights and then its bias: h (d x d). */
ESP_MUST_CHECK esp_code esp_prune_output_hessian(const esp_net *net, size_t n, const double *inputs, const esp_prune_opts *opts, size_t d,
                                                 const esp_stop *stop, double *ret_h, esp_error *reterr);

/* --- obs.c, sparsegpt.c --- */
ESP_MUST_CHECK esp_code esp_prune_obs(esp_prune_layer *layer, esp_error *reterr);
/* OBS over all chosen layers of `net` (a copy of the network). */
ESP_MUST_CHECK esp_code esp_prune_obs_network(esp_net *net, size_t n, const double *inputs, const esp_prune_opts *opts, const esp_stop *stop,
                                              esp_error *reterr);
ESP_MUST_CHECK esp_code esp_prune_sparsegpt(esp_prune_layer *layer, esp_error *reterr);

#endif
