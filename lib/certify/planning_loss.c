/* SPDX-License-Identifier: Apache-2.0
 * The loss of planning on another model, from the open-loop difference of the two. Not how far apart they are over one
 * step and one box: loop.c, loss_product.c.
 *
 * Per leaf of a split box the loops give ranges of y^, y and d = y^ - y at every step. A term on |y - t| changes by at most
 * w |d|, whatever t is; one on (y - t)^2 by w |d| |y^ + y - 2 t|. Sums over terms and steps within the leaf, the largest leaf
 * counts: eta is never more than what the largest deviations would give. The leaves also say where both models' outputs can
 * be: the set that the one-step error of loss_product.c is certified on. */
#include "certify/planning_loss.h"

#include <stdlib.h>
#include <string.h>

#include "base/rng.h"
#include "certify/loop.h"
#include "certify/loss_product.h"
#include "certify/rounding.h"
#include "certify/splits.h"

enum { WITNESSES = 96 };

typedef struct loss_search {
    esp_loop *loop;
    const esp_box *box;
    int horizon, n_terms;
    const esp_loss_term *terms;
    const esp_loss_opts *opts;
    const esp_stop *stop;
    esp_loss *loss;
    const esp_model *model, *reference;
    int n_values; /* deviations, eta, then for each step the upper ends of both models' outputs and the negated lower ones */
    double *trial, *values; /* n_box, n_values */
    esp_spans *outputs; /* ny: at the step in hand */
} loss_search;

int esp_loss_inputs(const esp_model *model, int horizon) {
    const esp_loop_models models = {NULL, NULL, model, model};
    return esp_loop_inputs(&models, horizon);
}

/* ---- life --------------------------------------------------------------------------------------------------------- */

void esp_loss_free(esp_loss *loss) {
    if (!loss) return;
    esp_buf_done(&loss->tree);
    free(loss->memory);
    free(loss);
}

static esp_code loss_create(int horizon, int n_box, esp_loss **ret_loss, esp_error *reterr) {
    size_t h = (size_t)horizon, n = (size_t)n_box;
    esp_loss *loss = calloc(1, sizeof *loss);
    double *at = calloc(4 * h + n, sizeof *at);
    if (!loss || !at) {
        free(loss);
        free(at);
        return esp_fail(reterr, ESP_NOMEM, "no memory for a loss over %d steps", horizon);
    }
    *loss = (esp_loss){.horizon = horizon,
                       .n_box = n_box,
                       .deviation = at,
                       .lower = at + h,
                       .product = at + 2 * h,
                       .epsilon = at + 3 * h,
                       .witness = at + 4 * h,
                       .product_eta = HUGE_VAL,
                       .status = "proved",
                       .memory = at};
    *ret_loss = loss;
    return ESP_OK;
}

static esp_code check(const esp_model *model, int horizon, const esp_box *box, int n_terms, const esp_loss_term *terms, esp_error *reterr) {
    if (horizon < 1 || horizon > ESP_MAX_LOSS_STEPS)
        return esp_fail(reterr, ESP_INVALID, "a horizon of %d; 1 to %d are handled", horizon, ESP_MAX_LOSS_STEPS);
    if (model->kind != ESP_MODEL_DYNAMICS) return esp_fail(reterr, ESP_INVALID, "planning needs a dynamics model");
    int n = esp_loss_inputs(model, horizon);
    if (box->n != n) return esp_fail(reterr, ESP_INVALID, "the box has %d numbers, a present with its inputs %d", box->n, n);
    for (int k = 0; k < n; k++)
        if (!isfinite(box->lower[k]) || !isfinite(box->upper[k]) || box->lower[k] > box->upper[k])
            return esp_fail(reterr, ESP_INVALID, "number %d of the box is not a finite interval", k);
    for (int k = 0; k < n_terms; k++) {
        if (terms[k].first < 1 || terms[k].last > horizon) return esp_fail(reterr, ESP_INVALID, "term %d is about steps that there are not", k);
        for (int i = 0; i < terms[k].n; i++)
            if (terms[k].index[i] < 0 || terms[k].index[i] >= model->ny || !(terms[k].weight[i] >= 0) || !isfinite(terms[k].weight[i]))
                return esp_fail(reterr, ESP_INVALID, "term %d has an output or a weight that there is not", k);
    }
    return ESP_OK;
}

/* ---- the cost ----------------------------------------------------------------------------------------------------- */

