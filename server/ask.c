/* SPDX-License-Identifier: Apache-2.0
 * A call on its way through a plan worker. */
#include "ask.h"

#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "pool/pool.h"

#define ANSWER_WITHIN_NS (10 * ESP_NS_PER_S)

esp_code esp_asking_create(esp_server *server, esp_call *call, esp_asking **ret_asking, esp_error *reterr) {
    if (atomic_load(&server->draining)) return esp_fail(reterr, ESP_DRAINING, "the service is shutting down");
    esp_asking *a = calloc(1, sizeof *a);
    if (!a) return esp_fail(reterr, ESP_NOMEM, "no memory for the request");
    a->server = server;
    a->call = call;
    *ret_asking = a;
    return ESP_OK;
}

void esp_asking_free(esp_asking *a) {
    if (!a) return;
    esp_buf_done(&a->request);
    free(a);
}

static void on_begin(void *user, int64_t budget_ns, esp_buf *payload) {
    const esp_asking *a = user;
    (void)budget_ns;
    esp_buf_put(payload, a->request.data, a->request.len);
}

static void answer(esp_asking *a, const esp_outcome *outcome) {
    esp_buf body = {0};
    if (a->answer) {
        a->answer(a->call, outcome->payload, outcome->len);
        return;
    }
    esp_buf_put(&body, outcome->payload, outcome->len);
    esp_call_reply_json(a->call, 200, &body);
}

static void on_end(void *user, const esp_outcome *outcome) {
    esp_asking *a = user;
    esp_error error = {0};
    switch (outcome->end) {
    case ESP_END_DONE: answer(a, outcome); break;
    case ESP_END_ERROR:
    case ESP_END_LOST: error = *outcome->error; break;
    case ESP_END_EXPIRED: esp_fail(&error, ESP_DEADLINE, "no worker answered in time"); break;
    case ESP_END_CANCELLED: esp_fail(&error, ESP_CANCELLED, "cancelled"); break;
    }
    if (error.code) esp_call_reply_error(a->call, &error);
    esp_asking_free(a);
}

static void on_hangup(void *user) {
    const esp_asking *a = user;
    esp_pool_cancel(a->server->pool, a->work);
}

void esp_ask(esp_asking *a, esp_frame_type type, const char *sha256) {
    static const esp_work_ops ops = {on_begin, NULL, on_end};
    char head[17] = {0};
    esp_error error = {0};
    memcpy(head, sha256, 16);
    int64_t arrived_ns = esp_call_arrived_ns(a->call);
    const esp_work work = {
        .class = ESP_CLASS_PLAN,
        .type = type,
        .retries = 1,
        .arrived_ns = arrived_ns,
        .deadline_ns = arrived_ns + ANSWER_WITHIN_NS,
        .affinity = strtoull(head, NULL, 16) | 1,
        .ops = &ops,
        .user = a,
    };
    a->work = esp_pool_id(a->server->pool);
    esp_call_keep(a->call, on_hangup, a);
    if (!esp_pool_submit(a->server->pool, a->work, &work, &error)) return;
    esp_call_reply_error(a->call, &error);
    esp_asking_free(a);
}

void esp_ask_put_model(esp_jsonw *w, const char *key, const esp_server *server, const esp_model_row *row) {
    char path[4096];
    esp_blob_path(server->registry, row->sha256, path);
    esp_jsonw_object(w, key);
    esp_jsonw_string(w, "path", path);
    esp_jsonw_string(w, "sha256", row->sha256);
    esp_jsonw_object_end(w);
}
