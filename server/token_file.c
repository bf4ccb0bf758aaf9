/* SPDX-License-Identifier: Apache-2.0
 * DIR/tokens as records and back (schema/formats/tokens.md). Written whole, under a new name, and renamed into place, so that
 * a daemon that reads it at any moment sees one state or the other. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>

#include "rfc3339.h"
#include "tokens.h"

enum { FILE_CAP = 4 << 20, MINUTE_MAX = 10000000, JOBS_MAX = 10000000 };

const char *const esp_scope_names[] = {"none", "read", "plan", "submit", "admin", NULL};

void esp_token_list_done(esp_token_list *list) {
    free(list->items);
    *list = (esp_token_list){0};
}

/* ---- scopes --------------------------------------------------------------------------------------------------------- */

static esp_scope find_scope(const char *text, size_t len) {
    for (int i = ESP_SCOPE_READ; esp_scope_names[i]; i++) {
        if (strlen(esp_scope_names[i]) == len && strncmp(text, esp_scope_names[i], len) == 0) return (esp_scope)i;
    }
    return ESP_SCOPE_NONE;
}

esp_code esp_scopes_parse(const char *text, unsigned *ret_scopes, esp_error *reterr) {
    unsigned scopes = 0;
    for (const char *p = text;; p++) {
        size_t len = strcspn(p, ",");
        esp_scope scope = find_scope(p, len);
        if (scope == ESP_SCOPE_NONE) return esp_fail_at(reterr, ESP_INVALID, "scopes", "scopes are read, plan, submit, admin, not '%.40s'", p);
        scopes |= 1u << scope;
        p += len;
        if (!*p) break;
    }
    *ret_scopes = scopes;
    return ESP_OK;
}

void esp_scopes_format(unsigned scopes, char ret_text[64]) {
    size_t n = 0;
    ret_text[0] = '\0';
    for (int i = ESP_SCOPE_READ; esp_scope_names[i]; i++) {
        if (scopes & 1u << i) n += (size_t)snprintf(ret_text + n, 64 - n, "%s%s", n ? "," : "", esp_scope_names[i]);
    }
}

/* ---- reading -------------------------------------------------------------------------------------------------------- */

static esp_code read_text(const esp_reader *object, const char *key, char *ret, size_t room, esp_error *reterr) {
    esp_reader member;
    const char *text = NULL;
    esp_code code = esp_read_required(object, key, &member, reterr);
    if (!code) code = esp_read_string(&member, room - 1, &text, reterr);
    if (!code) strcpy(ret, text);
    return code;
}

/* 0 for null. */
static esp_code read_time(const esp_reader *object, const char *key, int64_t *ret_ms, esp_error *reterr) {
    esp_reader member = esp_read_member(object, key);
    const char *text = NULL;
    if (!member.value) return ESP_OK;
    esp_code code = esp_read_string(&member, 64, &text, reterr);
    if (!code && !esp_time_parse(text, ret_ms)) code = esp_refuse(&member, reterr, "not a time");
    return code;
}

static esp_code read_scopes(const esp_reader *object, unsigned *ret, esp_error *reterr) {
    esp_reader list;
    size_t n = 0;
    esp_code code = esp_read_required(object, "scopes", &list, reterr);
    if (!code) code = esp_read_array(&list, 1, ESP_SCOPE_ADMIN, &n, reterr);
    for (size_t i = 0; !code && i < n; i++) {
        esp_reader one = esp_read_element(&list, i);
        int which = 0;
        code = esp_read_choice(&one, esp_scope_names, &which, reterr);
        if (!code) *ret |= 1u << which;
    }
    return code;
}

static esp_code read_token(const esp_reader *object, esp_token *ret, esp_error *reterr) {
    static const char *const fields[] = {"id",          "name",       "sha256",     "scopes",     "requests_per_minute",
                                         "queued_jobs", "created_at", "expires_at", "revoked_at", NULL};
    esp_reader rate = esp_read_member(object, "requests_per_minute"), jobs = esp_read_member(object, "queued_jobs");
    esp_code code = esp_read_object(object, fields, reterr);
    if (!code) code = read_text(object, "id", ret->id, sizeof ret->id, reterr);
    if (!code) code = read_text(object, "name", ret->name, sizeof ret->name, reterr);
    if (!code) code = read_text(object, "sha256", ret->sha256, sizeof ret->sha256, reterr);
    if (!code && strspn(ret->sha256, "0123456789abcdef") != ESP_HASH_HEX - 1) code = esp_refuse(object, reterr, "sha256 is not one");
    if (!code) code = read_scopes(object, &ret->scopes, reterr);
    if (!code) code = esp_read_integer(&rate, 0, MINUTE_MAX, &ret->requests_per_minute, reterr);
    if (!code) code = esp_read_integer(&jobs, 0, JOBS_MAX, &ret->queued_jobs, reterr);
    if (!code) code = read_time(object, "created_at", &ret->created_ms, reterr);
    if (!code) code = read_time(object, "expires_at", &ret->expires_ms, reterr);
    if (!code) code = read_time(object, "revoked_at", &ret->revoked_ms, reterr);
    return code;
}

