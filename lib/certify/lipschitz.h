/* SPDX-License-Identifier: Apache-2.0
 * The Lipschitz constant of a program over a box, certified: bounds of its Jacobian in interval arithmetic, then input
 * splitting of the worst box (split.h), anytime.
 *
 * A program is piecewise linear: along the segment between two points of the box its derivative is one Jacobian after another,
 * ReLU by ReLU with a slope of 0, 1, or (where the ReLU can be either) something between, so |f(x) - f(x')| <= L |x - x'|
 * with L the largest norm of any such matrix. The norm is the one that the vector norm induces. */
#ifndef ESP_CERTIFY_LIPSCHITZ_H
#define ESP_CERTIFY_LIPSCHITZ_H

#include "certify/difference.h"

/* Rows "interval" (one box) and "split", of kind "lipschitz"; the witness is a point near which a slope of at least `lower` is
 * had, inside the box. An input whose ends are equal counts as a constant. opts and status as in esp_certify_difference.
 * Errors: INVALID for a box that does not fit or a negative gap, NOMEM. */
ESP_MUST_CHECK esp_code esp_certify_lipschitz(const esp_program *program, const esp_box *box, const esp_certify_opts *opts, const esp_stop *stop,
                                              esp_certified *ret_certified, esp_error *reterr);

#endif
