/* SPDX-License-Identifier: Apache-2.0
 * One step of two closed loops over a box of presents: how the step stretches distances, and how far the two policies are
 * apart. What the product formula of closed_loop.h multiplies. Private to lib/certify. */
#ifndef ESP_CERTIFY_CONTRACTION_H
#define ESP_CERTIFY_CONTRACTION_H

#include "base/clock.h"
#include "certify/loop.h"

/* z is a present, n numbers: [Y, U before now]. */
typedef struct esp_contraction {
    int n, nu;
    double *stretch; /* n x n: |d z(t+1) / d z(t)| at most, entry by entry, of the reference loop */
    double *push; /* n: |B| eps, what the policies' difference adds to z(t+1) at most */
    double *image_lower, *image_upper; /* n: z(t+1) of both loops */
    double rho, gain, epsilon; /* in the norm: least of |stretch| and L_x + L_u L_pi; L_u; |pi^ - pi| */
} esp_contraction;

typedef struct esp_contractor esp_contractor;
ESP_MUST_CHECK esp_code esp_contractor_create(const esp_loop_models *models, esp_contractor **ret_contractor, esp_error *reterr);
void esp_contractor_free(esp_contractor *contractor);
/* Over the box, taken in at most `pieces` pieces. The result is borrowed until the next run. A stop leaves infinities. */
ESP_MUST_CHECK esp_code esp_contractor_run(esp_contractor *contractor, const double *lower, const double *upper, int pieces, esp_norm norm,
                                           const esp_stop *stop, const esp_contraction **ret_contraction, esp_error *reterr);
/* An upper bound of the norm of a matrix (m x n) of which the entries' absolute values are at most those of `size`. */
ESP_MUST_CHECK esp_code esp_size_norm(int m, int n, const double *size, esp_norm norm, double *ret_norm, esp_error *reterr);

#endif
