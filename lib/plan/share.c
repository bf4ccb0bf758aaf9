/* SPDX-License-Identifier: Apache-2.0
 * Nodes out of a tree, into another, and kept account of. The search itself is tree.c's. */
#include "plan/share.h"

#include <limits.h>
#include <math.h>

#include "plan/tree_parts.h"

#define FAR       0.05
#define CUT_BYTES 12 /* of a cut, and as many for each of its entries */
enum { LEAST_OPEN = 16, LEAST_GIVEN = 4, MOST_GIVEN = 128, MOST_BYTES = 1 << 19 };
static const char magic[4] = {'E', 'S', 'N', '2'};

/* ---- out --------------------------------------------------------------------------------------------------------- */

static void put_cuts(const esp_cuts *cuts, esp_buf *out) {
    for (int k = 0; k < cuts->n; k++) {
        const esp_cut *cut = &cuts->list[k];
        esp_buf_put_u32(out, (uint32_t)cut->n);
        for (int i = 0; i < cut->n; i++) esp_buf_put_u32(out, (uint32_t)cut->at[i]);
        esp_buf_put_doubles(out, cut->weight, (size_t)cut->n);
        esp_buf_put_doubles(out, &cut->most, 1);
    }
}

static uint32_t count_entries(const esp_cuts *cuts) {
    int n = 0;
    for (int k = 0; k < cuts->n; k++) n += cuts->list[k].n;
    return (uint32_t)n;
}

static void put_header(const tree *t, size_t n, esp_buf *out) {
    const esp_ranges *root = t->root_ranges;
    size_t n_p = (size_t)t->n_p, n_y = (size_t)root->n_y;
    esp_buf_put(out, magic, sizeof magic);
    esp_buf_put_u32(out, (uint32_t)t->n_p);
    esp_buf_put_u32(out, (uint32_t)t->n_u);
    esp_buf_put_u32(out, (uint32_t)root->n_y);
    esp_buf_put_u32(out, (uint32_t)t->node_bytes);
    esp_buf_put_u32(out, (uint32_t)t->basis_bytes);
    esp_buf_put_u32(out, (uint32_t)n);
    esp_buf_put_u32(out, (uint32_t)t->problem->cuts->n);
    esp_buf_put_u32(out, count_entries(t->problem->cuts));
    esp_buf_put_u32(out, t->track->found);
    esp_buf_put_doubles(out, &t->cutoff, 1);
    if (t->track->found) esp_buf_put_doubles(out, t->track->best.inputs, (size_t)t->n_u);
    esp_buf_put_doubles(out, root->p_lower, n_p);
    esp_buf_put_doubles(out, root->p_upper, n_p);
    esp_buf_put_doubles(out, root->y_lower, n_y);
    esp_buf_put_doubles(out, root->y_upper, n_y);
    put_cuts(t->problem->cuts, out);
}

static node_lot *lot_create(size_t room) {
    node_lot *lot = malloc(sizeof *lot + room * sizeof(node *));
    if (lot) *lot = (node_lot){0};
    return lot;
}

/* Every second of the best open nodes, from the second on. They were on the heap, so going back needs no memory. */
static void choose_nodes(tree *t, double below, node_lot *lot, size_t room) {
    node *stay[MOST_GIVEN];
    size_t n_stay = 0;
    below = fmin(below, cutoff_of(t));
    while (t->n_heap > 0 && lot->n < room && t->heap[0]->bound < below) {
        if (n_stay <= lot->n)
            stay[n_stay++] = pop(t);
        else
            lot->nodes[lot->n++] = pop(t);
    }
    while (n_stay > 0) (void)push(t, stay[--n_stay]);
}

/* Back on the heap, with what was proved of all of them. */
static void return_lot(tree *t, node_lot *lot, double bound) {
    for (size_t k = 0; k < lot->n; k++) {
        node *n = lot->nodes[k];
        n->bound = fmax(n->bound, bound);
        if (push(t, n)) continue;
        t->kept = fmin(t->kept, n->bound);
        t->out_of_memory = true;
        give_node(t, n);
    }
    free(lot);
}

static void forget_lot(tree *t, node_lot *lot) {
    for (size_t k = 0; k < lot->n; k++) give_node(t, lot->nodes[k]);
    free(lot);
}

