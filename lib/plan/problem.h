/* SPDX-License-Identifier: Apache-2.0
 * A planning problem: a task with its present substituted. Not a solver: it says what a plan costs and may do.
 *
 *     minimise    sum of pieces          over u(0) .. u(H-1)
 *     subject to  y(t+1) = step([Y, U])  (the lowered model; rows of the past where the window reaches back)
 *                 u(t) in its box, within the rate of u(t-1), one of the allowed values
 *                 y(t) in its box, in every half-space, outside every box to avoid, t = 1 .. H
 *
 * Limits on y are for predicted steps only: the present may lie outside them. Those that it violates are `softs`, charged
 * for at every step and not counted among the limits that hold (limits.h). Steps of y are stored from 0: row t of a
 * prediction is y(t+1). Everything lives in the problem's arena; it borrows the task and the step program. */
#ifndef ESP_PLAN_PROBLEM_H
#define ESP_PLAN_PROBLEM_H

#include "base/arena.h"
#include "net/program.h"
#include "plan/limits.h"
#include "plan/plan.h"
#include "plan/task.h"

/* One cost term at one step, its target resolved. */
typedef struct esp_piece {
    esp_on on;
    esp_cost_norm norm;
    int t; /* row of y, u or du */
    int n;
    const int *index; /* n */
    const double *weight; /* n */
    const double *target; /* n */
} esp_piece;

/* An inequality over predictions that the limits do not say: sum_k weight_k y[at_k] <= most, at = t * ny + i, for every
 * plan that is looked for. */
typedef struct esp_cut {
    int n;
    const int *at; /* n, ascending */
    const double *weight; /* n */
    double most;
} esp_cut;

#define ESP_MAX_CUTS 64
typedef struct esp_cuts {
    int n;
    esp_cut list[ESP_MAX_CUTS];
} esp_cuts;

typedef struct esp_problem {
    esp_arena *arena;
    const esp_task *task;
    const esp_program *step;
    int ny, nu, history, horizon;
    double *y_past; /* history x ny, oldest first */
    double *u_past; /* (history - 1) x nu, oldest first */
    double *u_last; /* nu: the input applied last, zeros when not known */
    bool has_u_last;
    double *u_lower, *u_upper; /* H x nu: the input box, met with the hull of the values and what the rate can reach */
    /* the limits on y that hold */
    double *y_lower, *y_upper; /* H x ny: state box and trust region, infinite where there is no limit */
    int n_halfspaces, n_avoid;
    esp_halfspace *halfspaces;
    esp_avoid *avoid;
    /* and those that cost: penalty * excess at each step */
    int n_softs;
    esp_soft *softs;
    double penalty; /* 0 when there are none */
    bool ranges_sound; /* false when limits come from data */
    bool empty; /* no input fits at some step: infeasible, proved */
    int n_pieces;
    esp_piece *pieces;
    esp_cuts *cuts; /* what is known besides (esp_problem_cut); rows of every model that is made from then on */
    double *x, *r, *y; /* workspace of one step: n_x, n_r, ny */
} esp_problem;

/* One past the last input seen by the window at step t: where entry s (0 .. history-1, oldest first) of the window of
 * step t lies. Result < 0: row history + result of y_past (-1 is the present) or row history - 1 + result of u_past;
 * else row of the prediction (y) or of the plan (u). */
static inline int esp_window_y(const esp_problem *problem, int t, int s) {
    return t - problem->history + s;
}
static inline int esp_window_u(const esp_problem *problem, int t, int s) {
    return t - problem->history + 1 + s;
}

/* A rate limit holds when |du| <= rate + this much of the largest input in size. */
#define ESP_RATE_TOLERANCE 1e-9

/* y_data_lower/upper: the data box of one y (ny), NULL when unknown. Errors: INVALID with the field of the request,
 * UNPROCESSABLE /trust_region when data ranges are asked for and none are known. */
ESP_MUST_CHECK esp_code esp_problem_create(const esp_task *task, const esp_program *step, int history, const double *y_data_lower,
                                           const double *y_data_upper, const esp_plan_request *request, esp_problem **ret_problem, esp_error *reterr);
void esp_problem_free(esp_problem *problem);

/* Adds a cut over n outputs, copied. Errors: NOMEM, also when there are ESP_MAX_CUTS. */
ESP_MUST_CHECK esp_code esp_problem_cut(const esp_problem *problem, int n, const int *at, const double *weight, double most, esp_error *reterr);

/* The nearest plan that fits box, rate and values, step by step in order; in place. inputs (H x nu), any numbers
 * (NaN counts as 0). A step whose values are all out of the rate's reach takes the nearest value all the same. */
void esp_problem_project(const esp_problem *problem, double *inputs);
/* A value of the task nearest to u (nu), by box width, among those within the rate of `previous` when there are any. */
const double *esp_problem_nearest_value(const esp_problem *problem, const double *u, const double *previous);
/* u(t-1) for step t of a plan. */
static inline const double *esp_problem_previous(const esp_problem *problem, const double *inputs, int t) {
    return t > 0 ? inputs + (t - 1) * problem->nu : problem->u_last;
}
static inline bool esp_problem_rated(const esp_problem *problem, int t) {
    return problem->task->rate && (t > 0 || problem->has_u_last);
}

/* The model's input x = [Y, U] at step t of a plan whose earlier predictions (H x ny) are filled in. */
void esp_problem_window(const esp_problem *problem, int t, const double *inputs, const double *predicted, double *ret_x);

/* Any limit on y at all. */
bool esp_problem_limits_y(const esp_problem *problem);

#endif
