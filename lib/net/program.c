/* SPDX-License-Identifier: Apache-2.0
 * The ReLU program's memory, levels, and the passes over one point. Lowering is lower.c, batches batch.c.
 *
 * Nothing here calls BLAS: certificates rest on the order of operations that program.h states, and the daemon may
 * link this file. */
#include "net/program.h"

#include <stdlib.h>
#include <string.h>

#include "net/program_make.h"

esp_code esp_program_create(size_t n_x, size_t n_r, size_t n_y, esp_program **ret_program, esp_error *reterr) {
    if (n_r > ESP_MAX_RELUS) return esp_fail(reterr, ESP_UNPROCESSABLE, "%zu ReLUs; at most %d are handled at once", n_r, ESP_MAX_RELUS);
    size_t n_numbers = (n_y + n_r) * (n_x + n_r + 1);
    esp_program *program = calloc(1, sizeof *program);
    double *numbers = calloc(n_numbers ? n_numbers : 1, sizeof *numbers);
    int *levels = calloc(2 * n_r + 1, sizeof *levels);
    if (!program || !numbers || !levels) {
        free(program);
        free(numbers);
        free(levels);
        return esp_fail(reterr, ESP_NOMEM, "a program of %zu inputs, %zu ReLUs and %zu outputs", n_x, n_r, n_y);
    }
    *program = (esp_program){.n_x = (int)n_x, .n_r = (int)n_r, .n_y = (int)n_y};
    program->a = numbers;
    program->b = program->a + n_y * n_x;
    program->c0 = program->b + n_y * n_r;
    program->c = program->c0 + n_y;
    program->d = program->c + n_r * n_x;
    program->d0 = program->d + n_r * n_r;
    program->level_end = levels;
    program->level_begin = levels + n_r;
    *ret_program = program;
    return ESP_OK;
}

void esp_program_free(esp_program *program) {
    if (!program) return;
    free(program->a);
    free(program->level_end);
    free(program);
}

static int first_nonzero(const double *row, int n) {
    int j = 0;
    while (j < n && row[j] == 0) j++;
    return j;
}

static int last_nonzero(const double *row, int n) {
    int j = n - 1;
    while (j >= 0 && row[j] == 0) j--;
    return j;
}

void esp_program_seal(esp_program *program, int forced) {
    int n_r = program->n_r, level = -1, start = 0;
    for (int i = 0; i < n_r; i++) {
        const double *row = program->d + (size_t)i * (size_t)n_r;
        if (level < 0 || i == forced || last_nonzero(row, i) >= start) {
            start = i;
            program->level_begin[++level] = i;
        }
        int first = first_nonzero(row, start);
        if (first < program->level_begin[level]) program->level_begin[level] = first;
        program->level_end[level] = i + 1;
    }
    program->n_levels = level + 1;
}

void esp_program_add_product(size_t m, size_t n, size_t k, const double *a, size_t lda, const double *b, size_t ldb, double *c, size_t ldc) {
    for (size_t i = 0; i < m; i++) {
        double *restrict to = c + i * ldc;
        for (size_t j = 0; j < k; j++) {
            double weight = a[i * lda + j];
            if (weight == 0) continue;
            const double *restrict from = b + j * ldb;
            for (size_t col = 0; col < n; col++) to[col] += weight * from[col];
        }
    }
}

/* acc[i] += row i of M (rows x n, stride ld) times v, for up to 4 rows side by side: each sum is sequential in j, as
 * promised, and four of them hide the latency of the addition. */
static void add_dots(size_t rows, size_t n, const double *m, size_t ld, const double *v, double *acc) {
    size_t i = 0;
    for (; i + 4 <= rows; i += 4) {
        const double *m0 = m + i * ld, *m1 = m0 + ld, *m2 = m1 + ld, *m3 = m2 + ld;
        double s0 = acc[i], s1 = acc[i + 1], s2 = acc[i + 2], s3 = acc[i + 3];
        for (size_t j = 0; j < n; j++) {
            s0 += m0[j] * v[j];
            s1 += m1[j] * v[j];
            s2 += m2[j] * v[j];
            s3 += m3[j] * v[j];
        }
        acc[i] = s0;
        acc[i + 1] = s1;
        acc[i + 2] = s2;
        acc[i + 3] = s3;
    }
    for (; i < rows; i++) {
        double sum = acc[i];
        for (size_t j = 0; j < n; j++) sum += m[i * ld + j] * v[j];
        acc[i] = sum;
    }
}

void esp_program_forward(const esp_program *program, const double *x, double *y, double *p, double *r, double *work) {
    size_t n_x = (size_t)program->n_x, n_r = (size_t)program->n_r, n_y = (size_t)program->n_y;
    if (!r) r = work;
    if (n_r) memcpy(r, program->d0, n_r * sizeof *r);
    add_dots(n_r, n_x, program->c, n_x, x, r);
    for (int l = 0; l < program->n_levels; l++) {
        size_t start = l ? (size_t)program->level_end[l - 1] : 0, end = (size_t)program->level_end[l], begin = (size_t)program->level_begin[l];
        add_dots(end - start, start - begin, program->d + start * n_r + begin, n_r, r + begin, r + start);
        if (p) memcpy(p + start, r + start, (end - start) * sizeof *p);
        for (size_t i = start; i < end; i++) r[i] = r[i] < 0 ? 0 : r[i]; /* a NaN passes and is seen at the output */
    }
    memcpy(y, program->c0, n_y * sizeof *y);
    add_dots(n_y, n_x, program->a, n_x, x, y);
    add_dots(n_y, n_r, program->b, n_r, r, y);
}

/* to (n) += weight * row. */
static void add_row(size_t n, double weight, const double *restrict row, double *restrict to) {
    for (size_t j = 0; j < n; j++) to[j] += weight * row[j];
}

void esp_program_backward(const esp_program *program, const double *p, const double *g, double *ret_dx, double *work) {
    size_t n_x = (size_t)program->n_x, n_r = (size_t)program->n_r, n_y = (size_t)program->n_y;
    double *dr = work; /* n_r: derivative in each r, complete when its own ReLU is reached from above */
    memset(ret_dx, 0, n_x * sizeof *ret_dx);
    if (n_r) memset(dr, 0, n_r * sizeof *dr);
    for (size_t k = 0; k < n_y; k++) {
        if (g[k] == 0) continue;
        add_row(n_x, g[k], program->a + k * n_x, ret_dx);
        add_row(n_r, g[k], program->b + k * n_r, dr);
    }
    for (int l = program->n_levels - 1; l >= 0; l--) {
        size_t start = l ? (size_t)program->level_end[l - 1] : 0, begin = (size_t)program->level_begin[l];
        for (size_t i = (size_t)program->level_end[l]; i-- > start;) {
            if (!(p[i] > 0) || dr[i] == 0) continue;
            add_row(n_x, dr[i], program->c + i * n_x, ret_dx);
            add_row(start - begin, dr[i], program->d + i * n_r + begin, dr + begin);
        }
    }
}
