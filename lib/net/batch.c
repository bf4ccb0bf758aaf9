/* SPDX-License-Identifier: Apache-2.0
 * Blocks of rows over lanes of points. Written in the compiler's vectors, so that a block's sums stay in registers;
 * without a wide machine the compiler splits them. */
#include "net/batch.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "net/batch_parts.h"

typedef float vector __attribute__((vector_size(VECTOR * sizeof(float)), may_alias));
typedef int bits __attribute__((vector_size(VECTOR * sizeof(int))));

struct esp_batch {
    size_t n_x, n_r, n_y;
    bool split;
    blocks forward, backward;
};

/* ---- forward: rows r, y; sources x, r, y --------------------------------------------------------------------------- */

enum { VALUES, OUTPUTS }; /* x and r, y */

static place row_of(int array, int i) {
    return (place){array, 1, (size_t)i * ESP_LANES};
}

static double forward_weight(const pass *s, int row, int j) {
    const esp_program *p = s->program;
    size_t n_x = (size_t)p->n_x, n_r = (size_t)p->n_r;
    if (row < p->n_r) {
        if (j < p->n_x) return p->c[(size_t)row * n_x + (size_t)j];
        return j - p->n_x < row ? p->d[(size_t)row * n_r + (size_t)(j - p->n_x)] : 0;
    }
    int k = row - p->n_r, twin = s->twin[k];
    if (j < p->n_x) return p->a[(size_t)k * n_x + (size_t)j] - (twin < 0 ? 0 : p->a[(size_t)twin * n_x + (size_t)j]);
    if (j < p->n_x + p->n_r) return twin < 0 ? p->b[(size_t)k * n_r + (size_t)(j - p->n_x)] : 0;
    return j - p->n_x - p->n_r == twin;
}

static double forward_constant(const pass *s, int row) {
    const esp_program *p = s->program;
    if (row < p->n_r) return p->d0[row];
    int k = row - p->n_r;
    return p->c0[k] - (s->twin[k] < 0 ? 0 : p->c0[s->twin[k]]);
}

static place forward_source(const pass *s, int j) {
    int n = s->program->n_x + s->program->n_r;
    return j < n ? row_of(VALUES, j) : row_of(OUTPUTS, j - n);
}

static place forward_row(const pass *s, int row) {
    return row < s->program->n_r ? row_of(VALUES, s->program->n_x + row) : row_of(OUTPUTS, row - s->program->n_r);
}

static int level_of(const esp_program *p, int r) {
    int l = 0;
    while (p->level_end[l] <= r) l++;
    return l;
}

static bool forward_together(const pass *s, int first, int row) {
    const esp_program *p = s->program;
    if (row < p->n_r) return level_of(p, first) == level_of(p, row);
    return first >= p->n_r && (s->twin[first - p->n_r] < 0) == (s->twin[row - p->n_r] < 0);
}

static finish forward_finish(const pass *s, int row) {
    return row < s->program->n_r ? RELU : PLAIN;
}

/* An output never follows one that has a twin itself, so an output's twin is complete when a block of followers comes:
 * outputs with and without twins stand in different blocks, and a twin is earlier. Where tiles sum 16 rows for the price of
 * one, enough to be worth it, none is looked for. */
static void find_twins(const esp_program *p, bool split, int *twin) {
    size_t row = (size_t)p->n_r * sizeof *p->b;
    bool tiled = split && p->n_y >= ESP_SPLIT_ROWS && ESP_SPLIT_ROWS * p->n_r >= DENSE;
    for (int k = 0; k < p->n_y; k++) {
        twin[k] = -1;
        for (int j = 0; j < k && twin[k] < 0 && p->n_r > 0 && !tiled; j++)
            if (twin[j] < 0 && memcmp(p->b + (size_t)k * (size_t)p->n_r, p->b + (size_t)j * (size_t)p->n_r, row) == 0) twin[k] = j;
    }
}

/* ---- backward: rows dp of the ReLUs from the last, then dx; sources g, dp, with the ReLUs from the last --------------- */

enum { BACK, DX }; /* g and dp, dx */

static double backward_weight(const pass *s, int row, int j) {
    const esp_program *p = s->program;
    size_t n_x = (size_t)p->n_x, n_r = (size_t)p->n_r, i = (size_t)(row - p->n_r), r = n_r - 1 - (size_t)row;
    size_t from = n_r - 1 - (size_t)(j - p->n_y);
    if (row < p->n_r) {
        if (j < p->n_y) return p->b[(size_t)j * n_r + r];
        return j - p->n_y < row ? p->d[from * n_r + r] : 0;
    }
    return j < p->n_y ? p->a[(size_t)j * n_x + i] : p->c[from * n_x + i];
}

