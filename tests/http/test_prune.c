/* SPDX-License-Identifier: Apache-2.0
 * Prune jobs over HTTP: from an uploaded network to a pruned version with its lineage and certificates, within a budget or to a
 * sparsity, for policies and dynamics; and every way to be refused. */
#include <check.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/rng.h"
#include "support/pruning.h"

static test_daemon d;

#define BOX4 "\"domain\":{\"lower\":[-1,-1,-1,-1],\"upper\":[1,1,1,1]}"

/* Zeros among the weights of layer k of the network in a model's JSON form. */
static int zeros_in(const char *ref, int k, int rows, int cols) {
    char path[128], pointer[64];
    int zeros = 0;
    snprintf(path, sizeof path, "/v1/models/%s/artifact?format=json", ref);
    http_reply artifact = http_get(&d, path);
    expect_status(artifact, 200);
    for (int i = 0; i < rows; i++) {
        for (int j = 0; j < cols; j++) {
            snprintf(pointer, sizeof pointer, "/layers/%d/w/%d/%d", k, i, j);
            zeros += reply_number(&artifact, pointer) == 0;
        }
    }
    http_done(&artifact);
    return zeros;
}

/* ---- what works ---- */

START_TEST(prune__makes_a_version_with_its_lineage) {
    static const char *const methods[] = {"magnitude", "obd", "obs", "sparsegpt"};
    char spec[512];
    snprintf(spec, sizeof spec, "{\"model\":\"pi/1\",\"name\":\"half-%s\",\"method\":\"%s\",\"sparsity\":0.5,\"samples\":500," BOX4 "}", methods[_i],
             methods[_i]);
    http_reply job = pruning_run(&d, spec, "succeeded"), model = pruning_model(&d, &job), parent = http_get(&d, "/v1/models/pi/1");
    ck_assert_double_eq(reply_number(&job, "/result/sparsity"), 0.5);
    ck_assert_uint_eq(reply_count(&job, "/result/reached"), 1);
    ck_assert_str_eq(reply_text(&job, "/result/reached/0/method"), methods[_i]);
    ck_assert_double_eq(reply_number(&job, "/result/reached/0/zeros"), 24 + 72 + 12);
    ck_assert_str_eq(reply_text(&model, "/parent"), reply_text(&parent, "/id"));
    ck_assert_str_eq(reply_text(&model, "/kind"), "policy");
    ck_assert_str_eq(reply_text(&model, "/spec/prune/method"), methods[_i]);
    ck_assert_double_eq(reply_number(&model, "/spec/prune/sparsity"), 0.5);
    ck_assert_double_eq(reply_number(&model, "/parameters"), 48 + 144 + 24 + 26);
    ck_assert_double_ge(reply_number(&model, "/nonzero"), 108);
    ck_assert_double_le(reply_number(&model, "/nonzero"), 108 + 26);
    ck_assert_int_eq(zeros_in(reply_text(&job, "/result/model/id"), 1, 12, 12), 72);
    /* The certificates are of the new model beside its parent, and above what was met. */
    ck_assert_uint_ge(reply_count(&job, "/result/certificates"), 3);
    ck_assert_str_eq(reply_text(&job, "/result/certificates/0/model"), reply_text(&job, "/result/model/id"));
    ck_assert_str_eq(reply_text(&job, "/result/certificates/0/reference"), reply_text(&parent, "/id"));
    ck_assert_double_ge(reply_number(&job, "/result/reached/0/certified"), reply_number(&job, "/result/reached/0/measured/largest"));
    ck_assert_double_ge(reply_number(&job, "/result/reached/0/certified"), reply_number(&job, "/result/reached/0/lower"));
    ck_assert_uint_eq(reply_count(&model, "/certificates"), reply_count(&job, "/result/certificates"));
    pruning_check(&d, &job);
    http_done(&parent);
    http_done(&model);
    http_done(&job);
}
END_TEST

