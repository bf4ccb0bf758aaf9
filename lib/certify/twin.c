/* SPDX-License-Identifier: Apache-2.0
 * Bounds of the difference of two programs through the differences of their neurons.
 *
 * The variables are x, the differences D_i of f's ReLUs to their partners (or r_f,i itself for a ReLU without one), and r_g.
 * An expression over them is bounded by substitution from the last to the first, as in bounds.c:
 *
 *     r_g   by the two lines of CROWN in q
 *     D     by a line from above and one from below, each the tighter at the middle of the box of
 *             (a) the hull in delta:  D <= u (delta - l) / (u - l), D >= l (u - delta) / (u - l), or 0 and delta when
 *                 delta has one sign: D lies between 0 and delta
 *             (b) side by side: D = r_f - r_g with r_f by its own lines in p = delta + q, r_g left standing
 *           and exactly when the partners are both on (D = delta), both off (D = 0), or each of them one of the two (b)
 *
 * (a) vanishes with delta, (b) is what CROWN on both would do and wins where the partners differ much. A line from below
 * of (a) is minus the line above of max(0, -delta), so esp_chord serves both.
 *
 * Rounding. As in bounds.c: a coefficient that was built from products whose absolute values sum to M is off by at most
 * gamma M, and that times the largest |variable| is charged when the variable is eliminated. The entries C_f - C_g, ... are
 * rounded once, which is relative and within gamma. A slope s that is not 0 or 1 makes a rounded product U s: charged
 * gamma |U s| times the largest |argument of the line|. No charge is made for how a program is evaluated: bounds here are
 * of exact arithmetic, which is why two equal programs differ by exactly 0. The ranges of p and q that come in hold for
 * both. */
#include "certify/twin.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "certify/kernels.h"
#include "certify/tile.h"

/* One line around D_i: a delta + b q + e r_g + k, e 0 or -1. */
typedef struct line {
    double a, b, e, k;
} line;

/* Where a row is not zero. */
typedef struct band {
    int begin, end;
} band;

struct esp_twin {
    const esp_program *f, *g;
    int n_x, n_f, n_g, n_y;
    double gamma, tiny;
    double *qc, *qd, *q0; /* n_f x n_x, n_f x n_g, n_f: the rows of delta (of p_f without a partner); D's part is f's d */
    double *qa, *qb, *qy; /* n_y x n_x, n_y x n_g, n_y: the rows of y_f - y_g; D's part is f's b */
    double *x_mid, *x_rad, *x_abs; /* n_x */
    double *f_mid, *f_rad, *f_abs; /* n_f: ranges of D, or r_f */
    double *g_mid, *g_rad, *g_abs; /* n_g: ranges of r_g */
    double *arg_abs; /* n_f: the largest |delta|, or |p_f| */
    double *q_abs; /* n_g: the largest |q| */
    double *gap_f, *gap_g;
    double *slope, *offset, *below; /* n_g: the lines of r_g */
    double *up_x, *lo_x, *mag_x, *up_f, *lo_f, *mag_f, *up_g, *lo_g, *mag_g;
    esp_streams tile_x, tile_f, tile_g; /* n_x, n_f, n_g: some targets side by side */
    double *noise_f, *noise_g; /* n_f, n_g: what p - q (or p_f) and q can be off by; all 0 for exact programs */
    bool within; /* boxes lie in an earlier one */
    const esp_crown *loose; /* of the difference program, with its slack; borrowed, or NULL */
    double *slopes; /* n_f x n_x, the caller's, or NULL */
    double abs_sum; /* 1 + of all variables so far, for what underflows */
    line *above, *under; /* n_f */
    band *row_f, *row_q, *row_g; /* of D_f row i, of qd row i (n_f), of D_g row j (n_g) */
    int *pair, *inverse; /* n_f, n_g */
    int *order; /* n_f + n_g: a ReLU i of f as i, j of g as -1 - j; partners of g first */
    bool *last; /* n_f + n_g: does a level end here? */
    int *start_f, *start_g; /* n_f: of all before ReLU i, the first so many of f and of g are in its row or can come into it */
};

typedef struct expression {
    double up, lo, mag; /* constants */
    double error; /* charged so far */
    double best_up, best_lo;
    int m_f, m_g; /* variables not yet eliminated: the first of each */
} expression;

/* ---- pairs and order ---------------------------------------------------------------------------------------------- */

bool esp_twin_pairs(const esp_net *f, const esp_net *g, int *ret_pairs) {
    int relus = esp_net_relus(f), i = 0, j = 0;
    for (int k = 0; k < relus; k++) ret_pairs[k] = -1;
    if (f->n_layers != g->n_layers) return false;
    for (int k = 0; k < f->n_layers; k++)
        if (f->layers[k].n_out != g->layers[k].n_out) return false;
    for (int k = 0; k < f->n_layers; k++) {
        for (int n = 0; n < f->layers[k].n_out; n++) {
            bool in_f = f->layers[k].act[n] == ESP_ACT_RELU, in_g = g->layers[k].act[n] == ESP_ACT_RELU;
            if (in_f && in_g) ret_pairs[i] = j;
            i += in_f;
            j += in_g;
        }
    }
    return true;
}

/* Ends of levels, by ReLU. */
static bool level_ends(const esp_program *p, int relu) {
    for (int level = 0; level < p->n_levels; level++)
        if (p->level_end[level] == relu + 1) return true;
    return false;
}

