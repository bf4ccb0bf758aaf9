/* SPDX-License-Identifier: Apache-2.0
 * Interval arithmetic and CROWN over a ReLU program, proved. Not a verifier: one box in, ranges out; splitting is
 * difference.c, and nothing here looks at a cost or a constraint.
 *
 * What is bounded. esp_program_forward computes, for some order of its sums, p_i = d0_i + C_i x + D_i r + delta_i with
 *
 *     |delta_i| <= e_i = gamma (|d0_i| + sum |C_ij| |x_j| + sum |D_ij| r_j) + tiny                              (1)
 *
 * and exact arithmetic gives delta = 0. Both are members of the family "any |delta_i| <= e_i, r_i = max(0, p_i)
 * exactly", and it is that family whose ranges are derived: its ReLUs in order, each from the ranges of earlier ones.
 * e_i in (1) uses upper bounds of |x_j| and r_j, so it exists as soon as the earlier ranges do.
 *
 * Interval step. p_i lies in d0_i + C_i X + D_i R with the boxes X and R in centre and radius form, widened by e_i.
 *
 * CROWN step (Zhang et al., 2018). Two linear expressions in r_0..r_{i-1} and x, one above p_i and one below, start
 * as its row. From the last ReLU to the first, r_j is replaced by a linear bound in p_j, chosen by the sign of its
 * coefficient, and p_j by its row:
 *     above: r <= s p + t, s = u / (u - l), t = max(-s l, (1 - s) u)     (the chord; true for any s, so s may be rounded)
 *     below: r >= a p, a = 1 if u > -l else 0                           (0 and 1 multiply exactly)
 * A stable ReLU has both equal and exact. Before a level is substituted the expressions are also concretised over the
 * ranges as they stand and the best is kept: deep in an unrolled horizon the early stop often wins, and with no
 * substitution at all it is the interval step, so CROWN is never looser.
 *
 * Rounding of the substitution. Let U_k be the computed coefficient of r_k in one expression and M_k >= the sum of
 * absolute values of all products that were added into it, computed alongside. The exact coefficient differs by at
 * most gamma M_k + tiny, and r_k lies in [0, R_k], so charging (gamma M_k + tiny) R_k once, when r_k is eliminated,
 * makes it legitimate to go on with U_k as if it were exact. The same holds for x_k with |x_k| and for the constant.
 * Because the charge is made at each elimination, it grows with the coefficients as they are and not with the product of
 * absolute row sums: some 1e-13 relative for a few hundred ReLUs. Further charges: the product U_j s (relative u, times
 * |p_j|) and |U_j s| e_j for delta_j. All charges are summed into one error, raised by gamma for its own rounding, and
 * added to the upper and subtracted from the lower bound. gamma counts every rounding that any term can meet (the
 * accumulations, the concretisation, the last sums) and is twice the textbook value: see rounding.h.
 *
 * Overflow. M_k >= |U_k| also as computed, so an infinite or NaN coefficient makes the error infinite or NaN; a bound
 * that is not a finite number is then never taken (every comparison with NaN is false) and the range stays infinite.
 *
 * Cost. n ReLUs: n^2 / 2 row updates of n / 3 + n_x numbers on average in three streams (above, below, M), which
 * vectorise; zero coefficients and the zero blocks of D are skipped. */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "certify/bounds.h"
#include "certify/crown.h"
#include "certify/kernels.h"
#include "certify/rounding.h"
#include "certify/tile.h"

struct esp_crown {
    const esp_program *program;
    double gamma; /* pays for any sum that this program can give rise to */
    double tiny; /* ESP_TINY for each product of such a sum */
    double *x_mid, *x_rad, *x_abs; /* n_x: the box */
    double *r_mid, *r_rad, *r_abs; /* n_r: ranges of r */
    double *slope, *offset, *below; /* n_r: the relaxations; all 0 when off, 1 0 1 when on */
    double *gap; /* n_r */
    double *p_abs; /* n_r */
    double *noise; /* n_r: e_i of (1) */
    double *abs_sum; /* n_r + 1: sum of |x| and of |p| before each ReLU */
    double *up_r, *lo_r, *mag_r; /* n_r: the two expressions and M */
    double *up_x, *lo_x, *mag_x; /* n_x */
    esp_streams tile_x, tile_r; /* n_x, n_r: some targets side by side */
    double *slopes; /* n_r x n_x, the caller's, or NULL */
    const esp_stop *stop; /* borrowed, or NULL */
    const esp_program *slack; /* borrowed, or NULL */
    bool within; /* boxes lie in an earlier one, whose noise stands */
    int *level_last; /* n_r: 1 when the ReLU is the last of its level */
    int *row_begin; /* n_r: first column of D that its level uses */
    int *level_first; /* n_r: first ReLU of its level */
    int *reach; /* n_r: the first ReLU that substitution from its row can come to */
};

