/* SPDX-License-Identifier: Apache-2.0
 * Recording, shifting and beginning with the leaves of a tree (leaves.h). */
#include "bench/session/leaves.h"

#define ON_GRAPH 1e-7
#define COSTLY   0.005 /* as in lib/plan/tree.c, both */

static int add(leaves_record *r) {
    if (r->n == r->cap) {
        r->cap = r->cap ? 2 * r->cap : 256;
        r->items = realloc(r->items, (size_t)r->cap * sizeof *r->items);
        if (!r->items) abort();
    }
    r->items[r->n] = (leaves_item){.branch = -1};
    return r->n++;
}

void leaves_done(leaves_record *r) {
    free(r->items);
    *r = (leaves_record){0};
}

/* ---- recording --------------------------------------------------------------------------------------------------- */

static void split(leaves_record *r, int at, int branch) {
    int off = add(r), on = add(r);
    r->items[at].branch = branch;
    r->items[at].child[0] = off;
    r->items[at].child[1] = on;
}

void leaves_note(leaves_record *r, esp_tree *t) {
    esp_region region = region_of(t, t->parent);
    int at = 0;
    if (r->n == 0) (void)add(r);
    if (t->work->depth != t->parent->depth + 1) return; /* it was squeezed, not branched on */
    while (r->items[at].branch >= 0) at = r->items[at].child[region.p_lower[r->items[at].branch] >= 0];
    split(r, at, t->parent->branch);
}

void leaves_direct(const leaves_record *r, esp_tree *t) {
    if (t->n_heap == 0 || r->n == 0) return;
    esp_region region = region_of(t, t->heap[0]);
    for (int at = 0; r->items[at].branch >= 0;) {
        int q = r->items[at].branch;
        if (region.p_lower[q] < 0 && region.p_upper[q] > 0) {
            t->heap[0]->branch = q;
            return;
        }
        at = r->items[at].child[region.p_lower[q] >= 0];
    }
}

/* ---- shifting ---------------------------------------------------------------------------------------------------- */

static void copy_shifted(const leaves_record *from, int at, const bool *on, int n_r, leaves_record *to, int here) {
    while (from->items[at].branch >= 0 && from->items[at].branch < n_r) at = from->items[at].child[on[from->items[at].branch]];
    if (from->items[at].branch < 0) return;
    split(to, here, from->items[at].branch - n_r);
    for (int side = 0; side < 2; side++) copy_shifted(from, from->items[at].child[side], on, n_r, to, to->items[here].child[side]);
}

leaves_record leaves_shifted(const leaves_record *from, const bool *on, int n_r) {
    leaves_record to = {0};
    (void)add(&to);
    if (from->n > 0) copy_shifted(from, 0, on, n_r, &to, 0);
    for (int k = to.n - 1; k >= 0; k--) {
        leaves_item *item = &to.items[k];
        item->size = item->branch < 0 ? 1 : to.items[item->child[0]].size + to.items[item->child[1]].size;
    }
    return to;
}

/* The branchings that are kept, so that there are no more than `most` leaves: those with most below them. */
static bool *cut(const leaves_record *r, int most) {
    bool *kept = calloc((size_t)r->n, sizeof *kept), *edge = calloc((size_t)r->n, sizeof *edge);
    if (!kept || !edge) abort();
    edge[0] = true;
    for (int leaves = 1; leaves < most; leaves++) {
        int best = -1;
        if (most >= r->items[0].size) {
            for (int k = 0; k < r->n; k++) kept[k] = r->items[k].branch >= 0;
            break;
        }
        for (int k = 0; k < r->n; k++)
            if (edge[k] && r->items[k].branch >= 0 && (best < 0 || r->items[k].size > r->items[best].size)) best = k;
        if (best < 0) break;
        kept[best] = true;
        edge[best] = false;
        edge[r->items[best].child[0]] = edge[r->items[best].child[1]] = true;
    }
    free(edge);
    return kept;
}

/* ---- beginning --------------------------------------------------------------------------------------------------- */

typedef struct beginning {
    const leaves_record *record;
    const bool *kept;
    tree *t;
    node **at; /* by depth in the record */
} beginning;

