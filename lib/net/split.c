/* SPDX-License-Identifier: Apache-2.0
 * Products of split bfloat16 on tile units. */
#include "net/split.h"

#include <math.h>
#include <string.h>

#include "net/batch.h"
#include "net/split_parts.h"

/* ---- the units ------------------------------------------------------------------------------------------------------- */

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

#define HALF (2 * WORDS) /* from the pieces, or sums, of 16 points to those of the other 16 */

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

/* No pass is left. */
static void forget(esp_split_work *w) {
    w->n_rows = 0;
    w->relu = w->pieces = false;
    w->constant = NULL;
    w->to = NULL;
}

/* Setting the shape takes as long as 20 products, seeing that it is set hardly any time. */
TARGET void esp_split_ready(esp_split_work *w) {
    static const shape full = {.palette = 1, .row_bytes = {64, 64, 64, 64, 64, 64, 64, 64}, .rows = {TILE, TILE, TILE, TILE, TILE, TILE, TILE, TILE}};
    shape now;
    _tile_storeconfig(&now);
    settle();
    if (memcmp(&now, &full, sizeof now) != 0) _tile_loadconfig(&full);
    forget(w);
}

TARGET void esp_split_rest(void) {
    _tile_release();
}

/* ---- values into pieces ----------------------------------------------------------------------------------------------- */

/* A pair of sources at 16 points: its word of upper pieces; *ret_rest: that of rests. */
TARGET INLINE words split_pair(vector even, vector odd, words *ret_rest) {
    words less = (words)(even - (vector)((words)even & HIGH)), more = (words)(odd - (vector)((words)odd & HIGH));
    *ret_rest = ((less + 0x8000u) >> 16) | ((more + 0x8000u) & HIGH);
    return ((words)even >> 16) | ((words)odd & HIGH);
}

/* A pair of rows into its place in a group. */
TARGET INLINE void cut_pair(const float *even, const float *odd, const bool few, uint32_t *to) {
    for (int half = 0; half < 2; half++, even += TILE, odd += TILE, to += HALF) {
        words rest, upper = split_pair(*(const vector *)even, *(const vector *)odd, &rest);
        *(words *)to = upper;
        if (few) *(words *)(to + FEW / 2 * TILE) = upper;
        *(words *)(to + (few ? FEW * TILE : WORDS)) = rest;
    }
}

/* Rows of a group, and zeros in place of those that it lacks: their weights are zero too, but it must be numbers. */
TARGET INLINE void cut_group(const float *from, int n, const bool few, uint32_t *to) {
    static const _Alignas(64) float none[ESP_LANES];
    int pair = 0;
    for (; 2 * pair + 1 < n; pair++, from += 2 * ESP_LANES) cut_pair(from, from + ESP_LANES, few, to + pair * TILE);
    if (n % 2) cut_pair(from, none, few, to + pair++ * TILE);
    for (; pair < (few ? FEW / 2 : TILE); pair++) cut_pair(none, none, few, to + pair * TILE);
    if (few) *(words *)(to + WORDS - TILE) = *(words *)(to + HALF + WORDS - TILE) = (words){0};
}

/* Rows of a block. */
TARGET static void cut(const float *from, int n_sources, uint32_t *to) {
    for (int first = 0; first < n_sources; first += GROUP, from += GROUP * ESP_LANES, to += ESP_SPLIT_WORDS) {
        int n = group_at(n_sources, first);
        if (n > FEW)
            cut_group(from, n, false, to);
        else
            cut_group(from, n, true, to);
    }
}

/* ---- the end of a pass ------------------------------------------------------------------------------------------------ */

/* A row at 16 points: its sum and what it begins with, no less than the least. A NaN stays. */
TARGET INLINE vector value_of(const float *sum, __m512 start, __m512 least) {
    return (vector)_mm512_max_ps(least, _mm512_add_ps(*(const __m512 *)sum, start));
}

