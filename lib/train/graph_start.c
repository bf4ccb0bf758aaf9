/* SPDX-License-Identifier: Apache-2.0
 * A graph network's weights in the units of training, its masks, and its predictions as targets. */
#include "train/graph_start.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "train/start.h"

static void unfold(const esp_graph *graph, const esp_graph_net *net, const esp_graph_data *data, float *params) {
    const esp_scales scales[ESP_BLOCKS] = {[ESP_NODE] = {.in_mean = data->v_mean, .in_scale = data->v_scale},
                                           [ESP_EDGE] = {.in_mean = data->w_mean, .in_scale = data->w_scale},
                                           [ESP_OUTPUT] = {.out_mean = data->out_mean, .out_scale = data->out_scale}};
    for (int b = 0; b < ESP_BLOCKS; b++) {
        const esp_net *block = graph->block[b];
        for (int l = 0; l < block->n_layers; l++) {
            const esp_layer *layer = &block->layers[l];
            const esp_dense *dense = &net->layer[net->begin[b] + l];
            bool first = l == 0 && scales[b].in_scale, last = l == block->n_layers - 1 && scales[b].out_scale;
            assert((size_t)layer->n_in == dense->k && (size_t)layer->n_out == dense->w);
            esp_start_unfold_layer(layer, &scales[b], first, last, params + dense->weight, params + dense->bias);
        }
    }
}

static esp_code begin_ladder(const esp_graph *graph, const esp_graph_net *net, esp_ladder *ladder, esp_error *reterr) {
    uint8_t *acts = malloc(net->n_neurons + 1);
    if (!acts) return esp_fail(reterr, ESP_NOMEM, "masks of %zu neurons", net->n_neurons);
    for (int b = 0; b < ESP_BLOCKS; b++)
        for (int l = 0; l < graph->block[b]->n_layers; l++) {
            const esp_dense *dense = &net->layer[net->begin[b] + l];
            if (dense->activated) memcpy(acts + dense->neuron, graph->block[b]->layers[l].act, dense->w);
        }
    esp_ladder_begin(ladder, acts);
    free(acts);
    return ESP_OK;
}

/* Room for a pass over the teacher. */
typedef struct teacher {
    const esp_graph *graph;
    int objects;
    double *x, *y, *work;
    esp_edge *edges;
} teacher;

static void predict(const teacher *t, const esp_graph_data *data, size_t row) {
    esp_graph_data_x(data, row, t->x);
    int n_edges = esp_graph_edges(&t->graph->layout, t->objects, t->x, t->edges);
    esp_graph_forward(t->graph, t->objects, t->edges, n_edges, t->x, t->y, t->work);
}

static esp_code move_targets(const esp_graph *graph, double weight, const esp_windows *windows, esp_code (*pulse)(void *user, esp_error *reterr),
                             void *user, esp_graph_data *data, esp_error *reterr) {
    int n = data->layout->objects;
    size_t ny = (size_t)data->dataset->ny, nu = (size_t)data->layout->nu, pairs = (size_t)n * (size_t)n;
    double *moved = malloc(data->n_rows * ny * sizeof *moved);
    double *room = malloc((2 * ny + nu + esp_graph_work(graph, n, n * n)) * sizeof *room);
    teacher t = {graph, n, room, room + ny + nu, room + 2 * ny + nu, malloc(pairs * sizeof *t.edges)};
    esp_code code = moved && room && t.edges ? ESP_OK : esp_fail(reterr, ESP_NOMEM, "the teacher's predictions");
    for (size_t r = 0; code == ESP_OK && r < data->n_rows; r++) {
        double *to = moved + r * ny;
        memcpy(to, esp_graph_data_next(data, r), ny * sizeof *to);
        if (r >= windows->n_train_rows) continue;
        code = pulse ? pulse(user, reterr) : ESP_OK;
        predict(&t, data, r);
        for (size_t k = 0; k < ny; k++) to[k] += weight * (t.y[k] - to[k]);
    }
    if (code == ESP_OK) {
        data->moved = moved;
        moved = NULL;
    }
    free(moved);
    free(room);
    free(t.edges);
    return code;
}

esp_code esp_graph_start_load(const esp_graph *graph, double distill_weight, const esp_graph_net *net, const esp_windows *windows,
                              esp_code (*pulse)(void *user, esp_error *reterr), void *user, esp_graph_data *data, float *ret_params,
                              esp_ladder *ladder, esp_error *reterr) {
    unfold(graph, net, data, ret_params);
    esp_code code = esp_start_check(ret_params, net->n_params, reterr);
    if (code == ESP_OK) code = begin_ladder(graph, net, ladder, reterr);
    if (code == ESP_OK && distill_weight > 0) code = move_targets(graph, distill_weight, windows, pulse, user, data, reterr);
    return code;
}
