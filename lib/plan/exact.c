/* SPDX-License-Identifier: Apache-2.0
 * The largest difference as a mixed-integer program. */
#include "plan/exact.h"

#include <assert.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "certify/crown.h"
#include "certify/lowering.h"
#include "certify/twin.h"
#include "certify/witness.h"
#include "plan/cbc.h"

enum { POINTS = 64, STEPS = 20 };
#define UNIT 1e-6 /* what CBC calls an integer, and more than what it calls a row that holds */

typedef struct finding {
    const esp_program *program; /* f, or the difference program */
    esp_program *owned, *slack;
    const esp_box *box;
    const esp_certify_opts *opts;
    const esp_stop *stop;
    const int *pairs; /* n_f, or NULL */
    int n_f;
    esp_crown *crown;
    esp_twin *twin;
    esp_ranges *ranges, *scratch;
    double *d_lower, *d_upper; /* n_f */
    int *r, *w, *a; /* n_r: columns, or -1 */
    esp_lp lp;
    double *x; /* n_cols */
    esp_witness witness;
    esp_exact out;
} finding;

/* ---- ranges ---------------------------------------------------------------------------------------------------------- */

static esp_code exact_memory(finding *s, esp_error *reterr) {
    size_t n_r = (size_t)s->program->n_r;
    s->d_lower = malloc((2 * (size_t)s->n_f + 1) * sizeof *s->d_lower);
    s->r = malloc((3 * n_r + 1) * sizeof *s->r);
    s->out.witness = malloc(((size_t)s->program->n_x + 1) * sizeof *s->out.witness);
    if (!s->d_lower || !s->r || !s->out.witness) return esp_fail(reterr, ESP_NOMEM, "no memory for %zu ReLUs", n_r);
    s->d_upper = s->d_lower + s->n_f;
    s->w = s->r + n_r;
    s->a = s->w + n_r;
    for (size_t j = 0; j < 3 * n_r; j++) s->r[j] = -1;
    for (int i = 0; i < s->n_f; i++) {
        s->d_lower[i] = -HUGE_VAL;
        s->d_upper[i] = HUGE_VAL;
    }
    return ESP_OK;
}

static esp_code exact_init(finding *s, const esp_program *f, const esp_program *g, esp_error *reterr) {
    esp_code code = g ? esp_program_difference(f, g, &s->owned, reterr) : ESP_OK;
    if (!code && g) code = esp_lowering_slack_difference(f, g, s->opts->slack_f, s->opts->slack_g, &s->slack, reterr);
    if (!code && g && s->pairs) code = esp_twin_create(f, g, s->pairs, &s->twin, reterr);
    s->program = g ? s->owned : f;
    s->n_f = f->n_r;
    if (!code) code = esp_crown_create(s->program, &s->crown, reterr);
    if (!code) code = esp_ranges_create(s->program->n_r, s->program->n_y, &s->ranges, reterr);
    if (!code) code = esp_ranges_create(s->program->n_r, s->program->n_y, &s->scratch, reterr);
    if (!code) code = esp_witness_init(&s->witness, s->program, ESP_NORM_INF, reterr);
    if (!code) code = exact_memory(s, reterr);
    if (!code) esp_crown_slack(s->crown, g ? s->slack : s->opts->slack_f);
    if (!code && s->twin && s->slack) esp_twin_loose(s->twin, s->crown);
    return code;
}

static void exact_done(finding *s) {
    esp_program_free(s->owned);
    esp_program_free(s->slack);
    esp_crown_free(s->crown);
    esp_twin_free(s->twin);
    esp_ranges_free(s->ranges);
    esp_ranges_free(s->scratch);
    esp_witness_done(&s->witness);
    esp_lp_done(&s->lp);
    esp_exact_done(&s->out);
    free(s->d_lower);
    free(s->r);
    free(s->x);
}

void esp_exact_done(esp_exact *exact) {
    free(exact->witness);
    exact->witness = NULL;
}