/* Merges the two orders so that everything stands after what it depends on; false when the partners cross. */
static bool order_fill(esp_twin *t) {
    int i = 0, j = 0, n = 0;
    while (i < t->n_f || j < t->n_g) {
        if (j < t->n_g && t->inverse[j] < 0) {
            t->last[n] = level_ends(t->g, j);
            t->order[n++] = -1 - j++;
        } else if (i < t->n_f && t->pair[i] < 0) {
            t->last[n] = level_ends(t->f, i);
            t->order[n++] = i++;
        } else if (i < t->n_f && j < t->n_g && t->pair[i] == j) {
            t->order[n++] = -1 - j++;
            t->last[n] = level_ends(t->f, i);
            t->order[n++] = i++;
        } else {
            return false;
        }
    }
    return true;
}

static bool pairs_fill(esp_twin *t, const int *pairs) {
    for (int j = 0; j < t->n_g; j++) t->inverse[j] = -1;
    for (int i = 0; i < t->n_f; i++) {
        t->pair[i] = pairs[i];
        if (pairs[i] < 0) continue;
        if (pairs[i] >= t->n_g || t->inverse[pairs[i]] >= 0) return false;
        t->inverse[pairs[i]] = i;
    }
    return order_fill(t);
}

/* ---- life --------------------------------------------------------------------------------------------------------- */

static band band_of(const double *row, int n) {
    band b = {0, n};
    while (b.begin < n && row[b.begin] == 0) b.begin++;
    while (b.end > b.begin && row[b.end - 1] == 0) b.end--;
    return b;
}

/* What stands before r_g when r_f = D + r_g is put in: (row of f)(partner of m) - (row of g)(m), of which the first
 * m_f and m_g entries are in use. */
static void mixed_row(const esp_twin *t, const double *f, int m_f, const double *g, int m_g, double *ret) {
    for (int m = 0; m < t->n_g; m++) {
        int i = t->inverse[m];
        ret[m] = (i >= 0 && i < m_f ? f[i] : 0) - (m < m_g ? g[m] : 0);
    }
}

static void rows_fill(esp_twin *t) {
    size_t n_x = (size_t)t->n_x, n_f = (size_t)t->n_f, n_g = (size_t)t->n_g;
    const esp_program *f = t->f, *g = t->g;
    for (size_t i = 0; i < n_f; i++) {
        bool paired = t->pair[i] >= 0;
        size_t j = paired ? (size_t)t->pair[i] : 0;
        for (size_t k = 0; k < n_x; k++) t->qc[i * n_x + k] = f->c[i * n_x + k] - (paired ? g->c[j * n_x + k] : 0);
        mixed_row(t, f->d + i * n_f, (int)i, g->d + j * n_g, (int)j, t->qd + i * n_g); /* j = 0: nothing of g */
        t->q0[i] = f->d0[i] - (paired ? g->d0[j] : 0);
        t->row_f[i] = band_of(f->d + i * n_f, (int)i);
        t->row_q[i] = band_of(t->qd + i * n_g, t->n_g);
    }
    for (size_t j = 0; j < n_g; j++) t->row_g[j] = band_of(g->d + j * n_g, (int)j);
    for (size_t i = 0; i < (size_t)t->n_y; i++) {
        for (size_t k = 0; k < n_x; k++) t->qa[i * n_x + k] = f->a[i * n_x + k] - g->a[i * n_x + k];
        mixed_row(t, f->b + i * n_f, t->n_f, g->b + i * n_g, t->n_g, t->qb + i * n_g);
        t->qy[i] = f->c0[i] - g->c0[i];
    }
}

/* A row uses nothing from the last variable in it on: where substitution of it starts. */
static void starts_fill(esp_twin *t) {
    int seen_f = 0, seen_g = 0;
    for (int i = 0; i < t->n_f; i++) t->start_f[i] = t->start_g[i] = 0;
    for (int n = 0; n < t->n_f + t->n_g; n++) {
        int node = t->order[n];
        seen_f += node >= 0;
        seen_g += node < 0;
        for (int i = 0; i < t->n_f; i++) {
            bool in_row = node >= 0 ? t->row_f[i].begin < t->row_f[i].end && node < t->row_f[i].end
                                    : t->row_q[i].begin < t->row_q[i].end && -1 - node < t->row_q[i].end;
            if (!in_row) continue;
            t->start_f[i] = seen_f;
            t->start_g[i] = seen_g;
        }
    }
}

static void twin_carve(esp_twin *t, double *at) {
    size_t n_x = (size_t)t->n_x, n_f = (size_t)t->n_f, n_g = (size_t)t->n_g, n_y = (size_t)t->n_y;
    double **of_x[] = {&t->x_mid, &t->x_rad, &t->x_abs, &t->up_x, &t->lo_x, &t->mag_x};
    double **of_f[] = {&t->f_mid, &t->f_rad, &t->f_abs, &t->arg_abs, &t->gap_f, &t->up_f, &t->lo_f, &t->mag_f, &t->q0, &t->noise_f};
    double **of_g[] = {&t->g_mid,  &t->g_rad, &t->g_abs, &t->q_abs, &t->gap_g, &t->slope,
                       &t->offset, &t->below, &t->up_g,  &t->lo_g,  &t->mag_g, &t->noise_g};
    for (size_t k = 0; k < sizeof of_x / sizeof *of_x; k++) *of_x[k] = esp_carve(&at, n_x);
    for (size_t k = 0; k < sizeof of_f / sizeof *of_f; k++) *of_f[k] = esp_carve(&at, n_f);
    for (size_t k = 0; k < sizeof of_g / sizeof *of_g; k++) *of_g[k] = esp_carve(&at, n_g);
    t->qc = esp_carve(&at, n_f * n_x);
    t->qd = esp_carve(&at, n_f * n_g);
    t->qa = esp_carve(&at, n_y * n_x);
    t->qb = esp_carve(&at, n_y * n_g);
    t->qy = esp_carve(&at, n_y);
    double **tiles[] = {&t->tile_x.up,  &t->tile_x.lo, &t->tile_x.mag, &t->tile_f.up, &t->tile_f.lo,
                        &t->tile_f.mag, &t->tile_g.up, &t->tile_g.lo,  &t->tile_g.mag};
    for (int k = 0; k < 9; k++) *tiles[k] = esp_carve(&at, ESP_LANES * (k < 3 ? n_x : k < 6 ? n_f : n_g));
    t->above = (line *)(void *)esp_carve(&at, 4 * n_f);
    t->under = (line *)(void *)esp_carve(&at, 4 * n_f);
}

