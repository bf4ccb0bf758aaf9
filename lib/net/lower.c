/* SPDX-License-Identifier: Apache-2.0
 * Lowering: from a model to its ReLU program, by exact substitution.
 *
 * Layer by layer, every neuron's output is held as an expression over [1, x, r]. Most are trivial: an input of the
 * model is one x, a ReLU neuron is one r, a zero neuron is nothing. Only an identity neuron (and an input behind a
 * linear frame) has a full row of coefficients. A pre-activation is the weighted sum of the expressions of the layer
 * before: for a ReLU it becomes that ReLU's row of C, D, d; for an identity neuron the row is kept and substituted
 * further. So identity chains cost matrix products here and nothing afterwards, and what is left of the network is
 * exactly its ReLUs, in layer order, every one of them (a ReLU that never fires too: telling is the certifier's work).
 *
 * Coefficients are sums of products of weights, so the program equals the network up to rounding, not to the bit. */
#include <stdlib.h>
#include <string.h>

#include "net/lower_parts.h"
#include "net/program.h"
#include "net/program_make.h"

/* ---- terms and rows ---- */

esp_code esp_lowering_init(esp_lowering *low, size_t n_x, size_t n_r, size_t n_y, esp_error *reterr) {
    esp_code code = esp_program_create(n_x, n_r, n_y, &low->program, reterr);
    if (code != ESP_OK) return code;
    low->n_x = n_x;
    low->n_r = 0;
    low->width = 1 + n_x + n_r;
    low->row = calloc(low->width, sizeof(double));
    return low->row ? ESP_OK : esp_fail(reterr, ESP_NOMEM, "lowering %zu ReLUs of %zu inputs", n_r, n_x);
}

void esp_lowering_done(esp_lowering *low) {
    free(low->row);
    esp_program_free(low->program);
}

void esp_lowering_add(const esp_lowering *low, esp_term term, double weight, size_t used, double *restrict to) {
    if (weight == 0) return;
    switch (term.kind) {
    case ESP_TERM_NONE: break;
    case ESP_TERM_X: to[1 + term.index] += weight; break;
    case ESP_TERM_R: to[1 + low->n_x + (size_t)term.index] += weight; break;
    case ESP_TERM_ROW: {
        const double *restrict row = term.row;
        for (size_t j = 0; j < used; j++) to[j] += weight * row[j];
        break;
    }
    }
}

void esp_lowering_begin(esp_lowering *low, double bias) {
    memset(low->row, 0, low->width * sizeof *low->row);
    low->row[0] = bias;
}

esp_term esp_lowering_relu(esp_lowering *low) {
    esp_program *program = low->program;
    size_t i = (size_t)low->n_r++, n_r = (size_t)program->n_r;
    program->d0[i] = low->row[0];
    memcpy(program->c + i * low->n_x, low->row + 1, low->n_x * sizeof(double));
    memcpy(program->d + i * n_r, low->row + 1 + low->n_x, i * sizeof(double));
    return (esp_term){ESP_TERM_R, (int)i, NULL};
}

void esp_lowering_output(esp_lowering *low, size_t k) {
    esp_program *program = low->program;
    size_t n_r = (size_t)program->n_r;
    program->c0[k] = low->row[0];
    memcpy(program->a + k * low->n_x, low->row + 1, low->n_x * sizeof(double));
    if (n_r) memcpy(program->b + k * n_r, low->row + 1 + low->n_x, n_r * sizeof(double));
}

/* ---- a plain network ---- */

/* A layer's outputs, with room for the rows of those that need one. */
typedef struct outputs {
    esp_term *terms;
    double *rows;
    int n_rows;
} outputs;

typedef struct lowering {
    esp_lowering base;
    const esp_model *model;
    outputs now, next;
} lowering;

static size_t rows_needed(const esp_model *model) {
    size_t most = model->frame.kind == ESP_FRAME_LINEAR ? (size_t)esp_net_inputs(model->net) : 0;
    for (int l = 0; l < model->net->n_layers; l++) {
        size_t n = 0;
        for (int i = 0; i < model->net->layers[l].n_out; i++) n += model->net->layers[l].act[i] == ESP_ACT_IDENTITY;
        if (n > most) most = n;
    }
    return most;
}

static void lowering_done(lowering *low) {
    free(low->now.terms);
    free(low->now.rows);
    free(low->next.terms);
    free(low->next.rows);
    esp_lowering_done(&low->base);
}

