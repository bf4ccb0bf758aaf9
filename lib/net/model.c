/* SPDX-License-Identifier: Apache-2.0
 * A model's making: every size and number checked once, at the door. Files and JSON are model_file.c and model_json.c. */
#include "net/model.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

const char *const esp_model_kind_names[] = {"dynamics", "policy", NULL};

static esp_code check_sizes(esp_model_kind kind, int ny, int nu, int history, const esp_frame *frame, const esp_net *net, esp_error *reterr) {
    int n_in = esp_net_inputs(net), n_out = esp_net_outputs(net);
    if (history < 1 || history > ESP_MAX_HISTORY)
        return esp_fail(reterr, ESP_INVALID, "history must lie in [1, %d], is %d", ESP_MAX_HISTORY, history);
    if (ny < 1 || ny > ESP_MAX_WIDTH || nu < 0 || nu > ESP_MAX_WIDTH)
        return esp_fail(reterr, ESP_INVALID, "a model of %d outputs and %d inputs", ny, nu);
    if (kind == ESP_MODEL_POLICY) {
        if (history != 1 || frame->kind != ESP_FRAME_NONE) return esp_fail(reterr, ESP_INVALID, "a policy has history 1 and no frame");
        if (n_in != ny || n_out != nu) return esp_fail(reterr, ESP_INVALID, "the network is %d to %d, the policy %d to %d", n_in, n_out, ny, nu);
        return ESP_OK;
    }
    int n_x = history * (ny + nu);
    if (n_x > ESP_MAX_WIDTH) return esp_fail(reterr, ESP_INVALID, "history * (ny + nu) is %d; at most %d", n_x, ESP_MAX_WIDTH);
    if (frame->kind == ESP_FRAME_LINEAR) return ESP_OK;
    if (n_in != n_x)
        return esp_fail(reterr, ESP_INVALID, "the network has %d inputs; history %d * (ny %d + nu %d) are needed", n_in, history, ny, nu);
    if (n_out != ny) return esp_fail(reterr, ESP_INVALID, "the network has %d outputs; ny = %d are needed", n_out, ny);
    return ESP_OK;
}

/* Copies the frame's matrices into one block that `a` heads. */
static esp_code copy_frame(const esp_frame *frame, int ny, int nu, int history, const esp_net *net, esp_frame *ret_frame, esp_error *reterr) {
    esp_frame copy = {.kind = frame->kind};
    if (frame->kind == ESP_FRAME_LINEAR) {
        size_t y = (size_t)ny, n_yh = (size_t)history * y, n_uh = (size_t)history * (size_t)nu;
        size_t f_in = (size_t)esp_net_inputs(net), f_out = (size_t)esp_net_outputs(net);
        const double *const from[5] = {frame->a, frame->b, frame->c, frame->d, frame->g};
        const size_t size[5] = {y * n_yh, y * n_uh, f_in * n_yh, f_in * n_uh, y * f_out};
        double **const to[5] = {&copy.a, &copy.b, &copy.c, &copy.d, &copy.g};
        size_t total = size[0] + size[1] + size[2] + size[3] + size[4];
        if (total > ESP_MAX_PARAMETERS) return esp_fail(reterr, ESP_INVALID, "a frame has at most %d numbers, not %zu", ESP_MAX_PARAMETERS, total);
        double *block = malloc(total * sizeof *block);
        if (!block) return esp_fail(reterr, ESP_NOMEM, "a frame of %zu numbers", total);
        double *at = block;
        for (int i = 0; i < 5; i++) {
            *to[i] = at;
            if (size[i]) memcpy(at, from[i], size[i] * sizeof *at);
            at += size[i];
        }
        for (size_t i = 0; i < total; i++)
            if (!isfinite(block[i])) {
                free(block);
                return esp_fail(reterr, ESP_INVALID, "the frame has a number that is not finite");
            }
    }
    *ret_frame = copy;
    return ESP_OK;
}

