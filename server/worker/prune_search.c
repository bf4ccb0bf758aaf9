/* SPDX-License-Identifier: Apache-2.0
 * One method at one sparsity, and the sparsest model of a method whose certified difference keeps a budget.
 *
 * The search. Sparsity goes in steps of 1/256. Points of the domain sieve first, since they are cheap: a model that is over the
 * budget at one of them is out. Bisection finds the sparsest step that passes, in at most half of the time. What passes is a
 * candidate and no more. Then certificates: if the candidate's holds, that is the answer; else the steps between it and the network
 * itself are bisected by their certificates. The difference need not rise with sparsity, so there may be a sparser model that keeps
 * the budget among those that were not tried; none that was tried does.
 *
 * A certificate is given a little time and, while it is undecided (bound above the budget, witness below), four times as
 * much, up to its share of what is left. How far it gets depends on the machine: the answer of a search may too. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "certify/lowering.h"
#include "certify/twin.h"
#include "worker/certify_kinds.h"
#include "worker/prune_parts.h"

#define FIRST_NS  (20 * ESP_NS_PER_MS)
#define FEW_TRIES 4 /* the last certificate may take a quarter of what is left */

void prune_outcome_done(prune_outcome *outcome) {
    if (!outcome) return;
    esp_certified_done(&outcome->certified);
    esp_model_free(outcome->model);
    *outcome = (prune_outcome){0};
}

static bool is_fatal(esp_code code) {
    return code == ESP_CANCELLED || code == ESP_NOMEM || code == ESP_INTERNAL;
}

/* ---- one candidate ---- */

esp_code prune_make(pruning *p, const esp_prune_opts *opts, const esp_stop *stop, prune_outcome *ret, esp_error *reterr) {
    const esp_model *parent = p->parent->model;
    esp_net *net = NULL;
    esp_model *model = NULL;
    esp_code code = esp_prune_run(parent->net, p->inputs.n, p->inputs.v, opts, stop, &net, reterr);
    if (code) return code;
    prune_outcome made = {.opts = *opts, .validation_rmse = NAN};
    esp_prune_count(net, opts, &made.weights, &made.zeros);
    code = esp_model_create(parent->kind, parent->ny, parent->nu, parent->history, &parent->frame, net, &model, reterr);
    made.model = model;
    if (!code) *ret = made;
    return code;
}

/* Largest of n vectors in the norm of the spec; ret_rms their root mean square, may be NULL. */
static double size_up(const pruning *p, size_t n, const double *a, const double *b, double *ret_rms) {
    size_t n_y = (size_t)esp_model_n_y(p->parent->model);
    double largest = 0, sum = 0;
    for (size_t i = 0; i < n; i++) {
        double square = 0, most = 0;
        for (size_t k = 0; k < n_y; k++) {
            double d = a[i * n_y + k] - b[i * n_y + k];
            square += d * d;
            most = fmax(most, fabs(d));
        }
        sum += square;
        largest = fmax(largest, p->norm == ESP_NORM_2 ? sqrt(square) : most);
    }
    if (ret_rms) *ret_rms = n ? sqrt(sum / (double)n) : 0;
    return largest;
}

esp_code prune_measure(pruning *p, prune_outcome *o, esp_error *reterr) {
    size_t n = p->inputs.n_held, n_y = (size_t)esp_model_n_y(p->parent->model);
    esp_code code = prune_part(o->model, n, p->inputs.held, p->y, reterr);
    if (code) return code;
    o->largest = size_up(p, n, p->y, p->held_y, &o->rms);
    if (!p->inputs.target) return ESP_OK;
    (void)size_up(p, n, p->y, p->inputs.target, &o->validation_rmse);
    o->validation_rmse /= sqrt((double)n_y);
    return ESP_OK;
}

esp_code prune_sieve(pruning *p, const esp_model *model, bool *ret_passes, esp_error *reterr) {
    esp_code code = prune_part(model, p->inputs.n_box, p->inputs.in_box, p->y, reterr);
    if (!code) *ret_passes = size_up(p, p->inputs.n_box, p->y, p->box_y, NULL) <= p->spec.error_budget;
    return code;
}

