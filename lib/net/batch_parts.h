/* SPDX-License-Identifier: Apache-2.0
 * Inside net/batch.h: the blocks of a pass and how they are cut. Nothing outside batch*.c includes this. */
#ifndef ESP_NET_BATCH_PARTS_H
#define ESP_NET_BATCH_PARTS_H

#include "net/batch.h"
#include "net/split.h"

/* Both files are compiled for the same machine. */
#if defined(__AVX512F__)
#define WIDE 2 /* vectors of a row held at once: 8 rows x 2 of the 32 registers */
#define ROWS 8
#else
#define WIDE 1 /* 4 rows x 1, each of two registers */
#define ROWS 4
#endif
#define VECTOR 16
#define DENSE  512 /* weights from which rows and a run are worth tiles */

/* Where values lie: in one of the arrays of a pass, n rows of LANES from `at` on. */
typedef struct place {
    int array, n;
    size_t at;
} place;

typedef enum finish { PLAIN, RELU, MASK } finish; /* MASK: zero where the ReLU was off */

/* n_rows rows of a pass: constant + sum of weight * row over the rows of its runs; or of its one run, and by tiles. */
typedef struct block {
    int n_rows, n_runs;
    finish finish;
    place to;
    const float *constant; /* n_rows */
    const place *runs; /* n_runs */
    const float *weights; /* rows of all runs x n_rows */
    esp_split split; /* by tiles where it has rows; in pieces as far as values need not be kept */
} block;

/* The rows of a pass in the order in which they are computed; weight(row, source) with the sources numbered likewise. */
typedef struct pass pass;
struct pass {
    const esp_program *program;
    int n_rows, n_sources, n_given; /* the first sources are given */
    int relus, end; /* sources that are ReLUs, up to the last */
    const int *twin; /* forward, n_y: an earlier output with the same row of B, or -1 */
    double (*weight)(const pass *self, int row, int source);
    double (*constant)(const pass *self, int row);
    place (*source)(const pass *self, int source);
    place (*row)(const pass *self, int row);
    bool (*together)(const pass *self, int first, int row); /* may stand in one block */
    finish (*finish)(const pass *self, int row);
};

/* The first n_early need nothing but what is given. */
typedef struct blocks {
    block *blocks;
    place *runs;
    float *numbers;
    uint32_t *words;
    size_t n, n_early, n_runs, n_numbers, n_words;
} blocks;

/* Cuts the pass, with `split` into tiles where that is worth it. False: no memory; esp_blocks_done either way. */
bool esp_blocks_cut(const pass *s, bool split, blocks *ret);
void esp_blocks_done(blocks *b);

#endif
