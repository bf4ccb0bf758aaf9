/* SPDX-License-Identifier: Apache-2.0
 * /v1/models/{ref}/lineage: where a model comes from and what came of it; and its tags.
 *
 * A parent is there before its child and never changes, so the walk ends. It is cut at 1000 models each way, and says so. */
#include <string.h>

#include "api.h"
#include "registry/query.h"
#include "rfc3339.h"
#include "server.h"

enum { LINEAGE_MAX = 1000 };

#define NODE "m.id, m.name, m.version, m.kind, m.relu, m.parameters, m.nonzero, m.sha256, m.parent, m.dataset, m.job, m.created_ms"
#define SELF "SELECT " NODE ", 0 FROM model m WHERE m.id = ?1 LIMIT ?2"
#define UP                                                                                                                                           \
    "WITH RECURSIVE walk(id, depth) AS (SELECT parent, 1 FROM model WHERE id = ?1 AND parent IS NOT NULL"                                            \
    " UNION ALL SELECT p.parent, depth + 1 FROM walk JOIN model p ON p.id = walk.id WHERE p.parent IS NOT NULL LIMIT ?2)"                            \
    " SELECT " NODE ", depth FROM walk JOIN model m ON m.id = walk.id ORDER BY depth"
#define DOWN                                                                                                                                         \
    "WITH RECURSIVE walk(id, depth) AS (SELECT id, 1 FROM model WHERE parent = ?1"                                                                   \
    " UNION ALL SELECT c.id, depth + 1 FROM walk JOIN model c ON c.parent = walk.id LIMIT ?2)"                                                       \
    " SELECT " NODE ", depth FROM walk JOIN model m ON m.id = walk.id ORDER BY depth, m.id"
#define DATASETS                                                                                                                                     \
    "WITH RECURSIVE walk(id) AS (SELECT ?1 UNION ALL SELECT p.parent FROM walk JOIN model p ON p.id = walk.id WHERE p.parent IS NOT NULL LIMIT ?2)"  \
    " SELECT DISTINCT d.id, d.name, d.version, d.sha256 FROM walk JOIN model m ON m.id = walk.id JOIN dataset d ON d.id = m.dataset ORDER BY d.id"

static void put_text(esp_jsonw *w, const char *key, esp_stmt *s, int column) {
    esp_jsonw_string(w, key, esp_stmt_is_null(s, column) ? NULL : esp_stmt_text(s, column, NULL));
}

static void put_node(esp_stmt *s, esp_jsonw *w) {
    char at[ESP_TIME_TEXT];
    esp_time_format(esp_stmt_int(s, 11), at);
    put_text(w, "id", s, 0);
    put_text(w, "name", s, 1);
    esp_jsonw_integer(w, "version", esp_stmt_int(s, 2));
    put_text(w, "kind", s, 3);
    esp_jsonw_integer(w, "relu", esp_stmt_int(s, 4));
    esp_jsonw_number(w, "sparsity", 1.0 - (double)esp_stmt_int(s, 6) / (double)esp_stmt_int(s, 5));
    put_text(w, "sha256", s, 7);
    put_text(w, "parent", s, 8);
    put_text(w, "dataset", s, 9);
    put_text(w, "job", s, 10);
    esp_jsonw_string(w, "created_at", at);
    esp_jsonw_integer(w, "depth", esp_stmt_int(s, 12));
}

static void put_dataset(esp_stmt *s, esp_jsonw *w) {
    put_text(w, "id", s, 0);
    put_text(w, "name", s, 1);
    esp_jsonw_integer(w, "version", esp_stmt_int(s, 2));
    put_text(w, "sha256", s, 3);
}

static esp_code put_rows(esp_db *db, const char *key, const char *sql, const char *id, void (*put)(esp_stmt *s, esp_jsonw *w), esp_jsonw *w,
                         bool *cut, esp_error *reterr) {
    esp_stmt *s = NULL;
    esp_code code = esp_stmt_open(db, &s, reterr, sql, "ti", id, (int64_t)LINEAGE_MAX + 1);
    int step = code ? code : esp_stmt_step(s, reterr);
    esp_jsonw_array(w, key);
    for (int n = 0; step == 1; step = esp_stmt_step(s, reterr)) {
        if (++n > LINEAGE_MAX) {
            *cut = true;
            break;
        }
        esp_jsonw_object(w, NULL);
        put(s, w);
        esp_jsonw_object_end(w);
    }
    esp_jsonw_array_end(w);
    esp_stmt_close(s);
    return step < 0 ? (esp_code)step : ESP_OK;
}

static esp_code put_self(esp_db *db, const char *id, esp_jsonw *w, esp_error *reterr) {
    esp_stmt *s = NULL;
    esp_code code = esp_stmt_open(db, &s, reterr, SELF, "ti", id, INT64_C(1));
    int step = code ? code : esp_stmt_step(s, reterr);
    esp_jsonw_object(w, "model");
    if (step == 1) put_node(s, w);
    esp_jsonw_object_end(w);
    esp_stmt_close(s);
    return step < 0 ? (esp_code)step : ESP_OK;
}

