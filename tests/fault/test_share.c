/* SPDX-License-Identifier: Apache-2.0
 * A plan that two workers search: both are at it, the second goes when somebody else plans, and its death costs the plan nothing
 * but time. Workers are told apart by how long they ran since the plan began: the first has, the helper has only begun. */
#include <math.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "support/rail.h"

enum { PIDS = 16 };
static test_daemon d;

static void sleep_ms(long ms) {
    nanosleep(&(struct timespec){ms / 1000, ms % 1000 * 1000000}, NULL);
}

static void setup(void) {
    rail_upload_random(&d, "hard", 12, 3);
    rail_store_task(&d, "reach", "hard", 8); /* not solved in minutes */
    rail_upload_random(&d, "fair", 10, 3);
    rail_store_task(&d, "solve", "fair", 4); /* solved in seconds */
}

static size_t body_of(const char *task, double y, int deadline_ms, char ret[512]) {
    return (size_t)snprintf(
        ret, 512,
        "{\"task\":\"%s\",\"y\":[[%g,0.1]],\"goal\":[0.5],\"deadline_ms\":%d,\"overrides\":{\"planner\":{\"engine\":\"tree\",\"gap\":0.01}}}", task,
        y, deadline_ms);
}

static http_reply plan(const char *task, double y, int deadline_ms) {
    char body[512];
    body_of(task, y, deadline_ms, body);
    return http_json(&d, "POST", "/v1/plans", body);
}

/* A plan beside the test's own calls. */
static int call(const char *task, double y, int deadline_ms) {
    char body[512], request[1024];
    size_t len = body_of(task, y, deadline_ms, body);
    int n = snprintf(request, sizeof request,
                     "POST /v1/plans HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Type: application/json\r\nContent-Length: %zu\r\n\r\n%s",
                     len, body);
    return http_raw_send(&d, request, (size_t)n, false);
}

static http_reply await(int fd) {
    static char text[1 << 16];
    struct pollfd p = {.fd = fd, .events = POLLIN};
    ck_assert_int_eq(poll(&p, 1, 60000), 1);
    size_t len = http_raw_read(fd, text, sizeof text);
    const char *body = strstr(text, "\r\n\r\n");
    ck_assert_msg(body && strncmp(text, "HTTP/1.1 200", 12) == 0, "%.600s", text);
    http_reply reply = {.status = 200, .body = strdup(body + 4), .len = len - (size_t)(body + 4 - text)};
    ck_assert_int_eq(esp_json_parse(reply.body, reply.len, &reply.json, NULL), ESP_OK);
    return reply;
}

static void await_rest(void) {
    http_await_metric(&d, "workers{state=\"busy\"}", 0);
    ck_assert_double_eq(http_metric(&d, "workers_helping"), 0);
}

static void expect_sound(http_reply *reply) {
    double objective = reply_number(reply, "/objective"), bound = reply_number(reply, "/lower_bound");
    ck_assert_msg(bound <= objective + 1e-9 && bound >= 0, "bound %.12g, objective %.12g", bound, objective);
    ck_assert_msg(strstr(reply->body, "\"verified\":true") != NULL, "%s", reply->body);
}

START_TEST(share__both_workers_are_at_one_plan) {
    double shares = http_metric(&d, "plan_shares_total");
    int fd = call("reach", 0.3, 1500);
    http_await_metric(&d, "workers_helping", 1);
    ck_assert_double_eq(http_metric(&d, "workers{state=\"busy\"}"), 2);
    http_reply reply = await(fd);
    ck_assert_str_eq(reply_text(&reply, "/status"), "feasible");
    expect_sound(&reply);
    http_done(&reply);
    ck_assert_double_ge(http_metric(&d, "plan_shares_total"), shares + 1);
    await_rest();
}
END_TEST

