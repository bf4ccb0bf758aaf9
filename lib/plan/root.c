/* SPDX-License-Identifier: Apache-2.0
 * Relaxation, polish and tightening at the root. */
#include "plan/root.h"

#include <assert.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#define REFINEMENTS  8 /* of squares, by tangents where the plan lands */
#define REFINE_LEAST 1e-4 /* a square this far above its tangents, as a share of the plan's cost, gets another */
#define REFINE_PAYS  1e-3 /* share by which a bound must rise for another round */
#define KINK         1e-7 /* a ReLU this near 0 may be flipped */
#define CHEAP_CROWN  0.3 /* of the time for tightening: more for the sweeps between steps, and there is none */
#define BETTER       1e-7 /* share by which a flip must gain */

double esp_solver_tolerance(double bound) {
    return 1e-6 * fmax(1.0, fabs(bound));
}

double esp_root_cutoff(const esp_track *track) {
    if (!track->found) return (double)INFINITY;
    double best = track->best.objective;
    return fmin(esp_track_cutoff(track) + 2.0 * esp_solver_tolerance(best), best);
}

/* ---- life -------------------------------------------------------------------------------------------------------- */

static bool take(esp_root *root) {
    const esp_problem *p = root->problem;
    size_t hu = (size_t)(p->horizon * p->nu), hy = (size_t)(p->horizon * p->ny), hr = (size_t)p->horizon * (size_t)p->step->n_r + 1;
    root->arena = esp_arena_create(0);
    if (!root->arena) return false;
    root->u_lower = ESP_NEW(root->arena, double, hu);
    root->u_upper = ESP_NEW(root->arena, double, hu);
    root->inputs = ESP_NEW(root->arena, double, hu);
    root->predicted = ESP_NEW(root->arena, double, hy);
    root->pre = ESP_NEW(root->arena, double, hr);
    root->p_lower = ESP_NEW(root->arena, double, hr);
    root->p_upper = ESP_NEW(root->arena, double, hr);
    root->kink = ESP_NEW(root->arena, bool, hr);
    return root->u_lower && root->u_upper && root->inputs && root->predicted && root->pre && root->p_lower && root->p_upper && root->kink;
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
    if (!take(root)) return esp_fail(reterr, ESP_NOMEM, "a search's root");
    memcpy(root->u_lower, p->u_lower, hu * sizeof(double));
    memcpy(root->u_upper, p->u_upper, hu * sizeof(double));
    esp_code code = esp_ranges_create(known->n_r, known->n_y, &root->ranges, reterr);
    if (code != ESP_OK) return code;
    copy_ranges(root->ranges, known);
    code = esp_encode_tangents(p, known, p->horizon, &root->tangents, reterr);
    return code == ESP_OK ? esp_squeezer_create(p, known, p->horizon, &root->squeezer, reterr) : code;
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
    esp_squeezer_free(root->squeezer);
    esp_tangents_done(&root->tangents);
    esp_ranges_free(root->ranges);
    esp_arena_free(root->arena);
    free(root);
}

esp_region esp_root_region(const esp_root *root) {
    return (esp_region){root->ranges->p_lower, root->ranges->p_upper, root->u_lower, root->u_upper};
}

static esp_relax *relax_of(esp_root *root) {
    return root->squeezer->relax;
}

/* ---- relax ------------------------------------------------------------------------------------------------------- */

static void record_refuted(esp_root *root) {
    esp_region region = esp_root_region(root);
    if (!esp_relax_refuted(relax_of(root), &region)) return;
    if (root->cutoff < (double)INFINITY) {
        root->nothing_below = true;
        esp_track_bound(root->track, root->cutoff);
    } else {
        root->infeasible = true;
    }
}

static void offer_point(esp_root *root, const char *found_by) {
    esp_relax_inputs(relax_of(root), root->inputs);
    (void)esp_track_offer(root->track, root->inputs, found_by);
}

