/* SPDX-License-Identifier: Apache-2.0
 * Parsing the cost of a task: stage and terminal terms. */
#include "plan/task_parts.h"

#include <stddef.h>
#include <string.h>

#define MAX_TERMS 64

esp_code esp_task_index(const esp_reader *reader, int limit, esp_arena *arena, int **ret_index, int *ret_n, esp_error *reterr) {
    size_t n = 0;
    esp_code code = esp_read_array(reader, 1, (size_t)limit, &n, reterr);
    if (code != ESP_OK) return code;
    int *index = ESP_NEW(arena, int, n);
    if (!index) return esp_fail(reterr, ESP_NOMEM, "a list of components");
    for (size_t i = 0; i < n; i++) {
        esp_reader element = esp_read_element(reader, i);
        if (esp_reader_kind(&element) == ESP_JSON_NULL) return esp_refuse(&element, reterr, "must be an integer, is null");
        code = esp_read_int(&element, 0, limit - 1, &index[i], reterr);
        if (code != ESP_OK) return code;
        for (size_t j = 0; j < i; j++)
            if (index[j] == index[i]) return esp_refuse(&element, reterr, "component %d stands twice", index[i]);
    }
    *ret_index = index;
    *ret_n = (int)n;
    return ESP_OK;
}

static esp_code whole_index(int n, esp_arena *arena, int **ret_index, esp_error *reterr) {
    int *index = ESP_NEW(arena, int, n);
    if (!index) return esp_fail(reterr, ESP_NOMEM, "a list of components");
    for (int i = 0; i < n; i++) index[i] = i;
    *ret_index = index;
    return ESP_OK;
}

/* One number for all components, or one each. */
static esp_code parse_weight(const esp_reader *reader, esp_arena *arena, esp_term *term, esp_error *reterr) {
    size_t n = (size_t)term->n;
    if (esp_reader_kind(reader) == ESP_JSON_ARRAY) {
        esp_code code = esp_task_vector(reader, n, arena, &term->weight, reterr);
        for (size_t i = 0; code == ESP_OK && i < n; i++) {
            esp_reader element = esp_read_element(reader, i);
            if (term->weight[i] < 0.0) code = esp_refuse(&element, reterr, "must not be negative, is %g", term->weight[i]);
        }
        return code;
    }
    double weight = 0.0;
    esp_code code = esp_read_number(reader, 0.0, ESP_TASK_LARGEST, &weight, reterr);
    if (code != ESP_OK) return code;
    term->weight = ESP_NEW(arena, double, n);
    if (!term->weight) return esp_fail(reterr, ESP_NOMEM, "a term's weights");
    for (size_t i = 0; i < n; i++) term->weight[i] = weight;
    return ESP_OK;
}

/* "goal", numbers, or nothing for zeros. Every goal term reads the same goal, so all must want the same length. */
static esp_code parse_target(const esp_reader *reader, esp_arena *arena, esp_task *task, esp_term *term, esp_error *reterr) {
    if (esp_reader_kind(reader) == ESP_JSON_STRING) {
        static const char *const names[] = {"goal", NULL};
        int choice = 0;
        esp_code code = esp_read_choice(reader, names, &choice, reterr);
        if (code != ESP_OK) return code;
        if (task->n_goal > 0 && task->n_goal != term->n)
            return esp_refuse(reader, reterr, "this term takes a goal of %d numbers, an earlier one of %d", term->n, task->n_goal);
        task->n_goal = term->n;
        term->target_is_goal = true;
        return ESP_OK;
    }
    if (reader->value) return esp_task_vector(reader, (size_t)term->n, arena, &term->target, reterr);
    term->target = ESP_NEW(arena, double, term->n);
    return term->target ? ESP_OK : esp_fail(reterr, ESP_NOMEM, "a term's target");
}

static esp_code parse_term(const esp_reader *reader, esp_arena *arena, esp_task *task, esp_term *term, esp_error *reterr) {
    static const char *const fields[] = {"on", "index", "weight", "norm", "target", NULL};
    static const char *const ons[] = {"y", "u", "du", NULL};
    static const char *const norms[] = {"l1", "linf", "l2sq", NULL};
    esp_reader on, weight, norm, index = esp_read_member(reader, "index"), target = esp_read_member(reader, "target");
    int on_choice = 0, norm_choice = 0;
    esp_code code = esp_read_object(reader, fields, reterr);
    if (code == ESP_OK) code = esp_read_required(reader, "on", &on, reterr);
    if (code == ESP_OK) code = esp_read_choice(&on, ons, &on_choice, reterr);
    if (code == ESP_OK) code = esp_read_required(reader, "norm", &norm, reterr);
    if (code == ESP_OK) code = esp_read_choice(&norm, norms, &norm_choice, reterr);
    if (code == ESP_OK) code = esp_read_required(reader, "weight", &weight, reterr);
    if (code != ESP_OK) return code;
    term->on = (esp_on)on_choice;
    term->norm = (esp_cost_norm)norm_choice;
    term->n = term->on == ESP_ON_Y ? task->ny : task->nu;
    code = index.value ? esp_task_index(&index, term->n, arena, &term->index, &term->n, reterr) : whole_index(term->n, arena, &term->index, reterr);
    if (code == ESP_OK) code = parse_weight(&weight, arena, term, reterr);
    if (code == ESP_OK) code = parse_target(&target, arena, task, term, reterr);
    return code;
}

static esp_code parse_terms(const esp_reader *cost, const char *key, esp_arena *arena, esp_task *task, esp_term **ret_terms, int *ret_n,
                            esp_error *reterr) {
    esp_reader list = esp_read_member(cost, key);
    size_t n = 0;
    if (!list.value) return ESP_OK;
    esp_code code = esp_read_array(&list, 0, MAX_TERMS, &n, reterr);
    if (code != ESP_OK) return code;
    esp_term *terms = ESP_NEW(arena, esp_term, n);
    if (!terms) return esp_fail(reterr, ESP_NOMEM, "a task's cost terms");
    for (size_t i = 0; code == ESP_OK && i < n; i++) {
        esp_reader item = esp_read_element(&list, i);
        code = parse_term(&item, arena, task, &terms[i], reterr);
    }
    *ret_terms = terms;
    *ret_n = (int)n;
    return code;
}

esp_code esp_task_parse_cost(const esp_reader *reader, esp_arena *arena, esp_task *task, esp_error *reterr) {
    static const char *const fields[] = {"stage", "terminal", NULL};
    esp_code code = esp_read_object(reader, fields, reterr);
    if (code == ESP_OK) code = parse_terms(reader, "stage", arena, task, &task->stage, &task->n_stage, reterr);
    if (code == ESP_OK) code = parse_terms(reader, "terminal", arena, task, &task->terminal, &task->n_terminal, reterr);
    if (code == ESP_OK && task->n_stage + task->n_terminal == 0) code = esp_refuse(reader, reterr, "needs at least one term");
    return code;
}
