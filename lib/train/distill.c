/* SPDX-License-Identifier: Apache-2.0
 * A distill job's options, both ways. */
#include "train/distill.h"

#define MAX_STATES  1000000
#define MAX_NUMBERS 33554432 /* of all answers together with their inputs: 256 MiB */
#define MAX_ROUNDS  50
#define MAX_PLAN_MS 60000
#define MAX_EPOCHS  100000
#define MAX_BATCH   65536

const char *const esp_distill_fields[] = {"task",          "name",          "domain",  "samples",    "hidden", "dagger_rounds",
                                          "round_samples", "regret_states", "plan_ms", "validation", "epochs", "batch",
                                          "learning_rate", "weight_decay",  "seed",    NULL};

size_t esp_distill_most(const esp_distill_opts *opts) {
    return (size_t)opts->samples + (size_t)opts->rounds * (size_t)opts->round_samples;
}

static esp_code parse_hidden(const esp_reader *spec, int n_in, int n_out, esp_regress_opts *opts, esp_error *reterr) {
    esp_reader hidden;
    size_t n = 0;
    int64_t parameters = 0, in = n_in;
    esp_code code = esp_read_required(spec, "hidden", &hidden, reterr);
    if (code == ESP_OK) code = esp_read_array(&hidden, 1, ESP_MAX_HIDDEN, &n, reterr);
    opts->n_hidden = (int)n;
    for (size_t i = 0; code == ESP_OK && i < n; i++) {
        esp_reader width = esp_read_element(&hidden, i);
        code = esp_read_int(&width, 1, ESP_MAX_WIDTH, &opts->hidden[i], reterr);
        parameters += (in + 1) * opts->hidden[i];
        in = opts->hidden[i];
    }
    parameters += (in + 1) * n_out;
    if (code == ESP_OK && parameters > ESP_MAX_PARAMETERS)
        code = esp_refuse(&hidden, reterr, "makes %lld parameters, more than %d", (long long)parameters, ESP_MAX_PARAMETERS);
    return code;
}

static esp_code parse_states(const esp_reader *spec, esp_distill_opts *opts, esp_error *reterr) {
    esp_reader member;
    esp_code code = esp_read_required(spec, "samples", &member, reterr);
    if (code == ESP_OK) code = esp_read_int(&member, 1, MAX_STATES, &opts->samples, reterr);
    member = esp_read_member(spec, "dagger_rounds");
    if (code == ESP_OK) code = esp_read_int(&member, 0, MAX_ROUNDS, &opts->rounds, reterr);
    opts->round_samples = opts->samples > 1 ? opts->samples / 2 : 1;
    member = esp_read_member(spec, "round_samples");
    if (code == ESP_OK) code = esp_read_int(&member, 1, MAX_STATES, &opts->round_samples, reterr);
    member = esp_read_member(spec, "regret_states");
    return code == ESP_OK ? esp_read_int(&member, 0, MAX_STATES, &opts->regret_states, reterr) : code;
}

static esp_code parse_numbers(const esp_reader *spec, esp_distill_opts *opts, esp_error *reterr) {
    int64_t seed = 0;
    esp_reader member = esp_read_member(spec, "plan_ms");
    esp_code code = esp_read_number(&member, 1, MAX_PLAN_MS, &opts->plan_ms, reterr);
    member = esp_read_member(spec, "validation");
    if (code == ESP_OK) code = esp_read_number(&member, 0, 0.9, &opts->validation, reterr);
    member = esp_read_member(spec, "epochs");
    if (code == ESP_OK) code = esp_read_int(&member, 0, MAX_EPOCHS, &opts->regress.epochs, reterr);
    member = esp_read_member(spec, "batch");
    if (code == ESP_OK) code = esp_read_int(&member, 1, MAX_BATCH, &opts->regress.batch, reterr);
    member = esp_read_member(spec, "learning_rate");
    if (code == ESP_OK) code = esp_read_number(&member, 0, 10, &opts->regress.learning_rate, reterr);
    member = esp_read_member(spec, "weight_decay");
    if (code == ESP_OK) code = esp_read_number(&member, 0, 100, &opts->regress.weight_decay, reterr);
    member = esp_read_member(spec, "seed");
    if (code == ESP_OK) code = esp_read_integer(&member, 0, INT64_MAX, &seed, reterr);
    opts->regress.seed = (uint64_t)seed;
    return code;
}

esp_code esp_distill_opts_parse(const esp_reader *spec, int n_in, int n_out, esp_distill_opts *ret_opts, esp_error *reterr) {
    esp_distill_opts opts = {.rounds = 2, .regret_states = 20, .plan_ms = 50, .validation = 0.1, .regress = ESP_REGRESS_OPTS_INIT};
    esp_code code = esp_read_object(spec, esp_distill_fields, reterr);
    if (code == ESP_OK) code = parse_states(spec, &opts, reterr);
    if (code == ESP_OK) code = parse_hidden(spec, n_in, n_out, &opts.regress, reterr);
    if (code == ESP_OK) code = parse_numbers(spec, &opts, reterr);
    if (code != ESP_OK) return code;
    size_t numbers = esp_distill_most(&opts) * (size_t)(n_in + n_out);
    if (numbers > MAX_NUMBERS) {
        esp_reader samples = esp_read_member(spec, "samples");
        return esp_refuse(&samples, reterr, "with all rounds makes %zu numbers of states and answers, more than %d", numbers, MAX_NUMBERS);
    }
    *ret_opts = opts;
    return ESP_OK;
}

void esp_distill_opts_format(const esp_distill_opts *opts, esp_jsonw *w) {
    const esp_regress_opts *r = &opts->regress;
    esp_jsonw_integer(w, "samples", opts->samples);
    esp_jsonw_array(w, "hidden");
    for (int i = 0; i < r->n_hidden; i++) esp_jsonw_integer(w, NULL, r->hidden[i]);
    esp_jsonw_array_end(w);
    esp_jsonw_integer(w, "dagger_rounds", opts->rounds);
    esp_jsonw_integer(w, "round_samples", opts->round_samples);
    esp_jsonw_integer(w, "regret_states", opts->regret_states);
    esp_jsonw_number(w, "plan_ms", opts->plan_ms);
    esp_jsonw_number(w, "validation", opts->validation);
    esp_jsonw_integer(w, "epochs", r->epochs);
    esp_jsonw_integer(w, "batch", r->batch);
    esp_jsonw_number(w, "learning_rate", r->learning_rate);
    esp_jsonw_number(w, "weight_decay", r->weight_decay);
    esp_jsonw_integer(w, "seed", (int64_t)r->seed);
}
