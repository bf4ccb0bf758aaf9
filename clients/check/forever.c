/* SPDX-License-Identifier: Apache-2.0
 * Two closed loops for ever: that both stay in a set, and how far apart. Compiled with -frounding-math, run with the processor
 * rounding upwards.
 *
 * A present is z = [Y, U before now]. Over pieces of the set: the images of both loops, and the derivative of the step of the
 * reference's loop, A + B P with A = dz+/dz at a fixed input, B = dz+/du, P = du/dz; M is its size, entry by entry the largest of
 * all pieces, b that of B times what the policies are apart. If both loops stay in the set, their distance d (in each number)
 * obeys d+ <= M d + b: from z^ to z the input changes first, at z^, then the present along a segment in the set, which is convex.
 * So d <= v for ever for any v >= 0 with M v + b <= v, as it holds at the beginning, where d = 0. Such a v is looked for by
 * repeating v = M v + b with a little added to b, and then checked; no norm and no weights come into it. */
#include <stdlib.h>
#include <string.h>

#include "check/prover.h"

enum { ROUNDS = 20000 };
#define ADDED 1e-11 /* of the largest of b, so that what is repeated comes to lie strictly inside */

typedef struct forever {
    chk_prover *p;
    const double *set_lower, *set_upper;
    int n, nu, ny, n_y; /* n_y: history * ny, the numbers of Y */
    chk_slopes *dynamics, *policy;
    double *lower, *upper; /* n + nu: a piece, and where the inputs of both loops are */
    double *m, *b, *eps; /* n x n, n x nu, nu: sizes of A + B P and of B; what the policies are apart */
    double *push, *v, *next; /* n */
    int *parts, *at; /* n each */
    double *memory;
} forever;

static bool forever_init(forever *s, chk_prover *p) {
    const chk_model *d = p->dynamics;
    size_t n = (size_t)p->claim->n_domain, nu = (size_t)d->nu;
    *s = (forever){.p = p, .set_lower = p->claim->set_lower, .set_upper = p->claim->set_upper};
    s->n = (int)n;
    s->nu = d->nu;
    s->ny = d->ny;
    s->n_y = d->history * d->ny;
    s->memory = calloc(2 * (n + nu) + n * n + n * nu + nu + 3 * n + 1, sizeof *s->memory);
    s->parts = calloc(2 * n, sizeof *s->parts);
    s->dynamics = chk_slopes_create(d);
    s->policy = chk_slopes_create(p->g);
    if (!s->memory || !s->parts || !s->dynamics || !s->policy) return false;
    double **arrays[] = {&s->lower, &s->upper, &s->m, &s->b, &s->eps, &s->push, &s->v, &s->next}, *at = s->memory;
    const size_t sizes[] = {n + nu, n + nu, n * n, n * nu, nu, n, n, n};
    for (int k = 0; k < 8; k++) {
        *arrays[k] = at;
        at += sizes[k];
    }
    s->at = s->parts + n;
    return true;
}

static void forever_done(forever *s) {
    chk_slopes_free(s->dynamics);
    chk_slopes_free(s->policy);
    free(s->memory);
    free(s->parts);
}

/* ---- the set ---- */

/* Does the domain lie in it, and what is one step older where it was? */
static bool set_is_closed(const forever *s) {
    for (int z = 0; z < s->n; z++) {
        if (!(s->set_lower[z] <= s->p->claim->lower[z] && s->p->claim->upper[z] <= s->set_upper[z])) return false;
        int width = z < s->n_y ? s->ny : s->nu, newer = z + width;
        if (newer >= (z < s->n_y ? s->n_y : s->n)) continue;
        if (!(s->set_lower[z] <= s->set_lower[newer] && s->set_upper[newer] <= s->set_upper[z])) return false;
    }
    return true;
}

static bool lies_in(const forever *s, int z, chk_range range) {
    return range.lower >= s->set_lower[z] && range.upper <= s->set_upper[z];
}

/* One step of both loops from the piece: are they still in the set? Takes where the inputs are, and how far apart. */
static bool stays(forever *s) {
    chk_prover *p = s->p;
    bool in = true;
    chk_loop_begin(p, s->lower, s->upper);
    chk_loop_step(p, 0);
    for (int j = 0; j < s->nu; j++) {
        chk_range f = chk_triple_f(&p->u, j), g = chk_triple_g(&p->u, j);
        s->lower[s->n + j] = f.lower < g.lower ? f.lower : g.lower;
        s->upper[s->n + j] = f.upper > g.upper ? f.upper : g.upper;
        s->eps[j] = chk_larger(s->eps[j], chk_range_size(chk_triple_d(&p->u, j)));
        in = in && s->eps[j] <= DBL_MAX;
        if (s->n > s->n_y) in = in && lies_in(s, s->n - s->nu + j, f) && lies_in(s, s->n - s->nu + j, g);
    }
    for (int i = 0; i < s->ny; i++)
        in = in && lies_in(s, s->n_y - s->ny + i, chk_triple_f(&p->y, i)) && lies_in(s, s->n_y - s->ny + i, chk_triple_g(&p->y, i));
    return in;
}

/* ---- the step's derivative ---- */

static void grow(double *size, double up, double down) {
    double most = chk_larger(up, down);
    *size = chk_larger(*size, most <= DBL_MAX ? most : HUGE_VAL);
}

