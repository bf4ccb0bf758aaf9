/* SPDX-License-Identifier: Apache-2.0
 * The network in training written as its own program, in place: the same function, the same layers, few weights.
 *
 * Behind a ladder most neurons are identities, and what a ReLU sees is a product of many layers' weights. Penalties on those
 * weights mean little, and one on the product would have to go through all of them. Substituted, the network is
 *     p = C x + D r + d        o = A x + B r + c        (net/program.h)
 * and has room for that form: in each hidden layer some frozen neurons become *carriers*, identities with a single weight of 1 that
 * hand on an input or an earlier ReLU, the others become zero, and the rows of ReLUs and outputs then hold C, D, A and B
 * as they are. ReLUs stay where they are; each is scaled so that what goes in and what comes out have the same norm.
 *
 * Carriers of a layer are its identities in ascending order: first the inputs, then the ReLUs of the layers before. Training
 * may go on in this form if carriers are put back after each step (hold). */
#ifndef ESP_TRAIN_COMPACT_H
#define ESP_TRAIN_COMPACT_H

#include "sparsify/ladder.h"
#include "train/gap.h"
#include "train/mlp.h"

#define ESP_COMPACT_RELUS 512 /* at most; a ladder that has not come so far has nothing to gain */

typedef struct esp_compact esp_compact;

/* Whether each layer has enough frozen neurons to carry what passes it, and the ReLUs are few enough. */
bool esp_compact_fits(const esp_mlp *mlp, const esp_ladder *ladder);
/* Rewrites parameters and states, of a network that fits. The slopes are those of esp_ladder_relu after. Errors: NOMEM. */
ESP_MUST_CHECK esp_code esp_compact_rewrite(const esp_mlp *mlp, float *params, esp_ladder *ladder, esp_error *reterr);

/* Of a network that was rewritten, by its states alone. Borrows mlp. Errors: NOMEM. */
ESP_MUST_CHECK esp_code esp_compact_create(const esp_mlp *mlp, const esp_ladder *ladder, esp_compact **ret_compact, esp_error *reterr);
void esp_compact_free(esp_compact *compact);
size_t esp_compact_relus(const esp_compact *compact);
/* C, D, d and B of the parameters (esp_gap_program_at of the network's inputs, these ReLUs, its outputs), and gradients of them
 * added to those of the parameters. */
void esp_compact_get(const esp_compact *compact, const float *params, esp_gap_program *ret_program);
void esp_compact_add(const esp_compact *compact, const esp_gap_program *grads, float *params_grads);
/* A weight of a ReLU's or an output's row. */
typedef struct esp_compact_entry {
    size_t weight, bias; /* in the parameters: its own place, that of its row's bias */
    size_t from; /* what it is multiplied by: an input, or the network's inputs + a ReLU */
} esp_compact_entry;
/* All that can be other than 0, row by row; ret may be NULL. Returns how many. */
size_t esp_compact_entries(const esp_compact *compact, esp_compact_entry *ret);
/* Carriers as they must be. */
void esp_compact_hold(const esp_compact *compact, float *params);

#endif
