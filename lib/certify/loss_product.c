/* SPDX-License-Identifier: Apache-2.0
 * The open-loop difference of two models by the error of one step. Not the propagation of both: loop.c.
 *
 *     y_f - y_g = [f(x_f) - g(x_f)] + [g(x_f) - g(x_g)]        delta(t+1)_i <= eps + sum_j |dg_i/dY_j| delta_j
 *
 * with delta_j the bound at the lag that Y_j stands for, the inputs being the same; or with f's derivative and the roles
 * exchanged: the smaller of the two, output by output. The derivative is bounded over the set of the step, which is convex and
 * holds both models' inputs, eps by splitting it (difference.h): where two networks of different weights imitate each other, no
 * propagation side by side is as near as that. */
#include "certify/loss_product.h"

#include <stdlib.h>
#include <string.h>

#include "certify/jacobian.h"
#include "certify/lowering.h"
#include "certify/rounding.h"
#include "certify/twin.h"

/* Both models lowered, for the difference of one step. */
typedef struct lowered {
    esp_program *f, *g, *slack_f, *slack_g;
    int *pairs;
} lowered;

static void lowered_done(lowered *low) {
    esp_program_free(low->f);
    esp_program_free(low->g);
    esp_program_free(low->slack_f);
    esp_program_free(low->slack_g);
    free(low->pairs);
}

static esp_code lowered_init(const esp_model *f, const esp_model *g, lowered *low, esp_error *reterr) {
    low->pairs = calloc((size_t)esp_net_relus(f->net) + 1, sizeof *low->pairs);
    esp_code code = low->pairs ? esp_program_lower(f, &low->f, reterr) : esp_fail(reterr, ESP_NOMEM, "no memory for the pairs of two models");
    if (!code) code = esp_program_lower(g, &low->g, reterr);
    if (!code) code = esp_lowering_slack(f, &low->slack_f, reterr);
    if (!code) code = esp_lowering_slack(g, &low->slack_g, reterr);
    if (!code) (void)esp_twin_pairs(f->net, g->net, low->pairs);
    return code;
}

/* The certified difference of one step over the set: the least of the rows. `left`: steps that share the time, this one too. */
static esp_code one_step(const lowered *low, const esp_box *set, int left, const esp_stop *stop, double *ret_epsilon, esp_error *reterr) {
    esp_certify_opts opts = ESP_CERTIFY_OPTS_INIT;
    esp_certified made = {0};
    double epsilon = HUGE_VAL;
    esp_stop part = stop ? *stop : (esp_stop){0};
    int64_t now = esp_clock_now_ns();
    if (stop && stop->deadline_ns > now) part.deadline_ns = now + (stop->deadline_ns - now) / left;
    opts.slack_f = low->slack_f;
    opts.slack_g = low->slack_g;
    esp_code code = esp_certify_difference(low->f, low->g, low->pairs, set, &opts, stop ? &part : NULL, &made, reterr);
    for (int i = 0; !code && i < made.n; i++) epsilon = esp_min(epsilon, made.rows[i].value);
    if (!code) *ret_epsilon = epsilon >= 0 ? epsilon : HUGE_VAL;
    esp_certified_done(&made);
    return code;
}

/* |dm/dY| on the set, entry by entry (ny x n_x). */
static void derive(esp_jacobian *jacobian, const esp_box *set, int ny, double *ret_size, double *upper) {
    esp_jacobian_run(jacobian, set->lower, set->upper, ret_size, upper);
    for (int k = 0; k < ny * set->n; k++) ret_size[k] = esp_interval_size(ret_size[k], upper[k]);
}

/* sum_j row_j delta_j, the past's deviations oldest first, then the inputs', which are 0. */
static double carried(const double *row, const double *delta, int n) {
    double sum = 0;
    for (int j = 0; j < n; j++) sum = esp_add_up(sum, esp_mul_up(row[j], delta[j]));
    return sum;
}

esp_code esp_loss_product(const esp_model *f, const esp_model *g, int horizon, const esp_box *sets, const esp_stop *stop, double *ret_epsilon,
                          double *ret_deviation, esp_error *reterr) {
    int ny = f->ny, n_y = f->history * ny, n_x = esp_model_n_x(f);
    size_t entries = (size_t)ny * (size_t)n_x;
    lowered low = {0};
    esp_jacobian *of_f = NULL, *of_g = NULL;
    double *memory = calloc(3 * entries + (size_t)n_y, sizeof *memory);
    esp_code code = memory ? lowered_init(f, g, &low, reterr) : esp_fail(reterr, ESP_NOMEM, "no memory for %d steps", horizon);
    if (!code) code = esp_jacobian_create(f, &of_f, reterr);
    if (!code) code = esp_jacobian_create(g, &of_g, reterr);
    if (code) goto out;
    double *size_f = memory, *size_g = memory + entries, *scratch = size_g + entries, *delta = scratch + entries;
    for (int t = 0; !code && t < horizon; t++) {
        double *next = ret_deviation + (size_t)t * (size_t)ny;
        derive(of_f, &sets[t], ny, size_f, scratch);
        derive(of_g, &sets[t], ny, size_g, scratch);
        code = one_step(&low, &sets[t], horizon - t, stop, &ret_epsilon[t], reterr);
        for (int i = 0; !code && i < ny; i++) {
            size_t row = (size_t)i * (size_t)n_x;
            next[i] = esp_add_up(ret_epsilon[t], esp_min(carried(size_f + row, delta, n_y), carried(size_g + row, delta, n_y)));
        }
        memmove(delta, delta + ny, (size_t)(n_y - ny) * sizeof *delta);
        memcpy(delta + n_y - ny, next, (size_t)ny * sizeof *delta);
    }
out:
    esp_jacobian_free(of_f);
    esp_jacobian_free(of_g);
    lowered_done(&low);
    free(memory);
    return code;
}
