/* SPDX-License-Identifier: Apache-2.0
 * Checking a sparsify job at the door: the fields by lib/train, the refs and their sizes here. */
#include <string.h>

#include "jobs/spec.h"
#include "train/train.h"

static esp_code check_sizes(const esp_reader *spec, const esp_model_row *model, const esp_dataset_row *dataset, esp_error *reterr) {
    esp_reader member = esp_read_member(spec, "model");
    if (strcmp(model->kind, "dynamics") != 0)
        return spec_unprocessable(&member, reterr, "is a %s; only dynamics models are sparsified, for others there is prune", model->kind);
    member = esp_read_member(spec, "dataset");
    if (dataset->ny != model->ny || dataset->nu != model->nu)
        return spec_unprocessable(&member, reterr, "the dataset's sizes (ny %d, nu %d) are not the model's (ny %d, nu %d)", (int)dataset->ny,
                                  (int)dataset->nu, (int)model->ny, (int)model->nu);
    return ESP_OK;
}

esp_code spec_check_sparsify(const esp_reader *spec, esp_db *db, refs *ret, esp_error *reterr) {
    esp_model_row model;
    esp_dataset_row dataset;
    esp_train_opts opts;
    bool stable = false;
    esp_code code = esp_read_object(spec, esp_sparsify_fields, reterr);
    if (!code) code = spec_find_model(spec, "model", db, &model, reterr);
    if (!code) code = spec_find_dataset(spec, "dataset", db, &dataset, reterr);
    if (!code) code = check_sizes(spec, &model, &dataset, reterr);
    bool graph = !code && model.object_size > 0;
    if (!code) code = esp_sparsify_opts_parse(spec, (int)(graph ? model.neurons : model.relu), graph, &opts, &stable, reterr);
    if (!code) code = spec_check_name(spec, reterr);
    if (!code) code = spec_check_target(spec, dataset.ny, dataset.nu, db, ret, reterr);
    if (code) return code;
    memcpy(ret->model, model.id, sizeof ret->model);
    memcpy(ret->dataset, dataset.id, sizeof ret->dataset);
    return ESP_OK;
}