/* Same spec: the same version, the job run twice or not. Pruned again, what was gone stays gone. */
START_TEST(prune__is_reproducible_and_goes_on_from_what_is_gone) {
    static const char spec[] = "{\"model\":\"pi/1\",\"name\":\"again\",\"method\":\"obs\",\"sparsity\":0.4,\"samples\":300,\"seed\":3," BOX4 "}";
    static const char more[] = "{\"model\":\"again/1\",\"method\":\"sparsegpt\",\"sparsity\":0.6,\"samples\":300," BOX4 "}";
    http_reply first = pruning_run(&d, spec, "succeeded"), second = pruning_run(&d, spec, "succeeded"), third = pruning_run(&d, more, "succeeded"),
               model = pruning_model(&d, &third);
    ck_assert_str_eq(reply_text(&first, "/result/model/id"), reply_text(&second, "/result/model/id"));
    ck_assert_str_eq(reply_text(&model, "/name"), "again"); /* its parent's name */
    ck_assert_double_eq(reply_number(&model, "/version"), 2);
    ck_assert_str_eq(reply_text(&model, "/parent"), reply_text(&first, "/result/model/id"));
    http_reply before = http_get(&d, "/v1/models/again/1/artifact?format=json"), after = http_get(&d, "/v1/models/again/2/artifact?format=json");
    for (int i = 0; i < 12; i++) {
        for (int j = 0; j < 12; j++) {
            char pointer[64];
            snprintf(pointer, sizeof pointer, "/layers/1/w/%d/%d", i, j);
            if (reply_number(&before, pointer) == 0) ck_assert_double_eq(reply_number(&after, pointer), 0);
        }
    }
    http_done(&after);
    http_done(&before);
    http_done(&model);
    http_done(&third);
    http_done(&second);
    http_done(&first);
}
END_TEST

START_TEST(prune__budget_is_kept_by_the_sparsest) {
    static const char spec[] =
        "{\"model\":\"pi/1\",\"name\":\"within\",\"error_budget\":0.25,\"norm\":\"l2\",\"samples\":500,\"time_limit_s\":3," BOX4 "}";
    http_reply job = pruning_run(&d, spec, "succeeded");
    double best = 0, least = INFINITY;
    ck_assert_uint_eq(reply_count(&job, "/result/reached"), 8); /* every method, layer by layer and over the network */
    for (int i = 0; i < 8; i++) {
        char sparsity[64], certified[64];
        snprintf(sparsity, sizeof sparsity, "/result/reached/%d/sparsity", i);
        snprintf(certified, sizeof certified, "/result/reached/%d/certified", i);
        if (!reply_has(&job, sparsity)) continue;
        ck_assert_double_le(reply_number(&job, certified), 0.25);
        best = fmax(best, reply_number(&job, sparsity));
    }
    ck_assert_double_gt(best, 0.2);
    ck_assert_double_eq(reply_number(&job, "/result/sparsity"), best);
    for (size_t i = 0; i < reply_count(&job, "/result/certificates"); i++) {
        char pointer[64];
        snprintf(pointer, sizeof pointer, "/result/certificates/%zu/value", i);
        least = fmin(least, reply_number(&job, pointer));
        snprintf(pointer, sizeof pointer, "/result/certificates/%zu/norm", i);
        ck_assert_str_eq(reply_text(&job, pointer), "l2");
    }
    ck_assert_double_le(least, 0.25);
    pruning_check(&d, &job);
    http_done(&job);
}
END_TEST

