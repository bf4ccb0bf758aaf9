/* SPDX-License-Identifier: Apache-2.0
 * What a model's row says of its resolved neurons, held against a task. */
#include "resolved.h"

#include <string.h>

/* The row's spec has neurons that were resolved. The word is looked for first: most rows have none, and planning is in a hurry. */
static esp_code is_resolved(const esp_model_row *model, bool *ret_resolved, esp_error *reterr) {
    esp_json *json = NULL;
    *ret_resolved = false;
    if (!model->spec || !strstr(model->spec, "\"resolved\"")) return ESP_OK;
    esp_code code = esp_json_parse(model->spec, strlen(model->spec), &json, reterr);
    esp_reader root = esp_reader_root(json);
    if (!code) *ret_resolved = esp_read_member(&root, "resolved").value != NULL;
    esp_json_free(json);
    return code;
}

static esp_code read_box(const esp_model_row *model, size_t n, double *ret_lower, double *ret_upper, esp_error *reterr) {
    esp_json *json = NULL;
    esp_reader lower, upper;
    esp_code code = model->metrics ? esp_json_parse(model->metrics, strlen(model->metrics), &json, reterr)
                                   : esp_fail(reterr, ESP_INTERNAL, "a model resolved over a box that is not kept");
    if (code) return code;
    esp_reader root = esp_reader_root(json), box = esp_read_member(&root, "data_box");
    code = esp_read_required(&box, "lower", &lower, reterr);
    if (!code) code = esp_read_required(&box, "upper", &upper, reterr);
    if (!code) code = esp_read_vector(&lower, n, ret_lower, reterr);
    if (!code) code = esp_read_vector(&upper, n, ret_upper, reterr);
    esp_json_free(json);
    return code;
}

esp_code esp_resolved_check(const esp_model_row *model, const esp_task *task, esp_arena *arena, esp_error *reterr) {
    size_t n = (size_t)model->history * (size_t)(model->ny + model->nu);
    bool resolved = false;
    esp_code code = is_resolved(model, &resolved, reterr);
    if (code || !resolved) return code;
    double *box = esp_arena_array(arena, 2 * n, sizeof *box);
    if (!box) return esp_fail(reterr, ESP_NOMEM, "no memory for a data box");
    code = read_box(model, n, box, box + n, reterr);
    return code ? code : esp_task_check_inside(task, (int)model->history, box, box + n, reterr);
}
