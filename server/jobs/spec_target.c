/* SPDX-License-Identifier: Apache-2.0
 * Checking the target of a ladder at the door: the numbers by lib/train, the task here. */
#include <string.h>

#include "jobs/spec.h"
#include "plan/task.h"

#define TASK_ARENA ((size_t)64 << 20)

static esp_code check_task(const esp_reader *member, const esp_task_row *row, int64_t ny, int64_t nu, esp_error *reterr) {
    esp_json *json = NULL;
    esp_task *task = NULL;
    esp_arena *arena = esp_arena_create(TASK_ARENA);
    esp_code code = arena ? esp_json_parse(row->body, strlen(row->body), &json, reterr) : esp_fail(reterr, ESP_NOMEM, "no memory for a task");
    if (!code) {
        esp_reader root = esp_reader_root(json);
        code = esp_task_parse(&root, (int)ny, (int)nu, arena, &task, reterr);
    }
    if (!code && task->method != ESP_METHOD_MIP)
        code = spec_unprocessable(member, reterr, "its planner is %s, which proves nothing", esp_method_names[task->method]);
    esp_json_free(json);
    esp_arena_free(arena);
    return code;
}

esp_code spec_check_target(const esp_reader *spec, int64_t ny, int64_t nu, esp_db *db, refs *ret, esp_error *reterr) {
    esp_task_row row = {0};
    esp_model_row model = {0};
    const char *ref = NULL;
    esp_reader target = esp_read_member(spec, "target"), member = target.value ? esp_read_member(&target, "task") : (esp_reader){0};
    if (!member.value) return ESP_OK;
    esp_code code = esp_read_string(&member, REF_MAX, &ref, reterr);
    if (!code) code = spec_blame(&member, esp_task_find(db, ref, &row, reterr), reterr);
    if (!code) code = esp_model_find(db, row.model, &model, reterr);
    if (!code && (model.ny != ny || model.nu != nu))
        code = spec_unprocessable(&member, reterr, "is for models of other sizes (ny %d, nu %d) than the data's (ny %d, nu %d)", (int)model.ny,
                                  (int)model.nu, (int)ny, (int)nu);
    if (!code) code = check_task(&member, &row, ny, nu, reterr);
    if (!code) memcpy(ret->task, row.id, sizeof ret->task);
    esp_model_row_done(&model);
    esp_task_row_done(&row);
    return code;
}
