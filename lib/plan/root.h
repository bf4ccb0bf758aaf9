/* SPDX-License-Identifier: Apache-2.0
 * The root of an exact search: the relaxation of a problem, its safe bound, a polish of the best plan, and ranges made
 * tighter by linear programs. Shared by every search; it branches on nothing.
 *
 *   relax    the relaxation's optimum; its duals give a bound (esp_lp_safe_bound: weak duality with rounding accounted
 *            for, so `proved` and not `solver`); squares get tangents where the optimum lands, until that pays no more
 *   polish   phases fixed to those of a plan, the program is linear: its exact optimum, then the ReLUs on their kinks
 *            flipped one at a time while it improves
 *   tighten  in time order, the least and largest p of every unstable ReLU over the relaxation with cost <= cutoff,
 *            again as safe bounds; CROWN over the horizon after each step with what is known by then
 *
 * Ranges after `tighten` hold for plans of cost <= cutoff only: a search over them proves min(bound, cutoff). */
#ifndef ESP_PLAN_ROOT_H
#define ESP_PLAN_ROOT_H

#include "plan/coin.h"
#include "plan/encode.h"
#include "plan/verify.h"

typedef struct esp_root {
    const esp_problem *problem;
    esp_track *track;
    const esp_tightened *tightened;
    esp_ranges *ranges; /* the current ones */
    double *u_lower, *u_upper; /* H x nu: the current input box */
    double cutoff; /* plans above it are left out of ranges and u_lower, u_upper; INFINITY at first */
    esp_tangents tangents;
    esp_encoding encoding;
    esp_clp *clp;
    bool infeasible; /* the relaxation has no point, and the proof checks */
    bool nothing_below; /* no plan costs less than the cutoff, and the proof checks */
    esp_arena *arena;
    double *lower, *upper, *cost, *duals, *work; /* columns, columns, columns, rows, rows, with room for more rows */
    double *point; /* columns */
    double *knap_lower, *knap_upper; /* per ReLU: the range its (knap) row was written with */
    double *seen_lower, *seen_upper; /* per ReLU: p in the relaxation's solutions of one pass */
    double *inputs, *predicted, *pre; /* a plan's replay: H x nu, H x ny, H x n_r */
    signed char *phase; /* per ReLU: 1 on, -1 off */
    int room; /* rows that duals and work hold */
} esp_root;

ESP_MUST_CHECK esp_code esp_root_create(esp_track *track, const esp_tightened *tightened, esp_root **ret_root, esp_error *reterr);
void esp_root_free(esp_root *root);

/* Each returns when done or when it is time to stop; bounds and plans go to the track as they come. NOMEM only. */
ESP_MUST_CHECK esp_code esp_root_relax(esp_root *root, esp_error *reterr);
/* From the phases of the given inputs (H x nu); at most max_solves linear programs. */
ESP_MUST_CHECK esp_code esp_root_polish(esp_root *root, const double *inputs, int max_solves, esp_error *reterr);
/* Needs a plan. For at most that long. */
ESP_MUST_CHECK esp_code esp_root_tighten(esp_root *root, double seconds, esp_error *reterr);

/* The cutoff that proves the asked gap when nothing lies below it, a little above best - gap. */
double esp_root_cutoff(const esp_track *track);
/* What is taken off a bound that rests on a solver's tolerances. */
double esp_solver_tolerance(double bound);

#endif
