/* SPDX-License-Identifier: Apache-2.0
 * What the files of the tree search share: its memory, nodes and their heap. Not for others: plan/tree.h and
 * plan/share.h are the interface. */
#ifndef ESP_PLAN_TREE_PARTS_H
#define ESP_PLAN_TREE_PARTS_H

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "plan/share.h"
#include "plan/tree.h"

typedef struct node {
    double bound;
    int depth, branch;
    int squeezed; /* depth at which its ranges were squeezed last */
    int costly; /* last step at which its LP's point pays */
    int last; /* step that squeezing it goes up to: this one, or the first whose ReLUs the point is off the graph of when that is later */
    double ranges[]; /* region (p, u), facets' lower and upper; then the basis */
} node;

/* What became of a node: closed, proved; its LP at an optimum; the LP method stopped. */
typedef enum verdict { DROPPED, OPEN, GIVEN_UP } verdict;

/* Copies of nodes that left together. */
typedef struct node_lot {
    struct node_lot *next;
    size_t n;
    node *nodes[];
} node_lot;

/* What another tree searches. */
typedef struct node_share {
    struct node_share *next;
    uint64_t number;
    double bound; /* as last heard of */
    int n_lots;
    node_lot *lots; /* the oldest first */
} node_share;

typedef struct esp_tree {
    const esp_problem *problem;
    const esp_tree_options *options;
    esp_track *track;
    esp_squeezer *squeezer; /* of the whole horizon */
    esp_squeezer **prefix; /* [h]: of the first h steps, made when first asked for */
    const esp_ranges *root_ranges;
    bool lazy; /* nodes are squeezed again when it is their turn, see tree.h */
    esp_relax *relax;
    esp_arena *arena;
    int n_p, n_u;
    size_t n_ranges, node_bytes, basis_bytes, max_nodes;
    node **heap;
    size_t n_heap, cap_heap;
    node *spare; /* freed nodes, linked through their first range */
    size_t n_nodes; /* alive or spare */
    node *parent, *work; /* being expanded */
    double cutoff; /* of the root's ranges */
    double kept; /* least bound of leaves that can be neither dropped nor branched */
    double *u, *score;
    bool *pick;
    int *tried; /* ReLUs that the present node is looked ahead on */
    bool out_of_memory;
    const esp_tree_hooks *hooks; /* or NULL */
    node_share *shares;
    size_t n_lent; /* nodes in them */
} tree;

/* The search without its root: memory for one of that many ReLUs and inputs; nothing is open. `ranges` are borrowed, every
 * node's lie within; they hold for plans below the cutoff. */
ESP_MUST_CHECK esp_code esp_tree_open(esp_track *track, const esp_ranges *ranges, double cutoff, const esp_tree_options *options, tree *ret,
                                      esp_error *reterr);
void esp_tree_close(tree *t);
/* Solves the node's LP from the basis in place, squares refined where it lands; raises its bound; offers its plan. */
verdict esp_tree_solve(tree *t, node *n);
/* Expands what is open until nothing is, here or elsewhere (true), or it is time to stop. */
bool esp_tree_loop(tree *t);
/* Least bound of what is searched elsewhere; INFINITY: nothing is. */
double esp_tree_shares_bound(const tree *t);
void esp_tree_shares_free(tree *t);

/* ---- nodes ------------------------------------------------------------------------------------------------------- */

static inline esp_region region_of(const tree *t, node *n) {
    double *at = n->ranges;
    return (esp_region){at, at + t->n_p, at + 2 * t->n_p, at + 2 * t->n_p + t->n_u};
}

static inline double *facets_of(const tree *t, node *n) {
    return n->ranges + 2 * (t->n_p + t->n_u);
}

static inline unsigned char *basis_of(const tree *t, node *n) {
    return (unsigned char *)(n->ranges + t->n_ranges);
}

static inline node *take_node(tree *t) {
    node *n = t->spare;
    if (n) {
        memcpy(&t->spare, n->ranges, sizeof t->spare);
        return n;
    }
    if (t->n_nodes >= t->max_nodes) return NULL;
    n = esp_arena_take(t->arena, t->node_bytes);
    if (n) t->n_nodes++;
    return n;
}

static inline void give_node(tree *t, node *n) {
    memcpy(n->ranges, &t->spare, sizeof t->spare);
    t->spare = n;
}

static inline void copy_node(const tree *t, node *to, const node *from) {
    memcpy(to, from, t->node_bytes);
}

static inline bool esp_unstable(const esp_region *region, int q) {
    return region->p_lower[q] < 0 && region->p_upper[q] > 0;
}

/* ---- which ReLU to branch on: branch.c --------------------------------------------------------------------------- */

#define ESP_ON_GRAPH 1e-7 /* an LP point closer than this to a ReLU's graph counts as on it */

/* For a node whose LP is at its optimum: the ReLU to branch on; -1: its point is on every graph. The node's basis is
 * stored, its ranges may shrink, its bound rise and *v change on the way: looking ahead closes phases. */
int esp_branch_choose(tree *t, node *n, verdict *v);
/* What branching on ReLU q promises by the first step of the dual method; 0: the LP's point is on its graph. */
double esp_branch_promise(const tree *t, const esp_region *region, double room, int q);
/* From the node's bound to the cutoff. */
double esp_branch_room(const tree *t, const node *n);
/* The unstable ReLU of the widest range, when the LP says nothing; -1: all are stable. */
int esp_branch_widest(const tree *t, const esp_region *region);

/* ---- heap, least bound on top ------------------------------------------------------------------------------------ */

static inline bool push(tree *t, node *n) {
    if (t->n_heap == t->cap_heap) {
        size_t cap = t->cap_heap ? 2 * t->cap_heap : 1024;
        node **grown = realloc(t->heap, cap * sizeof *grown);
        if (!grown) return false;
        t->heap = grown;
        t->cap_heap = cap;
    }
    size_t at = t->n_heap++;
    for (; at > 0 && t->heap[(at - 1) / 2]->bound > n->bound; at = (at - 1) / 2) t->heap[at] = t->heap[(at - 1) / 2];
    t->heap[at] = n;
    return true;
}

static inline node *pop(tree *t) {
    node *top = t->heap[0], *last = t->heap[--t->n_heap];
    size_t at = 0;
    for (size_t child; (child = 2 * at + 1) < t->n_heap; at = child) {
        if (child + 1 < t->n_heap && t->heap[child + 1]->bound < t->heap[child]->bound) child++;
        if (last->bound <= t->heap[child]->bound) break;
        t->heap[at] = t->heap[child];
    }
    t->heap[at] = last;
    return top;
}

/* Nothing above it is looked for: what proves the gap, or what the root's ranges were tightened under. */
static inline double cutoff_of(const tree *t) {
    return fmin(t->cutoff, esp_root_cutoff(t->track));
}

#endif
