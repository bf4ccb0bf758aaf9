/* SPDX-License-Identifier: Apache-2.0
 * POST /v1/models/{ref}/predict and /v1/bounds/query, against numbers worked out by hand. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "support/rail.h"

static test_daemon d;

/* y+ = relu(3 y - 4 u) * 2 - 1: one layer's norm is 5, the other's 2. */
static const char fold[] =
    "{\"layers\":[{\"w\":[[3,-4]],\"b\":[0.5],\"activation\":\"relu\"},{\"w\":[[2]],\"b\":[-1],\"activation\":\"identity\"}],\"nu\":1}";
/* The same with the 4 pruned. */
static const char pruned[] =
    "{\"layers\":[{\"w\":[[3,0]],\"b\":[0.5],\"activation\":\"relu\"},{\"w\":[[2]],\"b\":[-1],\"activation\":\"identity\"}],\"nu\":1}";

static void upload(void) {
    const char *const models[][2] = {{"/v1/models?name=fold&kind=dynamics", fold}, {"/v1/models?name=pruned&kind=dynamics", pruned}};
    for (size_t i = 0; i < 2; i++) {
        http_reply reply = http_json(&d, "POST", models[i][0], models[i][1]);
        expect_status(reply, 201);
        http_done(&reply);
    }
}

START_TEST(predict__is_the_network) {
    http_reply reply = http_json(&d, "POST", "/v1/models/fold/predict", "{\"x\":[[1,0.25],[0,1],[-0.5,-1]]}");
    expect_status(reply, 200);
    ck_assert_uint_eq(reply_count(&reply, "/y"), 3);
    ck_assert_double_eq_tol(reply_number(&reply, "/y/0/0"), 2 * (3 - 1 + 0.5) - 1, 1e-12);
    ck_assert_double_eq_tol(reply_number(&reply, "/y/1/0"), -1, 1e-12); /* the ReLU is off */
    ck_assert_double_eq_tol(reply_number(&reply, "/y/2/0"), 2 * (-1.5 + 4 + 0.5) - 1, 1e-12);
    http_done(&reply);
}
END_TEST

static void expect_refused(const char *path, const char *body, int status, const char *code, const char *pointer) {
    http_reply reply = http_json(&d, "POST", path, body);
    expect_problem(&reply, status, code, pointer);
    http_done(&reply);
}

START_TEST(predict__refuses_by_field) {
    expect_refused("/v1/models/fold/predict", "{\"x\":[[1,2],[1]]}", 400, "INVALID", "/x/1");
    expect_refused("/v1/models/fold/predict", "{\"x\":[]}", 400, "INVALID", "/x");
    expect_refused("/v1/models/fold/predict", "{\"x\":[[1,\"2\"]]}", 400, "INVALID", "/x/0/1");
    expect_refused("/v1/models/fold/predict", "{}", 400, "INVALID", NULL);
    expect_refused("/v1/models/fold/predict", "{\"x\":[[1,2]],\"z\":1}", 400, "INVALID", "/z");
    expect_refused("/v1/models/fold/predict?horizon=3", "{\"x\":[[1,2]]}", 400, "INVALID", NULL);
    expect_refused("/v1/models/nobody/predict", "{\"x\":[[1,2]]}", 404, "NOT_FOUND", NULL);
}
END_TEST

/* |x| = 5/4 at (1, 0.75): C_1 = 2 |x|; C_2 = 5 |x| + 0.5. With the activations: layer 2 sees h = relu(3 - 3 + 0.5). */
START_TEST(query__gives_the_closed_form) {
    http_reply reply = http_json(&d, "POST", "/v1/bounds/query", "{\"model\":\"fold\",\"states\":[[1,0.75]],\"error_threshold\":0.5}");
    expect_status(reply, 200);
    ck_assert_uint_eq(reply_count(&reply, "/results"), 1);
    ck_assert_uint_eq(reply_count(&reply, "/results/0/layers"), 2);
    ck_assert_double_eq(reply_number(&reply, "/results/0/layers/0/layer"), 1);
    ck_assert_double_eq_tol(reply_number(&reply, "/results/0/layers/0/c"), 2.5, 1e-6);
    ck_assert_double_eq_tol(reply_number(&reply, "/results/0/layers/1/c"), 6.75, 1e-6);
    ck_assert_double_eq_tol(reply_number(&reply, "/results/0/layers/1/c_activation"), 0.5, 1e-6);
    ck_assert(reply_number(&reply, "/results/0/layers/1/c_rescaled") <= reply_number(&reply, "/results/0/layers/1/c_activation"));
    ck_assert_double_eq_tol(reply_number(&reply, "/results/0/layers/1/max_norm"), 1.0, 1e-5);
    ck_assert(reply_number(&reply, "/results/0/layers/0/c") >= 2.5); /* bounds round up */
    http_done(&reply);
}
END_TEST

/* At (1, -1) the ReLU is on in both: the difference is 2 * 4. */
START_TEST(query__bounds_the_difference_of_a_candidate) {
    http_reply reply = http_json(&d, "POST", "/v1/bounds/query", "{\"model\":\"fold\",\"states\":[[1,-1]],\"candidate\":\"pruned\"}");
    expect_status(reply, 200);
    ck_assert_double_eq_tol(reply_number(&reply, "/results/0/actual"), 8, 1e-9);
    ck_assert(reply_number(&reply, "/results/0/bound") >= 8);
    ck_assert(!reply_has(&reply, "/results/0/layers/0/max_norm"));
    http_done(&reply);
}
END_TEST

START_TEST(query__refuses_by_field) {
    expect_refused("/v1/bounds/query", "{\"model\":\"fold\",\"states\":[[1,2,3]]}", 400, "INVALID", "/states/0");
    expect_refused("/v1/bounds/query", "{\"model\":\"nobody\",\"states\":[[1,2]]}", 404, "NOT_FOUND", "/model");
    expect_refused("/v1/bounds/query", "{\"model\":\"fold\",\"states\":[[1,2]],\"error_threshold\":-1}", 400, "INVALID", "/error_threshold");
    expect_refused("/v1/bounds/query", "{\"model\":\"fold\",\"states\":[[1,2]],\"candidate\":\"wide\"}", 422, "UNPROCESSABLE", "/candidate");
    expect_refused("/v1/bounds/query", "{\"states\":[[1,2]]}", 400, "INVALID", NULL);
}
END_TEST

/* Once, in the process that every case is forked from. */
static void setup(void) {
    upload();
    rail_upload_random(&d, "wide", 4, 1);
}

int main(void) {
    daemon_start(&d, NULL);
    Suite *suite = suite_create("predict");
    TCase *tc = tcase_create("predict");
    tcase_set_timeout(tc, 30);
    tcase_add_unchecked_fixture(tc, setup, NULL);
    tcase_add_test(tc, predict__is_the_network);
    tcase_add_test(tc, predict__refuses_by_field);
    tcase_add_test(tc, query__gives_the_closed_form);
    tcase_add_test(tc, query__bounds_the_difference_of_a_candidate);
    tcase_add_test(tc, query__refuses_by_field);
    suite_add_tcase(suite, tc);
    return daemon_finish(&d, run_suite(suite));
}
