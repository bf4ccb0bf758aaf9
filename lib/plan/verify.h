/* SPDX-License-Identifier: Apache-2.0
 * Verification: a plan's inputs replayed through the step program, cost and limits recomputed. Nothing leaves the
 * stage without it.
 *
 * The replay runs the step program in double, step by step, not the unrolled program that solvers see: an error in the
 * unrolling or in a solver's model shows here as a worse plan, never as a wrong claim. Inputs are clamped before
 * (esp_problem_project), never after, so what is returned is what was replayed.
 *
 * Tolerances. Inputs lie in their box and equal one of the allowed values exactly; a rate holds to
 * ESP_RATE_TOLERANCE. A limit a'y <= b on y holds to ESP_LIMIT_TOLERANCE * max(|a|_inf, |b|) (for a side of a box a is a
 * unit vector); the depth inside a box to avoid likewise. Violations are measured in that scale. */
#ifndef ESP_PLAN_VERIFY_H
#define ESP_PLAN_VERIFY_H

#include <math.h>

#include "plan/problem.h"

#define ESP_LIMIT_TOLERANCE 1e-6

/* Cost of inputs (H x nu) and their prediction (H x ny), with the penalty of limits that the present violates. */
double esp_verify_objective(const esp_problem *problem, const double *inputs, const double *predicted);
/* Largest violation of a limit on y that holds, in its scale; negative or 0 when all do. -INFINITY when there is none. */
double esp_verify_limits_y(const esp_problem *problem, const double *predicted);
/* Of one limit at one y (ny): a'y - b; the distance to the nearest face of a box to avoid, positive inside. */
double esp_verify_halfspace(const esp_halfspace *halfspace, int ny, const double *y);
double esp_verify_avoid(const esp_avoid *avoid, const double *y);
/* Inputs in the box, among the values, within the rate. */
bool esp_verify_limits_u(const esp_problem *problem, const double *inputs);

/* Memory for one plan of the problem's size. */
ESP_MUST_CHECK esp_code esp_plan_create(const esp_problem *problem, esp_plan *ret_plan, esp_error *reterr);
void esp_plan_done(esp_plan *plan);

/* Replays plan->inputs: fills predicted, objective, cost, slack and violation (0 when all limits hold to tolerance; INFINITY when
 * an input limit is broken or the replay is not finite). True when every limit holds. */
bool esp_verify(const esp_problem *problem, esp_plan *plan);

/* The best plan and bound so far, and who is told of them. */
typedef struct esp_track {
    const esp_problem *problem;
    const esp_plan_hooks *hooks; /* may be NULL */
    const esp_stop *stop; /* may be NULL */
    esp_plan best, trial;
    bool found; /* best holds a plan */
    double lower_bound; /* -INFINITY when none */
    int64_t nodes;
} esp_track;

ESP_MUST_CHECK esp_code esp_track_init(const esp_problem *problem, const esp_plan_hooks *hooks, const esp_stop *stop, esp_track *ret_track,
                                       esp_error *reterr);
void esp_track_done(esp_track *track);
/* Projects a copy of the inputs, verifies it, and keeps and streams it when it is strictly better. */
bool esp_track_offer(esp_track *track, const double *inputs, const char *found_by);
/* Keeps and streams a sound bound when it is strictly larger. A bound above the best plan's cost (by rounding of the
 * last digits, since both are sound) is taken down to it. */
void esp_track_bound(esp_track *track, double lower_bound);
/* What a relative gap is relative to at least. */
#define ESP_LEAST_COST 1e-9
static inline double esp_relative_gap(double objective, double bound) {
    return (objective - bound) / fmax(fabs(objective), ESP_LEAST_COST);
}
/* Cost below which a plan must be to matter: best - max(gap max(|best|, ESP_LEAST_COST), absolute gap); INFINITY without a plan. */
double esp_track_cutoff(const esp_track *track);
/* The asked gap is met. */
bool esp_track_met(const esp_track *track);
static inline bool esp_track_stop(const esp_track *track) {
    return esp_stop_now(track->stop);
}
/* Seconds left, INFINITY without a deadline. */
double esp_track_left(const esp_track *track);

#endif
