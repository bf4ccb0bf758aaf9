/* SPDX-License-Identifier: Apache-2.0
 * Random graph models and their oracle. */
#include "support/graphs.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "support/models.h"

enum { MOST = 1024 };

static void must(esp_code code, const esp_error *error) {
    if (code == ESP_OK) return;
    fprintf(stderr, "random graph: %s %s\n", error->pointer, error->message);
    abort();
}

static int between(esp_rng *rng, int least, int most) {
    return least + (int)esp_rng_below(rng, (size_t)(most - least + 1));
}

static esp_net *block(esp_rng *rng, int n_in, int n_out) {
    int n_layers = between(rng, 1, 3), widths[4] = {n_in};
    for (int l = 1; l < n_layers; l++) widths[l] = between(rng, 1, 5);
    widths[n_layers] = n_out;
    return random_net(rng, n_layers, widths, -1);
}

static void draw_layout(esp_rng *rng, esp_graph_layout *l) {
    *l = (esp_graph_layout){.objects = between(rng, 1, 3), .size = between(rng, 1, 4), .radius = INFINITY, .rounds = between(rng, 1, 3)};
    l->n_shared = between(rng, 0, 3);
    l->first = between(rng, 0, l->n_shared);
    l->nu = between(rng, 0, 3);
    l->n_position = between(rng, 0, l->size < 2 ? l->size : 2);
    for (int d = 0; d < l->n_position; d++) l->position[d] = l->n_position == 2 ? (d == 0 ? l->size - 1 : 0) : between(rng, 0, l->size - 1);
    if (l->n_position && rng->s[0] % 2) l->radius = 0.5 + esp_rng_uniform(rng);
    for (int p = between(rng, 0, 3); l->n_position && p > 0; p--) {
        esp_point *point = &l->points[l->n_points];
        point->on_u = esp_rng_uniform(rng) < 0.5;
        int n = point->on_u ? l->nu : l->n_shared;
        if (n == 0) continue;
        for (int d = 0; d < l->n_position; d++) point->index[d] = between(rng, 0, n - 1);
        l->n_points++;
    }
}

esp_model *random_graph(esp_rng *rng) {
    esp_graph_layout l;
    esp_error error = {0};
    esp_graph *graph = NULL;
    esp_model *model = NULL;
    double shared[24];
    do draw_layout(rng, &l);
    while (esp_graph_layout_check(&l, NULL) != ESP_OK);
    int width = between(rng, 1, 5), edge = between(rng, 1, 4), message = between(rng, 1, 4);
    esp_net *blocks[ESP_BLOCKS] = {block(rng, esp_graph_node_inputs(&l), width), block(rng, esp_graph_edge_inputs(&l), edge),
                                   block(rng, edge + 2 * width, message), block(rng, width + message, width), block(rng, 2 * width, l.size)};
    int q = l.n_shared;
    for (int i = 0; i < q * (q + l.nu + 1); i++) shared[i] = esp_rng_uniform(rng) < 0.3 ? 0 : esp_rng_normal(rng);
    must(esp_graph_create(&l, blocks, shared, shared + q * q, shared + q * (q + l.nu), &graph, &error), &error);
    must(esp_model_create_graph(graph, &model, &error), &error);
    return model;
}

esp_model *random_state(esp_rng *rng, const esp_model *graph, int n, double **ret_x) {
    esp_model *model = NULL;
    esp_error error = {0};
    int ny = esp_graph_ny(&graph->graph->layout, n), n_x = ny + graph->nu;
    double *x = calloc((size_t)n_x, sizeof *x);
    if (!x) abort();
    for (int i = 0; i < n_x; i++) x[i] = esp_rng_normal(rng);
    must(esp_model_bind(graph, ny, x, &model, &error), &error);
    *ret_x = x;
    return model;
}

/* ---- the oracle ---- */

static long double activate(int act, long double p) {
    return act == ESP_ACT_ZERO || (act == ESP_ACT_RELU && p < 0) ? 0 : p;
}

/* `extra` joins the pre-activations of the last layer. */
static void run_block(const esp_net *net, const long double *in, const long double *extra, long double *out) {
    long double now[MOST], next[MOST];
    memcpy(now, in, (size_t)net->layers[0].n_in * sizeof *now);
    for (int l = 0; l < net->n_layers; l++) {
        const esp_layer *layer = &net->layers[l];
        for (int i = 0; i < layer->n_out; i++) {
            long double p = layer->b[i] + (extra && l == net->n_layers - 1 ? extra[i] : 0);
            for (int j = 0; j < layer->n_in; j++) p += (long double)layer->w[i * layer->n_in + j] * now[j];
            next[i] = activate(layer->act[i], p);
        }
        memcpy(now, next, (size_t)layer->n_out * sizeof *now);
    }
    memcpy(out, now, (size_t)net->layers[net->n_layers - 1].n_out * sizeof *out);
}

typedef struct oracle {
    const esp_graph_layout *l;
    int n, ny;
    const double *x;
} oracle;

