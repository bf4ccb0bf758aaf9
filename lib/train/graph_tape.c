/* SPDX-License-Identifier: Apache-2.0
 * Forward and backward passes through the blocks and rounds of a graph network in training. */
#include "train/graph_tape.h"

#include <string.h>

static size_t rows_of(size_t n) {
    return (n + ESP_TILE - 1) / ESP_TILE * ESP_TILE;
}

static const esp_dense *only(const esp_graph_net *net, esp_block block) {
    return &net->layer[net->begin[block]];
}

static size_t width_of(const esp_graph_net *net) {
    return only(net, ESP_MESSAGE)->w;
}

/* ---- memory ---------------------------------------------------------------------------------------------------------- */

/* The next rows x width floats, padded, of `memory` (NULL: only counted). */
static float *take(float *memory, size_t *used, size_t rows, size_t width) {
    float *at = memory ? memory + *used : NULL;
    *used += rows_of(rows) * esp_padded(width);
    return at;
}

static void take_layer(const esp_dense *layer, size_t rows, float *memory, size_t *used, esp_layer_tape *ret) {
    ret->p = layer->activated ? take(memory, used, rows, layer->w) : NULL;
    ret->h = take(memory, used, rows, layer->w);
}

static size_t lay_tape(const esp_graph_net *net, size_t most_v, size_t most_e, float *memory, esp_graph_tape *ret) {
    size_t used = 0, width = width_of(net);
    ret->v = take(memory, &used, most_v, only(net, ESP_NODE)->k);
    ret->w = take(memory, &used, most_e, only(net, ESP_EDGE)->k);
    ret->last = take(memory, &used, most_v, 2 * width);
    for (int b = 0; b < ESP_BLOCKS; b++)
        for (int l = net->begin[b]; l < net->begin[b + 1]; l++)
            if (b != ESP_MESSAGE && b != ESP_UPDATE) take_layer(&net->layer[l], b == ESP_EDGE ? most_e : most_v, memory, &used, &ret->layer[l]);
    for (int r = 0; r < net->layout.rounds; r++) {
        ret->heard[r] = take(memory, &used, most_e, 3 * width);
        ret->known[r] = take(memory, &used, most_v, 2 * width);
        take_layer(only(net, ESP_MESSAGE), most_e, memory, &used, &ret->message[r]);
        take_layer(only(net, ESP_UPDATE), most_v, memory, &used, &ret->update[r]);
        ret->message[r].x = ret->heard[r];
        ret->update[r].x = ret->known[r];
    }
    return used;
}

size_t esp_graph_tape_floats(const esp_graph_net *net, size_t most_v, size_t most_e) {
    esp_graph_tape tape;
    return lay_tape(net, most_v, most_e, NULL, &tape);
}

void esp_graph_tape_init(esp_graph_tape *tape, const esp_graph_net *net, size_t most_v, size_t most_e, float *memory) {
    (void)lay_tape(net, most_v, most_e, memory, tape);
}

static size_t lay_work(const esp_graph_net *net, size_t most_v, size_t most_e, float *memory, esp_graph_scratch *ret) {
    size_t used = 0, width = width_of(net), most = most_v > most_e ? most_v : most_e, widest = 0, layer = 0;
    for (int l = 0; l < net->begin[ESP_BLOCKS]; l++) {
        const esp_dense *d = &net->layer[l];
        if (d->k > widest) widest = d->k;
        if (d->w > widest) widest = d->w;
        if (esp_dense_work(d) > layer) layer = esp_dense_work(d);
    }
    ret->d_h = take(memory, &used, most_v, width);
    ret->d_g = take(memory, &used, most_v, width);
    ret->d_before = take(memory, &used, most_v, width);
    ret->d_e = take(memory, &used, most_e, width);
    for (int k = 0; k < 2; k++) ret->d[k] = take(memory, &used, most, widest);
    ret->layer = take(memory, &used, 1, layer);
    return used;
}

size_t esp_graph_scratch_floats(const esp_graph_net *net, size_t most_v, size_t most_e) {
    esp_graph_scratch work;
    return lay_work(net, most_v, most_e, NULL, &work);
}