/* Of everything, proved; the outputs' through the differences where there are any. */
static void find_ranges(finding *s) {
    esp_ranges_open(s->ranges);
    esp_crown_box(s->crown, s->box->lower, s->box->upper);
    bool some = esp_crown_run(s->crown, ESP_CROWN_INTERVAL, 0, true, s->ranges);
    some = some && esp_crown_run(s->crown, ESP_CROWN_BACKWARD, 0, true, s->ranges);
    if (s->twin) {
        esp_twin_box(s->twin, s->box->lower, s->box->upper);
        some = some && esp_twin_run(s->twin, s->ranges, true, s->d_lower, s->d_upper);
        for (int i = 0; some && i < s->program->n_y; i++) some = esp_twin_output(s->twin, true, i, &s->ranges->y_lower[i], &s->ranges->y_upper[i]);
    }
    assert(some);
    (void)some;
}

static void find_witness(finding *s) {
    esp_rng rng;
    esp_rng_init(&rng, s->opts->seed, 0);
    esp_witness_sample(&s->witness, s->box->lower, s->box->upper, POINTS, &rng, s->stop);
    if (s->witness.best < 0) (void)esp_witness_try(&s->witness, s->box->lower);
}

/* ---- the columns and rows --------------------------------------------------------------------------------------------- */

static void add_columns(finding *s) {
    const esp_program *p = s->program;
    for (int k = 0; k < p->n_x; k++) (void)esp_lp_add_col(&s->lp, 0, s->box->lower[k], s->box->upper[k], false);
    for (int j = 0; j < p->n_r; j++) {
        double l = s->ranges->p_lower[j], u = s->ranges->p_upper[j];
        if (u <= 0) continue;
        s->r[j] = esp_lp_add_col(&s->lp, 0, fmax(l, 0), u, false);
        if (l >= 0) continue;
        s->w[j] = esp_lp_add_col(&s->lp, 0, 0, -l, false);
        s->a[j] = esp_lp_add_col(&s->lp, 0, 0, 1, true);
        s->out.binaries++;
    }
}

static void add_relu(finding *s, int j) {
    const esp_program *p = s->program;
    const double *c = p->c + (size_t)j * (size_t)p->n_x, *d = p->d + (size_t)j * (size_t)p->n_r;
    double l = s->ranges->p_lower[j], u = s->ranges->p_upper[j];
    if (s->r[j] < 0) return;
    (void)esp_lp_add_row(&s->lp, p->d0[j], p->d0[j]);
    esp_lp_put(&s->lp, s->r[j], 1);
    if (s->w[j] >= 0) esp_lp_put(&s->lp, s->w[j], -1);
    for (int k = 0; k < p->n_x; k++) esp_lp_put(&s->lp, k, -c[k]);
    for (int k = 0; k < j; k++)
        if (s->r[k] >= 0) esp_lp_put(&s->lp, s->r[k], -d[k]);
    if (s->w[j] < 0) return;
    (void)esp_lp_add_row(&s->lp, -INFINITY, 0);
    esp_lp_put(&s->lp, s->r[j], 1);
    esp_lp_put(&s->lp, s->a[j], -u);
    (void)esp_lp_add_row(&s->lp, -INFINITY, -l);
    esp_lp_put(&s->lp, s->w[j], 1);
    esp_lp_put(&s->lp, s->a[j], -l);
}

/* lower <= (r_f - r_g) - slope (p_f - p_g) <= upper, p = r - w. */
static void add_pair_row(finding *s, int f, int g, double slope, double lower, double upper) {
    (void)esp_lp_add_row(&s->lp, lower, upper);
    esp_lp_put(&s->lp, s->r[f], 1 - slope);
    esp_lp_put(&s->lp, s->r[g], slope - 1);
    if (s->w[f] >= 0) esp_lp_put(&s->lp, s->w[f], slope);
    if (s->w[g] >= 0) esp_lp_put(&s->lp, s->w[g], -slope);
}