static double backward_constant(const pass *s, int row) {
    (void)s;
    (void)row;
    return 0;
}

static place backward_source(const pass *s, int j) {
    (void)s;
    return row_of(BACK, j);
}

static place backward_row(const pass *s, int row) {
    return row < s->program->n_r ? row_of(BACK, s->program->n_y + row) : row_of(DX, row - s->program->n_r);
}

static bool backward_together(const pass *s, int first, int row) {
    const esp_program *p = s->program;
    if (row < p->n_r) return level_of(p, p->n_r - 1 - first) == level_of(p, p->n_r - 1 - row);
    return first >= p->n_r;
}

static finish backward_finish(const pass *s, int row) {
    return row < s->program->n_r ? MASK : PLAIN;
}

esp_code esp_batch_create(const esp_program *program, bool split, esp_batch **ret_batch, esp_error *reterr) {
    int n_x = program->n_x, n_r = program->n_r, n_y = program->n_y;
    esp_batch *batch = calloc(1, sizeof *batch);
    int *twin = calloc((size_t)n_y + 1, sizeof *twin);
    bool ok = batch && twin;
    if (ok) {
        find_twins(program, split, twin);
        pass forward = {program,        n_r + n_y,   n_x + n_r + n_y,  n_x,           n_x, n_x + n_r, twin, forward_weight, forward_constant,
                        forward_source, forward_row, forward_together, forward_finish};
        pass backward = {program,      n_r + n_x,         n_y + n_r,      n_y, 0, 0, NULL, backward_weight, backward_constant, backward_source,
                         backward_row, backward_together, backward_finish};
        *batch = (esp_batch){.n_x = (size_t)n_x, .n_r = (size_t)n_r, .n_y = (size_t)n_y, .split = split};
        ok = esp_blocks_cut(&forward, split, &batch->forward) && esp_blocks_cut(&backward, split, &batch->backward);
    }
    free(twin);
    if (ok) {
        *ret_batch = batch;
        return ESP_OK;
    }
    esp_batch_free(batch);
    return esp_fail(reterr, ESP_NOMEM, "a batch of points");
}

void esp_batch_free(esp_batch *batch) {
    if (!batch) return;
    esp_blocks_done(&batch->forward);
    esp_blocks_done(&batch->backward);
    free(batch);
}

/* ---- kernels ------------------------------------------------------------------------------------------------------ */

/* relus: for MASK, r of the first row; the rows of dp run from the last ReLU, those of r from the first. */
static inline __attribute__((always_inline)) void finish_rows(const block *b, float *to, const float *relus, const vector *sum, const int rows) {
    for (int i = 0; i < rows; i++)
        for (int v = 0; v < WIDE; v++) {
            vector value = sum[i * WIDE + v];
            if (b->finish == RELU) value = (vector)((bits)value & ~(bits)(value < 0));
            if (b->finish == MASK) value = (vector)((bits)value & (bits)(((const vector *)(relus - i * ESP_LANES))[v] > 0));
            ((vector *)(to + i * ESP_LANES))[v] = value;
        }
}

/* `rows` is a constant where this is inlined, so that the sums are registers. relus: r of the pass's rows, for MASK. */
static inline __attribute__((always_inline)) void sum_rows(const block *b, float *const *arrays, const float *relus, int lane, const int rows) {
    vector sum[ROWS][WIDE];
    for (int i = 0; i < rows; i++)
        for (int v = 0; v < WIDE; v++) sum[i][v] = (vector){0} + b->constant[i];
    const float *weight = b->weights;
    for (int k = 0; k < b->n_runs; k++) {
        const place *run = &b->runs[k];
        const float *from = arrays[run->array] + run->at + lane;
        for (int n = run->n; n > 0; n--, from += ESP_LANES, weight += rows) {
            vector value[WIDE];
            for (int v = 0; v < WIDE; v++) value[v] = ((const vector *)from)[v];
            for (int i = 0; i < rows; i++)
                for (int v = 0; v < WIDE; v++) sum[i][v] += weight[i] * value[v];
        }
    }
    finish_rows(b, arrays[b->to.array] + b->to.at + lane, b->finish == MASK ? relus - b->to.at + lane : NULL, &sum[0][0], rows);
}

/* The arrays of a block of points. */
typedef struct lanes {
    float *arrays[2];
} lanes;

