/* SPDX-License-Identifier: Apache-2.0
 * The C file of a program: tables, the function over them, a self-test. Not a compiler: the loops are the same for every
 * model, only tables and their sizes differ.
 *
 * A level's rows of C and of D, and A and B, are one block each: a matrix that is added to a vector of running sums. A block
 * is stored as the window of columns between its first and its last that are not zero, whole (dense) or as the numbers that are not
 * zero with their columns (sparse), whichever takes fewer bytes; a block of zeros is left out.
 *
 * Why leaving zeros out keeps the bits: for finite v, s + 0 v is s unless s is -0, and a running sum is -0 only while everything
 * added so far was -0, the constant it began with included (an exact cancellation gives +0). So the rows whose constant is
 * -0 keep their zeros, and all others lose nothing. */
#include "net/emit_c.h"

#include <assert.h>
#include <ctype.h>
#include <float.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const char *const esp_emit_layout_names[] = {"auto", "sparse", "dense", NULL};

/* out += M v: rows x cols of M, of which the columns [first, last) are kept. */
typedef struct block {
    char name[16];
    const double *m; /* the first row */
    size_t ld, rows, cols;
    const double *start; /* what the running sums began with */
    char vector; /* 'x' or 'r' */
    size_t vector_at; /* where in it column 0 stands */
    size_t first, last, kept; /* the window; numbers kept when sparse */
    bool sparse, wide; /* wide: columns take two bytes */
} block;

typedef struct emitter {
    const esp_program *program;
    const esp_emit_opts *opts;
    esp_buf *out;
    char prefix[ESP_EMIT_MAX_NAME + 1], upper[ESP_EMIT_MAX_NAME + 1];
    const char *type; /* "float" or "double" */
    block *blocks; /* two a level, then A and B */
    size_t n_blocks, bytes;
    bool any_dense, any_narrow, any_wide;
} emitter;

/* ---- blocks ---------------------------------------------------------------------------------------------------------- */

static bool keeps(const block *b, size_t i, size_t j) {
    return b->m[i * b->ld + j] != 0 || (b->start[i] == 0 && signbit(b->start[i]));
}

static size_t number_size(const emitter *e) {
    return e->opts->single ? 4 : 8;
}

static size_t block_bytes(const emitter *e, const block *b) {
    if (b->last == b->first) return 0;
    return b->sparse ? b->kept * (number_size(e) + (b->wide ? 2 : 1)) + 2 * b->rows : b->rows * (b->last - b->first) * number_size(e);
}

/* Window, count and layout. */
static void choose(emitter *e, block *b) {
    b->first = b->cols;
    b->last = b->kept = 0;
    for (size_t i = 0; i < b->rows; i++) {
        for (size_t j = 0; j < b->cols; j++) {
            if (!keeps(b, i, j)) continue;
            b->kept++;
            if (j < b->first) b->first = j;
            if (j >= b->last) b->last = j + 1;
        }
    }
    if (b->kept == 0) {
        b->first = b->last = 0;
        return;
    }
    b->wide = b->last - b->first > 256;
    b->sparse = true;
    size_t sparse = block_bytes(e, b);
    b->sparse = false;
    size_t dense = block_bytes(e, b);
    b->sparse = e->opts->layout == ESP_EMIT_SPARSE || (e->opts->layout == ESP_EMIT_AUTO && sparse < dense);
    e->bytes += b->sparse ? sparse : dense;
    e->any_dense = e->any_dense || !b->sparse;
    e->any_narrow = e->any_narrow || (b->sparse && !b->wide);
    e->any_wide = e->any_wide || (b->sparse && b->wide);
}

static void add_block(emitter *e, block b, const char *what, int level) {
    if (level >= 0)
        snprintf(b.name, sizeof b.name, "%s%d", what, level + 1);
    else
        snprintf(b.name, sizeof b.name, "%s", what);
    choose(e, &b);
    e->blocks[e->n_blocks++] = b;
}

