/* SPDX-License-Identifier: Apache-2.0
 * Train jobs over HTTP: data of every shape that is normal, and clear failures for what cannot be trained. */
#include <check.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "support/rail.h"
#include "support/schema.h"

static test_daemon d;

/* n trajectories of 15 steps, one line each: y = (p, v, 3), v constant but for u if there is any, and u = (f, 0.5). */
static void upload(const char *name, int n, bool inputs) {
    esp_buf text = {0}, actions = {0};
    char path[128];
    for (int i = 0; i < n; i++) {
        double p = sin(i), v = cos(3 * i);
        esp_buf_clear(&actions);
        esp_buf_printf(&text, "{\"y\":[[%.9g,%.9g,3]", p, v);
        for (int t = 0; t < 15; t++) {
            double f = sin(7 * i + 5 * t);
            p = 0.9 * p + 0.1 * v;
            v = 0.8 * v + (inputs ? 0.2 * f : 0.05 * fabs(p));
            esp_buf_printf(&text, ",[%.9g,%.9g,3]", p, v);
            if (inputs) esp_buf_printf(&actions, "%s[%.9g,0.5]", t ? "," : "", f);
            if (!inputs) esp_buf_puts(&actions, t ? ",[]" : "[]");
        }
        esp_buf_printf(&text, "],\"u\":[%s]}\n", esp_buf_text(&actions));
    }
    snprintf(path, sizeof path, "/v1/datasets?name=%s", name);
    http_reply reply = http_post(&d, path, "application/x-ndjson", text.data, text.len);
    expect_status(reply, 201);
    http_done(&reply);
    esp_buf_done(&text);
    esp_buf_done(&actions);
}

static http_reply train(const char *dataset, const char *name, const char *rest) {
    char id[64], body[1024], why[1024] = "";
    snprintf(body, sizeof body,
             "{\"kind\":\"train\",\"spec\":{\"dataset\":\"%s\",\"name\":\"%s\",\"model\":{\"type\":\"mlp\",\"hidden\":[8]},\"seed\":1,%s}}", dataset,
             name, rest);
    ck_assert_msg(schema_check_request("POST", "/v1/jobs", body, why, sizeof why), "%s: %s", body, why);
    rail_submit(&d, body, id);
    http_reply job = rail_wait_end(&d, id, 60);
    ck_assert_msg(schema_check_reply("GET", "/v1/jobs/{id}", 200, job.body, why, sizeof why), "%s", why);
    return job;
}

static http_reply model_of(http_reply *job) {
    char path[128];
    ck_assert_msg(strcmp(reply_text(job, "/state"), "succeeded") == 0, "%.1500s", job->body);
    snprintf(path, sizeof path, "/v1/models/%s", reply_text(job, "/result/models/0/id"));
    http_reply model = http_get(&d, path);
    expect_status(model, 200);
    http_done(job);
    return model;
}

static void expect_learned(const char *dataset, const char *name, const char *rest, double rmse) {
    http_reply job = train(dataset, name, rest), model = model_of(&job);
    ck_assert_double_lt(reply_number(&model, "/validation_rmse"), rmse);
    http_done(&model);
}

START_TEST(train__a_column_that_never_moves_is_normal) {
    expect_learned("moved", "constant", "\"epochs\":60,\"batch\":32", 0.02);
    expect_learned("moved", "constant-residual", "\"epochs\":60,\"batch\":32,\"frame\":\"residual\",\"rollout\":3,\"history\":2,\"ladder\":[3]",
                   0.02);
}
END_TEST

START_TEST(train__a_system_without_inputs_is_normal) {
    expect_learned("free", "autonomous", "\"epochs\":60,\"batch\":32", 0.02);
    expect_learned("free", "autonomous-residual", "\"epochs\":60,\"batch\":32,\"frame\":\"residual\",\"rollout\":3,\"ladder\":[3]", 0.02);
    static const char body[] = "{\"x\":[[0.5,0.25,3]]}";
    http_reply reply = http_json(&d, "POST", "/v1/models/autonomous/predict", body);
    expect_status(reply, 200);
    ck_assert_double_eq_tol(reply_number(&reply, "/y/0/0"), 0.475, 0.05);
    ck_assert_double_eq_tol(reply_number(&reply, "/y/0/2"), 3, 1e-3);
    http_done(&reply);
}
END_TEST

