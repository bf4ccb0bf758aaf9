/* SPDX-License-Identifier: Apache-2.0
 * The Hessian of the outputs' error at the network itself: H = 2/n sum over inputs and outputs of J'J.
 *
 * The error (1/n) sum |f(x; w) - f(x; w0)|^2 has residual 0 at w0, so its Hessian there is that of Gauss and Newton without
 * remainder. For output o the derivative in the weight from input j to neuron i of layer k is g_i h_j: g = df_o/dp of
 * layer k by backpropagation, h the layer's input; in the bias it is g_i. At p = 0 a ReLU counts as off.
 *
 * Up to PROBES outputs are gone through one by one. For more, PROBES combinations of them with random signs v stand in, since
 * E[(J'v)(J'v)'] = J'J; the signs are drawn anew for each input, from a seed that is always the same. */
#include <assert.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/linalg.h"
#include "base/rng.h"
#include "sparsify/prune_parts.h"

enum { CHUNK = 64, PROBES = 16 };

/* A chunk of inputs on its way forth and back. */
typedef struct tape {
    const esp_net *net;
    size_t rows; /* at most CHUNK */
    double *h[ESP_MAX_LAYERS + 1]; /* rows x width: h[k] goes into layer k */
    double *g[ESP_MAX_LAYERS]; /* rows x n_out of layer k, of one probe */
    int probes;
    bool random; /* probes are combinations of outputs */
    double share; /* what a probe counts */
    esp_rng rng;
} tape;

static esp_code tape_init(tape *t, const esp_net *net, esp_arena *arena, esp_error *reterr) {
    int n_out = esp_net_outputs(net);
    *t = (tape){.net = net, .probes = n_out < PROBES ? n_out : PROBES, .random = n_out > PROBES};
    t->share = t->random ? 1.0 / PROBES : 1;
    esp_rng_init(&t->rng, 0, 0x6e37);
    bool made = (t->h[0] = ESP_NEW(arena, double, CHUNK *(size_t)esp_net_inputs(net))) != NULL;
    for (int k = 0; k < net->n_layers; k++) {
        size_t width = CHUNK * (size_t)net->layers[k].n_out;
        t->h[k + 1] = ESP_NEW(arena, double, width);
        t->g[k] = ESP_NEW(arena, double, width);
        made = made && t->h[k + 1] && t->g[k];
    }
    return made ? ESP_OK : esp_fail(reterr, ESP_NOMEM, "no memory for derivatives");
}

static void tape_forward(tape *t, size_t rows, const double *x) {
    t->rows = rows;
    memcpy(t->h[0], x, rows * (size_t)esp_net_inputs(t->net) * sizeof *x);
    for (int k = 0; k < t->net->n_layers; k++) esp_prune_forward(&t->net->layers[k], rows, t->h[k], t->h[k + 1]);
}

/* g of layer k: from dh/dh of what it gives to d/dp. */
static void through_activation(tape *t, int k) {
    const esp_layer *layer = &t->net->layers[k];
    size_t width = (size_t)layer->n_out;
    for (size_t r = 0; r < t->rows; r++) {
        for (size_t i = 0; i < width; i++) {
            bool off = layer->act[i] == ESP_ACT_ZERO || (layer->act[i] == ESP_ACT_RELU && !(t->h[k + 1][r * width + i] > 0));
            if (off) t->g[k][r * width + i] = 0;
        }
    }
}

static void put_probe(tape *t, int probe) {
    size_t n_out = (size_t)esp_net_outputs(t->net);
    double *g = t->g[t->net->n_layers - 1];
    for (size_t i = 0; i < t->rows * n_out; i++) {
        if (t->random)
            g[i] = esp_rng_u64(&t->rng) >> 63 ? 1 : -1;
        else
            g[i] = i % n_out == (size_t)probe;
    }
}

/* g of the layers from the last down to `first`. */
static void tape_backward(tape *t, int probe, int first) {
    int last = t->net->n_layers - 1;
    put_probe(t, probe);
    through_activation(t, last);
    for (int k = last; k > first; k--) {
        const esp_layer *layer = &t->net->layers[k];
        size_t m = (size_t)layer->n_in, n = (size_t)layer->n_out;
        esp_dgemm(ESP_NO, ESP_NO, t->rows, m, n, 1, t->g[k], n, layer->w, m, 0, t->g[k - 1], m);
        through_activation(t, k - 1);
    }
}

static esp_code check_finite(size_t n, const double *values, esp_error *reterr) {
    for (size_t i = 0; i < n; i++)
        if (!isfinite(values[i])) return esp_fail(reterr, ESP_NUMERIC, "the network's derivatives at the calibration inputs are too large");
    return ESP_OK;
}

/* ---- the diagonal: H_qq = 2/n sum_x (sum_o g_i^2) h_j^2 ---- */

static void square(size_t n, const double *from, double *to) {
    for (size_t i = 0; i < n; i++) to[i] = from[i] * from[i];
}

