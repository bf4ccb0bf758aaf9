/* SPDX-License-Identifier: Apache-2.0
 * Several layers changed at once: a bound on the difference of a model and a pruned one at a state, and the difference.
 *
 * closed_form.h has the recursion. D_j h is evaluated as it is, not as |D_j| |h|: second-order pruning makes |D|
 * larger while it makes D h smaller, and the product of norms would charge it for what it does well. */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "certify/closed_form_private.h"
#include "certify/rounding.h"

/* One layer of the comparison. */
typedef struct step {
    double *delta, *shift; /* D (n_out x n_in) and d (n_out), zero neurons as zero rows */
    double delta_frobenius; /* of D as stored, upper bound; exactly 0 when D is zero */
    double shift_norm; /* of d */
    esp_layer_norms pruned; /* of the candidate's W^, b^ */
} step;

struct esp_candidate {
    const esp_closed_form *form;
    const esp_model *model;
    step *steps;
    double *block; /* all D and d, then four vectors of form->width */
    double *work;
    int differs;
};

/* ---- life -------------------------------------------------------------------------------------------------------- */

static int same_frame(const esp_model *f, const esp_model *g) {
    if (f->kind != g->kind || f->ny != g->ny || f->nu != g->nu || f->history != g->history) return 0;
    if (f->kind == ESP_MODEL_POLICY) return 1;
    if (f->frame.kind != g->frame.kind) return 0;
    if (f->frame.kind != ESP_FRAME_LINEAR) return 1;
    size_t y = (size_t)f->ny, big_y = (size_t)f->history * y, big_u = (size_t)(f->history * f->nu);
    size_t n_in = (size_t)esp_net_inputs(f->net), n_out = (size_t)esp_net_outputs(f->net);
    const double *const a[] = {f->frame.a, f->frame.b, f->frame.c, f->frame.d, f->frame.g};
    const double *const b[] = {g->frame.a, g->frame.b, g->frame.c, g->frame.d, g->frame.g};
    const size_t size[] = {y * big_y, y * big_u, n_in * big_y, n_in * big_u, y * n_out};
    for (int m = 0; m < 5; m++) {
        for (size_t i = 0; i < size[m]; i++)
            if (a[m][i] < b[m][i] || a[m][i] > b[m][i]) return 0;
    }
    return 1;
}

static esp_code compare_layers(const esp_net *f, const esp_net *g, esp_error *reterr) {
    if (f->n_layers != g->n_layers) return esp_fail(reterr, ESP_UNPROCESSABLE, "the candidate has %d layers, the model %d", g->n_layers, f->n_layers);
    for (int k = 0; k < f->n_layers; k++) {
        const esp_layer *a = &f->layers[k], *b = &g->layers[k];
        if (a->n_in != b->n_in || a->n_out != b->n_out)
            return esp_fail(reterr, ESP_UNPROCESSABLE, "layer %d is %d to %d in the candidate, %d to %d in the model", k + 1, b->n_in, b->n_out,
                            a->n_in, a->n_out);
        for (int i = 0; i < a->n_out; i++) {
            if (a->act[i] != b->act[i] && a->act[i] != ESP_ACT_ZERO && b->act[i] != ESP_ACT_ZERO)
                return esp_fail(reterr, ESP_UNPROCESSABLE, "neuron %d of layer %d is a ReLU in one of the two and an identity in the other", i + 1,
                                k + 1);
        }
    }
    return ESP_OK;
}

/* D = W^ - W and d, each entry rounded once. */
static void step_fill(const esp_layer *f, const esp_layer *g, step *s) {
    for (int i = 0; i < f->n_out; i++) {
        double in_f = f->act[i] == ESP_ACT_ZERO ? 0 : 1, in_g = g->act[i] == ESP_ACT_ZERO ? 0 : 1;
        size_t row = (size_t)i * (size_t)f->n_in;
        for (int j = 0; j < f->n_in; j++) s->delta[row + (size_t)j] = in_g * g->w[row + (size_t)j] - in_f * f->w[row + (size_t)j];
        s->shift[i] = in_g * g->b[i] - in_f * f->b[i];
    }
    s->delta_frobenius = esp_norm2_up((size_t)f->n_out * (size_t)f->n_in, s->delta);
    s->shift_norm = esp_norm2_up((size_t)f->n_out, s->shift);
}

static esp_code candidate_fill(esp_candidate *c, esp_error *reterr) {
    const esp_net *f = c->form->model->net, *g = c->model->net;
    double *at = c->block;
    for (int k = 0; k < f->n_layers; k++) {
        step *s = &c->steps[k];
        size_t n_out = (size_t)f->layers[k].n_out, n_in = (size_t)f->layers[k].n_in;
        s->delta = at;
        s->shift = at + n_out * n_in;
        at = s->shift + n_out;
        step_fill(&f->layers[k], &g->layers[k], s);
        c->differs |= s->delta_frobenius > 0 || s->shift_norm > 0;
        esp_code code = esp_layer_norms_of(&g->layers[k], g->layers[k].w, g->layers[k].b, &s->pruned, reterr);
        if (code) return esp_error_wrap(reterr, code, "candidate, layer %d", k + 1);
    }
    c->work = at;
    return ESP_OK;
}

