/* SPDX-License-Identifier: Apache-2.0
 * Forward error analysis of a program in float, ReLU by ReLU.
 *
 * A row s = d + sum c_j v_j over v = [x, r], in a format with unit roundoff u and smallest normal number t. Let d^, c^ be the
 * coefficients rounded to the format, v^ the computed inputs, M_j >= |v_j| for exact arithmetic, E_j >= |v^_j - v_j|. With T terms,
 *
 *     |s^ - s| <= |d^ - d| + sum |c^_j - c_j| M_j + sum |c^_j| E_j                 coefficients and inputs
 *                 + gamma_(T+1) (|d^| + sum |c^_j| (M_j + E_j)) + (2 T + 4) t        own rounding, and underflow     (1)
 *
 * gamma_n = n u / (1 - n u) (Higham, Accuracy and Stability, lemma 3.1): each term meets a product and at most T sums, in any order,
 * and fusing leaves roundings out. ReLU is exact and 1-Lipschitz, so E passes through it; where s + E < 0 for all inputs both
 * sides give 0. The same recursion with c^ = c and double's u bounds |forward - exact|, and the sum of the two is the answer.
 *
 * M, E as numbers for a box (M from ranges), or as k + s R, both coefficients not negative, for all |x| <= R (M then by (1) without errors):
 * the recursion is linear in R, so one pass serves every R. Everything is a sum of products of numbers that are
 * not negative; each result is raised by a bound of its own rounding (certify/rounding.h). */
#include "certify/float_error.h"

#include <assert.h>
#include <float.h>
#include <math.h>
#include <stdlib.h>

#include "certify/rounding.h"

/* k + s R */
typedef struct linear {
    double k, s;
} linear;

typedef struct format {
    double u, tiny, largest;
    bool single;
} format;

typedef struct analysis {
    const esp_program *program;
    const esp_ranges *ranges; /* NULL: for every R */
    format format;
    linear *m, *e; /* n_x + n_r: sizes and errors of [x, r] */
    double radius; /* no sum overflows up to here */
    bool overflow; /* in a box */
} analysis;

static double rounded(const format *f, double value) {
    return f->single ? (double)(float)value : value;
}

/* to += a v */
static void add(linear *to, double a, linear v) {
    if (a == 0) return;
    to->k += a * v.k;
    to->s += a * v.s;
}

static linear up(linear v, size_t roundings) {
    return (linear){v.k <= 0 ? 0 : esp_round_up(v.k, roundings), v.s <= 0 ? 0 : esp_round_up(v.s, roundings)};
}

/* Sums over one row: the size of the exact value, the terms of (1). */
typedef struct sums {
    linear size, error, computed;
} sums;

static void add_terms(const analysis *a, const double *c, size_t n, const linear *m, const linear *e, sums *to) {
    for (size_t j = 0; j < n; j++) {
        if (c[j] == 0) continue;
        double c_hat = esp_abs(rounded(&a->format, c[j])), off = esp_abs(rounded(&a->format, c[j]) - c[j]);
        add(&to->size, fabs(c[j]), m[j]);
        add(&to->error, off, m[j]);
        add(&to->error, c_hat, e[j]);
        add(&to->computed, c_hat, m[j]);
        add(&to->computed, c_hat, e[j]);
    }
}

/* Every partial sum stays below a quarter of the largest number. */
static void check_overflow(analysis *a, linear computed) {
    double room = a->format.largest / 4;
    if (!(computed.k < room) || !isfinite(computed.s)) {
        a->overflow = true;
        a->radius = 0;
    } else if (computed.s > 0) {
        a->radius = esp_min(a->radius, (room - computed.k) / computed.s * (1 - 1e-9));
    }
}

/* (1) for row d + c x + w r, r the first n_r ReLUs; the size, when not NULL, is that of the exact value. */
static linear row_error(analysis *a, double d, const double *c, const double *w, size_t n_r, linear *ret_size) {
    const esp_program *p = a->program;
    size_t n_x = (size_t)p->n_x, terms = n_x + n_r, roundings = 6 * terms + 32;
    double d_hat = rounded(&a->format, d), nu = ((double)terms + 1) * a->format.u;
    sums s = {{fabs(d), 0}, {esp_abs(d_hat - d), 0}, {esp_abs(d_hat), 0}};
    add_terms(a, c, n_x, a->m, a->e, &s);
    add_terms(a, w, n_r, a->m + n_x, a->e + n_x, &s);
    check_overflow(a, up(s.computed, roundings));
    add(&s.error, nu / (1 - nu), s.computed);
    s.error.k += (2 * (double)terms + 4) * a->format.tiny;
    if (ret_size) *ret_size = up(s.size, roundings);
    return up(s.error, roundings);
}

