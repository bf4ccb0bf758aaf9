/* SPDX-License-Identifier: Apache-2.0
 * Checking a job at the door. Refs are resolved here and stored as ids: what "newest" meant is settled when the job is
 * accepted, not when it runs. The rest of the spec is stored as it came. */
#include "jobs/spec.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "certify/certificate.h"
#include "train/train.h"

enum { HORIZON_MAX = 1000, PRIORITY_MAX = 1000 };

/* ---- refs ---- */

esp_code spec_blame(const esp_reader *reader, esp_code code, esp_error *reterr) {
    if (code != ESP_NOT_FOUND || !reterr) return code;
    esp_error found = *reterr;
    esp_refuse(reader, reterr, "%s", found.message);
    reterr->code = ESP_UNPROCESSABLE;
    return ESP_UNPROCESSABLE;
}

esp_code spec_find_dataset(const esp_reader *object, const char *key, esp_db *db, esp_dataset_row *ret, esp_error *reterr) {
    esp_reader member;
    const char *ref = NULL;
    esp_code code = esp_read_required(object, key, &member, reterr);
    if (!code) code = esp_read_string(&member, REF_MAX, &ref, reterr);
    return code ? code : spec_blame(&member, esp_dataset_find(db, ref, ret, reterr), reterr);
}

/* The texts of the row are not needed here and are given back at once. */
esp_code spec_find_model(const esp_reader *object, const char *key, esp_db *db, esp_model_row *ret, esp_error *reterr) {
    esp_reader member;
    const char *ref = NULL;
    esp_code code = esp_read_required(object, key, &member, reterr);
    if (!code) code = esp_read_string(&member, REF_MAX, &ref, reterr);
    if (!code) code = spec_blame(&member, esp_model_find(db, ref, ret, reterr), reterr);
    if (!code) esp_model_row_done(ret);
    return code;
}

esp_code spec_find_plain(const esp_reader *object, const char *key, esp_db *db, esp_model_row *ret, esp_error *reterr) {
    esp_reader member = esp_read_member(object, key);
    esp_code code = spec_find_model(object, key, db, ret, reterr);
    if (code || !ret->object_size) return code;
    return spec_unprocessable(&member, reterr, "is a graph network; this job takes plain ones: upload its plain form for a state, artifact?y=");
}

int spec_n_x(const esp_model_row *row) {
    bool policy = strcmp(row->kind, "policy") == 0;
    return (int)(policy ? row->ny : row->history * (row->ny + row->nu));
}

/* ---- train ---- */

esp_code spec_check_name(const esp_reader *spec, esp_error *reterr) {
    const char *name = NULL;
    esp_reader member = esp_read_member(spec, "name");
    esp_code code = esp_read_string(&member, ESP_NAME_MAX, &name, reterr);
    if (code || !name || esp_name_ok(name)) return code;
    return esp_refuse(&member, reterr, "a name starts with a letter or digit and holds only those and . _ -");
}

static esp_code check_train(const esp_reader *spec, esp_db *db, refs *ret, esp_error *reterr) {
    esp_dataset_row dataset;
    esp_train_opts opts;
    esp_reader member;
    esp_arena *arena = NULL;
    esp_code code = esp_read_object(spec, esp_train_fields, reterr);
    if (!code) code = spec_find_dataset(spec, "dataset", db, &dataset, reterr);
    if (!code) code = esp_read_required(spec, "name", &member, reterr);
    if (!code) code = spec_check_name(spec, reterr);
    if (code) return code;
    arena = esp_arena_create(64 << 20);
    if (!arena) return esp_fail(reterr, ESP_NOMEM, "no memory to check a spec");
    code = esp_train_opts_parse(spec, (int)dataset.ny, (int)dataset.nu, arena, &opts, reterr);
    if (!code) code = spec_check_target(spec, dataset.ny, dataset.nu, db, ret, reterr);
    if (!code) memcpy(ret->dataset, dataset.id, sizeof ret->dataset);
    esp_arena_free(arena);
    return code;
}

/* ---- certify ---- */

static esp_code check_methods(const esp_reader *spec, const esp_model_row *model, int norm, esp_error *reterr) {
    enum { TWIN = 3, EXACT = 5 };
    static const char *const names[] = {"closed_form", "interval", "crown", "twin", "split", "exact", NULL};
    size_t n = 0;
    bool policy = strcmp(model->kind, "policy") == 0;
    esp_reader list = esp_read_member(spec, "methods");
    if (!list.value) return ESP_OK;
    esp_code code = esp_read_array(&list, 1, 6, &n, reterr);
    for (size_t i = 0; !code && i < n; i++) {
        int which = 0;
        esp_reader element = esp_read_element(&list, i);
        code = esp_read_choice(&element, names, &which, reterr);
        if (!code && which == TWIN && !esp_read_member(spec, "reference").value) code = esp_refuse(&element, reterr, "needs a reference");
        if (!code && which == EXACT && norm == ESP_NORM_2 && (policy ? model->nu : model->ny) > 1)
            code = esp_refuse(&element, reterr, "is for the norm linf, or for one output");
    }
    return code;
}

