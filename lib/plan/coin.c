/* SPDX-License-Identifier: Apache-2.0
 * Clp and CBC through their C interfaces. */
#include "plan/coin.h"

#include <coin/Cbc_C_Interface.h>
#include <coin/Clp_C_Interface.h>
#include <float.h>
#include <math.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"

#define PRIMAL_TOLERANCE 1e-8
#define DUAL_TOLERANCE   1e-8

struct esp_clp {
    Clp_Simplex *model;
    double *limits; /* n_cols, to hand limits over */
    int n_cols;
};

/* Row limits with Coin's infinity. */
static double *coin_limits(const double *limits, int n) {
    double *copy = malloc(((size_t)n + 1) * sizeof *copy);
    for (int i = 0; copy && i < n; i++) copy[i] = fmin(fmax(limits[i], -DBL_MAX), DBL_MAX);
    return copy;
}

esp_code esp_clp_create(const esp_lp *lp, esp_clp **ret_clp, esp_error *reterr) {
    esp_clp *clp = calloc(1, sizeof *clp);
    double *lower = coin_limits(lp->row_lower, lp->n_rows), *upper = coin_limits(lp->row_upper, lp->n_rows);
    if (!clp || !lower || !upper || !(clp->model = Clp_newModel())) {
        free(lower);
        free(upper);
        esp_clp_free(clp);
        return esp_fail(reterr, ESP_NOMEM, "a relaxation");
    }
    clp->n_cols = lp->n_cols;
    Clp_setLogLevel(clp->model, 0);
    Clp_loadProblem(clp->model, lp->n_cols, lp->n_rows, lp->col_start, lp->row, lp->col_value, lp->col_lower, lp->col_upper, lp->cost, lower, upper);
    Clp_scaling(clp->model, 0);
    Clp_setPerturbation(clp->model, 100);
    Clp_setPrimalTolerance(clp->model, PRIMAL_TOLERANCE);
    Clp_setDualTolerance(clp->model, DUAL_TOLERANCE);
    free(lower);
    free(upper);
    *ret_clp = clp;
    return ESP_OK;
}

void esp_clp_free(esp_clp *clp) {
    if (!clp) return;
    if (clp->model) Clp_deleteModel(clp->model);
    free(clp);
}

void esp_clp_limits(esp_clp *clp, const double *lower, const double *upper) {
    Clp_chgColumnLower(clp->model, lower);
    Clp_chgColumnUpper(clp->model, upper);
}

void esp_clp_cost(esp_clp *clp, const double *cost) {
    Clp_chgObjCoefficients(clp->model, cost);
}

void esp_clp_row_upper(esp_clp *clp, int row, double upper) {
    Clp_rowUpper(clp->model)[row] = fmin(upper, DBL_MAX);
    Clp_chgRowUpper(clp->model, Clp_rowUpper(clp->model));
}

void esp_clp_coefficient(esp_clp *clp, int row, int col, double value) {
    Clp_modifyCoefficient(clp->model, row, col, value, true);
}

void esp_clp_add_row(esp_clp *clp, double row_lower, int n, const int *col, const double *value) {
    CoinBigIndex starts[2] = {0, n};
    double upper = DBL_MAX;
    Clp_addRows(clp->model, 1, &row_lower, &upper, starts, col, value);
}

void esp_clp_limit(esp_clp *clp, double objective) {
    Clp_setDualObjectiveLimit(clp->model, fmin(objective, 1e50));
}

size_t esp_clp_basis_bytes(const esp_clp *clp) {
    return (size_t)(Clp_numberColumns(clp->model) + Clp_numberRows(clp->model));
}

void esp_clp_basis_get(esp_clp *clp, unsigned char *ret_basis) {
    memcpy(ret_basis, Clp_statusArray(clp->model), esp_clp_basis_bytes(clp));
}

void esp_clp_basis_set(esp_clp *clp, const unsigned char *basis) {
    Clp_copyinStatus(clp->model, basis);
}

