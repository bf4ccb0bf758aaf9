/* SPDX-License-Identifier: Apache-2.0
 * L1 channel pruning, the baseline of the sparse-dynamics paper (its figures 8 to 10): whole neurons go, those with the
 * smallest L1 norm of incoming weights first (Li et al., "Pruning filters for efficient ConvNets", 2017).
 *
 * Norms of different layers sum over different numbers of inputs and are not compared: as there, each layer loses the same share
 * of its neurons. The number to keep is given for the network, so a layer keeps keep * (its ReLUs) / (all ReLUs), rounded by
 * largest remainders, and at least one while there are enough for that. Below, when fewer are kept than there are layers,
 * the last layers lose all of theirs, and what comes after them is constant: the method has no better answer there.
 *
 * Only undecided neurons are looked at; one that was frozen to identity stays. A pruned neuron is zero: the network is the
 * same function if its weights and bias were zero already. No training here (train/train.c). */
#ifndef ESP_SPARSIFY_CHANNEL_H
#define ESP_SPARSIFY_CHANNEL_H

#include "sparsify/ladder.h"

/* A hidden layer: its neurons are number first .. first + n_out - 1 of the ladder. */
typedef struct esp_channel_layer {
    size_t first, n_out, n_in;
    const float *w; /* n_out x n_in, in units in which inputs are alike */
} esp_channel_layer;

/* Freezes undecided neurons to zero until at most `keep` are left; ret_pruned (n, may be NULL) receives them, layer by layer, smallest
 * norm first, equal ones by number. Returns how many. The layers hold all neurons of the ladder, in order. */
size_t esp_channel_prune(esp_ladder *ladder, const esp_channel_layer *layers, int n_layers, size_t keep, size_t *ret_pruned);

#endif
