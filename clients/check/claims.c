/* SPDX-License-Identifier: Apache-2.0
 * What each kind of certificate claims, tried on a part of its box. Compiled with -frounding-math, run with the processor
 * rounding upwards. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "check/prover.h"

enum { SYMBOLS = 600 };

static bool is_loop(const chk_claim *claim) {
    return claim->kind == CHK_CLOSED_LOOP || claim->kind == CHK_PLANNING_LOSS;
}

/* ---- life ---- */

static const char *misfit(const chk_claim *claim, const chk_model *f, const chk_model *g, const chk_model *dynamics) {
    if (g && (f->policy != g->policy || f->ny != g->ny || f->nu != g->nu || f->history != g->history))
        return "the two models have other inputs or outputs";
    if (claim->kind == CHK_CLOSED_FORM && claim->n_layers != f->n_layers) return "the constants are of other layers";
    if (!is_loop(claim))
        return claim->n_box != f->n_x                   ? "the domain is not of the model's inputs"
               : claim->n_out && claim->n_out != f->n_y ? "the outputs are not the model's"
                                                        : NULL;
    if (claim->kind == CHK_PLANNING_LOSS && f->policy) return "planning needs dynamics";
    if (claim->kind == CHK_CLOSED_LOOP && (!f->policy || dynamics->policy || dynamics->ny != f->ny || dynamics->nu != f->nu))
        return "the policies do not fit the dynamics";
    int present = dynamics->history * dynamics->ny + (dynamics->history - 1) * dynamics->nu;
    if (claim->n_domain != present) return "the domain is not a present of the dynamics";
    if (claim->kind == CHK_PLANNING_LOSS && claim->n_box != present + claim->steps * dynamics->nu) return "the inputs are not those of the dynamics";
    for (int k = 0; k < claim->n_terms; k++)
        for (int i = 0; i < claim->terms[k].n; i++)
            if (claim->terms[k].index[i] >= dynamics->ny) return "the cost has an output that there is not";
    return NULL;
}

static bool make_forms(chk_prover *p) {
    const chk_claim *claim = p->claim;
    const chk_model *m = p->dynamics ? p->dynamics : p->f;
    int most = p->space.most = claim->n_box + SYMBOLS;
    bool two = p->g != NULL, loop = is_loop(claim);
    p->space.up = calloc((size_t)most, sizeof(double));
    p->space.down = calloc((size_t)most, sizeof(double));
    p->blame = calloc((size_t)claim->n_box, sizeof(double));
    bool made = p->space.up && p->space.down && p->blame;
    if (made && (!loop || claim->kind == CHK_CLOSED_LOOP)) made = (p->pair = chk_pair_create(&p->space, p->f, p->g)) != NULL;
    if (made && claim->kind == CHK_CLOSED_LOOP) made = (p->step = chk_pair_create(&p->space, m, m)) != NULL;
    if (made && claim->kind == CHK_PLANNING_LOSS) made = (p->step = chk_pair_create(&p->space, p->f, p->g)) != NULL;
    made = made && chk_triple_create(&p->x, m->n_x, most, two) && chk_triple_create(&p->y, m->n_y, most, two);
    if (made && loop) made = chk_triple_create(&p->u, m->nu, most, two) && chk_triple_create(&p->free, claim->n_box - claim->n_domain, most, two);
    for (int k = 0; k < 3; k++) made = made && (p->ranges[k] = calloc((size_t)m->n_y, sizeof *p->ranges[k])) != NULL;
    if (made && claim->kind == CHK_CLOSED_FORM) {
        p->layers = calloc((size_t)claim->n_layers, sizeof *p->layers);
        made = p->layers && (p->constants = chk_constants_create(p->f)) != NULL;
    }
    if (made && claim->kind == CHK_LIPSCHITZ) made = (p->slopes = chk_slopes_create(p->f)) != NULL;
    return made;
}

