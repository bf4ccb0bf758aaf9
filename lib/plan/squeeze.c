/* SPDX-License-Identifier: Apache-2.0
 * One pass of bound tightening, in time order, so that what one step gains reaches the next. */
#include "plan/squeeze.h"

#include <math.h>
#include <stdlib.h>

#include "certify/rounding.h"

/* A target whose present range was already reached to within this share of its width is not solved for again. */
#define REACHED 0.05
#define NEAR    0.003 /* share of the width that an optimum may be missed by */

static bool take(esp_squeezer *s) {
    int n_p = s->horizon * s->problem->step->n_r + 1, n_u = s->horizon * s->problem->nu + 1;
    s->arena = esp_arena_create(0);
    if (!s->arena) return false;
    s->p_least = ESP_NEW(s->arena, double, n_p);
    s->p_most = ESP_NEW(s->arena, double, n_p);
    s->u_least = ESP_NEW(s->arena, double, n_u);
    s->u_most = ESP_NEW(s->arena, double, n_u);
    s->u_scratch = ESP_NEW(s->arena, double, n_u);
    s->sides = ESP_NEW(s->arena, esp_squeeze_side, 2 * n_p);
    return s->sides && s->p_least && s->p_most && s->u_least && s->u_most && s->u_scratch;
}

esp_code esp_squeezer_create(const esp_problem *p, const esp_ranges *root, int horizon, esp_squeezer **ret_squeezer, esp_error *reterr) {
    esp_squeezer *s = calloc(1, sizeof *s);
    if (!s) return esp_fail(reterr, ESP_NOMEM, "bound tightening");
    *s = (esp_squeezer){.problem = p, .horizon = horizon};
    esp_code code = take(s) ? ESP_OK : esp_fail(reterr, ESP_NOMEM, "bound tightening");
    if (code == ESP_OK) code = esp_relax_create(p, root, horizon, &s->relax, reterr);
    if (code == ESP_OK) code = esp_program_unroll(p->step, p->ny, p->nu, p->history, horizon, p->y_past, p->u_past, &s->unrolled, reterr);
    if (code == ESP_OK) code = esp_crown_create(s->unrolled, &s->crown, reterr);
    if (code == ESP_OK)
        *ret_squeezer = s;
    else
        esp_squeezer_free(s);
    return code;
}

void esp_squeezer_free(esp_squeezer *s) {
    if (!s) return;
    esp_crown_free(s->crown);
    esp_program_free(s->unrolled);
    esp_relax_free(s->relax);
    esp_arena_free(s->arena);
    free(s);
}

bool esp_squeeze_sweep(esp_squeezer *s, int t, esp_region *region) {
    const esp_problem *p = s->problem;
    esp_ranges ranges = {
        s->horizon * p->step->n_r, s->horizon * p->ny, region->p_lower, region->p_upper, NULL, NULL}; /* no outputs: y is not asked for */
    esp_crown_box(s->crown, region->u_lower, region->u_upper);
    return esp_crown_run(s->crown, ESP_CROWN_BACKWARD, t * s->problem->step->n_r, false, &ranges);
}

static void forget_reached(esp_squeezer *s) {
    int n_p = s->horizon * s->problem->step->n_r, n_u = s->horizon * s->problem->nu;
    for (int q = 0; q < n_p; q++) {
        s->p_least[q] = INFINITY;
        s->p_most[q] = -INFINITY;
    }
    for (int k = 0; k < n_u; k++) {
        s->u_least[k] = INFINITY;
        s->u_most[k] = -INFINITY;
    }
}

static void note_reached(esp_squeezer *s, double *u) {
    int n_p = s->horizon * s->problem->step->n_r, n_u = s->horizon * s->problem->nu;
    for (int q = 0; q < n_p; q++) {
        double p = esp_relax_p(s->relax, q);
        s->p_least[q] = esp_min(s->p_least[q], p);
        s->p_most[q] = esp_max(s->p_most[q], p);
    }
    esp_relax_inputs(s->relax, u);
    for (int k = 0; k < n_u; k++) {
        s->u_least[k] = esp_min(s->u_least[k], u[k]);
        s->u_most[k] = esp_max(s->u_most[k], u[k]);
    }
}

/* Minimises sign * target and moves that side of [*lower, *upper]; not when a point of the LP comes within `room` of it.
 * False: the LP is empty, proved. */
static bool solve_side(esp_squeezer *s, esp_aim aim, int index, double sign, double room, const esp_region *region, double *lower, double *upper,
                       double *u) {
    esp_simplex *simplex = esp_relax_simplex(s->relax);
    esp_relax_aim(s->relax, aim, index, sign);
    esp_simplex_status status = esp_simplex_primal(simplex, (sign > 0 ? *lower : -*upper) + room, NEAR * (*upper - *lower), NULL);
    if (status == ESP_SIMPLEX_INFEASIBLE) return !esp_relax_refuted(s->relax, region);
    if (status == ESP_SIMPLEX_OPTIMAL || status == ESP_SIMPLEX_CUT) note_reached(s, u);
    if (status == ESP_SIMPLEX_CUT) return true;
    double bound = esp_relax_bound(s->relax, region, NULL);
    if (sign > 0 && bound > *lower) *lower = bound;
    if (sign < 0 && -bound < *upper) *upper = -bound;
    return *lower <= *upper;
}