esp_clp_status esp_clp_solve(esp_clp *clp, esp_clp_method simplex, double seconds) {
    Clp_setMaximumSeconds(clp->model, isfinite(seconds) ? fmax(seconds, 1e-3) : -1.0);
    if (simplex == ESP_CLP_DUAL)
        (void)Clp_dual(clp->model, 0);
    else
        (void)Clp_primal(clp->model, 0);
    switch (Clp_status(clp->model)) {
    case 0: return ESP_CLP_OPTIMAL;
    case 1: return ESP_CLP_INFEASIBLE;
    case 3: return ESP_CLP_STOPPED;
    default: return ESP_CLP_FAILED;
    }
}

double esp_clp_value(esp_clp *clp) {
    return Clp_objectiveValue(clp->model);
}

const double *esp_clp_solution(esp_clp *clp) {
    return Clp_primalColumnSolution(clp->model);
}

const double *esp_clp_duals(esp_clp *clp) {
    return Clp_dualRowSolution(clp->model);
}

bool esp_clp_farkas(esp_clp *clp, double *ret_duals) {
    double *ray = Clp_infeasibilityRay(clp->model);
    if (!ray) return false;
    int n = Clp_numberRows(clp->model);
    /* Clp's ray certifies with the opposite sign of its row duals. */
    for (int i = 0; i < n; i++) ret_duals[i] = -ray[i];
    Clp_freeRay(clp->model, ray);
    return true;
}

/* One CBC solve per process at a time: its options and buffers are global. */
static atomic_flag cbc_busy = ATOMIC_FLAG_INIT;

static void set_number(Cbc_Model *model, const char *name, double value) {
    char text[32];
    (void)snprintf(text, sizeof text, "%.17g", value);
    Cbc_setParameter(model, name, text);
}

/* Off what is slow to start or wrong under a time limit; the relaxation is already tight when CBC sees it. */
static void configure(Cbc_Model *model, const esp_cbc_options *options) {
    Cbc_setLogLevel(model, 0);
    Cbc_setParameter(model, "log", "0");
    Cbc_setParameter(model, "timeMode", "elapsed");
    Cbc_setParameter(model, "preprocess", "off");
    Cbc_setParameter(model, "cuts", options->second_look ? "on" : "off");
    Cbc_setParameter(model, "heuristics", options->second_look ? "on" : "off");
    if (options->second_look) Cbc_setParameter(model, "cost", "priorities");
    set_number(model, "ratioGap", options->gap);
    set_number(model, "allowableGap", fmax(options->absolute_gap, 1e-10));
    if (isfinite(options->cutoff)) Cbc_setCutoff(model, options->cutoff);
    if (isfinite(options->seconds)) Cbc_setMaximumSeconds(model, fmax(options->seconds, 1e-3));
}

static Cbc_Model *load(const esp_lp *lp) {
    double *lower = coin_limits(lp->row_lower, lp->n_rows), *upper = coin_limits(lp->row_upper, lp->n_rows);
    Cbc_Model *model = lower && upper ? Cbc_newModel() : NULL;
    if (model) {
        Cbc_loadProblem(model, lp->n_cols, lp->n_rows, lp->col_start, lp->row, lp->col_value, lp->col_lower, lp->col_upper, lp->cost, lower, upper);
        for (int j = 0; j < lp->n_cols; j++)
            if (lp->integer[j]) Cbc_setInteger(model, j);
        Cbc_setObjSense(model, 1.0);
    }
    free(lower);
    free(upper);
    return model;
}

/* A finished search claims optimality to within its gaps, but reports the bound as if it had closed them; and pruning
 * by cutoff leaves nothing to report above it. */
static double claimed_bound(Cbc_Model *model, const esp_cbc_options *options, const esp_cbc_result *result) {
    double bound = Cbc_getBestPossibleObjValue(model);
    if (result->status == ESP_CBC_INFEASIBLE) return options->cutoff;
    if (!isfinite(bound) || fabs(bound) > 1e40) return -(double)INFINITY;
    if (result->status == ESP_CBC_COMPLETE)
        bound = fmin(bound, result->objective - fmax(options->absolute_gap, options->gap * fabs(result->objective)));
    return fmin(bound, options->cutoff);
}

