/* SPDX-License-Identifier: Apache-2.0
 * Entrywise bounds of the derivative of a model over a box: what a Lipschitz constant in any norm follows from. Private to
 * lib/certify.
 *
 * A model is piecewise linear. On the segment between two points of the box it has one derivative after another, each
 * within the bounds, so y(b) - y(a) = M (b - a) for an M within them too. */
#ifndef ESP_CERTIFY_JACOBIAN_H
#define ESP_CERTIFY_JACOBIAN_H

#include "certify/pair.h"

typedef struct esp_jacobian esp_jacobian;
/* Borrows the model. One object, one thread; a run allocates nothing. */
ESP_MUST_CHECK esp_code esp_jacobian_create(const esp_model *model, esp_jacobian **ret_jacobian, esp_error *reterr);
void esp_jacobian_free(esp_jacobian *jacobian);
/* dy/dx over lower <= x <= upper (n_x): ret_lower, ret_upper (n_y x n_x). Infinite where nothing is known. */
void esp_jacobian_run(esp_jacobian *jacobian, const double *lower, const double *upper, double *ret_lower, double *ret_upper);

/* [lower, upper] (rows x cols) = base + W [lower, upper] for an exact W (rows x n) and an exact base (rows x cols), or NULL. */
void esp_interval_product(int rows, int n, int cols, const double *w, const double *lower, const double *upper, const double *base, double *ret_lower,
                          double *ret_upper);
/* max(|lower|, |upper|), infinity for what is not a number. */
double esp_interval_size(double lower, double upper);

#endif
