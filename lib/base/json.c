/* SPDX-License-Identifier: Apache-2.0
 * JSON in, over jansson, which nothing else includes. Out is json_write.c. */
#include "base/json.h"

#include <jansson.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#define MAX_DEPTH 32

/* jansson's own limit is 2048 levels; ours keeps recursion here and in the callers shallow. Brackets inside strings do
 * not count, so strings are skipped. */
static bool too_deep(const char *text, size_t len) {
    int depth = 0;
    bool in_string = false;
    for (size_t i = 0; i < len; i++) {
        char c = text[i];
        if (in_string) {
            if (c == '\\')
                i++;
            else if (c == '"')
                in_string = false;
        } else if (c == '"')
            in_string = true;
        else if (c == '[' || c == '{') {
            if (++depth > MAX_DEPTH) return true;
        } else if (c == ']' || c == '}')
            depth--;
    }
    return false;
}

esp_code esp_json_parse(const char *text, size_t len, esp_json **ret_json, esp_error *reterr) {
    if (too_deep(text, len)) return esp_fail(reterr, ESP_INVALID, "JSON is nested deeper than %d levels", MAX_DEPTH);
    json_error_t why;
    json_t *json = json_loadb(text, len, JSON_REJECT_DUPLICATES | JSON_DECODE_ANY, &why);
    if (!json) return esp_fail(reterr, ESP_INVALID, "not valid JSON: %s at line %d, column %d", why.text, why.line, why.column);
    *ret_json = json;
    return ESP_OK;
}

void esp_json_free(esp_json *json) {
    json_decref(json);
}

static int append(const char *bytes, size_t len, void *out) {
    esp_buf_put(out, bytes, len);
    return 0;
}

void esp_json_canonical(const esp_json *json, esp_buf *ret_text) {
    if (json_dump_callback(json, append, ret_text, JSON_COMPACT | JSON_SORT_KEYS | JSON_ENCODE_ANY) != 0) ret_text->failed = true;
}

esp_json_kind esp_reader_kind(const esp_reader *reader) {
    switch (reader->value ? json_typeof(reader->value) : JSON_NULL) {
    case JSON_OBJECT: return ESP_JSON_OBJECT;
    case JSON_ARRAY: return ESP_JSON_ARRAY;
    case JSON_STRING: return ESP_JSON_STRING;
    case JSON_INTEGER:
    case JSON_REAL: return ESP_JSON_NUMBER;
    case JSON_TRUE:
    case JSON_FALSE: return ESP_JSON_BOOL;
    case JSON_NULL: break;
    }
    return ESP_JSON_NULL;
}

static const char *kind_name(const esp_reader *reader) {
    static const char *const names[] = {"null", "a boolean", "a number", "a string", "an array", "an object"};
    return reader->value ? names[esp_reader_kind(reader)] : "absent";
}

/* JSON Pointer (RFC 6901) of the reader, parents first. */
static void pointer_of(const esp_reader *reader, esp_buf *out) {
    if (!reader->parent) return;
    pointer_of(reader->parent, out);
    esp_buf_puts(out, "/");
    if (!reader->key) {
        esp_buf_printf(out, "%zu", reader->index);
        return;
    }
    for (const char *c = reader->key; *c; c++) {
        if (*c == '~')
            esp_buf_puts(out, "~0");
        else if (*c == '/')
            esp_buf_puts(out, "~1");
        else
            esp_buf_put(out, c, 1);
    }
}

esp_code esp_reader_refuse(const esp_reader *reader, esp_error *reterr, const char *where, const char *format, ...) {
    if (!reterr) return ESP_INVALID;
    char message[sizeof reterr->message];
    va_list args;
    va_start(args, format);
    (void)vsnprintf(message, sizeof message, format, args);
    va_end(args);
    esp_buf pointer = {0};
    pointer_of(reader, &pointer);
    esp_code code = esp_error_set(reterr, ESP_INVALID, where, esp_buf_text(&pointer), "%s", message);
    esp_buf_done(&pointer);
    return code;
}

