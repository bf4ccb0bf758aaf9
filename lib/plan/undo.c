/* SPDX-License-Identifier: Apache-2.0
 * A tableau back to where it was marked. */
#include "plan/undo.h"

#include <string.h>

esp_undo *esp_undo_create(const esp_tableau *t) {
    esp_undo *u = ESP_NEW(t->arena, esp_undo, 1);
    if (!u) return NULL;
    *u = (esp_undo){0};
    u->rows = ESP_NEW(t->arena, double, (size_t)(t->base_ld + 1) * ESP_PENDING_MOST);
    u->columns = ESP_NEW(t->arena, double, (size_t)(t->m + 1) * ESP_PENDING_MOST);
    u->constant = ESP_NEW(t->arena, double, t->m + 1);
    u->weight = ESP_NEW(t->arena, double, t->m + 1);
    u->row_var = ESP_NEW(t->arena, int, t->m + 1);
    u->col_var = ESP_NEW(t->arena, int, t->base_width + 1);
    u->at = ESP_NEW(t->arena, int, t->n + t->m + 1);
    return u->rows && u->columns && u->constant && u->weight && u->row_var && u->col_var && u->at ? u : NULL;
}

/* Everything that has one value a row, a column or a variable. */
static void carry(esp_tableau *t, bool back) {
    esp_undo *u = t->undo;
    size_t m = (size_t)t->m;
    struct {
        void *now, *marked;
        size_t bytes;
    } parts[] = {{t->constant, u->constant, m * sizeof(double)},
                 {t->weight, u->weight, m * sizeof(double)},
                 {t->row_var, u->row_var, m * sizeof(int)},
                 {t->col_var, u->col_var, (size_t)t->width * sizeof(int)},
                 {t->at, u->at, (size_t)(t->n + t->m) * sizeof(int)}};
    for (size_t k = 0; k < sizeof parts / sizeof *parts; k++)
        memcpy(back ? parts[k].now : parts[k].marked, back ? parts[k].marked : parts[k].now, parts[k].bytes);
}

void esp_tableau_mark(esp_tableau *t) {
    esp_tableau_settle(t);
    esp_tableau_weigh(t);
    carry(t, false);
    t->undo->pivots = t->pivots;
    t->undo->n_rows = t->undo->n_columns = 0;
    t->undo->marked = true;
}

bool esp_tableau_open(const esp_tableau *t) {
    return !t->undo->marked || (t->undo->n_rows < ESP_PENDING_MOST && t->undo->n_columns < ESP_PENDING_MOST);
}

void esp_undo_row(esp_tableau *t, int row) {
    esp_undo *u = t->undo;
    if (!u->marked) return;
    for (int k = 0; k < u->n_rows; k++)
        if (u->row[k] == row) return;
    u->row[u->n_rows] = row;
    u->columns_before[u->n_rows] = u->n_columns;
    memcpy(u->rows + (size_t)u->n_rows++ * (size_t)t->base_ld, esp_tableau_row(t, row), (size_t)t->ld * sizeof(double));
}

void esp_undo_column(esp_tableau *t, int column) {
    esp_undo *u = t->undo;
    if (!u->marked) return;
    double *to = u->columns + (size_t)u->n_columns * (size_t)t->m;
    for (int i = 0; i < t->m; i++) to[i] = esp_tableau_row(t, i)[column];
    u->column[u->n_columns++] = column;
}

static void restore_row(esp_tableau *t, int k) {
    memcpy(esp_tableau_row(t, t->undo->row[k]), t->undo->rows + (size_t)k * (size_t)t->base_ld, (size_t)t->ld * sizeof(double));
}

static void restore_column(esp_tableau *t, int k) {
    const double *from = t->undo->columns + (size_t)k * (size_t)t->m;
    for (int i = 0; i < t->m; i++) esp_tableau_row(t, i)[t->undo->column[k]] = from[i];
}

/* In reverse: a row was saved with the zeros of the columns before it. */
void esp_tableau_back(esp_tableau *t) {
    esp_undo *u = t->undo;
    while (u->n_rows + u->n_columns > 0) {
        bool row_last = u->n_rows > 0 && u->columns_before[u->n_rows - 1] == u->n_columns;
        if (row_last)
            restore_row(t, --u->n_rows);
        else
            restore_column(t, --u->n_columns);
    }
    esp_pending_clear(&t->pending);
    carry(t, true);
    t->pivots = u->pivots;
    u->marked = false;
}
