/* SPDX-License-Identifier: Apache-2.0
 * Prune jobs that fine-tune: what was removed stays removed to the bit, errors at held-out inputs fall, a budget holds, and the
 * certificates are those of the model that is registered. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "support/pruning.h"

static test_daemon d;

#define BOX4 "\"domain\":{\"lower\":[-1,-1,-1,-1],\"upper\":[1,1,1,1]}"

static http_reply get_json_form(const char *ref) {
    char path[128];
    snprintf(path, sizeof path, "/v1/models/%s/artifact?format=json", ref);
    http_reply reply = http_get(&d, path);
    expect_status(reply, 200);
    return reply;
}

/* Of a network 4-12-12-2: each weight that is 0 in `before` is 0 in `after`; the number of them. */
static int expect_zeros_kept(const http_reply *before, const http_reply *after, const int *widths) {
    int zeros = 0, others = 0;
    for (int k = 0; k < 3; k++)
        for (int i = 0; i < widths[k + 1]; i++)
            for (int j = 0; j < widths[k]; j++) {
                char pointer[64];
                snprintf(pointer, sizeof pointer, "/layers/%d/w/%d/%d", k, i, j);
                double was = reply_number(before, pointer), is = reply_number(after, pointer);
                if (was == 0) ck_assert_double_eq(is, 0);
                zeros += was == 0;
                others += was != is;
            }
    ck_assert_int_gt(others, 0); /* it was trained */
    return zeros;
}

static const int policy_widths[] = {4, 12, 12, 2};

START_TEST(tune__keeps_what_is_gone_and_comes_nearer) {
    static const char *const specs[] = {
        "{\"model\":\"pi/1\",\"name\":\"%s\",\"method\":\"obs\",\"sparsity\":0.6,\"samples\":600,\"seed\":4," BOX4 "%s}",
        "{\"model\":\"pi/1\",\"name\":\"%s\",\"method\":\"magnitude\",\"pattern\":\"2:4\",\"samples\":600,\"seed\":4," BOX4 "%s}"};
    char spec[512];
    snprintf(spec, sizeof spec, specs[_i], _i ? "bare-24" : "bare", "");
    http_reply bare = pruning_run(&d, spec, "succeeded");
    snprintf(spec, sizeof spec, specs[_i], _i ? "tuned-24" : "tuned", ",\"fine_tune\":{\"epochs\":60}");
    http_reply tuned = pruning_run(&d, spec, "succeeded"), again = pruning_run(&d, spec, "succeeded"), model = pruning_model(&d, &tuned);
    ck_assert(!reply_has(&bare, "/result/fine_tune"));
    ck_assert(strstr(tuned.body, "\"kept\":true") != NULL);
    double before = reply_number(&tuned, "/result/fine_tune/before/difference_rms");
    ck_assert_double_eq(before, reply_number(&bare, "/result/reached/0/measured/rms"));
    ck_assert_double_lt(reply_number(&tuned, "/result/fine_tune/after/difference_rms"), 0.8 * before);
    ck_assert_double_eq(reply_number(&model, "/metrics/difference_rms"), reply_number(&tuned, "/result/fine_tune/after/difference_rms"));
    ck_assert_double_eq(reply_number(&model, "/metrics/pruned_difference_rms"), before);
    ck_assert_str_eq(reply_text(&model, "/spec/prune/fine_tune/target"), "model");
    ck_assert_str_eq(reply_text(&again, "/result/model/id"), reply_text(&tuned, "/result/model/id")); /* the same bytes */
    http_reply was = get_json_form(reply_text(&bare, "/result/model/id")), is = get_json_form(reply_text(&tuned, "/result/model/id"));
    ck_assert_int_eq(expect_zeros_kept(&was, &is, policy_widths), (int)reply_number(&bare, "/result/reached/0/zeros"));
    ck_assert_str_eq(reply_text(&tuned, "/result/certificates/0/model"), reply_text(&tuned, "/result/model/id"));
    pruning_check(&d, &tuned);
    http_reply *all[] = {&bare, &tuned, &again, &model, &was, &is};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) http_done(all[i]);
}
END_TEST

