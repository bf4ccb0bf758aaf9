/* SPDX-License-Identifier: Apache-2.0
 * Dense linear algebra, row-major. linalg.c is the only file that calls BLAS and LAPACK; linalg_ref.c holds a naive
 * twin of each kernel (`esp_ref_*`), the oracle of the tests.
 *
 * Nothing here carries a rounding guarantee; certify/ has its own kernels for that. One thread. */
#ifndef ESP_BASE_LINALG_H
#define ESP_BASE_LINALG_H

#include <stddef.h>

#include "base/error.h"

typedef enum esp_trans { ESP_NO, ESP_T } esp_trans;

/* C (m x n) = alpha op(A) (m x k) op(B) (k x n) + beta C; ld* are row strides in elements. */
void esp_sgemm(esp_trans ta, esp_trans tb, size_t m, size_t n, size_t k, float alpha, const float *a, size_t lda, const float *b, size_t ldb,
               float beta, float *c, size_t ldc);
void esp_dgemm(esp_trans ta, esp_trans tb, size_t m, size_t n, size_t k, double alpha, const double *a, size_t lda, const double *b, size_t ldb,
               double beta, double *c, size_t ldc);
void esp_ref_sgemm(esp_trans ta, esp_trans tb, size_t m, size_t n, size_t k, float alpha, const float *a, size_t lda, const float *b, size_t ldb,
                   float beta, float *c, size_t ldc);
void esp_ref_dgemm(esp_trans ta, esp_trans tb, size_t m, size_t n, size_t k, double alpha, const double *a, size_t lda, const double *b, size_t ldb,
                   double beta, double *c, size_t ldc);

/* y (m) = A (m x n) x. */
void esp_dgemv(size_t m, size_t n, const double *a, size_t lda, const double *x, double *y);

/* C (n x n, both triangles) = alpha A'A + beta C for A (k x n); C is symmetric when it is read. */
void esp_dsyrk(size_t n, size_t k, double alpha, const double *a, size_t lda, double beta, double *c, size_t ldc);
void esp_ref_dsyrk(size_t n, size_t k, double alpha, const double *a, size_t lda, double beta, double *c, size_t ldc);

/* Three of a symmetric positive definite A (n x n), in place; only its upper triangle is read. A is spoilt on failure.
 * Errors: NUMERIC when A is not positive definite in double. */
/* A = U'U: U in the upper triangle, zeros below. */
ESP_MUST_CHECK esp_code esp_cholesky(size_t n, double *a, esp_error *reterr);
ESP_MUST_CHECK esp_code esp_ref_cholesky(size_t n, double *a, esp_error *reterr);
/* The inverse, both triangles. */
ESP_MUST_CHECK esp_code esp_spd_inverse(size_t n, double *a, esp_error *reterr);
/* x (n) becomes A^-1 x; A is spoilt on success too. */
ESP_MUST_CHECK esp_code esp_spd_solve(size_t n, double *a, double *x, esp_error *reterr);

/* Largest singular value of A (m x n) by SVD: an estimate, good to rounding, not a proved bound (see certify/norms.h). */
ESP_MUST_CHECK esp_code esp_spectral_norm(size_t m, size_t n, const double *a, double *ret_norm, esp_error *reterr);

/* Minimum-norm least squares X (n x nrhs) of A (m x n) X = B (m x nrhs). */
ESP_MUST_CHECK esp_code esp_lstsq(size_t m, size_t n, size_t nrhs, const double *a, const double *b, double *ret_x, esp_error *reterr);

/* "OpenBLAS 0.3.21 ..." : what the library is and which kernel it runs. */
const char *esp_linalg_describe(void);

#endif
