/* SPDX-License-Identifier: Apache-2.0
 * Parsing a task: every member checked once, every refusal naming its field. The cost terms are task_cost.c, the merge
 * of overrides task_override.c. Nothing here knows the model but ny and nu. */
#include "plan/task_parts.h"

#include <math.h>
#include <stddef.h>

const char *const esp_method_names[] = {"mip", "mppi", "cem", "gradient", NULL};
const char *const esp_engine_names[] = {"auto", "tree", "cbc", NULL};
const char *const esp_task_fields[] = {"name", "model", "objects", "horizon", "cost", "input", "state", "trust_region", "planner", NULL};

#define MAX_VALUES 1024
#define MAX_SHAPES 64

esp_code esp_task_vector(const esp_reader *reader, size_t n, esp_arena *arena, double **ret, esp_error *reterr) {
    double *values = ESP_NEW(arena, double, n);
    if (!values) return esp_fail(reterr, ESP_NOMEM, "a task's vector of %zu numbers", n);
    esp_code code = esp_read_vector(reader, n, values, reterr);
    for (size_t i = 0; code == ESP_OK && i < n; i++) {
        if (fabs(values[i]) <= ESP_TASK_LARGEST) continue;
        esp_reader element = esp_read_element(reader, i);
        code = esp_refuse(&element, reterr, "must be at most %g in size", ESP_TASK_LARGEST);
    }
    if (code == ESP_OK) *ret = values;
    return code;
}

/* An absent member gives NULL. */
static esp_code optional_vector(const esp_reader *object, const char *key, size_t n, esp_arena *arena, double **ret, esp_error *reterr) {
    esp_reader member = esp_read_member(object, key);
    return member.value ? esp_task_vector(&member, n, arena, ret, reterr) : ESP_OK;
}

static esp_code required_vector(const esp_reader *object, const char *key, size_t n, esp_arena *arena, double **ret, esp_error *reterr) {
    esp_reader member;
    esp_code code = esp_read_required(object, key, &member, reterr);
    return code == ESP_OK ? esp_task_vector(&member, n, arena, ret, reterr) : code;
}

/* lower <= upper, else the element of `upper` is refused. */
static esp_code check_order(const esp_reader *object, const char *key, size_t n, const double *lower, const double *upper, esp_error *reterr) {
    esp_reader member = esp_read_member(object, key);
    for (size_t i = 0; i < n; i++) {
        if (lower[i] <= upper[i]) continue;
        esp_reader element = esp_read_element(&member, i);
        return esp_refuse(member.value ? &element : object, reterr, "the lower limit %g is above the upper limit %g", lower[i], upper[i]);
    }
    return ESP_OK;
}

static esp_code check_inside(const esp_reader *reader, const esp_task *task, const double *u, esp_error *reterr) {
    for (int i = 0; i < task->nu; i++) {
        if (u[i] >= task->u_lower[i] && u[i] <= task->u_upper[i]) continue;
        esp_reader element = esp_read_element(reader, (size_t)i);
        return esp_refuse(&element, reterr, "must lie in the input box [%g, %g], is %g", task->u_lower[i], task->u_upper[i], u[i]);
    }
    return ESP_OK;
}

static esp_code parse_values(const esp_reader *input, esp_arena *arena, esp_task *task, esp_error *reterr) {
    esp_reader values = esp_read_member(input, "values");
    if (!values.value) return ESP_OK;
    size_t n = 0, nu = (size_t)task->nu;
    esp_code code = esp_read_array(&values, 1, MAX_VALUES, &n, reterr);
    if (code != ESP_OK) return code;
    task->values = ESP_NEW(arena, double, n *nu);
    if (!task->values) return esp_fail(reterr, ESP_NOMEM, "a task's %zu input values", n);
    for (size_t i = 0; code == ESP_OK && i < n; i++) {
        esp_reader row = esp_read_element(&values, i);
        code = esp_read_vector(&row, nu, task->values + i * nu, reterr);
        if (code == ESP_OK) code = check_inside(&row, task, task->values + i * nu, reterr);
    }
    task->n_values = (int)n;
    return code;
}

/* The safe input is what is sent when planning fails, so it must itself be allowed. */
static esp_code check_safe(const esp_reader *input, const esp_task *task, esp_error *reterr) {
    if (!task->safe) return ESP_OK;
    esp_reader safe = esp_read_member(input, "safe");
    esp_code code = check_inside(&safe, task, task->safe, reterr);
    if (code != ESP_OK || !task->values) return code;
    for (int k = 0; k < task->n_values; k++) {
        bool same = true;
        for (int i = 0; i < task->nu; i++) same = same && task->safe[i] == task->values[k * task->nu + i];
        if (same) return ESP_OK;
    }
    return esp_refuse(&safe, reterr, "must be one of the allowed values");
}