static esp_code lowering_init(lowering *low, const esp_model *model, esp_error *reterr) {
    size_t n_x = (size_t)esp_model_n_x(model), n_r = (size_t)esp_net_relus(model->net), widest = (size_t)esp_net_widest(model->net);
    esp_code code = esp_lowering_init(&low->base, n_x, n_r, (size_t)esp_model_n_y(model), reterr);
    if (code != ESP_OK) return code;
    size_t rows = rows_needed(model);
    low->model = model;
    low->now = (outputs){calloc(widest, sizeof(esp_term)), calloc(rows + 1, low->base.width * sizeof(double)), 0};
    low->next = (outputs){calloc(widest, sizeof(esp_term)), calloc(rows + 1, low->base.width * sizeof(double)), 0};
    if (!low->now.terms || !low->now.rows || !low->next.terms || !low->next.rows)
        return esp_fail(reterr, ESP_NOMEM, "lowering %zu ReLUs of %zu inputs", n_r, n_x);
    return ESP_OK;
}

static double *take_row(const lowering *low, outputs *of, esp_term *ret_term) {
    double *row = of->rows + (size_t)of->n_rows++ * low->base.width;
    *ret_term = (esp_term){ESP_TERM_ROW, 0, row};
    return row;
}

/* The network's inputs: x itself, or C Y + D U. */
static void begin(lowering *low) {
    const esp_model *model = low->model;
    int n_in = esp_net_inputs(model->net);
    size_t n_yh = (size_t)model->history * (size_t)model->ny, n_uh = low->base.n_x - n_yh;
    for (int i = 0; i < n_in; i++) {
        if (model->frame.kind != ESP_FRAME_LINEAR) {
            low->now.terms[i] = (esp_term){ESP_TERM_X, i, NULL};
            continue;
        }
        double *row = take_row(low, &low->now, &low->now.terms[i]);
        memcpy(row + 1, model->frame.c + (size_t)i * n_yh, n_yh * sizeof *row);
        if (n_uh) memcpy(row + 1 + n_yh, model->frame.d + (size_t)i * n_uh, n_uh * sizeof *row);
    }
}

static void lower_layer(lowering *low, const esp_layer *layer) {
    size_t n_in = (size_t)layer->n_in, used = esp_lowering_used(&low->base);
    low->next.n_rows = 0;
    for (int i = 0; i < layer->n_out; i++) {
        const double *w = layer->w + (size_t)i * n_in;
        esp_term *out = &low->next.terms[i];
        *out = (esp_term){ESP_TERM_NONE, 0, NULL};
        if (layer->act[i] == ESP_ACT_ZERO) continue;
        esp_lowering_begin(&low->base, layer->b[i]);
        for (size_t j = 0; j < n_in; j++) esp_lowering_add(&low->base, low->now.terms[j], w[j], used, low->base.row);
        if (layer->act[i] == ESP_ACT_RELU)
            *out = esp_lowering_relu(&low->base);
        else
            memcpy(take_row(low, &low->next, out), low->base.row, low->base.width * sizeof(double));
    }
    outputs swap = low->now;
    low->now = low->next;
    low->next = swap;
}

/* y = known part + G f. */
static void finish(lowering *low) {
    const esp_model *model = low->model;
    const esp_frame *frame = &model->frame;
    double *row = low->base.row;
    size_t n_x = low->base.n_x, n_y = (size_t)esp_model_n_y(model), f_out = (size_t)esp_net_outputs(model->net), used = low->base.width;
    size_t n_yh = (size_t)model->history * (size_t)model->ny, n_uh = n_x - n_yh;
    for (size_t k = 0; k < n_y; k++) {
        esp_lowering_begin(&low->base, 0);
        if (frame->kind == ESP_FRAME_LINEAR) {
            memcpy(row + 1, frame->a + k * n_yh, n_yh * sizeof *row);
            if (n_uh) memcpy(row + 1 + n_yh, frame->b + k * n_uh, n_uh * sizeof *row);
            for (size_t j = 0; j < f_out; j++) esp_lowering_add(&low->base, low->now.terms[j], frame->g[k * f_out + j], used, row);
        } else {
            esp_lowering_add(&low->base, low->now.terms[k], 1, used, row);
            if (frame->kind == ESP_FRAME_RESIDUAL) row[1 + n_yh - (size_t)model->ny + k] += 1;
        }
        esp_lowering_output(&low->base, k);
    }
}

esp_code esp_program_lower(const esp_model *model, esp_program **ret_program, esp_error *reterr) {
    lowering low = {0};
    if (model->graph) return esp_graph_lower(model->graph, model->n_objects, model->edges, model->n_edges, ret_program, reterr);
    esp_code code = lowering_init(&low, model, reterr);
    if (code == ESP_OK) {
        begin(&low);
        for (int l = 0; l < model->net->n_layers; l++) lower_layer(&low, &model->net->layers[l]);
        finish(&low);
        esp_program_seal(low.base.program, 0);
        *ret_program = low.base.program;
        low.base.program = NULL;
    }
    lowering_done(&low);
    return code;
}
