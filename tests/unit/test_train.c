/* SPDX-License-Identifier: Apache-2.0
 * Training runs on small synthetic robots, what is refused, and the spec of a train job. */
#include <check.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "support/models.h"
#include "train/train.h"

#define STEPS 30

/* Next output of y (the last two, oldest first) and u; each robot of the tests is one such function. */
typedef void robot(const double *before, const double *y, const double *u, double *next);

static esp_dataset *drive(robot *step, int ny, int nu, size_t n) {
    esp_dataset *data = calloc(1, sizeof *data);
    esp_rng rng;
    esp_rng_init(&rng, 21, 1);
    *data = (esp_dataset){.ny = ny, .nu = nu, .n_trajectories = n, .n_transitions = n * STEPS, .n_rows = n * (STEPS + 1)};
    data->start = malloc((n + 1) * sizeof *data->start);
    data->y = malloc(data->n_rows * (size_t)ny * sizeof *data->y);
    data->u = nu ? calloc(data->n_rows * (size_t)nu, sizeof *data->u) : NULL;
    for (size_t i = 0; i <= n; i++) data->start[i] = (STEPS + 1) * i;
    for (size_t r = 0; r < data->n_rows; r++) {
        double *y = data->y + r * (size_t)ny, *u = nu ? data->u + r * (size_t)nu : NULL;
        size_t t = r % (STEPS + 1);
        for (int i = 0; t < 2 && i < ny; i++) y[i] = esp_rng_range(&rng, -1, 1);
        if (t >= 2 || (t == 1 && step)) step(t >= 2 ? y - 2 * ny : y - ny, y - ny, nu ? u - nu : NULL, y);
        for (int i = 0; t < STEPS && i < nu; i++) u[i] = esp_rng_range(&rng, -1, 1);
    }
    return data;
}

static void linear_robot(const double *before, const double *y, const double *u, double *next) {
    (void)before;
    next[0] = 0.9 * y[0] + 0.2 * y[1] + 0.3 * u[0];
    next[1] = -0.1 * y[0] + 0.8 * y[1] - 0.5 * u[0] + 0.1;
}

static void kinked_robot(const double *before, const double *y, const double *u, double *next) {
    (void)before;
    next[0] = fabs(y[0]) - 0.5 + 0.3 * fmax(0, u[0]);
}

/* y1 and u1 never vary. */
static void constant_robot(const double *before, const double *y, const double *u, double *next) {
    (void)before;
    next[0] = 0.5 * y[0] + 0.4 * u[0];
    next[1] = 0.1;
}

static void free_robot(const double *before, const double *y, const double *u, double *next) {
    (void)before;
    (void)u;
    next[0] = 0.7 * y[0] - 0.2 * fmax(0, y[1]);
    next[1] = 0.6 * y[1] + 0.3;
}

/* Where it goes depends on where it came from. */
static void second_order_robot(const double *before, const double *y, const double *u, double *next) {
    next[0] = 1.6 * y[0] - 0.8 * before[0] + 0.2 * u[0];
}

typedef struct outcome {
    int n_models, n_reports, cancel_after, looks;
    double rmse, rollout_rmse, last_fraction;
    bool falling_fraction;
    esp_code model_code;
    esp_model *model; /* a copy of the last */
    esp_buf bytes; /* of the last, encoded */
} outcome;

static void report(void *user, const esp_train_progress *progress) {
    outcome *out = user;
    out->n_reports++;
    out->falling_fraction |= progress->fraction < out->last_fraction || progress->fraction > 1;
    out->last_fraction = progress->fraction;
}

static esp_code receive(void *user, const esp_train_model *trained, esp_error *reterr) {
    outcome *out = user;
    out->n_models++;
    out->rmse = trained->validation_rmse;
    out->rollout_rmse = trained->rollout_rmse;
    esp_buf_clear(&out->bytes);
    esp_code code = esp_model_encode(trained->model, &out->bytes, reterr);
    esp_model_free(out->model);
    out->model = NULL;
    if (code == ESP_OK) code = esp_model_decode(out->bytes.data, out->bytes.len, &out->model, reterr);
    return code == ESP_OK ? out->model_code : code;
}

static bool look(void *user) {
    outcome *out = user;
    return ++out->looks >= out->cancel_after;
}

