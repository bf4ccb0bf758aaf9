/* SPDX-License-Identifier: Apache-2.0
 * From the network in training to a model in the units of the data, and the model's error on the validation rows.
 *
 * In double: W1' = W1 / in_scale, b1' = b1 - W1' in_mean; last W' = S W, b' = S b + m (train/windows.h). */
#ifndef ESP_TRAIN_EMIT_H
#define ESP_TRAIN_EMIT_H

#include "net/model.h"
#include "sparsify/ladder.h"
#include "train/mlp.h"
#include "train/windows.h"

/* What the network in training sees is (x - in_mean) / in_scale; what it says stands for out_scale o + out_mean. */
typedef struct esp_scales {
    const double *in_mean, *in_scale; /* width[0] */
    const double *out_mean, *out_scale; /* width[n_layers] */
} esp_scales;

/* The network with the scales folded into its first and last layer, hidden neurons all ReLU; not yet checked to be finite.
 * Errors: INVALID, NOMEM. */
ESP_MUST_CHECK esp_code esp_emit_net(const esp_mlp *mlp, const float *params, const esp_scales *scales, esp_net **ret_net, esp_error *reterr);

/* The same of one layer: its inputs' scales, its outputs'. */
void esp_emit_inputs(const double *mean, const double *scale, esp_layer *layer);
void esp_emit_outputs(const double *mean, const double *scale, esp_layer *layer);

/* Undecided neurons become ReLU. Errors: NOMEM, NUMERIC when a weight is not finite. */
ESP_MUST_CHECK esp_code esp_emit_model(const esp_mlp *mlp, const float *params, const esp_ladder *ladder, const esp_windows *windows,
                                       const esp_frame *frame, int nu, esp_model **ret_model, esp_error *reterr);

#define ESP_EMIT_STEPS         10
#define ESP_EMIT_ONE_STEP_ROWS 20000 /* evenly spaced beyond that many */
#define ESP_EMIT_ROLLOUT_ROWS  2000

/* Root mean square error over all outputs in data units on the validation rows, by the model itself in double: one
 * step, and open loop over all of the first min(10, longest) steps. `pulse` (may be NULL) is called before each window and
 * stops the work when it fails. Errors: NOMEM, NUMERIC when a prediction is not finite, those of pulse. */
ESP_MUST_CHECK esp_code esp_emit_errors(const esp_model *model, const esp_dataset *dataset, const esp_windows *windows,
                                        esp_code (*pulse)(void *user, esp_error *reterr), void *user, double *ret_one_step, double *ret_rollout,
                                        esp_error *reterr);

#endif
