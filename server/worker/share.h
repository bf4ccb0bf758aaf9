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
    bool asked; /* for nodes, and has not given them yet */
    uint64_t number; /* as which they are asked for; 0: back, for good */
    uint64_t pulled; /* the share of which some was asked back; 0: none */
    esp_buf nodes;
} worker_share;

/* For esp_tree_hooks, user a worker_share. */
void worker_share_look(void *share, esp_tree *tree);
void worker_share_wait(void *share, esp_tree *tree);
void worker_share_done(worker_share *share);

#endif
