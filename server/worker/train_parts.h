/* SPDX-License-Identifier: Apache-2.0
 * What a sparsify job adds to a train job, and the target that either may have: both are run by job_train.c. Private to it,
 * job_sparsify.c and train_target.c. */
#ifndef ESP_WORKER_TRAIN_PARTS_H
#define ESP_WORKER_TRAIN_PARTS_H

#include "certify/stable.h"
#include "data/dataset.h"
#include "plan/task.h"
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

/* When the ladder has gone far enough, and which of the job's models is the one. */
typedef struct target {
    worker *w;
    const esp_dataset *data;
    const esp_train_opts *opts;
    esp_task *task; /* NULL: plans are not timed */
    double *goal; /* of a plan */
    double fraction; /* of the job, for what is said meanwhile */
    int64_t told_ns;
    int models; /* judged so far */
    int chosen; /* of them; -1: none */
    bool over; /* no further rung can be it */
} target;

/* The task, when plans are to be timed, goes into the arena; the rest is borrowed. */
ESP_MUST_CHECK esp_code target_read(worker *w, const esp_reader *payload, const esp_dataset *data, const esp_train_opts *opts, esp_arena *arena,
                                    target *ret_target, esp_error *reterr);
/* The share of plans that are proved in time; NaN when they are not timed. */
ESP_MUST_CHECK esp_code target_measure(target *t, const esp_model *model, const esp_box *box, double *ret_share, esp_error *reterr);
/* The next model, by its MODEL payload. */
void target_judge(target *t, const esp_buf *payload);
/* "target" of the open object of the DONE payload, if there is one: whether it was met, and the number of the model. */
void target_put(const target *t, esp_jsonw *json);

#endif
