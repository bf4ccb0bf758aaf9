/* SPDX-License-Identifier: Apache-2.0
 * The plain network of the HTTP interface: {"layers":[{"w","b","activation"}],"history","nu","frame"}.
 *
 * w is n_out x n_in. Without "activation" the last layer is identity and the others ReLU. For dynamics, ny is the
 * network's outputs (with a linear frame: the rows of "a") and nu defaults to 0; for a policy ny and nu are the
 * network's own sizes. Graph networks have a form of their own: graph_json.c. */
#include <stdlib.h>
#include <string.h>

#include "net/net_json.h"

static const char *const model_fields[] = {"layers", "history", "nu", "frame", NULL};
static const char *const layer_fields[] = {"w", "b", "activation", NULL};
/* As the values of esp_act. */
static const char *const act_names[] = {"zero", "relu", "identity", NULL};

/* n_out and n_in of one layer, from its "w"; the rows themselves are checked when they are read. */
static esp_code read_widths(const esp_reader *layer, int n_in, int *ret_n_in, int *ret_n_out, esp_error *reterr) {
    esp_reader w;
    size_t rows = 0, cols = 0;
    esp_code code = esp_read_object(layer, layer_fields, reterr);
    if (code == ESP_OK) code = esp_read_required(layer, "w", &w, reterr);
    if (code == ESP_OK) code = esp_read_array(&w, 1, ESP_MAX_WIDTH, &rows, reterr);
    if (code != ESP_OK) return code;
    esp_reader first = esp_read_element(&w, 0);
    code = esp_read_array(&first, n_in ? (size_t)n_in : 1, n_in ? (size_t)n_in : ESP_MAX_WIDTH, &cols, reterr);
    if (code != ESP_OK) return code;
    *ret_n_in = (int)cols;
    *ret_n_out = (int)rows;
    return ESP_OK;
}

static esp_code read_activation(const esp_reader *reader, size_t n, uint8_t *ret_act, esp_error *reterr) {
    int act = 0;
    size_t size = 0;
    if (!reader->value) return ESP_OK; /* the defaults of esp_net_create */
    if (esp_reader_kind(reader) == ESP_JSON_STRING) {
        static const char *const whole[] = {"relu", "identity", NULL};
        esp_code code = esp_read_choice(reader, whole, &act, reterr);
        if (code == ESP_OK) memset(ret_act, act == 0 ? ESP_ACT_RELU : ESP_ACT_IDENTITY, n);
        return code;
    }
    esp_code code = esp_read_array(reader, n, n, &size, reterr);
    for (size_t i = 0; code == ESP_OK && i < n; i++) {
        esp_reader element = esp_read_element(reader, i);
        if (esp_reader_kind(&element) != ESP_JSON_STRING) return esp_refuse(&element, reterr, "must be \"relu\", \"identity\" or \"zero\"");
        code = esp_read_choice(&element, act_names, &act, reterr);
        if (code == ESP_OK) ret_act[i] = (uint8_t)act;
    }
    return code;
}

static esp_code read_layer(const esp_reader *reader, esp_layer *layer, esp_error *reterr) {
    size_t n_in = (size_t)layer->n_in, n_out = (size_t)layer->n_out;
    esp_reader w = esp_read_member(reader, "w"), activation = esp_read_member(reader, "activation"), b;
    esp_code code = esp_read_matrix(&w, n_out, n_in, layer->w, reterr);
    if (code == ESP_OK) code = esp_read_required(reader, "b", &b, reterr);
    if (code == ESP_OK) code = esp_read_vector(&b, n_out, layer->b, reterr);
    if (code == ESP_OK) code = read_activation(&activation, n_out, layer->act, reterr);
    return code;
}