static void done(outcome *out, esp_dataset *data) {
    esp_model_free(out->model);
    esp_buf_done(&out->bytes);
    esp_dataset_free(data);
    *out = (outcome){0};
}

static esp_train_opts small_opts(int hidden) {
    esp_train_opts opts;
    esp_train_opts_init(&opts);
    opts.n_hidden = hidden > 0;
    opts.hidden[0] = hidden;
    opts.batch = 32;
    opts.epochs = 60;
    opts.learning_rate = 0.01;
    return opts;
}

static esp_code train(const esp_dataset *data, const esp_train_opts *opts, outcome *out, esp_error *error) {
    esp_train_hooks hooks = {.user = out, .progress = report, .model = receive};
    *error = (esp_error){0};
    return esp_train_run(data, opts, &hooks, NULL, error);
}

static void train_well(const esp_dataset *data, const esp_train_opts *opts, outcome *out) {
    esp_error error;
    esp_code code = train(data, opts, out, &error);
    ck_assert_msg(code == ESP_OK, "%s: %s", esp_code_name(code), error.message);
    ck_assert(out->model && isfinite(out->rmse) && isfinite(out->rollout_rmse));
}

START_TEST(train__learns_a_linear_map) {
    esp_dataset *data = drive(linear_robot, 2, 1, 60);
    outcome out = {0};
    esp_train_opts opts = small_opts(0);
    opts.frame.kind = _i == 0 ? ESP_FRAME_NONE : ESP_FRAME_RESIDUAL;
    train_well(data, &opts, &out);
    ck_assert_double_lt(out.rmse, 1e-4);
    ck_assert_double_lt(out.rollout_rmse, 1e-3);
    done(&out, data);
}
END_TEST

START_TEST(train__learns_a_piecewise_affine_map) {
    esp_dataset *data = drive(kinked_robot, 1, 1, 120);
    outcome out = {0};
    esp_train_opts opts = small_opts(16);
    train_well(data, &opts, &out);
    ck_assert_double_lt(out.rmse, 0.01);
    ck_assert_int_eq(esp_net_relus(out.model->net), 16);
    double better = out.rmse;
    done(&out, NULL);
    opts.n_hidden = 0; /* and a straight line does not */
    train_well(data, &opts, &out);
    ck_assert_double_gt(out.rmse, 10 * better);
    done(&out, data);
}
END_TEST

START_TEST(train__rollout_loss_trains_through_time) {
    esp_dataset *data = drive(kinked_robot, 1, 1, 120);
    outcome out = {0};
    esp_train_opts opts = small_opts(16);
    opts.rollout = 5;
    train_well(data, &opts, &out);
    ck_assert_double_lt(out.rollout_rmse, 0.05);
    done(&out, data);
}
END_TEST

START_TEST(train__constant_columns_just_work) {
    esp_dataset *data = drive(constant_robot, 2, 2, 60);
    outcome out = {0};
    esp_train_opts opts = small_opts(8);
    double y[2];
    for (size_t r = 0; r < data->n_rows; r++) data->y[2 * r + 1] = 0.1, data->u[2 * r + 1] = r % (STEPS + 1) == STEPS ? 0 : 7.3;
    opts.frame.kind = _i == 0 ? ESP_FRAME_NONE : ESP_FRAME_RESIDUAL;
    opts.rollout = _i == 2 ? 3 : 1;
    train_well(data, &opts, &out);
    ck_assert_double_lt(out.rmse, 0.01);
    oracle_step(out.model, (const double[]){0.2, 0.1, 0.5, 7.3}, y, NULL);
    ck_assert_double_eq_tol(y[0], 0.3, 0.02);
    ck_assert_double_eq_tol(y[1], 0.1, 1e-9);
    done(&out, data);
}
END_TEST

START_TEST(train__works_without_inputs) {
    esp_dataset *data = drive(free_robot, 2, 0, 60);
    outcome out = {0};
    esp_train_opts opts = small_opts(8);
    train_well(data, &opts, &out);
    ck_assert_double_lt(out.rmse, 0.01);
    ck_assert_int_eq(esp_net_inputs(out.model->net), 2);
    done(&out, data);
}
END_TEST

