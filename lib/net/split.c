/* SPDX-License-Identifier: Apache-2.0
 * Split bfloat16 on tile units. */
#include "net/split.h"

#include <math.h>
#include <string.h>

#include "net/batch.h"

#define TILE  16 /* rows of a tile, pairs of sources or points in one of its rows */
#define WORDS (TILE * TILE) /* of a tile */
#define GROUP (2 * TILE) /* sources */
#define FEW   (2 * (TILE / 3)) /* sources whose pieces fit in one tile */
#define HIGH  0xffff0000u

/* ---- weights --------------------------------------------------------------------------------------------------------- */

/* Sources of the group that begins at `first`. */
static int group_at(int n_sources, int first) {
    return n_sources - first < GROUP ? n_sources - first : GROUP;
}

/* Tiles of weights that a group has for 16 rows. */
static int tiles_of(int group) {
    return group <= FEW ? 1 : 2;
}

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

/* ---- products -------------------------------------------------------------------------------------------------------- */

#if defined(__x86_64__) && defined(__linux__) && defined(__has_include)
#if __has_include(<amxbf16intrin.h>)
#define UNITS
#endif
#endif

#ifdef UNITS
#include <immintrin.h>
#include <sys/syscall.h>
#include <unistd.h>

#define TARGET __attribute__((target("avx512f,avx512bw,avx512vl,avx512dq,fma,amx-tile,amx-bf16")))
#define INLINE static inline __attribute__((always_inline))
#define PERMIT 0x1023 /* ARCH_REQ_XCOMP_PERM of asm/prctl.h */
#define DATA   18 /* XFEATURE_XTILE_DATA */

typedef float vector __attribute__((vector_size(64), may_alias));
typedef uint32_t words __attribute__((vector_size(64), may_alias));

/* The layout of LDTILECFG. */
typedef struct shape {
    uint8_t palette, start, reserved[14];
    uint16_t row_bytes[16];
    uint8_t rows[16];
} shape;

bool esp_split_granted(void) {
    if (!__builtin_cpu_supports("avx512f") || !__builtin_cpu_supports("avx512bw") || !__builtin_cpu_supports("avx512vl") ||
        !__builtin_cpu_supports("avx512dq") || !__builtin_cpu_supports("amx-tile") || !__builtin_cpu_supports("amx-bf16"))
        return false;
    return syscall(SYS_arch_prctl, PERMIT, DATA) == 0;
}

/* GCC does not see that the instructions on tiles read and write memory. */
INLINE void settle(void) {
    __asm__ volatile("" ::: "memory");
}

/* Setting the shape takes as long as 20 products, seeing that it is set hardly any time. */
TARGET void esp_split_ready(void) {
    static const shape full = {.palette = 1, .row_bytes = {64, 64, 64, 64, 64, 64, 64, 64}, .rows = {TILE, TILE, TILE, TILE, TILE, TILE, TILE, TILE}};
    shape now;
    _tile_storeconfig(&now);
    settle();
    if (memcmp(&now, &full, sizeof now) != 0) _tile_loadconfig(&full);
}

TARGET void esp_split_rest(void) {
    _tile_release();
}

/* What is below is raised to it: zero for a ReLU, or minus infinity. A NaN stays. */
TARGET INLINE vector at_least(__m512 least, const float *from) {
    return (vector)_mm512_max_ps(least, *(const __m512 *)from);
}

/* A pair of sources at 16 points. */
TARGET INLINE void split_pair(vector even, vector odd, uint32_t *upper, uint32_t *rest) {
    words less = (words)(even - (vector)((words)even & HIGH)), more = (words)(odd - (vector)((words)odd & HIGH));
    *(words *)upper = ((words)even >> 16) | ((words)odd & HIGH);
    *(words *)rest = ((less + 0x8000u) >> 16) | ((more + 0x8000u) & HIGH);
}

/* Pairs of sources of 16 points; from: the first, upper and rest: their place in the two tiles. */
TARGET INLINE void split_pairs(const float *from, __m512 least, int pairs, uint32_t *upper, uint32_t *rest) {
    for (int k = 0; k < pairs; k++, from += 2 * ESP_LANES)
        split_pair(at_least(least, from), at_least(least, from + ESP_LANES), upper + k * TILE, rest + k * TILE);
}

/* n words of zero: under weights that are zero too, but what lies there may be no number. */
TARGET INLINE void clear(uint32_t *to, int n) {
    for (int i = 0; i < n; i += TILE) *(words *)(to + i) = (words){0};
}

/* A group in tiles of upper pieces and of rests; a few all in the first. */
TARGET static void split_part(const float *from, __m512 least, int group, uint32_t *tiles) {
    uint32_t *rest = tiles + (group > FEW ? WORDS : FEW * TILE);
    int pairs = group / 2;
    clear(tiles, (group > FEW ? 2 : 1) * WORDS);
    split_pairs(from, least, pairs, tiles, rest);
    if (group % 2) split_pair(at_least(least, from + 2 * pairs * ESP_LANES), (vector){0}, tiles + pairs * TILE, rest + pairs * TILE);
    for (int i = 0; i < FEW / 2 * TILE && group <= FEW; i += TILE) *(words *)(tiles + FEW / 2 * TILE + i) = *(const words *)(tiles + i);
}

