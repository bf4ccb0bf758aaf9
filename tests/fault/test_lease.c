/* SPDX-License-Identifier: Apache-2.0
 * The lease of a job: a worker that gives no sign of life is lost, and one that does keeps its job, however long it takes. */
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "support/rail.h"

static test_daemon d;

static void sleep_ms(long ms) {
    nanosleep(&(struct timespec){ms / 1000, ms % 1000 * 1000000}, NULL);
}

static void setup(void) {
    rail_upload_data(&d, "rail", 60);
    rail_upload_random(&d, "hard", 64, 1);
}

/* Stops the worker of the job's attempt in its middle. */
static pid_t stop_attempt(const char *id, int attempt) {
    for (int turn = 0; turn < 500; turn++) {
        http_reply job = rail_wait_state(&d, id, "running");
        ck_assert_msg(strcmp(reply_text(&job, "/state"), "running") == 0, "%s", job.body);
        bool there = reply_number(&job, "/attempt") == attempt;
        http_done(&job);
        sleep_ms(there ? 300 : 20); /* the new worker has it */
        pid_t pid = 0;
        if (!there || rail_workers(&d, RAIL_BATCH, &pid, 1) != 1) continue;
        kill(pid, SIGSTOP);
        return pid;
    }
    ck_abort_msg("attempt %d did not run", attempt);
    return 0;
}

static const char ladder[] =
    "{\"kind\":\"train\",\"spec\":{\"dataset\":\"rail\",\"name\":\"twice\",\"model\":{\"type\":\"mlp\",\"hidden\":[128,128]},"
    "\"frame\":\"residual\",\"epochs\":1000,\"rung_epochs\":200,\"batch\":64,\"ladder\":[128,64],\"seed\":1}}";

START_TEST(lease__job_of_a_worker_that_hangs_runs_again) {
    char id[64];
    rail_submit(&d, ladder, id);
    pid_t pid = stop_attempt(id, 1);
    http_reply job = rail_wait_end(&d, id, 60);
    ck_assert_str_eq(reply_text(&job, "/state"), "succeeded");
    ck_assert_double_eq(reply_number(&job, "/attempt"), 2);
    ck_assert_uint_eq(reply_count(&job, "/result/models"), 3);
    ck_assert_double_eq(reply_number(&job, "/result/models/2/version"), 3);
    http_done(&job);
    ck_assert_msg(!rail_alive(pid), "the worker that was given up lives");
    http_reply models = http_get(&d, "/v1/models?name=twice");
    ck_assert_uint_eq(reply_count(&models, "/items"), 3);
    http_done(&models);
}
END_TEST

START_TEST(lease__job_that_hangs_every_time_fails) {
    char id[64];
    rail_submit(&d, rail_long_job, id);
    stop_attempt(id, 1);
    stop_attempt(id, 2);
    http_reply job = rail_wait_end(&d, id, 60);
    ck_assert_str_eq(reply_text(&job, "/state"), "failed");
    ck_assert_str_eq(reply_text(&job, "/error/code"), "WORKER_LOST");
    ck_assert_msg(strstr(reply_text(&job, "/error/detail"), "no sign of life"), "%s", job.body);
    http_done(&job);
}
END_TEST

/* Longer than the lease, by far: training, which tells of itself, and CBC, which does not. */
START_TEST(lease__slow_jobs_run_once) {
    static const char exact[] = "{\"kind\":\"certify\",\"spec\":{\"model\":\"hard\",\"domain\":{\"lower\":[-4,-4,-4],\"upper\":[4,4,4]},"
                                "\"methods\":[\"exact\"],\"time_limit_s\":10}}";
    char id[64], path[80];
    rail_submit(&d, rail_long_job, id);
    http_reply job = rail_wait_state(&d, id, "running");
    http_done(&job);
    sleep_ms(5000);
    snprintf(path, sizeof path, "/v1/jobs/%s", id);
    job = http_delete(&d, path);
    ck_assert_double_eq(reply_number(&job, "/attempt"), 1);
    ck_assert_str_eq(reply_text(&job, "/state"), "cancelling");
    http_done(&job);
    rail_submit(&d, exact, id);
    job = rail_wait_end(&d, id, 60);
    ck_assert_str_eq(reply_text(&job, "/state"), "succeeded");
    ck_assert_double_eq(reply_number(&job, "/attempt"), 1);
    ck_assert_str_eq(reply_text(&job, "/result/certificates/0/method"), "exact");
    ck_assert_double_gt(reply_number(&job, "/result/certificates/0/seconds"), 4); /* or the lease was not put to the test */
    http_done(&job);
}
END_TEST

int main(void) {
    static const char *const options[] = {"--job-lease-s", "2", "--job-backoff-ms", "100", "--checkpoint-ms", "10000", NULL};
    daemon_start(&d, options);
    Suite *suite = suite_create("lease");
    TCase *tc = tcase_create("lease");
    tcase_set_timeout(tc, 120);
    tcase_add_unchecked_fixture(tc, setup, NULL);
    tcase_add_test(tc, lease__job_of_a_worker_that_hangs_runs_again);
    tcase_add_test(tc, lease__job_that_hangs_every_time_fails);
    tcase_add_test(tc, lease__slow_jobs_run_once);
    suite_add_tcase(suite, tc);
    return daemon_finish(&d, run_suite(suite));
}
