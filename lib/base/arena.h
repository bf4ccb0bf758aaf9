/* SPDX-License-Identifier: Apache-2.0
 * An arena: memory taken piece by piece and given back all at once, with a hard cap.
 *
 * For things that live and die together (a model and its matrices, a parsed task, a solver's workspace). Pieces are
 * zeroed and aligned to 64 bytes. One arena, one thread. */
#ifndef ESP_BASE_ARENA_H
#define ESP_BASE_ARENA_H

#include <stddef.h>

typedef struct esp_arena esp_arena;

esp_arena *esp_arena_create(size_t cap_bytes); /* NULL when memory is out; cap 0 = no cap */
void esp_arena_free(esp_arena *arena); /* and every piece; NULL is fine */
void *esp_arena_take(esp_arena *arena, size_t bytes); /* NULL when memory is out or the cap is passed */
void *esp_arena_array(esp_arena *arena, size_t n, size_t size); /* n * size, overflow checked */
char *esp_arena_text(esp_arena *arena, const char *text); /* a copy */
size_t esp_arena_used(const esp_arena *arena);
#define ESP_NEW(arena, type, n) ((type *)esp_arena_array((arena), (size_t)(n), sizeof(type)))

#endif
