/* SPDX-License-Identifier: Apache-2.0
 * One plan's, or one share's, part in a shared search: hooks of its tree (plan/share.h). */
#ifndef ESP_WORKER_SHARE_H
#define ESP_WORKER_SHARE_H

#include "base/buf.h"
#include "plan/share.h"

struct worker;

typedef struct worker_share {
    struct worker *w;
    int horizon, nu;
    int64_t deadline_ns; /* monotonic */
    esp_buf out;
    /* a plan's */
    uint64_t asked; /* number of a new share that is to be given; 0: none */
    uint64_t pulled; /* the share of which some was asked back; 0: none */
    int64_t pulled_ns; /* when */
    int64_t balanced_ns;
    /* a share's */
    int lots; /* taken; 0: this is a plan */
    bool wanted; /* some nodes are, back */
    double below; /* of bounds under this */
    double told; /* bound that was sent last */
    int64_t told_ns;
} worker_share;

/* For esp_tree_hooks, user a worker_share. */
void worker_share_look(void *share, esp_tree *tree);
void worker_share_wait(void *share, esp_tree *tree);
void worker_share_done(worker_share *share);

#endif
