/* SPDX-License-Identifier: Apache-2.0
 * A feed-forward network whose neurons are each a ReLU, an identity or a zero.
 *
 * What training and pruning produce and what files hold. Nothing downstream of training computes on it: it is lowered
 * to the ReLU program (net/program.h). Life cycle: create or parse, read, free. Immutable once made, shareable
 * between threads. */
#ifndef ESP_NET_NET_H
#define ESP_NET_NET_H

#include <stdint.h>

#include "base/error.h"

/* A neuron's function; the numbers are those of the stored mask. */
typedef enum esp_act { ESP_ACT_ZERO = 0, ESP_ACT_RELU = 1, ESP_ACT_IDENTITY = 2 } esp_act;

/* Caps on what is read from outside, so that a hostile file cannot ask for unbounded memory. */
#define ESP_MAX_LAYERS     64
#define ESP_MAX_WIDTH      4096
#define ESP_MAX_PARAMETERS 16777216

typedef struct esp_layer {
    int n_in, n_out;
    double *w; /* n_out x n_in */
    double *b; /* n_out */
    uint8_t *act; /* n_out of esp_act */
} esp_layer;

typedef struct esp_net {
    int n_layers; /* at least 1; the last is the output layer, usually all identity */
    esp_layer *layers;
} esp_net;

/* Layers of the given widths (n_layers + 1 of them, input first), zero weights, hidden neurons ReLU, outputs identity.
 * Whoever creates a network fills in its numbers before handing it on. Errors: INVALID (caps), NOMEM. */
ESP_MUST_CHECK esp_code esp_net_create(int n_layers, const int *widths, esp_net **ret_net, esp_error *reterr);
ESP_MUST_CHECK esp_code esp_net_copy(const esp_net *net, esp_net **ret_net, esp_error *reterr);
void esp_net_free(esp_net *net);

static inline int esp_net_inputs(const esp_net *net) {
    return net->layers[0].n_in;
}
static inline int esp_net_outputs(const esp_net *net) {
    return net->layers[net->n_layers - 1].n_out;
}
int esp_net_widest(const esp_net *net);
int esp_net_relus(const esp_net *net); /* neurons that are ReLU */
int64_t esp_net_parameters(const esp_net *net); /* weights and biases */
int64_t esp_net_nonzero(const esp_net *net); /* those that are not exactly 0 */

/* out (n_out) of in (n_in); `residual` (n_out, or NULL) is added before the activation. */
void esp_layer_forward(const esp_layer *layer, const double *in, const double *residual, double *out);
/* y (n_out) of x (n_in), layer by layer in double: the reference that the program is checked against.
 * work has room for 2 * esp_net_widest doubles. */
void esp_net_forward(const esp_net *net, const double *x, double *y, double *work);

/* Every weight and bias is finite. */
ESP_MUST_CHECK esp_code esp_net_check(const esp_net *net, esp_error *reterr);

#endif
