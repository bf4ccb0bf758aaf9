/* SPDX-License-Identifier: Apache-2.0
 * Certify jobs through the daemon: the rows that each method gives, with and without a reference, their records read back, and
 * what is refused. */
#include <ctype.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "support/rail.h"

static test_daemon d;

static http_reply run_job(const char *body) {
    char id[64];
    return rail_wait_end(&d, rail_submit(&d, body, id), 60);
}

/* The row of a kind and method in a job's result, -1 when there is none. */
static int row_of(const http_reply *job, const char *kind, const char *method) {
    char at[80];
    size_t n = reply_count(job, "/result/certificates");
    for (size_t i = 0; i < n; i++) {
        snprintf(at, sizeof at, "/result/certificates/%zu/kind", i);
        if (strcmp(reply_text(job, at), kind) != 0) continue;
        snprintf(at, sizeof at, "/result/certificates/%zu/method", i);
        if (strcmp(reply_text(job, at), method) == 0) return (int)i;
    }
    return -1;
}

static double value_of(const http_reply *job, const char *kind, const char *method, const char *field) {
    char at[80];
    int row = row_of(job, kind, method);
    ck_assert_msg(row >= 0, "no %s by %s", kind, method);
    snprintf(at, sizeof at, "/result/certificates/%d/%s", row, field);
    return reply_number(job, at);
}

/* Leaves of a tree: letters; every inner node has two children, so there is one more of them. */
static void check_tree(const char *tree, int leaves) {
    int letters = 0, inner = 0;
    for (const char *c = tree; *c; c++) {
        letters += isalpha((unsigned char)*c) != 0;
        inner += *c == '/';
        ck_assert(isalnum((unsigned char)*c) || *c == '/');
    }
    ck_assert_int_eq(letters, leaves);
    ck_assert_int_eq(inner, leaves - 1);
}

static void check_record(const http_reply *job, const char *kind, const char *method, bool reference) {
    char at[80];
    snprintf(at, sizeof at, "/result/certificates/%d/id", row_of(job, kind, method));
    char path[100];
    snprintf(path, sizeof path, "/v1/bounds/%s", reply_text(job, at));
    http_reply reply = http_get(&d, path);
    expect_status(reply, 200);
    ck_assert_int_eq((int)reply_number(&reply, "/record/version"), 1);
    ck_assert_uint_eq(strlen(reply_text(&reply, "/record/model_sha256")), 64);
    ck_assert(reply_has(&reply, "/record/reference_sha256") == reference);
    ck_assert_uint_eq(reply_count(&reply, "/record/domain/lower"), 3);
    check_tree(reply_text(&reply, "/record/tree"), (int)reply_number(&reply, "/record/leaves"));
    ck_assert_uint_eq(reply_count(&reply, "/record/witness"), 3);
    for (int k = 0; k < 3; k++) {
        snprintf(at, sizeof at, "/record/witness/%d", k);
        ck_assert(fabs(reply_number(&reply, at)) <= 1);
    }
    http_done(&reply);
}

START_TEST(models__are_there) {
    rail_upload_random(&d, "wide", 12, 1);
    rail_upload_random(&d, "other", 12, 2);
}
END_TEST

START_TEST(certify__difference_by_every_method) {
    http_reply job =
        run_job("{\"kind\":\"certify\",\"spec\":{\"model\":\"wide\",\"reference\":\"other\",\"norm\":\"l2\",\"domain\":{\"lower\":[-1,-1,-1],"
                "\"upper\":[1,1,1]},\"time_limit_s\":1}}");
    ck_assert_str_eq(reply_text(&job, "/state"), "succeeded");
    ck_assert_uint_eq(reply_count(&job, "/result/certificates"), 5);
    double split = value_of(&job, "difference", "split", "value"), lower = value_of(&job, "difference", "split", "lower");
    ck_assert(lower > 0 && lower <= split);
    ck_assert(split <= value_of(&job, "difference", "twin", "value") && split <= value_of(&job, "difference", "crown", "value"));
    ck_assert(value_of(&job, "difference", "crown", "value") <= value_of(&job, "difference", "interval", "value"));
    check_record(&job, "difference", "split", true);
    check_record(&job, "difference", "twin", true);
    http_done(&job);
}
END_TEST

START_TEST(certify__one_model_has_a_range_and_a_slope) {
    http_reply job = run_job("{\"kind\":\"certify\",\"spec\":{\"model\":\"wide\",\"domain\":{\"lower\":[-1,-1,-1],\"upper\":[1,1,1]},"
                             "\"methods\":[\"interval\",\"split\"],\"time_limit_s\":1}}");
    ck_assert_str_eq(reply_text(&job, "/state"), "succeeded");
    ck_assert_uint_eq(reply_count(&job, "/result/certificates"), 4);
    double slope = value_of(&job, "lipschitz", "split", "value");
    ck_assert(slope <= value_of(&job, "lipschitz", "interval", "value"));
    ck_assert(value_of(&job, "lipschitz", "split", "lower") > 0 && value_of(&job, "lipschitz", "split", "lower") <= slope);
    ck_assert(value_of(&job, "range", "split", "value") >= value_of(&job, "range", "split", "lower"));
    check_record(&job, "lipschitz", "split", false);
    check_record(&job, "range", "split", false);
    http_done(&job);
    /* No two points that are tried are further apart than that. */
    http_reply reply = http_json(&d, "POST", "/v1/models/wide/predict", "{\"x\":[[-1,0.5,0.2],[-0.9,0.4,0.2],[0.3,0.3,-1],[0.3,0.2,-0.9]]}");
    expect_status(reply, 200);
    for (int pair = 0; pair < 2; pair++) {
        for (int i = 0; i < 2; i++) {
            char a[32], b[32];
            snprintf(a, sizeof a, "/y/%d/%d", 2 * pair, i);
            snprintf(b, sizeof b, "/y/%d/%d", 2 * pair + 1, i);
            ck_assert_double_le(fabs(reply_number(&reply, a) - reply_number(&reply, b)), 0.1 * slope * (1 + 1e-12));
        }
    }
    http_done(&reply);
}
END_TEST

