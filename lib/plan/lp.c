/* SPDX-License-Identifier: Apache-2.0
 * The neutral linear program and its safe dual bound. */
#include "plan/lp.h"

#include <assert.h>
#include <float.h>
#include <math.h>
#include <stdlib.h>

void esp_lp_done(esp_lp *lp) {
    free(lp->cost);
    free(lp->col_lower);
    free(lp->col_upper);
    free(lp->integer);
    free(lp->row_lower);
    free(lp->row_upper);
    free(lp->row_error);
    free(lp->row_start);
    free(lp->col);
    free(lp->value);
    free(lp->col_start);
    free(lp->row);
    free(lp->col_value);
    *lp = (esp_lp){0};
}

/* Grows *array to `cap` items; the old array stays when memory is out. */
static bool grow(void **array, size_t cap, size_t size) {
    void *larger = realloc(*array, cap * size);
    if (!larger) return false;
    *array = larger;
    return true;
}
#define GROW(array, cap) grow((void **)&(array), (size_t)(cap), sizeof *(array))

static int next_cap(int cap) {
    return cap ? cap * 2 : 256;
}

int esp_lp_add_col(esp_lp *lp, double cost, double lower, double upper, bool integer) {
    assert(isfinite(lower) && isfinite(upper));
    if (lp->n_cols == lp->cap_cols) {
        int cap = next_cap(lp->cap_cols);
        if (!GROW(lp->cost, cap) || !GROW(lp->col_lower, cap) || !GROW(lp->col_upper, cap) || !GROW(lp->integer, cap)) {
            lp->failed = true;
            return 0;
        }
        lp->cap_cols = cap;
    }
    int j = lp->n_cols++;
    lp->cost[j] = cost;
    lp->col_lower[j] = lower;
    lp->col_upper[j] = fmax(lower, upper);
    lp->integer[j] = (char)integer;
    return j;
}

int esp_lp_add_row(esp_lp *lp, double lower, double upper) {
    if (lp->n_rows == lp->cap_rows) {
        int cap = next_cap(lp->cap_rows);
        if (!GROW(lp->row_lower, cap) || !GROW(lp->row_upper, cap) || !GROW(lp->row_error, cap) || !GROW(lp->row_start, cap + 1)) {
            lp->failed = true;
            return 0;
        }
        lp->cap_rows = cap;
    }
    int i = lp->n_rows++;
    lp->row_lower[i] = lower;
    lp->row_upper[i] = upper;
    lp->row_error[i] = 0.0;
    lp->row_start[i] = lp->row_start[i + 1] = lp->nnz;
    return i;
}

void esp_lp_put(esp_lp *lp, int col, double value) {
    if (value == 0.0 || lp->failed) return;
    if (lp->nnz == lp->cap_nnz) {
        int cap = next_cap(lp->cap_nnz);
        if (!GROW(lp->col, cap) || !GROW(lp->value, cap)) {
            lp->failed = true;
            return;
        }
        lp->cap_nnz = cap;
    }
    lp->col[lp->nnz] = col;
    lp->value[lp->nnz] = value;
    lp->row_start[lp->n_rows] = ++lp->nnz;
}

void esp_lp_shift(esp_lp *lp, double constant, double size) {
    if (lp->failed) return;
    int i = lp->n_rows - 1;
    lp->row_lower[i] -= constant;
    lp->row_upper[i] -= constant;
    if (isfinite(lp->row_lower[i])) size += fabs(lp->row_lower[i]);
    if (isfinite(lp->row_upper[i])) size += fabs(lp->row_upper[i]);
    lp->row_error[i] += DBL_EPSILON * size;
}

void esp_lp_set(esp_lp *lp, int row, int col, double value) {
    int k = lp->row_start[row], c = lp->col_start[col];
    while (k < lp->row_start[row + 1] && lp->col[k] != col) k++;
    while (c < lp->col_start[col + 1] && lp->row[c] != row) c++;
    assert(k < lp->row_start[row + 1] && c < lp->col_start[col + 1]);
    lp->value[k] = lp->col_value[c] = value;
}

esp_code esp_lp_finish(esp_lp *lp, esp_error *reterr) {
    if (!lp->failed)
        lp->failed = !GROW(lp->col_start, lp->n_cols + 1) || !GROW(lp->row, lp->nnz + 1) || !GROW(lp->col_value, lp->nnz + 1) ||
                     (lp->cap_rows == 0 && !GROW(lp->row_start, 1));
    if (lp->failed) return esp_fail(reterr, ESP_NOMEM, "a linear program of %d columns and %d rows", lp->n_cols, lp->n_rows);
    if (lp->n_rows == 0) lp->row_start[0] = 0;
    for (int j = 0; j <= lp->n_cols; j++) lp->col_start[j] = 0;
    for (int k = 0; k < lp->nnz; k++) lp->col_start[lp->col[k] + 1]++;
    for (int j = 0; j < lp->n_cols; j++) lp->col_start[j + 1] += lp->col_start[j];
    for (int i = 0; i < lp->n_rows; i++) {
        for (int k = lp->row_start[i]; k < lp->row_start[i + 1]; k++) {
            int at = lp->col_start[lp->col[k]]++;
            lp->row[at] = i;
            lp->col_value[at] = lp->value[k];
        }
    }
    for (int j = lp->n_cols; j > 0; j--) lp->col_start[j] = lp->col_start[j - 1];
    lp->col_start[0] = 0;
    return ESP_OK;
}

/* `size` gathers the absolute value of every product; k roundings per sum lose at most about k eps of that. */
double esp_lp_safe_bound(const esp_lp *lp, const double *cost, const double *lower, const double *upper, const double *duals, double *work) {
    double sum = 0.0, size = 0.0, charge = 0.0;
    for (int i = 0; i < lp->n_rows; i++) {
        double dual = duals[i], side = dual > 0.0 ? lp->row_lower[i] : lp->row_upper[i];
        work[i] = isfinite(side) && fabs(side) < 1e29 && isfinite(dual) ? dual : 0.0;
        if (work[i] == 0.0) continue;
        sum += work[i] * side;
        size += fabs(work[i] * side);
        charge += fabs(work[i]) * lp->row_error[i];
    }
    for (int j = 0; j < lp->n_cols; j++) {
        double d = cost[j], d_size = fabs(cost[j]), most = fmax(fabs(lower[j]), fabs(upper[j]));
        for (int k = lp->col_start[j]; k < lp->col_start[j + 1]; k++) {
            double product = lp->col_value[k] * work[lp->row[k]];
            d -= product;
            d_size += fabs(product);
        }
        sum += d > 0.0 ? d * lower[j] : d * upper[j];
        size += d_size * most;
    }
    return sum - size * (lp->n_rows + lp->n_cols + 8) * DBL_EPSILON - 1.001 * charge;
}