START_TEST(train__history_sees_what_one_output_cannot) {
    esp_dataset *data = drive(second_order_robot, 1, 1, 60);
    outcome out = {0};
    esp_train_opts opts = small_opts(0);
    train_well(data, &opts, &out);
    ck_assert_double_gt(out.rmse, 0.05);
    done(&out, NULL);
    opts.history = 2;
    train_well(data, &opts, &out);
    ck_assert_double_lt(out.rmse, 1e-4);
    done(&out, NULL);
    opts.rollout = 4;
    train_well(data, &opts, &out);
    ck_assert_double_lt(out.rollout_rmse, 1e-3);
    ck_assert_int_eq(out.model->history, 2);
    done(&out, data);
}
END_TEST

/* y = (p, p - q) with q moved by u: the frame knows q, the network sees p - q and u and moves p in both rows. */
static void carried_robot(const double *before, const double *y, const double *u, double *next) {
    double push = 0.3 * fmax(0, 0.2 - y[1]);
    (void)before;
    next[0] = y[0] + push;
    next[1] = y[1] + push - 0.2 * u[0];
}

START_TEST(train__linear_frame_carries_what_is_known) {
    static double a[] = {1, 0, 0, 1}, b[] = {0, -0.2}, c[] = {0, 1}, d[] = {0}, g[] = {1, 1};
    esp_dataset *data = drive(carried_robot, 2, 1, 100);
    outcome out = {0};
    esp_train_opts opts = small_opts(8);
    opts.frame = (esp_frame){ESP_FRAME_LINEAR, a, b, c, d, g};
    opts.f_in = opts.f_out = 1;
    opts.rollout = 1 + 2 * _i;
    train_well(data, &opts, &out);
    ck_assert_double_lt(out.rmse, 2e-3);
    double y[2];
    oracle_step(out.model, (const double[]){5, -1, 0.5}, y, NULL);
    ck_assert_double_eq_tol(y[0], 5.36, 0.02);
    ck_assert_double_eq_tol(y[1], -0.74, 0.02);
    done(&out, data);
}
END_TEST

START_TEST(train__same_seed_same_model_other_seed_other_model) {
    esp_dataset *data = drive(kinked_robot, 1, 1, 30);
    outcome first = {0}, second = {0}, third = {0};
    esp_train_opts opts = small_opts(12);
    opts.epochs = opts.rung_epochs = 4;
    opts.input_noise = 0.01;
    opts.weight_decay = 1e-4;
    opts.clip = 1;
    opts.n_rungs = 2;
    opts.ladder[0] = 6;
    opts.ladder[1] = 3;
    train_well(data, &opts, &first);
    train_well(data, &opts, &second);
    opts.seed = 1;
    train_well(data, &opts, &third);
    ck_assert_int_eq(first.n_models, 3);
    ck_assert_uint_eq(first.bytes.len, second.bytes.len);
    ck_assert_int_eq(memcmp(first.bytes.data, second.bytes.data, first.bytes.len), 0);
    ck_assert(third.bytes.len != first.bytes.len || memcmp(first.bytes.data, third.bytes.data, first.bytes.len) != 0);
    done(&first, NULL);
    done(&second, NULL);
    done(&third, data);
}
END_TEST

START_TEST(train__too_little_data_is_refused_with_the_numbers) {
    esp_dataset *data = drive(kinked_robot, 1, 1, 10); /* 9 trajectories of 30 transitions train */
    outcome out = {0};
    esp_error error;
    esp_train_opts opts = small_opts(4);
    opts.batch = 271;
    ck_assert_int_eq(train(data, &opts, &out, &error), ESP_INVALID);
    ck_assert_msg(strstr(error.message, "270") && strstr(error.message, "271"), "%s", error.message);
    opts.batch = 270;
    opts.epochs = 1;
    ck_assert_int_eq(train(data, &opts, &out, &error), ESP_OK);
    opts.batch = 1;
    opts.rollout = 25;
    opts.history = 7;
    ck_assert_int_eq(train(data, &opts, &out, &error), ESP_INVALID);
    ck_assert_msg(strstr(error.message, "32") && strstr(error.message, "31"), "%s", error.message);
    opts.history = 6;
    ck_assert_int_eq(train(data, &opts, &out, &error), ESP_OK);
    done(&out, data);
}
END_TEST

