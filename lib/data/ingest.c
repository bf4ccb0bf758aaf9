/* SPDX-License-Identifier: Apache-2.0
 * The push parser: bytes into lines, rows into arrays. What a line means is ingest_ndjson.c and ingest_csv.c.
 *
 * Lines that lie whole inside one fed piece are read where they are; only the ends of pieces are copied. */
#include "data/ingest.h"

#include <assert.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

esp_code esp_ingest_create(esp_data_format format, bool keep, esp_ingest **ret_ingest, esp_error *reterr) {
    esp_ingest *ingest = calloc(1, sizeof *ingest);
    if (!ingest) return esp_fail(reterr, ESP_NOMEM, "a reader of trajectories");
    ingest->format = format;
    ingest->keep = keep;
    ingest->locale = newlocale(LC_ALL_MASK, "C", (locale_t)0);
    if (!ingest->locale) {
        free(ingest);
        return esp_fail(reterr, ESP_NOMEM, "a reader of trajectories");
    }
    *ret_ingest = ingest;
    return ESP_OK;
}

void esp_ingest_free(esp_ingest *ingest) {
    if (!ingest) return;
    esp_buf_done(&ingest->line);
    freelocale(ingest->locale);
    free(ingest->data.start);
    free(ingest->data.y);
    free(ingest->data.u);
    free(ingest->y);
    free(ingest->u);
    free(ingest);
}

esp_code esp_ingest_refuse(size_t line, esp_error *reterr, const char *format, ...) {
    char pointer[32], message[300];
    va_list args;
    va_start(args, format);
    (void)vsnprintf(message, sizeof message, format, args);
    va_end(args);
    (void)snprintf(pointer, sizeof pointer, "line %zu", line);
    return esp_fail_at(reterr, ESP_INVALID, pointer, "%s", message);
}

esp_code esp_ingest_too_large(size_t line, esp_error *reterr, const char *what, unsigned cap) {
    char pointer[32];
    (void)snprintf(pointer, sizeof pointer, "line %zu", line);
    return esp_fail_at(reterr, ESP_TOO_LARGE, pointer, "a line has at most %u %s", cap, what);
}

esp_code esp_ingest_shape(esp_ingest *ingest, size_t ny, size_t nu, esp_error *reterr) {
    assert(!ingest->y && ny >= 1 && ny <= ESP_MAX_WIDTH_Y && nu <= ESP_MAX_WIDTH_U);
    ingest->y = calloc(ny, sizeof(double));
    ingest->u = calloc(nu + 1, sizeof(double));
    if (!ingest->y || !ingest->u) return esp_fail(reterr, ESP_NOMEM, "a row of %zu numbers", ny + nu);
    ingest->data.ny = (int)ny;
    ingest->data.nu = (int)nu;
    return ESP_OK;
}

/* Room for one more item of `size` bytes after the n that *array holds; *cap counts items and is the caller's to set. */
static bool grow(void *array, size_t cap, size_t size) {
    void **at = array;
    if (size == 0) return true;
    if (cap > SIZE_MAX / 2 / size) return false;
    void *more = realloc(*at, cap * size);
    if (!more) return false;
    *at = more;
    return true;
}

static bool reserve_row(esp_ingest *ingest) {
    esp_dataset *data = &ingest->data;
    if (data->n_rows < ingest->cap_rows) return true;
    size_t cap = ingest->cap_rows ? 2 * ingest->cap_rows : 256;
    void *y = data->y, *u = data->u;
    bool grown = grow(&y, cap, (size_t)data->ny * sizeof(double));
    data->y = y;
    grown = grown && grow(&u, cap, (size_t)data->nu * sizeof(double));
    data->u = u;
    if (grown) ingest->cap_rows = cap;
    return grown;
}

esp_code esp_ingest_row(esp_ingest *ingest, bool last, esp_error *reterr) {
    esp_dataset *data = &ingest->data;
    size_t ny = (size_t)data->ny, nu = (size_t)data->nu;
    if (ingest->keep) {
        if (!reserve_row(ingest)) return esp_fail(reterr, ESP_NOMEM, "%zu rows of %zu numbers", data->n_rows, ny + nu);
        memcpy(data->y + data->n_rows * ny, ingest->y, ny * sizeof *data->y);
        if (nu && last) memset(data->u + data->n_rows * nu, 0, nu * sizeof *data->u);
        if (nu && !last) memcpy(data->u + data->n_rows * nu, ingest->u, nu * sizeof *data->u);
    }
    data->n_rows++;
    return ESP_OK;
}