chk_prover *chk_prover_create(const chk_claim *claim, const chk_model *f, const chk_model *g, const chk_model *dynamics, char *why) {
    const chk_model *loop = claim->kind == CHK_CLOSED_LOOP ? dynamics : claim->kind == CHK_PLANNING_LOSS ? f : NULL;
    const char *wrong = misfit(claim, f, g, loop);
    chk_prover *p = wrong ? NULL : calloc(1, sizeof *p);
    if (p) *p = (chk_prover){.claim = claim, .f = f, .g = g, .dynamics = loop};
    if (p && make_forms(p)) return p;
    snprintf(why, 200, "%s", wrong ? wrong : "no memory");
    chk_prover_free(p);
    return NULL;
}

void chk_prover_free(chk_prover *p) {
    if (!p) return;
    chk_pair_free(p->pair);
    chk_pair_free(p->step);
    chk_triple_free(&p->x);
    chk_triple_free(&p->u);
    chk_triple_free(&p->y);
    chk_triple_free(&p->free);
    chk_slopes_free(p->slopes);
    chk_constants_free(p->constants);
    free(p->layers);
    for (int k = 0; k < 3; k++) free(p->ranges[k]);
    free(p->space.up);
    free(p->space.down);
    free(p->blame);
    free(p);
}

/* ---- one step ---- */

void chk_set_input(chk_prover *p, chk_triple *to, int row, int symbol, double lower, double upper) {
    chk_form_box(&p->space, &to->f[row], symbol, lower, upper);
    if (!p->g) return;
    chk_form_copy(&to->g[row], &to->f[row]);
    chk_form_zero(&to->d[row]);
}

static void copy_row(const chk_prover *p, chk_triple *to, int i, const chk_triple *from, int j) {
    chk_form_copy(&to->f[i], &from->f[j]);
    if (!p->g) return;
    chk_form_copy(&to->g[i], &from->g[j]);
    chk_form_copy(&to->d[i], &from->d[j]);
}

/* How much each input has to do with the width of a form. */
static void lay_blame(chk_prover *p, const chk_form *form, double weight) {
    for (int k = 0; k < p->claim->n_box && k < form->n; k++) p->blame[k] += weight * fabs(form->a[k]);
}

/* The norm of rows 0 .. n-1 of y: of the difference, or of f. */
static double norm_of(chk_prover *p, int n) {
    double most = 0, sum = 0;
    for (int i = 0; i < n; i++) {
        double size = chk_range_size(p->g ? chk_triple_d(&p->y, i) : chk_triple_f(&p->y, i));
        if (size > most) most = size;
        sum += size * size;
        lay_blame(p, p->g ? &p->y.d[i] : &p->y.f[i], 1);
        lay_blame(p, &p->y.f[i], 1e-3);
    }
    return p->claim->two_norm ? sqrt(sum) : most;
}

/* |y| at most over what is claimed: at most 1 when the claim holds. */
static double ratio_of(double bound, double claimed) {
    if (bound <= claimed) return bound > 0 && claimed < HUGE_VAL ? bound / claimed : 0;
    return claimed > 0 && bound < HUGE_VAL ? bound / claimed : HUGE_VAL;
}

static double prove_outputs(chk_prover *p, const double *lower, const double *upper) {
    const chk_claim *claim = p->claim;
    for (int i = 0; i < claim->n_box; i++) chk_set_input(p, &p->x, i, i, lower[i], upper[i]);
    chk_pair_run(p->pair, &p->x, 0, &p->y);
    double worst = ratio_of(norm_of(p, p->f->n_y), claim->value);
    for (int i = 0; i < claim->n_out; i++) {
        chk_range range = chk_triple_f(&p->y, i);
        if (range.upper > claim->out_upper[i] || range.lower < claim->out_lower[i]) worst = chk_larger(worst, 2);
    }
    return worst;
}

static double prove_constants(chk_prover *p, const double *lower, const double *upper) {
    double worst = 0;
    chk_constants_run(p->constants, lower, upper, p->layers, p->blame);
    for (int k = 0; k < p->claim->n_layers; k++) worst = chk_larger(worst, ratio_of(p->layers[k], p->claim->constants[k]));
    return worst;
}

/* ---- loops ---- */