static esp_code lineage_json(esp_db *db, const char *ref, esp_buf *out, esp_error *reterr) {
    esp_model_row row = {0};
    esp_jsonw w = esp_jsonw_on(out);
    bool cut = false;
    esp_code code = esp_model_find(db, ref, &row, reterr);
    if (code) return code;
    esp_model_row_done(&row);
    esp_jsonw_object(&w, NULL);
    code = put_self(db, row.id, &w, reterr);
    if (!code) code = put_rows(db, "ancestors", UP, row.id, put_node, &w, &cut, reterr);
    if (!code) code = put_rows(db, "descendants", DOWN, row.id, put_node, &w, &cut, reterr);
    if (!code) code = put_rows(db, "datasets", DATASETS, row.id, put_dataset, &w, &cut, reterr);
    esp_jsonw_bool(&w, "truncated", cut);
    esp_jsonw_object_end(&w);
    return code;
}

/* Answers with what `run` writes about the model on one read snapshot. */
static void reply_read(struct esp_server *server, esp_call *call, esp_code (*run)(esp_db *db, const char *ref, esp_buf *out, esp_error *reterr)) {
    static const char *const known[] = {NULL};
    esp_error error = {0};
    esp_buf out = {0};
    esp_db *db = NULL;
    esp_code code = esp_call_query_check(call, known, &error);
    if (!code) code = esp_registry_read_begin(server->registry, &db, &error);
    if (!code) {
        code = run(db, esp_call_path(call, "ref"), &out, &error);
        esp_registry_read_end(server->registry, db);
    }
    esp_call_reply_made(call, code, &error, &out);
}

void esp_api_models_lineage(struct esp_server *server, esp_call *call) {
    reply_read(server, call, lineage_json);
}

/* ---- tags ----------------------------------------------------------------------------------------------------------- */

static esp_code tags_json(esp_db *db, const char *ref, esp_buf *out, esp_error *reterr) {
    esp_model_row row = {0};
    esp_stmt *s = NULL;
    esp_jsonw w = esp_jsonw_on(out);
    esp_code code = esp_model_find(db, ref, &row, reterr);
    if (code) return code;
    esp_model_row_done(&row);
    code = esp_stmt_open(db, &s, reterr, "SELECT tag FROM tag WHERE model = ? ORDER BY tag", "t", row.id);
    int step = code ? code : esp_stmt_step(s, reterr);
    esp_jsonw_object(&w, NULL);
    esp_jsonw_string(&w, "model", row.id);
    esp_jsonw_array(&w, "tags");
    for (; step == 1; step = esp_stmt_step(s, reterr)) esp_jsonw_string(&w, NULL, esp_stmt_text(s, 0, NULL));
    esp_jsonw_array_end(&w);
    esp_jsonw_object_end(&w);
    esp_stmt_close(s);
    return (esp_code)step;
}

void esp_api_tags_get(struct esp_server *server, esp_call *call) {
    reply_read(server, call, tags_json);
}

typedef struct tagging {
    const char *ref, *tag;
    esp_code (*run)(esp_db *db, const char *model_id, const char *tag, esp_error *reterr);
    esp_buf out;
} tagging;

static esp_code write_tagging(esp_db *db, void *user, esp_error *reterr) {
    tagging *t = user;
    esp_model_row row = {0};
    esp_code code = esp_model_find(db, t->ref, &row, reterr);
    if (code) return code;
    esp_model_row_done(&row);
    code = t->run(db, row.id, t->tag, reterr);
    return code ? code : tags_json(db, row.id, &t->out, reterr);
}

static void change(struct esp_server *server, esp_call *call, esp_code (*run)(esp_db *db, const char *model_id, const char *tag, esp_error *reterr)) {
    static const char *const known[] = {NULL};
    esp_error error = {0};
    tagging t = {.ref = esp_call_path(call, "ref"), .tag = esp_call_path(call, "tag"), .run = run};
    esp_code code = esp_call_query_check(call, known, &error);
    if (!code && !esp_tag_ok(t.tag))
        code = esp_fail_at(&error, ESP_INVALID, "{tag}", "a tag is up to %d of letters, digits and . _ : = -", ESP_NAME_MAX);
    if (!code) code = esp_registry_write(server->registry, write_tagging, &t, &error);
    esp_call_reply_made(call, code, &error, &t.out);
}

void esp_api_tags_put(struct esp_server *server, esp_call *call) {
    change(server, call, esp_tag_set);
}

void esp_api_tags_delete(struct esp_server *server, esp_call *call) {
    change(server, call, esp_tag_clear);
}
