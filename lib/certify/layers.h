/* SPDX-License-Identifier: Apache-2.0
 * A network's forward pass with a bound of its own rounding, layer by layer. Private to the closed forms.
 *
 * h (computed) and the exact activations differ by at most `error` in the Euclidean norm. One layer z = W h + b:
 *     error' = |W|_2 error + gamma (|b| + |W|_F |h|) + tiny,
 * and an activation that is ReLU, identity or zero is 1-Lipschitz and exact. */
#ifndef ESP_CERTIFY_LAYERS_H
#define ESP_CERTIFY_LAYERS_H

#include "net/model.h"

typedef struct esp_layer_norms {
    double spectral, frobenius, bias; /* |W|_2, |W|_F, |b|, each an upper bound */
} esp_layer_norms;

/* y (rows) = M (rows x n) x + b; b may be NULL. */
void esp_layer_affine(int rows, int n, const double *m, const double *b, const double *x, double *y);
/* h (n_out) in place. */
void esp_layer_activate(const esp_layer *layer, double *h);
/* The error after one layer, from the error and |h| (upper bound) before it. */
double esp_layer_error(const esp_layer *layer, const esp_layer_norms *norms, double error, double h_norm);

/* The network's input v (nf_in) of the model's input x, and a bound of its rounding in ret_error. */
void esp_layer_input(const esp_model *model, const double *x, double *ret_v, double *ret_error);

#endif
