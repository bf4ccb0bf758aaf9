/* SPDX-License-Identifier: Apache-2.0
 * Relaxation, polish and linear-program tightening at the root. */
#include "plan/root.h"

#include <assert.h>
#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#define RELAX_ROUNDS   8 /* of tangents added where the relaxation lands */
#define TANGENT_ROOM   4096 /* rows that may be added */
#define KINK           1e-7 /* a ReLU this near 0 may be flipped */
#define NEARLY_REACHED 0.1 /* a range end that a solution came this near to (share of the width) is not worth a solve */
#define KNAP_SHRINK    0.95 /* rewrite a (knap) row when a side has shrunk to this */
#define KNAP_SMALLEST  1e-4 /* smallest side, as a share of the row's scale, that is written */
#define RANGE_SLACK    1e-9 /* bounds from linear programs are moved out by this share of their size */

double esp_solver_tolerance(double bound) {
    return 1e-6 * fmax(1.0, fabs(bound));
}

double esp_root_cutoff(const esp_track *track) {
    if (!track->found) return (double)INFINITY;
    double best = track->best.objective;
    return fmin(esp_track_cutoff(track) + 2.0 * esp_solver_tolerance(best), best);
}

static bool take(esp_root *root) {
    const esp_problem *p = root->problem;
    size_t hu = (size_t)(p->horizon * p->nu), hy = (size_t)(p->horizon * p->ny), hr = (size_t)p->horizon * (size_t)p->step->n_r + 1;
    size_t cols = (size_t)root->encoding.lp.n_cols, rows = (size_t)root->encoding.lp.n_rows + TANGENT_ROOM;
    esp_arena *arena = root->arena;
    root->room = (int)rows;
    root->lower = ESP_NEW(arena, double, cols);
    root->upper = ESP_NEW(arena, double, cols);
    root->cost = ESP_NEW(arena, double, cols);
    root->point = ESP_NEW(arena, double, cols);
    root->duals = ESP_NEW(arena, double, rows);
    root->work = ESP_NEW(arena, double, rows);
    root->seen_lower = ESP_NEW(arena, double, hr);
    root->seen_upper = ESP_NEW(arena, double, hr);
    root->knap_lower = ESP_NEW(arena, double, hr);
    root->knap_upper = ESP_NEW(arena, double, hr);
    root->inputs = ESP_NEW(arena, double, hu);
    root->predicted = ESP_NEW(arena, double, hy);
    root->pre = ESP_NEW(arena, double, hr);
    root->phase = ESP_NEW(arena, signed char, hr);
    return root->lower && root->upper && root->cost && root->point && root->duals && root->work && root->seen_lower && root->seen_upper &&
           root->inputs && root->predicted && root->pre && root->phase && root->knap_lower && root->knap_upper;
}

static void copy_ranges(esp_ranges *to, const esp_ranges *from) {
    memcpy(to->p_lower, from->p_lower, (size_t)from->n_r * sizeof(double));
    memcpy(to->p_upper, from->p_upper, (size_t)from->n_r * sizeof(double));
    memcpy(to->y_lower, from->y_lower, (size_t)from->n_y * sizeof(double));
    memcpy(to->y_upper, from->y_upper, (size_t)from->n_y * sizeof(double));
}

