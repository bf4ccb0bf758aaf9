/* SPDX-License-Identifier: Apache-2.0
 * POST /v1/models/{ref}/predict and /v1/bounds/query: arithmetic that a caller waits for, done by a plan worker.
 *
 * Both may wait 10 s, queueing included; then DEADLINE. A worker that dies costs one try on another. */
#include "api.h"

#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "log.h"
#include "pool/pool.h"
#include "server.h"

enum { REF_MAX = 2 * ESP_NAME_MAX + 32, ROWS_MAX = 1 << 20 };
#define ANSWER_WITHIN_NS (10 * ESP_NS_PER_S)
#define POINTS_ARENA     ((size_t)256 << 20)

/* A call on its way through a worker. The request's text is made before, so nothing of the call's is needed. */
typedef struct asking {
    esp_server *server;
    esp_call *call;
    uint64_t work;
    esp_buf request;
} asking;

static void asking_free(asking *a) {
    if (!a) return;
    esp_buf_done(&a->request);
    free(a);
}

static void on_begin(void *user, int64_t budget_ns, esp_buf *payload) {
    const asking *a = user;
    (void)budget_ns;
    esp_buf_put(payload, a->request.data, a->request.len);
}

static void on_end(void *user, const esp_outcome *outcome) {
    asking *a = user;
    esp_error error = {0};
    esp_buf body = {0};
    switch (outcome->end) {
    case ESP_END_DONE: esp_buf_put(&body, outcome->payload, outcome->len); break;
    case ESP_END_ERROR:
    case ESP_END_LOST: error = *outcome->error; break;
    case ESP_END_EXPIRED: esp_fail(&error, ESP_DEADLINE, "no worker answered in time"); break;
    case ESP_END_CANCELLED: esp_fail(&error, ESP_CANCELLED, "cancelled"); break;
    }
    if (error.code)
        esp_call_reply_error(a->call, &error);
    else
        esp_call_reply_json(a->call, 200, &body);
    asking_free(a);
}

static void on_hangup(void *user) {
    const asking *a = user;
    esp_pool_cancel(a->server->pool, a->work);
}

/* Gives the request to a worker; the call is answered from there, or here when that cannot be. */
static void ask(asking *a, esp_frame_type type, const char *sha256) {
    static const esp_work_ops ops = {on_begin, NULL, on_end};
    char head[17] = {0};
    esp_error error = {0};
    memcpy(head, sha256, 16);
    int64_t arrived_ns = esp_call_arrived_ns(a->call);
    const esp_work work = {
        .class = ESP_CLASS_PLAN,
        .type = type,
        .retries = 1,
        .arrived_ns = arrived_ns,
        .deadline_ns = arrived_ns + ANSWER_WITHIN_NS,
        .affinity = strtoull(head, NULL, 16) | 1,
        .ops = &ops,
        .user = a,
    };
    a->work = esp_pool_id(a->server->pool);
    esp_call_keep(a->call, on_hangup, a);
    if (!esp_pool_submit(a->server->pool, a->work, &work, &error)) return;
    esp_call_reply_error(a->call, &error);
    asking_free(a);
}

/* ---- what both read ---- */

static esp_code begin(esp_server *server, esp_call *call, const esp_json **ret_json, asking **ret_asking, esp_error *reterr) {
    static const char *const query[] = {NULL};
    if (atomic_load(&server->draining)) return esp_fail(reterr, ESP_DRAINING, "the service is shutting down");
    esp_code code = esp_call_query_check(call, query, reterr);
    if (!code) code = esp_call_json(call, ret_json, reterr);
    if (code) return code;
    asking *a = calloc(1, sizeof *a);
    if (!a) return esp_fail(reterr, ESP_NOMEM, "no memory for the request");
    a->server = server;
    a->call = call;
    *ret_asking = a;
    return ESP_OK;
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

static void put_model(esp_jsonw *w, const char *key, const esp_server *server, const esp_model_row *row) {
    char path[4096];
    esp_blob_path(server->registry, row->sha256, path);
    esp_jsonw_object(w, key);
    esp_jsonw_string(w, "path", path);
    esp_jsonw_string(w, "sha256", row->sha256);
    esp_jsonw_object_end(w);
}

/* Reads the request into a worker's frame. */
typedef esp_code request_reader(asking *a, const esp_reader *root, esp_model_row *ret_model, esp_error *reterr);

static void read_and_ask(esp_server *server, esp_call *call, request_reader *read, esp_frame_type type) {
    const esp_json *json = NULL;
    asking *a = NULL;
    esp_model_row model;
    esp_error error = {0};
    esp_code code = begin(server, call, &json, &a, &error);
    esp_reader root = esp_reader_root(json);
    if (!code) code = read(a, &root, &model, &error);
    if (!code) {
        ask(a, type, model.sha256);
        return;
    }
    asking_free(a);
    esp_call_reply_error(call, &error);
}

/* ---- predict ---- */

static esp_code read_predict(asking *a, const esp_reader *root, esp_model_row *ret_model, esp_error *reterr) {
    static const char *const fields[] = {"x", NULL};
    esp_reader x;
    esp_code code = find_model(a->server, esp_call_path(a->call, "ref"), ret_model, reterr);
    if (!code) code = esp_read_object(root, fields, reterr);
    if (!code) code = esp_read_required(root, "x", &x, reterr);
    if (!code) code = check_points(&x, n_x_of(ret_model), reterr);
    if (code) return code;
    esp_jsonw w = esp_jsonw_on(&a->request);
    esp_jsonw_object(&w, NULL);
    put_model(&w, "model", a->server, ret_model);
    esp_jsonw_value(&w, "x", x.value);
    esp_jsonw_object_end(&w);
    return a->request.failed ? esp_fail(reterr, ESP_NOMEM, "no memory for the request") : ESP_OK;
}

void esp_api_models_predict(esp_server *server, esp_call *call) {
    read_and_ask(server, call, read_predict, ESP_FRAME_PREDICT);
}

/* ---- bounds query ---- */

static esp_code check_candidate(const asking *a, const esp_reader *root, const esp_model_row *model, esp_model_row *ret_candidate,
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

static esp_code read_query(asking *a, const esp_reader *root, esp_model_row *ret_model, esp_error *reterr) {
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
    put_model(&w, "model", a->server, ret_model);
    if (candidate.value) put_model(&w, "candidate", a->server, &other);
    esp_jsonw_value(&w, "states", states.value);
    if (threshold.value) esp_jsonw_number(&w, "error_threshold", limit);
    esp_jsonw_object_end(&w);
    return a->request.failed ? esp_fail(reterr, ESP_NOMEM, "no memory for the request") : ESP_OK;
}

void esp_api_bounds_query(esp_server *server, esp_call *call) {
    read_and_ask(server, call, read_query, ESP_FRAME_QUERY);
}
