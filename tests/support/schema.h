/* SPDX-License-Identifier: Apache-2.0
 * A small JSON Schema checker (2020-12), for holding what the daemon says against schema/api/openapi.json.
 *
 * Knows: type (one or a list), properties, required, additionalProperties, items, enum, const, minimum, maximum,
 * exclusiveMinimum, exclusiveMaximum, minItems, maxItems, minLength, maxLength, oneOf, anyOf, allOf, and $ref inside
 * the document. Annotations, format, pattern and x-* are passed over. Any other keyword fails the check: a schema must
 * not look checked when it is not. Not a validator for schemas from outside. */
#ifndef ESP_TESTS_SCHEMA_H
#define ESP_TESTS_SCHEMA_H

#include <stdbool.h>
#include <stddef.h>

#include "base/json.h"

/* `value` conforms to `schema`, a part of `document`. When not, why says where and what. */
bool schema_check(const esp_reader *document, const esp_reader *schema, const esp_reader *value, char *why, size_t size);

/* A string's text, "" for anything else; an array's length, 0 for anything else. */
const char *schema_text(const esp_reader *reader);
size_t schema_length(const esp_reader *array);

/* What "#/a/b" points to in the document; value NULL when nothing. */
esp_reader schema_resolve(const esp_reader *document, const char *ref);

/* schema/api/openapi.json, relative to the working directory; read once, kept to the end. NULL: why says it. */
const esp_json *schema_openapi(char *why, size_t size);

/* What went to and fro. `path` as it was sent (a query part is cut off); a body is NULL or of its length, its content type "" when
 * there was none. */
typedef struct schema_exchange {
    const char *method, *path, *request_type, *request;
    size_t request_len;
    int status;
    const char *type, *body;
    size_t len;
} schema_exchange;

/* True when the operation, the status and the content types are documented, and the bodies are what their schemas say (each line of
 * a reply of lines; a request's when it was taken). It is recorded in the file $ESPALIER_EXCHANGES, if there is one. */
bool schema_check_exchange(const schema_exchange *exchange, char *why, size_t size);

/* One body of an exchange alone: a JSON reply, the JSON lines of one, a JSON request. */
bool schema_check_reply(const char *method, const char *path, int status, const char *json, char *why, size_t size);
bool schema_check_reply_lines(const char *method, const char *path, int status, const char *lines, char *why, size_t size);
bool schema_check_request(const char *method, const char *path, const char *json, char *why, size_t size);

#endif
