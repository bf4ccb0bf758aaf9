/* SPDX-License-Identifier: Apache-2.0
 * Bounding by halving inputs: the heap of open boxes on their bounds, and the tree of all halvings for the record. */
#include "certify/split.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "certify/rounding.h"

#define POOL_BYTES ((size_t)64 << 20) /* of boxes held, whatever max_boxes says */
#define MAX_NODES  (2 * ESP_SPLIT_LEAVES - 1)

/* ---- life -------------------------------------------------------------------------------------------------------- */

esp_code esp_split_init(esp_split *s, int max_boxes, esp_error *reterr) {
    s->stride = 2 * (size_t)s->n_x + s->n_state;
    size_t most = POOL_BYTES / (s->stride * sizeof(double) + 1), boxes = (size_t)(max_boxes > 2 ? max_boxes : 2);
    if (boxes > most) boxes = most > 2 ? most : 2;
    s->capacity = (int)boxes;
    s->pool = malloc(boxes * s->stride * sizeof *s->pool + 1);
    s->value = malloc(boxes * sizeof *s->value);
    s->axis = malloc(4 * boxes * sizeof *s->axis);
    s->letter = malloc(boxes);
    s->tree = malloc(2 * MAX_NODES * sizeof *s->tree);
    if (!s->pool || !s->value || !s->axis || !s->letter || !s->tree) return esp_fail(reterr, ESP_NOMEM, "no memory for %zu boxes", boxes);
    s->spare = s->axis + boxes;
    s->heap = s->spare + boxes;
    s->node = s->heap + boxes;
    s->tree_axis = s->tree + MAX_NODES;
    for (int i = 0; i < s->capacity; i++) s->spare[i] = i;
    s->n_free = s->capacity;
    return ESP_OK;
}

void esp_split_done(esp_split *s) {
    free(s->pool);
    free(s->value);
    free(s->axis);
    free(s->letter);
    free(s->tree);
    s->pool = s->value = NULL;
    s->axis = s->tree = NULL;
    s->letter = NULL;
}

/* ---- the heap ------------------------------------------------------------------------------------------------------ */

static void heap_push(esp_split *s, int box) {
    int i = s->n_heap++;
    for (; i > 0 && s->value[s->heap[(i - 1) / 2]] < s->value[box]; i = (i - 1) / 2) s->heap[i] = s->heap[(i - 1) / 2];
    s->heap[i] = box;
}

static int heap_pop(esp_split *s) {
    int top = s->heap[0], last = s->heap[--s->n_heap], i = 0;
    for (;;) {
        int child = 2 * i + 1;
        if (child + 1 < s->n_heap && s->value[s->heap[child + 1]] > s->value[s->heap[child]]) child++;
        if (child >= s->n_heap || s->value[s->heap[child]] <= s->value[last]) break;
        s->heap[i] = s->heap[child];
        i = child;
    }
    s->heap[i] = last;
    return top;
}

/* ---- boxes --------------------------------------------------------------------------------------------------------- */

static double *box_lower(const esp_split *s, int box) {
    return s->pool + (size_t)box * s->stride;
}

static double *box_upper(const esp_split *s, int box) {
    return box_lower(s, box) + s->n_x;
}

static double *box_state(const esp_split *s, int box) {
    return box_upper(s, box) + s->n_x;
}

static double cutoff(const esp_split *s) {
    return s->lower * (1 + s->gap);
}

/* Bounds a box whose ends and inheritance stand in its slot, then keeps it open or puts it away. */
static void box_run(esp_split *s, int box) {
    esp_split_box b = {box_lower(s, box), box_upper(s, box), box_state(s, box), s->value[box], -1, s->letter[box]};
    s->bound(s->user, &b);
    s->boxes++;
    s->value[box] = esp_min(s->value[box], b.value);
    s->axis[box] = b.axis;
    s->letter[box] = b.letter;
    if (s->n_nodes <= MAX_NODES) s->tree[s->node[box]] = -b.letter;
    if (b.axis >= 0 && s->value[box] > cutoff(s)) {
        heap_push(s, box);
    } else {
        s->aside = esp_max(s->aside, s->value[box]);
        s->spare[s->n_free++] = box;
    }
}

