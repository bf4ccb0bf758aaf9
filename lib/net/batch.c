/* SPDX-License-Identifier: Apache-2.0
 * Blocks of rows over lanes of points. Written in the compiler's vectors, so that a block's sums stay in registers;
 * without a wide machine the compiler splits them. */
#include "net/batch.h"

#include <stdlib.h>
#include <string.h>

#include "net/split.h"

#if defined(__AVX512F__)
#define WIDE 2 /* vectors of a row held at once: 8 rows x 2 of the 32 registers */
#define ROWS 8
#else
#define WIDE 1 /* 4 rows x 1, each of two registers */
#define ROWS 4
#endif
#define VECTOR 16
#define DENSE  512 /* weights from which rows and a run are worth tiles */

typedef float vector __attribute__((vector_size(VECTOR * sizeof(float)), may_alias));
typedef int bits __attribute__((vector_size(VECTOR * sizeof(int))));

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
    esp_split split; /* by tiles where it has rows */
} block;

/* The rows of a pass in the order in which they are computed; weight(row, source) with the sources numbered likewise. */
typedef struct pass pass;
struct pass {
    const esp_program *program;
    int n_rows, n_sources;
    int relus, end; /* sources that are ReLUs, up to the last */
    const int *twin; /* forward, n_y: an earlier output with the same row of B, or -1 */
    double (*weight)(const pass *self, int row, int source);
    double (*constant)(const pass *self, int row);
    place (*source)(const pass *self, int source);
    place (*row)(const pass *self, int row);
    bool (*together)(const pass *self, int first, int row); /* may stand in one block */
    finish (*finish)(const pass *self, int row);
};

typedef struct blocks {
    block *blocks;
    place *runs;
    float *numbers;
    uint32_t *words;
    size_t n, n_runs, n_numbers, n_words;
} blocks;

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

/* ---- cutting a pass into blocks ----------------------------------------------------------------------------------- */

/* The blocks of a pass in the making; without memory (blocks NULL) they are only counted. */
typedef struct writer {
    const pass *pass;
    blocks *to;
    bool *tiled; /* n_sources: summed by tiles for the rows at hand; NULL without tile units */
} writer;

static bool used(const pass *s, int first, int rows, int source) {
    for (int i = 0; i < rows; i++)
        if ((float)s->weight(s, first + i, source) != 0) return true;
    return false;
}

static bool follows(const place *run, const place *next) {
    return run->array == next->array && run->at + (size_t)run->n * ESP_LANES == next->at;
}

/* How many rows from `first` on, at most `most`, may stand in one block. */
static int together(const pass *s, int first, int most) {
    int n = 1;
    while (n < most && first + n < s->n_rows && s->together(s, first, first + n)) n++;
    return n;
}

/* Whether a quarter of the rows or more have a weight there. */
static bool dense(const pass *s, int first, int rows, int source) {
    int n = 0;
    for (int i = 0; i < rows; i++) n += (float)s->weight(s, first + i, source) != 0;
    return 4 * n >= rows;
}

static bool is_relu(const pass *s, int source) {
    return source >= s->relus && source < s->end;
}

/* The run of sources from `first` on that all are tiled, and all of them ReLUs or none. */
static place tiled_run(const writer *w, int first) {
    const pass *s = w->pass;
    place run = s->source(s, first);
    for (int j = first + 1; j < s->n_sources && w->tiled[j] && is_relu(s, j) == is_relu(s, first); j++, run.n++) {
        place next = s->source(s, j);
        if (!follows(&run, &next)) break;
    }
    return run;
}

/* Rows that begin at `first` and have runs for tiles, which are marked; or 0. */
static int mark_tiled(writer *w, int first) {
    const pass *s = w->pass;
    if (!w->tiled) return 0;
    int rows = together(s, first, ESP_SPLIT_MOST) / ESP_SPLIT_ROWS * ESP_SPLIT_ROWS;
    bool any = false;
    for (int j = 0; j < s->n_sources; j++) w->tiled[j] = rows > 0 && dense(s, first, rows, j);
    for (int j = 0, n; rows > 0 && j < s->n_sources; j += n) {
        n = w->tiled[j] ? tiled_run(w, j).n : 1;
        bool worth = w->tiled[j] && n * rows >= DENSE;
        for (int k = 0; k < n; k++) w->tiled[j + k] = worth;
        any |= worth;
    }
    return any ? rows : 0;
}

