/* SPDX-License-Identifier: Apache-2.0
 * The largest difference of two programs over a box, or the largest output of one, as a mixed-integer program solved by CBC: exact up
 * to its tolerances, where branching on phases of ReLUs is better than halving inputs (many inputs, few unstable ReLUs).
 *
 *     maximise +-(y_f - y_g)_i    over  x in the box,  r_q - w_q = C x + D r + d,  r_q <= u_q a_q,  w_q <= -l_q (1 - a_q),  a_q 0 or 1
 *
 * with the ranges [l, u] of CROWN, for each output and sign in turn. Pairs of neurons give rows more: with delta = p - q in the
 * range of certify/twin.h, the hull of max(0, p) - max(0, q) over it.
 *
 * A largest component, so for the max-norm, or one output. What CBC says is a claim: `solver`, never more than what is
 * proved without it, and an answer below what a witness reaches, or that a feasible problem is infeasible, is not taken. */
#ifndef ESP_PLAN_EXACT_H
#define ESP_PLAN_EXACT_H

#include "certify/difference.h"

typedef struct esp_exact {
    double value; /* of the largest component, the tolerance charged */
    double tolerance; /* how much of it that is */
    bool solver; /* the value rests on CBC; else proved without it */
    double lower; /* proved: reached at the witness */
    double *witness; /* n_x; owned */
    int binaries, solves, refused; /* refused: answers not taken */
    int64_t nodes;
    const char *status; /* "optimal": to the gap of the options; "time_limit" */
} esp_exact;
void esp_exact_done(esp_exact *exact); /* `= {0}` is done too */

/* g NULL for f alone; pairs as of esp_certify_difference. Looks at the gap, the seed and the slacks of the options; the stop's deadline
 * is soft, as CBC's time limit is. One search per process at a time. Errors: INVALID for a box that does not fit or a two-norm of
 * several outputs, STATE when another search runs, NOMEM. */
ESP_MUST_CHECK esp_code esp_exact_run(const esp_program *f, const esp_program *g, const int *pairs, const esp_box *box, const esp_certify_opts *opts,
                                      const esp_stop *stop, esp_exact *ret_exact, esp_error *reterr);

#endif
