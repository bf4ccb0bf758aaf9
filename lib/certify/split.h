/* SPDX-License-Identifier: Apache-2.0
 * Bounding the largest of something over a box by halving inputs, the worst box first, anytime. Private to lib/certify: what is
 * bounded, and how, is the caller's (difference.c, lipschitz.c); here are the open boxes, the order and the record.
 *
 * An open box carries a proved upper bound, what its parent had proved (`state`, so that a child starts from there), and
 * the input to halve next. The bound of the whole is the largest over open boxes and over those put away: boxes whose
 * bound is within the gap of what a witness reaches, and boxes that no halving can improve. At every moment it is a bound,
 * so the search may stop at any. */
#ifndef ESP_CERTIFY_SPLIT_H
#define ESP_CERTIFY_SPLIT_H

#include "base/buf.h"
#include "base/clock.h"
#include "base/error.h"

/* One box as the caller sees it. */
typedef struct esp_split_box {
    const double *lower, *upper; /* n_x */
    double *state; /* n_state: the parent's on entry, this box's on return */
    double value; /* a proved upper bound: the parent's on entry */
    int axis; /* out: the input to halve; -1 when no halving helps */
    char letter; /* how the value was proved: the parent's on entry */
} esp_split_box;

typedef struct esp_split {
    int n_x;
    size_t n_state;
    double gap; /* a box with value <= lower (1 + gap) is put away */
    const esp_stop *stop;
    /* Improves box->value (never raises it), chooses the axis. */
    void (*bound)(void *user, esp_split_box *box);
    void *user;
    double lower; /* what is known to be reached; the caller raises it, also inside `bound` */
    /* the rest is split.c's */
    double aside; /* largest bound among boxes put away */
    size_t stride;
    int capacity, n_free, n_heap;
    double *pool, *value; /* capacity x stride, capacity */
    int *axis, *spare, *heap, *node; /* capacity each */
    char *letter; /* capacity */
    int *tree; /* per node: the first of two children, or minus the leaf's letter */
    int *tree_axis; /* per node */
    int n_nodes; /* over the cap: no record */
    int64_t boxes; /* bounded so far */
} esp_split;

#define ESP_SPLIT_LEAVES 100000 /* most leaves that a record keeps */

/* Memory for at most max_boxes open boxes, also capped in bytes. The caller has set the fields above `aside`. */
ESP_MUST_CHECK esp_code esp_split_init(esp_split *split, int max_boxes, esp_error *reterr);
void esp_split_done(esp_split *split);

/* The root: its box, its state (n_state) and a proved value with its letter; it is bounded at once. */
void esp_split_root(esp_split *split, const double *lower, const double *upper, const double *state, double value, char letter);
/* Halves until the gap is met ("proved"), the stop ("time_limit") or the memory ("box_limit"). */
const char *esp_split_run(esp_split *split);
/* The bound of the whole as it stands. */
double esp_split_value(const esp_split *split);

/* The tree of schema/formats/certificate.md appended to the text, leaves in *ret_leaves; false when it has too many. */
bool esp_split_tree(const esp_split *split, esp_buf *ret_text, int *ret_leaves);

/* The middle at which [l, u] is halved; halving makes sense when it lies strictly between. */
static inline double esp_split_middle(double l, double u) {
    return 0.5 * l + 0.5 * u;
}
/* The largest score times width among the inputs that can be halved and matter, -1 when all are 0; a NULL score counts as 1. */
int esp_split_choose(int n_x, const bool *matters, const double *score, const double *lower, const double *upper);

#endif
