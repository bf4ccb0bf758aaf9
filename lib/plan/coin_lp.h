/* SPDX-License-Identifier: Apache-2.0
 * A linear program that is solved again and again with other bounds and costs: Clp behind a small face. With coin.c
 * the only file that includes Coin.
 *
 *     minimise cost' z   subject to   row_lower <= A z <= row_upper,   col_lower <= z <= col_upper
 *
 * The size and the sparsity are fixed when it is made; bounds, costs and coefficients change in place, and each solve
 * starts from the basis of the last one (or from one put back by esp_lp_basis_set). Nothing a solve says is a proof:
 * what callers take from it are row duals, which they turn into bounds of their own (plan/relax.h), and points, which
 * they verify. One object, one thread. */
#ifndef ESP_PLAN_COIN_LP_H
#define ESP_PLAN_COIN_LP_H

#include <stdbool.h>
#include <stddef.h>

#include "base/error.h"

typedef struct esp_lp esp_lp;

/* Columns in compressed form: column j holds entries start[j] .. start[j+1]-1 of (row, value). Copied. */
typedef struct esp_lp_columns {
    int n_cols, n_rows;
    const int *start; /* n_cols + 1 */
    const int *row;
    const double *value;
} esp_lp_columns;

/* All bounds 0, all costs 0 until set through the pointers below. */
ESP_MUST_CHECK esp_code esp_lp_create(const esp_lp_columns *columns, esp_lp **ret_lp, esp_error *reterr);
void esp_lp_free(esp_lp *lp);

/* The LP's own arrays, written in place between solves; valid as long as it is. */
double *esp_lp_col_lower(esp_lp *lp);
double *esp_lp_col_upper(esp_lp *lp);
double *esp_lp_cost(esp_lp *lp);
double *esp_lp_row_lower(esp_lp *lp);
double *esp_lp_row_upper(esp_lp *lp);
/* Entry (row, column) of A; must be one that was not 0 at creation. */
void esp_lp_coefficient(esp_lp *lp, int row, int column, double value);

/* What the solver says; ESP_LP_LIMIT: the dual bound passed the limit given, or the iterations or seconds ran out. */
typedef enum esp_lp_status { ESP_LP_OPTIMAL, ESP_LP_INFEASIBLE, ESP_LP_LIMIT, ESP_LP_OTHER } esp_lp_status;

/* Dual simplex, given up once the objective passes `limit` (INFINITY: never) or `seconds` have gone. */
esp_lp_status esp_lp_dual(esp_lp *lp, double limit, double seconds);
/* Primal simplex: for the same bounds and another cost. */
esp_lp_status esp_lp_primal(esp_lp *lp, double seconds);

const double *esp_lp_values(const esp_lp *lp); /* n_cols, of the last solve */
const double *esp_lp_duals(const esp_lp *lp);  /* n_rows, of the last solve */
double esp_lp_objective(const esp_lp *lp);
int esp_lp_iterations(const esp_lp *lp); /* of the last solve */
/* Row multipliers that show infeasibility after ESP_LP_INFEASIBLE (n_rows), false when there are none. */
bool esp_lp_ray(const esp_lp *lp, double *ret_ray);

size_t esp_lp_basis_bytes(const esp_lp *lp);
void esp_lp_basis_get(const esp_lp *lp, unsigned char *ret_basis);
void esp_lp_basis_set(esp_lp *lp, const unsigned char *basis);

#endif
