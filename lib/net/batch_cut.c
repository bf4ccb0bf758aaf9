/* SPDX-License-Identifier: Apache-2.0
 * Cutting a pass into blocks: which rows and sources stand together, and which of them are worth tiles. */
#include <stdlib.h>

#include "net/batch_parts.h"

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
    for (int j = first + 1; j < s->n_sources && run.n < ESP_SPLIT_DEEP && w->tiled[j] && is_relu(s, j) == is_relu(s, first); j++, run.n++) {
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
    if (to->blocks) {
        float *numbers = to->numbers + to->n_numbers, *weights = numbers + rows;
        for (int i = 0; i < rows; i++) numbers[i] = (float)s->constant(s, first + i);
        for (int j = 0; j < run.n; j++)
            for (int i = 0; i < rows; i++) weights[j * rows + i] = (float)s->weight(s, first + i, source + j);
        esp_split_pack(weights, rows, run.n, to->words + to->n_words);
        to->runs[to->n_runs] = run;
        to->blocks[to->n] = (block){.n_runs = 1, .finish = how, .to = s->row(s, first), .runs = to->runs + to->n_runs};
        to->blocks[to->n].split = (esp_split){
            .n_rows = rows, .n_sources = run.n, .relu = how == RELU, .packed = to->words + to->n_words, .constant = on_top ? NULL : numbers};
    }
    to->n++;
    to->n_runs++;
    to->n_numbers += (size_t)rows * (size_t)(run.n + 1);
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

/* ---- pieces ---------------------------------------------------------------------------------------------------------- */

/* Whether the run has a row of what a block of tiles gives. */
static bool overlap(const place *run, const block *of) {
    size_t begin = of->to.at, end = begin + (size_t)of->split.n_rows * ESP_LANES;
    return run->array == of->to.array && run->at < end && begin < run->at + (size_t)run->n * ESP_LANES;
}

/* Whether a block of tiles reads its run in pieces: as groups, all of which blocks give as such, whole. */
static bool in_pieces(const blocks *all, const block *reader) {
    const place *run = reader->runs;
    int rows = 0;
    for (size_t k = 0; k < all->n; k++) {
        const block *b = &all->blocks[k];
        if (!b->split.to_pieces || !overlap(run, b)) continue;
        size_t after = (b->to.at - run->at) / ESP_LANES;
        if (b->to.at < run->at || after % ESP_SPLIT_GROUP > 0 || after + (size_t)b->split.n_rows > (size_t)run->n) return false;
        rows += b->split.n_rows;
    }
    return rows == run->n;
}

/* Blocks that a block reads as rows give no pieces. */
static bool take_back(blocks *all, const block *reader) {
    bool changed = false;
    if (reader->split.n_rows > 0 && in_pieces(all, reader)) return false;
    for (size_t k = 0; k < all->n; k++)
        for (int i = 0; i < reader->n_runs; i++) {
            esp_split *given = &all->blocks[k].split;
            if (!given->to_pieces || !overlap(&reader->runs[i], &all->blocks[k])) continue;
            given->to_pieces = false;
            changed = true;
        }
    return changed;
}

/* ReLUs that only tiles read are given to them in pieces. */
static void choose_pieces(blocks *all) {
    for (size_t k = 0; k < all->n; k++) {
        esp_split *split = &all->blocks[k].split;
        split->to_pieces = split->n_rows > 0 && split->n_rows % ESP_SPLIT_GROUP == 0 && split->relu && split->constant;
    }
    for (bool changed = true; changed;) {
        changed = false;
        for (size_t k = 0; k < all->n; k++) changed |= take_back(all, &all->blocks[k]);
    }
    for (size_t k = 0; k < all->n; k++) {
        block *b = &all->blocks[k];
        b->split.from_pieces = b->split.n_rows > 0 && in_pieces(all, b);
    }
}

/* ---- order ----------------------------------------------------------------------------------------------------------- */

/* Whether a block of vectors needs nothing but the first n_given rows of the first array. */
static bool is_early(const block *b, int n_given) {
    bool early = b->split.n_rows == 0;
    for (int i = 0; i < b->n_runs; i++)
        early &= b->runs[i].array == 0 && b->runs[i].at + (size_t)b->runs[i].n * ESP_LANES <= (size_t)n_given * ESP_LANES;
    return early;
}

/* Early blocks stand before the others, so that none of them comes between products. False: no memory. */
static bool put_early_first(const pass *s, blocks *all) {
    block *ordered = calloc(all->n + 1, sizeof(block));
    if (!ordered) return false;
    size_t n = 0;
    for (int late = 0; late < 2; late++) {
        for (size_t k = 0; k < all->n; k++)
            if (is_early(&all->blocks[k], s->n_given) != late) ordered[n++] = all->blocks[k];
        if (!late) all->n_early = n;
    }
    free(all->blocks);
    all->blocks = ordered;
    return true;
}

bool esp_blocks_cut(const pass *s, bool split, blocks *ret) {
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
        choose_pieces(ret);
        ok = put_early_first(s, ret);
    }
    free(w.tiled);
    return ok;
}

void esp_blocks_done(blocks *b) {
    free(b->blocks);
    free(b->runs);
    free(b->numbers);
    free(b->words);
}
