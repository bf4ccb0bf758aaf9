/* SPDX-License-Identifier: Apache-2.0
 * CBC behind neutral linear programs with integer marks. cbc.c is the only file of the library that includes Coin.
 *
 * Nothing that it says is passed on as truth. A solution becomes a plan only through verify.h, a bound is charged with
 * its tolerances and called `solver`, `infeasible` is accepted only as esp_cbc_result says.
 *
 * CBC 2.10.8 as found by experiment: two solves in one process corrupt each other (guarded here by one flag); its
 * presolve can call a feasible model infeasible when the time limit fires inside it (preprocessing stays off); a
 * cutoff that no solution beats is reported as infeasible; the time limit is soft, and there is no way to cancel. */
#ifndef ESP_PLAN_CBC_H
#define ESP_PLAN_CBC_H

#include "plan/lp.h"

typedef struct esp_cbc_options {
    double cutoff; /* look for solutions up to it only; INFINITY for none */
    const double *start; /* n_cols, or NULL: a solution to start from, of which the integer columns are read */
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
const char *esp_cbc_describe(void);

#endif
