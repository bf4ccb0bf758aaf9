/* SPDX-License-Identifier: Apache-2.0
 * The layers of a graph network in training. */
#include "train/graph_net.h"

#include <math.h>
#include <string.h>

#include "train/emit.h"

static void add_layer(esp_graph_net *net, int *n, int k, int w, bool activated) {
    net->layer[(*n)++] = (esp_dense){.k = (size_t)k, .w = (size_t)w, .activated = activated};
}

/* A block's layers: its hidden widths, then `last`. */
static void add_block(esp_graph_net *net, esp_block block, int n_in, const int *hidden, int n_hidden, int last, bool activated) {
    int n = net->begin[block];
    for (int l = 0; l < n_hidden; l++) {
        add_layer(net, &n, n_in, hidden[l], true);
        n_in = hidden[l];
    }
    add_layer(net, &n, n_in, last, activated);
    net->begin[block + 1] = n;
}

static void number(esp_graph_net *net) {
    int n = net->begin[ESP_BLOCKS];
    for (int l = 0; l < n; l++) {
        esp_dense *layer = &net->layer[l];
        layer->weight = net->n_weights;
        net->n_weights += layer->k * layer->w;
        layer->neuron = net->n_neurons;
        net->n_neurons += layer->activated ? layer->w : 0;
        net->n_packed += esp_dense_lay_out(layer, net->n_packed);
    }
    net->n_params = net->n_weights;
    for (int l = 0; l < n; l++) {
        net->layer[l].bias = net->n_params;
        net->n_params += net->layer[l].w;
    }
}

void esp_graph_net_init(esp_graph_net *net, const esp_graph_opts *opts) {
    int width = opts->width;
    *net = (esp_graph_net){.layout = opts->layout};
    add_block(net, ESP_NODE, esp_graph_node_inputs(&opts->layout), opts->node, opts->n_node, width, true);
    add_block(net, ESP_EDGE, esp_graph_edge_inputs(&opts->layout), opts->edge, opts->n_edge, width, true);
    add_block(net, ESP_MESSAGE, 3 * width, NULL, 0, width, true);
    add_block(net, ESP_UPDATE, 2 * width, NULL, 0, width, true);
    add_block(net, ESP_OUTPUT, 2 * width, opts->output, opts->n_output, opts->layout.size, false);
    number(net);
}

int esp_graph_net_widest(const esp_graph_net *net) {
    size_t widest = 1;
    for (int l = 0; l < net->begin[ESP_BLOCKS]; l++)
        if (net->layer[l].activated && net->layer[l].w > widest) widest = net->layer[l].w;
    return (int)widest;
}

void esp_graph_net_seed(const esp_graph_net *net, const esp_graph_data *data, esp_rng *rng, float *ret_params) {
    for (int l = 0; l < net->begin[ESP_BLOCKS]; l++) {
        const esp_dense *layer = &net->layer[l];
        const float *live = l == net->begin[ESP_NODE] ? data->v_live : l == net->begin[ESP_EDGE] ? data->w_live : NULL;
        double spread = sqrt((layer->activated ? 2.0 : 1.0) / (double)layer->k), bias = layer->activated ? 1 / sqrt((double)layer->k) : 0;
        float *w = ret_params + layer->weight, *b = ret_params + layer->bias;
        for (size_t i = 0; i < layer->w * layer->k; i++) w[i] = (float)(spread * esp_rng_normal(rng)) * (live ? live[i % layer->k] : 1.0f);
        for (size_t i = 0; i < layer->w; i++) b[i] = (float)esp_rng_range(rng, -bias, bias);
    }
}

void esp_graph_net_pack(const esp_graph_net *net, const float *params, const float *pos, const float *neg, float *packed) {
    for (int l = 0; l < net->begin[ESP_BLOCKS]; l++) esp_dense_pack(&net->layer[l], params, pos, neg, packed);
}

/* ---- to a model ---- */

static void copy_layer(const esp_dense *from, const float *params, const esp_ladder *ladder, esp_layer *ret) {
    for (size_t i = 0; i < from->w * from->k; i++) ret->w[i] = (double)params[from->weight + i];
    for (size_t i = 0; i < from->w; i++) {
        uint8_t state = from->activated ? ladder->state[from->neuron + i] : ESP_ACT_IDENTITY;
        ret->b[i] = (double)params[from->bias + i];
        ret->act[i] = state == ESP_UNDECIDED ? ESP_ACT_RELU : state;
    }
}

