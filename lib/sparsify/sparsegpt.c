/* SPDX-License-Identifier: Apache-2.0
 * SparseGPT (Frantar and Alistarh, 2023): OBS with one order of columns for all rows, so that they share one inverse.
 *
 * With H^-1 = U'U, U upper triangular: U_jj^2 is [(H_{j:,j:})^-1]_jj, the inverse that is left when columns before j are
 * settled, and U_{j,j:} / U_jj its row, the direction of OBS. Going left to right, column j of a row either stays or
 * loses its weight; then
 *     err = (w_j - w^_j) / U_jj,     w_{j:} -= err U_{j,j:}.
 * Columns are taken in blocks: the weights to lose are chosen for a block at a time, lowest w^2 / U_jj^2 (times the row's importance) over all rows, and the
 * columns right of the block are moved once, by one matrix product. A pattern chooses when it comes to a group's first
 * column, by the weights as they are then. d^3 + rows d^2 in all, against rows d^3 of OBS; what is settled is not
 * looked at again, so OBS on the same mask is at least as good. */
#include <stdlib.h>
#include <string.h>

#include "base/linalg.h"
#include "sparsify/prune_parts.h"

typedef struct sweep {
    esp_prune_layer *layer;
    double *u; /* cols x cols, upper */
    double *before; /* rows x cols: the weights as they came */
    double *score; /* rows x block */
    double *err; /* rows x block */
    uint8_t *mask; /* rows x block: the layer's, gathered */
    esp_prune_item *items; /* rows x block */
    size_t block; /* a multiple of the group */
    size_t live, free; /* weights that did not come as 0; how many of them are to go */
    size_t seen, gone; /* of those: up to the end of the block at hand; gone left of it */
} sweep;

static esp_code sweep_init(sweep *s, esp_prune_layer *layer, esp_arena *arena, esp_error *reterr) {
    size_t d = layer->cols, m = layer->opts->group ? (size_t)layer->opts->group : 1, block = ((size_t)layer->opts->block + m - 1) / m * m;
    if (block > d) block = d;
    *s = (sweep){.layer = layer, .block = block};
    s->u = ESP_NEW(arena, double, d *d);
    s->before = ESP_NEW(arena, double, layer->rows *d);
    s->score = ESP_NEW(arena, double, layer->rows *block);
    s->err = ESP_NEW(arena, double, layer->rows *block);
    s->mask = ESP_NEW(arena, uint8_t, layer->rows * block);
    s->items = ESP_NEW(arena, esp_prune_item, layer->rows * block);
    if (!s->u || !s->before || !s->score || !s->err || !s->mask || !s->items)
        return esp_fail(reterr, ESP_NOMEM, "SparseGPT on a layer of %zu x %zu", layer->rows, d);
    for (size_t q = 0; q < layer->rows * d; q++) s->live += !layer->mask[q];
    size_t zeros = layer->rows * d - s->live;
    s->free = layer->target > zeros ? layer->target - zeros : 0;
    memcpy(s->before, layer->w, layer->rows * d * sizeof *s->before);
    esp_code code = esp_prune_hessian(layer, reterr);
    if (code) return code;
    memcpy(s->u, layer->h, d * d * sizeof *s->u);
    if (!esp_spd_inverse(d, s->u, NULL) && !esp_cholesky(d, s->u, NULL)) return ESP_OK;
    return esp_fail(reterr, ESP_NUMERIC, "the Hessian is singular: more calibration inputs, or damping, are needed");
}

/* Scores of t columns from j on, rows x t, and their masks. */
static void gather(sweep *s, size_t j, size_t t) {
    const esp_prune_layer *layer = s->layer;
    for (size_t i = 0; i < layer->rows; i++) {
        for (size_t c = 0; c < t; c++) {
            double w = layer->w[i * layer->cols + j + c], pivot = s->u[(j + c) * (layer->cols + 1)];
            bool cheap = layer->dead[j + c] || !(layer->importance[i] > 0);
            s->score[i * t + c] = cheap ? 0 : layer->importance[i] * w * w / (pivot * pivot);
            s->mask[i * t + c] = layer->mask[i * layer->cols + j + c];
        }
    }
}

static void scatter(sweep *s, size_t j, size_t t) {
    for (size_t i = 0; i < s->layer->rows; i++) memcpy(s->layer->mask + i * s->layer->cols + j, s->mask + i * t, t);
}

/* As many of the block as bring the share of what is to go to that of what has been seen; what came as 0 goes anyway. */
static void choose_block(sweep *s, size_t j, size_t t) {
    size_t n = s->layer->rows * t, zeros = 0;
    gather(s, j, t);
    for (size_t i = 0; i < n; i++) zeros += s->mask[i];
    s->seen += n - zeros;
    size_t share = s->live ? (size_t)((double)s->free * (double)s->seen / (double)s->live + 0.5) : 0;
    esp_prune_choose(n, s->score, zeros + share - s->gone, s->mask, s->items);
    s->gone = share;
    scatter(s, j, t);
}

static void choose_pattern(sweep *s, size_t j, size_t t) {
    gather(s, j, t);
    esp_prune_choose_group(s->layer->rows, t, s->score, t, s->mask, t);
    scatter(s, j, t);
}

/* Column j of the block that is [begin, end). */
static void settle(sweep *s, size_t j, size_t begin, size_t end) {
    esp_prune_layer *layer = s->layer;
    size_t d = layer->cols;
    const double *restrict u = s->u + j * d;
    for (size_t i = 0; i < layer->rows; i++) {
        double *restrict w = layer->w + i * d;
        double err = layer->mask[i * d + j] ? w[j] / u[j] : 0;
        s->err[i * (end - begin) + j - begin] = err;
        if (!layer->mask[i * d + j]) continue;
        w[j] = 0;
        for (size_t c = j + 1; c < end; c++) w[c] -= err * u[c];
    }
}

static esp_code run_block(sweep *s, size_t begin, size_t end, esp_error *reterr) {
    esp_prune_layer *layer = s->layer;
    size_t d = layer->cols, m = (size_t)layer->opts->group;
    if (!m) choose_block(s, begin, end - begin);
    for (size_t j = begin; j < end; j++) {
        if (m && j % m == 0) choose_pattern(s, j, d - j < m ? d - j : m);
        settle(s, j, begin, end);
    }
    if (end < d)
        esp_dgemm(ESP_NO, ESP_NO, layer->rows, d - end, end - begin, -1, s->err, end - begin, s->u + begin * d + end, d, 1, layer->w + end, d);
    return esp_prune_check_stop(layer->stop, reterr);
}

esp_code esp_prune_sparsegpt(esp_prune_layer *layer, esp_error *reterr) {
    sweep s;
    esp_arena *arena = esp_arena_create(0);
    esp_code code = arena ? sweep_init(&s, layer, arena, reterr) : esp_fail(reterr, ESP_NOMEM, "SparseGPT");
    for (size_t begin = 0; !code && begin < layer->cols; begin += s.block)
        code = run_block(&s, begin, begin + s.block < layer->cols ? begin + s.block : layer->cols, reterr);
    for (size_t i = 0; !code && layer->opts->bias && i < layer->rows; i++) esp_prune_shift_bias(layer, i, s.before + i * layer->cols);
    esp_arena_free(arena);
    return code;
}
