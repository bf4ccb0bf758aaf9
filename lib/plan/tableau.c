/* SPDX-License-Identifier: Apache-2.0
 * Making and moving the dense tableau. */
#include "plan/tableau.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "certify/rounding.h"
#include "plan/shelf.h"
#include "plan/undo.h"

#define SMALLEST_PIVOT 1e-8 /* a smaller one does not enter a basis that is being set */
#define OWN_PIVOT      1e-3 /* least entry, against the row's largest, of an equality row's own column */

static bool is_equality(const esp_lp *lp, int i) {
    return lp->row_lower[i] == lp->row_upper[i];
}

static int padded(int n) {
    return (n + 7) / 8 * 8;
}

/* ---- shape ------------------------------------------------------------------------------------------------------- */

static void find_own(esp_tableau *t) {
    const esp_lp *lp = t->lp;
    for (int i = 0; i < t->m; i++) {
        double largest = 0.0, best = 0.0;
        t->own[i] = t->also[i] = -1;
        if (!is_equality(lp, i)) continue;
        for (int k = lp->row_start[i]; k < lp->row_start[i + 1]; k++) largest = fmax(largest, fabs(lp->value[k]));
        for (int k = lp->row_start[i]; k < lp->row_start[i + 1]; k++) {
            double size = fabs(lp->value[k]);
            bool first_here = lp->row[lp->col_start[lp->col[k]]] == i;
            if (!first_here || size < OWN_PIVOT * largest) continue;
            if (size > best) {
                t->also[i] = t->own[i];
                t->own[i] = lp->col[k];
                best = size;
            } else if (t->also[i] < 0) {
                t->also[i] = lp->col[k];
            }
        }
    }
}

static void number_base(esp_tableau *t) {
    for (int v = 0; v < t->n + t->m; v++) t->base_at[v] = ESP_TABLEAU_OUT;
    for (int i = 0; i < t->m; i++) t->base_at[t->own[i] >= 0 ? t->own[i] : t->n + i] = i;
    t->base_width = 0;
    for (int v = 0; v < t->n + t->m; v++) {
        bool left_out = v >= t->n && t->own[v - t->n] >= 0;
        if (t->base_at[v] != ESP_TABLEAU_OUT || left_out) continue;
        t->base_col[t->base_width] = v;
        t->base_at[v] = -1 - t->base_width++;
    }
}

static bool take(esp_tableau *t) {
    int all = t->n + t->m;
    t->lower = ESP_NEW(t->arena, double, all + 1);
    t->upper = ESP_NEW(t->arena, double, all + 1);
    t->status = ESP_NEW(t->arena, unsigned char, all + 1);
    t->own = ESP_NEW(t->arena, int, t->m + 1);
    t->also = ESP_NEW(t->arena, int, t->m + 1);
    t->base_at = ESP_NEW(t->arena, int, all + 1);
    t->base_col = ESP_NEW(t->arena, int, all + 1);
    t->stale = ESP_NEW(t->arena, bool, t->m + 1);
    t->row_hash = ESP_NEW(t->arena, uint64_t, t->m + 1);
    t->constant = ESP_NEW(t->arena, double, t->m + 1);
    t->base_constant = ESP_NEW(t->arena, double, t->m + 1);
    t->row_var = ESP_NEW(t->arena, int, t->m + 1);
    t->at = ESP_NEW(t->arena, int, all + 1);
    t->weight = ESP_NEW(t->arena, double, t->m + 1);
    t->keep = ESP_NEW(t->arena, bool, all + 1);
    t->left_at = ESP_NEW(t->arena, double, t->n + 1);
    t->fixed_at = ESP_NEW(t->arena, double, t->n + 1);
    return t->lower && t->upper && t->status && t->own && t->also && t->base_at && t->base_col && t->stale && t->row_hash && t->constant &&
           t->base_constant && t->row_var && t->at && t->weight && t->keep && t->left_at && t->fixed_at;
}

static bool take_matrices(esp_tableau *t) {
    t->base_ld = padded(t->base_width);
    size_t entries = (size_t)(t->m + 1) * (size_t)t->base_ld;
    t->base = ESP_NEW(t->arena, double, entries);
    t->t = ESP_NEW(t->arena, double, entries);
    t->col_var = ESP_NEW(t->arena, int, t->base_width + 1);
    t->entering = ESP_NEW(t->arena, int, t->base_width + 1);
    t->column = ESP_NEW(t->arena, double, t->m + 1);
    return t->base && t->t && t->col_var && t->entering && t->column && esp_pending_init(&t->pending, t->arena, t->m, t->base_ld);
}

