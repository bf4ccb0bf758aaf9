/* SPDX-License-Identifier: Apache-2.0
 * Which ReLU a node of the tree search is branched on.
 *
 * At the LP's optimum every phase of every ReLU has a lower estimate of what it would raise the bound by, to be read off
 * the tableau (esp_simplex_penalty); a ReLU's promise is the product of its two.
 *
 * That is the first step of the dual method only. The few most promising ReLUs are tried further, each phase by the next steps too,
 * from the node's own tableau (esp_simplex_look): a fifth to an eighth of the nodes that the first step alone would need, for a fifth of the time
 * that a node takes. A phase that turns out closed is taken off the node without branching. */
#include "plan/tree_parts.h"

#define LEAST_RISE 1e-6 /* of the room, counted for a phase whose first step gains nothing */
#define TRIED      8 /* ReLUs looked ahead on */
#define SEEN_LEAST 1e-4 /* of the room, counted for a phase that these gain nothing in */

double esp_branch_room(const tree *t, const node *n) {
    double cutoff = cutoff_of(t);
    return isfinite(cutoff) ? fmax(1e-12, cutoff - n->bound) : fmax(1, fabs(n->bound)); /* without a plan, on the scale of the cost */
}

/* A rise beyond the room is worth no more than the branch's end. */
double esp_branch_promise(const tree *t, const esp_region *region, double room, int q) {
    double off = fmin(esp_relax_r(t->relax, q), esp_relax_w(t->relax, q)), least = LEAST_RISE * room;
    if (off <= ESP_ON_GRAPH || !esp_unstable(region, q)) return 0;
    double rise_on = fmin(room, esp_relax_penalty(t->relax, q, true)), rise_off = fmin(room, esp_relax_penalty(t->relax, q, false));
    return (rise_on + least) * (rise_off + least);
}

int esp_branch_widest(const tree *t, const esp_region *region) {
    int best = -1;
    double most = 0;
    for (int q = 0; q < t->n_p; q++)
        if (esp_unstable(region, q) && fmin(region->p_upper[q], -region->p_lower[q]) > most) {
            most = fmin(region->p_upper[q], -region->p_lower[q]);
            best = q;
        }
    return best;
}

/* The most promising ReLUs, best first, into t->tried; how many. */
static int list_promising(const tree *t, const esp_region *region, double room, int most) {
    int n = 0;
    for (int q = 0; q < t->n_p; q++) t->score[q] = esp_branch_promise(t, region, room, q);
    for (; n < most; n++) {
        int best = 0;
        for (int q = 1; q < t->n_p; q++)
            if (t->score[q] > t->score[best]) best = q;
        if (t->n_p == 0 || t->score[best] <= 0) break;
        t->tried[n] = best;
        t->score[best] = 0;
    }
    return n;
}

/* What the bound rises by in the first steps into one phase of ReLU q. *ret_closed: it holds nothing below the cutoff, proved. */
static double look(tree *t, const node *n, esp_region *region, int q, bool on, bool *ret_closed) {
    double *side = on ? &region->p_lower[q] : &region->p_upper[q], was = *side;
    *side = 0;
    double value = esp_relax_look(t->relax, q, on, region, cutoff_of(t), ret_closed);
    *side = was;
    return fmax(0, value - n->bound);
}

/* Tries `count` ReLUs of t->tried while there is time. The best of them; -1: a phase was closed, and the region is smaller. */
static int try_all(tree *t, const node *n, esp_region *region, int count) {
    double most = -1, room = esp_branch_room(t, n), least = SEEN_LEAST * room;
    int best = t->tried[0];
    for (int k = 0; k < count && !esp_track_stop(t->track); k++) {
        int q = t->tried[k];
        bool closed_on, closed_off;
        double on = look(t, n, region, q, true, &closed_on), off = look(t, n, region, q, false, &closed_off);
        if (closed_on) region->p_upper[q] = 0;
        if (closed_off) region->p_lower[q] = 0;
        if (closed_on || closed_off) return -1;
        double product = (fmin(room, on) + least) * (fmin(room, off) + least);
        if (product <= most) continue;
        most = product;
        best = q;
    }
    return best;
}

int esp_branch_choose(tree *t, node *n, verdict *v) {
    esp_region region = region_of(t, n);
    esp_simplex *simplex = esp_relax_simplex(t->relax);
    for (;;) {
        int count = list_promising(t, &region, esp_branch_room(t, n), TRIED);
        esp_simplex_basis_get(simplex, basis_of(t, n));
        if (count == 0) return -1;
        int best = count == 1 ? t->tried[0] : try_all(t, n, &region, count);
        if (best >= 0) return best;
        esp_relax_apply(t->relax, &region);
        *v = esp_tree_solve(t, n);
        if (*v != OPEN) return -1;
    }
}
