/* SPDX-License-Identifier: Apache-2.0
 * The constants of the closed form: what a matrix D added to layer k can change the output by, for each |D|_2.
 *
 * D meets h, the numbers before layer k, and what comes out of it goes through the layers after, which stretch it by their
 * two-norms: |G| |W_L| ... |W_k+1| |h|. The norms are of matrices as they are, rows of neurons that give zero left out; |h| is
 * that of its affine forms. Compiled with -frounding-math, run with the processor rounding upwards. */
#include <math.h>
#include <stdlib.h>

#include "check/check.h"

enum { SYMBOLS = 400 };

struct chk_constants {
    const chk_model *model; /* borrowed */
    chk_space space;
    chk_form *x, *h, *z;
    double *suffix; /* a layer each: the norms after it */
};

/* The two-norm of W (m x n) without the rows that act says are zero; act may be NULL. */
static double norm_of(int m, int n, const double *w, const unsigned char *act) {
    size_t size = (size_t)m * (size_t)n;
    double *up = calloc(2 * size + 1, sizeof *up), *down = up ? up + size : NULL;
    if (!up) return HUGE_VAL;
    for (size_t k = 0; k < size; k++) {
        if (act && act[k / (size_t)n] == 0) continue;
        up[k] = w[k];
        down[k] = -w[k];
    }
    double norm = chk_norm_2(m, n, up, down, NULL);
    free(up);
    return norm;
}

chk_constants *chk_constants_create(const chk_model *model) {
    chk_constants *c = calloc(1, sizeof *c);
    int widest = model->n_v;
    if (!c) return NULL;
    c->model = model;
    for (int l = 0; l < model->n_layers; l++) widest = model->layers[l].n_out > widest ? model->layers[l].n_out : widest;
    c->space.most = model->n_x + SYMBOLS;
    c->space.up = calloc((size_t)c->space.most, sizeof(double));
    c->space.down = calloc((size_t)c->space.most, sizeof(double));
    c->x = chk_forms_create(model->n_x, c->space.most);
    c->h = chk_forms_create(widest, c->space.most);
    c->z = chk_forms_create(widest, c->space.most);
    c->suffix = calloc((size_t)model->n_layers, sizeof *c->suffix);
    if (!c->space.up || !c->space.down || !c->x || !c->h || !c->z || !c->suffix) {
        chk_constants_free(c);
        return NULL;
    }
    chk_round_up();
    double after = norm_of(model->n_y, model->n_f, model->g, NULL);
    for (int l = model->n_layers - 1; l >= 0; l--) {
        const chk_layer *layer = &model->layers[l];
        c->suffix[l] = after;
        after *= norm_of(layer->n_out, layer->n_in, layer->w, layer->act);
    }
    chk_round_nearest();
    return c;
}

void chk_constants_free(chk_constants *c) {
    if (!c) return;
    free(c->space.up);
    free(c->space.down);
    chk_forms_free(c->x);
    chk_forms_free(c->h);
    chk_forms_free(c->z);
    free(c->suffix);
    free(c);
}

/* |h|_2 at most, n numbers. */
static double size_of(const chk_constants *c, int n, double weight, double *blame) {
    double sum = 0;
    for (int j = 0; j < n; j++) {
        chk_range range = chk_form_range(&c->h[j]);
        double size = range.upper > -range.lower ? range.upper : -range.lower;
        sum += size * size;
        for (int k = 0; k < c->model->n_x && k < c->h[j].n; k++) blame[k] += weight * fabs(c->h[j].a[k]);
    }
    return sqrt(sum);
}

void chk_constants_run(chk_constants *c, const double *lower, const double *upper, double *ret_c, double *blame) {
    const chk_model *m = c->model;
    c->space.n = 0;
    for (int i = 0; i < m->n_x; i++) chk_form_box(&c->space, &c->x[i], i, lower[i], upper[i]);
    for (int i = 0; i < m->n_v; i++) chk_form_row(&c->space, m->n_x, m->v + (size_t)i * (size_t)m->n_x, 0, c->x, &c->h[i]);
    for (int l = 0; l < m->n_layers; l++) {
        const chk_layer *layer = &m->layers[l];
        double size = size_of(c, layer->n_in, c->suffix[l], blame);
        ret_c[l] = size > 0 && c->suffix[l] > 0 ? c->suffix[l] * size : size >= 0 && c->suffix[l] >= 0 ? 0 : HUGE_VAL;
        for (int i = 0; i < layer->n_out; i++)
            chk_form_row(&c->space, layer->n_in, layer->w + (size_t)i * (size_t)layer->n_in, layer->b[i], c->h, &c->z[i]);
        for (int i = 0; i < layer->n_out; i++) chk_form_activate(&c->space, layer->act[i], &c->z[i], chk_form_range(&c->z[i]), &c->h[i]);
    }
}