/* Limits of a slack: the row's, and where there is none, more than the columns can reach. */
static void limit_slack(esp_tableau *t, int i) {
    const esp_lp *lp = t->lp;
    double low = 0.0, high = 0.0;
    for (int k = lp->row_start[i]; k < lp->row_start[i + 1]; k++) {
        double a = lp->value[k], l = lp->col_lower[lp->col[k]], u = lp->col_upper[lp->col[k]];
        low += fmin(a * l, a * u);
        high += fmax(a * l, a * u);
    }
    double room = 1.0 + 1e-3 * (fabs(low) + fabs(high));
    t->lower[t->n + i] = isfinite(lp->row_lower[i]) ? lp->row_lower[i] : fmin(low, lp->row_upper[i]) - room;
    t->upper[t->n + i] = isfinite(lp->row_upper[i]) ? lp->row_upper[i] : fmax(high, lp->row_lower[i]) + room;
}

esp_code esp_tableau_create(const esp_lp *lp, size_t shelf_bytes, esp_tableau **ret_tableau, esp_error *reterr) {
    esp_tableau *t = calloc(1, sizeof *t);
    if (!t) return esp_fail(reterr, ESP_NOMEM, "a tableau");
    *t = (esp_tableau){.lp = lp, .n = lp->n_cols, .m = lp->n_rows, .arena = esp_arena_create(0)};
    bool ok = t->arena && take(t);
    if (ok) {
        find_own(t);
        number_base(t);
        t->undo = take_matrices(t) ? esp_undo_create(t) : NULL;
        ok = t->undo != NULL;
    }
    if (ok && shelf_bytes > 0) {
        t->shelf = esp_shelf_create(t, shelf_bytes);
        ok = t->shelf != NULL;
    }
    if (!ok) {
        esp_tableau_free(t);
        return esp_fail(reterr, ESP_NOMEM, "a tableau of %d rows and %d columns", lp->n_rows, lp->n_cols);
    }
    memcpy(t->lower, lp->col_lower, (size_t)t->n * sizeof *t->lower);
    memcpy(t->upper, lp->col_upper, (size_t)t->n * sizeof *t->upper);
    for (int i = 0; i < t->m; i++) (void)esp_tableau_changed(t, i);
    for (int v = 0; v < t->n + t->m; v++) t->status[v] = t->base_at[v] >= 0 ? ESP_BASIC : ESP_AT_LOWER;
    *ret_tableau = t;
    return ESP_OK;
}

void esp_tableau_free(esp_tableau *t) {
    if (!t) return;
    esp_shelf_free(t->shelf);
    esp_arena_free(t->arena);
    free(t);
}

/* FNV-1a over the row's entries, eight bytes at a time. */
static uint64_t hash_row(const esp_lp *lp, int i) {
    uint64_t hash = 0xcbf29ce484222325u + (uint64_t)i;
    for (int k = lp->row_start[i]; k < lp->row_start[i + 1]; k++) {
        uint64_t bits;
        memcpy(&bits, &lp->value[k], sizeof bits);
        hash = (hash ^ bits) * 0x100000001b3u;
        hash ^= hash >> 29;
    }
    return hash;
}

bool esp_tableau_changed(esp_tableau *t, int row) {
    uint64_t hash = hash_row(t->lp, row);
    limit_slack(t, row);
    if (hash == t->row_hash[row]) return false;
    t->entries ^= hash ^ t->row_hash[row];
    t->row_hash[row] = hash;
    t->stale[row] = true;
    return true;
}

/* ---- rows -------------------------------------------------------------------------------------------------------- */

#define ALIGNED(row) __builtin_assume_aligned((row), 64)

static inline void add_row(double *restrict to, const double *restrict from, double scale, int ld) {
    double *restrict a = ALIGNED(to);
    const double *restrict b = ALIGNED(from);
#pragma omp simd
    for (int k = 0; k < ld; k++) a[k] += scale * b[k];
}

static inline double weigh(const double *row, int ld) {
    const double *b = ALIGNED(row);
    double sum = 0.0;
#pragma omp simd reduction(+ : sum)
    for (int k = 0; k < ld; k++) sum += b[k] * b[k];
    return sum;
}

/* ---- the base ---------------------------------------------------------------------------------------------------- */

