/* SPDX-License-Identifier: Apache-2.0
 * Naive twins of the kernels in linalg.c: the definition written out, the oracle of its tests. */
#include "base/linalg.h"

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