/* The hull of r_f - r_g over delta in [l, u], a little wider for its rounding. */
static void add_pair(finding *s, int f, int g) {
    double l = s->d_lower[f], u = s->d_upper[f], width = u - l, room = 1e-12 * (fabs(l) + fabs(u));
    bool stable = s->w[f] < 0 && s->w[g] < 0;
    if (s->r[f] < 0 || s->r[g] < 0 || stable || !isfinite(width)) return;
    double above = l < 0 && u > 0 && width > 0 ? u / width : l >= 0, below = l < 0 && u > 0 && width > 0 ? -l / width : u <= 0;
    add_pair_row(s, f, g, above, -INFINITY, (l < 0 && u > 0 ? -above * l : 0) + room);
    add_pair_row(s, f, g, below, (l < 0 && u > 0 ? -below * u : 0) - room, INFINITY);
    if (l >= 0 || u <= 0) add_pair_row(s, f, g, 0, l >= 0 ? -room : -HUGE_VAL, u <= 0 ? room : HUGE_VAL);
}

static esp_code build(finding *s, esp_error *reterr) {
    add_columns(s);
    for (int j = 0; j < s->program->n_r; j++) add_relu(s, j);
    for (int i = 0; s->twin && i < s->n_f; i++)
        if (s->pairs[i] >= 0) add_pair(s, i, s->n_f + s->pairs[i]);
    esp_code code = esp_lp_finish(&s->lp, reterr);
    if (!code) s->x = calloc(2 * (size_t)s->lp.n_cols + 1, sizeof *s->x);
    return code || s->x ? code : esp_fail(reterr, ESP_NOMEM, "no memory for %d columns", s->lp.n_cols);
}

/* ---- one output, one sign --------------------------------------------------------------------------------------------- */

/* Costs that make the minimum minus the largest sign y_i; what the tolerances of binaries and rows can do to it. */
static double set_costs(finding *s, int i, double sign) {
    const esp_program *p = s->program;
    const double *a = p->a + (size_t)i * (size_t)p->n_x, *b = p->b + (size_t)i * (size_t)p->n_r;
    double tolerance = fabs(p->c0[i]);
    for (int k = 0; k < s->lp.n_cols; k++) s->lp.cost[k] = 0;
    for (int k = 0; k < p->n_x; k++) s->lp.cost[k] = -sign * a[k];
    for (int j = 0; j < p->n_r; j++) {
        if (s->r[j] < 0) continue;
        s->lp.cost[s->r[j]] = -sign * b[j];
        tolerance += fabs(b[j]) * fmax(s->ranges->p_upper[j], s->w[j] >= 0 ? -s->ranges->p_lower[j] : 0);
    }
    return UNIT * tolerance;
}

/* The phases at the witness, for CBC to start from. */
static const double *start_at_witness(finding *s) {
    double *start = s->x + s->lp.n_cols;
    (void)esp_witness_try(&s->witness, s->witness.best_x);
    for (int j = 0; j < s->program->n_r; j++)
        if (s->a[j] >= 0) start[s->a[j]] = s->witness.p[j] > 0;
    return start;
}

/* CBC's point, put into the box, may reach more. */
static void try_solution(finding *s) {
    for (int k = 0; k < s->program->n_x; k++) s->witness.x[k] = fmin(fmax(s->x[k], s->box->lower[k]), s->box->upper[k]);
    esp_witness_ascend(&s->witness, s->box->lower, s->box->upper, STEPS);
}

static double seconds_left(const finding *s, int searches) {
    if (!s->stop || s->stop->deadline_ns == ESP_NEVER) return (double)INFINITY;
    return fmax(1e-3, 1e-9 * (double)(s->stop->deadline_ns - esp_clock_now_ns()) / searches);
}

/* An upper bound of sign y_i by CBC; infinite when its answer cannot be taken: there is always a solution, and one that
 * reaches as much as the witness. */
