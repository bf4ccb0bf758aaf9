/* SPDX-License-Identifier: Apache-2.0
 * /v1/models: upload, list, one. Whatever form a model comes in, it is stored in the project's own; api_artifact.c gives it back. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "api.h"
#include "create.h"
#include "lists.h"
#include "net/model.h"
#include "net/onnx.h"
#include "registry/query.h"
#include "server.h"

#define MODEL_TYPE "application/vnd.espalier.model"
#define ONNX_TYPE  "application/onnx"
_Static_assert(ESP_OBJECTS_MAX == ESP_MAX_OBJECTS, "one limit in the registry and in the library");
enum { BOTH = ESP_COL_FILTER | ESP_COL_SORT };

static const esp_column columns[] = {
    {"id", "m.id", ESP_COL_TEXT, BOTH | ESP_COL_AGE},
    {"name", "m.name", ESP_COL_TEXT, BOTH},
    {"version", "m.version", ESP_COL_INTEGER, BOTH},
    {"aliases", "(SELECT json_group_array(a.alias) FROM alias a WHERE a.name = m.name AND a.version = m.version)", ESP_COL_JSON, 0},
    {"tags", "(SELECT json_group_array(t.tag) FROM tag t WHERE t.model = m.id)", ESP_COL_JSON, 0},
    {"kind", "m.kind", ESP_COL_TEXT, BOTH},
    {"ny", "m.ny", ESP_COL_INTEGER, BOTH},
    {"nu", "m.nu", ESP_COL_INTEGER, BOTH},
    {"history", "m.history", ESP_COL_INTEGER, BOTH},
    {"relu", "m.relu", ESP_COL_INTEGER, BOTH},
    {"parameters", "m.parameters", ESP_COL_INTEGER, BOTH},
    {"nonzero", "m.nonzero", ESP_COL_INTEGER, BOTH},
    {"sparsity", "(1.0 - 1.0 * m.nonzero / m.parameters)", ESP_COL_REAL, BOTH},
    {"parent", "m.parent", ESP_COL_TEXT, BOTH},
    {"dataset", "m.dataset", ESP_COL_TEXT, BOTH},
    {"job", "m.job", ESP_COL_TEXT, BOTH},
    {"spec", "m.spec", ESP_COL_JSON, 0},
    {"metrics", "m.metrics", ESP_COL_JSON, 0},
    {"graph", "m.graph", ESP_COL_JSON, 0},
    {"validation_rmse", "json_extract(m.metrics, '$.validation_rmse')", ESP_COL_REAL, BOTH},
    {"sha256", "m.sha256", ESP_COL_TEXT, BOTH},
    {"created_at", "m.created_ms", ESP_COL_TIME, BOTH | ESP_COL_AGE},
    {"tag", "m.id IN (SELECT t.model FROM tag t WHERE t.tag", ESP_COL_SET, ESP_COL_FILTER},
    {NULL, NULL, ESP_COL_TEXT, 0},
};
static const esp_choice choices[] = {{"kind", esp_model_kind_names}, {NULL, NULL}};
const esp_list esp_list_models = {"model m", "m.rowid", NULL, columns, choices, true};

/* ---- upload --------------------------------------------------------------------------------------------------------- */

static esp_code check_name(const esp_call *call, char ret_name[ESP_NAME_MAX + 1], esp_error *reterr) {
    const char *name = esp_call_query(call, "name");
    if (!name || !esp_name_ok(name)) return esp_fail_at(reterr, ESP_INVALID, "?name", "a name is needed: up to 128 of letters, digits and . _ -");
    strcpy(ret_name, name);
    return ESP_OK;
}

/* -1 when `kind` is absent. */
static esp_code check_kind(const esp_call *call, int *ret_kind, esp_error *reterr) {
    const char *kind = esp_call_query(call, "kind");
    *ret_kind = -1;
    for (int i = 0; kind && esp_model_kind_names[i]; i++) {
        if (strcmp(kind, esp_model_kind_names[i]) == 0) *ret_kind = i;
    }
    return !kind || *ret_kind >= 0 ? ESP_OK : esp_fail_at(reterr, ESP_INVALID, "?kind", "dynamics or policy is expected");
}

static bool is_type(const esp_call *call, const char *type) {
    const char *given = esp_call_header(call, "Content-Type");
    size_t len = given ? strcspn(given, "; \t") : 0;
    return strlen(type) == len && strncasecmp(given, type, len) == 0;
}

/* 0 when `history` is absent. */
static esp_code check_history(const esp_call *call, int *ret_history, esp_error *reterr) {
    const char *text = esp_call_query(call, "history");
    char *end = NULL;
    long history = text ? strtol(text, &end, 10) : 0;
    if (text && (end == text || *end || history < 1 || history > ESP_MAX_HISTORY))
        return esp_fail_at(reterr, ESP_INVALID, "?history", "a number from 1 to %d is expected", ESP_MAX_HISTORY);
    *ret_history = (int)history;
    return ESP_OK;
}

