/* SPDX-License-Identifier: Apache-2.0
 * A training run as bytes: all that another process needs to go on with it and end with the same models, to the bit.
 *
 * Not a model and not for anyone to keep: only the build that wrote a checkpoint reads it, on the same data with the same
 * options; anything else is refused, and the run starts over. What is in one:
 *
 *     "ESPT"  version u32  |  identity, 64 hex digits  |  length u64, notes  |  length u64, state  |  SHA-256 of all before, 64 hex digits
 *
 * The identity is the SHA-256 of the caller's key, the options in full, the sizes and the normalisation of the data. The notes are
 * the caller's own bytes. The state is the trainer's fields one behind the other as they stand in memory (checkpoint.c has the list):
 * place, weights, Adam's moments and steps, masks and logits, random streams, the order of the epoch, and the figures of progress.
 * What follows from these (slopes, gradients, what a draw left) is not in it.
 *
 * A checkpoint is taken between two minibatches. It restores that moment, so what was done after it is done again, the same. */
#ifndef ESP_TRAIN_CHECKPOINT_H
#define ESP_TRAIN_CHECKPOINT_H

#include "train/trainer.h"

/* Appends. Errors: NOMEM. */
ESP_MUST_CHECK esp_code esp_checkpoint_encode(esp_trainer *trainer, esp_buf *ret_bytes, esp_error *reterr);

/* Into a trainer that was just created for the same run; after a failure only fit to be freed. The notes are borrowed from
 * the bytes. Errors: CORRUPT (cut short, changed, of another build, other data or other options; says which), NOMEM. */
ESP_MUST_CHECK esp_code esp_checkpoint_restore(esp_trainer *trainer, const void *bytes, size_t len, const void **ret_notes, size_t *ret_notes_len,
                                               esp_error *reterr);

/* Takes one and hands it out when it is time to, or now. One that there is no memory for is left out. */
void esp_checkpoint_if_due(esp_trainer *trainer);
void esp_checkpoint_take(esp_trainer *trainer);

#endif
