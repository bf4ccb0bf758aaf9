/* SPDX-License-Identifier: Apache-2.0
 * JSON in (strict, with the place of every error) and JSON out (streamed). The only file that uses jansson is json.c.
 *
 * Reading: esp_json_parse refuses duplicate keys, depth over 32, trailing bytes and, having no non-finite literals,
 * NaN and infinity. An esp_reader is a value with the path that led to it; it lives on the stack, borrows its parent,
 * and the JSON Pointer is built only when something is wrong. Each esp_read_* checks type, range and size and names
 * the field it refuses.
 *
 * Writing: an esp_jsonw appends to an esp_buf; numbers are the shortest of 15 or 17 digits that read back equal;
 * a non-finite number is written as null (the callers that must not meet one check before). */
#ifndef ESP_BASE_JSON_H
#define ESP_BASE_JSON_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/arena.h"
#include "base/buf.h"
#include "base/error.h"

typedef struct json_t esp_json;

/* `text` need not be NUL-terminated. The value is the caller's: esp_json_free. */
ESP_MUST_CHECK esp_code esp_json_parse(const char *text, size_t len, esp_json **ret_json, esp_error *reterr);
void esp_json_free(esp_json *json);
/* Canonical text: no white space, keys sorted; equal values give equal bytes. */
void esp_json_canonical(const esp_json *json, esp_buf *ret_text);

typedef struct esp_reader {
    const esp_json *value; /* NULL when the member is absent */
    const struct esp_reader *parent;
    const char *key; /* in an object, or NULL: then `index` in an array */
    size_t index;
} esp_reader;

typedef enum esp_json_kind { ESP_JSON_NULL, ESP_JSON_BOOL, ESP_JSON_NUMBER, ESP_JSON_STRING, ESP_JSON_ARRAY, ESP_JSON_OBJECT } esp_json_kind;

static inline esp_reader esp_reader_root(const esp_json *json) {
    return (esp_reader){json, NULL, NULL, 0};
}
esp_json_kind esp_reader_kind(const esp_reader *reader);
/* An error of code INVALID that names the reader's place. */
#define esp_refuse(reader, reterr, ...) esp_reader_refuse((reader), (reterr), __func__, __VA_ARGS__)
esp_code esp_reader_refuse(const esp_reader *reader, esp_error *reterr, const char *where, const char *format, ...)
    __attribute__((format(printf, 4, 5)));

/* The value is an object and has no members but those of the NULL-terminated list `fields`. */
ESP_MUST_CHECK esp_code esp_read_object(const esp_reader *reader, const char *const *fields, esp_error *reterr);
/* The member, with value NULL when absent or JSON null. */
esp_reader esp_read_member(const esp_reader *object, const char *key);
/* The same, an error when absent. */
ESP_MUST_CHECK esp_code esp_read_required(const esp_reader *object, const char *key, esp_reader *ret_member, esp_error *reterr);
/* Array of min..max elements. */
ESP_MUST_CHECK esp_code esp_read_array(const esp_reader *reader, size_t min, size_t max, size_t *ret_n, esp_error *reterr);
esp_reader esp_read_element(const esp_reader *array, size_t index);
/* Object members in stored order, for objects whose keys are data: false past the end. */
bool esp_read_entry(const esp_reader *object, size_t index, const char **ret_key, esp_reader *ret_value);

/* Scalars; [lower, upper] is inclusive. An absent member leaves *ret at its default and succeeds. */
ESP_MUST_CHECK esp_code esp_read_number(const esp_reader *reader, double lower, double upper, double *ret, esp_error *reterr);
ESP_MUST_CHECK esp_code esp_read_integer(const esp_reader *reader, int64_t lower, int64_t upper, int64_t *ret, esp_error *reterr);
ESP_MUST_CHECK esp_code esp_read_int(const esp_reader *reader, int lower, int upper, int *ret, esp_error *reterr);
ESP_MUST_CHECK esp_code esp_read_bool(const esp_reader *reader, bool *ret, esp_error *reterr);
/* Borrowed text, at most max_len bytes. */
ESP_MUST_CHECK esp_code esp_read_string(const esp_reader *reader, size_t max_len, const char **ret, esp_error *reterr);
/* Position of the text in the NULL-terminated list `names`; the error lists them. */
ESP_MUST_CHECK esp_code esp_read_choice(const esp_reader *reader, const char *const *names, int *ret, esp_error *reterr);
/* n numbers into ret[n]. */
ESP_MUST_CHECK esp_code esp_read_vector(const esp_reader *reader, size_t n, double *ret, esp_error *reterr);
/* A vector of any length up to max, allocated in the arena. */
ESP_MUST_CHECK esp_code esp_read_vector_any(const esp_reader *reader, size_t max, esp_arena *arena, double **ret, size_t *ret_n, esp_error *reterr);
/* rows x cols, row-major, into ret. */
ESP_MUST_CHECK esp_code esp_read_matrix(const esp_reader *reader, size_t rows, size_t cols, double *ret, esp_error *reterr);
/* A rectangular matrix of any size up to the caps, allocated in the arena. An empty array gives 0 x 0. */
ESP_MUST_CHECK esp_code esp_read_matrix_any(const esp_reader *reader, size_t max_rows, size_t max_cols, esp_arena *arena, double **ret,
                                            size_t *ret_rows, size_t *ret_cols, esp_error *reterr);

typedef struct esp_jsonw {
    esp_buf *out;
    bool comma; /* a comma is due before the next key or element */
} esp_jsonw;

static inline esp_jsonw esp_jsonw_on(esp_buf *out) {
    return (esp_jsonw){out, false};
}
/* `key` NULL inside an array or at the root. */
void esp_jsonw_object(esp_jsonw *w, const char *key); /* { */
void esp_jsonw_object_end(esp_jsonw *w); /* } */
void esp_jsonw_array(esp_jsonw *w, const char *key);
void esp_jsonw_array_end(esp_jsonw *w);
void esp_jsonw_number(esp_jsonw *w, const char *key, double value);
void esp_jsonw_integer(esp_jsonw *w, const char *key, int64_t value);
void esp_jsonw_bool(esp_jsonw *w, const char *key, bool value);
void esp_jsonw_null(esp_jsonw *w, const char *key);
void esp_jsonw_string(esp_jsonw *w, const char *key, const char *text); /* NULL text is null; invalid UTF-8 is replaced */
void esp_jsonw_vector(esp_jsonw *w, const char *key, const double *values, size_t n);
void esp_jsonw_matrix(esp_jsonw *w, const char *key, const double *values, size_t rows, size_t cols);
/* Text that is JSON already, as it stands. */
void esp_jsonw_raw(esp_jsonw *w, const char *key, const char *json, size_t len);
/* A parsed value, written canonically. */
void esp_jsonw_value(esp_jsonw *w, const char *key, const esp_json *json);

/* Shortest of 15 or 17 significant digits that reads back equal; ret has room for 32 bytes. Returns the length. */
size_t esp_format_number(double value, char *ret);

#endif
