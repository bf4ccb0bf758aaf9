/* SPDX-License-Identifier: Apache-2.0
 * Nodes out of a tree, into another, and kept account of. The search itself is tree.c's. */
#include "plan/share.h"

#include <math.h>

#include "plan/tree_parts.h"

enum { LEAST_OPEN = 16, MOST_GIVEN = 128, MOST_BYTES = 1 << 19, HEADER_BYTES = 40 };
static const char magic[4] = {'E', 'S', 'N', '1'};

/* ---- out --------------------------------------------------------------------------------------------------------- */

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
    esp_buf_put_u32(out, t->track->found);
    esp_buf_put_doubles(out, &t->cutoff, 1);
    if (t->track->found) esp_buf_put_doubles(out, t->track->best.inputs, (size_t)t->n_u);
    esp_buf_put_doubles(out, root->p_lower, n_p);
    esp_buf_put_doubles(out, root->p_upper, n_p);
    esp_buf_put_doubles(out, root->y_lower, n_y);
    esp_buf_put_doubles(out, root->y_upper, n_y);
}

static lent_nodes *share_create(uint64_t number, size_t room) {
    lent_nodes *s = malloc(sizeof *s + room * sizeof(node *));
    if (s) *s = (lent_nodes){.number = number, .bound = INFINITY};
    return s;
}

/* Every second of the best open nodes, from the second on. They were on the heap, so going back needs no memory. */
static void choose_nodes(tree *t, lent_nodes *s, size_t room) {
    node *stay[MOST_GIVEN];
    size_t n_stay = 0;
    while (t->n_heap > 0 && s->n < room && t->heap[0]->bound < cutoff_of(t)) {
        node *n = pop(t);
        if (n_stay <= s->n) {
            stay[n_stay++] = n;
            continue;
        }
        s->bound = fmin(s->bound, n->bound);
        s->nodes[s->n++] = n;
    }
    while (n_stay > 0) (void)push(t, stay[--n_stay]);
}

static void give_back(tree *t, lent_nodes *s) {
    for (size_t k = 0; k < s->n; k++) {
        node *n = s->nodes[k];
        n->bound = fmax(n->bound, s->bound);
        if (push(t, n)) continue;
        t->kept = fmin(t->kept, n->bound);
        t->out_of_memory = true;
        give_node(t, n);
    }
    free(s);
}

static void forget(tree *t, lent_nodes *s) {
    for (size_t k = 0; k < s->n; k++) give_node(t, s->nodes[k]);
    free(s);
}

bool esp_tree_give(esp_tree *t, uint64_t number, esp_buf *ret_nodes) {
    size_t room = MOST_BYTES / t->node_bytes;
    if (room > MOST_GIVEN) room = MOST_GIVEN;
    if (t->n_heap < LEAST_OPEN || room < 1) return false;
    lent_nodes *s = share_create(number, room);
    if (!s) return false;
    choose_nodes(t, s, room);
    size_t before = ret_nodes->len;
    bool enough = 2 * s->n >= LEAST_OPEN || s->n == room;
    if (enough) put_header(t, s->n, ret_nodes);
    for (size_t k = 0; enough && k < s->n; k++) esp_buf_put(ret_nodes, s->nodes[k], t->node_bytes);
    if (!enough || ret_nodes->failed) {
        s->bound = -INFINITY;
        give_back(t, s);
        ret_nodes->len = before;
        return false;
    }
    if (number == 0) {
        forget(t, s);
        return true;
    }
    s->next = t->shares;
    t->shares = s;
    return true;
}

/* ---- account ----------------------------------------------------------------------------------------------------- */

static lent_nodes **find(tree *t, uint64_t number) {
    lent_nodes **at = &t->shares;
    while (*at && (*at)->number != number) at = &(*at)->next;
    return at;
}

/* Out of the list; NULL when it is not there. */
static lent_nodes *unlist(tree *t, uint64_t number) {
    lent_nodes **at = find(t, number), *s = *at;
    if (s) *at = s->next;
    return s;
}

void esp_tree_share_bound(esp_tree *t, uint64_t number, double bound) {
    lent_nodes *s = *find(t, number);
    if (s && bound > s->bound) s->bound = bound;
}

