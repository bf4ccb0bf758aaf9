/* SPDX-License-Identifier: Apache-2.0
 * A closed loop on the learned model: an input for each present, one after another over a task's horizon. Not planning: where
 * inputs come from - a policy, a planner that plans anew at every step - is the caller's.
 *
 * The present as one row of numbers, which is what a policy made from a task takes in:
 *     [Y, U, goal]     Y: the last `history` observations, oldest first; goal: when the task has one
 *                      U: the inputs applied before now, oldest first: history - 1 of them; 1 when the model has history 1 and the
 *                      task charges or limits changes of the input
 * so that the best next input is a function of it. */
#ifndef ESP_PLAN_FOLLOW_H
#define ESP_PLAN_FOLLOW_H

#include "plan/plan.h"

typedef struct esp_present {
    int ny, nu, history;
    int n_u; /* rows of U */
    int n_goal;
    int n; /* numbers in all */
} esp_present;

esp_present esp_present_of(const esp_task *task, int history);
/* The request that planning from it needs; borrows x (n). */
esp_plan_request esp_present_request(const esp_present *present, const double *x);

/* An input for the present x (n) of step t into ret_u (nu); it may lie outside the limits. A failure ends the loop. */
typedef esp_code esp_follow_input(void *user, const double *x, int t, double *ret_u, esp_error *reterr);

struct esp_problem;
/* From the problem's present through its horizon: each input is moved into box and rate (problem.h) before it is applied. Fills
 * `plan` (made for the problem by esp_plan_create) with inputs and predictions, and its cost, slack and violation as esp_verify
 * does: with the violation INFINITY when the loop leaves the range of numbers, *ret_steps being the steps before that.
 * `ret_met` (horizon x n, or NULL) gets the presents after each step. `goal` (n_goal) goes into them. Errors: those of `input`. */
ESP_MUST_CHECK esp_code esp_follow(const struct esp_problem *problem, const esp_present *present, const double *goal, esp_follow_input *input,
                                   void *user, esp_plan *plan, double *ret_met, int *ret_steps, esp_error *reterr);

#endif
