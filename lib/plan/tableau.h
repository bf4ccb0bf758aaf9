/* SPDX-License-Identifier: Apache-2.0
 * The dense tableau of a linear program: every basic variable as a linear function of the nonbasic ones. Not an
 * algorithm: simplex.c moves it from basis to basis.
 *
 * The variables are the LP's columns x and one slack s_i = (A x)_i a row, numbered after them; with B basic and N not,
 *
 *     x_B = T x_N + constant,        T: rows x width, row-major
 *
 * Why dense. The programs of a tree search have a few hundred rows and columns and are solved hundreds of thousands of
 * times, each from a basis that is a few dozen pivots away. At that size a pivot on the whole tableau, which fits into the
 * second-level cache, is one pass of vector arithmetic, and everything the simplex method asks for (a row, a column, a
 * reduced cost) lies there to be read; a sparse method spends more than that on its factors.
 *
 * What keeps it small. An equality row takes no part: its slack is fixed, so one of its own columns (whose entries lie
 * in this row and later ones only) is basic from the start and the slack is left out. A column that is fixed and not
 * basic is moved into the constant when a basis is set. So what is wide at the root is narrow deep in a tree.
 *
 * Multipliers. Those of left-out slacks follow from the reduced costs of the columns, row by row from the last to the
 * first: column k of equality row i has d_k = cost_k - sum of v over its rows, and all rows but i are known by then.
 *
 * Pivots are given to the rows by eights (pending.h); a row is up to date when it was asked for, all are after a settle. So the first eight
 * from a mark write a row and a column each, and are soon undone.
 *
 * Rounding. Errors grow with pivots, so the tableau is made anew from the LP for every basis that is set, and when a
 * check of x against the LP's rows fails. Nothing here is trusted anyway: a bound is evaluated from multipliers with the
 * LP's own numbers (relax.h), a plan is replayed. */
#ifndef ESP_PLAN_TABLEAU_H
#define ESP_PLAN_TABLEAU_H

#include <stdint.h>

#include "plan/lp.h"
#include "plan/pending.h"

enum esp_place { ESP_AT_LOWER, ESP_AT_UPPER, ESP_BASIC };

typedef struct esp_shelf esp_shelf;
typedef struct esp_undo esp_undo;

typedef struct esp_tableau {
    const esp_lp *lp;
    esp_arena *arena;
    int n, m; /* columns and rows of the LP */
    double *lower, *upper; /* n + m: limits of every variable; those of slacks are finite too (implied by the columns) */
    unsigned char *status; /* n + m of esp_place; a left-out slack is at its lower limit */
    int *own; /* per row: the column that an equality row starts with, -1 for an inequality */
    int *also; /* per row: a second column of that kind, -1 when there is none */
    /* From the LP alone: equality rows' own columns and the slacks of inequalities are basic. */
    int base_width, base_ld;
    double *base, *base_constant; /* m x base_ld, m */
    int *base_col; /* base_width: the variable of each column */
    int *base_at; /* n + m: row of a basic variable, or -1 - column */
    bool *stale; /* per row: the LP's entries have changed */
    /* At work. */
    int width, ld; /* active columns; padded with zeros to whole cache lines */
    double *t, *constant; /* m x base_ld (ld used), without the pending pivots; m */
    esp_pending pending;
    double *column; /* m: while it is made */
    int *row_var, *col_var; /* m, base_width */
    int *at; /* n + m: row >= 0; -1 - column; ESP_TABLEAU_OUT */
    double *weight; /* m: squared length of each row of T, while `weighed`: as it was, or what pivots have made of it at least */
    bool weighed;
    bool *keep; /* n + m: not to be left out though fixed, for the multipliers */
    double *left_at; /* n: where a left-out column was fixed */
    double *fixed_at; /* n: the same, listed while it is made */
    int *entering; /* base_width: columns listed while it is made */
    int pivots; /* since it was made */
    uint64_t *row_hash, entries; /* of every row's entries; of all */
    esp_shelf *shelf; /* copies of earlier ones, or NULL */
    esp_undo *undo; /* what pivots since a mark have overwritten */
} esp_tableau;

#define ESP_TABLEAU_OUT (-0x40000000)

/* The LP must be finished and outlive it; its entries may change (esp_tableau_changed), its shape not. shelf_bytes: for
 * copies, 0 for none. */
ESP_MUST_CHECK esp_code esp_tableau_create(const esp_lp *lp, size_t shelf_bytes, esp_tableau **ret_tableau, esp_error *reterr);
void esp_tableau_free(esp_tableau *tableau);
/* An inequality row's entries or limits have changed in the LP. True when the tableau must be made anew. */
bool esp_tableau_changed(esp_tableau *tableau, int row);
/* Makes the tableau for the basis in `status`, columns that are fixed left out. A basis that is singular, or nearly, is
 * mended: `status` says afterwards what is basic. A copy goes on the shelf, to be found when the same basis is set with the same
 * entries: a tree search comes back to one for the other branch, and copying is a pass over memory where making is a pivot for each
 * column of the basis. `afresh`: from the LP, not from a copy. */
void esp_tableau_make(esp_tableau *tableau, bool afresh);
/* Exchanges the basic variable of a row, which must be up to date, with the nonbasic one of a column, whose entries are given; `d`: another
 * row of width ld, taken along. weigh: keep the rows' lengths, which must be known; else they are forgotten. The row is up to date
 * afterwards, the others not. */
void esp_tableau_pivot(esp_tableau *tableau, int row, int col, const double *column, double *d, bool weigh);
/* Brings one row up to date; all of them. */
void esp_tableau_renew_row(esp_tableau *tableau, int row);
void esp_tableau_settle(esp_tableau *tableau);
/* The present entries of a column, m values. */
void esp_tableau_column(const esp_tableau *tableau, int col, double *ret_column);
/* Lengths of all rows, unless they are known. */
void esp_tableau_weigh(esp_tableau *tableau);
/* Marks the tableau as it is. Rows may then be brought up to date and pivots made in them, as long as it is open: one row and one pivot
 * before asking again, and no settle. */
void esp_tableau_mark(esp_tableau *tableau);
/* False: marked, and ESP_PENDING_MOST rows have been brought up to date, or as many pivots made. */
bool esp_tableau_open(const esp_tableau *tableau);
/* As it was marked, and no longer. */
void esp_tableau_back(esp_tableau *tableau);
/* True when a column that was left out is not where it was. */
bool esp_tableau_outdated(const esp_tableau *tableau);

static inline double *esp_tableau_row(const esp_tableau *tableau, int row) {
    return tableau->t + (size_t)row * (size_t)tableau->ld;
}
/* Value of a nonbasic variable. */
static inline double esp_tableau_limit(const esp_tableau *tableau, int var) {
    return tableau->status[var] == ESP_AT_UPPER ? tableau->upper[var] : tableau->lower[var];
}

#endif
