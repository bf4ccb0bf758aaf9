/* SPDX-License-Identifier: Apache-2.0
 * Closed loops on the learned model.
 *
 * A policy trained on states drawn from a box alone is asked, once it drives, about states that it was never shown. So rounds of DAgger
 * (Ross, Gordon and Bagnell, 2011): the policy drives, the planner says what it would have done at the states met, and
 * training goes on with those answers too.
 *
 * Regret is what the task's cost over its horizon comes to when the policy drives, less what it comes to when the planner does,
 * planning anew at every step from its last plan, both from the same present and on the same model. It may be negative: neither
 * a receding horizon nor a plan cut off by its time is optimal over the whole. The objectives of the first plans, which nothing proved
 * optimal can be below, are reported beside. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "plan/verify.h"
#include "worker/distill_parts.h"

enum { STREAM_REGRET = 0xd15 };

/* ---- who drives ---- */

typedef struct policy_driver {
    const esp_net *net;
    double *work; /* 2 x widest */
} policy_driver;

static esp_code by_policy(void *user, const double *x, int t, double *ret_u, esp_error *reterr) {
    const policy_driver *p = user;
    (void)t;
    (void)reterr;
    esp_net_forward(p->net, x, ret_u, p->work);
    return ESP_OK;
}

typedef struct plan_driver {
    distilling *d;
    double *start; /* horizon x nu: the last plan, one step on */
    bool planned; /* there was a plan at the first step */
    double objective; /* of that */
} plan_driver;

/* Rows 1 .. of the plan, the last one twice. */
static void shift(const esp_plan *plan, double *ret_start) {
    size_t nu = (size_t)plan->nu, rest = (size_t)(plan->horizon - 1) * nu;
    memcpy(ret_start, plan->inputs + nu, rest * sizeof *ret_start);
    memcpy(ret_start + rest, plan->inputs + rest, nu * sizeof *ret_start);
}

/* Without a plan its last one goes on. */
static esp_code by_planner(void *user, const double *x, int t, double *ret_u, esp_error *reterr) {
    plan_driver *p = user;
    size_t nu = (size_t)p->d->p.present.nu, rest = (size_t)(p->d->p.task->horizon - 1) * nu;
    esp_plan_result result = {0};
    esp_code code = distill_plan(&p->d->p, x, p->planned ? p->start : NULL, &result, reterr);
    if (code) return code;
    p->d->done++;
    distill_pulse(p->d);
    if (result.best.inputs) {
        memcpy(ret_u, result.best.inputs, nu * sizeof *ret_u);
        shift(&result.best, p->start);
        if (t == 0) p->objective = result.best.objective;
        p->planned |= t == 0;
    } else {
        memcpy(ret_u, p->start, nu * sizeof *ret_u);
        memmove(p->start, p->start + nu, rest * sizeof *p->start);
    }
    esp_plan_result_done(&result);
    return ESP_OK;
}

/* ---- one loop ---- */

/* From the present x; `ret_met` (horizon x n) or NULL. */
static esp_code drive(distilling *d, const double *x, esp_follow_input *input, void *user, esp_plan *ret_plan, double *ret_met, int *ret_steps,
                      esp_error *reterr) {
    const esp_plan_request request = esp_present_request(&d->p.present, x);
    esp_problem *problem = NULL;
    esp_plan plan = {0};
    esp_code code = esp_planner_problem(d->p.planner, d->p.task, &request, &problem, reterr);
    if (!code) code = esp_plan_create(problem, &plan, reterr);
    if (!code) code = esp_follow(problem, &d->p.present, request.goal, input, user, &plan, ret_met, ret_steps, reterr);
    if (!code)
        *ret_plan = plan;
    else
        esp_plan_done(&plan);
    esp_problem_free(problem);
    return code;
}

static bool is_inside(const esp_box *box, const double *x) {
    for (int i = 0; i < box->n; i++)
        if (!(x[i] >= box->lower[i] && x[i] <= box->upper[i])) return false;
    return true;
}

static esp_code take_policy(const distilling *d, policy_driver *ret, esp_error *reterr) {
    ret->net = d->policy->net;
    ret->work = ESP_NEW(d->arena, double, 2 * esp_net_widest(ret->net));
    return ret->work ? ESP_OK : esp_fail(reterr, ESP_NOMEM, "no memory for a closed loop");
}

