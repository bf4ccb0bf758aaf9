/* SPDX-License-Identifier: Apache-2.0
 * One network, or two side by side, in affine forms: f's numbers, g's, and the differences as numbers of their own. Compiled
 * with -frounding-math, run with the processor rounding upwards. */
#include <float.h>
#include <math.h>
#include <stdlib.h>

#include "check/check.h"

struct chk_pair {
    chk_space *space; /* borrowed */
    const chk_model *f, *g; /* borrowed; g NULL: one network */
    bool alike; /* layers of the same sizes */
    chk_triple h, z;
    chk_form *spare;
};

bool chk_triple_create(chk_triple *triple, int rows, int most, bool two) {
    triple->f = chk_forms_create(rows, most);
    triple->g = two ? chk_forms_create(rows, most) : NULL;
    triple->d = two ? chk_forms_create(rows, most) : NULL;
    return triple->f && (!two || (triple->g && triple->d));
}

void chk_triple_free(chk_triple *triple) {
    chk_forms_free(triple->f);
    chk_forms_free(triple->g);
    chk_forms_free(triple->d);
}

static chk_range meet(chk_range a, chk_range b) {
    return (chk_range){a.lower > b.lower ? a.lower : b.lower, a.upper < b.upper ? a.upper : b.upper};
}

static chk_range plus(chk_range a, chk_range b) {
    chk_range sum = {-(-a.lower - b.lower), a.upper + b.upper};
    return sum.lower <= sum.upper ? sum : (chk_range){-HUGE_VAL, HUGE_VAL};
}

static chk_range negative(chk_range a) {
    return (chk_range){-a.upper, -a.lower};
}

chk_range chk_triple_f(const chk_triple *t, int i) {
    chk_range own = chk_form_range(&t->f[i]);
    return t->g ? meet(own, plus(chk_form_range(&t->g[i]), chk_form_range(&t->d[i]))) : own;
}

chk_range chk_triple_g(const chk_triple *t, int i) {
    return meet(chk_form_range(&t->g[i]), plus(chk_form_range(&t->f[i]), negative(chk_form_range(&t->d[i]))));
}

chk_range chk_triple_d(const chk_triple *t, int i) {
    return meet(chk_form_range(&t->d[i]), plus(chk_form_range(&t->f[i]), negative(chk_form_range(&t->g[i]))));
}

chk_pair *chk_pair_create(chk_space *space, const chk_model *f, const chk_model *g) {
    int widest = f->n_v;
    chk_pair *pair = calloc(1, sizeof *pair);
    if (!pair) return NULL;
    *pair = (chk_pair){.space = space, .f = f, .g = g};
    pair->alike = g && f->n_layers == g->n_layers && f->n_v == g->n_v;
    for (int l = 0; l < f->n_layers; l++) widest = f->layers[l].n_out > widest ? f->layers[l].n_out : widest;
    for (int l = 0; g && l < g->n_layers; l++) {
        if (g->layers[l].n_in > widest) widest = g->layers[l].n_in;
        if (g->layers[l].n_out > widest) widest = g->layers[l].n_out;
        if (l < f->n_layers && g->layers[l].n_out != f->layers[l].n_out) pair->alike = false;
    }
    pair->spare = chk_forms_create(2, space->most);
    if (!pair->spare || !chk_triple_create(&pair->h, widest, space->most, g != NULL) ||
        !chk_triple_create(&pair->z, widest, space->most, g != NULL)) {
        chk_pair_free(pair);
        return NULL;
    }
    return pair;
}

void chk_pair_free(chk_pair *pair) {
    if (!pair) return;
    chk_triple_free(&pair->h);
    chk_triple_free(&pair->z);
    chk_forms_free(pair->spare);
    free(pair);
}

/* ---- linear maps ---- */

static void add_row(chk_space *space, int n, const double *w, const chk_form *x) {
    for (int j = 0; j < n; j++) chk_sum_add(space, w[j], w[j], &x[j]);
}

/* += (w_f - w_g) x, the weights' difference between its two roundings. */
static void add_change(chk_space *space, int n, const double *w_f, const double *w_g, const chk_form *x) {
    for (int j = 0; j < n; j++) {
        double upper = w_f[j] - w_g[j], lower = -(w_g[j] - w_f[j]);
        chk_sum_add(space, lower, upper, &x[j]);
    }
}

