/* SPDX-License-Identifier: Apache-2.0
 * Rollouts of a graph network over chunks of windows, and back-propagation through time. */
#include "train/graph_loss.h"

#include <assert.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "train/graph_tape.h"

#define CHUNK 64 /* windows */

/* What a step of the rollout leaves behind for the way back. */
typedef struct step {
    double *x; /* CHUNK x n_x: [y, u] that it starts from */
    float *e; /* CHUNK x ny: the errors after it; then their gradient */
    int *edges; /* 2 x most_e: what the tape's to and from point into */
    int *pair; /* most_e: which pair of objects an edge is */
    esp_graph_tape tape;
} step;

struct esp_graph_loss {
    const esp_graph_net *net;
    const esp_graph_data *data;
    const esp_windows *windows;
    int steps, n, ny, n_x; /* n objects */
    size_t most_v, most_e;
    esp_pick *v_picks, *w_picks; /* n x n_v; n x n x n_w, by receiver and sender */
    esp_edge *near; /* n (n - 1) */
    step *step;
    esp_graph_scratch scratch;
    float *packed, *d_out, *dv, *dw, *noise;
    double *next; /* ny */
    float *memory;
    double *states;
    int *numbers;
};

/* ---- life ------------------------------------------------------------------------------------------------------------- */

static void make_picks(esp_graph_loss *g) {
    const esp_graph_layout *l = &g->net->layout;
    size_t n_v = (size_t)g->data->n_v, n_w = (size_t)g->data->n_w, n = (size_t)g->n;
    for (size_t i = 0; i < n; i++) {
        esp_graph_node_picks(l, g->n, (int)i, g->v_picks + i * n_v);
        for (size_t j = 0; j < n; j++) esp_graph_edge_picks(l, g->n, (esp_edge){(int)i, (int)j}, g->w_picks + (i * n + j) * n_w);
    }
}

static bool allocate_blocks(esp_graph_loss *g) {
    size_t k = (size_t)g->steps, n = (size_t)g->n, n_v = (size_t)g->data->n_v, n_w = (size_t)g->data->n_w;
    size_t tape = esp_graph_tape_floats(g->net, g->most_v, g->most_e), work = esp_graph_scratch_floats(g->net, g->most_v, g->most_e);
    size_t errors = esp_padded(CHUNK * (size_t)g->ny), out = g->most_v * esp_padded((size_t)g->net->layout.size), dv = g->most_v * esp_padded(n_v),
           dw = g->most_e * esp_padded(n_w), noise = esp_padded(g->most_v * n_v > g->most_e * n_w ? g->most_v * n_v : g->most_e * n_w);
    size_t packed = esp_padded(g->net->n_packed), floats = k * (tape + errors) + work + packed + out + dv + dw + noise;
    g->memory = aligned_alloc(ESP_VECTOR * sizeof *g->memory, floats * sizeof *g->memory);
    g->states = calloc(k * CHUNK * (size_t)g->n_x + (size_t)g->ny, sizeof *g->states);
    g->numbers = calloc(k * 3 * g->most_e + 1, sizeof *g->numbers);
    g->step = calloc(k, sizeof *g->step);
    g->v_picks = calloc(n * n_v, sizeof *g->v_picks);
    g->w_picks = calloc(n * n * n_w, sizeof *g->w_picks);
    g->near = calloc(n * n, sizeof *g->near);
    if (!g->memory || !g->states || !g->numbers || !g->step || !g->v_picks || !g->w_picks || !g->near) return false;
    memset(g->memory, 0, floats * sizeof *g->memory);
    float *at = g->memory;
    for (size_t s = 0; s < k; s++, at += tape + errors) {
        step *st = &g->step[s];
        esp_graph_tape_init(&st->tape, g->net, g->most_v, g->most_e, at);
        st->e = at + tape;
        st->x = g->states + s * CHUNK * (size_t)g->n_x;
        st->edges = g->numbers + s * 3 * g->most_e;
        st->pair = st->edges + 2 * g->most_e;
        st->tape.to = st->edges;
        st->tape.from = st->edges + g->most_e;
    }
    esp_graph_scratch_init(&g->scratch, g->net, g->most_v, g->most_e, at);
    g->packed = at + work;
    g->d_out = g->packed + packed;
    g->dv = g->d_out + out;
    g->dw = g->dv + dv;
    g->noise = g->dw + dw;
    g->next = g->states + k * CHUNK * (size_t)g->n_x;
    return true;
}

