/* SPDX-License-Identifier: Apache-2.0
 * /v1/episodes: robots report how a closed loop went; totals by model and task are the curve of performance over sparsity. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "api.h"
#include "create.h"
#include "list.h"
#include "net/model.h"
#include "server.h"

enum { BOTH = ESP_COL_FILTER | ESP_COL_SORT, STEPS_MAX = 1000000000, METRICS_MAX = 16 << 10 };
#define COST_MAX 1e300

static const esp_column totals_columns[] = {
    {"model", "e.model", ESP_COL_TEXT, BOTH},
    {"model_name", "m.name", ESP_COL_TEXT, BOTH},
    {"model_version", "m.version", ESP_COL_INTEGER, BOTH},
    {"kind", "m.kind", ESP_COL_TEXT, BOTH},
    {"relu", "m.relu", ESP_COL_INTEGER, BOTH},
    {"sparsity", "(1.0 - 1.0 * m.nonzero / m.parameters)", ESP_COL_REAL, BOTH},
    {"validation_rmse", "json_extract(m.metrics, '$.validation_rmse')", ESP_COL_REAL, BOTH},
    {"task", "e.task", ESP_COL_TEXT, BOTH},
    {"task_name", "t.name", ESP_COL_TEXT, BOTH},
    {"task_version", "t.version", ESP_COL_INTEGER, BOTH},
    {"episodes", "e.episodes", ESP_COL_INTEGER, BOTH},
    {"judged", "e.judged", ESP_COL_INTEGER, BOTH},
    {"successes", "e.successes", ESP_COL_INTEGER, BOTH},
    {"success_rate", "(1.0 * e.successes / nullif(e.judged, 0))", ESP_COL_REAL, BOTH},
    {"cost_mean", "(e.cost / e.episodes)", ESP_COL_REAL, BOTH},
    {"cost_min", "e.cost_min", ESP_COL_REAL, BOTH},
    {"cost_max", "e.cost_max", ESP_COL_REAL, BOTH},
    {"steps_mean", "(1.0 * e.steps / e.episodes)", ESP_COL_REAL, BOTH},
    {"last_at", "e.last_ms", ESP_COL_TIME, BOTH},
    {NULL, NULL, ESP_COL_TEXT, 0},
};
static const esp_choice totals_choices[] = {{"kind", esp_model_kind_names}, {NULL, NULL}};
static const esp_list totals = {
    "episode_total e JOIN model m ON m.id = e.model JOIN task t ON t.id = e.task", "e.seq", "relu", totals_columns, totals_choices, false};

static const esp_column columns[] = {
    {"id", "e.id", ESP_COL_TEXT, 0},
    {"model", "e.model", ESP_COL_TEXT, 0},
    {"task", "e.task", ESP_COL_TEXT, 0},
    {"robot", "e.robot", ESP_COL_TEXT, 0},
    {"steps", "e.steps", ESP_COL_INTEGER, 0},
    {"cost", "e.cost", ESP_COL_REAL, 0},
    {"success", "e.success", ESP_COL_BOOL, 0},
    {"metrics", "e.metrics", ESP_COL_JSON, 0},
    {"created_at", "e.created_ms", ESP_COL_TIME, ESP_COL_SORT},
    {NULL, NULL, ESP_COL_TEXT, 0},
};
static const esp_list one = {"episode e", "e.rowid", NULL, columns, NULL, false};

/* ---- POST ----------------------------------------------------------------------------------------------------------- */

/* A model or task by its ref: an unknown one is 422 at its field. */
static esp_code blame(esp_code code, const char *pointer, const char *what, const char *ref, esp_error *reterr) {
    if (code == ESP_NOT_FOUND) return esp_fail_at(reterr, ESP_UNPROCESSABLE, pointer, "there is no %s '%.100s'", what, ref);
    if (code == ESP_INVALID) esp_error_prefix_pointer(reterr, pointer);
    return code;
}

static esp_code resolve(esp_server *server, const char *model_ref, const char *task_ref, esp_episode_row *row, esp_error *reterr) {
    esp_model_row model = {0};
    esp_task_row task = {0};
    esp_db *db = NULL;
    esp_code code = esp_registry_read_begin(server->registry, &db, reterr);
    if (code) return code;
    code = blame(esp_model_find(db, model_ref, &model, reterr), "/model", "model", model_ref, reterr);
    if (!code) code = blame(esp_task_find(db, task_ref, &task, reterr), "/task", "task", task_ref, reterr);
    esp_registry_read_end(server->registry, db);
    if (!code) {
        strcpy(row->model, model.id);
        strcpy(row->task, task.id);
    }
    esp_model_row_done(&model);
    esp_task_row_done(&task);
    return code;
}

