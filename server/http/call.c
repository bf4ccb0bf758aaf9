/* SPDX-License-Identifier: Apache-2.0
 * What a handler reads of a call. */
#include "http/call.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "ontime.h"
#include "registry/registry.h"

static bool request_id_ok(const char *text) {
    size_t len = strlen(text);
    if (len == 0 || len > ESP_REQUEST_ID_MAX) return false;
    for (; *text; text++) {
        bool good = (*text >= '0' && *text <= '9') || (*text >= 'A' && *text <= 'Z') || (*text >= 'a' && *text <= 'z') || strchr("-_.:", *text);
        if (!good) return false;
    }
    return true;
}

static enum MHD_Result take_query(void *user, enum MHD_ValueKind kind, const char *name, const char *value) {
    esp_call *call = user;
    (void)kind;
    if (call->n_query == ESP_QUERY_MAX) {
        if (!call->refused) esp_fail(&call->refusal, ESP_INVALID, "more than %d query parameters", ESP_QUERY_MAX);
        call->refused = true;
        return MHD_NO;
    }
    call->query[call->n_query++] = (esp_pair){name, value ? value : ""};
    return MHD_YES;
}

esp_call *esp_call_create(esp_http *http, struct MHD_Connection *connection, const char *path) {
    esp_call *call = calloc(1, sizeof *call);
    if (!call || !(call->path = strdup(path))) {
        free(call);
        return NULL;
    }
    call->http = http;
    call->connection = connection;
    atomic_init(&call->refs, 1);
    esp_ontime_lock_init(&call->lock);
    call->arrived_ns = esp_clock_now_ns();
    const char *id = esp_call_header(call, "X-Request-Id");
    if (id && request_id_ok(id)) {
        strcpy(call->request_id, id);
    } else {
        esp_id_make("req", call->request_id);
    }
    const char *expect = esp_call_header(call, "Expect");
    call->expects_continue = expect && strcasecmp(expect, "100-continue") == 0;
    MHD_get_connection_values(connection, MHD_GET_ARGUMENT_KIND, take_query, call);
    return call;
}

void esp_call_unref(esp_call *call) {
    if (atomic_fetch_sub(&call->refs, 1) != 1) return;
    if (call->upload) call->route->upload->end(call->upload);
    for (size_t i = 0; i < call->n_out; i++) {
        free((char *)(uintptr_t)call->out[i].name);
        free((char *)(uintptr_t)call->out[i].value);
    }
    esp_json_free(call->json);
    esp_buf_done(&call->body);
    pthread_mutex_destroy(&call->lock);
    free(call->params_text);
    free(call->path);
    free(call);
}

const char *esp_call_request_id(const esp_call *call) {
    return call->request_id;
}

const esp_token *esp_call_token(const esp_call *call) {
    return &call->token;
}

int64_t esp_call_arrived_ns(const esp_call *call) {
    return call->arrived_ns;
}

const char *esp_call_route(const esp_call *call) {
    return call->route->pattern;
}

const char *esp_call_url(const esp_call *call) {
    return call->path;
}

const char *esp_call_path(const esp_call *call, const char *name) {
    for (int i = 0; i < call->n_params; i++) {
        if (strlen(name) == call->param_name_lens[i] && memcmp(name, call->param_names[i], call->param_name_lens[i]) == 0)
            return call->param_values[i];
    }
    return NULL;
}

const char *esp_call_query(const esp_call *call, const char *name) {
    for (size_t i = 0; i < call->n_query; i++) {
        if (strcmp(call->query[i].name, name) == 0) return call->query[i].value;
    }
    return NULL;
}

bool esp_call_query_at(const esp_call *call, size_t index, const char **ret_name, const char **ret_value) {
    if (index >= call->n_query) return false;
    *ret_name = call->query[index].name;
    *ret_value = call->query[index].value;
    return true;
}

static bool listed(const char *const *names, const char *name) {
    for (; *names; names++) {
        if (strcmp(*names, name) == 0) return true;
    }
    return false;
}

static esp_code refuse_query(const char *name, const char *const *names, esp_error *reterr) {
    char known[200] = "none", pointer[100];
    size_t len = 0;
    for (size_t i = 0; names[i]; i++) {
        int n = snprintf(known + len, sizeof known - len, "%s%s", i ? ", " : "", names[i]);
        if (n < 0 || (len += (size_t)n) >= sizeof known) break;
    }
    snprintf(pointer, sizeof pointer, "?%.90s", name);
    return esp_fail_at(reterr, ESP_INVALID, pointer, "unknown query parameter; known here: %s", known);
}

esp_code esp_call_query_check(const esp_call *call, const char *const *names, esp_error *reterr) {
    char pointer[100];
    for (size_t i = 0; i < call->n_query; i++) {
        const char *name = call->query[i].name;
        if (!listed(names, name)) return refuse_query(name, names, reterr);
        for (size_t j = 0; j < i; j++) {
            if (strcmp(call->query[j].name, name) != 0) continue;
            snprintf(pointer, sizeof pointer, "?%.90s", name);
            return esp_fail_at(reterr, ESP_INVALID, pointer, "given twice");
        }
    }
    return ESP_OK;
}

const char *esp_call_header(const esp_call *call, const char *name) {
    return MHD_lookup_connection_value(call->connection, MHD_HEADER_KIND, name);
}

const char *esp_call_body(const esp_call *call, size_t *ret_len) {
    if (ret_len) *ret_len = call->body.len;
    return call->body.data ? call->body.data : "";
}

void *esp_call_upload_state(const esp_call *call) {
    return call->upload;
}

/* A content type that names no charset, or the one there is. */
static bool in_utf8(const char *type) {
    const char *charset = type ? strcasestr(type, "charset=") : NULL;
    if (!charset) return true;
    charset += 8 + (charset[8] == '"');
    return strncasecmp(charset, "utf-8", 5) == 0 || strncasecmp(charset, "utf8", 4) == 0 || strncasecmp(charset, "us-ascii", 8) == 0;
}

esp_code esp_call_json_check(const esp_call *call, esp_error *reterr) {
    const char *type = esp_call_header(call, "Content-Type");
    size_t len = type ? strcspn(type, "; \t") : 0;
    bool json = !type || (len == 16 && strncasecmp(type, "application/json", len) == 0) ||
                (len == 33 && strncasecmp(type, "application/x-www-form-urlencoded", len) == 0); /* what curl -d says unasked */
    if (!json) return esp_fail(reterr, ESP_MEDIA_TYPE, "the body must be application/json, not %.60s", type);
    if (!in_utf8(type)) return esp_fail(reterr, ESP_MEDIA_TYPE, "the body must be UTF-8, not %.60s", type);
    return call->body.len ? ESP_OK : esp_fail(reterr, ESP_INVALID, "the body is empty; JSON is expected");
}

esp_code esp_call_json(esp_call *call, const esp_json **ret_json, esp_error *reterr) {
    esp_code code = call->json ? ESP_OK : esp_call_json_check(call, reterr);
    if (!code && !call->json) code = esp_json_parse(call->body.data, call->body.len, &call->json, reterr);
    if (!code) *ret_json = call->json;
    return code;
}
