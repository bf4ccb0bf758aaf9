/* SPDX-License-Identifier: Apache-2.0
 * Pivots by eights. */
#include "plan/pending.h"

#include <string.h>

#define MOST           ESP_PENDING_MOST
#define ALIGNED(array) __builtin_assume_aligned((array), 64)

bool esp_pending_init(esp_pending *p, esp_arena *arena, int m, int widest) {
    *p = (esp_pending){.n = MOST, .m = m, .stride = widest};
    p->factor = ESP_NEW(arena, double, (size_t)(m + 1) * MOST);
    p->row = ESP_NEW(arena, double, (size_t)(widest + 8) * MOST);
    if (!p->factor || !p->row) return false;
    esp_pending_clear(p);
    return true;
}

void esp_pending_clear(esp_pending *p) {
    memset(p->factor, 0, (size_t)p->n * (size_t)p->m * sizeof *p->factor);
    memset(p->row, 0, (size_t)p->n * (size_t)p->stride * sizeof *p->row);
    p->n = 0;
}

static double *factor_of(const esp_pending *p, int j) {
    return p->factor + (size_t)j * (size_t)p->m;
}

static double *row_of(const esp_pending *p, int j) {
    return p->row + (size_t)j * (size_t)p->stride;
}

static inline void add(double *restrict to, const double *restrict from, double scale, int n) {
#pragma omp simd
    for (int k = 0; k < n; k++) to[k] += scale * from[k];
}

void esp_pending_give(esp_pending *p, int i, double *row, int ld) {
    for (int j = 0; j < p->n; j++) {
        double *f = factor_of(p, j) + i;
        if (*f != 0.0) add(row, row_of(p, j), *f, ld);
        *f = 0.0;
    }
}

void esp_pending_column(const esp_pending *p, const double *t, int ld, int col, double *ret_column) {
    for (int i = 0; i < p->m; i++) ret_column[i] = t[(size_t)i * (size_t)ld + (size_t)col];
    for (int j = 0; j < p->n; j++)
        if (row_of(p, j)[col] != 0.0) add(ret_column, factor_of(p, j), row_of(p, j)[col], p->m);
}

/* The pivot's column is the pivot's row alone from now on. */
static void clear_column(esp_pending *p, double *t, int ld, int row, int col) {
    double own = t[(size_t)row * (size_t)ld + (size_t)col];
    for (int i = 0; i < p->m; i++) t[(size_t)i * (size_t)ld + (size_t)col] = 0.0;
    for (int j = 0; j < p->n; j++) p->row[(size_t)j * (size_t)p->stride + (size_t)col] = 0.0;
    t[(size_t)row * (size_t)ld + (size_t)col] = own;
}

void esp_pending_add(esp_pending *p, double *t, int ld, int row, int col, const double *column) {
    if (p->n == MOST) esp_pending_apply(p, t, ld);
    clear_column(p, t, ld, row, col);
    int j = p->n++;
    memcpy(row_of(p, j), t + (size_t)row * (size_t)ld, (size_t)ld * sizeof *t);
    memcpy(factor_of(p, j), column, (size_t)p->m * sizeof *column);
    factor_of(p, j)[row] = 0.0;
}

/* All multiples at once to two rows, so that each p is read once for both. */
static inline __attribute__((always_inline)) void add_to_two(const esp_pending *p, int i, double *restrict first, double *restrict second, int ld,
                                                             const int n) {
    double *restrict a = ALIGNED(first), *restrict b = ALIGNED(second), f[MOST], g[MOST];
    const double *restrict q = ALIGNED(p->row);
    size_t stride = (size_t)p->stride;
    for (int j = 0; j < n; j++) {
        f[j] = factor_of(p, j)[i];
        g[j] = factor_of(p, j)[i + 1];
    }
#pragma omp simd
    for (int c = 0; c < ld; c++) {
        double x = a[c], y = b[c];
        for (int j = 0; j < n; j++) {
            x += f[j] * q[(size_t)j * stride + (size_t)c];
            y += g[j] * q[(size_t)j * stride + (size_t)c];
        }
        a[c] = x;
        b[c] = y;
    }
}

void esp_pending_apply(esp_pending *p, double *t, int ld) {
    size_t step = (size_t)ld;
    int i = 0;
    for (; p->n > 0 && i + 1 < p->m; i += 2) {
        double *row = t + (size_t)i * step;
        switch ((p->n + 1) / 2) {
        case 1: add_to_two(p, i, row, row + step, ld, 2); break;
        case 2: add_to_two(p, i, row, row + step, ld, 4); break;
        case 3: add_to_two(p, i, row, row + step, ld, 6); break;
        default: add_to_two(p, i, row, row + step, ld, MOST); break;
        }
    }
    if (i < p->m) esp_pending_give(p, i, t + (size_t)i * step, ld);
    esp_pending_clear(p);
}
