/* SPDX-License-Identifier: Apache-2.0
 * Fine-tuning of what a method left (train/regress.h): weights that are 0 stay 0.
 *
 * Towards the model that is pruned: its network's outputs at the calibration inputs. Towards the data: what the network should have said
 * there. A frame's g stands between the network and what is recorded; the outputs to train on are then f + g^+ (y - known - g f), with
 * f the model's own: of all that explain the record best, the nearest to it.
 *
 * The tuned model is kept if it is nearer to its target at the held-out inputs than before, and, with a budget, if its own certificate
 * keeps that; otherwise the pruned one stands as it was. What is registered is what was certified. Within a budget, training makes
 * room for more zeros: steps of sparsity beyond the best are bisected, each pruned from the parent anew, trained and certified. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/linalg.h"
#include "train/regress.h"
#include "worker/prune_parts.h"

#define TELL_NS (200 * ESP_NS_PER_MS)

/* ---- the pairs ---- */

/* y += (aim - g y) (g^+)', n rows. */
static esp_code correct(const pruning *p, size_t n, double *y, esp_error *reterr) {
    const esp_model *m = p->parent->model;
    size_t n_out = (size_t)esp_net_outputs(m->net), n_y = (size_t)esp_model_n_y(m);
    double *memory = calloc(n_y * n_y + n_out * n_y + n * n_y, sizeof *memory);
    if (!memory) return esp_fail(reterr, ESP_NOMEM, "no memory for the outputs to train on");
    double *unit = memory, *inverse = unit + n_y * n_y, *left = inverse + n_out * n_y;
    for (size_t k = 0; k < n_y; k++) unit[k * n_y + k] = 1;
    esp_code code = esp_lstsq(n_y, n_out, n_y, m->frame.g, unit, inverse, reterr);
    if (!code) {
        memcpy(left, p->inputs.aim, n * n_y * sizeof *left);
        esp_dgemm(ESP_NO, ESP_T, n, n_y, n_out, -1, y, n_out, m->frame.g, n_out, 1, left, n_y);
        esp_dgemm(ESP_NO, ESP_T, n, n_out, n_y, 1, left, n_y, inverse, n_y, 1, y, n_out);
    }
    free(memory);
    return code;
}

static esp_code make_pairs(pruning *p, esp_error *reterr) {
    const esp_model *m = p->parent->model;
    size_t n = p->inputs.n, n_out = (size_t)esp_net_outputs(m->net);
    double *y = ESP_NEW(p->arena, double, n *n_out);
    if (!y) return esp_fail(reterr, ESP_NOMEM, "no memory for the outputs to train on");
    esp_code code = ESP_OK;
    if (p->spec.tune.to_data && m->frame.kind != ESP_FRAME_LINEAR)
        memcpy(y, p->inputs.aim, n * n_out * sizeof *y);
    else
        code = esp_prune_outputs(m->net, n, p->inputs.v, y, reterr);
    if (!code && p->spec.tune.to_data && m->frame.kind == ESP_FRAME_LINEAR) code = correct(p, n, y, reterr);
    p->tune_y = y;
    return code;
}

static esp_code start(const pruning *p, const esp_net *net, esp_regress **ret, esp_error *reterr) {
    const esp_pairs pairs = {p->inputs.n, p->inputs.v, p->tune_y};
    esp_regress_opts opts = ESP_REGRESS_OPTS_INIT;
    opts.epochs = p->spec.tune.epochs;
    opts.batch = p->spec.tune.batch;
    opts.learning_rate = p->spec.tune.learning_rate;
    opts.weight_decay = p->spec.tune.weight_decay;
    opts.seed = p->spec.seed;
    esp_code code = esp_regress_start(net, &pairs, &opts, ret, reterr);
    if (code && reterr && !reterr->pointer[0]) esp_error_prefix_pointer(reterr, "/spec/fine_tune");
    return code;
}

esp_code prune_tune_prepare(pruning *p, esp_error *reterr) {
    esp_regress *r = NULL;
    if (p->parent->model->kind == ESP_MODEL_POLICY) p->spec.tune.to_data = false;
    esp_code code = make_pairs(p, reterr);
    if (!code) code = start(p, p->parent->model->net, &r, reterr);
    esp_regress_free(r);
    return code;
}

/* ---- training ---- */

typedef struct telling {
    worker *w;
    double begin, end;
    int64_t told_ns;
} telling;

static void tell(void *user, double fraction, double loss) {
    telling *t = user;
    (void)loss;
    if (esp_clock_now_ns() - t->told_ns < TELL_NS) return;
    t->told_ns = esp_clock_now_ns();
    worker_progress(t->w, t->begin + fraction * (t->end - t->begin), "fine-tuning");
}

static esp_code train(const pruning *p, const esp_net *net, int64_t deadline_ns, double begin, double end, double *ret_loss, esp_net **ret_net,
                      esp_error *reterr) {
    const esp_pairs pairs = {p->inputs.n, p->inputs.v, p->tune_y};
    const esp_stop stop = {deadline_ns, worker_cancelled, p->w};
    telling t = {p->w, begin, end, 0};
    esp_regress *r = NULL;
    esp_code code = start(p, net, &r, reterr);
    if (!code) code = esp_regress_run(r, &pairs, &stop, tell, &t, ret_loss, reterr);
    if (code == ESP_NUMERIC) esp_error_prefix_pointer(reterr, "/spec/fine_tune/learning_rate");
    if (!code) code = esp_regress_net(r, ret_net, reterr);
    esp_regress_free(r);
    return code;
}