static void make_base_row(esp_tableau *t, int i) {
    const esp_lp *lp = t->lp;
    double *row = t->base + (size_t)i * (size_t)t->base_ld, constant = 0.0, pivot = 1.0;
    memset(row, 0, (size_t)t->base_ld * sizeof *row);
    for (int k = lp->row_start[i]; k < lp->row_start[i + 1]; k++) {
        int at = t->base_at[lp->col[k]];
        if (lp->col[k] == t->own[i]) {
            pivot = lp->value[k];
        } else if (at < 0) {
            row[-1 - at] += lp->value[k];
        } else {
            add_row(row, t->base + (size_t)at * (size_t)t->base_ld, lp->value[k], t->base_ld);
            constant += lp->value[k] * t->base_constant[at];
        }
    }
    if (t->own[i] >= 0) {
        constant = (lp->row_lower[i] - constant) / pivot;
        for (int k = 0; k < t->base_ld; k++) row[k] /= -pivot;
    }
    t->base_constant[i] = constant;
    t->stale[i] = false;
}

static void renew_base(esp_tableau *t) {
    for (int i = 0; i < t->m; i++)
        if (t->stale[i]) make_base_row(t, i);
}

/* ---- making ------------------------------------------------------------------------------------------------------ */

static bool fixed(const esp_tableau *t, int v) {
    return v < t->n && t->lower[v] == t->upper[v] && !t->keep[v];
}

/* Every equality row keeps a column whose reduced cost will be known. */
static void mark_kept(esp_tableau *t) {
    memset(t->keep, 0, (size_t)(t->n + t->m) * sizeof *t->keep);
    for (int i = 0; i < t->m; i++) {
        int a = t->own[i], b = t->also[i];
        if (a >= 0 && fixed(t, a) && (b < 0 || fixed(t, b))) t->keep[a] = true;
    }
}

static void leave_out(esp_tableau *t, int v) {
    t->at[v] = ESP_TABLEAU_OUT;
    t->left_at[v] = t->lower[v];
}

/* Copies the base without the columns that are fixed and stay nonbasic. */
static void copy_base(esp_tableau *t) {
    int *from = t->col_var; /* first the base column, then its variable */
    double *at = t->fixed_at;
    int out = 0;
    t->width = 0;
    for (int v = 0; v < t->n + t->m; v++) t->at[v] = t->base_at[v];
    for (int c = 0; c < t->base_width; c++) {
        int v = t->base_col[c];
        if (t->status[v] == ESP_BASIC || !fixed(t, v)) {
            from[t->width++] = c;
            continue;
        }
        leave_out(t, v);
        t->entering[out] = c;
        at[out++] = t->left_at[v];
    }
    t->ld = padded(t->width);
    for (int i = 0; i < t->m; i++) {
        const double *source = t->base + (size_t)i * (size_t)t->base_ld;
        double *row = esp_tableau_row(t, i), constant = t->base_constant[i];
        for (int c = 0; c < t->width; c++) row[c] = source[from[c]];
        for (int c = t->width; c < t->ld; c++) row[c] = 0.0;
        for (int k = 0; k < out; k++) constant += source[t->entering[k]] * at[k];
        t->constant[i] = constant;
        t->row_var[i] = t->own[i] >= 0 ? t->own[i] : t->n + i;
    }
    for (int c = 0; c < t->width; c++) {
        t->col_var[c] = t->base_col[from[c]];
        t->at[t->col_var[c]] = -1 - c;
    }
}

/* Solves the row, which must be up to date, for the column's variable, and names the two anew. Returns what the row's constant was, over
 * the pivot. */
static double turn(esp_tableau *t, int row, int col) {
    double *pivot_row = esp_tableau_row(t, row), inverse = 1.0 / pivot_row[col];
    for (int k = 0; k < t->ld; k++) pivot_row[k] *= -inverse;
    pivot_row[col] = inverse;
    int in = t->col_var[col], out = t->row_var[row];
    t->row_var[row] = in;
    t->col_var[col] = out;
    t->at[in] = row;
    t->at[out] = -1 - col;
    t->pivots++;
    double constant = t->constant[row] * inverse;
    t->constant[row] = -constant;
    return constant;
}

/* A row's length is at least that of what is added to it, or what it was: near enough to price by. */
static void lengthen(esp_tableau *t, int row, const double *restrict column) {
    double own = weigh(esp_tableau_row(t, row), t->ld), *restrict weight = t->weight;
    for (int i = 0; i < t->m; i++) weight[i] = esp_max(weight[i], column[i] * column[i] * own);
    weight[row] = own;
}

static void exchange(esp_tableau *t, int row, int col, const double *restrict column) {
    double constant = turn(t, row, col), own = t->constant[row], *restrict constants = t->constant;
    for (int i = 0; i < t->m; i++) constants[i] -= column[i] * constant;
    constants[row] = own;
    esp_pending_add(&t->pending, t->t, t->ld, row, col, column);
}

