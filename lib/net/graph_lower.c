/* SPDX-License-Identifier: Apache-2.0
 * Lowering of a graph network for n objects and their edges to a ReLU program, by exact substitution as in lower.c.
 *
 * A layer is lowered for all its copies before the next begins, and both encoders side by side, so that ReLUs that do not
 * depend on each other share a level. Sums over messages are rows; everything else is a term or a row per neuron, and a
 * neuron that is zero is neither. Coefficients are sums of products of weights: the program equals the network up to
 * rounding, not to the bit. */
#include <stdlib.h>
#include <string.h>

#include "net/lower_parts.h"
#include "net/program.h"
#include "net/program_make.h"

/* A layer's outputs, of all copies. */
typedef struct values {
    int width;
    esp_term *terms; /* copies x width */
    double *rows; /* room for those that are rows */
    size_t n_rows;
} values;

/* What a layer reads: of each part the copy `which` says, or the copy itself. */
typedef struct part {
    const values *of;
    const int *which;
} part;

typedef struct lowering {
    esp_lowering base;
    const esp_graph *graph;
    int n, n_edges;
    const esp_edge *edges;
    int *to, *from; /* n_edges */
    values h, e, g; /* of the encoders, and the state of the rounds */
} lowering;

static void values_done(values *v) {
    free(v->terms);
    free(v->rows);
    *v = (values){0};
}

static esp_code values_init(const lowering *low, int copies, int width, size_t rows, values *ret, esp_error *reterr) {
    *ret = (values){.width = width};
    ret->terms = calloc((size_t)copies * (size_t)width + 1, sizeof *ret->terms);
    ret->rows = calloc(rows * low->base.width + 1, sizeof *ret->rows);
    if (ret->terms && ret->rows) return ESP_OK;
    values_done(ret);
    return esp_fail(reterr, ESP_NOMEM, "lowering %d copies of a layer of %d", copies, width);
}

/* Row for a term, all zero. */
static double *take_row(const lowering *low, values *v, esp_term *ret_term) {
    double *row = v->rows + v->n_rows++ * low->base.width;
    *ret_term = (esp_term){ESP_TERM_ROW, 0, row};
    return row;
}

/* ---- layers ---- */

static int count_rows(const esp_layer *layer) {
    int n = 0;
    for (int i = 0; i < layer->n_out; i++) n += layer->act[i] == ESP_ACT_IDENTITY;
    return n;
}

/* low->row = b + W (parts) of one copy's neuron. */
static void sum_inputs(lowering *low, const esp_layer *layer, int neuron, const part *parts, int n_parts, int copy, size_t used) {
    const double *w = layer->w + (size_t)neuron * (size_t)layer->n_in;
    esp_lowering_begin(&low->base, layer->b[neuron]);
    for (int p = 0; p < n_parts; p++) {
        const values *v = parts[p].of;
        const esp_term *terms = v->terms + (size_t)(parts[p].which ? parts[p].which[copy] : copy) * (size_t)v->width;
        for (int j = 0; j < v->width; j++) esp_lowering_add(&low->base, terms[j], w[j], used, low->base.row);
        w += v->width;
    }
}

static esp_code lower_layer(lowering *low, const esp_layer *layer, int copies, const part *parts, int n_parts, const values *residual, values *ret,
                            esp_error *reterr) {
    size_t used = esp_lowering_used(&low->base);
    esp_code code = values_init(low, copies, layer->n_out, (size_t)copies * (size_t)count_rows(layer), ret, reterr);
    for (int copy = 0; code == ESP_OK && copy < copies; copy++)
        for (int i = 0; i < layer->n_out; i++) {
            size_t at = (size_t)copy * (size_t)layer->n_out + (size_t)i;
            if (layer->act[i] == ESP_ACT_ZERO) continue;
            sum_inputs(low, layer, i, parts, n_parts, copy, used);
            if (residual) esp_lowering_add(&low->base, residual->terms[at], 1, used, low->base.row);
            if (layer->act[i] == ESP_ACT_RELU)
                ret->terms[at] = esp_lowering_relu(&low->base);
            else
                memcpy(take_row(low, ret, &ret->terms[at]), low->base.row, low->base.width * sizeof(double));
        }
    return code;
}

/* The layers of a block from layer `first` on; `last` (or NULL) is added before the last one's activation. *v, the values so far,
 * is moved on. */
