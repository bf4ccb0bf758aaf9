/* SPDX-License-Identifier: Apache-2.0
 * The engine behind bounds.h, for callers that bound one program again and again (splitting, a planner's tree): its
 * workspace is made once and nothing is allocated after.
 *
 * Life cycle: create for a program; per box esp_crown_box, then esp_crown_run over ranges, then as many
 * esp_crown_bound as wanted. One object, one thread. Borrows the program. */
#ifndef ESP_CERTIFY_CROWN_H
#define ESP_CERTIFY_CROWN_H

#include <stdbool.h>

#include "base/clock.h"
#include "certify/bounds.h"

typedef struct esp_crown esp_crown;

ESP_MUST_CHECK esp_code esp_crown_create(const esp_program *program, esp_crown **ret_crown, esp_error *reterr);
void esp_crown_free(esp_crown *crown);

/* The input box for what follows; n_x finite numbers each, lower <= upper. */
void esp_crown_box(esp_crown *crown, const double *lower, const double *upper);

/* How a run bounds: interval arithmetic alone, or backward substitution too; the ranges of ReLUs that are already
 * known to be stable are left as they are, which costs nothing in what follows (a stable ReLU is linear). */
typedef enum esp_crown_how { ESP_CROWN_INTERVAL, ESP_CROWN_BACKWARD } esp_crown_how;

/* Tightens `ranges` in place: what it holds on entry must be proved already (or infinite). ReLUs before `first` are
 * taken as they stand, the others are bounded in order, then (when with_outputs) the outputs. False when an
 * intersection came out empty: no point of the box has its pre-activations in the ranges given, which is a proof when
 * those ranges carried a constraint; ranges is then half done. */
bool esp_crown_run(esp_crown *crown, esp_crown_how how, int first, bool with_outputs, esp_ranges *ranges);

/* Bounds of a0 + ax' x + ar' r over the box, after a run that reached every ReLU; ax (n_x), ar (n_r). They contain the
 * exact value for the exact x, r and for those that esp_program_forward computes, not the rounding of a later
 * evaluation of the sum itself. ret_ax_lower and ret_ax_upper, when not NULL (n_x), get the coefficients of the linear
 * bounds in x: an estimate of what each input does, and no more than that. */
void esp_crown_bound(esp_crown *crown, double a0, const double *ax, const double *ar, double *ret_lower, double *ret_upper, double *ret_ax_lower,
                     double *ret_ax_upper);

/* Output i alone, after a run that reached every ReLU: intersects ranges->y_*[i]; false when that is empty. */
bool esp_crown_output(esp_crown *crown, esp_crown_how how, int i, esp_ranges *ranges);

/* An upper bound of sum_i weights_i y_i (n_y weights), exact and computed y, after a run that reached every ReLU. */
double esp_crown_combination(esp_crown *crown, const double *weights);

/* What the last target (an output, a combination, or an esp_crown_bound) left behind: the coefficients of its linear bounds in x, and
 * those that each r had when it was replaced. Borrowed, until the next target. */
typedef struct esp_crown_view {
    const double *up_x, *lo_x; /* n_x */
    const double *up_r, *lo_r; /* n_r */
} esp_crown_view;
esp_crown_view esp_crown_last(const esp_crown *crown);

/* The relaxation gap of ReLU j as last set up, -l u / (u - l); 0 when stable. */
double esp_crown_gap(const esp_crown *crown, int j);

/* From now on each run writes into `slopes` (n_r x n_x, the caller's; NULL = no more) how p_j varies with each input:
 * the mean size of the coefficients of its two linear bounds. Rows of stable ReLUs are left as they are. */
void esp_crown_watch(esp_crown *crown, double *slopes);

/* From now on every entry of the program may be off by as much as the same entry of `slack` (borrowed; NULL: by nothing): bounds are
 * of every such program, ReLUs and outputs alike. For what lowering rounded (certify/lowering.h). */
void esp_crown_slack(esp_crown *crown, const esp_program *slack);
/* What output i can be off by for that, over the box, after a run that reached every ReLU; and the error that p_j was charged with,
 * rounding of an evaluation included. */
double esp_crown_output_slack(const esp_crown *crown, int i);
double esp_crown_noise(const esp_crown *crown, int j);

/* From now on every box lies in the one that was last run over, and ranges come in as narrow as were proved for a box that holds
 * it: what a row can be off by is kept, and stable ReLUs are taken as they stand. Saves time, and nothing else. */
void esp_crown_within(esp_crown *crown);

/* From now on a run that meets the stop goes on with intervals alone: looser, still proved. NULL = none. */
void esp_crown_stop(esp_crown *crown, const esp_stop *stop);

#endif
