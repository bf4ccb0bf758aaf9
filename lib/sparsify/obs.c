/* SPDX-License-Identifier: Apache-2.0
 * OBS (Hassibi and Stork, 1993): weights leave one by one, the cheapest first, and those that stay move to make up for it.
 *
 * With the error 1/2 dw' H dw, taking out w_q at the best setting of all others costs
 *     L_q = w_q^2 / (2 [H^-1]_qq)     and moves     dw = -(w_q / [H^-1]_qq) H^-1 e_q,
 * and the inverse for those that are left is  H^-1 - H^-1 e_q e_q' H^-1 / [H^-1]_qq.
 *
 * One layer: rows share H but not its inverse, as they lose different weights. Each row is traced to its end on its own
 * (d steps of d^2), and what the layer's greedy order would have taken follows from the traces: a greedy merge of
 * sequences takes their elements in the order of their running maximum. Between rows a loss counts by the row's importance.
 *
 * The trace only decides what goes. The weights that stay are then solved for afresh, from the network's own weights and
 *     H_SS (w^_S - w_S) = H_SQ w_Q,
 * which is the optimum for that mask and owes nothing to the rounding of many down-dates.
 *
 * The whole network is one row: all parameters of the chosen layers with the Hessian of the outputs. */
#include <assert.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/linalg.h"
#include "sparsify/prune_parts.h"

enum { CANDIDATE, KEPT, GONE };
enum { LAZY = 32 };

/* Parameters that share one inverse. It is H^-1 = inverse - sum of pivots' rows p p'. When LAZY of them are there the sum is
 * brought in by one matrix product, and rows and columns of what is gone are left out; only the diagonal is always up to
 * date. What is in the inverse is numbered anew each time (`id`); all else goes by parameter. */
typedef struct trace {
    size_t d;
    size_t m, *id; /* parameters in the inverse, rising; d */
    double *inverse; /* m x m */
    double *pivots; /* LAZY x m: rows of H^-1 at their turn, over the root of the diagonal */
    size_t n_pivots;
    double *row; /* m */
    double *diagonal; /* d */
    double *w; /* d: as moved so far */
    uint8_t *state; /* d */
    const uint8_t *dead; /* d: they cost nothing */
    size_t group; /* 0, or candidates leave only while their group wants zeros */
    size_t *wanted; /* d / group, rounded up */
    size_t n, *order; /* d: what left, in order */
    double *loss; /* d */
} trace;

static esp_code trace_init(trace *t, size_t d, esp_arena *arena, esp_error *reterr) {
    *t = (trace){.d = d};
    t->id = ESP_NEW(arena, size_t, d);
    t->inverse = ESP_NEW(arena, double, d *d);
    t->pivots = ESP_NEW(arena, double, LAZY *d);
    t->row = ESP_NEW(arena, double, d);
    t->diagonal = ESP_NEW(arena, double, d);
    t->w = ESP_NEW(arena, double, d);
    t->state = ESP_NEW(arena, uint8_t, d);
    t->wanted = ESP_NEW(arena, size_t, d);
    t->order = ESP_NEW(arena, size_t, d);
    t->loss = ESP_NEW(arena, double, d);
    bool made = t->id && t->inverse && t->pivots && t->row && t->diagonal && t->w && t->state && t->wanted && t->order && t->loss;
    return made ? ESP_OK : esp_fail(reterr, ESP_NOMEM, "OBS on %zu weights", d);
}

static double loss_of(const trace *t, size_t q) {
    return t->dead[q] ? 0 : t->w[q] * t->w[q] / (2 * t->diagonal[q]);
}

/* Its number in the inverse, m when there is none. */
static size_t cheapest(const trace *t) {
    size_t found = t->m;
    double best = INFINITY;
    for (size_t c = 0; c < t->m; c++) {
        size_t q = t->id[c];
        if (t->state[q] != CANDIDATE || (t->group && !t->wanted[q / t->group])) continue;
        double loss = loss_of(t, q);
        if (found < t->m && !(loss < best)) continue;
        found = c;
        best = loss;
    }
    return found;
}

/* Row c of H^-1 as it is now. */
static void current_row(const trace *t, size_t c) {
    memcpy(t->row, t->inverse + c * t->m, t->m * sizeof *t->row);
    for (size_t k = 0; k < t->n_pivots; k++) {
        const double *restrict p = t->pivots + k * t->m;
        double factor = p[c];
        if (factor == 0) continue;
        for (size_t e = 0; e < t->m; e++) t->row[e] -= factor * p[e];
    }
}

