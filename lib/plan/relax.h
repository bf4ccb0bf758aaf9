/* SPDX-License-Identifier: Apache-2.0
 * The LP relaxation of a planning problem at work: ranges in, LP points and proved bounds out. Not a search: tree.c
 * branches on it, squeeze.c tightens ranges with it. Its rows and columns are those of encode.h, relaxed form.
 *
 * A ReLU is "on" when w = 0 and "off" when r = 0, so a branching is one column limit. A facet row (knap) is built from
 * ranges (L, U) that may be older, hence wider, than the present ones; when its ReLU is fixed the row is redundant and
 * stays as it is, because relaxing a row that has a multiplier would spoil the warm start.
 *
 * Bound. For any multipliers v of the rows (facets left out) and d = cost - A'v, weak duality gives, for every z in the
 * region,
 *     cost' z >= v' b + sum over single columns min(d lo, d hi) + sum over ReLUs min over the ReLU's true graph,
 * the graph being {(r, w) = (max(0, p), max(0, -p)): lo <= p <= hi}, tighter than the triangle. An output that is a pair of columns (encode.h) has such a graph too. It is evaluated with
 * every rounding charged (certify/rounding.h), so it is proved whatever the solver did; at the LP's optimum it is the
 * LP's value, and with multipliers kept from another node it is still a bound. */
#ifndef ESP_PLAN_RELAX_H
#define ESP_PLAN_RELAX_H

#include "plan/encode.h"
#include "plan/simplex.h"

/* Ranges that a branch of the search is confined to: p (H * n_r) and u (H * nu), ordered by time. One block, so that a
 * copy is one memcpy. */
typedef struct esp_region {
    double *p_lower, *p_upper, *u_lower, *u_upper;
} esp_region;

typedef struct esp_relax esp_relax;

/* The first `horizon` steps, from ranges that every later region lies within; those of y are used for good. Binaries of
 * values and of boxes to avoid are relaxed. Borrows the problem. */
ESP_MUST_CHECK esp_code esp_relax_create(const esp_problem *problem, const esp_ranges *root, int horizon, esp_relax **ret_relax, esp_error *reterr);
void esp_relax_free(esp_relax *relax);

esp_simplex *esp_relax_simplex(esp_relax *relax);
const esp_encoding *esp_relax_encoding(const esp_relax *relax);
/* Limits that no region speaks of, until they are restored: an output's range; for each box to avoid the face that a
 * prediction (H x ny) leaves it through. In force with the next apply. */
void esp_relax_output(esp_relax *relax, int k, double low, double high);
void esp_relax_faces(esp_relax *relax, const double *predicted);
void esp_relax_restore(esp_relax *relax);
/* Squares get a tangent at the LP's point where that lies below them by more than `least` in cost; how many did. Every
 * tangent holds everywhere; those that bind least make room. */
int esp_relax_refine(esp_relax *relax, double least);
/* The LP's limits from a region. */
void esp_relax_apply(esp_relax *relax, const esp_region *region);
/* Builds the facet of ReLU q anew from (lower < 0 < upper), when it is not built from them already. No facet: nothing. */
void esp_relax_facet(esp_relax *relax, int q, double lower, double upper);
/* The objective: the cost, or sign * (one p, one u). */
typedef enum esp_aim { ESP_AIM_COST, ESP_AIM_P, ESP_AIM_U } esp_aim;
void esp_relax_aim(esp_relax *relax, esp_aim aim, int index, double sign);
/* The right side of the cutoff row; INFINITY opens it. */
void esp_relax_cutoff(esp_relax *relax, double cutoff);
/* The rows of the problem's cuts: in force, as they are at first, or not. */
void esp_relax_cuts(esp_relax *relax, bool on);
/* The proved lower bound of the present aim over a region from the last solve's multipliers, or from `duals` (n_rows). */
double esp_relax_bound(esp_relax *relax, const esp_region *region, const double *duals);
/* After an infeasible solve: its ray proves that no point of the region satisfies the rows. */
bool esp_relax_refuted(esp_relax *relax, const esp_region *region);

/* What the LP's last point says. */
double esp_relax_p(const esp_relax *relax, int q);
double esp_relax_r(const esp_relax *relax, int q);
double esp_relax_w(const esp_relax *relax, int q);
/* At an optimum: the least by which the bound rises when ReLU q is put on (off). */
double esp_relax_penalty(esp_relax *relax, int q, bool on);
/* From an optimum, ReLU q put on (off): a look ahead (esp_simplex_look); the value it gets to. *ret_closed: nothing below the cutoff is
 * left of `region`, which has that phase, proved. The optimum is back in place afterwards. */
double esp_relax_look(esp_relax *relax, int q, bool on, const esp_region *region, double cutoff, bool *ret_closed);
/* The last step whose cost at the LP's point is above `least`; 0 when there is none. */
int esp_relax_last_costly(const esp_relax *relax, double least);
void esp_relax_inputs(const esp_relax *relax, double *ret_u); /* H x nu */

#endif
