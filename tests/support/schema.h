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

/* A recorded exchange: `path` as it was sent (a query part is cut off), the reply's status and its JSON text. True when
 * the operation and the status are documented and the text conforms to the reply's schema. */
bool schema_check_reply(const char *method, const char *path, int status, const char *json, char *why, size_t size);
/* The same for the body of a request. */
bool schema_check_request(const char *method, const char *path, const char *json, char *why, size_t size);
/* The same for each line of an NDJSON reply. */
bool schema_check_reply_lines(const char *method, const char *path, int status, const char *lines, char *why, size_t size);

#endif
