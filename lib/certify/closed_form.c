/* SPDX-License-Identifier: Apache-2.0
 * The closed-form robustness constants of one model. Comparing it with a pruned one is candidate.c.
 *
 * Every quantity is an upper bound of what it stands for: norms come from norms.c, sums and products of them go through
 * esp_add_up and esp_mul_up, and an activation's norm is raised by the rounding of the forward pass (layers.h). */
#include "certify/closed_form.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "certify/closed_form_private.h"
#include "certify/rescale.h"
#include "certify/rounding.h"

/* ---- life -------------------------------------------------------------------------------------------------------- */

esp_code esp_layer_norms_of(const esp_layer *layer, const double *w, const double *b, esp_layer_norms *ret, esp_error *reterr) {
    size_t m = (size_t)layer->n_out, n = (size_t)layer->n_in;
    esp_layer_norms norms = {0, esp_norm2_up(m * n, w), esp_norm2_up(m, b)};
    esp_code code = esp_norm_upper(m, n, w, &norms.spectral, reterr);
    if (!code) *ret = norms;
    return code;
}

/* Of the suffix products by rescaled layers to those by layers as they are. */
static esp_code form_ratios(esp_closed_form *form, esp_error *reterr) {
    const esp_net *net = form->model->net;
    double *spectral = malloc(2 * (size_t)net->n_layers * sizeof *spectral);
    if (!spectral) return esp_fail(reterr, ESP_NOMEM, "no memory for the norms of %d layers", net->n_layers);
    double *rescaled = spectral + net->n_layers;
    for (int k = 0; k < net->n_layers; k++) spectral[k] = form->norms[k].spectral;
    esp_code code = esp_rescaled_suffix(net, spectral, rescaled, reterr);
    for (int k = 0; !code && k < net->n_layers; k++) {
        double ratio = esp_round_up(esp_mul_up(form->frame_norm, rescaled[k]) / form->suffix[k], 1);
        form->ratio[k] = ratio < 1 ? ratio : 1; /* 0 / 0 too: there the constant is 0 */
    }
    free(spectral);
    return code;
}

static esp_code form_norms(esp_closed_form *form, esp_error *reterr) {
    const esp_model *model = form->model;
    const esp_net *net = model->net;
    esp_code code = ESP_OK;
    for (int k = 0; k < net->n_layers; k++) {
        const esp_layer *layer = &net->layers[k];
        code = esp_layer_norms_of(layer, layer->w, layer->b, &form->norms[k], reterr);
        if (code) return esp_error_wrap(reterr, code, "layer %d", k + 1);
    }
    form->frame_norm = form->frame_frobenius = 1;
    if (esp_model_has_gain(model)) {
        size_t rows = (size_t)model->ny, cols = (size_t)esp_net_outputs(net);
        code = esp_norm_upper(rows, cols, model->frame.g, &form->frame_norm, reterr);
        if (code) return esp_error_wrap(reterr, code, "frame g");
        form->frame_frobenius = esp_norm2_up(rows * cols, model->frame.g);
    }
    form->suffix[net->n_layers - 1] = form->frame_norm;
    for (int k = net->n_layers - 2; k >= 0; k--) form->suffix[k] = esp_mul_up(form->suffix[k + 1], form->norms[k + 1].spectral);
    return form_ratios(form, reterr);
}

esp_code esp_closed_form_create(const esp_model *model, esp_closed_form **ret_form, esp_error *reterr) {
    size_t n_layers = (size_t)model->net->n_layers, width = (size_t)esp_net_widest(model->net);
    size_t n_in = (size_t)esp_net_inputs(model->net), n_x = (size_t)esp_model_n_x(model);
    if (n_in > width) width = n_in;
    if (n_x > width) width = n_x;
    esp_closed_form *form = calloc(1, sizeof *form);
    esp_layer_norms *norms = calloc(n_layers, sizeof *norms);
    double *numbers = calloc(2 * n_layers + ESP_FORM_BUFFERS * width, sizeof *numbers);
    esp_code code = form && norms && numbers ? ESP_OK : esp_fail(reterr, ESP_NOMEM, "no memory for the norms of %zu layers", n_layers);
    if (code) {
        free(form);
        free(norms);
        free(numbers);
        return code;
    }
    *form = (esp_closed_form){
        .model = model, .width = width, .norms = norms, .suffix = numbers, .ratio = numbers + n_layers, .work = numbers + 2 * n_layers};
    code = form_norms(form, reterr);
    if (code)
        esp_closed_form_free(form);
    else
        *ret_form = form;
    return code;
}

