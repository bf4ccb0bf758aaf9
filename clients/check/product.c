/* SPDX-License-Identifier: Apache-2.0
 * A planning loss from step to step, for certificates that were made so. Compiled with -frounding-math, run with the processor
 * rounding upwards.
 *
 * Both models go from the same present with the same inputs. Let S(t) be a box that holds [Y, U] of both at step t, from affine
 * forms of pieces of the claim's box, and e(t) at least |f - g| on it, each output. Then for output i
 *
 *     y_f - y_g = [f(x_f) - g(x_f)] + [g(x_f) - g(x_g)]        d_i(t+1) <= e(t) + sum_j |dg_i/dY_j| d_j
 *
 * with the derivative over S(t), or f's with the roles exchanged, d_j being the deviation at the lag of Y_j. The largest e(t)
 * that the claimed deviation leaves room for is what is then proved, by halving S(t). What the deviations make of the cost is the
 * rest of the claim. */
#include <stdlib.h>
#include <string.h>

#include "check/prover.h"

enum { DEPTH_MAX = 60 };

typedef struct product {
    chk_prover *p;
    int n_box, n_x, ny, nu, n_y, steps; /* n_y: history * ny */
    chk_slopes *of_f, *of_g;
    double *lower, *upper; /* n_box: a piece of the box */
    chk_range *f, *g, *d; /* steps x ny: outputs, and how far they are apart */
    double *set_lower, *set_upper; /* n_x: S(t) */
    double *carried; /* ny */
    double *blame; /* n_x */
    int *parts, *at; /* n_box */
    double *memory;
    chk_limits *limits;
} product;

static bool product_init(product *s, chk_prover *p, chk_limits *limits) {
    const chk_model *m = p->f;
    size_t n_box = (size_t)p->claim->n_box, n_x = (size_t)m->n_x, ny = (size_t)m->ny, rows = (size_t)p->claim->steps * ny;
    *s = (product){.p = p, .n_box = (int)n_box, .n_x = m->n_x, .ny = m->ny, .nu = m->nu, .n_y = m->history * m->ny, .steps = p->claim->steps};
    s->limits = limits;
    s->of_f = chk_slopes_create(p->f);
    s->of_g = chk_slopes_create(p->g);
    s->memory = calloc(2 * n_box + 3 * n_x + ny, sizeof *s->memory);
    s->f = calloc(3 * rows, sizeof *s->f);
    s->parts = calloc(2 * n_box, sizeof *s->parts);
    if (!s->of_f || !s->of_g || !s->memory || !s->f || !s->parts) return false;
    s->g = s->f + rows;
    s->d = s->g + rows;
    s->at = s->parts + n_box;
    s->lower = s->memory;
    s->upper = s->lower + n_box;
    s->set_lower = s->upper + n_box;
    s->set_upper = s->set_lower + n_x;
    s->blame = s->set_upper + n_x;
    s->carried = s->blame + n_x;
    return true;
}

static void product_done(product *s) {
    chk_slopes_free(s->of_f);
    chk_slopes_free(s->of_g);
    free(s->memory);
    free(s->f);
    free(s->parts);
}

/* ---- where the models are ---- */

static void widen(chk_range *to, chk_range with) {
    if (with.lower < to->lower) to->lower = with.lower;
    if (with.upper > to->upper) to->upper = with.upper;
}

static bool find_ranges(product *s, long pieces) {
    chk_prover *p = s->p;
    for (int k = 0; k < s->steps * s->ny; k++) s->f[k] = s->g[k] = (chk_range){HUGE_VAL, -HUGE_VAL};
    memset(s->at, 0, (size_t)s->n_box * sizeof *s->at);
    (void)chk_grid_parts(s->n_box, p->claim->lower, p->claim->upper, pieces, s->parts);
    do {
        chk_grid_piece(s->n_box, p->claim->lower, p->claim->upper, s->parts, s->at, s->lower, s->upper);
        if (chk_limits_over(s->limits)) return false;
        chk_loop_begin(p, s->lower, s->upper);
        for (int t = 0; t < s->steps; t++) {
            chk_loop_step(p, t);
            for (int i = 0; i < s->ny; i++) {
                widen(&s->f[t * s->ny + i], chk_triple_f(&p->y, i));
                widen(&s->g[t * s->ny + i], chk_triple_g(&p->y, i));
            }
            chk_loop_shift(p);
        }
    } while (chk_grid_next(s->n_box, s->parts, s->at));
    return true;
}

/* S(t): numbers of the claim's box where they still are, else outputs of earlier steps, of both models. */
static void make_set(product *s, int t) {
    const chk_claim *claim = s->p->claim;
    for (int k = 0; k < s->n_x; k++) {
        bool of_y = k < s->n_y;
        int at = of_y ? k + t * s->ny : k + t * s->nu;
        s->set_lower[k] = at < s->n_y || !of_y ? claim->lower[at] : 0;
        s->set_upper[k] = at < s->n_y || !of_y ? claim->upper[at] : 0;
        if (at < s->n_y || !of_y) continue;
        chk_range f = s->f[at - s->n_y], g = s->g[at - s->n_y];
        widen(&f, g);
        s->set_lower[k] = f.lower;
        s->set_upper[k] = f.upper;
    }
}