/* The expressions of one target while it is being bounded. */
typedef struct expression {
    double up, lo, mag; /* constants */
    double error; /* charged so far */
    double best_up, best_lo; /* the answer so far */
    int first, end; /* ReLUs that have, or will have, coefficients */
} expression;

/* ---- life -------------------------------------------------------------------------------------------------------- */

static void crown_levels(esp_crown *crown) {
    const esp_program *p = crown->program;
    int first = 0;
    for (int level = 0; level < p->n_levels; level++) {
        for (int i = first; i < p->level_end[level]; i++) {
            crown->row_begin[i] = p->level_begin[level];
            crown->level_last[i] = i == p->level_end[level] - 1;
        }
        int reach = p->level_begin[level];
        for (int k = reach; k < first; k++) /* ReLUs of earlier levels, whose reach is known */
            if (crown->reach[k] < reach) reach = crown->reach[k];
        for (int i = first; i < p->level_end[level]; i++) {
            crown->level_first[i] = first;
            crown->reach[i] = reach;
        }
        first = p->level_end[level];
    }
}

static void crown_carve(esp_crown *crown, double *at, size_t n_x, size_t n_r) {
    double **x_arrays[] = {&crown->x_mid, &crown->x_rad, &crown->x_abs, &crown->up_x, &crown->lo_x, &crown->mag_x};
    double **r_arrays[] = {&crown->r_mid, &crown->r_rad, &crown->r_abs, &crown->slope, &crown->offset, &crown->below,
                           &crown->gap,   &crown->p_abs, &crown->noise, &crown->up_r,  &crown->lo_r,   &crown->mag_r};
    for (size_t k = 0; k < sizeof x_arrays / sizeof *x_arrays; k++) *x_arrays[k] = esp_carve(&at, n_x);
    for (size_t k = 0; k < sizeof r_arrays / sizeof *r_arrays; k++) *r_arrays[k] = esp_carve(&at, n_r);
    crown->abs_sum = esp_carve(&at, n_r + 1);
    double **tiles[] = {&crown->tile_x.up, &crown->tile_x.lo, &crown->tile_x.mag, &crown->tile_r.up, &crown->tile_r.lo, &crown->tile_r.mag};
    for (size_t k = 0; k < 6; k++) *tiles[k] = esp_carve(&at, ESP_LANES * (k < 3 ? n_x : n_r));
}

esp_code esp_crown_create(const esp_program *program, esp_crown **ret_crown, esp_error *reterr) {
    size_t n_x = (size_t)program->n_x, n_r = (size_t)program->n_r;
    size_t doubles = 6 * n_x + 13 * n_r + 1 + 3 * ESP_LANES * (n_x + n_r);
    char *block = calloc(1, sizeof(esp_crown) + doubles * sizeof(double) + 4 * n_r * sizeof(int));
    if (!block) return esp_fail(reterr, ESP_NOMEM, "no memory for bounds of %d ReLUs", program->n_r);
    esp_crown *crown = (esp_crown *)(void *)block;
    double *at = (double *)(void *)(block + sizeof(esp_crown));
    crown->program = program;
    /* A coefficient meets n_y + n_r + 2 roundings at most while it is built, n_x + n_r + 4 in the last sums. */
    size_t roundings = 2 * n_r + n_x + (size_t)program->n_y + 32;
    crown->gamma = esp_gamma(roundings);
    crown->tiny = (double)roundings * ESP_TINY;
    crown_carve(crown, at, n_x, n_r);
    crown->level_last = (int *)(void *)(at + doubles);
    crown->row_begin = crown->level_last + n_r;
    crown->level_first = crown->row_begin + n_r;
    crown->reach = crown->level_first + n_r;
    crown_levels(crown);
    *ret_crown = crown;
    return ESP_OK;
}

void esp_crown_free(esp_crown *crown) {
    free(crown);
}

void esp_crown_box(esp_crown *crown, const double *lower, const double *upper) {
    double sum = 1;
    for (int k = 0; k < crown->program->n_x; k++) {
        assert(lower[k] <= upper[k] && isfinite(lower[k]) && isfinite(upper[k]));
        esp_centre(lower[k], upper[k], &crown->x_mid[k], &crown->x_rad[k]);
        crown->x_abs[k] = esp_max(fabs(lower[k]), fabs(upper[k]));
        sum += crown->x_abs[k];
    }
    crown->abs_sum[0] = sum;
}

