/* SPDX-License-Identifier: Apache-2.0
 * Planning cases for tests: a model, a task from text, a planner; and a plan evaluator that shares no code with the
 * library (its own replay in long double, its own cost and limits). */
#ifndef ESP_TESTS_PLANNING_H
#define ESP_TESTS_PLANNING_H

#include "base/rng.h"
#include "plan/plan.h"

typedef struct plan_case {
    esp_model *model;
    esp_planner *planner;
    esp_json *json;
    esp_arena *arena;
    esp_task *task;
} plan_case;

/* y(t+1) = W x, W ny x (history * (ny + nu)). Aborts when memory is out, as all of these do. */
esp_model *linear_model(int ny, int nu, int history, const double *w);
/* y(t+1) = y(t) + W2 relu(W1 x + b1) + b2, history 1: hidden x (ny + nu), ny x hidden. */
esp_model *residual_model(int ny, int nu, int hidden, const double *w1, const double *b1, const double *w2, const double *b2);

/* Takes the model. Quotes in `text` may be single ones. */
plan_case case_of(esp_model *model, const char *text);
void case_done(plan_case *c);
/* Runs with seconds of time, INFINITY for no deadline. */
esp_code case_run(plan_case *c, const esp_plan_request *request, double seconds, esp_plan_result *ret_result, esp_error *reterr);

/* The task alone; `*ret_json` and `*ret_arena` are the caller's to free, whatever the code. */
esp_code task_of(const char *text, int ny, int nu, esp_json **ret_json, esp_arena **ret_arena, esp_task **ret_task, esp_error *reterr);

/* Cost of a plan, and the largest excess over a limit on y that holds (negative inside; -1e300 without limits), both
 * recomputed. The cost has the penalty of every limit on y that the present violates, by the task's `penalty` or the
 * documented default. Data ranges are not known here. */
double oracle_plan(const esp_model *model, const esp_task *task, const esp_plan_request *request, const double *inputs, double *ret_excess);
/* What a unit outside a limit costs that the present (ny) violates: the task's, or the documented default. */
double oracle_penalty(const esp_task *task, const double *present, const double *goal);

#endif
