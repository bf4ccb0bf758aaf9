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

esp_code esp_sparsify_opts_parse(const esp_reader *spec, int relu, bool graph, esp_train_opts *ret_opts, bool *ret_stable, esp_error *reterr) {
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
    if (code == ESP_OK && graph && stable) return esp_refuse(&member, reterr, "is for plain networks only");
    if (code == ESP_OK && graph) code = esp_graph_opts_check(spec, &opts, reterr);
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

/* The network that is trained has these layers, in these places, and no others. Returns what of the model is not so, or NULL. */
static const char *misfit(const esp_graph *graph) {
    const esp_net *output = graph->block[ESP_OUTPUT];
    for (int b = 0; b < ESP_BLOCKS; b++)
        if (graph->block[b]->n_layers > ESP_MAX_HIDDEN + 1) return "has a network of more layers than can be trained";
    if (graph->block[ESP_MESSAGE]->n_layers != 1) return "has hidden layers in its messages; such a graph network cannot be trained";
    if (graph->block[ESP_UPDATE]->n_layers != 1) return "has hidden layers in its updates; such a graph network cannot be trained";
    for (int b = ESP_NODE; b <= ESP_MESSAGE; b++)
        if (esp_net_outputs(graph->block[b]) != esp_net_outputs(graph->block[ESP_UPDATE]))
            return "has encoders and messages of different widths; such a graph network cannot be trained";
    return is_linear(&output->layers[output->n_layers - 1]) ? NULL : "has outputs that are not linear; such a network cannot be trained";
}

static int take_widths(const esp_net *block, int *ret_widths) {
    for (int l = 0; l + 1 < block->n_layers; l++) ret_widths[l] = block->layers[l].n_out;
    return block->n_layers - 1;
}

static esp_code start_graph(const esp_reader *model, const esp_graph *graph, esp_train_opts *opts, esp_error *reterr) {
    esp_graph_opts *g = &opts->graph;
    const char *why = misfit(graph);
    if (why) return esp_refuse(model, reterr, "%s", why);
    *g = (esp_graph_opts){.layout = graph->layout, .width = esp_net_outputs(graph->block[ESP_UPDATE])};
    g->n_node = take_widths(graph->block[ESP_NODE], g->node);
    g->n_edge = take_widths(graph->block[ESP_EDGE], g->edge);
    g->n_output = take_widths(graph->block[ESP_OUTPUT], g->output);
    opts->history = 1;
    opts->frame = (esp_frame){.kind = ESP_FRAME_RESIDUAL};
    return ESP_OK;
}

static esp_code start_plain(const esp_reader *member, const esp_model *model, esp_train_opts *opts, esp_error *reterr) {
    const esp_net *net = model->net;
    int n_hidden = net->n_layers - 1;
    if (n_hidden > ESP_MAX_HIDDEN) return esp_refuse(member, reterr, "has %d hidden layers; at most %d can be trained", n_hidden, ESP_MAX_HIDDEN);
    if (!is_linear(&net->layers[n_hidden])) return esp_refuse(member, reterr, "has outputs that are not linear; such a network cannot be trained");
    opts->n_hidden = take_widths(net, opts->hidden);
    opts->history = model->history;
    opts->frame = model->frame;
    opts->f_in = esp_net_inputs(net);
    opts->f_out = esp_net_outputs(net);
    return ESP_OK;
}

esp_code esp_sparsify_opts_start(const esp_reader *spec, const esp_model *model, esp_train_opts *opts, esp_error *reterr) {
    esp_reader member = esp_read_member(spec, "model");
    esp_code code = model->graph ? start_graph(&member, model->graph, opts, reterr) : start_plain(&member, model, opts, reterr);
    if (code != ESP_OK) {
        if (reterr) reterr->code = ESP_UNPROCESSABLE;
        return ESP_UNPROCESSABLE;
    }
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
