/* SPDX-License-Identifier: Apache-2.0
 * The few statistics a robot's report needs. Values that are not finite do not belong in here. */
#ifndef ESP_ROBOTS_STATS_H
#define ESP_ROBOTS_STATS_H

#include <stddef.h>

double esp_stats_mean(const double *values, size_t n); /* NaN when n = 0 */
/* The q-quantile (0 <= q <= 1), linear between order statistics; NaN when n = 0. Up to 100,000 values. */
double esp_stats_quantile(const double *values, size_t n, double q);

#define ESP_STATS_PAIRS 64

/* Two methods on the same n episodes, smaller is better: a - b. */
typedef struct esp_paired {
    int n, a_better, b_better; /* the rest are ties */
    double mean_difference; /* of a - b */
    double standard_error; /* of that mean; NaN for n < 2 */
    double p_value; /* two-sided Wilcoxon signed-rank test, exact, ties left out; 1 when nothing differs */
} esp_paired;

/* tolerance: differences up to it are ties. Pairs past ESP_STATS_PAIRS are left out. */
esp_paired esp_stats_paired(const double *a, const double *b, size_t n, double tolerance);

#endif
