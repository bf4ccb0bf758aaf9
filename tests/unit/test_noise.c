/* SPDX-License-Identifier: Apache-2.0
 * Normals by the thousand: their moments and quantiles, and that seeds tell them apart. */
#include <check.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "plan/noise.h"

#define N (1 << 18)

static void fill(uint64_t seed, float *values, size_t n) {
    esp_rng rng;
    esp_noise noise;
    esp_rng_init(&rng, seed, 0);
    esp_noise_init(&noise, &rng);
    esp_noise_normals(&noise, values, n);
}

/* Limits at five standard errors. */
START_TEST(noise__is_standard_normal) {
    float *values = malloc(N * sizeof *values);
    ck_assert_ptr_nonnull(values);
    fill(1, values, N);
    double sum[5] = {0}, lagged[3] = {0};
    int below[3] = {0};
    const double at[3] = {-1.959964, -0.6744898, 0.2533471}, share[3] = {0.025, 0.25, 0.6};
    const int lags[3] = {1, 16, 32};
    for (int i = 0; i < N; i++) {
        double v = (double)values[i];
        ck_assert(fabs(v) < 6);
        for (int k = 1; k < 5; k++) sum[k] += pow(v, k);
        for (int k = 0; k < 3; k++) below[k] += v < at[k];
        for (int k = 0; k < 3; k++) lagged[k] += i >= lags[k] ? v * (double)values[i - lags[k]] : 0;
    }
    double error = 5 / sqrt(N);
    ck_assert_double_eq_tol(sum[1] / N, 0, error);
    ck_assert_double_eq_tol(sum[2] / N, 1, error * sqrt(2));
    ck_assert_double_eq_tol(sum[3] / N, 0, error * sqrt(15));
    ck_assert_double_eq_tol(sum[4] / N, 3, error * sqrt(96));
    for (int k = 0; k < 3; k++) ck_assert_double_eq_tol((double)below[k] / N, share[k], error * sqrt(share[k] * (1 - share[k])));
    for (int k = 0; k < 3; k++) ck_assert_double_eq_tol(lagged[k] / N, 0, error);
    free(values);
}
END_TEST

START_TEST(noise__one_seed_one_sequence) {
    float a[320], b[320], other[320];
    fill(7, a, 320);
    fill(7, b, 320);
    fill(8, other, 320);
    ck_assert_mem_eq(a, b, sizeof a);
    int same = 0;
    for (int i = 0; i < 320; i++) same += a[i] == other[i];
    ck_assert_int_lt(same, 3);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("noise");
    TCase *tc = tcase_create("noise");
    tcase_add_test(tc, noise__is_standard_normal);
    tcase_add_test(tc, noise__one_seed_one_sequence);
    suite_add_tcase(suite, tc);
    return run_suite(suite);
}