static bool solve_both(esp_squeezer *s, esp_aim aim, int index, const esp_region *region, double least, double most, double *lower, double *upper,
                       double *u) {
    double room = REACHED * (*upper - *lower);
    if (least > *lower + room && !solve_side(s, aim, index, 1, room, region, lower, upper, u)) return false;
    return most >= *upper - room || solve_side(s, aim, index, -1, room, region, lower, upper, u);
}

static bool unstable(const esp_region *region, int q) {
    return region->p_lower[q] < 0 && region->p_upper[q] > 0;
}

static bool squeeze_inputs(esp_squeezer *s, int t, esp_region *region, double *u) {
    int nu = s->problem->nu;
    for (int k = t * nu; k < (t + 1) * nu; k++) {
        if (region->u_upper[k] - region->u_lower[k] < 1e-9) continue;
        if (!solve_both(s, ESP_AIM_U, k, region, s->u_least[k], s->u_most[k], &region->u_lower[k], &region->u_upper[k], u)) return false;
    }
    return true;
}

static bool side_reached(const esp_squeezer *s, const esp_region *region, esp_squeeze_side side) {
    int q = side.q;
    double room = REACHED * (region->p_upper[q] - region->p_lower[q]);
    return side.upper ? s->p_most[q] >= region->p_upper[q] - room : s->p_least[q] <= region->p_lower[q] + room;
}

/* How far the LP's last point is from a side, as a share of the range. */
static double distance(const esp_squeezer *s, const esp_region *region, esp_squeeze_side side) {
    double p = esp_relax_p(s->relax, side.q), l = region->p_lower[side.q], u = region->p_upper[side.q];
    return (side.upper ? u - p : p - l) / (u - l);
}

/* Takes the nearest side from the list, and those that need no solving. False: none is left. */
static bool take_nearest(esp_squeezer *s, const esp_region *region, int *n, esp_squeeze_side *ret_side) {
    double least = INFINITY;
    int best = -1;
    for (int k = 0; k < *n; k++) {
        if (!unstable(region, s->sides[k].q) || side_reached(s, region, s->sides[k])) {
            s->sides[k--] = s->sides[--*n];
            continue;
        }
        double d = distance(s, region, s->sides[k]);
        if (d >= least) continue;
        least = d;
        best = k;
    }
    if (best < 0) return false;
    *ret_side = s->sides[best];
    s->sides[best] = s->sides[--*n];
    return true;
}

/* In the order in which the LP's point is near the sides, so that few pivots lie between. */
static bool squeeze_relus(esp_squeezer *s, int t, const bool *pick, const esp_stop *stop, esp_region *region, double *u) {
    int n = s->problem->step->n_r, sides = 0;
    for (int q = t * n; q < (t + 1) * n; q++) {
        if (!unstable(region, q) || (pick && !pick[q])) continue;
        s->sides[sides++] = (esp_squeeze_side){q, false};
        s->sides[sides++] = (esp_squeeze_side){q, true};
    }
    for (esp_squeeze_side side; !esp_stop_now(stop) && take_nearest(s, region, &sides, &side);) {
        int q = side.q;
        double room = REACHED * (region->p_upper[q] - region->p_lower[q]);
        if (!solve_side(s, ESP_AIM_P, q, side.upper ? -1 : 1, room, region, &region->p_lower[q], &region->p_upper[q], u)) return false;
    }
    return true;
}

static void refresh_facets(esp_squeezer *s, int t, esp_region *region) {
    int n = s->problem->step->n_r, end = s->horizon * n;
    for (int q = t * n; q < end; q++)
        if (unstable(region, q)) esp_relax_facet(s->relax, q, region->p_lower[q], region->p_upper[q]);
    esp_relax_apply(s->relax, region);
}

bool esp_squeeze_pass(esp_squeezer *s, int t_last, const bool *pick, double cutoff, const esp_stop *stop, esp_region *region) {
    double *u = s->u_scratch;
    bool open = true;
    forget_reached(s);
    esp_relax_cutoff(s->relax, cutoff);
    for (int t = 0; open && t <= t_last && !esp_stop_now(stop); t++) {
        open = squeeze_inputs(s, t, region, u) && esp_squeeze_sweep(s, t, region);
        if (open) refresh_facets(s, t, region);
        open = open && squeeze_relus(s, t, pick, stop, region, u);
        open = open && (t + 1 >= s->horizon || esp_squeeze_sweep(s, t + 1, region));
        if (open) refresh_facets(s, t, region);
    }
    esp_relax_cutoff(s->relax, INFINITY);
    esp_relax_aim(s->relax, ESP_AIM_COST, 0, 1);
    return open;
}
