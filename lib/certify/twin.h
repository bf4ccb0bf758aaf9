/* SPDX-License-Identifier: Apache-2.0
 * Bounds of the difference of two programs through the differences of their neurons, proved. Not a bound of one program,
 * and not of two that have nothing in common: ReLUs without a partner are bounded apart, as CROWN would.
 *
 * Bounding f and g side by side forgets that twin neurons see nearly the same: a weight that changed by a millionth is
 * charged the whole slack of its ReLU, twice. Here the differences are variables of their own,
 *
 *     delta_i = p_i - q_i        D_i = max(0, p_i) - max(0, q_i)        (p_i in f, its partner q_i in g)
 *     delta   = (C_f - C_g) x + D_f D + (D_f - D_g) r_g + (d_f - d_g)
 *     y_f - y_g = (A_f - A_g) x + B_f D + (B_f - B_g) r_g + (c_f - c_g)
 *
 * so that everything is small when f - g is small, and the bound vanishes in proportion.
 *
 * Life cycle as of a crown (certify/crown.h): create for two programs; per box esp_twin_box, then esp_twin_run from the
 * ranges of both, then outputs. Nothing is allocated after the creation. One object, one thread. Borrows the programs. */
#ifndef ESP_CERTIFY_TWIN_H
#define ESP_CERTIFY_TWIN_H

#include <stdbool.h>

#include "certify/bounds.h"
#include "certify/crown.h"

typedef struct esp_twin esp_twin;

/* Partners of two networks with the same layers: neuron i of layer k of both, where both are ReLUs. ret_pairs has an entry
 * for each ReLU of f: the ReLU of g, or -1. Networks of different layers get no pairs at all; false then. */
bool esp_twin_pairs(const esp_net *f, const esp_net *g, int *ret_pairs);

/* pairs (n_f): as above, increasing where it is not -1. Errors: INVALID (sizes differ, partners out of order), NOMEM. */
ESP_MUST_CHECK esp_code esp_twin_create(const esp_program *f, const esp_program *g, const int *pairs, esp_twin **ret_twin, esp_error *reterr);
void esp_twin_free(esp_twin *twin);

/* The input box for what follows; n_x finite numbers each, lower <= upper. */
void esp_twin_box(esp_twin *twin, const double *lower, const double *upper);

/* For programs whose entries are not exact: each run takes what rows can be off by from `crown`, that of the difference program
 * with its slack (esp_crown_slack), which must have gone over the same box before. Borrowed; NULL: exact. */
void esp_twin_loose(esp_twin *twin, const esp_crown *crown);

/* Bounds the differences, in place: d_lower, d_upper (n_f) hold what is proved of delta_i already, or are infinite; entries
 * without a partner are not looked at. `ranges` are those of the difference program (the ReLUs of f, then of g) over the box.
 * Without `backward` by intervals alone. False when an intersection came out empty, as in esp_crown_run. */
bool esp_twin_run(esp_twin *twin, const esp_ranges *ranges, bool backward, double *d_lower, double *d_upper);

/* Output i of y_f - y_g in exact arithmetic, after a run: intersects [*lower, *upper]; false when that is empty. */
bool esp_twin_output(esp_twin *twin, bool backward, int i, double *lower, double *upper);
/* Bounds of n sums weights_ki (y_f - y_g)_i (n x n_y weights, n <= ESP_TWIN_COMBINATIONS), side by side, after a run. */
#define ESP_TWIN_COMBINATIONS 8
void esp_twin_combinations(esp_twin *twin, int n, const double *weights, double *ret_lower, double *ret_upper);

/* What the last target left behind: coefficients of its linear bounds in x, and those of D (or r_f, without a partner) and
 * r_g when they were replaced. Borrowed until the next target. */
typedef struct esp_twin_view {
    const double *up_x, *lo_x; /* n_x */
    const double *up_f, *lo_f; /* n_f */
    const double *up_g, *lo_g; /* n_g */
} esp_twin_view;
esp_twin_view esp_twin_last(const esp_twin *twin);
/* The same of combination k of the last call, before another target. */
esp_twin_view esp_twin_lane(esp_twin *twin, int k);

/* From now on every box lies in the one that was last run over, and what comes in was proved for a box that holds it: no
 * interval is taken where substitution comes to one by itself. */
void esp_twin_within(esp_twin *twin);

/* How far apart the two lines around D_i (or r_f,i) are at the most probable point, and those around r_g,j; 0 when exact. */
double esp_twin_gap_f(const esp_twin *twin, int i);
double esp_twin_gap_g(const esp_twin *twin, int j);

/* The partner of f's ReLU i, or -1. */
int esp_twin_partner(const esp_twin *twin, int i);

/* From now on each run writes into `slopes` (n_f x n_x, the caller's) how delta_i varies with each input, where it bounds it. */
void esp_twin_watch(esp_twin *twin, double *slopes);

#endif