/* The next block: of vectors, over the sources that are not tiled. */
static void write_block(writer *w, int first, int rows, finish how) {
    const pass *s = w->pass;
    blocks *to = w->to;
    bool real = to->blocks;
    place last = {.array = -1};
    size_t run = to->n_runs, number = to->n_numbers;
    for (int i = 0; i < rows; i++, number++)
        if (real) to->numbers[number] = (float)s->constant(s, first + i);
    for (int j = 0; j < s->n_sources; j++) {
        if ((w->tiled && w->tiled[j]) || !used(s, first, rows, j)) continue;
        place from = s->source(s, j);
        if (run > to->n_runs && follows(&last, &from)) {
            last.n++;
        } else {
            last = from;
            run++;
        }
        if (real) to->runs[run - 1] = last;
        for (int i = 0; i < rows; i++, number++)
            if (real) to->numbers[number] = (float)s->weight(s, first + i, j);
    }
    if (real)
        to->blocks[to->n] = (block){.n_rows = rows,
                                    .n_runs = (int)(run - to->n_runs),
                                    .finish = how,
                                    .to = s->row(s, first),
                                    .constant = to->numbers + to->n_numbers,
                                    .runs = to->runs + to->n_runs,
                                    .weights = to->numbers + to->n_numbers + rows};
    to->n++;
    to->n_runs = run;
    to->n_numbers = number;
}

/* The next block: of tiles, over one run that begins with a source, on top of the constants or of what stands there. */
static void write_tiles(writer *w, int first, int rows, int source, bool on_top, finish how) {
    const pass *s = w->pass;
    blocks *to = w->to;
    place run = tiled_run(w, source);
    to->n_numbers = (to->n_numbers + 15) / 16 * 16; /* lines of the cache */
    if (to->blocks) {
        float *numbers = to->numbers + to->n_numbers, *weights = numbers + rows * ESP_SPLIT_ROWS;
        for (int i = 0; i < rows * ESP_SPLIT_ROWS; i++) numbers[i] = (float)s->constant(s, first + i / ESP_SPLIT_ROWS);
        for (int j = 0; j < run.n; j++)
            for (int i = 0; i < rows; i++) weights[j * rows + i] = (float)s->weight(s, first + i, source + j);
        esp_split_pack(weights, rows, run.n, to->words + to->n_words);
        to->runs[to->n_runs] = run;
        to->blocks[to->n] = (block){.n_runs = 1, .finish = how, .to = s->row(s, first), .runs = to->runs + to->n_runs};
        to->blocks[to->n].split = (esp_split){rows, run.n, is_relu(s, source), how == RELU, to->words + to->n_words, on_top ? NULL : numbers};
    }
    to->n++;
    to->n_runs++;
    to->n_numbers += (size_t)rows * (size_t)(run.n + ESP_SPLIT_ROWS);
    to->n_words += esp_split_size(rows, run.n);
}

/* Rows with tiled runs: first, where there is any, what is not tiled, with the constants; then run after run on top. */
static void write_tiled_rows(writer *w, int first, int rows) {
    const pass *s = w->pass;
    int last = s->n_sources - 1;
    bool on_top = false;
    while (!w->tiled[last]) last--;
    for (int j = 0; j < s->n_sources; j++) on_top |= !w->tiled[j] && used(s, first, rows, j);
    for (int i = 0; on_top && i < rows; i += ROWS) write_block(w, first + i, ROWS, PLAIN);
    for (int j = 0; j < s->n_sources; j++) {
        if (!w->tiled[j]) continue;
        int n = tiled_run(w, j).n;
        write_tiles(w, first, rows, j, on_top, j + n > last ? s->finish(s, first) : PLAIN);
        j += n - 1;
        on_top = true;
    }
}

/* All blocks of the pass. */
static void write_blocks(writer *w) {
    const pass *s = w->pass;
    w->to->n = w->to->n_runs = w->to->n_numbers = w->to->n_words = 0;
    for (int first = 0, rows; first < s->n_rows; first += rows) {
        rows = mark_tiled(w, first);
        if (rows > 0) {
            write_tiled_rows(w, first, rows);
            continue;
        }
        int n = together(s, first, ROWS);
        for (rows = ROWS; rows > n;) rows /= 2; /* what the kernels take */
        write_block(w, first, rows, s->finish(s, first));
    }
}

static bool reads(const block *b, const block *of) {
    size_t begin = of->to.at, end = begin + (size_t)of->split.n_rows * ESP_LANES;
    for (int k = 0; k < b->n_runs; k++) {
        const place *run = &b->runs[k];
        if (run->array == of->to.array && run->at < end && begin < run->at + (size_t)run->n * ESP_LANES) return true;
    }
    return false;
}

static bool only_tiles_read(const blocks *all, const block *of) {
    for (size_t k = 0; k < all->n; k++)
        if (all->blocks[k].split.n_rows == 0 && reads(&all->blocks[k], of)) return false;
    return true;
}

