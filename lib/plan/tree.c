/* SPDX-License-Identifier: Apache-2.0
 * The search. Bounds are relax.c's, range tightening is squeeze.c's; here is only which node and which ReLU next. */
#include "plan/tree.h"

#include "plan/tree_parts.h"

#define LAZY_DEPTH       4 /* levels below the last squeeze at which a node is squeezed again */
#define LAZY_GAIN        0.05 /* a squeeze that closed this share of a node's way to the cutoff is followed by another */
#define REFINEMENTS      6 /* of a node's squares, by tangents where its LP lands */
#define LEAF_REFINEMENTS 100 /* where there is nothing left to branch on */
#define SQUARES_SHARE    0.25 /* of the gap asked for, that squares may lie above their tangents */
#define COSTLY           0.005 /* a step that costs less than this share of the cutoff costs nothing */
#define FACET_SHRUNK     0.95 /* a facet is built anew when a side has shrunk below this share */

/* Below every plan: open nodes, here and elsewhere, the one in hand, leaves that were kept, and what was dropped, which
 * reached the cutoff. */
static void report_bound(tree *t, double in_hand) {
    double bound = fmin(fmin(t->kept, in_hand), fmin(cutoff_of(t), esp_tree_shares_bound(t)));
    if (t->n_heap > 0) bound = fmin(bound, t->heap[0]->bound);
    esp_track_bound(t->track, bound);
}

/* ---- LP and node ------------------------------------------------------------------------------------------------- */

/* A node's limits and facets into an LP of all steps or the first few. */
static void apply(const tree *t, esp_squeezer *s, node *n) {
    esp_region region = region_of(t, n);
    const double *facets = facets_of(t, n);
    for (int q = 0; q < s->horizon * t->problem->step->n_r; q++)
        if (facets[q] < 0 && facets[t->n_p + q] > 0) esp_relax_facet(s->relax, q, facets[q], facets[t->n_p + q]);
    esp_relax_apply(s->relax, &region);
}

static void load(tree *t, node *n) {
    apply(t, t->squeezer, n);
    esp_simplex_basis_set(esp_relax_simplex(t->relax), basis_of(t, n));
}

/* Facets of ReLUs that are still unstable follow their ranges, once a side has shrunk below `share` of what it was. */
static void renew_facets(tree *t, node *n, double share) {
    esp_region region = region_of(t, n);
    double *lower = facets_of(t, n), *upper = lower + t->n_p;
    for (int q = 0; q < t->n_p; q++) {
        if (!esp_unstable(&region, q)) continue;
        if (region.p_lower[q] < share * lower[q] && region.p_upper[q] > share * upper[q]) continue;
        lower[q] = region.p_lower[q];
        upper[q] = region.p_upper[q];
    }
}

/* A square further than this above its tangents gets another: all together then stay within a part of the gap. */
static double least_square(const tree *t) {
    double gap = t->track->found ? t->track->best.objective - cutoff_of(t) : 0;
    return fmax(1e-9, SQUARES_SHARE * gap) / (esp_relax_encoding(t->relax)->n_squares + 1);
}

/* One round of solve, `most` refinements at most. */
static verdict solve_once(tree *t, node *n, int most) {
    esp_region region = region_of(t, n);
    double cutoff = cutoff_of(t);
    esp_simplex_limit(esp_relax_simplex(t->relax), cutoff);
    esp_simplex_status status = ESP_SIMPLEX_OPTIMAL;
    for (int round = 0; round < most; round++) {
        status = esp_simplex_dual(esp_relax_simplex(t->relax), t->track->stop);
        if (status != ESP_SIMPLEX_OPTIMAL || esp_relax_refine(t->relax, least_square(t)) == 0) break;
    }
    esp_simplex_limit(esp_relax_simplex(t->relax), INFINITY);
    if (status == ESP_SIMPLEX_INFEASIBLE && esp_relax_refuted(t->relax, &region)) return DROPPED;
    n->bound = fmax(n->bound, esp_relax_bound(t->relax, &region, NULL));
    if (n->bound >= cutoff) return DROPPED;
    if (status != ESP_SIMPLEX_OPTIMAL) return GIVEN_UP;
    esp_relax_inputs(t->relax, t->u);
    (void)esp_track_offer(t->track, t->u, "tree");
    return n->bound >= cutoff_of(t) ? DROPPED : OPEN;
}

/* Solves the node's LP from the basis in place, squares refined where it lands; raises its bound; offers its plan. What
 * is near enough for the plan known before may not be for a better one, and a leaf has nothing else to close it. */
