/* SPDX-License-Identifier: Apache-2.0
 * Products of dense rows with lanes of points on the tile units of recent processors (AMX), whose factors are bfloat16: each
 * float is split in two such pieces and three of their four products are summed in float.
 *
 *     w = w1 + w2 + e_w     w1 = w rounded to bfloat16, w2 = w - w1 rounded:    |w2| <= 2^-8 |w|, |e_w| <= 2^-17 |w|
 *     v = v1 + v2 + e_v     v1 = the upper half of v's bits, v2 = v - v1 rounded: |v2| <= 2^-7 |v|, |e_v| <= 2^-16 |v|
 *     w v ~ w1 v1 + w2 v1 + w1 v2      left out: w2 v2, w e_v, e_w v, at most (2^-15 + 2^-16 + 2^-17) |w v| and less than 2^-14 |w v|
 *
 * so a sum of n products is off by less than (2^-14 + n 2^-22) sum |w v|, the second for sums in float in any order, and by what
 * is smaller than 2^-110, which the units take for zero. That is the worst case; over random values it is some 2^-19. A NaN
 * or an infinity among the values gives a NaN.
 *
 * A tile is 16 rows of 64 bytes: weights (16 rows x 16 pairs of sources), values (16 pairs x 16 points, the two of a pair
 * side by side) and sums (16 rows x 16 points). One product of two tiles is 8192 multiplications in 16 cycles, 16 times
 * what vectors of float do; 32 rows over 32 sources at 32 points are 12 products and 8 loads of tiles. Beside a busy neighbour on the
 * same core a product takes 40 cycles and a load 30 where they follow each other, 25 and 20 where vectors work in between. So there are
 * no more of them than that, what the sums begin with and their ReLUs are left to vectors, which split them for the next layer
 * at the same time, and that is done for sums of before, a little after each load and product of other rows.
 * Sources go in groups of 32, three products each; 10 or fewer that are left over take one, their pieces
 * [v1, v1, v2] under weights [w1, w2, w1]. */
#ifndef ESP_NET_SPLIT_H
#define ESP_NET_SPLIT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Rows come in multiples of ESP_SPLIT_ROWS, at most ESP_SPLIT_MOST of them at once; sources that are not in pieces, at most ESP_SPLIT_DEEP. */
#define ESP_SPLIT_ROWS 16
#define ESP_SPLIT_MOST 64
#define ESP_SPLIT_DEEP 128

/* Sources whose pieces stand together, and how many words that takes: as many as their rows of LANES floats. */
#define ESP_SPLIT_GROUP 32
#define ESP_SPLIT_WORDS 1024

/* One product: n_rows rows over n_sources rows of LANES. */
typedef struct esp_split {
    int n_rows, n_sources;
    bool relu; /* what is negative among the sums becomes 0. A NaN stays */
    bool from_pieces, to_pieces; /* instead of rows, in their place: of whole groups; to pieces: of ReLUs, with a constant */
    const uint32_t *packed; /* aligned to 64 bytes, as are all rows */
    const float *constant; /* n_rows; NULL: the sums begin at what stands in the rows */
} esp_split;

/* What products of one thread leave to each other: a pass, that is, the sums of up to 32 rows of a block, stays in tiles and is finished
 * during the next. */
typedef struct esp_split_work {
    _Alignas(64) float sums[ESP_SPLIT_WORDS]; /* of the last pass, once they are stored */
    uint32_t cut[ESP_SPLIT_DEEP / ESP_SPLIT_GROUP * ESP_SPLIT_WORDS]; /* pieces of sources that were rows */
    int n_rows; /* of the last pass; 0: none is left */
    bool relu, pieces; /* and it goes to pieces */
    const float *constant;
    float *to; /* its rows, or pieces */
} esp_split_work;

/* Whether the processor has them and the system lets this process use them; asks the system, so ask once. */
bool esp_split_granted(void);
/* Words of packed weights. */
size_t esp_split_size(int n_rows, int n_sources);
/* weights: n_sources x n_rows. */
void esp_split_pack(const float *weights, int n_rows, int n_sources, uint32_t *ret_packed);
/* Before products, after anything else may have used the units. Nothing is left yet. */
void esp_split_ready(esp_split_work *work);
/* to (n_rows x LANES) = constant (or to) + weights * from, from (n_sources x LANES), for n blocks of LANES points, of which from and to are the
 * pointers. What it gives in pieces is complete for the next product of the same n blocks, all else after esp_split_finish. Only where granted. */
void esp_split_sum(const esp_split *split, int n, const float *const *from, float *const *to, esp_split_work *work);
void esp_split_finish(esp_split_work *work);
/* After the last of many: the units hold nothing of this thread's that would have to be saved for it. */
void esp_split_rest(void);

#endif
