/* SPDX-License-Identifier: Apache-2.0
 * /v1/jobs/{id}/artifacts and /log: what a job has made so far, and what its workers said. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "api.h"
#include "registry/query.h"
#include "server.h"

/* ---- artifacts ------------------------------------------------------------------------------------------------------ */

/* Models by its events, so that one which was there before counts as made too; certificates by their rows; its log. */
#define MADE                                                                                                                                         \
    "SELECT 'model', m.id, m.name || '/' || m.version, m.sha256, '/v1/models/' || m.id || '/artifact'"                                               \
    " FROM job_event e JOIN model m ON m.id = json_extract(e.data, '$.id') WHERE e.job = ?1 AND e.type = 'model'"                                    \
    " UNION ALL SELECT 'certificate', c.id, c.kind || ' by ' || c.method, NULL, '/v1/bounds/' || c.id FROM certificate c WHERE c.job = ?1"           \
    " UNION ALL SELECT 'log', NULL, 'log', NULL, '/v1/jobs/' || ?1 || '/log' WHERE EXISTS"                                                           \
    " (SELECT 1 FROM job_event WHERE job = ?1 AND type = 'log')"

static esp_code artifacts_json(esp_db *db, const char *id, esp_buf *out, esp_error *reterr) {
    static const char *const keys[] = {"kind", "id", "name", "sha256", "href"};
    esp_stmt *s = NULL;
    esp_jsonw w = esp_jsonw_on(out);
    esp_code code = esp_stmt_open(db, &s, reterr, MADE, "t", id);
    int step = code ? code : esp_stmt_step(s, reterr);
    esp_jsonw_object(&w, NULL);
    esp_jsonw_string(&w, "job", id);
    esp_jsonw_array(&w, "items");
    for (; step == 1; step = esp_stmt_step(s, reterr)) {
        esp_jsonw_object(&w, NULL);
        for (int i = 0; i < 5; i++) esp_jsonw_string(&w, keys[i], esp_stmt_is_null(s, i) ? NULL : esp_stmt_text(s, i, NULL));
        esp_jsonw_object_end(&w);
    }
    esp_jsonw_array_end(&w);
    esp_jsonw_object_end(&w);
    esp_stmt_close(s);
    return step < 0 ? (esp_code)step : ESP_OK;
}

/* ---- the log -------------------------------------------------------------------------------------------------------- */

/* Words as they were said; of what happened to a checkpoint, a line. */
static esp_code put_words(const char *data, esp_buf *out, esp_error *reterr) {
    esp_json *json = NULL;
    const char *text = "", *what = "", *message = "";
    esp_code code = esp_json_parse(data, strlen(data), &json, reterr);
    if (code) return code;
    esp_reader root = esp_reader_root(json), said = esp_read_member(&root, "text"), checkpoint = esp_read_member(&root, "checkpoint"),
               why = esp_read_member(&root, "message");
    if (said.value) code = esp_read_string(&said, SIZE_MAX, &text, reterr);
    if (!code && checkpoint.value) code = esp_read_string(&checkpoint, SIZE_MAX, &what, reterr);
    if (!code && why.value) code = esp_read_string(&why, SIZE_MAX, &message, reterr);
    if (!code && *what)
        esp_buf_printf(out, "checkpoint %s%s%s\n", what, *message ? ": " : "", message);
    else if (!code)
        esp_buf_puts(out, text);
    esp_json_free(json);
    return code;
}

static esp_code log_text(esp_db *db, const char *id, esp_buf *out, esp_error *reterr) {
    esp_stmt *s = NULL;
    esp_code code = esp_stmt_open(db, &s, reterr, "SELECT data FROM job_event WHERE job = ? AND type = 'log' ORDER BY seq", "t", id);
    int step = code ? code : esp_stmt_step(s, reterr);
    for (; step == 1 && !code; step = esp_stmt_step(s, reterr)) code = put_words(esp_stmt_text(s, 0, NULL), out, reterr);
    esp_stmt_close(s);
    return step < 0 ? (esp_code)step : code;
}

/* ---- both ----------------------------------------------------------------------------------------------------------- */

static void reply(struct esp_server *server, esp_call *call, const char *type,
                  esp_code (*run)(esp_db *db, const char *id, esp_buf *out, esp_error *reterr)) {
    static const char *const known[] = {NULL};
    esp_error error = {0};
    esp_job_row row = {0};
    esp_buf out = {0};
    esp_db *db = NULL;
    esp_code code = esp_call_query_check(call, known, &error);
    if (!code) code = esp_registry_read_begin(server->registry, &db, &error);
    if (!code) {
        code = esp_job_find(db, esp_call_path(call, "id"), &row, &error);
        if (!code) code = run(db, row.id, &out, &error);
        esp_registry_read_end(server->registry, db);
    }
    esp_job_row_done(&row);
    if (code)
        esp_call_reply_error(call, &error);
    else
        esp_call_reply(call, 200, type, &out);
    esp_buf_done(&out);
}

void esp_api_jobs_artifacts(struct esp_server *server, esp_call *call) {
    reply(server, call, "application/json", artifacts_json);
}

void esp_api_jobs_log(struct esp_server *server, esp_call *call) {
    reply(server, call, "text/plain; charset=utf-8", log_text);
}
