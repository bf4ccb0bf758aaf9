/* SPDX-License-Identifier: Apache-2.0
 * Norms rounded up: the only norms that may enter a proved bound. */
#ifndef ESP_CERTIFY_NORMS_H
#define ESP_CERTIFY_NORMS_H

#include <stddef.h>

#include "base/error.h"

/* An upper bound of the spectral norm of A (m x n), rounding accounted for: within 1e-7 relative when the smaller side is
 * at most ESP_NORM_TIGHT, else the least of |A|_F and sqrt(|A|_1 |A|_inf). Errors: NUMERIC when A has a number that is
 * not finite, NOMEM. */
#define ESP_NORM_TIGHT 1024
ESP_MUST_CHECK esp_code esp_norm_upper(size_t m, size_t n, const double *a, double *ret_upper, esp_error *reterr);

/* The same in memory of the caller's, esp_norm_work(m, n) bytes of any alignment that malloc gives; infinity for what is not finite. */
size_t esp_norm_work(size_t m, size_t n);
double esp_norm_upper_in(size_t m, size_t n, const double *a, void *work);

/* Upper bound of the Euclidean norm of v (n); exact 0 for zeros, infinity when something is not finite. */
double esp_norm2_up(size_t n, const double *v);
/* Lower bound of the same. */
double esp_norm2_down(size_t n, const double *v);

#endif