/* ---- one target --------------------------------------------------------------------------------------------------- */

/* Concretises over x and the ReLUs before m; returns the sum of absolute values. */
static double concretise(const esp_crown *crown, int m, expression *e) {
    const esp_crown *c = crown;
    esp_sums x = esp_concretise(c->program->n_x, c->up_x, c->lo_x, c->mag_x, c->x_mid, c->x_rad, c->x_abs);
    int at = e->first;
    esp_sums r = esp_concretise(m - at, c->up_r + at, c->lo_r + at, c->mag_r + at, c->r_mid + at, c->r_rad + at, c->r_abs + at);
    double mag = e->mag + x.mag + r.mag;
    double error = (e->error + c->gamma * mag) * (1 + c->gamma);
    double up = e->up + x.up + r.up + error, lo = e->lo + x.lo + r.lo - error;
    if (up < e->best_up) e->best_up = up;
    if (lo > e->best_lo) e->best_lo = lo;
    return mag;
}

/* The expression a0 + ax' x + ar' r, bounded by intervals; `ar` is 0 but for ReLUs first .. end-1, and substitution comes to none
 * before first. Returns gamma times the sum of absolute values, which is (1) when the row is a ReLU's; false when it is a
 * constant. */
static bool expression_start(esp_crown *crown, double a0, const double *ax, const double *ar, int first, int end, expression *ret,
                             double *ret_noise) {
    bool any = esp_copy_row(crown->program->n_x, ax, crown->up_x, crown->lo_x, crown->mag_x);
    if (end > first) any |= esp_copy_row(end - first, ar + first, crown->up_r + first, crown->lo_r + first, crown->mag_r + first);
    if (end < first) end = first;
    if (!any) { /* a constant: nothing is computed, so nothing is rounded */
        *ret = (expression){a0, a0, 0, 0, a0, a0, first, end};
        *ret_noise = 0;
        return false;
    }
    *ret = (expression){a0, a0, fabs(a0), crown->tiny * crown->abs_sum[end], INFINITY, -INFINITY, first, end};
    *ret_noise = crown->gamma * concretise(crown, end, ret) + crown->tiny;
    return true;
}

/* Replaces r_j by its linear bounds and p_j by its row. */
static bool substitute(esp_crown *crown, int j, expression *e) {
    const esp_program *p = crown->program;
    double up = crown->up_r[j], lo = crown->lo_r[j], mag = crown->mag_r[j];
    double slope = crown->slope[j], below = crown->below[j], offset = crown->offset[j];
    if (mag == 0 || crown->r_abs[j] == 0) return false; /* absent, or off: r = 0 exactly */
    double a_up = up >= 0 ? up * slope : up * below;
    double a_lo = lo >= 0 ? lo * below : lo * slope;
    double a_mag = esp_max(fabs(a_up), fabs(a_lo));
    double k_up = up >= 0 ? up * offset : 0, k_lo = lo >= 0 ? 0 : lo * offset;
    e->error += crown->gamma * mag * crown->r_abs[j];
    e->error += a_mag * (crown->noise[j] + (below == slope ? 0 : crown->gamma * crown->p_abs[j]));
    e->up += a_up * p->d0[j] + k_up;
    e->lo += a_lo * p->d0[j] + k_lo;
    e->mag += a_mag * fabs(p->d0[j]) + (fabs(k_up) + fabs(k_lo));
    if (a_mag == 0) return true;
    int begin = crown->row_begin[j];
    esp_add_row(crown->level_first[j] - begin, a_up, a_lo, a_mag, p->d + (size_t)j * (size_t)p->n_r + begin, crown->up_r + begin, crown->lo_r + begin,
                crown->mag_r + begin);
    esp_add_row(p->n_x, a_up, a_lo, a_mag, p->c + (size_t)j * (size_t)p->n_x, crown->up_x, crown->lo_x, crown->mag_x);
    return true;
}

static void expression_substitute(esp_crown *crown, expression *e) {
    bool changed = false;
    for (int j = e->end - 1; j >= e->first; j--) {
        if (changed && crown->level_last[j]) {
            concretise(crown, j + 1, e);
            changed = false;
        }
        changed |= substitute(crown, j, e);
    }
    concretise(crown, e->first, e);
}

/* ---- some targets --------------------------------------------------------------------------------------------------- */

/* The same as above for the targets of one level, which all have ReLUs first .. end-1 to go through. */