esp_code esp_graph_loss_create(const esp_graph_net *net, const esp_graph_data *data, const esp_windows *windows, int steps, esp_graph_loss **ret_loss,
                               esp_error *reterr) {
    assert(steps >= 1);
    esp_graph_loss *g = calloc(1, sizeof *g);
    if (!g) return esp_fail(reterr, ESP_NOMEM, "a graph network's loss");
    *g = (esp_graph_loss){.net = net, .data = data, .windows = windows, .steps = steps, .n = net->layout.objects, .ny = windows->ny};
    g->n_x = g->ny + net->layout.nu;
    g->most_v = CHUNK * (size_t)g->n; /* whole tiles, as CHUNK is */
    g->most_e = g->most_v * (size_t)(g->n - 1);
    if (!allocate_blocks(g)) {
        esp_graph_loss_free(g);
        return esp_fail(reterr, ESP_NOMEM, "activations of %d objects for %d rollout steps", net->layout.objects, steps);
    }
    make_picks(g);
    *ret_loss = g;
    return ESP_OK;
}

void esp_graph_loss_free(esp_graph_loss *g) {
    if (!g) return;
    free(g->memory);
    free(g->states);
    free(g->numbers);
    free(g->step);
    free(g->v_picks);
    free(g->w_picks);
    free(g->near);
    free(g);
}

/* ---- there ------------------------------------------------------------------------------------------------------------ */

/* The edges of n windows at the states that the step starts from. */
static void find_edges(esp_graph_loss *g, step *s, size_t n) {
    esp_graph_tape *t = &s->tape;
    t->n_v = n * (size_t)g->n;
    t->n_e = 0;
    for (size_t b = 0; b < n; b++) {
        int n_edges = esp_graph_edges(&g->net->layout, g->n, s->x + b * (size_t)g->n_x, g->near), base = (int)b * g->n;
        for (int e = 0; e < n_edges; e++, t->n_e++) {
            t->to[t->n_e] = base + g->near[e].to;
            t->from[t->n_e] = base + g->near[e].from;
            s->pair[t->n_e] = g->near[e].to * g->n + g->near[e].from;
        }
    }
}

static void see(const esp_pick *picks, int n, const double *x, const double *mean, const double *scale, float *ret) {
    for (int k = 0; k < n; k++) ret[k] = (float)((x[picks[k].plus] - (picks[k].minus < 0 ? 0 : x[picks[k].minus]) - mean[k]) / scale[k]);
}

static void add_noise(esp_graph_loss *g, const esp_rollout_call *call, size_t rows, size_t width, const float *live, float *to) {
    if (call->noise <= 0) return;
    esp_rng_normals_f(call->rng, g->noise, rows * width);
    for (size_t i = 0; i < rows; i++)
        for (size_t j = 0; j < width; j++) to[i * esp_padded(width) + j] += call->noise * live[j] * g->noise[i * width + j];
}

static void fill_features(esp_graph_loss *g, const esp_rollout_call *call, step *s) {
    const esp_graph_data *d = g->data;
    esp_graph_tape *t = &s->tape;
    size_t n = (size_t)g->n, n_x = (size_t)g->n_x, n_v = (size_t)d->n_v, n_w = (size_t)d->n_w;
    for (size_t i = 0; i < t->n_v; i++) see(g->v_picks + i % n * n_v, d->n_v, s->x + i / n * n_x, d->v_mean, d->v_scale, t->v + i * esp_padded(n_v));
    for (size_t e = 0; e < t->n_e; e++)
        see(g->w_picks + (size_t)s->pair[e] * n_w, d->n_w, s->x + (size_t)t->to[e] / n * n_x, d->w_mean, d->w_scale, t->w + e * esp_padded(n_w));
    add_noise(g, call, t->n_v, n_v, d->v_live, t->v);
    add_noise(g, call, t->n_e, n_w, d->w_live, t->w);
}

