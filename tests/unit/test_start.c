/* SPDX-License-Identifier: Apache-2.0
 * The ladder from a model that is given: how its weights get into training, distillation, both methods, the spec. */
#include <check.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "sparsify/channel.h"
#include "support/models.h"
#include "train/emit.h"
#include "train/rollout.h"
#include "train/start.h"

enum { NY = 2, NU = 1, TRAJECTORIES = 20, STEPS = 20, HIDDEN = 2 };
static const int widths[HIDDEN] = {8, 6};

static esp_dataset *kinked_data(void) {
    esp_dataset *data = calloc(1, sizeof *data);
    esp_rng rng;
    esp_rng_init(&rng, 5, 1);
    size_t rows = TRAJECTORIES * (STEPS + 1);
    *data = (esp_dataset){.ny = NY, .nu = NU, .n_trajectories = TRAJECTORIES, .n_transitions = TRAJECTORIES * STEPS, .n_rows = rows};
    data->start = malloc((TRAJECTORIES + 1) * sizeof *data->start);
    data->y = malloc(rows * NY * sizeof *data->y);
    data->u = calloc(rows * NU, sizeof *data->u);
    for (size_t i = 0; i <= TRAJECTORIES; i++) data->start[i] = i * (STEPS + 1);
    for (size_t r = 0; r < rows; r++) {
        double *y = data->y + NY * r, *u = data->u + NU * r;
        bool begins = r % (STEPS + 1) == 0;
        y[0] = begins ? esp_rng_range(&rng, -1, 1) : 3 * fabs(y[-2]) - 1 + u[-1];
        y[1] = begins ? 0.1 : 0.2 * fmax(0, y[-1] - y[-2]);
        if (!begins && fabs(y[0]) > 2) y[0] = 0.1 * y[0];
        if (r % (STEPS + 1) < STEPS) u[0] = esp_rng_range(&rng, -1, 1);
    }
    return data;
}

/* A model with the data's sizes; its neurons are mixed when act < 0. */
static esp_model *some_model(int history, esp_frame_kind kind, int act) {
    esp_rng rng;
    esp_model *model = NULL;
    const esp_frame frame = {.kind = kind};
    esp_rng_init(&rng, 11, 2);
    esp_net *net = random_net(&rng, HIDDEN + 1, (const int[]){history * (NY + NU), widths[0], widths[1], NY}, act);
    for (int i = 0; i < NY; i++) net->layers[HIDDEN].act[i] = ESP_ACT_IDENTITY;
    ck_assert_int_eq(esp_model_create(ESP_MODEL_DYNAMICS, NY, NU, history, &frame, net, &model, NULL), ESP_OK);
    return model;
}

/* What a run has before its first epoch. */
typedef struct bench {
    esp_dataset *data;
    esp_train_opts opts;
    esp_windows *windows;
    esp_mlp mlp;
    esp_ladder *ladder;
    float params[512];
} bench;

static bench bench_of(const esp_model *model) {
    bench b = {.data = kinked_data()};
    esp_error error = {0};
    const esp_ladder_opts masks = {0.1, 0.1, 0.5, true};
    esp_reader none = {0};
    esp_train_opts_init(&b.opts);
    b.opts.batch = 32;
    ck_assert_int_eq(esp_sparsify_opts_start(&none, model, &b.opts, &error), ESP_OK);
    ck_assert_msg(esp_windows_create(b.data, &b.opts, &b.windows, &error) == ESP_OK, "%s", error.message);
    esp_mlp_init(&b.mlp, b.windows->n_in, b.opts.hidden, b.opts.n_hidden, b.windows->n_out);
    ck_assert_uint_le(b.mlp.n_params, sizeof b.params / sizeof *b.params);
    ck_assert_int_eq(esp_ladder_create(b.mlp.n_neurons, &masks, &b.ladder, &error), ESP_OK);
    return b;
}

static void bench_done(bench *b) {
    esp_ladder_free(b->ladder);
    esp_windows_free(b->windows);
    esp_dataset_free(b->data);
}