static void begin(analysis *a, const esp_box *box) {
    for (int j = 0; j < a->program->n_x; j++) {
        a->m[j] = box ? (linear){esp_max(fabs(box->lower[j]), fabs(box->upper[j])), 0} : (linear){0, 1};
        a->e[j] = (linear){0, 0};
        if (!a->format.single) continue;
        a->e[j] = up((linear){a->m[j].k * a->format.u + a->format.tiny, a->m[j].s * a->format.u}, 4);
        check_overflow(a, a->m[j]);
    }
}

/* ReLU i after its row. */
static void pass_relu(analysis *a, int i, linear size, linear error) {
    linear *m = &a->m[a->program->n_x + i], *e = &a->e[a->program->n_x + i];
    *m = size;
    *e = error;
    if (!a->ranges) return;
    double upper = a->ranges->p_upper[i];
    bool off = upper + error.k * (1 + 4 * ESP_U) < -4 * ESP_U * fabs(upper);
    *m = (linear){off ? 0 : esp_min(size.k, esp_max(upper, 0)), 0};
    if (off) *e = (linear){0, 0};
}

/* Errors of the outputs, added to ret. */
static void run(analysis *a, const esp_box *box, linear *ret) {
    const esp_program *p = a->program;
    size_t n_x = (size_t)p->n_x, n_r = (size_t)p->n_r;
    begin(a, box);
    for (int i = 0; i < p->n_r; i++) {
        linear size = {0, 0};
        linear error = row_error(a, p->d0[i], p->c + (size_t)i * n_x, p->d + (size_t)i * n_r, (size_t)i, &size);
        pass_relu(a, i, size, error);
    }
    for (int k = 0; k < p->n_y; k++) {
        linear error = row_error(a, p->c0[k], p->a + (size_t)k * n_x, p->b + (size_t)k * n_r, n_r, NULL);
        ret[k] = up((linear){ret[k].k + error.k, ret[k].s + error.s}, 1);
    }
}

/* In float, and in double. */
static esp_code analyse(const esp_program *program, const esp_box *box, const esp_ranges *ranges, linear *ret, double *ret_radius, bool *ret_overflow,
                        esp_error *reterr) {
    const format formats[2] = {{(double)FLT_EPSILON / 2, (double)FLT_MIN, (double)FLT_MAX, true}, {ESP_U, ESP_TINY, DBL_MAX, false}};
    size_t n = (size_t)program->n_x + (size_t)program->n_r;
    linear *block = calloc(2 * n, sizeof *block);
    if (!block) return esp_fail(reterr, ESP_NOMEM, "no memory for the errors of %d ReLUs", program->n_r);
    *ret_radius = (double)FLT_MAX;
    *ret_overflow = false;
    for (int k = 0; k < 2; k++) {
        analysis a = {program, ranges, formats[k], block, block + n, *ret_radius, false};
        run(&a, box, ret);
        *ret_radius = a.radius;
        *ret_overflow = *ret_overflow || a.overflow;
    }
    free(block);
    return ESP_OK;
}

esp_code esp_float_error_box(const esp_program *program, const esp_box *box, const esp_ranges *ranges, double *ret_error, esp_error *reterr) {
    bool overflow = false;
    double radius = 0;
    if (box->n != program->n_x || ranges->n_r != program->n_r)
        return esp_fail(reterr, ESP_INVALID, "a box of %d numbers for a program of %d inputs", box->n, program->n_x);
    linear *error = calloc((size_t)program->n_y, sizeof *error);
    if (!error) return esp_fail(reterr, ESP_NOMEM, "no memory for %d outputs", program->n_y);
    esp_code code = analyse(program, box, ranges, error, &radius, &overflow, reterr);
    for (int k = 0; k < program->n_y && !code; k++) ret_error[k] = overflow ? HUGE_VAL : error[k].k;
    free(error);
    return code;
}

esp_code esp_float_error_radius(const esp_program *program, double *ret_constant, double *ret_slope, double *ret_radius, esp_error *reterr) {
    bool overflow = false;
    double radius = 0;
    linear *error = calloc((size_t)program->n_y, sizeof *error);
    if (!error) return esp_fail(reterr, ESP_NOMEM, "no memory for %d outputs", program->n_y);
    esp_code code = analyse(program, NULL, NULL, error, &radius, &overflow, reterr);
    for (int k = 0; k < program->n_y && !code; k++) {
        ret_constant[k] = error[k].k;
        ret_slope[k] = error[k].s;
    }
    if (!code) *ret_radius = overflow || radius < 0 ? 0 : radius;
    free(error);
    return code;
}