/* Half a pair of rows of the last pass, that is, at 16 of its points, as pieces: one of 32 halves. */
TARGET INLINE void finish_pieces(const float *sums, const float *constant, const int half, uint32_t *to) {
    const int row = half / 2 * 2, at = half % 2 * HALF;
    const float *sum = sums + at + row * TILE;
    const __m512 zero = _mm512_setzero_ps();
    words rest,
        upper = split_pair(value_of(sum, _mm512_set1_ps(constant[row]), zero), value_of(sum + TILE, _mm512_set1_ps(constant[row + 1]), zero), &rest);
    to += at + row / 2 * TILE;
    *(words *)to = upper;
    *(words *)(to + WORDS) = rest;
}

/* The same as rows, on top of a constant or of what stands there. */
TARGET INLINE void finish_rows(const float *sums, const float *constant, const int half, __m512 least, float *to) {
    const int row = half / 2 * 2, at = half % 2 * HALF;
    const float *sum = sums + at + row * TILE;
    vector *even = (vector *)(to + row * ESP_LANES + half % 2 * TILE), *odd = even + ESP_LANES / TILE;
    *even = value_of(sum, constant ? _mm512_set1_ps(constant[row]) : (__m512)*even, least);
    *odd = value_of(sum + TILE, constant ? _mm512_set1_ps(constant[row + 1]) : (__m512)*odd, least);
}

/* ---- products --------------------------------------------------------------------------------------------------------- */

/* Sums are tiles 0 to 3: of the first 16 rows at 16 points and at the other 16, then of the next 16 rows. Weights are 4 and 5, for
 * 16 rows each, pieces 6 and 7, for 16 points each. A pass leaves its sums there; the next stores each where its own begins, and finishes
 * them, one or two halves after each of its further loads and products. Which of them is known beforehand: with loops or calls in
 * between, vectors were seen to wait for the units. */

/* A pass: `rows` times 16 rows; the last is finished as pieces, or not. Both are constants where this is inlined. */
typedef struct pass {
    int rows;
    bool pieces;
    int further; /* words from the weights of 16 rows to those of the next 16 */
    /* of the last pass */
    int n_rows;
    const float *sums, *constant;
    void *to;
    __m512 least;
} pass;

/* One of the 32 halves, if there are so many. */
TARGET INLINE void finish_half(const pass *p, const int half) {
    if (half >= 2 * TILE) return;
    if (p->pieces)
        finish_pieces(p->sums, p->constant, half, p->to);
    else if (half < p->n_rows)
        finish_rows(p->sums, p->constant, half, p->least, p->to);
}

/* After an instruction on tiles, each of which has a number. */
TARGET INLINE void finish_some(const pass *p, const int number) {
    settle();
    finish_half(p, p->rows > 1 ? number : 2 * number);
    if (p->rows == 1) finish_half(p, 2 * number + 1);
    settle();
}

#define TAKE(tile, sums) _tile_stored(tile, (sums) + (tile) / 2 * WORDS + (tile) % 2 * HALF, TILE * sizeof(float))
#define LOAD(tile, from) _tile_loadd(tile, from, TILE * sizeof(uint32_t))
#define LOAD_AND(number, tile, from)                                                                                                                 \
    do {                                                                                                                                             \
        LOAD(tile, from);                                                                                                                            \
        finish_some(p, number);                                                                                                                      \
    } while (0)
#define MULTIPLY_AND(number, sum, weights, pieces)                                                                                                   \
    do {                                                                                                                                             \
        _tile_dpbf16ps(sum, weights, pieces);                                                                                                        \
        finish_some(p, number);                                                                                                                      \
    } while (0)

