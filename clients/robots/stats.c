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

/* Twice the rank of |d[i]| among the n, equal ones sharing the mean of theirs: a whole number. */
static int double_rank(const double *d, size_t n, size_t i) {
    int below = 0, equal = 0;
    for (size_t j = 0; j < n; j++) {
        below += fabs(d[j]) < fabs(d[i]);
        equal += fabs(d[j]) == fabs(d[i]);
    }
    return 2 * below + equal + 1;
}

/* The exact null distribution of the signed-rank sum: each rank is added or not, with probability 1/2. */
static double signed_rank_test(const double *d, size_t n) {
    enum { MOST = ESP_STATS_PAIRS * (ESP_STATS_PAIRS + 1) };
    double chance[MOST + 1] = {1.0}, tail = 0.0;
    int total = 0, positive = 0;
    for (size_t i = 0; i < n; i++) {
        int rank = double_rank(d, n, i);
        if (d[i] > 0.0) positive += rank;
        for (int s = total + rank; s >= 0; s--) chance[s] = 0.5 * (s <= total ? chance[s] : 0.0) + 0.5 * (s >= rank ? chance[s - rank] : 0.0);
        total += rank;
    }
    int low = positive < total - positive ? positive : total - positive;
    for (int s = 0; s <= low; s++) tail += chance[s];
    return fmin(1.0, 2.0 * tail);
}

esp_paired esp_stats_paired(const double *a, const double *b, size_t n, double tolerance) {
    double difference[ESP_STATS_PAIRS], sum = 0.0, squares = 0.0;
    size_t n_different = 0;
    if (n > ESP_STATS_PAIRS) n = ESP_STATS_PAIRS;
    esp_paired paired = {.n = (int)n, .standard_error = (double)NAN};
    for (size_t i = 0; i < n; i++) {
        double d = a[i] - b[i];
        paired.a_better += d < -tolerance;
        paired.b_better += d > tolerance;
        if (fabs(d) > tolerance) difference[n_different++] = d;
        sum += d;
    }
    paired.mean_difference = n > 0 ? sum / (double)n : (double)NAN;
    for (size_t i = 0; i < n; i++) squares += (a[i] - b[i] - paired.mean_difference) * (a[i] - b[i] - paired.mean_difference);
    if (n > 1) paired.standard_error = sqrt(squares / (double)(n - 1) / (double)n);
    paired.p_value = signed_rank_test(difference, n_different);
    return paired;
}