static esp_cbc_status status_of(Cbc_Model *model, const esp_cbc_options *options, double seconds) {
    bool early = !isfinite(options->seconds) || seconds < 0.8 * options->seconds;
    if (Cbc_isAbandoned(model) || Cbc_isInitialSolveAbandoned(model)) return ESP_CBC_FAILED;
    if (Cbc_isProvenInfeasible(model)) return early ? ESP_CBC_INFEASIBLE : ESP_CBC_STOPPED;
    if (Cbc_isSecondsLimitReached(model) || Cbc_isNodeLimitReached(model)) return ESP_CBC_STOPPED;
    if (Cbc_isProvenOptimal(model)) return ESP_CBC_COMPLETE;
    return ESP_CBC_STOPPED;
}

static bool without_integers(const esp_lp *lp) {
    for (int j = 0; j < lp->n_cols; j++)
        if (lp->integer[j]) return false;
    return true;
}

/* Without integers CBC only runs Clp, and means other things by its answers; so Clp directly. */
static esp_code solve_relaxation(const esp_lp *lp, const esp_cbc_options *options, double *ret_x, esp_cbc_result *ret_result, esp_error *reterr) {
    esp_clp *clp = NULL;
    double *work = malloc(((size_t)lp->n_rows + 1) * sizeof *work);
    esp_code code = work ? esp_clp_create(lp, &clp, reterr) : esp_fail(reterr, ESP_NOMEM, "a relaxation");
    if (code != ESP_OK) goto out;
    esp_cbc_result result = {.bound = -(double)INFINITY, .nodes = 1};
    esp_clp_status status = esp_clp_solve(clp, ESP_CLP_DUAL, options->seconds);
    result.status = status == ESP_CLP_OPTIMAL ? ESP_CBC_COMPLETE : status == ESP_CLP_INFEASIBLE ? ESP_CBC_INFEASIBLE : ESP_CBC_STOPPED;
    if (status == ESP_CLP_OPTIMAL) {
        memcpy(ret_x, esp_clp_solution(clp), (size_t)lp->n_cols * sizeof *ret_x);
        result.found = true;
        result.objective = esp_clp_value(clp);
        result.bound = esp_lp_safe_bound(lp, lp->cost, lp->col_lower, lp->col_upper, esp_clp_duals(clp), work);
    }
    *ret_result = result;
out:
    esp_clp_free(clp);
    free(work);
    return code;
}

static void take_answer(Cbc_Model *model, const esp_lp *lp, const esp_cbc_options *options, double seconds, double *ret_x,
                        esp_cbc_result *ret_result) {
    esp_cbc_result result = {.status = status_of(model, options, seconds), .nodes = Cbc_getNodeCount(model), .seconds = seconds};
    const double *best = Cbc_bestSolution(model);
    if (best) {
        memcpy(ret_x, best, (size_t)lp->n_cols * sizeof *ret_x);
        result.found = true;
        result.objective = 0.0;
        for (int j = 0; j < lp->n_cols; j++) result.objective += lp->cost[j] * best[j];
    }
    if (result.status == ESP_CBC_COMPLETE && !result.found) result.status = ESP_CBC_FAILED;
    if (result.status == ESP_CBC_INFEASIBLE && result.found) result.status = ESP_CBC_FAILED;
    result.bound = result.status == ESP_CBC_FAILED ? -(double)INFINITY : claimed_bound(model, options, &result);
    *ret_result = result;
}

esp_code esp_cbc_solve(const esp_lp *lp, const esp_cbc_options *options, double *ret_x, esp_cbc_result *ret_result, esp_error *reterr) {
    if (without_integers(lp)) return solve_relaxation(lp, options, ret_x, ret_result, reterr);
    if (atomic_flag_test_and_set(&cbc_busy)) return esp_fail(reterr, ESP_STATE, "another search runs in this process");
    esp_code code = ESP_OK;
    Cbc_Model *model = load(lp);
    if (model) {
        configure(model, options);
        int64_t started = esp_clock_now_ns();
        (void)Cbc_solve(model);
        take_answer(model, lp, options, esp_clock_seconds_since(started), ret_x, ret_result);
        Cbc_deleteModel(model);
    } else {
        code = esp_fail(reterr, ESP_NOMEM, "a search of %d columns", lp->n_cols);
    }
    atomic_flag_clear(&cbc_busy);
    return code;
}

const char *esp_coin_describe(void) {
    static char text[64];
    (void)snprintf(text, sizeof text, "CBC %s", Cbc_getVersion());
    return text;
}
