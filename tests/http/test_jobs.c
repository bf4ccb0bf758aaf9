/* SPDX-License-Identifier: Apache-2.0
 * /v1/jobs from submission to result, with what a job leaves behind, and every way to be refused. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "support/rail.h"

static test_daemon d;

#define TRAIN(name, seed)                                                                                                                            \
    "{\"kind\":\"train\",\"spec\":{\"dataset\":\"rail\",\"name\":\"" name "\",\"model\":{\"type\":\"mlp\",\"hidden\":[8,8]},\"frame\":\"residual\"," \
    "\"epochs\":4,\"rung_epochs\":6,\"batch\":64,\"ladder\":[6,3],\"seed\":" seed "}}"

static http_reply run_job(const char *json) {
    char id[64];
    rail_submit(&d, json, id);
    return rail_wait_end(&d, id, 60);
}

START_TEST(train__leaves_a_model_for_every_rung) {
    http_reply job = run_job(TRAIN("cart", "1"));
    ck_assert_str_eq(reply_text(&job, "/state"), "succeeded");
    ck_assert_double_eq(reply_number(&job, "/progress/fraction"), 1);
    ck_assert_double_eq(reply_number(&job, "/attempt"), 1);
    ck_assert_uint_eq(reply_count(&job, "/result/models"), 3);
    ck_assert_double_eq(reply_number(&job, "/result/models/0/relu"), 16);
    ck_assert_double_eq(reply_number(&job, "/result/models/1/relu"), 6);
    ck_assert_double_eq(reply_number(&job, "/result/models/2/relu"), 3);
    ck_assert(reply_has(&job, "/progress/fraction"));
    char path[128], parent[64], id[64];
    snprintf(parent, sizeof parent, "%s", reply_text(&job, "/result/models/0/id"));
    snprintf(path, sizeof path, "/v1/models/%s", reply_text(&job, "/result/models/1/id"));
    snprintf(id, sizeof id, "%s", reply_text(&job, "/id"));
    http_reply model = http_get(&d, path);
    expect_status(model, 200);
    ck_assert_str_eq(reply_text(&model, "/name"), "cart");
    ck_assert_str_eq(reply_text(&model, "/parent"), parent);
    ck_assert_uint_eq(reply_count(&model, "/metrics/data_box/lower"), 3);
    ck_assert(reply_number(&model, "/metrics/data_box/lower/2") < reply_number(&model, "/metrics/data_box/upper/2"));
    http_done(&model);
    snprintf(path, sizeof path, "/v1/jobs/%s/artifacts", id);
    http_reply made = http_get(&d, path);
    expect_status(made, 200);
    ck_assert_uint_eq(reply_count(&made, "/items"), 3);
    ck_assert_str_eq(reply_text(&made, "/items/0/kind"), "model");
    ck_assert_str_eq(reply_text(&made, "/items/0/id"), parent);
    http_reply file = http_get(&d, reply_text(&made, "/items/2/href"));
    expect_status(file, 200);
    http_done(&file);
    http_done(&made);
    http_done(&job);
}
END_TEST

/* Same data, spec and seed: the same bytes. Another seed: others. */
START_TEST(train__is_reproducible) {
    const char *const jobs[] = {TRAIN("same-a", "5"), TRAIN("same-b", "5"), TRAIN("same-c", "6")};
    const char *const paths[] = {"/v1/models/same-a", "/v1/models/same-b", "/v1/models/same-c"};
    char sha256[3][80];
    for (int i = 0; i < 3; i++) {
        http_reply job = run_job(jobs[i]);
        ck_assert_str_eq(reply_text(&job, "/state"), "succeeded");
        http_done(&job);
        http_reply model = http_get(&d, paths[i]);
        snprintf(sha256[i], sizeof sha256[i], "%s", reply_text(&model, "/sha256"));
        http_done(&model);
    }
    ck_assert_str_eq(sha256[0], sha256[1]);
    ck_assert_str_ne(sha256[0], sha256[2]);
}
END_TEST