/* Towards the record by default; a model that was pruned before can be tuned alone. */
START_TEST(tune__dynamics_towards_the_data) {
    static const int widths[] = {3, 12, 12, 2};
    http_reply bare =
        pruning_run(&d, "{\"model\":\"cart/1\",\"name\":\"cart-bare\",\"dataset\":\"rail\",\"method\":\"magnitude\",\"sparsity\":0.7}", "succeeded");
    http_reply tuned = pruning_run(&d,
                                   "{\"model\":\"cart-bare\",\"name\":\"cart-tuned\",\"dataset\":\"rail\",\"method\":\"magnitude\",\"sparsity\":0,"
                                   "\"fine_tune\":{\"epochs\":30}}",
                                   "succeeded");
    http_reply model = pruning_model(&d, &tuned);
    ck_assert_str_eq(reply_text(&model, "/spec/prune/fine_tune/target"), "data");
    ck_assert_str_eq(reply_text(&model, "/parent"), reply_text(&bare, "/result/model/id"));
    ck_assert_double_lt(reply_number(&tuned, "/result/fine_tune/after/validation_rmse"),
                        0.7 * reply_number(&tuned, "/result/fine_tune/before/validation_rmse"));
    ck_assert_double_eq(reply_number(&model, "/metrics/validation_rmse"), reply_number(&tuned, "/result/fine_tune/after/validation_rmse"));
    http_reply was = get_json_form("cart-bare"), is = get_json_form("cart-tuned");
    ck_assert_int_eq(expect_zeros_kept(&was, &is, widths), 143);
    http_reply *all[] = {&bare, &tuned, &model, &was, &is};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) http_done(all[i]);
}
END_TEST

/* y = G f with a G that is neither square nor near 1: the record is explained through it. */
START_TEST(tune__goes_through_the_frame) {
    static const char net[] =
        "{\"layers\":[{\"w\":[[1,0,0.3],[0,1,-0.2],[0.5,0.5,0.5]],\"b\":[0,0.1,0],\"activation\":\"relu\"},"
        "{\"w\":[[0.3,0.2,0.1]],\"b\":[0],\"activation\":\"identity\"}],\"nu\":1,"
        "\"frame\":{\"a\":[[1,0.1],[0,1]],\"b\":[[0],[0]],\"c\":[[1,0],[0,1],[0,0]],\"d\":[[0],[0],[1]],\"g\":[[0.005],[0.1]]}}";
    http_reply reply = http_json(&d, "POST", "/v1/models?name=framed&kind=dynamics", net);
    expect_status(reply, 201);
    http_done(&reply);
    http_reply tuned = pruning_run(
        &d,
        "{\"model\":\"framed\",\"dataset\":\"rail\",\"method\":\"magnitude\",\"sparsity\":0,\"fine_tune\":{\"epochs\":60,\"learning_rate\":0.02}}",
        "succeeded");
    ck_assert(strstr(tuned.body, "\"kept\":true") != NULL);
    ck_assert_double_lt(reply_number(&tuned, "/result/fine_tune/after/validation_rmse"),
                        0.3 * reply_number(&tuned, "/result/fine_tune/before/validation_rmse"));
    http_done(&tuned);
}
END_TEST

START_TEST(tune__a_budget_is_kept) {
    http_reply job =
        pruning_run(&d,
                    "{\"model\":\"pi/1\",\"name\":\"within\",\"error_budget\":0.3,\"method\":\"magnitude\",\"scope\":\"layer\",\"samples\":500,"
                    "\"time_limit_s\":4," BOX4 ",\"fine_tune\":{\"epochs\":60}}",
                    "succeeded");
    http_reply model = pruning_model(&d, &job);
    bool kept = strstr(job.body, "\"kept\":true") != NULL;
    ck_assert_double_le(reply_number(&job, "/result/reached/0/certified"), 0.3);
    if (kept) ck_assert_double_eq(reply_number(&job, "/result/fine_tune/certified"), reply_number(&job, "/result/reached/0/certified"));
    ck_assert(kept == reply_has(&model, "/spec/prune/fine_tune"));
    ck_assert_double_le(reply_number(&model, "/metrics/difference_rms"), reply_number(&job, "/result/fine_tune/before/difference_rms"));
    pruning_check(&d, &job);
    http_done(&model);
    http_done(&job);
}
END_TEST

/* A step that is far too long makes the model worse: then the pruned one is what is registered. */
START_TEST(tune__what_is_worse_is_not_kept) {
    http_reply job = pruning_run(&d,
                                 "{\"model\":\"pi/1\",\"name\":\"worse\",\"method\":\"obs\",\"sparsity\":0.1,\"samples\":300," BOX4
                                 ",\"fine_tune\":{\"epochs\":1,\"learning_rate\":3}}",
                                 "succeeded");
    http_reply model = pruning_model(&d, &job);
    ck_assert(strstr(job.body, "\"kept\":false") != NULL);
    ck_assert(!reply_has(&model, "/spec/prune/fine_tune"));
    ck_assert_double_eq(reply_number(&model, "/metrics/difference_rms"), reply_number(&job, "/result/fine_tune/before/difference_rms"));
    http_done(&model);
    http_done(&job);
}
END_TEST

START_TEST(tune__stops_when_cancelled) {
    char id[64], path[100];
    rail_submit(&d,
                "{\"kind\":\"prune\",\"spec\":{\"model\":\"pi/1\",\"name\":\"never\",\"method\":\"magnitude\",\"sparsity\":0.5," BOX4
                ",\"fine_tune\":{\"epochs\":100000}}}",
                id);
    http_reply job = rail_wait_state(&d, id, "running");
    http_done(&job);
    snprintf(path, sizeof path, "/v1/jobs/%s", id);
    job = http_delete(&d, path);
    ck_assert_int_eq(job.status / 100, 2);
    http_done(&job);
    job = rail_wait_end(&d, id, 30);
    ck_assert_str_eq(reply_text(&job, "/state"), "cancelled");
    http_done(&job);
    job = http_get(&d, "/v1/models/never");
    expect_status(job, 404);
    http_done(&job);
}
END_TEST

