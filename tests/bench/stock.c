/* SPDX-License-Identifier: Apache-2.0
 * CBC with its own settings: the yardstick. It is not how the product uses CBC, hence not through lib/plan/cbc.c. */
#include <coin/Cbc_C_Interface.h>
#include <float.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "bench/engines.h"
#include "bench/process.h"

static double *coin_limits(const double *limits, int n) {
    double *copy = malloc(((size_t)n + 1) * sizeof *copy);
    if (!copy) abort();
    for (int i = 0; i < n; i++) copy[i] = fmin(fmax(limits[i], -DBL_MAX), DBL_MAX);
    return copy;
}

void bench_stock_cbc(const esp_lp *lp, double seconds) {
    double *row_lower = coin_limits(lp->row_lower, lp->n_rows), *row_upper = coin_limits(lp->row_upper, lp->n_rows);
    Cbc_Model *model = Cbc_newModel();
    if (!model) abort();
    Cbc_loadProblem(model, lp->n_cols, lp->n_rows, lp->col_start, lp->row, lp->col_value, lp->col_lower, lp->col_upper, lp->cost, row_lower,
                    row_upper);
    for (int j = 0; j < lp->n_cols; j++)
        if (lp->integer[j]) Cbc_setInteger(model, j);
    Cbc_setAllowableFractionGap(model, 0.01);
    Cbc_setMaximumSeconds(model, seconds);
    (void)Cbc_solve(model);
    bool found = Cbc_bestSolution(model) != NULL, proved = Cbc_isProvenOptimal(model);
    double upper = found ? Cbc_getObjValue(model) : (double)INFINITY, lower = Cbc_getBestPossibleObjValue(model);
    if (fabs(lower) > 1e40) lower = -(double)INFINITY;
    if (proved) lower = fmin(lower, 0.99 * upper); /* it stops at the gap and then claims the rest */
    bench_say_end(proved ? "optimal" : "limit", upper, lower, Cbc_getNodeCount(model));
}