/* The certified difference holds at every point that is tried. */
START_TEST(certify__is_not_refuted_by_samples) {
    http_reply job =
        run_job("{\"kind\":\"certify\",\"spec\":{\"model\":\"wide\",\"reference\":\"other\",\"domain\":{\"lower\":[-1,-1,-1],\"upper\":[1,1,1]},"
                "\"time_limit_s\":1}}");
    ck_assert_str_eq(reply_text(&job, "/state"), "succeeded");
    double least = INFINITY, reached = 0;
    char pointer[64];
    size_t n = reply_count(&job, "/result/certificates");
    ck_assert_uint_ge(n, 3);
    for (size_t i = 0; i < n; i++) {
        snprintf(pointer, sizeof pointer, "/result/certificates/%zu/kind", i);
        if (strcmp(reply_text(&job, pointer), "difference") != 0) continue;
        snprintf(pointer, sizeof pointer, "/result/certificates/%zu/value", i);
        least = fmin(least, reply_number(&job, pointer));
        snprintf(pointer, sizeof pointer, "/result/certificates/%zu/lower", i);
        reached = fmax(reached, reply_number(&job, pointer));
    }
    ck_assert(reached > 0 && reached <= least);
    esp_buf x = {0};
    esp_buf_puts(&x, "{\"x\":[");
    for (int i = 0; i < 343; i++) esp_buf_printf(&x, "%s[%g,%g,%g]", i ? "," : "", i % 7 / 3.0 - 1, i / 7 % 7 / 3.0 - 1, i / 49 / 3.0 - 1);
    esp_buf_puts(&x, "]}");
    http_reply a = http_json(&d, "POST", "/v1/models/wide/predict", esp_buf_text(&x)),
               b = http_json(&d, "POST", "/v1/models/other/predict", esp_buf_text(&x));
    for (int i = 0; i < 343; i++)
        for (int k = 0; k < 2; k++) {
            snprintf(pointer, sizeof pointer, "/y/%d/%d", i, k);
            ck_assert(fabs(reply_number(&a, pointer) - reply_number(&b, pointer)) <= least);
        }
    http_done(&a);
    http_done(&b);
    http_done(&job);
    esp_buf_done(&x);
    http_reply table = http_get(&d, "/v1/bounds?kind=difference");
    expect_status(table, 200);
    ck_assert_uint_ge(reply_count(&table, "/items"), 2);
    http_done(&table);
}
END_TEST

/* A model against itself, and its own dataset as the domain. */
START_TEST(certify__takes_a_dataset_as_domain) {
    http_reply job =
        run_job("{\"kind\":\"certify\",\"spec\":{\"model\":\"wide\",\"domain\":{\"dataset\":\"rail\",\"margin\":0.1},\"methods\":[\"crown\"],"
                "\"norm\":\"l2\"}}");
    ck_assert_str_eq(reply_text(&job, "/state"), "succeeded");
    ck_assert_uint_eq(reply_count(&job, "/result/certificates"), 1);
    ck_assert_str_eq(reply_text(&job, "/result/certificates/0/kind"), "range");
    ck_assert_str_eq(reply_text(&job, "/result/certificates/0/method"), "crown");
    ck_assert_str_eq(reply_text(&job, "/result/certificates/0/norm"), "l2");
    http_done(&job);
}
END_TEST

START_TEST(evaluate__measures_every_step) {
    http_reply job = run_job("{\"kind\":\"evaluate\",\"spec\":{\"model\":\"wide\",\"dataset\":\"rail\",\"horizon\":4}}");
    ck_assert_str_eq(reply_text(&job, "/state"), "succeeded");
    ck_assert_uint_eq(reply_count(&job, "/result/steps"), 4);
    ck_assert_double_eq(reply_number(&job, "/result/windows"), 60 * 5);
    ck_assert(reply_number(&job, "/result/steps/0/p25") <= reply_number(&job, "/result/steps/0/p50"));
    ck_assert(reply_number(&job, "/result/steps/0/p50") <= reply_number(&job, "/result/steps/0/p75"));
    ck_assert(reply_number(&job, "/result/steps/3/p50") > 0);
    http_done(&job);
}
END_TEST

/* ---- life ---- */

static void cancel(const char *id, int wanted) {
    char path[128];
    snprintf(path, sizeof path, "/v1/jobs/%s", id);
    http_reply reply = http_delete(&d, path);
    expect_status(reply, wanted);
    http_done(&reply);
}