static esp_code lower_rest(lowering *low, const esp_net *net, int first, int copies, const values *last, values *v, esp_error *reterr) {
    esp_code code = ESP_OK;
    for (int l = first; code == ESP_OK && l < net->n_layers; l++) {
        values next = {0};
        const part own = {v, NULL};
        code = lower_layer(low, &net->layers[l], copies, &own, 1, l == net->n_layers - 1 ? last : NULL, &next, reterr);
        values_done(v);
        *v = next;
    }
    return code;
}

static esp_code lower_block(lowering *low, esp_block block, int copies, const part *parts, int n_parts, const values *residual, values *ret,
                            esp_error *reterr) {
    const esp_net *net = low->graph->block[block];
    esp_code code = lower_layer(low, &net->layers[0], copies, parts, n_parts, net->n_layers == 1 ? residual : NULL, ret, reterr);
    return code == ESP_OK ? lower_rest(low, net, 1, copies, residual, ret, reterr) : code;
}

/* ---- the network ---- */

/* Row copies of `v`'s features: x itself, or a difference. */
static void see(const lowering *low, const esp_pick *picks, int copy, values *v) {
    for (int k = 0; k < v->width; k++) {
        esp_term *term = &v->terms[(size_t)copy * (size_t)v->width + (size_t)k];
        *term = (esp_term){ESP_TERM_X, picks[k].plus, NULL};
        if (picks[k].minus < 0) continue;
        double *row = take_row(low, v, term);
        row[1 + picks[k].plus] = 1;
        row[1 + picks[k].minus] = -1;
    }
}

static esp_code features(const lowering *low, values *ret_nodes, values *ret_edges, esp_error *reterr) {
    const esp_graph_layout *l = &low->graph->layout;
    esp_pick picks[ESP_MAX_FEATURES];
    int n_v = esp_graph_node_inputs(l), n_w = esp_graph_edge_inputs(l);
    esp_code code = values_init(low, low->n, n_v, (size_t)low->n * (size_t)(l->n_points * l->n_position), ret_nodes, reterr);
    if (code == ESP_OK) code = values_init(low, low->n_edges, n_w, (size_t)low->n_edges * (size_t)l->n_position, ret_edges, reterr);
    for (int i = 0; code == ESP_OK && i < low->n; i++) {
        esp_graph_node_picks(l, low->n, i, picks);
        see(low, picks, i, ret_nodes);
    }
    for (int e = 0; code == ESP_OK && e < low->n_edges; e++) {
        esp_graph_edge_picks(l, low->n, low->edges[e], picks);
        see(low, picks, e, ret_edges);
    }
    return code;
}

/* Both encoders, layer by layer side by side. */
static esp_code encode(lowering *low, esp_error *reterr) {
    const esp_net *const nets[2] = {low->graph->block[ESP_NODE], low->graph->block[ESP_EDGE]};
    const int copies[2] = {low->n, low->n_edges};
    values *const now[2] = {&low->h, &low->e};
    esp_code code = features(low, &low->h, &low->e, reterr);
    for (int l = 0; code == ESP_OK && (l < nets[0]->n_layers || l < nets[1]->n_layers); l++)
        for (int k = 0; code == ESP_OK && k < 2; k++) {
            const part own = {now[k], NULL};
            values next = {0};
            if (l >= nets[k]->n_layers) continue;
            code = lower_layer(low, &nets[k]->layers[l], copies[k], &own, 1, NULL, &next, reterr);
            values_done(now[k]);
            *now[k] = next;
        }
    return code;
}

/* sum_j m_ij as rows; nothing where no edge brings any. */
static esp_code sum_messages(lowering *low, const values *m, values *ret, esp_error *reterr) {
    size_t used = esp_lowering_used(&low->base);
    esp_code code = values_init(low, low->n, m->width, (size_t)low->n * (size_t)m->width, ret, reterr);
    for (int e = 0; code == ESP_OK && e < low->n_edges; e++)
        for (int k = 0; k < m->width; k++) {
            esp_term *sum = &ret->terms[(size_t)low->to[e] * (size_t)m->width + (size_t)k], more = m->terms[(size_t)e * (size_t)m->width + (size_t)k];
            if (more.kind == ESP_TERM_NONE) continue;
            if (sum->kind == ESP_TERM_NONE) (void)take_row(low, ret, sum);
            esp_lowering_add(&low->base, more, 1, used, ret->rows + (size_t)(sum->row - ret->rows));
        }
    return code;
}

