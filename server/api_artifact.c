/* SPDX-License-Identifier: Apache-2.0
 * GET /v1/models/{ref}/artifact: the model in the form asked for.
 *
 * Its own form is the stored file; JSON and ONNX are written here from it; C is written by a worker, which lowers the
 * model, evaluates it and bounds its rounding, with the certificates that the registry holds at that moment.
 * With ?y=, an observation, a graph network's plain form is given: for as many objects, with the edges that they have there. */
#include "api.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ask.h"
#include "certify/certificate.h"
#include "net/onnx.h"
#include "registry/query.h"
#include "server.h"
#include "version.h"

#define MODEL_TYPE "application/vnd.espalier.model"
#define ONNX_TYPE  "application/onnx"
#define C_TYPE     "text/x-c; charset=utf-8"
enum { CERTIFICATES_MAX = 64 };

typedef enum artifact_form { FORM_ESPALIER, FORM_JSON, FORM_ONNX, FORM_C } artifact_form;
static const char *const form_names[] = {"espalier", "json", "onnx", "c", NULL};

typedef struct artifact_wish {
    artifact_form form;
    const char *precision, *layout; /* C only, never NULL */
    const char *domain; /* C only; JSON text, or NULL */
    const char *y; /* a graph network's state; JSON text, or NULL */
} artifact_wish;

/* ---- the query ------------------------------------------------------------------------------------------------------- */

static esp_code choose(const esp_call *call, const char *name, const char *pointer, const char *const *names, const char *expected, int *ret,
                       esp_error *reterr) {
    const char *value = esp_call_query(call, name);
    for (int i = 0; value && names[i]; i++) {
        if (strcmp(value, names[i]) != 0) continue;
        *ret = i;
        return ESP_OK;
    }
    return value ? esp_fail_at(reterr, ESP_INVALID, pointer, "%s is expected", expected) : ESP_OK;
}

static esp_code read_wish(const esp_call *call, artifact_wish *ret, esp_error *reterr) {
    static const char *const known[] = {"format", "precision", "layout", "domain", "y", NULL};
    static const char *const precisions[] = {"double", "float", NULL}, *const layouts[] = {"auto", "sparse", "dense", NULL};
    static const char *const of_c[] = {"precision", "layout", "domain"}, *const pointers[] = {"?precision", "?layout", "?domain"};
    int chosen = FORM_ESPALIER, precision = 0, layout = 0;
    esp_code code = esp_call_query_check(call, known, reterr);
    if (!code) code = choose(call, "format", "?format", form_names, "espalier, json, onnx or c", &chosen, reterr);
    for (int i = 0; i < 3 && !code && chosen != FORM_C; i++)
        if (esp_call_query(call, of_c[i])) code = esp_fail_at(reterr, ESP_INVALID, pointers[i], "only the form c has a %s", of_c[i]);
    if (!code) code = choose(call, "precision", "?precision", precisions, "double or float", &precision, reterr);
    if (!code) code = choose(call, "layout", "?layout", layouts, "auto, sparse or dense", &layout, reterr);
    if (code) return code;
    *ret = (artifact_wish){(artifact_form)chosen, precisions[precision], layouts[layout], esp_call_query(call, "domain"), esp_call_query(call, "y")};
    return ESP_OK;
}

/* The observation asked for; the caller's. */
static esp_code read_y(const char *text, const esp_model_row *row, double **ret_y, int *ret_ny, esp_error *reterr) {
    esp_json *json = NULL;
    size_t n = 0;
    double *y = NULL;
    esp_code code = esp_json_parse(text, strlen(text), &json, reterr);
    esp_reader root = esp_reader_root(json);
    if (!code) code = esp_read_array(&root, 1, ESP_MAX_WIDTH, &n, reterr);
    if (!code && !esp_model_row_takes(row, (int64_t)n)) code = esp_fail(reterr, ESP_INVALID, "%zu numbers are not those of whole objects", n);
    if (!code) {
        y = malloc(n * sizeof *y);
        code = y ? esp_read_vector(&root, n, y, reterr) : esp_fail(reterr, ESP_NOMEM, "no memory for a state");
    }
    esp_json_free(json);
    if (!code) {
        *ret_y = y;
        *ret_ny = (int)n;
        return ESP_OK;
    }
    free(y);
    if (reterr) esp_error_prefix_pointer(reterr, "?y");
    return code;
}

