/* SPDX-License-Identifier: Apache-2.0
 * The options of training: defaults, from a job's spec, and back to JSON. */
#include <string.h>

#include "train/opts_parts.h"

#define MAX_EPOCHS 100000
#define MAX_BATCH  65536

const char *const esp_schedule_names[] = {"cosine", "plateau", NULL};

void esp_train_opts_init(esp_train_opts *opts) {
    *opts = (esp_train_opts){.n_hidden = 2,
                             .hidden = {64, 64},
                             .history = 1,
                             .rollout = 1,
                             .batch = 256,
                             .threads = 1,
                             .plateau_factor = 0.3,
                             .plateau_patience = 3,
                             .plateau_threshold = 1e-4,
                             .validation = 0.1,
                             .lambda = 1e-4,
                             .lambda_id = 0.005,
                             .tau = 0.5,
                             .logit_rate = 0.03,
                             .straight_through = true,
                             .reach = 3};
}

const char *const esp_train_fields[] = {"dataset", "name", "model", "frame", "history", ESP_RUN_FIELDS, NULL};

/* {"validation_rmse"} or {"plan_ms", "task"}; that the task is there is the caller's to check. */
static esp_code parse_target(const esp_reader *spec, esp_train_opts *opts, esp_error *reterr) {
    static const char *const fields[] = {"validation_rmse", "plan_ms", "task", NULL};
    esp_reader target = esp_read_member(spec, "target");
    if (!target.value) return ESP_OK;
    esp_code code = esp_read_object(&target, fields, reterr);
    esp_reader rmse = esp_read_member(&target, "validation_rmse"), plan_ms = esp_read_member(&target, "plan_ms"),
               task = esp_read_member(&target, "task");
    if (code == ESP_OK && !rmse.value == !plan_ms.value) return esp_refuse(&target, reterr, "has either a validation_rmse or a plan_ms");
    if (code == ESP_OK && !plan_ms.value != !task.value) return esp_refuse(&target, reterr, "plan_ms and task go together");
    if (code == ESP_OK) code = esp_read_number(&rmse, 1e-300, 1e300, &opts->target_rmse, reterr);
    if (code == ESP_OK) code = esp_read_number(&plan_ms, 1, 60000, &opts->target_plan_ms, reterr);
    return code;
}

/* Down to a single ReLU. */
static void make_ladder(int above, esp_train_opts *opts) {
    opts->n_rungs = 0;
    for (int relu = above * 3 / 4; relu > 0 && opts->n_rungs < ESP_MAX_RUNGS; relu = relu * 3 / 4) opts->ladder[opts->n_rungs++] = relu;
}

esp_code esp_ladder_parse(const esp_reader *spec, int above, const char *what, esp_train_opts *opts, esp_error *reterr) {
    esp_reader ladder = esp_read_member(spec, "ladder");
    size_t n;
    if (!ladder.value && (opts->target_rmse > 0 || opts->target_plan_ms > 0)) make_ladder(above, opts);
    if (!ladder.value) return ESP_OK;
    esp_code code = esp_read_array(&ladder, 0, ESP_MAX_RUNGS, &n, reterr);
    if (code != ESP_OK) return code;
    opts->n_rungs = (int)n;
    for (size_t i = 0; i < n; i++) {
        esp_reader rung = esp_read_element(&ladder, i);
        if (i > 0) above = opts->ladder[i - 1];
        code = esp_read_int(&rung, 0, ESP_MAX_WIDTH * ESP_MAX_HIDDEN, &opts->ladder[i], reterr);
        if (code != ESP_OK) return code;
        if (opts->ladder[i] >= above && i == 0) return esp_refuse(&rung, reterr, "must be below %d, %s, is %d", above, what, opts->ladder[i]);
        if (opts->ladder[i] >= above) return esp_refuse(&rung, reterr, "the ladder must fall: %d does not lie below %d", opts->ladder[i], above);
    }
    return ESP_OK;
}

/* The rungs lie below the number of hidden neurons. */
static esp_code parse_ladder(const esp_reader *spec, esp_train_opts *opts, esp_error *reterr) {
    return esp_ladder_parse(spec, esp_model_opts_neurons(opts), "the number of hidden neurons", opts, reterr);
}

typedef struct number_field {
    const char *name;
    double lower, upper;
    size_t offset;
    bool integer; /* int, otherwise double */
} number_field;

