/* SPDX-License-Identifier: Apache-2.0
 * A table of text: filled cell by cell, printed aligned for a terminal or as Markdown. ASCII widths; no wrapping. */
#ifndef ESP_ROBOTS_TABLE_H
#define ESP_ROBOTS_TABLE_H

#include <stdio.h>

#define ESP_TABLE_COLUMNS 16
#define ESP_TABLE_ROWS    32
#define ESP_TABLE_CELL    64

typedef struct esp_table {
    int n_columns, n_rows;
    char left[ESP_TABLE_COLUMNS]; /* 1: aligned left, else right */
    char head[ESP_TABLE_COLUMNS][ESP_TABLE_CELL];
    char cell[ESP_TABLE_ROWS][ESP_TABLE_COLUMNS][ESP_TABLE_CELL];
} esp_table;

void esp_table_init(esp_table *table);
/* align: 'l' or 'r'. */
void esp_table_column(esp_table *table, const char *head, char align);
/* A new row of empty cells; its index. Past the last row it gives the last one again. */
int esp_table_row(esp_table *table);
/* Longer text is cut. */
void esp_table_set(esp_table *table, int row, int column, const char *format, ...) __attribute__((format(printf, 4, 5)));

void esp_table_print(const esp_table *table, FILE *out);
void esp_table_markdown(const esp_table *table, FILE *out);

#endif
