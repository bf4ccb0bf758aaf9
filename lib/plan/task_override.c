/* SPDX-License-Identifier: Apache-2.0
 * A plan request's overrides laid over a stored task. The result is text, parsed and checked like any task. */
#include "plan/task.h"

#include <stddef.h>
#include <string.h>

/* `planner` field by field: the override's fields, then those of the task that it does not have. */
static void merge_planner(const esp_reader *task, const esp_reader *overrides, esp_jsonw *w) {
    const char *key;
    esp_reader value;
    esp_jsonw_object(w, "planner");
    for (size_t i = 0; esp_read_entry(overrides, i, &key, &value); i++) esp_jsonw_value(w, key, value.value);
    for (size_t i = 0; task->value && esp_read_entry(task, i, &key, &value); i++)
        if (!esp_read_member(overrides, key).value) esp_jsonw_value(w, key, value.value);
    esp_jsonw_object_end(w);
}

static void merge(const esp_reader *task, const esp_reader *overrides, esp_jsonw *w) {
    esp_jsonw_object(w, NULL);
    for (const char *const *field = esp_task_fields; *field; field++) {
        esp_reader old = esp_read_member(task, *field), new = esp_read_member(overrides, *field);
        if (strcmp(*field, "planner") == 0 && new.value)
            merge_planner(&old, &new, w);
        else if (new.value)
            esp_jsonw_value(w, *field, new.value);
        else if (old.value)
            esp_jsonw_value(w, *field, old.value);
    }
    esp_jsonw_object_end(w);
}

static esp_code canonical(const esp_buf *text, esp_buf *ret_json, esp_error *reterr) {
    esp_json *json = NULL;
    if (text->failed) return esp_fail(reterr, ESP_NOMEM, "a task's overrides");
    esp_code code = esp_json_parse(text->data, text->len, &json, reterr);
    if (code != ESP_OK) return code;
    esp_json_canonical(json, ret_json);
    esp_json_free(json);
    return ret_json->failed ? esp_fail(reterr, ESP_NOMEM, "a task's overrides") : ESP_OK;
}

esp_code esp_task_override(const esp_reader *task, const esp_reader *overrides, esp_buf *ret_json, esp_error *reterr) {
    static const char *const allowed[] = {"horizon", "cost", "input", "state", "trust_region", "planner", NULL};
    static const char *const planner_fields[] = {"method", "engine", "gap", "absolute_gap", "seed", NULL};
    esp_reader planner = esp_read_member(overrides, "planner"), old_planner = esp_read_member(task, "planner");
    esp_code code = esp_read_object(overrides, allowed, reterr);
    if (code == ESP_OK) code = esp_read_object(task, esp_task_fields, reterr);
    if (code == ESP_OK && planner.value) code = esp_read_object(&planner, planner_fields, reterr);
    if (code == ESP_OK && planner.value && old_planner.value) code = esp_read_object(&old_planner, planner_fields, reterr);
    if (code != ESP_OK) return code;
    esp_buf text = {0};
    esp_jsonw w = esp_jsonw_on(&text);
    merge(task, overrides, &w);
    code = canonical(&text, ret_json, reterr);
    esp_buf_done(&text);
    return code;
}