/* Every field that steers a run, and what of it is kept for lineage. */
START_TEST(train__schedule_and_early_stop_are_in_the_lineage) {
    http_reply job = train("moved", "steered",
                           "\"epochs\":100000,\"batch\":32,\"rollout\":2,\"step_weights\":[1,2],\"schedule\":\"plateau\",\"plateau_factor\":0.25,"
                           "\"plateau_patience\":2,\"plateau_threshold\":0.01,\"early_stop\":6");
    ck_assert_double_gt(reply_number(&job, "/progress/metrics/validation_loss"), 0);
    http_reply model = model_of(&job);
    ck_assert_str_eq(reply_text(&model, "/spec/train/schedule"), "plateau");
    ck_assert_double_eq(reply_number(&model, "/spec/train/plateau_factor"), 0.25);
    ck_assert_double_eq(reply_number(&model, "/spec/train/early_stop"), 6);
    ck_assert_double_eq(reply_number(&model, "/spec/train/step_weights/1"), 2);
    ck_assert_double_lt(reply_number(&model, "/validation_rmse"), 0.05);
    http_done(&model);
}
END_TEST

/* The same data, seed and number of threads: the same bytes, whatever the threads did when. */
START_TEST(train__two_threads_make_the_same_model_twice) {
    char sha256[2][80];
    for (int i = 0; i < 2; i++) {
        http_reply job =
            train("moved", i ? "twice" : "once", "\"threads\":2,\"epochs\":30,\"batch\":64,\"rollout\":2,\"input_noise\":0.01,\"ladder\":[3]");
        http_reply model = model_of(&job);
        snprintf(sha256[i], sizeof sha256[i], "%s", reply_text(&model, "/sha256"));
        ck_assert_double_eq(reply_number(&model, "/spec/train/threads"), 2);
        http_done(&model);
    }
    ck_assert_str_eq(sha256[0], sha256[1]);
}
END_TEST

static void expect_failed(const char *rest, const char *code, const char *pointer, const char *says) {
    http_reply job = train("moved", "failing", rest);
    ck_assert_msg(strcmp(reply_text(&job, "/state"), "failed") == 0, "%.1500s", job.body);
    ck_assert_str_eq(reply_text(&job, "/error/code"), code);
    ck_assert_str_eq(reply_text(&job, "/error/pointer"), pointer);
    ck_assert_msg(strstr(reply_text(&job, "/error/detail"), says), "%.1500s", job.body);
    http_done(&job);
}

START_TEST(train__failures_say_what_to_change) {
    expect_failed(
        "\"learning_rate\":10,\"epochs\":50,\"batch\":1,\"rollout\":14,\"frame\":{\"a\":[[1e9,0,0],[0,1,0],[0,0,1]],\"b\":[[0,0],[0,0],[0,0]],"
        "\"c\":[[1,0,0]],\"d\":[[0,0]],\"g\":[[1],[0],[0]]}",
        "NUMERIC", "/spec/rollout", "lower /rollout or /learning_rate (10), or set /clip to 1");
    expect_failed("\"batch\":1000", "INVALID", "/spec/batch", "lower /batch or bring more data");
    expect_failed("\"history\":5,\"rollout\":12", "INVALID", "/spec/rollout",
                  "need trajectories of at least 17 observations; the longest for training has 16");
}
END_TEST

/* ---- the ladder by target ---- */

#define SHORT "\"epochs\":20,\"rung_epochs\":4,\"batch\":32,"

static double rmse_of(const http_reply *job, size_t model) {
    char pointer[64];
    snprintf(pointer, sizeof pointer, "/result/models/%zu/validation_rmse", model);
    return reply_number(job, pointer);
}

static void expect_target(const http_reply *job, size_t n, size_t chosen) {
    char pointer[64], id[64];
    ck_assert_msg(strcmp(reply_text(job, "/state"), "succeeded") == 0, "%.1500s", job->body);
    ck_assert_uint_eq(reply_count(job, "/result/models"), n);
    ck_assert_msg(strstr(job->body, chosen < n ? "\"met\":true" : "\"met\":false"), "%.1500s", job->body);
    ck_assert(reply_has(job, "/result/target/model") == (chosen < n));
    if (chosen >= n) return;
    snprintf(pointer, sizeof pointer, "/result/models/%zu/id", chosen);
    snprintf(id, sizeof id, "%s", reply_text(job, pointer));
    ck_assert_str_eq(reply_text(job, "/result/target/model/id"), id);
}

/* Down for as long as the error allows; what comes out is then the last that was good enough. */
START_TEST(target__error_picks_the_last_rung_that_is_good_enough) {
    char rest[256];
    http_reply all = train("moved", "by-error", SHORT "\"target\":{\"validation_rmse\":1000}");
    expect_target(&all, 6, 5); /* 8 ReLUs, then 6, 4, 3, 2, 1 */
    http_reply none = train("moved", "by-error", SHORT "\"target\":{\"validation_rmse\":1e-9}");
    expect_target(&none, 1, 1);
    double limit = rmse_of(&all, 1);
    snprintf(rest, sizeof rest, SHORT "\"target\":{\"validation_rmse\":%.17g}", limit);
    http_reply some = train("moved", "by-error", rest);
    size_t n = 0;
    while (n < 6 && rmse_of(&all, n) <= limit) n++;
    expect_target(&some, n < 6 ? n + 1 : 6, n > 0 ? n - 1 : 1);
    http_done(&all);
    http_done(&none);
    http_done(&some);
}
END_TEST

