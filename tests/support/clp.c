/* SPDX-License-Identifier: Apache-2.0
 * Clp through its C interface. */
#include "support/clp.h"

#include <check.h>
#include <coin/Clp_C_Interface.h>
#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

struct clp {
    Clp_Simplex *model;
};

static double *limits_of(const double *limits, int n) {
    double *copy = malloc(((size_t)n + 1) * sizeof *copy);
    ck_assert_ptr_nonnull(copy);
    for (int i = 0; i < n; i++) copy[i] = fmin(fmax(limits[i], -DBL_MAX), DBL_MAX);
    return copy;
}

clp *clp_create(const esp_lp *lp) {
    clp *c = malloc(sizeof *c);
    ck_assert_ptr_nonnull(c);
    double *lower = limits_of(lp->row_lower, lp->n_rows), *upper = limits_of(lp->row_upper, lp->n_rows);
    c->model = Clp_newModel();
    Clp_setLogLevel(c->model, 0);
    Clp_loadProblem(c->model, lp->n_cols, lp->n_rows, lp->col_start, lp->row, lp->col_value, lp->col_lower, lp->col_upper, lp->cost, lower, upper);
    Clp_setPrimalTolerance(c->model, 1e-9);
    Clp_setDualTolerance(c->model, 1e-9);
    free(lower);
    free(upper);
    return c;
}

void clp_free(clp *c) {
    Clp_deleteModel(c->model);
    free(c);
}

void clp_limits(clp *c, const double *lower, const double *upper) {
    Clp_chgColumnLower(c->model, lower);
    Clp_chgColumnUpper(c->model, upper);
}

void clp_cost(clp *c, const double *cost) {
    Clp_chgObjCoefficients(c->model, cost);
}

void clp_coefficient(clp *c, int row, int col, double value) {
    Clp_modifyCoefficient(c->model, row, col, value, true);
}

clp_status clp_solve(clp *c) {
    (void)Clp_dual(c->model, 0);
    return Clp_status(c->model) == 0 ? CLP_OPTIMAL : Clp_status(c->model) == 1 ? CLP_INFEASIBLE : CLP_OTHER;
}

double clp_bound(clp *c) {
    Clp_Simplex *m = c->model;
    const double *dual = Clp_dualRowSolution(m), *value = Clp_getElements(m), *lower = Clp_rowLower(m), *upper = Clp_rowUpper(m);
    const CoinBigIndex *start = Clp_getVectorStarts(m);
    const int *row = Clp_getIndices(m);
    long double bound = 0;
    for (int i = 0; i < Clp_numberRows(m); i++) {
        double side = dual[i] > 0 ? lower[i] : upper[i];
        if (fabs(side) < DBL_MAX) bound += (long double)dual[i] * side;
    }
    for (int j = 0; j < Clp_numberColumns(m); j++) {
        long double reduced = Clp_objective(m)[j];
        for (CoinBigIndex k = start[j]; k < start[j + 1]; k++) {
            double y = dual[row[k]], side = y > 0 ? lower[row[k]] : upper[row[k]];
            if (fabs(side) < DBL_MAX) reduced -= (long double)y * value[k];
        }
        bound += reduced * (reduced > 0 ? Clp_columnLower(m)[j] : Clp_columnUpper(m)[j]);
    }
    return (double)bound;
}

double clp_value(clp *c) {
    return Clp_objectiveValue(c->model);
}

void clp_point(clp *c, double *ret_x) {
    memcpy(ret_x, Clp_getColSolution(c->model), (size_t)Clp_numberColumns(c->model) * sizeof *ret_x);
}