START_TEST(prune__budget_that_nothing_keeps_is_an_answer) {
    static const char *const specs[] = {
        "{\"model\":\"pi/1\",\"name\":\"none\",\"method\":\"magnitude\",\"scope\":\"layer\",\"error_budget\":1e-9,\"time_limit_s\":5," BOX4 "}",
        /* two weights: at most of the steps of the search none of them goes, and what is the same is no answer */
        "{\"model\":\"tiny/1\",\"name\":\"none\",\"method\":\"magnitude\",\"scope\":\"layer\",\"error_budget\":1e-9,\"time_limit_s\":5,"
        "\"domain\":{\"lower\":[-1],\"upper\":[1]}}"};
    http_reply job = pruning_run(&d, specs[_i], "succeeded"), model = http_get(&d, "/v1/models/none");
    ck_assert(!reply_has(&job, "/result/model"));
    ck_assert_uint_eq(reply_count(&job, "/result/reached"), 1);
    ck_assert(!reply_has(&job, "/result/reached/0/sparsity"));
    ck_assert(!reply_has(&job, "/result/reached/0/error"));
    ck_assert_uint_eq(reply_count(&job, "/result/certificates"), 0);
    expect_status(model, 404);
    http_done(&model);
    http_done(&job);
}
END_TEST

/* A dynamics model on its own data: the frame stays, the error on held-out transitions is said, the data box is the parent's. */
START_TEST(prune__dynamics_on_a_dataset) {
    static const char *const domains[] = {"", ",\"domain\":{\"dataset\":\"other-rail\",\"margin\":0.1}", ",\"domain\":{\"dataset\":\"rail\"}"};
    char spec[512];
    snprintf(spec, sizeof spec,
             "{\"model\":\"cart/1\",\"name\":\"light-%d\",\"method\":\"sparsegpt\",\"scope\":\"network\",\"sparsity\":0.3,\"dataset\":\"rail\","
             "\"time_limit_s\":1%s}",
             _i, domains[_i]);
    http_reply job = pruning_run(&d, spec, "succeeded"), model = pruning_model(&d, &job), parent = http_get(&d, "/v1/models/cart/1");
    http_reply data = http_get(&d, "/v1/datasets/rail");
    ck_assert_double_gt(reply_number(&model, "/validation_rmse"), 0);
    ck_assert_double_lt(reply_number(&model, "/validation_rmse"), 0.5);
    ck_assert_str_eq(reply_text(&model, "/dataset"), reply_text(&data, "/id"));
    ck_assert_double_eq(reply_number(&model, "/metrics/data_box/upper/0"), reply_number(&parent, "/metrics/data_box/upper/0"));
    ck_assert_uint_eq(reply_count(&job, "/result/certificates") > 0, _i > 0);
    pruning_check(&d, &job);
    http_done(&data);
    http_done(&parent);
    http_done(&model);
    http_done(&job);
}
END_TEST

/* Through a frame: what is measured is the model's difference, G and all, as what is certified is. */
START_TEST(prune__measures_through_the_frame) {
    static const char model[] = "{\"layers\":[{\"w\":[[1,0.3],[-0.7,1],[0.2,-1.1]],\"b\":[0.1,0,0.2],\"activation\":\"relu\"},"
                                "{\"w\":[[1,-0.4,0.8]],\"b\":[0.3],\"activation\":\"identity\"}],\"history\":1,\"nu\":1,"
                                "\"frame\":{\"a\":[[1,0.1],[0,1]],\"b\":[[0],[0.1]],\"c\":[[0,1],[2,0]],\"d\":[[1],[0]],\"g\":[[0],[100]]}}";
    http_reply reply = http_json(&d, "POST", "/v1/models?name=framed&kind=dynamics", model);
    expect_status(reply, 201);
    http_done(&reply);
    http_reply job = pruning_run(&d,
                                 "{\"model\":\"framed\",\"name\":\"framed-half\",\"method\":\"sparsegpt\",\"sparsity\":0.5,\"samples\":2000,"
                                 "\"domain\":{\"lower\":[-1,-1,-1],\"upper\":[1,1,1]}}",
                                 "succeeded");
    double largest = reply_number(&job, "/result/reached/0/measured/largest"), lower = reply_number(&job, "/result/reached/0/lower");
    ck_assert_double_gt(largest, 1);
    ck_assert_double_le(largest, reply_number(&job, "/result/reached/0/certified"));
    ck_assert_double_ge(largest, 0.5 * lower);
    pruning_check(&d, &job);
    http_done(&job);
}
END_TEST

