/* SPDX-License-Identifier: Apache-2.0
 * Checking certify jobs that name a kind: the tube between two closed loops, the loss of planning on another model, and the
 * error on held-out data. The others are in spec.c. */
#include "jobs/spec.h"

#include <stdlib.h>
#include <string.h>

#include "certify/closed_loop.h"
#include "certify/conformal.h"
#include "certify/planning_loss.h"
#include "plan/task.h"

enum { CONFORMAL_HORIZON_MAX = 1000, PARENTS_MAX = 64 };

static bool is_dynamics(const esp_model_row *row) {
    return strcmp(row->kind, "dynamics") == 0;
}

/* A member that must be a box of n numbers. */
static esp_code check_box(const esp_reader *spec, const char *key, int n, bool required, esp_error *reterr) {
    esp_reader member = esp_read_member(spec, key);
    esp_box box;
    esp_code code = required ? esp_read_required(spec, key, &member, reterr) : ESP_OK;
    if (code || !member.value) return code;
    esp_arena *arena = esp_arena_create(0);
    code = arena ? esp_box_parse(&member, n, arena, &box, reterr) : esp_fail(reterr, ESP_NOMEM, "no memory to check a box");
    esp_arena_free(arena);
    return code;
}

static esp_code check_time_and_norm(const esp_reader *spec, esp_error *reterr) {
    int norm = 0;
    double time_limit_s = 0;
    esp_reader member = esp_read_member(spec, "norm");
    esp_code code = esp_read_choice(&member, esp_norm_names, &norm, reterr);
    member = esp_read_member(spec, "time_limit_s");
    return code ? code : esp_read_number(&member, 0.001, 86400, &time_limit_s, reterr);
}

/* Numbers of a present: the last observations and the inputs before now. */
static int n_present(const esp_model_row *m) {
    return (int)(m->history * m->ny + (m->history - 1) * m->nu);
}

/* ---- closed_loop -------------------------------------------------------------------------------------------------- */

static esp_code find_policy(const esp_reader *spec, const char *key, esp_db *db, const esp_model_row *dynamics, char ret_id[ESP_ID_MAX],
                            esp_error *reterr) {
    esp_model_row row;
    esp_reader member = esp_read_member(spec, key);
    esp_code code = spec_find_plain(spec, key, db, &row, reterr);
    if (code) return code;
    if (is_dynamics(&row) || row.ny != dynamics->ny || row.nu != dynamics->nu)
        return spec_unprocessable(&member, reterr, "must be a policy from %d observed to %d actuated numbers, as the dynamics have",
                                  (int)dynamics->ny, (int)dynamics->nu);
    memcpy(ret_id, row.id, sizeof row.id);
    return ESP_OK;
}

static esp_code check_closed_loop(const esp_reader *spec, esp_db *db, refs *ret, esp_error *reterr) {
    static const char *const fields[] = {"kind", "policy", "reference", "dynamics", "domain", "steps", "norm", "time_limit_s", NULL};
    esp_model_row dynamics;
    esp_reader member = esp_read_member(spec, "dynamics");
    int steps = 0;
    esp_code code = esp_read_object(spec, fields, reterr);
    if (!code) code = spec_find_plain(spec, "dynamics", db, &dynamics, reterr);
    if (!code && !is_dynamics(&dynamics)) code = spec_unprocessable(&member, reterr, "must be a dynamics model");
    if (!code) code = find_policy(spec, "policy", db, &dynamics, ret->model, reterr);
    if (!code) code = find_policy(spec, "reference", db, &dynamics, ret->reference, reterr);
    if (!code) code = check_box(spec, "domain", n_present(&dynamics), true, reterr);
    if (!code) code = esp_read_required(spec, "steps", &member, reterr);
    if (!code) code = esp_read_int(&member, 1, ESP_MAX_LOOP_STEPS, &steps, reterr);
    if (!code) code = check_time_and_norm(spec, reterr);
    if (!code) memcpy(ret->dynamics, dynamics.id, sizeof ret->dynamics);
    return code;
}

/* ---- planning_loss ------------------------------------------------------------------------------------------------ */

