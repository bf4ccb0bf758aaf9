/* SPDX-License-Identifier: Apache-2.0
 * BLAS and LAPACK, called from here only. */
#include "base/linalg.h"

#include <cblas.h>
#include <lapacke.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

static CBLAS_TRANSPOSE transpose(esp_trans t) {
    return t == ESP_T ? CblasTrans : CblasNoTrans;
}

void esp_sgemm(esp_trans ta, esp_trans tb, size_t m, size_t n, size_t k, float alpha, const float *a, size_t lda, const float *b, size_t ldb,
               float beta, float *c, size_t ldc) {
    cblas_sgemm(CblasRowMajor, transpose(ta), transpose(tb), (blasint)m, (blasint)n, (blasint)k, alpha, a, (blasint)lda, b, (blasint)ldb, beta, c,
                (blasint)ldc);
}

void esp_dgemm(esp_trans ta, esp_trans tb, size_t m, size_t n, size_t k, double alpha, const double *a, size_t lda, const double *b, size_t ldb,
               double beta, double *c, size_t ldc) {
    cblas_dgemm(CblasRowMajor, transpose(ta), transpose(tb), (blasint)m, (blasint)n, (blasint)k, alpha, a, (blasint)lda, b, (blasint)ldb, beta, c,
                (blasint)ldc);
}

void esp_dgemv(size_t m, size_t n, const double *a, size_t lda, const double *x, double *y) {
    cblas_dgemv(CblasRowMajor, CblasNoTrans, (blasint)m, (blasint)n, 1.0, a, (blasint)lda, x, 1, 0.0, y, 1);
}

/* The upper triangle into the lower one. */
static void mirror(size_t n, double *a, size_t lda) {
    for (size_t i = 1; i < n; i++)
        for (size_t j = 0; j < i; j++) a[i * lda + j] = a[j * lda + i];
}

void esp_dsyrk(size_t n, size_t k, double alpha, const double *a, size_t lda, double beta, double *c, size_t ldc) {
    cblas_dsyrk(CblasRowMajor, CblasUpper, CblasTrans, (blasint)n, (blasint)k, alpha, a, (blasint)lda, beta, c, (blasint)ldc);
    mirror(n, c, ldc);
}

/* The upper triangle by rows is LAPACK's lower one by columns, so that nothing is transposed on the way. */

static esp_code not_positive(size_t n, esp_error *reterr) {
    return esp_fail(reterr, ESP_NUMERIC, "a %zu x %zu matrix is not positive definite", n, n);
}

esp_code esp_cholesky(size_t n, double *a, esp_error *reterr) {
    if (n && LAPACKE_dpotrf(LAPACK_COL_MAJOR, 'L', (lapack_int)n, a, (lapack_int)n) != 0) return not_positive(n, reterr);
    for (size_t i = 1; i < n; i++) memset(a + i * n, 0, i * sizeof *a);
    return ESP_OK;
}

esp_code esp_spd_inverse(size_t n, double *a, esp_error *reterr) {
    if (!n) return ESP_OK;
    if (LAPACKE_dpotrf(LAPACK_COL_MAJOR, 'L', (lapack_int)n, a, (lapack_int)n) != 0) return not_positive(n, reterr);
    if (LAPACKE_dpotri(LAPACK_COL_MAJOR, 'L', (lapack_int)n, a, (lapack_int)n) != 0) return not_positive(n, reterr);
    mirror(n, a, n);
    return ESP_OK;
}

esp_code esp_spd_solve(size_t n, double *a, double *x, esp_error *reterr) {
    if (n && LAPACKE_dposv(LAPACK_COL_MAJOR, 'L', (lapack_int)n, 1, a, (lapack_int)n, x, (lapack_int)n) != 0) return not_positive(n, reterr);
    return ESP_OK;
}

esp_code esp_spectral_norm(size_t m, size_t n, const double *a, double *ret_norm, esp_error *reterr) {
    if (m == 0 || n == 0) {
        *ret_norm = 0;
        return ESP_OK;
    }
    size_t rank = m < n ? m : n;
    double *copy = malloc(m * n * sizeof *copy), *s = malloc(2 * rank * sizeof *s);
    esp_code code = ESP_OK;
    if (!copy || !s) {
        code = esp_fail(reterr, ESP_NOMEM, "singular values of %zu x %zu", m, n);
        goto out;
    }
    memcpy(copy, a, m * n * sizeof *copy);
    /* LAPACK's own convergence failure and the NaN it refuses are the same to the caller: no norm. */
    if (LAPACKE_dgesvd(LAPACK_ROW_MAJOR, 'N', 'N', (lapack_int)m, (lapack_int)n, copy, (lapack_int)n, s, NULL, (lapack_int)m, NULL, (lapack_int)n,
                       s + rank) != 0) {
        code = esp_fail(reterr, ESP_NUMERIC, "no singular values of a %zu x %zu matrix", m, n);
        goto out;
    }
    *ret_norm = s[0];
out:
    free(copy);
    free(s);
    return code;
}

esp_code esp_lstsq(size_t m, size_t n, size_t nrhs, const double *a, const double *b, double *ret_x, esp_error *reterr) {
    size_t rows = m > n ? m : n;
    double *work_a = malloc(m * n * sizeof *work_a), *work_b = calloc(rows * nrhs, sizeof *work_b), *s = malloc((m < n ? m : n) * sizeof *s);
    esp_code code = ESP_OK;
    lapack_int rank = 0;
    if (!work_a || !work_b || !s) {
        code = esp_fail(reterr, ESP_NOMEM, "least squares of %zu x %zu", m, n);
        goto out;
    }
    memcpy(work_a, a, m * n * sizeof *work_a);
    memcpy(work_b, b, m * nrhs * sizeof *work_b);
    if (LAPACKE_dgelsd(LAPACK_ROW_MAJOR, (lapack_int)m, (lapack_int)n, (lapack_int)nrhs, work_a, (lapack_int)n, work_b, (lapack_int)nrhs, s, -1.0,
                       &rank) != 0) {
        code = esp_fail(reterr, ESP_NUMERIC, "least squares of %zu x %zu did not converge", m, n);
        goto out;
    }
    memcpy(ret_x, work_b, n * nrhs * sizeof *ret_x);
out:
    free(work_a);
    free(work_b);
    free(s);
    return code;
}

const char *esp_linalg_describe(void) {
    return openblas_get_config();
}