static size_t twin_doubles(size_t n_x, size_t n_f, size_t n_g, size_t n_y) {
    return 6 * n_x + 10 * n_f + 12 * n_g + (n_f + n_y) * (n_x + n_g) + n_y + 8 * n_f + 3 * ESP_LANES * (n_x + n_f + n_g);
}

esp_code esp_twin_create(const esp_program *f, const esp_program *g, const int *pairs, esp_twin **ret_twin, esp_error *reterr) {
    if (f->n_x != g->n_x || f->n_y != g->n_y)
        return esp_fail(reterr, ESP_INVALID, "a model of %d to %d numbers cannot be compared with one of %d to %d", f->n_x, f->n_y, g->n_x, g->n_y);
    size_t n_x = (size_t)f->n_x, n_f = (size_t)f->n_r, n_g = (size_t)g->n_r, n_y = (size_t)f->n_y;
    esp_twin *t = calloc(1, sizeof *t);
    double *numbers = calloc(twin_doubles(n_x, n_f, n_g, n_y) + 1, sizeof *numbers);
    band *bands = calloc(2 * n_f + n_g + 1, sizeof *bands);
    int *ints = calloc(4 * n_f + 2 * n_g + 1, sizeof *ints);
    bool *last = calloc(n_f + n_g + 1, sizeof *last);
    if (!t || !numbers || !bands || !ints || !last) {
        free(t);
        free(numbers);
        free(bands);
        free(ints);
        free(last);
        return esp_fail(reterr, ESP_NOMEM, "no memory to compare %zu with %zu ReLUs", n_f, n_g);
    }
    *t = (esp_twin){.f = f, .g = g, .n_x = f->n_x, .n_f = f->n_r, .n_g = g->n_r, .n_y = f->n_y, .last = last};
    /* A coefficient of r_g can gain one product from each row of either and one from each D. */
    size_t roundings = 4 * (n_f + n_g) + n_x + n_y + 64;
    t->gamma = esp_gamma(roundings);
    t->tiny = (double)roundings * ESP_TINY;
    t->x_mid = numbers; /* heads the block */
    twin_carve(t, numbers);
    t->row_f = bands;
    t->row_q = bands + n_f;
    t->row_g = bands + 2 * n_f;
    t->pair = ints;
    t->inverse = ints + n_f;
    t->start_f = t->inverse + n_g;
    t->start_g = t->start_f + n_f;
    t->order = t->start_g + n_f;
    if (!pairs_fill(t, pairs)) {
        esp_twin_free(t);
        return esp_fail(reterr, ESP_INVALID, "partners must be ReLUs of the other program, in the same order");
    }
    rows_fill(t);
    starts_fill(t);
    *ret_twin = t;
    return ESP_OK;
}

void esp_twin_free(esp_twin *twin) {
    if (!twin) return;
    free(twin->x_mid);
    free(twin->row_f);
    free(twin->pair);
    free(twin->last);
    free(twin);
}

void esp_twin_box(esp_twin *t, const double *lower, const double *upper) {
    t->abs_sum = 1;
    for (int k = 0; k < t->n_x; k++) {
        assert(lower[k] <= upper[k] && isfinite(lower[k]) && isfinite(upper[k]));
        esp_centre(lower[k], upper[k], &t->x_mid[k], &t->x_rad[k]);
        t->x_abs[k] = esp_max(fabs(lower[k]), fabs(upper[k]));
        t->abs_sum += t->x_abs[k];
    }
}

void esp_twin_watch(esp_twin *twin, double *slopes) {
    twin->slopes = slopes;
}

/* ---- one target --------------------------------------------------------------------------------------------------- */

/* Bounds the expression as it stands by the ranges of what is left in it. */
static void concretise(const esp_twin *t, expression *e) {
    esp_sums x = esp_concretise(t->n_x, t->up_x, t->lo_x, t->mag_x, t->x_mid, t->x_rad, t->x_abs);
    esp_sums f = esp_concretise(e->m_f, t->up_f, t->lo_f, t->mag_f, t->f_mid, t->f_rad, t->f_abs);
    esp_sums g = esp_concretise(e->m_g, t->up_g, t->lo_g, t->mag_g, t->g_mid, t->g_rad, t->g_abs);
    double mag = e->mag + x.mag + f.mag + g.mag;
    double error = (e->error + t->gamma * mag) * (1 + t->gamma);
    double up = e->up + x.up + f.up + g.up + error, lo = e->lo + x.lo + f.lo + g.lo - error;
    if (up < e->best_up) e->best_up = up;
    if (lo > e->best_lo) e->best_lo = lo;
}

/* Is any variable that can be other than 0 left with a coefficient? */
static bool anything(int n, const double *mag, const double *big) {
    int any = 0;
    for (int k = 0; k < n; k++) any |= mag[k] > 0 && big[k] > 0;
    return any;
}

