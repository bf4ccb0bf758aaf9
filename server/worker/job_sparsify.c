/* SPDX-License-Identifier: Apache-2.0
 * The sparsify job's own parts: a registered model in, the rungs of its ladder out. What it shares with training, and that is
 * all of the run, is in job_train.c. */
#include "data/dataset.h"
#include "worker/train_parts.h"

/* The seed that splits the data, and the share kept for validation, are those that the model was trained with on the same data,
 * unless the spec says otherwise: what it has seen must not validate what comes of it. */
static esp_code take_split(const esp_reader *spec, const esp_reader *model, esp_train_opts *opts, esp_error *reterr) {
    int64_t seed = (int64_t)opts->seed;
    double validation = opts->validation;
    esp_reader made = esp_read_member(model, "spec"), how = esp_read_member(&made, "train");
    if (!how.value) how = esp_read_member(&made, "sparsify");
    if (!how.value) return ESP_OK;
    esp_reader its_seed = esp_read_member(&how, "seed"), its_validation = esp_read_member(&how, "validation");
    esp_code code = esp_read_integer(&its_seed, 0, INT64_MAX, &seed, reterr);
    if (!code) code = esp_read_number(&its_validation, 0, 0.9, &validation, reterr);
    if (code) return code;
    if (!esp_read_member(spec, "seed").value) opts->seed = (uint64_t)seed;
    if (!esp_read_member(spec, "validation").value) opts->validation = validation;
    return ESP_OK;
}

esp_code sparsify_read(worker *w, const esp_reader *payload, const esp_dataset *data, sparsification *s, esp_train_opts *ret_opts,
                       esp_error *reterr) {
    worker_model *start = NULL;
    esp_reader spec = esp_read_member(payload, "spec"), model = esp_read_member(payload, "model");
    esp_code code = worker_model_get(w, &model, &start, reterr);
    const esp_graph *graph = code ? NULL : start->model->graph;
    if (!code)
        code = esp_sparsify_opts_parse(&spec, graph ? esp_graph_neurons(graph) : esp_net_relus(start->model->net), graph != NULL, ret_opts,
                                       &s->stable, reterr);
    if (!code) code = esp_sparsify_opts_start(&spec, start->model, ret_opts, reterr);
    if (!code) code = take_split(&spec, &model, ret_opts, reterr);
    if (!code && (data->ny != start->model->ny || data->nu != start->model->nu))
        code = esp_fail(reterr, ESP_INTERNAL, "a dataset of other sizes than the model's came through the door");
    return code;
}

esp_code sparsify_refine(sparsification *s, const esp_box *box, esp_model **model, esp_error *reterr) {
    esp_model *resolved = NULL;
    if (!s->stable) return ESP_OK;
    esp_code code = esp_stable_resolve(*model, box, &resolved, &s->resolved, reterr);
    if (code) return code;
    esp_model_free(*model);
    *model = resolved;
    return ESP_OK;
}

void sparsify_put_spec(const sparsification *s, const esp_train_opts *opts, esp_jsonw *json) {
    esp_jsonw_string(json, "method", esp_sparsify_method_names[opts->method]);
    if (!s->stable) return;
    esp_jsonw_object(json, "resolved");
    esp_jsonw_string(json, "domain", "data_box");
    esp_jsonw_integer(json, "linear", s->resolved.linear);
    esp_jsonw_integer(json, "zero", s->resolved.zero);
    esp_jsonw_object_end(json);
}
