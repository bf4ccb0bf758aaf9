/* SPDX-License-Identifier: Apache-2.0
 * What happens when a worker, or the daemon, dies or hangs: never a hang of the caller, never the daemon, never a job
 * twice. Workers are found as children of the daemon and hit with real signals. */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>
#include <time.h>

#include "support/rail.h"

enum { PIDS = 16 };
static test_daemon d;

static void sleep_ms(long ms) {
    nanosleep(&(struct timespec){ms / 1000, ms % 1000 * 1000000}, NULL);
}

static void setup(void) {
    rail_upload_data(&d, "rail", 60);
    rail_upload_line(&d, "line");
    rail_upload_random(&d, "hard", 32, 1);
    rail_store_task(&d, "reach", "hard", 16);
}

static pid_t hit[PIDS];
static int n_hit;

static void hit_all(rail_class class, int sig) {
    n_hit = 0;
    for (int turn = 0; turn < 250 && !n_hit; turn++) { /* one that is just being started is none yet */
        n_hit = rail_workers(&d, class, hit, PIDS);
        if (!n_hit) sleep_ms(20);
    }
    ck_assert_int_gt(n_hit, 0);
    for (int i = 0; i < n_hit; i++) kill(hit[i], sig);
}

static http_reply plan(int deadline_ms, const char *more) {
    char body[512];
    snprintf(body, sizeof body, "{\"task\":\"reach\",\"y\":[[0.3,0.1]],\"goal\":[0.5],\"deadline_ms\":%d%s}", deadline_ms, more);
    return http_json(&d, "POST", "/v1/plans", body);
}

/* Workers may be busy being killed and started for a moment, and one that died often is started again after up to 10 s;
 * then they must be there again. */
static void expect_recovered(void) {
    for (int turn = 0; turn < 300; turn++) {
        http_reply reply = http_json(&d, "POST", "/v1/models/line/predict", "{\"x\":[[1,1]]}");
        int status = reply.status;
        if (status == 200) ck_assert_double_eq_tol(reply_number(&reply, "/y/0/0"), 1.5, 1e-12);
        http_done(&reply);
        pid_t pids[PIDS];
        if (status == 200 && rail_workers(&d, RAIL_PLAN, pids, PIDS) == 2) return;
        sleep_ms(50);
    }
    ck_abort_msg("the workers did not come back");
}

/* The worker that had the plan is killed and replaced at once. The other hangs too, but idle: the daemon finds that out
 * when it does not answer a ping, which takes seconds; here it is not waited for. */
static void expect_replaced(const pid_t *before, int n) {
    int gone = 0;
    for (int turn = 0; turn < 100 && !gone; turn++) {
        for (int i = 0; i < n; i++) gone += !rail_alive(before[i]);
        sleep_ms(20);
    }
    ck_assert_int_ge(gone, 1);
    for (int i = 0; i < n; i++)
        if (rail_alive(before[i])) kill(before[i], SIGKILL);
    expect_recovered();
}

/* A killer at random moments, from a child process so that plans and kills overlap. */
START_TEST(plan__is_answered_whoever_kills_its_worker) {
    unsigned state = 7;
    pid_t killer = fork();
    ck_assert_int_ge(killer, 0);
    if (killer == 0) {
        for (int i = 0; i < 40; i++) {
            pid_t pids[PIDS];
            int n = rail_workers(&d, RAIL_PLAN, pids, PIDS);
            state = state * 1664525u + 1013904223u;
            if (n) kill(pids[(state >> 16) % (unsigned)n], SIGKILL);
            sleep_ms(20 + (long)(state >> 20) % 80);
        }
        _exit(0);
    }
    for (int i = 0; i < 16; i++) {
        http_reply reply = plan(150, "");
        expect_status(reply, 200);
        const char *status = reply_text(&reply, "/status");
        ck_assert_msg(strcmp(status, "optimal") == 0 || strcmp(status, "feasible") == 0 || strcmp(status, "fallback") == 0, "%s", reply.body);
        ck_assert_uint_eq(reply_count(&reply, "/inputs"), 16);
        http_done(&reply);
    }
    int exited = 0;
    ck_assert_int_eq(waitpid(killer, &exited, 0), killer);
    expect_recovered();
}
END_TEST

