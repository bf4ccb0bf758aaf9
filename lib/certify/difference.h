/* SPDX-License-Identifier: Apache-2.0
 * The largest difference between two models over a box, certified: by intervals, by CROWN on the difference program, through
 * the differences of paired neurons (certify/twin.h), then by input splitting of the worst box until the gap to a witness or
 * the time limit; anytime. One model alone: the same for its output. */
#ifndef ESP_CERTIFY_DIFFERENCE_H
#define ESP_CERTIFY_DIFFERENCE_H

#include "base/buf.h"
#include "base/clock.h"
#include "certify/bounds.h"
#include "certify/certificate.h"

typedef struct esp_certify_opts {
    esp_norm norm;
    double gap; /* stop when value <= lower * (1 + gap) */
    int max_boxes; /* cap on the boxes held; memory caps them too (64 MB) */
    uint64_t seed; /* of the witness search */
    const esp_program *slack_f, *slack_g; /* how far the programs' entries can be off, NULL: exact (certify/lowering.h) */
} esp_certify_opts;
#define ESP_CERTIFY_OPTS_INIT ((esp_certify_opts){ESP_NORM_INF, 0.05, 200000, 1, NULL, NULL})

#define ESP_CERTIFY_ROWS 4

/* Certificates for the largest of one quantity over one box, all with the same `lower`; the last is that of "split". */
typedef struct esp_certified {
    int n;
    esp_certificate rows[ESP_CERTIFY_ROWS];
    double *witness; /* n_x; owned */
    esp_buf tree; /* of the last row (schema/formats/certificate.md); empty when it has too many leaves */
    int leaves;
    int64_t boxes; /* bounded in all */
} esp_certified;
void esp_certified_done(esp_certified *certified); /* `= {0}` is done too */

/* max |f(x) - g(x)| over the box, g NULL for f alone. Rows: "interval" (one box), "crown" (one box), "twin" (one box; with g
 * only) and "split". pairs: esp_twin_pairs, or NULL for none. `kind` is "difference" with g, "range" without. Bounds are of
 * exact arithmetic on the programs, and on every two whose entries are within the options' slacks of them.
 * status: "proved" (finished: the gap is met, or no split can help), "time_limit" (stopped: the value is still a proved
 * bound), "box_limit" (likewise). Stopping in the middle of a box leaves it with looser, still proved, ranges.
 * Errors: INVALID for a box that does not fit or a negative gap, UNPROCESSABLE over ESP_MAX_RELUS, NOMEM. */
ESP_MUST_CHECK esp_code esp_certify_difference(const esp_program *f, const esp_program *g, const int *pairs, const esp_box *box,
                                               const esp_certify_opts *opts, const esp_stop *stop, esp_certified *ret_certified, esp_error *reterr);

/* Does the box fit the program, and are the options in range? INVALID when not. */
ESP_MUST_CHECK esp_code esp_certify_check(const esp_program *program, const esp_box *box, const esp_certify_opts *opts, esp_error *reterr);

/* The same for one program: "interval", "crown", "split" in ret (room for 3), their number in *ret_n, the witness in
 * ret_witness (n_x, may be NULL). */
ESP_MUST_CHECK esp_code esp_certify_norm(const esp_program *program, const esp_box *box, const esp_certify_opts *opts, const esp_stop *stop,
                                         esp_certificate ret[3], int *ret_n, double *ret_witness, esp_error *reterr);

#endif