static bool is_open(const esp_region *region, int q) {
    return region->p_lower[q] < 0 && region->p_upper[q] > 0;
}

static void load_into(const tree *t, esp_squeezer *s, node *n) {
    esp_region region = region_of(t, n);
    const double *facets = facets_of(t, n);
    for (int q = 0; q < s->horizon * t->problem->step->n_r; q++)
        if (facets[q] < 0 && facets[t->n_p + q] > 0) esp_relax_facet(s->relax, q, facets[q], facets[t->n_p + q]);
    esp_relax_apply(s->relax, &region);
}

static void renew_facets(const tree *t, node *n) {
    esp_region region = region_of(t, n);
    double *facets = facets_of(t, n);
    for (int q = 0; q < t->n_p; q++) {
        if (!is_open(&region, q)) continue;
        facets[q] = region.p_lower[q];
        facets[t->n_p + q] = region.p_upper[q];
    }
}

static double gain(const tree *t, const esp_region *region, double room, int q) {
    double off = fmin(esp_relax_r(t->relax, q), esp_relax_w(t->relax, q)), least = 1e-6 * room;
    if (off <= ON_GRAPH || !is_open(region, q)) return 0;
    return (fmin(room, esp_relax_penalty(t->relax, q, true)) + least) * (fmin(room, esp_relax_penalty(t->relax, q, false)) + least);
}

/* False: dropped. */
static bool solve_here(tree *t, node *n) {
    esp_region region = region_of(t, n);
    esp_simplex *simplex = esp_relax_simplex(t->relax);
    load_into(t, t->squeezer, n);
    esp_simplex_limit(simplex, cutoff_of(t));
    esp_simplex_status status = esp_simplex_dual(simplex, t->track->stop);
    esp_simplex_limit(simplex, INFINITY);
    t->track->nodes++;
    if (status == ESP_SIMPLEX_INFEASIBLE && esp_relax_refuted(t->relax, &region)) return false;
    n->bound = fmax(n->bound, esp_relax_bound(t->relax, &region, NULL));
    if (n->bound >= cutoff_of(t)) return false;
    if (status != ESP_SIMPLEX_OPTIMAL) return true;
    esp_relax_inputs(t->relax, t->u);
    (void)esp_track_offer(t->track, t->u, "tree");
    return n->bound < cutoff_of(t);
}

static int choose(tree *t, node *n) {
    esp_region region = region_of(t, n);
    double room = fmax(1e-12, cutoff_of(t) - n->bound), most = 0, widest = 0;
    int best = -1, any = -1;
    for (int q = 0; q < t->n_p; q++) {
        double g = gain(t, &region, room, q), width = fmin(region.p_upper[q], -region.p_lower[q]);
        if (g > most) {
            most = g;
            best = q;
        }
        if (is_open(&region, q) && width > widest) {
            widest = width;
            any = q;
        }
    }
    return best >= 0 ? best : any;
}

static void open_leaf(tree *t, node *n) {
    if (!esp_track_stop(t->track) && !solve_here(t, n)) return;
    n->branch = choose(t, n);
    n->squeezed = n->depth;
    n->costly = esp_relax_last_costly(t->relax, COSTLY * cutoff_of(t));
    node *stored = n->branch >= 0 ? take_node(t) : NULL;
    if (stored) {
        copy_node(t, stored, n);
        esp_simplex_basis_get(esp_relax_simplex(t->relax), basis_of(t, stored));
    }
    if (!stored || !push(t, stored)) t->kept = fmin(t->kept, n->bound);
}

