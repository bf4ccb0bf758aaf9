/* SPDX-License-Identifier: Apache-2.0
 * The Jacobian of a network over a box, in interval arithmetic with the processor rounding upwards. Compiled
 * with -frounding-math.
 *
 * Which ReLUs can be either comes from affine forms. Up to ENUMERATED of them are tried with every combination of slopes 0 and
 * 1: the Jacobian is linear in each slope by itself, so a norm is largest at an end of each. More of them get [0, 1]. */
#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "check/check.h"

enum { ENUMERATED = 8, SYMBOLS = 400, EITHER_MAX = 4096 };

struct chk_slopes {
    const chk_model *model; /* borrowed */
    chk_space space;
    chk_form *x, *h, *z;
    unsigned char *slope; /* a byte a neuron: 0 off, 1 on, 2 either, 3 and 4 either, tried as off and on */
    int n_either, either[EITHER_MAX];
    double *up, *down, *next_up, *next_down; /* widest x n_x: upper ends, negated lower ends */
    double *m_up, *m_down; /* n_y x n_x */
    int widest;
};

static void *room(size_t n) {
    return calloc(n ? n : 1, sizeof(double));
}

chk_slopes *chk_slopes_create(const chk_model *model) {
    chk_slopes *s = calloc(1, sizeof *s);
    size_t neurons = 0, n_x = (size_t)model->n_x;
    if (!s) return NULL;
    s->model = model;
    s->widest = model->n_v;
    for (int l = 0; l < model->n_layers; l++) {
        neurons += (size_t)model->layers[l].n_out;
        if (model->layers[l].n_out > s->widest) s->widest = model->layers[l].n_out;
    }
    s->space.most = model->n_x + SYMBOLS;
    size_t each = (size_t)s->widest * n_x, whole = (size_t)model->n_y * n_x;
    s->space.up = room((size_t)s->space.most);
    s->space.down = room((size_t)s->space.most);
    s->x = chk_forms_create(model->n_x, s->space.most);
    s->h = chk_forms_create(s->widest, s->space.most);
    s->z = chk_forms_create(s->widest, s->space.most);
    s->slope = calloc(neurons + 1, 1);
    double **each_of[] = {&s->up, &s->down, &s->next_up, &s->next_down}, **whole_of[] = {&s->m_up, &s->m_down};
    bool made = s->space.up && s->space.down && s->x && s->h && s->z && s->slope;
    for (int k = 0; k < 4; k++) made = (*each_of[k] = room(each)) && made;
    for (int k = 0; k < 2; k++) made = (*whole_of[k] = room(whole)) && made;
    if (made) return s;
    chk_slopes_free(s);
    return NULL;
}

void chk_slopes_free(chk_slopes *s) {
    if (!s) return;
    void *const blocks[] = {s->space.up, s->space.down, s->slope, s->up, s->down, s->next_up, s->next_down, s->m_up, s->m_down};
    for (size_t k = 0; k < sizeof blocks / sizeof *blocks; k++) free(blocks[k]);
    chk_forms_free(s->x);
    chk_forms_free(s->h);
    chk_forms_free(s->z);
    free(s);
}

/* ---- which ReLUs can be either ---- */

static void find_either(chk_slopes *s, const double *lower, const double *upper) {
    const chk_model *m = s->model;
    unsigned char *slope = s->slope;
    s->space.n = 0;
    s->n_either = 0;
    for (int i = 0; i < m->n_x; i++) chk_form_box(&s->space, &s->x[i], i, lower[i], upper[i]);
    for (int i = 0; i < m->n_v; i++) chk_form_row(&s->space, m->n_x, m->v + (size_t)i * (size_t)m->n_x, 0, s->x, &s->h[i]);
    for (int l = 0; l < m->n_layers; l++) {
        const chk_layer *layer = &m->layers[l];
        for (int i = 0; i < layer->n_out; i++)
            chk_form_row(&s->space, layer->n_in, layer->w + (size_t)i * (size_t)layer->n_in, layer->b[i], s->h, &s->z[i]);
        for (int i = 0; i < layer->n_out; i++, slope++) {
            chk_range range = chk_form_range(&s->z[i]);
            *slope = layer->act[i] == 2 ? 1 : layer->act[i] == 0 || range.upper <= 0 ? 0 : range.lower >= 0 ? 1 : 2;
            if (*slope == 2 && s->n_either < EITHER_MAX) s->either[s->n_either] = (int)(slope - s->slope);
            if (*slope == 2) s->n_either++;
            chk_form_activate(&s->space, layer->act[i], &s->z[i], range, &s->h[i]);
        }
    }
}