START_TEST(train__one_trajectory_trains_and_validates) {
    esp_dataset *data = drive(kinked_robot, 1, 1, 1);
    outcome out = {0};
    esp_train_opts opts = small_opts(4);
    opts.batch = 10;
    train_well(data, &opts, &out);
    done(&out, data);
}
END_TEST

START_TEST(train__a_loss_that_is_not_finite_says_what_to_lower) {
    esp_dataset *data = drive(kinked_robot, 1, 1, 30);
    outcome out = {0};
    esp_error error;
    esp_train_opts opts = small_opts(8);
    opts.learning_rate = 1e30;
    ck_assert_int_eq(train(data, &opts, &out, &error), ESP_NUMERIC);
    ck_assert_msg(strstr(error.message, "/learning_rate") && strstr(error.message, "/clip"), "%s", error.message);
    ck_assert_int_eq(out.n_models, 0);
    opts.learning_rate = 1e-3;
    data->y[3] = 1e200; /* finite, but its square is not */
    ck_assert_int_eq(train(data, &opts, &out, &error), ESP_NUMERIC);
    done(&out, data);
}
END_TEST

/* A frame that multiplies by a hundred at each step: the first is fine, the 29th is beyond what a float can say. */
START_TEST(train__rollouts_that_explode_are_told_from_weights_that_do) {
    static double a[] = {100}, b[] = {0}, c[] = {1}, d[] = {0}, g[] = {1};
    esp_dataset *data = drive(kinked_robot, 1, 1, 30);
    outcome out = {0};
    esp_error error;
    esp_train_opts opts = small_opts(8);
    opts.frame = (esp_frame){ESP_FRAME_LINEAR, a, b, c, d, g};
    opts.f_in = opts.f_out = 1;
    opts.rollout = 29;
    ck_assert_int_eq(train(data, &opts, &out, &error), ESP_NUMERIC);
    ck_assert_msg(strstr(error.message, "explode") && strstr(error.message, "29 steps") && strstr(error.message, "/rollout"), "%s", error.message);
    opts.rollout = 1;
    ck_assert_int_eq(train(data, &opts, &out, &error), ESP_OK);
    done(&out, data);
}
END_TEST

START_TEST(train__stops_when_asked_and_at_its_deadline) {
    esp_dataset *data = drive(kinked_robot, 1, 1, 60);
    outcome out = {.cancel_after = 3};
    esp_train_hooks hooks = {.user = &out, .progress = report, .model = receive};
    esp_stop stop = {.deadline_ns = ESP_NEVER, .cancelled = look, .user = &out};
    esp_error error = {0};
    esp_train_opts opts = small_opts(32);
    opts.epochs = 100000;
    ck_assert_int_eq(esp_train_run(data, &opts, &hooks, &stop, &error), ESP_CANCELLED);
    ck_assert_int_eq(out.looks, 3);
    ck_assert_int_eq(out.n_models, 0);
    stop = (esp_stop){.deadline_ns = esp_clock_now_ns() + 700 * ESP_NS_PER_MS};
    ck_assert_int_eq(esp_train_run(data, &opts, &hooks, &stop, &error), ESP_DEADLINE);
    ck_assert_int_gt(out.n_reports, 0);
    ck_assert(!out.falling_fraction);
    done(&out, data);
}
END_TEST

START_TEST(train__a_failing_hook_stops_the_run) {
    esp_dataset *data = drive(kinked_robot, 1, 1, 30);
    outcome out = {.model_code = ESP_IO};
    esp_error error;
    esp_train_opts opts = small_opts(8);
    opts.epochs = opts.rung_epochs = 1;
    opts.n_rungs = 1;
    opts.ladder[0] = 3;
    ck_assert_int_eq(train(data, &opts, &out, &error), ESP_IO);
    ck_assert_int_eq(out.n_models, 1);
    done(&out, data);
}
END_TEST

/* ---- spec ------------------------------------------------------------------------------------------------------------ */

static esp_code parse(const char *text, esp_train_opts *ret_opts, esp_error *error) {
    static esp_arena *arena;
    esp_json *json;
    *error = (esp_error){0};
    esp_arena_free(arena);
    arena = esp_arena_create(0);
    ck_assert_int_eq(esp_json_parse(text, strlen(text), &json, error), ESP_OK);
    esp_reader spec = esp_reader_root(json);
    esp_code code = esp_train_opts_parse(&spec, 2, 1, arena, ret_opts, error);
    esp_json_free(json);
    return code;
}

