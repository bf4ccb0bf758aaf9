/* SPDX-License-Identifier: Apache-2.0
 * Tiles of rows and vectors. Written in the compiler's vectors, so that a tile's sums stay in registers; without a
 * wide machine the compiler splits them.
 *
 * A tile of 8 x 3 vectors takes 24 registers for sums, 3 for the panel's row and 1 for the other factor, of 32; a step reads 11
 * numbers or vectors and does 24 multiplications, so that reading is never what is waited for. */
#include "train/product.h"

#include <string.h>

typedef float vector __attribute__((vector_size(ESP_VECTOR * sizeof(float)), may_alias, aligned(4)));
typedef int bits __attribute__((vector_size(ESP_VECTOR * sizeof(int))));

#if defined(__AVX512F__)
#define ROWS ESP_TILE
#define WIDE 3 /* vectors */
#else
#define ROWS 4
#define WIDE 1
#endif

#define INLINE static inline __attribute__((always_inline))

/* Vectors of the panel that begins where `left` vectors are left: no panel of one unless the matrix is that narrow. */
static size_t panel_of(size_t left) {
    if (WIDE == 1 || left == 1) return 1;
    return left == 2 || left == 4 ? 2 : 3;
}

/* ---- panels ---------------------------------------------------------------------------------------------------------- */

void esp_panels(size_t rows, size_t cols, const float *w, float *to) {
    size_t padded = esp_padded(cols), panel;
    for (size_t at = 0; at < padded; at += panel) {
        panel = panel_of((padded - at) / ESP_VECTOR) * ESP_VECTOR;
        size_t here = cols - at < panel ? cols - at : panel;
        for (size_t i = 0; i < rows; i++, to += panel) {
            size_t j = 0;
            for (; j + ESP_VECTOR <= here; j += ESP_VECTOR) esp_copy_vector(w + i * cols + at + j, to + j);
            for (; j < panel; j++) to[j] = j < here ? w[i * cols + at + j] : 0;
        }
    }
}

void esp_panels_transposed(size_t rows, size_t cols, const float *w, float *to) {
    size_t padded = esp_padded(rows), panel;
    for (size_t at = 0; at < padded; at += panel, to += cols * panel) {
        panel = panel_of((padded - at) / ESP_VECTOR) * ESP_VECTOR;
        for (size_t j = 0; j < panel; j++)
            for (size_t i = 0; i < cols; i++) to[i * panel + j] = at + j < rows ? w[(at + j) * cols + i] : 0;
    }
}

/* ---- tiles ----------------------------------------------------------------------------------------------------------- */

typedef enum kind { PLAIN, ACTIVATE, KEEP, MASK, SLOPES } kind;

/* All that a tile needs beside the product; unread fields may be NULL. */
typedef struct finish {
    const float *pos, *neg, *h, *kept; /* kept: p, on the way back */
    float *sums, *p, *positive, *negative;
} finish;

INLINE vector load(const float *from) {
    return *(const vector *)from;
}

INLINE void add(float *to, vector value) {
    *(vector *)to += value;
}

INLINE vector where(bits mask, vector yes, vector no) {
    return (vector)(((bits)yes & mask) | ((bits)no & ~mask));
}

/* Column vector v of the tile whose first number lies at `at`. rows, width: constants where this is inlined. */
INLINE void finish_column(const esp_product *s, const finish *f, kind what, vector *sum, size_t at, size_t column, const int rows, const int width) {
    size_t stride = esp_padded(s->w);
    vector zero = {0}, total = {0}, positive = {0}, negative = {0};
    vector pos = what == PLAIN ? zero : load(f->pos + column), neg = what == PLAIN ? zero : load(f->neg + column);
    for (int i = 0; i < rows; i++, at += stride) {
        vector value = sum[i * width];
        if (what == KEEP) *(vector *)(f->p + at) = value;
        if (what == ACTIVATE || what == KEEP) value *= where(value > 0, pos, neg);
        if (what == SLOPES) {
            vector p = load(f->kept + at), product = value * p;
            positive += where(p > 0, product, zero);
            negative += where(p > 0, zero, product);
            value *= where(p > 0, pos, neg);
        }
        if (what == MASK) value *= where(load(f->h + at) > 0, pos, neg);
        total += value;
        *(vector *)(s->to + at) = value;
    }
    if (what == MASK || what == SLOPES) add(f->sums + column, total);
    if (what == SLOPES) {
        add(f->positive + column, positive);
        add(f->negative + column, negative);
    }
}

INLINE void tile(const esp_product *s, const finish *f, kind what, const float *panel, size_t row, size_t column, const int width) {
    size_t stride = esp_padded(s->k);
    const float *x = s->x + row * stride;
    vector sum[ROWS][WIDE];
    for (int v = 0; v < width; v++) {
        vector start = s->bias ? load(s->bias + column + v * ESP_VECTOR) : (vector){0};
        for (int i = 0; i < ROWS; i++) sum[i][v] = start;
    }
    for (size_t k = 0; k < s->k; k++, panel += width * ESP_VECTOR) {
        vector value[WIDE];
        for (int v = 0; v < width; v++) value[v] = load(panel + v * ESP_VECTOR);
        for (int i = 0; i < ROWS; i++)
            for (int v = 0; v < width; v++) sum[i][v] += x[(size_t)i * stride + k] * value[v];
    }
    for (int v = 0; v < width; v++) {
        size_t here = column + (size_t)v * ESP_VECTOR;
        finish_column(s, f, what, &sum[0][v], row * esp_padded(s->w) + here, here, ROWS, WIDE);
    }
}