/* A worker that hangs from the start never says anything: the safe input, marked as what it is, by the deadline. */
START_TEST(plan__falls_back_when_the_workers_hang) {
    expect_recovered();
    hit_all(RAIL_PLAN, SIGSTOP);
    http_reply reply = plan(200, "");
    expect_status(reply, 200);
    ck_assert_str_eq(reply_text(&reply, "/status"), "fallback");
    ck_assert_str_eq(reply_text(&reply, "/method"), "safe");
    ck_assert_uint_eq(reply_count(&reply, "/inputs"), 16);
    ck_assert_double_eq(reply_number(&reply, "/inputs/3/0"), 0);
    ck_assert(!reply_has(&reply, "/objective"));
    ck_assert_msg(strstr(reply.body, "\"verified\":false"), "%s", reply.body);
    http_done(&reply);
    expect_replaced(hit, n_hit);
}
END_TEST

/* With a session the previous plan goes on, one step later. */
START_TEST(plan__falls_back_on_the_sessions_plan) {
    expect_recovered();
    double before[16];
    char pointer[64];
    http_reply reply = plan(300, ",\"session\":\"robot-7\"");
    expect_status(reply, 200);
    for (int t = 0; t < 16; t++) {
        snprintf(pointer, sizeof pointer, "/inputs/%d/0", t);
        before[t] = reply_number(&reply, pointer);
    }
    http_done(&reply);
    hit_all(RAIL_PLAN, SIGSTOP);
    reply = plan(200, ",\"session\":\"robot-7\"");
    ck_assert_str_eq(reply_text(&reply, "/status"), "fallback");
    ck_assert_str_eq(reply_text(&reply, "/method"), "previous");
    for (int t = 0; t < 16; t++) {
        snprintf(pointer, sizeof pointer, "/inputs/%d/0", t);
        ck_assert_double_eq(reply_number(&reply, pointer), before[t < 15 ? t + 1 : 15]);
    }
    http_done(&reply);
    expect_replaced(hit, n_hit);
}
END_TEST

/* The worker is stopped in the middle of a search: what it had found by then is the answer. */
START_TEST(plan__keeps_what_was_found_before_a_hang) {
    expect_recovered();
    n_hit = rail_workers(&d, RAIL_PLAN, hit, PIDS);
    pid_t stopper = fork();
    ck_assert_int_ge(stopper, 0);
    if (stopper == 0) {
        sleep_ms(400);
        for (int i = 0; i < n_hit; i++) kill(hit[i], SIGSTOP);
        _exit(0);
    }
    http_reply reply = plan(900, "");
    expect_status(reply, 200);
    ck_assert_str_eq(reply_text(&reply, "/status"), "feasible");
    ck_assert_msg(strstr(reply.body, "\"verified\":true"), "%s", reply.body);
    ck_assert(reply_has(&reply, "/objective"));
    http_done(&reply);
    int exited = 0;
    ck_assert_int_eq(waitpid(stopper, &exited, 0), stopper);
    expect_replaced(hit, n_hit);
}
END_TEST

/* ---- jobs ---- */

static void expect_state(const char *id, const char *wanted) {
    http_reply job = rail_wait_state(&d, id, wanted);
    ck_assert_msg(strcmp(reply_text(&job, "/state"), wanted) == 0, "not %s: %.600s", wanted, job.body);
    http_done(&job);
}

/* What the worker of a job writes to its standard error. */
static void say_as_worker(const char *text, int times) {
    char path[64];
    pid_t pid = 0;
    ck_assert_int_eq(rail_workers(&d, RAIL_BATCH, &pid, 1), 1);
    snprintf(path, sizeof path, "/proc/%d/fd/2", (int)pid);
    FILE *file = fopen(path, "w");
    ck_assert_ptr_nonnull(file);
    for (int i = 0; i < times; i++) fputs(text, file);
    fclose(file);
}

static http_reply wait_for_log(const char *id, const char *text) {
    char path[128];
    snprintf(path, sizeof path, "/v1/jobs/%s/log", id);
    for (int turn = 0;; turn++) {
        http_reply log = http_get(&d, path);
        expect_status(log, 200);
        if (strstr(log.body, text)) return log;
        ck_assert_msg(turn < 200, "\"%s\" is not in the log: %.300s", text, log.body);
        http_done(&log);
        sleep_ms(50);
    }
}