/* The task that {"horizon","cost","input"} of the spec make, parsed where they stand, so that errors name their fields. */
static esp_code parse_inline(const esp_reader *spec, const esp_model_row *model, esp_arena *arena, esp_task **ret_task, esp_error *reterr) {
    static const char *const keys[] = {"horizon", "cost", "input", NULL};
    esp_buf text = {0};
    esp_json *json = NULL;
    esp_jsonw w = esp_jsonw_on(&text);
    esp_jsonw_object(&w, NULL);
    esp_jsonw_object(&w, "spec");
    for (int k = 0; keys[k]; k++) {
        esp_reader member = esp_read_member(spec, keys[k]);
        if (member.value) esp_jsonw_value(&w, keys[k], member.value);
    }
    esp_jsonw_object_end(&w);
    esp_jsonw_object_end(&w);
    esp_code code = text.failed ? esp_fail(reterr, ESP_NOMEM, "no memory to check a task") : esp_json_parse(text.data, text.len, &json, reterr);
    if (!code) {
        esp_reader root = esp_reader_root(json), inner = esp_read_member(&root, "spec");
        code = esp_task_parse(&inner, (int)model->ny, (int)model->nu, arena, ret_task, reterr);
    }
    esp_json_free(json);
    esp_buf_done(&text);
    return code;
}

static esp_code parse_stored(const esp_reader *spec, esp_db *db, const esp_model_row *model, esp_arena *arena, refs *ret, esp_task **ret_task,
                             esp_error *reterr) {
    esp_task_row row = {0};
    esp_model_row planned = {0};
    esp_json *json = NULL;
    const char *ref = NULL;
    esp_reader member = esp_read_member(spec, "task");
    esp_code code = esp_read_string(&member, REF_MAX, &ref, reterr);
    if (!code) code = spec_blame(&member, esp_task_find(db, ref, &row, reterr), reterr);
    if (!code) code = esp_model_find(db, row.model, &planned, reterr);
    if (!code && (planned.ny != model->ny || planned.nu != model->nu))
        code = spec_unprocessable(&member, reterr, "the task is for %d observed and %d actuated numbers", (int)planned.ny, (int)planned.nu);
    if (!code) code = esp_json_parse(row.body, strlen(row.body), &json, reterr);
    if (!code) {
        esp_reader root = esp_reader_root(json);
        code = esp_task_parse(&root, (int)model->ny, (int)model->nu, arena, ret_task, reterr);
    }
    if (!code) memcpy(ret->task, row.id, sizeof ret->task);
    esp_json_free(json);
    esp_model_row_done(&planned);
    esp_task_row_done(&row);
    return code;
}

/* Two models allow the same plans only when nothing limits the state. */
static esp_code check_task(const esp_reader *spec, const esp_task *task, esp_error *reterr) {
    esp_reader member = esp_read_member(spec, "task");
    bool goal_needed = false;
    if (task->y_lower || task->y_upper || task->n_halfspaces || task->n_avoid)
        return spec_unprocessable(&member, reterr, "the task limits the state: the two models allow different plans, and no loss follows");
    for (int k = 0; k < task->n_stage + task->n_terminal; k++) {
        const esp_term *term = k < task->n_stage ? &task->stage[k] : &task->terminal[k - task->n_stage];
        goal_needed |= term->on == ESP_ON_Y && term->norm == ESP_COST_L2SQ && term->target_is_goal;
    }
    esp_reader goal = esp_read_member(spec, "goal");
    if (goal_needed && !goal.value) return esp_read_required(spec, "goal", &goal, reterr);
    return check_box(spec, "goal", task->n_goal, false, reterr);
}

static esp_code check_loss_task(const esp_reader *spec, esp_db *db, const esp_model_row *model, refs *ret, esp_error *reterr) {
    static const char *const inline_keys[] = {"horizon", "cost", "input", NULL};
    esp_task *task = NULL;
    bool stored = esp_read_member(spec, "task").value != NULL;
    for (int k = 0; stored && inline_keys[k]; k++) {
        esp_reader member = esp_read_member(spec, inline_keys[k]);
        if (member.value) return esp_refuse(&member, reterr, "belongs to the task when there is one");
    }
    esp_arena *arena = esp_arena_create(64 << 20);
    if (!arena) return esp_fail(reterr, ESP_NOMEM, "no memory to check a task");
    esp_code code = stored ? parse_stored(spec, db, model, arena, ret, &task, reterr) : parse_inline(spec, model, arena, &task, reterr);
    if (!code) code = check_task(spec, task, reterr);
    esp_arena_free(arena);
    return code;
}

static esp_code check_planning_loss(const esp_reader *spec, esp_db *db, refs *ret, esp_error *reterr) {
    static const char *const fields[] = {"kind", "model", "reference", "domain", "task", "horizon", "cost", "input", "goal", "time_limit_s", NULL};
    esp_model_row model, reference;
    esp_reader member;
    esp_code code = esp_read_object(spec, fields, reterr);
    if (!code) code = spec_find_plain(spec, "model", db, &model, reterr);
    if (!code) code = spec_find_plain(spec, "reference", db, &reference, reterr);
    if (code) return code;
    member = esp_read_member(spec, "model");
    if (!is_dynamics(&model)) return spec_unprocessable(&member, reterr, "must be a dynamics model");
    member = esp_read_member(spec, "reference");
    if (!is_dynamics(&reference) || reference.ny != model.ny || reference.nu != model.nu || reference.history != model.history)
        return spec_unprocessable(&member, reterr, "the reference has other inputs or outputs than the model");
    code = check_box(spec, "domain", n_present(&model), true, reterr);
    if (!code) code = check_loss_task(spec, db, &model, ret, reterr);
    if (!code) code = check_time_and_norm(spec, reterr);
    if (!code) memcpy(ret->model, model.id, sizeof ret->model);
    if (!code) memcpy(ret->reference, reference.id, sizeof ret->reference);
    return code;
}

