/* SPDX-License-Identifier: Apache-2.0
 * What a `train` job's spec says of the network: {"type":"mlp","hidden"}, or {"type":"graph"} with the layout of its objects
 * (net/graph.h) and the widths of its networks. */
#include <string.h>

#include "train/opts_parts.h"

static const char *const types[] = {"mlp", "graph", NULL};
static const char *const mlp_fields[] = {"type", "hidden", NULL};
static const char *const graph_fields[] = {"type", "objects", "points", "radius", "rounds", "node", "edge", "width", "output", NULL};

static esp_code read_widths(const esp_reader *list, int *ret_n, int *ret_widths, esp_error *reterr) {
    size_t n = 0;
    esp_code code = esp_read_array(list, 0, ESP_MAX_HIDDEN, &n, reterr);
    for (size_t i = 0; code == ESP_OK && i < n; i++) {
        esp_reader width = esp_read_element(list, i);
        code = esp_read_int(&width, 1, ESP_MAX_WIDTH, &ret_widths[i], reterr);
    }
    if (code == ESP_OK) *ret_n = (int)n;
    return code;
}

static esp_code read_mlp(const esp_reader *model, esp_train_opts *opts, esp_error *reterr) {
    esp_reader hidden;
    esp_code code = esp_read_object(model, mlp_fields, reterr);
    if (code == ESP_OK) code = esp_read_required(model, "hidden", &hidden, reterr);
    return code == ESP_OK ? read_widths(&hidden, &opts->n_hidden, opts->hidden, reterr) : code;
}

static esp_code read_graph(const esp_reader *model, int ny, int nu, esp_graph_opts *g, esp_error *reterr) {
    struct {
        const char *key;
        int *n, *widths;
    } lists[] = {{"node", &g->n_node, g->node}, {"edge", &g->n_edge, g->edge}, {"output", &g->n_output, g->output}};
    *g = (esp_graph_opts){.width = 64};
    esp_code code = esp_read_object(model, graph_fields, reterr);
    if (code == ESP_OK) code = esp_graph_layout_parse(model, ny, nu, &g->layout, reterr);
    esp_reader width = esp_read_member(model, "width");
    if (code == ESP_OK) code = esp_read_int(&width, 1, ESP_MAX_WIDTH / 3, &g->width, reterr);
    for (size_t k = 0; code == ESP_OK && k < sizeof lists / sizeof *lists; k++) {
        esp_reader list = esp_read_member(model, lists[k].key);
        *lists[k].n = 1;
        lists[k].widths[0] = 64;
        if (list.value) code = read_widths(&list, lists[k].n, lists[k].widths, reterr);
    }
    return code;
}

esp_code esp_model_opts_parse(const esp_reader *spec, int ny, int nu, esp_train_opts *opts, esp_error *reterr) {
    esp_reader model, type;
    int kind = 0;
    esp_code code = esp_read_required(spec, "model", &model, reterr);
    if (code == ESP_OK && esp_reader_kind(&model) != ESP_JSON_OBJECT) code = esp_refuse(&model, reterr, "must be an object");
    if (code == ESP_OK) code = esp_read_required(&model, "type", &type, reterr);
    if (code == ESP_OK) code = esp_read_choice(&type, types, &kind, reterr);
    if (code != ESP_OK) return code;
    return kind == 1 ? read_graph(&model, ny, nu, &opts->graph, reterr) : read_mlp(&model, opts, reterr);
}

static int sum(const int *values, int n) {
    int total = 0;
    for (int i = 0; i < n; i++) total += values[i];
    return total;
}

int esp_model_opts_neurons(const esp_train_opts *opts) {
    const esp_graph_opts *g = &opts->graph;
    if (!g->width) return sum(opts->hidden, opts->n_hidden);
    return 4 * g->width + sum(g->node, g->n_node) + sum(g->edge, g->n_edge) + sum(g->output, g->n_output);
}

