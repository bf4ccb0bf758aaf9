/* SPDX-License-Identifier: Apache-2.0
 * POST /v1/plans and /v1/plans/batch. The model y+ = y + 0.5 u is exact, so the best plan is known by hand. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "support/rail.h"
#include "support/traffic.h"
#include "support/schema.h"

static test_daemon d;
static char why[1024];

#define COST  "\"cost\":{\"stage\":[{\"on\":\"y\",\"weight\":1,\"norm\":\"l1\",\"target\":\"goal\"}],\"terminal\":[]}"
#define INPUT "\"input\":{\"lower\":[-1],\"upper\":[1],\"safe\":[0]}"
#define TASK  "{\"model\":\"line\",\"horizon\":4," COST "," INPUT "}"

static http_reply plan(const char *body) {
    return http_json(&d, "POST", "/v1/plans", body);
}

/* The inputs through the model, by hand. */
static void check_replay(const http_reply *reply, double y, double goal) {
    double cost = 0;
    char pointer[64];
    size_t n = reply_count(reply, "/inputs");
    ck_assert_uint_eq(n, reply_count(reply, "/predicted"));
    for (size_t t = 0; t < n; t++) {
        snprintf(pointer, sizeof pointer, "/inputs/%zu/0", t);
        double u = reply_number(reply, pointer);
        ck_assert(fabs(u) <= 1 + 1e-9);
        y += 0.5 * u;
        cost += fabs(y - goal);
        snprintf(pointer, sizeof pointer, "/predicted/%zu/0", t);
        ck_assert_double_eq_tol(reply_number(reply, pointer), y, 1e-9);
    }
    ck_assert_double_eq_tol(reply_number(reply, "/objective"), cost, 1e-9);
}

/* From 0 to 1.2 in steps of at most 0.5: 0.7 + 0.2 + 0 + 0. */
START_TEST(plan__is_the_best_one_known_by_hand) {
    http_reply reply = plan("{\"task\":" TASK ",\"y\":[[0]],\"goal\":[1.2],\"deadline_ms\":3000}");
    expect_status(reply, 200);
    ck_assert_str_eq(reply_text(&reply, "/status"), "optimal");
    ck_assert_str_eq(reply_text(&reply, "/ranges"), "sound");
    ck_assert_uint_eq(reply_count(&reply, "/inputs"), 4);
    ck_assert_double_eq_tol(reply_number(&reply, "/objective"), 0.9, 0.9 * 0.0101);
    ck_assert(reply_number(&reply, "/lower_bound") <= 0.9 + 1e-9);
    ck_assert(reply_number(&reply, "/gap") <= 0.01);
    ck_assert_str_eq(reply_text(&reply, "/model/name"), "line");
    ck_assert_double_eq(reply_number(&reply, "/model/version"), 1);
    ck_assert(reply_has(&reply, "/valid_until"));
    ck_assert_msg(strncmp(reply_text(&reply, "/plan_id"), "pln_", 4) == 0, "%s", reply.body);
    ck_assert(reply_number(&reply, "/timing/total_ms") >= reply_number(&reply, "/timing/solve_ms"));
    check_replay(&reply, 0, 1.2);
    ck_assert(!reply_has(&reply, "/slack"));
    http_done(&reply);
}
END_TEST

START_TEST(plan__says_infeasible_only_when_it_is) {
    /* y(1) >= 0.75 whatever is done; the state is inside and may be at most 0.6. */
    http_reply reply = plan("{\"task\":{\"model\":\"line\",\"horizon\":2," COST ",\"input\":{\"lower\":[0.5],\"upper\":[1]},"
                            "\"state\":{\"lower\":[0],\"upper\":[0.6]}},\"y\":[[0.5]],\"goal\":[1],\"deadline_ms\":3000}");
    expect_status(reply, 200);
    ck_assert_str_eq(reply_text(&reply, "/status"), "infeasible");
    ck_assert_uint_eq(reply_count(&reply, "/inputs"), 0);
    ck_assert(!reply_has(&reply, "/objective"));
    http_done(&reply);
}
END_TEST