/* Largest difference of the two models' steps over the data, by an oracle of the tests' own. */
static double apart(const bench *b, const esp_model *f, const esp_model *g) {
    double most = 0, x[64], y[NY], z[NY];
    for (size_t i = 0; i < TRAJECTORIES; i++)
        for (size_t t = (size_t)f->history - 1; t < STEPS; t++) {
            esp_windows_x(b->data, f->history, b->data->start[i], t, x);
            oracle_step(f, x, y, NULL);
            oracle_step(g, x, z, NULL);
            for (int k = 0; k < NY; k++) most = fmax(most, fabs(y[k] - z[k]));
        }
    return most;
}

static esp_model *emitted(const bench *b) {
    esp_model *model = NULL;
    esp_error error = {0};
    ck_assert_msg(esp_emit_model(&b->mlp, b->params, b->ladder, b->windows, &b->opts.frame, NU, &model, &error) == ESP_OK, "%s", error.message);
    return model;
}

START_TEST(start__a_model_comes_out_as_it_went_in) {
    esp_model *model = some_model(1 + _i / 2, _i % 2 ? ESP_FRAME_RESIDUAL : ESP_FRAME_NONE, -1);
    bench b = bench_of(model);
    ck_assert_int_eq(esp_start_load(model, 0, &b.mlp, b.windows, b.params, b.ladder, NULL), ESP_OK);
    ck_assert_uint_eq(b.ladder->n_undecided, (size_t)esp_net_relus(model->net));
    esp_model *out = emitted(&b);
    for (int l = 0; l < HIDDEN; l++) ck_assert_mem_eq(out->net->layers[l].act, model->net->layers[l].act, (size_t)widths[l]);
    ck_assert_double_le(apart(&b, model, out), 1e-5);
    esp_model_free(out);
    esp_model_free(model);
    bench_done(&b);
}
END_TEST

START_TEST(start__weights_beyond_single_precision_are_refused) {
    esp_model *model = some_model(1, ESP_FRAME_NONE, ESP_ACT_RELU);
    bench b = bench_of(model);
    esp_error error = {0};
    model->net->layers[1].w[3] = 1e60;
    ck_assert_int_eq(esp_start_load(model, 0, &b.mlp, b.windows, b.params, b.ladder, &error), ESP_NUMERIC);
    esp_model_free(model);
    bench_done(&b);
}
END_TEST

static double training_loss(const bench *b) {
    esp_rollout *rollout = NULL;
    ck_assert_int_eq(esp_rollout_create(&b->mlp, b->windows, 1, NULL, &rollout, NULL), ESP_OK);
    esp_rollout_call call = {
        .params = b->params, .pos = b->ladder->pos, .neg = b->ladder->neg, .starts = b->windows->starts, .n = b->windows->n_starts, .steps = 1};
    double loss = esp_rollout_loss(rollout, &call, NULL);
    esp_rollout_free(rollout);
    return loss;
}

/* The student is its own teacher: e = y - (1 - beta) t - beta y = (1 - beta) (y - t). */
START_TEST(start__distillation_moves_targets_to_the_teacher) {
    static const double weights[] = {0, 0.25, 0.5, 1};
    esp_model *model = some_model(1, ESP_FRAME_RESIDUAL, -1);
    double plain = 0;
    for (int i = 0; i < 4; i++) {
        bench b = bench_of(model);
        size_t held = (b.windows->n_rows - b.windows->n_train_rows) * NY;
        float *before = malloc(held * sizeof *before), *at = b.windows->targets + b.windows->n_train_rows * NY;
        ck_assert_uint_gt(held, 0);
        memcpy(before, at, held * sizeof *before);
        ck_assert_int_eq(esp_start_load(model, weights[i], &b.mlp, b.windows, b.params, b.ladder, NULL), ESP_OK);
        double loss = training_loss(&b), rest = (1 - weights[i]) * (1 - weights[i]);
        if (i == 0) plain = loss;
        ck_assert_double_eq_tol(loss, rest * plain, 1e-5 * plain);
        ck_assert_mem_eq(at, before, held * sizeof *before); /* validation is against the data */
        free(before);
        bench_done(&b);
    }
    ck_assert_double_gt(plain, 0.01);
    esp_model_free(model);
}
END_TEST

