/* SPDX-License-Identifier: Apache-2.0
 * The graph network's value: making, counts, and the plain forward pass. Not the form that is bounded or planned over:
 * graph_lower.c. */
#include "net/graph.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

const char *const esp_block_names[] = {"node", "edge", "message", "update", "output", NULL};

static esp_code check_ends(const esp_graph_layout *l, esp_net *const blocks[ESP_BLOCKS], esp_error *reterr) {
    int width = esp_net_outputs(blocks[ESP_NODE]), edge = esp_net_outputs(blocks[ESP_EDGE]), message = esp_net_outputs(blocks[ESP_MESSAGE]);
    const int inputs[ESP_BLOCKS] = {esp_graph_node_inputs(l), esp_graph_edge_inputs(l), edge + 2 * width, width + message, 2 * width};
    const int outputs[ESP_BLOCKS] = {width, edge, message, width, l->size};
    for (int b = 0; b < ESP_BLOCKS; b++)
        if (esp_net_inputs(blocks[b]) != inputs[b] || esp_net_outputs(blocks[b]) != outputs[b])
            return esp_fail(reterr, ESP_INVALID, "the network %s is %d to %d; %d to %d are needed", esp_block_names[b], esp_net_inputs(blocks[b]),
                            esp_net_outputs(blocks[b]), inputs[b], outputs[b]);
    return ESP_OK;
}

static esp_code check_numbers(const double *values, size_t n, esp_error *reterr) {
    for (size_t i = 0; i < n; i++)
        if (!isfinite(values[i])) return esp_fail(reterr, ESP_INVALID, "the shared numbers' a, b and c hold one that is not finite");
    return ESP_OK;
}

static esp_code check(const esp_graph_layout *l, esp_net *const blocks[ESP_BLOCKS], const double *a, const double *b, const double *c,
                      esp_error *reterr) {
    size_t q = (size_t)l->n_shared;
    int64_t parameters = 0;
    esp_code code = esp_graph_layout_check(l, reterr);
    if (code == ESP_OK) code = check_ends(l, blocks, reterr);
    for (int k = 0; code == ESP_OK && k < ESP_BLOCKS; k++) {
        parameters += esp_net_parameters(blocks[k]);
        code = esp_net_check(blocks[k], reterr);
    }
    if (code == ESP_OK && parameters > ESP_MAX_PARAMETERS)
        code = esp_fail(reterr, ESP_INVALID, "a graph network has at most %d parameters, not %lld", ESP_MAX_PARAMETERS, (long long)parameters);
    if (code == ESP_OK) code = check_numbers(a, q * q, reterr);
    if (code == ESP_OK) code = check_numbers(b, q * (size_t)l->nu, reterr);
    return code == ESP_OK ? check_numbers(c, q, reterr) : code;
}

esp_code esp_graph_create(const esp_graph_layout *layout, esp_net *const blocks[ESP_BLOCKS], const double *a, const double *b, const double *c,
                          esp_graph **ret_graph, esp_error *reterr) {
    size_t q = (size_t)layout->n_shared, nu = (size_t)layout->nu;
    esp_graph *graph = NULL;
    esp_code code = check(layout, blocks, a, b, c, reterr);
    if (code == ESP_OK) {
        graph = calloc(1, sizeof *graph + q * (q + nu + 1) * sizeof(double));
        if (!graph) code = esp_fail(reterr, ESP_NOMEM, "a graph network");
    }
    if (code != ESP_OK) {
        for (int k = 0; k < ESP_BLOCKS; k++) esp_net_free(blocks[k]);
        return code;
    }
    graph->layout = *layout;
    memcpy(graph->block, blocks, sizeof graph->block);
    graph->a = (double *)(graph + 1);
    graph->b = graph->a + q * q;
    graph->c = graph->b + q * nu;
    if (q) memcpy(graph->a, a, q * q * sizeof *a);
    if (q && nu) memcpy(graph->b, b, q * nu * sizeof *b);
    if (q) memcpy(graph->c, c, q * sizeof *c);
    *ret_graph = graph;
    return ESP_OK;
}

