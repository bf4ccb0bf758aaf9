/* SPDX-License-Identifier: Apache-2.0
 * Many points at once through a ReLU program, in float: values, and gradients back. Estimates for sampling and descent;
 * whatever is kept is recomputed in double by esp_program_forward.
 *
 * Points stand side by side, ESP_LANES of them: value i of point j lies at [i * ESP_LANES + j], so that one instruction
 * works on many points and a step reads and writes only what the cache holds. Every array is aligned to 64 bytes.
 *
 * The program is cut into blocks of a few rows of one level; a block knows the columns in which any of its rows has a
 * weight, so what is zero costs nothing, and keeps its sums in registers from the constant to the ReLU. An output whose
 * row of B is that of an earlier output (a position, and the same position seen from elsewhere) is summed from that
 * output and the difference of their other rows. Sums are in an order of their own and fused where the machine can.
 *
 * Where 16 rows or more read a long run of rows most of them have weights for, and the machine has tile units, the block is a
 * product there (net/split.h): up to eight times as fast, and off by up to 2^-14 of the sum of sizes instead of 2^-22 a term. */
#ifndef ESP_NET_BATCH_H
#define ESP_NET_BATCH_H

#include "net/program.h"
#include "net/split.h"

#define ESP_LANES      32
#define ESP_BATCH_MOST 2

/* A float copy of the program. Immutable once made: any number of threads. */
typedef struct esp_batch esp_batch;
/* split: dense blocks go to the tile units (net/split.h), where esp_split_granted(). Error: NOMEM. */
ESP_MUST_CHECK esp_code esp_batch_create(const esp_program *program, bool split, esp_batch **ret_batch, esp_error *reterr);
void esp_batch_free(esp_batch *batch);

/* values (n_x + n_r x LANES): x is given in the first rows, behind it r is filled in. ret_y (n_y x LANES). A NaN passes through a ReLU. */
void esp_batch_forward(const esp_batch *batch, float *values, float *ret_y);
/* Outputs alone, of n blocks of LANES points at a time, at most ESP_BATCH_MOST, each with its values, of which what is behind x is workspace,
 * and its outputs. Many times after esp_batch_ready; outputs are complete once those of others are asked for, or after esp_batch_finish. */
void esp_batch_ready(const esp_batch *batch, esp_split_work *work);
void esp_batch_outputs(const esp_batch *batch, int n, float *const *values, float *const *ret_y, esp_split_work *work);
void esp_batch_finish(const esp_batch *batch, esp_split_work *work);
/* The gradient of g' y(x) in x at the points of these values: ret_dx (n_x x LANES). g (n_y + n_r x LANES) is given in the first
 * rows, those behind are workspace. At p = 0 a ReLU counts as off. */
void esp_batch_backward(const esp_batch *batch, const float *values, float *g, float *ret_dx);
/* After the last point of many: nothing of this thread's stays in the tile units. */
void esp_batch_rest(const esp_batch *batch);

#endif