static esp_code parse_model(esp_call *call, int kind, int history, esp_model **ret_model, esp_error *reterr) {
    size_t len = 0;
    const char *body = esp_call_body(call, &len);
    if (is_type(call, ONNX_TYPE)) return esp_onnx_parse(body, len, kind, history, ret_model, reterr);
    if (history) return esp_fail_at(reterr, ESP_INVALID, "?history", "only " ONNX_TYPE " needs it; the other forms say it themselves");
    if (is_type(call, MODEL_TYPE)) {
        esp_model *model = NULL;
        esp_code code = esp_model_decode(body, len, &model, reterr);
        if (code == ESP_CORRUPT) code = esp_fail(reterr, ESP_INVALID, "the body is not a model file"); /* ours is not damaged, theirs is */
        if (code) return code;
        if (kind >= 0 && (int)model->kind != kind) {
            code = esp_fail_at(reterr, ESP_INVALID, "?kind", "the file holds a model of kind %s", esp_model_kind_names[model->kind]);
            esp_model_free(model);
            return code;
        }
        *ret_model = model;
        return ESP_OK;
    }
    const esp_json *json = NULL;
    if (kind < 0) return esp_fail_at(reterr, ESP_INVALID, "?kind", "a kind is needed: dynamics or policy");
    esp_code code = esp_call_json(call, &json, reterr);
    if (code) return code;
    esp_reader root = esp_reader_root(json);
    return esp_model_parse_json(&root, (esp_model_kind)kind, ret_model, reterr);
}

static esp_code fill_row(const esp_model *model, esp_model_row *row, esp_error *reterr) {
    strcpy(row->kind, esp_model_kind_names[model->kind]);
    row->ny = model->ny;
    row->nu = model->nu;
    row->history = model->history;
    row->relu = esp_model_relus(model);
    row->parameters = esp_model_parameters(model);
    row->nonzero = esp_model_nonzero(model);
    if (!model->graph) return ESP_OK;
    esp_buf text = {0};
    esp_jsonw w = esp_jsonw_on(&text);
    esp_graph_format_summary(model->graph, NULL, &w);
    row->graph = esp_buf_take(&text, NULL);
    return row->graph ? ESP_OK : esp_fail(reterr, ESP_NOMEM, "no memory for a row");
}

static esp_code model_json(esp_db *db, const char *id, esp_jsonw *w, esp_error *reterr) {
    esp_jsonw_object(w, NULL);
    esp_code code = esp_list_one(db, &esp_list_models, "m.id = ?", id, w, reterr);
    if (code) return code;
    esp_jsonw_array(w, "certificates");
    code = esp_list_all(db, &esp_list_bounds, "c.model = ?", id, w, reterr);
    esp_jsonw_array_end(w);
    esp_jsonw_object_end(w);
    return code;
}

static esp_code insert(esp_db *db, void *user, esp_jsonw *reply, char ret_location[ESP_LOCATION_MAX], esp_error *reterr) {
    esp_model_row *row = user;
    esp_code code = esp_model_insert(db, row, reterr);
    if (code) return code;
    snprintf(ret_location, ESP_LOCATION_MAX, "/v1/models/%s", row->id);
    return model_json(db, row->id, reply, reterr);
}

static esp_code store_blob(esp_server *server, const esp_model *model, char ret_sha256[ESP_HASH_HEX], esp_error *reterr) {
    esp_buf bytes = {0};
    esp_code code = esp_model_encode(model, &bytes, reterr);
    if (!code) code = esp_blob_put(server->registry, bytes.data, bytes.len, ret_sha256, reterr);
    esp_buf_done(&bytes);
    return code;
}

void esp_api_models_create(struct esp_server *server, esp_call *call) {
    static const char *const known[] = {"name", "kind", "history", NULL};
    esp_error error = {0};
    esp_model_row row = {0};
    esp_model *model = NULL;
    int kind = -1, history = 0;
    esp_code code = esp_call_query_check(call, known, &error);
    if (!code) code = check_name(call, row.name, &error);
    if (!code) code = check_kind(call, &kind, &error);
    if (!code) code = check_history(call, &history, &error);
    if (!code) code = parse_model(call, kind, history, &model, &error);
    if (!code) code = store_blob(server, model, row.sha256, &error);
    if (!code) code = fill_row(model, &row, &error);
    if (code) {
        esp_call_reply_error(call, &error);
    } else {
        esp_create_reply(server, call, &(esp_creating){.status = 201, .insert = insert, .user = &row});
    }
    esp_model_row_done(&row);
    esp_model_free(model);
}

/* ---- reading -------------------------------------------------------------------------------------------------------- */

void esp_api_models_list(struct esp_server *server, esp_call *call) {
    esp_list_reply(server, call, &esp_list_models, NULL, NULL);
}

static esp_code find(esp_server *server, const char *ref, esp_model_row *row, esp_buf *json, esp_error *reterr) {
    esp_db *db = NULL;
    esp_code code = esp_registry_read_begin(server->registry, &db, reterr);
    if (code) return code;
    code = esp_model_find(db, ref, row, reterr);
    if (!code && json) {
        esp_jsonw w = esp_jsonw_on(json);
        code = model_json(db, row->id, &w, reterr);
    }
    esp_registry_read_end(server->registry, db);
    return code;
}

void esp_api_models_get(struct esp_server *server, esp_call *call) {
    static const char *const known[] = {NULL};
    esp_error error = {0};
    esp_model_row row = {0};
    esp_buf out = {0};
    char etag[64 + ESP_ID_MAX];
    unsigned long long changes = esp_registry_changes(server->registry, false);
    esp_code code = esp_call_query_check(call, known, &error);
    if (!code) code = find(server, esp_call_path(call, "ref"), &row, &out, &error);
    snprintf(etag, sizeof etag, "W/\"%llx-%s\"", changes, row.id);
    if (code) {
        esp_call_reply_error(call, &error);
    } else if (!esp_call_not_modified(call, etag)) {
        esp_call_reply_json(call, 200, &out);
    }
    esp_buf_done(&out);
    esp_model_row_done(&row);
}