static void expect_refused(const char *more, int status, const char *pointer) {
    char body[512];
    snprintf(body, sizeof body, "{\"kind\":\"prune\",\"spec\":{%s}}", more);
    http_reply reply = http_json(&d, "POST", "/v1/jobs", body);
    expect_problem(&reply, status, status == 400 ? "INVALID" : "UNPROCESSABLE", pointer);
    http_done(&reply);
}

START_TEST(tune__refuses_by_field) {
#define HALF "\"model\":\"pi/1\",\"method\":\"magnitude\",\"sparsity\":0.5"
    expect_refused(HALF ",\"fine_tune\":{}", 400, "/spec/fine_tune");
    expect_refused(HALF "," BOX4 ",\"fine_tune\":true", 400, "/spec/fine_tune");
    expect_refused(HALF "," BOX4 ",\"fine_tune\":{\"epoch\":1}", 400, "/spec/fine_tune/epoch");
    expect_refused(HALF "," BOX4 ",\"fine_tune\":{\"epochs\":-1}", 400, "/spec/fine_tune/epochs");
    expect_refused(HALF "," BOX4 ",\"fine_tune\":{\"batch\":0}", 400, "/spec/fine_tune/batch");
    expect_refused(HALF "," BOX4 ",\"fine_tune\":{\"learning_rate\":0}", 400, "/spec/fine_tune/learning_rate");
    expect_refused(HALF "," BOX4 ",\"fine_tune\":{\"target\":\"data\"}", 400, "/spec/fine_tune/target");
    expect_refused(HALF ",\"states\":[[1,2,3,4]],\"fine_tune\":{\"target\":\"planner\"}", 400, "/spec/fine_tune/target");
    expect_refused("\"model\":\"two\",\"method\":\"magnitude\",\"sparsity\":0.5,\"dataset\":\"rail\",\"fine_tune\":{\"target\":\"data\"}", 422,
                   "/spec/fine_tune/target");
    http_reply job =
        pruning_run(&d, "{\"model\":\"clipped\",\"method\":\"magnitude\",\"sparsity\":0.5,\"states\":[[1,2],[3,4]],\"fine_tune\":{}}", "failed");
    ck_assert_str_eq(reply_text(&job, "/error/pointer"), "/spec/fine_tune");
    http_done(&job);
}
END_TEST

static void upload(const char *name, const char *activation) {
    char path[100], json[300];
    snprintf(path, sizeof path, "/v1/models?name=%s&kind=policy", name);
    snprintf(json, sizeof json,
             "{\"layers\":[{\"w\":[[1,2],[3,4]],\"b\":[0,0],\"activation\":\"relu\"},{\"w\":[[1,1]],\"b\":[0],\"activation\":\"%s\"}]}", activation);
    http_reply reply = http_json(&d, "POST", path, json);
    expect_status(reply, 201);
    http_done(&reply);
}

static void setup(void) {
    char id[64];
    pruning_upload_policy(&d, "pi");
    upload("two", "identity");
    upload("clipped", "relu");
    rail_upload_data(&d, "rail", 60);
    rail_submit(&d,
                "{\"kind\":\"train\",\"spec\":{\"dataset\":\"rail\",\"name\":\"cart\",\"model\":{\"type\":\"mlp\",\"hidden\":[12,12]},"
                "\"frame\":\"residual\",\"epochs\":30,\"batch\":64}}",
                id);
    http_reply job = rail_wait_end(&d, id, 60);
    ck_assert_str_eq(reply_text(&job, "/state"), "succeeded");
    http_done(&job);
}

int main(void) {
    Suite *suite = suite_create("fine_tune");
    TCase *tc = tcase_create("fine_tune");
    tcase_set_timeout(tc, 60);
    tcase_add_unchecked_fixture(tc, setup, NULL);
    tcase_add_loop_test(tc, tune__keeps_what_is_gone_and_comes_nearer, 0, 2);
    tcase_add_test(tc, tune__dynamics_towards_the_data);
    tcase_add_test(tc, tune__goes_through_the_frame);
    tcase_add_test(tc, tune__a_budget_is_kept);
    tcase_add_test(tc, tune__what_is_worse_is_not_kept);
    tcase_add_test(tc, tune__stops_when_cancelled);
    tcase_add_test(tc, tune__refuses_by_field);
    suite_add_tcase(suite, tc);
    daemon_start(&d, NULL);
    return daemon_finish(&d, run_suite(suite));
}