esp_code distill_visit(distilling *d, size_t most, double *ret, size_t *ret_n, esp_error *reterr) {
    size_t width = (size_t)d->p.present.n, horizon = (size_t)d->p.task->horizon, n = 0;
    double *x = ESP_NEW(d->arena, double, width), *met = ESP_NEW(d->arena, double, horizon *width);
    policy_driver policy = {0};
    esp_code code = x && met ? take_policy(d, &policy, reterr) : esp_fail(reterr, ESP_NOMEM, "no memory for a closed loop");
    for (size_t starts = 0; !code && n < most && starts < most; starts++) {
        esp_plan plan = {0};
        int steps = 0;
        distill_draw(d, &d->rng, x);
        code = drive(d, x, by_policy, &policy, &plan, met, &steps, reterr);
        for (int t = 0; !code && t < steps && n < most; t++)
            if (is_inside(&d->domain, met + (size_t)t * width)) memcpy(ret + n++ * width, met + (size_t)t * width, width * sizeof *ret);
        esp_plan_done(&plan);
        distill_pulse(d);
        if (!code && worker_cancelled(d->p.w)) code = esp_fail(reterr, ESP_CANCELLED, "cancelled");
    }
    if (!code) *ret_n = n;
    return code;
}

/* ---- regret ---- */

static int by_value(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* Linear interpolation between order statistics. */
static double percentile(const double *sorted, size_t n, double share) {
    double at = share * (double)(n - 1);
    size_t low = (size_t)at;
    return low + 1 < n ? sorted[low] + (at - (double)low) * (sorted[low + 1] - sorted[low]) : sorted[low];
}

static void add_state(distill_regret *r, const esp_plan *policy, const esp_plan *planner, double objective, double *ret_regrets, size_t *n) {
    bool diverged = !isfinite(policy->objective);
    r->states++;
    r->diverged += diverged;
    r->violations += policy->violation > 0;
    r->planner_violations += planner->violation > 0;
    if (diverged) return;
    ret_regrets[(*n)++] = policy->objective - planner->objective;
    r->policy_cost += policy->objective;
    r->planner_cost += planner->objective;
    r->plan_objective += objective;
}

static esp_code measure_from(distilling *d, const double *x, policy_driver *policy, plan_driver *planner, double *regrets, size_t *n,
                             esp_error *reterr) {
    esp_plan a = {0}, b = {0};
    int steps = 0;
    planner->planned = false;
    memset(planner->start, 0, (size_t)(d->p.task->horizon * d->p.present.nu) * sizeof *planner->start);
    esp_code code = drive(d, x, by_planner, planner, &a, NULL, &steps, reterr);
    if (!code && !planner->planned) d->regret.unplanned++;
    if (!code && planner->planned) code = drive(d, x, by_policy, policy, &b, NULL, &steps, reterr);
    if (!code && planner->planned) add_state(&d->regret, &b, &a, planner->objective, regrets, n);
    esp_plan_done(&a);
    esp_plan_done(&b);
    return code;
}

/* Sums into means; nothing measured is no number. */
static void finish(distill_regret *r, double *regrets, size_t n) {
    double sum = 0, count = n ? (double)n : (double)NAN;
    qsort(regrets, n, sizeof *regrets, by_value);
    for (size_t i = 0; i < n; i++) sum += regrets[i];
    r->mean = sum / count;
    r->p50 = n ? percentile(regrets, n, 0.5) : (double)NAN;
    r->p90 = n ? percentile(regrets, n, 0.9) : (double)NAN;
    r->largest = n ? regrets[n - 1] : (double)NAN;
    r->policy_cost /= count;
    r->planner_cost /= count;
    r->plan_objective /= count;
}

esp_code distill_measure(distilling *d, esp_error *reterr) {
    size_t width = (size_t)d->p.present.n, all = (size_t)d->opts.regret_states, n = 0;
    double *x = ESP_NEW(d->arena, double, width), *regrets = ESP_NEW(d->arena, double, all + 1);
    plan_driver planner = {.d = d, .start = ESP_NEW(d->arena, double, d->p.task->horizon * d->p.present.nu)};
    policy_driver policy = {0};
    esp_rng rng;
    if (!x || !regrets || !planner.start) return esp_fail(reterr, ESP_NOMEM, "no memory for a closed loop");
    esp_rng_init(&rng, d->opts.regress.seed, STREAM_REGRET);
    esp_code code = take_policy(d, &policy, reterr);
    for (size_t i = 0; !code && i < all; i++) {
        distill_draw(d, &rng, x);
        code = measure_from(d, x, &policy, &planner, regrets, &n, reterr);
    }
    if (!code) finish(&d->regret, regrets, n);
    return code;
}