double chk_term_change(const chk_term *term, const chk_range *f, const chk_range *g, const chk_range *d) {
    double change = 0;
    for (int i = 0; i < term->n; i++) {
        int k = term->index[i];
        double part = term->weight[i] > 0 ? term->weight[i] * chk_range_size(d[k]) : 0;
        if (term->norm == CHK_L2SQ && part > 0) {
            double above = f[k].upper + g[k].upper - 2 * term->target_lower[i], below = 2 * term->target_upper[i] - f[k].lower - g[k].lower;
            part *= chk_larger(chk_larger(above, below), 0);
        }
        change = term->norm == CHK_LINF ? chk_larger(change, part) : change + part;
    }
    return change;
}

/* What the cost changes by at step k, from 0. */
static double cost_change(chk_prover *p, int k) {
    double change = 0;
    for (int i = 0; i < p->dynamics->ny; i++) {
        p->ranges[0][i] = chk_triple_f(&p->y, i);
        p->ranges[1][i] = chk_triple_g(&p->y, i);
        p->ranges[2][i] = chk_triple_d(&p->y, i);
    }
    for (int t = 0; t < p->claim->n_terms; t++)
        if (p->claim->terms[t].first <= k + 1 && k + 1 <= p->claim->terms[t].last)
            change += chk_term_change(&p->claim->terms[t], p->ranges[0], p->ranges[1], p->ranges[2]);
    return change;
}

/* Everything one step older. */
void chk_loop_shift(chk_prover *p) {
    const chk_model *m = p->dynamics;
    int n_yh = m->history * m->ny, kept = n_yh - m->ny;
    for (int i = 0; i < kept; i++) copy_row(p, &p->x, i, &p->x, i + m->ny);
    for (int i = 0; i < m->ny; i++) copy_row(p, &p->x, kept + i, &p->y, i);
    for (int i = n_yh; i < m->n_x - m->nu; i++) copy_row(p, &p->x, i, &p->x, i + m->nu);
}

static void settle_outputs(chk_prover *p) {
    for (int i = 0; i < p->dynamics->ny; i++) {
        chk_form_settle(&p->space, &p->y.f[i]);
        chk_form_settle(&p->space, &p->y.g[i]);
        chk_form_settle(&p->space, &p->y.d[i]);
    }
}

void chk_loop_begin(chk_prover *p, const double *lower, const double *upper) {
    p->space.n = 0;
    for (int i = 0; i < p->claim->n_box; i++) {
        bool present = i < p->claim->n_domain;
        chk_set_input(p, present ? &p->x : &p->free, present ? i : i - p->claim->n_domain, i, lower[i], upper[i]);
    }
}

void chk_loop_step(chk_prover *p, int k) {
    const chk_model *m = p->dynamics;
    if (p->pair) chk_pair_run(p->pair, &p->x, (m->history - 1) * m->ny, &p->u);
    for (int i = 0; i < m->nu; i++) {
        if (p->pair)
            copy_row(p, &p->x, m->n_x - m->nu + i, &p->u, i);
        else
            copy_row(p, &p->x, m->n_x - m->nu + i, &p->free, k * m->nu + i);
    }
    chk_pair_run(p->step, &p->x, 0, &p->y);
    settle_outputs(p);
}

static double prove_loop(chk_prover *p, const double *lower, const double *upper) {
    const chk_claim *claim = p->claim;
    double worst = 0, eta = 0;
    chk_loop_begin(p, lower, upper);
    for (int k = 0; k < claim->steps; k++) {
        chk_loop_step(p, k);
        double norm = norm_of(p, p->dynamics->ny);
        if (!p->forever || !(claim->radius[k] >= claim->forever_radius)) worst = chk_larger(worst, ratio_of(norm, claim->radius[k]));
        eta += cost_change(p, k);
        chk_loop_shift(p);
    }
    return claim->kind == CHK_PLANNING_LOSS ? chk_larger(worst, ratio_of(eta, claim->eta)) : worst;
}

/* ---- what is asked ---- */

static int choose_axis(const chk_prover *p, const double *lower, const double *upper) {
    int best = -1;
    double most = -1, all = 0;
    for (int i = 0; i < p->claim->n_box; i++) all += p->blame[i] <= DBL_MAX ? p->blame[i] : 0;
    for (int i = 0; i < p->claim->n_box; i++) {
        double middle = chk_middle(lower[i], upper[i]), whole = p->claim->upper[i] - p->claim->lower[i];
        double score = (p->blame[i] <= DBL_MAX ? p->blame[i] : 0) + (0.02 * all + DBL_MIN) * ((upper[i] - lower[i]) / (whole > 0 ? whole : 1));
        if (!(middle > lower[i] && middle < upper[i]) || !(score > most)) continue;
        best = i;
        most = score;
    }
    return best;
}

