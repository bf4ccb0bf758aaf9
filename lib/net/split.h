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
 * what vectors of float do. Splitting values takes vectors meanwhile: the units work while the next ones are split.
 * Sources go in groups of 32, three products each; 10 or fewer that are left over take one, their pieces
 * [v1, v1, v2] under weights [w1, w2, w1]. */
#ifndef ESP_NET_SPLIT_H
#define ESP_NET_SPLIT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Rows come in multiples of ESP_SPLIT_ROWS, at most ESP_SPLIT_MOST of them at once. */
#define ESP_SPLIT_ROWS 16
#define ESP_SPLIT_MOST 64

/* One product: n_rows rows over n_sources rows of LANES. */
typedef struct esp_split {
    int n_rows, n_sources;
    bool clip, relu; /* what is negative among the sources counts as 0; among the sums becomes 0. A NaN stays */
    const uint32_t *packed; /* aligned to 64 bytes, as is all that follows */
    const float *constant; /* n_rows x 16, each 16 times; NULL: the sums begin at what stands there */
} esp_split;

/* Whether the processor has them and the system lets this process use them; asks the system, so ask once. */
bool esp_split_granted(void);
/* Words of packed weights. */
size_t esp_split_size(int n_rows, int n_sources);
/* weights: n_sources x n_rows. */
void esp_split_pack(const float *weights, int n_rows, int n_sources, uint32_t *ret_packed);
/* Before products, after anything else may have used the units. */
void esp_split_ready(void);
/* to (n_rows x LANES) = constant (or to) + weights * from, from (n_sources x LANES). Only where granted. */
void esp_split_sum(const esp_split *split, const float *from, float *to);
/* After the last of many: the units hold nothing of this thread's that would have to be saved for it. */
void esp_split_rest(void);

#endif