static esp_code parse_input(const esp_reader *reader, esp_arena *arena, esp_task *task, esp_error *reterr) {
    static const char *const fields[] = {"lower", "upper", "values", "rate", "safe", NULL};
    size_t nu = (size_t)task->nu;
    esp_code code = esp_read_object(reader, fields, reterr);
    if (code == ESP_OK) code = required_vector(reader, "lower", nu, arena, &task->u_lower, reterr);
    if (code == ESP_OK) code = required_vector(reader, "upper", nu, arena, &task->u_upper, reterr);
    if (code == ESP_OK) code = check_order(reader, "upper", nu, task->u_lower, task->u_upper, reterr);
    if (code == ESP_OK) code = parse_values(reader, arena, task, reterr);
    if (code == ESP_OK) code = optional_vector(reader, "rate", nu, arena, &task->rate, reterr);
    if (code == ESP_OK) code = optional_vector(reader, "safe", nu, arena, &task->safe, reterr);
    if (code == ESP_OK) code = check_safe(reader, task, reterr);
    for (size_t i = 0; code == ESP_OK && task->rate && i < nu; i++) {
        esp_reader rate = esp_read_member(reader, "rate"), element = esp_read_element(&rate, i);
        if (task->rate[i] < 0.0) code = esp_refuse(&element, reterr, "must not be negative, is %g", task->rate[i]);
    }
    return code;
}

/* A limit on each y, null where there is none; `none` is the infinity to use for it. */
static esp_code parse_limit(const esp_reader *object, const char *key, double none, esp_arena *arena, const esp_task *task, double **ret,
                            esp_error *reterr) {
    esp_reader member = esp_read_member(object, key);
    size_t ny = (size_t)task->ny, n;
    double *limit = ESP_NEW(arena, double, ny);
    if (!limit) return esp_fail(reterr, ESP_NOMEM, "a task's limits");
    for (size_t i = 0; i < ny; i++) limit[i] = none;
    *ret = limit;
    if (!member.value) return ESP_OK;
    esp_code code = esp_read_array(&member, ny, ny, &n, reterr);
    for (size_t i = 0; code == ESP_OK && i < ny; i++) {
        esp_reader element = esp_read_element(&member, i);
        if (esp_reader_kind(&element) == ESP_JSON_NULL) continue;
        code = esp_read_number(&element, -ESP_TASK_LARGEST, ESP_TASK_LARGEST, &limit[i], reterr);
    }
    return code;
}

static esp_code parse_halfspaces(const esp_reader *state, esp_arena *arena, esp_task *task, esp_error *reterr) {
    static const char *const fields[] = {"a", "b", NULL};
    esp_reader list = esp_read_member(state, "halfspaces");
    size_t n = 0;
    if (!list.value) return ESP_OK;
    esp_code code = esp_read_array(&list, 0, MAX_SHAPES, &n, reterr);
    if (code != ESP_OK) return code;
    task->halfspaces = ESP_NEW(arena, esp_halfspace, n);
    if (!task->halfspaces) return esp_fail(reterr, ESP_NOMEM, "a task's half-spaces");
    for (size_t i = 0; code == ESP_OK && i < n; i++) {
        esp_reader item = esp_read_element(&list, i), b;
        esp_halfspace *h = &task->halfspaces[i];
        code = esp_read_object(&item, fields, reterr);
        if (code == ESP_OK) code = required_vector(&item, "a", (size_t)task->ny, arena, &h->a, reterr);
        if (code == ESP_OK) code = esp_read_required(&item, "b", &b, reterr);
        if (code == ESP_OK) code = esp_read_number(&b, -ESP_TASK_LARGEST, ESP_TASK_LARGEST, &h->b, reterr);
    }
    task->n_halfspaces = (int)n;
    return code;
}

static esp_code parse_avoid(const esp_reader *state, esp_arena *arena, esp_task *task, esp_error *reterr) {
    static const char *const fields[] = {"index", "lower", "upper", NULL};
    esp_reader list = esp_read_member(state, "avoid");
    size_t n = 0;
    if (!list.value) return ESP_OK;
    esp_code code = esp_read_array(&list, 0, MAX_SHAPES, &n, reterr);
    if (code != ESP_OK) return code;
    task->avoid = ESP_NEW(arena, esp_avoid, n);
    if (!task->avoid) return esp_fail(reterr, ESP_NOMEM, "a task's boxes to avoid");
    for (size_t i = 0; code == ESP_OK && i < n; i++) {
        esp_reader item = esp_read_element(&list, i), index;
        esp_avoid *avoid = &task->avoid[i];
        code = esp_read_object(&item, fields, reterr);
        if (code == ESP_OK) code = esp_read_required(&item, "index", &index, reterr);
        if (code == ESP_OK) code = esp_task_index(&index, task->ny, arena, &avoid->index, &avoid->n, reterr);
        if (code == ESP_OK) code = required_vector(&item, "lower", (size_t)avoid->n, arena, &avoid->lower, reterr);
        if (code == ESP_OK) code = required_vector(&item, "upper", (size_t)avoid->n, arena, &avoid->upper, reterr);
        if (code == ESP_OK) code = check_order(&item, "upper", (size_t)avoid->n, avoid->lower, avoid->upper, reterr);
    }
    task->n_avoid = (int)n;
    return code;
}