START_TEST(certify__a_model_against_itself_is_zero) {
    http_reply job =
        run_job("{\"kind\":\"certify\",\"spec\":{\"model\":\"wide\",\"reference\":\"wide\",\"domain\":{\"lower\":[-1,-1,-1],\"upper\":[1,1,1]},"
                "\"methods\":[\"twin\",\"crown\"]}}");
    ck_assert_str_eq(reply_text(&job, "/state"), "succeeded");
    ck_assert_uint_eq(reply_count(&job, "/result/certificates"), 2);
    ck_assert_double_eq(value_of(&job, "difference", "twin", "value"), 0);
    ck_assert_double_gt(value_of(&job, "difference", "crown", "value"), 1e-3);
    http_done(&job);
}
END_TEST

static void expect_refused(const char *body, const char *pointer) {
    http_reply reply = http_json(&d, "POST", "/v1/jobs", body);
    expect_problem(&reply, 400, "INVALID", pointer);
    http_done(&reply);
}

/* CBC's figure lies between what a witness reaches and what splitting proves, but for the tolerance that it charges. */
START_TEST(certify__exact_by_name) {
    static const char *const specs[] = {"\"model\":\"narrow\",\"reference\":\"slim\"", "\"model\":\"narrow\""};
    rail_upload_random(&d, "narrow", 4, 3);
    rail_upload_random(&d, "slim", 4, 4);
    for (int i = 0; i < 2; i++) {
        char body[512];
        const char *kind = i ? "range" : "difference";
        snprintf(body, sizeof body,
                 "{\"kind\":\"certify\",\"spec\":{%s,\"domain\":{\"lower\":[-1,-1,-1],\"upper\":[1,1,1]},\"methods\":[\"split\",\"exact\"],"
                 "\"time_limit_s\":8}}",
                 specs[i]);
        http_reply job = run_job(body);
        ck_assert_str_eq(reply_text(&job, "/state"), "succeeded");
        double exact = value_of(&job, kind, "exact", "value"), reached = value_of(&job, kind, "split", "lower");
        double split = value_of(&job, kind, "split", "value"), tolerance = value_of(&job, kind, "exact", "tolerance");
        ck_assert(exact >= reached && value_of(&job, kind, "exact", "lower") <= exact);
        ck_assert_msg(exact <= split * 1.0011 + tolerance, "%g by CBC, %g by splitting", exact, split);
        ck_assert(tolerance > 0 && tolerance < 1e-3);
        http_done(&job);
    }
    expect_refused("{\"kind\":\"certify\",\"spec\":{\"model\":\"wide\",\"norm\":\"l2\",\"domain\":{\"lower\":[-1,-1,-1],\"upper\":[1,1,1]},"
                   "\"methods\":[\"exact\"]}}",
                   "/spec/methods/0");
}
END_TEST

START_TEST(certify__refuses_methods_that_do_not_apply) {
    expect_refused(
        "{\"kind\":\"certify\",\"spec\":{\"model\":\"wide\",\"domain\":{\"lower\":[-1,-1,-1],\"upper\":[1,1,1]},\"methods\":[\"crown\",\"twin\"]}}",
        "/spec/methods/1");
    expect_refused("{\"kind\":\"certify\",\"spec\":{\"model\":\"wide\",\"domain\":{\"lower\":[-1,-1,-1],\"upper\":[1,1,1]},\"methods\":[\"guess\"]}}",
                   "/spec/methods/0");
    expect_refused("{\"kind\":\"certify\",\"spec\":{\"model\":\"wide\",\"domain\":{\"lower\":[-1,2,-1],\"upper\":[1,1,1]}}}", "/spec/domain/upper/1");
}
END_TEST

int main(void) {
    Suite *suite = suite_create("certify");
    TCase *c = tcase_create("certify");
    tcase_set_timeout(c, 120);
    tcase_add_test(c, models__are_there);
    tcase_add_test(c, certify__difference_by_every_method);
    tcase_add_test(c, certify__one_model_has_a_range_and_a_slope);
    tcase_add_test(c, certify__a_model_against_itself_is_zero);
    tcase_add_test(c, certify__exact_by_name);
    tcase_add_test(c, certify__refuses_methods_that_do_not_apply);
    suite_add_tcase(suite, c);
    daemon_start(&d, NULL);
    return daemon_finish(&d, run_suite(suite));
}