verdict esp_tree_solve(tree *t, node *n) {
    esp_region region = region_of(t, n);
    bool leaf = esp_branch_widest(t, &region) < 0;
    verdict v = solve_once(t, n, leaf ? LEAF_REFINEMENTS : REFINEMENTS);
    for (int again = 0; leaf && again < LEAF_REFINEMENTS && v == OPEN && esp_relax_refine(t->relax, least_square(t)) > 0; again++)
        v = solve_once(t, n, LEAF_REFINEMENTS);
    return v;
}

/* The dearest ReLUs of the LP's point, into pick. */
static void pick_dearest(tree *t, const esp_region *region, double room) {
    memset(t->pick, 0, (size_t)t->n_p * sizeof *t->pick);
    for (int q = 0; q < t->n_p; q++) t->score[q] = esp_branch_promise(t, region, room, q);
    for (int k = 0; k < t->options->squeeze_relus; k++) {
        int best = 0;
        for (int q = 1; q < t->n_p; q++)
            if (t->score[q] > t->score[best]) best = q;
        if (t->score[best] <= 0) return;
        t->pick[best] = true;
        t->score[best] = 0;
    }
}

/* The squeezer of the first `steps` steps; that of all when memory is out. */
static esp_squeezer *prefix_of(tree *t, int steps) {
    if (steps >= t->problem->horizon) return t->squeezer;
    if (!t->prefix[steps]) {
        if (esp_squeezer_create(t->problem, t->root_ranges, steps, &t->prefix[steps], NULL) != ESP_OK) return t->squeezer;
        esp_relax_cuts(t->prefix[steps]->relax, false);
    }
    return t->prefix[steps];
}

/* Squeezes the node's dearest ReLUs over the steps that cost something, and solves it again. */
static verdict squeeze_node(tree *t, node *n) {
    esp_region region = region_of(t, n);
    int last = esp_relax_last_costly(t->relax, COSTLY * cutoff_of(t));
    esp_squeezer *s = prefix_of(t, last + 1);
    pick_dearest(t, &region, esp_branch_room(t, n));
    esp_simplex_basis_get(esp_relax_simplex(t->relax), basis_of(t, n));
    if (s != t->squeezer) apply(t, s, n);
    if (!esp_squeeze_pass(s, last, t->pick, cutoff_of(t), t->track->stop, &region)) return DROPPED;
    if (s != t->squeezer && !esp_squeeze_sweep(t->squeezer, last + 1, &region)) return DROPPED;
    renew_facets(t, n, 1);
    load(t, n);
    return esp_tree_solve(t, n);
}

/* The first step at which the LP's point is off a ReLU's graph. */
static int first_cheat(tree *t, node *n) {
    esp_region region = region_of(t, n);
    for (int q = 0; q < t->n_p; q++)
        if (esp_unstable(&region, q) && fmin(esp_relax_r(t->relax, q), esp_relax_w(t->relax, q)) > ESP_ON_GRAPH) return q / t->problem->step->n_r;
    return 0;
}

/* The bound with cuts, from the basis in place. See pace.h for why it comes after everything else. */
static verdict lift(tree *t, node *n) {
    esp_region region = region_of(t, n);
    if (esp_relax_encoding(t->relax)->n_cuts == 0) return OPEN;
    esp_relax_apply(t->relax, &region);
    esp_simplex_basis_set(esp_relax_simplex(t->relax), basis_of(t, n));
    esp_relax_cuts(t->relax, true);
    verdict v = solve_once(t, n, REFINEMENTS);
    esp_relax_cuts(t->relax, false);
    return v;
}

/* Puts a solved node on the heap with its branching ReLU, or keeps its bound when there is nothing to branch on. */
static void settle(tree *t, node *n, verdict v) {
    esp_region region = region_of(t, n);
    if (v == OPEN && t->lazy) {
        int first = first_cheat(t, n);
        n->costly = esp_relax_last_costly(t->relax, COSTLY * cutoff_of(t));
        n->last = first > n->costly ? first : n->costly;
    }
    int branch = v == OPEN ? esp_branch_choose(t, n, &v) : -1;
    if (v == DROPPED) return;
    if (branch < 0) branch = esp_branch_widest(t, &region);
    if (branch < 0) {
        t->kept = fmin(t->kept, n->bound);
        return;
    }
    if (v != OPEN) esp_simplex_basis_get(esp_relax_simplex(t->relax), basis_of(t, n));
    if (v == OPEN && lift(t, n) == DROPPED) return;
    node *stored = take_node(t);
    if (stored) {
        copy_node(t, stored, n);
        stored->branch = branch;
        if (push(t, stored)) return;
    }
    t->kept = fmin(t->kept, n->bound); /* no room: its bound stays in the proof, its plans are not looked for */
    t->out_of_memory = true;
}

