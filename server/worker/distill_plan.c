/* SPDX-License-Identifier: Apache-2.0
 * States into answers: the first input of the plan that the task's planner makes there. */
#include <string.h>

#include "worker/distill_parts.h"

#define BRIEF_MS 1000

esp_code distill_plan(distill_planner *p, const double *x, const double *start, esp_plan_result *ret, esp_error *reterr) {
    esp_plan_request request = esp_present_request(&p->present, x);
    esp_plan_result result = {0};
    esp_error error = {0};
    request.start = start;
    p->stop.deadline_ns = esp_clock_now_ns() + (int64_t)(p->plan_ms * (double)ESP_NS_PER_MS);
    if (p->plan_ms > BRIEF_MS) worker_lease(p->w, 2e-3 * p->plan_ms); /* CBC says nothing meanwhile, and may take longer */
    esp_code code = esp_plan_run(p->planner, p->task, &request, NULL, &p->stop, &result, &error);
    if (!code && p->stop.cancelled(p->stop.user)) code = esp_fail(&error, ESP_CANCELLED, "cancelled");
    if (!code) {
        *ret = result;
        return ESP_OK;
    }
    esp_plan_result_done(&result);
    if (error.code != ESP_CANCELLED && *error.pointer)
        return esp_fail_at(reterr, error.code, "/spec/task", "planning: %s: %s", error.pointer, error.message);
    if (reterr) *reterr = error;
    return code;
}

static esp_code plan_here(distilling *d, size_t at, esp_error *reterr) {
    esp_plan_result result = {0};
    int64_t begin = esp_clock_now_ns();
    esp_code code = distill_plan(&d->p, d->share.x + at * (size_t)d->p.present.n, NULL, &result, reterr);
    d->share.seconds += esp_clock_seconds_since(begin);
    d->share.own++;
    if (!code) distill_share_answer(d, at, result.best.inputs, result.status == ESP_PLAN_OPTIMAL);
    esp_plan_result_done(&result);
    return code;
}

/* Every so many answers, by a seeded draw, are kept out of training; the first is not. */
static void keep(distilling *d, const double *x, const double *u) {
    size_t n = (size_t)d->p.present.n, nu = (size_t)d->p.present.nu;
    bool held = esp_rng_uniform(&d->split) < d->opts.validation && d->n > 0;
    size_t at = held ? d->n_held++ : d->n++;
    memcpy((held ? d->held_x : d->x) + at * n, x, n * sizeof *x);
    memcpy((held ? d->held_u : d->u) + at * nu, u, nu * sizeof *u);
}

/* In the order of the states, whoever answered. */
static void keep_all(distilling *d, distill_round *round) {
    const distill_share *s = &d->share;
    for (size_t i = 0; i < s->n; i++) {
        bool planned = s->answered[i] != DISTILL_UNPLANNED;
        if (planned) keep(d, s->x + i * (size_t)d->p.present.n, s->u + i * (size_t)d->p.present.nu);
        round->answers += planned;
        round->unplanned += !planned;
        d->optimal += s->answered[i] == DISTILL_OPTIMAL;
    }
    d->unplanned += round->unplanned;
}

esp_code distill_answer(distilling *d, size_t n, const double *x, distill_round *round, esp_error *reterr) {
    esp_code code = ESP_OK;
    size_t at = 0;
    distill_share_begin(d, n, x);
    while (!code && distill_share_next(d, &at)) {
        code = plan_here(d, at, reterr);
        distill_share_look(d);
        distill_pulse(d);
    }
    if (!code) keep_all(d, round);
    distill_share_end(d);
    return code;
}
