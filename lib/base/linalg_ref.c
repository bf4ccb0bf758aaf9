/* SPDX-License-Identifier: Apache-2.0
 * Naive twins of the kernels in linalg.c: the definition written out, the oracle of its tests. */
#include "base/linalg.h"

#include <math.h>

#define GEMM(name, type)                                                                                                                             \
    void name(esp_trans ta, esp_trans tb, size_t m, size_t n, size_t k, type alpha, const type *a, size_t lda, const type *b, size_t ldb, type beta, \
              type *c, size_t ldc) {                                                                                                                 \
        for (size_t i = 0; i < m; i++)                                                                                                               \
            for (size_t j = 0; j < n; j++) {                                                                                                         \
                type sum = 0;                                                                                                                        \
                for (size_t l = 0; l < k; l++)                                                                                                       \
                    sum += (ta == ESP_T ? a[l * lda + i] : a[i * lda + l]) * (tb == ESP_T ? b[j * ldb + l] : b[l * ldb + j]);                        \
                /* beta = 0 must not read c, which may hold anything */                                                                              \
                c[i * ldc + j] = alpha * sum + (beta != 0 ? beta * c[i * ldc + j] : 0);                                                              \
            }                                                                                                                                        \
    }

GEMM(esp_ref_sgemm, float)
GEMM(esp_ref_dgemm, double)

void esp_ref_dsyrk(size_t n, size_t k, double alpha, const double *a, size_t lda, double beta, double *c, size_t ldc) {
    esp_ref_dgemm(ESP_T, ESP_NO, n, n, k, alpha, a, lda, a, lda, beta, c, ldc);
}

esp_code esp_ref_cholesky(size_t n, double *a, esp_error *reterr) {
    for (size_t i = 0; i < n; i++) {
        for (size_t j = 0; j < i; j++) a[i * n + j] = 0;
        for (size_t j = i; j < n; j++) {
            double sum = a[i * n + j];
            for (size_t k = 0; k < i; k++) sum -= a[k * n + i] * a[k * n + j];
            if (j == i && !(sum > 0)) return esp_fail(reterr, ESP_NUMERIC, "a %zu x %zu matrix is not positive definite", n, n);
            a[i * n + j] = j == i ? sqrt(sum) : sum / a[i * n + i];
        }
    }
    return ESP_OK;
}