double chk_prove(chk_prover *p, const double *lower, const double *upper, int *ret_axis) {
    double worst;
    p->space.n = 0;
    memset(p->blame, 0, (size_t)p->claim->n_box * sizeof *p->blame);
    if (p->claim->kind == CHK_LIPSCHITZ)
        worst = ratio_of(chk_slopes_norm(p->slopes, lower, upper, p->claim->two_norm), p->claim->value);
    else if (p->claim->kind == CHK_CLOSED_FORM)
        worst = prove_constants(p, lower, upper);
    else
        worst = is_loop(p->claim) ? prove_loop(p, lower, upper) : prove_outputs(p, lower, upper);
    *ret_axis = choose_axis(p, lower, upper);
    return worst;
}

/* |y| at the point at least, rounded down: what its components are at least, all computed on the point alone. */
static double least_norm(const chk_prover *p, int n) {
    double most = 0, minus = 0; /* minus: the negated sum of squares, rounded up */
    for (int i = 0; i < n; i++) {
        chk_range range = p->g ? chk_triple_d(&p->y, i) : chk_triple_f(&p->y, i);
        double least = range.lower > 0 ? range.lower : range.upper < 0 ? -range.upper : 0;
        if (least > most) most = least;
        minus += -least * least;
    }
    chk_round_nearest();
    double norm = p->claim->two_norm ? sqrt(-minus) * (1 - 4 * DBL_EPSILON) : most;
    chk_round_up();
    return norm;
}

bool chk_prove_reached(chk_prover *p) {
    const chk_claim *claim = p->claim;
    if (!(claim->reached > 0) || claim->kind == CHK_LIPSCHITZ || claim->kind == CHK_PLANNING_LOSS) return true;
    if (!is_loop(claim)) {
        p->space.n = 0;
        (void)prove_outputs(p, claim->witness, claim->witness);
        return least_norm(p, p->f->n_y) >= claim->reached * (1 - 1e-9);
    }
    double most = 0;
    chk_loop_begin(p, claim->witness, claim->witness);
    for (int k = 0; k < claim->steps; k++) {
        chk_loop_step(p, k);
        most = chk_larger(most, least_norm(p, p->dynamics->ny));
        chk_loop_shift(p);
    }
    return most >= claim->reached * (1 - 1e-9);
}

/* ---- limits and grids ---- */

const char *chk_limits_over(chk_limits *limits) {
    double seconds = (double)(clock() - limits->start) / CLOCKS_PER_SEC;
    return ++limits->boxes > limits->boxes_most ? "the most boxes" : seconds > limits->seconds_most ? "the time" : NULL;
}

long chk_grid_parts(int n, const double *lower, const double *upper, long most, int *parts) {
    long total = 1;
    for (int i = 0; i < n; i++) parts[i] = 1;
    for (bool more = true; more && 2 * total <= most;) {
        more = false;
        for (int i = 0; i < n && 2 * total <= most; i++) {
            if (!(upper[i] > lower[i]) || parts[i] > 1 << 20) continue;
            parts[i] *= 2;
            total *= 2;
            more = true;
        }
    }
    return total;
}

static double cut(double lower, double upper, int k, int parts) {
    double t = (double)k / (double)parts, at = (1 - t) * lower + t * upper;
    return k == 0 || at < lower ? lower : k == parts || at > upper ? upper : at;
}

void chk_grid_piece(int n, const double *lower, const double *upper, const int *parts, const int *at, double *piece_lower, double *piece_upper) {
    for (int i = 0; i < n; i++) {
        piece_lower[i] = cut(lower[i], upper[i], at[i], parts[i]);
        piece_upper[i] = cut(lower[i], upper[i], at[i] + 1, parts[i]);
    }
}

bool chk_grid_next(int n, const int *parts, int *at) {
    for (int i = 0; i < n; i++) {
        if (++at[i] < parts[i]) return true;
        at[i] = 0;
    }
    return false;
}