START_TEST(train_opts__reads_every_field_and_writes_it_back) {
    esp_train_opts opts, again;
    esp_error error;
    esp_buf text = {0};
    esp_jsonw w = esp_jsonw_on(&text);
    ck_assert_int_eq(
        parse("{\"dataset\":\"d\",\"name\":\"n\",\"model\":{\"type\":\"mlp\",\"hidden\":[20,10]},\"history\":2,\"rollout\":3,\"epochs\":4,"
              "\"rung_epochs\":5,\"batch\":6,\"learning_rate\":0.007,\"input_noise\":0.08,\"weight_decay\":0.009,\"clip\":1.5,\"validation\":0.25,"
              "\"seed\":9007199254740991,\"ladder\":[29,12,0],\"lambda\":0.5,\"lambda_id\":0.25,\"tau\":0.75,\"logit_rate\":0.125,"
              "\"straight_through\":false,\"step_weights\":[1,0,0.5],\"schedule\":\"plateau\",\"plateau_factor\":0.5,\"plateau_patience\":9,"
              "\"plateau_threshold\":0.01,\"early_stop\":11,\"proof_weight\":0.002,\"rounding\":0.03125,\"reach\":7,\"threads\":2,"
              "\"target\":{\"validation_rmse\":0.125}}",
              &opts, &error),
        ESP_OK);
    ck_assert(opts.n_hidden == 2 && opts.hidden[0] == 20 && opts.hidden[1] == 10 && opts.history == 2 && opts.rollout == 3 && opts.epochs == 4);
    ck_assert(opts.rung_epochs == 5 && opts.batch == 6 && opts.learning_rate == 0.007 && opts.input_noise == 0.08 && opts.weight_decay == 0.009);
    ck_assert(opts.clip == 1.5 && opts.validation == 0.25 && opts.seed == 9007199254740991u && opts.n_rungs == 3 && opts.ladder[2] == 0);
    ck_assert(opts.lambda == 0.5 && opts.lambda_id == 0.25 && opts.tau == 0.75 && opts.logit_rate == 0.125 && !opts.straight_through);
    ck_assert(opts.frame.kind == ESP_FRAME_NONE && opts.f_in == 6 && opts.f_out == 2);
    esp_train_opts_format(&opts, &w);
    ck_assert_msg(parse(esp_buf_text(&text), &again, &error) == ESP_OK, "%s: %s in %s", error.pointer, error.message, esp_buf_text(&text));
    ck_assert(again.seed == opts.seed && again.learning_rate == opts.learning_rate && again.ladder[1] == 12 && again.n_rungs == 3 &&
              again.batch == 6);
    ck_assert(opts.schedule == ESP_SCHEDULE_PLATEAU && opts.plateau_factor == 0.5 && opts.plateau_patience == 9 && opts.plateau_threshold == 0.01);
    ck_assert(opts.early_stop == 11 && opts.n_step_weights == 3 && opts.step_weights[1] == 0 && opts.step_weights[2] == 0.5);
    ck_assert(again.schedule == opts.schedule && again.early_stop == 11 && again.n_step_weights == 3 && again.step_weights[2] == 0.5);
    ck_assert(opts.proof_weight == 0.002 && opts.reach == 7 && again.proof_weight == 0.002 && again.reach == 7 && again.threads == 2);
    ck_assert(opts.rounding == 0.03125 && again.rounding == 0.03125);
    ck_assert(opts.target_rmse == 0.125 && opts.target_plan_ms == 0 && again.target_rmse == 0.125);
    ck_assert(!again.straight_through && again.hidden[1] == 10 && again.tau == opts.tau);
    esp_buf_done(&text);
}
END_TEST

START_TEST(train_opts__a_target_without_a_ladder_makes_one) {
    esp_train_opts opts;
    esp_error error;
    ck_assert_int_eq(parse("{\"model\":{\"type\":\"mlp\",\"hidden\":[8,8]},\"target\":{\"plan_ms\":20,\"task\":\"t\"}}", &opts, &error), ESP_OK);
    static const int made[] = {12, 9, 6, 4, 3, 2, 1};
    ck_assert_int_eq(opts.n_rungs, 7);
    ck_assert_mem_eq(opts.ladder, made, sizeof made);
    ck_assert_double_eq(opts.target_plan_ms, 20);
    ck_assert_int_eq(parse("{\"model\":{\"type\":\"mlp\",\"hidden\":[8,8]},\"ladder\":[5],\"target\":{\"validation_rmse\":1}}", &opts, &error),
                     ESP_OK);
    ck_assert(opts.n_rungs == 1 && opts.ladder[0] == 5);
}
END_TEST

