/* SPDX-License-Identifier: Apache-2.0
 * Training for the planner: in the phases in which masks are fixed, the network is held in compact form (compact.h), and the
 * loss has proof_weight times the relaxation gap (gap.h) of the rows it is trained on.
 *
 * One object for one phase. Normalised units throughout; reach is how far the network's inputs move in the data in opts->reach
 * steps (train/windows.h). */
#ifndef ESP_TRAIN_PROOF_H
#define ESP_TRAIN_PROOF_H

#include "train/compact.h"
#include "train/windows.h"

typedef struct esp_proof esp_proof;

/* Of a network in compact form. Borrows both. Errors: NOMEM. */
ESP_MUST_CHECK esp_code esp_proof_create(const esp_mlp *mlp, const esp_ladder *ladder, const esp_windows *windows, esp_proof **ret_proof,
                                         esp_error *reterr);
void esp_proof_free(esp_proof *proof);
/* Adds weight * dR/dparams to grads, R over some of the n rows; returns R. */
double esp_proof_add(esp_proof *proof, const size_t *starts, size_t n, double weight, const float *params, float *grads);
/* After each step: what must not change is put back. */
void esp_proof_hold(const esp_proof *proof, float *params);

#endif