esp_code esp_candidate_create(const esp_closed_form *form, const esp_model *candidate, esp_candidate **ret_candidate, esp_error *reterr) {
    esp_code code = compare_layers(form->model->net, candidate->net, reterr);
    if (code) return code;
    if (!same_frame(form->model, candidate)) return esp_fail(reterr, ESP_UNPROCESSABLE, "the candidate's kind, sizes or frame are not the model's");
    size_t n_layers = (size_t)candidate->net->n_layers, numbers = (size_t)esp_net_parameters(candidate->net) + 5 * form->width;
    esp_candidate *c = calloc(1, sizeof *c);
    step *steps = calloc(n_layers, sizeof *steps);
    double *block = calloc(numbers, sizeof *block);
    if (!c || !steps || !block) {
        free(c);
        free(steps);
        free(block);
        return esp_fail(reterr, ESP_NOMEM, "no memory to compare %zu layers", n_layers);
    }
    *c = (esp_candidate){.form = form, .model = candidate, .steps = steps, .block = block};
    code = candidate_fill(c, reterr);
    if (code)
        esp_candidate_free(c);
    else
        *ret_candidate = c;
    return code;
}

void esp_candidate_free(esp_candidate *candidate) {
    if (!candidate) return;
    free(candidate->steps);
    free(candidate->block);
    free(candidate);
}

/* ---- one state ---------------------------------------------------------------------------------------------------- */

/* Upper bound of |D h + d| for the exact D, d and the exact activations, h being off by at most `error`. */
static double injected(const esp_layer *layer, const step *s, const double *h, double h_norm, double error, double *scratch) {
    if (s->delta_frobenius <= 0 && s->shift_norm <= 0) return 0;
    esp_layer_affine(layer->n_out, layer->n_in, s->delta, s->shift, h, scratch);
    double terms = esp_add_up(s->shift_norm, esp_mul_up(s->delta_frobenius, h_norm));
    double rounding = esp_gamma((size_t)layer->n_in + 5) * terms + (double)(layer->n_in + 5) * (double)layer->n_out * ESP_TINY;
    double moved = esp_mul_up(s->delta_frobenius * (1 + 4 * ESP_U), error);
    return esp_add_up(esp_add_up(esp_norm2_up((size_t)layer->n_out, scratch), moved), esp_round_up(rounding, 2));
}

/* The difference of the whole models from the networks' computed outputs, a bound of its rounding in ret_error. */
static double output_difference(const esp_candidate *c, double *f, const double *g, double error, double *scratch, double *ret_error) {
    const esp_model *model = c->form->model;
    size_t n = (size_t)esp_net_outputs(model->net);
    for (size_t i = 0; i < n; i++) f[i] = g[i] - f[i];
    double size = esp_norm2_up(n, f);
    error = esp_add_up(error, size * 2 * ESP_U);
    if (esp_model_has_gain(model)) {
        esp_layer_affine(model->ny, (int)n, model->frame.g, NULL, f, scratch);
        double rounding = esp_mul_up(esp_gamma(n + 4), esp_mul_up(c->form->frame_frobenius, size)) + (double)(n + 4) * (double)model->ny * ESP_TINY;
        error = esp_add_up(esp_mul_up(c->form->frame_norm, error), rounding);
        f = scratch;
        n = (size_t)model->ny;
    }
    *ret_error = error;
    return esp_norm2_down(n, f);
}

void esp_candidate_at(const esp_candidate *candidate, const double *x, double *ret_bound, double *ret_actual) {
    const esp_closed_form *form = candidate->form;
    const esp_net *f = form->model->net, *g = candidate->model->net;
    size_t width = form->width;
    double *h = candidate->work, *next = h + width, *h2 = next + width, *next2 = h2 + width, *scratch = next2 + width;
    double error, e = 0;
    *ret_bound = *ret_actual = 0;
    if (!candidate->differs) return;
    esp_layer_input(form->model, x, h, &error);
    memcpy(h2, h, (size_t)esp_net_inputs(f) * sizeof *h2);
    double error2 = error;
    for (int k = 0; k < f->n_layers; k++) {
        const esp_layer *a = &f->layers[k], *b = &g->layers[k];
        const step *s = &candidate->steps[k];
        double h_norm = esp_add_up(esp_norm2_up((size_t)a->n_in, h), error), h2_norm = esp_add_up(esp_norm2_up((size_t)a->n_in, h2), error2);
        double form_a = esp_add_up(esp_mul_up(s->pruned.spectral, e), injected(a, s, h, h_norm, error, scratch));
        double form_b = esp_add_up(esp_mul_up(form->norms[k].spectral, e), injected(a, s, h2, h2_norm, error2, scratch));
        e = esp_min(form_a, form_b);
        error = esp_layer_error(a, &form->norms[k], error, h_norm);
        error2 = esp_layer_error(b, &s->pruned, error2, h2_norm);
        esp_layer_affine(a->n_out, a->n_in, a->w, a->b, h, next);
        esp_layer_activate(a, next);
        esp_layer_affine(b->n_out, b->n_in, b->w, b->b, h2, next2);
        esp_layer_activate(b, next2);
        double *swap = h, *swap2 = h2;
        h = next, next = swap;
        h2 = next2, next2 = swap2;
    }
    double rounding;
    *ret_actual = output_difference(candidate, h, h2, esp_add_up(error, error2), scratch, &rounding);
    *ret_bound = esp_add_up(esp_mul_up(form->frame_norm, e), rounding);
}

esp_code esp_closed_form_candidate(const esp_closed_form *form, const esp_model *candidate, const double *x, double *ret_bound, double *ret_actual,
                                   esp_error *reterr) {
    esp_candidate *c = NULL;
    esp_code code = esp_candidate_create(form, candidate, &c, reterr);
    if (code) return code;
    esp_candidate_at(c, x, ret_bound, ret_actual);
    esp_candidate_free(c);
    return ESP_OK;
}