/* Out of the tree and into bytes; NULL when there are fewer than `least`, or no memory. */
static node_lot *give(tree *t, double below, size_t least, esp_buf *ret_nodes) {
    size_t room = MOST_BYTES / t->node_bytes, before = ret_nodes->len;
    if (room > MOST_GIVEN) room = MOST_GIVEN;
    node_lot *lot = lot_create(room);
    if (!lot) return NULL;
    choose_nodes(t, below, lot, room);
    bool enough = lot->n >= least || (lot->n > 0 && lot->n == room);
    if (enough) put_header(t, lot->n, ret_nodes);
    for (size_t k = 0; enough && k < lot->n; k++) esp_buf_put(ret_nodes, lot->nodes[k], t->node_bytes);
    if (enough && !ret_nodes->failed) return lot;
    return_lot(t, lot, -INFINITY);
    ret_nodes->len = before;
    return NULL;
}

void esp_tree_give_back(esp_tree *t, double below, esp_buf *ret_nodes) {
    node_lot *lot = give(t, below, 1, ret_nodes);
    if (lot)
        forget_lot(t, lot);
    else
        put_header(t, 0, ret_nodes);
}

/* ---- account ----------------------------------------------------------------------------------------------------- */

static node_share **find(tree *t, uint64_t number) {
    node_share **at = &t->shares;
    while (*at && (*at)->number != number) at = &(*at)->next;
    return at;
}

static node_share *find_or_add(tree *t, uint64_t number) {
    node_share **at = find(t, number);
    if (!*at && (*at = malloc(sizeof **at))) **at = (node_share){.number = number, .bound = INFINITY};
    return *at;
}

bool esp_tree_give(esp_tree *t, uint64_t number, double below, esp_buf *ret_nodes) {
    if (t->n_heap < LEAST_OPEN || t->n_lent > t->max_nodes / 4) return false;
    node_share *s = find_or_add(t, number);
    node_lot *lot = s ? give(t, below, LEAST_GIVEN, ret_nodes) : NULL;
    if (!lot) {
        if (s && !s->lots) esp_tree_share_lost(t, number);
        return false;
    }
    for (size_t k = 0; k < lot->n; k++) s->bound = fmin(s->bound, lot->nodes[k]->bound);
    node_lot **last = &s->lots;
    while (*last) last = &(*last)->next;
    *last = lot;
    s->n_lots++;
    t->n_lent += lot->n;
    return true;
}

/* Off the list: of the first `done` lots nothing is left to search, the others come back. */
static void end_share(tree *t, uint64_t number, int done) {
    node_share **at = find(t, number), *s = *at;
    if (!s) return;
    *at = s->next;
    for (node_lot *lot = s->lots, *next = NULL; lot; lot = next, done--) {
        next = lot->next;
        t->n_lent -= lot->n;
        if (done > 0)
            forget_lot(t, lot);
        else
            return_lot(t, lot, s->bound);
    }
    free(s);
}

void esp_tree_share_bound(esp_tree *t, uint64_t number, int lots, double bound) {
    node_share *s = *find(t, number);
    if (s && lots == s->n_lots && bound > s->bound) s->bound = bound;
}

void esp_tree_share_done(esp_tree *t, uint64_t number, int lots, double bound, int64_t nodes) {
    const node_share *s = *find(t, number);
    if (!s) return;
    if (bound < cutoff_of(t)) t->kept = fmin(t->kept, bound);
    t->track->nodes += nodes;
    end_share(t, number, lots);
}

void esp_tree_share_lost(esp_tree *t, uint64_t number) {
    end_share(t, number, 0);
}

double esp_tree_shares_bound(const tree *t) {
    double least = INFINITY;
    for (const node_share *s = t->shares; s; s = s->next) least = fmin(least, s->bound);
    return least;
}

uint64_t esp_tree_share_least(const esp_tree *t) {
    double least = cutoff_of(t);
    uint64_t number = 0;
    for (const node_share *s = t->shares; s; s = s->next) {
        if (s->bound >= least) continue;
        least = s->bound;
        number = s->number;
    }
    return number;
}

double esp_tree_bound(const esp_tree *t) {
    double bound = fmin(t->kept, cutoff_of(t));
    return t->n_heap > 0 ? fmin(bound, t->heap[0]->bound) : bound;
}

/* Far: by this share of the way to the cutoff. */
static bool far_below(const tree *t, double low, double high) {
    double cutoff = cutoff_of(t);
    return isfinite(cutoff) && fmin(high, cutoff) - low > FAR * (cutoff - low);
}

uint64_t esp_tree_share_ahead(const esp_tree *t, double *ret_below) {
    double here = t->n_heap > 0 ? t->heap[0]->bound : (double)INFINITY;
    for (const node_share *s = t->shares; s; s = s->next)
        if (far_below(t, here, s->bound)) {
            *ret_below = s->bound;
            return s->number;
        }
    return 0;
}

