/* SPDX-License-Identifier: Apache-2.0
 * The planning stage: a task, a present and a model in; verified plans out, each better than the last.
 *
 * esp_plan_run finds a first incumbent within milliseconds (sampling), proves lower bounds, improves until the gap is
 * met or the time is up, and hands out every better incumbent and every better bound as soon as it exists. Whatever
 * found it, a plan is replayed through the program in double and every limit rechecked (plan/verify.h) before it is
 * handed out, and the final status is derived from that, never from what a solver claims.
 *
 *     task.h      the problem without its present      problem.h   the present substituted
 *     limits.h    which limits on y hold, and which are charged for because the present violates them
 *     sample.h    MPPI and CEM                         gradient.h  projected Adam
 *     tighten.h   sound ranges over the horizon        encode.h    rows and columns, relaxed or big-M (eq. 11)
 *     mip.h       root.h, then a search: tree.h (branch and bound over ReLU phases, which share.h spreads) or CBC (cbc.h)
 *     verify.h    replay, and the best plan and bound so far
 *     follow.h    a closed loop on the model, by whatever gives inputs */
#ifndef ESP_PLAN_PLAN_H
#define ESP_PLAN_PLAN_H

#include "base/clock.h"
#include "base/error.h"
#include "net/program.h"
#include "plan/task.h"

/* The answer of the mathematics. */
typedef enum esp_plan_status {
    ESP_PLAN_OPTIMAL, /* sound ranges, gap within the asked one */
    ESP_PLAN_FEASIBLE, /* an answer, with its gap */
    ESP_PLAN_FALLBACK, /* nothing found in time (only the daemon says this) */
    ESP_PLAN_INFEASIBLE, /* proved */
    ESP_PLAN_UNKNOWN /* nothing found, nothing proved */
} esp_plan_status;
extern const char *const esp_plan_status_names[];

/* The present. */
typedef struct esp_plan_request {
    const double *y; /* history x ny, newest last */
    const double *u; /* (history - 1) x nu, newest last, then the input applied last when a du term or a rate needs it: see n_u */
    int n_u; /* rows of u given; du(0) counts from the last of them, from 0 (and no rate limit at step 0) when none */
    const double *goal; /* task->n_goal */
    const double *start; /* horizon x nu: a plan to start from (the shifted previous one), or NULL */
} esp_plan_request;

/* A limit on y by its place in the task; `index` is the output of a side, or the number of a half-space or box. */
typedef enum esp_limit_kind {
    ESP_LIMIT_LOWER,
    ESP_LIMIT_UPPER,
    ESP_LIMIT_HALFSPACE,
    ESP_LIMIT_AVOID,
    ESP_LIMIT_TRUST_LOWER,
    ESP_LIMIT_TRUST_UPPER,
    ESP_LIMIT_DATA
} esp_limit_kind;
typedef struct esp_limit {
    esp_limit_kind kind;
    int index;
} esp_limit;
/* Its JSON Pointer from the task's root; every side of a data box is "/trust_region". */
#define ESP_LIMIT_TEXT 48
void esp_limit_pointer(esp_limit limit, char ret_text[ESP_LIMIT_TEXT]);

/* What a plan does outside the limits that the present violates (plan/limits.h); n_limits 0 when it violates none. */
typedef struct esp_slack {
    int n_limits;
    esp_limit *limits; /* n_limits */
    double penalty; /* cost of a unit of violation at one step */
    double max; /* largest violation of one limit at one step */
    double total; /* over limits and steps */
    double *steps; /* horizon: over limits */
} esp_slack;

typedef struct esp_plan {
    int horizon, ny, nu;
    double *inputs; /* horizon x nu */
    double *predicted; /* horizon x ny */
    double objective; /* recomputed: cost + slack.penalty * slack.total */
    double cost; /* of the task's terms alone */
    double violation; /* largest violation of a limit that holds, 0 when inside all */
    esp_slack slack;
    const char *found_by; /* "cem", "mppi", "cbc", "start", ..., static */
} esp_plan;

typedef struct esp_plan_hooks {
    void *user;
    void (*incumbent)(void *user, const esp_plan *plan, int64_t nodes); /* verified; strictly better each time */
    void (*bound)(void *user, double lower_bound); /* sound; strictly larger each time */
    const struct esp_tree_hooks *tree; /* for a search that is shared (plan/share.h), or NULL */
} esp_plan_hooks;

typedef struct esp_plan_result {
    esp_plan_status status;
    esp_plan best; /* inputs NULL when none; owned: esp_plan_result_done */
    double lower_bound; /* -INFINITY when none */
    double gap; /* (objective - lower_bound) / max(|objective|, 1e-9), NaN without both */
    bool ranges_sound; /* false: data ranges were asked for */
    int64_t nodes; /* of the tree search */
    int binaries; /* unstable ReLUs over the horizon after tightening */
    const char *method; /* "mip/cbc", "mppi", ... what answered, static */
} esp_plan_result;
void esp_plan_result_done(esp_plan_result *result);

/* What planning with one model needs, made once and kept between plans: the step program, its float copies, workspace.
 * x_lower/x_upper: the data box of [Y, U] (n_x), or NULL when unknown (trust region `data` is then refused).
 * One thread. Borrows the model. */
typedef struct esp_planner esp_planner;
ESP_MUST_CHECK esp_code esp_planner_create(const esp_model *model, const double *x_lower, const double *x_upper, esp_planner **ret_planner,
                                           esp_error *reterr);
void esp_planner_free(esp_planner *planner);

/* Cancelled or out of time is not an error: the status says what is known by then. Errors: INVALID (sizes, numbers),
 * UNPROCESSABLE (a task the chosen method cannot take: names the field), NOMEM. */
ESP_MUST_CHECK esp_code esp_plan_run(esp_planner *planner, const esp_task *task, const esp_plan_request *request, const esp_plan_hooks *hooks,
                                     const esp_stop *stop, esp_plan_result *ret_result, esp_error *reterr);

/* The problem that a run would solve, for whom replays inputs of its own (plan/verify.h, plan/follow.h): esp_problem_free. Borrows
 * the planner and the task. Errors: INVALID, UNPROCESSABLE, NOMEM, as esp_plan_run. */
struct esp_problem;
ESP_MUST_CHECK esp_code esp_planner_problem(const esp_planner *planner, const esp_task *task, const esp_plan_request *request,
                                            struct esp_problem **ret_problem, esp_error *reterr);

/* Searches open nodes that the tree of another run of the same model, task and present gave away (plan/share.h). Its bound
 * is for those nodes alone. Errors: as esp_plan_run, and CORRUPT when the nodes do not fit. */
struct esp_share_result;
ESP_MUST_CHECK esp_code esp_plan_help(esp_planner *planner, const esp_task *task, const esp_plan_request *request, const void *nodes, size_t len,
                                      const esp_plan_hooks *hooks, const esp_stop *stop, struct esp_share_result *ret_result, esp_error *reterr);

#endif
