/* SPDX-License-Identifier: Apache-2.0
 * Ranges tightened by the relaxation (optimisation-based bound tightening): each pre-activation and input is minimised
 * and maximised over the LP, under the condition that the plan costs less than the cutoff. What comes out holds for
 * every plan of the region that is worth finding, not for every plan. */
#ifndef ESP_PLAN_SQUEEZE_H
#define ESP_PLAN_SQUEEZE_H

#include "certify/crown.h"
#include "plan/relax.h"

/* A side of a ReLU's range. */
typedef struct esp_squeeze_side {
    int q;
    bool upper;
} esp_squeeze_side;

/* What one search works with: the LP and the bounds of the first `horizon` steps. It takes regions of the whole problem
 * too, and touches only the part of those steps. */
typedef struct esp_squeezer {
    const esp_problem *problem;
    int horizon;
    esp_relax *relax;
    esp_program *unrolled;
    esp_crown *crown; /* of the unrolled program */
    esp_arena *arena;
    double *p_least, *p_most, *u_least, *u_most; /* extremes that LP points of the present pass have reached */
    double *u_scratch; /* horizon * nu */
    esp_squeeze_side *sides; /* those of the present step that are still to be solved for */
} esp_squeezer;

/* From ranges that every later region lies within. Borrows the problem. */
ESP_MUST_CHECK esp_code esp_squeezer_create(const esp_problem *problem, const esp_ranges *root, int horizon, esp_squeezer **ret_squeezer,
                                            esp_error *reterr);
void esp_squeezer_free(esp_squeezer *squeezer);

/* Bounds p from the region's input box and its ranges of p, ReLUs of step `t` and later. False: the region is empty. */
bool esp_squeeze_sweep(esp_squeezer *squeezer, int t, esp_region *region);

/* One pass over steps 0 .. t_last: inputs, sweep, the ReLUs for which pick[q] is set (NULL: all unstable ones), facets
 * anew. `cutoff` INFINITY: none. The LP must hold the region. Stops early when `stop` says so. False: the region is
 * empty, proved. Leaves the cost as the aim and the cutoff row open. */
bool esp_squeeze_pass(esp_squeezer *squeezer, int t_last, const bool *pick, double cutoff, const esp_stop *stop, esp_region *region);

#endif