static void add_diagonal(tape *t, double scale, double *const *sum, double *const *ret) {
    for (int k = 0; k < t->net->n_layers; k++) memset(sum[k], 0, t->rows * (size_t)t->net->layers[k].n_out * sizeof **sum);
    for (int p = 0; p < t->probes; p++) {
        tape_backward(t, p, 0);
        for (int k = 0; k < t->net->n_layers; k++)
            for (size_t i = 0; i < t->rows * (size_t)t->net->layers[k].n_out; i++) sum[k][i] += t->g[k][i] * t->g[k][i];
    }
    for (int k = 0; k < t->net->n_layers; k++) {
        size_t m = (size_t)t->net->layers[k].n_out, n = (size_t)t->net->layers[k].n_in;
        square(t->rows * n, t->h[k], t->h[k]); /* the chunk is over, its activations are free */
        esp_dgemm(ESP_T, ESP_NO, m, n, t->rows, scale, sum[k], m, t->h[k], n, 1, ret[k], n);
    }
}

esp_code esp_prune_output_diagonal(const esp_net *net, size_t n, const double *inputs, const esp_stop *stop, double *const *ret, esp_error *reterr) {
    tape t;
    double *sum[ESP_MAX_LAYERS] = {0};
    esp_arena *arena = esp_arena_create(0);
    esp_code code = arena ? tape_init(&t, net, arena, reterr) : esp_fail(reterr, ESP_NOMEM, "no memory for derivatives");
    for (int k = 0; !code && k < net->n_layers; k++) {
        sum[k] = ESP_NEW(arena, double, CHUNK *(size_t)net->layers[k].n_out);
        if (!sum[k]) code = esp_fail(reterr, ESP_NOMEM, "no memory for derivatives");
        memset(ret[k], 0, esp_prune_weights(&net->layers[k]) * sizeof **ret);
    }
    for (size_t i = 0; !code && i < n; i += CHUNK) {
        tape_forward(&t, n - i < CHUNK ? n - i : CHUNK, inputs + i * (size_t)esp_net_inputs(net));
        add_diagonal(&t, 2 * t.share / (double)n, sum, ret);
        code = esp_prune_check_stop(stop, reterr);
    }
    for (int k = 0; !code && k < net->n_layers; k++) code = check_finite(esp_prune_weights(&net->layers[k]), ret[k], reterr);
    esp_arena_free(arena);
    return code;
}

esp_code esp_prune_importance(const esp_net *net, int k, size_t n, const double *inputs, const esp_stop *stop, double *ret, esp_error *reterr) {
    tape t;
    size_t width = (size_t)net->layers[k].n_out;
    esp_arena *arena = esp_arena_create(0);
    esp_code code = arena ? tape_init(&t, net, arena, reterr) : esp_fail(reterr, ESP_NOMEM, "no memory for derivatives");
    memset(ret, 0, width * sizeof *ret);
    if (!code && k == net->n_layers - 1) { /* an output depends on its own neuron only: signs alone, once, are exact */
        t.probes = 1;
        t.random = true;
        t.share = 1;
    }
    for (size_t at = 0; !code && at < n; at += CHUNK) {
        tape_forward(&t, n - at < CHUNK ? n - at : CHUNK, inputs + at * (size_t)esp_net_inputs(net));
        for (int p = 0; p < t.probes; p++) {
            tape_backward(&t, p, k);
            for (size_t i = 0; i < t.rows * width; i++) ret[i % width] += t.share / (double)n * t.g[k][i] * t.g[k][i];
        }
        code = esp_prune_check_stop(stop, reterr);
    }
    if (!code) code = check_finite(width, ret, reterr);
    esp_arena_free(arena);
    return code;
}

/* ---- all of it ---- */

/* Rows of J (rows x d) for the probe whose g is on the tape. */
static void put_jacobian(const tape *t, const esp_prune_opts *opts, size_t d, double *ret) {
    size_t at = 0;
    for (int k = 0; k < t->net->n_layers; k++) {
        size_t m = (size_t)t->net->layers[k].n_out, n = (size_t)t->net->layers[k].n_in, stride = n + opts->bias;
        if (!esp_prune_chosen(opts, k)) continue;
        for (size_t r = 0; r < t->rows; r++) {
            for (size_t i = 0; i < m; i++) {
                double *to = ret + r * d + at + i * stride, g = t->g[k][r * m + i];
                for (size_t j = 0; j < n; j++) to[j] = g * t->h[k][r * n + j];
                if (opts->bias) to[n] = g;
            }
        }
        at += m * stride;
    }
    assert(at == d);
}

esp_code esp_prune_output_hessian(const esp_net *net, size_t n, const double *inputs, const esp_prune_opts *opts, size_t d, const esp_stop *stop,
                                  double *ret_h, esp_error *reterr) {
    tape t;
    esp_arena *arena = esp_arena_create(0);
    double *jacobian = arena ? ESP_NEW(arena, double, CHUNK *d) : NULL;
    esp_code code = jacobian ? tape_init(&t, net, arena, reterr) : esp_fail(reterr, ESP_NOMEM, "no memory for derivatives");
    memset(ret_h, 0, d * d * sizeof *ret_h);
    for (size_t i = 0; !code && i < n; i += CHUNK) {
        tape_forward(&t, n - i < CHUNK ? n - i : CHUNK, inputs + i * (size_t)esp_net_inputs(net));
        for (int p = 0; p < t.probes; p++) {
            tape_backward(&t, p, 0);
            put_jacobian(&t, opts, d, jacobian);
            esp_dsyrk(d, t.rows, 2 * t.share / (double)n, jacobian, d, 1, ret_h, d);
        }
        code = esp_prune_check_stop(stop, reterr);
    }
    if (!code) code = check_finite(d * d, ret_h, reterr);
    esp_arena_free(arena);
    return code;
}
