/* SPDX-License-Identifier: Apache-2.0
 * One trajectory a line: {"y":[[..] x (T + 1)],"u":[[..] x T]}. */
#include <stdio.h>
#include <string.h>

#include "base/json.h"
#include "data/ingest.h"

/* The first line says what ny and nu are. */
static esp_code take_shape(esp_ingest *ingest, const esp_reader *y, const esp_reader *u, esp_error *reterr) {
    esp_reader y0 = esp_read_element(y, 0), u0 = esp_read_element(u, 0);
    size_t ny = 0, nu = 0;
    esp_code code = esp_read_array(&y0, 1, ESP_MAX_WIDTH_Y, &ny, reterr);
    if (code == ESP_OK && u->value) code = esp_read_array(&u0, 0, ESP_MAX_WIDTH_U, &nu, reterr);
    return code == ESP_OK ? esp_ingest_shape(ingest, ny, nu, reterr) : code;
}

static esp_code read_row(esp_ingest *ingest, const esp_reader *y, const esp_reader *u, size_t step, bool last, esp_error *reterr) {
    esp_reader y_row = esp_read_element(y, step), u_row = esp_read_element(u, step);
    esp_code code = esp_read_vector(&y_row, (size_t)ingest->data.ny, ingest->y, reterr);
    if (code == ESP_OK && !last && u->value) code = esp_read_vector(&u_row, (size_t)ingest->data.nu, ingest->u, reterr);
    return code == ESP_OK ? esp_ingest_row(ingest, last, reterr) : code;
}

static esp_code read_trajectory(esp_ingest *ingest, const esp_reader *root, esp_error *reterr) {
    static const char *const fields[] = {"y", "u", NULL};
    esp_reader y, u = esp_read_member(root, "u");
    size_t rows = 0, actions = 0;
    esp_code code = esp_read_object(root, fields, reterr);
    if (code == ESP_OK) code = esp_read_required(root, "y", &y, reterr);
    if (code == ESP_OK) code = esp_read_array(&y, 2, SIZE_MAX, &rows, reterr);
    if (code == ESP_OK && u.value) {
        code = esp_read_array(&u, 0, SIZE_MAX, &actions, reterr);
        if (code == ESP_OK && actions != rows - 1)
            code = esp_refuse(&u, reterr, "has %zu rows; %zu are needed, one fewer than y has", actions, rows - 1);
    }
    if (code == ESP_OK && !ingest->y) code = take_shape(ingest, &y, &u, reterr);
    if (code == ESP_OK && !u.value && ingest->data.nu > 0) code = esp_read_required(root, "u", &u, reterr);
    for (size_t t = 0; code == ESP_OK && t < rows; t++) code = read_row(ingest, &y, &u, t, t == rows - 1, reterr);
    return code == ESP_OK ? esp_ingest_trajectory(ingest, reterr) : code;
}

/* The parser counts lines from the start of ours, which says nothing here. */
static void drop_inner_line(char *message) {
    char *at = strstr(message, "at line 1, ");
    if (at) memmove(at + 3, at + 11, strlen(at + 11) + 1);
}

static size_t count_commas(const char *line, size_t len) {
    size_t n = 0;
    for (size_t i = 0; i < len; i++) n += line[i] == ',';
    return n;
}

esp_code esp_ndjson_line(esp_ingest *ingest, const char *line, size_t len, esp_error *reterr) {
    if (count_commas(line, len) > ESP_MAX_LINE_VALUES) return esp_ingest_too_large(ingest->line_number, reterr, "values", ESP_MAX_LINE_VALUES);
    esp_json *json = NULL;
    esp_error why = {0};
    esp_code code = esp_json_parse(line, len, &json, &why);
    if (code == ESP_OK) {
        esp_reader root = esp_reader_root(json);
        code = read_trajectory(ingest, &root, &why);
    } else {
        drop_inner_line(why.message);
    }
    esp_json_free(json);
    if (code == ESP_OK) return ESP_OK;
    if (code != ESP_INVALID) return esp_fail(reterr, code, "%s", why.message);
    return esp_ingest_refuse(ingest->line_number, reterr, "%s%s%s", why.pointer, why.pointer[0] ? ": " : "", why.message);
}