static esp_code build(esp_root *root, esp_error *reterr) {
    const esp_problem *p = root->problem;
    const esp_ranges *known = root->tightened->ranges;
    size_t hu = (size_t)(p->horizon * p->nu);
    root->arena = esp_arena_create(0);
    root->u_lower = root->arena ? ESP_NEW(root->arena, double, hu) : NULL;
    root->u_upper = root->arena ? ESP_NEW(root->arena, double, hu) : NULL;
    if (!root->u_lower || !root->u_upper) return esp_fail(reterr, ESP_NOMEM, "a search's root");
    memcpy(root->u_lower, p->u_lower, hu * sizeof(double));
    memcpy(root->u_upper, p->u_upper, hu * sizeof(double));
    esp_code code = esp_ranges_create(known->n_r, known->n_y, &root->ranges, reterr);
    if (code != ESP_OK) return code;
    copy_ranges(root->ranges, known);
    code = esp_encode_tangents(p, known, &root->tangents, reterr);
    if (code == ESP_OK) code = esp_encode(p, known, p->horizon, false, &root->tangents, &root->encoding, reterr);
    if (code == ESP_OK) code = esp_clp_create(&root->encoding.lp, &root->clp, reterr);
    if (code == ESP_OK && !take(root)) code = esp_fail(reterr, ESP_NOMEM, "a search's root");
    if (code != ESP_OK) return code;
    memcpy(root->knap_lower, known->p_lower, (size_t)known->n_r * sizeof(double));
    memcpy(root->knap_upper, known->p_upper, (size_t)known->n_r * sizeof(double));
    memcpy(root->lower, root->encoding.lp.col_lower, (size_t)root->encoding.lp.n_cols * sizeof(double));
    memcpy(root->upper, root->encoding.lp.col_upper, (size_t)root->encoding.lp.n_cols * sizeof(double));
    return ESP_OK;
}

esp_code esp_root_create(esp_track *track, const esp_tightened *tightened, esp_root **ret_root, esp_error *reterr) {
    esp_root *root = calloc(1, sizeof *root);
    if (!root) return esp_fail(reterr, ESP_NOMEM, "a search's root");
    *root = (esp_root){.problem = track->problem, .track = track, .tightened = tightened, .cutoff = (double)INFINITY};
    esp_code code = build(root, reterr);
    if (code == ESP_OK)
        *ret_root = root;
    else
        esp_root_free(root);
    return code;
}

void esp_root_free(esp_root *root) {
    if (!root) return;
    esp_clp_free(root->clp);
    esp_encoding_done(&root->encoding);
    esp_tangents_done(&root->tangents);
    esp_ranges_free(root->ranges);
    esp_arena_free(root->arena);
    free(root);
}

/* The bound that the last solve's duals prove for the objective `cost` within the current limits. */
static double safe_bound(esp_root *root, const double *cost) {
    return esp_lp_safe_bound(&root->encoding.lp, cost, root->lower, root->upper, esp_clp_duals(root->clp), root->work);
}

/* The last solve found no point: is that proved? A positive bound on the zero objective says so. */
static bool refuted(esp_root *root) {
    memset(root->cost, 0, (size_t)root->encoding.lp.n_cols * sizeof *root->cost);
    if (!esp_clp_farkas(root->clp, root->duals)) return false;
    double bound = esp_lp_safe_bound(&root->encoding.lp, root->cost, root->lower, root->upper, root->duals, root->work);
    if (bound > 0.0) return true;
    for (int i = 0; i < root->encoding.lp.n_rows; i++) root->duals[i] = -root->duals[i];
    return esp_lp_safe_bound(&root->encoding.lp, root->cost, root->lower, root->upper, root->duals, root->work) > 0.0;
}

static void record_refuted(esp_root *root) {
    if (!refuted(root)) return;
    if (root->cutoff < (double)INFINITY) {
        root->nothing_below = true;
        esp_track_bound(root->track, root->cutoff);
    } else {
        root->infeasible = true;
    }
}

/* New tangents where the point (n_cols) lies more than a little under a square; how many. */
static int add_tangents(esp_root *root) {
    esp_encoding *e = &root->encoding;
    int added = 0;
    for (int k = 0; k < e->n_squares && e->lp.n_rows < root->room; k++) {
        const esp_square *square = &e->squares[k];
        double d = esp_square_at(square, root->point), s = root->point[square->s];
        if (d * d - s <= 1e-4 * fmax(1e-3, d * d)) continue;
        int cols[3] = {square->s, square->col, square->before}, n = square->before >= 0 ? 3 : 2;
        double values[3] = {1.0, -2.0 * d, 2.0 * d}, bound = -d * d - 2.0 * d * square->shift;
        if (!esp_tangents_add(&root->tangents, k, d)) return added;
        (void)esp_lp_add_row(&e->lp, bound, (double)INFINITY);
        for (int i = 0; i < n; i++) esp_lp_put(&e->lp, cols[i], values[i]);
        esp_clp_add_row(root->clp, bound, n, cols, values);
        added++;
    }
    return added;
}