START_TEST(share__a_helper_goes_when_another_robot_plans) {
    double yielded = http_metric(&d, "plan_shares_yielded_total");
    int fd = call("reach", 0.2, 1800);
    for (int k = 0; k < 2; k++) {
        http_await_metric(&d, "workers_helping", 1);
        http_reply quick = plan("reach", 0.4 + 0.01 * k, 150);
        expect_status(quick, 200);
        ck_assert_str_eq(reply_text(&quick, "/status"), "feasible");
        ck_assert_double_lt(reply_number(&quick, "/timing/queue_ms"), 100); /* of 150: the helper was not waited for to its end */
        ck_assert_double_gt(reply_number(&quick, "/timing/solve_ms"), 0);
        expect_sound(&quick);
        http_done(&quick);
    }
    ck_assert_double_ge(http_metric(&d, "plan_shares_yielded_total"), yielded + 2);
    http_reply reply = await(fd);
    expect_sound(&reply);
    http_done(&reply);
    await_rest();
}
END_TEST

/* Nanoseconds it has run on a processor. */
static long long ran_ns(pid_t pid) {
    char path[64];
    long long ran = 0;
    snprintf(path, sizeof path, "/proc/%d/schedstat", (int)pid);
    FILE *file = fopen(path, "re");
    if (!file) return 0;
    if (fscanf(file, "%lld", &ran) != 1) ran = 0;
    fclose(file);
    return ran;
}

/* The same plan alone and with a helper that is killed: both prove the gap, so their costs are that near. */
static void hit_one(bool helper, int sig) {
    pid_t pids[PIDS] = {0};
    long long before[2];
    double lost = http_metric(&d, "worker_restarts_total{cause=\"lost\"}");
    await_rest();
    for (int turn = 0; turn < 500 && rail_workers(&d, RAIL_PLAN, pids, PIDS) != 2; turn++) sleep_ms(10);
    ck_assert_int_eq(rail_workers(&d, RAIL_PLAN, pids, PIDS), 2);
    for (int k = 0; k < 2; k++) before[k] = ran_ns(pids[k]);
    int fd = call("solve", 0.3, 20000);
    http_await_metric(&d, "workers_helping", 1);
    int first = ran_ns(pids[0]) - before[0] > ran_ns(pids[1]) - before[1] ? 0 : 1;
    pid_t hit = pids[helper ? 1 - first : first];
    kill(hit, sig);
    http_reply reply = await(fd);
    kill(hit, SIGKILL); /* one that only hangs */
    if (sig == SIGKILL) ck_assert_double_ge(http_metric(&d, "worker_restarts_total{cause=\"lost\"}"), lost + 1);
    ck_assert_msg(strcmp(reply_text(&reply, "/status"), "optimal") == 0, "%s", reply.body);
    expect_sound(&reply);
    await_rest();
    http_reply again = plan("solve", 0.3, 20000);
    ck_assert_str_eq(reply_text(&again, "/status"), "optimal");
    double one = reply_number(&reply, "/objective"), two = reply_number(&again, "/objective");
    ck_assert_msg(fabs(one - two) <= 0.0101 * one, "%.12g with a death, %.12g without", one, two);
    http_done(&reply);
    http_done(&again);
}

START_TEST(share__a_dead_helper_costs_no_proof) {
    hit_one(true, SIGKILL);
}
END_TEST

START_TEST(share__a_dead_first_is_replaced) {
    hit_one(false, SIGKILL);
}
END_TEST

START_TEST(share__a_helper_that_hangs_is_not_waited_for) {
    hit_one(true, SIGSTOP);
}
END_TEST

static const char *const options[] = {"--workers", "2", "--share-workers", "2", "--share-after-ms", "20", NULL};

int main(void) {
    Suite *suite = suite_create("share");
    TCase *tc = tcase_create("share");
    tcase_set_timeout(tc, 120);
    tcase_add_unchecked_fixture(tc, setup, NULL);
    tcase_add_test(tc, share__both_workers_are_at_one_plan);
    tcase_add_test(tc, share__a_helper_goes_when_another_robot_plans);
    tcase_add_test(tc, share__a_dead_helper_costs_no_proof);
    tcase_add_test(tc, share__a_dead_first_is_replaced);
    tcase_add_test(tc, share__a_helper_that_hangs_is_not_waited_for);
    suite_add_tcase(suite, tc);
    daemon_start(&d, options);
    return daemon_finish(&d, run_suite(suite));
}
