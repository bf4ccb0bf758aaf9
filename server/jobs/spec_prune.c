/* SPDX-License-Identifier: Apache-2.0
 * Checking a prune job at the door: the fields by lib/sparsify, the refs and their sizes here. */
#include <string.h>

#include "certify/certificate.h"
#include "jobs/spec.h"
#include "sparsify/prune.h"

/* A dataset records what a robot did next, and not what a policy should have said. */
static esp_code check_target(const esp_reader *spec, const esp_model_row *model, const esp_prune_spec *parsed, esp_error *reterr) {
    esp_reader tune = esp_read_member(spec, "fine_tune"), target = esp_read_member(&tune, "target");
    if (!target.value || !parsed->tune.to_data || strcmp(model->kind, "policy") != 0) return ESP_OK;
    return spec_unprocessable(&target, reterr, "a dataset has no outputs for a policy; its target is the model");
}

static esp_code check_fields(const esp_reader *spec, const esp_model_row *model, esp_error *reterr) {
    esp_prune_spec parsed;
    esp_arena *arena = esp_arena_create(0);
    esp_code code = arena ? esp_prune_spec_parse(spec, spec_n_x(model), arena, &parsed, reterr) : esp_fail(reterr, ESP_NOMEM, "no memory for a spec");
    esp_arena_free(arena);
    return code ? code : check_target(spec, model, &parsed, reterr);
}

/* A policy sees the observations of a dataset, whatever was done there. */
static esp_code check_dataset(const esp_reader *spec, const esp_model_row *model, esp_db *db, refs *ret, esp_error *reterr) {
    esp_dataset_row dataset;
    esp_reader member = esp_read_member(spec, "dataset");
    if (!member.value) return ESP_OK;
    esp_code code = spec_find_dataset(spec, "dataset", db, &dataset, reterr);
    if (code) return code;
    bool policy = strcmp(model->kind, "policy") == 0;
    if (dataset.ny != model->ny || (!policy && dataset.nu != model->nu))
        return spec_unprocessable(&member, reterr, "the dataset's sizes (ny %d, nu %d) are not the model's", (int)dataset.ny, (int)dataset.nu);
    memcpy(ret->dataset, dataset.id, sizeof ret->dataset);
    return ESP_OK;
}

esp_code spec_check_prune(const esp_reader *spec, esp_db *db, refs *ret, esp_error *reterr) {
    esp_model_row model;
    int norm = 0;
    esp_reader domain = esp_read_member(spec, "domain"), member = esp_read_member(spec, "norm");
    esp_code code = spec_find_plain(spec, "model", db, &model, reterr);
    if (!code) code = check_fields(spec, &model, reterr);
    if (!code && domain.value) code = spec_check_domain(spec, &model, db, ret, reterr);
    if (!code) code = check_dataset(spec, &model, db, ret, reterr);
    if (!code) code = esp_read_choice(&member, esp_norm_names, &norm, reterr);
    if (!code) code = spec_check_name(spec, reterr);
    if (!code) memcpy(ret->model, model.id, sizeof ret->model);
    return code;
}