/* Tiles clip what they read of ReLUs: where nothing else reads them, that is all the ReLU there is. */
static void leave_relus(const blocks *all) {
    for (size_t k = 0; k < all->n; k++) {
        block *b = &all->blocks[k];
        if (b->split.n_rows > 0 && b->finish == RELU) b->split.relu = !only_tiles_read(all, b);
    }
}

static bool cut(const pass *s, bool split, blocks *ret) {
    writer w = {.pass = s, .to = ret, .tiled = split ? calloc((size_t)s->n_sources + 1, sizeof(bool)) : NULL};
    if (split && !w.tiled) return false;
    write_blocks(&w);
    ret->blocks = calloc(ret->n + 1, sizeof(block));
    ret->runs = calloc(ret->n_runs + 1, sizeof(place));
    ret->numbers = aligned_alloc(64, (ret->n_numbers + 16) / 16 * 64);
    ret->words = aligned_alloc(64, (ret->n_words + 16) / 16 * 64);
    bool ok = ret->blocks && ret->runs && ret->numbers && ret->words;
    if (ok) {
        write_blocks(&w);
        leave_relus(ret);
    }
    free(w.tiled);
    return ok;
}

static void blocks_done(blocks *b) {
    free(b->blocks);
    free(b->runs);
    free(b->numbers);
    free(b->words);
}

esp_code esp_batch_create(const esp_program *program, bool split, esp_batch **ret_batch, esp_error *reterr) {
    int n_x = program->n_x, n_r = program->n_r, n_y = program->n_y;
    esp_batch *batch = calloc(1, sizeof *batch);
    int *twin = calloc((size_t)n_y + 1, sizeof *twin);
    bool ok = batch && twin;
    if (ok) {
        find_twins(program, split, twin);
        pass forward = {program,        n_r + n_y,        n_x + n_r + n_y, n_x,         n_x + n_r,        twin,
                        forward_weight, forward_constant, forward_source,  forward_row, forward_together, forward_finish};
        pass backward = {program,      n_r + n_x,         n_y + n_r,      0, 0, NULL, backward_weight, backward_constant, backward_source,
                         backward_row, backward_together, backward_finish};
        *batch = (esp_batch){.n_x = (size_t)n_x, .n_r = (size_t)n_r, .n_y = (size_t)n_y, .split = split};
        ok = cut(&forward, split, &batch->forward) && cut(&backward, split, &batch->backward);
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
    blocks_done(&batch->forward);
    blocks_done(&batch->backward);
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

static void sum_tiles(const block *b, float *const *arrays, const float *relus) {
    float *to = arrays[b->to.array] + b->to.at;
    esp_split_sum(&b->split, arrays[b->runs->array] + b->runs->at, to);
    for (int i = 0; b->finish == MASK && i < b->split.n_rows; i++)
        for (int lane = 0; lane < ESP_LANES; lane += WIDE * VECTOR) {
            vector *row = (vector *)(to + i * ESP_LANES + lane);
            finish_rows(b, (float *)row, relus - b->to.at - i * ESP_LANES + lane, row, 1);
        }
}

static void run(const blocks *list, float *const *arrays, const float *relus) {
    for (size_t k = 0; k < list->n; k++) {
        const block *b = &list->blocks[k];
        if (b->split.n_rows > 0) {
            sum_tiles(b, arrays, relus);
            continue;
        }
        for (int lane = 0; lane < ESP_LANES; lane += WIDE * VECTOR) switch (b->n_rows) {
#if ROWS == 8
            case 8: sum_rows(b, arrays, relus, lane, 8); break;
#endif
            case 4: sum_rows(b, arrays, relus, lane, 4); break;
            case 2: sum_rows(b, arrays, relus, lane, 2); break;
            default: sum_rows(b, arrays, relus, lane, 1); break;
            }
    }
}

void esp_batch_forward(const esp_batch *batch, float *values, float *y) {
    float *arrays[2] = {values, y};
    if (batch->split) esp_split_ready();
    run(&batch->forward, arrays, NULL);
}

void esp_batch_backward(const esp_batch *batch, const float *values, float *g, float *ret_dx) {
    float *arrays[2] = {g, ret_dx};
    if (batch->split) esp_split_ready();
    const float *last = values + (batch->n_x + batch->n_r) * ESP_LANES - ESP_LANES; /* r of the first row of dp, at n_y of g */
    run(&batch->backward, arrays, last + batch->n_y * ESP_LANES);
}

void esp_batch_rest(const esp_batch *batch) {
    if (batch->split) esp_split_rest();
}