void esp_tree_share_done(esp_tree *t, uint64_t number, double bound, int64_t nodes) {
    lent_nodes *s = unlist(t, number);
    if (!s) return;
    if (bound < cutoff_of(t)) t->kept = fmin(t->kept, bound);
    t->track->nodes += nodes;
    forget(t, s);
}

void esp_tree_share_lost(esp_tree *t, uint64_t number) {
    lent_nodes *s = unlist(t, number);
    if (s) give_back(t, s);
}

double esp_tree_shares_bound(const tree *t) {
    double least = INFINITY;
    for (const lent_nodes *s = t->shares; s; s = s->next) least = fmin(least, s->bound);
    return least;
}

uint64_t esp_tree_share_least(const esp_tree *t) {
    double least = cutoff_of(t);
    uint64_t number = 0;
    for (const lent_nodes *s = t->shares; s; s = s->next) {
        if (s->bound >= least) continue;
        least = s->bound;
        number = s->number;
    }
    return number;
}

void esp_tree_shares_free(tree *t) {
    for (lent_nodes *s = t->shares, *next = NULL; s; s = next) {
        next = s->next;
        free(s);
    }
    t->shares = NULL;
}

bool esp_tree_offer(esp_tree *t, const double *inputs) {
    return esp_track_offer(t->track, inputs, "tree");
}

/* ---- in ---------------------------------------------------------------------------------------------------------- */

typedef struct header {
    uint32_t n_p, n_u, n_y, node_bytes, basis_bytes, n, found;
    double cutoff;
} header;

static esp_code corrupt(esp_error *reterr) {
    return esp_fail(reterr, ESP_CORRUPT, "nodes of another tree do not fit the problem");
}

/* For `problem`; the cursor is left at the plan. */
static esp_code read_header(const esp_problem *problem, esp_cursor *c, header *ret, esp_error *reterr) {
    const void *found = esp_cursor_bytes(c, sizeof magic);
    header h = {0};
    uint32_t *const fields[] = {&h.n_p, &h.n_u, &h.n_y, &h.node_bytes, &h.basis_bytes, &h.n, &h.found};
    for (size_t k = 0; k < sizeof fields / sizeof *fields; k++) *fields[k] = esp_cursor_u32(c);
    esp_cursor_doubles(c, &h.cutoff, 1);
    if (c->failed || memcmp(found, magic, sizeof magic) != 0 || isnan(h.cutoff)) return corrupt(reterr);
    bool fits = h.n_p == (uint32_t)(problem->horizon * problem->step->n_r) && h.n_u == (uint32_t)(problem->horizon * problem->nu) &&
                h.n_y == (uint32_t)(problem->horizon * problem->ny) && h.found <= 1;
    size_t after = sizeof(double) * ((size_t)h.found * h.n_u + 2 * (size_t)h.n_p + 2 * (size_t)h.n_y) + (size_t)h.n * h.node_bytes;
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
    bool placed =
        n->branch >= 0 && n->branch < t->n_p && n->depth >= 0 && n->squeezed <= n->depth && n->costly >= 0 && n->costly < t->problem->horizon;
    return placed && !isnan(n->bound) && are_ranges(region.p_lower, region.p_upper, t->n_p) && are_ranges(region.u_lower, region.u_upper, t->n_u) &&
           are_ranges(facets, facets + t->n_p, t->n_p);
}

/* Taken, those that came before a bad one go back. */
static esp_code take_nodes(tree *t, esp_cursor *c, size_t n, esp_error *reterr) {
    lent_nodes *s = share_create(0, n);
    esp_code code = s ? ESP_OK : esp_fail(reterr, ESP_NOMEM, "nodes of another tree");
    while (code == ESP_OK && s->n < n) {
        node *taken = take_node(t);
        if (!taken) {
            code = esp_fail(reterr, ESP_NOMEM, "nodes of another tree");
            break;
        }
        s->nodes[s->n++] = taken;
        memcpy(taken, esp_cursor_bytes(c, t->node_bytes), t->node_bytes);
        if (!is_node(t, taken)) code = corrupt(reterr);
    }
    if (!s) return code;
    s->bound = -INFINITY;
    if (code == ESP_OK)
        give_back(t, s);
    else
        forget(t, s);
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