uint64_t esp_tree_share_behind(const esp_tree *t, double *ret_below) {
    double here = t->n_heap > 0 ? fmin(t->heap[0]->bound, cutoff_of(t)) : cutoff_of(t);
    for (const node_share *s = t->shares; s; s = s->next)
        if (far_below(t, s->bound, here)) {
            *ret_below = here;
            return s->number;
        }
    return 0;
}

void esp_tree_shares_free(tree *t) {
    while (t->shares) end_share(t, t->shares->number, INT_MAX);
}

bool esp_tree_offer(esp_tree *t, const double *inputs) {
    return esp_track_offer(t->track, inputs, "tree");
}

/* ---- in ---------------------------------------------------------------------------------------------------------- */

typedef struct header {
    uint32_t n_p, n_u, n_y, node_bytes, basis_bytes, n, n_cuts, entries, found;
    double cutoff;
} header;

static esp_code corrupt(esp_error *reterr) {
    return esp_fail(reterr, ESP_CORRUPT, "nodes of another tree do not fit the problem");
}

/* For `problem`; the cursor is left at the plan. */
static esp_code read_header(const esp_problem *problem, esp_cursor *c, header *ret, esp_error *reterr) {
    const void *found = esp_cursor_bytes(c, sizeof magic);
    header h = {0};
    uint32_t *const fields[] = {&h.n_p, &h.n_u, &h.n_y, &h.node_bytes, &h.basis_bytes, &h.n, &h.n_cuts, &h.entries, &h.found};
    for (size_t k = 0; k < sizeof fields / sizeof *fields; k++) *fields[k] = esp_cursor_u32(c);
    esp_cursor_doubles(c, &h.cutoff, 1);
    if (c->failed || memcmp(found, magic, sizeof magic) != 0 || isnan(h.cutoff)) return corrupt(reterr);
    bool fits = h.n_p == (uint32_t)(problem->horizon * problem->step->n_r) && h.n_u == (uint32_t)(problem->horizon * problem->nu) &&
                h.n_y == (uint32_t)(problem->horizon * problem->ny) && h.found <= 1 && h.n_cuts <= ESP_MAX_CUTS;
    size_t after = sizeof(double) * ((size_t)h.found * h.n_u + 2 * (size_t)h.n_p + 2 * (size_t)h.n_y) + (size_t)h.n * h.node_bytes +
                   CUT_BYTES * ((size_t)h.n_cuts + h.entries);
    if (!fits || c->len - c->pos != after) return corrupt(reterr);
    *ret = h;
    return ESP_OK;
}

static bool are_ranges(const double *lower, const double *upper, int n) {
    for (int k = 0; k < n; k++)
        if (!(isfinite(lower[k]) && isfinite(upper[k]) && lower[k] <= upper[k])) return false;
    return true;
}

static bool is_node(const tree *t, node *n) {
    esp_region region = region_of(t, n);
    const double *facets = facets_of(t, n);
    bool placed = n->branch >= 0 && n->branch < t->n_p && n->depth >= 0 && n->squeezed <= n->depth && n->costly >= 0 && n->last >= n->costly &&
                  n->last < t->problem->horizon;
    return placed && !isnan(n->bound) && are_ranges(region.p_lower, region.p_upper, t->n_p) && are_ranges(region.u_lower, region.u_upper, t->n_u) &&
           are_ranges(facets, facets + t->n_p, t->n_p);
}

/* All of them, or none. */
static esp_code take_nodes(tree *t, esp_cursor *c, size_t n, esp_error *reterr) {
    node_lot *lot = lot_create(n);
    esp_code code = lot ? ESP_OK : esp_fail(reterr, ESP_NOMEM, "nodes of another tree");
    if (!lot) return code;
    while (code == ESP_OK && lot->n < n) {
        node *taken = take_node(t);
        if (!taken) {
            code = esp_fail(reterr, ESP_NOMEM, "nodes of another tree");
            break;
        }
        lot->nodes[lot->n++] = taken;
        memcpy(taken, esp_cursor_bytes(c, t->node_bytes), t->node_bytes);
        if (!is_node(t, taken)) code = corrupt(reterr);
    }
    if (code == ESP_OK)
        return_lot(t, lot, -INFINITY);
    else
        forget_lot(t, lot);
    return code;
}

static bool same_memory(const tree *t, const header *h) {
    return h->node_bytes == t->node_bytes && h->basis_bytes == t->basis_bytes;
}

esp_code esp_tree_take(esp_tree *t, const void *nodes, size_t len, esp_error *reterr) {
    esp_cursor c = {nodes, len, 0, false};
    header h;
    esp_code code = read_header(t->problem, &c, &h, reterr);
    if (code != ESP_OK) return code;
    if (!same_memory(t, &h)) return corrupt(reterr);
    (void)esp_cursor_bytes(&c, len - c.pos - (size_t)h.n * h.node_bytes);
    return take_nodes(t, &c, h.n, reterr);
}