/* The numbers that a domain must have: for a graph network as many as make up objects, those of its own otherwise. */
static int n_x_of_box(const esp_reader *domain, const esp_model_row *model) {
    esp_reader lower = esp_read_member(domain, "lower");
    size_t n = 0;
    bool fits = model->object_size && !esp_read_array(&lower, 1, ESP_MAX_WIDTH, &n, NULL) && esp_model_row_takes(model, (int64_t)n - model->nu);
    return fits ? (int)n : spec_n_x(model);
}

esp_code spec_check_domain(const esp_reader *spec, const esp_model_row *model, esp_db *db, refs *ret, esp_error *reterr) {
    static const char *const fields[] = {"dataset", "margin", NULL};
    esp_reader domain;
    esp_box box;
    esp_code code = esp_read_required(spec, "domain", &domain, reterr);
    if (code) return code;
    if (!esp_read_member(&domain, "dataset").value) {
        esp_arena *arena = esp_arena_create(0);
        code = arena ? esp_box_parse(&domain, n_x_of_box(&domain, model), arena, &box, reterr)
                     : esp_fail(reterr, ESP_NOMEM, "no memory to check a domain");
        esp_arena_free(arena);
        return code;
    }
    esp_dataset_row dataset;
    double margin = 0;
    esp_reader member = esp_read_member(&domain, "margin");
    code = esp_read_object(&domain, fields, reterr);
    if (!code) code = esp_read_number(&member, 0, 1e6, &margin, reterr);
    if (!code) code = spec_find_dataset(&domain, "dataset", db, &dataset, reterr);
    if (code) return code;
    if (!esp_model_row_takes(model, dataset.ny) || dataset.nu != model->nu || strcmp(model->kind, "dynamics") != 0) {
        member = esp_read_member(&domain, "dataset");
        code = esp_refuse(&member, reterr, "the dataset's sizes (ny %d, nu %d) are not the model's", (int)dataset.ny, (int)dataset.nu);
        if (reterr) reterr->code = ESP_UNPROCESSABLE;
        return ESP_UNPROCESSABLE;
    }
    memcpy(ret->domain_dataset, dataset.id, sizeof ret->domain_dataset);
    return ESP_OK;
}

static esp_code check_reference(const esp_reader *spec, const esp_model_row *model, esp_db *db, refs *ret, esp_error *reterr) {
    esp_model_row reference;
    esp_reader member = esp_read_member(spec, "reference");
    if (!member.value) return ESP_OK;
    esp_code code = spec_find_model(spec, "reference", db, &reference, reterr);
    if (code) return code;
    bool alike = strcmp(reference.kind, model->kind) == 0 && reference.ny == model->ny && reference.nu == model->nu &&
                 reference.history == model->history && reference.object_size == model->object_size;
    if (!alike) {
        esp_refuse(&member, reterr, "the reference has other inputs or outputs than the model");
        if (reterr) reterr->code = ESP_UNPROCESSABLE;
        return ESP_UNPROCESSABLE;
    }
    memcpy(ret->reference, reference.id, sizeof ret->reference);
    return ESP_OK;
}

static esp_code check_certify(const esp_reader *spec, esp_db *db, refs *ret, esp_error *reterr) {
    static const char *const fields[] = {"model", "reference", "domain", "norm", "methods", "time_limit_s", NULL};
    esp_model_row model;
    double time_limit_s = 5;
    int norm = ESP_NORM_INF;
    if (esp_read_member(spec, "kind").value) return spec_check_certify_kind(spec, db, ret, reterr);
    esp_code code = esp_read_object(spec, fields, reterr);
    if (!code) code = spec_find_model(spec, "model", db, &model, reterr);
    if (!code) code = check_reference(spec, &model, db, ret, reterr);
    if (!code) code = spec_check_domain(spec, &model, db, ret, reterr);
    esp_reader member = esp_read_member(spec, "norm");
    if (!code) code = esp_read_choice(&member, esp_norm_names, &norm, reterr);
    if (!code) code = check_methods(spec, &model, norm, reterr);
    member = esp_read_member(spec, "time_limit_s");
    if (!code) code = esp_read_number(&member, 0.001, 86400, &time_limit_s, reterr);
    if (!code) memcpy(ret->model, model.id, sizeof ret->model);
    return code;
}

/* ---- evaluate ---- */