esp_code esp_read_object(const esp_reader *reader, const char *const *fields, esp_error *reterr) {
    if (!json_is_object(reader->value)) return esp_refuse(reader, reterr, "must be an object, is %s", kind_name(reader));
    const char *key;
    esp_reader value;
    for (size_t i = 0; esp_read_entry(reader, i, &key, &value); i++) {
        const char *const *field = fields;
        while (*field && strcmp(*field, key) != 0) field++;
        if (!*field) return esp_refuse(&value, reterr, "unknown field \"%.64s\"", key);
    }
    return ESP_OK;
}

esp_reader esp_read_member(const esp_reader *object, const char *key) {
    const json_t *value = object->value ? json_object_get(object->value, key) : NULL;
    return (esp_reader){json_is_null(value) ? NULL : value, object, key, 0};
}

esp_code esp_read_required(const esp_reader *object, const char *key, esp_reader *ret_member, esp_error *reterr) {
    *ret_member = esp_read_member(object, key);
    if (!ret_member->value) return esp_refuse(ret_member, reterr, "\"%s\" is required", key);
    return ESP_OK;
}

esp_code esp_read_array(const esp_reader *reader, size_t min, size_t max, size_t *ret_n, esp_error *reterr) {
    if (!json_is_array(reader->value)) return esp_refuse(reader, reterr, "must be an array, is %s", kind_name(reader));
    size_t n = json_array_size(reader->value);
    if (n < min || n > max) {
        if (min == max) return esp_refuse(reader, reterr, "must have %zu elements, has %zu", min, n);
        if (max == SIZE_MAX) return esp_refuse(reader, reterr, "must have at least %zu elements, has %zu", min, n);
        return esp_refuse(reader, reterr, "must have %zu to %zu elements, has %zu", min, max, n);
    }
    *ret_n = n;
    return ESP_OK;
}

esp_reader esp_read_element(const esp_reader *array, size_t index) {
    return (esp_reader){json_array_get(array->value, index), array, NULL, index};
}

/* jansson walks an object by keys in stored order; the i-th is found by walking, which is quadratic but objects read
 * this way are small: their members are bounded by the fields they may have, the first unknown one ends the walk. */
bool esp_read_entry(const esp_reader *object, size_t index, const char **ret_key, esp_reader *ret_value) {
    json_t *map = (json_t *)(uintptr_t)object->value; /* jansson's walk changes nothing, and says so nowhere */
    void *at = json_object_iter(map);
    for (size_t i = 0; at && i < index; i++) at = json_object_iter_next(map, at);
    if (at) {
        *ret_key = json_object_iter_key(at);
        *ret_value = (esp_reader){json_object_iter_value(at), object, *ret_key, 0};
    }
    return at != NULL;
}

esp_code esp_read_number(const esp_reader *reader, double lower, double upper, double *ret, esp_error *reterr) {
    if (!reader->value) return ESP_OK;
    if (!json_is_number(reader->value)) return esp_refuse(reader, reterr, "must be a number, is %s", kind_name(reader));
    double value = json_number_value(reader->value);
    if (!(value >= lower && value <= upper)) return esp_refuse(reader, reterr, "must lie in [%g, %g], is %g", lower, upper, value);
    *ret = value;
    return ESP_OK;
}

esp_code esp_read_integer(const esp_reader *reader, int64_t lower, int64_t upper, int64_t *ret, esp_error *reterr) {
    if (!reader->value) return ESP_OK;
    if (!json_is_integer(reader->value))
        return esp_refuse(reader, reterr, "must be an integer, is %s", json_is_real(reader->value) ? "a real number" : kind_name(reader));
    int64_t value = json_integer_value(reader->value);
    if (value < lower || value > upper)
        return esp_refuse(reader, reterr, "must lie in [%lld, %lld], is %lld", (long long)lower, (long long)upper, (long long)value);
    *ret = value;
    return ESP_OK;
}

esp_code esp_read_int(const esp_reader *reader, int lower, int upper, int *ret, esp_error *reterr) {
    int64_t value = *ret;
    esp_code code = esp_read_integer(reader, lower, upper, &value, reterr);
    if (code == ESP_OK) *ret = (int)value;
    return code;
}

esp_code esp_read_bool(const esp_reader *reader, bool *ret, esp_error *reterr) {
    if (!reader->value) return ESP_OK;
    if (!json_is_boolean(reader->value)) return esp_refuse(reader, reterr, "must be true or false, is %s", kind_name(reader));
    *ret = json_is_true(reader->value);
    return ESP_OK;
}