/* Neurons 2 and 5 of the first and 0 of the second layer have no weights and no bias. */
START_TEST(channel__neurons_without_weights_are_no_loss) {
    static const int dead[][2] = {{0, 2}, {0, 5}, {1, 0}};
    esp_model *model = some_model(1, ESP_FRAME_RESIDUAL, ESP_ACT_RELU);
    for (int i = 0; i < 3; i++) {
        esp_layer *layer = &model->net->layers[dead[i][0]];
        memset(layer->w + (size_t)dead[i][1] * (size_t)layer->n_in, 0, (size_t)layer->n_in * sizeof *layer->w);
        layer->b[dead[i][1]] = 0;
    }
    bench b = bench_of(model);
    esp_channel_layer layers[HIDDEN];
    ck_assert_int_eq(esp_start_load(model, 0, &b.mlp, b.windows, b.params, b.ladder, NULL), ESP_OK);
    esp_model *whole = emitted(&b);
    for (int l = 0; l < HIDDEN; l++)
        layers[l] = (esp_channel_layer){b.mlp.neuron[l], (size_t)b.mlp.width[l + 1], (size_t)b.mlp.width[l], b.params + b.mlp.weight[l]};
    ck_assert_uint_eq(esp_channel_prune(b.ladder, layers, HIDDEN, 11, NULL), 3);
    esp_model *pruned = emitted(&b);
    for (int i = 0; i < 3; i++) ck_assert_int_eq(pruned->net->layers[dead[i][0]].act[dead[i][1]], ESP_ACT_ZERO);
    ck_assert_int_eq(esp_net_relus(pruned->net), 11);
    ck_assert_double_eq(apart(&b, whole, pruned), 0);
    esp_model_free(whole);
    esp_model_free(pruned);
    esp_model_free(model);
    bench_done(&b);
}
END_TEST

/* ---- runs ---- */

typedef struct outcome {
    int n, relu[8];
    double rmse[8];
    esp_buf bytes[8];
    esp_model *swap; /* what refine puts in place, once */
} outcome;

static esp_code keep(void *user, const esp_train_model *trained, esp_error *reterr) {
    outcome *out = user;
    out->relu[out->n] = trained->relu;
    out->rmse[out->n] = trained->validation_rmse;
    return esp_model_encode(trained->model, &out->bytes[out->n++], reterr);
}

static void told(void *user, const esp_train_progress *p) {
    (void)user;
    ck_assert(p->fraction >= 0 && p->fraction <= 1 && strcmp(p->stage, "dense") != 0);
}

static esp_code swap(void *user, esp_model **model, esp_error *reterr) {
    outcome *out = user;
    (void)reterr;
    if (!out->swap) return ESP_OK;
    esp_model_free(*model);
    *model = out->swap;
    out->swap = NULL;
    return ESP_OK;
}

static void run(const esp_model *model, esp_sparsify_method method, outcome *out) {
    esp_dataset *data = kinked_data();
    esp_train_opts opts;
    esp_error error = {0};
    esp_reader none = {0};
    const esp_train_hooks hooks = {.user = out, .progress = told, .model = keep, .refine = swap};
    esp_train_opts_init(&opts);
    opts.method = method;
    opts.batch = 32;
    opts.rung_epochs = 4;
    opts.n_rungs = 3;
    memcpy(opts.ladder, (const int[]){7, 3, 0}, 3 * sizeof(int));
    ck_assert_int_eq(esp_sparsify_opts_start(&none, model, &opts, &error), ESP_OK);
    ck_assert_msg(esp_train_run(data, &opts, &hooks, NULL, &error) == ESP_OK, "%s", error.message);
    esp_dataset_free(data);
}

static void outcome_done(outcome *out) {
    for (int i = 0; i < out->n; i++) esp_buf_done(&out->bytes[i]);
}