static void keep_least(prune_outcome *o) {
    o->value = INFINITY;
    for (int i = 0; i < o->certified.n; i++) o->value = fmin(o->value, worker_raised(o->certified.rows[i].value));
}

static double witness_of(const prune_outcome *o) {
    return o->certified.n ? o->certified.rows[0].lower : 0;
}

esp_code prune_certify(pruning *p, int64_t until_ns, prune_outcome *o, esp_error *reterr) {
    const esp_stop stop = {until_ns, worker_cancelled, p->w};
    esp_certify_opts opts = ESP_CERTIFY_OPTS_INIT;
    esp_certified made = {0};
    const esp_program *g = NULL;
    esp_program *f = NULL, *slack = NULL;
    int *pairs = NULL;
    esp_code code = worker_model_program(p->parent, &g, reterr);
    if (!code) code = esp_program_lower(o->model, &f, reterr);
    if (!code) code = esp_lowering_slack(o->model, &slack, reterr);
    if (!code && !(pairs = calloc((size_t)f->n_r + 1, sizeof *pairs))) code = esp_fail(reterr, ESP_NOMEM, "no memory for %d ReLUs", f->n_r);
    opts.norm = p->norm;
    opts.slack_f = slack;
    opts.slack_g = p->slack;
    if (!code) (void)esp_twin_pairs(o->model->net, p->parent->model->net, pairs);
    if (!code) code = esp_certify_difference(f, g, pairs, &p->box, &opts, &stop, &made, reterr);
    if (!code && worker_cancelled(p->w)) code = esp_fail(reterr, ESP_CANCELLED, "cancelled");
    if (!code) {
        esp_certified_done(&o->certified);
        o->certified = made;
        made = (esp_certified){0};
        o->is_certified = true;
        keep_least(o);
    }
    esp_certified_done(&made);
    free(pairs);
    esp_program_free(slack);
    esp_program_free(f);
    return code;
}

esp_code prune_once(pruning *p, prune_outcome *ret, esp_error *reterr) {
    const esp_stop stop = {ESP_NEVER, worker_cancelled, p->w};
    esp_code code = prune_make(p, &p->spec.opts, &stop, ret, reterr);
    ret->tried = 1;
    return code ? code : prune_measure(p, ret, reterr);
}

/* ---- the search ---- */

typedef struct search {
    pruning *p;
    esp_prune_opts opts;
    int64_t deadline_ns;
    double begin, end; /* of the job's progress */
    int tried;
    int64_t zeros; /* of the parent: a model that has no more is none */
    prune_outcome best; /* certified within the budget; model NULL: none yet */
} search;

static void say(const search *s, double fraction) {
    char stage[64];
    (void)snprintf(stage, sizeof stage, "%s by %s, %d %s tried", esp_prune_method_names[s->opts.method], esp_prune_scope_names[s->opts.scope],
                   s->tried, s->tried == 1 ? "model" : "models");
    worker_progress(s->p->w, s->begin + fraction * (s->end - s->begin), stage);
}

static esp_code make_step(search *s, int step, int64_t deadline_ns, prune_outcome *ret, esp_error *reterr) {
    const esp_stop stop = {deadline_ns, worker_cancelled, s->p->w};
    s->opts.sparsity = (double)step / PRUNE_STEPS;
    s->tried++;
    return prune_make(s->p, &s->opts, &stop, ret, reterr);
}

/* Does the model of this step keep the budget at the domain's points? */
static esp_code sieve(search *s, int step, int64_t deadline_ns, bool *ret_passes, esp_error *reterr) {
    prune_outcome o = {0};
    esp_code code = make_step(s, step, deadline_ns, &o, reterr);
    if (!code) code = prune_sieve(s->p, o.model, ret_passes, reterr);
    prune_outcome_done(&o);
    return code;
}