/* |y^ + y - 2 t| at most. */
static double reach_of(esp_spans y, double target_lower, double target_upper) {
    double above = y.f.upper + y.g.upper - 2 * target_lower, below = 2 * target_upper - y.f.lower - y.g.lower;
    double size = fabs(y.f.upper) + fabs(y.g.upper) + fabs(y.f.lower) + fabs(y.g.lower) + 2 * fabs(target_lower) + 2 * fabs(target_upper);
    double reach = esp_max(esp_max(above, below), 0) + esp_gamma(4) * size;
    return reach >= 0 ? reach : HUGE_VAL;
}

/* How much the term can change where the outputs are as s->outputs says. */
static double term_change(const loss_search *s, const esp_loss_term *term) {
    double change = 0;
    for (int i = 0; i < term->n; i++) {
        esp_spans y = s->outputs[term->index[i]];
        double apart = esp_mul_up(term->weight[i], esp_max(esp_abs(y.d.lower), esp_abs(y.d.upper)));
        if (term->norm == ESP_LOSS_L2SQ) apart = esp_mul_up(apart, reach_of(y, term->target_lower[i], term->target_upper[i]));
        change = term->norm == ESP_LOSS_LINF ? esp_max(change, apart) : esp_add_up(change, apart);
    }
    return change;
}

static double cost_change(const loss_search *s, int t) {
    double change = 0;
    for (int k = 0; k < s->n_terms; k++)
        if (s->terms[k].first <= t && t <= s->terms[k].last) change = esp_add_up(change, term_change(s, &s->terms[k]));
    return change;
}

static void bound_leaf(void *user, const double *lower, const double *upper, double *ret_values, double *ret_blame) {
    loss_search *s = user;
    double eta = 0, *ends = ret_values + s->horizon + 1;
    int ny = s->model->ny;
    esp_loop_begin(s->loop, lower, upper);
    for (int t = 1; t <= s->horizon; t++, ends += 2 * ny) {
        esp_loop_step(s->loop);
        ret_values[t - 1] = esp_loop_distance(s->loop, ESP_NORM_INF);
        for (int i = 0; i < ny; i++) {
            esp_spans y = s->outputs[i] = esp_loop_output(s->loop, i);
            ends[i] = esp_max(y.f.upper, y.g.upper);
            ends[ny + i] = esp_max(-y.f.lower, -y.g.lower);
        }
        eta = esp_add_up(eta, cost_change(s, t));
    }
    ret_values[s->horizon] = eta;
    memcpy(ret_blame, esp_loop_blame(s->loop), (size_t)s->box->n * sizeof *ret_blame);
}

/* ---- what is reached ---------------------------------------------------------------------------------------------- */

static void find_witness(loss_search *s) {
    esp_rng rng;
    double best = 0;
    esp_rng_init(&rng, s->opts->seed, 0);
    for (int round = 0; round < WITNESSES && (round == 0 || !esp_stop_now(s->stop)); round++) {
        for (int i = 0; i < s->box->n; i++) {
            double lower = s->box->lower[i], upper = s->box->upper[i];
            double share = round % 2 ? esp_rng_uniform(&rng) : (double)esp_rng_below(&rng, 2);
            s->trial[i] = esp_min(upper, esp_max(lower, (1 - share) * lower + share * upper));
        }
        double largest = 0;
        esp_loop_begin(s->loop, s->trial, s->trial);
        for (int t = 0; t < s->horizon; t++) {
            esp_loop_step(s->loop);
            double reached = esp_loop_reached(s->loop, ESP_NORM_INF);
            s->loss->lower[t] = esp_max(s->loss->lower[t], reached);
            largest = esp_max(largest, reached);
        }
        if (largest < best) continue;
        best = largest;
        memcpy(s->loss->witness, s->trial, (size_t)s->box->n * sizeof *s->trial);
    }
}

/* ---- all of it ---------------------------------------------------------------------------------------------------- */

/* Half of the time is left for the one-step error. */
static esp_stop first_half(const esp_stop *stop) {
    esp_stop half = *stop;
    int64_t now = esp_clock_now_ns();
    if (half.deadline_ns > now) half.deadline_ns = now + (half.deadline_ns - now) / 2;
    return half;
}

static esp_code split(loss_search *s, esp_error *reterr) {
    const esp_stop half = s->stop ? first_half(s->stop) : (esp_stop){0};
    esp_loss *loss = s->loss;
    const esp_splits_problem problem = {.n_in = s->box->n,
                                        .n_values = s->n_values,
                                        .n_goals = s->horizon,
                                        .bound = bound_leaf,
                                        .user = s,
                                        .reached = loss->lower,
                                        .gap = s->opts->gap,
                                        .max_leaves = s->opts->max_leaves};
    esp_code code = esp_splits_run(&problem, s->box, s->stop ? &half : NULL, 'p', s->values, &loss->tree, &loss->leaves, &loss->status, reterr);
    if (code) return code;
    memcpy(loss->deviation, s->values, (size_t)s->horizon * sizeof *s->values);
    loss->eta = s->values[s->horizon];
    return ESP_OK;
}