static esp_code make_blocks(emitter *e, esp_error *reterr) {
    const esp_program *p = e->program;
    size_t n_x = (size_t)p->n_x, n_r = (size_t)p->n_r, n_y = (size_t)p->n_y;
    e->blocks = calloc(2 * (size_t)p->n_levels + 2, sizeof *e->blocks);
    if (!e->blocks) return esp_fail(reterr, ESP_NOMEM, "no memory for %d levels", p->n_levels);
    e->bytes = (n_r + n_y) * number_size(e);
    for (int l = 0; l < p->n_levels; l++) {
        size_t start = l ? (size_t)p->level_end[l - 1] : 0, rows = (size_t)p->level_end[l] - start, begin = (size_t)p->level_begin[l];
        add_block(e, (block){.m = p->c + start * n_x, .ld = n_x, .rows = rows, .cols = n_x, .start = p->d0 + start, .vector = 'x'}, "c", l);
        add_block(e,
                  (block){.m = p->d + start * n_r + begin,
                          .ld = n_r,
                          .rows = rows,
                          .cols = start - begin,
                          .start = p->d0 + start,
                          .vector = 'r',
                          .vector_at = begin},
                  "d", l);
    }
    add_block(e, (block){.m = p->a, .ld = n_x, .rows = n_y, .cols = n_x, .start = p->c0, .vector = 'x'}, "a", -1);
    add_block(e, (block){.m = p->b, .ld = n_r, .rows = n_y, .cols = n_r, .start = p->c0, .vector = 'r'}, "b", -1);
    return ESP_OK;
}

/* Every number is finite as it will stand in the file, and there are not too many. */
static esp_code check_numbers(const emitter *e, esp_error *reterr) {
    const esp_program *p = e->program;
    size_t n = 0;
    for (size_t k = 0; k < e->n_blocks; k++) {
        const block *b = &e->blocks[k];
        n += b->sparse ? b->kept : b->rows * (b->last - b->first);
        for (size_t i = 0; i < b->rows; i++) {
            for (size_t j = 0; j < b->cols; j++) {
                double v = b->m[i * b->ld + j];
                if (!isfinite(e->opts->single ? (double)(float)v : v))
                    return esp_fail(reterr, ESP_UNPROCESSABLE, "a coefficient of %g is not a finite %s", v, e->type);
            }
            if (!isfinite(e->opts->single ? (double)(float)b->start[i] : b->start[i]))
                return esp_fail(reterr, ESP_UNPROCESSABLE, "a constant of %g is not a finite %s", b->start[i], e->type);
        }
    }
    if (n > ESP_EMIT_MAX_NUMBERS) return esp_fail(reterr, ESP_UNPROCESSABLE, "%zu numbers; a C file holds at most %d", n, ESP_EMIT_MAX_NUMBERS);
    assert(p->n_r <= ESP_EMIT_MAX_RELUS);
    return ESP_OK;
}

/* ---- numbers --------------------------------------------------------------------------------------------------------- */

/* A literal that reads back to the value; ret has room for 40 bytes. */
static void literal(const emitter *e, double value, char *ret) {
    if (e->opts->single)
        snprintf(ret, 32, "%.9g", (double)(float)value);
    else
        esp_format_number(value, ret);
    if (value == 0) strcpy(ret, signbit(value) ? "-0" : "0");
    if (!strpbrk(ret, ".e")) strcat(ret, ".0");
    if (e->opts->single) strcat(ret, "f");
}

typedef struct table {
    emitter *e;
    int column;
} table;

static void begin(table *t, const char *type, const char *name, const char *part, size_t n) {
    esp_buf_printf(t->e->out, "static const %s %s_%s%s[%zu] = {", type, t->e->prefix, name, part, n);
    t->column = 1000;
}

static void put(table *t, const char *text) {
    int len = (int)strlen(text) + 2;
    if (t->column + len > 118) {
        esp_buf_puts(t->e->out, "\n    ");
        t->column = 4;
    } else {
        esp_buf_puts(t->e->out, " ");
    }
    esp_buf_printf(t->e->out, "%s,", text);
    t->column += len;
}

static void put_number(table *t, double value) {
    char text[48];
    literal(t->e, value, text);
    put(t, text);
}

static void put_count(table *t, size_t value) {
    char text[32];
    snprintf(text, sizeof text, "%zu", value);
    put(t, text);
}

static void end(const table *t) {
    esp_buf_puts(t->e->out, "\n};\n");
}

static void put_vector(emitter *e, const char *name, const double *v, size_t n) {
    table t = {e, 0};
    begin(&t, e->type, name, "", n);
    for (size_t i = 0; i < n; i++) put_number(&t, v[i]);
    end(&t);
}