/* The first product of each sum. wide: the last pass has 32 rows. */
TARGET INLINE void begin(const pass *p, const uint32_t *weights, const uint32_t *pieces, bool wide, float *sums) {
    settle();
    TAKE(0, sums);
    _tile_zero(0);
    LOAD(4, weights);
    LOAD(6, pieces);
    _tile_dpbf16ps(0, 4, 6);
    TAKE(1, sums);
    _tile_zero(1);
    LOAD(7, pieces + HALF);
    _tile_dpbf16ps(1, 4, 7);
    if (wide) {
        TAKE(2, sums);
        TAKE(3, sums);
    }
    if (p->rows == 1) return;
    _tile_zero(2);
    LOAD(5, weights + p->further);
    _tile_dpbf16ps(2, 5, 6);
    _tile_zero(3);
    _tile_dpbf16ps(3, 5, 7);
}

/* The same pieces under other weights: 6 instructions, or 3. */
TARGET INLINE void weigh(const pass *p, const int number, const uint32_t *weights) {
    LOAD_AND(number, 4, weights);
    MULTIPLY_AND(number + 1, 0, 4, 6);
    MULTIPLY_AND(number + 2, 1, 4, 7);
    if (p->rows == 1) return;
    LOAD_AND(number + 3, 5, weights + p->further);
    MULTIPLY_AND(number + 4, 2, 5, 6);
    MULTIPLY_AND(number + 5, 3, 5, 7);
}

/* Other pieces under the same weights: 6, or 4. */
TARGET INLINE void go_on(const pass *p, const int number, const uint32_t *pieces) {
    LOAD_AND(number, 6, pieces);
    MULTIPLY_AND(number + 1, 0, 4, 6);
    LOAD_AND(number + 2, 7, pieces + HALF);
    MULTIPLY_AND(number + 3, 1, 4, 7);
    if (p->rows == 1) return;
    MULTIPLY_AND(number + 4, 2, 5, 6);
    MULTIPLY_AND(number + 5, 3, 5, 7);
}

/* Other pieces under other weights: 8, or 5. */
TARGET INLINE void change(const pass *p, const int number, const uint32_t *weights, const uint32_t *pieces) {
    LOAD_AND(number, 4, weights);
    LOAD_AND(number + 1, 6, pieces);
    MULTIPLY_AND(number + 2, 0, 4, 6);
    LOAD_AND(number + 3, 7, pieces + HALF);
    MULTIPLY_AND(number + 4, 1, 4, 7);
    if (p->rows == 1) return;
    LOAD_AND(number + 5, 5, weights + p->further);
    MULTIPLY_AND(number + 6, 2, 5, 6);
    MULTIPLY_AND(number + 7, 3, 5, 7);
}

TARGET INLINE void finish_rest(const pass *p, const int number) {
#pragma GCC unroll 32
    for (int k = number; k < 2 * TILE; k++) finish_some(p, k);
}

/* Groups of two pieces a source after the first, the k-th of them, step words of weights from one to the next. */
TARGET INLINE void add_group(const pass *p, const int number, int k, int step, const uint32_t *weights, const uint32_t *pieces) {
    const int second = number + (p->rows > 1 ? 8 : 5), third = second + (p->rows > 1 ? 6 : 3);
    weights += k * step;
    pieces += k * ESP_SPLIT_WORDS;
    change(p, number, weights + WORDS, pieces);
    weigh(p, second, weights);
    go_on(p, third, pieces + WORDS);
}

/* The last pass, to be finished by one of `rows` times 16 rows. */
TARGET INLINE pass pass_after(const esp_split_work *w, const int rows, const bool pieces) {
    return (pass){.rows = rows,
                  .pieces = pieces,
                  .n_rows = w->n_rows,
                  .sums = w->sums,
                  .constant = w->constant,
                  .to = w->to,
                  .least = _mm512_set1_ps(w->relu ? 0.0f : -INFINITY)};
}