/* What its workers said is kept, the latest of it, and dies in the error with the last of them. */
START_TEST(job__keeps_what_its_worker_said) {
    char id[64], path[128];
    rail_submit(&d, rail_long_job, id);
    expect_state(id, "running");
    sleep_ms(100);
    say_as_worker("first of all\n", 1);
    http_reply log = wait_for_log(id, "first of all\n");
    http_done(&log);
    say_as_worker("and on and on and on, as a solver that was told to be verbose\n", 20000);
    say_as_worker("the end of it\n", 1);
    log = wait_for_log(id, "the end of it\n");
    ck_assert_uint_le(log.len, 64 * 4096);
    http_done(&log);
    snprintf(path, sizeof path, "/v1/jobs/%s/artifacts", id);
    http_reply made = http_get(&d, path);
    expect_status(made, 200);
    ck_assert_ptr_nonnull(strstr(made.body, "\"kind\":\"log\""));
    http_done(&made);
    for (int crash = 0; crash < 2; crash++) {
        for (int turn = 0; turn < 200; turn++) {
            http_reply job = rail_wait_state(&d, id, "running");
            bool there = reply_number(&job, "/attempt") == crash + 1;
            http_done(&job);
            if (there) break;
            sleep_ms(20);
        }
        sleep_ms(300);
        say_as_worker("it hurts here", 1);
        hit_all(RAIL_BATCH, SIGKILL);
    }
    http_reply job = rail_wait_end(&d, id, 20);
    ck_assert_str_eq(reply_text(&job, "/state"), "failed");
    ck_assert_msg(strstr(reply_text(&job, "/error/detail"), "it hurts here") != NULL, "%s", job.body);
    http_done(&job);
    http_reply none = http_get(&d, "/v1/jobs/job_none/log");
    expect_problem(&none, 404, "NOT_FOUND", NULL);
    http_done(&none);
}
END_TEST

START_TEST(job__runs_again_when_its_worker_is_lost_and_fails_in_the_end) {
    char id[64];
    rail_submit(&d, rail_long_job, id);
    expect_state(id, "running");
    sleep_ms(100);
    hit_all(RAIL_BATCH, SIGKILL);
    expect_state(id, "queued"); /* not at once */
    http_reply job = http_get(&d, "/v1/jobs?state=queued");
    ck_assert_ptr_nonnull(strstr(reply_text(&job, "/items/0/retry_at"), "Z"));
    http_done(&job);
    for (int turn = 0; turn < 100; turn++) { /* until the second attempt runs */
        job = rail_wait_state(&d, id, "running");
        if (reply_number(&job, "/attempt") == 2) break;
        http_done(&job);
        sleep_ms(20);
    }
    ck_assert_double_eq(reply_number(&job, "/attempt"), 2);
    ck_assert_double_eq(reply_number(&job, "/crashes"), 1);
    http_done(&job);
    sleep_ms(300); /* the new worker has it */
    hit_all(RAIL_BATCH, SIGKILL);
    job = rail_wait_end(&d, id, 10);
    ck_assert_str_eq(reply_text(&job, "/state"), "failed");
    ck_assert_str_eq(reply_text(&job, "/error/code"), "WORKER_LOST");
    ck_assert_ptr_nonnull(strstr(reply_text(&job, "/error/detail"), "signal 9"));
    ck_assert_double_eq(reply_number(&job, "/crashes"), 2);
    http_done(&job);
}
END_TEST

START_TEST(cancel__reaches_a_worker_that_hangs) {
    char id[64], path[128];
    rail_submit(&d, rail_long_job, id);
    expect_state(id, "running");
    sleep_ms(200);
    hit_all(RAIL_BATCH, SIGSTOP);
    snprintf(path, sizeof path, "/v1/jobs/%s", id);
    http_reply reply = http_delete(&d, path);
    expect_status(reply, 202);
    ck_assert_str_eq(reply_text(&reply, "/state"), "cancelling");
    http_done(&reply);
    expect_state(id, "cancelled");
}
END_TEST