static void put_block(emitter *e, const block *b) {
    table t = {e, 0};
    if (b->first == b->last) return;
    begin(&t, e->type, b->name, "", b->sparse ? b->kept : b->rows * (b->last - b->first));
    for (size_t i = 0; i < b->rows; i++)
        for (size_t j = b->first; j < b->last; j++)
            if (!b->sparse || keeps(b, i, j)) put_number(&t, b->m[i * b->ld + j]);
    end(&t);
    if (!b->sparse) return;
    begin(&t, "unsigned short", b->name, "_n", b->rows);
    for (size_t i = 0; i < b->rows; i++) {
        size_t n = 0;
        for (size_t j = b->first; j < b->last; j++) n += keeps(b, i, j);
        put_count(&t, n);
    }
    end(&t);
    begin(&t, b->wide ? "unsigned short" : "unsigned char", b->name, "_at", b->kept);
    for (size_t i = 0; i < b->rows; i++)
        for (size_t j = b->first; j < b->last; j++)
            if (keeps(b, i, j)) put_count(&t, j - b->first);
    end(&t);
}

/* ---- the functions --------------------------------------------------------------------------------------------------- */

static void put_helpers(emitter *e) {
    const char *t = e->type, *p = e->prefix;
    if (e->any_dense)
        esp_buf_printf(e->out,
                       "\n/* out = start + M v, M rows x cols */\n"
                       "static void %s_dense(int rows, int cols, const %s *m, const %s *v, const %s *start, %s *out)\n{\n"
                       "    int i, j;\n    for (i = 0; i < rows; i++) {\n        %s s = start[i];\n"
                       "        for (j = 0; j < cols; j++) s += *m++ * v[j];\n        out[i] = s;\n    }\n}\n",
                       p, t, t, t, t, t);
    for (int wide = 0; wide < 2; wide++) {
        if (wide ? !e->any_wide : !e->any_narrow) continue;
        esp_buf_printf(e->out,
                       "\n/* the same for the numbers that are not zero: n[i] of them in row i, in the columns `at` */\n"
                       "static void %s_sparse%s(int rows, const unsigned short *n, const unsigned %s *at, const %s *m, const %s *v,\n"
                       "                        const %s *start, %s *out)\n{\n"
                       "    int i, j;\n    for (i = 0; i < rows; i++) {\n        %s s = start[i];\n"
                       "        for (j = n[i]; j > 0; j--) s += *m++ * v[*at++];\n        out[i] = s;\n    }\n}\n",
                       p, wide ? "_wide" : "", wide ? "short" : "char", t, t, t, t, t);
    }
    if (e->program->n_r > 0)
        esp_buf_printf(e->out,
                       "\nstatic void %s_relu(int n, %s *r)\n{\n    int i;\n    for (i = 0; i < n; i++)\n        if (r[i] < 0) r[i] = 0;\n}\n", p, t);
}

/* One call. `start` is the name of the constants for the first block of a row's sums, the sums themselves after it. */
static void put_call(emitter *e, const block *b, const char *start, const char *out) {
    const char *p = e->prefix;
    if (b->sparse)
        esp_buf_printf(e->out, "    %s_sparse%s(%zu, %s_%s_n, %s_%s_at, %s_%s, ", p, b->wide ? "_wide" : "", b->rows, p, b->name, p, b->name, p,
                       b->name);
    else
        esp_buf_printf(e->out, "    %s_dense(%zu, %zu, %s_%s, ", p, b->rows, b->last - b->first, p, b->name);
    esp_buf_printf(e->out, "%s + %zu, %s, %s);\n", b->vector == 'x' ? "x" : "work", b->vector_at + b->first, start, out);
}

/* The two blocks that end in the same sums; without either the sums are the constants. */
static void put_sums(emitter *e, const block pair[2], const char *start, const char *out) {
    bool begun = false;
    for (int k = 0; k < 2; k++) {
        if (pair[k].first == pair[k].last) continue;
        put_call(e, &pair[k], begun ? out : start, out);
        begun = true;
    }
    if (!begun) esp_buf_printf(e->out, "    for (i = 0; i < %zu; i++) (%s)[i] = (%s)[i];\n", pair[0].rows, out, start);
}

static bool any_bare(const emitter *e) {
    for (size_t k = 0; k < e->n_blocks; k += 2)
        if (e->blocks[k].first == e->blocks[k].last && e->blocks[k + 1].first == e->blocks[k + 1].last) return true;
    return false;
}

static bool uses(const emitter *e, char vector) {
    for (size_t k = 0; k < e->n_blocks; k++)
        if (e->blocks[k].vector == vector && e->blocks[k].first < e->blocks[k].last) return true;
    return false;
}

