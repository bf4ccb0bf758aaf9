/* SPDX-License-Identifier: Apache-2.0
 * Splitting a box until several bounds over it are near what is known to be reached, or time is up. Private to lib/certify.
 *
 * For bounds that come from one forward pass over a box (loops); difference.h has a search of its own, which inherits more
 * from box to box. */
#ifndef ESP_CERTIFY_SPLITS_H
#define ESP_CERTIFY_SPLITS_H

#include "base/buf.h"
#include "base/clock.h"
#include "certify/certificate.h"

/* Bounds over a box: values (n_values, each an upper bound of something, never NaN), blame (n_in, how much each input has to
 * do with their looseness). */
typedef void esp_splits_bound(void *user, const double *lower, const double *upper, double *ret_values, double *ret_blame);

typedef struct esp_splits_problem {
    int n_in, n_values, n_goals; /* the first n_goals values are to become small; the others come along */
    esp_splits_bound *bound;
    void *user;
    const double *reached; /* n_goals: what is known to be reached, or 0 */
    double gap; /* a goal is met at reached * (1 + gap) */
    int max_leaves;
} esp_splits_problem;

/* values (n_values): the largest over all leaves. *ret_tree gets the tree as text (schema/formats/certificate.md), every leaf
 * with the letter `leaf`; *ret_status is "proved", "time_limit" or "box_limit" as of a certificate. Errors: NOMEM. */
ESP_MUST_CHECK esp_code esp_splits_run(const esp_splits_problem *problem, const esp_box *box, const esp_stop *stop, char leaf, double *ret_values,
                                       esp_buf *ret_tree, int *ret_leaves, const char **ret_status, esp_error *reterr);

#endif