static double error_of(const pruning *p, const prune_outcome *o) {
    return p->spec.tune.to_data ? o->validation_rmse : o->rms;
}

/* Without a budget everything is. */
static bool is_within(const pruning *p, const prune_outcome *o) {
    return !(p->spec.error_budget > 0) || (o->is_certified && o->value <= p->spec.error_budget);
}

/* A certificate where a budget depends on it, unless points of the domain are over it already. */
static esp_code judge(pruning *p, int64_t deadline_ns, prune_outcome *tuned, esp_error *reterr) {
    bool passes = false;
    if (!(p->spec.error_budget > 0)) return ESP_OK;
    esp_code code = prune_sieve(p, tuned->model, &passes, reterr);
    if (code || !passes) return code;
    int64_t now = esp_clock_now_ns();
    return prune_certify(p, now + (deadline_ns - now) / 2, tuned, reterr);
}

/* The base's model trained on, with its figures. */
static esp_code attempt(pruning *p, const prune_outcome *base, int64_t deadline_ns, double begin, double end, prune_outcome *ret,
                        prune_tuned *ret_said, esp_error *reterr) {
    const esp_model *m = base->model;
    prune_outcome tuned = {.opts = base->opts, .tried = base->tried, .validation_rmse = base->validation_rmse};
    esp_net *net = NULL;
    double loss = 0;
    esp_code code = train(p, m->net, deadline_ns, begin, end, &loss, &net, reterr);
    if (!code) code = esp_model_create(m->kind, m->ny, m->nu, m->history, &m->frame, net, &tuned.model, reterr);
    if (!code) esp_prune_count(tuned.model->net, &tuned.opts, &tuned.weights, &tuned.zeros);
    if (!code) code = prune_measure(p, &tuned, reterr);
    if (!code) code = judge(p, deadline_ns, &tuned, reterr);
    if (code) {
        prune_outcome_done(&tuned);
        return code;
    }
    *ret = tuned;
    *ret_said = (prune_tuned){.done = true,
                              .loss = loss,
                              .before_rms = base->rms,
                              .before_validation_rmse = base->validation_rmse,
                              .after_rms = tuned.rms,
                              .after_validation_rmse = tuned.validation_rmse,
                              .certified = tuned.is_certified ? tuned.value : (double)NAN};
    return ESP_OK;
}

static void replace(prune_outcome *best, prune_outcome *take) {
    prune_outcome_done(best);
    *best = *take;
    *take = (prune_outcome){0};
}

/* ---- sparser within the budget ---- */

/* The parent pruned to the best's options at another sparsity, and trained. */
static esp_code attempt_step(pruning *p, const prune_outcome *best, int step, int64_t deadline_ns, double at, prune_outcome *ret,
                             prune_tuned *ret_said, esp_error *reterr) {
    const esp_stop stop = {deadline_ns, worker_cancelled, p->w};
    esp_prune_opts opts = best->opts;
    prune_outcome base = {0};
    opts.sparsity = (double)step / PRUNE_STEPS;
    esp_code code = prune_make(p, &opts, &stop, &base, reterr);
    base.tried = best->tried + 1;
    if (!code) code = prune_measure(p, &base, reterr);
    if (!code) code = attempt(p, &base, deadline_ns, at, at, ret, ret_said, reterr);
    prune_outcome_done(&base);
    return code;
}

static esp_code go_sparser(pruning *p, int64_t deadline_ns, double begin, double end, prune_outcome *best, prune_tuned *said, esp_error *reterr) {
    int low = (int)lround(best->opts.sparsity * PRUNE_STEPS), high = PRUNE_STEPS + 1;
    esp_code code = ESP_OK;
    while (!code && high - low > 1) {
        int middle = (low + high) / 2;
        prune_outcome tuned = {0};
        prune_tuned here = {0};
        double at = begin + (end - begin) * (1 - (double)(high - low) / PRUNE_STEPS);
        code = attempt_step(p, best, middle, deadline_ns, at, &tuned, &here, reterr);
        bool sparser = !code && is_within(p, &tuned) && tuned.zeros > best->zeros;
        *(sparser ? &low : &high) = middle;
        if (!code) best->tried++;
        if (sparser) {
            here.kept = true;
            *said = here;
            replace(best, &tuned);
        }
        prune_outcome_done(&tuned);
    }
    return code;
}

esp_code prune_tune(pruning *p, int64_t deadline_ns, double begin, double end, prune_outcome *best, prune_tuned *ret, esp_error *reterr) {
    bool budget = p->spec.error_budget > 0;
    double middle = budget ? 0.5 * (begin + end) : end;
    prune_outcome tuned = {0};
    prune_tuned said = {0};
    esp_code code = attempt(p, best, deadline_ns, begin, middle, &tuned, &said, reterr);
    if (!code && is_within(p, &tuned) && error_of(p, &tuned) < error_of(p, best)) {
        said.kept = true;
        replace(best, &tuned);
    }
    prune_outcome_done(&tuned);
    if (!code && budget) code = go_sparser(p, deadline_ns, middle, end, best, &said, reterr);
    if (code && code != ESP_DEADLINE) return code;
    *ret = said; /* what was reached in time */
    return ESP_OK;
}
