/* SPDX-License-Identifier: Apache-2.0
 * Batches: a body of JSON lines. */
#ifndef ESP_SERVER_NDJSON_H
#define ESP_SERVER_NDJSON_H

#include "http/http.h"

#define ESP_NDJSON_TYPE "application/x-ndjson"

/* The next line that is not empty, without its newline; false at the end. Borrowed from the body. */
bool esp_ndjson_next(const char *body, size_t len, size_t *pos, const char **ret_line, size_t *ret_len);
/* How many there are. */
size_t esp_ndjson_count(const char *body, size_t len);

#endif