/* ONNX and C are plain networks; a state is a graph network's. */
static esp_code check_y(const artifact_wish *wish, const esp_model_row *row, esp_error *reterr) {
    if (wish->y && !row->object_size) return esp_fail_at(reterr, ESP_INVALID, "?y", "only graph networks have a plain form for a state");
    if (!wish->y && row->object_size && wish->form >= FORM_ONNX)
        return esp_fail_at(reterr, ESP_UNPROCESSABLE, "?y", "a graph network has this form for one state only: give y, an observation");
    return ESP_OK;
}

/* ---- C --------------------------------------------------------------------------------------------------------------- */

/* The box asked for, checked against the model's inputs, as a member. */
static esp_code put_domain(esp_jsonw *w, const char *text, const esp_model_row *row, int64_t ny, esp_error *reterr) {
    esp_json *json = NULL;
    esp_box box = {0};
    int64_t n_x = strcmp(row->kind, "policy") == 0 ? row->ny : row->history * (ny + row->nu);
    esp_arena *arena = esp_arena_create(0);
    esp_code code = arena ? esp_json_parse(text, strlen(text), &json, reterr) : esp_fail(reterr, ESP_NOMEM, "no memory for a domain");
    esp_reader root = esp_reader_root(json);
    if (!code) code = esp_box_parse(&root, (int)n_x, arena, &box, reterr);
    if (!code) esp_jsonw_value(w, "domain", json);
    if (code && reterr) esp_error_prefix_pointer(reterr, "?domain");
    esp_json_free(json);
    esp_arena_free(arena);
    return code;
}

static void put_certificate(esp_jsonw *w, esp_stmt *row) {
    static const char *const texts[] = {"kind", "norm", "strength", "method", "status", "domain_sha256", "reference"};
    size_t len = 0;
    esp_jsonw_object(w, NULL);
    for (int i = 0; i < 7; i++) esp_jsonw_string(w, texts[i], esp_stmt_text(row, i, NULL));
    esp_jsonw_number(w, "value", esp_stmt_real(row, 7));
    esp_jsonw_number(w, "lower", esp_stmt_real(row, 8));
    const char *domain = esp_stmt_text(row, 9, &len);
    if (len) esp_jsonw_raw(w, "domain", domain, len);
    esp_jsonw_object_end(w);
}

/* The newest certificates of the model, oldest first. */
static esp_code put_certificates(esp_jsonw *w, esp_db *db, const char *id, esp_error *reterr) {
    esp_stmt *rows = NULL;
    int more = 0;
    esp_code code =
        esp_stmt_open(db, &rows, reterr,
                      "SELECT * FROM (SELECT c.kind, c.norm, c.strength, c.method, c.status, c.domain_sha256, r.name || '/' || r.version, "
                      "c.value, c.lower, json_extract(c.record, '$.domain'), c.created_ms AS made, c.id AS id FROM certificate c "
                      "LEFT JOIN model r ON r.id = c.reference WHERE c.model = ? ORDER BY made DESC, c.id DESC LIMIT ?) ORDER BY made, id",
                      "ti", id, (int64_t)CERTIFICATES_MAX);
    esp_jsonw_array(w, "certificates");
    while (!code && (more = esp_stmt_step(rows, reterr)) == 1) put_certificate(w, rows);
    esp_jsonw_array_end(w);
    esp_stmt_close(rows);
    return code ? code : (esp_code)more;
}

static esp_code put_request(const artifact_wish *wish, const esp_model_row *row, esp_db *db, esp_buf *request, esp_error *reterr) {
    esp_jsonw w = esp_jsonw_on(request);
    char title[512];
    double *y = NULL;
    int ny = (int)row->ny;
    snprintf(title, sizeof title, "%s/%lld (%s), SHA-256 %s, by espalier " ESP_VERSION, row->name, (long long)row->version, row->id, row->sha256);
    esp_jsonw_object(&w, NULL);
    esp_jsonw_string(&w, "name", row->name);
    esp_jsonw_string(&w, "title", title);
    esp_jsonw_string(&w, "precision", wish->precision);
    esp_jsonw_string(&w, "layout", wish->layout);
    esp_code code = wish->y ? read_y(wish->y, row, &y, &ny, reterr) : ESP_OK;
    if (!code && y) esp_jsonw_vector(&w, "y", y, (size_t)ny);
    if (!code && wish->domain) code = put_domain(&w, wish->domain, row, ny, reterr);
    if (!code) code = put_certificates(&w, db, y ? "" : row->id, reterr); /* those of a graph network may be for other objects */
    free(y);
    esp_jsonw_object_end(&w);
    return !code && request->failed ? esp_fail(reterr, ESP_NOMEM, "no memory for the request") : code;
}

