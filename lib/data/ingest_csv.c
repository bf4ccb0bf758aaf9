/* SPDX-License-Identifier: Apache-2.0
 * One step a line, under the header trajectory,step,y0,..,u0,..
 *
 * The rows of a trajectory stand together, steps 0, 1, 2, ...; its last step, and only that, leaves every u empty. A
 * trajectory number is a whole number and only tells neighbours apart. No quotes, no spaces: cells are numbers. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "data/ingest.h"

typedef struct csv_cell {
    const char *text;
    size_t len;
} csv_cell;

/* The next cell of [*at, end); false when there is none. *at passes end by one after the last. */
static bool next_cell(const char **at, const char *end, csv_cell *ret_cell) {
    if (*at > end) return false;
    const char *comma = memchr(*at, ',', (size_t)(end - *at));
    const char *stop = comma ? comma : end;
    *ret_cell = (csv_cell){*at, (size_t)(stop - *at)};
    *at = stop + 1;
    return true;
}

static bool cell_is(const csv_cell *cell, const char *text) {
    return cell->len == strlen(text) && memcmp(cell->text, text, cell->len) == 0;
}

/* How much of a cell an error quotes. */
static int quoted(const csv_cell *cell) {
    return cell->len < 40 ? (int)cell->len : 40;
}

/* "y0", "y1", ... as long as the cells go on so; the first other cell is left in *cell, *more says whether there is one. */
static size_t count_columns(char letter, const char **at, const char *end, csv_cell *cell, bool *more) {
    size_t n = 0;
    char name[24];
    while (*more) {
        (void)snprintf(name, sizeof name, "%c%zu", letter, n);
        if (!cell_is(cell, name)) break;
        n++;
        *more = next_cell(at, end, cell);
    }
    return n;
}

static esp_code read_header(esp_ingest *ingest, const char *line, size_t len, esp_error *reterr) {
    const char *at = line, *end = line + len;
    csv_cell cell = {line, 0};
    bool more = next_cell(&at, end, &cell) && cell_is(&cell, "trajectory") && next_cell(&at, end, &cell) && cell_is(&cell, "step");
    if (!more)
        return esp_ingest_refuse(ingest->line_number, reterr, "the header must begin with trajectory,step, not \"%.*s\"", len < 40 ? (int)len : 40,
                                 line);
    more = next_cell(&at, end, &cell);
    size_t ny = count_columns('y', &at, end, &cell, &more), nu = ny ? count_columns('u', &at, end, &cell, &more) : 0;
    if (more)
        return esp_ingest_refuse(ingest->line_number, reterr, "column \"%.*s\" of the header: y%zu or u%zu is expected", quoted(&cell), cell.text, ny,
                                 nu);
    if (ny < 1 || ny > ESP_MAX_WIDTH_Y || nu > ESP_MAX_WIDTH_U)
        return esp_ingest_refuse(ingest->line_number, reterr, "%zu columns y and %zu columns u; 1 to %d and 0 to %d are read", ny, nu,
                                 ESP_MAX_WIDTH_Y, ESP_MAX_WIDTH_U);
    ingest->csv.header = true;
    return esp_ingest_shape(ingest, ny, nu, reterr);
}

static size_t digits(const char *text, const char *end) {
    size_t n = 0;
    while (text + n < end && text[n] >= '0' && text[n] <= '9') n++;
    return n;
}

/* sign? digits (. digits)? (e sign? digits)?, a digit on at least one side of the point: strtod also takes hexadecimal,
 * inf, nan and leading space, which are no data. */
static bool is_number(const csv_cell *cell) {
    const char *at = cell->text, *end = cell->text + cell->len;
    if (at < end && (*at == '-' || *at == '+')) at++;
    size_t whole = digits(at, end), part = 0;
    at += whole;
    if (at < end && *at == '.') {
        part = digits(at + 1, end);
        at += 1 + part;
    }
    if (whole + part == 0) return false;
    if (at < end && (*at == 'e' || *at == 'E')) {
        at++;
        if (at < end && (*at == '-' || *at == '+')) at++;
        size_t power = digits(at, end);
        if (power == 0) return false;
        at += power;
    }
    return at == end;
}

static esp_code read_number(esp_ingest *ingest, const csv_cell *cell, char letter, size_t column, double *ret, esp_error *reterr) {
    if (cell->len == 0) return esp_ingest_refuse(ingest->line_number, reterr, "column %c%zu is empty", letter, column);
    if (!is_number(cell))
        return esp_ingest_refuse(ingest->line_number, reterr, "column %c%zu: \"%.*s\" is not a number", letter, column, quoted(cell), cell->text);
    double value = strtod_l(cell->text, NULL, ingest->locale); /* stops at the comma or the end of the line */
    if (!isfinite(value))
        return esp_ingest_refuse(ingest->line_number, reterr, "column %c%zu: %.*s is too large for a double", letter, column, quoted(cell),
                                 cell->text);
    *ret = value;
    return ESP_OK;
}