static void tile_concretise(const esp_crown *c, int first, int m, esp_tile *tile) {
    esp_lanes sums = {0};
    esp_tile_concretise(c->program->n_x, c->tile_x, c->x_mid, c->x_rad, c->x_abs, &sums);
    esp_tile_concretise(m - first, esp_tile_from(c->tile_r, first), c->r_mid + first, c->r_rad + first, c->r_abs + first, &sums);
    esp_tile_best(c->gamma, &sums, tile);
}

static bool tile_substitute(esp_crown *crown, int j, esp_tile *tile) {
    const esp_program *p = crown->program;
    esp_streams at = esp_tile_from(crown->tile_r, j);
    esp_lanes a;
    if (crown->r_abs[j] == 0 || !esp_tile_any(at.mag)) return false; /* off, or absent */
    double slope = crown->slope[j], below = crown->below[j];
    double noise = crown->noise[j] + (below == slope ? 0 : crown->gamma * crown->p_abs[j]);
    esp_lanes c;
    esp_tile_first(at, &c);
    esp_tile_lines(slope, crown->offset[j], below, 0, &c, &a, tile);
    tile->error += ESP_KEEP(c.mag != 0, crown->gamma * c.mag * crown->r_abs[j]) + a.mag * noise;
    esp_tile_constant(&a, p->d0[j], tile);
    int begin = crown->row_begin[j];
    const double *d = p->d + (size_t)j * (size_t)p->n_r + begin;
    esp_tile_add(crown->level_first[j] - begin, &a, d, esp_tile_from(crown->tile_r, begin));
    esp_tile_add(p->n_x, &a, p->c + (size_t)j * (size_t)p->n_x, crown->tile_x);
    return true;
}

static void tile_run(esp_crown *crown, int first, int end, esp_tile *tile) {
    bool changed = crown->within; /* then nobody has taken the interval */
    for (int j = end - 1; j >= first; j--) {
        if (changed && crown->level_last[j]) {
            tile_concretise(crown, first, j + 1, tile);
            changed = false;
        }
        changed |= tile_substitute(crown, j, tile);
    }
    tile_concretise(crown, first, first, tile);
}

/* Row j into a lane, which has come to e so far. */
static void tile_put(esp_crown *crown, int lane, int j, const expression *e, esp_tile *tile) {
    const esp_program *p = crown->program;
    esp_tile_put(p->n_x, p->c + (size_t)j * (size_t)p->n_x, lane, crown->tile_x);
    esp_tile_put(e->end - e->first, p->d + (size_t)j * (size_t)p->n_r + e->first, lane, esp_tile_from(crown->tile_r, e->first));
    tile->up[lane] = e->up;
    tile->lo[lane] = e->lo;
    tile->mag[lane] = e->mag;
    tile->error[lane] = e->error;
    tile->best_up[lane] = e->best_up;
    tile->best_lo[lane] = e->best_lo;
}

/* Lanes from n on hold copies of lane 0, whose results nobody takes. */
static void tile_fill(esp_crown *crown, int first, int end, int n, esp_tile *tile) {
    double *const arrays[] = {crown->tile_x.up, crown->tile_x.lo, crown->tile_x.mag, crown->tile_r.up, crown->tile_r.lo, crown->tile_r.mag};
    esp_vector *const constants[] = {&tile->up, &tile->lo, &tile->mag, &tile->error, &tile->best_up, &tile->best_lo};
    for (int lane = n; lane < ESP_LANES; lane++) {
        for (int k = 0; k < 6; k++) (*constants[k])[lane] = (*constants[k])[0];
        for (int k = 0; k < 6; k++) {
            int from = k < 3 ? 0 : first, to = k < 3 ? crown->program->n_x : end;
            for (int c = from; c < to; c++) arrays[k][c * ESP_LANES + lane] = arrays[k][c * ESP_LANES];
        }
    }
}

/* ---- a run -------------------------------------------------------------------------------------------------------- */

/* What the later ReLUs need of ReLU j, from the range of p_j. */
static void relax(esp_crown *crown, int j, double l, double u) {
    double r_lo = esp_max(l, 0), r_hi = esp_max(u, 0);
    esp_centre(r_lo, r_hi, &crown->r_mid[j], &crown->r_rad[j]);
    crown->r_abs[j] = r_hi;
    crown->p_abs[j] = esp_max(fabs(l), fabs(u));
    bool stable = l >= 0 || u <= 0;
    double slope = u <= 0 ? 0 : 1, offset = 0;
    if (!stable) esp_chord(l, u, &slope, &offset);
    crown->slope[j] = slope;
    crown->offset[j] = crown->gap[j] = offset;
    crown->below[j] = stable ? slope : u > -l ? 1 : 0;
}