/* ---- the search of a share --------------------------------------------------------------------------------------- */

static esp_code read_ranges(esp_cursor *c, const header *h, esp_ranges **ret, esp_error *reterr) {
    esp_ranges *ranges = NULL;
    esp_code code = esp_ranges_create((int)h->n_p, (int)h->n_y, &ranges, reterr);
    if (code != ESP_OK) return code;
    esp_cursor_doubles(c, ranges->p_lower, h->n_p);
    esp_cursor_doubles(c, ranges->p_upper, h->n_p);
    esp_cursor_doubles(c, ranges->y_lower, h->n_y);
    esp_cursor_doubles(c, ranges->y_upper, h->n_y);
    if (are_ranges(ranges->p_lower, ranges->p_upper, (int)h->n_p) && are_ranges(ranges->y_lower, ranges->y_upper, (int)h->n_y)) {
        *ret = ranges;
        return ESP_OK;
    }
    esp_ranges_free(ranges);
    return corrupt(reterr);
}

static esp_code read_cut(const esp_problem *problem, esp_cursor *c, int *at, double *weight, esp_error *reterr) {
    uint32_t n = esp_cursor_u32(c), n_y = (uint32_t)(problem->horizon * problem->ny);
    double most;
    if (c->failed || n < 1 || n > n_y) return corrupt(reterr);
    for (uint32_t i = 0; i < n; i++) {
        uint32_t k = esp_cursor_u32(c);
        if (k >= n_y || (i > 0 && (int)k <= at[i - 1])) return corrupt(reterr);
        at[i] = (int)k;
    }
    esp_cursor_doubles(c, weight, n);
    esp_cursor_doubles(c, &most, 1);
    for (uint32_t i = 0; i < n; i++)
        if (!isfinite(weight[i])) return corrupt(reterr);
    return c->failed || !isfinite(most) ? corrupt(reterr) : esp_problem_cut(problem, (int)n, at, weight, most, reterr);
}

/* The problem's are from now on those that the other tree had: its nodes' bases count their rows. */
static esp_code read_cuts(const esp_problem *problem, esp_cursor *c, const header *h, esp_error *reterr) {
    int *at = malloc((h->n_y + 1) * sizeof *at);
    double *weight = malloc((h->n_y + 1) * sizeof *weight);
    esp_code code = at && weight ? ESP_OK : esp_fail(reterr, ESP_NOMEM, "cuts");
    problem->cuts->n = 0;
    for (uint32_t k = 0; code == ESP_OK && k < h->n_cuts; k++) code = read_cut(problem, c, at, weight, reterr);
    free(at);
    free(weight);
    return code;
}

/* The plan that the other tree had. */
static esp_code read_plan(esp_track *track, esp_cursor *c, const header *h, esp_error *reterr) {
    if (!h->found) return ESP_OK;
    double *inputs = malloc(h->n_u * sizeof *inputs);
    if (!inputs) return esp_fail(reterr, ESP_NOMEM, "a plan");
    esp_cursor_doubles(c, inputs, h->n_u);
    (void)esp_track_offer(track, inputs, "tree");
    free(inputs);
    return ESP_OK;
}

esp_code esp_share_search(esp_track *track, const void *nodes, size_t len, esp_share_result *ret_result, esp_error *reterr) {
    const esp_tree_options options = ESP_TREE_OPTIONS_INIT;
    esp_cursor c = {nodes, len, 0, false};
    esp_ranges *ranges = NULL;
    header h;
    tree t = {0};
    esp_code code = read_header(track->problem, &c, &h, reterr);
    if (code == ESP_OK) code = read_plan(track, &c, &h, reterr);
    if (code == ESP_OK) code = read_ranges(&c, &h, &ranges, reterr);
    if (code == ESP_OK) code = read_cuts(track->problem, &c, &h, reterr);
    if (code == ESP_OK) code = esp_tree_open(track, ranges, h.cutoff, &options, &t, reterr);
    if (code == ESP_OK && !same_memory(&t, &h)) code = corrupt(reterr);
    if (code == ESP_OK) code = take_nodes(&t, &c, h.n, reterr);
    if (code == ESP_OK) {
        bool exhausted = esp_tree_loop(&t);
        *ret_result = (esp_share_result){exhausted, fmin(t.kept, cutoff_of(&t)), track->nodes};
    }
    esp_tree_close(&t);
    esp_ranges_free(ranges);
    return code;
}