/* A box of `object` over y. It may not exclude the one the task has already. */
static esp_code parse_box(const esp_reader *object, esp_arena *arena, const esp_task *task, double **ret_lower, double **ret_upper,
                          esp_error *reterr) {
    double *lower = NULL, *upper = NULL, least, most;
    if (!esp_read_member(object, "lower").value && !esp_read_member(object, "upper").value) return ESP_OK;
    esp_code code = parse_limit(object, "lower", -INFINITY, arena, task, &lower, reterr);
    if (code == ESP_OK) code = parse_limit(object, "upper", INFINITY, arena, task, &upper, reterr);
    if (code == ESP_OK) code = check_order(object, "upper", (size_t)task->ny, lower, upper, reterr);
    for (int i = 0; code == ESP_OK && task->y_lower && i < task->ny; i++) {
        least = fmax(lower[i], task->y_lower[i]);
        most = fmin(upper[i], task->y_upper[i]);
        esp_reader side = esp_read_member(object, upper[i] < task->y_lower[i] ? "upper" : "lower"), element = esp_read_element(&side, (size_t)i);
        if (least > most) code = esp_refuse(&element, reterr, "the lower limit %g is above the upper limit %g", least, most);
    }
    if (code != ESP_OK) return code;
    *ret_lower = lower;
    *ret_upper = upper;
    return ESP_OK;
}

static esp_code parse_penalty(const esp_reader *state, esp_task *task, esp_error *reterr) {
    esp_reader penalty = esp_read_member(state, "penalty");
    if (!penalty.value) return ESP_OK;
    esp_code code = esp_read_number(&penalty, 0.0, ESP_TASK_LARGEST, &task->penalty, reterr);
    if (code == ESP_OK && !(task->penalty > 0.0)) code = esp_refuse(&penalty, reterr, "must be above 0, is %g", task->penalty);
    return code;
}

static esp_code parse_state(const esp_reader *reader, esp_arena *arena, esp_task *task, esp_error *reterr) {
    static const char *const fields[] = {"lower", "upper", "halfspaces", "avoid", "penalty", NULL};
    if (!reader->value) return ESP_OK;
    esp_code code = esp_read_object(reader, fields, reterr);
    if (code == ESP_OK) code = parse_box(reader, arena, task, &task->y_lower, &task->y_upper, reterr);
    if (code == ESP_OK) code = parse_halfspaces(reader, arena, task, reterr);
    if (code == ESP_OK) code = parse_avoid(reader, arena, task, reterr);
    if (code == ESP_OK) code = parse_penalty(reader, task, reterr);
    return code;
}

/* A box given here is one more limit on y, of the same kind as those of `state`. */
static esp_code parse_trust(const esp_reader *reader, esp_arena *arena, esp_task *task, esp_error *reterr) {
    static const char *const fields[] = {"kind", "margin", "lower", "upper", NULL};
    static const char *const kinds[] = {"none", "box", "data", NULL};
    static const char *const sides[] = {"lower", "upper"};
    if (!reader->value) return ESP_OK;
    esp_reader kind, margin = esp_read_member(reader, "margin");
    int choice = 0;
    esp_code code = esp_read_object(reader, fields, reterr);
    if (code == ESP_OK) code = esp_read_required(reader, "kind", &kind, reterr);
    if (code == ESP_OK) code = esp_read_choice(&kind, kinds, &choice, reterr);
    if (code == ESP_OK) code = esp_read_number(&margin, 0.0, 1e6, &task->trust_margin, reterr);
    for (int i = 0; code == ESP_OK && choice != ESP_TRUST_BOX && i < 2; i++) {
        esp_reader side = esp_read_member(reader, sides[i]);
        if (side.value) code = esp_refuse(&side, reterr, "belongs to kind \"box\" only");
    }
    if (code == ESP_OK) code = parse_box(reader, arena, task, &task->trust_lower, &task->trust_upper, reterr);
    if (code == ESP_OK) task->trust = (esp_trust)choice;
    return code;
}

