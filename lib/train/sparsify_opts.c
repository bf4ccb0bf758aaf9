/* SPDX-License-Identifier: Apache-2.0
 * The options of sparsification: from a job's spec and the model it starts from, and back to JSON. */
#include <string.h>

#include "train/opts_parts.h"

const char *const esp_sparsify_method_names[] = {"gumbel", "channel", NULL};

const char *const esp_sparsify_fields[] = {"model", "dataset", "name", "method", "stable", "distill_weight", ESP_RUN_FIELDS, NULL};

/* There is no dense stage here, so that both names of an epoch count mean a rung's. */
static esp_code settle_epochs(const esp_reader *spec, esp_train_opts *opts, esp_error *reterr) {
    esp_reader epochs = esp_read_member(spec, "epochs"), rung_epochs = esp_read_member(spec, "rung_epochs");
    if (epochs.value && rung_epochs.value) return esp_refuse(&epochs, reterr, "and rung_epochs both say how long a rung is trained: give one");
    if (epochs.value) opts->rung_epochs = opts->epochs;
    opts->epochs = 0;
    return ESP_OK;
}

static esp_code parse_rungs(const esp_reader *spec, int relu, esp_train_opts *opts, esp_error *reterr) {
    esp_reader ladder = esp_read_member(spec, "ladder");
    size_t n;
    esp_code code = ESP_OK;
    if (!esp_read_member(spec, "target").value) code = esp_read_required(spec, "ladder", &ladder, reterr);
    if (code == ESP_OK && ladder.value) code = esp_read_array(&ladder, 1, ESP_MAX_RUNGS, &n, reterr);
    return code != ESP_OK ? code : esp_ladder_parse(spec, relu, "the number of the model's ReLUs", opts, reterr);
}

esp_code esp_sparsify_opts_parse(const esp_reader *spec, int relu, esp_train_opts *ret_opts, bool *ret_stable, esp_error *reterr) {
    static const char *const domains[] = {"none", "data_box", NULL};
    esp_train_opts opts;
    int method = ESP_SPARSIFY_GUMBEL, stable = 0;
    esp_train_opts_init(&opts);
    esp_code code = esp_read_object(spec, esp_sparsify_fields, reterr);
    esp_reader member = esp_read_member(spec, "method");
    if (code == ESP_OK) code = esp_read_choice(&member, esp_sparsify_method_names, &method, reterr);
    if (code == ESP_OK) code = esp_numbers_parse(spec, &opts, reterr);
    if (code == ESP_OK) code = settle_epochs(spec, &opts, reterr);
    member = esp_read_member(spec, "distill_weight");
    if (code == ESP_OK) code = esp_read_number(&member, 0, 1, &opts.distill_weight, reterr);
    member = esp_read_member(spec, "stable");
    if (code == ESP_OK) code = esp_read_choice(&member, domains, &stable, reterr);
    if (code == ESP_OK) code = parse_rungs(spec, relu, &opts, reterr);
    if (code != ESP_OK) return code;
    opts.method = (esp_sparsify_method)method;
    *ret_opts = opts;
    *ret_stable = stable != 0;
    return ESP_OK;
}

static bool is_linear(const esp_layer *layer) {
    for (int i = 0; i < layer->n_out; i++)
        if (layer->act[i] != ESP_ACT_IDENTITY) return false;
    return true;
}

esp_code esp_sparsify_opts_start(const esp_reader *spec, const esp_model *model, esp_train_opts *opts, esp_error *reterr) {
    const esp_net *net = model->net;
    int n_hidden = net->n_layers - 1;
    esp_reader member = esp_read_member(spec, "model");
    esp_code code = ESP_OK;
    if (n_hidden > ESP_MAX_HIDDEN)
        code = esp_refuse(&member, reterr, "has %d hidden layers; at most %d can be trained", n_hidden, ESP_MAX_HIDDEN);
    else if (!is_linear(&net->layers[n_hidden]))
        code = esp_refuse(&member, reterr, "has outputs that are not linear; such a network cannot be trained");
    if (code != ESP_OK) {
        if (reterr) reterr->code = ESP_UNPROCESSABLE;
        return ESP_UNPROCESSABLE;
    }
    opts->n_hidden = n_hidden;
    for (int l = 0; l < n_hidden; l++) opts->hidden[l] = net->layers[l].n_out;
    opts->history = model->history;
    opts->frame = model->frame;
    opts->f_in = esp_net_inputs(net);
    opts->f_out = esp_net_outputs(net);
    opts->start = model;
    return ESP_OK;
}

void esp_sparsify_opts_format(const esp_train_opts *opts, bool stable, esp_jsonw *w) {
    esp_jsonw_object(w, NULL);
    esp_jsonw_string(w, "method", esp_sparsify_method_names[opts->method]);
    esp_numbers_format(opts, w);
    esp_jsonw_number(w, "distill_weight", opts->distill_weight);
    esp_jsonw_string(w, "stable", stable ? "data_box" : "none");
    esp_jsonw_object_end(w);
}
