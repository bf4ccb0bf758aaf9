/* SPDX-License-Identifier: Apache-2.0
 * Folding of the normalisation into the weights, and validation. */
#include "train/emit.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static void copy_layer(const esp_mlp *mlp, const float *params, int l, esp_layer *ret_layer) {
    size_t n_out = (size_t)ret_layer->n_out, n_in = (size_t)ret_layer->n_in;
    for (size_t i = 0; i < n_out * n_in; i++) ret_layer->w[i] = (double)params[mlp->weight[l] + i];
    for (size_t i = 0; i < n_out; i++) ret_layer->b[i] = (double)params[mlp->bias[l] + i];
}

void esp_emit_inputs(const double *mean, const double *scale, esp_layer *layer) {
    for (int i = 0; i < layer->n_out; i++)
        for (int j = 0; j < layer->n_in; j++) {
            double *w = &layer->w[(size_t)i * (size_t)layer->n_in + (size_t)j];
            *w /= scale[j];
            layer->b[i] -= *w * mean[j];
        }
}

void esp_emit_outputs(const double *mean, const double *scale, esp_layer *layer) {
    for (int i = 0; i < layer->n_out; i++) {
        for (int j = 0; j < layer->n_in; j++) layer->w[(size_t)i * (size_t)layer->n_in + (size_t)j] *= scale[i];
        layer->b[i] = layer->b[i] * scale[i] + mean[i];
    }
}

static void copy_masks(const esp_mlp *mlp, const esp_ladder *ladder, esp_net *net) {
    for (int l = 0; l < mlp->n_layers - 1; l++)
        for (int i = 0; i < net->layers[l].n_out; i++) {
            uint8_t state = ladder->state[mlp->neuron[l] + (size_t)i];
            net->layers[l].act[i] = state == ESP_UNDECIDED ? ESP_ACT_RELU : state;
        }
}

/* What leads to a zero neuron and from it has no effect: it is zero in the model too, and is not counted as a weight. */
static void clear_zeros(esp_net *net) {
    for (int l = 0; l < net->n_layers - 1; l++) {
        esp_layer *layer = &net->layers[l], *next = layer + 1;
        for (int i = 0; i < layer->n_out; i++) {
            if (layer->act[i] != ESP_ACT_ZERO) continue;
            for (int j = 0; j < layer->n_in; j++) layer->w[(size_t)i * (size_t)layer->n_in + (size_t)j] = 0;
            layer->b[i] = 0;
            for (int k = 0; k < next->n_out; k++) next->w[(size_t)k * (size_t)next->n_in + (size_t)i] = 0;
        }
    }
}

esp_code esp_emit_net(const esp_mlp *mlp, const float *params, const esp_scales *scales, esp_net **ret_net, esp_error *reterr) {
    esp_net *net = NULL;
    esp_code code = esp_net_create(mlp->n_layers, mlp->width, &net, reterr);
    if (code != ESP_OK) return code;
    for (int l = 0; l < mlp->n_layers; l++) copy_layer(mlp, params, l, &net->layers[l]);
    esp_emit_inputs(scales->in_mean, scales->in_scale, &net->layers[0]);
    esp_emit_outputs(scales->out_mean, scales->out_scale, &net->layers[net->n_layers - 1]);
    *ret_net = net;
    return ESP_OK;
}

esp_code esp_emit_model(const esp_mlp *mlp, const float *params, const esp_ladder *ladder, const esp_windows *windows, const esp_frame *frame, int nu,
                        esp_model **ret_model, esp_error *reterr) {
    const esp_scales scales = {windows->in_mean, windows->in_scale, windows->out_mean, windows->out_scale};
    esp_net *net = NULL;
    esp_code code = esp_emit_net(mlp, params, &scales, &net, reterr);
    if (code != ESP_OK) return code;
    copy_masks(mlp, ladder, net);
    clear_zeros(net);
    code = esp_net_check(net, reterr);
    if (code != ESP_OK) {
        esp_net_free(net);
        return code;
    }
    return esp_model_create(ESP_MODEL_DYNAMICS, windows->ny, nu, windows->history, frame, net, ret_model, reterr);
}

typedef struct evaluation {
    const esp_model *model;
    const esp_dataset *dataset;
    const esp_windows *windows;
    double *x, *v, *f, *work, *memory;
    double *predicted; /* ESP_EMIT_STEPS x ny */
    esp_edge *edges; /* of a graph, at the state at hand */
} evaluation;

/* A graph is predicted with as many objects as it was trained with. */
static esp_code prepare_graph(evaluation *e, esp_error *reterr) {
    const esp_graph *graph = e->model->graph;
    size_t n = (size_t)graph->layout.objects, ny = (size_t)e->model->ny, n_x = (size_t)esp_model_n_x(e->model);
    e->memory = calloc(n_x + ESP_EMIT_STEPS * ny + esp_graph_work(graph, (int)n, (int)(n * (n - 1))), sizeof *e->memory);
    e->edges = calloc(n * n, sizeof *e->edges);
    if (!e->memory || !e->edges) return esp_fail(reterr, ESP_NOMEM, "validation");
    e->x = e->memory;
    e->predicted = e->x + n_x;
    e->work = e->predicted + ESP_EMIT_STEPS * ny;
    return ESP_OK;
}

static esp_code prepare(evaluation *e, esp_error *reterr) {
    if (e->model->graph) return prepare_graph(e, reterr);
    size_t n_x = (size_t)esp_model_n_x(e->model), n_in = (size_t)esp_net_inputs(e->model->net), n_out = (size_t)esp_net_outputs(e->model->net);
    size_t work = 2 * (size_t)esp_net_widest(e->model->net), ny = (size_t)e->model->ny;
    e->memory = calloc(n_x + n_in + n_out + work + ESP_EMIT_STEPS * ny, sizeof *e->memory);
    if (!e->memory) return esp_fail(reterr, ESP_NOMEM, "validation");
    e->x = e->memory;
    e->v = e->x + n_x;
    e->f = e->v + n_in;
    e->work = e->f + n_out;
    e->predicted = e->work + work;
    return ESP_OK;
}

