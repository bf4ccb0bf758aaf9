/* SPDX-License-Identifier: Apache-2.0
 * The promise: a plan's reply is with the client by deadline_ms and at most 10 ms, whatever the workers do.
 *
 * Measured at the client, which like the daemon asks for real-time priority: it is not what is measured. What is granted
 * beside the 10 ms is time in which the machine itself stood still (support/pauses.h), as a virtual one does whose host
 * runs something else, and of that only what fell where it makes a reply late: on the way there, or from shortly before the
 * deadline on. Without real-time priority a pause may be another program's; then the test is that much weaker. */
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>
#include <time.h>

#include "base/clock.h"
#include "support/pauses.h"
#include "support/rail.h"

enum { GRACE_MS = 10, PIDS = 16 };
static test_daemon d;

/* ---- plans ---- */

static void setup(void) {
    rail_upload_data(&d, "rail", 60);
    rail_upload_random(&d, "hard", 48, 1);
    rail_store_task(&d, "reach", "hard", 24); /* thousands of binaries: never solved within these deadlines */
}

static double worst_late_ms, worst_granted_ms;

static void plan_in_time(int deadline_ms, int i) {
    char body[256];
    snprintf(body, sizeof body,
             "{\"task\":\"reach\",\"y\":[[%g,0.1]],\"goal\":[0.5],\"deadline_ms\":%d,\"overrides\":{\"planner\":{\"engine\":\"%s\"}}}", 0.01 * i,
             deadline_ms, i % 2 ? "tree" : "cbc");
    int64_t sent_ns = esp_clock_now_ns();
    http_reply reply = http_json(&d, "POST", "/v1/plans", body);
    expect_status(reply, 200);
    int64_t got_ns = sent_ns + (int64_t)(reply.seconds * 1e9);
    double late_ms = reply.seconds * 1e3 - deadline_ms, total_ms = reply_number(&reply, "/timing/total_ms");
    double granted_ms = late_ms > GRACE_MS ? pauses_excuse_ms(sent_ns, got_ns, total_ms, deadline_ms) : 0;
    ck_assert_uint_eq(reply_count(&reply, "/inputs"), 24);
    if (late_ms > worst_late_ms) {
        worst_late_ms = late_ms;
        worst_granted_ms = granted_ms;
    }
    ck_assert_msg(late_ms <= GRACE_MS + granted_ms,
                  "deadline %d: %.1f ms late with %d ms allowed and %.1f ms of it the machine's; the daemon had it for %.1f ms", deadline_ms, late_ms,
                  GRACE_MS, granted_ms, total_ms);
    http_done(&reply);
}

/* From hardly any time to plenty, with either engine; a long one last, so that CBC, which cannot be called off, is deep
 * inside when its time is up. */
static void plans_in_time(void) {
    static const int deadlines[] = {5, 8, 13, 20, 35, 50, 80, 120, 200, 350};
    pauses_start();
    worst_late_ms = -1e9;
    for (int round = 0; round < 3; round++)
        for (size_t i = 0; i < sizeof deadlines / sizeof *deadlines; i++) plan_in_time(deadlines[i], (int)i);
    plan_in_time(1500, 0);
    pauses_stop();
    printf("worst: %.1f ms after the deadline, the machine %.1f ms late then\n", worst_late_ms, worst_granted_ms);
}

START_TEST(deadline__is_kept_on_a_quiet_daemon) {
    plans_in_time();
}
END_TEST

START_TEST(deadline__is_kept_while_a_job_trains) {
    char id[64], path[128];
    rail_submit(&d, rail_long_job, id);
    http_reply job = rail_wait_state(&d, id, "running");
    http_done(&job);
    plans_in_time();
    snprintf(path, sizeof path, "/v1/jobs/%s", id);
    job = http_get(&d, path);
    ck_assert_str_eq(reply_text(&job, "/state"), "running"); /* it did train all the while */
    http_done(&job);
    job = http_delete(&d, path);
    http_done(&job);
    job = rail_wait_end(&d, id, 20);
    http_done(&job);
}
END_TEST

START_TEST(deadline__is_kept_while_workers_are_stopped) {
    pauses_start();
    for (int i = 0; i < 6; i++) {
        pid_t pids[PIDS];
        int n = rail_workers(&d, RAIL_PLAN, pids, PIDS);
        for (int k = 0; k < (i % 2 ? 1 : n); k++) kill(pids[k], SIGSTOP); /* one of them, or all */
        plan_in_time(120, i);
    }
    pauses_stop();
}
END_TEST

/* More clients than workers: what waits too long in the queue is answered there, in time. */
START_TEST(deadline__is_kept_in_the_queue) {
    pid_t clients[6];
    for (int i = 0; i < 6; i++) {
        clients[i] = fork();
        ck_assert_int_ge(clients[i], 0);
        if (clients[i]) continue;
        pauses_start();
        for (int k = 0; k < 5; k++) plan_in_time(100, k);
        _exit(0);
    }
    for (int i = 0; i < 6; i++) {
        int status = 0;
        ck_assert_int_eq(waitpid(clients[i], &status, 0), clients[i]);
        ck_assert_msg(status == 0, "client %d was answered late", i);
    }
}
END_TEST