/* Brings the pivots in and leaves out what is gone: what stays moves towards the front, row after row. */
static void bring_in(trace *t) {
    size_t m = t->m, kept = 0;
    esp_dgemm(ESP_T, ESP_NO, m, m, t->n_pivots, -1, t->pivots, m, t->pivots, m, 1, t->inverse, m);
    t->n_pivots = 0;
    for (size_t c = 0; c < m; c++)
        if (t->state[t->id[c]] != GONE) t->order[t->d - 1 - kept++] = c; /* the free end of `order` lends its room */
    for (size_t a = 0; a < kept; a++)
        for (size_t b = 0; b < kept; b++) t->inverse[a * kept + b] = t->inverse[t->order[t->d - 1 - a] * m + t->order[t->d - 1 - b]];
    for (size_t a = 0; a < kept; a++) t->id[a] = t->id[t->order[t->d - 1 - a]];
    t->m = kept;
}

static esp_code take_out(trace *t, size_t number, esp_error *reterr) {
    size_t q = t->id[number];
    current_row(t, number);
    double pivot = t->row[number];
    if (!(pivot > 0) || !isfinite(pivot))
        return esp_fail(reterr, ESP_NUMERIC, "the calibration inputs do not tell the weights apart: more of them, or damping, are needed");
    double step = t->w[q] / pivot, root = sqrt(pivot), *restrict p = t->pivots + t->n_pivots * t->m;
    t->state[q] = GONE;
    for (size_t c = 0; c < t->m; c++) {
        p[c] = t->row[c] / root;
        t->w[t->id[c]] -= step * t->row[c];
        t->diagonal[t->id[c]] -= p[c] * p[c];
    }
    t->w[q] = 0;
    if (++t->n_pivots == LAZY) bring_in(t);
    return ESP_OK;
}

/* Those that came as 0 leave first and at no cost; then up to `steps`. */
static esp_code run_trace(trace *t, size_t steps, const uint8_t *gone, const esp_stop *stop, esp_error *reterr) {
    esp_code code = ESP_OK;
    t->n = t->n_pivots = 0;
    t->m = t->d;
    for (size_t q = 0; q < t->d; q++) {
        t->id[q] = q;
        t->diagonal[q] = t->inverse[q * (t->d + 1)];
    }
    for (size_t c = 0; !code && c < t->m;) {
        size_t q = t->id[c], before = t->m;
        if (!gone[q] || t->state[q] == GONE) {
            c++;
            continue;
        }
        if (t->group && t->wanted[q / t->group]) t->wanted[q / t->group]--;
        code = take_out(t, c, reterr);
        if (t->m != before) c = 0; /* numbered anew */
    }
    for (size_t c; !code && t->n < steps && (c = cheapest(t)) < t->m;) {
        size_t q = t->id[c];
        t->loss[t->n] = loss_of(t, q);
        t->order[t->n++] = q;
        if (t->group) t->wanted[q / t->group]--;
        code = take_out(t, c, reterr);
        if (!code) code = esp_prune_check_stop(stop, reterr);
    }
    return code;
}

/* w (d) becomes the optimum with the masked ones 0; work is d x d, index and x have room for d. */
static esp_code solve_survivors(size_t d, const double *h, const uint8_t *mask, double *w, double *work, size_t *index, double *x,
                                esp_error *reterr) {
    size_t n = 0;
    for (size_t s = 0; s < d; s++)
        if (!mask[s]) index[n++] = s;
    for (size_t a = 0; a < n; a++) {
        const double *row = h + index[a] * d;
        x[a] = 0;
        for (size_t q = 0; q < d; q++)
            if (mask[q]) x[a] += row[q] * w[q];
        for (size_t b = a; b < n; b++) work[a * n + b] = row[index[b]];
    }
    if (esp_spd_solve(n, work, x, NULL)) return esp_fail(reterr, ESP_NUMERIC, "the Hessian of the weights that stay is singular: damping is needed");
    for (size_t q = 0; q < d; q++)
        if (mask[q]) w[q] = 0;
    for (size_t a = 0; a < n; a++) w[index[a]] += x[a];
    return ESP_OK;
}

static esp_code invert(size_t d, const double *h, double *ret_inverse, esp_error *reterr) {
    memcpy(ret_inverse, h, d * d * sizeof *h);
    if (!esp_spd_inverse(d, ret_inverse, NULL)) return ESP_OK;
    return esp_fail(reterr, ESP_NUMERIC, "the Hessian is singular: more calibration inputs, or damping, are needed");
}

/* ---- one layer ---- */

