/* SPDX-License-Identifier: Apache-2.0
 * Copies of tableaus, found again by hashes of the basis and of the LP's entries. A wrong hit would cost time and not
 * truth: x is checked against the LP's rows after every solve. */
#include "plan/shelf.h"

#include <stdlib.h>
#include <string.h>

/* A copy of what esp_tableau_make makes. */
typedef struct copy {
    uint64_t entries, basis; /* hashes: of the LP's entries, of what is basic */
    uint64_t used; /* when last */
    int width, ld, pivots;
    bool weighed;
    void *memory; /* t, constant, weight, left_at; row_var, col_var, at; keep */
} copy;

struct esp_shelf {
    size_t room, each; /* copies; bytes of one at most */
    size_t n;
    uint64_t clock;
    copy *copies;
};

void esp_shelf_free(esp_shelf *shelf) {
    if (!shelf) return;
    for (size_t k = 0; k < shelf->n; k++) free(shelf->copies[k].memory);
    free(shelf->copies);
    free(shelf);
}

static size_t copy_bytes(const esp_tableau *t, int ld) {
    size_t m = (size_t)t->m, n = (size_t)t->n, all = n + m;
    return (m * (size_t)ld + 2 * m + n) * sizeof(double) + (m + (size_t)t->base_width + all) * sizeof(int) + all * sizeof(bool);
}

esp_shelf *esp_shelf_create(const esp_tableau *t, size_t bytes) {
    esp_shelf *shelf = calloc(1, sizeof *shelf);
    if (!shelf) return NULL;
    shelf->each = copy_bytes(t, t->base_ld);
    shelf->room = bytes / shelf->each + 2;
    shelf->copies = calloc(shelf->room, sizeof *shelf->copies);
    if (shelf->copies) return shelf;
    free(shelf);
    return NULL;
}

/* Both ways: between the tableau and a copy's memory. */
static void carry(esp_tableau *t, unsigned char *memory, bool out) {
    size_t m = (size_t)t->m, n = (size_t)t->n;
    struct {
        void *at;
        size_t bytes;
    } parts[] = {{t->t, m * (size_t)t->ld * sizeof(double)},
                 {t->constant, m * sizeof(double)},
                 {t->weight, m * sizeof(double)},
                 {t->left_at, n * sizeof(double)},
                 {t->row_var, m * sizeof(int)},
                 {t->col_var, (size_t)t->base_width * sizeof(int)},
                 {t->at, (n + m) * sizeof(int)},
                 {t->keep, (n + m) * sizeof(bool)}};
    for (size_t k = 0; k < sizeof parts / sizeof *parts; k++) {
        memcpy(out ? memory : parts[k].at, out ? parts[k].at : memory, parts[k].bytes);
        memory += parts[k].bytes;
    }
}

static uint64_t hash_basis(const esp_tableau *t) {
    uint64_t hash = 0x9e3779b97f4a7c15u, word = 0;
    for (int v = 0; v < t->n + t->m; v++) {
        word = word << 1 | (t->status[v] == ESP_BASIC);
        if (v % 64 != 63) continue;
        hash = (hash ^ word) * 0xff51afd7ed558ccdu;
        hash ^= hash >> 32;
    }
    return (hash ^ word) * 0xff51afd7ed558ccdu;
}

static copy *find_copy(esp_shelf *shelf, uint64_t entries, uint64_t basis) {
    for (size_t k = 0; k < shelf->n; k++)
        if (shelf->copies[k].basis == basis && shelf->copies[k].entries == entries) return &shelf->copies[k];
    return NULL;
}

/* A free place, or the one unused for longest. */
static copy *place_for_copy(esp_shelf *shelf) {
    if (shelf->n < shelf->room) return &shelf->copies[shelf->n++];
    copy *oldest = shelf->copies;
    for (size_t k = 1; k < shelf->n; k++)
        if (shelf->copies[k].used < oldest->used) oldest = &shelf->copies[k];
    return oldest;
}

void esp_shelf_put(esp_tableau *t) {
    esp_shelf *shelf = t->shelf;
    if (!shelf) return;
    uint64_t basis = hash_basis(t);
    copy *to = find_copy(shelf, t->entries, basis);
    if (!to) to = place_for_copy(shelf);
    if (!to->memory) to->memory = malloc(shelf->each);
    if (!to->memory) return;
    *to = (copy){t->entries, basis, ++shelf->clock, t->width, t->ld, t->pivots, t->weighed, to->memory};
    carry(t, to->memory, true);
}

bool esp_shelf_take(esp_tableau *t) {
    if (!t->shelf) return false;
    copy *from = find_copy(t->shelf, t->entries, hash_basis(t));
    if (!from || !from->memory) return false;
    from->used = ++t->shelf->clock;
    t->width = from->width;
    t->ld = from->ld;
    t->pivots = from->pivots;
    t->weighed = from->weighed;
    carry(t, from->memory, false);
    return !esp_tableau_outdated(t);
}