/* Squeezed when it is their turn, and not near the root: pays in large problems, where late steps cost nothing. */
static bool lazily(const tree *t, const node *n) {
    return t->lazy && n->costly + 1 < t->problem->horizon;
}

/* One phase of the parent: ReLU `branch` on or off. */
static void expand_phase(tree *t, const node *parent, bool on) {
    node *child = t->work;
    copy_node(t, child, parent);
    child->depth++;
    esp_region region = region_of(t, child);
    if (on)
        region.p_lower[parent->branch] = 0;
    else
        region.p_upper[parent->branch] = 0;
    bool near_root = !lazily(t, parent) && child->depth <= t->options->squeeze_depth;
    if (near_root && !esp_squeeze_sweep(t->squeezer, parent->branch / t->problem->step->n_r, &region)) return;
    if (near_root) renew_facets(t, child, FACET_SHRUNK);
    load(t, child);
    t->track->nodes++;
    verdict v = esp_tree_solve(t, child);
    if (v == OPEN && near_root) v = squeeze_node(t, child);
    if (v != DROPPED) settle(t, child, v);
}

/* The ReLUs that the node's LP point is off the graph of: where it cheats. False: not known. */
static bool pick_cheats(tree *t, node *n, esp_squeezer *s) {
    esp_region region = region_of(t, n);
    if (s != t->squeezer) load(t, n);
    if (esp_simplex_dual(esp_relax_simplex(t->relax), t->track->stop) != ESP_SIMPLEX_OPTIMAL) return false;
    for (int q = 0; q < t->n_p; q++) t->pick[q] = esp_unstable(&region, q) && fmin(esp_relax_r(t->relax, q), esp_relax_w(t->relax, q)) > ESP_ON_GRAPH;
    return true;
}

/* Instead of branching: what the LP cheats with in the first steps, those that still cost something and one that cheats, is squeezed. */
static void squeeze_again(tree *t, const node *parent) {
    node *n = t->work;
    copy_node(t, n, parent);
    esp_region region = region_of(t, n);
    esp_squeezer *s = prefix_of(t, parent->last + 1);
    if (s == t->squeezer)
        load(t, n);
    else
        apply(t, s, n);
    t->track->nodes++;
    const bool *pick = pick_cheats(t, n, s) ? t->pick : NULL;
    if (!esp_squeeze_pass(s, parent->last, pick, cutoff_of(t), t->track->stop, &region)) return;
    if (!esp_squeeze_sweep(t->squeezer, 0, &region)) return;
    renew_facets(t, n, 1);
    load(t, n);
    verdict v = esp_tree_solve(t, n);
    bool paid = n->bound - parent->bound > LAZY_GAIN * (cutoff_of(t) - parent->bound);
    n->squeezed = paid ? n->depth - LAZY_DEPTH : n->depth;
    if (v != DROPPED) settle(t, n, v);
}

static void expand(tree *t, const node *parent) {
    if (lazily(t, parent) && parent->depth - parent->squeezed >= LAZY_DEPTH) {
        squeeze_again(t, parent);
        return;
    }
    expand_phase(t, parent, true);
    report_bound(t, parent->bound);
    expand_phase(t, parent, false);
}

/* ---- root -------------------------------------------------------------------------------------------------------- */

static verdict solve_root(tree *t, node *root) {
    verdict v = esp_tree_solve(t, root);
    if (v != DROPPED) report_bound(t, root->bound);
    return v;
}

static bool any_open(const tree *t) {
    return t->n_heap > 0 && t->heap[0]->bound < cutoff_of(t);
}

static void expand_best(tree *t) {
    node *top = pop(t), *parent = t->parent;
    copy_node(t, parent, top);
    give_node(t, top);
    report_bound(t, parent->bound);
    expand(t, parent);
}

bool esp_tree_loop(tree *t) {
    bool out = false; /* open elsewhere only */
    while ((any_open(t) || (out = esp_tree_share_least(t) != 0)) && !esp_track_stop(t->track)) {
        if (!out) expand_best(t);
        if (out) t->hooks->wait(t->hooks->user, t);
        if (t->hooks) t->hooks->look(t->hooks->user, t);
        report_bound(t, INFINITY);
        out = false;
    }
    if (any_open(t) || esp_tree_share_least(t)) return false;
    report_bound(t, INFINITY);
    return true;
}