static void store_task(const char *name, const char *model, const char *planner) {
    char body[512];
    snprintf(body, sizeof body,
             "{\"name\":\"%s\",\"model\":\"%s\",\"horizon\":3,\"cost\":{\"stage\":[{\"on\":\"y\",\"index\":[0,1],\"weight\":1,\"norm\":\"l1\","
             "\"target\":\"goal\"}]},\"input\":{\"lower\":[-1,0],\"upper\":[1,1]},\"planner\":%s}",
             name, model, planner);
    http_reply reply = http_json(&d, "POST", "/v1/tasks", body);
    expect_status(reply, 201);
    http_done(&reply);
}

START_TEST(target__plan_time_picks_the_first_rung_that_is_fast_enough) {
    http_reply job = train("moved", "planned", SHORT "\"history\":2"), model;
    http_done(&job);
    store_task("proved", "planned", "{\"method\":\"mip\"}");
    job = train("moved", "by-time", SHORT "\"history\":2,\"ladder\":[4],\"target\":{\"plan_ms\":10000,\"task\":\"proved\"}");
    expect_target(&job, 1, 0);
    ck_assert(strncmp(reply_text(&job, "/spec/target/task"), "tsk_", 4) == 0);
    model = model_of(&job);
    ck_assert_double_ge(reply_number(&model, "/metrics/plans_proved"), 0.9);
    ck_assert_double_eq(reply_number(&model, "/spec/train/target/plan_ms"), 10000);
    http_done(&model);
}
END_TEST

START_TEST(target__is_refused_by_field) {
    static const struct {
        const char *dataset, *target, *pointer;
        int status;
    } refused[] = {{"moved", "{\"plan_ms\":5,\"task\":\"nobody\"}", "/spec/target/task", 422},
                   {"moved", "{\"plan_ms\":5,\"task\":\"sampled\"}", "/spec/target/task", 422},
                   {"free", "{\"plan_ms\":5,\"task\":\"sampled\"}", "/spec/target/task", 422},
                   {"moved", "{\"plan_ms\":0,\"task\":\"sampled\"}", "/spec/target/plan_ms", 400},
                   {"moved", "{\"plan_ms\":5}", "/spec/target", 400}};
    http_reply job = train("moved", "refused", "\"epochs\":1,\"batch\":32");
    http_done(&job);
    store_task("sampled", "refused", "{\"method\":\"mppi\"}");
    for (size_t i = 0; i < sizeof refused / sizeof *refused; i++) {
        char body[512];
        snprintf(body, sizeof body,
                 "{\"kind\":\"train\",\"spec\":{\"dataset\":\"%s\",\"name\":\"x\",\"model\":{\"type\":\"mlp\",\"hidden\":[8]},\"target\":%s}}",
                 refused[i].dataset, refused[i].target);
        http_reply reply = http_json(&d, "POST", "/v1/jobs", body);
        expect_problem(&reply, refused[i].status, refused[i].status == 400 ? "INVALID" : "UNPROCESSABLE", refused[i].pointer);
        http_done(&reply);
    }
}
END_TEST

/* Once, in the process that every case is forked from. */
static void setup(void) {
    upload("moved", 40, true);
    upload("free", 40, false);
}

int main(void) {
    daemon_start(&d, NULL);
    Suite *suite = suite_create("train");
    TCase *tc = tcase_create("train");
    tcase_set_timeout(tc, 120);
    tcase_add_unchecked_fixture(tc, setup, NULL);
    tcase_add_test(tc, train__a_column_that_never_moves_is_normal);
    tcase_add_test(tc, train__a_system_without_inputs_is_normal);
    tcase_add_test(tc, train__schedule_and_early_stop_are_in_the_lineage);
    tcase_add_test(tc, train__two_threads_make_the_same_model_twice);
    tcase_add_test(tc, train__failures_say_what_to_change);
    tcase_add_test(tc, target__error_picks_the_last_rung_that_is_good_enough);
    tcase_add_test(tc, target__plan_time_picks_the_first_rung_that_is_fast_enough);
    tcase_add_test(tc, target__is_refused_by_field);
    suite_add_tcase(suite, tc);
    return daemon_finish(&d, run_suite(suite));
}