void esp_tableau_pivot(esp_tableau *t, int row, int col, const double *column, double *d, bool weigh_rows) {
    double f = d[col];
    esp_undo_column(t, col);
    exchange(t, row, col, column);
    if (weigh_rows) lengthen(t, row, column);
    t->weighed = t->weighed && weigh_rows;
    d[col] = 0.0;
    add_row(d, esp_tableau_row(t, row), f, t->ld);
}

void esp_tableau_renew_row(esp_tableau *t, int row) {
    esp_undo_row(t, row);
    esp_pending_give(&t->pending, row, esp_tableau_row(t, row), t->ld);
}

void esp_tableau_column(const esp_tableau *t, int col, double *ret_column) {
    esp_pending_column(&t->pending, t->t, t->ld, col, ret_column);
}

void esp_tableau_settle(esp_tableau *t) {
    esp_pending_apply(&t->pending, t->t, t->ld);
}

void esp_tableau_weigh(esp_tableau *t) {
    if (t->weighed) return;
    for (int i = 0; i < t->m; i++) t->weight[i] = weigh(esp_tableau_row(t, i), t->ld);
    t->weighed = true;
}

/* Columns that are to become basic. */
static int list_entering(const esp_tableau *t, int *list) {
    int n = 0;
    for (int c = 0; c < t->width; c++)
        if (t->status[t->col_var[c]] == ESP_BASIC) list[n++] = c;
    return n;
}

/* Rows whose variable is to leave, each against the column of its largest entry, until nothing moves. */
static void reach_basis(esp_tableau *t) {
    int *list = t->entering, n = list_entering(t, list);
    for (bool moved = n > 0; moved;) {
        moved = false;
        for (int i = 0; i < t->m && n > 0; i++) {
            if (t->status[t->row_var[i]] == ESP_BASIC) continue;
            const double *row = esp_tableau_row(t, i);
            int best = 0;
            esp_tableau_renew_row(t, i);
            for (int k = 1; k < n; k++)
                if (fabs(row[list[k]]) > fabs(row[list[best]])) best = k;
            int c = list[best];
            if (fabs(row[c]) <= SMALLEST_PIVOT) continue;
            list[best] = list[--n];
            esp_tableau_column(t, c, t->column);
            exchange(t, i, c, t->column);
            moved = true;
        }
    }
    esp_tableau_settle(t);
    for (int i = 0; i < t->m; i++) t->status[t->row_var[i]] = ESP_BASIC;
    for (int k = 0; k < n; k++) t->status[t->col_var[list[k]]] = ESP_AT_LOWER;
}

/* What has left the basis and is fixed goes as well. */
static void compact(esp_tableau *t) {
    int width = 0, gone = 0;
    for (int c = 0; c < t->width; c++) gone += fixed(t, t->col_var[c]);
    if (gone == 0) return;
    int old_ld = t->ld, new_ld = padded(t->width - gone);
    for (int i = 0; i < t->m; i++) {
        double *from = t->t + (size_t)i * (size_t)old_ld, *to = t->t + (size_t)i * (size_t)new_ld;
        int at = 0;
        for (int c = 0; c < t->width; c++) {
            int v = t->col_var[c];
            if (fixed(t, v))
                t->constant[i] += from[c] * t->lower[v];
            else
                to[at++] = from[c];
        }
        while (at < new_ld) to[at++] = 0.0;
    }
    for (int c = 0; c < t->width; c++) {
        int v = t->col_var[c];
        if (fixed(t, v)) {
            leave_out(t, v);
        } else {
            t->col_var[width] = v;
            t->at[v] = -1 - width++;
        }
    }
    t->width = width;
    t->ld = new_ld;
}

/* ---- the tableau of a basis ----------------------------------------------------------------------------------------- */

void esp_tableau_make(esp_tableau *t, bool afresh) {
    renew_base(t);
    esp_pending_clear(&t->pending);
    if (!afresh && esp_shelf_take(t)) return;
    mark_kept(t);
    copy_base(t);
    reach_basis(t);
    compact(t);
    t->weighed = false;
    t->pivots = 0;
    esp_shelf_put(t);
}

bool esp_tableau_outdated(const esp_tableau *t) {
    for (int v = 0; v < t->n; v++)
        if (t->at[v] == ESP_TABLEAU_OUT && (t->lower[v] != t->left_at[v] || t->upper[v] != t->left_at[v])) return true;
    return false;
}