void esp_closed_form_free(esp_closed_form *form) {
    if (!form) return;
    free(form->norms);
    free(form->suffix);
    free(form);
}

int esp_closed_form_layers(const esp_closed_form *form) {
    return form->model->net->n_layers;
}

/* ---- one state ---------------------------------------------------------------------------------------------------- */

void esp_closed_form_at(const esp_closed_form *form, const double *x, double *ret_c, double *ret_c_activation) {
    const esp_net *net = form->model->net;
    double *h = form->work, *next = h + form->width, error;
    esp_layer_input(form->model, x, h, &error);
    double alpha = esp_add_up(esp_norm2_up((size_t)esp_net_inputs(net), h), error);
    for (int k = 0; k < net->n_layers; k++) {
        const esp_layer *layer = &net->layers[k];
        double h_norm = esp_add_up(esp_norm2_up((size_t)layer->n_in, h), error);
        ret_c[k] = esp_mul_up(form->suffix[k], alpha);
        ret_c_activation[k] = esp_min(ret_c[k], esp_mul_up(form->suffix[k], h_norm));
        alpha = esp_add_up(esp_mul_up(form->norms[k].spectral, alpha), form->norms[k].bias);
        esp_layer_affine(layer->n_out, layer->n_in, layer->w, layer->b, h, next);
        esp_layer_activate(layer, next);
        error = esp_layer_error(layer, &form->norms[k], error, h_norm);
        double *swap = h;
        h = next;
        next = swap;
    }
}

void esp_closed_form_rescaled(const esp_closed_form *form, const double *c_activation, double *ret_c) {
    for (int k = 0; k < form->model->net->n_layers; k++) ret_c[k] = esp_min(c_activation[k], esp_mul_up(c_activation[k], form->ratio[k]));
}

/* ---- a box -------------------------------------------------------------------------------------------------------- */

/* A set of vectors around a centre: |v_i - mid_i| <= rad_i. */
typedef struct ball {
    double *mid, *rad;
} ball;

/* Radius of sum_j m_j z_j + b for z in the ball, the sum's own rounding included, n terms. */
static double row_radius(int n, const double *m, double b, const ball *z) {
    double radius = 0, magnitude = fabs(b);
    for (int j = 0; j < n; j++) {
        double a = fabs(m[j]);
        radius += a * z->rad[j];
        magnitude += a * (fabs(z->mid[j]) + z->rad[j]);
    }
    if (magnitude <= 0) return 0;
    return esp_round_up(radius + esp_gamma((size_t)n + 4) * magnitude, (size_t)n + 4);
}

/* Replaces the ball of z by one of max(0, z), which lies inside [max(0, lower), max(0, upper)]. */
static void ball_activate(const esp_layer *layer, ball *z) {
    for (int i = 0; i < layer->n_out; i++) {
        double upper = z->mid[i] + z->rad[i], lower = z->mid[i] - z->rad[i];
        if (layer->act[i] == ESP_ACT_IDENTITY) continue;
        if (layer->act[i] == ESP_ACT_ZERO || upper < 0)
            z->mid[i] = z->rad[i] = 0;
        else if (!(lower >= 0)) {
            upper = esp_add_up(esp_abs(upper), 2 * ESP_U * (fabs(z->mid[i]) + z->rad[i])); /* the sum above was rounded */
            z->mid[i] = 0.5 * upper;
            z->rad[i] = esp_add_up(z->mid[i], ESP_TINY);
        }
    }
}

static void ball_layer(const esp_layer *layer, const ball *z, ball *ret) {
    esp_layer_affine(layer->n_out, layer->n_in, layer->w, layer->b, z->mid, ret->mid);
    for (int i = 0; i < layer->n_out; i++) ret->rad[i] = row_radius(layer->n_in, layer->w + (size_t)i * (size_t)layer->n_in, layer->b[i], z);
    ball_activate(layer, ret);
}