START_TEST(run__each_rung_by_either_method) {
    esp_model *model = some_model(1, ESP_FRAME_RESIDUAL, ESP_ACT_RELU);
    esp_sparsify_method method = _i ? ESP_SPARSIFY_CHANNEL : ESP_SPARSIFY_GUMBEL;
    outcome out = {0}, again = {0};
    model->net->layers[0].act[3] = ESP_ACT_IDENTITY;
    model->net->layers[1].act[2] = ESP_ACT_ZERO;
    run(model, method, &out);
    run(model, method, &again);
    ck_assert(out.n == 3 && out.relu[0] == 7 && out.relu[1] == 3 && out.relu[2] == 0);
    for (int i = 0; i < out.n; i++) {
        esp_model *rung = NULL;
        ck_assert_int_eq(esp_model_decode(out.bytes[i].data, out.bytes[i].len, &rung, NULL), ESP_OK);
        ck_assert_int_eq(rung->net->layers[0].act[3], ESP_ACT_IDENTITY);
        ck_assert_int_eq(rung->net->layers[1].act[2], ESP_ACT_ZERO);
        for (int l = 0; _i && l < HIDDEN; l++) /* a channel is removed, never made linear */
            for (int k = 0; k < widths[l]; k++) ck_assert(rung->net->layers[l].act[k] != ESP_ACT_IDENTITY || (l == 0 && k == 3));
        esp_model_free(rung);
        ck_assert_uint_eq(out.bytes[i].len, again.bytes[i].len);
        ck_assert_mem_eq(out.bytes[i].data, again.bytes[i].data, out.bytes[i].len);
    }
    outcome_done(&out);
    outcome_done(&again);
    esp_model_free(model);
}
END_TEST

START_TEST(run__a_refined_model_is_what_is_measured) {
    esp_model *model = some_model(1, ESP_FRAME_RESIDUAL, ESP_ACT_RELU);
    outcome plain = {0}, out = {.swap = some_model(1, ESP_FRAME_NONE, ESP_ACT_ZERO)};
    run(model, ESP_SPARSIFY_CHANNEL, &plain);
    run(model, ESP_SPARSIFY_CHANNEL, &out);
    ck_assert_int_eq(out.relu[0], 0);
    ck_assert(out.rmse[0] != plain.rmse[0]);
    ck_assert_uint_eq(out.bytes[1].len, plain.bytes[1].len); /* and training goes on from its own */
    ck_assert_mem_eq(out.bytes[1].data, plain.bytes[1].data, plain.bytes[1].len);
    outcome_done(&plain);
    outcome_done(&out);
    esp_model_free(model);
}
END_TEST

/* ---- the spec ---- */

static esp_code parse(const char *text, esp_train_opts *ret_opts, bool *ret_stable, esp_error *error) {
    esp_json *json = NULL;
    ck_assert_int_eq(esp_json_parse(text, strlen(text), &json, NULL), ESP_OK);
    esp_reader root = esp_reader_root(json);
    *error = (esp_error){0};
    esp_code code = esp_sparsify_opts_parse(&root, 10, false, ret_opts, ret_stable, error);
    esp_json_free(json);
    return code;
}

START_TEST(sparsify_opts__reads_every_field_and_writes_it_back) {
    esp_train_opts opts, again;
    esp_error error;
    esp_buf text = {0};
    bool stable = false;
    esp_jsonw w = esp_jsonw_on(&text);
    ck_assert_int_eq(
        parse("{\"model\":\"m\",\"dataset\":\"d\",\"name\":\"n\",\"method\":\"channel\",\"ladder\":[9,2],\"rung_epochs\":5,\"rollout\":3,"
              "\"batch\":6,\"learning_rate\":0.007,\"input_noise\":0.08,\"weight_decay\":0.009,\"clip\":1.5,\"validation\":0.25,\"seed\":12,"
              "\"lambda\":0.5,\"lambda_id\":0.25,\"tau\":0.75,\"logit_rate\":0.125,\"straight_through\":false,\"distill_weight\":0.5,"
              "\"stable\":\"data_box\"}",
              &opts, &stable, &error),
        ESP_OK);
    ck_assert(opts.method == ESP_SPARSIFY_CHANNEL && opts.n_rungs == 2 && opts.ladder[1] == 2 && opts.rung_epochs == 5 && opts.rollout == 3);
    ck_assert(opts.batch == 6 && opts.learning_rate == 0.007 && opts.input_noise == 0.08 && opts.weight_decay == 0.009 && opts.clip == 1.5);
    ck_assert(opts.validation == 0.25 && opts.seed == 12 && opts.lambda == 0.5 && opts.lambda_id == 0.25 && opts.tau == 0.75);
    ck_assert(opts.logit_rate == 0.125 && !opts.straight_through && opts.distill_weight == 0.5 && stable);
    esp_sparsify_opts_format(&opts, stable, &w);
    ck_assert(strstr(esp_buf_text(&text), "\"stable\":\"data_box\"") && !strstr(esp_buf_text(&text), "lambda"));
    esp_buf_done(&text);
    ck_assert_int_eq(parse("{\"ladder\":[4],\"epochs\":7}", &again, &stable, &error), ESP_OK); /* epochs are those of a rung */
    ck_assert(again.method == ESP_SPARSIFY_GUMBEL && again.rung_epochs == 7 && again.epochs == 0 && again.distill_weight == 0 && !stable);
}
END_TEST