/* Two nodes under the box's; past the cap there is no record any more. */
static int tree_divide(esp_split *s, int box) {
    if (s->n_nodes + 2 > MAX_NODES) s->n_nodes = MAX_NODES + 1;
    if (s->n_nodes > MAX_NODES) return 0;
    int child = s->n_nodes;
    s->n_nodes += 2;
    s->tree[s->node[box]] = child;
    s->tree_axis[s->node[box]] = s->axis[box];
    return child;
}

static void box_divide(esp_split *s, int box) {
    int other = s->spare[--s->n_free], k = s->axis[box], child = tree_divide(s, box);
    memcpy(box_lower(s, other), box_lower(s, box), s->stride * sizeof(double));
    s->value[other] = s->value[box];
    s->letter[other] = s->letter[box];
    s->node[box] = child;
    s->node[other] = child + 1;
    double middle = esp_split_middle(box_lower(s, box)[k], box_upper(s, box)[k]);
    box_upper(s, box)[k] = middle;
    box_lower(s, other)[k] = middle;
    box_run(s, box);
    box_run(s, other);
}

void esp_split_root(esp_split *s, const double *lower, const double *upper, const double *state, double value, char letter) {
    int root = s->spare[--s->n_free];
    memcpy(box_lower(s, root), lower, (size_t)s->n_x * sizeof(double));
    memcpy(box_upper(s, root), upper, (size_t)s->n_x * sizeof(double));
    if (s->n_state) memcpy(box_state(s, root), state, s->n_state * sizeof(double));
    s->value[root] = value;
    s->letter[root] = letter;
    s->node[root] = 0;
    s->n_nodes = 1;
    box_run(s, root);
}

double esp_split_value(const esp_split *s) {
    return s->n_heap > 0 ? esp_max(s->aside, s->value[s->heap[0]]) : s->aside;
}

const char *esp_split_run(esp_split *s) {
    while (s->n_heap > 0 && s->value[s->heap[0]] > esp_max(cutoff(s), s->aside)) {
        if (esp_stop_now(s->stop)) return "time_limit";
        if (s->n_free < 1) return "box_limit";
        box_divide(s, heap_pop(s));
    }
    return "proved";
}

int esp_split_choose(int n_x, const bool *matters, const double *score, const double *lower, const double *upper) {
    int best = -1;
    double best_value = 0;
    for (int k = 0; k < n_x; k++) {
        double middle = esp_split_middle(lower[k], upper[k]), value = (score ? score[k] : 1) * (upper[k] - lower[k]);
        if (!(middle > lower[k] && middle < upper[k]) || !(value > best_value) || !matters[k]) continue;
        best_value = value;
        best = k;
    }
    return best;
}

/* ---- the record ----------------------------------------------------------------------------------------------------- */

bool esp_split_tree(const esp_split *s, esp_buf *ret_text, int *ret_leaves) {
    if (s->n_nodes < 1 || s->n_nodes > MAX_NODES) return false;
    int leaves = 0, depth = 0;
    /* Depth first: a node's second child waits on the stack while the first is written. */
    int *stack = malloc(((size_t)s->n_nodes / 2 + 2) * sizeof *stack);
    if (!stack) return false;
    stack[depth++] = 0;
    while (depth > 0) {
        int node = stack[--depth];
        if (s->tree[node] < 0) {
            char letter = (char)-s->tree[node];
            esp_buf_put(ret_text, &letter, 1);
            leaves++;
            continue;
        }
        esp_buf_printf(ret_text, "%d/", s->tree_axis[node]);
        stack[depth++] = s->tree[node] + 1;
        stack[depth++] = s->tree[node];
    }
    free(stack);
    *ret_leaves = leaves;
    return !ret_text->failed;
}
