/* SPDX-License-Identifier: Apache-2.0
 * Sound ranges of a ReLU program over a box: interval arithmetic and CROWN, with rounding accounted for.
 *
 * Both give, for every ReLU, bounds on its pre-activation p, and bounds on every output y, that contain every value
 * that exact arithmetic can produce on the box, and every value that esp_program_forward computes for points in it.
 * CROWN (Zhang et al., NeurIPS 2018): backward substitution of linear relaxations, each ReLU bounded in order; the
 * lower slope is 1 when u > -l, else 0. Results are intersected with interval ones. */
#ifndef ESP_CERTIFY_BOUNDS_H
#define ESP_CERTIFY_BOUNDS_H

#include "certify/certificate.h"
#include "net/program.h"

typedef struct esp_ranges {
    int n_r, n_y;
    double *p_lower, *p_upper; /* n_r each */
    double *y_lower, *y_upper; /* n_y each */
} esp_ranges;

ESP_MUST_CHECK esp_code esp_ranges_create(int n_r, int n_y, esp_ranges **ret_ranges, esp_error *reterr);
void esp_ranges_free(esp_ranges *ranges);
/* Everything from -infinity to infinity: nothing known. */
void esp_ranges_open(esp_ranges *ranges);
void esp_ranges_copy(const esp_ranges *from, esp_ranges *ret_to); /* of the same sizes */
/* ReLUs with p_lower < 0 < p_upper. */
int esp_ranges_unstable(const esp_ranges *ranges);

ESP_MUST_CHECK esp_code esp_bounds_interval(const esp_program *program, const esp_box *box, esp_ranges *ret_ranges, esp_error *reterr);
/* `known`, when not NULL, are ranges already proved for this box, used and intersected. */
ESP_MUST_CHECK esp_code esp_bounds_crown(const esp_program *program, const esp_box *box, const esp_ranges *known, esp_ranges *ret_ranges,
                                         esp_error *reterr);

/* The same for ReLUs `first` and later and the outputs only, in place: `ranges` holds what is proved already (infinite
 * where nothing is), ReLUs before `first` are taken as they stand. For tightening by time step; a caller that does it
 * many times keeps an esp_crown (certify/crown.h). UNPROCESSABLE when the ranges given leave no point of the box. */
ESP_MUST_CHECK esp_code esp_bounds_crown_from(const esp_program *program, const esp_box *box, int first, esp_ranges *ranges, esp_error *reterr);

/* Largest |y| over the box in the norm, from ranges, rounded up. */
double esp_ranges_norm(const esp_ranges *ranges, esp_norm norm);

#endif
