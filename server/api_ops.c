/* SPDX-License-Identifier: Apache-2.0
 * Operations: health, metrics, the interface's description, the open inference protocol's probes, the front page. */
#include <stdlib.h>
#include <string.h>

#include "api.h"
#include "embed.h"
#include "metrics.h"
#include "net/model.h"
#include "pool/pool.h"
#include "registry/query.h"
#include "server.h"
#include "version.h"

static void reply_text(esp_call *call, const char *content_type, const char *text, size_t len) {
    esp_buf out = {0};
    esp_buf_put(&out, text, len);
    esp_call_reply(call, 200, content_type, &out);
}

static void reply_flag(esp_call *call, int status, const char *name, bool value) {
    esp_buf out = {0};
    esp_jsonw w = esp_jsonw_on(&out);
    esp_jsonw_object(&w, NULL);
    esp_jsonw_bool(&w, name, value);
    esp_jsonw_object_end(&w);
    esp_call_reply_json(call, status, &out);
}

/* ---- health --------------------------------------------------------------------------------------------------------- */

/* Takes work: not on its way out, the registry writes, a plan worker is warm. */
static esp_code ready(const esp_server *server, esp_error *reterr) {
    if (atomic_load(&server->draining)) return esp_fail(reterr, ESP_DRAINING, "the service is shutting down");
    if (!esp_registry_healthy(server->registry)) return esp_fail(reterr, ESP_BUSY, "the registry does not take writes, or its disk is full");
    if (esp_pool_ready(server->pool) < 1) return esp_fail(reterr, ESP_BUSY, "no plan worker is ready");
    return ESP_OK;
}

void esp_api_healthz(struct esp_server *server, esp_call *call) {
    static const char text[] = "{\"status\":\"ok\",\"version\":\"" ESP_VERSION "\"}";
    (void)server;
    reply_text(call, "application/json", text, sizeof text - 1);
}

void esp_api_readyz(struct esp_server *server, esp_call *call) {
    static const char text[] = "{\"status\":\"ready\"}";
    esp_error error = {0};
    if (ready(server, &error)) {
        esp_call_reply_error(call, &error);
    } else {
        reply_text(call, "application/json", text, sizeof text - 1);
    }
}

void esp_api_v2_live(struct esp_server *server, esp_call *call) {
    (void)server;
    reply_flag(call, 200, "live", true);
}

void esp_api_v2_ready(struct esp_server *server, esp_call *call) {
    bool good = ready(server, NULL) == ESP_OK;
    reply_flag(call, good ? 200 : 503, "ready", good);
}

/* ---- what the service says of itself ---------------------------------------------------------------------------------- */

void esp_api_metrics(struct esp_server *server, esp_call *call) {
    esp_buf out = {0};
    (void)server;
    esp_metrics_render(&out);
    esp_call_reply(call, 200, "text/plain; version=0.0.4; charset=utf-8", &out);
}

void esp_api_openapi(struct esp_server *server, esp_call *call) {
    (void)server;
    reply_text(call, "application/json", esp_embed_openapi, esp_embed_len(esp_embed_openapi));
}

void esp_api_home(struct esp_server *server, esp_call *call) {
    static const char page[] =
        "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><title>Espalier</title>"
        "<style>body{font:16px/1.5 sans-serif;max-width:40em;margin:3em auto;padding:0 1em}</style>"
        "<h1>Espalier " ESP_VERSION "</h1>"
        "<p>Trains sparse neural dynamics from transitions, certifies what pruning changed, and plans with them.</p>"
        "<ul><li><a href=\"/v1/models\">models</a> <li><a href=\"/v1/bounds\">bounds</a> (<a href=\"/v1/bounds?format=csv\">CSV</a>)"
        "<li><a href=\"/v1/datasets\">datasets</a> <li><a href=\"/v1/jobs\">jobs</a> <li><a href=\"/v1/tasks\">tasks</a>"
        "<li><a href=\"/openapi.json\">the interface (OpenAPI 3.1)</a> <li><a href=\"/metrics\">metrics</a> <li><a "
        "href=\"/readyz\">readiness</a></ul></html>\n";
    (void)server;
    reply_text(call, "text/html; charset=utf-8", page, sizeof page - 1);
}

