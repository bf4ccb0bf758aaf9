/* SPDX-License-Identifier: Apache-2.0
 * Training that starts from a model: emit.h backwards, from a model in the units of the data to the network in training.
 *
 * W1 = W1' in_scale, b1 = b1' + W1' in_mean; last W = W' / S, b = (b' - m) / S, in double until the last rounding to float.
 * Scales are those of the data that it is trained on now, so the model may come from other data. Neurons that are not ReLU
 * are frozen as they are. An output whose target never varies (S = 0) is set by the data and loses the model's weights.
 *
 * Distillation with weight beta in 0 .. 1: the loss (1 - beta) |y - t|^2 + beta |y - f0|^2 has, but for a constant, the value and the
 * gradient of |y - ((1 - beta) t + beta f0)|^2. So the teacher f0, the model as it comes, only moves the targets of the
 * training rows, once, before the first epoch. In a rollout it is the teacher's one-step prediction from the data. Errors
 * of emitted models are still against the data; so is the figure in the progress, unless a single trajectory stands for both. */
#ifndef ESP_TRAIN_START_H
#define ESP_TRAIN_START_H

#include "net/model.h"
#include "sparsify/ladder.h"
#include "train/emit.h"
#include "train/mlp.h"
#include "train/windows.h"

/* One layer's; which ends of the scales it touches. Not yet checked. */
void esp_start_unfold_layer(const esp_layer *layer, const esp_scales *scales, bool first, bool last, float *ret_w, float *ret_b);
/* Errors: NUMERIC when one is not finite as a float. */
ESP_MUST_CHECK esp_code esp_start_check(const float *params, size_t n, esp_error *reterr);

/* A network's weights in the units of the scales, of its sizes. Errors: NUMERIC when one is not finite as a float. */
ESP_MUST_CHECK esp_code esp_start_unfold(const esp_net *net, const esp_mlp *mlp, const esp_scales *scales, float *ret_params, esp_error *reterr);

/* The model's weights into params (n_params), its masks into the ladder; its sizes are those of mlp. Targets of the windows are
 * moved when distill_weight is over 0. Errors: NUMERIC when a weight is not finite as a float, NOMEM. */
ESP_MUST_CHECK esp_code esp_start_load(const esp_model *model, double distill_weight, const esp_mlp *mlp, esp_windows *windows, float *ret_params,
                                       esp_ladder *ladder, esp_error *reterr);

#endif