#define NUMBER(name, lower, upper)                                                                                                                   \
    { #name, (lower), (upper), offsetof(esp_train_opts, name), false }
#define INTEGER(name, lower, upper)                                                                                                                  \
    { #name, (lower), (upper), offsetof(esp_train_opts, name), true }
static const number_field number_fields[] = {
    INTEGER(history, 1, ESP_MAX_HISTORY),
    INTEGER(rollout, 1, ESP_MAX_ROLLOUT),
    INTEGER(epochs, 0, MAX_EPOCHS),
    INTEGER(rung_epochs, 0, MAX_EPOCHS),
    INTEGER(batch, 1, MAX_BATCH),
    INTEGER(threads, 1, ESP_MAX_PARTS),
    NUMBER(learning_rate, 0, 10),
    NUMBER(plateau_factor, 1e-6, 1),
    INTEGER(plateau_patience, 0, MAX_EPOCHS),
    NUMBER(plateau_threshold, 0, 0.5),
    INTEGER(early_stop, 0, MAX_EPOCHS),
    NUMBER(proof_weight, 0, 1e6),
    NUMBER(rounding, 0, 1),
    INTEGER(reach, 1, 1000),
    NUMBER(input_noise, 0, 10),
    NUMBER(weight_decay, 0, 100),
    NUMBER(clip, 0, 1e9),
    NUMBER(validation, 0, 0.9),
    NUMBER(lambda, 0, 1e6),
    NUMBER(lambda_id, 0, 1e6),
    NUMBER(tau, 1e-3, 100),
    NUMBER(logit_rate, 0, 10),
};
#define N_NUMBER_FIELDS (sizeof number_fields / sizeof *number_fields)

/* One for each step of the rollout, in proportion to each other. */
static esp_code parse_step_weights(const esp_reader *spec, esp_train_opts *opts, esp_error *reterr) {
    esp_reader weights = esp_read_member(spec, "step_weights");
    double sum = 0;
    if (!weights.value) return ESP_OK;
    esp_code code = esp_read_vector(&weights, (size_t)opts->rollout, opts->step_weights, reterr);
    for (int k = 0; k < opts->rollout && code == ESP_OK; k++) {
        esp_reader weight = esp_read_element(&weights, (size_t)k);
        code = esp_read_number(&weight, 0, 1e9, &opts->step_weights[k], reterr);
        sum += opts->step_weights[k];
    }
    if (code == ESP_OK && sum <= 0) return esp_refuse(&weights, reterr, "at least one step must weigh something");
    if (code == ESP_OK) opts->n_step_weights = opts->rollout;
    return code;
}

esp_code esp_numbers_parse(const esp_reader *spec, esp_train_opts *opts, esp_error *reterr) {
    int64_t seed = (int64_t)opts->seed;
    int schedule = (int)opts->schedule;
    esp_reader other = esp_read_member(spec, "seed");
    esp_code code = esp_read_integer(&other, 0, INT64_MAX, &seed, reterr);
    other = esp_read_member(spec, "straight_through");
    if (code == ESP_OK) code = esp_read_bool(&other, &opts->straight_through, reterr);
    other = esp_read_member(spec, "schedule");
    if (code == ESP_OK) code = esp_read_choice(&other, esp_schedule_names, &schedule, reterr);
    for (size_t i = 0; i < N_NUMBER_FIELDS && code == ESP_OK; i++) {
        const number_field *f = &number_fields[i];
        esp_reader member = esp_read_member(spec, f->name);
        void *at = (char *)opts + f->offset;
        code =
            f->integer ? esp_read_int(&member, (int)f->lower, (int)f->upper, at, reterr) : esp_read_number(&member, f->lower, f->upper, at, reterr);
    }
    if (code == ESP_OK) code = parse_step_weights(spec, opts, reterr);
    if (code == ESP_OK) code = parse_target(spec, opts, reterr);
    if (code != ESP_OK) return code;
    opts->seed = (uint64_t)seed;
    opts->schedule = (esp_schedule_kind)schedule;
    return ESP_OK;
}

esp_code esp_train_opts_parse(const esp_reader *spec, int ny, int nu, esp_arena *arena, esp_train_opts *ret_opts, esp_error *reterr) {
    esp_train_opts opts;
    esp_reader member;
    esp_train_opts_init(&opts);
    esp_code code = esp_read_object(spec, esp_train_fields, reterr);
    if (code == ESP_OK) code = esp_model_opts_parse(spec, ny, nu, &opts, reterr);
    if (code == ESP_OK) code = esp_numbers_parse(spec, &opts, reterr);
    if (code == ESP_OK) code = parse_ladder(spec, &opts, reterr);
    member = esp_read_member(spec, "frame");
    if (code == ESP_OK) code = esp_frame_parse(&member, ny, nu, opts.history, arena, &opts.frame, &opts.f_in, &opts.f_out, reterr);
    if (code == ESP_OK) code = esp_model_opts_frame(spec, &opts, reterr);
    if (code == ESP_OK) code = esp_model_opts_check(spec, &opts, reterr);
    if (code == ESP_OK) *ret_opts = opts;
    return code;
}

void esp_numbers_format(const esp_train_opts *opts, esp_jsonw *w) {
    bool masks = opts->method == ESP_SPARSIFY_GUMBEL;
    for (size_t i = 0; i < N_NUMBER_FIELDS; i++) {
        const number_field *f = &number_fields[i];
        const void *at = (const char *)opts + f->offset;
        double value;
        if (!masks && f->offset >= offsetof(esp_train_opts, lambda)) continue; /* lambda and what follows it */
        if (f->integer)
            value = *(const int *)at;
        else
            memcpy(&value, at, sizeof value);
        esp_jsonw_number(w, f->name, value);
    }
    esp_jsonw_integer(w, "seed", (int64_t)opts->seed);
    esp_jsonw_string(w, "schedule", esp_schedule_names[opts->schedule]);
    if (opts->target_rmse > 0 || opts->target_plan_ms > 0) {
        esp_jsonw_object(w, "target");
        if (opts->target_rmse > 0) esp_jsonw_number(w, "validation_rmse", opts->target_rmse);
        if (opts->target_plan_ms > 0) esp_jsonw_number(w, "plan_ms", opts->target_plan_ms);
        esp_jsonw_object_end(w);
    }
    if (opts->n_step_weights) esp_jsonw_vector(w, "step_weights", opts->step_weights, (size_t)opts->n_step_weights);
    if (masks) esp_jsonw_bool(w, "straight_through", opts->straight_through);
    esp_integers_format(w, "ladder", opts->ladder, opts->n_rungs);
}

void esp_train_opts_format(const esp_train_opts *opts, esp_jsonw *w) {
    esp_jsonw_object(w, NULL);
    esp_model_opts_format(opts, w);
    esp_numbers_format(opts, w);
    esp_jsonw_object_end(w);
}
