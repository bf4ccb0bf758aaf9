/* SPDX-License-Identifier: Apache-2.0
 * The matrix products of training, small and in float, with what comes before and after each sum in the same pass.
 *
 * A minibatch's matrices are n rows of a layer's width, 256 of 10 to 192 numbers: too small for a library that copies both
 * operands first. Here a tile of ESP_TILE rows and up to three vectors of columns is summed in registers; the
 * bias begins the sum and the activation or its mask ends it, so that nothing is written to be read again at once.
 *
 * Rows are padded to whole vectors (esp_padded), and n to whole tiles: rows up to there are read and written, whatever
 * is in them. Weights are copied into panels of whole vectors once a minibatch. Sums are in an order of their own, the same
 * every time, and fused where the machine can. */
#ifndef ESP_TRAIN_PRODUCT_H
#define ESP_TRAIN_PRODUCT_H

#include <stddef.h>

#define ESP_VECTOR 16 /* floats */
#define ESP_TILE   8 /* rows */

static inline size_t esp_padded(size_t width) {
    return (width + ESP_VECTOR - 1) / ESP_VECTOR * ESP_VECTOR;
}

/* ESP_VECTOR floats. Not memcpy, which compilers join to calls of the length of a row. */
static inline void esp_copy_vector(const float *from, float *to) {
    typedef float vector __attribute__((vector_size(ESP_VECTOR * sizeof(float)), may_alias, aligned(4)));
    *(vector *)to = *(const vector *)from;
}

/* W (rows x cols) or its transpose as panels: k x esp_padded(w) floats, for products that sum over k. The padding is 0. */
void esp_panels(size_t rows, size_t cols, const float *w, float *ret_panels); /* k = rows, w = cols */
void esp_panels_transposed(size_t rows, size_t cols, const float *w, float *ret_panels); /* k = cols, w = rows */

/* X (n x k) times panels (k x w), to n x w. Vectors over columns (bias, slopes, sums) are padded too. */
typedef struct esp_product {
    size_t n, k, w;
    const float *x; /* rows esp_padded(k) apart */
    const float *panels;
    const float *bias; /* begins the sums; NULL = 0 */
    float *to; /* rows esp_padded(w) apart, like h and p */
} esp_product;

void esp_product_run(const esp_product *product);

/* p = X W + b, h = p * (p > 0 ? pos : neg), to `to`; p is kept unless NULL. */
void esp_product_activate(const esp_product *product, const float *pos, const float *neg, float *ret_p);

/* What an activation's way back reads and adds to. */
typedef struct esp_mask {
    const float *pos, *neg;
    const float *h; /* n x w: what the activation gave; its sign is p's wherever a slope is not 0; unread with p */
    float *sums; /* of d over the rows */
    const float *p; /* n x w; NULL, and then the next two are not touched */
    float *positive, *negative; /* sum of dh max(p, 0) and dh min(p, 0) */
} esp_mask;

/* dh = X W, d = dh * (h > 0 ? pos : neg), to `to`. At p = 0 the ReLU counts as off, as in the program. */
void esp_product_mask(const esp_product *product, const esp_mask *mask);

/* C (rows x cols) += A'B for A (n x rows) and B (n x cols), rows esp_padded(...) apart; C has no padding.
 * work holds esp_outer_work floats. */
size_t esp_outer_work(size_t rows, size_t cols);
void esp_outer(size_t n, size_t rows, size_t cols, const float *a, const float *b, float *c, float *work);

/* sums (padded) += the rows of A (n x w). */
void esp_column_sums(size_t n, size_t w, const float *a, float *sums);

#endif