static esp_code copy_block(const esp_graph_net *net, esp_block block, const float *params, const esp_ladder *ladder, esp_net **ret_net,
                           esp_error *reterr) {
    int first = net->begin[block], n = net->begin[block + 1] - first, widths[ESP_MAX_HIDDEN + 2] = {(int)net->layer[first].k};
    for (int l = 0; l < n; l++) widths[l + 1] = (int)net->layer[first + l].w;
    esp_code code = esp_net_create(n, widths, ret_net, reterr);
    for (int l = 0; code == ESP_OK && l < n; l++) copy_layer(&net->layer[first + l], params, ladder, &(*ret_net)->layers[l]);
    return code;
}

/* What reads the last layer of a block: column k of it is column `at + k` of the reader's first layer. -1: nothing does. */
static const struct {
    int reader, at; /* `at` in widths */
} readers[ESP_BLOCKS][2] = {
    [ESP_NODE] = {{ESP_UPDATE, 0}, {ESP_OUTPUT, 0}}, /* and messages, whose g is the update's after the first round */
    [ESP_EDGE] = {{ESP_MESSAGE, 0}, {-1, 0}},        [ESP_MESSAGE] = {{ESP_UPDATE, 1}, {-1, 0}},
    [ESP_UPDATE] = {{ESP_OUTPUT, 1}, {-1, 0}},       [ESP_OUTPUT] = {{-1, 0}, {-1, 0}},
};

static void clear_column(esp_layer *layer, int column) {
    for (int i = 0; i < layer->n_out; i++) layer->w[(size_t)i * (size_t)layer->n_in + (size_t)column] = 0;
}

/* What leads to a zero neuron, and what reads nothing but it, has no effect: zero in the model, too. */
static void clear_zeros(int width, esp_net *const blocks[ESP_BLOCKS]) {
    for (int b = 0; b < ESP_BLOCKS; b++)
        for (int l = 0; l < blocks[b]->n_layers; l++) {
            esp_layer *layer = &blocks[b]->layers[l];
            for (int i = 0; i < layer->n_out; i++) {
                if (layer->act[i] != ESP_ACT_ZERO) continue;
                memset(layer->w + (size_t)i * (size_t)layer->n_in, 0, (size_t)layer->n_in * sizeof *layer->w);
                layer->b[i] = 0;
                if (l + 1 < blocks[b]->n_layers) clear_column(layer + 1, i);
                for (int k = 0; l + 1 == blocks[b]->n_layers && k < 2; k++)
                    if (readers[b][k].reader >= 0) clear_column(&blocks[readers[b][k].reader]->layers[0], readers[b][k].at * width + i);
            }
        }
}

esp_code esp_graph_net_emit(const esp_graph_net *net, const float *params, const esp_ladder *ladder, const esp_graph_data *data,
                            esp_model **ret_model, esp_error *reterr) {
    esp_net *blocks[ESP_BLOCKS] = {NULL};
    esp_graph *graph = NULL;
    esp_code code = ESP_OK;
    size_t q = (size_t)net->layout.n_shared, nu = (size_t)net->layout.nu;
    for (int b = 0; code == ESP_OK && b < ESP_BLOCKS; b++) code = copy_block(net, (esp_block)b, params, ladder, &blocks[b], reterr);
    if (code == ESP_OK) {
        const esp_net *output = blocks[ESP_OUTPUT];
        esp_emit_inputs(data->v_mean, data->v_scale, &blocks[ESP_NODE]->layers[0]);
        esp_emit_inputs(data->w_mean, data->w_scale, &blocks[ESP_EDGE]->layers[0]);
        esp_emit_outputs(data->out_mean, data->out_scale, &output->layers[output->n_layers - 1]);
        clear_zeros((int)net->layer[net->begin[ESP_MESSAGE]].w, blocks);
    }
    for (int b = 0; code == ESP_OK && b < ESP_BLOCKS; b++)
        if (esp_net_check(blocks[b], NULL) != ESP_OK)
            code = esp_fail(reterr, ESP_NUMERIC, "a weight of the network %s is not finite", esp_block_names[b]);
    if (code != ESP_OK) {
        for (int b = 0; b < ESP_BLOCKS; b++) esp_net_free(blocks[b]);
        return code;
    }
    code = esp_graph_create(&net->layout, blocks, data->shared, data->shared + q * q, data->shared + q * (q + nu), &graph, reterr);
    return code == ESP_OK ? esp_model_create_graph(graph, ret_model, reterr) : code;
}