static void watch(const esp_crown *crown, int j) {
    int n_x = crown->program->n_x;
    double *row = crown->slopes + (size_t)j * (size_t)n_x;
    for (int k = 0; k < n_x; k++) row[k] = 0.5 * (fabs(crown->up_x[k]) + fabs(crown->lo_x[k]));
}

static void watch_lane(const esp_crown *crown, int j, int lane) {
    int n_x = crown->program->n_x;
    double *row = crown->slopes + (size_t)j * (size_t)n_x;
    for (int k = 0; k < n_x; k++) row[k] = 0.5 * (fabs(crown->tile_x.up[k * ESP_LANES + lane]) + fabs(crown->tile_x.lo[k * ESP_LANES + lane]));
}

/* What a row of n and m entries can be off by, when its entries are not exact. */
static double row_slack(const esp_crown *crown, double a0, const double *ax, const double *ar, int m) {
    double sum = a0;
    for (int k = 0; k < crown->program->n_x; k++) sum += ax[k] * crown->x_abs[k];
    for (int k = 0; k < m; k++) sum += ar[k] * crown->r_abs[k];
    return esp_abs(sum) * (1 + crown->gamma);
}

/* ReLUs of a level that wait for their turn in a tile. */
typedef struct waiting {
    int n, j[ESP_LANES];
    esp_tile tile;
} waiting;

/* Substitution for one ReLU alone, from the beginning. */
static void run_alone(esp_crown *crown, int j, expression *e) {
    const esp_program *p = crown->program;
    double noise;
    (void)expression_start(crown, p->d0[j], p->c + (size_t)j * (size_t)p->n_x, p->d + (size_t)j * (size_t)p->n_r, crown->reach[j],
                           crown->level_first[j], e, &noise);
    expression_substitute(crown, e);
}

/* Substitution for all that wait. False when an intersection is empty. */
static bool run_waiting(esp_crown *crown, waiting *w, esp_ranges *ranges) {
    bool some = true;
    if (w->n == 0) return true;
    int first = crown->reach[w->j[0]], end = crown->level_first[w->j[0]];
    if (w->n == 1) {
        expression e;
        run_alone(crown, w->j[0], &e);
        w->tile.best_up[0] = e.best_up;
        w->tile.best_lo[0] = e.best_lo;
    } else {
        tile_fill(crown, first, end, w->n, &w->tile);
        tile_run(crown, first, end, &w->tile);
    }
    for (int t = 0; some && t < w->n; t++) {
        int j = w->j[t];
        double noise = crown->noise[j];
        if (crown->slopes && w->n == 1) watch(crown, j);
        if (crown->slopes && w->n > 1) watch_lane(crown, j, t);
        some = esp_intersect(w->tile.best_lo[t] - noise, w->tile.best_up[t] + noise, &ranges->p_lower[j], &ranges->p_upper[j]);
        if (some) relax(crown, j, ranges->p_lower[j], ranges->p_upper[j]);
    }
    w->n = 0;
    return some;
}

static bool wait_for(esp_crown *crown, int j, const expression *e, waiting *w, esp_ranges *ranges) {
    tile_put(crown, w->n, j, e, &w->tile);
    w->j[w->n++] = j;
    return w->n < ESP_LANES || run_waiting(crown, w, ranges);
}

/* The same for a box in an earlier one: what a row can be off by stands, a stable ReLU stays so, and no interval is taken before
 * substitution, which comes to one by itself. False when this is not the case here. */
static bool run_within(esp_crown *crown, esp_crown_how how, int j, waiting *w, esp_ranges *ranges, bool *ret_some) {
    double lo = ranges->p_lower[j], hi = ranges->p_upper[j];
    int first = crown->reach[j], end = crown->level_first[j];
    *ret_some = true;
    if (lo >= 0 || hi <= 0) {
        relax(crown, j, lo, hi);
        return true;
    }
    if (how != ESP_CROWN_BACKWARD || first >= end) return false;
    double d0 = crown->program->d0[j];
    const expression e = {d0, d0, fabs(d0), crown->tiny * crown->abs_sum[end], INFINITY, -INFINITY, first, end};
    *ret_some = wait_for(crown, j, &e, w, ranges);
    return true;
}