static esp_code read_whole(esp_ingest *ingest, const csv_cell *cell, const char *column, uint64_t *ret, esp_error *reterr) {
    if (cell->len == 0 || cell->len > 18 || digits(cell->text, cell->text + cell->len) != cell->len)
        return esp_ingest_refuse(ingest->line_number, reterr, "column %s: \"%.*s\" is not a whole number from 0 to 10^18 - 1", column, quoted(cell),
                                 cell->text);
    uint64_t value = 0;
    for (size_t i = 0; i < cell->len; i++) value = 10 * value + (uint64_t)(cell->text[i] - '0');
    *ret = value;
    return ESP_OK;
}

static esp_code close_trajectory(esp_ingest *ingest, esp_error *reterr) {
    esp_csv *csv = &ingest->csv;
    if (!csv->open) return ESP_OK;
    unsigned long long number = csv->trajectory;
    if (csv->steps < 2) return esp_ingest_refuse(csv->line, reterr, "trajectory %llu has 1 step; at least 2 are needed", number);
    if (ingest->data.nu > 0 && !csv->ended)
        return esp_ingest_refuse(csv->line, reterr, "column u0: the last step of trajectory %llu must leave every u empty", number);
    csv->open = false;
    return esp_ingest_trajectory(ingest, reterr);
}

/* Which trajectory and which step of it the row is. */
static esp_code place_row(esp_ingest *ingest, uint64_t trajectory, uint64_t step, esp_error *reterr) {
    esp_csv *csv = &ingest->csv;
    if (csv->open && trajectory == csv->trajectory && csv->ended)
        return esp_ingest_refuse(ingest->line_number, reterr, "trajectory %llu ended at line %zu, where every u is empty",
                                 (unsigned long long)trajectory, csv->line);
    if (!csv->open || trajectory != csv->trajectory) {
        esp_code code = close_trajectory(ingest, reterr);
        if (code != ESP_OK) return code;
        *csv = (esp_csv){.header = true, .open = true, .trajectory = trajectory};
    }
    if (step != csv->steps)
        return esp_ingest_refuse(ingest->line_number, reterr, "column step: %llu where step %zu of trajectory %llu is due", (unsigned long long)step,
                                 csv->steps, (unsigned long long)trajectory);
    csv->steps++;
    csv->line = ingest->line_number;
    return ESP_OK;
}

/* The u cells: all numbers, or all empty, which makes it the last step. */
static esp_code read_inputs(esp_ingest *ingest, const char *at, const char *end, esp_error *reterr) {
    size_t nu = (size_t)ingest->data.nu, empty = 0;
    csv_cell cell;
    const char *scan = at;
    while (next_cell(&scan, end, &cell)) empty += cell.len == 0;
    if (nu > 0 && empty == nu) {
        ingest->csv.ended = true;
        return ESP_OK;
    }
    esp_code code = ESP_OK;
    for (size_t j = 0; code == ESP_OK && j < nu && next_cell(&at, end, &cell); j++) code = read_number(ingest, &cell, 'u', j, &ingest->u[j], reterr);
    return code;
}

static esp_code check_count(esp_ingest *ingest, const char *line, size_t len, esp_error *reterr) {
    size_t cells = 1, due = 2 + (size_t)ingest->data.ny + (size_t)ingest->data.nu;
    for (size_t i = 0; i < len; i++) cells += line[i] == ',';
    if (cells != due) return esp_ingest_refuse(ingest->line_number, reterr, "has %zu cells; the header has %zu columns", cells, due);
    return ESP_OK;
}

esp_code esp_csv_line(esp_ingest *ingest, const char *line, size_t len, esp_error *reterr) {
    if (!ingest->csv.header) return read_header(ingest, line, len, reterr);
    const char *at = line, *end = line + len;
    csv_cell trajectory_cell = {0}, step_cell = {0}, cell = {0};
    uint64_t trajectory = 0, step = 0;
    esp_code code = check_count(ingest, line, len, reterr);
    if (code != ESP_OK) return code;
    (void)next_cell(&at, end, &trajectory_cell);
    (void)next_cell(&at, end, &step_cell);
    code = read_whole(ingest, &trajectory_cell, "trajectory", &trajectory, reterr);
    if (code == ESP_OK) code = read_whole(ingest, &step_cell, "step", &step, reterr);
    if (code == ESP_OK) code = place_row(ingest, trajectory, step, reterr);
    for (size_t j = 0; code == ESP_OK && j < (size_t)ingest->data.ny && next_cell(&at, end, &cell); j++)
        code = read_number(ingest, &cell, 'y', j, &ingest->y[j], reterr);
    if (code == ESP_OK) code = read_inputs(ingest, at, end, reterr);
    return code == ESP_OK ? esp_ingest_row(ingest, ingest->csv.ended, reterr) : code;
}

esp_code esp_csv_finish(esp_ingest *ingest, esp_error *reterr) {
    return close_trajectory(ingest, reterr);
}
