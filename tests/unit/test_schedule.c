/* SPDX-License-Identifier: Apache-2.0
 * How a run is steered: the learning rate's schedules and the early stop by hand, then what each option does to what is learned. */
#include <check.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/rng.h"
#include "support/suite.h"
#include "train/schedule.h"

enum { STEPS = 25 };

static esp_train_opts plateau_opts(void) {
    esp_train_opts opts;
    esp_train_opts_init(&opts);
    opts.schedule = ESP_SCHEDULE_PLATEAU;
    opts.plateau_patience = 2;
    opts.plateau_factor = 0.5;
    opts.plateau_threshold = 0.1;
    return opts;
}

START_TEST(schedule__plateau_waits_and_cuts) {
    static const struct epoch {
        double loss;
        bool better;
        double rate;
    } epochs[] = {{2, true, 1},      {1.9, false, 1},    {1.85, false, 1},   {1.81, false, 0.5},       {1.81, false, 0.5},
                  {1.79, true, 0.5}, {NAN, false, 0.5},  {5, false, 0.5},    {-INFINITY, false, 0.25}, {1.7, false, 0.25},
                  {1.6, true, 0.25}, {1.6, false, 0.25}, {1.6, false, 0.25}, {0, true, 0.25},          {0, false, 0.25}};
    const esp_train_opts opts = plateau_opts();
    esp_schedule s;
    esp_schedule_begin(&s);
    for (size_t i = 0; i < sizeof epochs / sizeof *epochs; i++) {
        ck_assert_msg(esp_schedule_epoch(&s, &opts, epochs[i].loss) == epochs[i].better, "epoch %zu", i);
        ck_assert_msg(esp_schedule_rate(&s, &opts, 0.5) == epochs[i].rate, "epoch %zu: %g", i, esp_schedule_rate(&s, &opts, 0.5));
    }
    for (int i = 0; i < 1000; i++) (void)esp_schedule_epoch(&s, &opts, 1);
    ck_assert_double_eq(esp_schedule_rate(&s, &opts, 1), 1e-4);
}
END_TEST

START_TEST(schedule__cosine_goes_to_a_hundredth_whatever_happens) {
    esp_train_opts opts = plateau_opts();
    esp_schedule s;
    opts.schedule = ESP_SCHEDULE_COSINE;
    esp_schedule_begin(&s);
    for (int i = 0; i < 50; i++) (void)esp_schedule_epoch(&s, &opts, 1);
    ck_assert_double_eq(esp_schedule_rate(&s, &opts, 0), 1);
    ck_assert_double_eq_tol(esp_schedule_rate(&s, &opts, 0.5), 0.505, 1e-12);
    ck_assert_double_eq_tol(esp_schedule_rate(&s, &opts, 1), 0.01, 1e-12);
}
END_TEST

START_TEST(schedule__is_over_after_so_many_epochs) {
    esp_train_opts opts = plateau_opts();
    esp_schedule s;
    esp_schedule_begin(&s);
    for (int i = 0; i < 100; i++) (void)esp_schedule_epoch(&s, &opts, 1);
    ck_assert(!esp_schedule_over(&s, &opts)); /* not asked for */
    opts.early_stop = 3;
    ck_assert(esp_schedule_over(&s, &opts));
    ck_assert(esp_schedule_epoch(&s, &opts, 0.5));
    for (int i = 0; i < 3; i++) {
        ck_assert(!esp_schedule_over(&s, &opts));
        ck_assert(!esp_schedule_epoch(&s, &opts, 0.5));
    }
    ck_assert(esp_schedule_over(&s, &opts));
}
END_TEST

/* ---- what comes of it ---- */