START_TEST(prune__policy_on_states_or_observations) {
    static const char *const inputs[] = {"\"states\":[[0.1,0.2,0.3,0.4],[0.5,-0.1,0,0],[1,0,0,-1],[0,1,1,0],[0,0,1,0.5],[-1,0,0.2,0]]",
                                         "\"dataset\":\"four\"", "\"domain\":{\"lower\":[0,0,0,0],\"upper\":[1,1,1,1]}"};
    char spec[512];
    snprintf(spec, sizeof spec,
             "{\"model\":\"pi/1\",\"name\":\"on-%d\",\"method\":\"obs\",\"pattern\":\"2:4\",\"layers\":[2,1],\"objective\":\"layer\",\"damping\":0.1,"
             "\"bias\":false,\"time_limit_s\":0.1,%s}",
             _i, inputs[_i]);
    http_reply job = pruning_run(&d, spec, "succeeded");
    const char *id = reply_text(&job, "/result/model/id");
    ck_assert_int_eq(zeros_in(id, 0, 12, 4), 24);
    ck_assert_int_eq(zeros_in(id, 1, 12, 12), 72);
    ck_assert_int_eq(zeros_in(id, 2, 2, 12), 0);
    ck_assert_double_eq(reply_number(&job, "/result/reached/0/weights"), 48 + 144);
    http_done(&job);
}
END_TEST

START_TEST(prune__magnitude_needs_no_inputs) {
    http_reply job = pruning_run(&d, "{\"model\":\"pi/1\",\"name\":\"plain\",\"method\":\"magnitude\",\"sparsity\":1}", "succeeded");
    ck_assert_double_eq(reply_number(&job, "/result/sparsity"), 1);
    ck_assert(!reply_has(&job, "/result/reached/0/measured"));
    ck_assert(!reply_has(&job, "/result/model/validation_rmse"));
    http_done(&job);
}
END_TEST

START_TEST(prune__cancel_ends_a_search) {
    char id[64], path[128];
    rail_submit(&d,
                "{\"kind\":\"prune\",\"spec\":{\"model\":\"wide\",\"error_budget\":0.01,\"time_limit_s\":600,"
                "\"domain\":{\"lower\":[-1,-1,-1],\"upper\":[1,1,1]}}}",
                id);
    http_reply running = rail_wait_state(&d, id, "running");
    http_done(&running);
    snprintf(path, sizeof path, "/v1/jobs/%s", id);
    http_reply cancelled = http_delete(&d, path);
    expect_status(cancelled, 202);
    http_done(&cancelled);
    http_reply job = rail_wait_end(&d, id, 30);
    ck_assert_str_eq(reply_text(&job, "/state"), "cancelled");
    http_done(&job);
}
END_TEST

/* ---- what is refused ---- */

static void expect_refused(const char *spec, int status, const char *pointer) {
    char body[1024];
    snprintf(body, sizeof body, "{\"kind\":\"prune\",\"spec\":%s}", spec);
    http_reply reply = http_json(&d, "POST", "/v1/jobs", body);
    ck_assert_msg(reply.status == status, "%s: status %d: %.400s", spec, reply.status, reply.body);
    expect_problem(&reply, status, status == 422 ? "UNPROCESSABLE" : "INVALID", pointer);
    http_done(&reply);
}

