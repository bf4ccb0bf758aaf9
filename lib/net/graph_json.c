/* SPDX-License-Identifier: Apache-2.0
 * A graph network as JSON: {"ny","nu","graph":{"objects","points","radius","rounds", the five networks, "shared"}}.
 *
 * ny is that of `objects/count`. A network is an array of layers, as in a plain model. "shared" holds a, b and c of the
 * numbers that are no object's, and is left out when there are none. */
#include <stdlib.h>
#include <string.h>

#include "net/net_json.h"

static const char *const root_fields[] = {"ny", "nu", "graph", NULL};
static const char *const graph_fields[] = {"objects", "points", "radius", "rounds", "node", "edge", "message", "update", "output", "shared", NULL};
static const char *const shared_fields[] = {"a", "b", "c", NULL};

/* Into one block: a, b, c. Zero for what is absent. */
static esp_code read_shared(const esp_reader *graph, const esp_graph_layout *l, esp_arena *arena, double **ret, esp_error *reterr) {
    size_t q = (size_t)l->n_shared, nu = (size_t)l->nu;
    double *values = ESP_NEW(arena, double, q *(q + nu + 1) + 1);
    esp_reader shared = esp_read_member(graph, "shared"), a = {0}, b = {0}, c = {0};
    if (!values) return esp_fail(reterr, ESP_NOMEM, "%zu shared numbers", q);
    *ret = values;
    if (!shared.value && q == 0) return ESP_OK;
    esp_code code = esp_read_required(graph, "shared", &shared, reterr);
    if (code == ESP_OK) code = esp_read_object(&shared, shared_fields, reterr);
    if (code == ESP_OK) code = esp_read_required(&shared, "a", &a, reterr);
    if (code == ESP_OK) code = esp_read_matrix(&a, q, q, values, reterr);
    if (code == ESP_OK && nu) code = esp_read_required(&shared, "b", &b, reterr);
    if (code == ESP_OK && nu) code = esp_read_matrix(&b, q, nu, values + q * q, reterr);
    if (code == ESP_OK) code = esp_read_required(&shared, "c", &c, reterr);
    return code == ESP_OK ? esp_read_vector(&c, q, values + q * (q + nu), reterr) : code;
}

static esp_code read_blocks(const esp_reader *graph, esp_net *ret[ESP_BLOCKS], esp_error *reterr) {
    esp_code code = ESP_OK;
    for (int k = 0; code == ESP_OK && k < ESP_BLOCKS; k++) {
        esp_reader layers;
        code = esp_read_required(graph, esp_block_names[k], &layers, reterr);
        if (code == ESP_OK) code = esp_net_parse_json(&layers, &ret[k], reterr);
    }
    return code;
}

static esp_code read_graph(const esp_reader *reader, int ny, int nu, esp_arena *arena, esp_graph **ret_graph, esp_error *reterr) {
    esp_graph_layout layout;
    esp_net *blocks[ESP_BLOCKS] = {NULL};
    double *shared = NULL;
    esp_error why = {0};
    esp_code code = esp_read_object(reader, graph_fields, reterr);
    if (code == ESP_OK) code = esp_graph_layout_parse(reader, ny, nu, &layout, reterr);
    if (code == ESP_OK) code = read_shared(reader, &layout, arena, &shared, reterr);
    if (code == ESP_OK) code = read_blocks(reader, blocks, reterr);
    if (code != ESP_OK) {
        for (int k = 0; k < ESP_BLOCKS; k++) esp_net_free(blocks[k]);
        return code;
    }
    size_t q = (size_t)layout.n_shared;
    code = esp_graph_create(&layout, blocks, shared, shared + q * q, shared + q * (q + (size_t)nu), ret_graph, &why);
    if (code == ESP_INVALID) return esp_refuse(reader, reterr, "%s", why.message);
    return code == ESP_OK ? ESP_OK : esp_fail(reterr, code, "%s", why.message);
}

esp_code esp_graph_parse_json(const esp_reader *root, esp_model **ret_model, esp_error *reterr) {
    esp_reader graph, width, nu = esp_read_member(root, "nu");
    esp_graph *made = NULL;
    int ny = 0, n_u = 0;
    esp_arena *arena = esp_arena_create(0);
    esp_code code = arena ? esp_read_object(root, root_fields, reterr) : esp_fail(reterr, ESP_NOMEM, "a model");
    if (code == ESP_OK) code = esp_read_required(root, "ny", &width, reterr);
    if (code == ESP_OK) code = esp_read_int(&width, 1, ESP_MAX_WIDTH, &ny, reterr);
    if (code == ESP_OK) code = esp_read_int(&nu, 0, ESP_MAX_WIDTH, &n_u, reterr);
    if (code == ESP_OK) code = esp_read_required(root, "graph", &graph, reterr);
    if (code == ESP_OK) code = read_graph(&graph, ny, n_u, arena, &made, reterr);
    if (code == ESP_OK) code = esp_model_create_graph(made, ret_model, reterr);
    esp_arena_free(arena);
    return code;
}

void esp_graph_format_json(const esp_model *model, esp_jsonw *w) {
    const esp_graph *graph = model->graph;
    size_t q = (size_t)graph->layout.n_shared, nu = (size_t)graph->layout.nu;
    esp_jsonw_object(w, NULL);
    esp_jsonw_integer(w, "ny", esp_graph_ny(&graph->layout, graph->layout.objects));
    esp_jsonw_integer(w, "nu", graph->layout.nu);
    esp_jsonw_object(w, "graph");
    esp_graph_layout_format(&graph->layout, w);
    for (int k = 0; k < ESP_BLOCKS; k++) esp_net_format_json(graph->block[k], esp_block_names[k], w);
    if (q) {
        esp_jsonw_object(w, "shared");
        esp_jsonw_matrix(w, "a", graph->a, q, q);
        esp_jsonw_matrix(w, "b", graph->b, q, nu);
        esp_jsonw_vector(w, "c", graph->c, q);
        esp_jsonw_object_end(w);
    }
    esp_jsonw_object_end(w);
    esp_jsonw_object_end(w);
}

void esp_graph_format_summary(const esp_graph *graph, const char *key, esp_jsonw *w) {
    const esp_graph_layout *l = &graph->layout;
    esp_jsonw_object(w, key);
    esp_jsonw_integer(w, "objects", l->objects);
    esp_jsonw_integer(w, "size", l->size);
    esp_jsonw_integer(w, "first", l->first);
    esp_jsonw_integer(w, "shared", l->n_shared);
    esp_jsonw_number(w, "radius", l->radius); /* null when all are joined */
    esp_jsonw_integer(w, "rounds", l->rounds);
    esp_jsonw_integer(w, "relu_per_object", esp_graph_relus(graph, 1, 0));
    esp_jsonw_integer(w, "relu_per_edge", esp_graph_relus(graph, 0, 1));
    esp_jsonw_integer(w, "neurons", esp_graph_neurons(graph));
    esp_jsonw_object_end(w);
}