/* Uploads one after the other until it is killed, as an ordinary program. */
static pid_t upload_forever(char name) {
    pid_t pid = fork();
    ck_assert_int_ge(pid, 0);
    if (pid) return pid;
    const struct sched_param none = {0};
    sched_setscheduler(0, SCHED_OTHER, &none);
    for (int k = 0;; k++) {
        char text[16];
        snprintf(text, sizeof text, "%c%d", name, k);
        rail_upload_data(&d, text, 12000);
    }
}

/* Both HTTP threads parse megabytes, on which the replies of plans depend too. Only real-time priority keeps them on time. */
START_TEST(deadline__is_kept_while_datasets_are_uploaded) {
    pauses_start();
    bool real_time = pauses_real_time();
    pauses_stop();
    if (!real_time) {
        printf("not tested: no real-time priority here\n");
        return;
    }
    pid_t uploads[2] = {upload_forever('a'), upload_forever('b')};
    plans_in_time();
    for (int k = 0; k < 2; k++) {
        int status = 0;
        ck_assert_int_eq(waitpid(uploads[k], &status, WNOHANG), 0); /* at it all the while */
        kill(uploads[k], SIGKILL);
        waitpid(uploads[k], &status, 0);
    }
}
END_TEST

/* The priority is the daemon's alone: with a worker's it would be nothing. One that is started later has none either. */
START_TEST(workers__are_not_urgent) {
    pid_t pids[PIDS];
    for (int round = 0; round < 2; round++) {
        int n = 0;
        while ((n = rail_workers(&d, RAIL_PLAN, pids, PIDS)) < 2) nanosleep(&(struct timespec){0, 10000000}, NULL);
        n += rail_workers(&d, RAIL_BATCH, pids + n, PIDS - n);
        for (int k = 0; k < n; k++) ck_assert_int_eq(sched_getscheduler(pids[k]), SCHED_OTHER);
        kill(pids[0], SIGKILL);
        while (rail_alive(pids[0])) nanosleep(&(struct timespec){0, 1000000}, NULL);
    }
}
END_TEST

/* The daemon stands still while it has pings to send, and knows from that how late it can be. A plan is then answered a
 * quarter of its time earlier, not more. */
START_TEST(deadline__is_met_earlier_after_a_lag) {
    static const char body[] =
        "{\"task\":\"reach\",\"y\":[[0,0.1]],\"goal\":[0.5],\"deadline_ms\":400,\"overrides\":{\"planner\":{\"engine\":\"tree\"}}}";
    kill(d.pid, SIGSTOP);
    nanosleep(&(struct timespec){1, 600000000}, NULL);
    kill(d.pid, SIGCONT);
    pauses_start();
    http_reply reply = http_get(&d, "/readyz");
    http_done(&reply);
    int64_t sent_ns = esp_clock_now_ns();
    reply = http_json(&d, "POST", "/v1/plans", body);
    expect_status(reply, 200);
    double total_ms = reply_number(&reply, "/timing/total_ms");
    double granted_ms = pauses_ms(sent_ns, sent_ns + (int64_t)(reply.seconds * 1e9));
    pauses_stop();
    ck_assert_msg(total_ms >= 300 && total_ms <= 300 + GRACE_MS + granted_ms, "%.1f ms, not 300", total_ms);
    http_done(&reply);
    reply = http_get(&d, "/metrics");
    ck_assert_ptr_nonnull(strstr(reply.body, "espalier_lag_seconds_count "));
    ck_assert_ptr_nonnull(strstr(reply.body, "espalier_reply_margin_seconds_count "));
    http_done(&reply);
}
END_TEST

int main(void) {
    const struct sched_param lowest = {.sched_priority = 1};
    daemon_start(&d, NULL);
    if (sched_setscheduler(0, SCHED_RR, &lowest)) setpriority(PRIO_PROCESS, 0, -10);
    Suite *suite = suite_create("deadline");
    TCase *tc = tcase_create("deadline");
    tcase_set_timeout(tc, 120);
    tcase_add_unchecked_fixture(tc, setup, NULL);
    tcase_add_test(tc, deadline__is_kept_on_a_quiet_daemon);
    tcase_add_test(tc, deadline__is_kept_while_a_job_trains);
    tcase_add_test(tc, deadline__is_kept_while_workers_are_stopped);
    tcase_add_test(tc, deadline__is_kept_in_the_queue);
    tcase_add_test(tc, deadline__is_kept_while_datasets_are_uploaded);
    tcase_add_test(tc, workers__are_not_urgent);
    tcase_add_test(tc, deadline__is_met_earlier_after_a_lag); /* last: the daemon remembers for a minute */
    suite_add_tcase(suite, tc);
    return daemon_finish(&d, run_suite(suite));
}