START_TEST(prune__refuses_by_field) {
    static const struct {
        const char *fields;
        int status;
        const char *pointer;
    } bad[] = {
        {"\"method\":\"lottery\",\"sparsity\":0.5", 400, "/spec/method"},
        {"\"sparsity\":0.5", 400, "/spec/method"},
        {"\"method\":\"magnitude\"", 400, "/spec"},
        {"\"method\":\"magnitude\",\"sparsity\":0.5,\"error_budget\":0.1," BOX4, 400, "/spec/error_budget"},
        {"\"method\":\"magnitude\",\"sparsity\":0.5,\"pattern\":\"2:4\"", 400, "/spec/pattern"},
        {"\"method\":\"magnitude\",\"sparsity\":1.5", 400, "/spec/sparsity"},
        {"\"method\":\"magnitude\",\"sparsity\":\"half\"", 400, "/spec/sparsity"},
        {"\"method\":\"magnitude\",\"pattern\":\"3:4\"", 400, "/spec/pattern"},
        {"\"method\":\"magnitude\",\"pattern\":\"2:4\",\"scope\":\"network\"", 400, "/spec/scope"},
        {"\"method\":\"magnitude\",\"sparsity\":0.5,\"scope\":\"wide\"", 400, "/spec/scope"},
        {"\"method\":\"magnitude\",\"sparsity\":0.5,\"objective\":\"mine\"", 400, "/spec/objective"},
        {"\"error_budget\":0.1", 400, "/spec/domain"},
        {"\"error_budget\":0," BOX4, 400, "/spec/error_budget"},
        {"\"error_budget\":-1," BOX4, 400, "/spec/error_budget"},
        {"\"error_budget\":0.1,\"norm\":\"l1\"," BOX4, 400, "/spec/norm"},
        {"\"error_budget\":0.1,\"time_limit_s\":0," BOX4, 400, "/spec/time_limit_s"},
        {"\"error_budget\":0.1,\"domain\":{\"lower\":[0,0],\"upper\":[1,1]}", 400, "/spec/domain/lower"},
        {"\"error_budget\":0.1,\"domain\":{\"dataset\":\"rail\"}", 422, "/spec/domain/dataset"},
        {"\"method\":\"obs\",\"sparsity\":0.5", 400, "/spec/method"},
        {"\"method\":\"sparsegpt\",\"pattern\":\"2:4\"", 400, "/spec/method"},
        {"\"method\":\"obs\",\"sparsity\":0.5,\"states\":[[1,2]]", 400, "/spec/states/0"},
        {"\"method\":\"obs\",\"sparsity\":0.5,\"states\":[]", 400, "/spec/states"},
        {"\"method\":\"obs\",\"sparsity\":0.5,\"states\":[[1,2,3,4]],\"dataset\":\"rail\"", 400, "/spec/states"},
        {"\"method\":\"obs\",\"sparsity\":0.5,\"dataset\":\"rail\"", 422, "/spec/dataset"},
        {"\"method\":\"obs\",\"sparsity\":0.5,\"dataset\":\"nothing\"", 422, "/spec/dataset"},
        {"\"method\":\"magnitude\",\"sparsity\":0.5,\"layers\":[]", 400, "/spec/layers"},
        {"\"method\":\"magnitude\",\"sparsity\":0.5,\"layers\":[0]", 400, "/spec/layers/0"},
        {"\"method\":\"magnitude\",\"sparsity\":0.5,\"layers\":[1,1]", 400, "/spec/layers/1"},
        {"\"method\":\"magnitude\",\"sparsity\":0.5,\"damping\":-1", 400, "/spec/damping"},
        {"\"method\":\"magnitude\",\"sparsity\":0.5,\"block\":0", 400, "/spec/block"},
        {"\"method\":\"magnitude\",\"sparsity\":0.5,\"bias\":1", 400, "/spec/bias"},
        {"\"method\":\"magnitude\",\"sparsity\":0.5,\"samples\":0", 400, "/spec/samples"},
        {"\"method\":\"magnitude\",\"sparsity\":0.5,\"seed\":-1", 400, "/spec/seed"},
        {"\"method\":\"magnitude\",\"sparsity\":0.5,\"name\":\"a b\"", 400, "/spec/name"},
        {"\"method\":\"magnitude\",\"sparsity\":0.5,\"sparse\":1", 400, "/spec/sparse"},
    };
    char spec[512];
    expect_refused("{\"method\":\"magnitude\",\"sparsity\":0.5}", 400, "/spec/model");
    expect_refused("{\"model\":\"nothing\",\"method\":\"magnitude\",\"sparsity\":0.5}", 422, "/spec/model");
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        snprintf(spec, sizeof spec, "{\"model\":\"pi/1\",%s}", bad[i].fields);
        expect_refused(spec, bad[i].status, bad[i].pointer);
    }
}
END_TEST