esp_code esp_graph_copy(const esp_graph *graph, esp_graph **ret_graph, esp_error *reterr) {
    esp_net *blocks[ESP_BLOCKS] = {NULL};
    for (int k = 0; k < ESP_BLOCKS; k++) {
        esp_code code = esp_net_copy(graph->block[k], &blocks[k], reterr);
        if (code == ESP_OK) continue;
        while (k-- > 0) esp_net_free(blocks[k]);
        return code;
    }
    return esp_graph_create(&graph->layout, blocks, graph->a, graph->b, graph->c, ret_graph, reterr);
}

void esp_graph_free(esp_graph *graph) {
    if (!graph) return;
    for (int k = 0; k < ESP_BLOCKS; k++) esp_net_free(graph->block[k]);
    free(graph);
}

int64_t esp_graph_relus(const esp_graph *graph, int n, int n_edges) {
    const int64_t rounds = graph->layout.rounds, copies[ESP_BLOCKS] = {n, n_edges, n_edges * rounds, n * rounds, n};
    int64_t relus = 0;
    for (int k = 0; k < ESP_BLOCKS; k++) relus += copies[k] * esp_net_relus(graph->block[k]);
    return relus;
}

int esp_graph_neurons(const esp_graph *graph) {
    int n = 0;
    for (int k = 0; k < ESP_BLOCKS; k++) n += esp_net_relus(graph->block[k]);
    return n;
}

int64_t esp_graph_parameters(const esp_graph *graph) {
    int64_t q = graph->layout.n_shared, count = q * (q + graph->layout.nu + 1);
    for (int k = 0; k < ESP_BLOCKS; k++) count += esp_net_parameters(graph->block[k]);
    return count;
}

int64_t esp_graph_nonzero(const esp_graph *graph) {
    size_t q = (size_t)graph->layout.n_shared, n = q * (q + (size_t)graph->layout.nu + 1);
    int64_t count = 0;
    for (size_t i = 0; i < n; i++) count += graph->a[i] != 0; /* a, b and c are one block */
    for (int k = 0; k < ESP_BLOCKS; k++) count += esp_net_nonzero(graph->block[k]);
    return count;
}

/* ---- the forward pass ---- */

typedef struct pass {
    const esp_graph *graph;
    int n, n_edges;
    const esp_edge *edges;
    const double *x;
    double *h, *g, *next; /* n x width */
    double *e; /* n_edges x edge width */
    double *sum; /* message width */
    double *in, *out; /* of a block */
    double *work; /* of esp_net_forward */
    int width, n_e, n_m;
} pass;

static int widest(const esp_graph *graph) {
    int most = 1;
    for (int k = 0; k < ESP_BLOCKS; k++)
        if (esp_net_widest(graph->block[k]) > most) most = esp_net_widest(graph->block[k]);
    return most;
}

size_t esp_graph_work(const esp_graph *graph, int n, int n_edges) {
    size_t width = (size_t)esp_net_outputs(graph->block[ESP_NODE]), n_e = (size_t)esp_net_outputs(graph->block[ESP_EDGE]);
    return 3 * (size_t)n * width + (size_t)n_edges * n_e + 5 * (size_t)widest(graph);
}

static void lay_out(pass *p, double *work) {
    const esp_graph *graph = p->graph;
    size_t most = (size_t)widest(graph);
    p->width = esp_net_outputs(graph->block[ESP_NODE]);
    p->n_e = esp_net_outputs(graph->block[ESP_EDGE]);
    p->n_m = esp_net_outputs(graph->block[ESP_MESSAGE]);
    p->h = work;
    p->g = p->h + (size_t)p->n * (size_t)p->width;
    p->next = p->g + (size_t)p->n * (size_t)p->width;
    p->e = p->next + (size_t)p->n * (size_t)p->width;
    p->sum = p->e + (size_t)p->n_edges * (size_t)p->n_e;
    p->in = p->sum + most;
    p->out = p->in + most;
    p->work = p->out + most;
}

/* Features of x that the picks name, into p->in. */
static void see(pass *p, const esp_pick *picks, int n) {
    for (int k = 0; k < n; k++) p->in[k] = p->x[picks[k].plus] - (picks[k].minus < 0 ? 0 : p->x[picks[k].minus]);
}