static void put_eval(emitter *e) {
    const esp_program *p = e->program;
    char start[ESP_EMIT_MAX_NAME + 32], out[32];
    esp_buf_printf(e->out, "\nvoid %s_eval(const %s *x, %s *y, %s *work);\nvoid %s_eval(const %s *x, %s *y, %s *work)\n{\n", e->prefix, e->type,
                   e->type, e->type, e->prefix, e->type, e->type, e->type);
    if (any_bare(e)) esp_buf_puts(e->out, "    int i;\n");
    if (!uses(e, 'x')) esp_buf_puts(e->out, "    (void)x;\n");
    if (p->n_r == 0) esp_buf_puts(e->out, "    (void)work;\n");
    for (int l = 0; l < p->n_levels; l++) {
        int first = l ? p->level_end[l - 1] : 0;
        snprintf(start, sizeof start, "%s_d + %d", e->prefix, first);
        snprintf(out, sizeof out, "work + %d", first);
        put_sums(e, e->blocks + 2 * l, start, out);
        esp_buf_printf(e->out, "    %s_relu(%d, work + %d);\n", e->prefix, p->level_end[l] - first, first);
    }
    snprintf(start, sizeof start, "%s_c", e->prefix);
    put_sums(e, e->blocks + 2 * p->n_levels, start, "y");
    esp_buf_puts(e->out, "}\n");
}

/* ---- self-test ------------------------------------------------------------------------------------------------------- */

static esp_code put_expected(emitter *e, esp_error *reterr) {
    const esp_program *p = e->program;
    size_t n_x = (size_t)p->n_x, n_y = (size_t)p->n_y, n = (size_t)e->opts->n_tests;
    double *y = calloc(n * n_y + (size_t)p->n_r + 1, sizeof *y);
    if (!y) return esp_fail(reterr, ESP_NOMEM, "no memory for a self-test");
    esp_code code = ESP_OK;
    for (size_t k = 0; k < n; k++) esp_program_forward(p, e->opts->x + k * n_x, y + k * n_y, NULL, NULL, y + n * n_y);
    for (size_t k = 0; k < n * n_y && !code; k++)
        if (!isfinite(y[k]) || (e->opts->single && !(e->opts->tolerance[k] + fabs(y[k]) < (double)FLT_MAX / 2)))
            code = esp_fail(reterr, ESP_UNPROCESSABLE, "an output of the self-test is not finite, or is too large for a float");
    if (!code) {
        put_vector(e, "test_x", e->opts->x, n * n_x);
        put_vector(e, "test_y", y, n * n_y);
        /* the expected number is rounded too, and the difference of two floats, once each */
        for (size_t k = 0; k < n * n_y && e->opts->single; k++) y[k] = 1.0001 * (e->opts->tolerance[k] + fabs(y[k] - (double)(float)y[k])) + 1e-37;
        if (e->opts->single) put_vector(e, "test_tolerance", y, n * n_y);
    }
    free(y);
    return code;
}

static esp_code put_self_test(emitter *e, esp_error *reterr) {
    const char *p = e->prefix, *t = e->type;
    esp_buf_puts(e->out, "\n#ifdef ESPALIER_SELF_TEST\n");
    esp_code code = put_expected(e, reterr);
    if (code) return code;
    esp_buf_printf(e->out,
                   "\n/* How many of %d outputs are not what they should be: 0 when all is well. */\nint %s_self_test(void);\n"
                   "int %s_self_test(void)\n{\n    static %s y[%s_NY], work[%s_WORK];\n    int wrong = 0, k, i;\n"
                   "    for (k = 0; k < %d; k++) {\n        %s_eval(%s_test_x + k * %s_NX, y, work);\n"
                   "        for (i = 0; i < %s_NY; i++) {\n",
                   e->opts->n_tests * e->program->n_y, p, p, t, e->upper, e->upper, e->opts->n_tests, p, p, e->upper, e->upper);
    if (e->opts->single)
        esp_buf_printf(e->out,
                       "            const int at = k * %s_NY + i;\n"
                       "            const float off = y[i] > %s_test_y[at] ? y[i] - %s_test_y[at] : %s_test_y[at] - y[i];\n"
                       "            wrong += !(off <= %s_test_tolerance[at]);\n",
                       e->upper, p, p, p, p);
    else
        esp_buf_printf(e->out,
                       "            const unsigned char *got = (const unsigned char *)&y[i];\n"
                       "            const unsigned char *expected = (const unsigned char *)&%s_test_y[k * %s_NY + i];\n"
                       "            unsigned j;\n            int same = 1;\n"
                       "            for (j = 0; j < sizeof y[i]; j++) same = same && got[j] == expected[j];\n            wrong += !same;\n",
                       p, e->upper);
    esp_buf_printf(e->out, "        }\n    }\n    return wrong;\n}\n\nint main(void)\n{\n    return %s_self_test() != 0;\n}\n#endif\n", p);
    return ESP_OK;
}

