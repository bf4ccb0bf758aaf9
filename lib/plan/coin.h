/* SPDX-License-Identifier: Apache-2.0
 * The COIN-OR solvers behind neutral linear programs: Clp for relaxations, CBC for the search. coin.c is the only file
 * that includes Coin.
 *
 * Nothing that a solver says is passed on as truth. An LP value becomes a bound only through esp_lp_safe_bound on its
 * duals; a solution becomes a plan only through verify.h; `infeasible` is accepted only as esp_cbc_result says.
 *
 * CBC 2.10.8 as found by experiment: two solves in one process corrupt each other (guarded here by one flag); its
 * presolve can call a feasible model infeasible when the time limit fires inside it (preprocessing stays off); a
 * cutoff that no solution beats is reported as infeasible; the time limit is soft, and there is no way to cancel. */
#ifndef ESP_PLAN_COIN_H
#define ESP_PLAN_COIN_H

#include <stddef.h>

#include "plan/lp.h"

/* A relaxation in Clp, with its basis kept from solve to solve. Integer marks are ignored. */
typedef struct esp_clp esp_clp;
typedef enum esp_clp_status { ESP_CLP_OPTIMAL, ESP_CLP_INFEASIBLE, ESP_CLP_STOPPED, ESP_CLP_FAILED } esp_clp_status;
typedef enum esp_clp_method { ESP_CLP_DUAL, ESP_CLP_PRIMAL } esp_clp_method;

ESP_MUST_CHECK esp_code esp_clp_create(const esp_lp *lp, esp_clp **ret_clp, esp_error *reterr);
void esp_clp_free(esp_clp *clp);
void esp_clp_limits(esp_clp *clp, const double *lower, const double *upper); /* of columns, n_cols each */
void esp_clp_cost(esp_clp *clp, const double *cost); /* n_cols */
void esp_clp_row_upper(esp_clp *clp, int row, double upper);
void esp_clp_coefficient(esp_clp *clp, int row, int col, double value);
/* row_lower <= sum <= INFINITY; n entries. */
void esp_clp_add_row(esp_clp *clp, double row_lower, int n, const int *col, const double *value);
/* Dual simplex gives up, as ESP_CLP_INFEASIBLE or ESP_CLP_STOPPED, once its objective passes this; INFINITY: never. */
void esp_clp_limit(esp_clp *clp, double objective);
/* The basis, to start from there again: columns and added rows included. */
size_t esp_clp_basis_bytes(const esp_clp *clp);
void esp_clp_basis_get(esp_clp *clp, unsigned char *ret_basis);
void esp_clp_basis_set(esp_clp *clp, const unsigned char *basis);
/* seconds: INFINITY for no limit. */
esp_clp_status esp_clp_solve(esp_clp *clp, esp_clp_method simplex, double seconds);
double esp_clp_value(esp_clp *clp);
const double *esp_clp_solution(esp_clp *clp); /* n_cols; valid until the next call */
const double *esp_clp_duals(esp_clp *clp); /* n_rows, with the added rows */
/* After INFEASIBLE: duals (n_rows) with which esp_lp_safe_bound, at zero cost, is above 0 when the proof holds. False
 * when there is no ray. */
bool esp_clp_farkas(esp_clp *clp, double *ret_duals);

typedef struct esp_cbc_options {
    double cutoff; /* look for solutions below it only; INFINITY for none */
    double gap; /* relative, at which the search may end */
    double absolute_gap;
    double seconds; /* INFINITY for no limit */
    bool second_look; /* other cuts, heuristics and branching: a run to confirm a first one */
} esp_cbc_options;

typedef enum esp_cbc_status {
    ESP_CBC_COMPLETE, /* searched to the gap */
    ESP_CBC_INFEASIBLE, /* with a cutoff: nothing below it */
    ESP_CBC_STOPPED, /* time */
    ESP_CBC_FAILED /* abandoned, busy, or an answer that does not hang together */
} esp_cbc_status;

typedef struct esp_cbc_result {
    esp_cbc_status status;
    bool found; /* ret_x holds a solution */
    double objective; /* of it, CBC's figure */
    double bound; /* no solution of the model costs less, up to CBC's tolerances; -INFINITY when none */
    int nodes;
    double seconds;
} esp_cbc_result;

/* ret_x: n_cols. NOMEM only; that a solver fails is a status. */
ESP_MUST_CHECK esp_code esp_cbc_solve(const esp_lp *lp, const esp_cbc_options *options, double *ret_x, esp_cbc_result *ret_result, esp_error *reterr);
/* "CBC 2.10.8". */
const char *esp_coin_describe(void);

#endif
