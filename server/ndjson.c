/* SPDX-License-Identifier: Apache-2.0
 * JSON lines in and out (ndjson.h). */
#include "ndjson.h"

#include <string.h>

static bool is_empty(const char *line, size_t len) {
    while (len && (line[len - 1] == ' ' || line[len - 1] == '\t' || line[len - 1] == '\r')) len--;
    return len == 0;
}

bool esp_ndjson_next(const char *body, size_t len, size_t *pos, const char **ret_line, size_t *ret_len) {
    while (*pos < len) {
        const char *line = body + *pos, *end = memchr(line, '\n', len - *pos);
        size_t n = end ? (size_t)(end - line) : len - *pos;
        *pos += n + (end ? 1 : 0);
        if (is_empty(line, n)) continue;
        *ret_line = line;
        *ret_len = n;
        return true;
    }
    return false;
}

size_t esp_ndjson_count(const char *body, size_t len) {
    const char *line = NULL;
    size_t n = 0, pos = 0, line_len = 0;
    while (esp_ndjson_next(body, len, &pos, &line, &line_len)) n++;
    return n;
}
