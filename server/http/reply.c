/* SPDX-License-Identifier: Apache-2.0
 * What a handler answers: a response is built on the handler's thread and sent by an event thread. */
#include "http/call.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "log.h"
#include "metrics.h"
#include "ontime.h"

void esp_call_header_add(esp_call *call, const char *name, const char *value) {
    assert(call->n_out < ESP_HEADERS_OUT_MAX);
    esp_pair pair = {strdup(name), strdup(value)};
    if (pair.name && pair.value) {
        call->out[call->n_out++] = pair;
    } else {
        free((char *)(uintptr_t)pair.name);
        free((char *)(uintptr_t)pair.value);
    }
}

void esp_call_set_response(esp_call *call, int status, const char *content_type, struct MHD_Response *response) {
    assert(!call->response);
    call->status = status;
    call->response = response;
    if (!response) return;
    if (content_type) MHD_add_response_header(response, "Content-Type", content_type);
    MHD_add_response_header(response, "X-Request-Id", call->request_id);
    for (size_t i = 0; i < call->n_out; i++) MHD_add_response_header(response, call->out[i].name, call->out[i].value);
}

/* The reference goes with the reply: the call may be freed before this returns. */
void esp_call_finish(esp_call *call) {
    esp_watch_remove(&call->http->watch, call->watch_id);
    call->watch_id = 0;
    pthread_mutex_lock(&call->lock);
    assert(call->state == ESP_CALL_RUNNING || call->state == ESP_CALL_SUSPENDED);
    bool suspended = call->state == ESP_CALL_SUSPENDED;
    call->state = ESP_CALL_REPLIED;
    if (suspended) {
        call->resumed_ns = esp_clock_now_ns();
        MHD_resume_connection(call->connection);
    }
    pthread_mutex_unlock(&call->lock);
    esp_call_unref(call);
}

enum MHD_Result esp_call_send(esp_call *call) {
    struct MHD_Response *response = call->response;
    if (call->resumed_ns) esp_lag_note(esp_clock_now_ns() - call->resumed_ns);
    if (!response) return MHD_NO; /* no memory to say anything: the connection closes */
    enum MHD_Result result = esp_queue(call->connection, call->status, response);
    call->response = NULL;
    MHD_destroy_response(response);
    return result;
}

void esp_call_reply(esp_call *call, int status, const char *content_type, esp_buf *take_body) {
    size_t len = 0;
    bool failed = take_body->failed;
    char *bytes = esp_buf_take(take_body, &len);
    if (failed || (!bytes && len > 0)) {
        free(bytes);
        esp_error error = {0};
        esp_fail(&error, ESP_NOMEM, "no memory for the reply");
        esp_call_reply_error(call, &error);
        return;
    }
    struct MHD_Response *response = MHD_create_response_from_buffer(len, bytes, MHD_RESPMEM_MUST_FREE);
    if (!response) free(bytes);
    call->sent = len;
    esp_call_set_response(call, status, content_type, response);
    esp_call_finish(call);
}

void esp_call_reply_json(esp_call *call, int status, esp_buf *take_body) {
    esp_call_reply(call, status, "application/json", take_body);
}

/* ---- errors --------------------------------------------------------------------------------------------------------- */

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
    if (*error->pointer || error->code == ESP_INVALID) { /* "": all of it */
        esp_jsonw_object(&w, NULL);
        esp_jsonw_string(&w, "pointer", error->pointer);
        esp_jsonw_string(&w, "detail", error->message);
        esp_jsonw_object_end(&w);
    }
    esp_jsonw_array_end(&w);
    esp_jsonw_object_end(&w);
}

static bool has_header(const esp_call *call, const char *name) {
    for (size_t i = 0; i < call->n_out; i++) {
        if (strcasecmp(call->out[i].name, name) == 0) return true;
    }
    return false;
}

void esp_call_reply_error(esp_call *call, const esp_error *error) {
    assert(error->code != ESP_OK);
    esp_buf out = {0};
    int status = esp_code_http(error->code);
    if ((status == 503 || status == 429) && !has_header(call, "Retry-After")) esp_call_header_add(call, "Retry-After", "1");
    if (status == 503) esp_metric_add(ESP_METRIC_SHED, 1);
    if (status == 405) esp_call_header_add(call, "Allow", call->allow);
    if (status >= 500) {
        esp_log(status == 503 ? ESP_LOG_NOTICE : ESP_LOG_ERROR, "error", "request=%s code=%s where=%s detail=\"%s\"", call->request_id,
                esp_code_name(error->code), error->where ? error->where : "", error->message);
    }
    esp_problem_format(call->request_id, error, &out);
    size_t len = 0;
    char *bytes = out.failed ? NULL : esp_buf_take(&out, &len);
    struct MHD_Response *response = bytes ? MHD_create_response_from_buffer(len, bytes, MHD_RESPMEM_MUST_FREE) : NULL;
    if (!response) free(bytes);
    esp_buf_done(&out);
    call->sent = len;
    esp_call_set_response(call, status, "application/problem+json", response);
    esp_call_finish(call);
}

void esp_call_reply_made(esp_call *call, esp_code code, const esp_error *error, esp_buf *take_body) {
    if (code) {
        esp_call_reply_error(call, error);
    } else {
        esp_call_reply_json(call, 200, take_body);
    }
    esp_buf_done(take_body);
}

/* ---- ETags and files ------------------------------------------------------------------------------------------------ */

bool esp_etag_listed(const char *list, const char *etag, bool weakly) {
    if (weakly && strncmp(etag, "W/", 2) == 0) etag += 2;
    size_t len = strlen(etag);
    for (const char *p = list; *p;) {
        p += strspn(p, " \t,");
        if (*p == '*') return true;
        if (weakly && strncmp(p, "W/", 2) == 0) p += 2;
        if (strncmp(p, etag, len) == 0 && (p[len] == '\0' || strchr(" \t,", p[len]))) return true;
        p += strcspn(p, ",");
    }
    return false;
}

bool esp_call_not_modified(esp_call *call, const char *etag) {
    const char *known = esp_call_header(call, "If-None-Match");
    esp_call_header_add(call, "ETag", etag);
    if (!known || !esp_etag_listed(known, etag, true)) return false;
    esp_call_set_response(call, 304, NULL, MHD_create_response_from_buffer(0, NULL, MHD_RESPMEM_PERSISTENT));
    esp_call_finish(call);
    return true;
}

static void keep(esp_call *call, bool soon, void (*hangup)(void *user), void *user) {
    call->kept = true;
    if (hangup) call->watch_id = esp_watch_add(&call->http->watch, esp_connection_fd(call->connection), soon, hangup, user);
}

void esp_call_keep(esp_call *call, void (*hangup)(void *user), void *user) {
    keep(call, true, hangup, user);
}

void esp_call_keep_briefly(esp_call *call, void (*hangup)(void *user), void *user) {
    keep(call, false, hangup, user);
}
