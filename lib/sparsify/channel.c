/* SPDX-License-Identifier: Apache-2.0
 * Shares of the layers, norms, and who goes. */
#include "sparsify/channel.h"

#include <assert.h>
#include <math.h>
#include <stdlib.h>

static int by_norm(const void *a, const void *b) {
    const esp_ranked *x = a, *y = b;
    if (x->score < y->score || x->score > y->score) return x->score < y->score ? -1 : 1;
    return x->neuron < y->neuron ? -1 : 1;
}

/* The undecided neurons of a layer, smallest norm first. */
static size_t rank(const esp_ladder *ladder, const esp_channel_layer *layer, esp_ranked *table) {
    size_t n = 0;
    for (size_t i = 0; i < layer->n_out; i++) {
        if (ladder->state[layer->first + i] != ESP_UNDECIDED) continue;
        double norm = 0;
        for (size_t j = 0; j < layer->n_in; j++) norm += fabs((double)layer->w[i * layer->n_in + j]);
        table[n++] = (esp_ranked){norm, layer->first + i, false};
    }
    qsort(table, n, sizeof *table, by_norm);
    return n;
}

static size_t count(const esp_ladder *ladder, const esp_channel_layer *layer) {
    size_t n = 0;
    for (size_t i = 0; i < layer->n_out; i++) n += ladder->state[layer->first + i] == ESP_UNDECIDED;
    return n;
}

/* The layer to give one more to: an empty one first, then the one furthest below its share; the earlier of equals. */
static int neediest(const size_t *has, const size_t *kept, int n_layers, size_t all, size_t keep) {
    int best = -1;
    double most = 0;
    for (int l = 0; l < n_layers; l++) {
        if (kept[l] == has[l]) continue;
        double lack = kept[l] == 0 ? (double)INFINITY : (double)keep * (double)has[l] / (double)all - (double)kept[l];
        if (best >= 0 && !(lack > most)) continue;
        best = l;
        most = lack;
    }
    return best;
}

/* A layer left empty takes one from the fullest, if that can spare it. */
static void fill_empty(const size_t *has, int n_layers, size_t *kept) {
    for (int l = 0; l < n_layers; l++) {
        int fullest = 0;
        for (int k = 1; k < n_layers; k++)
            if (kept[k] > kept[fullest]) fullest = k;
        if (kept[l] > 0 || has[l] == 0 || kept[fullest] < 2) continue;
        kept[fullest]--;
        kept[l]++;
    }
}

/* ret_kept of has, in all `keep` of `all`: whole shares, then one by one. */
static void share(const size_t *has, int n_layers, size_t all, size_t keep, size_t *ret_kept) {
    size_t given = 0;
    for (int l = 0; l < n_layers; l++) given += ret_kept[l] = keep * has[l] / all;
    for (; given < keep; given++) ret_kept[neediest(has, ret_kept, n_layers, all, keep)]++;
    fill_empty(has, n_layers, ret_kept);
}

size_t esp_channel_prune(esp_ladder *ladder, const esp_channel_layer *layers, int n_layers, size_t keep, size_t *ret_pruned) {
    size_t has[ESP_MAX_LAYERS], kept[ESP_MAX_LAYERS], pruned = 0;
    assert(n_layers <= ESP_MAX_LAYERS);
    if (keep >= ladder->n_undecided) return 0;
    for (int l = 0; l < n_layers; l++) has[l] = count(ladder, &layers[l]);
    share(has, n_layers, ladder->n_undecided, keep, kept);
    for (int l = 0; l < n_layers; l++) {
        size_t n = rank(ladder, &layers[l], ladder->table);
        for (size_t r = 0; r + kept[l] < n; r++) {
            size_t neuron = ladder->table[r].neuron;
            ladder->state[neuron] = ESP_ACT_ZERO;
            if (ret_pruned) ret_pruned[pruned] = neuron;
            pruned++;
        }
    }
    ladder->n_undecided = keep;
    esp_ladder_reset(ladder);
    esp_ladder_relu(ladder);
    return pruned;
}
