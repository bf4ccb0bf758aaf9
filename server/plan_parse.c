/* SPDX-License-Identifier: Apache-2.0
 * A plan request: the task found or taken from the request, every size checked, the frame for the worker made ready.
 * Whatever is wrong is said here, at the door; a worker sees only what can be planned. */
#include "plans.h"
#include "resolved.h"

#include "net/graph.h"

#include <stdlib.h>
#include <string.h>

enum { REF_MAX = 2 * ESP_NAME_MAX + 32 };
#define PLAN_ARENA ((size_t)64 << 20)

/* What parsing holds on the way. */
typedef struct parsing {
    esp_server *server;
    const esp_reader *root;
    esp_json *stored, *merged; /* the task's body; the task with its overrides */
    esp_reader task; /* of the request, of `stored`, or of `merged` */
    esp_model_row model;
    int64_t ny; /* the model's, or what a graph network's is for the objects at hand */
    esp_json *metrics;
    esp_plan_job *plan;
} parsing;

/* ---- the task and its model ---- */

static esp_code blame(esp_code code, const char *pointer, esp_error *reterr) {
    if (code == ESP_NOT_FOUND || code == ESP_INVALID) esp_error_prefix_pointer(reterr, pointer);
    return code;
}

static esp_code find_stored(parsing *p, esp_db *db, const esp_reader *task, esp_error *reterr) {
    esp_task_row row = {0};
    const char *ref = NULL;
    esp_code code = esp_read_string(task, REF_MAX, &ref, reterr);
    if (code) return code;
    code = blame(esp_task_find(db, ref, &row, reterr), "/task", reterr);
    if (!code) code = esp_json_parse(row.body, strlen(row.body), &p->stored, reterr);
    if (!code) code = esp_model_find(db, row.model, &p->model, reterr);
    if (!code) p->task = esp_reader_root(p->stored);
    esp_task_row_done(&row);
    return code;
}

static esp_code find_inline(parsing *p, esp_db *db, const esp_reader *task, esp_error *reterr) {
    esp_reader model;
    const char *ref = NULL;
    esp_code code = esp_read_object(task, esp_task_fields, reterr);
    if (!code) code = esp_read_required(task, "model", &model, reterr);
    if (!code) code = esp_read_string(&model, REF_MAX, &ref, reterr);
    if (!code) code = blame(esp_model_find(db, ref, &p->model, reterr), "/task/model", reterr);
    if (!code) p->task = *task;
    return code;
}

static esp_code find_task(parsing *p, const esp_reader *task, esp_error *reterr) {
    esp_db *db = NULL;
    esp_json_kind kind = esp_reader_kind(task);
    if (kind != ESP_JSON_STRING && kind != ESP_JSON_OBJECT) return esp_refuse(task, reterr, "must be a task's ref or a task");
    esp_code code = esp_registry_read_begin(p->server->registry, &db, reterr);
    if (code) return code;
    code = kind == ESP_JSON_STRING ? find_stored(p, db, task, reterr) : find_inline(p, db, task, reterr);
    esp_registry_read_end(p->server->registry, db);
    if (!code && strcmp(p->model.kind, "dynamics") != 0)
        code = esp_fail_at(reterr, ESP_UNPROCESSABLE, "/task/model", "planning needs a dynamics model, %s is a %s", p->model.name, p->model.kind);
    return code;
}

static esp_code lay_overrides(parsing *p, esp_error *reterr) {
    esp_reader overrides = esp_read_member(p->root, "overrides");
    esp_buf text = {0};
    if (!overrides.value) return ESP_OK;
    esp_code code = esp_task_override(&p->task, &overrides, &text, reterr);
    if (!code) code = esp_json_parse(text.data, text.len, &p->merged, reterr);
    if (!code) p->task = esp_reader_root(p->merged);
    esp_buf_done(&text);
    return code;
}

esp_code esp_task_ny(const esp_reader *task, const esp_model_row *model, int64_t *ret_ny, esp_error *reterr) {
    esp_reader member = esp_read_member(task, "objects");
    int64_t objects = model->objects;
    if (member.value && !model->object_size) return esp_refuse(&member, reterr, "only a graph network's task has a number of objects");
    esp_code code = esp_read_integer(&member, 1, ESP_MAX_OBJECTS, &objects, reterr);
    if (!code) *ret_ny = model->ny + (objects - model->objects) * model->object_size;
    return code;
}