START_TEST(cancel__stops_a_running_and_a_queued_job) {
    char running[64], queued[64];
    rail_submit(&d, rail_long_job, running);
    http_reply job = rail_wait_state(&d, running, "running");
    ck_assert_str_eq(reply_text(&job, "/state"), "running");
    http_done(&job);
    rail_submit(&d, TRAIN("never", "1"), queued);
    job = http_get(&d, "/v1/jobs?state=queued&limit=1");
    ck_assert_str_eq(reply_text(&job, "/items/0/progress/stage"), "queued");
    ck_assert_double_eq(reply_number(&job, "/items/0/progress/fraction"), 0);
    http_done(&job);
    cancel(queued, 200); /* there is one batch worker, and it is taken */
    cancel(running, 202);
    job = rail_wait_end(&d, running, 10);
    ck_assert_str_eq(reply_text(&job, "/state"), "cancelled");
    ck_assert(!reply_has(&job, "/result"));
    http_done(&job);
    job = rail_wait_end(&d, queued, 1);
    ck_assert_str_eq(reply_text(&job, "/state"), "cancelled");
    ck_assert_double_eq(reply_number(&job, "/attempt"), 0);
    http_done(&job);
    char path[128];
    snprintf(path, sizeof path, "/v1/jobs/%s", queued);
    job = http_delete(&d, path);
    expect_problem(&job, 409, "STATE", NULL);
    http_done(&job);
}
END_TEST

START_TEST(run_limit__ends_a_job) {
    esp_buf json = {0};
    esp_buf_put(&json, rail_long_job, strlen(rail_long_job) - 1);
    esp_buf_puts(&json, ",\"run_limit_s\":0.5}");
    http_reply job = run_job(esp_buf_text(&json));
    ck_assert_str_eq(reply_text(&job, "/state"), "timed_out");
    ck_assert_str_eq(reply_text(&job, "/error/code"), "DEADLINE");
    http_done(&job);
    esp_buf_done(&json);
}
END_TEST

START_TEST(create__waits_when_it_is_asked_to) {
    const char *const headers[] = {"Prefer: respond-async, wait=30", "Content-Type: application/json", NULL};
    const char body[] = "{\"kind\":\"evaluate\",\"spec\":{\"model\":\"wide\",\"dataset\":\"rail\",\"horizon\":1}}";
    http_reply reply = {0};
    http_send(&d, &(http_request){.method = "POST", .path = "/v1/jobs", .headers = headers, .body = body, .len = sizeof body - 1}, &reply);
    expect_status(reply, 202);
    ck_assert_str_eq(reply_text(&reply, "/state"), "succeeded");
    char location[128], wanted[128];
    snprintf(wanted, sizeof wanted, "/v1/jobs/%s", reply_text(&reply, "/id"));
    ck_assert_str_eq(http_header(&reply, "Location", location, sizeof location), wanted);
    http_done(&reply);
}
END_TEST

/* ---- events ---- */

START_TEST(events__tell_the_whole_story_and_resume) {
    char id[64], path[128];
    rail_submit(&d, TRAIN("events", "2"), id);
    snprintf(path, sizeof path, "/v1/jobs/%s/events", id);
    http_reply all = http_get(&d, path); /* ends with the job */
    expect_status(all, 200);
    ck_assert_ptr_nonnull(strstr(all.headers, "text/event-stream"));
    ck_assert_msg(strncmp(all.body, "id: 1\nevent: state\ndata: {\"state\":\"queued\"", 42) == 0, "%.200s", all.body);
    ck_assert_ptr_nonnull(strstr(all.body, "\"state\":\"running\""));
    ck_assert_ptr_nonnull(strstr(all.body, "event: model\ndata: {"));
    ck_assert_ptr_nonnull(strstr(all.body, "event: progress\ndata: {"));
    const char *last = strstr(all.body, "\"state\":\"succeeded\"");
    ck_assert_ptr_nonnull(last);
    const char *const headers[] = {"Last-Event-ID: 2", NULL};
    http_reply rest = {0};
    http_send(&d, &(http_request){.method = "GET", .path = path, .headers = headers}, &rest);
    const char *third = strstr(all.body, "id: 3\n");
    ck_assert_ptr_nonnull(third);
    ck_assert_str_eq(rest.body, third);
    http_done(&rest);
    http_done(&all);
    http_reply none = http_get(&d, "/v1/jobs/job_none/events");
    expect_problem(&none, 404, "NOT_FOUND", NULL);
    http_done(&none);
}
END_TEST

/* ---- batch and refusals ---- */