static void take_point(esp_root *root) {
    memcpy(root->point, esp_clp_solution(root->clp), (size_t)root->encoding.lp.n_cols * sizeof *root->point);
}

static void offer_point(esp_root *root, const char *found_by) {
    for (int k = 0; k < root->encoding.n_u; k++) root->inputs[k] = root->point[root->encoding.u[k]];
    (void)esp_track_offer(root->track, root->inputs, found_by);
}

esp_code esp_root_relax(esp_root *root, esp_error *reterr) {
    esp_clp_cost(root->clp, root->encoding.lp.cost);
    esp_clp_limits(root->clp, root->lower, root->upper);
    double before = -(double)INFINITY;
    for (int round = 0; round < RELAX_ROUNDS && !esp_track_stop(root->track); round++) {
        esp_clp_status status = esp_clp_solve(root->clp, ESP_CLP_DUAL, esp_track_left(root->track));
        if (status == ESP_CLP_INFEASIBLE) record_refuted(root);
        if (status != ESP_CLP_OPTIMAL) return ESP_OK;
        double bound = safe_bound(root, root->encoding.lp.cost);
        esp_track_bound(root->track, fmin(bound, root->cutoff));
        take_point(root);
        offer_point(root, "relaxation");
        bool paid = bound > before + 1e-3 * fabs(bound);
        before = bound;
        if (root->encoding.n_squares == 0 || (round > 0 && !paid) || add_tangents(root) == 0) return ESP_OK;
        esp_code code = esp_lp_finish(&root->encoding.lp, reterr);
        if (code != ESP_OK) return code;
    }
    return ESP_OK;
}

/* ---- polish ---------------------------------------------------------------------------------------------------- */

static void replay(esp_root *root, const double *inputs) {
    const esp_problem *p = root->problem;
    for (int t = 0; t < p->horizon; t++) {
        esp_problem_window(p, t, inputs, root->predicted, p->x);
        double *pre = root->pre + (size_t)t * (size_t)p->step->n_r;
        esp_program_forward(p->step, p->x, root->predicted + t * p->ny, pre, NULL, p->r);
    }
}

static void set_phase(esp_root *root, int q, double *lower, double *upper) {
    const esp_encoding *e = &root->encoding;
    if (e->w[q] < 0) return;
    upper[e->r[q]] = root->phase[q] > 0 ? root->upper[e->r[q]] : 0.0;
    upper[e->w[q]] = root->phase[q] > 0 ? 0.0 : root->upper[e->w[q]];
    lower[e->r[q]] = lower[e->w[q]] = 0.0;
}

/* Each box to avoid is left through the face that the plan leaves it through most clearly. */
static void set_faces(esp_root *root, double *lower) {
    const esp_encoding *e = &root->encoding;
    for (int f = 0; f < e->n_faces;) {
        int best = f, next = f;
        double most = -(double)INFINITY;
        for (; next < e->n_faces && e->faces[next].group == e->faces[f].group; next++) {
            double clear = e->faces[next].side * (root->predicted[e->faces[next].output] - e->faces[next].bound);
            if (clear <= most) continue;
            most = clear;
            best = next;
        }
        lower[e->faces[best].z] = 1.0;
        f = next;
    }
}