static void layer_row(chk_space *space, const chk_layer *layer, int i, const chk_form *h, chk_form *to) {
    chk_form_row(space, layer->n_in, layer->w + (size_t)i * (size_t)layer->n_in, layer->b[i], h, to);
}

static void layer_change(chk_space *space, const chk_layer *f, const chk_layer *g, int i, const chk_triple *h, chk_form *to) {
    size_t row = (size_t)i * (size_t)f->n_in;
    chk_sum_begin(space, -(g->b[i] - f->b[i]), f->b[i] - g->b[i]);
    add_row(space, f->n_in, f->w + row, h->d);
    add_change(space, f->n_in, f->w + row, g->w + row, h->g);
    chk_sum_end(space, to, 0);
}

/* ---- neurons ---- */

static void subtract(chk_space *space, const chk_form *a, const chk_form *b, chk_form *to) {
    chk_sum_begin(space, 0, 0);
    chk_sum_add(space, 1, 1, a);
    chk_sum_add(space, -1, -1, b);
    chk_sum_end(space, to, 0);
}

/* max(0, p) - max(0, q) is s d + [below, above] with p - q = d in [l, u], min(0, d) <= it <= max(0, d): all ends are looked at. */
static double wedge(double l, double u, double *ret_slope, double *ret_middle) {
    double s = l < 0 && u > 0 ? u / (u - l) : 0.5;
    if (s > 1) s = 1;
    double top_l = l > 0 ? l : 0, top_u = u > 0 ? u : 0, low_l = l < 0 ? -l : 0, low_u = u < 0 ? -u : 0; /* low: negated */
    double above_l = top_l + (-s) * l, above_u = top_u + (-s) * u, below_l = low_l + s * l, below_u = low_u + s * u;
    double above = above_l > above_u ? above_l : above_u, below = below_l > below_u ? below_l : below_u;
    if (above < 0) above = 0;
    if (below < 0) below = 0;
    *ret_slope = s;
    *ret_middle = chk_middle(-below, above);
    double up = above - *ret_middle, down = *ret_middle + below;
    return up > down ? up : down;
}

static void change(chk_pair *pair, const chk_triple *z, int i, chk_range d, chk_triple *h) {
    chk_space *space = pair->space;
    double slope = 0, middle = 0, noise;
    chk_form *spare = pair->spare;
    subtract(space, &h->f[i], &h->g[i], spare);
    if (!(d.upper - d.lower <= DBL_MAX)) {
        chk_form_copy(&h->d[i], spare);
        return;
    }
    noise = wedge(d.lower, d.upper, &slope, &middle);
    if (slope * chk_form_radius(&z->d[i]) + noise >= chk_form_radius(spare)) {
        chk_form_copy(&h->d[i], spare);
        return;
    }
    chk_sum_begin(space, middle, middle);
    chk_sum_add(space, slope, slope, &z->d[i]);
    chk_sum_end(space, &h->d[i], noise);
}

static void neuron(chk_pair *pair, int act_f, int act_g, const chk_triple *z, int i, chk_triple *h) {
    chk_range f = chk_triple_f(z, i), g = chk_triple_g(z, i), d = chk_triple_d(z, i);
    chk_form_activate(pair->space, act_f, &z->f[i], f, &h->f[i]);
    chk_form_activate(pair->space, act_g, &z->g[i], g, &h->g[i]);
    bool both_on = f.lower >= 0 && g.lower >= 0, both_off = f.upper <= 0 && g.upper <= 0;
    if (act_f != act_g)
        subtract(pair->space, &h->f[i], &h->g[i], &h->d[i]);
    else if (act_f == 0 || (act_f == 1 && both_off))
        chk_form_zero(&h->d[i]);
    else if (act_f == 2 || both_on)
        chk_form_copy(&h->d[i], &z->d[i]);
    else
        change(pair, z, i, d, h);
}

/* ---- a run ---- */

static void run_both(chk_pair *pair) {
    for (int l = 0; l < pair->f->n_layers; l++) {
        const chk_layer *f = &pair->f->layers[l], *g = &pair->g->layers[l];
        for (int i = 0; i < f->n_out; i++) {
            layer_row(pair->space, f, i, pair->h.f, &pair->z.f[i]);
            layer_row(pair->space, g, i, pair->h.g, &pair->z.g[i]);
            layer_change(pair->space, f, g, i, &pair->h, &pair->z.d[i]);
        }
        for (int i = 0; i < f->n_out; i++) neuron(pair, f->act[i], g->act[i], &pair->z, i, &pair->h);
    }
}