static esp_code read_list(const esp_reader *root, esp_token_list *list, esp_error *reterr) {
    static const char *const fields[] = {"tokens", NULL};
    esp_reader items;
    size_t n = 0;
    esp_code code = esp_read_object(root, fields, reterr);
    if (!code) code = esp_read_required(root, "tokens", &items, reterr);
    if (!code) code = esp_read_array(&items, 0, ESP_TOKENS_MAX, &n, reterr);
    if (!code && n && !(list->items = calloc(n, sizeof *list->items))) code = esp_fail(reterr, ESP_NOMEM, "no memory for tokens");
    for (; !code && list->n < n; list->n++) {
        esp_reader one = esp_read_element(&items, list->n);
        code = read_token(&one, &list->items[list->n], reterr);
    }
    return code;
}

static esp_code tokens_path(const char *dir, char ret_path[4096], esp_error *reterr) {
    int n = snprintf(ret_path, 4096, "%s/tokens", dir);
    return n > 0 && n < 4096 ? ESP_OK : esp_fail(reterr, ESP_INVALID, "the data directory's path is too long");
}

esp_code esp_tokens_load(const char *dir, esp_token_list *ret_list, esp_error *reterr) {
    char path[4096];
    esp_buf text = {0};
    esp_json *json = NULL;
    esp_token_list list = {0};
    esp_code code = tokens_path(dir, path, reterr);
    if (!code && access(path, F_OK) != 0 && errno == ENOENT) {
        *ret_list = list;
        return ESP_OK;
    }
    if (!code) code = esp_file_read(path, FILE_CAP, &text, reterr);
    if (!code) code = esp_json_parse(text.data, text.len, &json, reterr);
    if (!code) {
        esp_reader root = esp_reader_root(json);
        code = read_list(&root, &list, reterr);
    }
    esp_json_free(json);
    esp_buf_done(&text);
    if (code) {
        esp_token_list_done(&list);
        return esp_error_wrap(reterr, code, "%.200s", path);
    }
    *ret_list = list;
    return ESP_OK;
}

/* ---- writing -------------------------------------------------------------------------------------------------------- */

static void put_time(esp_jsonw *w, const char *key, int64_t ms) {
    char text[ESP_TIME_TEXT];
    esp_time_format(ms, text);
    esp_jsonw_string(w, key, ms ? text : NULL);
}

static void put_token(esp_jsonw *w, const esp_token *token) {
    esp_jsonw_object(w, NULL);
    esp_jsonw_string(w, "id", token->id);
    esp_jsonw_string(w, "name", token->name);
    esp_jsonw_string(w, "sha256", token->sha256);
    esp_jsonw_array(w, "scopes");
    for (int i = ESP_SCOPE_READ; esp_scope_names[i]; i++) {
        if (token->scopes & 1u << i) esp_jsonw_string(w, NULL, esp_scope_names[i]);
    }
    esp_jsonw_array_end(w);
    esp_jsonw_integer(w, "requests_per_minute", token->requests_per_minute);
    esp_jsonw_integer(w, "queued_jobs", token->queued_jobs);
    put_time(w, "created_at", token->created_ms);
    put_time(w, "expires_at", token->expires_ms);
    put_time(w, "revoked_at", token->revoked_ms);
    esp_jsonw_object_end(w);
}

esp_code esp_tokens_save(const char *dir, const esp_token_list *list, esp_error *reterr) {
    char path[4096];
    esp_buf text = {0};
    esp_jsonw w = esp_jsonw_on(&text);
    esp_code code = tokens_path(dir, path, reterr);
    if (code) return code;
    esp_jsonw_object(&w, NULL);
    esp_jsonw_array(&w, "tokens");
    for (size_t i = 0; i < list->n; i++) {
        esp_buf_puts(&text, i ? ",\n" : "\n");
        w.comma = false;
        put_token(&w, &list->items[i]);
    }
    esp_jsonw_array_end(&w);
    esp_jsonw_object_end(&w);
    esp_buf_puts(&text, "\n");
    code = text.failed ? esp_fail(reterr, ESP_NOMEM, "no memory for tokens") : esp_file_write(path, text.data, text.len, reterr);
    esp_buf_done(&text);
    return code;
}

/* ---- secrets -------------------------------------------------------------------------------------------------------- */

esp_code esp_token_make(char ret_text[ESP_TOKEN_TEXT], char ret_sha256[ESP_HASH_HEX], esp_error *reterr) {
    static const char digits[] = "0123456789abcdef";
    unsigned char bytes[32];
    if (getrandom(bytes, sizeof bytes, 0) != sizeof bytes) return esp_fail_errno(reterr, ESP_IO, "no random bytes");
    strcpy(ret_text, "esp_");
    for (size_t i = 0; i < sizeof bytes; i++) {
        ret_text[4 + 2 * i] = digits[bytes[i] >> 4];
        ret_text[5 + 2 * i] = digits[bytes[i] & 15];
    }
    ret_text[ESP_TOKEN_TEXT - 1] = '\0';
    esp_hash_bytes(ret_text, ESP_TOKEN_TEXT - 1, ret_sha256);
    return ESP_OK;
}