/* Of a chain from `in` through n hidden widths to `out`. */
static int64_t parameters_of(int64_t in, const int *hidden, int n, int64_t out) {
    int64_t count = 0;
    for (int i = 0; i < n; i++) {
        count += (in + 1) * hidden[i];
        in = hidden[i];
    }
    return count + (in + 1) * out;
}

esp_code esp_model_opts_check(const esp_reader *spec, const esp_train_opts *opts, esp_error *reterr) {
    const esp_graph_opts *g = &opts->graph;
    esp_reader model = esp_read_member(spec, "model"), member = esp_read_member(&model, g->width ? "width" : "hidden");
    int64_t w = g->width, parameters = 0;
    if (!w) {
        parameters = parameters_of(opts->f_in, opts->hidden, opts->n_hidden, opts->f_out);
    } else {
        parameters = parameters_of(esp_graph_node_inputs(&g->layout), g->node, g->n_node, w) +
                     parameters_of(esp_graph_edge_inputs(&g->layout), g->edge, g->n_edge, w) + (3 * w + 1) * w + (2 * w + 1) * w +
                     parameters_of(2 * w, g->output, g->n_output, g->layout.size);
    }
    if (parameters <= ESP_MAX_PARAMETERS) return ESP_OK;
    return esp_refuse(member.value ? &member : &model, reterr, "makes %lld parameters, more than %d", (long long)parameters, ESP_MAX_PARAMETERS);
}

/* What looks at the layers of plain networks (train/compact.h, train/rollout.h). */
esp_code esp_graph_opts_check(const esp_reader *spec, const esp_train_opts *opts, esp_error *reterr) {
    const struct {
        const char *field;
        bool asked;
    } plain[] = {{"proof_weight", opts->proof_weight > 0}, {"rounding", opts->rounding > 0}, {"threads", opts->threads > 1}};
    for (size_t i = 0; i < sizeof plain / sizeof *plain; i++) {
        esp_reader member = esp_read_member(spec, plain[i].field);
        if (plain[i].asked) return esp_refuse(&member, reterr, "is for plain networks only");
    }
    return ESP_OK;
}

/* A graph network has its own frame, and sees one observation. */
esp_code esp_model_opts_frame(const esp_reader *spec, esp_train_opts *opts, esp_error *reterr) {
    esp_reader frame = esp_read_member(spec, "frame"), history = esp_read_member(spec, "history");
    if (!opts->graph.width) return ESP_OK;
    if (opts->frame.kind == ESP_FRAME_LINEAR) return esp_refuse(&frame, reterr, "a graph network's frame is \"residual\"");
    if (opts->history != 1) return esp_refuse(&history, reterr, "a graph network sees one observation: put speeds into the objects' numbers");
    opts->frame = (esp_frame){.kind = ESP_FRAME_RESIDUAL};
    return esp_graph_opts_check(spec, opts, reterr);
}

void esp_integers_format(esp_jsonw *w, const char *key, const int *values, int n) {
    esp_jsonw_array(w, key);
    for (int i = 0; i < n; i++) esp_jsonw_integer(w, NULL, values[i]);
    esp_jsonw_array_end(w);
}

void esp_model_opts_format(const esp_train_opts *opts, esp_jsonw *w) {
    const esp_graph_opts *g = &opts->graph;
    esp_jsonw_object(w, "model");
    esp_jsonw_string(w, "type", types[g->width != 0]);
    if (!g->width) {
        esp_integers_format(w, "hidden", opts->hidden, opts->n_hidden);
    } else {
        esp_graph_layout_format(&g->layout, w);
        esp_integers_format(w, "node", g->node, g->n_node);
        esp_integers_format(w, "edge", g->edge, g->n_edge);
        esp_jsonw_integer(w, "width", g->width);
        esp_integers_format(w, "output", g->output, g->n_output);
    }
    esp_jsonw_object_end(w);
}
