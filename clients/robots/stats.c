/* SPDX-License-Identifier: Apache-2.0
 * Means, quantiles and the paired comparison of two methods (stats.h). */
#include "robots/stats.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

double esp_stats_mean(const double *values, size_t n) {
    double sum = 0.0;
    for (size_t i = 0; i < n; i++) sum += values[i];
    return n > 0 ? sum / (double)n : (double)NAN;
}

static int by_value(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

double esp_stats_quantile(const double *values, size_t n, double q) {
    if (n == 0) return (double)NAN;
    double *sorted = malloc(n * sizeof *sorted);
    if (sorted == NULL) return (double)NAN;
    memcpy(sorted, values, n * sizeof *sorted);
    qsort(sorted, n, sizeof *sorted, by_value);
    double at = q * (double)(n - 1);
    size_t below = (size_t)at, above = below + 1 < n ? below + 1 : below;
    double result = sorted[below] + (at - (double)below) * (sorted[above] - sorted[below]);
    free(sorted);
    return result;
}

/* P(X <= k or X >= n - k) for X binomial(n, 1/2), k <= n / 2. */
static double sign_test(int a, int b) {
    int n = a + b, k = a < b ? a : b;
    if (n == 0 || 2 * k == n) return 1.0;
    double tail = 0.0;
    for (int i = 0; i <= k; i++) tail += exp(lgamma(n + 1.0) - lgamma(i + 1.0) - lgamma(n - i + 1.0) - n * log(2.0));
    return fmin(1.0, 2.0 * tail);
}

esp_paired esp_stats_paired(const double *a, const double *b, size_t n, double tolerance) {
    esp_paired paired = {.n = (int)n, .standard_error = (double)NAN};
    double sum = 0.0, squares = 0.0;
    for (size_t i = 0; i < n; i++) {
        double d = a[i] - b[i];
        paired.a_better += d < -tolerance;
        paired.b_better += d > tolerance;
        sum += d;
    }
    paired.mean_difference = n > 0 ? sum / (double)n : (double)NAN;
    for (size_t i = 0; i < n; i++) squares += (a[i] - b[i] - paired.mean_difference) * (a[i] - b[i] - paired.mean_difference);
    if (n > 1) paired.standard_error = sqrt(squares / (double)(n - 1) / (double)n);
    paired.p_value = sign_test(paired.a_better, paired.b_better);
    return paired;
}