/* From 3 to below 2 in steps of at most 0.5: 2.5 is still outside; costs 1.5 + 1 + 0.5 + 0, and 10 * 0.5. */
START_TEST(plan__comes_back_inside_and_says_by_how_much_it_was_outside) {
    static const char *const body = "{\"task\":{\"model\":\"line\",\"horizon\":4," COST "," INPUT
                                    ",\"state\":{\"lower\":[0],\"upper\":[2],\"penalty\":10}},\"y\":[[3]],\"goal\":[1],\"deadline_ms\":3000}";
    http_reply reply = plan(body);
    expect_status(reply, 200);
    ck_assert_str_eq(reply_text(&reply, "/status"), "optimal");
    ck_assert_msg(strstr(reply.body, "\"verified\":true") != NULL, "%s", reply.body);
    ck_assert_uint_eq(reply_count(&reply, "/slack/limits"), 1);
    ck_assert_str_eq(reply_text(&reply, "/slack/limits/0"), "/state/upper/0");
    ck_assert_double_eq(reply_number(&reply, "/slack/penalty"), 10);
    ck_assert_uint_eq(reply_count(&reply, "/slack/steps"), 4);
    ck_assert_double_eq_tol(reply_number(&reply, "/slack/steps/0"), 0.5, 0.01);
    ck_assert_double_eq_tol(reply_number(&reply, "/slack/max"), 0.5, 0.01);
    ck_assert_double_eq_tol(reply_number(&reply, "/slack/total"), 0.5, 0.01);
    double cost = reply_number(&reply, "/slack/cost"), objective = reply_number(&reply, "/objective");
    ck_assert_double_eq_tol(objective, 8, 0.0101 * 8);
    ck_assert_double_eq_tol(objective, cost + 10 * reply_number(&reply, "/slack/total"), 1e-9);
    ck_assert(reply_number(&reply, "/lower_bound") <= 8 + 1e-9);
    ck_assert_msg(schema_check_request("POST", "/v1/plans", body, why, sizeof why), "%s", why);
    ck_assert_msg(schema_check_reply("POST", "/v1/plans", 200, reply.body, why, sizeof why), "%s", why);
    http_done(&reply);
}
END_TEST

/* A problem far too large for its time, so that the answer is what the worker had streamed. */
START_TEST(plan__says_it_of_an_answer_in_time_too) {
    rail_upload_random(&d, "hard", 48, 1);
    rail_store_task(&d, "hurry", "hard", 24);
    static const char *const body = "{\"task\":\"hurry\",\"y\":[[0.3,0.1]],\"goal\":[0.5],\"deadline_ms\":250,\"overrides\":{\"planner\":"
                                    "{\"engine\":\"cbc\"},\"state\":{\"lower\":[null,0.2],\"upper\":[0.1,null]}}}";
    http_reply reply = plan(body);
    expect_status(reply, 200);
    ck_assert_str_eq(reply_text(&reply, "/status"), "feasible");
    ck_assert_uint_eq(reply_count(&reply, "/slack/limits"), 2);
    ck_assert_uint_eq(reply_count(&reply, "/slack/steps"), 24);
    double cost = reply_number(&reply, "/slack/cost"), paid = reply_number(&reply, "/slack/penalty") * reply_number(&reply, "/slack/total");
    ck_assert(reply_number(&reply, "/slack/max") <= reply_number(&reply, "/slack/total"));
    ck_assert_double_eq_tol(reply_number(&reply, "/objective"), cost + paid, 1e-9 * (1 + cost + paid));
    ck_assert_msg(schema_check_reply("POST", "/v1/plans", 200, reply.body, why, sizeof why), "%s", why);
    http_done(&reply);
}
END_TEST

START_TEST(plan__takes_a_stored_task_with_overrides) {
    http_reply reply = http_json(&d, "POST", "/v1/tasks", "{\"name\":\"reach\",\"model\":\"line\",\"horizon\":4," COST "," INPUT "}");
    expect_status(reply, 201);
    http_done(&reply);
    reply =
        plan("{\"task\":\"reach\",\"y\":[[0]],\"goal\":[0.2],\"deadline_ms\":2000,\"overrides\":{\"horizon\":2,\"planner\":{\"method\":\"cem\"}}}");
    expect_status(reply, 200);
    ck_assert_uint_eq(reply_count(&reply, "/inputs"), 2);
    check_replay(&reply, 0, 0.2);
    http_done(&reply);
    reply = plan("{\"task\":\"reach/1\",\"y\":[[0]],\"goal\":[0.2],\"deadline_ms\":2000,\"overrides\":{\"horizon\":0}}");
    expect_problem(&reply, 400, "INVALID", "/task/horizon");
    http_done(&reply);
    reply = plan("{\"task\":\"reach/1\",\"y\":[[0]],\"goal\":[0.2],\"deadline_ms\":2000,\"overrides\":{\"model\":\"x\"}}");
    expect_problem(&reply, 400, "INVALID", "/overrides/model");
    http_done(&reply);
}
END_TEST