/* Sides of the state box are drawn in by half the tolerance, so that what the program returns replays inside. */
static void draw_in(esp_root *root, double *lower, double *upper) {
    const esp_problem *p = root->problem;
    for (int k = 0; k < root->encoding.n_y; k++) {
        double low = p->y_lower[k], high = p->y_upper[k];
        if (isfinite(low)) low += 0.5 * ESP_LIMIT_TOLERANCE * fmax(1.0, fabs(low));
        if (isfinite(high)) high -= 0.5 * ESP_LIMIT_TOLERANCE * fmax(1.0, fabs(high));
        low = fmax(low, root->ranges->y_lower[k]);
        high = fmin(high, root->ranges->y_upper[k]);
        if (low <= high) esp_encoding_range(&root->encoding, k, low, high, lower, upper);
    }
}

/* The linear program of the current phases. True when it was solved and its plan offered. */
static bool solve_phases(esp_root *root, double *lower, double *upper, double *ret_value) {
    esp_clp_limits(root->clp, lower, upper);
    if (esp_clp_solve(root->clp, ESP_CLP_DUAL, esp_track_left(root->track)) != ESP_CLP_OPTIMAL) return false;
    *ret_value = esp_clp_value(root->clp);
    take_point(root);
    offer_point(root, "polish");
    return true;
}

static void flip_kinks(esp_root *root, double *lower, double *upper, double value, int max_solves) {
    const esp_encoding *e = &root->encoding;
    int since = 0;
    for (int q = 0, solves = 0; since < e->n_r && solves < max_solves && !esp_track_stop(root->track); q = (q + 1) % e->n_r, since++) {
        if (e->w[q] < 0 || root->point[e->r[q]] > KINK || root->point[e->w[q]] > KINK) continue;
        double flipped;
        root->phase[q] = (signed char)-root->phase[q];
        set_phase(root, q, lower, upper);
        solves++;
        memcpy(root->cost, root->point, (size_t)e->lp.n_cols * sizeof *root->cost);
        if (solve_phases(root, lower, upper, &flipped) && flipped < value - 1e-7 * (1.0 + fabs(value))) {
            value = flipped;
            since = 0;
            continue;
        }
        memcpy(root->point, root->cost, (size_t)e->lp.n_cols * sizeof *root->cost);
        root->phase[q] = (signed char)-root->phase[q];
        set_phase(root, q, lower, upper);
    }
}

esp_code esp_root_polish(esp_root *root, const double *inputs, int max_solves, esp_error *reterr) {
    esp_encoding *e = &root->encoding;
    if (root->problem->task->values || esp_track_stop(root->track)) return ESP_OK;
    double *lower = malloc((size_t)e->lp.n_cols * sizeof *lower), *upper = malloc((size_t)e->lp.n_cols * sizeof *upper);
    esp_code code = lower && upper ? ESP_OK : esp_fail(reterr, ESP_NOMEM, "a polish");
    if (code != ESP_OK) goto out;
    memcpy(lower, root->lower, (size_t)e->lp.n_cols * sizeof *lower);
    memcpy(upper, root->upper, (size_t)e->lp.n_cols * sizeof *upper);
    replay(root, inputs);
    for (int q = 0; q < e->n_r; q++) {
        root->phase[q] = root->pre[q] > 0.0 ? 1 : -1;
        set_phase(root, q, lower, upper);
    }
    set_faces(root, lower);
    draw_in(root, lower, upper);
    esp_clp_cost(root->clp, e->lp.cost);
    double value = 0.0;
    bool solved = solve_phases(root, lower, upper, &value);
    for (int round = 0; solved && round < RELAX_ROUNDS && !esp_track_stop(root->track) && add_tangents(root) > 0; round++)
        solved = solve_phases(root, lower, upper, &value);
    if (solved) flip_kinks(root, lower, upper, value, max_solves);
    esp_clp_limits(root->clp, root->lower, root->upper);
    code = esp_lp_finish(&e->lp, reterr);
out:
    free(lower);
    free(upper);
    return code;
}

/* ---- tighten --------------------------------------------------------------------------------------------------- */

static void note_seen(esp_root *root) {
    const esp_encoding *e = &root->encoding;
    const double *x = esp_clp_solution(root->clp);
    for (int q = 0; q < e->n_r; q++) {
        if (e->w[q] < 0) continue;
        double p = x[e->r[q]] - x[e->w[q]];
        root->seen_lower[q] = fmin(root->seen_lower[q], p);
        root->seen_upper[q] = fmax(root->seen_upper[q], p);
    }
}

