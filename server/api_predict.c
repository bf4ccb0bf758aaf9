/* SPDX-License-Identifier: Apache-2.0
 * POST /v1/models/{ref}/predict and /v1/bounds/query: checked here, computed by a plan worker (ask.h). */
#include "api.h"

#include <stdlib.h>
#include <string.h>

#include "ask.h"
#include "server.h"

enum { REF_MAX = 2 * ESP_NAME_MAX + 32, ROWS_MAX = 1 << 20 };
#define POINTS_ARENA ((size_t)256 << 20)

/* ---- what both read ---- */

static esp_code begin(esp_server *server, esp_call *call, const esp_json **ret_json, esp_asking **ret_asking, esp_error *reterr) {
    static const char *const query[] = {NULL};
    esp_code code = esp_call_query_check(call, query, reterr);
    if (!code) code = esp_call_json(call, ret_json, reterr);
    return code ? code : esp_asking_create(server, call, ret_asking, reterr);
}

static esp_code find_model(esp_server *server, const char *ref, esp_model_row *ret_row, esp_error *reterr) {
    esp_db *db = NULL;
    esp_code code = esp_registry_read_begin(server->registry, &db, reterr);
    if (code) return code;
    code = esp_model_find(db, ref, ret_row, reterr);
    esp_registry_read_end(server->registry, db);
    if (!code) esp_model_row_done(ret_row); /* its texts are not needed */
    return code;
}

/* The model a member names. */
static esp_code find_named(esp_server *server, const esp_reader *member, esp_model_row *ret_row, esp_error *reterr) {
    const char *ref = NULL;
    esp_code code = esp_read_string(member, REF_MAX, &ref, reterr);
    if (code) return code;
    code = find_model(server, ref, ret_row, reterr);
    if (code != ESP_NOT_FOUND || !reterr) return code;
    esp_error found = *reterr;
    esp_refuse(member, reterr, "%s", found.message);
    reterr->code = ESP_NOT_FOUND;
    return code;
}

static size_t n_x_of(const esp_model_row *row) {
    return (size_t)(strcmp(row->kind, "policy") == 0 ? row->ny : row->history * (row->ny + row->nu));
}

/* At least one row of exactly n_x numbers each. */
static esp_code check_points(const esp_reader *points, size_t n_x, esp_error *reterr) {
    size_t n = 0;
    esp_code code = esp_read_array(points, 1, ROWS_MAX, &n, reterr);
    if (code) return code;
    esp_arena *arena = esp_arena_create(POINTS_ARENA);
    double *scratch = arena ? esp_arena_array(arena, n * n_x, sizeof *scratch) : NULL;
    code = scratch ? esp_read_matrix(points, n, n_x, scratch, reterr) : esp_fail(reterr, ESP_TOO_LARGE, "%zu points are too many", n);
    esp_arena_free(arena);
    return code;
}

/* Reads the request into a worker's frame. */
typedef esp_code request_reader(esp_asking *a, const esp_reader *root, esp_model_row *ret_model, esp_error *reterr);

static void read_and_ask(esp_server *server, esp_call *call, request_reader *read, esp_frame_type type) {
    const esp_json *json = NULL;
    esp_asking *a = NULL;
    esp_model_row model;
    esp_error error = {0};
    esp_code code = begin(server, call, &json, &a, &error);
    esp_reader root = esp_reader_root(json);
    if (!code) code = read(a, &root, &model, &error);
    if (!code) {
        esp_ask(a, type, model.sha256);
        return;
    }
    esp_asking_free(a);
    esp_call_reply_error(call, &error);
}

/* ---- predict ---- */

static esp_code read_predict(esp_asking *a, const esp_reader *root, esp_model_row *ret_model, esp_error *reterr) {
    static const char *const fields[] = {"x", NULL};
    esp_reader x;
    esp_code code = find_model(a->server, esp_call_path(a->call, "ref"), ret_model, reterr);
    if (!code) code = esp_read_object(root, fields, reterr);
    if (!code) code = esp_read_required(root, "x", &x, reterr);
    if (!code) code = check_points(&x, n_x_of(ret_model), reterr);
    if (code) return code;
    esp_jsonw w = esp_jsonw_on(&a->request);
    esp_jsonw_object(&w, NULL);
    esp_ask_put_model(&w, "model", a->server, ret_model);
    esp_jsonw_value(&w, "x", x.value);
    esp_jsonw_object_end(&w);
    return a->request.failed ? esp_fail(reterr, ESP_NOMEM, "no memory for the request") : ESP_OK;
}

void esp_api_models_predict(esp_server *server, esp_call *call) {
    read_and_ask(server, call, read_predict, ESP_FRAME_PREDICT);
}

/* ---- bounds query ---- */

static esp_code check_candidate(const esp_asking *a, const esp_reader *root, const esp_model_row *model, esp_model_row *ret_candidate,
                                esp_error *reterr) {
    esp_reader member = esp_read_member(root, "candidate");
    esp_code code = find_named(a->server, &member, ret_candidate, reterr);
    if (code) return code;
    const esp_model_row *c = ret_candidate;
    if (strcmp(c->kind, model->kind) == 0 && c->ny == model->ny && c->nu == model->nu && c->history == model->history) return ESP_OK;
    esp_refuse(&member, reterr, "the candidate has other inputs or outputs than the model");
    reterr->code = ESP_UNPROCESSABLE;
    return ESP_UNPROCESSABLE;
}

static esp_code read_query(esp_asking *a, const esp_reader *root, esp_model_row *ret_model, esp_error *reterr) {
    static const char *const fields[] = {"model", "states", "error_threshold", "candidate", NULL};
    esp_reader member, states, threshold = esp_read_member(root, "error_threshold"), candidate = esp_read_member(root, "candidate");
    esp_model_row other;
    double limit = 0;
    esp_code code = esp_read_object(root, fields, reterr);
    if (!code) code = esp_read_required(root, "model", &member, reterr);
    if (!code) code = find_named(a->server, &member, ret_model, reterr);
    if (!code) code = esp_read_required(root, "states", &states, reterr);
    if (!code) code = check_points(&states, n_x_of(ret_model), reterr);
    if (!code) code = esp_read_number(&threshold, 0, 1e300, &limit, reterr);
    if (!code && candidate.value) code = check_candidate(a, root, ret_model, &other, reterr);
    if (code) return code;
    esp_jsonw w = esp_jsonw_on(&a->request);
    esp_jsonw_object(&w, NULL);
    esp_ask_put_model(&w, "model", a->server, ret_model);
    if (candidate.value) esp_ask_put_model(&w, "candidate", a->server, &other);
    esp_jsonw_value(&w, "states", states.value);
    if (threshold.value) esp_jsonw_number(&w, "error_threshold", limit);
    esp_jsonw_object_end(&w);
    return a->request.failed ? esp_fail(reterr, ESP_NOMEM, "no memory for the request") : ESP_OK;
}

void esp_api_bounds_query(esp_server *server, esp_call *call) {
    read_and_ask(server, call, read_query, ESP_FRAME_QUERY);
}