/* y(t+1) of one window's x and its objects' changes (n x size, padded), into g->next. */
static void predict(esp_graph_loss *g, const double *x, const float *changes) {
    const esp_graph_layout *l = &g->net->layout;
    const double *a = g->data->shared, *b = a + l->n_shared * l->n_shared, *c = b + l->n_shared * l->nu;
    for (int i = 0; i < g->n; i++)
        for (int k = 0; k < l->size; k++) {
            int at = l->first + i * l->size + k;
            g->next[at] = x[at] + (double)changes[(size_t)i * esp_padded((size_t)l->size) + (size_t)k] * g->data->out_scale[k] + g->data->out_mean[k];
        }
    for (int r = 0; r < l->n_shared; r++) {
        double sum = c[r];
        for (int k = 0; k < l->n_shared; k++) sum += a[r * l->n_shared + k] * x[esp_graph_shared(l, g->n, k)];
        for (int k = 0; k < l->nu; k++) sum += b[r * l->nu + k] * x[g->ny + k];
        g->next[esp_graph_shared(l, g->n, r)] = sum;
    }
}

/* Step k of n windows: predictions to the next step's states, and errors; their squares to the sums. */
static void forward(esp_graph_loss *g, const esp_rollout_call *call, const size_t *starts, size_t n, int k, double *squares) {
    const esp_graph_data *d = g->data;
    step *s = &g->step[k];
    size_t ny = (size_t)g->ny, n_x = (size_t)g->n_x, row = (size_t)g->n * esp_padded((size_t)g->net->layout.size);
    double weight = call->weights ? call->weights[k] : 1;
    if (k == 0)
        for (size_t b = 0; b < n; b++) esp_graph_data_x(d, starts[b], s->x + b * n_x);
    find_edges(g, s, n);
    fill_features(g, call, s);
    const float *changes = esp_graph_tape_forward(g->net, g->packed, &s->tape);
    for (size_t b = 0; b < n; b++) {
        const double *truth = esp_graph_data_next(d, starts[b] + (size_t)k);
        predict(g, s->x + b * n_x, changes + b * row);
        for (size_t i = 0; i < ny; i++) {
            double e = (g->next[i] - truth[i]) / d->scale[i];
            s->e[b * ny + i] = (float)e;
            squares[i] += weight * e * e;
        }
        if (k + 1 >= call->steps) continue;
        double *x = s[1].x + b * n_x;
        esp_graph_data_x(d, starts[b] + (size_t)k + 1, x); /* for u */
        memcpy(x, g->next, ny * sizeof *x);
    }
}

/* ---- and back --------------------------------------------------------------------------------------------------------- */

/* Gradients of features back to the states that they were differences of, in units of error. */
static void unsee(const esp_graph_loss *g, const esp_pick *picks, int n, const float *d, const double *feature_scale, float *de) {
    for (int k = 0; k < n; k++) {
        double slope = (double)d[k] / feature_scale[k];
        if (picks[k].plus < g->ny) de[picks[k].plus] += (float)(slope * g->data->scale[picks[k].plus]);
        if (picks[k].minus >= 0 && picks[k].minus < g->ny) de[picks[k].minus] -= (float)(slope * g->data->scale[picks[k].minus]);
    }
}

/* What a change of the state before the step does to the one after it, but for the network: the residual, and the shared
 * numbers' dynamics. */
static void pass_on(const esp_graph_loss *g, const float *after, float *before) {
    const esp_graph_layout *l = &g->net->layout;
    const double *a = g->data->shared, *scale = g->data->scale;
    for (int k = l->first; k < l->first + g->n * l->size; k++) before[k] += after[k];
    for (int r = 0; r < l->n_shared; r++)
        for (int k = 0; k < l->n_shared; k++) {
            int to = esp_graph_shared(l, g->n, k), from = esp_graph_shared(l, g->n, r);
            before[to] += (float)(a[r * l->n_shared + k] * scale[to] / scale[from]) * after[from];
        }
}