/* kept: sums stay rows, also where only tiles read them. */
static void sum_tiles(const block *b, bool kept, int n, const lanes *at, esp_split_work *work) {
    const float *from[ESP_BATCH_MOST];
    float *to[ESP_BATCH_MOST];
    esp_split split = b->split;
    split.from_pieces &= !kept;
    split.to_pieces &= !kept;
    for (int k = 0; k < n; k++) {
        from[k] = at[k].arrays[b->runs->array] + b->runs->at;
        to[k] = at[k].arrays[b->to.array] + b->to.at;
    }
    esp_split_sum(&split, n, from, to, work);
}

static void mask_tiles(const block *b, float *const *arrays, const float *relus) {
    float *to = arrays[b->to.array] + b->to.at;
    for (int i = 0; i < b->split.n_rows; i++)
        for (int lane = 0; lane < ESP_LANES; lane += WIDE * VECTOR) {
            vector *row = (vector *)(to + i * ESP_LANES + lane);
            finish_rows(b, (float *)row, relus - b->to.at - i * ESP_LANES + lane, row, 1);
        }
}

static void sum_vectors(const block *b, float *const *arrays, const float *relus) {
    for (int lane = 0; lane < ESP_LANES; lane += WIDE * VECTOR) switch (b->n_rows) {
#if ROWS == 8
        case 8: sum_rows(b, arrays, relus, lane, 8); break;
#endif
        case 4: sum_rows(b, arrays, relus, lane, 4); break;
        case 2: sum_rows(b, arrays, relus, lane, 2); break;
        default: sum_rows(b, arrays, relus, lane, 1); break;
        }
}

/* Whether what products before have given must be complete: for vectors, and for tiles that read rows of this pass. */
static bool waits(const blocks *list, const block *b, bool kept) {
    size_t i = (size_t)(b - list->blocks);
    if (b->split.n_rows > 0) return i > list->n_early && (kept || !b->split.from_pieces);
    return i >= list->n_early;
}

/* All points of one block, then of the next: the units finish one while they work on another. The last is left unfinished. */
static void run_split(const blocks *list, bool kept, int n, const lanes *at, const float *relus, esp_split_work *work) {
    for (const block *b = list->blocks; b < list->blocks + list->n; b++) {
        bool tiles = b->split.n_rows > 0, mask = tiles && b->finish == MASK;
        if (waits(list, b, kept)) esp_split_finish(work);
        if (tiles) sum_tiles(b, kept, n, at, work);
        if (mask) esp_split_finish(work);
        for (int k = 0; k < n; k++) {
            if (!tiles) sum_vectors(b, at[k].arrays, relus);
            if (mask) mask_tiles(b, at[k].arrays, relus);
        }
    }
}

static void run_vectors(const blocks *list, int n, const lanes *at, const float *relus) {
    for (int k = 0; k < n; k++)
        for (size_t i = 0; i < list->n; i++) sum_vectors(&list->blocks[i], at[k].arrays, relus);
}

/* One block of points, all of whose sums are kept. */
static void run(const esp_batch *batch, const blocks *list, const lanes *at, const float *relus) {
    if (!batch->split) {
        run_vectors(list, 1, at, relus);
        return;
    }
    esp_split_work work;
    esp_split_ready(&work);
    run_split(list, true, 1, at, relus, &work);
    esp_split_finish(&work);
}

void esp_batch_forward(const esp_batch *batch, float *values, float *y) {
    run(batch, &batch->forward, &(lanes){{values, y}}, NULL);
}

void esp_batch_ready(const esp_batch *batch, esp_split_work *work) {
    if (batch->split) esp_split_ready(work);
}

void esp_batch_outputs(const esp_batch *batch, int n, float *const *values, float *const *y, esp_split_work *work) {
    lanes at[ESP_BATCH_MOST];
    assert(n <= ESP_BATCH_MOST);
    for (int k = 0; k < n; k++) at[k] = (lanes){{values[k], y[k]}};
    if (batch->split)
        run_split(&batch->forward, false, n, at, NULL, work);
    else
        run_vectors(&batch->forward, n, at, NULL);
}

void esp_batch_finish(const esp_batch *batch, esp_split_work *work) {
    if (batch->split) esp_split_finish(work);
}

void esp_batch_backward(const esp_batch *batch, const float *values, float *g, float *ret_dx) {
    const float *last = values + (batch->n_x + batch->n_r) * ESP_LANES - ESP_LANES; /* r of the first row of dp, at n_y of g */
    run(batch, &batch->backward, &(lanes){{g, ret_dx}}, last + batch->n_y * ESP_LANES);
}

void esp_batch_rest(const esp_batch *batch) {
    if (batch->split) esp_split_rest();
}
