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

#include "net/program.h"
#include "net/program_make.h"

typedef enum term_kind { TERM_NONE, TERM_X, TERM_R, TERM_ROW } term_kind;

/* One neuron's output: nothing, x[index], r[index], or row `index` of the layer's rows. */
typedef struct term {
    term_kind kind;
    int index;
} term;

/* A layer's outputs. Rows are [1 | x | r], `width` wide; only the ReLUs so far are in use. */
typedef struct outputs {
    term *terms;
    double *rows;
    int n_rows;
} outputs;

typedef struct lowering {
    const esp_model *model;
    esp_program *program;
    size_t n_x, width;
    int n_r; /* ReLUs made so far */
    outputs now, next;
    double *row; /* scratch of one row */
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
    free(low->row);
    esp_program_free(low->program);
}

static esp_code lowering_init(lowering *low, const esp_model *model, esp_error *reterr) {
    size_t n_x = (size_t)esp_model_n_x(model), n_r = (size_t)esp_net_relus(model->net), widest = (size_t)esp_net_widest(model->net);
    esp_code code = esp_program_create(n_x, n_r, (size_t)esp_model_n_y(model), &low->program, reterr);
    if (code != ESP_OK) return code;
    size_t rows = rows_needed(model);
    low->model = model;
    low->n_x = n_x;
    low->width = 1 + n_x + n_r;
    low->now = (outputs){calloc(widest, sizeof(term)), calloc(rows + 1, low->width * sizeof(double)), 0};
    low->next = (outputs){calloc(widest, sizeof(term)), calloc(rows + 1, low->width * sizeof(double)), 0};
    low->row = calloc(low->width, sizeof(double));
    if (!low->now.terms || !low->now.rows || !low->next.terms || !low->next.rows || !low->row)
        return esp_fail(reterr, ESP_NOMEM, "lowering %zu ReLUs of %zu inputs", n_r, n_x);
    return ESP_OK;
}

/* The network's inputs: x itself, or C Y + D U. */
static void begin(lowering *low) {
    const esp_model *model = low->model;
    int n_in = esp_net_inputs(model->net);
    size_t n_yh = (size_t)model->history * (size_t)model->ny, n_uh = low->n_x - n_yh;
    for (int i = 0; i < n_in; i++) {
        if (model->frame.kind != ESP_FRAME_LINEAR) {
            low->now.terms[i] = (term){TERM_X, i};
            continue;
        }
        double *row = low->now.rows + (size_t)i * low->width;
        low->now.terms[i] = (term){TERM_ROW, i};
        memcpy(row + 1, model->frame.c + (size_t)i * n_yh, n_yh * sizeof *row);
        if (n_uh) memcpy(row + 1 + n_yh, model->frame.d + (size_t)i * n_uh, n_uh * sizeof *row);
    }
    low->now.n_rows = model->frame.kind == ESP_FRAME_LINEAR ? n_in : 0;
}

/* to += sum of weights[i] * term i, over n terms; `used` columns of a row are in use. */
static void add_terms(const lowering *low, const outputs *from, size_t n, size_t used, const double *weights, double *restrict to) {
    for (size_t i = 0; i < n; i++) {
        double weight = weights[i];
        if (weight == 0) continue;
        size_t index = (size_t)from->terms[i].index;
        switch (from->terms[i].kind) {
        case TERM_NONE: break;
        case TERM_X: to[1 + index] += weight; break;
        case TERM_R: to[1 + low->n_x + index] += weight; break;
        case TERM_ROW: {
            const double *restrict row = from->rows + index * low->width;
            for (size_t j = 0; j < used; j++) to[j] += weight * row[j];
            break;
        }
        }
    }
}

static term make_relu(lowering *low) {
    esp_program *program = low->program;
    size_t i = (size_t)low->n_r++, n_r = (size_t)program->n_r;
    program->d0[i] = low->row[0];
    memcpy(program->c + i * low->n_x, low->row + 1, low->n_x * sizeof(double));
    memcpy(program->d + i * n_r, low->row + 1 + low->n_x, i * sizeof(double));
    return (term){TERM_R, (int)i};
}

static void lower_layer(lowering *low, const esp_layer *layer) {
    size_t n_in = (size_t)layer->n_in, used = 1 + low->n_x + (size_t)low->n_r;
    low->next.n_rows = 0;
    for (int i = 0; i < layer->n_out; i++) {
        term *out = &low->next.terms[i];
        *out = (term){TERM_NONE, 0};
        if (layer->act[i] == ESP_ACT_ZERO) continue;
        double *row = low->row;
        if (layer->act[i] == ESP_ACT_IDENTITY) {
            *out = (term){TERM_ROW, low->next.n_rows};
            row = low->next.rows + (size_t)low->next.n_rows++ * low->width;
        }
        memset(row, 0, low->width * sizeof *row);
        row[0] = layer->b[i];
        add_terms(low, &low->now, n_in, used, layer->w + (size_t)i * n_in, row);
        if (layer->act[i] == ESP_ACT_RELU) *out = make_relu(low);
    }
    outputs swap = low->now;
    low->now = low->next;
    low->next = swap;
}

/* y = known part + G f. */
static void finish(lowering *low) {
    const esp_model *model = low->model;
    const esp_frame *frame = &model->frame;
    esp_program *program = low->program;
    size_t n_x = low->n_x, n_r = (size_t)program->n_r, f_out = (size_t)esp_net_outputs(model->net);
    size_t n_yh = (size_t)model->history * (size_t)model->ny, n_uh = n_x - n_yh;
    for (size_t k = 0; k < (size_t)program->n_y; k++) {
        const double one = 1;
        double *row = low->row;
        memset(row, 0, low->width * sizeof *row);
        if (frame->kind == ESP_FRAME_LINEAR) {
            memcpy(row + 1, frame->a + k * n_yh, n_yh * sizeof *row);
            if (n_uh) memcpy(row + 1 + n_yh, frame->b + k * n_uh, n_uh * sizeof *row);
            add_terms(low, &low->now, f_out, low->width, frame->g + k * f_out, row);
        } else {
            outputs own = {low->now.terms + k, low->now.rows, 0};
            add_terms(low, &own, 1, low->width, &one, row);
            if (frame->kind == ESP_FRAME_RESIDUAL) row[1 + n_yh - (size_t)model->ny + k] += 1;
        }
        program->c0[k] = row[0];
        memcpy(program->a + k * n_x, row + 1, n_x * sizeof *row);
        if (n_r) memcpy(program->b + k * n_r, row + 1 + n_x, n_r * sizeof *row);
    }
}

esp_code esp_program_lower(const esp_model *model, esp_program **ret_program, esp_error *reterr) {
    lowering low = {0};
    esp_code code = lowering_init(&low, model, reterr);
    if (code == ESP_OK) {
        begin(&low);
        for (int l = 0; l < model->net->n_layers; l++) lower_layer(&low, &model->net->layers[l]);
        finish(&low);
        esp_program_seal(low.program, 0);
        *ret_program = low.program;
        low.program = NULL;
    }
    lowering_done(&low);
    return code;
}
