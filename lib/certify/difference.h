/* SPDX-License-Identifier: Apache-2.0
 * The largest difference between two models over a box, certified: interval and CROWN on the difference program,
 * input splitting of the worst box until the gap to a witness or the time limit; anytime. One model alone: the same
 * for its output. */
#ifndef ESP_CERTIFY_DIFFERENCE_H
#define ESP_CERTIFY_DIFFERENCE_H

#include "base/clock.h"
#include "certify/bounds.h"
#include "certify/certificate.h"

typedef struct esp_certify_opts {
    esp_norm norm;
    double gap; /* stop when value <= lower * (1 + gap) */
    int max_boxes; /* cap on the boxes held; memory caps them too (64 MB) */
    uint64_t seed; /* of the witness search */
} esp_certify_opts;
#define ESP_CERTIFY_OPTS_INIT ((esp_certify_opts){ESP_NORM_INF, 0.05, 200000, 1})

/* Certificates for max |program(x)| over the box: method "interval" (one box), "crown" (one box) and "split" (after
 * splitting; its witness in ret_witness, n_x, may be NULL). `ret` has room for 3; *ret_n says how many were made.
 * Each carries the same `lower`, what exact arithmetic on the program reaches at the witness. `kind` is "range"; a caller
 * whose program is a difference says so. The bound is of the program as it stands; what lowering rounded is not in it.
 * status: "proved" (finished: the gap is met, or no split can help), "time_limit" (stopped: the value is still a proved
 * bound), "box_limit" (likewise). Stopping in the middle of a box leaves it with looser, still proved, ranges.
 * Errors: INVALID for a box that does not fit or a negative gap, NOMEM. */
ESP_MUST_CHECK esp_code esp_certify_norm(const esp_program *program, const esp_box *box, const esp_certify_opts *opts, const esp_stop *stop,
                                         esp_certificate ret[3], int *ret_n, double *ret_witness, esp_error *reterr);

#endif
