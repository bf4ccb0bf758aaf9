/* SPDX-License-Identifier: Apache-2.0
 * JSON lines in and out (ndjson.h). */
#include "ndjson.h"

#include <stdio.h>
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

void esp_problem_format(const char *request_id, const esp_error *error, esp_buf *out) {
    char type[64];
    snprintf(type, sizeof type, "/errors/%s", esp_code_name(error->code));
    esp_jsonw w = esp_jsonw_on(out);
    esp_jsonw_object(&w, NULL);
    esp_jsonw_string(&w, "type", type);
    esp_jsonw_string(&w, "title", esp_code_title(error->code));
    esp_jsonw_integer(&w, "status", esp_code_http(error->code));
    esp_jsonw_string(&w, "detail", error->message);
    esp_jsonw_string(&w, "code", esp_code_name(error->code));
    esp_jsonw_string(&w, "request_id", request_id);
    esp_jsonw_array(&w, "errors");
    if (*error->pointer) {
        esp_jsonw_object(&w, NULL);
        esp_jsonw_string(&w, "pointer", error->pointer);
        esp_jsonw_string(&w, "detail", error->message);
        esp_jsonw_object_end(&w);
    }
    esp_jsonw_array_end(&w);
    esp_jsonw_object_end(&w);
}