/* ---- one step ---- */

/* sum_j |dm_i/dY_j| d_j. */
static double carry(const product *s, int t, const double *up, const double *down) {
    double sum = 0;
    for (int j = 0; j < s->n_y; j++) {
        int at = j + t * s->ny - s->n_y; /* among the outputs of all steps; before them nothing is apart */
        if (at < 0) continue;
        double size = chk_range_size((chk_range){-down[j], up[j]}), apart = s->d[at].upper;
        if (size > 0 && apart > 0) sum += size * apart;
    }
    return sum;
}

/* The lesser of both ways, output by output, and the largest of that. */
static double find_carried(product *s, int t) {
    const double *up, *down;
    double most = 0;
    for (int way = 0; way < 2; way++) {
        chk_slopes_run(way ? s->of_f : s->of_g, s->set_lower, s->set_upper, &up, &down);
        for (int i = 0; i < s->ny; i++) {
            double sum = carry(s, t, up + i * s->n_x, down + i * s->n_x);
            if (way == 0 || sum < s->carried[i]) s->carried[i] = sum;
        }
    }
    for (int i = 0; i < s->ny; i++) most = chk_larger(most, s->carried[i]);
    return most;
}

/* Are the models within e of each other for inputs in [lower, upper] (n_x), which is halved where it must be? */
static bool is_near(product *s, double *lower, double *upper, double e, int depth) {
    chk_prover *p = s->p;
    if (chk_limits_over(s->limits) || depth > DEPTH_MAX) return false;
    p->space.n = 0;
    for (int k = 0; k < s->n_x; k++) chk_set_input(p, &p->x, k, k, lower[k], upper[k]);
    chk_pair_run(p->step, &p->x, 0, &p->y);
    double worst = 0, score = 0;
    int axis = -1;
    for (int i = 0; i < s->ny; i++) worst = chk_larger(worst, chk_range_size(chk_triple_d(&p->y, i)));
    if (worst <= e) return true;
    for (int k = 0; k < s->n_x; k++) {
        double middle = chk_middle(lower[k], upper[k]), blame = 0.02 * (upper[k] - lower[k]) * worst;
        for (int i = 0; i < s->ny; i++) blame += k < p->y.d[i].n ? fabs(p->y.d[i].a[k]) + 1e-3 * (k < p->y.f[i].n ? fabs(p->y.f[i].a[k]) : 0) : 0;
        if (!(middle > lower[k] && middle < upper[k]) || !(blame > score)) continue;
        axis = k;
        score = blame;
    }
    if (axis < 0) return false;
    double low = lower[axis], high = upper[axis], middle = chk_middle(low, high);
    upper[axis] = middle;
    bool near = is_near(s, lower, upper, e, depth + 1);
    upper[axis] = high;
    lower[axis] = middle;
    near = near && is_near(s, lower, upper, e, depth + 1);
    lower[axis] = low;
    return near;
}

static bool prove_step(product *s, int t) {
    make_set(s, t);
    for (int k = 0; k < s->n_x; k++)
        if (!isfinite(s->set_lower[k]) || !isfinite(s->set_upper[k])) return false;
    double room = -(find_carried(s, t) - s->p->claim->radius[t]); /* rounded down */
    if (!(room >= 0) || !is_near(s, s->set_lower, s->set_upper, room, 0)) return false;
    for (int i = 0; i < s->ny; i++) {
        double apart = room + s->carried[i];
        s->d[t * s->ny + i] = (chk_range){-apart, apart};
    }
    return true;
}

/* ---- all of it ---- */

static bool cost_holds(const product *s) {
    const chk_claim *claim = s->p->claim;
    double eta = 0;
    for (int t = 0; t < s->steps; t++)
        for (int k = 0; k < claim->n_terms; k++)
            if (claim->terms[k].first <= t + 1 && t + 1 <= claim->terms[k].last)
                eta += chk_term_change(&claim->terms[k], s->f + t * s->ny, s->g + t * s->ny, s->d + t * s->ny);
    return eta <= claim->eta;
}

bool chk_prove_stepwise(chk_prover *prover, chk_limits *limits) {
    product s;
    bool proved = false;
    if (product_init(&s, prover, limits)) {
        for (long pieces = 64; !proved && limits->boxes + pieces <= limits->boxes_most; pieces *= 8) {
            proved = find_ranges(&s, pieces);
            for (int t = 0; proved && t < s.steps; t++) proved = prove_step(&s, t);
            proved = proved && cost_holds(&s);
        }
    }
    product_done(&s);
    return proved;
}
