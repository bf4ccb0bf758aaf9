/* SPDX-License-Identifier: Apache-2.0
 * Pivots that the rows of a dense tableau have still to be given.
 *
 * A pivot adds a multiple of one row to every other: T becomes T + f p', f a column and p the pivot's row. Done at once it is a
 * pass over the whole tableau, and the processor waits for the cache. Here the last few are kept apart,
 *
 *     the tableau is T + sum over j of f_j p_j',
 *
 * and are given to T in one pass with eight times the arithmetic. In between the simplex method asks for one row
 * and a few columns a pivot, which costs a few vectors each.
 *
 * Float estimates: nothing is proved with what comes out (tableau.h). */
#ifndef ESP_PLAN_PENDING_H
#define ESP_PLAN_PENDING_H

#include <stdbool.h>

#include "base/arena.h"

#define ESP_PENDING_MOST 8

typedef struct esp_pending {
    int n; /* pivots, at most ESP_PENDING_MOST */
    int m, stride; /* rows of T; doubles from one p to the next */
    double *factor, *row; /* ESP_PENDING_MOST x m: f; ESP_PENDING_MOST x stride: p; zeros after the n that there are */
} esp_pending;

/* For a T of m rows, at most `widest` (a multiple of 8) doubles each. False: no memory. */
bool esp_pending_init(esp_pending *pending, esp_arena *arena, int m, int widest);
/* Forgets them. */
void esp_pending_clear(esp_pending *pending);
/* Gives row i what it lacks; `row` is T's, ld doubles. It is then up to date until the next pivot is added. */
void esp_pending_give(esp_pending *pending, int i, double *row, int ld);
/* A column of the tableau, m values, of T with rows of ld doubles. */
void esp_pending_column(const esp_pending *pending, const double *t, int ld, int col, double *ret_column);
/* The pivot in (row, col): `column` as esp_pending_column has it, the row of T given what it lacked and then solved for the
 * column's variable. All are given to T first when there is no room. */
void esp_pending_add(esp_pending *pending, double *t, int ld, int row, int col, const double *column);
/* All of them to T. */
void esp_pending_apply(esp_pending *pending, double *t, int ld);

#endif