/* As tree.c does near the root: the dearest ReLUs, over the steps that cost something. False: dropped. */
static bool squeeze(tree *t, node *n, int branched) {
    esp_region region = region_of(t, n);
    if (!esp_squeeze_sweep(t->squeezer, branched / t->problem->step->n_r, &region)) return false;
    renew_facets(t, n);
    if (!solve_here(t, n)) return false;
    double room = fmax(1e-12, cutoff_of(t) - n->bound);
    int last = esp_relax_last_costly(t->relax, COSTLY * cutoff_of(t)), steps = last + 1;
    for (int q = 0; q < t->n_p; q++) t->pick[q] = false, t->score[q] = gain(t, &region, room, q);
    for (int k = 0; k < t->options->squeeze_relus; k++) {
        int best = 0;
        for (int q = 1; q < t->n_p; q++)
            if (t->score[q] > t->score[best]) best = q;
        if (t->score[best] <= 0) break;
        t->pick[best] = true;
        t->score[best] = 0;
    }
    esp_squeezer *s = t->squeezer;
    if (steps < t->problem->horizon) {
        if (!t->prefix[steps] && esp_squeezer_create(t->problem, t->root_ranges, steps, &t->prefix[steps], NULL) != ESP_OK) return true;
        s = t->prefix[steps];
        load_into(t, s, n);
    }
    if (!esp_squeeze_pass(s, last, t->pick, cutoff_of(t), t->track->stop, &region)) return false;
    if (s != t->squeezer && !esp_squeeze_sweep(t->squeezer, last + 1, &region)) return false;
    renew_facets(t, n);
    return true;
}

static void descend(beginning *b, int item, int depth) {
    tree *t = b->t;
    node *parent = b->at[depth], *child = b->at[depth + 1];
    int q = b->record->items[item].branch;
    if (!b->kept[item]) {
        open_leaf(t, parent);
        return;
    }
    for (int on = 1; on >= 0; on--) {
        copy_node(t, child, parent);
        esp_region region = region_of(t, child);
        bool both = is_open(&region, q);
        if (!both && on != (region.p_upper[q] > 0)) continue; /* empty, or the other side's */
        if (both) {
            child->depth++;
            *(on ? &region.p_lower[q] : &region.p_upper[q]) = 0;
            if (!t->lazy && child->depth <= t->options->squeeze_depth && !esp_track_stop(t->track) && !squeeze(t, child, q)) continue;
        }
        descend(b, b->record->items[item].child[on], depth + 1);
    }
}

static void fill(tree *t, const esp_root *from, node *n) {
    esp_region region = region_of(t, n);
    double *facets = facets_of(t, n);
    size_t p = (size_t)t->n_p * sizeof(double), u = (size_t)t->n_u * sizeof(double);
    memcpy(region.p_lower, from->ranges->p_lower, p);
    memcpy(region.p_upper, from->ranges->p_upper, p);
    memcpy(region.u_lower, from->u_lower, u);
    memcpy(region.u_upper, from->u_upper, u);
    memcpy(facets, from->ranges->p_lower, p);
    memcpy(facets + t->n_p, from->ranges->p_upper, p);
    n->bound = fmax(0, t->track->lower_bound);
    n->depth = n->squeezed = n->costly = 0;
}

static void begin(tree *t, const esp_root *root, const leaves_record *record, int most) {
    int depths = t->n_p + 2;
    bool *kept = cut(record, most);
    beginning b = {record, kept, t, calloc((size_t)depths, sizeof *b.at)};
    for (int k = 0; k < depths; k++)
        if (!b.at || !(b.at[k] = esp_arena_take(t->arena, t->node_bytes))) abort();
    fill(t, root, b.at[0]);
    descend(&b, 0, 0);
    free(b.at);
    free(kept);
}

esp_code leaves_search(esp_root *root, const leaves_record *record, int most, const leaves_record *order, const esp_tree_options *options,
                       esp_error *reterr) {
    tree t = {0};
    esp_code code = esp_tree_open(root->track, root->ranges, root->cutoff, options, &t, reterr);
    if (code == ESP_OK) {
        begin(&t, root, record, most);
        if (order) leaves_direct(order, &t);
        (void)esp_tree_loop(&t);
    }
    esp_tree_close(&t);
    return code;
}

/* ---- multipliers ------------------------------------------------------------------------------------------------- */

/* The row that defines a column: the first that it stands in (encode.c, step_rows). */
static int row_of(const esp_lp *lp, int col) {
    return lp->row[lp->col_start[col]];
}

static void shift_row(const esp_encoding *from, int from_col, const double *duals, const esp_encoding *to, int to_col, double *ret) {
    if (from_col >= 0 && to_col >= 0) ret[row_of(&to->lp, to_col)] = duals[row_of(&from->lp, from_col)];
}