/* kill -9 of the daemon in the middle of a ladder: the job runs again, and what both runs made is there once. */
START_TEST(daemon__finishes_a_job_that_it_was_killed_in) {
    static const char job_json[] =
        "{\"kind\":\"train\",\"spec\":{\"dataset\":\"rail\",\"name\":\"survivor\",\"model\":{\"type\":\"mlp\",\"hidden\":[16,16]},"
        "\"frame\":\"residual\",\"epochs\":3,\"rung_epochs\":60,\"batch\":64,\"ladder\":[12,8,4],\"seed\":1}}";
    test_daemon own = {0};
    daemon_start(&own, NULL);
    rail_upload_data(&own, "rail", 200);
    char id[64];
    rail_submit(&own, job_json, id);
    for (int turn = 0; turn < 500; turn++) { /* until the dense model is there */
        http_reply model = http_get(&own, "/v1/models/survivor");
        int status = model.status;
        http_done(&model);
        if (status == 200) break;
        sleep_ms(10);
    }
    pid_t orphans[PIDS];
    int n = rail_workers(&own, RAIL_BATCH, orphans, PIDS);
    ck_assert_int_eq(n, 1);
    daemon_kill(&own);
    daemon_start(&own, NULL);
    ck_assert_msg(!rail_alive(orphans[0]), "the worker outlived its daemon");
    http_reply job = rail_wait_end(&own, id, 60);
    ck_assert_str_eq(reply_text(&job, "/state"), "succeeded");
    ck_assert_double_eq(reply_number(&job, "/attempt"), 2);
    ck_assert_double_eq(reply_number(&job, "/crashes"), 0);
    ck_assert_uint_eq(reply_count(&job, "/result/models"), 4);
    ck_assert_double_eq(reply_number(&job, "/result/models/0/version"), 1);
    http_done(&job);
    http_reply models = http_get(&own, "/v1/models?name=survivor");
    ck_assert_uint_eq(reply_count(&models, "/items"), 4);
    http_done(&models);
    ck_assert_int_eq(daemon_finish(&own, 0), 0);
}
END_TEST

/* SIGTERM with a job running: it goes back to the queue without a crash, and the next daemon runs it. */
START_TEST(daemon__gives_a_job_back_when_it_drains) {
    test_daemon own = {0};
    char id[64], path[128];
    daemon_start(&own, NULL);
    rail_upload_data(&own, "rail", 60);
    rail_submit(&own, rail_long_job, id);
    http_reply job = rail_wait_state(&own, id, "running");
    http_done(&job);
    ck_assert_int_eq(daemon_stop(&own), 0);
    daemon_start(&own, NULL);
    job = rail_wait_state(&own, id, "running");
    ck_assert_str_eq(reply_text(&job, "/state"), "running");
    ck_assert_double_eq(reply_number(&job, "/attempt"), 2);
    ck_assert_double_eq(reply_number(&job, "/crashes"), 0);
    http_done(&job);
    snprintf(path, sizeof path, "/v1/jobs/%s", id);
    job = http_delete(&own, path);
    http_done(&job);
    ck_assert_int_eq(daemon_finish(&own, 0), 0);
}
END_TEST

/* SIGTERM with a plan on its way: the plan is answered, what comes after it is refused, then the daemon is gone. */
START_TEST(daemon__finishes_a_plan_when_it_drains) {
    test_daemon own = {0};
    daemon_start(&own, NULL);
    rail_upload_random(&own, "hard", 32, 1);
    rail_store_task(&own, "reach", "hard", 16);
    pid_t client = fork();
    ck_assert_int_ge(client, 0);
    if (client == 0) {
        http_reply reply = http_json(&own, "POST", "/v1/plans", "{\"task\":\"reach\",\"y\":[[0.3,0.1]],\"goal\":[0.5],\"deadline_ms\":2000}");
        _exit(reply.status == 200 && strcmp(reply_text(&reply, "/status"), "fallback") != 0 ? 0 : 1);
    }
    sleep_ms(500);
    kill(own.pid, SIGTERM);
    sleep_ms(200);
    http_reply ready = http_get(&own, "/readyz");
    ck_assert_int_eq(ready.status, 503);
    http_done(&ready);
    http_reply late = http_json(&own, "POST", "/v1/plans", "{\"task\":\"reach\",\"y\":[[0.3,0.1]],\"goal\":[0.5],\"deadline_ms\":100}");
    expect_problem(&late, 503, "DRAINING", NULL);
    http_done(&late);
    int status = -1;
    ck_assert_int_eq(waitpid(client, &status, 0), client);
    ck_assert_int_eq(status, 0);
    ck_assert_int_eq(waitpid(own.pid, &status, 0), own.pid); /* another SIGTERM would cut it short */
    ck_assert_int_eq(status, 0);
    own.pid = 0;
    ck_assert_int_eq(daemon_finish(&own, 0), 0);
}
END_TEST

static int ask_long(const test_daemon *daemon, const char *path, int lines) {
    static const char line[] = "{\"task\":\"reach\",\"y\":[[0.3,0.1]],\"goal\":[0.5],\"deadline_ms\":60000}\n";
    char text[2048];
    int n = snprintf(text, sizeof text, "POST %s HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: %zu\r\n\r\n", path,
                     (size_t)lines * (sizeof line - 1));
    for (int i = 0; i < lines; i++) n += snprintf(text + n, sizeof text - (size_t)n, "%s", line);
    return http_raw_send(daemon, text, (size_t)n, false);
}