/* The ball of the network's input v over the box; x is scratch of two width-long halves for centre and radius of x. */
static void ball_input(const esp_model *model, const esp_box *box, ball *x, ball *ret) {
    for (int k = 0; k < box->n; k++) {
        x->mid[k] = box->lower[k] < box->upper[k] ? 0.5 * box->lower[k] + 0.5 * box->upper[k] : box->lower[k];
        double radius = esp_max(box->upper[k] - x->mid[k], x->mid[k] - box->lower[k]);
        x->rad[k] = radius > 0 ? radius * (1 + 4 * ESP_U) : 0;
    }
    double error;
    esp_layer_input(model, x->mid, ret->mid, &error);
    int n_in = esp_net_inputs(model->net), n_y = model->history * model->ny, n_u = model->history * model->nu;
    if (!esp_model_has_gain(model)) {
        memcpy(ret->rad, x->rad, (size_t)n_in * sizeof *ret->rad);
        return;
    }
    ball y = {x->mid, x->rad}, u = {x->mid + n_y, x->rad + n_y};
    for (int i = 0; i < n_in; i++) {
        double radius = row_radius(n_y, model->frame.c + (size_t)i * (size_t)n_y, 0, &y);
        ret->rad[i] = esp_add_up(esp_add_up(radius, row_radius(n_u, model->frame.d + (size_t)i * (size_t)n_u, 0, &u)), error);
    }
}

/* Largest Euclidean norm in the ball; scratch of n. */
static double ball_norm(size_t n, const ball *z, double *scratch) {
    for (size_t i = 0; i < n; i++) scratch[i] = esp_add_up(fabs(z->mid[i]), z->rad[i]);
    return esp_norm2_up(n, scratch);
}

static esp_code box_check(const esp_model *model, const esp_box *box, esp_error *reterr) {
    if (box->n != esp_model_n_x(model))
        return esp_fail(reterr, ESP_INVALID, "the box has %d numbers, the model %d inputs", box->n, esp_model_n_x(model));
    for (int k = 0; k < box->n; k++) {
        if (!isfinite(box->lower[k]) || !isfinite(box->upper[k]) || box->lower[k] > box->upper[k])
            return esp_fail(reterr, ESP_INVALID, "input %d of the box is not a finite interval", k);
    }
    return ESP_OK;
}

esp_code esp_closed_form_box(const esp_closed_form *form, const esp_box *box, double *ret_c, esp_error *reterr) {
    const esp_net *net = form->model->net;
    esp_code code = box_check(form->model, box, reterr);
    if (code) return code;
    size_t width = form->width;
    double *work = form->work;
    double *scratch = work + 2 * width, *h = work + 3 * width, *next = work + 4 * width;
    ball z = {work, work + width}, z_next = {work + 5 * width, work + 6 * width}, x = {work + 7 * width, work + 8 * width};
    ball_input(form->model, box, &x, &z);
    memcpy(h, z.mid, (size_t)esp_net_inputs(net) * sizeof *h);
    /* At h = f_k(mid of v), `error` is its rounding and `reach` the Lipschitz constant so far times the radius of v. */
    double error = 0, reach = esp_norm2_up((size_t)esp_net_inputs(net), z.rad), norm_form = HUGE_VAL;
    for (int k = 0; k < net->n_layers; k++) {
        const esp_layer *layer = &net->layers[k];
        const esp_layer_norms *norms = &form->norms[k];
        size_t n_in = (size_t)layer->n_in;
        double centre = esp_add_up(esp_norm2_up(n_in, h), error);
        double least = esp_min(norm_form, esp_min(esp_add_up(centre, reach), ball_norm(n_in, &z, scratch)));
        ret_c[k] = esp_mul_up(form->suffix[k], least);
        norm_form = esp_add_up(esp_mul_up(norms->spectral, least), norms->bias);
        reach = esp_mul_up(norms->spectral, reach);
        error = esp_layer_error(layer, norms, error, centre);
        esp_layer_affine(layer->n_out, layer->n_in, layer->w, layer->b, h, next);
        esp_layer_activate(layer, next);
        ball_layer(layer, &z, &z_next);
        ball swap = z;
        z = z_next;
        z_next = swap;
        double *pointer = h;
        h = next;
        next = pointer;
    }
    return ESP_OK;
}