static void shift_duals(const esp_problem *p, const esp_encoding *from, const double *duals, const esp_encoding *to, double *ret) {
    int n_r = p->step->n_r;
    memset(ret, 0, (size_t)to->lp.n_rows * sizeof *ret);
    for (int q = n_r; q < p->horizon * n_r; q++) shift_row(from, from->r[q], duals, to, to->r[q - n_r], ret);
    for (int k = p->ny; k < p->horizon * p->ny; k++) shift_row(from, from->y[k], duals, to, to->y[k - p->ny], ret);
}

typedef struct pair {
    const leaves_record *record;
    const bool *kept;
    const esp_problem *problem;
    esp_relax *before, *after;
    esp_region old, now;
    double *duals;
    leaves_bounds *bounds;
} pair;

static void measure_leaf(pair *m) {
    leaves_bounds *b = m->bounds;
    esp_relax_apply(m->before, &m->old);
    if (esp_simplex_dual(esp_relax_simplex(m->before), NULL) != ESP_SIMPLEX_OPTIMAL) return; /* empty then; rarely open now */
    shift_duals(m->problem, esp_relax_encoding(m->before), esp_simplex_duals(esp_relax_simplex(m->before)), esp_relax_encoding(m->after), m->duals);
    int64_t from = esp_clock_now_ns();
    b->by_multipliers = fmin(b->by_multipliers, esp_relax_bound(m->after, &m->now, m->duals));
    b->multipliers_seconds += esp_clock_seconds_since(from);
    from = esp_clock_now_ns();
    esp_relax_apply(m->after, &m->now);
    if (esp_simplex_dual(esp_relax_simplex(m->after), NULL) == ESP_SIMPLEX_OPTIMAL)
        b->by_lps = fmin(b->by_lps, esp_relax_bound(m->after, &m->now, NULL));
    b->lp_seconds += esp_clock_seconds_since(from);
    b->leaves++;
}

static void measure(pair *m, int item) {
    int q = m->record->items[item].branch, n_r = m->problem->step->n_r;
    if (!m->kept[item]) {
        measure_leaf(m);
        return;
    }
    bool open_now = is_open(&m->now, q), open_old = is_open(&m->old, q + n_r);
    for (int on = 1; on >= 0; on--) {
        double *now = on ? &m->now.p_lower[q] : &m->now.p_upper[q], *old = on ? &m->old.p_lower[q + n_r] : &m->old.p_upper[q + n_r];
        double now_was = *now, old_was = *old;
        if (!open_now && on != (m->now.p_upper[q] > 0)) continue;
        if (open_now) *now = 0;
        if (open_old) *old = 0;
        measure(m, m->record->items[item].child[on]);
        *now = now_was;
        *old = old_was;
    }
}

static esp_region region_by(const esp_problem *p, const esp_ranges *ranges) {
    return (esp_region){ranges->p_lower, ranges->p_upper, p->u_lower, p->u_upper};
}

esp_code leaves_measure(const esp_problem *before, const esp_ranges *before_ranges, const esp_problem *after, const esp_ranges *after_ranges,
                        const leaves_record *record, const bool *on, int most, leaves_bounds *ret, esp_error *reterr) {
    pair m = {.record = record, .problem = after, .old = region_by(before, before_ranges), .now = region_by(after, after_ranges)};
    esp_code code = esp_relax_create(before, before_ranges, before->horizon, &m.before, reterr);
    if (code == ESP_OK) code = esp_relax_create(after, after_ranges, after->horizon, &m.after, reterr);
    if (code == ESP_OK) {
        bool *kept = cut(record, most);
        *ret = (leaves_bounds){.by_multipliers = INFINITY, .by_lps = INFINITY};
        m.kept = kept;
        m.bounds = ret;
        m.duals = calloc((size_t)esp_relax_encoding(m.after)->lp.n_rows, sizeof *m.duals);
        if (!m.duals) abort();
        for (int j = 0; j < before->step->n_r; j++)
            if (is_open(&m.old, j)) *(on[j] ? &m.old.p_lower[j] : &m.old.p_upper[j]) = 0;
        measure(&m, 0);
        free(kept);
        free(m.duals);
    }
    esp_relax_free(m.before);
    esp_relax_free(m.after);
    return code;
}