static void run_one(chk_space *space, const chk_model *model, chk_form *h, chk_form *z) {
    for (int l = 0; l < model->n_layers; l++) {
        const chk_layer *layer = &model->layers[l];
        for (int i = 0; i < layer->n_out; i++) layer_row(space, layer, i, h, &z[i]);
        for (int i = 0; i < layer->n_out; i++) chk_form_activate(space, layer->act[i], &z[i], chk_form_range(&z[i]), &h[i]);
    }
}

/* Row i of M (n columns) on x, and of N on h (m columns, may be 0). */
static void map_row(chk_space *space, const double *m, int n, const chk_form *x, const double *g, int n_g, const chk_form *h, chk_form *to) {
    chk_sum_begin(space, 0, 0);
    add_row(space, n, m, x);
    if (n_g) add_row(space, n_g, g, h);
    chk_sum_end(space, to, 0);
}

static void map_change(chk_pair *pair, const chk_triple *in, int first, int i, chk_form *to) {
    const chk_model *f = pair->f, *g = pair->g;
    size_t row = (size_t)i * (size_t)f->n_x, gain = (size_t)i * (size_t)f->n_f;
    chk_sum_begin(pair->space, 0, 0);
    add_row(pair->space, f->n_x, f->k + row, in->d + first);
    add_change(pair->space, f->n_x, f->k + row, g->k + row, in->g + first);
    add_row(pair->space, f->n_f, f->g + gain, pair->h.d);
    add_change(pair->space, f->n_f, f->g + gain, g->g + gain, pair->h.g);
    chk_sum_end(pair->space, to, 0);
}

static void enter(chk_pair *pair, const chk_triple *in, int first) {
    const chk_model *f = pair->f, *g = pair->g;
    size_t n_x = (size_t)f->n_x;
    for (int i = 0; i < f->n_v; i++) map_row(pair->space, f->v + (size_t)i * n_x, f->n_x, in->f + first, NULL, 0, NULL, &pair->h.f[i]);
    for (int i = 0; g && i < g->n_v; i++) map_row(pair->space, g->v + (size_t)i * n_x, g->n_x, in->g + first, NULL, 0, NULL, &pair->h.g[i]);
    for (int i = 0; pair->alike && i < f->n_v; i++) {
        const double *row_f = f->v + (size_t)i * n_x, *row_g = g->v + (size_t)i * n_x;
        chk_sum_begin(pair->space, 0, 0);
        add_row(pair->space, f->n_x, row_f, in->d + first);
        add_change(pair->space, f->n_x, row_f, row_g, in->g + first);
        chk_sum_end(pair->space, &pair->h.d[i], 0);
    }
}

void chk_pair_run(chk_pair *pair, const chk_triple *in, int first, chk_triple *out) {
    const chk_model *f = pair->f, *g = pair->g;
    size_t n_x = (size_t)f->n_x;
    enter(pair, in, first);
    if (pair->alike) run_both(pair);
    if (!pair->alike) run_one(pair->space, f, pair->h.f, pair->z.f);
    if (!pair->alike && g) run_one(pair->space, g, pair->h.g, pair->z.g);
    for (int i = 0; i < f->n_y; i++) {
        const double *gain_f = f->g + (size_t)i * (size_t)f->n_f;
        map_row(pair->space, f->k + (size_t)i * n_x, f->n_x, in->f + first, gain_f, f->n_f, pair->h.f, &out->f[i]);
        if (!g) continue;
        map_row(pair->space, g->k + (size_t)i * n_x, g->n_x, in->g + first, g->g + (size_t)i * (size_t)g->n_f, g->n_f, pair->h.g, &out->g[i]);
        subtract(pair->space, &out->f[i], &out->g[i], pair->spare);
        if (pair->alike) map_change(pair, in, first, i, &out->d[i]);
        if (!pair->alike || chk_form_radius(pair->spare) < chk_form_radius(&out->d[i])) chk_form_copy(&out->d[i], pair->spare);
    }
}