static void expect_refused(const char *body, int status, const char *code, const char *pointer) {
    http_reply reply = plan(body);
    expect_problem(&reply, status, code, pointer);
    http_done(&reply);
}

START_TEST(plan__refuses_by_field) {
    expect_refused("{\"task\":" TASK ",\"y\":[[0,0]],\"goal\":[1],\"deadline_ms\":100}", 400, "INVALID", "/y/0");
    expect_refused("{\"task\":" TASK ",\"y\":[[0],[0]],\"goal\":[1],\"deadline_ms\":100}", 400, "INVALID", "/y");
    expect_refused("{\"task\":" TASK ",\"y\":[[0]],\"deadline_ms\":100}", 400, "INVALID", "/goal");
    expect_refused("{\"task\":" TASK ",\"y\":[[0]],\"goal\":[1,2],\"deadline_ms\":100}", 400, "INVALID", "/goal");
    expect_refused("{\"task\":" TASK ",\"y\":[[0]],\"goal\":[1],\"u\":[[0],[0]],\"deadline_ms\":100}", 400, "INVALID", "/u");
    expect_refused("{\"task\":" TASK ",\"y\":[[0]],\"goal\":[1],\"deadline_ms\":0}", 400, "INVALID", "/deadline_ms");
    expect_refused("{\"task\":" TASK ",\"y\":[[0]],\"goal\":[1],\"deadline_ms\":1e9}", 400, "INVALID", "/deadline_ms");
    expect_refused("{\"task\":" TASK ",\"y\":[[0]],\"goal\":[1]}", 400, "INVALID", NULL);
    expect_refused("{\"task\":" TASK ",\"y\":[[0]],\"goal\":[1],\"deadline_ms\":100,\"session\":\"\"}", 400, "INVALID", "/session");
    expect_refused("{\"task\":" TASK ",\"y\":[[0]],\"goal\":[1],\"deadline_ms\":100,\"hurry\":true}", 400, "INVALID", "/hurry");
    expect_refused("{\"task\":{\"model\":\"line\",\"horizon\":2," COST "," INPUT
                   ",\"state\":{\"penalty\":0}},\"y\":[[0]],\"goal\":[1],\"deadline_ms\":100}",
                   400, "INVALID", "/task/state/penalty");
    expect_refused("{\"task\":\"nothing\",\"y\":[[0]],\"goal\":[1],\"deadline_ms\":100}", 404, "NOT_FOUND", "/task");
    expect_refused("{\"task\":7,\"y\":[[0]],\"goal\":[1],\"deadline_ms\":100}", 400, "INVALID", "/task");
    expect_refused("{\"task\":{\"model\":\"nobody\",\"horizon\":4," COST "," INPUT "},\"y\":[[0]],\"goal\":[1],\"deadline_ms\":100}", 404,
                   "NOT_FOUND", "/task/model");
    expect_refused("{\"task\":{\"model\":\"line\",\"horizon\":0," COST "," INPUT "},\"y\":[[0]],\"goal\":[1],\"deadline_ms\":100}", 400, "INVALID",
                   "/task/horizon");
    expect_refused("{\"task\":{\"model\":\"line\",\"horizon\":2," COST "," INPUT
                   ",\"trust_region\":{\"kind\":\"data\",\"margin\":0.1}},\"y\":[[0]],\"goal\":[1],"
                   "\"deadline_ms\":100}",
                   422, "UNPROCESSABLE", "/task/trust_region/kind");
}
END_TEST