void esp_graph_scratch_init(esp_graph_scratch *work, const esp_graph_net *net, size_t most_v, size_t most_e, float *memory) {
    (void)lay_work(net, most_v, most_e, memory, work);
}

/* ---- there ----------------------------------------------------------------------------------------------------------- */

static const float *run_block(const esp_graph_net *net, const float *packed, esp_graph_tape *t, esp_block block, size_t n, const float *x) {
    for (int l = net->begin[block]; l < net->begin[block + 1]; l++) {
        t->layer[l].x = x;
        esp_dense_forward(&net->layer[l], packed, n, x, NULL, t->layer[l].p, t->layer[l].h);
        x = t->layer[l].h;
    }
    return x;
}

/* Row `which[i]` (or i) of `from` into columns `at` .. of row i of `to`. */
static void copy_part(size_t n, size_t width, const float *from, const int *which, size_t at, size_t stride, float *to) {
    size_t from_stride = esp_padded(width);
    for (size_t i = 0; i < n; i++) memcpy(to + i * stride + at, from + (size_t)(which ? which[i] : (int)i) * from_stride, width * sizeof *to);
}

/* sum_j m_ij beside h, the first columns of which are there already. */
static void sum_messages(const esp_graph_tape *t, size_t width, const float *m, size_t stride, float *known) {
    for (size_t i = 0; i < t->n_v; i++) memset(known + i * stride + width, 0, width * sizeof *known);
    for (size_t e = 0; e < t->n_e; e++) {
        const float *restrict from = m + e * esp_padded(width);
        float *restrict sum = known + (size_t)t->to[e] * stride + width;
        for (size_t j = 0; j < width; j++) sum[j] += from[j];
    }
}

const float *esp_graph_tape_forward(const esp_graph_net *net, const float *packed, esp_graph_tape *t) {
    size_t width = width_of(net), three = esp_padded(3 * width), two = esp_padded(2 * width);
    const float *h = run_block(net, packed, t, ESP_NODE, t->n_v, t->v), *e = run_block(net, packed, t, ESP_EDGE, t->n_e, t->w), *g = h;
    for (int r = 0; r < net->layout.rounds; r++) {
        const esp_layer_tape *message = &t->message[r], *update = &t->update[r];
        copy_part(t->n_e, width, e, NULL, 0, three, t->heard[r]);
        copy_part(t->n_e, width, g, t->to, width, three, t->heard[r]);
        copy_part(t->n_e, width, g, t->from, 2 * width, three, t->heard[r]);
        esp_dense_forward(only(net, ESP_MESSAGE), packed, t->n_e, message->x, NULL, message->p, message->h);
        copy_part(t->n_v, width, h, NULL, 0, two, t->known[r]);
        sum_messages(t, width, message->h, two, t->known[r]);
        esp_dense_forward(only(net, ESP_UPDATE), packed, t->n_v, update->x, g, update->p, update->h);
        g = update->h;
    }
    copy_part(t->n_v, width, h, NULL, 0, two, t->last);
    copy_part(t->n_v, width, g, NULL, width, two, t->last);
    return run_block(net, packed, t, ESP_OUTPUT, t->n_v, t->last);
}

/* ---- and back -------------------------------------------------------------------------------------------------------- */

typedef struct way_back {
    const esp_graph_net *net;
    const float *packed;
    const esp_graph_tape *t;
    float *grads;
    const esp_slope_grads *slopes;
    esp_graph_scratch *work;
} way_back;

static float *other(const way_back *b, const float *d) {
    return d == b->work->d[0] ? b->work->d[1] : b->work->d[0];
}

/* From d, the gradient of a block's output (spoilt), to that of its first layer's output, which is returned. */
static float *block_back(const way_back *b, esp_block block, size_t n, float *d) {
    for (int l = b->net->begin[block + 1] - 1; l > b->net->begin[block]; l--) {
        const esp_layer_tape *tape = &b->t->layer[l];
        float *next = other(b, d);
        esp_dense_backward(&b->net->layer[l], b->packed, n, tape->x, tape->p, d, b->grads, b->slopes, next, b->work->layer);
        d = next;
    }
    return d;
}