START_TEST(batch__takes_the_good_lines) {
    const char body[] = "{\"kind\":\"evaluate\",\"spec\":{\"model\":\"wide\",\"dataset\":\"rail\",\"horizon\":1}}\n"
                        "{\"kind\":\"evaluate\",\"spec\":{\"model\":\"wide\",\"dataset\":\"rail\",\"horizon\":0}}\n"
                        "not json\n"
                        "{\"kind\":\"evaluate\",\"spec\":{\"model\":\"wide\",\"dataset\":\"rail\",\"horizon\":2}}";
    http_reply reply = http_post(&d, "/v1/jobs/batch", "application/x-ndjson", body, sizeof body - 1);
    expect_status(reply, 200);
    const char *const wanted[] = {"\"state\":\"queued\"", "\"pointer\":\"/spec/horizon\"", "\"code\":\"INVALID\"", "\"state\":\"queued\""};
    char *line = reply.body;
    for (int i = 0; i < 4; i++) {
        char *end = strchr(line, '\n');
        ck_assert_ptr_nonnull(end);
        *end = '\0';
        ck_assert_msg(strstr(line, wanted[i]), "%s is not in %s", wanted[i], line);
        line = end + 1;
    }
    ck_assert_str_eq(line, "");
    http_done(&reply);
}
END_TEST

static http_reply keyed(const char *path, const char *type, const char *key, const char *more, const char *body) {
    char type_header[80], key_header[80];
    const char *const headers[] = {type_header, key_header, more, NULL};
    http_reply reply;
    snprintf(type_header, sizeof type_header, "Content-Type: %s", type);
    snprintf(key_header, sizeof key_header, "Idempotency-Key: %s", key);
    http_send(&d, &(http_request){.method = "POST", .path = path, .headers = headers, .body = body, .len = strlen(body)}, &reply);
    return reply;
}

START_TEST(batch__is_kept_whole_under_its_key) {
    static const char body[] = "{\"kind\":\"evaluate\",\"spec\":{\"model\":\"wide\",\"dataset\":\"rail\",\"horizon\":3}}\nnot json\n";
    const char *type = "application/x-ndjson";
    char replayed[16];
    http_reply first = keyed("/v1/jobs/batch", type, "many", NULL, body), again = keyed("/v1/jobs/batch", type, "many", NULL, body);
    expect_status(first, 200);
    expect_status(again, 200);
    ck_assert_str_eq(first.body, again.body);
    ck_assert_str_eq(http_header(&first, "Idempotent-Replayed", replayed, sizeof replayed), "");
    ck_assert_str_eq(http_header(&again, "Idempotent-Replayed", replayed, sizeof replayed), "true");
    http_reply other = keyed("/v1/jobs/batch", type, "many", NULL, "{}\n");
    expect_problem(&other, 422, "UNPROCESSABLE", "Idempotency-Key");
    http_done(&first);
    http_done(&again);
    http_done(&other);
}
END_TEST

START_TEST(create__waits_under_a_key_too) {
    static const char body[] = "{\"kind\":\"evaluate\",\"spec\":{\"model\":\"wide\",\"dataset\":\"rail\",\"horizon\":2}}";
    char id[64];
    for (int turn = 0; turn < 2; turn++) {
        http_reply reply = keyed("/v1/jobs", "application/json", "one", "Prefer: wait=30", body);
        expect_status(reply, 202);
        ck_assert_str_eq(reply_text(&reply, "/state"), "succeeded");
        if (turn == 1) ck_assert_str_eq(reply_text(&reply, "/id"), id);
        snprintf(id, sizeof id, "%s", reply_text(&reply, "/id"));
        http_done(&reply);
    }
}
END_TEST

static void expect_refused(const char *body, int status, const char *code, const char *pointer) {
    http_reply reply = http_json(&d, "POST", "/v1/jobs", body);
    expect_problem(&reply, status, code, pointer);
    http_done(&reply);
}