/* ---- open inference protocol ------------------------------------------------------------------------------------------ */

static esp_code versions_json(esp_db *db, const char *name, esp_jsonw *w, esp_error *reterr) {
    esp_stmt *stmt = NULL;
    esp_code code = esp_stmt_open(db, &stmt, reterr, "SELECT version FROM model WHERE name = ? ORDER BY version", "t", name);
    int step = code ? code : esp_stmt_step(stmt, reterr);
    esp_jsonw_array(w, "versions");
    for (; step == 1; step = esp_stmt_step(stmt, reterr)) esp_jsonw_string(w, NULL, esp_stmt_text(stmt, 0, NULL));
    esp_jsonw_array_end(w);
    esp_stmt_close(stmt);
    return (esp_code)step;
}

static void tensor_json(esp_jsonw *w, const char *list, const char *name, int64_t width) {
    esp_jsonw_array(w, list);
    esp_jsonw_object(w, NULL);
    esp_jsonw_string(w, "name", name);
    esp_jsonw_string(w, "datatype", "FP64");
    esp_jsonw_array(w, "shape");
    esp_jsonw_integer(w, NULL, -1);
    esp_jsonw_integer(w, NULL, width);
    esp_jsonw_array_end(w);
    esp_jsonw_object_end(w);
    esp_jsonw_array_end(w);
}

static esp_code model_json(esp_db *db, const char *name, esp_jsonw *w, esp_error *reterr) {
    esp_model_row row = {0};
    esp_code code = esp_model_find(db, name, &row, reterr);
    if (code) return code;
    bool policy = strcmp(row.kind, "policy") == 0;
    esp_jsonw_object(w, NULL);
    esp_jsonw_string(w, "name", row.name);
    code = versions_json(db, row.name, w, reterr);
    esp_jsonw_string(w, "platform", "espalier");
    tensor_json(w, "inputs", "x", policy ? row.ny : row.history * (row.ny + row.nu));
    tensor_json(w, "outputs", "y", policy ? row.nu : row.ny);
    esp_jsonw_object_end(w);
    esp_model_row_done(&row);
    return code;
}

static esp_code find_model(struct esp_server *server, const char *name, esp_buf *out, esp_error *reterr) {
    esp_db *db = NULL;
    esp_jsonw w = esp_jsonw_on(out);
    esp_code code = esp_registry_read_begin(server->registry, &db, reterr);
    if (code) return code;
    code = model_json(db, name, &w, reterr);
    esp_registry_read_end(server->registry, db);
    return code;
}

void esp_api_v2_model(struct esp_server *server, esp_call *call) {
    esp_error error = {0};
    esp_buf out = {0};
    esp_code code = find_model(server, esp_call_path(call, "name"), &out, &error);
    esp_call_reply_made(call, code, &error, &out);
}

/* A model is ready when it is there and the service is: there is nothing to load first. */
void esp_api_v2_model_ready(struct esp_server *server, esp_call *call) {
    esp_error error = {0};
    esp_buf out = {0};
    if (find_model(server, esp_call_path(call, "name"), &out, &error)) {
        esp_call_reply_error(call, &error);
    } else {
        bool good = ready(server, NULL) == ESP_OK;
        esp_buf_clear(&out);
        esp_jsonw w = esp_jsonw_on(&out);
        esp_jsonw_object(&w, NULL);
        esp_jsonw_string(&w, "name", esp_call_path(call, "name"));
        esp_jsonw_bool(&w, "ready", good);
        esp_jsonw_object_end(&w);
        esp_call_reply_json(call, good ? 200 : 503, &out);
    }
    esp_buf_done(&out);
}
