/* SPDX-License-Identifier: Apache-2.0
 * What a worker made becomes rows, on the registry's writer thread: models as they come, certificates with the result. */
#include "jobs/private.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "log.h"

/* A member's text into a fixed field; the worker is ours, so a misfit is a defect. */
static esp_code copy_text(const esp_reader *object, const char *key, char *ret, size_t room, esp_error *reterr) {
    esp_reader member;
    const char *text = NULL;
    esp_code code = esp_read_required(object, key, &member, reterr);
    if (!code) code = esp_read_string(&member, room - 1, &text, reterr);
    if (!code) memcpy(ret, text, strlen(text) + 1);
    return code;
}

static esp_code copy_integer(const esp_reader *object, const char *key, int64_t *ret, esp_error *reterr) {
    esp_reader member;
    esp_code code = esp_read_required(object, key, &member, reterr);
    return code ? code : esp_read_integer(&member, 0, INT64_MAX / 2, ret, reterr);
}

static esp_code copy_json(const esp_reader *object, const char *key, char **ret, esp_error *reterr) {
    esp_reader member;
    esp_buf text = {0};
    esp_code code = esp_read_required(object, key, &member, reterr);
    if (code) return code;
    esp_json_canonical(member.value, &text);
    *ret = esp_buf_take(&text, NULL);
    return *ret ? ESP_OK : esp_fail(reterr, ESP_NOMEM, "no memory for a row");
}

/* ---- models ---- */

static esp_code read_model(const esp_reader *root, const job_run *run, esp_model_row *row, esp_error *reterr) {
    memcpy(row->name, run->name, sizeof row->name);
    memcpy(row->parent, run->parent, sizeof row->parent);
    memcpy(row->dataset, run->dataset, sizeof row->dataset);
    memcpy(row->job, run->id, sizeof row->job);
    esp_code code = copy_text(root, "sha256", row->sha256, sizeof row->sha256, reterr);
    if (!code) code = copy_text(root, "kind", row->kind, sizeof row->kind, reterr);
    if (!code) code = copy_integer(root, "ny", &row->ny, reterr);
    if (!code) code = copy_integer(root, "nu", &row->nu, reterr);
    if (!code) code = copy_integer(root, "history", &row->history, reterr);
    if (!code) code = copy_integer(root, "relu", &row->relu, reterr);
    if (!code) code = copy_integer(root, "parameters", &row->parameters, reterr);
    if (!code) code = copy_integer(root, "nonzero", &row->nonzero, reterr);
    if (!code) code = copy_json(root, "spec", &row->spec, reterr);
    if (!code) code = copy_json(root, "metrics", &row->metrics, reterr);
    if (!code && esp_read_member(root, "graph").value) code = copy_json(root, "graph", &row->graph, reterr);
    return code;
}

bool job_makes_rungs(const job_run *run) {
    return strcmp(run->kind, "train") == 0 || strcmp(run->kind, "sparsify") == 0;
}

/* {id,name,version,relu,validation_rmse}, and the size of one that was not trained on data: the same in the event and in the result. */
static esp_code put_model(const esp_reader *root, const esp_model_row *row, bool sized, esp_buf *out, esp_error *reterr) {
    double rmse = NAN;
    esp_reader metrics = esp_read_member(root, "metrics"), member = esp_read_member(&metrics, "validation_rmse");
    esp_code code = esp_read_number(&member, 0, 1e300, &rmse, reterr);
    if (code) return code;
    esp_jsonw w = esp_jsonw_on(out);
    esp_jsonw_object(&w, NULL);
    esp_jsonw_string(&w, "id", row->id);
    esp_jsonw_string(&w, "name", row->name);
    esp_jsonw_integer(&w, "version", row->version);
    esp_jsonw_integer(&w, "relu", row->relu);
    esp_jsonw_number(&w, "validation_rmse", rmse); /* null when there was no data to measure it on */
    if (sized) esp_jsonw_integer(&w, "parameters", row->parameters);
    if (sized) esp_jsonw_integer(&w, "nonzero", row->nonzero);
    esp_jsonw_object_end(&w);
    return ESP_OK;
}

/* The run is still the job's: an earlier attempt may not register anything any more. */
static esp_code check_attempt(esp_db *db, const job_run *run, esp_error *reterr) {
    esp_job_row row = {0};
    esp_code code = esp_job_find(db, run->id, &row, reterr);
    if (!code && (row.attempt != run->attempt || esp_job_state_terminal(row.state) || row.state == ESP_JOB_QUEUED))
        code = esp_fail(reterr, ESP_STATE, "job %s does not run attempt %lld any more", run->id, (long long)run->attempt);
    esp_job_row_done(&row);
    return code;
}