START_TEST(create__refuses_by_field) {
    expect_refused("{\"kind\":\"dream\",\"spec\":{}}", 400, "INVALID", "/kind");
    expect_refused("{\"kind\":\"train\"}", 400, "INVALID", NULL);
    expect_refused("{\"kind\":\"train\",\"spec\":[]}", 400, "INVALID", "/spec");
    expect_refused("{\"kind\":\"train\",\"spec\":{\"dataset\":\"nothing\",\"name\":\"x\",\"model\":{\"type\":\"mlp\",\"hidden\":[4]}}}", 422,
                   "UNPROCESSABLE", "/spec/dataset");
    expect_refused("{\"kind\":\"train\",\"spec\":{\"dataset\":\"rail\",\"name\":\"a b\",\"model\":{\"type\":\"mlp\",\"hidden\":[4]}}}", 400,
                   "INVALID", "/spec/name");
    expect_refused("{\"kind\":\"train\",\"spec\":{\"dataset\":\"rail\",\"name\":\"x\",\"model\":{\"type\":\"mlp\",\"hidden\":[4]},\"epoch\":3}}", 400,
                   "INVALID", "/spec/epoch");
    expect_refused("{\"kind\":\"train\",\"spec\":{\"dataset\":\"rail\",\"name\":\"x\",\"model\":{\"type\":\"mlp\",\"hidden\":[0]}}}", 400, "INVALID",
                   "/spec/model/hidden/0");
    expect_refused("{\"kind\":\"certify\",\"spec\":{\"model\":\"wide\",\"domain\":{\"lower\":[0],\"upper\":[1]}}}", 400, "INVALID",
                   "/spec/domain/lower");
    expect_refused("{\"kind\":\"certify\",\"spec\":{\"model\":\"nobody\",\"domain\":{\"lower\":[0],\"upper\":[1]}}}", 422, "UNPROCESSABLE",
                   "/spec/model");
    expect_refused("{\"kind\":\"certify\",\"spec\":{\"model\":\"wide\",\"reference\":\"line\",\"domain\":{\"dataset\":\"rail\"}}}", 422,
                   "UNPROCESSABLE", "/spec/reference");
    expect_refused("{\"kind\":\"certify\",\"spec\":{\"model\":\"line\",\"domain\":{\"dataset\":\"rail\"}}}", 422, "UNPROCESSABLE",
                   "/spec/domain/dataset");
    expect_refused("{\"kind\":\"certify\",\"spec\":{\"kind\":\"closed_loop\"}}", 400, "INVALID", "/spec/dynamics");
    expect_refused("{\"kind\":\"evaluate\",\"spec\":{\"model\":\"wide\",\"dataset\":\"rail\",\"horizon\":1},\"priority\":\"high\"}", 400, "INVALID",
                   "/priority");
    expect_refused("{\"kind\":\"evaluate\",\"kind\":\"train\",\"spec\":{}}", 400, "INVALID", NULL);
    http_reply reply = http_get(&d, "/v1/jobs/job_nobody");
    expect_problem(&reply, 404, "NOT_FOUND", NULL);
    http_done(&reply);
}
END_TEST

/* A job that cannot succeed says why and where. */
START_TEST(job__fails_with_the_workers_reason) {
    http_reply job = run_job("{\"kind\":\"evaluate\",\"spec\":{\"model\":\"wide\",\"dataset\":\"rail\",\"horizon\":500}}");
    ck_assert_str_eq(reply_text(&job, "/state"), "failed");
    ck_assert_str_eq(reply_text(&job, "/error/code"), "UNPROCESSABLE");
    ck_assert_str_eq(reply_text(&job, "/error/pointer"), "/spec/horizon");
    http_done(&job);
}
END_TEST

/* Once, in the process that every case is forked from. */
static void setup(void) {
    rail_upload_data(&d, "rail", 60);
    rail_upload_line(&d, "line");
    rail_upload_random(&d, "wide", 6, 1);
    rail_upload_random(&d, "other", 6, 2);
}

int main(void) {
    daemon_start(&d, NULL);
    Suite *suite = suite_create("jobs");
    TCase *tc = tcase_create("jobs");
    tcase_set_timeout(tc, 120);
    tcase_add_unchecked_fixture(tc, setup, NULL);
    tcase_add_test(tc, train__leaves_a_model_for_every_rung);
    tcase_add_test(tc, train__is_reproducible);
    tcase_add_test(tc, certify__is_not_refuted_by_samples);
    tcase_add_test(tc, certify__takes_a_dataset_as_domain);
    tcase_add_test(tc, evaluate__measures_every_step);
    tcase_add_test(tc, cancel__stops_a_running_and_a_queued_job);
    tcase_add_test(tc, run_limit__ends_a_job);
    tcase_add_test(tc, create__waits_when_it_is_asked_to);
    tcase_add_test(tc, create__waits_under_a_key_too);
    tcase_add_test(tc, batch__is_kept_whole_under_its_key);
    tcase_add_test(tc, events__tell_the_whole_story_and_resume);
    tcase_add_test(tc, batch__takes_the_good_lines);
    tcase_add_test(tc, create__refuses_by_field);
    tcase_add_test(tc, job__fails_with_the_workers_reason);
    suite_add_tcase(suite, tc);
    return daemon_finish(&d, run_suite(suite));
}