/* Rows from `row` on, over groups and a few sources after them, or over these alone. */
TARGET INLINE void sum_rows(const esp_split *split, int row, const int rows, const bool finish, const uint32_t *pieces, esp_split_work *w) {
    const int left = split->n_sources % GROUP, full = split->n_sources / GROUP + (left > FEW), step = 2 * split->n_rows * TILE;
    const int second = rows > 1 ? 6 : 3, third = second + (rows > 1 ? 6 : 4), none = 2 * TILE;
    const uint32_t *weights = split->packed + 2 * row * TILE, *few = split->packed + full * step + row * TILE;
    pass p = pass_after(w, rows, finish);
    p.further = full > 0 ? 2 * WORDS : WORDS;
    begin(&p, full > 0 ? weights + WORDS : few, pieces, w->n_rows > TILE, w->sums);
    if (full == 0) {
        finish_rest(&p, 0);
        return;
    }
    weigh(&p, 0, weights);
    go_on(&p, second, pieces + WORDS);
    if (full > 1)
        add_group(&p, third, 1, step, weights, pieces);
    else
        finish_rest(&p, third);
    for (int k = 2; k < full; k++) add_group(&p, none, k, step, weights, pieces);
    if (left > 0 && left <= FEW) change(&(pass){.rows = rows, .further = WORDS}, none, few, pieces + full * ESP_SPLIT_WORDS);
}

/* A pass, and the end of the last. */
TARGET static void sum_pass(const esp_split *split, int row, const uint32_t *pieces, esp_split_work *w) {
    bool wide = split->n_rows - row > TILE;
    if (wide && w->pieces)
        sum_rows(split, row, 2, true, pieces, w);
    else if (wide)
        sum_rows(split, row, 2, false, pieces, w);
    else if (w->pieces)
        sum_rows(split, row, 1, true, pieces, w);
    else
        sum_rows(split, row, 1, false, pieces, w);
    settle();
}

/* A pass that ends becomes the last. */
static void leave(const esp_split *split, int row, float *to, esp_split_work *w) {
    w->n_rows = group_at(split->n_rows, row);
    w->relu = split->relu;
    w->constant = split->constant ? split->constant + row : NULL;
    w->pieces = split->to_pieces;
    w->to = to + row * ESP_LANES;
}

TARGET void esp_split_finish(esp_split_work *w) {
    const pass as_pieces = pass_after(w, 2, true), as_rows = pass_after(w, 2, false);
    if (w->n_rows == 0) return;
    settle();
    TAKE(0, w->sums);
    TAKE(1, w->sums);
    if (w->n_rows > TILE) {
        TAKE(2, w->sums);
        TAKE(3, w->sums);
    }
    if (w->pieces)
        finish_rest(&as_pieces, 0);
    else
        finish_rest(&as_rows, 0);
    forget(w);
}

/* Rows are cut for as many blocks as there is room for before the first of them is summed. */
void esp_split_sum(const esp_split *split, int n, const float *const *from, float *const *to, esp_split_work *w) {
    int groups = (split->n_sources + GROUP - 1) / GROUP, room = ESP_SPLIT_DEEP / GROUP / groups;
    if (split->from_pieces && n == 1) esp_split_finish(w);
    for (int k = 0; k < n; k++) {
        const uint32_t *pieces = split->from_pieces ? (const uint32_t *)from[k] : w->cut + k % room * groups * ESP_SPLIT_WORDS;
        for (int i = 0; !split->from_pieces && k % room == 0 && i < room && k + i < n; i++)
            cut(from[k + i], split->n_sources, w->cut + i * groups * ESP_SPLIT_WORDS);
        for (int row = 0; row < split->n_rows; row += GROUP) {
            sum_pass(split, row, pieces, w);
            leave(split, row, to[k], w);
        }
    }
}

#else

bool esp_split_granted(void) {
    return false;
}

void esp_split_ready(esp_split_work *w) {
    (void)w;
}

void esp_split_sum(const esp_split *split, int n, const float *const *from, float *const *to, esp_split_work *w) {
    (void)split, (void)n, (void)from, (void)to, (void)w;
}

void esp_split_finish(esp_split_work *w) {
    (void)w;
}

void esp_split_rest(void) {
}

#endif