/* A client that goes takes its plans with it, those of a batch too: nobody works for a minute for no one. */
START_TEST(plan__ends_when_its_client_goes) {
    static const char *const options[] = {"--share-after-ms", "0", NULL};
    test_daemon own = {0};
    daemon_start(&own, options);
    rail_upload_random(&own, "hard", 32, 1);
    rail_store_task(&own, "reach", "hard", 16);
    int fd = ask_long(&own, "/v1/plans", 1);
    http_await_metric(&own, "workers{state=\"busy\"}", 1);
    close(fd);
    http_await_metric(&own, "workers{state=\"busy\"}", 0);
    fd = ask_long(&own, "/v1/plans/batch", 6);
    http_await_metric(&own, "workers{state=\"busy\"}", 2);
    close(fd);
    http_await_metric(&own, "workers{state=\"busy\"}", 0);
    ck_assert_int_eq(daemon_finish(&own, 0), 0);
}
END_TEST

START_TEST(daemon__leaves_at_once_at_the_second_signal) {
    test_daemon own = {0};
    int status = 0;
    daemon_start(&own, NULL);
    rail_upload_random(&own, "hard", 32, 1);
    rail_store_task(&own, "reach", "hard", 16);
    int fd = ask_long(&own, "/v1/plans", 1);
    http_await_metric(&own, "workers{state=\"busy\"}", 1);
    kill(own.pid, SIGTERM);
    sleep_ms(300);
    ck_assert_int_eq(waitpid(own.pid, &status, WNOHANG), 0); /* it waits for the plan */
    kill(own.pid, SIGTERM);
    ck_assert_int_eq(waitpid(own.pid, &status, 0), own.pid);
    ck_assert(WIFEXITED(status) && WEXITSTATUS(status) == 1);
    close(fd);
    own.pid = 0;
    ck_assert_int_eq(daemon_finish(&own, 0), 0);
}
END_TEST

START_TEST(daemon__refuses_to_start_without_a_worker) {
    char text[4096];
    int status = daemon_try((const char *const[]){"--worker", "/nowhere/espalier-worker", NULL}, text, sizeof text);
    ck_assert_int_eq(status, 1);
    ck_assert_msg(strstr(text, "/nowhere/espalier-worker"), "%s", text);
    status = daemon_try((const char *const[]){"--worker", "/bin/false", NULL}, text, sizeof text);
    ck_assert_int_eq(status, 1);
    ck_assert_msg(strstr(text, "exit status 1"), "%s", text);
    status = daemon_try((const char *const[]){"--wrokers", "1", NULL}, text, sizeof text);
    ck_assert_int_eq(status, 2);
    ck_assert_msg(strstr(text, "--wrokers"), "%s", text);
}
END_TEST

int main(void) {
    daemon_start(&d, NULL);
    Suite *suite = suite_create("worker");
    TCase *tc = tcase_create("worker");
    tcase_set_timeout(tc, 120);
    tcase_add_unchecked_fixture(tc, setup, NULL);
    tcase_add_test(tc, plan__is_answered_whoever_kills_its_worker);
    tcase_add_test(tc, plan__falls_back_when_the_workers_hang);
    tcase_add_test(tc, plan__falls_back_on_the_sessions_plan);
    tcase_add_test(tc, plan__keeps_what_was_found_before_a_hang);
    tcase_add_test(tc, job__keeps_what_its_worker_said);
    tcase_add_test(tc, job__runs_again_when_its_worker_is_lost_and_fails_in_the_end);
    tcase_add_test(tc, cancel__reaches_a_worker_that_hangs);
    tcase_add_test(tc, daemon__finishes_a_job_that_it_was_killed_in);
    tcase_add_test(tc, daemon__gives_a_job_back_when_it_drains);
    tcase_add_test(tc, daemon__finishes_a_plan_when_it_drains);
    tcase_add_test(tc, plan__ends_when_its_client_goes);
    tcase_add_test(tc, daemon__leaves_at_once_at_the_second_signal);
    tcase_add_test(tc, daemon__refuses_to_start_without_a_worker);
    suite_add_tcase(suite, tc);
    return daemon_finish(&d, run_suite(suite));
}
