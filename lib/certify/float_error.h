/* SPDX-License-Identifier: Apache-2.0
 * How far a program evaluated in float lies from esp_program_forward: proved, over a box or for every size of input.
 *
 * What is bounded is |fl32(x) - forward(x)| for each output. fl32 takes x rounded to float, every coefficient rounded to float, and does
 * each product and each sum of a row in float, to nearest, in the order of forward, fused or not. forward is esp_program_forward
 * with its own rounding. */
#ifndef ESP_CERTIFY_FLOAT_ERROR_H
#define ESP_CERTIFY_FLOAT_ERROR_H

#include "certify/bounds.h"

/* For x in the box, whose ranges (or wider ones) are given; ret_error n_y, infinite where a float may overflow. Errors: INVALID for
 * sizes that do not fit, NOMEM. */
ESP_MUST_CHECK esp_code esp_float_error_box(const esp_program *program, const esp_box *box, const esp_ranges *ranges, double *ret_error,
                                            esp_error *reterr);

/* The same with CROWN's ranges, and for the parts of the box that the worst are halved into, `leaves` of them at most. A part costs
 * about the cube of the ReLUs. Errors: as above. */
ESP_MUST_CHECK esp_code esp_float_error_split(const esp_program *program, const esp_box *box, int leaves, double *ret_error, esp_error *reterr);

/* For every R <= *ret_radius and every x with |x_j| <= R: at most ret_constant[k] + ret_slope[k] R at output k. A radius of 0 means that
 * nothing is known. Looser than a box of the same size, as it takes absolute values of every weight. Errors: NOMEM. */
ESP_MUST_CHECK esp_code esp_float_error_radius(const esp_program *program, double *ret_constant, double *ret_slope, double *ret_radius,
                                               esp_error *reterr);

#endif
