/* SPDX-License-Identifier: Apache-2.0
 * One step of a graph network on a chunk of windows, there and back: from features to the objects' changes. Private to
 * graph_loss.c, which knows what the features and changes mean.
 *
 * Rows are padded as train/product.h wants them. Objects are rows, n_v of them; edges are rows too, n_e, and edge e goes to object
 * row to[e] from object row from[e]. */
#ifndef ESP_TRAIN_GRAPH_TAPE_H
#define ESP_TRAIN_GRAPH_TAPE_H

#include "train/graph_net.h"

/* What a layer read, and said. */
typedef struct esp_layer_tape {
    const float *x;
    float *p, *h;
} esp_layer_tape;

typedef struct esp_graph_tape {
    size_t n_v, n_e; /* rows at hand */
    int *to, *from; /* n_e */
    float *v, *w; /* features: n_v x inputs of the first node layer, n_e x those of the first edge layer */
    esp_layer_tape layer[ESP_MAX_DENSE]; /* of those that run once */
    esp_layer_tape message[ESP_MAX_ROUNDS], update[ESP_MAX_ROUNDS];
    float *heard[ESP_MAX_ROUNDS], *known[ESP_MAX_ROUNDS], *last; /* inputs of messages, updates and the outputs */
} esp_graph_tape;

/* Scratch of the way back. */
typedef struct esp_graph_scratch {
    float *d_h, *d_g, *d_before; /* most_v x width */
    float *d_e; /* most_e x width */
    float *d[2]; /* gradients of a layer's two ends, the widest */
    float *layer; /* of esp_dense_backward */
} esp_graph_scratch;

/* Floats of a tape and of the work for so many rows at most. */
size_t esp_graph_tape_floats(const esp_graph_net *net, size_t most_v, size_t most_e);
size_t esp_graph_scratch_floats(const esp_graph_net *net, size_t most_v, size_t most_e);
void esp_graph_tape_init(esp_graph_tape *tape, const esp_graph_net *net, size_t most_v, size_t most_e, float *memory);
void esp_graph_scratch_init(esp_graph_scratch *work, const esp_graph_net *net, size_t most_v, size_t most_e, float *memory);

/* The objects' changes (n_v x size, padded) of the features at hand. */
const float *esp_graph_tape_forward(const esp_graph_net *net, const float *packed, esp_graph_tape *tape);
/* From their gradient d_out (n_v x size, padded; spoilt): adds to grads and, unless NULL, slopes; ret_dv, ret_dw, the features' gradients,
 * may be NULL together. */
void esp_graph_tape_backward(const esp_graph_net *net, const float *packed, const esp_graph_tape *tape, float *d_out, float *grads,
                             const esp_slope_grads *slopes, float *ret_dv, float *ret_dw, esp_graph_scratch *work);

#endif