/* The interval of ReLU j; when it is unstable and substitution may help, it is put among those that wait. */
static bool run_relu(esp_crown *crown, esp_crown_how how, int j, bool derive, waiting *w, esp_ranges *ranges) {
    const esp_program *p = crown->program;
    expression e;
    double noise;
    bool some;
    int first = crown->reach[j], end = crown->level_first[j];
    if (crown->within && derive && run_within(crown, how, j, w, ranges, &some)) return some;
    expression_start(crown, p->d0[j], p->c + (size_t)j * (size_t)p->n_x, p->d + (size_t)j * (size_t)p->n_r, first, end, &e, &noise);
    double *lo = &ranges->p_lower[j], *hi = &ranges->p_upper[j];
    const esp_program *loose = crown->slack;
    if (crown->within)
        noise = crown->noise[j];
    else if (loose)
        noise += row_slack(crown, loose->d0[j], loose->c + (size_t)j * (size_t)p->n_x, loose->d + (size_t)j * (size_t)p->n_r, j);
    crown->noise[j] = noise;
    if (derive && !esp_intersect(e.best_lo - noise, e.best_up + noise, lo, hi)) return false;
    if (derive && how == ESP_CROWN_BACKWARD && *lo < 0 && *hi > 0) {
        if (first < end) return wait_for(crown, j, &e, w, ranges);
        if (crown->slopes) watch(crown, j); /* the row is of x alone, and substitution adds nothing to its interval */
    }
    relax(crown, j, *lo, *hi);
    return true;
}

/* The ReLUs of one level, which do not depend on each other. */
static bool run_level(esp_crown *crown, esp_crown_how *how, int begin, int end, int first, esp_ranges *ranges) {
    waiting w = {0};
    bool some = true;
    for (int j = begin; some && j < end; j++) {
        if (j % 8 == 0 && esp_stop_now(crown->stop)) *how = ESP_CROWN_INTERVAL;
        some = run_relu(crown, *how, j, j >= first, &w, ranges);
    }
    if (some) some = run_waiting(crown, &w, ranges);
    for (int j = begin; some && j < end; j++) crown->abs_sum[j + 1] = crown->abs_sum[j] + crown->p_abs[j];
    return some;
}

double esp_crown_output_slack(const esp_crown *crown, int i) {
    const esp_program *p = crown->program, *loose = crown->slack;
    if (!loose) return 0;
    return row_slack(crown, loose->c0[i], loose->a + (size_t)i * (size_t)p->n_x, loose->b + (size_t)i * (size_t)p->n_r, p->n_r);
}

bool esp_crown_output(esp_crown *crown, esp_crown_how how, int i, esp_ranges *ranges) {
    const esp_program *p = crown->program;
    expression e;
    double noise;
    bool any = expression_start(crown, p->c0[i], p->a + (size_t)i * (size_t)p->n_x, p->b + (size_t)i * (size_t)p->n_r, 0, p->n_r, &e, &noise);
    if (any && how == ESP_CROWN_BACKWARD) expression_substitute(crown, &e);
    if (crown->slack) noise += esp_crown_output_slack(crown, i);
    return esp_intersect(e.best_lo - noise, e.best_up + noise, &ranges->y_lower[i], &ranges->y_upper[i]);
}

bool esp_crown_run(esp_crown *crown, esp_crown_how how, int first, bool with_outputs, esp_ranges *ranges) {
    const esp_program *p = crown->program;
    assert(ranges->n_r == p->n_r && ranges->n_y == p->n_y && first >= 0);
    bool some = true;
    for (int level = 0; some && level < p->n_levels; level++)
        some = run_level(crown, &how, level ? p->level_end[level - 1] : 0, p->level_end[level], first, ranges);
    for (int i = 0; some && with_outputs && i < p->n_y; i++) some = esp_crown_output(crown, how, i, ranges);
    return some;
}

void esp_crown_bound(esp_crown *crown, double a0, const double *ax, const double *ar, double *ret_lower, double *ret_upper, double *ret_ax_lower,
                     double *ret_ax_upper) {
    int n_r = crown->program->n_r;
    size_t bytes = (size_t)crown->program->n_x * sizeof(double);
    expression e;
    double noise;
    if (expression_start(crown, a0, ax, ar, 0, n_r, &e, &noise)) expression_substitute(crown, &e);
    *ret_lower = e.best_lo;
    *ret_upper = e.best_up;
    if (ret_ax_lower) memcpy(ret_ax_lower, crown->lo_x, bytes);
    if (ret_ax_upper) memcpy(ret_ax_upper, crown->up_x, bytes);
}