esp_code esp_read_string(const esp_reader *reader, size_t max_len, const char **ret, esp_error *reterr) {
    if (!reader->value) return ESP_OK;
    if (!json_is_string(reader->value)) return esp_refuse(reader, reterr, "must be a string, is %s", kind_name(reader));
    if (json_string_length(reader->value) > max_len) return esp_refuse(reader, reterr, "must have at most %zu bytes", max_len);
    *ret = json_string_value(reader->value);
    return ESP_OK;
}

esp_code esp_read_choice(const esp_reader *reader, const char *const *names, int *ret, esp_error *reterr) {
    const char *text = NULL;
    esp_code code = esp_read_string(reader, 64, &text, reterr);
    if (code != ESP_OK || !text) return code;
    char valid[200] = "";
    size_t used = 0;
    for (int i = 0; names[i]; i++) {
        if (strcmp(names[i], text) == 0) {
            *ret = i;
            return ESP_OK;
        }
        if (used < sizeof valid) used += (size_t)snprintf(valid + used, sizeof valid - used, "%s\"%s\"", i ? ", " : "", names[i]);
    }
    return esp_refuse(reader, reterr, "must be one of %s, is \"%s\"", valid, text);
}

/* Element `index` as a finite number. */
static esp_code read_element_number(const esp_reader *array, size_t index, double *ret, esp_error *reterr) {
    const json_t *value = json_array_get(array->value, index);
    if (!json_is_number(value)) {
        esp_reader element = esp_read_element(array, index);
        return esp_refuse(&element, reterr, "must be a number, is %s", kind_name(&element));
    }
    *ret = json_number_value(value);
    if (isfinite(*ret)) return ESP_OK;
    esp_reader element = esp_read_element(array, index);
    return esp_refuse(&element, reterr, "must be finite");
}

esp_code esp_read_vector(const esp_reader *reader, size_t n, double *ret, esp_error *reterr) {
    size_t size;
    esp_code code = esp_read_array(reader, n, n, &size, reterr);
    for (size_t i = 0; code == ESP_OK && i < n; i++) code = read_element_number(reader, i, &ret[i], reterr);
    return code;
}

esp_code esp_read_vector_any(const esp_reader *reader, size_t max, esp_arena *arena, double **ret, size_t *ret_n, esp_error *reterr) {
    size_t n = 0;
    esp_code code = esp_read_array(reader, 0, max, &n, reterr);
    if (code != ESP_OK) return code;
    double *values = ESP_NEW(arena, double, n);
    if (!values) return esp_fail(reterr, ESP_NOMEM, "a vector of %zu numbers", n);
    for (size_t i = 0; code == ESP_OK && i < n; i++) code = read_element_number(reader, i, &values[i], reterr);
    if (code != ESP_OK) return code;
    *ret = values;
    *ret_n = n;
    return ESP_OK;
}

esp_code esp_read_matrix(const esp_reader *reader, size_t rows, size_t cols, double *ret, esp_error *reterr) {
    size_t n = 0;
    esp_code code = esp_read_array(reader, rows, rows, &n, reterr);
    for (size_t i = 0; code == ESP_OK && i < rows; i++) {
        esp_reader row = esp_read_element(reader, i);
        code = esp_read_vector(&row, cols, ret + i * cols, reterr);
    }
    return code;
}

esp_code esp_read_matrix_any(const esp_reader *reader, size_t max_rows, size_t max_cols, esp_arena *arena, double **ret, size_t *ret_rows,
                             size_t *ret_cols, esp_error *reterr) {
    size_t rows = 0, cols = 0;
    esp_code code = esp_read_array(reader, 0, max_rows, &rows, reterr);
    if (code != ESP_OK) return code;
    if (rows > 0) {
        esp_reader first = esp_read_element(reader, 0);
        code = esp_read_array(&first, 0, max_cols, &cols, reterr);
        if (code != ESP_OK) return code;
    }
    double *values = ESP_NEW(arena, double, rows *cols);
    if (!values) return esp_fail(reterr, ESP_NOMEM, "a matrix of %zu x %zu numbers", rows, cols);
    code = esp_read_matrix(reader, rows, cols, values, reterr);
    if (code != ESP_OK) return code;
    *ret = values;
    *ret_rows = rows;
    *ret_cols = cols;
    return ESP_OK;
}
