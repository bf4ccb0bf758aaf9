/* SPDX-License-Identifier: Apache-2.0
 * CBC through its C interface. */
#include "plan/cbc.h"

#include <coin/Cbc_C_Interface.h>
#include <float.h>
#include <math.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "plan/simplex.h"

/* Row limits with Coin's infinity. */
static double *coin_limits(const double *limits, int n) {
    double *copy = malloc(((size_t)n + 1) * sizeof *copy);
    for (int i = 0; copy && i < n; i++) copy[i] = fmin(fmax(limits[i], -DBL_MAX), DBL_MAX);
    return copy;
}

/* One CBC solve per process at a time: its options and buffers are global. */
static atomic_flag cbc_busy = ATOMIC_FLAG_INIT;

static void set_number(Cbc_Model *model, const char *name, double value) {
    char text[32];
    (void)snprintf(text, sizeof text, "%.17g", value);
    Cbc_setParameter(model, name, text);
}

/* What a solution must be better by than the last one; nothing better is looked for. Left to itself CBC takes 1e-5. */
#define INCREMENT 1e-9

/* Off what is slow to start or wrong under a time limit; the relaxation is already tight when CBC sees it. */
static void configure(Cbc_Model *model, const esp_cbc_options *options) {
    Cbc_setLogLevel(model, 0);
    Cbc_setParameter(model, "log", "0");
    Cbc_setParameter(model, "timeMode", "elapsed");
    Cbc_setParameter(model, "preprocess", "off");
    Cbc_setParameter(model, "cuts", options->second_look ? "on" : "off");
    Cbc_setParameter(model, "heuristics", options->second_look ? "on" : "off");
    if (options->second_look) Cbc_setParameter(model, "cost", "priorities");
    set_number(model, "increment", INCREMENT);
    set_number(model, "ratioGap", options->gap);
    set_number(model, "allowableGap", fmax(options->absolute_gap, 1e-10));
    if (isfinite(options->cutoff)) Cbc_setCutoff(model, options->cutoff);
    if (isfinite(options->seconds)) Cbc_setMaximumSeconds(model, fmax(options->seconds, 1e-3));
}

#define NARROW 1e-6 /* a column of less room, */
#define ROOM   1e-7 /* gets so much more on each side */

/* Column limits as CBC can bear them: where columns about as narrow as its tolerances meet in a row, it has called problems
 * infeasible that are not, and given bounds 60 times too high. More room only relaxes; fixed columns do no harm. */
static double *roomy_limits(const esp_lp *lp, const double *limits, double room) {
    double *copy = coin_limits(limits, lp->n_cols);
    for (int j = 0; copy && j < lp->n_cols; j++) {
        double width = lp->col_upper[j] - lp->col_lower[j];
        if (!lp->integer[j] && width > 0.0 && width < NARROW) copy[j] += room;
    }
    return copy;
}

#define TINY 1e-13

/* The columns without the entries that add less than TINY to a row wherever their column stands, nothing beside a row's tolerance of
 * 1e-7. With entries down to 1e-21 in its matrix Clp has ended the process: a check of its own found that the matrix, from which it
 * strikes out what is tiny, and its scaled copy were no longer one. */
typedef struct columns {
    int *start, *row;
    double *value;
} columns;

static bool copy_columns(const esp_lp *lp, columns *ret) {
    *ret = (columns){.start = malloc(((size_t)lp->n_cols + 1) * sizeof(int)),
                     .row = malloc(((size_t)lp->nnz + 1) * sizeof(int)),
                     .value = malloc(((size_t)lp->nnz + 1) * sizeof(double))};
    if (!ret->start || !ret->row || !ret->value) return false;
    int n = 0;
    for (int j = 0; j < lp->n_cols; j++) {
        ret->start[j] = n;
        for (int k = lp->col_start[j]; k < lp->col_start[j + 1]; k++) {
            if (fabs(lp->col_value[k]) * fmax(1.0, fmax(fabs(lp->col_lower[j]), fabs(lp->col_upper[j]))) <= TINY) continue;
            ret->row[n] = lp->row[k];
            ret->value[n++] = lp->col_value[k];
        }
    }
    ret->start[lp->n_cols] = n;
    return true;
}

static void columns_done(columns *c) {
    free(c->start);
    free(c->row);
    free(c->value);
}

static Cbc_Model *load(const esp_lp *lp) {
    columns c;
    bool copied = copy_columns(lp, &c);
    double *lower = coin_limits(lp->row_lower, lp->n_rows), *upper = coin_limits(lp->row_upper, lp->n_rows);
    double *least = roomy_limits(lp, lp->col_lower, -ROOM), *most = roomy_limits(lp, lp->col_upper, ROOM);
    Cbc_Model *model = copied && lower && upper && least && most ? Cbc_newModel() : NULL;
    if (model) {
        Cbc_loadProblem(model, lp->n_cols, lp->n_rows, c.start, c.row, c.value, least, most, lp->cost, lower, upper);
        for (int j = 0; j < lp->n_cols; j++)
            if (lp->integer[j]) Cbc_setInteger(model, j);
        Cbc_setObjSense(model, 1.0);
    }
    free(lower);
    free(upper);
    free(least);
    free(most);
    columns_done(&c);
    return model;
}

