/* SPDX-License-Identifier: Apache-2.0
 * Recorded exchanges against schema/api/openapi.json: which operation a path belongs to, which schema a reply has. */
#include <stdio.h>
#include <string.h>

#include "support/schema.h"

const esp_json *schema_openapi(char *why, size_t size) {
    static esp_json *document;
    if (document) return document;
    esp_buf text = {0};
    esp_error error = {0};
    if (esp_file_read("schema/api/openapi.json", (size_t)8 << 20, &text, &error) != ESP_OK ||
        esp_json_parse(text.data, text.len, &document, &error) != ESP_OK)
        (void)snprintf(why, size, "schema/api/openapi.json: %s", error.message);
    esp_buf_done(&text);
    return document;
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

static bool find_operation(const esp_reader *document, const char *method, const char *path, esp_reader *ret_operation, char *why, size_t size) {
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
    if (!best) (void)snprintf(why, size, "%s %s is not documented", method, path);
    return best != NULL;
}

static esp_reader follow(const esp_reader *document, esp_reader reader) {
    esp_reader ref = esp_read_member(&reader, "$ref");
    const char *text = "";
    if (!ref.value || esp_read_string(&ref, 1000, &text, NULL) != ESP_OK) return reader;
    return schema_resolve(document, text);
}

static esp_reader media_schema(const esp_reader *holder, bool lines) {
    static const char *const types[] = {"application/json", "application/problem+json"};
    esp_reader content = esp_read_member(holder, "content"), schema = {NULL, NULL, NULL, 0};
    if (lines) {
        esp_reader media = esp_read_member(&content, "application/x-ndjson");
        schema = esp_read_member(&media, "schema");
        return esp_reader_root(esp_read_member(&schema, "x-line").value);
    }
    for (size_t i = 0; i < 2 && !schema.value; i++) {
        esp_reader media = esp_read_member(&content, types[i]);
        schema = esp_read_member(&media, "schema");
    }
    return esp_reader_root(schema.value);
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

/* The schema of the reply. A status below 400 must be documented itself; `default` is for problems. */
static bool reply_schema(const esp_reader *document, const char *method, const char *path, int status, bool lines, esp_reader *ret_schema, char *why,
                         size_t size) {
    esp_reader operation;
    if (!find_operation(document, method, path, &operation, why, size)) return false;
    char key[16];
    (void)snprintf(key, sizeof key, "%d", status);
    esp_reader responses = esp_read_member(&operation, "responses"), response = esp_read_member(&responses, key);
    if (!response.value && status >= 400) response = esp_read_member(&responses, "default");
    if (!response.value) {
        (void)snprintf(why, size, "%s %s: status %d is not documented", method, path, status);
        return false;
    }
    response = follow(document, response);
    *ret_schema = media_schema(&response, lines);
    if (!ret_schema->value) (void)snprintf(why, size, "%s %s: no such form of reply is documented for %d", method, path, status);
    return ret_schema->value != NULL;
}

bool schema_check_reply(const char *method, const char *path, int status, const char *json, char *why, size_t size) {
    esp_reader document = esp_reader_root(schema_openapi(why, size)), schema;
    return document.value && reply_schema(&document, method, path, status, false, &schema, why, size) &&
           conforms(&document, &schema, json, strlen(json), why, size);
}

bool schema_check_reply_lines(const char *method, const char *path, int status, const char *lines, char *why, size_t size) {
    esp_reader document = esp_reader_root(schema_openapi(why, size)), schema;
    if (!document.value || !reply_schema(&document, method, path, status, true, &schema, why, size)) return false;
    for (const char *p = lines; *p;) {
        size_t len = strcspn(p, "\n");
        if (!conforms(&document, &schema, p, len, why, size)) return false;
        p += len + (p[len] == '\n');
    }
    return true;
}

bool schema_check_request(const char *method, const char *path, const char *json, char *why, size_t size) {
    esp_reader document = esp_reader_root(schema_openapi(why, size)), operation;
    if (!document.value || !find_operation(&document, method, path, &operation, why, size)) return false;
    esp_reader body = esp_read_member(&operation, "requestBody"), schema = media_schema(&body, false);
    if (!schema.value) {
        (void)snprintf(why, size, "%s %s documents no JSON body", method, path);
        return false;
    }
    return conforms(&document, &schema, json, strlen(json), why, size);
}
