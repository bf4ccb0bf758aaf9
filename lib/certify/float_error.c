/* SPDX-License-Identifier: Apache-2.0
 * Error analysis of a program in float: forwards, ReLU by ReLU, then backwards by slopes.
 *
 * A row s = d + sum c_j v_j over v = [x, r], in a format with unit roundoff u and smallest normal number t. Let d^, c^ be the
 * coefficients rounded to the format, v^ the computed inputs, M_j >= |v_j| for exact arithmetic, E_j >= |v^_j - v_j|, and S_k >= |s_k| for
 * the exact partial sum after k terms. The error of the computed one grows, term by term, from e = |d^ - d| by
 *
 *     e += |c^_j - c_j| M_j + |c^_j| E_j + u |c^_j| (M_j + E_j) + t         coefficient, input, product                (1)
 *     e += u (S_k + e) + t                                                  the addition
 *
 * (fl(a op b) = (a op b)(1 + delta), |delta| <= u, but for underflow; fusing leaves the product's out; a coefficient of zero rounds
 * nothing). ReLU is exact and 1-Lipschitz, so E passes through it; where s + E < 0 for all inputs both sides give 0. The
 * same recursion with c^ = c and double's u bounds |forward - exact|, and the sum of the two is the answer.
 *
 * So E grows by the product of the absolute weights, as if every error met every other with the worst of signs. Second way, for
 * the outputs: let eta_i be what row i adds by itself, (1) less its terms |c_j| E_j; |eta_i| <= L_i. Then
 *
 *     e_i = eta_i + sum_j c_ij s_j e_j        s_j in [0, 1]; 1 where ReLU j is on in both, 0 where it is off in both       (2)
 *
 * is linear in the etas for any s, and the output's error is at most L_y + sum_i L_i max |lambda_i|, lambda_i the output's slope
 * in r_i: an interval, from the last ReLU to the first by lambda_j = b_j + sum_i lambda_i s_i d_ij, in which weights meet with their
 * signs. The lesser of the two ways counts.
 *
 * M, S, E as numbers for a box (from ranges, S by interval arithmetic), or as k + s R, both coefficients not negative, for all |x| <= R
 * (M and S then the sums of absolute values): the recursion is linear in R, so one pass serves every R. What is added up
 * here is not negative; each result is raised by a bound of its own rounding (certify/rounding.h). */
#include "certify/float_error.h"

#include <assert.h>
#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "certify/rounding.h"
#include "certify/splits.h"

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
    linear *local; /* n_x + n_r: L of (2); of an input its rounding */
    double *on, *may; /* n_r: the least and the largest s */
    double *low, *high, *mag; /* n_x + n_r: lambda, and the sum of absolute values that it was made of */
    double *lower, *upper; /* n_x + n_r: ranges of [x, r], in a box */
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

/* One row as it is summed. */
typedef struct row_sum {
    linear error; /* e of (1) */
    linear local; /* L of (2) */
    linear size; /* sum of |c_j| M_j and |d| */
    linear computed; /* the same of what is computed */
    double lower, upper; /* of the exact partial sum, in a box */
    double slack; /* a bound of what rounding does to lower and upper, for a size of 1 */
} row_sum;

static linear partial_sum(const analysis *a, const row_sum *s) {
    if (!a->ranges) return s->size;
    return (linear){esp_max(esp_abs(s->lower), esp_abs(s->upper)) + s->slack * s->size.k, 0};
}