static esp_code lower_round(lowering *low, esp_error *reterr) {
    const values *g = low->g.terms ? &low->g : &low->h; /* before the first round they are the same */
    const part heard[3] = {{&low->e, NULL}, {g, low->to}, {g, low->from}};
    values m = {0}, sum = {0}, next = {0};
    esp_code code = lower_block(low, ESP_MESSAGE, low->n_edges, heard, 3, NULL, &m, reterr);
    if (code == ESP_OK) code = sum_messages(low, &m, &sum, reterr);
    const part known[2] = {{&low->h, NULL}, {&sum, NULL}};
    if (code == ESP_OK) code = lower_block(low, ESP_UPDATE, low->n, known, 2, g, &next, reterr);
    values_done(&m);
    values_done(&sum);
    values_done(&low->g);
    low->g = next;
    return code;
}

/* Objects: s + output(h, g). */
static esp_code finish_objects(lowering *low, esp_error *reterr) {
    const esp_graph_layout *l = &low->graph->layout;
    const part known[2] = {{&low->h, NULL}, {&low->g, NULL}};
    values out = {0};
    esp_code code = lower_block(low, ESP_OUTPUT, low->n, known, 2, NULL, &out, reterr);
    for (int i = 0; code == ESP_OK && i < low->n; i++)
        for (int k = 0; k < l->size; k++) {
            int at = l->first + i * l->size + k;
            esp_lowering_begin(&low->base, 0);
            esp_lowering_add(&low->base, out.terms[i * l->size + k], 1, low->base.width, low->base.row);
            low->base.row[1 + at] += 1;
            esp_lowering_output(&low->base, (size_t)at);
        }
    values_done(&out);
    return code;
}

/* Shared numbers: A q + B u + c. */
static void finish_shared(lowering *low) {
    const esp_graph_layout *l = &low->graph->layout;
    int ny = esp_graph_ny(l, low->n);
    for (int r = 0; r < l->n_shared; r++) {
        double *row = low->base.row;
        esp_lowering_begin(&low->base, low->graph->c[r]);
        for (int k = 0; k < l->n_shared; k++) row[1 + esp_graph_shared(l, low->n, k)] = low->graph->a[(size_t)r * (size_t)l->n_shared + (size_t)k];
        for (int k = 0; k < l->nu; k++) row[1 + ny + k] = low->graph->b[(size_t)r * (size_t)l->nu + (size_t)k];
        esp_lowering_output(&low->base, (size_t)esp_graph_shared(l, low->n, r));
    }
}

static esp_code begin(lowering *low, esp_error *reterr) {
    int ny = esp_graph_ny(&low->graph->layout, low->n);
    int64_t n_r = esp_graph_relus(low->graph, low->n, low->n_edges);
    if (n_r > ESP_MAX_RELUS)
        return esp_fail(reterr, ESP_UNPROCESSABLE, "%lld ReLUs for %d objects with %d edges; at most %d are handled at once", (long long)n_r, low->n,
                        low->n_edges, ESP_MAX_RELUS);
    low->to = malloc(((size_t)low->n_edges + 1) * sizeof *low->to);
    low->from = malloc(((size_t)low->n_edges + 1) * sizeof *low->from);
    if (!low->to || !low->from) return esp_fail(reterr, ESP_NOMEM, "lowering %d edges", low->n_edges);
    for (int e = 0; e < low->n_edges; e++) {
        low->to[e] = low->edges[e].to;
        low->from[e] = low->edges[e].from;
    }
    return esp_lowering_init(&low->base, (size_t)(ny + low->graph->layout.nu), (size_t)n_r, (size_t)ny, reterr);
}

esp_code esp_graph_lower(const esp_graph *graph, int n, const esp_edge *edges, int n_edges, esp_program **ret_program, esp_error *reterr) {
    lowering low = {.graph = graph, .n = n, .n_edges = n_edges, .edges = edges};
    esp_code code = begin(&low, reterr);
    if (code == ESP_OK) code = encode(&low, reterr);
    for (int r = 0; code == ESP_OK && r < graph->layout.rounds; r++) code = lower_round(&low, reterr);
    if (code == ESP_OK) code = finish_objects(&low, reterr);
    if (code == ESP_OK) {
        finish_shared(&low);
        esp_program_seal(low.base.program, 0);
        *ret_program = low.base.program;
        low.base.program = NULL;
    }
    values_done(&low.h);
    values_done(&low.e);
    values_done(&low.g);
    free(low.to);
    free(low.from);
    esp_lowering_done(&low.base);
    return code;
}