static bool in(const int *list, int n, int k) {
    for (int i = 0; i < n; i++)
        if (list[i] == k) return true;
    return false;
}

static double state(const oracle *o, int i, int k) {
    return o->x[o->l->first + i * o->l->size + k];
}

static double shared(const oracle *o, int k) {
    return o->x[k < o->l->first ? k : k + o->n * o->l->size];
}

static int rest(const oracle *o, int i, long double *ret) {
    int n = 0;
    for (int k = 0; k < o->l->size; k++)
        if (!in(o->l->position, o->l->n_position, k)) ret[n++] = state(o, i, k);
    return n;
}

static bool named(const oracle *o, bool on_u, int k) {
    for (int p = 0; p < o->l->n_points; p++)
        if (o->l->points[p].on_u == on_u && in(o->l->points[p].index, o->l->n_position, k)) return true;
    return false;
}

static void node_features(const oracle *o, int i, long double *ret) {
    int n = rest(o, i, ret);
    for (int p = 0; p < o->l->n_points; p++)
        for (int d = 0; d < o->l->n_position; d++) {
            int index = o->l->points[p].index[d];
            ret[n++] = (long double)state(o, i, o->l->position[d]) - (o->l->points[p].on_u ? o->x[o->ny + index] : shared(o, index));
        }
    for (int k = 0; k < o->l->n_shared; k++)
        if (!named(o, false, k)) ret[n++] = shared(o, k);
    for (int k = 0; k < o->l->nu; k++)
        if (!named(o, true, k)) ret[n++] = o->x[o->ny + k];
}

static void edge_features(const oracle *o, int to, int from, long double *ret) {
    int n = 0;
    for (int d = 0; d < o->l->n_position; d++) ret[n++] = (long double)state(o, from, o->l->position[d]) - state(o, to, o->l->position[d]);
    n += rest(o, to, ret + n);
    (void)rest(o, from, ret + n);
}

/* One round over the states g (n x width), with sums over the model's own list of edges. */
static void run_round(const esp_model *m, const oracle *o, const long double *h, int width, long double *g) {
    long double next[MOST], e[64], input[MOST], message[64];
    const esp_graph *graph = m->graph;
    int n_e = esp_net_outputs(graph->block[ESP_EDGE]), n_m = esp_net_outputs(graph->block[ESP_MESSAGE]);
    for (int i = 0; i < o->n; i++) {
        long double sum[64] = {0};
        for (int k = 0; k < m->n_edges; k++) {
            if (m->edges[k].to != i) continue;
            edge_features(o, i, m->edges[k].from, input);
            run_block(graph->block[ESP_EDGE], input, NULL, e);
            memcpy(input, e, (size_t)n_e * sizeof *e);
            memcpy(input + n_e, g + i * width, (size_t)width * sizeof *g);
            memcpy(input + n_e + width, g + m->edges[k].from * width, (size_t)width * sizeof *g);
            run_block(graph->block[ESP_MESSAGE], input, NULL, message);
            for (int j = 0; j < n_m; j++) sum[j] += message[j];
        }
        memcpy(input, h + i * width, (size_t)width * sizeof *h);
        memcpy(input + width, sum, (size_t)n_m * sizeof *sum);
        run_block(graph->block[ESP_UPDATE], input, g + i * width, next + i * width);
    }
    memcpy(g, next, (size_t)(o->n * width) * sizeof *g);
}

void graph_oracle(const esp_model *m, const double *x, double *y) {
    const esp_graph *graph = m->graph;
    const esp_graph_layout *l = &graph->layout;
    oracle o = {l, m->n_objects, m->ny, x};
    long double h[MOST], g[MOST], input[MOST], out[64];
    int width = esp_net_outputs(graph->block[ESP_NODE]);
    for (int i = 0; i < o.n; i++) {
        node_features(&o, i, input);
        run_block(graph->block[ESP_NODE], input, NULL, h + i * width);
    }
    memcpy(g, h, (size_t)(o.n * width) * sizeof *g);
    for (int r = 0; r < l->rounds; r++) run_round(m, &o, h, width, g);
    for (int i = 0; i < o.n; i++) {
        memcpy(input, h + i * width, (size_t)width * sizeof *h);
        memcpy(input + width, g + i * width, (size_t)width * sizeof *g);
        run_block(graph->block[ESP_OUTPUT], input, NULL, out);
        for (int k = 0; k < l->size; k++) y[l->first + i * l->size + k] = (double)(state(&o, i, k) + out[k]);
    }
    for (int r = 0; r < l->n_shared; r++) {
        long double sum = graph->c[r];
        for (int k = 0; k < l->n_shared; k++) sum += (long double)graph->a[r * l->n_shared + k] * shared(&o, k);
        for (int k = 0; k < l->nu; k++) sum += (long double)graph->b[r * l->nu + k] * x[o.ny + k];
        y[r < l->first ? r : r + o.n * l->size] = (double)sum;
    }
}
