/* SPDX-License-Identifier: Apache-2.0
 * The options of pruning from a job's spec, and back to JSON. Apart from the numerics: the daemon reads specs too. */
#include <string.h>

#include "sparsify/prune.h"

#define MAX_SAMPLES 1000000
#define MAX_STATES  100000
#define MAX_EPOCHS  100000
#define MAX_BATCH   65536

const char *const esp_prune_method_names[] = {"magnitude", "obd", "obs", "sparsegpt", NULL};
const char *const esp_prune_scope_names[] = {"layer", "network", NULL};
const char *const esp_prune_objective_names[] = {"output", "layer", NULL};
static const char *const pattern_names[] = {"1:2", "2:4", "4:8", NULL};
static const char *const target_names[] = {"model", "data", NULL};
static const int pattern_groups[] = {2, 4, 8};

const char *const esp_prune_fields[] = {"objective", "model",    "dataset", "states",       "domain",  "method",    "scope",
                                        "layers",    "sparsity", "pattern", "error_budget", "damping", "block",     "bias",
                                        "norm",      "name",     "seed",    "time_limit_s", "samples", "fine_tune", NULL};

/* ---- how much ---- */

static esp_code parse_amount(const esp_reader *spec, esp_prune_spec *ret, esp_error *reterr) {
    esp_reader sparsity = esp_read_member(spec, "sparsity"), pattern = esp_read_member(spec, "pattern");
    esp_reader budget = esp_read_member(spec, "error_budget"), domain = esp_read_member(spec, "domain");
    int which = -1, given = (sparsity.value != NULL) + (pattern.value != NULL) + (budget.value != NULL);
    if (given == 0) return esp_refuse(spec, reterr, "one of sparsity, pattern and error_budget is needed");
    if (given > 1) return esp_refuse(budget.value ? &budget : &pattern, reterr, "only one of sparsity, pattern and error_budget can be asked for");
    esp_code code = esp_read_number(&sparsity, 0, 1, &ret->opts.sparsity, reterr);
    if (!code) code = esp_read_choice(&pattern, pattern_names, &which, reterr);
    if (!code) code = esp_read_number(&budget, 0, 1e300, &ret->error_budget, reterr);
    if (code) return code;
    if (which >= 0) ret->opts.group = pattern_groups[which];
    if (budget.value && !(ret->error_budget > 0)) return esp_refuse(&budget, reterr, "must be above 0");
    if (budget.value && !domain.value) return esp_read_required(spec, "domain", &domain, reterr);
    return ESP_OK;
}

static esp_code parse_method(const esp_reader *spec, esp_prune_spec *ret, esp_error *reterr) {
    esp_reader method = esp_read_member(spec, "method"), scope = esp_read_member(spec, "scope"), objective = esp_read_member(spec, "objective");
    int which = ESP_PRUNE_MAGNITUDE, kind = ESP_PRUNE_LAYER, of = ESP_PRUNE_OF_OUTPUT;
    esp_code code = ESP_OK;
    ret->any_method = !method.value;
    ret->any_scope = !scope.value && ret->error_budget > 0;
    if (!method.value && !(ret->error_budget > 0)) code = esp_read_required(spec, "method", &method, reterr);
    if (!code) code = esp_read_choice(&method, esp_prune_method_names, &which, reterr);
    if (!code) code = esp_read_choice(&scope, esp_prune_scope_names, &kind, reterr);
    if (!code) code = esp_read_choice(&objective, esp_prune_objective_names, &of, reterr);
    if (code) return code;
    ret->opts.objective = (esp_prune_objective)of;
    ret->opts.method = (esp_prune_method)which;
    ret->opts.scope = (esp_prune_scope)kind;
    if (kind == ESP_PRUNE_NETWORK && ret->opts.group) return esp_refuse(&scope, reterr, "patterns are made layer by layer");
    return ESP_OK;
}

