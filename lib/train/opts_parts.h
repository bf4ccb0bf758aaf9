/* SPDX-License-Identifier: Apache-2.0
 * What the options of a `train` and of a `sparsify` job share. Private to opts.c, model_opts.c and sparsify_opts.c. */
#ifndef ESP_TRAIN_OPTS_PARTS_H
#define ESP_TRAIN_OPTS_PARTS_H

#include "train/train.h"

/* How a run trains, whatever it begins with. */
#define ESP_RUN_FIELDS                                                                                                                               \
    "threads", "rollout", "step_weights", "epochs", "rung_epochs", "batch", "learning_rate", "schedule", "plateau_factor", "plateau_patience",       \
        "plateau_threshold", "early_stop", "input_noise", "weight_decay", "clip", "validation", "seed", "ladder", "lambda", "lambda_id", "tau",      \
        "logit_rate", "straight_through", "proof_weight", "rounding", "reach", "target"

/* Those of ESP_RUN_FIELDS that the spec gives, but the ladder, into opts. */
ESP_MUST_CHECK esp_code esp_numbers_parse(const esp_reader *spec, esp_train_opts *opts, esp_error *reterr);
/* All of them, and the ladder, into the object that is open; for channel pruning without those of the masks. */
void esp_numbers_format(const esp_train_opts *opts, esp_jsonw *w);
/* `ladder`, falling, its first rung below `above`, which is `what`; with a target and without a ladder, one that falls by a quarter
 * a rung. */
ESP_MUST_CHECK esp_code esp_ladder_parse(const esp_reader *spec, int above, const char *what, esp_train_opts *opts, esp_error *reterr);

/* `model` of a train job's spec, for ny and nu. */
ESP_MUST_CHECK esp_code esp_model_opts_parse(const esp_reader *spec, int ny, int nu, esp_train_opts *opts, esp_error *reterr);
/* Neurons that a ladder decides about. */
int esp_model_opts_neurons(const esp_train_opts *opts);
/* What a graph network asks of the frame and the other options, which are known. */
ESP_MUST_CHECK esp_code esp_model_opts_frame(const esp_reader *spec, esp_train_opts *opts, esp_error *reterr);
/* Of the other options alone. */
ESP_MUST_CHECK esp_code esp_graph_opts_check(const esp_reader *spec, const esp_train_opts *opts, esp_error *reterr);
/* The network's size, now that its ends are known. */
ESP_MUST_CHECK esp_code esp_model_opts_check(const esp_reader *spec, const esp_train_opts *opts, esp_error *reterr);
void esp_model_opts_format(const esp_train_opts *opts, esp_jsonw *w);
void esp_integers_format(esp_jsonw *w, const char *key, const int *values, int n);

#endif