static esp_code read_text(const esp_reader *root, const char *key, size_t max, const char **ret, esp_error *reterr) {
    esp_reader member;
    esp_code code = esp_read_required(root, key, &member, reterr);
    return code ? code : esp_read_string(&member, max, ret, reterr);
}

static esp_code read_metrics(const esp_reader *root, esp_episode_row *row, esp_error *reterr) {
    esp_reader member = esp_read_member(root, "metrics");
    esp_buf text = {0};
    if (!member.value) return ESP_OK;
    if (esp_reader_kind(&member) != ESP_JSON_OBJECT) return esp_refuse(&member, reterr, "an object is expected");
    esp_json_canonical(member.value, &text);
    if (text.len > METRICS_MAX) {
        esp_buf_done(&text);
        return esp_refuse(&member, reterr, "metrics may have up to %d bytes", METRICS_MAX);
    }
    row->metrics = esp_buf_take(&text, NULL);
    return row->metrics ? ESP_OK : esp_fail(reterr, ESP_NOMEM, "no memory for an episode");
}

static esp_code read_numbers(const esp_reader *root, esp_episode_row *row, esp_error *reterr) {
    esp_reader steps, cost, success = esp_read_member(root, "success");
    bool succeeded = false;
    esp_code code = esp_read_required(root, "steps", &steps, reterr);
    if (!code) code = esp_read_integer(&steps, 1, STEPS_MAX, &row->steps, reterr);
    if (!code) code = esp_read_required(root, "cost", &cost, reterr);
    if (!code) code = esp_read_number(&cost, -COST_MAX, COST_MAX, &row->cost, reterr);
    if (!code) code = esp_read_bool(&success, &succeeded, reterr);
    if (!code) row->success = success.value ? succeeded : -1;
    return code;
}

static esp_code parse(esp_server *server, const esp_reader *root, esp_episode_row *row, esp_error *reterr) {
    static const char *const fields[] = {"model", "task", "robot", "steps", "cost", "success", "metrics", NULL};
    const char *model = NULL, *task = NULL, *robot = NULL;
    esp_code code = esp_read_object(root, fields, reterr);
    if (!code) code = read_text(root, "model", 2 * ESP_NAME_MAX, &model, reterr);
    if (!code) code = read_text(root, "task", 2 * ESP_NAME_MAX, &task, reterr);
    if (!code) code = read_text(root, "robot", ESP_NAME_MAX, &robot, reterr);
    if (!code && !esp_name_ok(robot)) code = esp_fail_at(reterr, ESP_INVALID, "/robot", "a name is up to 128 of letters, digits and . _ -");
    if (!code) code = read_numbers(root, row, reterr);
    if (!code) code = read_metrics(root, row, reterr);
    if (!code) code = resolve(server, model, task, row, reterr);
    if (!code) strcpy(row->robot, robot);
    return code;
}

static esp_code insert(esp_db *db, void *user, esp_jsonw *reply, char ret_location[ESP_LOCATION_MAX], esp_error *reterr) {
    esp_episode_row *row = user;
    esp_code code = esp_episode_insert(db, row, reterr);
    if (code) return code;
    snprintf(ret_location, ESP_LOCATION_MAX, "/v1/episodes/%s", row->id);
    esp_jsonw_object(reply, NULL);
    code = esp_list_one(db, &one, "e.id = ?", row->id, reply, reterr);
    esp_jsonw_object_end(reply);
    return code;
}

void esp_api_episodes_create(struct esp_server *server, esp_call *call) {
    static const char *const known[] = {NULL};
    const esp_json *json = NULL;
    esp_error error = {0};
    esp_episode_row row = {0};
    esp_code code = esp_call_query_check(call, known, &error);
    if (!code) code = esp_call_json(call, &json, &error);
    if (!code) {
        esp_reader root = esp_reader_root(json);
        code = parse(server, &root, &row, &error);
    }
    if (code) {
        esp_call_reply_error(call, &error);
    } else {
        esp_create_reply(server, call, &(esp_creating){.status = 201, .insert = insert, .user = &row});
    }
    esp_episode_row_done(&row);
}

/* ---- GET ------------------------------------------------------------------------------------------------------------ */

void esp_api_episodes_list(struct esp_server *server, esp_call *call) {
    esp_list_reply(server, call, &totals, NULL, NULL);
}

void esp_api_episodes_get(struct esp_server *server, esp_call *call) {
    esp_list_reply_one(server, call, &one, "e.id = ?", esp_call_path(call, "id"));
}