static esp_code parse_planner(const esp_reader *reader, esp_task *task, esp_error *reterr) {
    static const char *const fields[] = {"method", "engine", "gap", "absolute_gap", "seed", NULL};
    if (!reader->value) return ESP_OK;
    esp_reader method = esp_read_member(reader, "method"), engine = esp_read_member(reader, "engine"), gap = esp_read_member(reader, "gap"),
               absolute = esp_read_member(reader, "absolute_gap"), seed = esp_read_member(reader, "seed");
    int chosen_method = ESP_METHOD_MIP, chosen_engine = ESP_ENGINE_AUTO;
    int64_t chosen_seed = 0;
    esp_code code = esp_read_object(reader, fields, reterr);
    if (code == ESP_OK) code = esp_read_choice(&method, esp_method_names, &chosen_method, reterr);
    if (code == ESP_OK) code = esp_read_choice(&engine, esp_engine_names, &chosen_engine, reterr);
    if (code == ESP_OK) code = esp_read_number(&gap, 0.0, 1e6, &task->gap, reterr);
    if (code == ESP_OK) code = esp_read_number(&absolute, 0.0, ESP_TASK_LARGEST, &task->absolute_gap, reterr);
    if (code == ESP_OK) code = esp_read_integer(&seed, 0, INT64_MAX, &chosen_seed, reterr);
    task->method = (esp_method)chosen_method;
    task->engine = (esp_engine)chosen_engine;
    task->seed = (uint64_t)chosen_seed;
    return code;
}

esp_code esp_task_parse(const esp_reader *reader, int ny, int nu, esp_arena *arena, esp_task **ret_task, esp_error *reterr) {
    esp_reader horizon, cost, input;
    esp_code code = esp_read_object(reader, esp_task_fields, reterr);
    if (code != ESP_OK) return code;
    if (ny < 1) return esp_fail(reterr, ESP_INVALID, "the model predicts nothing");
    if (nu < 1) return esp_fail_at(reterr, ESP_UNPROCESSABLE, "/model", "a model without inputs cannot be planned with");
    esp_task *task = ESP_NEW(arena, esp_task, 1);
    if (!task) return esp_fail(reterr, ESP_NOMEM, "a task");
    task->ny = ny;
    task->nu = nu;
    task->gap = 0.01;
    code = esp_read_required(reader, "horizon", &horizon, reterr);
    if (code == ESP_OK) code = esp_read_int(&horizon, 1, ESP_MAX_HORIZON, &task->horizon, reterr);
    if (code == ESP_OK) code = esp_read_required(reader, "cost", &cost, reterr);
    if (code == ESP_OK) code = esp_task_parse_cost(&cost, arena, task, reterr);
    if (code == ESP_OK) code = esp_read_required(reader, "input", &input, reterr);
    if (code == ESP_OK) code = parse_input(&input, arena, task, reterr);
    esp_reader state = esp_read_member(reader, "state"), trust = esp_read_member(reader, "trust_region"),
               planner = esp_read_member(reader, "planner");
    if (code == ESP_OK) code = parse_state(&state, arena, task, reterr);
    if (code == ESP_OK) code = parse_trust(&trust, arena, task, reterr);
    if (code == ESP_OK) code = parse_planner(&planner, task, reterr);
    if (code == ESP_OK) *ret_task = task;
    return code;
}

/* Index i of limits (n) lies within the box that begins at `at` for each of `history` rows. */
static bool is_within(int i, int n, int history, const double *limit_lower, const double *limit_upper, const double *lower, const double *upper) {
    for (int h = 0; h < history; h++)
        if (!(limit_lower[i] >= lower[h * n + i] && limit_upper[i] <= upper[h * n + i])) return false;
    return true;
}

esp_code esp_task_check_inside(const esp_task *task, int history, const double *lower, const double *upper, esp_error *reterr) {
    int past = history * task->ny;
    bool inside = (task->trust == ESP_TRUST_DATA && task->trust_margin <= 0) || task->trust == ESP_TRUST_BOX;
    for (int i = 0; inside && task->trust == ESP_TRUST_BOX && i < task->ny; i++)
        inside = is_within(i, task->ny, history, task->trust_lower, task->trust_upper, lower, upper);
    if (!inside)
        return esp_fail_at(reterr, ESP_UNPROCESSABLE, "/trust_region",
                           "the model's neurons were resolved over the box of its data and it predicts anything outside: plan with "
                           "{\"kind\":\"data\"} without a margin, or with a box inside that of the data");
    for (int i = 0; i < task->nu; i++)
        if (!is_within(i, task->nu, history, task->u_lower, task->u_upper, lower + past, upper + past))
            return esp_fail_at(reterr, ESP_UNPROCESSABLE, "/input",
                               "input %d may leave [%g, %g], its range in the data: the model's neurons were resolved over that", i, lower[past + i],
                               upper[past + i]);
    return ESP_OK;
}
