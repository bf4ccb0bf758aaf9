/* SPDX-License-Identifier: Apache-2.0
 * /v1/tasks: planning problems, checked once against the model they name, stored, never changed. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "api.h"
#include "create.h"
#include "list.h"
#include "plan/task.h"
#include "plans.h"
#include "registry/query.h"
#include "rfc3339.h"
#include "server.h"

enum { BOTH = ESP_COL_FILTER | ESP_COL_SORT };
#define TASK_ARENA ((size_t)64 << 20)

static const esp_column columns[] = {
    {"id", "t.id", ESP_COL_TEXT, BOTH},
    {"name", "t.name", ESP_COL_TEXT, BOTH},
    {"version", "t.version", ESP_COL_INTEGER, BOTH},
    {"model", "t.model", ESP_COL_TEXT, BOTH},
    {"model_name", "m.name", ESP_COL_TEXT, BOTH},
    {"model_version", "m.version", ESP_COL_INTEGER, BOTH},
    {"horizon", "json_extract(t.body, '$.horizon')", ESP_COL_INTEGER, BOTH},
    {"method", "json_extract(t.body, '$.planner.method')", ESP_COL_TEXT, BOTH},
    {"created_at", "t.created_ms", ESP_COL_TIME, BOTH},
    {NULL, NULL, ESP_COL_TEXT, 0},
};
static const esp_choice choices[] = {{"method", esp_method_names}, {NULL, NULL}};
static const esp_list list = {"task t JOIN model m ON m.id = t.model", "t.rowid", NULL, columns, choices, false};

/* ---- the task as it is shown: what the row knows, then the members as they were given ---------------------------------- */

static esp_code format_task(const esp_task_row *row, esp_jsonw *w, esp_error *reterr) {
    char at[ESP_TIME_TEXT];
    const char *key;
    esp_reader value;
    esp_json *body = NULL;
    esp_code code = esp_json_parse(row->body, strlen(row->body), &body, reterr);
    if (code) return code;
    esp_reader root = esp_reader_root(body);
    esp_time_format(row->created_ms, at);
    esp_jsonw_object(w, NULL);
    esp_jsonw_string(w, "id", row->id);
    esp_jsonw_string(w, "name", row->name);
    esp_jsonw_integer(w, "version", row->version);
    esp_jsonw_string(w, "model", row->model);
    esp_jsonw_string(w, "created_at", at);
    for (size_t i = 0; esp_read_entry(&root, i, &key, &value); i++) {
        if (strcmp(key, "name") != 0 && strcmp(key, "model") != 0) esp_jsonw_value(w, key, value.value);
    }
    esp_jsonw_object_end(w);
    esp_json_free(body);
    return ESP_OK;
}

/* ---- POST ----------------------------------------------------------------------------------------------------------- */

static esp_code read_names(const esp_reader *root, esp_task_row *row, const char **ret_model, esp_error *reterr) {
    esp_reader name, model;
    const char *text = NULL;
    esp_code code = esp_read_object(root, esp_task_fields, reterr);
    if (!code) code = esp_read_required(root, "name", &name, reterr);
    if (!code) code = esp_read_string(&name, ESP_NAME_MAX, &text, reterr);
    if (!code && !esp_name_ok(text)) code = esp_refuse(&name, reterr, "a name is up to 128 of letters, digits and . _ -");
    if (!code) code = esp_read_required(root, "model", &model, reterr);
    if (!code) code = esp_read_string(&model, 2 * ESP_NAME_MAX, ret_model, reterr);
    if (!code) strcpy(row->name, text);
    return code;
}

static esp_code find_model(esp_server *server, const char *ref, esp_model_row *ret_row, esp_error *reterr) {
    esp_db *db = NULL;
    esp_code code = esp_registry_read_begin(server->registry, &db, reterr);
    if (code) return code;
    code = esp_model_find(db, ref, ret_row, reterr);
    esp_registry_read_end(server->registry, db);
    if (code == ESP_NOT_FOUND) return esp_fail_at(reterr, ESP_UNPROCESSABLE, "/model", "there is no model '%.100s'", ref);
    if (code == ESP_INVALID) esp_error_prefix_pointer(reterr, "/model");
    return code;
}

static esp_code check_task(const esp_reader *root, const esp_model_row *model, esp_error *reterr) {
    if (strcmp(model->kind, "dynamics") != 0)
        return esp_fail_at(reterr, ESP_UNPROCESSABLE, "/model", "a task needs a dynamics model, this one is a %s", model->kind);
    esp_task *task = NULL;
    int64_t ny = 0;
    esp_arena *arena = esp_arena_create(TASK_ARENA);
    if (!arena) return esp_fail(reterr, ESP_NOMEM, "no memory for a task");
    esp_code code = esp_task_ny(root, model, &ny, reterr);
    if (!code) code = esp_task_parse(root, (int)ny, (int)model->nu, arena, &task, reterr);
    esp_arena_free(arena);
    return code;
}

static esp_code insert(esp_db *db, void *user, esp_jsonw *reply, char ret_location[ESP_LOCATION_MAX], esp_error *reterr) {
    esp_task_row *row = user;
    esp_code code = esp_task_insert(db, row, reterr);
    if (code) return code;
    snprintf(ret_location, ESP_LOCATION_MAX, "/v1/tasks/%s", row->id);
    return format_task(row, reply, reterr);
}

void esp_api_tasks_create(struct esp_server *server, esp_call *call) {
    static const char *const known[] = {NULL};
    esp_error error = {0};
    esp_task_row row = {0};
    esp_model_row model = {0};
    esp_buf body = {0};
    const esp_json *json = NULL;
    const char *ref = NULL;
    esp_code code = esp_call_query_check(call, known, &error);
    if (!code) code = esp_call_json(call, &json, &error);
    esp_reader root = esp_reader_root(json);
    if (!code) code = read_names(&root, &row, &ref, &error);
    if (!code) code = find_model(server, ref, &model, &error);
    if (!code) code = check_task(&root, &model, &error);
    if (!code) {
        strcpy(row.model, model.id);
        esp_json_canonical(json, &body);
        row.body = esp_buf_take(&body, NULL);
        if (!row.body) code = esp_fail(&error, ESP_NOMEM, "no memory for a task");
    }
    if (code) {
        esp_call_reply_error(call, &error);
    } else {
        esp_create_reply(server, call, &(esp_creating){.status = 201, .insert = insert, .user = &row});
    }
    esp_model_row_done(&model);
    esp_task_row_done(&row);
    esp_buf_done(&body);
}

/* ---- GET ------------------------------------------------------------------------------------------------------------ */

void esp_api_tasks_list(struct esp_server *server, esp_call *call) {
    esp_list_reply(server, call, &list, NULL, NULL);
}

void esp_api_tasks_get(struct esp_server *server, esp_call *call) {
    static const char *const known[] = {NULL};
    esp_error error = {0};
    esp_task_row row = {0};
    esp_buf out = {0};
    esp_jsonw w = esp_jsonw_on(&out);
    esp_db *db = NULL;
    esp_code code = esp_call_query_check(call, known, &error);
    if (!code) code = esp_registry_read_begin(server->registry, &db, &error);
    if (!code) {
        code = esp_task_find(db, esp_call_path(call, "ref"), &row, &error);
        esp_registry_read_end(server->registry, db);
    }
    if (!code) code = format_task(&row, &w, &error);
    esp_call_reply_made(call, code, &error, &out);
    esp_task_row_done(&row);
}