/* Row of z+ number `to`, of which dz+/dz = a + sum_j B_j P_j; ends of a (n) and B (nu) as upper and negated lower ones. */
static void take_row(forever *s, int to, const double *a_up, const double *a_down, const double *b_up, const double *b_down, const double *p_up,
                     const double *p_down) {
    int first = s->n_y - s->ny;
    for (int z = 0; z < s->n; z++) {
        double up = a_up ? a_up[z] : 0, down = a_down ? a_down[z] : 0;
        for (int j = 0; j < s->nu && z >= first && z < s->n_y; j++) {
            int at = j * s->ny + z - first;
            chk_interval_times(b_up[j], b_down[j], p_up[at], p_down[at], &up, &down);
        }
        grow(&s->m[to * s->n + z], up, down);
    }
    for (int j = 0; j < s->nu; j++) grow(&s->b[to * s->nu + j], b_up[j], b_down[j]);
}

static void derive(forever *s) {
    const double *f_up, *f_down, *p_up, *p_down;
    int n_x = s->n + s->nu, first = s->n_y - s->ny;
    chk_slopes_run(s->dynamics, s->lower, s->upper, &f_up, &f_down);
    chk_slopes_run(s->policy, s->lower + first, s->upper + first, &p_up, &p_down);
    for (int i = 0; i < s->ny; i++) {
        const double *up = f_up + i * n_x, *down = f_down + i * n_x;
        take_row(s, first + i, up, down, up + s->n, down + s->n, p_up, p_down);
    }
    for (int j = 0; j < s->nu && s->n > s->n_y; j++) { /* the newest input itself */
        double one[2] = {1, -1};
        for (int z = 0; z < s->ny; z++) grow(&s->m[(s->n - s->nu + j) * s->n + first + z], p_up[j * s->ny + z], p_down[j * s->ny + z]);
        grow(&s->b[(s->n - s->nu + j) * s->nu + j], one[0], one[1]);
    }
    for (int z = 0; z < s->n; z++) { /* what only grows older */
        int newer = z + (z < s->n_y ? s->ny : s->nu);
        if (newer < (z < s->n_y ? s->n_y : s->n)) s->m[z * s->n + newer] = chk_larger(s->m[z * s->n + newer], 1);
    }
}

/* ---- the radius ---- */

/* to = M v + b + added, rounded up; false when it is not finite. */
static bool advance(const forever *s, const double *v, double added, double *to) {
    bool finite = true;
    for (int z = 0; z < s->n; z++) {
        double sum = s->push[z] + added;
        for (int k = 0; k < s->n; k++)
            if (s->m[z * s->n + k] > 0 && v[k] > 0) sum += s->m[z * s->n + k] * v[k];
        to[z] = sum;
        finite = finite && sum <= DBL_MAX;
    }
    return finite;
}

static bool is_within(const double *a, const double *b, int n) {
    for (int z = 0; z < n; z++)
        if (!(a[z] <= b[z])) return false;
    return true;
}

/* A v with M v + b <= v, in s->v; false when none is found. */
static bool find_tube(forever *s) {
    double most = 0;
    for (int z = 0; z < s->n; z++) {
        s->v[z] = s->push[z] = 0;
        for (int j = 0; j < s->nu; j++)
            if (s->b[z * s->nu + j] > 0 && s->eps[j] > 0) s->push[z] += s->b[z * s->nu + j] * s->eps[j];
        most = chk_larger(most, s->push[z]);
    }
    for (int round = 0; round < ROUNDS; round++) {
        if (!advance(s, s->v, 0, s->next)) return false;
        if (is_within(s->next, s->v, s->n)) return true;
        if (!advance(s, s->v, ADDED * most, s->next)) return false;
        memcpy(s->v, s->next, (size_t)s->n * sizeof *s->v);
    }
    return false;
}

static bool radius_holds(const forever *s) {
    double most = 0, sum = 0;
    for (int i = s->n_y - s->ny; i < s->n_y; i++) {
        most = chk_larger(most, s->v[i]);
        sum += s->v[i] * s->v[i];
    }
    return (s->p->claim->two_norm ? sqrt(sum) : most) <= s->p->claim->forever_radius;
}

/* ---- all of it ---- */

static bool try_grid(forever *s, long pieces, chk_limits *limits) {
    size_t n = (size_t)s->n, nu = (size_t)s->nu;
    memset(s->m, 0, (n * n + n * nu + nu) * sizeof *s->m); /* m, b and eps, one after the other */
    memset(s->at, 0, n * sizeof *s->at);
    (void)chk_grid_parts(s->n, s->set_lower, s->set_upper, pieces, s->parts);
    do {
        chk_grid_piece(s->n, s->set_lower, s->set_upper, s->parts, s->at, s->lower, s->upper);
        if (chk_limits_over(limits) || !stays(s)) return false;
        derive(s);
    } while (chk_grid_next(s->n, s->parts, s->at));
    return find_tube(s) && radius_holds(s);
}

bool chk_prove_forever(chk_prover *prover, chk_limits *limits) {
    forever s;
    bool proved = false;
    if (forever_init(&s, prover) && set_is_closed(&s))
        for (long pieces = 16; !proved && limits->boxes + pieces <= limits->boxes_most; pieces *= 4) proved = try_grid(&s, pieces, limits);
    forever_done(&s);
    prover->forever = proved;
    return proved;
}
