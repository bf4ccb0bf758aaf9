/* SPDX-License-Identifier: Apache-2.0
 * Split-conformal quantiles: how large an error will not be exceeded by the next one, with a stated probability.
 *
 * n scores and the next one exchangeable (for instance independent, of one distribution): the k-th smallest of the n, k =
 * ceil((n + 1) coverage), is not exceeded by the next with probability at least `coverage`, whatever the distribution (and at
 * most coverage + 1 / (n + 1) when there are no ties). The probability is over the draw of all n + 1; it is not a statement
 * about one data set, nor about every input. Nothing here is proved of a model: strength `statistical`.
 *
 * Scores of windows of one trajectory are not exchangeable with a window of another: callers give one score for each
 * trajectory. */
#ifndef ESP_CERTIFY_CONFORMAL_H
#define ESP_CERTIFY_CONFORMAL_H

#include <stddef.h>

#include "base/error.h"

/* k of above, counting from 1; 0 when n scores are too few for the coverage (k would be n + 1). 0 < coverage < 1. */
size_t esp_conformal_rank(size_t n, double coverage);
/* The least n that is enough. */
size_t esp_conformal_least(double coverage);
/* The quantile of the scores (n, sorted by this call). UNPROCESSABLE when they are too few. */
ESP_MUST_CHECK esp_code esp_conformal_quantile(double *scores, size_t n, double coverage, double *ret_quantile, esp_error *reterr);

#endif
