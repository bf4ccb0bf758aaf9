/* SPDX-License-Identifier: Apache-2.0
 * Reading of CSV (table_file.h). */
#include "paper/table_file.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The whole file with a NUL behind it; NULL with errno set. */
static char *read_whole(const char *path) {
    char *text = NULL;
    size_t len = 0, got;
    char piece[4096];
    FILE *in = fopen(path, "r");
    if (in == NULL) return NULL;
    while ((got = fread(piece, 1, sizeof piece, in)) > 0) {
        char *more = realloc(text, len + got + 1);
        if (more == NULL) break;
        text = more;
        memcpy(text + len, piece, got);
        len += got;
        text[len] = '\0';
    }
    fclose(in);
    if (text == NULL) errno = EINVAL;
    return text;
}

/* Cuts a line into cells in place; how many, at most cap. */
static int cut(char *line, const char **ret_cell, int cap) {
    int n = 0;
    for (char *at = line; at != NULL && n < cap; n++) {
        ret_cell[n] = at;
        at = strchr(at, ',');
        if (at != NULL) *at++ = '\0';
    }
    return n;
}

bool table_file_read(const char *path, table_file *ret_table) {
    table_file t = {.text = read_whole(path)};
    if (t.text == NULL) return false;
    int lines = 0;
    for (const char *at = t.text; (at = strchr(at, '\n')) != NULL; at++) lines++;
    t.cell = calloc((size_t)(lines + 1) * TABLE_FILE_COLUMNS, sizeof *t.cell);
    char *rest = t.text, *line;
    bool good = t.cell != NULL && (line = strsep(&rest, "\n")) != NULL;
    if (good) t.n_columns = cut(line, t.column, TABLE_FILE_COLUMNS);
    while (good && (line = strsep(&rest, "\n")) != NULL && *line != '\0') {
        const char *row[TABLE_FILE_COLUMNS];
        good = cut(line, row, TABLE_FILE_COLUMNS) == t.n_columns;
        memcpy(t.cell + t.n_rows++ * t.n_columns, row, (size_t)t.n_columns * sizeof *row);
    }
    if (good) {
        *ret_table = t;
        return true;
    }
    table_file_free(&t);
    errno = EINVAL;
    return false;
}

void table_file_free(table_file *table) {
    free(table->text);
    free(table->cell);
    *table = (table_file){0};
}

const char *table_file_text(const table_file *table, int row, const char *column) {
    for (int k = 0; k < table->n_columns; k++)
        if (strcmp(table->column[k], column) == 0) return table->cell[row * table->n_columns + k];
    return "";
}

double table_file_number(const table_file *table, int row, const char *column) {
    const char *text = table_file_text(table, row, column);
    char *end;
    double value = strtod(text, &end);
    return *text != '\0' && *end == '\0' ? value : (double)NAN;
}