START_TEST(train_opts__plain_spec_takes_the_defaults) {
    esp_train_opts opts, defaults;
    esp_error error;
    esp_train_opts_init(&defaults);
    ck_assert_int_eq(parse("{\"model\":{\"type\":\"mlp\",\"hidden\":[8]},\"frame\":\"residual\"}", &opts, &error), ESP_OK);
    ck_assert_int_eq(opts.frame.kind, ESP_FRAME_RESIDUAL);
    ck_assert(opts.epochs == defaults.epochs && opts.batch == defaults.batch && opts.n_rungs == 0 && opts.n_hidden == 1 && opts.straight_through);
}
END_TEST

static const struct refusal {
    const char *spec, *pointer;
    esp_code code;
} refusals[] = {
    {"{}", "/model", ESP_INVALID},
    {"{\"model\":{\"type\":\"tree\",\"hidden\":[8]}}", "/model/type", ESP_INVALID},
    {"{\"model\":{\"type\":\"tree\",\"hidden\":[8]}}", "/model/type", ESP_INVALID},
    {"{\"model\":{\"type\":\"mlp\"}}", "/model/hidden", ESP_INVALID},
    {"{\"model\":{\"type\":\"mlp\",\"hidden\":[8,0]}}", "/model/hidden/1", ESP_INVALID},
    {"{\"model\":{\"type\":\"mlp\",\"hidden\":[4096,4096,4096]}}", "/model/hidden", ESP_INVALID},
    {"{\"model\":{\"type\":\"mlp\",\"hidden\":[8],\"depth\":2}}", "/model/depth", ESP_INVALID},
    {"{\"model\":{\"type\":\"mlp\",\"hidden\":[8]},\"ladder\":[8]}", "/ladder/0", ESP_INVALID},
    {"{\"model\":{\"type\":\"mlp\",\"hidden\":[8]},\"ladder\":[6,3,3]}", "/ladder/2", ESP_INVALID},
    {"{\"model\":{\"type\":\"mlp\",\"hidden\":[8]},\"ladder\":[6,-1]}", "/ladder/1", ESP_INVALID},
    {"{\"model\":{\"type\":\"mlp\",\"hidden\":[8]},\"epochs\":-1}", "/epochs", ESP_INVALID},
    {"{\"model\":{\"type\":\"mlp\",\"hidden\":[8]},\"epochs\":2.5}", "/epochs", ESP_INVALID},
    {"{\"model\":{\"type\":\"mlp\",\"hidden\":[8]},\"learning_rate\":-1}", "/learning_rate", ESP_INVALID},
    {"{\"model\":{\"type\":\"mlp\",\"hidden\":[8]},\"tau\":0}", "/tau", ESP_INVALID},
    {"{\"model\":{\"type\":\"mlp\",\"hidden\":[8]},\"seed\":-1}", "/seed", ESP_INVALID},
    {"{\"model\":{\"type\":\"mlp\",\"hidden\":[8]},\"straight_through\":1}", "/straight_through", ESP_INVALID},
    {"{\"model\":{\"type\":\"mlp\",\"hidden\":[8]},\"frame\":\"integral\"}", "/frame", ESP_INVALID},
    {"{\"model\":{\"type\":\"mlp\",\"hidden\":[8]},\"horizon\":3}", "/horizon", ESP_INVALID},
    {"{\"model\":{\"type\":\"mlp\",\"hidden\":[8]},\"schedule\":\"linear\"}", "/schedule", ESP_INVALID},
    {"{\"model\":{\"type\":\"mlp\",\"hidden\":[8]},\"plateau_factor\":0}", "/plateau_factor", ESP_INVALID},
    {"{\"model\":{\"type\":\"mlp\",\"hidden\":[8]},\"early_stop\":-1}", "/early_stop", ESP_INVALID},
    {"{\"model\":{\"type\":\"mlp\",\"hidden\":[8]},\"proof_weight\":-1}", "/proof_weight", ESP_INVALID},
    {"{\"model\":{\"type\":\"mlp\",\"hidden\":[8]},\"rounding\":1.5}", "/rounding", ESP_INVALID},
    {"{\"model\":{\"type\":\"mlp\",\"hidden\":[8]},\"reach\":0}", "/reach", ESP_INVALID},
    {"{\"model\":{\"type\":\"mlp\",\"hidden\":[8]},\"target\":{}}", "/target", ESP_INVALID},
    {"{\"model\":{\"type\":\"mlp\",\"hidden\":[8]},\"target\":{\"validation_rmse\":1,\"plan_ms\":1,\"task\":\"t\"}}", "/target", ESP_INVALID},
    {"{\"model\":{\"type\":\"mlp\",\"hidden\":[8]},\"target\":{\"plan_ms\":5}}", "/target", ESP_INVALID},
    {"{\"model\":{\"type\":\"mlp\",\"hidden\":[8]},\"target\":{\"validation_rmse\":0}}", "/target/validation_rmse", ESP_INVALID},
    {"{\"model\":{\"type\":\"mlp\",\"hidden\":[8]},\"target\":{\"validation_rmse\":1,\"task\":\"t\"}}", "/target", ESP_INVALID},
    {"{\"model\":{\"type\":\"mlp\",\"hidden\":[8]},\"step_weights\":[1,1]}", "/step_weights", ESP_INVALID},
    {"{\"model\":{\"type\":\"mlp\",\"hidden\":[8]},\"rollout\":2,\"step_weights\":[1,-1]}", "/step_weights/1", ESP_INVALID},
    {"{\"model\":{\"type\":\"mlp\",\"hidden\":[8]},\"rollout\":2,\"step_weights\":[0,0]}", "/step_weights", ESP_INVALID},
};