double esp_crown_combination(esp_crown *crown, const double *weights) {
    const esp_program *p = crown->program;
    size_t n_x = (size_t)p->n_x, n_r = (size_t)p->n_r;
    double *const arrays[] = {crown->up_x, crown->lo_x, crown->mag_x, crown->up_r, crown->lo_r, crown->mag_r};
    for (int k = 0; k < 6; k++) memset(arrays[k], 0, (k < 3 ? n_x : n_r) * sizeof(double));
    expression e = {0, 0, 0, crown->tiny * crown->abs_sum[n_r], HUGE_VAL, -HUGE_VAL, 0, p->n_r};
    double weight_sum = 0, slack = 0;
    for (int i = 0; i < p->n_y; i++) {
        double w = weights[i], a = fabs(w);
        esp_add_row(p->n_x, w, w, a, p->a + (size_t)i * n_x, crown->up_x, crown->lo_x, crown->mag_x);
        esp_add_row(p->n_r, w, w, a, p->b + (size_t)i * n_r, crown->up_r, crown->lo_r, crown->mag_r);
        e.up += w * p->c0[i];
        e.lo += w * p->c0[i];
        e.mag += a * fabs(p->c0[i]);
        weight_sum += a;
        if (crown->slack && a > 0) slack += a * esp_crown_output_slack(crown, i);
    }
    /* The first sum of absolute values bounds sum |w_i| times (1) of output i: what a computed y may be off by. */
    double noise = crown->gamma * concretise(crown, p->n_r, &e) + crown->tiny * (1 + 2 * weight_sum) + slack * (1 + crown->gamma);
    expression_substitute(crown, &e);
    double upper = (e.best_up + noise) * (1 + (e.best_up > 0 ? 4 : -4) * ESP_U);
    return upper <= DBL_MAX ? upper : HUGE_VAL;
}

double esp_crown_gap(const esp_crown *crown, int j) {
    return crown->gap[j];
}

esp_crown_view esp_crown_last(const esp_crown *crown) {
    return (esp_crown_view){crown->up_x, crown->lo_x, crown->up_r, crown->lo_r};
}

void esp_crown_watch(esp_crown *crown, double *slopes) {
    crown->slopes = slopes;
}

void esp_crown_slack(esp_crown *crown, const esp_program *slack) {
    crown->slack = slack;
}

double esp_crown_noise(const esp_crown *crown, int j) {
    return crown->noise[j];
}

void esp_crown_within(esp_crown *crown) {
    crown->within = true;
}

void esp_crown_stop(esp_crown *crown, const esp_stop *stop) {
    crown->stop = stop;
}

/* ---- bounds.h ----------------------------------------------------------------------------------------------------- */

esp_code esp_ranges_create(int n_r, int n_y, esp_ranges **ret_ranges, esp_error *reterr) {
    size_t r = (size_t)n_r, y = (size_t)n_y;
    char *block = calloc(1, sizeof(esp_ranges) + 2 * (r + y) * sizeof(double));
    if (!block) return esp_fail(reterr, ESP_NOMEM, "no memory for ranges of %d ReLUs", n_r);
    esp_ranges *ranges = (esp_ranges *)(void *)block;
    double *at = (double *)(void *)(block + sizeof(esp_ranges));
    ranges->n_r = n_r;
    ranges->n_y = n_y;
    ranges->p_lower = esp_carve(&at, r);
    ranges->p_upper = esp_carve(&at, r);
    ranges->y_lower = esp_carve(&at, y);
    ranges->y_upper = esp_carve(&at, y);
    *ret_ranges = ranges;
    return ESP_OK;
}

void esp_ranges_free(esp_ranges *ranges) {
    free(ranges);
}

void esp_ranges_open(esp_ranges *ranges) {
    for (int j = 0; j < ranges->n_r; j++) {
        ranges->p_lower[j] = -INFINITY;
        ranges->p_upper[j] = INFINITY;
    }
    for (int i = 0; i < ranges->n_y; i++) {
        ranges->y_lower[i] = -INFINITY;
        ranges->y_upper[i] = INFINITY;
    }
}

void esp_ranges_copy(const esp_ranges *from, esp_ranges *ret_to) {
    assert(from->n_r == ret_to->n_r && from->n_y == ret_to->n_y);
    memcpy(ret_to->p_lower, from->p_lower, (size_t)from->n_r * sizeof(double));
    memcpy(ret_to->p_upper, from->p_upper, (size_t)from->n_r * sizeof(double));
    memcpy(ret_to->y_lower, from->y_lower, (size_t)from->n_y * sizeof(double));
    memcpy(ret_to->y_upper, from->y_upper, (size_t)from->n_y * sizeof(double));
}