static void encode(pass *p, esp_pick *picks) {
    const esp_graph *graph = p->graph;
    for (int i = 0; i < p->n; i++) {
        esp_graph_node_picks(&graph->layout, p->n, i, picks);
        see(p, picks, esp_graph_node_inputs(&graph->layout));
        esp_net_forward(graph->block[ESP_NODE], p->in, p->h + (size_t)i * (size_t)p->width, p->work);
    }
    for (int e = 0; e < p->n_edges; e++) {
        esp_graph_edge_picks(&graph->layout, p->n, p->edges[e], picks);
        see(p, picks, esp_graph_edge_inputs(&graph->layout));
        esp_net_forward(graph->block[ESP_EDGE], p->in, p->e + (size_t)e * (size_t)p->n_e, p->work);
    }
    memcpy(p->g, p->h, (size_t)p->n * (size_t)p->width * sizeof *p->g);
}

static void copy(const double *from, int n, double *to) {
    memcpy(to, from, (size_t)n * sizeof *to);
}

/* sum_j m_ij; `edge` is the first of i's and moves on to the next object's. */
static void gather(pass *p, int i, int *edge) {
    size_t width = (size_t)p->width;
    memset(p->sum, 0, (size_t)p->n_m * sizeof *p->sum);
    for (; *edge < p->n_edges && p->edges[*edge].to == i; ++*edge) {
        copy(p->e + (size_t)*edge * (size_t)p->n_e, p->n_e, p->in);
        copy(p->g + (size_t)i * width, p->width, p->in + p->n_e);
        copy(p->g + (size_t)p->edges[*edge].from * width, p->width, p->in + p->n_e + p->width);
        esp_net_forward(p->graph->block[ESP_MESSAGE], p->in, p->out, p->work);
        for (int k = 0; k < p->n_m; k++) p->sum[k] += p->out[k];
    }
}

static void update(pass *p, int i, double *ret_g) {
    const esp_net *net = p->graph->block[ESP_UPDATE];
    double *const half[2] = {p->out, p->work};
    const double *in = p->in;
    copy(p->h + (size_t)i * (size_t)p->width, p->width, p->in);
    copy(p->sum, p->n_m, p->in + p->width);
    for (int l = 0; l < net->n_layers; l++) {
        bool last = l == net->n_layers - 1;
        double *out = last ? ret_g : half[l % 2];
        esp_layer_forward(&net->layers[l], in, last ? p->g + (size_t)i * (size_t)p->width : NULL, out);
        in = out;
    }
}

static void round_of(pass *p) {
    int edge = 0;
    for (int i = 0; i < p->n; i++) {
        gather(p, i, &edge);
        update(p, i, p->next + (size_t)i * (size_t)p->width);
    }
    double *swap = p->g;
    p->g = p->next;
    p->next = swap;
}

static void finish(pass *p, double *ret_y) {
    const esp_graph *graph = p->graph;
    const esp_graph_layout *l = &graph->layout;
    int ny = esp_graph_ny(l, p->n);
    for (int i = 0; i < p->n; i++) {
        size_t at = (size_t)(l->first + i * l->size);
        copy(p->h + (size_t)i * (size_t)p->width, p->width, p->in);
        copy(p->g + (size_t)i * (size_t)p->width, p->width, p->in + p->width);
        esp_net_forward(graph->block[ESP_OUTPUT], p->in, p->out, p->work);
        for (int k = 0; k < l->size; k++) ret_y[at + (size_t)k] = p->x[at + (size_t)k] + p->out[k];
    }
    for (int r = 0; r < l->n_shared; r++) {
        double sum = graph->c[r];
        for (int k = 0; k < l->n_shared; k++) sum += graph->a[(size_t)r * (size_t)l->n_shared + (size_t)k] * p->x[esp_graph_shared(l, p->n, k)];
        for (int k = 0; k < l->nu; k++) sum += graph->b[(size_t)r * (size_t)l->nu + (size_t)k] * p->x[ny + k];
        ret_y[esp_graph_shared(l, p->n, r)] = sum;
    }
}

void esp_graph_forward(const esp_graph *graph, int n, const esp_edge *edges, int n_edges, const double *x, double *ret_y, double *work) {
    pass p = {.graph = graph, .n = n, .n_edges = n_edges, .edges = edges, .x = x};
    esp_pick picks[ESP_MAX_FEATURES];
    lay_out(&p, work);
    encode(&p, picks);
    for (int r = 0; r < graph->layout.rounds; r++) round_of(&p);
    finish(&p, ret_y);
}
