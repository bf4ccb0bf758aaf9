/* SPDX-License-Identifier: Apache-2.0
 * Ranking weights, and the two methods that are a ranking and no more: magnitude and OBD.
 *
 * OBD (LeCun, Denker and Solla, 1990): to second order, setting w_q alone to 0 costs w_q^2 H_qq / 2. H is that of the
 * network's outputs at the network itself (gauss_newton.c), so weights of different layers can be compared, and a weight
 * whose neuron is off or whose input is 0 at every calibration input costs nothing. */
#include <assert.h>
#include <math.h>
#include <stdlib.h>

#include "sparsify/prune_parts.h"

static int by_score(const void *a, const void *b) {
    const esp_prune_item *x = a, *y = b;
    if (x->score != y->score) return x->score < y->score ? -1 : 1;
    return (x->index > y->index) - (x->index < y->index);
}

void esp_prune_choose(size_t n, const double *score, size_t target, uint8_t *mask, esp_prune_item *items) {
    size_t marked = 0, left = 0;
    for (size_t i = 0; i < n; i++) {
        if (mask[i])
            marked++;
        else
            items[left++] = (esp_prune_item){score[i], i};
    }
    if (target <= marked) return;
    qsort(items, left, sizeof *items, by_score);
    for (size_t i = 0; i < left && i < target - marked; i++) mask[items[i].index] = 1;
}

void esp_prune_choose_group(size_t rows, size_t t, const double *score, size_t ld, uint8_t *mask, size_t mask_ld) {
    esp_prune_item items[64];
    assert(t <= 64);
    for (size_t i = 0; i < rows; i++) esp_prune_choose(t, score + i * ld, esp_prune_group_zeros(t), mask + i * mask_ld, items);
}

size_t esp_prune_target(double sparsity, size_t n) {
    size_t target = (size_t)llround(sparsity * (double)n);
    return target < n ? target : n;
}

/* Every layer's scores and masks lie one after another, so that a ranking may be of one layer or of all. */
typedef struct ranking {
    size_t n; /* weights of the chosen layers */
    double *score;
    uint8_t *mask;
    esp_prune_item *items;
    double *diagonal; /* OBD: of all layers */
    double *of_layer[ESP_MAX_LAYERS]; /* into diagonal */
} ranking;

static esp_code ranking_init(ranking *r, const esp_net *net, const esp_prune_opts *opts, esp_arena *arena, esp_error *reterr) {
    size_t all = 0;
    for (int k = 0; k < net->n_layers; k++) {
        all += esp_prune_weights(&net->layers[k]);
        if (esp_prune_chosen(opts, k)) r->n += esp_prune_weights(&net->layers[k]);
    }
    bool obd = opts->method == ESP_PRUNE_OBD;
    r->score = ESP_NEW(arena, double, r->n);
    r->mask = ESP_NEW(arena, uint8_t, r->n);
    r->items = ESP_NEW(arena, esp_prune_item, r->n);
    r->diagonal = obd ? ESP_NEW(arena, double, all) : NULL;
    if (!r->score || !r->mask || !r->items || (obd && !r->diagonal)) return esp_fail(reterr, ESP_NOMEM, "a ranking of %zu weights", r->n);
    double *at = r->diagonal;
    for (int k = 0; obd && k < net->n_layers; k++) {
        r->of_layer[k] = at;
        at += esp_prune_weights(&net->layers[k]);
    }
    return ESP_OK;
}

/* A neuron that is zero makes its weights free; so does H_qq = 0, which must not meet an overflown square. */
static void score_layer(const esp_layer *layer, const double *diagonal, double *score, uint8_t *mask) {
    size_t cols = (size_t)layer->n_in;
    for (size_t i = 0; i < (size_t)layer->n_out; i++) {
        for (size_t j = 0; j < cols; j++) {
            size_t q = i * cols + j;
            double w = layer->w[q], h = diagonal ? diagonal[q] : 1;
            mask[q] = w == 0;
            if (layer->act[i] == ESP_ACT_ZERO || !(h > 0))
                score[q] = 0;
            else
                score[q] = diagonal ? 0.5 * w * w * h : fabs(w);
        }
    }
}

static void choose_in_layer(const esp_layer *layer, const esp_prune_opts *opts, const double *score, uint8_t *mask, esp_prune_item *items) {
    size_t n = esp_prune_weights(layer), cols = (size_t)layer->n_in, m = (size_t)opts->group;
    if (!m) {
        esp_prune_choose(n, score, esp_prune_target(opts->sparsity, n), mask, items);
        return;
    }
    for (size_t j = 0; j < cols; j += m) esp_prune_choose_group((size_t)layer->n_out, cols - j < m ? cols - j : m, score + j, cols, mask + j, cols);
}

/* Scores and, by the scope, the choice. */
static esp_code rank(ranking *r, const esp_net *net, size_t n, const double *inputs, const esp_prune_opts *opts, const esp_stop *stop,
                     esp_arena *arena, esp_error *reterr) {
    size_t at = 0;
    esp_code code = ranking_init(r, net, opts, arena, reterr);
    if (!code && r->diagonal) code = esp_prune_output_diagonal(net, n, inputs, stop, r->of_layer, reterr);
    for (int k = 0; !code && k < net->n_layers; k++) {
        const esp_layer *layer = &net->layers[k];
        if (!esp_prune_chosen(opts, k)) continue;
        score_layer(layer, r->of_layer[k], r->score + at, r->mask + at);
        if (opts->scope == ESP_PRUNE_LAYER) choose_in_layer(layer, opts, r->score + at, r->mask + at, r->items);
        at += esp_prune_weights(layer);
    }
    if (!code && opts->scope == ESP_PRUNE_NETWORK) esp_prune_choose(r->n, r->score, esp_prune_target(opts->sparsity, r->n), r->mask, r->items);
    return code;
}

esp_code esp_prune_by_saliency(esp_net *net, size_t n, const double *inputs, const esp_prune_opts *opts, const esp_stop *stop, esp_error *reterr) {
    ranking r = {0};
    size_t at = 0;
    esp_arena *arena = esp_arena_create(0);
    esp_code code = arena ? rank(&r, net, n, inputs, opts, stop, arena, reterr) : esp_fail(reterr, ESP_NOMEM, "a ranking");
    for (int k = 0; !code && k < net->n_layers; k++) {
        if (!esp_prune_chosen(opts, k)) continue;
        for (size_t q = 0; q < esp_prune_weights(&net->layers[k]); q++, at++)
            if (r.mask[at]) net->layers[k].w[q] = 0;
    }
    esp_arena_free(arena);
    return code;
}

esp_code esp_prune_shares(const esp_net *net, size_t n, const double *inputs, const esp_prune_opts *opts, const esp_stop *stop,
                          size_t ret_targets[ESP_MAX_LAYERS], esp_error *reterr) {
    ranking r = {0};
    esp_prune_opts obd = *opts;
    size_t at = 0;
    obd.method = ESP_PRUNE_OBD;
    obd.scope = ESP_PRUNE_NETWORK;
    esp_arena *arena = esp_arena_create(0);
    esp_code code = arena ? rank(&r, net, n, inputs, &obd, stop, arena, reterr) : esp_fail(reterr, ESP_NOMEM, "a ranking");
    for (int k = 0; !code && k < net->n_layers; k++) {
        ret_targets[k] = 0;
        if (!esp_prune_chosen(opts, k)) continue;
        for (size_t q = 0; q < esp_prune_weights(&net->layers[k]); q++) ret_targets[k] += r.mask[at++];
    }
    esp_arena_free(arena);
    return code;
}
