/* SPDX-License-Identifier: Apache-2.0
 * Recorded exchanges against schema/api/openapi.json: which operation a path belongs to, which schema a reply has. */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "support/schema.h"

static esp_json *openapi;
static esp_error openapi_error;

static void load_openapi(void) {
    esp_buf text = {0};
    if (!esp_file_read("schema/api/openapi.json", (size_t)8 << 20, &text, &openapi_error))
        (void)!esp_json_parse(text.data, text.len, &openapi, &openapi_error);
    esp_buf_done(&text);
}

/* Some tests ask on many threads. */
const esp_json *schema_openapi(char *why, size_t size) {
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, load_openapi);
    if (!openapi) (void)snprintf(why, size, "schema/api/openapi.json: %s", openapi_error.message);
    return openapi;
}

/* `path` (up to its end) fits the template; {ref} takes slashes too, as it does in the route table. */
static bool fits(const char *template, const char *path, const char *end) {
    if (*template == '\0') return path == end;
    if (*template != '{') return path < end && *path == *template && fits(template + 1, path + 1, end);
    const char *rest = strchr(template, '}') + 1;
    bool slashes = strncmp(template, "{ref}", 5) == 0;
    for (const char *p = path + 1; p <= end && (slashes || p[-1] != '/'); p++)
        if (fits(rest, p, end)) return true;
    return false;
}

static size_t literals(const char *template) {
    size_t n = 0;
    for (bool in = false; *template; template ++) {
        if (*template == '{') in = true;
        n += !in;
        if (*template == '}') in = false;
    }
    return n;
}

static bool find_operation(const esp_reader *document, const char *method, const char *path, esp_reader *ret_operation, const char **ret_template,
                           char *why, size_t size) {
    const char *end = path + strcspn(path, "?"), *template, *best = NULL;
    char lower[16] = "";
    esp_reader paths = esp_read_member(document, "paths"), item, found = {NULL, NULL, NULL, 0};
    for (size_t i = 0; method[i] && i + 1 < sizeof lower; i++) lower[i] = (char)(method[i] | 0x20);
    for (size_t i = 0; esp_read_entry(&paths, i, &template, &item); i++) {
        esp_reader operation = esp_read_member(&item, lower);
        if (!operation.value || !fits(template, path, end) || (best && literals(template) <= literals(best))) continue;
        best = template;
        found = esp_reader_root(operation.value);
    }
    *ret_operation = found;
    *ret_template = best;
    if (!best) (void)snprintf(why, size, "%s %s is not documented", method, path);
    return best != NULL;
}

static esp_reader follow(const esp_reader *document, esp_reader reader) {
    esp_reader ref = esp_read_member(&reader, "$ref");
    const char *text = "";
    if (!ref.value || esp_read_string(&ref, 1000, &text, NULL) != ESP_OK) return reader;
    return schema_resolve(document, text);
}

/* What a body of this content type is to be: of lines, each of them. `documented` is set when the type is; the schema may be none. */
static esp_reader media_schema(const esp_reader *holder, const char *type, bool *ret_documented) {
    char key[80];
    (void)snprintf(key, sizeof key, "%.*s", (int)strcspn(type, "; "), type);
    bool lines = strcmp(key, "application/x-ndjson") == 0,
         json = strcmp(key, "application/json") == 0 || strcmp(key, "application/problem+json") == 0;
    esp_reader content = esp_read_member(holder, "content"), media = esp_read_member(&content, key), schema = esp_read_member(&media, "schema");
    *ret_documented = media.value != NULL;
    if (lines) return esp_reader_root(esp_read_member(&schema, "x-line").value);
    return esp_reader_root(json ? schema.value : NULL);
}

static bool conforms(const esp_reader *document, const esp_reader *schema, const char *text, size_t len, char *why, size_t size) {
    esp_json *json = NULL;
    esp_error error = {0};
    if (esp_json_parse(text, len, &json, &error) != ESP_OK) {
        (void)snprintf(why, size, "%s", error.message);
        return false;
    }
    esp_reader value = esp_reader_root(json);
    bool ok = schema_check(document, schema, &value, why, size);
    esp_json_free(json);
    return ok;
}