TARGET INLINE void split_group(const float *from, __m512 least, int group, uint32_t *tiles) {
    if (group == GROUP)
        split_pairs(from, least, TILE, tiles, tiles + WORDS);
    else
        split_part(from, least, group, tiles);
}

/* Sums of rows are tiles 0 to 3, weights 4 and 5, values 6 (upper pieces, or all of a few) and 7. */
#define EACH(with)                                                                                                                                   \
    do {                                                                                                                                             \
        with(0);                                                                                                                                     \
        if (n_tiles > 1) with(1);                                                                                                                    \
        if (n_tiles > 2) with(2);                                                                                                                    \
        if (n_tiles > 3) with(3);                                                                                                                    \
    } while (0)
#define START(i) _tile_loadd(i, start + (i)*TILE * stride, stride * sizeof *start)
#define STORE(i) _tile_stored(i, to + (i)*TILE * ESP_LANES, ESP_LANES * sizeof *to)
#define ADD_FEW(i)                                                                                                                                   \
    do {                                                                                                                                             \
        _tile_loadd(4, packed + (i)*WORDS, 64);                                                                                                      \
        _tile_dpbf16ps(i, 4, 6);                                                                                                                     \
    } while (0)
#define ADD(i)                                                                                                                                       \
    do {                                                                                                                                             \
        _tile_loadd(4, packed + 2 * (i)*WORDS, 64);                                                                                                  \
        _tile_loadd(5, packed + (2 * (i) + 1) * WORDS, 64);                                                                                          \
        _tile_dpbf16ps(i, 4, 6);                                                                                                                     \
        _tile_dpbf16ps(i, 5, 6);                                                                                                                     \
        _tile_dpbf16ps(i, 4, 7);                                                                                                                     \
    } while (0)
/* The same, and meanwhile a share of the next group is split. */
#define ADD_SPLIT(i)                                                                                                                                 \
    do {                                                                                                                                             \
        const int share = TILE / n_tiles + (TILE % n_tiles > (i));                                                                                   \
        const int at = TILE / n_tiles * (i) + (TILE % n_tiles > (i) ? (i) : TILE % n_tiles);                                                         \
        split_pairs(next + 2 * at * ESP_LANES, least, share, split + at * TILE, split + WORDS + at * TILE);                                          \
        ADD(i);                                                                                                                                      \
    } while (0)

TARGET INLINE void add_group(const uint32_t *packed, const int n_tiles, int group, const uint32_t *tiles) {
    settle();
    _tile_loadd(6, tiles, 64);
    if (group <= FEW) {
        EACH(ADD_FEW);
        return;
    }
    _tile_loadd(7, tiles + WORDS, 64);
    EACH(ADD);
}

/* Adds a group of more than a few; the next is full. */
TARGET INLINE void add_and_split(const uint32_t *packed, const int n_tiles, const uint32_t *tiles, const float *next, __m512 least, uint32_t *split) {
    settle();
    _tile_loadd(6, tiles, 64);
    _tile_loadd(7, tiles + WORDS, 64);
    EACH(ADD_SPLIT);
}

TARGET INLINE void relu(float *to, int n_rows) {
    for (int i = 0; i < n_rows; i++, to += ESP_LANES) *(__m512 *)to = _mm512_max_ps(_mm512_setzero_ps(), *(const __m512 *)to);
}

/* Group after group for 16 points, then for the other 16. */
TARGET INLINE void sum(const esp_split *split, const int n_tiles, const float *from, float *to) {
    _Alignas(64) uint32_t tiles[2][2 * WORDS];
    const __m512 least = _mm512_set1_ps(split->clip ? 0.0f : -INFINITY);
    int n_sources = split->n_sources, k = 0;
    split_group(from, least, group_at(n_sources, 0), tiles[0]);
    for (int half = 0; half < ESP_LANES; half += TILE, to += TILE) {
        const uint32_t *packed = split->packed;
        const float *start = split->constant ? split->constant : to;
        size_t stride = split->constant ? TILE : ESP_LANES;
        settle();
        EACH(START);
        for (int first = 0; first < n_sources; first += GROUP, k = !k) {
            bool last = first + GROUP >= n_sources;
            int group = group_at(n_sources, first), then = last ? 0 : first + GROUP, n_next = last && half > 0 ? 0 : group_at(n_sources, then);
            const float *next = from + then * ESP_LANES + (last ? TILE : half);
            if (group > FEW && n_next == GROUP) {
                add_and_split(packed, n_tiles, tiles[k], next, least, tiles[!k]);
            } else {
                add_group(packed, n_tiles, group, tiles[k]);
                if (n_next > 0) split_group(next, least, n_next, tiles[!k]);
            }
            packed += tiles_of(group) * n_tiles * WORDS;
        }
        EACH(STORE);
        settle();
        if (split->relu) relu(to, n_tiles * TILE);
    }
}

TARGET void esp_split_sum(const esp_split *split, const float *from, float *to) {
    switch (split->n_rows / TILE) {
    case 1: sum(split, 1, from, to); break;
    case 2: sum(split, 2, from, to); break;
    case 3: sum(split, 3, from, to); break;
    default: sum(split, 4, from, to); break;
    }
}

#else

bool esp_split_granted(void) {
    return false;
}

void esp_split_ready(void) {
}

void esp_split_sum(const esp_split *split, const float *from, float *to) {
    (void)split, (void)from, (void)to;
}

void esp_split_rest(void) {
}

#endif