esp_code esp_net_parse_json(const esp_reader *layers, esp_net **ret_net, esp_error *reterr) {
    int widths[ESP_MAX_LAYERS + 1] = {0};
    esp_net *net = NULL;
    size_t n = 0;
    esp_code code = esp_read_array(layers, 1, ESP_MAX_LAYERS, &n, reterr);
    for (size_t l = 0; code == ESP_OK && l < n; l++) {
        esp_reader layer = esp_read_element(layers, l);
        code = read_widths(&layer, widths[l], &widths[l], &widths[l + 1], reterr);
    }
    if (code != ESP_OK) return code;
    esp_error why;
    code = esp_net_create((int)n, widths, &net, &why);
    if (code != ESP_OK) return code == ESP_INVALID ? esp_refuse(layers, reterr, "%s", why.message) : esp_fail(reterr, code, "%s", why.message);
    for (size_t l = 0; code == ESP_OK && l < n; l++) {
        esp_reader layer = esp_read_element(layers, l);
        code = read_layer(&layer, &net->layers[l], reterr);
    }
    if (code != ESP_OK) {
        esp_net_free(net);
        return code;
    }
    *ret_net = net;
    return ESP_OK;
}

/* What a model has besides its network. */
typedef struct surroundings {
    int ny, nu, history;
    esp_frame frame;
} surroundings;

/* ny, the frame, and that the network fits both. */
static esp_code read_dynamics(const esp_reader *root, const esp_reader *layers, const esp_net *net, esp_arena *arena, surroundings *ret,
                              esp_error *reterr) {
    esp_reader frame = esp_read_member(root, "frame"), nu = esp_read_member(root, "nu");
    size_t ny = (size_t)esp_net_outputs(net);
    int f_in = 0, f_out = 0;
    esp_code code = ESP_OK;
    if (esp_reader_kind(&frame) == ESP_JSON_OBJECT) {
        esp_reader a;
        code = esp_read_required(&frame, "a", &a, reterr);
        if (code == ESP_OK) code = esp_read_array(&a, 1, ESP_MAX_WIDTH, &ny, reterr);
    }
    ret->ny = (int)ny;
    if (code == ESP_OK) code = esp_read_int(&nu, 0, ESP_MAX_WIDTH, &ret->nu, reterr);
    if (code == ESP_OK) code = esp_frame_parse(&frame, ret->ny, ret->nu, ret->history, arena, &ret->frame, &f_in, &f_out, reterr);
    if (code != ESP_OK) return code;
    if (esp_net_inputs(net) != f_in) {
        if (ret->frame.kind == ESP_FRAME_LINEAR)
            return esp_refuse(&frame, reterr, "c gives the network %d inputs, it has %d", f_in, esp_net_inputs(net));
        esp_reader layer = esp_read_element(layers, 0), w = esp_read_member(&layer, "w");
        return esp_refuse(&w, reterr, "has %d inputs; history %d * (ny %d + nu %d) = %d are needed", esp_net_inputs(net), ret->history, ret->ny,
                          ret->nu, f_in);
    }
    if (esp_net_outputs(net) != f_out) return esp_refuse(&frame, reterr, "g takes %d outputs of the network, it has %d", f_out, esp_net_outputs(net));
    return ESP_OK;
}

static esp_code read_policy(const esp_reader *root, const esp_net *net, surroundings *ret, esp_error *reterr) {
    esp_reader frame = esp_read_member(root, "frame"), nu = esp_read_member(root, "nu"), history = esp_read_member(root, "history");
    *ret = (surroundings){esp_net_inputs(net), esp_net_outputs(net), 1, {.kind = ESP_FRAME_NONE}};
    if (frame.value) return esp_refuse(&frame, reterr, "a policy has no frame");
    esp_code code = esp_read_int(&history, 1, 1, &ret->history, reterr);
    if (code == ESP_OK) code = esp_read_int(&nu, ret->nu, ret->nu, &ret->nu, reterr);
    return code;
}