/* Step k: de, the errors' gradient, is complete; adds to the gradients and to that of the errors before it. */
static void backward(esp_graph_loss *g, const esp_rollout_call *call, size_t n, int k) {
    const esp_graph_layout *l = &g->net->layout;
    const esp_graph_data *d = g->data;
    step *s = &g->step[k];
    const esp_graph_tape *t = &s->tape;
    size_t ny = (size_t)g->ny, objects = (size_t)g->n, stride = esp_padded((size_t)l->size), n_v = (size_t)d->n_v, n_w = (size_t)d->n_w;
    memset(g->d_out, 0, t->n_v * stride * sizeof *g->d_out);
    for (size_t i = 0; i < t->n_v; i++)
        memcpy(g->d_out + i * stride, s->e + i / objects * ny + (size_t)l->first + i % objects * (size_t)l->size, (size_t)l->size * sizeof *g->d_out);
    esp_graph_tape_backward(g->net, g->packed, t, g->d_out, call->grads, call->slopes, k ? g->dv : NULL, k ? g->dw : NULL, &g->scratch);
    if (k == 0) return;
    float *before = g->step[k - 1].e;
    for (size_t b = 0; b < n; b++) pass_on(g, s->e + b * ny, before + b * ny);
    for (size_t i = 0; i < t->n_v; i++)
        unsee(g, g->v_picks + i % objects * n_v, d->n_v, g->dv + i * esp_padded(n_v), d->v_scale, before + i / objects * ny);
    for (size_t e = 0; e < t->n_e; e++)
        unsee(g, g->w_picks + (size_t)s->pair[e] * n_w, d->n_w, g->dw + e * esp_padded(n_w), d->w_scale, before + (size_t)t->to[e] / objects * ny);
}

/* Errors to the gradient of their own share of the loss, 0 for what the objects share. */
static void begin_back(esp_graph_loss *g, const esp_rollout_call *call, size_t n, double count) {
    const esp_graph_layout *l = &g->net->layout;
    for (int k = 0; k < call->steps; k++) {
        float factor = (float)(2 * (call->weights ? call->weights[k] : 1) / count), *e = g->step[k].e;
        for (size_t b = 0; b < n; b++, e += g->ny)
            for (int i = 0; i < g->ny; i++) e[i] = i >= l->first && i < l->first + g->n * l->size ? factor * e[i] : 0;
    }
}

static bool goes_on(const esp_rollout_call *call) {
    return !call->go_on || call->go_on(call->user);
}

double esp_graph_loss_run(esp_graph_loss *g, const esp_rollout_call *call, double *ret_squares) {
    assert(call->steps >= 1 && call->steps <= g->steps);
    const esp_graph_layout *l = &g->net->layout;
    double count = (double)call->n * call->steps * g->n * l->size, squares[ESP_MAX_WIDTH_Y] = {0}, sum = 0;
    esp_graph_net_pack(g->net, call->params, call->pos, call->neg, g->packed);
    for (size_t done = 0; done < call->n; done += CHUNK) {
        size_t n = call->n - done < CHUNK ? call->n - done : CHUNK;
        for (int k = 0; k < call->steps; k++) {
            if (!goes_on(call)) return NAN;
            forward(g, call, call->starts + done, n, k, squares);
        }
        if (call->grads) begin_back(g, call, n, count);
        for (int k = call->steps - 1; call->grads && k >= 0; k--) {
            if (!goes_on(call)) return NAN;
            backward(g, call, n, k);
        }
    }
    for (int i = l->first; i < l->first + g->n * l->size; i++) sum += squares[i];
    for (int i = 0; ret_squares && i < g->ny; i++) {
        double unit = g->data->scale[i] / g->windows->y_scale[i];
        ret_squares[i] = squares[i] * unit * unit;
    }
    return sum / count;
}