/* What only the model itself can tell fails the job, names the field, and leaves nothing. */
START_TEST(prune__fails_by_field) {
    http_reply job = pruning_run(&d, "{\"model\":\"pi/1\",\"name\":\"deep\",\"method\":\"magnitude\",\"sparsity\":0.5,\"layers\":[4]}", "failed");
    ck_assert_str_eq(reply_text(&job, "/error/pointer"), "/spec/layers/0");
    http_reply model = http_get(&d, "/v1/models/deep");
    expect_status(model, 404);
    http_done(&model);
    http_done(&job);
    job = pruning_run(&d, "{\"model\":\"pi/1\",\"method\":\"obs\",\"sparsity\":0.5,\"damping\":0,\"states\":[[1,0,0,0],[1,0,0,0.5]]}", "failed");
    ck_assert_str_eq(reply_text(&job, "/error/code"), "NUMERIC");
    ck_assert_ptr_nonnull(strstr(reply_text(&job, "/error/detail"), "damping"));
    http_done(&job);
}
END_TEST

static void setup(void) {
    static const char four[] = "{\"y\":[[0,0,0,0],[0.1,0.2,0.3,0.4],[1,0,-1,0],[0.5,0.5,0.2,0]],\"u\":[[0],[0],[0]]}\n"
                               "{\"y\":[[0,1,0,1],[0.3,-0.2,0.3,0.4],[-1,0,1,0.7]],\"u\":[[0],[0]]}\n";
    rail_upload_data(&d, "rail", 20);
    rail_upload_data(&d, "other-rail", 10);
    rail_upload_random(&d, "wide", 40, 1);
    pruning_upload_policy(&d, "pi");
    http_reply reply =
        http_json(&d, "POST", "/v1/models?name=tiny&kind=policy",
                  "{\"layers\":[{\"w\":[[1]],\"b\":[0],\"activation\":\"relu\"},{\"w\":[[1]],\"b\":[0],\"activation\":\"identity\"}]}");
    expect_status(reply, 201);
    http_done(&reply);
    reply = http_post(&d, "/v1/datasets?name=four", "application/x-ndjson", four, sizeof four - 1);
    expect_status(reply, 201);
    http_done(&reply);
    char id[64];
    rail_submit(&d,
                "{\"kind\":\"train\",\"spec\":{\"dataset\":\"rail\",\"name\":\"cart\",\"model\":{\"type\":\"mlp\",\"hidden\":[12,12]},"
                "\"frame\":\"residual\",\"epochs\":30,\"batch\":64}}",
                id);
    http_reply job = rail_wait_end(&d, id, 60);
    ck_assert_str_eq(reply_text(&job, "/state"), "succeeded");
    http_done(&job);
}

int main(void) {
    Suite *suite = suite_create("prune_http");
    TCase *tc = tcase_create("prune");
    tcase_set_timeout(tc, 60);
    tcase_add_unchecked_fixture(tc, setup, NULL);
    tcase_add_loop_test(tc, prune__makes_a_version_with_its_lineage, 0, 4);
    tcase_add_test(tc, prune__is_reproducible_and_goes_on_from_what_is_gone);
    tcase_add_test(tc, prune__budget_is_kept_by_the_sparsest);
    tcase_add_loop_test(tc, prune__budget_that_nothing_keeps_is_an_answer, 0, 2);
    tcase_add_loop_test(tc, prune__dynamics_on_a_dataset, 0, 3);
    tcase_add_test(tc, prune__measures_through_the_frame);
    tcase_add_loop_test(tc, prune__policy_on_states_or_observations, 0, 3);
    tcase_add_test(tc, prune__magnitude_needs_no_inputs);
    tcase_add_test(tc, prune__cancel_ends_a_search);
    tcase_add_test(tc, prune__refuses_by_field);
    tcase_add_test(tc, prune__fails_by_field);
    suite_add_tcase(suite, tc);
    daemon_start(&d, NULL);
    return daemon_finish(&d, run_suite(suite));
}