/* The reply that is documented for the status. A status below 400 must be documented itself; `default` is for problems. */
static bool find_response(const esp_reader *document, const esp_reader *operation, int status, esp_reader *ret_response) {
    char key[16];
    (void)snprintf(key, sizeof key, "%d", status);
    esp_reader responses = esp_read_member(operation, "responses"), response = esp_read_member(&responses, key);
    if (!response.value && status >= 400) response = esp_read_member(&responses, "default");
    if (response.value) *ret_response = follow(document, response);
    return response.value != NULL;
}

/* The body as its content type wants it. */
static bool body_conforms(const esp_reader *document, const esp_reader *holder, const char *type, const char *body, size_t len, char *why,
                          size_t size) {
    bool documented = false;
    esp_reader schema = media_schema(holder, type, &documented);
    if (!documented) (void)snprintf(why, size, "%s is not documented", type);
    if (!documented || !schema.value) return documented;
    if (strncmp(type, "application/x-ndjson", 20) != 0) return conforms(document, &schema, body, len, why, size);
    for (size_t at = 0; at < len;) {
        const char *end = memchr(body + at, '\n', len - at);
        size_t n = end ? (size_t)(end - body) - at : len - at;
        if (n > 0 && !conforms(document, &schema, body + at, n, why, size)) return false;
        at += n + 1;
    }
    return true;
}

/* One line an exchange: what tests/run finds the operations by that no test has seen succeed. */
static void record(const char *method, const char *template, int status) {
    const char *path = getenv("ESPALIER_EXCHANGES");
    FILE *file = path ? fopen(path, "a") : NULL;
    if (!file) return;
    fprintf(file, "%s %s %d\n", strcmp(method, "HEAD") == 0 ? "GET" : method, template, status);
    fclose(file);
}

bool schema_check_exchange(const schema_exchange *x, char *why, size_t size) {
    esp_reader document = esp_reader_root(schema_openapi(why, size)), operation, response;
    const char *template = "", *method = strcmp(x->method, "HEAD") == 0 ? "GET" : x->method;
    if (!document.value || !find_operation(&document, method, x->path, &operation, &template, why, size)) return false;
    if (!find_response(&document, &operation, x->status, &response)) {
        (void)snprintf(why, size, "status %d is not documented", x->status);
        return false;
    }
    record(method, template, x->status);
    if (x->len && !body_conforms(&document, &response, x->type, x->body, x->len, why, size)) return false;
    bool lines = strncmp(x->request_type, "application/x-ndjson", 20) == 0; /* of which some may have been refused */
    if (x->status >= 300 || !x->request_len || !*x->request_type || lines) return true;
    esp_reader request = esp_read_member(&operation, "requestBody");
    return body_conforms(&document, &request, x->request_type, x->request, x->request_len, why, size);
}

/* ---- a body alone --------------------------------------------------------------------------------------------------- */

static bool check_reply(const char *method, const char *path, int status, const char *type, const char *body, char *why, size_t size) {
    esp_reader document = esp_reader_root(schema_openapi(why, size)), operation, response;
    const char *template = "";
    if (!document.value || !find_operation(&document, method, path, &operation, &template, why, size)) return false;
    if (find_response(&document, &operation, status, &response)) return body_conforms(&document, &response, type, body, strlen(body), why, size);
    (void)snprintf(why, size, "%s %s: status %d is not documented", method, path, status);
    return false;
}

bool schema_check_reply(const char *method, const char *path, int status, const char *json, char *why, size_t size) {
    return check_reply(method, path, status, status < 400 ? "application/json" : "application/problem+json", json, why, size);
}

bool schema_check_reply_lines(const char *method, const char *path, int status, const char *lines, char *why, size_t size) {
    return check_reply(method, path, status, "application/x-ndjson", lines, why, size);
}

bool schema_check_request(const char *method, const char *path, const char *json, char *why, size_t size) {
    esp_reader document = esp_reader_root(schema_openapi(why, size)), operation;
    const char *template = "";
    if (!document.value || !find_operation(&document, method, path, &operation, &template, why, size)) return false;
    esp_reader body = esp_read_member(&operation, "requestBody");
    return body_conforms(&document, &body, "application/json", json, strlen(json), why, size);
}
