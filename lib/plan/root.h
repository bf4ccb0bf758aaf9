/* SPDX-License-Identifier: Apache-2.0
 * The root of an exact search: the relaxation of a problem, its proved bound, a polish of the best plan, and ranges made
 * tighter by linear programs. Shared by every search; it branches on nothing.
 *
 *   relax    the relaxation's optimum, whose multipliers give a bound (relax.h); squares get tangents where it lands,
 *            until that pays no more
 *   polish   phases fixed to those of a plan, the program is linear: its exact optimum, then the ReLUs on their kinks
 *            flipped one at a time while it improves
 *   tighten  a squeeze of every unstable ReLU and input over the relaxation with cost <= cutoff (squeeze.h)
 *
 * Ranges after `tighten` hold for plans of cost <= cutoff only: a search over them proves min(bound, cutoff). */
#ifndef ESP_PLAN_ROOT_H
#define ESP_PLAN_ROOT_H

#include "plan/encode.h"
#include "plan/squeeze.h"
#include "plan/verify.h"

typedef struct esp_root {
    const esp_problem *problem;
    esp_track *track;
    const esp_tightened *tightened;
    esp_ranges *ranges; /* the current ones */
    double *u_lower, *u_upper; /* H x nu: the current input box */
    double cutoff; /* plans above it are left out of ranges and u_lower, u_upper; INFINITY at first */
    esp_tangents tangents; /* where squares have landed, and the first ones: for other models of the problem */
    esp_squeezer *squeezer; /* the relaxation over all steps, made from ranges */
    bool infeasible; /* the relaxation has no point, and the proof checks */
    bool nothing_below; /* no plan costs less than the cutoff, and the proof checks */
    esp_arena *arena;
    double *inputs, *predicted, *pre; /* a plan's replay: H x nu, H x ny, H x n_r */
    double *p_lower, *p_upper; /* H x n_r: a plan's phases as ranges */
    bool *kink; /* H x n_r: ReLUs on their kink in the last plan that was polished */
} esp_root;

ESP_MUST_CHECK esp_code esp_root_create(esp_track *track, const esp_tightened *tightened, esp_root **ret_root, esp_error *reterr);
void esp_root_free(esp_root *root);

/* Each returns when done or when it is time to stop; bounds and plans go to the track as they come. NOMEM only. */
ESP_MUST_CHECK esp_code esp_root_relax(esp_root *root, esp_error *reterr);
/* From the phases of the given inputs (H x nu); at most max_solves linear programs. */
ESP_MUST_CHECK esp_code esp_root_polish(esp_root *root, const double *inputs, int max_solves, esp_error *reterr);
/* Under a cutoff, for at most that long. */
ESP_MUST_CHECK esp_code esp_root_tighten(esp_root *root, double cutoff, double seconds, esp_error *reterr);

/* The relaxation anew, from the present ranges and with what is known of cuts by now. */
ESP_MUST_CHECK esp_code esp_root_renew(esp_root *root, esp_error *reterr);

/* The present ranges and input box. */
esp_region esp_root_region(const esp_root *root);
/* Replays inputs (H x nu) into predicted and pre. */
void esp_root_replay(esp_root *root, const double *inputs);
/* The cutoff that proves the asked gap when nothing lies below it, a little above best - gap. */
double esp_root_cutoff(const esp_track *track);
/* What is taken off a bound that rests on a solver's tolerances. */
double esp_solver_tolerance(double bound);

#endif
