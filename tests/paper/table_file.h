/* SPDX-License-Identifier: Apache-2.0
 * A small CSV file in memory: a head of names, rows of as many cells, no quotes. */
#ifndef ESP_PAPER_TABLE_FILE_H
#define ESP_PAPER_TABLE_FILE_H

#include <stdbool.h>

#define TABLE_FILE_COLUMNS 16

typedef struct table_file {
    char *text; /* cells end where their commas and line ends were */
    int n_columns, n_rows;
    const char *column[TABLE_FILE_COLUMNS];
    const char **cell; /* n_rows x n_columns */
} table_file;

/* False with errno set: ENOENT when there is no such file, EINVAL when a row has another number of cells than the head. */
bool table_file_read(const char *path, table_file *ret_table);
void table_file_free(table_file *table);
/* A cell; "" and NaN when there is no such column. */
const char *table_file_text(const table_file *table, int row, const char *column);
double table_file_number(const table_file *table, int row, const char *column);

#endif