/* The expression a0 + ax' x + af' D + ag' r_g of the first m_f, m_g variables, bounded by intervals; false when it is a constant. */
static bool expression_start(esp_twin *t, double a0, const double *ax, const double *af, const double *ag, int m_f, int m_g, expression *ret) {
    (void)esp_copy_row(t->n_x, ax, t->up_x, t->lo_x, t->mag_x);
    (void)esp_copy_row(m_f, af, t->up_f, t->lo_f, t->mag_f);
    (void)esp_copy_row(m_g, ag, t->up_g, t->lo_g, t->mag_g);
    bool any = anything(t->n_x, t->mag_x, t->x_abs) || anything(m_f, t->mag_f, t->f_abs) || anything(m_g, t->mag_g, t->g_abs);
    if (!any) { /* rounded at most once, where two constants were subtracted */
        double slack = 2 * ESP_U * fabs(a0);
        *ret = (expression){a0, a0, 0, 0, a0 + slack, a0 - slack, m_f, m_g};
        return false;
    }
    *ret = (expression){a0, a0, fabs(a0), t->tiny * t->abs_sum, HUGE_VAL, -HUGE_VAL, m_f, m_g};
    concretise(t, ret);
    return true;
}

static inline bool is_rounded(double slope) {
    return slope != 0 && slope != 1;
}

static void add_g_row(esp_twin *t, int j, double up, double lo, double mag, expression *e) {
    const esp_program *g = t->g;
    if (t->noise_g[j] > 0) e->error += mag * t->noise_g[j];
    band b = t->row_g[j];
    const double *d = g->d + (size_t)j * (size_t)t->n_g;
    esp_add_row(b.end - b.begin, up, lo, mag, d + b.begin, t->up_g + b.begin, t->lo_g + b.begin, t->mag_g + b.begin);
    esp_add_row(t->n_x, up, lo, mag, g->c + (size_t)j * (size_t)t->n_x, t->up_x, t->lo_x, t->mag_x);
    e->up += up * g->d0[j];
    e->lo += lo * g->d0[j];
    e->mag += mag * fabs(g->d0[j]);
}

static void add_f_row(esp_twin *t, int i, double up, double lo, double mag, expression *e) {
    band b = t->row_f[i], q = t->row_q[i];
    if (t->noise_f[i] > 0) e->error += mag * t->noise_f[i];
    const double *d = t->f->d + (size_t)i * (size_t)t->n_f, *qd = t->qd + (size_t)i * (size_t)t->n_g;
    esp_add_row(b.end - b.begin, up, lo, mag, d + b.begin, t->up_f + b.begin, t->lo_f + b.begin, t->mag_f + b.begin);
    esp_add_row(q.end - q.begin, up, lo, mag, qd + q.begin, t->up_g + q.begin, t->lo_g + q.begin, t->mag_g + q.begin);
    esp_add_row(t->n_x, up, lo, mag, t->qc + (size_t)i * (size_t)t->n_x, t->up_x, t->lo_x, t->mag_x);
    e->up += up * t->q0[i];
    e->lo += lo * t->q0[i];
    e->mag += mag * fabs(t->q0[i]);
}

static bool substitute_g(esp_twin *t, int j, expression *e) {
    double up = t->up_g[j], lo = t->lo_g[j], mag = t->mag_g[j];
    double slope = t->slope[j], below = t->below[j], offset = t->offset[j];
    if (mag == 0 || t->g_abs[j] == 0) return false; /* absent, or off */
    double a_up = up >= 0 ? up * slope : up * below, a_lo = lo >= 0 ? lo * below : lo * slope;
    double a_mag = esp_max(fabs(a_up), fabs(a_lo));
    double k_up = up >= 0 ? up * offset : 0, k_lo = lo >= 0 ? 0 : lo * offset;
    e->error += t->gamma * mag * t->g_abs[j] + (is_rounded(slope) ? t->gamma * a_mag * t->q_abs[j] : 0);
    e->up += k_up;
    e->lo += k_lo;
    e->mag += fabs(k_up) + fabs(k_lo);
    if (a_mag > 0) add_g_row(t, j, a_up, a_lo, a_mag, e);
    return true;
}

static bool substitute_f(esp_twin *t, int i, expression *e) {
    double up = t->up_f[i], lo = t->lo_f[i], mag = t->mag_f[i];
    if (mag == 0 || t->f_abs[i] == 0) return false; /* absent, or no difference */
    const line *u = up >= 0 ? &t->above[i] : &t->under[i], *l = lo >= 0 ? &t->under[i] : &t->above[i];
    double a_up = up * u->a, a_lo = lo * l->a, b_up = up * u->b, b_lo = lo * l->b;
    double a_mag = esp_max(fabs(a_up), fabs(a_lo)), b_mag = esp_max(fabs(b_up), fabs(b_lo));
    int j = t->pair[i];
    e->error += t->gamma * mag * t->f_abs[i];
    if (is_rounded(u->a) || is_rounded(l->a)) e->error += t->gamma * a_mag * t->arg_abs[i] + (j >= 0 ? t->gamma * b_mag * t->q_abs[j] : 0);
    e->up += up * u->k;
    e->lo += lo * l->k;
    e->mag += fabs(up * u->k) + fabs(lo * l->k);
    if (a_mag > 0) add_f_row(t, i, a_up, a_lo, a_mag, e);
    if (j < 0) return true;
    if (b_mag > 0) add_g_row(t, j, b_up, b_lo, b_mag, e);
    t->up_g[j] += up * u->e;
    t->lo_g[j] += lo * l->e;
    t->mag_g[j] += esp_max(fabs(up * u->e), fabs(lo * l->e));
    return true;
}

