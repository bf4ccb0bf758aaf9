/* SPDX-License-Identifier: Apache-2.0
 * The search for a point where |program(x)| is large: what a bound is compared with. Private to lib/certify and lib/plan.
 *
 * Nothing found here is a bound. The value of the best point is certified apart, by intervals on that point alone. */
#ifndef ESP_CERTIFY_WITNESS_H
#define ESP_CERTIFY_WITNESS_H

#include "base/rng.h"
#include "certify/crown.h"

typedef struct esp_witness {
    const esp_program *program;
    esp_norm norm;
    double best; /* |program(best_x)| as computed; -1 when none */
    double *best_x; /* n_x */
    double *x, *trial, *dx; /* n_x */
    double *y, *g; /* n_y */
    double *p, *work; /* n_r */
    double *memory;
} esp_witness;

ESP_MUST_CHECK esp_code esp_witness_init(esp_witness *witness, const esp_program *program, esp_norm norm, esp_error *reterr);
void esp_witness_done(esp_witness *witness);

/* |program(x)|; kept when it is the best so far. NaN counts as 0. */
double esp_witness_try(esp_witness *witness, const double *x);
/* From the point in witness->x, at most `steps` steps up the gradient inside the box, each to where it pays. */
void esp_witness_ascend(esp_witness *witness, const double *lower, const double *upper, int steps);
/* Random points, corners and ascents over the box. */
void esp_witness_sample(esp_witness *witness, const double *lower, const double *upper, int points, esp_rng *rng, const esp_stop *stop);

/* The least |y| that the ranges of the outputs allow, rounded down. Uses the witness's room for y. */
double esp_witness_least(const esp_witness *witness, const esp_ranges *ranges);
/* What exact arithmetic reaches at best_x at least. Leaves the crown at the point: set its box again after; the
 * ranges there are left in scratch. */
double esp_witness_reached(const esp_witness *witness, esp_crown *crown, esp_ranges *scratch);

#endif
