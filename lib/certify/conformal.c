/* SPDX-License-Identifier: Apache-2.0
 * Split-conformal quantiles. Not what is scored: that is the caller's. */
#include "certify/conformal.h"

#include <assert.h>
#include <math.h>
#include <stdlib.h>

/* A coverage is meant as the decimal it was written as: 10 * 0.9 is 9, although the double 0.9 lies above 9/10. */
size_t esp_conformal_rank(size_t n, double coverage) {
    assert(coverage > 0 && coverage < 1);
    double rank = ceil(((double)n + 1) * coverage * (1 - 0x1p-50));
    return rank > (double)n ? 0 : (size_t)rank;
}

size_t esp_conformal_least(double coverage) {
    size_t n = (size_t)ceil(coverage / (1 - coverage));
    while (n > 1 && esp_conformal_rank(n - 1, coverage)) n--;
    while (!esp_conformal_rank(n, coverage)) n++;
    return n;
}

static int by_value(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

esp_code esp_conformal_quantile(double *scores, size_t n, double coverage, double *ret_quantile, esp_error *reterr) {
    size_t rank = esp_conformal_rank(n, coverage);
    if (!rank)
        return esp_fail(reterr, ESP_UNPROCESSABLE, "%zu scores; a coverage of %g takes at least %zu", n, coverage, esp_conformal_least(coverage));
    qsort(scores, n, sizeof *scores, by_value);
    *ret_quantile = scores[rank - 1];
    return ESP_OK;
}