static void expression_substitute(esp_twin *t, expression *e) {
    bool changed = false;
    for (int n = e->m_f + e->m_g - 1; n >= 0; n--) {
        int node = t->order[n];
        if (changed && t->last[n]) {
            concretise(t, e);
            changed = false;
        }
        if (node >= 0) {
            changed |= substitute_f(t, node, e);
            e->m_f = node;
        } else {
            changed |= substitute_g(t, -1 - node, e);
            e->m_g = -1 - node;
        }
    }
    concretise(t, e);
}

/* ---- some targets side by side --------------------------------------------------------------------------------------- */

/* The same for pairs that do not depend on each other. */
typedef struct waiting {
    int n, i[ESP_LANES]; /* the pairs */
    int m_f, m_g; /* the first so many variables, of which all their rows are */
    esp_tile tile;
} waiting;

static void tile_concretise(const esp_twin *t, int m_f, int m_g, esp_tile *tile) {
    esp_lanes sums = {0};
    esp_tile_concretise(t->n_x, t->tile_x, t->x_mid, t->x_rad, t->x_abs, &sums);
    esp_tile_concretise(m_f, t->tile_f, t->f_mid, t->f_rad, t->f_abs, &sums);
    esp_tile_concretise(m_g, t->tile_g, t->g_mid, t->g_rad, t->g_abs, &sums);
    esp_tile_best(t->gamma, &sums, tile);
}

static void tile_add_g(esp_twin *t, int j, const esp_lanes *a, esp_tile *tile) {
    band b = t->row_g[j];
    tile->error += a->mag * t->noise_g[j];
    esp_tile_constant(a, t->g->d0[j], tile);
    esp_tile_add(b.end - b.begin, a, t->g->d + (size_t)j * (size_t)t->n_g + b.begin, esp_tile_from(t->tile_g, b.begin));
    esp_tile_add(t->n_x, a, t->g->c + (size_t)j * (size_t)t->n_x, t->tile_x);
}

static void tile_add_f(esp_twin *t, int i, const esp_lanes *a, esp_tile *tile) {
    band b = t->row_f[i], q = t->row_q[i];
    tile->error += a->mag * t->noise_f[i];
    esp_tile_constant(a, t->q0[i], tile);
    esp_tile_add(b.end - b.begin, a, t->f->d + (size_t)i * (size_t)t->n_f + b.begin, esp_tile_from(t->tile_f, b.begin));
    esp_tile_add(q.end - q.begin, a, t->qd + (size_t)i * (size_t)t->n_g + q.begin, esp_tile_from(t->tile_g, q.begin));
    esp_tile_add(t->n_x, a, t->qc + (size_t)i * (size_t)t->n_x, t->tile_x);
}

static bool tile_substitute_g(esp_twin *t, int j, esp_tile *tile) {
    esp_streams at = esp_tile_from(t->tile_g, j);
    esp_lanes c, a;
    if (t->g_abs[j] == 0 || !esp_tile_any(at.mag)) return false; /* off, or absent */
    esp_tile_first(at, &c);
    esp_tile_lines(t->slope[j], t->offset[j], t->below[j], 0, &c, &a, tile);
    tile->error += ESP_KEEP(c.mag != 0, t->gamma * c.mag * t->g_abs[j]);
    if (is_rounded(t->slope[j])) tile->error += t->gamma * a.mag * t->q_abs[j];
    tile_add_g(t, j, &a, tile);
    return true;
}

static bool tile_substitute_f(esp_twin *t, int i, esp_tile *tile) {
    esp_streams at = esp_tile_from(t->tile_f, i);
    const line *u = &t->above[i], *l = &t->under[i];
    int j = t->pair[i];
    esp_lanes c, a, b, e;
    if (t->f_abs[i] == 0 || !esp_tile_any(at.mag)) return false; /* no difference, or absent */
    esp_tile_first(at, &c);
    esp_tile_lines(u->a, u->k, l->a, l->k, &c, &a, tile);
    esp_tile_lines(u->b, 0, l->b, 0, &c, &b, tile);
    esp_tile_lines(u->e, 0, l->e, 0, &c, &e, tile);
    tile->error += ESP_KEEP(c.mag != 0, t->gamma * c.mag * t->f_abs[i]);
    if (is_rounded(u->a) || is_rounded(l->a)) tile->error += t->gamma * a.mag * t->arg_abs[i];
    tile_add_f(t, i, &a, tile);
    if (j < 0) return true;
    if (is_rounded(u->b) || is_rounded(l->b)) tile->error += t->gamma * b.mag * t->q_abs[j];
    if (u->b != 0 || l->b != 0) tile_add_g(t, j, &b, tile);
    if (u->e != 0 || l->e != 0) {
        const double one = 1;
        esp_tile_add(1, &e, &one, esp_tile_from(t->tile_g, j));
    }
    return true;
}

/* The first m_f and m_g variables of the lanes are gone through; with `start` by intervals first. */
static void tile_run(esp_twin *t, int m_f, int m_g, bool start, esp_tile *tile) {
    bool changed = start;
    for (int n = m_f + m_g - 1; n >= 0; n--) {
        int node = t->order[n];
        if (changed && t->last[n]) {
            tile_concretise(t, m_f, m_g, tile);
            changed = false;
        }
        if (node >= 0) {
            changed |= tile_substitute_f(t, node, tile);
            m_f = node;
        } else {
            changed |= tile_substitute_g(t, -1 - node, tile);
            m_g = -1 - node;
        }
    }
    tile_concretise(t, m_f, m_g, tile);
}