/* Objects that the task names, else those of y, when y holds a whole number. */
static esp_code find_ny(parsing *p, esp_error *reterr) {
    esp_reader y = esp_read_member(p->root, "y"), row = esp_read_element(&y, 0);
    size_t n = 0;
    esp_code code = esp_task_ny(&p->task, &p->model, &p->ny, reterr);
    if (code || !p->model.object_size || esp_read_member(&p->task, "objects").value) return code;
    if (esp_reader_kind(&y) == ESP_JSON_ARRAY && !esp_read_array(&row, 1, ESP_MAX_WIDTH, &n, NULL) && esp_model_row_takes(&p->model, (int64_t)n))
        p->ny = (int64_t)n;
    return ESP_OK;
}

/* A fault in a stored or merged task has a pointer from the task's own root. */
static esp_code parse_task(parsing *p, esp_error *reterr) {
    esp_plan_job *plan = p->plan;
    bool own_root = p->stored || p->merged;
    plan->arena = esp_arena_create(PLAN_ARENA);
    if (!plan->arena) return esp_fail(reterr, ESP_NOMEM, "no memory for a task");
    esp_code code = find_ny(p, reterr);
    if (!code) code = esp_task_parse(&p->task, (int)p->ny, (int)p->model.nu, plan->arena, &plan->task, reterr);
    if (code && own_root) esp_error_prefix_pointer(reterr, "/task");
    if (code) return code;
    code = esp_resolved_check(&p->model, plan->task, plan->arena, reterr);
    if (code == ESP_UNPROCESSABLE) esp_error_prefix_pointer(reterr, "/task");
    return code;
}

/* ---- the present ---- */

static esp_code check_rows(const esp_reader *rows, size_t min, size_t max, size_t cols, esp_arena *arena, esp_error *reterr) {
    size_t n = 0;
    esp_code code = esp_read_array(rows, min, max, &n, reterr);
    if (code || n == 0) return code;
    double *scratch = esp_arena_array(arena, n * cols + 1, sizeof *scratch);
    return scratch ? esp_read_matrix(rows, n, cols, scratch, reterr) : esp_fail(reterr, ESP_NOMEM, "no memory for a plan request");
}

static esp_code check_goal(const parsing *p, esp_error *reterr) {
    esp_reader goal = esp_read_member(p->root, "goal");
    size_t n = (size_t)p->plan->task->n_goal;
    if (!goal.value && n) return esp_fail_at(reterr, ESP_INVALID, "/goal", "is required: the task's cost uses a goal of %zu numbers", n);
    if (!goal.value) return ESP_OK;
    double *scratch = esp_arena_array(p->plan->arena, n + 1, sizeof *scratch);
    return scratch ? esp_read_vector(&goal, n, scratch, reterr) : esp_fail(reterr, ESP_NOMEM, "no memory for a plan request");
}

/* y has `history` rows; u the history - 1 before the present, or one more when its last is the input applied last. */
static esp_code check_present(const parsing *p, esp_error *reterr) {
    esp_reader y, u = esp_read_member(p->root, "u");
    size_t history = (size_t)p->model.history, ny = (size_t)p->ny, nu = (size_t)p->model.nu;
    esp_code code = esp_read_required(p->root, "y", &y, reterr);
    if (!code) code = check_rows(&y, history, history, ny, p->plan->arena, reterr);
    if (!code && !u.value && history > 1)
        code =
            esp_fail_at(reterr, ESP_INVALID, "/u", "is required: the model has a history of %zu and needs the last %zu inputs", history, history - 1);
    if (!code && u.value) code = check_rows(&u, history - 1, history, nu, p->plan->arena, reterr);
    return code ? code : check_goal(p, reterr);
}

static esp_code read_rest(const parsing *p, esp_error *reterr) {
    esp_reader deadline, session = esp_read_member(p->root, "session");
    const char *name = "";
    double longest = esp_config_live(p->server->config.plan_deadline_max_ms);
    esp_code code = esp_read_required(p->root, "deadline_ms", &deadline, reterr);
    if (!code) code = esp_read_number(&deadline, 1, longest, &p->plan->deadline_ms, reterr);
    if (!code) code = esp_read_string(&session, ESP_SESSION_NAME_MAX, &name, reterr);
    if (!code && session.value && !*name) code = esp_refuse(&session, reterr, "must not be empty");
    if (!code) strcpy(p->plan->session, name);
    return code;
}