/* Tangents where the LP's point lies; how many. They are noted for other models too. */
static int refine(esp_root *root) {
    const esp_encoding *e = esp_relax_encoding(relax_of(root));
    double value = esp_simplex_value(esp_relax_simplex(relax_of(root)));
    if (e->n_squares == 0) return 0;
    const double *z = esp_simplex_solution(esp_relax_simplex(relax_of(root)));
    double least = REFINE_LEAST * fmax(1e-3, value) / e->n_squares;
    for (int k = 0; k < e->n_squares; k++) {
        double d = esp_square_at(&e->squares[k], z);
        if (e->lp.cost[e->squares[k].s] * (d * d - z[e->squares[k].s]) > least && !esp_tangents_add(&root->tangents, k, d)) break;
    }
    return esp_relax_refine(relax_of(root), least);
}

esp_code esp_root_relax(esp_root *root, esp_error *reterr) {
    esp_region region = esp_root_region(root);
    esp_relax *relax = relax_of(root);
    double before = -(double)INFINITY;
    (void)reterr;
    esp_relax_apply(relax, &region);
    for (int round = 0; round < REFINEMENTS && !esp_track_stop(root->track); round++) {
        esp_simplex_status status = esp_simplex_dual(esp_relax_simplex(relax), root->track->stop);
        if (status == ESP_SIMPLEX_INFEASIBLE) record_refuted(root);
        if (status != ESP_SIMPLEX_OPTIMAL) return ESP_OK;
        double bound = esp_relax_bound(relax, &region, NULL);
        esp_track_bound(root->track, fmin(bound, root->cutoff));
        offer_point(root, "relaxation");
        bool paid = bound > before + REFINE_PAYS * fabs(bound);
        before = bound;
        if ((round > 0 && !paid) || refine(root) == 0) return ESP_OK;
    }
    return ESP_OK;
}

/* ---- polish ------------------------------------------------------------------------------------------------------ */

void esp_root_replay(esp_root *root, const double *inputs) {
    const esp_problem *p = root->problem;
    for (int t = 0; t < p->horizon; t++) {
        esp_problem_window(p, t, inputs, root->predicted, p->x);
        double *pre = root->pre + (size_t)t * (size_t)p->step->n_r;
        esp_program_forward(p->step, p->x, root->predicted + t * p->ny, pre, NULL, p->r);
    }
}

static bool unstable(const esp_root *root, int q) {
    return root->ranges->p_lower[q] < 0.0 && root->ranges->p_upper[q] > 0.0;
}

static void set_phase(esp_root *root, int q, bool on) {
    root->p_lower[q] = on && unstable(root, q) ? 0.0 : root->ranges->p_lower[q];
    root->p_upper[q] = on || !unstable(root, q) ? root->ranges->p_upper[q] : 0.0;
}

/* Sides of the state box are drawn in by half the tolerance, so that what the program returns replays inside. */
static void draw_in(esp_root *root) {
    const esp_problem *p = root->problem;
    for (int k = 0; k < p->horizon * p->ny; k++) {
        double low = p->y_lower[k], high = p->y_upper[k];
        if (isfinite(low)) low += 0.5 * ESP_LIMIT_TOLERANCE * fmax(1.0, fabs(low));
        if (isfinite(high)) high -= 0.5 * ESP_LIMIT_TOLERANCE * fmax(1.0, fabs(high));
        low = fmax(low, root->ranges->y_lower[k]);
        high = fmin(high, root->ranges->y_upper[k]);
        if (low <= high) esp_relax_output(relax_of(root), k, low, high);
    }
}

static void note_kinks(esp_root *root) {
    const esp_relax *relax = relax_of(root);
    for (int q = 0; q < root->ranges->n_r; q++) root->kink[q] = unstable(root, q) && esp_relax_r(relax, q) <= KINK && esp_relax_w(relax, q) <= KINK;
}

/* The linear program of the current phases. True when it was solved and its plan offered. */
static bool solve_phases(esp_root *root, double *ret_value) {
    esp_region phases = {root->p_lower, root->p_upper, root->u_lower, root->u_upper};
    esp_simplex *simplex = esp_relax_simplex(relax_of(root));
    esp_relax_apply(relax_of(root), &phases);
    for (int round = 0; round < REFINEMENTS; round++) {
        if (esp_simplex_dual(simplex, root->track->stop) != ESP_SIMPLEX_OPTIMAL) return false;
        if (refine(root) == 0) break;
    }
    *ret_value = esp_simplex_value(simplex);
    offer_point(root, "polish");
    return true;
}

