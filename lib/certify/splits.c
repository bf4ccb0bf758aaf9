/* SPDX-License-Identifier: Apache-2.0
 * The search behind splits.h: the leaf with the worst goal is halved, along the input that is most to blame.
 *
 * Boxes are nodes of a binary tree kept in one array; a child never has a looser bound than its parent, whose box holds it. */
#include "certify/splits.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "certify/rounding.h"

enum { BYTES_MOST = 64 << 20 };
/* Of the first bound, or of 1 when that is infinite: a goal of which nothing is known to be reached is not chased below. */
#define FLOOR 1e-3

typedef struct node {
    int axis, child; /* axis -1: a leaf; else the children are child and child + 1 */
    double worst; /* of its goals, relative; -1 when no split can help */
} node;

typedef struct search {
    const esp_splits_problem *problem;
    const esp_box *box;
    int n, most; /* nodes */
    node *nodes;
    double *rows; /* most x (2 n_in + n_values + n_in): ends, values, blame */
    double *scale; /* n_goals: what a goal is measured by */
    size_t stride;
} search;

static double *lower_of(const search *s, int i) {
    return s->rows + (size_t)i * s->stride;
}
static double *upper_of(const search *s, int i) {
    return lower_of(s, i) + s->problem->n_in;
}
static double *values_of(const search *s, int i) {
    return upper_of(s, i) + s->problem->n_in;
}
static double *blame_of(const search *s, int i) {
    return values_of(s, i) + s->problem->n_values;
}

static esp_code search_init(search *s, const esp_splits_problem *problem, const esp_box *box, esp_error *reterr) {
    s->problem = problem;
    s->box = box;
    s->stride = 3 * (size_t)problem->n_in + (size_t)problem->n_values;
    size_t most = 2 * (size_t)problem->max_leaves - 1, room = BYTES_MOST / (s->stride * sizeof(double)) + 1;
    s->most = (int)(room < most ? room : most);
    s->nodes = calloc((size_t)s->most, sizeof *s->nodes);
    s->rows = calloc((size_t)s->most * s->stride, sizeof *s->rows);
    s->scale = calloc((size_t)problem->n_goals + 1, sizeof *s->scale);
    return s->nodes && s->rows && s->scale ? ESP_OK : esp_fail(reterr, ESP_NOMEM, "no memory to split a box of %d inputs", problem->n_in);
}

static void search_done(search *s) {
    free(s->nodes);
    free(s->rows);
    free(s->scale);
}

/* The input to halve: most blamed, else relatively widest; -1 when none can be. */
static int choose_axis(const search *s, int i) {
    const double *lower = lower_of(s, i), *upper = upper_of(s, i), *blame = blame_of(s, i);
    int best = -1, widest = -1;
    double most = 0, width = 0;
    for (int k = 0; k < s->problem->n_in; k++) {
        double middle = 0.5 * lower[k] + 0.5 * upper[k], share = (upper[k] - lower[k]) / (s->box->upper[k] - s->box->lower[k]);
        if (!(middle > lower[k] && middle < upper[k])) continue;
        if (blame[k] > most) best = k, most = blame[k];
        if (share > width) widest = k, width = share;
    }
    return best >= 0 ? best : widest;
}

static void node_bound(search *s, int i, int parent) {
    const esp_splits_problem *p = s->problem;
    double *values = values_of(s, i);
    p->bound(p->user, lower_of(s, i), upper_of(s, i), values, blame_of(s, i));
    for (int k = 0; parent >= 0 && k < p->n_values; k++) values[k] = esp_min(values[k], values_of(s, parent)[k]);
    s->nodes[i] = (node){-1, 0, 0};
    for (int k = 0; k < p->n_goals; k++) {
        if (parent < 0) s->scale[k] = esp_max(p->reached[k], FLOOR * (isfinite(values[k]) ? values[k] : 1));
        double ratio = values[k] > 0 ? values[k] / s->scale[k] : 0;
        s->nodes[i].worst = esp_max(s->nodes[i].worst, ratio >= 0 ? ratio : HUGE_VAL);
    }
    if (choose_axis(s, i) < 0) s->nodes[i].worst = -1;
}

static int worst_leaf(const search *s) {
    int worst = -1;
    for (int i = 0; i < s->n; i++)
        if (s->nodes[i].axis < 0 && s->nodes[i].worst > 1 + s->problem->gap && (worst < 0 || s->nodes[i].worst > s->nodes[worst].worst)) worst = i;
    return worst;
}

static void divide(search *s, int i) {
    int axis = choose_axis(s, i), child = s->n;
    size_t bytes = 2 * (size_t)s->problem->n_in * sizeof(double);
    double middle = 0.5 * lower_of(s, i)[axis] + 0.5 * upper_of(s, i)[axis];
    s->nodes[i].axis = axis;
    s->nodes[i].child = child;
    s->n += 2;
    memcpy(lower_of(s, child), lower_of(s, i), bytes);
    memcpy(lower_of(s, child + 1), lower_of(s, i), bytes);
    upper_of(s, child)[axis] = middle;
    lower_of(s, child + 1)[axis] = middle;
    node_bound(s, child, i);
    node_bound(s, child + 1, i);
}

/* Depth first with the children still to write on a stack in `open`; room for every node. */
static esp_code put_tree(const search *s, char leaf, esp_buf *tree, int *ret_leaves, esp_error *reterr) {
    int *open = calloc((size_t)s->n + 1, sizeof *open), n_open = 0, leaves = 0;
    if (!open) return esp_fail(reterr, ESP_NOMEM, "no memory for a tree of %d boxes", s->n);
    open[n_open++] = 0;
    while (n_open > 0) {
        const node *at = &s->nodes[open[--n_open]];
        if (at->axis < 0) {
            esp_buf_printf(tree, "%c", leaf);
            leaves++;
            continue;
        }
        esp_buf_printf(tree, "%d/", at->axis);
        open[n_open++] = at->child + 1;
        open[n_open++] = at->child;
    }
    free(open);
    if (tree->failed) return esp_fail(reterr, ESP_NOMEM, "no memory for a tree of %d boxes", s->n);
    *ret_leaves = leaves;
    return ESP_OK;
}

static const char *search_run(search *s, const esp_stop *stop) {
    memcpy(lower_of(s, 0), s->box->lower, (size_t)s->problem->n_in * sizeof(double));
    memcpy(upper_of(s, 0), s->box->upper, (size_t)s->problem->n_in * sizeof(double));
    s->n = 1;
    node_bound(s, 0, -1);
    for (int i = worst_leaf(s); i >= 0; i = worst_leaf(s)) {
        if (esp_stop_now(stop)) return "time_limit";
        if (s->n + 2 > s->most) return "box_limit";
        divide(s, i);
    }
    return "proved";
}

esp_code esp_splits_run(const esp_splits_problem *problem, const esp_box *box, const esp_stop *stop, char leaf, double *ret_values, esp_buf *ret_tree,
                        int *ret_leaves, const char **ret_status, esp_error *reterr) {
    search s = {0};
    esp_code code = search_init(&s, problem, box, reterr);
    if (code) goto out;
    const char *status = search_run(&s, stop);
    code = put_tree(&s, leaf, ret_tree, ret_leaves, reterr);
    if (code) goto out;
    for (int k = 0; k < problem->n_values; k++) {
        ret_values[k] = -HUGE_VAL;
        for (int i = 0; i < s.n; i++)
            if (s.nodes[i].axis < 0) ret_values[k] = esp_max(ret_values[k], values_of(&s, i)[k]);
    }
    *ret_status = status;
out:
    search_done(&s);
    return code;
}
