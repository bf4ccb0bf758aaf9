/* SPDX-License-Identifier: Apache-2.0
 * esp_lp over Clp's C interface. */
#include "plan/coin_lp.h"

#include <assert.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include <coin/Clp_C_Interface.h>

struct esp_lp {
    Clp_Simplex *clp;
    int n_cols, n_rows;
};

esp_code esp_lp_create(const esp_lp_columns *columns, esp_lp **ret_lp, esp_error *reterr) {
    int n = columns->n_cols, m = columns->n_rows;
    double *zeros = calloc((size_t)(n > m ? n : m) + 1, sizeof *zeros);
    esp_lp *lp = calloc(1, sizeof *lp);
    if (lp) lp->clp = Clp_newModel();
    if (!zeros || !lp || !lp->clp) {
        free(zeros);
        esp_lp_free(lp);
        return esp_fail(reterr, ESP_NOMEM, "a linear program of %d columns and %d rows", n, m);
    }
    lp->n_cols = n;
    lp->n_rows = m;
    Clp_setLogLevel(lp->clp, 0);
    Clp_loadProblem(lp->clp, n, m, columns->start, columns->row, columns->value, zeros, zeros, zeros, zeros, zeros);
    free(zeros);
    /* Rows are balanced by construction; scaling and perturbation would move the duals that bounds are made of. */
    Clp_scaling(lp->clp, 0);
    Clp_setPerturbation(lp->clp, 100);
    Clp_setPrimalTolerance(lp->clp, 1e-8);
    Clp_setDualTolerance(lp->clp, 1e-8);
    *ret_lp = lp;
    return ESP_OK;
}

void esp_lp_free(esp_lp *lp) {
    if (!lp) return;
    if (lp->clp) Clp_deleteModel(lp->clp);
    free(lp);
}

double *esp_lp_col_lower(esp_lp *lp) {
    return Clp_columnLower(lp->clp);
}

double *esp_lp_col_upper(esp_lp *lp) {
    return Clp_columnUpper(lp->clp);
}

double *esp_lp_cost(esp_lp *lp) {
    return Clp_objective(lp->clp);
}

double *esp_lp_row_lower(esp_lp *lp) {
    return Clp_rowLower(lp->clp);
}

double *esp_lp_row_upper(esp_lp *lp) {
    return Clp_rowUpper(lp->clp);
}

void esp_lp_coefficient(esp_lp *lp, int row, int column, double value) {
    assert(value != 0);
    Clp_modifyCoefficient(lp->clp, row, column, value, true);
}

static esp_lp_status status_of(const esp_lp *lp) {
    switch (Clp_status(lp->clp)) {
    case 0: return ESP_LP_OPTIMAL;
    case 1: return Clp_isDualObjectiveLimitReached(lp->clp) ? ESP_LP_LIMIT : ESP_LP_INFEASIBLE;
    case 3: return ESP_LP_LIMIT;
    default: return ESP_LP_OTHER;
    }
}

esp_lp_status esp_lp_dual(esp_lp *lp, double limit, double seconds) {
    Clp_setDualObjectiveLimit(lp->clp, isfinite(limit) ? limit : 1e50);
    Clp_setMaximumSeconds(lp->clp, isfinite(seconds) ? seconds : -1.0);
    (void)Clp_dual(lp->clp, 0);
    return status_of(lp);
}

esp_lp_status esp_lp_primal(esp_lp *lp, double seconds) {
    Clp_setDualObjectiveLimit(lp->clp, 1e50);
    Clp_setMaximumSeconds(lp->clp, isfinite(seconds) ? seconds : -1.0);
    (void)Clp_primal(lp->clp, 0);
    return status_of(lp);
}

const double *esp_lp_values(const esp_lp *lp) {
    return Clp_primalColumnSolution(lp->clp);
}

const double *esp_lp_duals(const esp_lp *lp) {
    return Clp_dualRowSolution(lp->clp);
}

double esp_lp_objective(const esp_lp *lp) {
    return Clp_objectiveValue(lp->clp);
}

int esp_lp_iterations(const esp_lp *lp) {
    return Clp_numberIterations(lp->clp);
}

bool esp_lp_ray(const esp_lp *lp, double *ret_ray) {
    double *ray = Clp_infeasibilityRay(lp->clp);
    if (!ray) return false;
    memcpy(ret_ray, ray, (size_t)lp->n_rows * sizeof *ret_ray);
    Clp_freeRay(lp->clp, ray);
    return true;
}

size_t esp_lp_basis_bytes(const esp_lp *lp) {
    return (size_t)(lp->n_cols + lp->n_rows);
}

void esp_lp_basis_get(const esp_lp *lp, unsigned char *ret_basis) {
    memcpy(ret_basis, Clp_statusArray(lp->clp), esp_lp_basis_bytes(lp));
}

void esp_lp_basis_set(esp_lp *lp, const unsigned char *basis) {
    Clp_copyinStatus(lp->clp, basis);
}
