/* SPDX-License-Identifier: Apache-2.0
 * Branch and bound over the phases of ReLUs, on an LP of fixed size: the search engine of exact planning.
 *
 * It starts from a root (root.h: relaxed, polished, tightened). Best bound first. A node is its region, its facets'
 * ranges, its basis and the ReLU it branches on; expanding it solves one LP per phase by dual simplex from the parent's
 * basis, with the cutoff as objective limit. The branching ReLU is the one whose two phases promise to raise the bound
 * most, after a look ahead (branch.c). Every LP point is simulated; a better plan lowers the
 * cutoff. Nodes near the root squeeze their dearest ReLUs again, over an LP of the steps that still cost something (the
 * others dropped, which only relaxes).
 *
 * Larger problems stall: the LP of a deep node is nearly exact in the steps that cost, then jumps to the goal in one
 * step, because its ranges are still the root's. There, lazily: a node that is several levels below its last squeeze is
 * not branched on when its turn comes, but squeezed, in the ReLUs that its LP's point is off the graph of, over the LP of
 * the steps that still cost something, or up to the first that is off its graphs; it goes back on the heap and its children inherit.
 *
 * There also cuts (pace.h) say how far a step can get. They lift the bound of a node and do not choose its branching.
 *
 * Proof. A node is dropped only when its proved bound (relax.h) reaches the cutoff, or its emptiness is proved. A leaf
 * whose LP point lies on every ReLU's graph but whose plan the check refuses, by tolerance, is branched on further, and
 * kept in the bound when nothing is left to branch on. So when the tree is exhausted the cutoff is a lower bound, and
 * with neither a plan nor a cutoff the problem is infeasible. */
#ifndef ESP_PLAN_TREE_H
#define ESP_PLAN_TREE_H

#include "plan/root.h"
#include "plan/squeeze.h"

typedef struct esp_tree_options {
    size_t memory; /* bytes that open nodes may take */
    int squeeze_depth; /* nodes up to this depth squeeze again */
    int squeeze_relus; /* this many of their dearest ReLUs */
    int lazy_from; /* unstable ReLUs from which on lazy squeezing takes their place */
} esp_tree_options;
#define ESP_TREE_OPTIONS_INIT ((esp_tree_options){(size_t)1 << 30, 2, 10, 90})

/* True when the problem is one that the tree takes: no value sets, no boxes to avoid. */
bool esp_tree_takes(const esp_problem *problem);

/* Searches until the gap is met, the tree is exhausted, or it is time to stop. *ret_exhausted: no plan is left to find
 * below the cutoff. Errors: UNPROCESSABLE, NOMEM. */
ESP_MUST_CHECK esp_code esp_tree_search(esp_root *root, const esp_tree_options *options, bool *ret_exhausted, esp_error *reterr);

#endif
