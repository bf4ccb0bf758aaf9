/* SPDX-License-Identifier: Apache-2.0
 * The open-loop difference of two models by the error of one step. Not the propagation of both: loop.c.
 *
 *     y_f - y_g = [f(x_f) - g(x_f)] + [g(x_f) - g(x_g)]        delta(t+1)_i <= eps + sum_j |dg_i/dY_j| delta_j
 *
 * with delta_j the bound at the lag that Y_j stands for, the inputs being the same; or with f's derivative and the roles
 * exchanged: the smaller of the two, output by output. The derivative is bounded over the set, which is convex and holds
 * both models' inputs, eps by splitting it (difference.h): where two networks of different weights imitate each other, no
 * propagation side by side is as near as that. */
#include "certify/loss_product.h"

#include <stdlib.h>
#include <string.h>

#include "certify/jacobian.h"
#include "certify/lowering.h"
#include "certify/rounding.h"
#include "certify/twin.h"

/* The certified difference of one step over the set: the least of the rows. */
static esp_code one_step(const esp_model *f, const esp_model *g, const esp_box *set, const esp_stop *stop, double *ret_epsilon, esp_error *reterr) {
    esp_program *program_f = NULL, *program_g = NULL, *slack_f = NULL, *slack_g = NULL;
    esp_certify_opts opts = ESP_CERTIFY_OPTS_INIT;
    esp_certified made = {0};
    int *pairs = calloc((size_t)esp_net_relus(f->net) + 1, sizeof *pairs);
    double epsilon = HUGE_VAL;
    esp_code code = pairs ? esp_program_lower(f, &program_f, reterr) : esp_fail(reterr, ESP_NOMEM, "no memory for the pairs of two models");
    if (!code) code = esp_program_lower(g, &program_g, reterr);
    if (!code) code = esp_lowering_slack(f, &slack_f, reterr);
    if (!code) code = esp_lowering_slack(g, &slack_g, reterr);
    if (code) goto out;
    opts.slack_f = slack_f;
    opts.slack_g = slack_g;
    (void)esp_twin_pairs(f->net, g->net, pairs);
    code = esp_certify_difference(program_f, program_g, pairs, set, &opts, stop, &made, reterr);
    if (code) goto out;
    for (int i = 0; i < made.n; i++) epsilon = esp_min(epsilon, made.rows[i].value);
    *ret_epsilon = epsilon >= 0 ? epsilon : HUGE_VAL;
out:
    esp_certified_done(&made);
    esp_program_free(program_f);
    esp_program_free(program_g);
    esp_program_free(slack_f);
    esp_program_free(slack_g);
    free(pairs);
    return code;
}

/* |dm/dY| on the set, entry by entry (ny x n_x). */
static esp_code derive(const esp_model *model, const esp_box *set, double *ret_size, double *upper, esp_error *reterr) {
    esp_jacobian *jacobian = NULL;
    esp_code code = esp_jacobian_create(model, &jacobian, reterr);
    if (code) return code;
    esp_jacobian_run(jacobian, set->lower, set->upper, ret_size, upper);
    for (int k = 0; k < model->ny * set->n; k++) ret_size[k] = esp_interval_size(ret_size[k], upper[k]);
    esp_jacobian_free(jacobian);
    return ESP_OK;
}

/* sum_j row_j delta_j, the past's deviations oldest first, then the inputs', which are 0. */
static double carried(const double *row, const double *delta, int n) {
    double sum = 0;
    for (int j = 0; j < n; j++) sum = esp_add_up(sum, esp_mul_up(row[j], delta[j]));
    return sum;
}

esp_code esp_loss_product(const esp_model *f, const esp_model *g, int horizon, const esp_box *set, const esp_stop *stop, double *ret_epsilon,
                          double *ret_deviation, esp_error *reterr) {
    int ny = f->ny, n_y = f->history * ny;
    size_t entries = (size_t)ny * (size_t)set->n;
    double *memory = calloc(3 * entries + (size_t)n_y, sizeof *memory), epsilon = HUGE_VAL;
    if (!memory) return esp_fail(reterr, ESP_NOMEM, "no memory for %d steps", horizon);
    double *size_f = memory, *size_g = memory + entries, *scratch = size_g + entries, *delta = scratch + entries;
    esp_code code = derive(f, set, size_f, scratch, reterr);
    if (!code) code = derive(g, set, size_g, scratch, reterr);
    if (!code) code = one_step(f, g, set, stop, &epsilon, reterr);
    for (int t = 0; !code && t < horizon; t++) {
        double *next = ret_deviation + (size_t)t * (size_t)ny;
        for (int i = 0; i < ny; i++) {
            size_t row = (size_t)i * (size_t)set->n;
            next[i] = esp_add_up(epsilon, esp_min(carried(size_f + row, delta, n_y), carried(size_g + row, delta, n_y)));
        }
        memmove(delta, delta + ny, (size_t)(n_y - ny) * sizeof *delta);
        memcpy(delta + n_y - ny, next, (size_t)ny * sizeof *delta);
    }
    if (!code) *ret_epsilon = epsilon;
    free(memory);
    return code;
}
