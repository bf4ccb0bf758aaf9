/* SPDX-License-Identifier: Apache-2.0
 * Symmetric matrices: products, factors, inverses and systems against naive twins and the definition; what is not
 * positive definite is refused. The other kernels are in test_base.c. */
#include <check.h>
#include <math.h>
#include <string.h>

#include "base/linalg.h"
#include "base/rng.h"

enum { MAX = 24 };

/* A = B'B + I of random B (n x n): positive definite, condition below 1e4. */
static void random_spd(esp_rng *rng, size_t n, double *a) {
    double b[MAX * MAX];
    for (size_t i = 0; i < n * n; i++) b[i] = esp_rng_normal(rng);
    esp_ref_dsyrk(n, n, 1, b, n, 0, a, n);
    for (size_t i = 0; i < n; i++) a[i * n + i] += 1;
}

START_TEST(linalg__syrk_equals_its_naive_twin) {
    enum { N = 7, K = 13, LD = 9 };
    double a[K * LD], c[N * LD] = {0}, c2[N * LD] = {0}, beta = _i % 2 ? 0.5 : 0;
    esp_rng rng;
    esp_rng_init(&rng, 3, (uint64_t)_i);
    for (int i = 0; i < K * LD; i++) a[i] = esp_rng_normal(&rng);
    for (int i = 0; i < N; i++) {
        for (int j = 0; j <= i; j++) c[i * LD + j] = c[j * LD + i] = c2[i * LD + j] = c2[j * LD + i] = beta != 0 ? esp_rng_normal(&rng) : NAN;
    }
    esp_dsyrk(N, K, 1.5, a, LD, beta, c, LD);
    esp_ref_dsyrk(N, K, 1.5, a, LD, beta, c2, LD);
    for (int i = 0; i < N; i++) {
        for (int j = 0; j < N; j++) ck_assert_double_eq_tol(c[i * LD + j], c2[i * LD + j], 1e-12);
        for (int j = N; j < LD; j++) ck_assert_double_eq(c[i * LD + j], 0);
    }
}
END_TEST

START_TEST(linalg__factor_inverse_and_system_agree) {
    static const size_t sizes[] = {1, 2, 5, MAX};
    size_t n = sizes[_i];
    double a[MAX * MAX], u[MAX * MAX], u2[MAX * MAX], inverse[MAX * MAX], work[MAX * MAX], x[MAX], b[MAX];
    esp_rng rng;
    esp_error error = {0};
    esp_rng_init(&rng, 4, n);
    random_spd(&rng, n, a);
    for (size_t i = 0; i < n; i++) x[i] = b[i] = esp_rng_normal(&rng);
    memcpy(u, a, sizeof u);
    memcpy(u2, a, sizeof u2);
    memcpy(inverse, a, sizeof inverse);
    memcpy(work, a, sizeof work);
    for (size_t i = 1; i < n; i++) /* the lower triangle is not read */
        for (size_t j = 0; j < i; j++) u[i * n + j] = inverse[i * n + j] = work[i * n + j] = NAN;
    ck_assert_int_eq(esp_cholesky(n, u, &error), ESP_OK);
    ck_assert_int_eq(esp_ref_cholesky(n, u2, &error), ESP_OK);
    ck_assert_int_eq(esp_spd_inverse(n, inverse, &error), ESP_OK);
    ck_assert_int_eq(esp_spd_solve(n, work, x, &error), ESP_OK);
    for (size_t i = 0; i < n; i++) {
        double row = 0;
        for (size_t j = 0; j < n; j++) {
            double product = 0;
            for (size_t k = 0; k < n; k++) product += a[i * n + k] * inverse[k * n + j];
            ck_assert_double_eq_tol(product, i == j, 1e-10);
            ck_assert_double_eq_tol(u[i * n + j], u2[i * n + j], 1e-10);
            row += a[i * n + j] * x[j];
        }
        ck_assert_double_eq_tol(row, b[i], 1e-10);
    }
}
END_TEST

START_TEST(linalg__not_positive_definite_is_refused) {
    static const double bad[][4] = {{1, 2, 2, 1}, {0, 0, 0, 0}, {1, 1, 1, 1}, {-1, 0, 0, 1}, {NAN, 0, 0, 1}};
    double a[4], x[2] = {1, 1};
    esp_error error = {0};
    memcpy(a, bad[_i], sizeof a);
    ck_assert_int_eq(esp_cholesky(2, a, &error), ESP_NUMERIC);
    memcpy(a, bad[_i], sizeof a);
    ck_assert_int_eq(esp_ref_cholesky(2, a, &error), ESP_NUMERIC);
    memcpy(a, bad[_i], sizeof a);
    ck_assert_int_eq(esp_spd_inverse(2, a, &error), ESP_NUMERIC);
    memcpy(a, bad[_i], sizeof a);
    ck_assert_int_eq(esp_spd_solve(2, a, x, &error), ESP_NUMERIC);
}
END_TEST

START_TEST(linalg__nothing_is_nothing) {
    double a = 0;
    ck_assert_int_eq(esp_cholesky(0, &a, NULL), ESP_OK);
    ck_assert_int_eq(esp_spd_inverse(0, &a, NULL), ESP_OK);
    ck_assert_int_eq(esp_spd_solve(0, &a, &a, NULL), ESP_OK);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("linalg");
    TCase *tc = tcase_create("symmetric");
    tcase_add_loop_test(tc, linalg__syrk_equals_its_naive_twin, 0, 2);
    tcase_add_loop_test(tc, linalg__factor_inverse_and_system_agree, 0, 4);
    tcase_add_loop_test(tc, linalg__not_positive_definite_is_refused, 0, 5);
    tcase_add_test(tc, linalg__nothing_is_nothing);
    suite_add_tcase(suite, tc);
    return run_suite(suite);
}
