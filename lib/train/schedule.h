/* SPDX-License-Identifier: Apache-2.0
 * How the learning rate falls within a phase of training, and when a phase has been long enough.
 *
 * COSINE: from the phase's rate to 1 % of it, by how much of the phase is done. PLATEAU: an epoch is *better* when the
 * validation loss falls below the best so far by a share `plateau_threshold`; after more than `plateau_patience` epochs in a row that are not, the rate
 * is multiplied by `plateau_factor`, down to 1e-4 of where it began. Early stop goes with either: after `early_stop` epochs in
 * a row that are not better the phase is over, and in any case it ends with the weights of its best epoch. A loss that is not
 * finite is not better. */
#ifndef ESP_TRAIN_SCHEDULE_H
#define ESP_TRAIN_SCHEDULE_H

#include "train/train.h"

/* Without gaps, so that it can be kept as bytes. */
typedef struct esp_schedule {
    double best; /* validation loss of the best epoch; infinite before the first */
    double share; /* of the phase's rate, under PLATEAU */
    int64_t waited; /* epochs since the last better one */
    int64_t patience; /* the same since the rate was last cut */
} esp_schedule;

void esp_schedule_begin(esp_schedule *schedule);
/* An epoch has ended with this validation loss. True: it is the best so far. */
bool esp_schedule_epoch(esp_schedule *schedule, const esp_train_opts *opts, double loss);
/* Share of the phase's rate when a part `done` (0 .. 1) of the phase is over. */
double esp_schedule_rate(const esp_schedule *schedule, const esp_train_opts *opts, double done);
/* Nothing has been better for too long. */
bool esp_schedule_over(const esp_schedule *schedule, const esp_train_opts *opts);

#endif