static void search(tree *t, bool *ret_exhausted) {
    node *root = t->work;
    verdict v = solve_root(t, root);
    if (v != DROPPED) settle(t, root, v);
    *ret_exhausted = esp_tree_loop(t) && t->kept >= cutoff_of(t);
}

/* ---- life -------------------------------------------------------------------------------------------------------- */

bool esp_tree_takes(const esp_problem *problem) {
    return !problem->task->values && problem->task->n_avoid == 0;
}

static bool allocate(tree *t) {
    t->arena = esp_arena_create(0);
    if (!t->arena) return false;
    t->n_ranges = (size_t)(4 * t->n_p + 2 * t->n_u);
    t->basis_bytes = esp_simplex_basis_bytes(esp_relax_simplex(t->relax));
    t->node_bytes = sizeof(node) + t->n_ranges * sizeof(double) + (t->basis_bytes + 7) / 8 * 8;
    t->max_nodes = t->options->memory / t->node_bytes + 1;
    t->work = esp_arena_take(t->arena, t->node_bytes);
    t->parent = esp_arena_take(t->arena, t->node_bytes);
    t->u = ESP_NEW(t->arena, double, t->n_u + 1);
    t->score = ESP_NEW(t->arena, double, t->n_p + 1);
    t->tried = ESP_NEW(t->arena, int, t->n_p + 1);
    t->pick = ESP_NEW(t->arena, bool, t->n_p + 1);
    t->prefix = ESP_NEW(t->arena, esp_squeezer *, t->problem->horizon + 1);
    for (int h = 0; t->prefix && h <= t->problem->horizon; h++) t->prefix[h] = NULL;
    return t->work && t->parent && t->u && t->score && t->tried && t->pick && t->prefix;
}

static void fill_root(tree *t, const esp_root *from) {
    node *root = t->work;
    esp_region region = region_of(t, root);
    double *facets = facets_of(t, root);
    size_t p = (size_t)t->n_p * sizeof(double), u = (size_t)t->n_u * sizeof(double);
    memcpy(region.p_lower, from->ranges->p_lower, p);
    memcpy(region.p_upper, from->ranges->p_upper, p);
    memcpy(region.u_lower, from->u_lower, u);
    memcpy(region.u_upper, from->u_upper, u);
    memcpy(facets, from->ranges->p_lower, p);
    memcpy(facets + t->n_p, from->ranges->p_upper, p);
    esp_simplex_basis_get(esp_relax_simplex(t->relax), basis_of(t, root));
    root->bound = fmax(0, t->track->lower_bound);
    root->depth = root->squeezed = root->costly = root->last = 0;
}

esp_code esp_tree_open(esp_track *track, const esp_ranges *ranges, double cutoff, const esp_tree_options *options, tree *ret, esp_error *reterr) {
    const esp_problem *problem = track->problem;
    tree t = {.problem = problem, .options = options, .track = track, .root_ranges = ranges, .kept = INFINITY, .cutoff = cutoff};
    t.n_p = problem->horizon * problem->step->n_r;
    t.n_u = problem->horizon * problem->nu;
    t.lazy = esp_ranges_unstable(ranges) >= options->lazy_from;
    t.hooks = track->hooks ? track->hooks->tree : NULL;
    if (!esp_tree_takes(problem)) return esp_fail(reterr, ESP_UNPROCESSABLE, "the tree search does not take this problem");
    esp_code code = esp_squeezer_create(problem, ranges, problem->horizon, &t.squeezer, reterr);
    if (code != ESP_OK) return code;
    t.relax = t.squeezer->relax;
    esp_relax_cuts(t.relax, false);
    if (allocate(&t)) {
        *ret = t;
        return ESP_OK;
    }
    esp_tree_close(&t);
    return esp_fail(reterr, ESP_NOMEM, "tree search over %d ReLUs", t.n_p);
}

void esp_tree_close(tree *t) {
    for (int h = 0; t->prefix && h <= t->problem->horizon; h++) esp_squeezer_free(t->prefix[h]);
    esp_squeezer_free(t->squeezer);
    esp_tree_shares_free(t);
    free(t->heap);
    esp_arena_free(t->arena);
}

esp_code esp_tree_search(esp_root *root, const esp_tree_options *options, bool *ret_exhausted, esp_error *reterr) {
    tree t = {0};
    esp_code code = esp_tree_open(root->track, root->ranges, root->cutoff, options, &t, reterr);
    if (code == ESP_OK) {
        fill_root(&t, root);
        search(&t, ret_exhausted);
    }
    esp_tree_close(&t);
    return code;
}