/* y+ = gain u + bend max(0, u), y of no effect, n trajectories. */
static esp_dataset *drive(size_t n, double gain, double bend) {
    esp_dataset *data = calloc(1, sizeof *data);
    esp_rng rng;
    esp_rng_init(&rng, 4, 1);
    *data = (esp_dataset){.ny = 1, .nu = 1, .n_trajectories = n, .n_transitions = n * STEPS, .n_rows = n * (STEPS + 1)};
    data->start = malloc((n + 1) * sizeof *data->start);
    data->y = malloc(data->n_rows * sizeof *data->y);
    data->u = calloc(data->n_rows, sizeof *data->u);
    for (size_t i = 0; i <= n; i++) data->start[i] = (STEPS + 1) * i;
    for (size_t r = 0; r < data->n_rows; r++) {
        bool first = r % (STEPS + 1) == 0;
        data->y[r] = first ? esp_rng_range(&rng, -1, 1) : gain * data->u[r - 1] + bend * fmax(0, data->u[r - 1]);
        if (r % (STEPS + 1) < STEPS) data->u[r] = esp_rng_range(&rng, -1, 1);
    }
    return data;
}

typedef struct outcome {
    double rmse, rollout_rmse, norm; /* norm: of the weights */
    double slope; /* of the last layer's last weight: a linear model's dy+/du */
} outcome;

static esp_code receive(void *user, const esp_train_model *trained, esp_error *reterr) {
    outcome *out = user;
    const esp_net *net = trained->model->net;
    (void)reterr;
    *out = (outcome){.rmse = trained->validation_rmse, .rollout_rmse = trained->rollout_rmse};
    for (int l = 0; l < net->n_layers; l++)
        for (int i = 0; i < net->layers[l].n_out * net->layers[l].n_in; i++) {
            out->slope = net->layers[l].w[i];
            out->norm += out->slope * out->slope;
        }
    return ESP_OK;
}

static outcome train(const esp_dataset *data, const esp_train_opts *opts) {
    outcome out = {0};
    const esp_train_hooks hooks = {.user = &out, .model = receive};
    esp_error error = {0};
    esp_code code = esp_train_run(data, opts, &hooks, NULL, &error);
    ck_assert_msg(code == ESP_OK, "%s: %s", esp_code_name(code), error.message);
    return out;
}

static esp_train_opts opts_of(int hidden) {
    esp_train_opts opts;
    esp_train_opts_init(&opts);
    opts.n_hidden = hidden > 0;
    opts.hidden[0] = hidden;
    opts.batch = 32;
    opts.epochs = 60;
    opts.learning_rate = 0.01;
    return opts;
}

/* Run for as long as it takes, which is not the hundred thousand epochs that are allowed. */
START_TEST(run__plateau_and_early_stop_end_a_run_when_it_is_done) {
    esp_dataset *data = drive(60, 0.5, 0.5);
    esp_train_opts opts = opts_of(8);
    opts.epochs = 100000;
    opts.schedule = ESP_SCHEDULE_PLATEAU;
    opts.early_stop = 10;
    opts.plateau_threshold = 0.01;
    ck_assert_double_lt(train(data, &opts).rmse, 1e-3);
    esp_dataset_free(data);
}
END_TEST

/* A rate that stays too high: the last epoch is not the best. */
START_TEST(run__early_stop_keeps_the_best_epoch) {
    esp_dataset *data = drive(40, 0.5, 0.5);
    esp_train_opts opts = opts_of(16);
    opts.learning_rate = 0.3;
    opts.schedule = ESP_SCHEDULE_PLATEAU;
    opts.plateau_factor = 1;
    outcome last = train(data, &opts);
    opts.early_stop = opts.epochs;
    outcome best = train(data, &opts);
    ck_assert_double_lt(best.rmse, 0.9 * last.rmse);
    esp_dataset_free(data);
}
END_TEST

/* The best linear fit from inputs with noise of variance s^2, in units in which theirs is 1, is 1 / (1 + s^2) as steep. */
START_TEST(run__input_noise_flattens_a_slope_as_it_must) {
    esp_dataset *data = drive(200, 0.8, 0);
    esp_train_opts opts = opts_of(0);
    ck_assert_double_eq_tol(train(data, &opts).slope, 0.8, 1e-3);
    opts.input_noise = 0.5;
    ck_assert_double_eq_tol(train(data, &opts).slope, 0.8 / 1.25, 0.03);
    esp_dataset_free(data);
}
END_TEST

