/* SPDX-License-Identifier: Apache-2.0
 * The loop itself. Limits on inputs are the problem's projection, costs are the verification's: nothing is defined twice. */
#include "plan/follow.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "plan/verify.h"

static bool charges_changes(const esp_task *task) {
    bool found = task->rate != NULL;
    for (int k = 0; k < task->n_stage; k++) found |= task->stage[k].on == ESP_ON_DU;
    for (int k = 0; k < task->n_terminal; k++) found |= task->terminal[k].on == ESP_ON_DU;
    return found;
}

esp_present esp_present_of(const esp_task *task, int history) {
    esp_present p = {.ny = task->ny, .nu = task->nu, .history = history, .n_goal = task->n_goal};
    p.n_u = history > 1 ? history - 1 : charges_changes(task) ? 1 : 0;
    p.n = history * p.ny + p.n_u * p.nu + p.n_goal;
    return p;
}

esp_plan_request esp_present_request(const esp_present *p, const double *x) {
    const double *u = x + p->history * p->ny, *goal = u + p->n_u * p->nu;
    return (esp_plan_request){.y = x, .u = p->n_u ? u : NULL, .n_u = p->n_u, .goal = p->n_goal ? goal : NULL};
}

/* Row t of the prediction or, before it, of the past. */
static const double *y_at(const esp_problem *p, const esp_plan *plan, int t) {
    return t >= 0 ? plan->predicted + t * p->ny : p->y_past + (p->history + t) * p->ny;
}

/* u(t); before the plan, the past, whose newest row is u_last. */
static const double *u_at(const esp_problem *p, const esp_plan *plan, int t) {
    if (t >= 0) return plan->inputs + t * p->nu;
    return t == -1 && p->history == 1 ? p->u_last : p->u_past + (p->history - 1 + t) * p->nu;
}

/* The present before step t: its newest y is row t - 1 of the prediction. */
static void put_present(const esp_problem *p, const esp_present *present, const double *goal, const esp_plan *plan, int t, double *x) {
    size_t ny = (size_t)p->ny, nu = (size_t)p->nu;
    for (int s = t - p->history; s < t; s++, x += ny) memcpy(x, y_at(p, plan, s), ny * sizeof *x);
    for (int s = t - present->n_u; s < t; s++, x += nu) memcpy(x, u_at(p, plan, s), nu * sizeof *x);
    if (present->n_goal) memcpy(x, goal, (size_t)present->n_goal * sizeof *x);
}

/* y(t+1); false when it is no number. */
static bool advance(const esp_problem *p, esp_plan *plan, int t) {
    double *y = plan->predicted + t * p->ny;
    bool finite = true;
    esp_problem_window(p, t, plan->inputs, plan->predicted, p->x);
    esp_program_forward(p->step, p->x, y, NULL, NULL, p->r);
    for (int i = 0; i < p->ny; i++) finite = finite && isfinite(y[i]);
    return finite;
}

esp_code esp_follow(const esp_problem *problem, const esp_present *present, const double *goal, esp_follow_input *input, void *user, esp_plan *plan,
                    double *ret_met, int *ret_steps, esp_error *reterr) {
    int t = 0, nu = problem->nu;
    double *x = calloc((size_t)present->n, sizeof *x);
    esp_code code = x ? ESP_OK : esp_fail(reterr, ESP_NOMEM, "a closed loop");
    memset(plan->inputs, 0, (size_t)(problem->horizon * nu) * sizeof *plan->inputs);
    for (; code == ESP_OK && t < problem->horizon; t++) {
        put_present(problem, present, goal, plan, t, x);
        code = input(user, x, t, plan->inputs + t * nu, reterr);
        esp_problem_project(problem, plan->inputs); /* earlier steps stay: they are inside */
        if (code != ESP_OK || !advance(problem, plan, t)) break;
        if (ret_met) put_present(problem, present, goal, plan, t + 1, ret_met + t * present->n);
    }
    if (code == ESP_OK) {
        (void)esp_verify(problem, plan);
        *ret_steps = t;
    }
    free(x);
    return code;
}