esp_code esp_model_parse_json(const esp_reader *reader, esp_model_kind kind, esp_model **ret_model, esp_error *reterr) {
    surroundings shape = {.history = 1};
    esp_net *net = NULL;
    if (esp_reader_kind(reader) == ESP_JSON_OBJECT && esp_read_member(reader, "graph").value) {
        if (kind == ESP_MODEL_DYNAMICS) return esp_graph_parse_json(reader, ret_model, reterr);
        esp_reader graph = esp_read_member(reader, "graph");
        return esp_refuse(&graph, reterr, "a policy is a plain network");
    }
    esp_arena *arena = esp_arena_create(0);
    esp_code code = arena ? esp_read_object(reader, model_fields, reterr) : esp_fail(reterr, ESP_NOMEM, "a model");
    esp_reader layers = {0}, history = esp_read_member(reader, "history");
    if (code == ESP_OK) code = esp_read_required(reader, "layers", &layers, reterr);
    if (code == ESP_OK) code = esp_net_parse_json(&layers, &net, reterr);
    if (code == ESP_OK) code = esp_read_int(&history, 1, ESP_MAX_HISTORY, &shape.history, reterr);
    if (code == ESP_OK)
        code = kind == ESP_MODEL_POLICY ? read_policy(reader, net, &shape, reterr) : read_dynamics(reader, &layers, net, arena, &shape, reterr);
    if (code == ESP_OK) {
        code = esp_model_create(kind, shape.ny, shape.nu, shape.history, &shape.frame, net, ret_model, reterr);
        net = NULL;
    }
    esp_net_free(net);
    esp_arena_free(arena);
    return code;
}

static void put_activation(esp_jsonw *w, const esp_layer *layer) {
    int same = 1;
    while (same < layer->n_out && layer->act[same] == layer->act[0]) same++;
    if (same == layer->n_out && layer->act[0] != ESP_ACT_ZERO) {
        esp_jsonw_string(w, "activation", act_names[layer->act[0]]);
        return;
    }
    esp_jsonw_array(w, "activation");
    for (int i = 0; i < layer->n_out; i++) esp_jsonw_string(w, NULL, act_names[layer->act[i]]);
    esp_jsonw_array_end(w);
}

static void put_frame(esp_jsonw *w, const esp_model *model) {
    const esp_frame *frame = &model->frame;
    if (frame->kind == ESP_FRAME_RESIDUAL) esp_jsonw_string(w, "frame", "residual");
    if (frame->kind != ESP_FRAME_LINEAR) return;
    size_t ny = (size_t)model->ny, n_yh = (size_t)model->history * ny, n_uh = (size_t)model->history * (size_t)model->nu;
    size_t f_in = (size_t)esp_net_inputs(model->net), f_out = (size_t)esp_net_outputs(model->net);
    esp_jsonw_object(w, "frame");
    esp_jsonw_matrix(w, "a", frame->a, ny, n_yh);
    esp_jsonw_matrix(w, "b", frame->b, ny, n_uh);
    esp_jsonw_matrix(w, "c", frame->c, f_in, n_yh);
    esp_jsonw_matrix(w, "d", frame->d, f_in, n_uh);
    esp_jsonw_matrix(w, "g", frame->g, ny, f_out);
    esp_jsonw_object_end(w);
}

void esp_net_format_json(const esp_net *net, const char *key, esp_jsonw *w) {
    esp_jsonw_array(w, key);
    for (int l = 0; l < net->n_layers; l++) {
        const esp_layer *layer = &net->layers[l];
        esp_jsonw_object(w, NULL);
        esp_jsonw_matrix(w, "w", layer->w, (size_t)layer->n_out, (size_t)layer->n_in);
        esp_jsonw_vector(w, "b", layer->b, (size_t)layer->n_out);
        put_activation(w, layer);
        esp_jsonw_object_end(w);
    }
    esp_jsonw_array_end(w);
}

void esp_model_format_json(const esp_model *model, esp_jsonw *w) {
    if (model->graph) {
        esp_graph_format_json(model, w);
        return;
    }
    esp_jsonw_object(w, NULL);
    esp_net_format_json(model->net, "layers", w);
    esp_jsonw_integer(w, "history", model->history);
    esp_jsonw_integer(w, "nu", model->nu);
    put_frame(w, model);
    esp_jsonw_object_end(w);
}
