/* SPDX-License-Identifier: Apache-2.0
 * Checking a distill job at the door: the task and what it leaves open by lib/plan, the numbers by lib/train. */
#include <stdlib.h>
#include <string.h>

#include "certify/certificate.h"
#include "jobs/spec.h"
#include "plan/follow.h"
#include "resolved.h"
#include "train/distill.h"

#define TASK_ARENA ((size_t)64 << 20)

static esp_code find_task(const esp_reader *spec, esp_db *db, esp_task_row *ret_task, esp_model_row *ret_model, esp_error *reterr) {
    esp_reader member;
    const char *ref = NULL;
    esp_code code = esp_read_required(spec, "task", &member, reterr);
    if (!code) code = esp_read_string(&member, REF_MAX, &ref, reterr);
    if (!code) code = spec_blame(&member, esp_task_find(db, ref, ret_task, reterr), reterr);
    if (!code) code = esp_model_find(db, ret_task->model, ret_model, reterr);
    if (code || !ret_model->object_size) return code;
    return spec_unprocessable(&member, reterr, "plans on a graph network; a policy has a fixed number of inputs: upload the plain form for a state");
}

/* A network's answer is any number: from a few allowed values another kind of model would have to choose. */
static esp_code check_task(const esp_reader *spec, const esp_task *task, esp_error *reterr) {
    esp_reader member = esp_read_member(spec, "task");
    if (task->values)
        return spec_unprocessable(&member, reterr, "the task allows certain values of its input only; a policy answers with any number");
    return ESP_OK;
}

static esp_code check_fields(const esp_reader *spec, const esp_task *task, int history, esp_arena *arena, esp_error *reterr) {
    esp_distill_opts opts;
    esp_box box;
    esp_reader domain;
    esp_present present = esp_present_of(task, history);
    esp_code code = check_task(spec, task, reterr);
    if (!code) code = esp_distill_opts_parse(spec, present.n, present.nu, &opts, reterr);
    if (!code) code = esp_read_required(spec, "domain", &domain, reterr);
    return code ? code : esp_box_parse(&domain, present.n, arena, &box, reterr);
}

/* The plans stay where the model's neurons were resolved, if they were. */
static esp_code check_inside(const esp_reader *spec, const esp_model_row *model, const esp_task *task, esp_arena *arena, esp_error *reterr) {
    esp_reader member = esp_read_member(spec, "task");
    esp_error outside = {0};
    esp_code code = esp_resolved_check(model, task, arena, &outside);
    if (code == ESP_UNPROCESSABLE) return spec_unprocessable(&member, reterr, "its %s: %s", outside.pointer, outside.message);
    if (code && reterr) *reterr = outside;
    return code;
}

esp_code spec_check_distill(const esp_reader *spec, esp_db *db, refs *ret, esp_error *reterr) {
    esp_task_row row = {0};
    esp_model_row model = {0};
    esp_json *json = NULL;
    esp_task *task = NULL;
    esp_reader name;
    esp_arena *arena = esp_arena_create(TASK_ARENA);
    esp_code code = arena ? esp_read_object(spec, esp_distill_fields, reterr) : esp_fail(reterr, ESP_NOMEM, "no memory to check a spec");
    if (!code) code = esp_read_required(spec, "name", &name, reterr);
    if (!code) code = spec_check_name(spec, reterr);
    if (!code) code = find_task(spec, db, &row, &model, reterr);
    if (!code) code = esp_json_parse(row.body, strlen(row.body), &json, reterr);
    if (!code) {
        esp_reader root = esp_reader_root(json);
        code = esp_task_parse(&root, (int)model.ny, (int)model.nu, arena, &task, reterr);
    }
    if (!code) code = check_inside(spec, &model, task, arena, reterr);
    if (!code) code = check_fields(spec, task, (int)model.history, arena, reterr);
    if (!code) memcpy(ret->task, row.id, sizeof ret->task);
    esp_json_free(json);
    esp_model_row_done(&model);
    esp_task_row_done(&row);
    esp_arena_free(arena);
    return code;
}