/* And through the first layer, to `to` unless NULL. */
static void first_back(const way_back *b, esp_block block, size_t n, float *d, float *to) {
    const esp_layer_tape *tape = &b->t->layer[b->net->begin[block]];
    esp_dense_backward(only(b->net, block), b->packed, n, tape->x, tape->p, d, b->grads, b->slopes, to, b->work->layer);
}

/* Columns `at` .. of row i of `from` added to row which[i] (or i) of `to`. */
static void add_part(size_t n, size_t width, const float *from, size_t at, size_t stride, const int *which, float *to) {
    for (size_t i = 0; i < n; i++) {
        const float *restrict row = from + i * stride + at;
        float *restrict sum = to + (size_t)(which ? which[i] : (int)i) * esp_padded(width);
        for (size_t j = 0; j < width; j++) sum[j] += row[j];
    }
}

static void round_back(const way_back *b, int r) {
    const esp_graph_tape *t = b->t;
    esp_graph_scratch *work = b->work;
    size_t width = width_of(b->net), padded = esp_padded(width), three = esp_padded(3 * width), two = esp_padded(2 * width);
    const esp_layer_tape *message = &t->message[r], *update = &t->update[r];
    float *known = work->d[0], *said = work->d[1];
    esp_dense_backward(only(b->net, ESP_UPDATE), b->packed, t->n_v, update->x, update->p, work->d_g, b->grads, b->slopes, known, work->layer);
    memcpy(work->d_before, work->d_g, t->n_v * padded * sizeof *work->d_g); /* through the residual */
    add_part(t->n_v, width, known, 0, two, NULL, work->d_h);
    memset(said, 0, t->n_e * padded * sizeof *said);
    for (size_t e = 0; e < t->n_e; e++) memcpy(said + e * padded, known + (size_t)t->to[e] * two + width, width * sizeof *said);
    esp_dense_backward(only(b->net, ESP_MESSAGE), b->packed, t->n_e, message->x, message->p, said, b->grads, b->slopes, known, work->layer);
    add_part(t->n_e, width, known, 0, three, NULL, work->d_e);
    add_part(t->n_e, width, known, width, three, t->to, work->d_before);
    add_part(t->n_e, width, known, 2 * width, three, t->from, work->d_before);
    float *swap = work->d_g;
    work->d_g = work->d_before;
    work->d_before = swap;
}

void esp_graph_tape_backward(const esp_graph_net *net, const float *packed, const esp_graph_tape *t, float *d_out, float *grads,
                             const esp_slope_grads *slopes, float *ret_dv, float *ret_dw, esp_graph_scratch *work) {
    const way_back b = {net, packed, t, grads, slopes, work};
    size_t width = width_of(net), padded = esp_padded(width), two = esp_padded(2 * width);
    memset(work->d_h, 0, t->n_v * padded * sizeof *work->d_h);
    memset(work->d_g, 0, t->n_v * padded * sizeof *work->d_g);
    memset(work->d_e, 0, t->n_e * padded * sizeof *work->d_e);
    float *d = block_back(&b, ESP_OUTPUT, t->n_v, d_out), *last = other(&b, d);
    first_back(&b, ESP_OUTPUT, t->n_v, d, last);
    add_part(t->n_v, width, last, 0, two, NULL, work->d_h);
    add_part(t->n_v, width, last, width, two, NULL, work->d_g);
    for (int r = net->layout.rounds - 1; r >= 0; r--) round_back(&b, r);
    add_part(t->n_v, width, work->d_g, 0, padded, NULL, work->d_h); /* g was h before the first round */
    first_back(&b, ESP_NODE, t->n_v, block_back(&b, ESP_NODE, t->n_v, work->d_h), ret_dv);
    first_back(&b, ESP_EDGE, t->n_e, block_back(&b, ESP_EDGE, t->n_e, work->d_e), ret_dw);
}
