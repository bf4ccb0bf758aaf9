/* SPDX-License-Identifier: Apache-2.0
 * Split-conformal quantiles: the rank, the refusal of too few scores, and the promise itself, simulated. */
#include <check.h>
#include <math.h>

#include "base/rng.h"
#include "certify/conformal.h"

START_TEST(conformal__rank_is_that_of_the_definition) {
    ck_assert_uint_eq(esp_conformal_rank(9, 0.9), 9);
    ck_assert_uint_eq(esp_conformal_rank(8, 0.9), 0); /* 8.1 of 8 */
    ck_assert_uint_eq(esp_conformal_rank(19, 0.95), 19);
    ck_assert_uint_eq(esp_conformal_rank(99, 0.9), 90);
    ck_assert_uint_eq(esp_conformal_rank(100, 0.9), 91);
    ck_assert_uint_eq(esp_conformal_rank(1, 0.5), 1);
    ck_assert_uint_eq(esp_conformal_least(0.9), 9);
    ck_assert_uint_eq(esp_conformal_least(0.95), 19);
    ck_assert_uint_eq(esp_conformal_least(0.99), 99);
}
END_TEST

START_TEST(conformal__too_few_scores_are_refused) {
    double scores[8] = {3, 1, 2, 5, 4, 8, 7, 6}, quantile = -1;
    esp_error error = {0};
    ck_assert(esp_conformal_quantile(scores, 8, 0.9, &quantile, &error) == ESP_UNPROCESSABLE);
    ck_assert_double_eq(quantile, -1);
    ck_assert(esp_conformal_quantile(scores, 8, 0.5, &quantile, &error) == ESP_OK);
    ck_assert_double_eq(quantile, 5); /* rank ceil(4.5) */
}
END_TEST

/* The next score stays within the quantile as often as promised and, without ties, hardly more often. */
static double coverage_of(size_t n, double coverage, int trials, esp_rng *rng) {
    double scores[64];
    int within = 0;
    for (int trial = 0; trial < trials; trial++) {
        double scale = exp(esp_rng_normal(rng)), quantile = 0; /* one law for all scores of a trial, another for each trial */
        for (size_t i = 0; i < n; i++) scores[i] = scale * -log(esp_rng_uniform(rng));
        double next = scale * -log(esp_rng_uniform(rng));
        ck_assert(esp_conformal_quantile(scores, n, coverage, &quantile, NULL) == ESP_OK);
        within += next <= quantile;
    }
    return (double)within / trials;
}

START_TEST(conformal__covers_as_promised) {
    const double wanted[] = {0.5, 0.8, 0.9};
    const size_t sizes[] = {9, 20, 50};
    esp_rng rng;
    esp_rng_init(&rng, 4, 0);
    for (int w = 0; w < 3; w++)
        for (int k = 0; k < 3; k++) {
            int trials = 20000;
            double sigma = sqrt(wanted[w] * (1 - wanted[w]) / trials), found = coverage_of(sizes[k], wanted[w], trials, &rng);
            ck_assert_msg(found >= wanted[w] - 4 * sigma, "%zu scores: %g, not %g", sizes[k], found, wanted[w]);
            ck_assert_msg(found <= wanted[w] + 1.0 / ((double)sizes[k] + 1) + 4 * sigma, "%zu scores: %g, not %g", sizes[k], found, wanted[w]);
        }
}
END_TEST

/* Trajectories whose windows are nearly the same number: one score each keeps the promise, which many windows of few
 * trajectories taken for independent would not. */
START_TEST(conformal__one_score_for_each_trajectory_is_what_covers) {
    enum { TRIALS = 6000, N = 12, WINDOWS = 11 };
    int single = 0, pooled = 0;
    esp_rng rng;
    esp_rng_init(&rng, 5, 0);
    for (int trial = 0; trial < TRIALS; trial++) {
        double one[N], all[N * WINDOWS], a = 0, b = 0;
        for (int t = 0; t < N; t++) {
            double level = -log(esp_rng_uniform(&rng));
            for (int w = 0; w < WINDOWS; w++) all[t * WINDOWS + w] = level + 1e-3 * esp_rng_uniform(&rng);
            one[t] = all[t * WINDOWS + (int)esp_rng_below(&rng, WINDOWS)];
        }
        double next = -log(esp_rng_uniform(&rng)) + 1e-3 * esp_rng_uniform(&rng);
        ck_assert(esp_conformal_quantile(one, N, 0.9, &a, NULL) == ESP_OK);
        ck_assert(esp_conformal_quantile(all, N * WINDOWS, 0.9, &b, NULL) == ESP_OK);
        single += next <= a;
        pooled += next <= b;
    }
    double sigma = sqrt(0.9 * 0.1 / TRIALS);
    ck_assert_double_ge((double)single / TRIALS, 0.9 - 4 * sigma);
    ck_assert_double_lt((double)pooled / TRIALS, 0.9 - 4 * sigma);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("conformal");
    TCase *tc = tcase_create("conformal");
    tcase_add_test(tc, conformal__rank_is_that_of_the_definition);
    tcase_add_test(tc, conformal__too_few_scores_are_refused);
    tcase_add_test(tc, conformal__covers_as_promised);
    tcase_add_test(tc, conformal__one_score_for_each_trajectory_is_what_covers);
    suite_add_tcase(suite, tc);
    return run_suite(suite);
}
