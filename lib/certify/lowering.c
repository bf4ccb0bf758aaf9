/* SPDX-License-Identifier: Apache-2.0
 * What lowering rounded, by lowering the model of absolute values. */
#include "certify/lowering.h"

#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "certify/rounding.h"
#include "net/program_make.h"

static bool is_exact(const esp_model *model) {
    const esp_net *net = model->net;
    if (model->kind == ESP_MODEL_DYNAMICS && model->frame.kind == ESP_FRAME_LINEAR) return false;
    if (model->kind == ESP_MODEL_DYNAMICS && model->frame.kind == ESP_FRAME_RESIDUAL && net->n_layers == 1) return false; /* W + I */
    for (int k = 0; k + 1 < net->n_layers; k++)
        for (int i = 0; i < net->layers[k].n_out; i++)
            if (net->layers[k].act[i] == ESP_ACT_IDENTITY) return false;
    return true;
}

static void take_abs(double *values, size_t n) {
    for (size_t i = 0; i < n; i++) values[i] = fabs(values[i]);
}

/* A copy of the model with every number's absolute value. */
static esp_code abs_model(const esp_model *model, esp_model **ret_model, esp_error *reterr) {
    esp_net *net = NULL;
    esp_model *copy = NULL;
    esp_code code = esp_net_copy(model->net, &net, reterr);
    if (!code) code = esp_model_create(model->kind, model->ny, model->nu, model->history, &model->frame, net, &copy, reterr);
    if (code) return code;
    for (int k = 0; k < net->n_layers; k++) {
        esp_layer *layer = &net->layers[k];
        take_abs(layer->w, (size_t)layer->n_out * (size_t)layer->n_in);
        take_abs(layer->b, (size_t)layer->n_out);
    }
    if (model->kind == ESP_MODEL_DYNAMICS && copy->frame.kind == ESP_FRAME_LINEAR) {
        size_t y = (size_t)model->ny, yh = (size_t)model->history * y, uh = (size_t)(model->history * model->nu);
        size_t n_in = (size_t)esp_net_inputs(net), n_out = (size_t)esp_net_outputs(net);
        take_abs(copy->frame.a, y * yh);
        if (uh) take_abs(copy->frame.b, y * uh);
        take_abs(copy->frame.c, n_in * yh);
        if (uh) take_abs(copy->frame.d, n_in * uh);
        take_abs(copy->frame.g, y * n_out);
    }
    *ret_model = copy;
    return ESP_OK;
}

static void scale(double *values, size_t n, double by) {
    for (size_t i = 0; i < n; i++) values[i] = values[i] > 0 ? values[i] * by + ESP_TINY : 0;
}

esp_code esp_lowering_slack(const esp_model *model, esp_program **ret_slack, esp_error *reterr) {
    esp_model *sizes = NULL;
    esp_program *slack = NULL;
    if (is_exact(model)) {
        *ret_slack = NULL;
        return ESP_OK;
    }
    esp_code code = abs_model(model, &sizes, reterr);
    if (!code) code = esp_program_lower(sizes, &slack, reterr);
    if (!code) {
        /* A term meets a product and the additions of a row in each layer, and in the frame before and after. */
        size_t roundings = (size_t)esp_model_n_x(model) + (size_t)esp_net_outputs(model->net) + 8;
        for (int k = 0; k < model->net->n_layers; k++) roundings += (size_t)model->net->layers[k].n_in + 2;
        double by = esp_gamma(roundings);
        size_t n_x = (size_t)slack->n_x, n_r = (size_t)slack->n_r, n_y = (size_t)slack->n_y;
        scale(slack->a, (n_y + n_r) * (n_x + n_r + 1), by); /* all matrices stand in one block, at a */
        *ret_slack = slack;
    }
    esp_model_free(sizes);
    return code;
}

/* A copy with outputs negated, so that a difference adds; all zero for no slack. */
static esp_code negated(const esp_program *program, const esp_program *slack, esp_program **ret, esp_error *reterr) {
    size_t n_x = (size_t)program->n_x, n_r = (size_t)program->n_r, n_y = (size_t)program->n_y, numbers = (n_y + n_r) * (n_x + n_r + 1);
    esp_program *made = NULL;
    esp_code code = esp_program_create(n_x, n_r, n_y, &made, reterr);
    if (code) return code;
    if (slack) memcpy(made->a, slack->a, numbers * sizeof *made->a);
    for (size_t i = 0; i < n_y * (n_x + n_r + 1); i++) made->a[i] *= -1; /* a, b and c0 stand first */
    esp_program_seal(made, 0);
    *ret = made;
    return ESP_OK;
}

/* What a - b is rounded by at most: nothing, or twice the half unit of its last place, so that a bound which it is added to does
 * not round back. */
static double lost(double a, double b) {
    double d = a - b, back = d - a, error = (a - (d - back)) - (b + back);
    return error == 0 ? 0 : esp_abs(d) * DBL_EPSILON + ESP_TINY;
}

/* Any of the n differences f - g is rounded. */
static bool any_lost(const double *f, const double *g, size_t n) {
    for (size_t i = 0; i < n; i++)
        if (lost(f[i], g[i]) > 0) return true;
    return false;
}

/* Slack of the coefficients f - g: both slacks (NULL: none), and what the subtraction itself rounds. */
static void add_lost(const double *f, const double *g, const double *slack_f, const double *slack_g, size_t n, double *ret) {
    for (size_t i = 0; i < n; i++) {
        double both = esp_add_up(slack_f ? slack_f[i] : 0, slack_g ? slack_g[i] : 0);
        ret[i] = esp_add_up(both, lost(f[i], g[i]));
    }
}

esp_code esp_lowering_slack_difference(const esp_program *f, const esp_program *g, const esp_program *slack_f, const esp_program *slack_g,
                                       esp_program **ret_slack, esp_error *reterr) {
    esp_program *plus_f = NULL, *minus_g = NULL, *both = NULL;
    size_t n_y = (size_t)f->n_y, n_a = n_y * (size_t)f->n_x;
    if (!slack_f && !slack_g && !any_lost(f->a, g->a, n_a) && !any_lost(f->c0, g->c0, n_y)) {
        *ret_slack = NULL;
        return ESP_OK;
    }
    esp_code code = slack_f ? ESP_OK : negated(f, NULL, &plus_f, reterr);
    if (!code) code = negated(g, slack_g, &minus_g, reterr);
    if (!code) code = esp_program_difference(slack_f ? slack_f : plus_f, minus_g, &both, reterr);
    if (!code) {
        add_lost(f->a, g->a, slack_f ? slack_f->a : NULL, slack_g ? slack_g->a : NULL, n_a, both->a);
        add_lost(f->c0, g->c0, slack_f ? slack_f->c0 : NULL, slack_g ? slack_g->c0 : NULL, n_y, both->c0);
        *ret_slack = both;
    }
    esp_program_free(minus_g);
    esp_program_free(plus_f);
    return code;
}
