/* SPDX-License-Identifier: Apache-2.0
 * A distill job whose states idle plan workers help with: they do, they go when a robot plans, and killing them costs nothing but time. */
#include <check.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "support/rail.h"

enum { PIDS = 16 };
static test_daemon d;

static void sleep_ms(long ms) {
    nanosleep(&(struct timespec){ms / 1000, ms % 1000 * 1000000}, NULL);
}

static void setup(void) {
    rail_upload_random(&d, "hard", 32, 1);
    rail_store_task(&d, "hard", "hard", 6); /* its plans take all the time they may */
    rail_upload_line(&d, "line");
}

static void submit(int samples, char ret_id[64]) {
    char body[512];
    snprintf(body, sizeof body,
             "{\"kind\":\"distill\",\"spec\":{\"task\":\"hard\",\"name\":\"pi\",\"domain\":{\"lower\":[-1,-1,-1],\"upper\":[1,1,1]},\"samples\":%d,"
             "\"hidden\":[8],\"dagger_rounds\":0,\"regret_states\":0,\"plan_ms\":25,\"epochs\":20}}",
             samples);
    rail_submit(&d, body, ret_id);
}

/* Every state was planned from once, whoever did it. */
static void expect_whole(const char *id, int samples) {
    http_reply job = rail_wait_end(&d, id, 60);
    ck_assert_msg(strcmp(reply_text(&job, "/state"), "succeeded") == 0, "%.1000s", job.body);
    ck_assert_double_eq(reply_number(&job, "/result/rounds/0/answers") + reply_number(&job, "/result/rounds/0/unplanned"), samples);
    ck_assert_double_eq(reply_number(&job, "/attempt"), 1);
    http_done(&job);
}

START_TEST(distill__is_helped_by_idle_workers) {
    char id[64];
    double before = http_metric(&d, "plan_shares_total");
    submit(50, id);
    http_reply job = rail_wait_end(&d, id, 60);
    ck_assert_str_eq(reply_text(&job, "/state"), "succeeded");
    ck_assert_double_gt(reply_number(&job, "/result/helped"), 0);
    ck_assert_double_le(reply_number(&job, "/result/helped"), reply_number(&job, "/result/answers"));
    ck_assert_double_gt(http_metric(&d, "plan_shares_total"), before);
    http_done(&job);
    expect_whole(id, 50);
}
END_TEST

/* More plans at a time than there are processors for: helpers go, and the robots have their answers. */
START_TEST(distill__makes_room_for_plans) {
    char id[64];
    double before = http_metric(&d, "plan_shares_yielded_total");
    submit(80, id);
    for (int turn = 0; turn < 60; turn++) {
        http_reply reply = http_json(&d, "POST", "/v1/plans", "{\"task\":\"hard\",\"y\":[[0.3,0.1]],\"goal\":[0.5],\"deadline_ms\":100}");
        expect_status(reply, 200);
        ck_assert_uint_eq(reply_count(&reply, "/inputs"), 6);
        http_done(&reply);
        if (http_metric(&d, "plan_shares_yielded_total") > before) break;
        sleep_ms(70);
    }
    ck_assert_double_gt(http_metric(&d, "plan_shares_yielded_total"), before);
    expect_whole(id, 80);
}
END_TEST

START_TEST(distill__outlives_its_helpers) {
    char id[64];
    submit(60, id);
    http_reply job = rail_wait_state(&d, id, "running");
    http_done(&job);
    for (int turn = 0; turn < 4; turn++) {
        pid_t pids[PIDS];
        sleep_ms(100);
        int n = rail_workers(&d, RAIL_PLAN, pids, PIDS);
        /* The last ones hang rather than die. */
        for (int k = 0; k < n; k++) kill(pids[k], turn == 3 ? SIGSTOP : SIGKILL);
    }
    expect_whole(id, 60);
}
END_TEST

int main(void) {
    /* Two plan workers and the job, as if each had a processor. */
    static const char *const options[] = {"--workers", "2", "--share-workers", "3", NULL};
    Suite *suite = suite_create("distilling");
    TCase *tc = tcase_create("helpers");
    tcase_set_timeout(tc, 120);
    tcase_add_unchecked_fixture(tc, setup, NULL);
    tcase_add_test(tc, distill__is_helped_by_idle_workers);
    tcase_add_test(tc, distill__makes_room_for_plans);
    tcase_add_test(tc, distill__outlives_its_helpers);
    suite_add_tcase(suite, tc);
    daemon_start(&d, options);
    return daemon_finish(&d, run_suite(suite));
}
