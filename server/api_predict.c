/* SPDX-License-Identifier: Apache-2.0
 * POST /v1/models/{ref}/predict and /v1/bounds/query: which model is asked, found here; the body goes as it is to a plan
 * worker (ask.h), which reads, checks and answers it. A small body about a model whose name is known (names.h) does so from the event thread.
 */
#include "api.h"

#include <string.h>

#include "ask.h"
#include "names.h"

static esp_code check_body(esp_call *call, esp_error *reterr) {
    static const char *const query[] = {NULL};
    esp_code code = esp_call_query_check(call, query, reterr);
    return code ? code : esp_call_json_check(call, reterr);
}

static void ask(esp_server *server, esp_call *call, esp_frame_type type, const esp_name *model, const esp_name *candidate) {
    esp_question question = {
        .type = type, .model = model->sha256, .candidate = candidate ? candidate->sha256 : "", .content_type = "application/json"};
    question.text = esp_call_body(call, &question.len);
    esp_ask(server, call, &question);
}

static bool is_small(const esp_call *call) {
    size_t len = 0;
    (void)esp_call_body(call, &len);
    return esp_ask_is_small(len);
}

/* ---- predict ---- */

void esp_api_models_predict(esp_server *server, esp_call *call) {
    esp_name model;
    esp_error error = {0};
    esp_code code = check_body(call, &error);
    if (!code) code = esp_name_find(server, esp_call_path(call, "ref"), &model, &error);
    if (code)
        esp_call_reply_error(call, &error);
    else
        ask(server, call, ESP_FRAME_PREDICT, &model, NULL);
}

bool esp_api_models_predict_at_once(esp_server *server, esp_call *call) {
    esp_name model;
    if (!is_small(call) || check_body(call, NULL) || !esp_name_known(server, esp_call_path(call, "ref"), &model)) return false;
    ask(server, call, ESP_FRAME_PREDICT, &model, NULL);
    return true;
}

/* ---- bounds query ---- */

/* The name that a member gives; NULL when it is absent. */
static esp_code read_name(const esp_reader *root, const char *key, const char **ret, esp_error *reterr) {
    esp_reader member = esp_read_member(root, key);
    return esp_read_string(&member, ESP_REF_MAX, ret, reterr);
}

static esp_code find_named(esp_server *server, const esp_reader *root, const char *key, const char *ref, esp_name *ret, esp_error *reterr) {
    esp_code code = esp_name_find(server, ref, ret, reterr);
    if (code != ESP_NOT_FOUND || !reterr) return code;
    esp_error found = *reterr;
    esp_reader member = esp_read_member(root, key);
    esp_refuse(&member, reterr, "%s", found.message);
    return reterr->code = ESP_NOT_FOUND;
}

static esp_code read_names(esp_call *call, esp_reader *ret_root, const char **ret_model, const char **ret_candidate, esp_error *reterr) {
    const esp_json *json = NULL;
    esp_reader model;
    esp_code code = check_body(call, reterr);
    if (!code) code = esp_call_json(call, &json, reterr);
    *ret_root = esp_reader_root(json);
    if (!code) code = esp_read_required(ret_root, "model", &model, reterr);
    if (!code) code = read_name(ret_root, "model", ret_model, reterr);
    return code ? code : read_name(ret_root, "candidate", ret_candidate, reterr);
}

static bool comparable(const esp_name *a, const esp_name *b) {
    return strcmp(a->kind, b->kind) == 0 && a->ny == b->ny && a->nu == b->nu && a->history == b->history;
}

static esp_code refuse_candidate(const esp_reader *root, esp_error *reterr) {
    esp_reader member = esp_read_member(root, "candidate");
    esp_refuse(&member, reterr, "the candidate has other inputs or outputs than the model");
    return reterr->code = ESP_UNPROCESSABLE;
}

void esp_api_bounds_query(esp_server *server, esp_call *call) {
    esp_name model, candidate;
    const char *ref = NULL, *candidate_ref = NULL;
    esp_reader root;
    esp_error error = {0};
    esp_code code = read_names(call, &root, &ref, &candidate_ref, &error);
    if (!code) code = find_named(server, &root, "model", ref, &model, &error);
    if (!code && candidate_ref) code = find_named(server, &root, "candidate", candidate_ref, &candidate, &error);
    if (!code && candidate_ref && !comparable(&model, &candidate)) code = refuse_candidate(&root, &error);
    if (code)
        esp_call_reply_error(call, &error);
    else
        ask(server, call, ESP_FRAME_QUERY, &model, candidate_ref ? &candidate : NULL);
}

bool esp_api_bounds_query_at_once(esp_server *server, esp_call *call) {
    esp_name model, candidate;
    const char *ref = NULL, *candidate_ref = NULL;
    esp_reader root;
    if (!is_small(call) || read_names(call, &root, &ref, &candidate_ref, NULL) || !esp_name_known(server, ref, &model)) return false;
    if (candidate_ref && (!esp_name_known(server, candidate_ref, &candidate) || !comparable(&model, &candidate))) return false;
    ask(server, call, ESP_FRAME_QUERY, &model, candidate_ref ? &candidate : NULL);
    return true;
}