/* The least of sign * (x[plus] - x[minus]) over the relaxation, as a safe bound; -INFINITY when there is none. */
static double least(esp_root *root, int plus, int minus, double sign) {
    memset(root->cost, 0, (size_t)root->encoding.lp.n_cols * sizeof *root->cost);
    root->cost[plus] = sign;
    if (minus >= 0) root->cost[minus] = -sign;
    esp_clp_cost(root->clp, root->cost);
    esp_clp_status status = esp_clp_solve(root->clp, ESP_CLP_PRIMAL, esp_track_left(root->track));
    if (status == ESP_CLP_INFEASIBLE) record_refuted(root);
    if (status != ESP_CLP_OPTIMAL) return -(double)INFINITY;
    note_seen(root);
    double bound = safe_bound(root, root->cost);
    return bound - RANGE_SLACK * fmax(1.0, fabs(bound));
}

/* The (knap) row and column limits of a ReLU from its current range. The row's right side stays, so its entries grow as
 * the range shrinks; where they would grow large the row keeps its looser, still valid, entries. */
static void refresh_relu(esp_root *root, int q) {
    esp_encoding *e = &root->encoding;
    double l = root->ranges->p_lower[q], u = root->ranges->p_upper[q];
    if (e->w[q] < 0) return;
    root->lower[e->r[q]] = fmax(0.0, l);
    root->upper[e->r[q]] = fmax(0.0, u);
    root->lower[e->w[q]] = fmax(0.0, -u);
    root->upper[e->w[q]] = fmax(0.0, -l);
    double m = e->lp.row_upper[e->knap[q]];
    if (u < KNAP_SMALLEST * m || -l < KNAP_SMALLEST * m) return;
    if (u > KNAP_SHRINK * root->knap_upper[q] && l < KNAP_SHRINK * root->knap_lower[q]) return;
    root->knap_lower[q] = l;
    root->knap_upper[q] = u;
    esp_lp_set(&e->lp, e->knap[q], e->r[q], m / u);
    esp_lp_set(&e->lp, e->knap[q], e->w[q], m / -l);
    esp_clp_coefficient(root->clp, e->knap[q], e->r[q], m / u);
    esp_clp_coefficient(root->clp, e->knap[q], e->w[q], m / -l);
}

static void refresh(esp_root *root) {
    esp_encoding *e = &root->encoding;
    for (int q = 0; q < e->n_r; q++) refresh_relu(root, q);
    for (int k = 0; k < e->n_y; k++) {
        double low = fmax(root->problem->y_lower[k], root->ranges->y_lower[k]), high = fmin(root->problem->y_upper[k], root->ranges->y_upper[k]);
        if (low <= high) esp_encoding_range(e, k, low, high, root->lower, root->upper);
    }
    for (int k = 0; k < e->n_u; k++) {
        root->lower[e->u[k]] = root->u_lower[k];
        root->upper[e->u[k]] = root->u_upper[k];
    }
    esp_clp_limits(root->clp, root->lower, root->upper);
}

/* A range that crossed by rounding is closed again; one that crossed by more proves that nothing is left. */
static void narrow(esp_root *root, double *lower, double *upper, double new_lower, double new_upper) {
    double low = fmax(*lower, new_lower), high = fmin(*upper, new_upper);
    if (low > high + 1e-6 * fmax(1.0, fabs(low))) {
        root->nothing_below = true;
        return;
    }
    *lower = fmin(low, high);
    *upper = fmax(low, high);
}

typedef struct pass {
    esp_root *root;
    esp_ranges *next;
    int64_t started;
    double seconds;
    bool sweep; /* CROWN between steps is cheap enough */
} pass;