int esp_ranges_unstable(const esp_ranges *ranges) {
    int n = 0;
    for (int j = 0; j < ranges->n_r; j++) n += ranges->p_lower[j] < 0 && ranges->p_upper[j] > 0;
    return n;
}

static esp_code bounds_check(const esp_program *program, const esp_box *box, const esp_ranges *ranges, esp_error *reterr) {
    if (box->n != program->n_x) return esp_fail(reterr, ESP_INVALID, "the box has %d numbers, the program %d inputs", box->n, program->n_x);
    if (ranges->n_r != program->n_r || ranges->n_y != program->n_y)
        return esp_fail(reterr, ESP_INVALID, "the ranges are of %d ReLUs and %d outputs, the program has %d and %d", ranges->n_r, ranges->n_y,
                        program->n_r, program->n_y);
    for (int k = 0; k < box->n; k++) {
        if (!isfinite(box->lower[k]) || !isfinite(box->upper[k]) || box->lower[k] > box->upper[k])
            return esp_fail(reterr, ESP_INVALID, "input %d of the box is not a finite interval", k);
    }
    return ESP_OK;
}

/* Runs on a copy, so that a failure leaves the result as it was. `from` may be the result itself, or NULL for nothing known. */
static esp_code bounds_run(const esp_program *program, const esp_box *box, esp_crown_how how, int first, const esp_ranges *from,
                           esp_ranges *ret_ranges, esp_error *reterr) {
    esp_crown *crown = NULL;
    esp_ranges *ranges = NULL;
    esp_code code = bounds_check(program, box, from ? from : ret_ranges, reterr);
    if (!code) code = bounds_check(program, box, ret_ranges, reterr);
    if (!code) code = esp_crown_create(program, &crown, reterr);
    if (!code) code = esp_ranges_create(program->n_r, program->n_y, &ranges, reterr);
    if (code) goto out;
    if (from)
        esp_ranges_copy(from, ranges);
    else
        esp_ranges_open(ranges);
    esp_crown_box(crown, box->lower, box->upper);
    /* Intervals first and intersected: otherwise the two could differ in the last digits either way. */
    bool some = esp_crown_run(crown, ESP_CROWN_INTERVAL, first, true, ranges);
    if (some && how == ESP_CROWN_BACKWARD) some = esp_crown_run(crown, how, first, true, ranges);
    if (!some) {
        code = esp_fail(reterr, ESP_UNPROCESSABLE, "the ranges given leave no point of the box");
        goto out;
    }
    esp_ranges_copy(ranges, ret_ranges);
out:
    esp_ranges_free(ranges);
    esp_crown_free(crown);
    return code;
}

esp_code esp_bounds_interval(const esp_program *program, const esp_box *box, esp_ranges *ret_ranges, esp_error *reterr) {
    return bounds_run(program, box, ESP_CROWN_INTERVAL, 0, NULL, ret_ranges, reterr);
}

esp_code esp_bounds_crown(const esp_program *program, const esp_box *box, const esp_ranges *known, esp_ranges *ret_ranges, esp_error *reterr) {
    return bounds_run(program, box, ESP_CROWN_BACKWARD, 0, known, ret_ranges, reterr);
}

esp_code esp_bounds_crown_from(const esp_program *program, const esp_box *box, int first, esp_ranges *ranges, esp_error *reterr) {
    return bounds_run(program, box, ESP_CROWN_BACKWARD, first, ranges, ranges, reterr);
}

double esp_ranges_norm(const esp_ranges *ranges, esp_norm norm) {
    double largest = 0, sum = 0;
    for (int i = 0; i < ranges->n_y; i++) {
        double a = esp_max(esp_abs(ranges->y_lower[i]), esp_abs(ranges->y_upper[i]));
        if (a > largest) largest = a;
    }
    /* Divided by a power of two not above the largest, so that no square overflows or all of them underflow. */
    if (norm == ESP_NORM_INF || !(largest > 0) || !(largest <= DBL_MAX)) return largest;
    int exponent;
    (void)frexp(largest, &exponent);
    for (int i = 0; i < ranges->n_y; i++) {
        double a = ldexp(esp_max(fabs(ranges->y_lower[i]), fabs(ranges->y_upper[i])), -exponent);
        sum += a * a;
    }
    double root = esp_round_up(sqrt(esp_round_up(sum, (size_t)ranges->n_y)), 1);
    return nextafter(ldexp(root, exponent), INFINITY); /* the last step pays for a subnormal result */
}
