/* SPDX-License-Identifier: Apache-2.0
 * A graph network while it is trained: where its layers stand among the parameters, its seeds, and the way to a model.
 *
 * Every neuron but those of the outputs is activated, the encoders' last and both propagators' too, as in propagation
 * networks. The parameters are all weights, block by block, then all biases; neurons are numbered the same way, and a number is
 * one choice of the ladder. Its loss: train/graph_loss.h. */
#ifndef ESP_TRAIN_GRAPH_NET_H
#define ESP_TRAIN_GRAPH_NET_H

#include "net/model.h"
#include "sparsify/ladder.h"
#include "train/dense.h"
#include "train/graph_data.h"

#define ESP_MAX_DENSE (3 * (ESP_MAX_HIDDEN + 1) + 2)

typedef struct esp_graph_net {
    esp_graph_layout layout;
    int begin[ESP_BLOCKS + 1]; /* block b is layers begin[b] .. begin[b + 1] - 1 */
    esp_dense layer[ESP_MAX_DENSE];
    size_t n_weights, n_params, n_neurons, n_packed;
} esp_graph_net;

void esp_graph_net_init(esp_graph_net *net, const esp_graph_opts *opts);
int esp_graph_net_widest(const esp_graph_net *net);

/* As esp_mlp_seed: He-normal weights, none at features that never vary. */
void esp_graph_net_seed(const esp_graph_net *net, const esp_graph_data *data, esp_rng *rng, float *ret_params);
void esp_graph_net_pack(const esp_graph_net *net, const float *params, const float *pos, const float *neg, float *packed);

/* The model in the units of the data; undecided neurons become ReLU. Errors: NOMEM, NUMERIC when a weight is not finite. */
ESP_MUST_CHECK esp_code esp_graph_net_emit(const esp_graph_net *net, const float *params, const esp_ladder *ladder, const esp_graph_data *data,
                                           esp_model **ret_model, esp_error *reterr);

#endif