/* ---- the file -------------------------------------------------------------------------------------------------------- */

static void make_prefix(emitter *e) {
    const char *name = e->opts->name;
    size_t n = 0;
    if (!isalpha((unsigned char)name[0])) e->prefix[n++] = 'm';
    for (; *name && n < ESP_EMIT_MAX_NAME; name++) e->prefix[n++] = isalnum((unsigned char)*name) ? *name : '_';
    for (size_t i = 0; i < n; i++) e->upper[i] = (char)toupper((unsigned char)e->prefix[i]);
}

static void put_head(emitter *e) {
    const esp_program *p = e->program;
    const char *flags = "-std=c99 -O2 -ffp-contract=off";
    size_t words = (size_t)(p->n_r ? p->n_r : 1);
    esp_buf_puts(e->out, "/* Written by espalier; do not edit.\n *\n");
    for (const char *line = e->opts->head; line && *line;) {
        size_t len = strcspn(line, "\n");
        esp_buf_puts(e->out, len ? " * " : " *");
        esp_buf_put(e->out, line, len);
        esp_buf_puts(e->out, "\n");
        line += len + (line[len] == '\n');
    }
    esp_buf_printf(e->out,
                   " *\n *     void %s_eval(const %s x[%d], %s y[%d], %s work[%zu]);\n *\n"
                   " * %d ReLUs in %d levels; %zu bytes of constants, %zu bytes of work. No other state: may be called from several threads,\n"
                   " * each with its own work.\n *\n"
                   " * Compile:   cc %s [-ffreestanding] -c FILE.c\n"
                   " * Self-test: cc %s -DESPALIER_SELF_TEST FILE.c && ./a.out     (status 0; or call %s_self_test() on the target)\n */\n\n",
                   e->prefix, e->type, p->n_x, e->type, p->n_y, e->type, words, p->n_r, p->n_levels, e->bytes, words * number_size(e), flags, flags,
                   e->prefix);
    esp_buf_printf(e->out, "#include <float.h>\n\n#if defined __FAST_MATH__ || (FLT_EVAL_METHOD != 0 && FLT_EVAL_METHOD != 16) || %s\n",
                   e->opts->single ? "FLT_MANT_DIG != 24" : "DBL_MANT_DIG != 53");
    esp_buf_puts(e->out, "#error \"the results are promised for plain IEEE arithmetic only\"\n#endif\n"
                         "#ifdef __clang__\n#pragma STDC FP_CONTRACT OFF\n#endif\n\n");
    esp_buf_printf(e->out, "#define %s_NX   %d\n#define %s_NY   %d\n#define %s_WORK %zu\n\n", e->upper, p->n_x, e->upper, p->n_y, e->upper, words);
}

esp_code esp_emit_c(const esp_program *program, const esp_emit_opts *opts, esp_buf *ret_text, esp_error *reterr) {
    emitter e = {.program = program, .opts = opts, .out = ret_text, .type = opts->single ? "float" : "double"};
    size_t before = ret_text->len;
    if (program->n_r > ESP_EMIT_MAX_RELUS)
        return esp_fail(reterr, ESP_UNPROCESSABLE, "%d ReLUs; a C file holds at most %d", program->n_r, ESP_EMIT_MAX_RELUS);
    make_prefix(&e);
    esp_code code = make_blocks(&e, reterr);
    if (!code) code = check_numbers(&e, reterr);
    if (!code) {
        put_head(&e);
        if (program->n_r) put_vector(&e, "d", program->d0, (size_t)program->n_r);
        put_vector(&e, "c", program->c0, (size_t)program->n_y);
        for (size_t k = 0; k < e.n_blocks; k++) put_block(&e, &e.blocks[k]);
        put_helpers(&e);
        put_eval(&e);
        if (opts->n_tests > 0) code = put_self_test(&e, reterr);
    }
    if (!code && ret_text->failed) code = esp_fail(reterr, ESP_NOMEM, "no memory for a C file");
    if (code && !ret_text->failed) ret_text->len = before;
    free(e.blocks);
    return code;
}