static esp_code ask(finding *s, int i, double sign, double seconds, bool second_look, double *ret_upper, bool *ret_complete, esp_error *reterr) {
    const esp_program *p = s->program;
    double tolerance = set_costs(s, i, sign);
    esp_cbc_options options = {.cutoff = (double)INFINITY, .gap = s->opts->gap, .seconds = seconds, .second_look = second_look};
    esp_cbc_result result = {0};
    if (!second_look) options.start = start_at_witness(s);
    esp_code code = esp_cbc_solve(&s->lp, &options, s->x, &result, reterr);
    if (code) return code;
    s->out.solves++;
    s->out.nodes += result.nodes;
    if (result.found) try_solution(s);
    double upper = -result.bound + sign * p->c0[i] + tolerance;
    esp_program_forward(p, s->witness.best_x, s->witness.y, s->witness.p, NULL, s->witness.work);
    bool fits = result.status == ESP_CBC_COMPLETE || result.status == ESP_CBC_STOPPED;
    fits = fits && isfinite(upper) && upper >= sign * s->witness.y[i];
    if (!fits) s->out.refused++;
    *ret_upper = fits ? upper : (double)INFINITY;
    *ret_complete = fits && result.status == ESP_CBC_COMPLETE;
    return ESP_OK;
}

static double proved_of(const finding *s, int i, double sign) {
    return sign > 0 ? s->ranges->y_upper[i] : -s->ranges->y_lower[i];
}

/* The output and sign of the largest proved bound among those not done; -1 when none is above what is reached. */
static int choose(const finding *s, const bool *done, double reached) {
    int best = -1;
    for (int k = 0; k < 2 * s->program->n_y; k++) {
        double proved = proved_of(s, k / 2, k % 2 ? -1 : 1);
        if (done[k] || !(proved > reached)) continue;
        if (best < 0 || proved > proved_of(s, best / 2, best % 2 ? -1 : 1)) best = k;
    }
    return best;
}

static esp_code search(finding *s, bool *done, esp_error *reterr) {
    esp_exact *out = &s->out;
    int n = 2 * s->program->n_y, left = n;
    out->status = "optimal";
    for (int k = choose(s, done, s->witness.best); k >= 0; k = choose(s, done, fmax(s->witness.best, out->value))) {
        double sign = k % 2 ? -1 : 1, proved = proved_of(s, k / 2, sign), upper = (double)INFINITY;
        bool complete = false;
        done[k] = true;
        for (int look = 0; look < 2 && !isfinite(upper) && !esp_stop_now(s->stop); look++) {
            esp_code code = ask(s, k / 2, sign, seconds_left(s, left), look > 0, &upper, &complete, reterr);
            if (code) return code;
        }
        left--;
        if (!complete) out->status = "time_limit";
        if (!(fmin(upper, proved) > out->value)) continue;
        out->solver = upper < proved;
        out->value = fmin(upper, proved);
        out->tolerance = out->solver ? set_costs(s, k / 2, sign) : 0;
    }
    return ESP_OK;
}

/* ---- all of it -------------------------------------------------------------------------------------------------------- */

esp_code esp_exact_run(const esp_program *f, const esp_program *g, const int *pairs, const esp_box *box, const esp_certify_opts *opts,
                       const esp_stop *stop, esp_exact *ret_exact, esp_error *reterr) {
    finding s = {.box = box, .opts = opts, .stop = stop, .pairs = pairs};
    bool *done = calloc(2 * (size_t)f->n_y, sizeof *done);
    esp_code code = esp_certify_check(f, box, opts, reterr);
    if (!code && opts->norm == ESP_NORM_2 && f->n_y > 1)
        code = esp_fail(reterr, ESP_INVALID, "the two-norm of %d outputs is no linear program", f->n_y);
    if (!code && !done) code = esp_fail(reterr, ESP_NOMEM, "no memory for %d outputs", f->n_y);
    if (!code) code = exact_init(&s, f, g, reterr);
    if (code) goto out;
    find_ranges(&s);
    find_witness(&s);
    code = build(&s, reterr);
    if (!code) code = search(&s, done, reterr);
    if (code) goto out;
    s.out.lower = esp_witness_reached(&s.witness, s.crown, s.scratch);
    if (s.out.value < s.out.lower) { /* nothing was above what the witness reached */
        s.out.value = esp_ranges_norm(s.ranges, ESP_NORM_INF);
        s.out.solver = false;
        s.out.tolerance = 0;
    }
    memcpy(s.out.witness, s.witness.best_x, (size_t)box->n * sizeof *s.out.witness);
    *ret_exact = s.out;
    s.out = (esp_exact){0};
out:
    free(done);
    exact_done(&s);
    return code;
}
