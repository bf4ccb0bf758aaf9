/* SPDX-License-Identifier: Apache-2.0
 * A linear program with integer marks, as plain numbers: what the encoder writes and every solver reads. Not a solver.
 *
 *     minimise cost'x   subject to  row_lower <= A x <= row_upper,  col_lower <= x <= col_upper,  x_j integer if marked
 *
 * Columns and rows are appended; esp_lp_finish then lays A out by columns as well. Every column has finite limits, and
 * that is what makes the bound below cheap and safe. */
#ifndef ESP_PLAN_LP_H
#define ESP_PLAN_LP_H

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"

typedef struct esp_lp {
    int n_cols, n_rows, nnz;
    int cap_cols, cap_rows, cap_nnz;
    double *cost, *col_lower, *col_upper; /* n_cols */
    char *integer; /* n_cols: 1 = integer */
    double *row_lower, *row_upper; /* n_rows */
    double *row_error; /* n_rows: the finite limits of a row are off by no more, from moving constants to its side */
    int *row_start; /* n_rows + 1 */
    int *col; /* nnz, by rows */
    double *value;
    int *col_start; /* n_cols + 1; after esp_lp_finish */
    int *row; /* nnz, by columns */
    double *col_value;
    bool failed; /* memory ran out while appending */
} esp_lp;

void esp_lp_done(esp_lp *lp);
/* The new column's number. */
int esp_lp_add_col(esp_lp *lp, double cost, double lower, double upper, bool integer);
/* Opens a row; its entries follow. The new row's number. */
int esp_lp_add_row(esp_lp *lp, double lower, double upper);
/* An entry of the row opened last. Zeros are dropped; a column may stand once per row. */
void esp_lp_put(esp_lp *lp, int col, double value);
/* Adds to the constant side of the row opened last: both its limits fall by this much. `size`: how far the constant
 * itself may be off, in units of DBL_EPSILON; for a sum of n products, n times the sum of their absolute values. */
void esp_lp_shift(esp_lp *lp, double constant, double size);
/* Replaces an entry that stands in the finished LP. */
void esp_lp_set(esp_lp *lp, int row, int col, double value);
ESP_MUST_CHECK esp_code esp_lp_finish(esp_lp *lp, esp_error *reterr);

/* A lower bound on cost'x over the LP, from any row duals (n_rows), rounding accounted for, that of the constants too (row_error):
 *
 *     sum_i (dual_i > 0 ? dual_i row_lower_i : dual_i row_upper_i) + sum_j min(d_j lower_j, d_j upper_j),  d = cost - A' dual
 *
 * Weak duality: valid for duals of an LP stopped early, or of another node; equal to the optimum at optimal duals. A
 * dual whose side is infinite counts as 0. cost, lower and upper (n_cols) replace the LP's own; work has n_rows doubles. */
double esp_lp_safe_bound(const esp_lp *lp, const double *cost, const double *lower, const double *upper, const double *duals, double *work);

#endif