/* The rows of all that wait into the lanes; lanes that are left over get the first row, and nobody takes their results. */
static void tile_fill(esp_twin *t, waiting *w) {
    esp_vector *const constants[] = {&w->tile.up, &w->tile.lo, &w->tile.mag, &w->tile.error, &w->tile.best_up, &w->tile.best_lo};
    for (int lane = 0; lane < ESP_LANES; lane++) {
        size_t i = (size_t)w->i[lane < w->n ? lane : 0];
        esp_tile_put(t->n_x, t->qc + i * (size_t)t->n_x, lane, t->tile_x);
        esp_tile_put(w->m_f, t->f->d + i * (size_t)t->n_f, lane, t->tile_f);
        esp_tile_put(w->m_g, t->qd + i * (size_t)t->n_g, lane, t->tile_g);
        for (int k = 0; lane >= w->n && k < 6; k++) (*constants[k])[lane] = (*constants[k])[0];
    }
}

/* ---- the lines ---------------------------------------------------------------------------------------------------- */

static double line_at(const line *l, double delta, double q, double r) {
    return l->a * delta + l->b * q + l->e * r + l->k;
}

/* The lines of r_g,j from the range of q. */
static void relax_g(esp_twin *t, int j, double l, double u) {
    esp_centre(esp_max(l, 0), esp_max(u, 0), &t->g_mid[j], &t->g_rad[j]);
    t->g_abs[j] = esp_max(u, 0);
    t->q_abs[j] = esp_max(fabs(l), fabs(u));
    t->abs_sum += t->q_abs[j];
    bool stable = l >= 0 || u <= 0;
    t->slope[j] = u <= 0 ? 0 : 1;
    t->offset[j] = 0;
    if (!stable) esp_chord(l, u, &t->slope[j], &t->offset[j]);
    t->gap_g[j] = t->offset[j];
    t->below[j] = stable ? t->slope[j] : u > -l ? 1 : 0;
}

/* The two lines of max(0, p), p in [l, u], in p. */
static void relu_lines(double l, double u, double *ret_slope, double *ret_offset, double *ret_below) {
    *ret_slope = *ret_below = u <= 0 ? 0 : 1;
    *ret_offset = 0;
    if (l >= 0 || u <= 0) return;
    esp_chord(l, u, ret_slope, ret_offset);
    *ret_below = u > -l ? 1 : 0;
}

static void range_f(esp_twin *t, int i, double l, double u, double arg) {
    esp_centre(l, u, &t->f_mid[i], &t->f_rad[i]);
    t->f_abs[i] = esp_max(fabs(l), fabs(u));
    t->arg_abs[i] = arg;
    t->abs_sum += arg;
}

/* A ReLU of f without a partner: the variable is r_f, the row is p. */
static void relax_alone(esp_twin *t, int i, double l, double u) {
    double slope, offset, below;
    relu_lines(l, u, &slope, &offset, &below);
    t->above[i] = (line){slope, 0, 0, offset};
    t->under[i] = (line){below, 0, 0, 0};
    t->gap_f[i] = offset;
    range_f(t, i, esp_max(l, 0), esp_max(u, 0), esp_max(fabs(l), fabs(u)));
}

/* The hull of D over delta in [l, u]. */
static void hull(double l, double u, line *above, line *under) {
    *above = (line){l >= 0 ? 1 : 0, 0, 0, 0};
    *under = (line){u <= 0 ? 1 : 0, 0, 0, 0};
    if (l >= 0 || u <= 0) return;
    esp_chord(l, u, &above->a, &above->k);
    esp_chord(-u, -l, &under->a, &under->k); /* max(0, -delta) <= a (-delta) + k */
    under->k = -under->k;
}

/* Partners, p in [pl, pu], q in [ql, qu], delta in [l, u]. */
static void relax_pair(esp_twin *t, int i, double pl, double pu, double ql, double qu, double l, double u) {
    int j = t->pair[i];
    double least = esp_max(esp_min(l, 0), -esp_max(qu, 0)), most = esp_min(esp_max(u, 0), esp_max(pu, 0)); /* also -r_g <= D <= r_f */
    bool off = pu <= 0 && qu <= 0, on = pl >= 0 && ql >= 0, stable = (pl >= 0 || pu <= 0) && (ql >= 0 || qu <= 0);
    t->gap_f[i] = 0;
    if (off) least = most = 0;
    if (on) least = l, most = u;
    range_f(t, i, least, esp_max(least, most), esp_max(fabs(l), fabs(u)));
    t->above[i] = t->under[i] = (line){on ? 1 : 0, 0, 0, 0};
    if (off || on) return;
    line above, under;
    double slope, offset, below;
    hull(l, u, &above, &under);
    relu_lines(pl, pu, &slope, &offset, &below);
    const line apart_above = {slope, slope, -1, offset}, apart_under = {below, below, -1, 0};
    /* At the middle; r_g, left standing, at the line that its coefficient -1 or +1 will meet. */
    double dm = 0.5 * l + 0.5 * u, qm = 0.5 * ql + 0.5 * qu, q_above = t->slope[j] * qm + t->offset[j], q_under = t->below[j] * qm;
    if (stable || line_at(&apart_above, dm, qm, q_under) < line_at(&above, dm, qm, q_under)) above = apart_above;
    if (stable || line_at(&apart_under, dm, qm, q_above) > line_at(&under, dm, qm, q_above)) under = apart_under;
    t->above[i] = above;
    t->under[i] = under;
    if (!stable) t->gap_f[i] = esp_max(0, line_at(&above, dm, qm, q_under) - line_at(&under, dm, qm, q_above));
}

