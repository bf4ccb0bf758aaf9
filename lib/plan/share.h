/* SPDX-License-Identifier: Apache-2.0
 * A tree search shared between processes: open nodes that leave a tree as bytes, enter another, and are answered for.
 * No process, socket or thread is known here; whoever owns them calls in between nodes (esp_tree_hooks).
 *
 * The tree that gives nodes away under a number keeps a copy, aside, and counts what it last heard of their bound in its
 * own. That is the whole protocol of the proof: a share that ended is let go, one that is lost comes back from the copy
 * with the bound it had reached. The other tree may give part of its nodes back meanwhile (number 0: no copy is kept); they
 * are then open here, and a later loss searches them twice, which costs time and nothing else.
 *
 * Best-first search wants everybody at the best nodes, so a share is given more while it goes on, lot by lot, when its bound
 * has run far ahead of what is open here, and asked for nodes when it is far behind. What is heard of its bound counts when it
 * says that it is of all lots.
 *
 * Why that is sound. A plan below the cutoff lies in the region of some open node of some tree, or below the bound of a
 * kept leaf: expanding keeps that, giving moves a node whole, and a bound reported by the other tree is below all plans of
 * the share but those in nodes that were given back before, which are open here. Both trees only drop what reached
 * their cutoffs. Theirs may be the lower one: they say so at their end, and it is counted like a kept leaf's.
 *
 * The bytes are the memory of nodes, for another process of the same build on the same problem; sizes are checked, and that ranges
 * are ranges. Layout: "ESN2", u32 n_p, n_u, n_y, bytes of a node, of its basis, nodes, cuts, their entries, u32 whether a plan follows,
 * f64 cutoff of the root; the plan's inputs (n_u); ranges of p and y at the root (lower and upper of each); the cuts (u32 n, n u32 outputs, n f64 weights,
 * f64 most); the nodes. */
#ifndef ESP_PLAN_SHARE_H
#define ESP_PLAN_SHARE_H

#include "base/buf.h"
#include "plan/verify.h"

typedef struct esp_tree esp_tree;

/* Called by a running search, which they may use by the functions below and must not stop or start another of. */
typedef struct esp_tree_hooks {
    void *user;
    void (*look)(void *user, esp_tree *tree); /* between nodes */
    void (*wait)(void *user, esp_tree *tree); /* nothing is open here, but shares are out: returns after a while, or at an event */
} esp_tree_hooks;

/* ---- the tree that gives ---- */

/* Takes every second of the best open nodes out of the tree, of those with bounds under `below` and some hundred at most,
 * and appends them to `ret_nodes`: one more lot of that share. False, and nothing is done, when too few are open or memory
 * is out. */
bool esp_tree_give(esp_tree *tree, uint64_t share, double below, esp_buf *ret_nodes);
/* The same for good, without a copy; appends no nodes when it cannot be done. */
void esp_tree_give_back(esp_tree *tree, double below, esp_buf *ret_nodes);
/* What the other tree has proved of its nodes when it had that many lots. Numbers that are not out (any more) are ignored,
 * here and below. */
void esp_tree_share_bound(esp_tree *tree, uint64_t share, int lots, double bound);
/* It has exhausted the first `lots`: no plan of theirs costs less than `bound` (INFINITY: there is none). Later ones come back. */
void esp_tree_share_done(esp_tree *tree, uint64_t share, int lots, double bound, int64_t nodes);
void esp_tree_share_lost(esp_tree *tree, uint64_t share);
/* The share with the least bound of those still below the cutoff; 0: none. */
uint64_t esp_tree_share_least(const esp_tree *tree);
/* A share that should be given nodes of bounds under *ret_below; 0: none. */
uint64_t esp_tree_share_ahead(const esp_tree *tree, double *ret_below);
/* A share that should give nodes of bounds under *ret_below; 0: none. */
uint64_t esp_tree_share_behind(const esp_tree *tree, double *ret_below);

/* ---- both ---- */

/* No plan of what is open here costs less. */
double esp_tree_bound(const esp_tree *tree);
/* A plan from elsewhere (H x nu): verified, and the new cutoff when it is better. */
bool esp_tree_offer(esp_tree *tree, const double *inputs);
/* Nodes of esp_tree_give join the open ones. Errors: CORRUPT, NOMEM; the tree is then as it was. */
ESP_MUST_CHECK esp_code esp_tree_take(esp_tree *tree, const void *nodes, size_t len, esp_error *reterr);

/* ---- the tree that takes ---- */

typedef struct esp_share_result {
    bool exhausted; /* otherwise it was stopped */
    double bound; /* exhausted: no plan of the nodes costs less; INFINITY: there is none */
    int64_t nodes;
} esp_share_result;

/* Searches nodes of esp_tree_give, and what its hooks take besides, until they are exhausted or it is time to stop. The bound of
 * the track means nothing: esp_tree_bound is theirs. Errors: CORRUPT, UNPROCESSABLE, NOMEM. */
ESP_MUST_CHECK esp_code esp_share_search(esp_track *track, const void *nodes, size_t len, esp_share_result *ret_result, esp_error *reterr);

#endif