esp_code esp_ingest_trajectory(esp_ingest *ingest, esp_error *reterr) {
    esp_dataset *data = &ingest->data;
    assert(data->n_rows >= ingest->first_row + 2);
    if (ingest->keep) {
        if (data->n_trajectories + 1 >= ingest->cap_trajectories) {
            size_t cap = ingest->cap_trajectories ? 2 * ingest->cap_trajectories : 64;
            void *start = data->start;
            if (!grow(&start, cap, sizeof *data->start)) return esp_fail(reterr, ESP_NOMEM, "%zu trajectories", data->n_trajectories);
            data->start = start;
            ingest->cap_trajectories = cap;
        }
        data->start[0] = 0;
        data->start[data->n_trajectories + 1] = data->n_rows;
    }
    data->n_transitions += data->n_rows - ingest->first_row - 1;
    data->n_trajectories++;
    ingest->first_row = data->n_rows;
    return ESP_OK;
}

static bool is_blank(const char *line, size_t len) {
    while (len > 0 && (line[len - 1] == ' ' || line[len - 1] == '\t')) len--;
    return len == 0;
}

static esp_code read_line(esp_ingest *ingest, const char *line, size_t len, esp_error *reterr) {
    if (len > 0 && line[len - 1] == '\r') len--;
    if (is_blank(line, len)) return ESP_OK;
    return ingest->format == ESP_DATA_CSV ? esp_csv_line(ingest, line, len, reterr) : esp_ndjson_line(ingest, line, len, reterr);
}

/* Adds a piece of a line to what has come of it. */
static esp_code hold(esp_ingest *ingest, const char *bytes, size_t len, esp_error *reterr) {
    esp_buf_put(&ingest->line, bytes, len);
    return ingest->line.failed ? esp_fail(reterr, ESP_NOMEM, "a line of %zu bytes", len) : ESP_OK;
}

esp_code esp_ingest_feed(esp_ingest *ingest, const char *bytes, size_t len, esp_error *reterr) {
    assert(!ingest->failed && !ingest->finished);
    esp_code code = ESP_OK;
    while (code == ESP_OK && len > 0) {
        const char *end = memchr(bytes, '\n', len);
        size_t piece = end ? (size_t)(end - bytes) : len;
        if (piece > ESP_MAX_LINE_BYTES - ingest->line.len) {
            code = esp_ingest_too_large(ingest->line_number + 1, reterr, "bytes", ESP_MAX_LINE_BYTES);
            break;
        }
        if (!end) {
            code = hold(ingest, bytes, piece, reterr);
            break;
        }
        ingest->line_number++;
        if (ingest->line.len == 0) {
            code = read_line(ingest, bytes, piece, reterr);
        } else {
            code = hold(ingest, bytes, piece + 1, reterr); /* with the newline, which ends the last number */
            if (code == ESP_OK) code = read_line(ingest, ingest->line.data, ingest->line.len - 1, reterr);
            esp_buf_clear(&ingest->line);
        }
        bytes += piece + 1;
        len -= piece + 1;
    }
    ingest->failed = code != ESP_OK;
    return code;
}

esp_code esp_ingest_finish(esp_ingest *ingest, esp_error *reterr) {
    assert(!ingest->failed && !ingest->finished);
    esp_code code = ESP_OK;
    if (ingest->line.len > 0) {
        size_t len = ingest->line.len;
        const char *line = esp_buf_text(&ingest->line);
        ingest->line_number++;
        code = ingest->line.failed ? esp_fail(reterr, ESP_NOMEM, "a line of %zu bytes", len) : read_line(ingest, line, len, reterr);
    }
    if (code == ESP_OK && ingest->format == ESP_DATA_CSV) code = esp_csv_finish(ingest, reterr);
    if (code == ESP_OK && ingest->data.n_trajectories == 0)
        code = esp_ingest_refuse(ingest->line_number ? ingest->line_number : 1, reterr, "the data end without any trajectory");
    ingest->failed = code != ESP_OK;
    ingest->finished = code == ESP_OK;
    return code;
}

const esp_dataset *esp_ingest_counts(const esp_ingest *ingest) {
    return &ingest->data;
}

esp_dataset *esp_ingest_take(esp_ingest *ingest) {
    assert(ingest->finished && ingest->keep && ingest->data.y);
    esp_dataset *data = malloc(sizeof *data);
    if (!data) return NULL;
    *data = ingest->data;
    ingest->data.start = NULL;
    ingest->data.y = ingest->data.u = NULL;
    return data;
}
