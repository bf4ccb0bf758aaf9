/* SPDX-License-Identifier: Apache-2.0
 * Rounding to zero: weights that the loss hardly misses go.
 *
 * Of a network in compact form (compact.h) each weight is one entry of the program that is planned with, certified and written as C. What
 * training leaves is dense; a third to a half of it goes for less than one per cent of error. Proofs become shorter too, but hardly by more
 * than that error is worth on the way to fewer ReLUs (tests/bench/README.md).
 *     try      each weight at 0, the bias of its row taking up what it adds on average, and see what the loss is then;
 *     order    by that;
 *     round    as many of the first to 0 as together leave the loss below (1 + share) times what it was.
 * It is for the caller to train what is left, weights that are 0 staying 0, and to come back. Each weight is tried by a pass over
 * the rows, so no more than ESP_ROUNDING_TRIED are: those that add least, by root mean square. */
#ifndef ESP_TRAIN_ROUNDING_H
#define ESP_TRAIN_ROUNDING_H

#include "train/compact.h"
#include "train/windows.h"

#define ESP_ROUNDING_TRIED 4096

typedef struct esp_rounding_call {
    const esp_mlp *mlp;
    const esp_ladder *ladder;
    const esp_windows *windows;
    const size_t *rows; /* n of the windows' rows */
    size_t n;
    double share; /* positive */
    double (*loss)(void *user); /* of the parameters as they are then, on whatever rows; not finite: the rounding is broken off */
    void *user;
} esp_rounding_call;

/* params (n_params) of a network in compact form; as they were when it is broken off. *ret_zeros: how many went now; 0 then.
 * Errors: NOMEM. */
ESP_MUST_CHECK esp_code esp_rounding_run(const esp_rounding_call *call, float *params, size_t *ret_zeros, esp_error *reterr);

#endif
