/* SPDX-License-Identifier: Apache-2.0
 * A table of text (table.h). */
#include "robots/table.h"

#include <stdarg.h>
#include <string.h>

void esp_table_init(esp_table *table) {
    memset(table, 0, sizeof *table);
}

void esp_table_column(esp_table *table, const char *head, char align) {
    if (table->n_columns == ESP_TABLE_COLUMNS) return;
    snprintf(table->head[table->n_columns], ESP_TABLE_CELL, "%s", head);
    table->left[table->n_columns++] = align == 'l';
}

int esp_table_row(esp_table *table) {
    if (table->n_rows < ESP_TABLE_ROWS) table->n_rows++;
    return table->n_rows - 1;
}

void esp_table_set(esp_table *table, int row, int column, const char *format, ...) {
    if (row < 0 || row >= table->n_rows || column < 0 || column >= table->n_columns) return;
    va_list args;
    va_start(args, format);
    vsnprintf(table->cell[row][column], ESP_TABLE_CELL, format, args);
    va_end(args);
}

static int column_width(const esp_table *table, int column) {
    size_t width = strlen(table->head[column]);
    for (int i = 0; i < table->n_rows; i++)
        if (strlen(table->cell[i][column]) > width) width = strlen(table->cell[i][column]);
    return (int)width;
}

/* row -1 is the head; no spaces at the end of a line. */
static void print_row(const esp_table *table, int row, const char *before, const char *between, const char *after, FILE *out) {
    fputs(before, out);
    for (int j = 0; j < table->n_columns; j++) {
        const char *text = row < 0 ? table->head[j] : table->cell[row][j];
        int width = column_width(table, j), last = j + 1 == table->n_columns;
        if (table->left[j])
            fprintf(out, "%-*s", last && after[0] == '\n' ? 0 : width, text);
        else
            fprintf(out, "%*s", width, text);
        fputs(last ? after : between, out);
    }
}

static void print_rule(const esp_table *table, const char *between, FILE *out) {
    for (int j = 0; j < table->n_columns; j++) {
        if (j > 0) fputs(between, out);
        for (int i = column_width(table, j); i > 0; i--) fputc('-', out);
    }
    fputc('\n', out);
}

void esp_table_print(const esp_table *table, FILE *out) {
    print_row(table, -1, "", "  ", "\n", out);
    print_rule(table, "  ", out);
    for (int i = 0; i < table->n_rows; i++) print_row(table, i, "", "  ", "\n", out);
}

void esp_table_markdown(const esp_table *table, FILE *out) {
    print_row(table, -1, "| ", " | ", " |\n", out);
    for (int j = 0; j < table->n_columns; j++) fputs(table->left[j] ? "|:--" : "|--:", out);
    fputs("|\n", out);
    for (int i = 0; i < table->n_rows; i++) print_row(table, i, "| ", " | ", " |\n", out);
}
