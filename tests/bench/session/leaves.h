/* SPDX-License-Identifier: Apache-2.0
 * The tree of one solve as the beginning of the next one's, for the benchmark of sessions: where the library's search branched,
 * shifted by a step. Not part of the library: it did not pay (tests/bench/README.md, Sessions).
 *
 * The branchings of a search are a binary tree whose leaves part the phases of the ReLUs among them, whatever the ranges were. A
 * step later, ReLU (t, j) is (t - 1, j); of a branching at step 0 the side that was carried out is taken. What comes out parts the
 * phases of the new problem, so a search that begins with one open node a leaf proves as much as one from the root. */
#ifndef ESP_TESTS_BENCH_SESSION_LEAVES_H
#define ESP_TESTS_BENCH_SESSION_LEAVES_H

#include "plan/tree_parts.h"

typedef struct leaves_item {
    int branch; /* ReLU, -1: a leaf */
    int child[2]; /* off, on */
    int size; /* leaves below */
} leaves_item;

/* Item 0 is the root; children stand behind their parents. */
typedef struct leaves_record {
    int n, cap;
    leaves_item *items;
} leaves_record;
void leaves_done(leaves_record *record);

/* Called between nodes of a search: the branching that was made last. */
void leaves_note(leaves_record *record, esp_tree *tree);
/* Called between nodes: the next node branches where the record did. */
void leaves_direct(const leaves_record *record, esp_tree *tree);
/* A step later. on (n_r): the phases of step 0 that were carried out. */
leaves_record leaves_shifted(const leaves_record *record, const bool *on, int n_r);

/* esp_tree_search from at most `most` leaves: one LP each, from the last one's basis; the two levels below the root are squeezed
 * as there. `order`: leaves_direct from the first node on, or NULL. */
ESP_MUST_CHECK esp_code leaves_search(esp_root *root, const leaves_record *record, int most, const leaves_record *order,
                                      const esp_tree_options *options, esp_error *reterr);

typedef struct leaves_bounds {
    int leaves;
    double by_multipliers, by_lps; /* the least over the leaves */
    double multipliers_seconds, lp_seconds; /* all leaves */
} leaves_bounds;

/* The leaves of a shifted record in the new problem, bounded by the multipliers that each had in the old one, shifted (0 in the last
 * step), and by an LP. Ranges are those without a cutoff; `before_ranges` are narrowed to the phases of step 0. */
ESP_MUST_CHECK esp_code leaves_measure(const esp_problem *before, const esp_ranges *before_ranges, const esp_problem *after,
                                       const esp_ranges *after_ranges, const leaves_record *record, const bool *on, int most, leaves_bounds *ret,
                                       esp_error *reterr);

#endif