/* The sparsest step that passes, 0 when none does; what was found so far when the time is over. */
static esp_code sieve_steps(search *s, int *ret_step, esp_error *reterr) {
    int low = 0, high = PRUNE_STEPS + 1;
    bool passes = false;
    int64_t now = esp_clock_now_ns(), deadline = now + (s->deadline_ns - now) / 2;
    esp_code code = sieve(s, PRUNE_STEPS, deadline, &passes, reterr);
    *(passes ? &low : &high) = PRUNE_STEPS;
    while (!code && high - low > 1) {
        int middle = (low + high) / 2;
        code = sieve(s, middle, deadline, &passes, reterr);
        if (!code) *(passes ? &low : &high) = middle;
        say(s, 0.4 * (1 - (double)(high - low) / PRUNE_STEPS));
    }
    if (code == ESP_DEADLINE && low > 0) code = ESP_OK;
    if (!code) *ret_step = low;
    return code;
}

/* Certificate of the step's model, given more time until it is decided; within the budget it becomes the best. */
static esp_code decide(search *s, int step, bool *ret_within, esp_error *reterr) {
    pruning *p = s->p;
    prune_outcome o = {0};
    esp_code code = make_step(s, step, s->deadline_ns, &o, reterr);
    bool removed = !code && o.zeros > s->zeros;
    int64_t now = esp_clock_now_ns(), most = (s->deadline_ns - now) / FEW_TRIES, slice = FIRST_NS;
    for (bool last = !removed; !code && !last; slice *= 4) {
        last = slice >= most;
        code = prune_certify(p, esp_clock_now_ns() + (last ? most : slice), &o, reterr);
        last = last || o.value <= p->spec.error_budget || witness_of(&o) > p->spec.error_budget;
        if (!code && o.certified.n && strcmp(o.certified.rows[o.certified.n - 1].status, "time_limit") != 0) last = true;
    }
    *ret_within = !code && removed && o.value <= p->spec.error_budget;
    if (*ret_within) {
        prune_outcome_done(&s->best);
        s->best = o;
        o = (prune_outcome){0};
    }
    prune_outcome_done(&o);
    return code;
}

static esp_code certify_steps(search *s, int high, esp_error *reterr) {
    bool within = false;
    int low = 0;
    esp_code code = high > 0 ? decide(s, high, &within, reterr) : ESP_OK;
    if (within) return ESP_OK;
    while (!code && high - low > 1 && esp_clock_now_ns() < s->deadline_ns) {
        int middle = (low + high) / 2;
        code = decide(s, middle, &within, reterr);
        *(within ? &low : &high) = middle;
        say(s, 0.4 + 0.6 * (1 - (double)(high - low) / PRUNE_STEPS));
    }
    return code;
}

esp_code prune_search(pruning *p, const esp_prune_opts *opts, int64_t deadline_ns, double begin, double end, prune_outcome *ret, esp_error *reterr) {
    search s = {.p = p, .opts = *opts, .deadline_ns = deadline_ns, .begin = begin, .end = end};
    esp_error error = {0};
    int64_t weights = 0;
    int step = 0;
    say(&s, 0);
    esp_prune_count(p->parent->model->net, opts, &weights, &s.zeros);
    esp_code code = sieve_steps(&s, &step, &error);
    if (!code) code = certify_steps(&s, step, &error);
    if (!code && s.best.model) code = prune_measure(p, &s.best, &error);
    if (code == ESP_DEADLINE && s.best.model) code = prune_measure(p, &s.best, &error);
    if (is_fatal(code)) {
        prune_outcome_done(&s.best);
        if (reterr) *reterr = error;
        return code;
    }
    if (code) prune_outcome_done(&s.best);
    if (!s.best.model) s.best.opts = s.opts;
    s.best.tried = s.tried;
    s.best.error = code ? error : (esp_error){0};
    if (!s.best.model) s.best.weights = weights;
    *ret = s.best;
    return ESP_OK;
}