START_TEST(train_opts__refuses_and_names_the_field) {
    const struct refusal *r = &refusals[_i];
    esp_train_opts opts = {.batch = -7};
    esp_error error;
    esp_code code = parse(r->spec, &opts, &error);
    ck_assert_msg(code == r->code && error.code == r->code, "%s: %s, %s", r->spec, esp_code_name(code), error.message);
    ck_assert_str_eq(error.pointer, r->pointer);
    ck_assert_int_eq(opts.batch, -7);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("train");
    TCase *learn = tcase_create("learn"), *stop = tcase_create("stop"), *spec = tcase_create("spec");
    tcase_set_timeout(learn, 30);
    tcase_add_loop_test(learn, train__learns_a_linear_map, 0, 2);
    tcase_add_test(learn, train__learns_a_piecewise_affine_map);
    tcase_add_test(learn, train__rollout_loss_trains_through_time);
    tcase_add_loop_test(learn, train__constant_columns_just_work, 0, 3);
    tcase_add_test(learn, train__works_without_inputs);
    tcase_add_test(learn, train__history_sees_what_one_output_cannot);
    tcase_add_loop_test(learn, train__linear_frame_carries_what_is_known, 0, 2);
    tcase_add_test(learn, train__same_seed_same_model_other_seed_other_model);
    tcase_add_test(learn, train__one_trajectory_trains_and_validates);
    tcase_set_timeout(stop, 30);
    tcase_add_test(stop, train__too_little_data_is_refused_with_the_numbers);
    tcase_add_test(stop, train__a_loss_that_is_not_finite_says_what_to_lower);
    tcase_add_test(stop, train__rollouts_that_explode_are_told_from_weights_that_do);
    tcase_add_test(stop, train__stops_when_asked_and_at_its_deadline);
    tcase_add_test(stop, train__a_failing_hook_stops_the_run);
    tcase_add_test(spec, train_opts__reads_every_field_and_writes_it_back);
    tcase_add_test(spec, train_opts__plain_spec_takes_the_defaults);
    tcase_add_test(spec, train_opts__a_target_without_a_ladder_makes_one);
    tcase_add_loop_test(spec, train_opts__refuses_and_names_the_field, 0, sizeof refusals / sizeof *refusals);
    suite_add_tcase(suite, learn);
    suite_add_tcase(suite, stop);
    suite_add_tcase(suite, spec);
    return run_suite(suite);
}