esp_code job_register_model(esp_db *db, job_run *run, const char *payload, size_t len, esp_error *reterr) {
    esp_json *json = NULL;
    esp_model_row row = {0};
    esp_buf event = {0};
    esp_reader root;
    esp_code code = check_attempt(db, run, reterr);
    if (!code) code = esp_json_parse(payload, len, &json, reterr);
    if (code) goto out;
    root = esp_reader_root(json);
    code = read_model(&root, run, &row, reterr);
    if (!code && !esp_blob_exists(run->jobs->server->registry, row.sha256))
        code = esp_fail(reterr, ESP_IO, "the worker did not leave blob %.12s...", row.sha256);
    if (!code) code = esp_model_insert(db, &row, reterr);
    if (!code) code = put_model(&root, &row, !job_makes_rungs(run), &event, reterr);
    if (!code) code = esp_event_append_once(db, run->id, "model", esp_buf_text(&event), reterr);
    if (code) goto out;
    memcpy(run->parent, row.id, sizeof run->parent);
    if (run->models.len) esp_buf_puts(&run->models, ",");
    esp_buf_put(&run->models, event.data, event.len);
out:
    esp_buf_done(&event);
    esp_model_row_done(&row);
    esp_json_free(json);
    return code;
}

/* ---- checkpoints ---- */

esp_code job_register_checkpoint(esp_db *db, const job_run *run, const char *payload, size_t len, esp_error *reterr) {
    esp_json *json = NULL;
    const char *what = NULL;
    esp_reader root, member;
    esp_code code = check_attempt(db, run, reterr);
    if (!code) code = esp_json_parse(payload, len, &json, reterr);
    if (code) return code;
    root = esp_reader_root(json);
    code = esp_read_required(&root, "checkpoint", &member, reterr);
    if (!code) code = esp_read_string(&member, 16, &what, reterr);
    if (!code && strcmp(what, "written") == 0)
        code = esp_job_kept(db, run->id, reterr);
    else if (!code)
        code = esp_event_append(db, run->id, "log", payload, reterr);
    esp_json_free(json);
    return code;
}

/* ---- certificates ---- */

static esp_code copy_number(const esp_reader *object, const char *key, double *ret, esp_error *reterr) {
    esp_reader member;
    esp_code code = esp_read_required(object, key, &member, reterr);
    return code ? code : esp_read_number(&member, -1e308, 1e308, ret, reterr);
}

static bool is_compared(const char *kind) {
    return strcmp(kind, "difference") == 0 || strcmp(kind, "closed_loop") == 0 || strcmp(kind, "planning_loss") == 0;
}

/* A prune job's are of the model it registered, beside the one it was given. */
static esp_code read_certificate(const esp_reader *reader, const job_run *run, esp_certificate_row *row, esp_error *reterr) {
    bool pruned = strcmp(run->kind, "prune") == 0;
    const char *model = pruned ? run->parent : run->model, *reference = pruned ? run->model : run->reference;
    memcpy(row->model, model, sizeof row->model);
    memcpy(row->job, run->id, sizeof row->job);
    esp_code code = copy_text(reader, "kind", row->kind, sizeof row->kind, reterr);
    /* Constants and ranges are the model's alone. */
    if (!code && is_compared(row->kind)) memcpy(row->reference, reference, sizeof row->reference);
    if (!code) code = copy_text(reader, "method", row->method, sizeof row->method, reterr);
    if (!code) code = copy_text(reader, "norm", row->norm, sizeof row->norm, reterr);
    if (!code) code = copy_text(reader, "strength", row->strength, sizeof row->strength, reterr);
    if (!code) code = copy_text(reader, "status", row->status, sizeof row->status, reterr);
    if (!code) code = copy_text(reader, "domain_sha256", row->domain_sha256, sizeof row->domain_sha256, reterr);
    if (!code) code = copy_number(reader, "value", &row->value, reterr);
    if (!code) code = copy_number(reader, "lower", &row->lower, reterr);
    if (!code) code = copy_number(reader, "tolerance", &row->tolerance, reterr);
    if (!code) code = copy_number(reader, "seconds", &row->seconds, reterr);
    if (!code) code = copy_json(reader, "record", &row->record, reterr);
    return code;
}

static void put_certificate(esp_jsonw *w, const esp_certificate_row *row) {
    esp_jsonw_object(w, NULL);
    esp_jsonw_string(w, "id", row->id);
    esp_jsonw_string(w, "model", row->model);
    esp_jsonw_string(w, "reference", *row->reference ? row->reference : NULL);
    esp_jsonw_string(w, "kind", row->kind);
    esp_jsonw_string(w, "norm", row->norm);
    esp_jsonw_string(w, "domain_sha256", row->domain_sha256);
    esp_jsonw_number(w, "value", row->value);
    esp_jsonw_number(w, "lower", row->lower);
    esp_jsonw_string(w, "method", row->method);
    esp_jsonw_string(w, "strength", row->strength);
    esp_jsonw_number(w, "tolerance", row->tolerance);
    esp_jsonw_string(w, "status", row->status);
    esp_jsonw_number(w, "seconds", row->seconds);
    esp_jsonw_object_end(w);
}