static void flip_kinks(esp_root *root, double value, int max_solves) {
    int since = 0, n = root->ranges->n_r;
    for (int q = 0, solves = 0; since < n && solves < max_solves && !esp_track_stop(root->track); q = (q + 1) % n, since++) {
        if (!root->kink[q]) continue;
        bool on = root->p_lower[q] == 0.0;
        double flipped;
        set_phase(root, q, !on);
        solves++;
        if (solve_phases(root, &flipped) && flipped < value - BETTER * (1.0 + fabs(value))) {
            value = flipped;
            since = 0;
            note_kinks(root);
        } else {
            set_phase(root, q, on);
        }
    }
}

esp_code esp_root_polish(esp_root *root, const double *inputs, int max_solves, esp_error *reterr) {
    double value = 0.0;
    (void)reterr;
    if (root->problem->task->values || esp_track_stop(root->track)) return ESP_OK;
    esp_root_replay(root, inputs);
    for (int q = 0; q < root->ranges->n_r; q++) set_phase(root, q, root->pre[q] > 0.0);
    draw_in(root);
    esp_relax_faces(relax_of(root), root->predicted);
    if (solve_phases(root, &value)) {
        note_kinks(root);
        flip_kinks(root, value, max_solves);
    }
    esp_relax_restore(relax_of(root));
    return ESP_OK;
}

/* ---- tighten ----------------------------------------------------------------------------------------------------- */

/* CROWN over the horizon with what is known by now, for the ranges of y. False: what the steps prove does not go together. */
static esp_code sweep_outputs(esp_root *root, bool *ret_open, esp_error *reterr) {
    esp_ranges *next = NULL, *now = root->ranges;
    esp_box box = {.n = root->problem->horizon * root->problem->nu, .lower = root->u_lower, .upper = root->u_upper};
    esp_code code = esp_ranges_create(now->n_r, now->n_y, &next, reterr);
    if (code != ESP_OK) return code;
    code = esp_bounds_crown(root->tightened->unrolled, &box, now, next, reterr);
    *ret_open = code == ESP_OK;
    for (int k = 0; code == ESP_OK && k < now->n_y; k++) {
        now->y_lower[k] = fmax(now->y_lower[k], next->y_lower[k]);
        now->y_upper[k] = fmin(now->y_upper[k], next->y_upper[k]);
        if (now->y_lower[k] > now->y_upper[k]) *ret_open = false;
    }
    esp_ranges_free(next);
    return code == ESP_UNPROCESSABLE ? ESP_OK : code;
}

/* The relaxation anew: narrower ranges of y are limits of its columns, and stable ReLUs need none. */
esp_code esp_root_renew(esp_root *root, esp_error *reterr) {
    esp_squeezer *next = NULL;
    esp_code code = esp_squeezer_create(root->problem, root->ranges, root->problem->horizon, &next, reterr);
    if (code != ESP_OK) return code;
    esp_squeezer_free(root->squeezer);
    root->squeezer = next;
    return ESP_OK;
}

esp_code esp_root_tighten(esp_root *root, double cutoff, double seconds, esp_error *reterr) {
    const esp_problem *p = root->problem;
    if (esp_tighten_seconds(p) * 2 * p->horizon > CHEAP_CROWN * seconds) return ESP_OK;
    esp_region region = esp_root_region(root);
    esp_stop stop = root->track->stop ? *root->track->stop : (esp_stop){ESP_NEVER, NULL, NULL};
    int64_t end = esp_clock_now_ns() + (int64_t)(seconds * 1e9);
    if (stop.deadline_ns == ESP_NEVER || end < stop.deadline_ns) stop.deadline_ns = end;
    root->cutoff = cutoff;
    esp_relax_apply(relax_of(root), &region);
    bool open = esp_squeeze_pass(root->squeezer, p->horizon - 1, NULL, cutoff, &stop, &region);
    esp_code code = open ? sweep_outputs(root, &open, reterr) : ESP_OK;
    if (code == ESP_OK && open) return esp_root_renew(root, reterr);
    if (code == ESP_OK) {
        root->nothing_below = true;
        esp_track_bound(root->track, cutoff);
    }
    return code;
}
