/* SPDX-License-Identifier: Apache-2.0
 * A training run in progress: everything it needs in memory, and the loop over epochs and minibatches.
 *
 * What is trained in which order is train.c's business, what a run leaves behind for another to go on from checkpoint.c's;
 * here is one phase of it. Each phase has its own schedule (schedule.h) and
 * starts Adam afresh. */
#ifndef ESP_TRAIN_TRAINER_H
#define ESP_TRAIN_TRAINER_H

#include "sparsify/ladder.h"
#include "train/adam.h"
#include "train/graph_loss.h"
#include "train/mlp.h"
#include "train/proof.h"
#include "train/rollout.h"
#include "train/schedule.h"
#include "train/train.h"
#include "train/windows.h"

#define ESP_ROUNDINGS 4 /* of a rung that is rounded */

/* Where a run stands, between two minibatches. All of one type, so that it has no gaps and can be kept as bytes. */
typedef struct esp_place {
    int64_t rung; /* -1: the dense stage; opts->n_rungs: all is done */
    int64_t wave, settling; /* of the rung: its phase; 0 in the dense stage */
    int64_t rounding; /* of the rung's last settling: how many there were */
    int64_t from; /* undecided neurons when the rung began */
    int64_t begun; /* Adam has been started afresh for this phase */
    int64_t epoch; /* of the phase: those that are over */
    int64_t shuffled; /* the windows are in this epoch's order */
    int64_t batch; /* of the epoch: those that are done; when all are, what ends an epoch is still due */
} esp_place;

typedef struct esp_trainer {
    const esp_dataset *dataset;
    const esp_train_opts *opts;
    const esp_train_hooks *hooks;
    const esp_stop *stop;

    esp_windows *windows;
    esp_mlp mlp; /* the network of a plain model, with its loss */
    esp_rollout *rollout;
    esp_graph_net graph; /* and that of a graph */
    esp_graph_data *graph_data;
    esp_graph_loss *graph_loss; /* NULL unless it is one */
    size_t n_params, n_weights, n_neurons; /* of whichever it is */
    esp_ladder *ladder;
    size_t *starts; /* the training windows in this epoch's order */
    size_t *validation; /* n_validation one-step rows, a sample, for progress */
    size_t *checks; /* n_checks rollouts, a sample, for the schedule */
    size_t n_validation, n_checks;
    double *step_weights; /* rollout: on average 1 */
    float *params, *grads; /* n_params each */
    esp_slope_grads slopes;
    esp_adam adam, logit_adam;
    float *memory;
    esp_rng shuffle_rng, mask_rng, noise_rng;
    esp_proof *proof; /* of the phase, or NULL */
    esp_place place;
    esp_schedule schedule;
    float *best; /* the weights of the phase's best epoch; n_best: n_params, or 0 without early stop */
    size_t n_best;
    esp_error stopped; /* why a pass over the network was broken off */

    /* the run's lengths and rate, the automatic ones worked out; set before the first phase */
    int epochs, rung_epochs, total_epochs;
    double rate;

    /* the clock and what it last said */
    int64_t begin_ns, checked_ns, told_ns;
    double told_samples;
    int epochs_done; /* of total_epochs */
    double samples; /* windows times steps, since the start */
    double loss_sum; /* over the batches since the last report */
    long loss_count;
    esp_train_progress progress;

    const esp_train_checkpoints *checkpoints; /* may be NULL */
    esp_buf checkpoint; /* the last one's bytes */
    int64_t kept_ns; /* when it was made */
} esp_trainer;

typedef struct esp_phase {
    const char *stage; /* for progress and errors; outlives the phase */
    int epochs; /* may be 0 */
    int stage_begin, stage_epochs; /* for progress: epochs of the stage before this phase, and in all */
    bool compact; /* rewritten as its program, if the network fits, and with the relaxation gap if that has a weight */
    bool round; /* of a compact one: begins with a rounding (rounding.h), and weights that are 0 stay 0 */
    bool search; /* draw masks and train logits; otherwise masks are fixed and the undecided are ReLU */
    double rate; /* of Adam at the start */
    double logit_rate;
} esp_phase;

/* Errors: those of esp_windows_create, NOMEM. */
ESP_MUST_CHECK esp_code esp_trainer_create(const esp_dataset *dataset, const esp_train_opts *opts, const esp_train_hooks *hooks, const esp_stop *stop,
                                           esp_trainer **ret_trainer, esp_error *reterr);
void esp_trainer_free(esp_trainer *trainer);

/* Goes on where trainer->place is in the phase, to its end. Errors: NUMERIC when the loss is not finite; CANCELLED,
 * DEADLINE: then the trainer stands between two minibatches. */
ESP_MUST_CHECK esp_code esp_trainer_phase(esp_trainer *trainer, const esp_phase *phase, esp_error *reterr);

/* The last report: everything is done, with the figures as they ended. */
void esp_trainer_finish(esp_trainer *trainer);

/* Stops and reports when it is time to; cheap enough for every batch. A function of type pulse (train/emit.h). */
ESP_MUST_CHECK esp_code esp_trainer_pulse(void *trainer, esp_error *reterr);

#endif
