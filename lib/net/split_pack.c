/* SPDX-License-Identifier: Apache-2.0
 * Weights of split products, as the units want them. */
#include <string.h>

#include "net/split_parts.h"

size_t esp_split_size(int n_rows, int n_sources) {
    size_t tiles = 0;
    for (int first = 0; first < n_sources; first += GROUP) tiles += (size_t)tiles_of(group_at(n_sources, first));
    return tiles * (size_t)(n_rows / TILE) * WORDS;
}

/* The nearest bfloat16, as the upper half of a float. */
static uint32_t upper_of(float x) {
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    return (bits + 0x7fff + (bits >> 16 & 1)) & HIGH;
}

static void split_weight(float w, uint32_t *ret_upper, uint32_t *ret_rest) {
    float upper;
    *ret_upper = upper_of(w);
    memcpy(&upper, ret_upper, sizeof upper);
    *ret_rest = upper_of(w - upper);
}

/* One half of a word: the even source of a pair is the lower. */
static void put(uint32_t *tile, int row, int pair, int odd, uint32_t piece) {
    tile[row * TILE + pair] |= odd ? piece : piece >> 16;
}

/* The tiles of 16 rows for one group. weights: of its first source and row, n_rows from source to source. */
static void pack_group(const float *weights, int n_rows, int group, uint32_t *tile) {
    int pairs = FEW / 2;
    for (int j = 0; j < group; j++)
        for (int i = 0; i < TILE; i++) {
            uint32_t upper, rest;
            split_weight(weights[j * n_rows + i], &upper, &rest);
            put(tile, i, j / 2, j % 2, upper);
            if (group > FEW) {
                put(tile + WORDS, i, j / 2, j % 2, rest);
            } else {
                put(tile, i, pairs + j / 2, j % 2, rest);
                put(tile, i, 2 * pairs + j / 2, j % 2, upper);
            }
        }
}

void esp_split_pack(const float *weights, int n_rows, int n_sources, uint32_t *ret_packed) {
    memset(ret_packed, 0, esp_split_size(n_rows, n_sources) * sizeof *ret_packed);
    for (int first = 0; first < n_sources; first += GROUP) {
        int group = group_at(n_sources, first);
        for (int row = 0; row < n_rows; row += TILE, ret_packed += tiles_of(group) * WORDS)
            pack_group(weights + (size_t)first * (size_t)n_rows + row, n_rows, group, ret_packed);
    }
}