/* (1) for the coefficients c of v[first], v[first + 1], ... */
static void add_terms(const analysis *a, const double *c, size_t n, size_t first, row_sum *to) {
    double u = a->format.u, tiny = a->format.tiny;
    for (size_t j = 0; j < n; j++) {
        if (c[j] == 0) continue;
        size_t v = first + j;
        double c_hat = esp_abs(rounded(&a->format, c[j])), off = esp_abs(rounded(&a->format, c[j]) - c[j]);
        add(&to->error, off, a->m[v]);
        add(&to->error, c_hat * (1 + u), a->e[v]);
        add(&to->error, c_hat * u, a->m[v]);
        add(&to->local, off + c_hat * u, a->m[v]);
        add(&to->local, off + c_hat * u, a->e[v]);
        add(&to->size, fabs(c[j]), a->m[v]);
        add(&to->computed, c_hat, a->m[v]);
        add(&to->computed, c_hat, a->e[v]);
        to->lower += c[j] * (c[j] > 0 ? a->lower[v] : a->upper[v]);
        to->upper += c[j] * (c[j] > 0 ? a->upper[v] : a->lower[v]);
        linear partial = partial_sum(a, to);
        add(&to->local, u, to->error);
        add(&to->local, u, partial);
        add(&to->error, u, to->error);
        add(&to->error, u, partial);
        to->local.k += 4 * tiny;
        to->error.k += 4 * tiny;
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

/* The error of row d + c x + w r, r the first n_r ReLUs; the size, when not NULL, is that of the exact value. */
static linear row_error(analysis *a, double d, const double *c, const double *w, size_t n_r, linear *ret_size, linear *ret_local) {
    size_t n_x = (size_t)a->program->n_x, roundings = 16 * (n_x + n_r) + 64;
    double d_hat = rounded(&a->format, d);
    linear off = {esp_abs(d_hat - d), 0};
    row_sum s = {off, off, {fabs(d), 0}, {esp_abs(d_hat), 0}, d, d, esp_gamma(roundings)};
    add_terms(a, c, n_x, 0, &s);
    add_terms(a, w, n_r, n_x, &s);
    check_overflow(a, up(s.computed, roundings));
    if (ret_size) *ret_size = up(s.size, roundings);
    *ret_local = up(s.local, roundings);
    return up(s.error, roundings);
}

static void begin(analysis *a, const esp_box *box) {
    for (int j = 0; j < a->program->n_x; j++) {
        a->lower[j] = box ? box->lower[j] : 0;
        a->upper[j] = box ? box->upper[j] : 0;
        a->m[j] = box ? (linear){esp_max(fabs(box->lower[j]), fabs(box->upper[j])), 0} : (linear){0, 1};
        a->e[j] = a->local[j] = (linear){0, 0};
        if (!a->format.single) continue;
        a->e[j] = a->local[j] = up((linear){a->m[j].k * a->format.u + a->format.tiny, a->m[j].s * a->format.u}, 4);
        check_overflow(a, a->m[j]);
    }
}

/* ReLU i after its row. */
static void pass_relu(analysis *a, int i, linear size, linear error) {
    int v = a->program->n_x + i;
    a->m[v] = size;
    a->e[v] = error;
    a->on[i] = 0;
    a->may[i] = 1;
    if (!a->ranges) return;
    double lower = a->ranges->p_lower[i], upper = a->ranges->p_upper[i];
    bool off = upper + error.k * (1 + 4 * ESP_U) < -4 * ESP_U * fabs(upper);
    if (lower - error.k * (1 + 4 * ESP_U) > 4 * ESP_U * fabs(lower)) a->on[i] = 1;
    if (off) a->may[i] = 0;
    a->upper[v] = off ? 0 : esp_min(size.k, esp_max(upper, 0));
    a->lower[v] = off ? 0 : esp_min(a->upper[v], esp_max(lower, 0));
    a->m[v] = (linear){a->upper[v], 0};
    if (off) a->e[v] = (linear){0, 0};
}

/* lambda += [low, high] w (n); each that gets anything is off by gamma times `mag` at most. */
static void slope_add(const analysis *a, size_t first, size_t n, const double *w, double low, double high) {
    double size = esp_max(fabs(low), fabs(high));
    for (size_t j = 0; j < n; j++) {
        if (w[j] == 0) continue;
        a->low[first + j] += w[j] > 0 ? low * w[j] : high * w[j];
        a->high[first + j] += w[j] > 0 ? high * w[j] : low * w[j];
        a->mag[first + j] += size * fabs(w[j]);
    }
}

/* Way (2) for output k, whose own row adds `local`. */
static linear slope_error(const analysis *a, int k, linear local) {
    const esp_program *p = a->program;
    size_t n_x = (size_t)p->n_x, n_r = (size_t)p->n_r, roundings = 8 * (n_x + n_r) + 64;
    double gamma = esp_gamma(roundings);
    for (size_t j = 0; j < n_x + n_r; j++) a->low[j] = a->high[j] = a->mag[j] = 0;
    slope_add(a, 0, n_x, p->a + (size_t)k * n_x, 1, 1);
    slope_add(a, n_x, n_r, p->b + (size_t)k * n_r, 1, 1);
    linear sum = local;
    for (size_t i = n_r; i-- > 0;) {
        size_t v = n_x + i;
        double slack = gamma * a->mag[v] + (a->mag[v] > 0 ? ESP_TINY * (double)roundings : 0);
        double low = a->low[v] - slack, high = a->high[v] + slack;
        low = low < 0 ? low * a->may[i] : low * a->on[i];
        high = high > 0 ? high * a->may[i] : high * a->on[i];
        if (low == 0 && high == 0) continue;
        add(&sum, esp_max(fabs(low), fabs(high)), a->local[v]);
        slope_add(a, 0, n_x, p->c + i * n_x, low, high);
        slope_add(a, n_x, i, p->d + i * n_r, low, high);
    }
    for (size_t j = 0; j < n_x; j++) add(&sum, esp_max(fabs(a->low[j]), fabs(a->high[j])) + gamma * a->mag[j], a->local[j]);
    return up(sum, roundings);
}

/* The lesser of both ways; NaN counts as nothing known. For every R: in the slope, or else in the constant. */
static linear lesser(const analysis *a, linear v, linear w) {
    bool whole = isfinite(w.k) && isfinite(w.s);
    return whole && (a->ranges ? w.k < v.k : w.s < v.s || (w.s <= v.s && w.k < v.k)) ? w : v;
}

/* Errors of the outputs, added to ret. */
static void run(analysis *a, const esp_box *box, linear *ret) {
    const esp_program *p = a->program;
    size_t n_x = (size_t)p->n_x, n_r = (size_t)p->n_r;
    begin(a, box);
    for (int i = 0; i < p->n_r; i++) {
        linear size = {0, 0};
        linear error = row_error(a, p->d0[i], p->c + (size_t)i * n_x, p->d + (size_t)i * n_r, (size_t)i, &size, &a->local[n_x + (size_t)i]);
        pass_relu(a, i, size, error);
    }
    for (int k = 0; k < p->n_y; k++) {
        linear local, error = row_error(a, p->c0[k], p->a + (size_t)k * n_x, p->b + (size_t)k * n_r, n_r, NULL, &local);
        error = lesser(a, error, slope_error(a, k, local));
        ret[k] = up((linear){ret[k].k + error.k, ret[k].s + error.s}, 1);
    }
}

/* In float, and in double. */
static esp_code analyse(const esp_program *program, const esp_box *box, const esp_ranges *ranges, linear *ret, double *ret_radius, bool *ret_overflow,
                        esp_error *reterr) {
    const format formats[2] = {{(double)FLT_EPSILON / 2, (double)FLT_MIN, (double)FLT_MAX, true}, {ESP_U, ESP_TINY, DBL_MAX, false}};
    size_t n = (size_t)program->n_x + (size_t)program->n_r;
    linear *block = calloc(3 * n, sizeof *block);
    double *ends = calloc(7 * n, sizeof *ends);
    if (!block || !ends) {
        free(block);
        free(ends);
        return esp_fail(reterr, ESP_NOMEM, "no memory for the errors of %d ReLUs", program->n_r);
    }
    *ret_radius = (double)FLT_MAX;
    *ret_overflow = false;
    for (int k = 0; k < 2; k++) {
        analysis a = {.program = program, .ranges = ranges, .format = formats[k], .m = block, .e = block + n, .local = block + 2 * n};
        double **const arrays[] = {&a.lower, &a.upper, &a.on, &a.may, &a.low, &a.high, &a.mag};
        for (size_t i = 0; i < sizeof arrays / sizeof *arrays; i++) *arrays[i] = ends + i * n;
        a.radius = *ret_radius;
        run(&a, box, ret);
        *ret_radius = a.radius;
        *ret_overflow = *ret_overflow || a.overflow;
    }
    free(block);
    free(ends);
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

typedef struct parts {
    const esp_program *program;
    esp_ranges *ranges;
    esp_error *error;
    esp_code code;
} parts;

/* One part of the box. An input is to blame by what it moves the first ReLUs by. */
static void bound_part(void *user, const double *lower, const double *upper, double *ret_values, double *ret_blame) {
    parts *s = user;
    const esp_program *p = s->program;
    double ends[2][ESP_MAX_WIDTH];
    for (int k = 0; k < p->n_x; k++) {
        ends[0][k] = lower[k];
        ends[1][k] = upper[k];
        ret_blame[k] = 0;
        for (int i = 0; i < p->n_r; i++) ret_blame[k] += fabs(p->c[(size_t)i * (size_t)p->n_x + (size_t)k]) * (upper[k] - lower[k]);
    }
    for (int k = 0; k < p->n_y; k++) ret_values[k] = HUGE_VAL;
    const esp_box box = {p->n_x, ends[0], ends[1]};
    if (!s->code) s->code = esp_bounds_crown(p, &box, NULL, s->ranges, s->error);
    if (!s->code) s->code = esp_float_error_box(p, &box, s->ranges, ret_values, s->error);
}

esp_code esp_float_error_split(const esp_program *program, const esp_box *box, int leaves, double *ret_error, esp_error *reterr) {
    parts s = {.program = program, .error = reterr};
    esp_buf tree = {0};
    int n_leaves = 0, n_y = program->n_y;
    const char *status;
    double *reached = calloc(2 * (size_t)n_y, sizeof *reached), *values = reached ? reached + n_y : NULL;
    esp_code code = reached ? esp_ranges_create(program->n_r, n_y, &s.ranges, reterr) : esp_fail(reterr, ESP_NOMEM, "no memory for %d outputs", n_y);
    if (code) goto out;
    const esp_splits_problem problem = {
        .n_in = box->n, .n_values = n_y, .n_goals = n_y, .bound = bound_part, .user = &s, .reached = reached, .max_leaves = leaves > 1 ? leaves : 1};
    code = esp_splits_run(&problem, box, NULL, 'f', values, &tree, &n_leaves, &status, reterr);
    if (!code) code = s.code;
    if (!code) memcpy(ret_error, values, (size_t)n_y * sizeof *ret_error);
out:
    esp_buf_done(&tree);
    esp_ranges_free(s.ranges);
    free(reached);
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