static esp_code check_evaluate(const esp_reader *spec, esp_db *db, refs *ret, esp_error *reterr) {
    static const char *const fields[] = {"model", "dataset", "horizon", NULL};
    esp_model_row model;
    esp_dataset_row dataset;
    esp_reader member;
    int horizon = 0;
    esp_code code = esp_read_object(spec, fields, reterr);
    if (!code) code = spec_find_model(spec, "model", db, &model, reterr);
    if (!code) code = spec_find_dataset(spec, "dataset", db, &dataset, reterr);
    if (!code) code = esp_read_required(spec, "horizon", &member, reterr);
    if (!code) code = esp_read_int(&member, 1, HORIZON_MAX, &horizon, reterr);
    if (code) return code;
    if (strcmp(model.kind, "dynamics") != 0 || !esp_model_row_takes(&model, dataset.ny) || dataset.nu != model.nu) {
        member = esp_read_member(spec, "dataset");
        esp_refuse(&member, reterr, "the dataset's sizes (ny %d, nu %d) are not those of a dynamics model", (int)dataset.ny, (int)dataset.nu);
        if (reterr) reterr->code = ESP_UNPROCESSABLE;
        return ESP_UNPROCESSABLE;
    }
    memcpy(ret->model, model.id, sizeof ret->model);
    memcpy(ret->dataset, dataset.id, sizeof ret->dataset);
    return ESP_OK;
}

/* ---- the job ---- */

const char *const esp_job_kind_names[] = {"train", "sparsify", "certify", "evaluate", "prune", "distill", NULL};
static esp_code (*const checks[])(const esp_reader *spec, esp_db *db, refs *ret, esp_error *reterr) = {
    check_train, spec_check_sparsify, check_certify, check_evaluate, spec_check_prune, spec_check_distill}; /* in the order of the names */

/* An object of the spec that has a ref under `ref`, with its id. */
static void put_with_id(esp_jsonw *w, const char *name, const esp_reader *object, const char *ref, const char *id) {
    const char *key = NULL;
    esp_reader value;
    esp_jsonw_object(w, name);
    for (size_t i = 0; esp_read_entry(object, i, &key, &value); i++) {
        if (strcmp(key, ref) == 0)
            esp_jsonw_string(w, key, id);
        else
            esp_jsonw_value(w, key, value.value);
    }
    esp_jsonw_object_end(w);
}

/* The spec with ids for refs. */
static void put_spec(const esp_reader *spec, const refs *r, esp_buf *out) {
    const char *key = NULL;
    esp_reader value;
    esp_jsonw w = esp_jsonw_on(out);
    esp_jsonw_object(&w, NULL);
    for (size_t i = 0; esp_read_entry(spec, i, &key, &value); i++) {
        if (strcmp(key, "dataset") == 0)
            esp_jsonw_string(&w, key, r->dataset);
        else if ((strcmp(key, "model") == 0 || strcmp(key, "policy") == 0) && *r->model)
            esp_jsonw_string(&w, key, r->model);
        else if (strcmp(key, "reference") == 0 && *r->reference)
            esp_jsonw_string(&w, key, r->reference);
        else if (strcmp(key, "dynamics") == 0 && *r->dynamics)
            esp_jsonw_string(&w, key, r->dynamics);
        else if (strcmp(key, "task") == 0 && *r->task)
            esp_jsonw_string(&w, key, r->task);
        else if (strcmp(key, "domain") == 0 && *r->domain_dataset)
            put_with_id(&w, key, &value, "dataset", r->domain_dataset);
        else if (strcmp(key, "target") == 0 && *r->task)
            put_with_id(&w, key, &value, "task", r->task);
        else
            esp_jsonw_value(&w, key, value.value);
    }
    esp_jsonw_object_end(&w);
}

esp_code esp_job_parse(const esp_reader *reader, esp_db *db, esp_job_row *ret_row, esp_error *reterr) {
    static const char *const fields[] = {"kind", "spec", "priority", "run_limit_s", NULL};
    esp_job_row row = {.run_limit_s = 0};
    refs found = {0};
    int kind = 0;
    esp_reader spec, member;
    esp_buf text = {0};
    esp_code code = esp_read_object(reader, fields, reterr);
    if (!code) code = esp_read_required(reader, "kind", &member, reterr);
    if (!code) code = esp_read_choice(&member, esp_job_kind_names, &kind, reterr);
    if (!code) code = esp_read_required(reader, "spec", &spec, reterr);
    if (!code && esp_reader_kind(&spec) != ESP_JSON_OBJECT) code = esp_refuse(&spec, reterr, "must be an object");
    member = esp_read_member(reader, "priority");
    if (!code) code = esp_read_integer(&member, -PRIORITY_MAX, PRIORITY_MAX, &row.priority, reterr);
    member = esp_read_member(reader, "run_limit_s");
    if (!code) code = esp_read_number(&member, 0.001, 1e7, &row.run_limit_s, reterr);
    if (!code) code = checks[kind](&spec, db, &found, reterr);
    if (code) return code;
    strcpy(row.kind, esp_job_kind_names[kind]);
    put_spec(&spec, &found, &text);
    row.spec = esp_buf_take(&text, NULL);
    if (!row.spec) return esp_fail(reterr, ESP_NOMEM, "no memory for the job");
    *ret_row = row;
    return ESP_OK;
}