/* Numbers from 1, in any order, none twice; whether the network has them is seen when it is pruned. */
static esp_code parse_layers(const esp_reader *spec, esp_prune_opts *opts, esp_error *reterr) {
    esp_reader list = esp_read_member(spec, "layers");
    bool chosen[ESP_MAX_LAYERS] = {false};
    size_t n = 0;
    if (!list.value) return ESP_OK;
    esp_code code = esp_read_array(&list, 1, ESP_MAX_LAYERS, &n, reterr);
    for (size_t i = 0; !code && i < n; i++) {
        esp_reader element = esp_read_element(&list, i);
        int number = 1;
        code = esp_read_int(&element, 1, ESP_MAX_LAYERS, &number, reterr);
        if (!code && chosen[number - 1]) code = esp_refuse(&element, reterr, "layer %d is there already", number);
        if (!code) chosen[number - 1] = true;
    }
    if (code) return code;
    for (int k = 0; k < ESP_MAX_LAYERS; k++)
        if (chosen[k]) opts->layers[opts->n_layers++] = k;
    return ESP_OK;
}

/* ---- calibration ---- */

static esp_code parse_states(const esp_reader *spec, int n_x, esp_arena *arena, esp_prune_spec *ret, esp_error *reterr) {
    esp_reader list = esp_read_member(spec, "states"), dataset = esp_read_member(spec, "dataset");
    size_t n = 0;
    if (!list.value) return ESP_OK;
    if (dataset.value) return esp_refuse(&list, reterr, "either a dataset or states, not both");
    esp_code code = esp_read_array(&list, 1, MAX_STATES, &n, reterr);
    for (size_t i = 0; !code && i < n; i++) { /* first of all: what is asked for then is no more than what came */
        size_t width = 0;
        esp_reader row = esp_read_element(&list, i);
        code = esp_read_array(&row, (size_t)n_x, (size_t)n_x, &width, reterr);
    }
    if (code) return code;
    double *states = ESP_NEW(arena, double, n *(size_t)n_x);
    if (!states) return esp_fail(reterr, ESP_NOMEM, "no memory for %zu states", n);
    for (size_t i = 0; !code && i < n; i++) {
        esp_reader row = esp_read_element(&list, i);
        code = esp_read_vector(&row, (size_t)n_x, states + i * (size_t)n_x, reterr);
    }
    ret->states = states;
    ret->n_states = n;
    return code;
}

static esp_code parse_numbers(const esp_reader *spec, esp_prune_spec *ret, esp_error *reterr) {
    int64_t samples = 4000, seed = 0;
    esp_reader member = esp_read_member(spec, "damping");
    esp_code code = esp_read_number(&member, 0, 1e6, &ret->opts.damping, reterr);
    member = esp_read_member(spec, "block");
    if (!code) code = esp_read_int(&member, 1, ESP_MAX_WIDTH, &ret->opts.block, reterr);
    member = esp_read_member(spec, "bias");
    if (!code) code = esp_read_bool(&member, &ret->opts.bias, reterr);
    member = esp_read_member(spec, "samples");
    if (!code) code = esp_read_integer(&member, 1, MAX_SAMPLES, &samples, reterr);
    member = esp_read_member(spec, "seed");
    if (!code) code = esp_read_integer(&member, 0, INT64_MAX, &seed, reterr);
    ret->time_limit_s = ret->error_budget > 0 ? 60 : 5;
    member = esp_read_member(spec, "time_limit_s");
    if (!code) code = esp_read_number(&member, 0.001, 86400, &ret->time_limit_s, reterr);
    ret->samples = (size_t)samples;
    ret->seed = (uint64_t)seed;
    return code;
}

/* Every method but magnitude looks at the network at work. */
static esp_code check_calibration(const esp_reader *spec, const esp_prune_spec *parsed, esp_error *reterr) {
    esp_reader method = esp_read_member(spec, "method"), dataset = esp_read_member(spec, "dataset"), domain = esp_read_member(spec, "domain");
    if (parsed->opts.method == ESP_PRUNE_MAGNITUDE || dataset.value || domain.value || parsed->n_states) return ESP_OK;
    return esp_refuse(&method, reterr, "%s needs calibration inputs: dataset, states or domain", esp_prune_method_names[parsed->opts.method]);
}

/* ---- fine-tuning ---- */

/* Recorded outputs where there are any, unless a budget promises closeness to the model. */
static esp_code parse_target(const esp_reader *spec, const esp_reader *tune, esp_prune_spec *ret, esp_error *reterr) {
    esp_reader target = esp_read_member(tune, "target"), dataset = esp_read_member(spec, "dataset");
    int which = dataset.value && !(ret->error_budget > 0);
    esp_code code = esp_read_choice(&target, target_names, &which, reterr);
    if (!code && which && !dataset.value) code = esp_refuse(&target, reterr, "only a dataset has recorded outputs");
    ret->tune.to_data = which;
    return code;
}