typedef struct layer_work {
    esp_prune_layer *layer;
    trace t;
    double *shared; /* cols x cols: the inverse before any row touched it */
    double *before; /* cols: a row as it came */
    double *score; /* rows x cols: running maximum of the losses, by step */
    size_t *order; /* rows x cols: what the step took */
    uint8_t *taken; /* rows x cols, by step */
    esp_prune_item *items;
} layer_work;

static esp_code layer_init(layer_work *work, esp_prune_layer *layer, esp_arena *arena, esp_error *reterr) {
    size_t d = layer->cols, n = layer->rows * d;
    *work = (layer_work){.layer = layer};
    esp_code code = trace_init(&work->t, d, arena, reterr);
    if (code) return code;
    work->t.dead = layer->dead;
    work->t.group = (size_t)layer->opts->group;
    work->shared = ESP_NEW(arena, double, d *d);
    work->before = ESP_NEW(arena, double, d);
    work->score = ESP_NEW(arena, double, n);
    work->order = ESP_NEW(arena, size_t, n);
    work->taken = ESP_NEW(arena, uint8_t, n);
    work->items = ESP_NEW(arena, esp_prune_item, n);
    if (!work->before || !work->score || !work->order || !work->taken || !work->items || !work->shared)
        return esp_fail(reterr, ESP_NOMEM, "OBS on a layer of %zu x %zu", layer->rows, d);
    code = esp_prune_hessian(layer, reterr);
    return code ? code : invert(d, layer->h, work->shared, reterr);
}

/* The row's trace; the weights of a neuron that nothing listens to go in any order. */
static esp_code trace_row(layer_work *work, size_t i, esp_error *reterr) {
    esp_prune_layer *layer = work->layer;
    trace *t = &work->t;
    size_t d = t->d, m = t->group;
    memcpy(t->w, layer->w + i * d, d * sizeof *t->w);
    memset(t->state, CANDIDATE, d);
    for (size_t j = 0; m && j < d; j += m) t->wanted[j / m] = esp_prune_group_zeros(d - j < m ? d - j : m);
    if (!(layer->importance[i] > 0)) {
        memset(t->w, 0, d * sizeof *t->w);
        for (size_t j = 0; j < d * d; j++) t->inverse[j] = j % (d + 1) == 0;
    } else {
        memcpy(t->inverse, work->shared, d * d * sizeof *t->inverse);
    }
    return run_trace(t, d, layer->mask + i * d, layer->stop, reterr);
}

/* With a pattern all that was traced goes; without, it waits for the other rows. */
static void keep_trace(layer_work *work, size_t i) {
    const trace *t = &work->t;
    size_t d = t->d;
    double highest = 0;
    for (size_t s = 0; s < d; s++) {
        size_t at = i * d + s;
        work->taken[at] = s >= t->n; /* past the trace's end there is nothing to take */
        if (s >= t->n) continue;
        double loss = work->layer->importance[i] * t->loss[s];
        if (loss > highest) highest = loss;
        work->score[at] = highest;
        work->order[at] = t->order[s];
        if (t->group) work->layer->mask[i * d + t->order[s]] = 1;
    }
}

static void merge_traces(layer_work *work) {
    esp_prune_layer *layer = work->layer;
    size_t n = layer->rows * layer->cols, past = 0, gone = 0;
    for (size_t at = 0; at < n; at++) {
        past += work->taken[at];
        gone += layer->mask[at];
        if (work->taken[at]) work->order[at] = layer->cols;
    }
    if (layer->target <= gone) return;
    esp_prune_choose(n, work->score, past + layer->target - gone, work->taken, work->items);
    for (size_t at = 0; at < n; at++)
        if (work->taken[at] && work->order[at] < layer->cols) layer->mask[at / layer->cols * layer->cols + work->order[at]] = 1;
}

/* What stays of row i. */
static esp_code solve_row(layer_work *work, size_t i, esp_error *reterr) {
    esp_prune_layer *layer = work->layer;
    size_t d = layer->cols;
    double *w = layer->w + i * d;
    const uint8_t *mask = layer->mask + i * d;
    if (!memchr(mask, 1, d)) return ESP_OK;
    memcpy(work->before, w, d * sizeof *w);
    esp_code code = solve_survivors(d, layer->h, mask, w, work->t.inverse, work->t.order, work->t.loss, reterr);
    if (!code && layer->opts->bias) esp_prune_shift_bias(layer, i, work->before);
    return code ? code : esp_prune_check_stop(layer->stop, reterr);
}