/* A box that holds [Y, U] of both models at step t (from 0); false when it is not finite. */
static bool make_set(const loss_search *s, int t, const esp_box *set) {
    const esp_model *m = s->model;
    int ny = m->ny, nu = m->nu, n_y = m->history * ny;
    bool finite = true;
    for (int k = 0; k < set->n; k++) {
        bool of_y = k < n_y;
        int at = of_y ? k + t * ny : k + t * nu; /* among the numbers of the box, where it is one of them */
        if (!of_y || at < n_y) {
            set->lower[k] = s->box->lower[at];
            set->upper[k] = s->box->upper[at];
            continue;
        }
        const double *ends = s->values + s->horizon + 1 + 2 * (at - n_y - k % ny); /* 2 ny for each step */
        set->lower[k] = -ends[ny + k % ny];
        set->upper[k] = ends[k % ny];
        finite = finite && isfinite(set->lower[k]) && isfinite(set->upper[k]);
    }
    return finite;
}

/* What the deviations of the product make of the cost. */
static void product_cost(loss_search *s, const double *deviation) {
    esp_loss *loss = s->loss;
    int ny = s->model->ny;
    loss->product_eta = 0;
    for (int t = 1; t <= s->horizon; t++) {
        double largest = 0;
        const double *ends = s->values + s->horizon + 1 + 2 * ny * (t - 1);
        for (int i = 0; i < ny; i++) {
            double apart = deviation[(t - 1) * ny + i];
            const esp_span anywhere = {-ends[ny + i], ends[i]};
            s->outputs[i] = (esp_spans){anywhere, anywhere, {-apart, apart}};
            largest = esp_max(largest, apart);
        }
        loss->product[t - 1] = largest;
        loss->product_eta = esp_add_up(loss->product_eta, cost_change(s, t));
    }
}

static esp_code bound_product(loss_search *s, esp_error *reterr) {
    int n = esp_model_n_x(s->model), h = s->horizon;
    double *memory = calloc((size_t)h * (size_t)(2 * n + s->model->ny), sizeof *memory), *deviation = memory + 2 * h * n;
    esp_box *sets = calloc((size_t)h, sizeof *sets);
    bool finite = true;
    esp_code code = memory && sets ? ESP_OK : esp_fail(reterr, ESP_NOMEM, "no memory for %d steps", h);
    for (int t = 0; !code && t < h; t++) {
        sets[t] = (esp_box){n, memory + 2 * t * n, memory + (2 * t + 1) * n};
        s->loss->product[t] = s->loss->epsilon[t] = HUGE_VAL;
        finite = make_set(s, t, &sets[t]) && finite;
    }
    if (!code && finite) {
        code = esp_loss_product(s->model, s->reference, h, sets, s->stop, s->loss->epsilon, deviation, reterr);
        if (!code) product_cost(s, deviation);
    }
    free(sets);
    free(memory);
    return code;
}

esp_code esp_loss_run(const esp_model *model, const esp_model *reference, int horizon, const esp_box *box, int n_terms, const esp_loss_term *terms,
                      const esp_loss_opts *opts, const esp_stop *stop, esp_loss **ret_loss, esp_error *reterr) {
    loss_search s = {
        .box = box, .horizon = horizon, .n_terms = n_terms, .terms = terms, .opts = opts, .stop = stop, .model = model, .reference = reference};
    s.n_values = horizon + 1 + 2 * horizon * model->ny;
    const esp_loop_models models = {NULL, NULL, model, reference};
    esp_code code = check(model, horizon, box, n_terms, terms, reterr);
    if (!code) code = esp_loop_create(&models, horizon, &s.loop, reterr);
    if (!code) code = loss_create(horizon, box->n, &s.loss, reterr);
    if (!code) s.trial = calloc((size_t)(box->n + s.n_values), sizeof *s.trial);
    if (!code) s.outputs = calloc((size_t)model->ny, sizeof *s.outputs);
    if (!code && (!s.trial || !s.outputs)) code = esp_fail(reterr, ESP_NOMEM, "no memory for a loss over %d steps", horizon);
    if (code) goto out;
    s.values = s.trial + box->n;
    find_witness(&s);
    code = split(&s, reterr);
    if (!code) code = bound_product(&s, reterr);
    if (code) goto out;
    *ret_loss = s.loss;
    s.loss = NULL;
out:
    esp_loop_free(s.loop);
    esp_loss_free(s.loss);
    free(s.trial);
    free(s.outputs);
    return code;
}