INLINE void run(const esp_product *s, const finish *f, kind what) {
    size_t padded = esp_padded(s->w), panel;
    const float *from = s->panels;
    for (size_t column = 0; column < padded; column += panel * ESP_VECTOR) {
        panel = panel_of((padded - column) / ESP_VECTOR);
        for (size_t row = 0; row < s->n; row += ROWS) switch (panel) {
#if WIDE == 3
            case 3: tile(s, f, what, from, row, column, 3); break;
            case 2: tile(s, f, what, from, row, column, 2); break;
#endif
            default: tile(s, f, what, from, row, column, 1); break;
            }
        from += s->k * panel * ESP_VECTOR;
    }
}

void esp_product_run(const esp_product *product) {
    run(product, &(finish){0}, PLAIN);
}

void esp_product_activate(const esp_product *product, const float *pos, const float *neg, float *ret_p) {
    const finish f = {.pos = pos, .neg = neg, .p = ret_p};
    if (ret_p)
        run(product, &f, KEEP);
    else
        run(product, &f, ACTIVATE);
}

void esp_product_mask(const esp_product *product, const esp_mask *mask) {
    const finish f = {mask->pos, mask->neg, mask->h, mask->p, mask->sums, NULL, mask->positive, mask->negative};
    if (mask->p)
        run(product, &f, SLOPES);
    else
        run(product, &f, MASK);
}

/* ---- sums over the rows ---------------------------------------------------------------------------------------------- */

/* rows x width vectors of A'B into c, rows `stride` apart. */
INLINE void outer_tile(size_t n, const float *a, size_t a_stride, const float *b, size_t b_stride, float *c, size_t stride, const int rows,
                       const int width) {
    vector sum[ROWS][WIDE];
    for (int i = 0; i < rows; i++)
        for (int v = 0; v < width; v++) sum[i][v] = (vector){0};
    for (size_t k = 0; k < n; k++, a += a_stride, b += b_stride) {
        vector value[WIDE];
        for (int v = 0; v < width; v++) value[v] = load(b + v * ESP_VECTOR);
        for (int i = 0; i < rows; i++)
            for (int v = 0; v < width; v++) sum[i][v] += a[i] * value[v];
    }
    for (int i = 0; i < rows; i++)
        for (int v = 0; v < width; v++) add(c + (size_t)i * stride + v * ESP_VECTOR, sum[i][v]);
}

INLINE size_t outer_rows(size_t n, size_t left, const float *a, size_t a_stride, const float *b, size_t b_stride, float *c, size_t stride,
                         const int width) {
#if ROWS == 8
    if (left >= 8) return outer_tile(n, a, a_stride, b, b_stride, c, stride, 8, width), 8;
#endif
    if (left >= 4) return outer_tile(n, a, a_stride, b, b_stride, c, stride, 4, width), 4;
    if (left >= 2) return outer_tile(n, a, a_stride, b, b_stride, c, stride, 2, width), 2;
    outer_tile(n, a, a_stride, b, b_stride, c, stride, 1, width);
    return 1;
}

/* C (rows x padded cols) += A'B. */
static void outer(size_t n, size_t rows, size_t cols, const float *a, const float *b, float *c) {
    size_t a_stride = esp_padded(rows), stride = esp_padded(cols), panel;
    for (size_t column = 0; column < stride; column += panel * ESP_VECTOR) {
        panel = panel_of((stride - column) / ESP_VECTOR);
        for (size_t row = 0, done; row < rows; row += done) {
            float *to = c + row * stride + column;
            switch (panel) {
#if WIDE == 3
            case 3: done = outer_rows(n, rows - row, a + row, a_stride, b + column, stride, to, stride, 3); break;
            case 2: done = outer_rows(n, rows - row, a + row, a_stride, b + column, stride, to, stride, 2); break;
#endif
            default: done = outer_rows(n, rows - row, a + row, a_stride, b + column, stride, to, stride, 1); break;
            }
        }
    }
}

size_t esp_outer_work(size_t rows, size_t cols) {
    size_t plain = rows * esp_padded(cols), turned = cols * esp_padded(rows);
    return plain <= turned ? plain : turned;
}

/* Whole vectors lie along whichever side wastes less of them. */
void esp_outer(size_t n, size_t rows, size_t cols, const float *a, const float *b, float *c, float *work) {
    size_t plain = rows * esp_padded(cols), turned = cols * esp_padded(rows);
    if (cols % ESP_VECTOR == 0 && plain <= turned) {
        outer(n, rows, cols, a, b, c);
        return;
    }
    memset(work, 0, esp_outer_work(rows, cols) * sizeof *work);
    if (plain <= turned)
        outer(n, rows, cols, a, b, work);
    else
        outer(n, cols, rows, b, a, work);
    size_t by_row = plain <= turned ? esp_padded(cols) : 1, by_col = plain <= turned ? 1 : esp_padded(rows);
    for (size_t i = 0; i < rows; i++)
        for (size_t j = 0; j < cols; j++) c[i * cols + j] += work[i * by_row + j * by_col];
}

void esp_column_sums(size_t n, size_t w, const float *a, float *sums) {
    size_t stride = esp_padded(w);
    for (size_t column = 0; column < stride; column += ESP_VECTOR) {
        vector total = {0};
        for (size_t i = 0; i < n; i++) total += load(a + i * stride + column);
        add(sums + column, total);
    }
}