esp_code esp_prune_obs(esp_prune_layer *layer, esp_error *reterr) {
    layer_work work;
    esp_arena *arena = esp_arena_create(0);
    esp_code code = arena ? layer_init(&work, layer, arena, reterr) : esp_fail(reterr, ESP_NOMEM, "OBS");
    for (size_t i = 0; !code && i < layer->rows; i++) {
        code = trace_row(&work, i, reterr);
        if (!code) keep_trace(&work, i);
    }
    if (!code && !work.t.group) merge_traces(&work);
    for (size_t i = 0; !code && i < layer->rows; i++) code = solve_row(&work, i, reterr);
    esp_arena_free(arena);
    return code;
}

/* ---- the whole network ---- */

typedef struct network_work {
    size_t d, weights, gone;
    double *h;
    uint8_t *mask, *dead;
    trace t;
} network_work;

/* Parameters to (or from) one vector, in the order of the Hessian. */
static void move_parameters(esp_net *net, const esp_prune_opts *opts, double *vector, bool back) {
    for (int k = 0; k < net->n_layers; k++) {
        esp_layer *layer = &net->layers[k];
        size_t n = (size_t)layer->n_in, stride = n + opts->bias;
        if (!esp_prune_chosen(opts, k)) continue;
        for (size_t i = 0; i < (size_t)layer->n_out; i++, vector += stride) {
            memcpy(back ? layer->w + i * n : vector, back ? vector : layer->w + i * n, n * sizeof *vector);
            if (opts->bias) *(back ? layer->b + i : vector + n) = *(back ? vector + n : layer->b + i);
        }
    }
}

static void mark_parameters(const esp_net *net, const esp_prune_opts *opts, network_work *work) {
    size_t at = 0;
    for (int k = 0; k < net->n_layers; k++) {
        if (!esp_prune_chosen(opts, k)) continue;
        for (size_t i = 0; i < (size_t)net->layers[k].n_out; i++) {
            for (size_t j = 0; j < (size_t)net->layers[k].n_in; j++, at++) {
                work->mask[at] = work->t.w[at] == 0;
                work->gone += work->mask[at];
                work->weights++;
            }
            if (opts->bias) work->t.state[at++] = KEPT;
        }
    }
}

static esp_code network_init(const esp_net *net, const esp_prune_opts *opts, esp_arena *arena, network_work *work, esp_error *reterr) {
    size_t d = 0;
    for (int k = 0; k < net->n_layers; k++)
        if (esp_prune_chosen(opts, k)) d += (size_t)net->layers[k].n_out * ((size_t)net->layers[k].n_in + opts->bias);
    if (d > ESP_PRUNE_OBS_MAX)
        return esp_fail(reterr, ESP_UNPROCESSABLE,
                        "OBS over the whole network takes at most %d parameters, not %zu: choose layers, or scope \"layer\"", ESP_PRUNE_OBS_MAX, d);
    *work = (network_work){.d = d, .h = ESP_NEW(arena, double, d *d), .mask = ESP_NEW(arena, uint8_t, d), .dead = ESP_NEW(arena, uint8_t, d)};
    if (!work->h || !work->mask || !work->dead) return esp_fail(reterr, ESP_NOMEM, "OBS over %zu parameters", d);
    esp_code code = trace_init(&work->t, d, arena, reterr);
    work->t.dead = work->dead;
    return code;
}

esp_code esp_prune_obs_network(esp_net *net, size_t n, const double *inputs, const esp_prune_opts *opts, const esp_stop *stop, esp_error *reterr) {
    network_work work = {0};
    esp_arena *arena = esp_arena_create(0);
    esp_code code = arena ? network_init(net, opts, arena, &work, reterr) : esp_fail(reterr, ESP_NOMEM, "OBS");
    if (!code) code = esp_prune_output_hessian(net, n, inputs, opts, work.d, stop, work.h, reterr);
    if (code) goto out;
    esp_prune_damp(work.d, opts->damping, work.h, work.dead);
    move_parameters(net, opts, work.t.w, false);
    mark_parameters(net, opts, &work);
    size_t target = esp_prune_target(opts->sparsity, work.weights);
    code = invert(work.d, work.h, work.t.inverse, reterr);
    if (!code) code = run_trace(&work.t, target > work.gone ? target - work.gone : 0, work.mask, stop, reterr);
    if (code) goto out;
    for (size_t q = 0; q < work.d; q++) work.mask[q] = work.t.state[q] == GONE;
    move_parameters(net, opts, work.t.w, false); /* as they came: the trace has moved its own */
    code = solve_survivors(work.d, work.h, work.mask, work.t.w, work.t.inverse, work.t.order, work.t.loss, reterr);
    if (!code) move_parameters(net, opts, work.t.w, true);
out:
    esp_arena_free(arena);
    return code;
}