static void predict_graph(evaluation *e, double *ret_y) {
    const esp_graph *graph = e->model->graph;
    int n_edges = esp_graph_edges(&graph->layout, e->model->n_objects, e->x, e->edges);
    esp_graph_forward(graph, e->model->n_objects, e->edges, n_edges, e->x, ret_y, e->work);
}

/* y(t+1) of e->x; ret (ny). */
static void predict(evaluation *e, double *ret_y) {
    const esp_model *m = e->model;
    if (m->graph) {
        predict_graph(e, ret_y);
        return;
    }
    int n_in = esp_net_inputs(m->net), n_out = esp_net_outputs(m->net);
    esp_frame_input(&m->frame, m->ny, m->nu, m->history, n_in, e->x, e->v);
    esp_net_forward(m->net, e->v, e->f, e->work);
    esp_frame_known(&m->frame, m->ny, m->nu, m->history, e->x, ret_y);
    for (int i = 0; i < m->ny; i++) {
        if (m->frame.kind != ESP_FRAME_LINEAR)
            ret_y[i] += e->f[i];
        else
            for (int j = 0; j < n_out; j++) ret_y[i] += m->frame.g[(size_t)i * (size_t)n_out + (size_t)j] * e->f[j];
    }
}

/* Sum of squared errors over `steps` steps from transition t of the trajectory at `row`. */
static double rollout(evaluation *e, size_t row, size_t t, size_t steps) {
    size_t ny = (size_t)e->model->ny, h = (size_t)e->model->history;
    double sum = 0;
    for (size_t k = 0; k < steps; k++) {
        esp_windows_x(e->dataset, e->model->history, row, t + k, e->x);
        size_t own = k < h ? k : h; /* outputs of the history that are predictions by now */
        memcpy(e->x + (h - own) * ny, e->predicted + (k - own) * ny, own * ny * sizeof *e->x);
        double *y = e->predicted + k * ny;
        const double *truth = e->dataset->y + (row + t + k + 1) * ny;
        predict(e, y);
        for (size_t i = 0; i < ny; i++) sum += (y[i] - truth[i]) * (y[i] - truth[i]);
    }
    return sum;
}

/* Transitions with history in trajectory o of the order. */
static size_t transitions(const evaluation *e, size_t o) {
    size_t i = e->windows->order[o], observations = e->dataset->start[i + 1] - e->dataset->start[i], h = (size_t)e->windows->history;
    return observations > h ? observations - h : 0;
}

/* First trajectory of the order that validates. */
static size_t first_validation(const esp_windows *windows) {
    return windows->validation_begin == 0 ? 0 : windows->n_train;
}

static esp_code measure(evaluation *e, size_t steps, size_t cap, esp_code (*pulse)(void *user, esp_error *reterr), void *user, double *ret_rmse,
                        esp_error *reterr) {
    const esp_windows *w = e->windows;
    size_t rows = 0, row = 0;
    for (size_t o = first_validation(w); o < w->n_order; o++) rows += transitions(e, o) >= steps ? transitions(e, o) - steps + 1 : 0;
    size_t stride = rows > cap ? (rows + cap - 1) / cap : 1;
    double sum = 0;
    for (size_t o = first_validation(w); o < w->n_order; o++)
        for (size_t r = 0; r + steps <= transitions(e, o); r++, row++) {
            if (row % stride != 0) continue;
            esp_code code = pulse ? pulse(user, reterr) : ESP_OK;
            if (code != ESP_OK) return code;
            sum += rollout(e, e->dataset->start[w->order[o]], r + (size_t)w->history - 1, steps);
        }
    size_t counted = (rows + stride - 1) / stride;
    *ret_rmse = sqrt(sum / ((double)counted * (double)steps * (double)w->ny));
    if (!isfinite(*ret_rmse))
        return esp_fail_at(reterr, ESP_NUMERIC, "/learning_rate",
                           "the model's prediction over %zu steps is not finite: lower /learning_rate, set /clip to 1%s", steps,
                           steps > 1 ? ", or train over a longer /rollout" : "");
    return ESP_OK;
}

static size_t longest(const evaluation *e) {
    size_t most = 0;
    for (size_t o = first_validation(e->windows); o < e->windows->n_order; o++)
        if (transitions(e, o) > most) most = transitions(e, o);
    return most < ESP_EMIT_STEPS ? most : ESP_EMIT_STEPS;
}

esp_code esp_emit_errors(const esp_model *model, const esp_dataset *dataset, const esp_windows *windows,
                         esp_code (*pulse)(void *user, esp_error *reterr), void *user, double *ret_one_step, double *ret_rollout, esp_error *reterr) {
    evaluation e = {.model = model, .dataset = dataset, .windows = windows};
    double one_step = 0, open_loop = 0;
    esp_code code = prepare(&e, reterr);
    if (code == ESP_OK) code = measure(&e, 1, ESP_EMIT_ONE_STEP_ROWS, pulse, user, &one_step, reterr);
    if (code == ESP_OK) code = measure(&e, longest(&e), ESP_EMIT_ROLLOUT_ROWS, pulse, user, &open_loop, reterr);
    if (code == ESP_OK) {
        *ret_one_step = one_step;
        *ret_rollout = open_loop;
    }
    free(e.memory);
    free(e.edges);
    return code;
}