static esp_code parse_tune(const esp_reader *spec, esp_prune_spec *ret, esp_error *reterr) {
    static const char *const fields[] = {"target", "epochs", "batch", "learning_rate", "weight_decay", NULL};
    esp_reader tune = esp_read_member(spec, "fine_tune"), dataset = esp_read_member(spec, "dataset"), domain = esp_read_member(spec, "domain");
    ret->tune = (esp_prune_tune){.batch = 64, .learning_rate = 0.002};
    if (!tune.value) return ESP_OK;
    ret->tune.asked = true;
    esp_code code = esp_read_object(&tune, fields, reterr);
    if (!code && !dataset.value && !domain.value && !ret->n_states)
        code = esp_refuse(&tune, reterr, "fine-tuning needs calibration inputs: dataset, states or domain");
    if (!code) code = parse_target(spec, &tune, ret, reterr);
    esp_reader member = esp_read_member(&tune, "epochs");
    if (!code) code = esp_read_int(&member, 0, MAX_EPOCHS, &ret->tune.epochs, reterr);
    member = esp_read_member(&tune, "batch");
    if (!code) code = esp_read_int(&member, 1, MAX_BATCH, &ret->tune.batch, reterr);
    member = esp_read_member(&tune, "learning_rate");
    if (!code) code = esp_read_number(&member, 1e-9, 10, &ret->tune.learning_rate, reterr);
    member = esp_read_member(&tune, "weight_decay");
    return code ? code : esp_read_number(&member, 0, 100, &ret->tune.weight_decay, reterr);
}

esp_code esp_prune_spec_parse(const esp_reader *spec, int n_x, esp_arena *arena, esp_prune_spec *ret_spec, esp_error *reterr) {
    esp_prune_spec parsed = {.opts = ESP_PRUNE_OPTS_INIT};
    esp_code code = esp_read_object(spec, esp_prune_fields, reterr);
    if (!code) code = parse_amount(spec, &parsed, reterr);
    if (!code) code = parse_method(spec, &parsed, reterr);
    if (!code) code = parse_layers(spec, &parsed.opts, reterr);
    if (!code) code = parse_numbers(spec, &parsed, reterr);
    if (!code) code = parse_states(spec, n_x, arena, &parsed, reterr);
    if (!code) code = check_calibration(spec, &parsed, reterr);
    if (!code) code = parse_tune(spec, &parsed, reterr);
    if (!code) *ret_spec = parsed;
    return code;
}

void esp_prune_opts_format(const esp_prune_opts *opts, esp_jsonw *w) {
    bool reconstructs = opts->method == ESP_PRUNE_OBS || opts->method == ESP_PRUNE_SPARSEGPT;
    esp_jsonw_string(w, "method", esp_prune_method_names[opts->method]);
    esp_jsonw_string(w, "scope", esp_prune_scope_names[opts->scope]);
    for (int i = 0; opts->group && pattern_names[i]; i++)
        if (pattern_groups[i] == opts->group) esp_jsonw_string(w, "pattern", pattern_names[i]);
    if (!opts->group) esp_jsonw_number(w, "sparsity", opts->sparsity);
    if (reconstructs) esp_jsonw_string(w, "objective", esp_prune_objective_names[opts->objective]);
    if (reconstructs) esp_jsonw_number(w, "damping", opts->damping);
    if (reconstructs) esp_jsonw_bool(w, "bias", opts->bias);
    if (opts->method == ESP_PRUNE_SPARSEGPT) esp_jsonw_integer(w, "block", opts->block);
    if (!opts->n_layers) return;
    esp_jsonw_array(w, "layers");
    for (int i = 0; i < opts->n_layers; i++) esp_jsonw_integer(w, NULL, opts->layers[i] + 1);
    esp_jsonw_array_end(w);
}

void esp_prune_tune_format(const esp_prune_tune *tune, esp_jsonw *w) {
    esp_jsonw_object(w, "fine_tune");
    esp_jsonw_string(w, "target", target_names[tune->to_data]);
    esp_jsonw_integer(w, "epochs", tune->epochs);
    esp_jsonw_integer(w, "batch", tune->batch);
    esp_jsonw_number(w, "learning_rate", tune->learning_rate);
    esp_jsonw_number(w, "weight_decay", tune->weight_decay);
    esp_jsonw_object_end(w);
}