/* ---- the frame ---- */

/* The box of the data the model was trained on, of its metrics; a value NULL when it is not known. */
static esp_code find_data_box(parsing *p, esp_reader *ret_metrics, esp_reader *ret_box, esp_error *reterr) {
    if (p->model.metrics) {
        esp_code code = esp_json_parse(p->model.metrics, strlen(p->model.metrics), &p->metrics, reterr);
        if (code) return code;
    }
    *ret_metrics = esp_reader_root(p->metrics);
    *ret_box = p->metrics ? esp_read_member(ret_metrics, "data_box") : (esp_reader){0};
    if (!ret_box->value && p->plan->task->trust == ESP_TRUST_DATA)
        return esp_fail_at(reterr, ESP_UNPROCESSABLE, "/task/trust_region/kind", "the data that %s was trained on is not known", p->model.name);
    return ESP_OK;
}

/* All but `start` and `budget_ms`, which are known when a worker takes the plan; the closing brace comes with them. */
static esp_code make_request(parsing *p, esp_error *reterr) {
    static const char *const rows[] = {"y", "u", "goal"};
    char path[4096];
    esp_reader metrics, box;
    esp_code code = find_data_box(p, &metrics, &box, reterr);
    if (code) return code;
    esp_blob_path(p->server->registry, p->model.sha256, path);
    esp_jsonw w = esp_jsonw_on(&p->plan->request);
    esp_jsonw_object(&w, NULL);
    esp_jsonw_object(&w, "model");
    esp_jsonw_string(&w, "path", path);
    esp_jsonw_string(&w, "sha256", p->model.sha256);
    if (box.value) esp_jsonw_value(&w, "data_box", box.value);
    esp_jsonw_object_end(&w);
    esp_jsonw_value(&w, "task", p->task.value);
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        esp_reader member = esp_read_member(p->root, rows[i]);
        if (member.value) esp_jsonw_value(&w, rows[i], member.value);
    }
    return p->plan->request.failed ? esp_fail(reterr, ESP_NOMEM, "no memory for a plan request") : ESP_OK;
}

static void copy_model(const esp_model_row *row, esp_plan_job *plan) {
    memcpy(plan->model.id, row->id, sizeof plan->model.id);
    memcpy(plan->model.name, row->name, sizeof plan->model.name);
    memcpy(plan->model.sha256, row->sha256, sizeof plan->model.sha256);
    plan->model.version = row->version;
}

static esp_code parse(parsing *p, esp_error *reterr) {
    static const char *const fields[] = {"task", "y", "u", "goal", "deadline_ms", "session", "overrides", NULL};
    esp_reader task;
    esp_code code = esp_read_object(p->root, fields, reterr);
    if (!code) code = esp_read_required(p->root, "task", &task, reterr);
    if (!code) code = read_rest(p, reterr);
    if (!code) code = find_task(p, &task, reterr);
    if (!code) code = lay_overrides(p, reterr);
    if (!code) code = parse_task(p, reterr);
    if (!code) code = check_present(p, reterr);
    if (!code) code = make_request(p, reterr);
    if (!code) copy_model(&p->model, p->plan);
    return code;
}

esp_code esp_plan_job_create(esp_server *server, const esp_reader *root, esp_plan_job **ret_plan, esp_error *reterr) {
    parsing p = {.server = server, .root = root, .plan = calloc(1, sizeof *p.plan)};
    if (!p.plan) return esp_fail(reterr, ESP_NOMEM, "no memory for a plan request");
    p.plan->server = server;
    esp_id_make("pln", p.plan->id);
    esp_code code = parse(&p, reterr);
    esp_json_free(p.stored);
    esp_json_free(p.merged);
    esp_json_free(p.metrics);
    esp_model_row_done(&p.model);
    if (code) {
        esp_plan_job_free(p.plan);
        return code;
    }
    *ret_plan = p.plan;
    return ESP_OK;
}

void esp_plan_job_free(esp_plan_job *plan) {
    if (!plan) return;
    esp_arena_free(plan->arena);
    esp_buf_done(&plan->request);
    esp_buf_done(&plan->incumbent);
    esp_buf_done(&plan->bound);
    free(plan->previous);
    free(plan);
}
