/* SPDX-License-Identifier: Apache-2.0
 * What a sparsify job adds to a train job: both are run by job_train.c. Private to it and job_sparsify.c. */
#ifndef ESP_WORKER_TRAIN_PARTS_H
#define ESP_WORKER_TRAIN_PARTS_H

#include "certify/stable.h"
#include "train/train.h"
#include "worker/worker.h"

typedef struct sparsification {
    bool stable; /* neurons are to be resolved over the data box */
    esp_stable resolved; /* of the model in hand */
} sparsification;

/* The options of the job, from its spec and the model that it starts from; the model is the cache's. `data` fits the model's row,
 * and that it fits the model is checked again. */
ESP_MUST_CHECK esp_code sparsify_read(worker *w, const esp_reader *payload, const struct esp_dataset *data, sparsification *s,
                                      esp_train_opts *ret_opts, esp_error *reterr);
/* Resolves what is stable over the box, if that was asked for. */
ESP_MUST_CHECK esp_code sparsify_refine(sparsification *s, const esp_box *box, esp_model **model, esp_error *reterr);
/* The members of the new row's spec. */
void sparsify_put_spec(const sparsification *s, const esp_train_opts *opts, esp_jsonw *json);

#endif