esp_code esp_model_create(esp_model_kind kind, int ny, int nu, int history, const esp_frame *frame, esp_net *net, esp_model **ret_model,
                          esp_error *reterr) {
    static const esp_frame none = {.kind = ESP_FRAME_NONE};
    if (!frame) frame = &none;
    esp_model *model = calloc(1, sizeof *model);
    esp_code code = model ? check_sizes(kind, ny, nu, history, frame, net, reterr) : esp_fail(reterr, ESP_NOMEM, "a model");
    if (code == ESP_OK) code = esp_net_check(net, reterr);
    if (code == ESP_OK) code = copy_frame(frame, ny, nu, history, net, &model->frame, reterr);
    if (code != ESP_OK) {
        free(model);
        esp_net_free(net);
        return code;
    }
    model->kind = kind;
    model->ny = ny;
    model->nu = nu;
    model->history = history;
    model->net = net;
    *ret_model = model;
    return ESP_OK;
}

void esp_model_free(esp_model *model) {
    if (!model) return;
    free(model->frame.a);
    free(model->edges);
    esp_graph_free(model->graph);
    esp_net_free(model->net);
    free(model);
}

/* ---- graphs ---- */

/* Takes the graph. */
static esp_code make_graph(esp_graph *graph, int n, const double *y, esp_model **ret_model, esp_error *reterr) {
    const esp_graph_layout *l = &graph->layout;
    int ny = esp_graph_ny(l, n);
    size_t most = (size_t)n * (size_t)(n - 1);
    esp_model *model = calloc(1, sizeof *model);
    esp_edge *edges = malloc((most + 1) * sizeof *edges);
    esp_code code = model && edges ? ESP_OK : esp_fail(reterr, ESP_NOMEM, "a model of %d objects", n);
    if (code == ESP_OK && ny + l->nu > ESP_MAX_WIDTH) code = esp_fail(reterr, ESP_INVALID, "ny + nu is %d; at most %d", ny + l->nu, ESP_MAX_WIDTH);
    if (code != ESP_OK) {
        free(model);
        free(edges);
        esp_graph_free(graph);
        return code;
    }
    *model = (esp_model){.kind = ESP_MODEL_DYNAMICS, .ny = ny, .nu = l->nu, .history = 1, .graph = graph, .edges = edges, .n_objects = n};
    model->n_edges = esp_graph_edges(l, n, y, edges);
    *ret_model = model;
    return ESP_OK;
}

esp_code esp_model_create_graph(esp_graph *graph, esp_model **ret_model, esp_error *reterr) {
    return make_graph(graph, graph->layout.objects, NULL, ret_model, reterr);
}

esp_code esp_model_bind(const esp_model *model, int ny, const double *y, esp_model **ret_model, esp_error *reterr) {
    const esp_graph_layout *l = &model->graph->layout;
    esp_graph *graph = NULL;
    int n = esp_graph_objects(l, ny);
    if (n == 0)
        return esp_fail(reterr, ESP_UNPROCESSABLE, "%d observed numbers are not those of 1 to %d objects of %d, and %d shared ones", ny,
                        ESP_MAX_OBJECTS, l->size, l->n_shared);
    esp_code code = esp_graph_copy(model->graph, &graph, reterr);
    return code == ESP_OK ? make_graph(graph, n, y, ret_model, reterr) : code;
}

esp_code esp_model_bind_box(const esp_model *model, int ny, const double *lower, const double *upper, esp_model **ret_model, esp_error *reterr) {
    esp_model *bound = NULL;
    int n_edges = 0;
    esp_code code = esp_model_bind(model, ny, NULL, &bound, reterr);
    if (code == ESP_OK) code = esp_graph_edges_box(&bound->graph->layout, bound->n_objects, lower, upper, bound->edges, &n_edges, reterr);
    if (code != ESP_OK) {
        esp_model_free(bound);
        return code;
    }
    bound->n_edges = n_edges;
    *ret_model = bound;
    return ESP_OK;
}

int64_t esp_model_relus(const esp_model *model) {
    return model->graph ? esp_graph_relus(model->graph, model->n_objects, model->n_edges) : esp_net_relus(model->net);
}

int64_t esp_model_parameters(const esp_model *model) {
    return model->graph ? esp_graph_parameters(model->graph) : esp_net_parameters(model->net);
}

int64_t esp_model_nonzero(const esp_model *model) {
    return model->graph ? esp_graph_nonzero(model->graph) : esp_net_nonzero(model->net);
}