START_TEST(run__weight_decay_keeps_weights_small) {
    esp_dataset *data = drive(60, 0.5, 0.5);
    esp_train_opts opts = opts_of(16);
    double norm = train(data, &opts).norm;
    opts.weight_decay = 1;
    ck_assert_double_lt(train(data, &opts).norm, 0.5 * norm);
    esp_dataset_free(data);
}
END_TEST

/* Gradients of next to nothing: Adam's epsilon is above them, and the weights stay where they began. */
START_TEST(run__clip_holds_a_step_back) {
    esp_dataset *data = drive(60, 0.5, 0.5);
    esp_train_opts opts = opts_of(16);
    double rmse = train(data, &opts).rmse;
    opts.clip = 1e-14;
    ck_assert_double_gt(train(data, &opts).rmse, 20 * rmse);
    esp_dataset_free(data);
}
END_TEST

/* Steps that weigh nothing teach nothing: with all on the first, a rollout's loss is that of one step, on fewer windows. */
START_TEST(run__step_weights_say_which_steps_count) {
    esp_dataset *data = drive(60, 0.5, 0.5);
    esp_train_opts opts = opts_of(8);
    opts.frame.kind = ESP_FRAME_RESIDUAL;
    opts.rollout = 3;
    opts.epochs = 5;
    outcome even = train(data, &opts);
    opts.n_step_weights = 3;
    for (int k = 0; k < 3; k++) opts.step_weights[k] = 7; /* in proportion only */
    outcome same = train(data, &opts);
    ck_assert(even.norm == same.norm && even.rmse == same.rmse);
    opts.step_weights[1] = opts.step_weights[2] = 0;
    ck_assert_double_ne(train(data, &opts).norm, even.norm);
    esp_dataset_free(data);
}
END_TEST

/* Parts one after the other, in either order. */
static void run_parts(void *user, void (*part)(void *arg, int i), void *arg) {
    const bool *forwards = user;
    for (int i = 0; i < 3; i++) part(arg, *forwards ? i : 2 - i);
}

/* What is learned depends on the number of threads and not on which of them is first. */
START_TEST(run__parts_of_a_minibatch_are_added_in_order) {
    esp_dataset *data = drive(60, 0.5, 0.5);
    esp_train_opts opts = opts_of(8);
    opts.epochs = 4;
    opts.input_noise = 0.1;
    double one = train(data, &opts).norm, norm[2];
    opts.threads = 3;
    for (int i = 0; i < 2; i++) {
        bool forwards = i;
        outcome out = {0};
        const esp_parallel parallel = {3, &forwards, run_parts};
        const esp_train_hooks hooks = {.user = &out, .model = receive, .parallel = &parallel};
        ck_assert_int_eq(esp_train_run(data, &opts, &hooks, NULL, NULL), ESP_OK);
        norm[i] = out.norm;
    }
    ck_assert(norm[0] == norm[1]);
    ck_assert_double_ne(norm[0], one);
    ck_assert_double_eq_tol(norm[0], one, 0.2 * one);
    esp_dataset_free(data);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("schedule");
    TCase *hand = tcase_create("by hand"), *runs = tcase_create("runs");
    tcase_set_timeout(runs, 60);
    tcase_add_test(hand, schedule__plateau_waits_and_cuts);
    tcase_add_test(hand, schedule__cosine_goes_to_a_hundredth_whatever_happens);
    tcase_add_test(hand, schedule__is_over_after_so_many_epochs);
    tcase_add_test(runs, run__plateau_and_early_stop_end_a_run_when_it_is_done);
    tcase_add_test(runs, run__early_stop_keeps_the_best_epoch);
    tcase_add_test(runs, run__input_noise_flattens_a_slope_as_it_must);
    tcase_add_test(runs, run__weight_decay_keeps_weights_small);
    tcase_add_test(runs, run__clip_holds_a_step_back);
    tcase_add_test(runs, run__step_weights_say_which_steps_count);
    tcase_add_test(runs, run__parts_of_a_minibatch_are_added_in_order);
    suite_add_tcase(suite, hand);
    suite_add_tcase(suite, runs);
    return run_suite(suite);
}