/* ---- conformal ---------------------------------------------------------------------------------------------------- */

/* Was the model, or one it came from, trained on these bytes? */
static esp_code check_held_out(const esp_reader *spec, esp_db *db, const esp_model_row *model, const esp_dataset_row *dataset, esp_error *reterr) {
    esp_reader member = esp_read_member(spec, "dataset");
    char at[ESP_ID_MAX];
    memcpy(at, model->id, sizeof at);
    for (int k = 0; *at && k < PARENTS_MAX; k++) {
        esp_model_row row = {0};
        esp_dataset_row trained;
        esp_code code = esp_model_find(db, at, &row, reterr);
        if (!code && *row.dataset) code = esp_dataset_find(db, row.dataset, &trained, reterr);
        bool same = !code && *row.dataset && strcmp(trained.sha256, dataset->sha256) == 0;
        memcpy(at, row.parent, sizeof at);
        esp_model_row_done(&row);
        if (code) return code;
        if (same) return spec_unprocessable(&member, reterr, "the model was trained on this dataset; held-out data is needed");
    }
    return ESP_OK;
}

static esp_code check_coverage(const esp_reader *spec, int64_t trajectories, esp_error *reterr) {
    esp_reader member;
    double coverage = 0.9;
    int64_t seed = 1;
    esp_code code = esp_read_required(spec, "coverage", &member, reterr);
    if (!code) code = esp_read_number(&member, 0.01, 0.9999, &coverage, reterr);
    if (!code && trajectories < (int64_t)esp_conformal_least(coverage))
        code = spec_unprocessable(&member, reterr, "takes %zu trajectories, one score each; the dataset has %lld", esp_conformal_least(coverage),
                                  (long long)trajectories);
    member = esp_read_member(spec, "seed");
    return code ? code : esp_read_integer(&member, 0, INT64_MAX / 2, &seed, reterr);
}

static esp_code check_conformal(const esp_reader *spec, esp_db *db, refs *ret, esp_error *reterr) {
    static const char *const fields[] = {"kind", "model", "dataset", "coverage", "horizon", "norm", "seed", NULL};
    esp_model_row model;
    esp_dataset_row dataset;
    esp_reader member;
    int horizon = 1;
    esp_code code = esp_read_object(spec, fields, reterr);
    if (!code) code = spec_find_plain(spec, "model", db, &model, reterr);
    if (!code) code = spec_find_dataset(spec, "dataset", db, &dataset, reterr);
    if (!code && (!is_dynamics(&model) || dataset.ny != model.ny || dataset.nu != model.nu)) {
        member = esp_read_member(spec, "dataset");
        code = spec_unprocessable(&member, reterr, "the dataset's sizes (ny %d, nu %d) are not those of a dynamics model", (int)dataset.ny,
                                  (int)dataset.nu);
    }
    member = esp_read_member(spec, "horizon");
    if (!code) code = esp_read_int(&member, 1, CONFORMAL_HORIZON_MAX, &horizon, reterr);
    if (!code) code = check_coverage(spec, dataset.trajectories, reterr);
    if (!code) code = check_time_and_norm(spec, reterr);
    if (!code) code = check_held_out(spec, db, &model, &dataset, reterr);
    if (code) return code;
    memcpy(ret->model, model.id, sizeof ret->model);
    memcpy(ret->dataset, dataset.id, sizeof ret->dataset);
    return ESP_OK;
}

/* ---- which ---- */

esp_code spec_check_certify_kind(const esp_reader *spec, esp_db *db, refs *ret, esp_error *reterr) {
    static const char *const names[] = {"closed_loop", "planning_loss", "conformal", NULL};
    int which = 0;
    esp_reader kind = esp_read_member(spec, "kind");
    esp_code code = esp_read_choice(&kind, names, &which, reterr);
    if (code) return code;
    return which == 0   ? check_closed_loop(spec, db, ret, reterr)
           : which == 1 ? check_planning_loss(spec, db, ret, reterr)
                        : check_conformal(spec, db, ret, reterr);
}
