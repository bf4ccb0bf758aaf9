/* SPDX-License-Identifier: Apache-2.0
 * The arena: a list of blocks, the newest first. Under AddressSanitizer every piece is a block of its own, so that an
 * access past one piece into the next is seen. */
#include "base/arena.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define ALIGNMENT 64
#ifdef __SANITIZE_ADDRESS__
#define FIRST_BLOCK 0
#else
#define FIRST_BLOCK 4096
#endif

typedef struct block {
    struct block *next;
    size_t size, used; /* bytes behind the header, and those given out */
} block;
#define HEADER ((sizeof(block) + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT)

struct esp_arena {
    block *blocks;
    size_t cap, total;
};

esp_arena *esp_arena_create(size_t cap_bytes) {
    esp_arena *arena = calloc(1, sizeof *arena);
    if (arena) arena->cap = cap_bytes ? cap_bytes : SIZE_MAX / 2;
    return arena;
}

void esp_arena_free(esp_arena *arena) {
    if (!arena) return;
    for (block *b = arena->blocks, *next; b; b = next) {
        next = b->next;
        free(b);
    }
    free(arena);
}

/* Blocks double, so that many small pieces cost few mallocs; a large piece gets one of its own size. */
static block *add_block(esp_arena *arena, size_t bytes) {
    size_t size = FIRST_BLOCK;
    if (FIRST_BLOCK && arena->blocks && arena->blocks->size < ((size_t)1 << 20)) size = arena->blocks->size * 2;
    if (size < bytes) size = bytes;
    block *b = aligned_alloc(ALIGNMENT, HEADER + (size + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT);
    if (!b) return NULL;
    *b = (block){arena->blocks, size, 0};
    arena->blocks = b;
    return b;
}

void *esp_arena_take(esp_arena *arena, size_t bytes) {
    if (bytes > arena->cap - arena->total) return NULL;
    size_t rounded = FIRST_BLOCK ? (bytes + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT : bytes;
    block *b = arena->blocks;
    if (!b || !FIRST_BLOCK || b->size < rounded || b->used > b->size - rounded) b = add_block(arena, rounded);
    if (!b) return NULL;
    void *piece = (char *)b + HEADER + b->used;
    b->used += rounded;
    arena->total += bytes;
    memset(piece, 0, bytes);
    return piece;
}

void *esp_arena_array(esp_arena *arena, size_t n, size_t size) {
    if (size && n > SIZE_MAX / 4 / size) return NULL;
    return esp_arena_take(arena, n * size);
}

char *esp_arena_text(esp_arena *arena, const char *text) {
    size_t len = strlen(text) + 1;
    char *copy = esp_arena_take(arena, len);
    if (copy) memcpy(copy, text, len);
    return copy;
}

size_t esp_arena_used(const esp_arena *arena) {
    return arena->total;
}