/* Lines in their order, a bad one as a problem in its place. */
START_TEST(batch__answers_every_line_in_order) {
    esp_buf body = {0};
    for (int i = 0; i < 6; i++) esp_buf_printf(&body, "{\"task\":" TASK ",\"y\":[[0]],\"goal\":[%g],\"deadline_ms\":2000}\n", 0.1 * i);
    esp_buf_puts(&body, "{\"task\":\n\n{\"task\":\"nothing\",\"y\":[[0]],\"deadline_ms\":100}");
    http_reply reply = http_post(&d, "/v1/plans/batch", "application/x-ndjson", body.data, body.len);
    expect_status(reply, 200);
    char *line = reply.body;
    for (int i = 0; i < 8; i++) {
        char *end = strchr(line, '\n');
        ck_assert_ptr_nonnull(end);
        *end = '\0';
        http_reply one = {.body = line};
        ck_assert_int_eq(esp_json_parse(line, strlen(line), &one.json, NULL), ESP_OK);
        if (i < 6) {
            check_replay(&one, 0, 0.1 * i);
            ck_assert_double_eq_tol(reply_number(&one, "/objective"), 0, 1e-6);
        } else {
            ck_assert_str_eq(reply_text(&one, "/code"), i == 6 ? "INVALID" : "NOT_FOUND");
        }
        esp_json_free(one.json);
        line = end + 1;
    }
    ck_assert_str_eq(line, "");
    http_done(&reply);
    esp_buf_done(&body);
}
END_TEST

START_TEST(batch__refuses_an_empty_body) {
    http_reply reply = http_post(&d, "/v1/plans/batch", "application/x-ndjson", "\n\n", 2);
    expect_problem(&reply, 400, "INVALID", NULL);
    http_done(&reply);
}
END_TEST

/* More clients than the queue and the workers hold: some are answered, the others are told that it is full. */
START_TEST(plan__is_refused_when_the_queue_is_full) {
    test_daemon small = {0};
    daemon_start(&small, (const char *const[]){"--workers", "1", "--plan-queue", "1", NULL});
    rail_upload_random(&small, "wide", 32, 1);
    rail_store_task(&small, "reach", "wide", 20);
    char command[1024];
    traffic_relay relay;
    traffic_relay_start(&relay, &small);
    snprintf(command, sizeof command,
             "for i in 1 2 3 4 5 6; do curl -s -H Content-Type:application/json -o /dev/null -w '%%{http_code} %%header{retry-after}\\n' -X POST "
             "%s/v1/plans -d "
             "'{\"task\":\"reach\",\"y\":[[0.3,0.1]],\"goal\":[0.5],\"deadline_ms\":800}' & done; wait",
             relay.base);
    FILE *pipe = popen(command, "r");
    ck_assert_ptr_nonnull(pipe);
    char line[64];
    int ok = 0, busy = 0;
    while (fgets(line, sizeof line, pipe)) {
        ok += strncmp(line, "200", 3) == 0;
        busy += strncmp(line, "503 1", 5) == 0;
    }
    pclose(pipe);
    ck_assert_int_eq(traffic_relay_finish(&relay, 0), 0);
    ck_assert_int_eq(daemon_finish(&small, 0), 0);
    ck_assert_int_eq(ok, 2);
    ck_assert_int_eq(busy, 4);
}
END_TEST

/* Once, in the process that every case is forked from. */
static void setup(void) {
    rail_upload_line(&d, "line");
}

int main(void) {
    daemon_start(&d, NULL);
    Suite *suite = suite_create("plans");
    TCase *tc = tcase_create("plans");
    tcase_set_timeout(tc, 60);
    tcase_add_unchecked_fixture(tc, setup, NULL);
    tcase_add_test(tc, plan__is_the_best_one_known_by_hand);
    tcase_add_test(tc, plan__says_infeasible_only_when_it_is);
    tcase_add_test(tc, plan__comes_back_inside_and_says_by_how_much_it_was_outside);
    tcase_add_test(tc, plan__says_it_of_an_answer_in_time_too);
    tcase_add_test(tc, plan__takes_a_stored_task_with_overrides);
    tcase_add_test(tc, plan__refuses_by_field);
    tcase_add_test(tc, batch__answers_every_line_in_order);
    tcase_add_test(tc, batch__refuses_an_empty_body);
    tcase_add_test(tc, plan__is_refused_when_the_queue_is_full);
    suite_add_tcase(suite, tc);
    return daemon_finish(&d, run_suite(suite));
}