/* ---- a run -------------------------------------------------------------------------------------------------------- */

static void watch(const esp_twin *t, int i) {
    double *row = t->slopes + (size_t)i * (size_t)t->n_x;
    for (int k = 0; k < t->n_x; k++) row[k] = 0.5 * (fabs(t->up_x[k]) + fabs(t->lo_x[k]));
}

/* a - b rounded towards -infinity or +infinity (sign -1 or 1), exact zeros kept. */
static double minus(double a, double b, int sign) {
    double d = a - b;
    return d + sign * 2 * ESP_U * fabs(d);
}

static void watch_lane(const esp_twin *t, int i, int lane) {
    double *row = t->slopes + (size_t)i * (size_t)t->n_x;
    for (int k = 0; k < t->n_x; k++) row[k] = 0.5 * (fabs(t->tile_x.up[k * ESP_LANES + lane]) + fabs(t->tile_x.lo[k * ESP_LANES + lane]));
}

/* What is known of the difference of pair i, and the ranges of both. */
typedef struct known {
    const esp_ranges *ranges;
    double *d_lower, *d_upper;
    bool backward;
} known;

/* The last word on pair i, whose difference has come to [lower, upper]: its lines. */
static bool settle_pair(esp_twin *t, int i, double lower, double upper, const known *k) {
    int j = t->n_f + t->pair[i];
    double pl = k->ranges->p_lower[i], pu = k->ranges->p_upper[i], ql = k->ranges->p_lower[j], qu = k->ranges->p_upper[j], noise = t->noise_f[i];
    double *lo = &k->d_lower[i], *hi = &k->d_upper[i];
    bool some = esp_intersect(minus(lower, noise, -1), minus(upper, -noise, 1), lo, hi);
    some = some && esp_intersect(minus(pl, qu, -1), minus(pu, ql, 1), lo, hi);
    if (some) relax_pair(t, i, pl, pu, ql, qu, *lo, *hi);
    return some;
}

/* Substitution for all that wait. */
static bool run_waiting(esp_twin *t, waiting *w, const known *k) {
    bool some = true;
    if (w->n == 0) return true;
    tile_fill(t, w);
    tile_run(t, w->m_f, w->m_g, t->within, &w->tile);
    for (int lane = 0; some && lane < w->n; lane++) {
        if (t->slopes) watch_lane(t, w->i[lane], lane);
        some = settle_pair(t, w->i[lane], w->tile.best_lo[lane], w->tile.best_up[lane], k);
    }
    w->n = w->m_f = w->m_g = 0;
    return some;
}

/* Among those that wait, having come to e so far. */
static bool put_off(esp_twin *t, int i, const expression *e, waiting *w, const known *k) {
    int lane = w->n++;
    w->i[lane] = i;
    if (t->start_f[i] + t->start_g[i] > w->m_f + w->m_g) {
        w->m_f = t->start_f[i];
        w->m_g = t->start_g[i];
    }
    w->tile.up[lane] = e->up;
    w->tile.lo[lane] = e->lo;
    w->tile.mag[lane] = e->mag;
    w->tile.error[lane] = e->error;
    w->tile.best_up[lane] = e->best_up;
    w->tile.best_lo[lane] = e->best_lo;
    return w->n < ESP_LANES || run_waiting(t, w, k);
}

/* The interval of the difference of pair i; where substitution may help it waits for that. */
static bool run_pair(esp_twin *t, int i, waiting *w, const known *k) {
    size_t at = (size_t)i;
    int j = t->n_f + t->pair[i];
    const esp_ranges *r = k->ranges;
    bool stable = (r->p_lower[i] >= 0 || r->p_upper[i] <= 0) && (r->p_lower[j] >= 0 || r->p_upper[j] <= 0);
    /* A stable pair is linear: no line needs its difference, and what is known of it (of an enclosing box, often) will do. */
    if (stable && isfinite(k->d_lower[i]) && isfinite(k->d_upper[i])) return settle_pair(t, i, k->d_lower[i], k->d_upper[i], k);
    if (t->within && k->backward && !stable && t->start_f[i] + t->start_g[i] > 0) {
        const expression open = {t->q0[i], t->q0[i], fabs(t->q0[i]), t->tiny * t->abs_sum, HUGE_VAL, -HUGE_VAL, 0, 0};
        return put_off(t, i, &open, w, k);
    }
    expression e;
    bool any = expression_start(t, t->q0[i], t->qc + at * (size_t)t->n_x, t->f->d + at * (size_t)t->n_f, t->qd + at * (size_t)t->n_g, t->start_f[i],
                                t->start_g[i], &e);
    if (any && k->backward && !stable && t->start_f[i] + t->start_g[i] > 0) return put_off(t, i, &e, w, k);
    if (t->slopes && !stable) watch(t, i);
    return settle_pair(t, i, e.best_lo, e.best_up, k);
}

/* What rows can be off by, from the crown that has just gone over the same box. */
static void take_noise(esp_twin *t) {
    for (int j = 0; j < t->n_g; j++) t->noise_g[j] = esp_crown_noise(t->loose, t->n_f + j);
    for (int i = 0; i < t->n_f; i++) t->noise_f[i] = esp_add_up(esp_crown_noise(t->loose, i), t->pair[i] >= 0 ? t->noise_g[t->pair[i]] : 0);
}