static bool pass_over(const pass *s) {
    return s->root->nothing_below || s->root->infeasible || esp_track_stop(s->root->track) || esp_clock_seconds_since(s->started) >= s->seconds;
}

static void tighten_relu(pass *s, int q) {
    esp_root *root = s->root;
    const esp_encoding *e = &root->encoding;
    double *l = &root->ranges->p_lower[q], *u = &root->ranges->p_upper[q], near = NEARLY_REACHED * (*u - *l);
    if (e->w[q] < 0 || *l >= 0.0 || *u <= 0.0) return;
    if (root->seen_lower[q] > *l + near && !pass_over(s)) narrow(root, l, u, least(root, e->r[q], e->w[q], 1.0), (double)INFINITY);
    if (root->seen_upper[q] < *u - near && !pass_over(s)) narrow(root, l, u, -(double)INFINITY, -least(root, e->r[q], e->w[q], -1.0));
}

/* What the narrower ranges mean for the later ones, then into the relaxation. */
static esp_code sweep(pass *s, esp_error *reterr) {
    esp_root *root = s->root;
    esp_box box = {.n = root->encoding.n_u, .lower = root->u_lower, .upper = root->u_upper};
    if (s->sweep && !root->nothing_below) {
        esp_code code = esp_bounds_crown(root->tightened->unrolled, &box, root->ranges, s->next, reterr);
        if (code == ESP_UNPROCESSABLE) root->nothing_below = true; /* what the steps prove does not go together */
        if (code != ESP_OK) return code == ESP_UNPROCESSABLE ? ESP_OK : code;
        for (int q = 0; q < root->ranges->n_r; q++)
            narrow(root, &root->ranges->p_lower[q], &root->ranges->p_upper[q], s->next->p_lower[q], s->next->p_upper[q]);
        for (int k = 0; k < root->ranges->n_y; k++)
            narrow(root, &root->ranges->y_lower[k], &root->ranges->y_upper[k], s->next->y_lower[k], s->next->y_upper[k]);
    }
    if (!root->nothing_below) refresh(root);
    return ESP_OK;
}

static void tighten_inputs(pass *s) {
    esp_root *root = s->root;
    for (int k = 0; k < root->encoding.n_u && !pass_over(s); k++) {
        int u = root->encoding.u[k];
        narrow(root, &root->u_lower[k], &root->u_upper[k], least(root, u, -1, 1.0), (double)INFINITY);
        if (!pass_over(s)) narrow(root, &root->u_lower[k], &root->u_upper[k], -(double)INFINITY, -least(root, u, -1, -1.0));
    }
}

esp_code esp_root_tighten(esp_root *root, double seconds, esp_error *reterr) {
    const esp_problem *p = root->problem;
    assert(root->track->found);
    pass s = {.root = root, .started = esp_clock_now_ns(), .seconds = seconds};
    s.sweep = esp_tighten_seconds(p) * (p->horizon + 1) < 0.2 * seconds;
    root->cutoff = esp_root_cutoff(root->track);
    root->encoding.lp.row_upper[root->encoding.cutoff_row] = root->cutoff;
    esp_clp_row_upper(root->clp, root->encoding.cutoff_row, root->cutoff);
    for (int q = 0; q < root->encoding.n_r; q++) {
        root->seen_lower[q] = (double)INFINITY;
        root->seen_upper[q] = -(double)INFINITY;
    }
    esp_code code = esp_ranges_create(root->ranges->n_r, root->ranges->n_y, &s.next, reterr);
    for (int t = 0; code == ESP_OK && t < p->horizon && !pass_over(&s); t++) {
        for (int j = 0; j < p->step->n_r && !pass_over(&s); j++) tighten_relu(&s, t * p->step->n_r + j);
        code = sweep(&s, reterr);
    }
    if (code == ESP_OK && !pass_over(&s)) {
        tighten_inputs(&s);
        code = sweep(&s, reterr);
    }
    esp_ranges_free(s.next);
    if (root->nothing_below) esp_track_bound(root->track, root->cutoff);
    return code;
}