/* The payload's `certificates` become rows and, as rows, a member of the object that is open. */
static esp_code register_certificates(esp_db *db, const job_run *run, const esp_reader *root, esp_jsonw *w, esp_error *reterr) {
    size_t n = 0;
    esp_reader list = esp_read_member(root, "certificates");
    esp_jsonw_array(w, "certificates");
    esp_code code = esp_read_array(&list, 0, 64, &n, reterr);
    for (size_t i = 0; !code && i < n; i++) {
        esp_certificate_row row = {0};
        esp_reader element = esp_read_element(&list, i);
        code = read_certificate(&element, run, &row, reterr);
        if (!code) code = esp_certificate_insert(db, &row, reterr);
        if (!code) put_certificate(w, &row);
        esp_certificate_row_done(&row);
    }
    esp_jsonw_array_end(w);
    return code;
}

/* The model, and what else the payload of a prune or distill job says, as it stands. */
static void put_made(esp_jsonw *w, const job_run *run, const esp_reader *root) {
    const char *key = NULL;
    esp_reader value;
    if (run->models.len)
        esp_jsonw_raw(w, "model", run->models.data, run->models.len);
    else
        esp_jsonw_null(w, "model");
    for (size_t i = 0; esp_read_entry(root, i, &key, &value); i++)
        if (strcmp(key, "certificates") != 0) esp_jsonw_value(w, key, value.value);
}

static esp_code object_result(esp_db *db, const job_run *run, esp_buf *out, esp_error *reterr) {
    esp_json *json = NULL;
    esp_code code = esp_json_parse(run->payload.data, run->payload.len, &json, reterr);
    if (code) return code;
    esp_reader root = esp_reader_root(json);
    esp_jsonw w = esp_jsonw_on(out);
    esp_jsonw_object(&w, NULL);
    if (strcmp(run->kind, "certify") != 0) put_made(&w, run, &root);
    if (strcmp(run->kind, "distill") != 0) code = register_certificates(db, run, &root, &w, reterr);
    esp_jsonw_object_end(&w);
    esp_json_free(json);
    return code;
}

/* The models, and which of them met the target, if there was one. */
static esp_code rungs_result(const job_run *run, esp_buf *out, esp_error *reterr) {
    esp_json *models = NULL, *payload = NULL;
    esp_buf list = {0};
    esp_buf_puts(&list, "[");
    if (run->models.len) esp_buf_put(&list, run->models.data, run->models.len);
    esp_buf_puts(&list, "]");
    esp_code code =
        list.failed ? esp_fail(reterr, ESP_NOMEM, "no memory for the job's result") : esp_json_parse(list.data, list.len, &models, reterr);
    if (!code) code = esp_json_parse(run->payload.data, run->payload.len, &payload, reterr);
    if (!code) {
        int64_t chosen = -1;
        esp_jsonw w = esp_jsonw_on(out);
        esp_reader root = esp_reader_root(payload), all = esp_reader_root(models), target = esp_read_member(&root, "target");
        esp_reader number = target.value ? esp_read_member(&target, "model") : (esp_reader){0};
        code = esp_read_integer(&number, 0, INT32_MAX, &chosen, reterr);
        esp_reader model = chosen >= 0 ? esp_read_element(&all, (size_t)chosen) : (esp_reader){0};
        esp_jsonw_object(&w, NULL);
        esp_jsonw_value(&w, "models", models);
        if (target.value) {
            esp_jsonw_object(&w, "target");
            esp_jsonw_bool(&w, "met", model.value != NULL);
            if (model.value) esp_jsonw_value(&w, "model", model.value);
            esp_jsonw_object_end(&w);
        }
        esp_jsonw_object_end(&w);
    }
    esp_json_free(models);
    esp_json_free(payload);
    esp_buf_done(&list);
    return code;
}

esp_code job_result(esp_db *db, job_run *run, esp_buf *ret_result, esp_error *reterr) {
    esp_code code = ESP_OK;
    if (job_makes_rungs(run)) {
        code = rungs_result(run, ret_result, reterr);
    } else if (strcmp(run->kind, "evaluate") != 0) {
        code = object_result(db, run, ret_result, reterr);
    } else {
        esp_buf_put(ret_result, run->payload.data, run->payload.len);
    }
    if (!code && (ret_result->failed || run->payload.failed)) code = esp_fail(reterr, ESP_NOMEM, "no memory for the job's result");
    return code;
}