/* What the file will hold follows from the request and the model, so their hash stands for it. */
static void reply_c(esp_server *server, esp_call *call, const artifact_wish *wish, const esp_model_row *row, esp_db *db) {
    esp_buf request = {0};
    esp_error error = {0};
    char hash[ESP_HASH_HEX], etag[ESP_HASH_HEX + 8];
    esp_code code = put_request(wish, row, db, &request, &error);
    esp_hash_bytes(request.data, request.len, hash);
    snprintf(etag, sizeof etag, "\"%s-c\"", hash);
    if (code) {
        esp_call_reply_error(call, &error);
    } else if (!esp_call_not_modified(call, etag)) {
        const esp_question question = {
            .type = ESP_FRAME_ARTIFACT, .model = row->sha256, .candidate = "", .take_text = &request, .content_type = C_TYPE};
        esp_ask(server, call, &question);
    }
    esp_buf_done(&request);
}

/* ---- the other forms ------------------------------------------------------------------------------------------------- */

/* The plain form of a graph network in its place. */
static esp_code flatten(const char *text, const esp_model_row *row, esp_model **model, esp_error *reterr) {
    double *y = NULL;
    int ny = 0;
    esp_model *bound = NULL, *flat = NULL;
    esp_code code = read_y(text, row, &y, &ny, reterr);
    if (!code) code = esp_model_bind(*model, ny, y, &bound, reterr);
    if (!code) code = esp_model_flatten(bound, &flat, reterr);
    free(y);
    esp_model_free(bound);
    if (code) return code;
    esp_model_free(*model);
    *model = flat;
    return ESP_OK;
}

static void reply_written(esp_call *call, const artifact_wish *wish, const esp_model_row *row, const char *path) {
    esp_error error = {0};
    esp_model *model = NULL;
    esp_buf out = {0};
    esp_jsonw w = esp_jsonw_on(&out);
    artifact_form form = wish->form;
    esp_code code = esp_model_load(path, &model, &error);
    if (!code && wish->y) code = flatten(wish->y, row, &model, &error);
    if (!code && form == FORM_ESPALIER) code = esp_model_encode(model, &out, &error);
    if (!code && form == FORM_ONNX) code = esp_onnx_format(model, &out, &error);
    if (!code && form == FORM_JSON) esp_model_format_json(model, &w);
    if (code)
        esp_call_reply_error(call, &error);
    else if (form == FORM_JSON)
        esp_call_reply_json(call, 200, &out);
    else
        esp_call_reply(call, 200, form == FORM_ONNX ? ONNX_TYPE : MODEL_TYPE, &out);
    esp_model_free(model);
    esp_buf_done(&out);
}

static void reply_stored(esp_server *server, esp_call *call, const artifact_wish *wish, const esp_model_row *row) {
    char path[4096], state[ESP_HASH_HEX] = "", etag[2 * ESP_HASH_HEX + 16];
    esp_blob_path(server->registry, row->sha256, path);
    if (wish->y) esp_hash_bytes(wish->y, strlen(wish->y), state);
    snprintf(etag, sizeof etag, "\"%s-%s%s\"", row->sha256, form_names[wish->form], state);
    if (esp_call_not_modified(call, etag)) return;
    if (wish->form == FORM_ESPALIER && !wish->y)
        esp_call_reply_file(call, MODEL_TYPE, etag, path);
    else
        reply_written(call, wish, row, path);
}

void esp_api_models_artifact(struct esp_server *server, esp_call *call) {
    esp_error error = {0};
    esp_model_row row = {0};
    esp_db *db = NULL;
    artifact_wish wish = {0};
    esp_code code = read_wish(call, &wish, &error);
    if (!code) code = esp_registry_read_begin(server->registry, &db, &error);
    if (!code) code = esp_model_find(db, esp_call_path(call, "ref"), &row, &error);
    if (!code) code = check_y(&wish, &row, &error);
    if (code)
        esp_call_reply_error(call, &error);
    else if (wish.form == FORM_C)
        reply_c(server, call, &wish, &row, db);
    if (db) esp_registry_read_end(server->registry, db);
    if (!code && wish.form != FORM_C) reply_stored(server, call, &wish, &row);
    esp_model_row_done(&row);
}