/* A finished search claims optimality to within its gaps, but reports the bound as if it had closed them; and pruning
 * by cutoff leaves nothing to report above it. */
static double claimed_bound(Cbc_Model *model, const esp_cbc_options *options, const esp_cbc_result *result) {
    double bound = Cbc_getBestPossibleObjValue(model);
    if (result->status == ESP_CBC_INFEASIBLE) return options->cutoff;
    if (!isfinite(bound) || fabs(bound) > 1e40) return -(double)INFINITY;
    if (result->status == ESP_CBC_COMPLETE)
        bound = fmin(bound, result->objective - fmax(fmax(options->absolute_gap, INCREMENT), options->gap * fabs(result->objective)));
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

/* CBC completes a start by solving for the other columns. */
static bool give_start(Cbc_Model *model, const esp_lp *lp, const double *start) {
    int n = 0, *cols = malloc(((size_t)lp->n_cols + 1) * sizeof *cols);
    double *values = malloc(((size_t)lp->n_cols + 1) * sizeof *values);
    bool ok = cols && values;
    for (int j = 0; ok && j < lp->n_cols; j++) {
        if (!lp->integer[j]) continue;
        cols[n] = j;
        values[n++] = start[j];
    }
    if (ok) Cbc_setMIPStartI(model, n, cols, values);
    free(cols);
    free(values);
    return ok;
}

static bool without_integers(const esp_lp *lp) {
    for (int j = 0; j < lp->n_cols; j++)
        if (lp->integer[j]) return false;
    return true;
}

/* The ray of an infeasible relaxation is a proof. */
static bool refuted(const esp_lp *lp, esp_simplex *simplex, const double *zero, double *work) {
    const double *ray = esp_simplex_ray(simplex);
    return ray && esp_lp_safe_bound(lp, zero, lp->col_lower, lp->col_upper, ray, work) > 0.0;
}

/* Without integers CBC only runs Clp, and means other things by its answers. */
static esp_code solve_relaxation(const esp_lp *lp, double *ret_x, esp_cbc_result *ret_result, esp_error *reterr) {
    esp_simplex *simplex = NULL;
    double *work = malloc(((size_t)lp->n_rows + 1) * sizeof *work), *zero = calloc((size_t)lp->n_cols + 1, sizeof *zero);
    esp_code code = work && zero ? esp_simplex_create(lp, 0, &simplex, reterr) : esp_fail(reterr, ESP_NOMEM, "a relaxation");
    if (code != ESP_OK) goto out;
    esp_cbc_result result = {.bound = -(double)INFINITY, .nodes = 1};
    esp_simplex_status status = esp_simplex_dual(simplex, NULL);
    result.status = status == ESP_SIMPLEX_OPTIMAL ? ESP_CBC_COMPLETE : ESP_CBC_STOPPED;
    if (status == ESP_SIMPLEX_INFEASIBLE && refuted(lp, simplex, zero, work)) result.status = ESP_CBC_INFEASIBLE;
    if (status == ESP_SIMPLEX_OPTIMAL) {
        memcpy(ret_x, esp_simplex_solution(simplex), (size_t)lp->n_cols * sizeof *ret_x);
        result.found = true;
        result.objective = esp_simplex_value(simplex);
        result.bound = esp_lp_safe_bound(lp, lp->cost, lp->col_lower, lp->col_upper, esp_simplex_duals(simplex), work);
    }
    *ret_result = result;
out:
    esp_simplex_free(simplex);
    free(work);
    free(zero);
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
    if (result.status == ESP_CBC_INFEASIBLE && (result.found || options->start)) result.status = ESP_CBC_FAILED;
    result.bound = result.status == ESP_CBC_FAILED ? -(double)INFINITY : claimed_bound(model, options, &result);
    *ret_result = result;
}

esp_code esp_cbc_solve(const esp_lp *lp, const esp_cbc_options *options, double *ret_x, esp_cbc_result *ret_result, esp_error *reterr) {
    if (without_integers(lp)) return solve_relaxation(lp, ret_x, ret_result, reterr);
    if (atomic_flag_test_and_set(&cbc_busy)) return esp_fail(reterr, ESP_STATE, "another search runs in this process");
    esp_code code = ESP_OK;
    Cbc_Model *model = load(lp);
    if (model && (!options->start || give_start(model, lp, options->start))) {
        configure(model, options);
        int64_t started = esp_clock_now_ns();
        (void)Cbc_solve(model);
        take_answer(model, lp, options, esp_clock_seconds_since(started), ret_x, ret_result);
    } else {
        code = esp_fail(reterr, ESP_NOMEM, "a search of %d columns", lp->n_cols);
    }
    if (model) Cbc_deleteModel(model);
    atomic_flag_clear(&cbc_busy);
    return code;
}

const char *esp_cbc_describe(void) {
    static char text[64];
    (void)snprintf(text, sizeof text, "CBC %s", Cbc_getVersion());
    return text;
}