void esp_twin_loose(esp_twin *twin, const esp_crown *crown) {
    twin->loose = crown;
    if (crown) return;
    for (int i = 0; i < twin->n_f; i++) twin->noise_f[i] = 0;
    for (int j = 0; j < twin->n_g; j++) twin->noise_g[j] = 0;
}

bool esp_twin_run(esp_twin *t, const esp_ranges *ranges, bool backward, double *d_lower, double *d_upper) {
    assert(ranges->n_r == t->n_f + t->n_g && ranges->n_y == t->n_y);
    if (t->loose) take_noise(t);
    const known k = {ranges, d_lower, d_upper, backward};
    waiting w = {0};
    bool some = true;
    for (int n = 0, first = 0; some && n < t->n_f + t->n_g; n++) {
        int node = t->order[n];
        if (node < 0) {
            int j = -1 - node;
            relax_g(t, j, ranges->p_lower[t->n_f + j], ranges->p_upper[t->n_f + j]);
        } else if (t->pair[node] < 0) {
            relax_alone(t, node, ranges->p_lower[node], ranges->p_upper[node]);
        } else { /* a row may need one of those that wait; the first of them stands at `first` */
            if (w.n > 0 && t->start_f[node] + t->start_g[node] > first) some = run_waiting(t, &w, &k);
            if (w.n == 0) first = n;
            if (some) some = run_pair(t, node, &w, &k);
        }
    }
    return some && run_waiting(t, &w, &k);
}

bool esp_twin_output(esp_twin *t, bool backward, int i, double *lower, double *upper) {
    size_t at = (size_t)i;
    expression e;
    const double *b = t->f->b + at * (size_t)t->n_f;
    bool any = expression_start(t, t->qy[i], t->qa + at * (size_t)t->n_x, b, t->qb + at * (size_t)t->n_g, t->n_f, t->n_g, &e);
    if (any && backward) expression_substitute(t, &e);
    double noise = t->loose ? esp_crown_output_slack(t->loose, i) : 0;
    return esp_intersect(minus(e.best_lo, noise, -1), minus(e.best_up, -noise, 1), lower, upper);
}

/* The weighted rows of all outputs into the lanes. */
static void tile_weigh(esp_twin *t, int n, const double *weights, esp_tile *tile) {
    const esp_streams streams[] = {t->tile_x, t->tile_f, t->tile_g};
    const int sizes[] = {t->n_x, t->n_f, t->n_g};
    for (int k = 0; k < 3; k++) {
        size_t bytes = (size_t)sizes[k] * ESP_LANES * sizeof(double);
        memset(streams[k].up, 0, bytes);
        memset(streams[k].lo, 0, bytes);
        memset(streams[k].mag, 0, bytes);
    }
    const esp_vector zero = {0};
    *tile = (esp_tile){zero, zero, zero, zero + t->tiny * t->abs_sum, zero + HUGE_VAL, zero - HUGE_VAL};
    for (int i = 0; i < t->n_y; i++) {
        size_t at = (size_t)i;
        esp_lanes a = {zero, zero, zero};
        for (int lane = 0; lane < n; lane++) a.up[lane] = weights[(size_t)lane * (size_t)t->n_y + at];
        a.lo = a.up;
        a.mag = ESP_ABS(a.up);
        esp_tile_add(t->n_x, &a, t->qa + at * (size_t)t->n_x, t->tile_x);
        esp_tile_add(t->n_f, &a, t->f->b + at * (size_t)t->n_f, t->tile_f);
        esp_tile_add(t->n_g, &a, t->qb + at * (size_t)t->n_g, t->tile_g);
        esp_tile_constant(&a, t->qy[i], tile);
        if (t->loose) tile->error += a.mag * esp_crown_output_slack(t->loose, i);
    }
}

_Static_assert(ESP_TWIN_COMBINATIONS == ESP_LANES, "one lane each");

void esp_twin_combinations(esp_twin *t, int n, const double *weights, double *ret_lower, double *ret_upper) {
    esp_tile tile;
    assert(n <= ESP_LANES);
    tile_weigh(t, n, weights, &tile);
    tile_run(t, t->n_f, t->n_g, true, &tile);
    for (int lane = 0; lane < n; lane++) {
        ret_lower[lane] = tile.best_lo[lane] >= -DBL_MAX ? tile.best_lo[lane] : -HUGE_VAL;
        ret_upper[lane] = tile.best_up[lane] <= DBL_MAX ? tile.best_up[lane] : HUGE_VAL;
    }
}

esp_twin_view esp_twin_lane(esp_twin *t, int lane) {
    const double *const from[] = {t->tile_x.up, t->tile_x.lo, t->tile_f.up, t->tile_f.lo, t->tile_g.up, t->tile_g.lo};
    double *const to[] = {t->up_x, t->lo_x, t->up_f, t->lo_f, t->up_g, t->lo_g};
    const int sizes[] = {t->n_x, t->n_f, t->n_g};
    for (int s = 0; s < 6; s++)
        for (int k = 0; k < sizes[s / 2]; k++) to[s][k] = from[s][(size_t)k * ESP_LANES + (size_t)lane];
    return esp_twin_last(t);
}

void esp_twin_within(esp_twin *twin) {
    twin->within = true;
}

esp_twin_view esp_twin_last(const esp_twin *t) {
    return (esp_twin_view){t->up_x, t->lo_x, t->up_f, t->lo_f, t->up_g, t->lo_g};
}

double esp_twin_gap_f(const esp_twin *twin, int i) {
    return twin->gap_f[i];
}

double esp_twin_gap_g(const esp_twin *twin, int j) {
    return twin->gap_g[j];
}

int esp_twin_partner(const esp_twin *twin, int i) {
    return twin->pair[i];
}
