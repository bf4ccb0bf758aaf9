/* SPDX-License-Identifier: Apache-2.0
 * Lowering backwards: a graph model as the plain network that its program is.
 *
 * One layer for each level of the program, with the level's ReLUs first and behind them, as identities, the inputs and
 * earlier ReLUs that something later reads. Lowering that network substitutes the identities, whose only weight is 1, and
 * gives back the program to the bit: a claim about one is a claim about the other. */
#include <stdlib.h>
#include <string.h>

#include "net/model.h"
#include "net/program.h"

typedef struct flattening {
    const esp_program *program;
    int *last_x, *last_r; /* the last layer that reads an input, a ReLU; -1: none */
    int *at_x, *at_r; /* where it is among the outputs of the layer before; -1: nowhere */
    int *next_x, *next_r;
} flattening;

static int level_start(const esp_program *p, int level) {
    return level ? p->level_end[level - 1] : 0;
}

static void note(const double *row, int n, int layer, int *last) {
    for (int j = 0; j < n; j++)
        if (row[j] != 0) last[j] = layer;
}

/* Layers in rising order, so that the last note stays; the outputs are layer n_levels. */
static void find_uses(flattening *f) {
    const esp_program *p = f->program;
    size_t n_x = (size_t)p->n_x, n_r = (size_t)p->n_r;
    for (int j = 0; j < p->n_x; j++) f->last_x[j] = -1;
    for (int j = 0; j < p->n_r; j++) f->last_r[j] = -1;
    for (int l = 0; l < p->n_levels; l++)
        for (int i = level_start(p, l); i < p->level_end[l]; i++) {
            note(p->c + (size_t)i * n_x, p->n_x, l, f->last_x);
            note(p->d + (size_t)i * n_r, i, l, f->last_r);
        }
    for (int k = 0; k < p->n_y; k++) {
        note(p->a + (size_t)k * n_x, p->n_x, p->n_levels, f->last_x);
        note(p->b + (size_t)k * n_r, p->n_r, p->n_levels, f->last_r);
    }
}

static int count_carried(const int *last, int n, int layer) {
    int count = 0;
    for (int j = 0; j < n; j++) count += last[j] > layer;
    return count;
}

/* Outputs of layer `level`: its ReLUs, and what is carried past it. */
static int width_of(const flattening *f, int level) {
    const esp_program *p = f->program;
    int start = level_start(p, level);
    return p->level_end[level] - start + count_carried(f->last_x, p->n_x, level) + count_carried(f->last_r, start, level);
}

/* Row of a layer: coefficients of x and r, where those are in the layer before. */
static void put_row(const flattening *f, const double *in_x, const double *in_r, int n_r, double *w) {
    for (int j = 0; j < f->program->n_x; j++)
        if (in_x[j] != 0) w[f->at_x[j]] = in_x[j];
    for (int j = 0; j < n_r; j++)
        if (in_r[j] != 0) w[f->at_r[j]] = in_r[j];
}

/* Carries on what a later layer reads, from neuron `out` on. */
static int carry(const int *last, const int *at, int n, int level, esp_layer *layer, int out, int *next) {
    for (int j = 0; j < n; j++) {
        if (last[j] <= level) continue;
        layer->w[(size_t)out * (size_t)layer->n_in + (size_t)at[j]] = 1;
        layer->act[out] = ESP_ACT_IDENTITY;
        next[j] = out++;
    }
    return out;
}

static void fill_level(flattening *f, int level, esp_layer *layer) {
    const esp_program *p = f->program;
    int start = level_start(p, level), end = p->level_end[level], out = 0;
    for (int i = start; i < end; i++, out++) {
        put_row(f, p->c + (size_t)i * (size_t)p->n_x, p->d + (size_t)i * (size_t)p->n_r, start, layer->w + (size_t)out * (size_t)layer->n_in);
        layer->b[out] = p->d0[i];
    }
    out = carry(f->last_x, f->at_x, p->n_x, level, layer, out, f->next_x);
    (void)carry(f->last_r, f->at_r, start, level, layer, out, f->next_r);
    for (int i = start; i < end; i++) f->next_r[i] = i - start;
    memcpy(f->at_x, f->next_x, (size_t)p->n_x * sizeof *f->at_x);
    if (p->n_r) memcpy(f->at_r, f->next_r, (size_t)p->n_r * sizeof *f->at_r);
}

static void fill(flattening *f, esp_net *net) {
    const esp_program *p = f->program;
    for (int j = 0; j < p->n_x; j++) f->at_x[j] = j;
    for (int l = 0; l < p->n_levels; l++) fill_level(f, l, &net->layers[l]);
    esp_layer *last = &net->layers[p->n_levels];
    for (int k = 0; k < p->n_y; k++) {
        size_t row = (size_t)k;
        put_row(f, p->a + row * (size_t)p->n_x, p->b + row * (size_t)p->n_r, p->n_r, last->w + row * (size_t)last->n_in);
        last->b[k] = p->c0[k];
    }
}

static esp_code make(flattening *f, esp_net **ret_net, esp_error *reterr) {
    const esp_program *p = f->program;
    int widths[ESP_MAX_LAYERS + 1] = {p->n_x};
    if (p->n_levels >= ESP_MAX_LAYERS) return esp_fail(reterr, ESP_UNPROCESSABLE, "%d levels make too many layers", p->n_levels);
    find_uses(f);
    for (int l = 0; l < p->n_levels; l++) widths[l + 1] = width_of(f, l);
    widths[p->n_levels + 1] = p->n_y;
    esp_code code = esp_net_create(p->n_levels + 1, widths, ret_net, reterr);
    if (code == ESP_INVALID && reterr) reterr->code = ESP_UNPROCESSABLE;
    if (code == ESP_INVALID) return ESP_UNPROCESSABLE;
    if (code == ESP_OK) fill(f, *ret_net);
    return code;
}

esp_code esp_model_flatten(const esp_model *model, esp_model **ret_model, esp_error *reterr) {
    esp_program *program = NULL;
    esp_net *net = NULL;
    int *memory = NULL;
    esp_code code = esp_program_lower(model, &program, reterr);
    if (code == ESP_OK) {
        size_t n_x = (size_t)program->n_x, n_r = (size_t)program->n_r;
        memory = calloc(3 * (n_x + n_r), sizeof *memory);
        if (!memory) code = esp_fail(reterr, ESP_NOMEM, "a network of %zu ReLUs", n_r);
        flattening f = {.program = program, .last_x = memory};
        f.at_x = f.last_x + n_x;
        f.next_x = f.at_x + n_x;
        f.last_r = f.next_x + n_x;
        f.at_r = f.last_r + n_r;
        f.next_r = f.at_r + n_r;
        if (code == ESP_OK) code = make(&f, &net, reterr);
    }
    if (code == ESP_OK) code = esp_model_create(model->kind, model->ny, model->nu, 1, NULL, net, ret_model, reterr);
    free(memory);
    esp_program_free(program);
    return code;
}
