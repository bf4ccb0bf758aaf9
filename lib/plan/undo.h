/* SPDX-License-Identifier: Apache-2.0
 * What a few pivots overwrite in a tableau: rows that are brought up to date, columns that are cleared, constants, lengths and names. Part
 * of tableau.h, whose functions are the only ones that call these. */
#ifndef ESP_PLAN_UNDO_H
#define ESP_PLAN_UNDO_H

#include "plan/tableau.h"

struct esp_undo {
    bool marked;
    int n_rows, n_columns; /* saved since the mark */
    int row[ESP_PENDING_MOST], column[ESP_PENDING_MOST];
    int columns_before[ESP_PENDING_MOST]; /* how many were saved before each row */
    double *rows, *columns; /* ESP_PENDING_MOST x base_ld, ESP_PENDING_MOST x m */
    double *constant, *weight; /* m */
    int *row_var, *col_var, *at; /* m, base_width, n + m */
    int pivots;
};

/* In the tableau's arena. NULL when memory is out. */
esp_undo *esp_undo_create(const esp_tableau *tableau);
/* Before a row (a column) is written. Without a mark: nothing. */
void esp_undo_row(esp_tableau *tableau, int row);
void esp_undo_column(esp_tableau *tableau, int column);

#endif