static const struct refusal {
    const char *spec, *pointer;
} refusals[] = {
    {"{}", "/ladder"},
    {"{\"ladder\":[6],\"target\":{\"plan_ms\":1}}", "/target"},
    {"{\"ladder\":[]}", "/ladder"},
    {"{\"ladder\":[10]}", "/ladder/0"},
    {"{\"ladder\":[6,6]}", "/ladder/1"},
    {"{\"ladder\":[6],\"method\":\"magic\"}", "/method"},
    {"{\"ladder\":[6],\"epochs\":2,\"rung_epochs\":2}", "/epochs"},
    {"{\"ladder\":[6],\"distill_weight\":1.5}", "/distill_weight"},
    {"{\"ladder\":[6],\"stable\":\"everywhere\"}", "/stable"},
    {"{\"ladder\":[6],\"history\":2}", "/history"},
    {"{\"ladder\":[6],\"frame\":\"residual\"}", "/frame"},
    {"{\"ladder\":[6],\"tau\":0}", "/tau"},
    {"{\"ladder\":[6],\"seed\":-1}", "/seed"},
};

START_TEST(sparsify_opts__refuses_and_names_the_field) {
    esp_train_opts opts = {.batch = -7};
    esp_error error;
    bool stable = false;
    ck_assert_int_eq(parse(refusals[_i].spec, &opts, &stable, &error), ESP_INVALID);
    ck_assert_str_eq(error.pointer, refusals[_i].pointer);
    ck_assert_int_eq(opts.batch, -7);
}
END_TEST

START_TEST(sparsify_opts__a_model_that_cannot_be_trained_is_refused) {
    esp_model *model = some_model(1, ESP_FRAME_NONE, ESP_ACT_RELU);
    esp_train_opts opts = {.batch = -7};
    esp_error error = {0};
    esp_json *json = NULL;
    ck_assert_int_eq(esp_json_parse("{\"model\":\"m\"}", 13, &json, NULL), ESP_OK);
    esp_reader root = esp_reader_root(json);
    model->net->layers[HIDDEN].act[1] = ESP_ACT_RELU;
    ck_assert_int_eq(esp_sparsify_opts_start(&root, model, &opts, &error), ESP_UNPROCESSABLE);
    ck_assert_str_eq(error.pointer, "/model");
    ck_assert(opts.batch == -7 && !opts.start);
    esp_json_free(json);
    esp_model_free(model);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("start");
    TCase *start = tcase_create("start"), *runs = tcase_create("run"), *spec = tcase_create("spec");
    tcase_add_loop_test(start, start__a_model_comes_out_as_it_went_in, 0, 4);
    tcase_add_test(start, start__weights_beyond_single_precision_are_refused);
    tcase_add_test(start, start__distillation_moves_targets_to_the_teacher);
    tcase_add_test(start, channel__neurons_without_weights_are_no_loss);
    tcase_add_loop_test(runs, run__each_rung_by_either_method, 0, 2);
    tcase_add_test(runs, run__a_refined_model_is_what_is_measured);
    tcase_add_test(spec, sparsify_opts__reads_every_field_and_writes_it_back);
    tcase_add_loop_test(spec, sparsify_opts__refuses_and_names_the_field, 0, sizeof refusals / sizeof *refusals);
    tcase_add_test(spec, sparsify_opts__a_model_that_cannot_be_trained_is_refused);
    suite_add_tcase(suite, start);
    suite_add_tcase(suite, runs);
    suite_add_tcase(suite, spec);
    return run_suite(suite);
}