/* ---- the Jacobian ---- */

/* rows x cols = base + W [.] for exact W (rows x n). */
static void product(int rows, int n, int cols, const double *w, const double *up, const double *down, const double *base, double *to_up,
                    double *to_down) {
    for (int i = 0; i < rows; i++)
        for (int c = 0; c < cols; c++) {
            size_t at = (size_t)i * (size_t)cols + (size_t)c;
            double high = base ? base[at] : 0, low = -high;
            for (int j = 0; j < n; j++) {
                double v = w[(size_t)i * (size_t)n + (size_t)j], u = up[(size_t)j * (size_t)cols + (size_t)c],
                       d = down[(size_t)j * (size_t)cols + (size_t)c];
                if (v == 0 || (u == 0 && d == 0)) continue;
                high += v > 0 ? v * u : -v * d;
                low += v > 0 ? v * d : -v * u;
            }
            to_up[at] = high;
            to_down[at] = low;
        }
}

static void jacobian(chk_slopes *s) {
    const chk_model *m = s->model;
    const unsigned char *slope = s->slope;
    int cols = m->n_x;
    for (size_t k = 0; k < (size_t)m->n_v * (size_t)cols; k++) {
        s->up[k] = m->v[k];
        s->down[k] = -m->v[k];
    }
    for (int l = 0; l < m->n_layers; l++) {
        const chk_layer *layer = &m->layers[l];
        product(layer->n_out, layer->n_in, cols, layer->w, s->up, s->down, NULL, s->next_up, s->next_down);
        for (int i = 0; i < layer->n_out; i++, slope++)
            for (int c = 0; c < cols; c++) {
                size_t at = (size_t)i * (size_t)cols + (size_t)c;
                bool off = *slope == 0 || *slope == 3;
                s->up[at] = off || (*slope == 2 && s->next_up[at] < 0) ? 0 : s->next_up[at];
                s->down[at] = off || (*slope == 2 && s->next_down[at] < 0) ? 0 : s->next_down[at];
            }
    }
    product(m->n_y, m->n_f, cols, m->g, s->up, s->down, m->k, s->m_up, s->m_down);
}

/* ---- what is asked ---- */

double chk_slopes_norm(chk_slopes *s, const double *lower, const double *upper, bool two_norm) {
    bool *moves = calloc((size_t)s->model->n_x, sizeof *moves);
    double most = 0;
    int n_y = s->model->n_y, n_x = s->model->n_x;
    if (!moves) return HUGE_VAL;
    for (int i = 0; i < s->model->n_x; i++) moves[i] = lower[i] < upper[i];
    find_either(s, lower, upper);
    int tried = s->n_either <= ENUMERATED ? s->n_either : 0;
    for (int combination = 0; combination < 1 << tried; combination++) {
        for (int k = 0; k < tried; k++) s->slope[s->either[k]] = combination >> k & 1 ? 4 : 3;
        jacobian(s);
        double norm = two_norm ? chk_norm_2(n_y, n_x, s->m_up, s->m_down, moves) : chk_norm_rows(n_y, n_x, s->m_up, s->m_down, moves);
        if (norm > most) most = norm;
    }
    free(moves);
    return most;
}

void chk_slopes_run(chk_slopes *s, const double *lower, const double *upper, const double **ret_up, const double **ret_down) {
    find_either(s, lower, upper);
    jacobian(s);
    *ret_up = s->m_up;
    *ret_down = s->m_down;
}
