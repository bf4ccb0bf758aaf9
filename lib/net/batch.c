/* SPDX-License-Identifier: Apache-2.0
 * Many points at once, in float: one matrix product for C x and one per level for D r.
 *
 * For sampling planners and fast checks only; whatever is kept is recomputed in double by esp_program_forward. The one
 * file of net/ that calls BLAS, so the daemon must not reach it. */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "base/linalg.h"
#include "net/program.h"

/* ReLUs start .. start+n-1 read the ReLUs begin .. start-1 through d (n x (start - begin)). */
typedef struct panel {
    size_t start, n, begin;
    const float *d;
} panel;

struct esp_batch {
    size_t n_x, n_r, n_y, max_n;
    float *a, *b, *c0, *c, *d0; /* shapes as in the program; c and d0 and the panels together are its ReLU rows */
    float *r; /* max_n x n_r */
    size_t n_panels;
    panel *panels;
    float *numbers; /* the block behind all of them */
};

static float *take(float **at, const double *from, size_t n) {
    float *to = *at;
    for (size_t i = 0; i < n; i++) to[i] = (float)from[i];
    *at += n;
    return to;
}

static size_t panel_numbers(const esp_program *program) {
    size_t n = 0;
    for (int l = 0; l < program->n_levels; l++) {
        int start = l ? program->level_end[l - 1] : 0;
        n += (size_t)(program->level_end[l] - start) * (size_t)(start - program->level_begin[l]);
    }
    return n;
}

static void copy_panels(esp_batch *batch, const esp_program *program, float *at) {
    for (int l = 0; l < program->n_levels; l++) {
        size_t start = l ? (size_t)program->level_end[l - 1] : 0, begin = (size_t)program->level_begin[l];
        panel *to = &batch->panels[batch->n_panels++];
        *to = (panel){start, (size_t)program->level_end[l] - start, begin, at};
        for (size_t i = 0; i < to->n; i++) (void)take(&at, program->d + (start + i) * batch->n_r + begin, start - begin);
    }
}

esp_code esp_batch_create(const esp_program *program, int max_n, esp_batch **ret_batch, esp_error *reterr) {
    assert(max_n >= 1);
    size_t n_x = (size_t)program->n_x, n_r = (size_t)program->n_r, n_y = (size_t)program->n_y;
    size_t total = (n_y + n_r) * (n_x + 1) + n_y * n_r + panel_numbers(program) + (size_t)max_n * n_r;
    esp_batch *batch = calloc(1, sizeof *batch);
    float *numbers = calloc(total + 1, sizeof *numbers);
    panel *panels = calloc((size_t)program->n_levels + 1, sizeof *panels);
    if (!batch || !numbers || !panels) {
        free(batch);
        free(numbers);
        free(panels);
        return esp_fail(reterr, ESP_NOMEM, "a batch of %d points", max_n);
    }
    float *at = numbers;
    *batch = (esp_batch){.n_x = n_x, .n_r = n_r, .n_y = n_y, .max_n = (size_t)max_n, .panels = panels, .numbers = numbers};
    batch->a = take(&at, program->a, n_y * n_x);
    batch->b = take(&at, program->b, n_y * n_r);
    batch->c0 = take(&at, program->c0, n_y);
    batch->c = take(&at, program->c, n_r * n_x);
    batch->d0 = take(&at, program->d0, n_r);
    batch->r = at;
    copy_panels(batch, program, at + (size_t)max_n * n_r);
    *ret_batch = batch;
    return ESP_OK;
}

void esp_batch_free(esp_batch *batch) {
    if (!batch) return;
    free(batch->panels);
    free(batch->numbers);
    free(batch);
}

/* to (n x m) = bias (m) in every row, then += from (n x k) W' (m x k). */
static void affine(size_t n, size_t m, size_t k, const float *bias, const float *w, const float *from, float *to) {
    for (size_t i = 0; i < n; i++) memcpy(to + i * m, bias, m * sizeof *to);
    if (k) esp_sgemm(ESP_NO, ESP_T, n, m, k, 1, from, k, w, k, 1, to, m);
}

void esp_batch_forward(esp_batch *batch, int n_points, const float *x, float *y) {
    size_t n = (size_t)n_points, n_r = batch->n_r;
    assert(n_points >= 0 && n <= batch->max_n);
    if (n == 0) return;
    affine(n, batch->n_y, batch->n_x, batch->c0, batch->a, x, y);
    if (n_r == 0) return;
    affine(n, n_r, batch->n_x, batch->d0, batch->c, x, batch->r);
    for (size_t l = 0; l < batch->n_panels; l++) {
        const panel *level = &batch->panels[l];
        size_t k = level->start - level->begin;
        float *r = batch->r + level->start;
        if (k) esp_sgemm(ESP_NO, ESP_T, n, level->n, k, 1, batch->r + level->begin, n_r, level->d, k, 1, r, n_r);
        for (size_t i = 0; i < n; i++)
            for (size_t j = 0; j < level->n; j++) r[i * n_r + j] = r[i * n_r + j] < 0 ? 0 : r[i * n_r + j];
    }
    esp_sgemm(ESP_NO, ESP_T, n, batch->n_y, n_r, 1, batch->r, n_r, batch->b, n_r, 1, y, batch->n_y);
}
