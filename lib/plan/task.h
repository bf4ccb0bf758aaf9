/* SPDX-License-Identifier: Apache-2.0
 * A task: the planning problem of API.md without its present - horizon, cost, limits, planner.
 *
 * Parsed and checked once at the door (every error names its field), immutable after, shareable. Sizes ny, nu are
 * those of the model the task names; steps count from 1 (y(1) is the first predicted output), inputs from 0. */
#ifndef ESP_PLAN_TASK_H
#define ESP_PLAN_TASK_H

#include <stdbool.h>
#include <stdint.h>

#include "base/arena.h"
#include "base/error.h"
#include "base/json.h"

#define ESP_MAX_HORIZON 64

typedef enum esp_on { ESP_ON_Y, ESP_ON_U, ESP_ON_DU } esp_on; /* du(t) = u(t) - u(t-1) */
typedef enum esp_cost_norm { ESP_COST_L1, ESP_COST_LINF, ESP_COST_L2SQ } esp_cost_norm;

/* sum_i weight_i |v_i - target_i|, max_i weight_i |v_i - target_i|, or sum_i weight_i (v_i - target_i)^2. */
typedef struct esp_term {
    esp_on on;
    esp_cost_norm norm;
    int n;
    int *index; /* n components of y, u or du */
    double *weight; /* n, >= 0 */
    bool target_is_goal; /* target comes with the request: goal[0 .. n-1] */
    double *target; /* n; zeros when absent; NULL when target_is_goal */
} esp_term;

typedef struct esp_halfspace {
    double *a; /* ny: a' y <= b */
    double b;
} esp_halfspace;

typedef struct esp_avoid {
    int n;
    int *index;
    double *lower, *upper; /* n: the box y[index] must stay out of */
} esp_avoid;

typedef enum esp_trust { ESP_TRUST_NONE, ESP_TRUST_BOX, ESP_TRUST_DATA } esp_trust;
typedef enum esp_method { ESP_METHOD_MIP, ESP_METHOD_MPPI, ESP_METHOD_CEM, ESP_METHOD_GRADIENT } esp_method;
typedef enum esp_engine { ESP_ENGINE_AUTO, ESP_ENGINE_TREE, ESP_ENGINE_CBC } esp_engine;
extern const char *const esp_method_names[]; /* "mip", "mppi", "cem", "gradient", NULL */
extern const char *const esp_engine_names[];

typedef struct esp_task {
    int ny, nu, horizon;
    int n_stage, n_terminal; /* stage: y at steps 1..H, u and du at 0..H-1; terminal: y at H, u and du at H-1 */
    esp_term *stage, *terminal;
    int n_goal; /* numbers the request's goal must have; 0 = no goal used */
    double *u_lower, *u_upper; /* nu, finite */
    int n_values;
    double *values; /* n_values x nu, or NULL: the finite set of allowed inputs */
    double *rate; /* nu: |du| <= rate, or NULL */
    double *safe; /* nu, or NULL: the input to fall back on */
    double *y_lower, *y_upper; /* ny (may be infinite), or NULL: of "state" */
    double *trust_lower, *trust_upper; /* the same, of "trust_region" */
    int n_halfspaces;
    esp_halfspace *halfspaces;
    int n_avoid;
    esp_avoid *avoid;
    double penalty; /* of a unit outside a limit that the present violates; 0: the default of plan/limits.h */
    esp_trust trust;
    double trust_margin; /* share of the data box's width added on each side (data), or unused */
    esp_method method;
    esp_engine engine;
    double gap; /* relative, 0.01 */
    double absolute_gap; /* 0 */
    uint64_t seed;
} esp_task;

extern const char *const esp_task_fields[]; /* every member a task may have, "name", "model" and "objects" included */
/* All but `name`, `model` and `objects` (the caller's), for a model of ny, nu. Everything lives in the arena. */
ESP_MUST_CHECK esp_code esp_task_parse(const esp_reader *reader, int ny, int nu, esp_arena *arena, esp_task **ret_task, esp_error *reterr);
/* Plans keep the inputs [Y, U] of a model in the box lower, upper (history * (ny + nu)), but for a present that is outside already: the
 * trust region is `data` without a margin or a box within it, and the inputs' limits are within it. UNPROCESSABLE names the
 * limit that lets them out. */
ESP_MUST_CHECK esp_code esp_task_check_inside(const esp_task *task, int history, const double *lower, const double *upper, esp_error *reterr);
/* `overrides` of a plan request: any of "horizon", "cost", "input", "state", "trust_region", "planner", each replacing
 * the task's member whole; planner is merged field by field. Gives the merged task as canonical JSON. */
ESP_MUST_CHECK esp_code esp_task_override(const esp_reader *task, const esp_reader *overrides, esp_buf *ret_json, esp_error *reterr);

#endif
