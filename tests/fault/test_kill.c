/* SPDX-License-Identifier: Apache-2.0
 * The daemon is killed (SIGKILL) at random moments of a mixed load (support/ledger.h), and in the middle of an upload. After the
 * restart everything acknowledged is there, whole; what was not acknowledged is there whole or not at all.
 * `make kill-soak` does the first many times. */
#include <dirent.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/rng.h"
#include "support/http.h"
#include "support/ledger.h"
#include "support/wire.h"

static test_daemon d;
enum { LEDGERS = 4, KILLS = 12, OPTIONS = 5 };
static const char *const options[OPTIONS] = {"--batch-workers", "2", "--log-level", "1", NULL};

static int files_in_tmp(void) {
    char path[128];
    int n = 0;
    snprintf(path, sizeof path, "%s/data/tmp", d.dir);
    DIR *dir = opendir(path);
    for (struct dirent *e = dir ? readdir(dir) : NULL; e; e = readdir(dir)) n += e->d_name[0] != '.';
    if (dir) closedir(dir);
    return n;
}

/* ---- at random moments ---- */

static ledger *ledgers[LEDGERS];

static void *load_main(void *user) {
    ledger_load(user, d.port);
    return NULL;
}

static void expect_good(void) {
    for (int i = 0; i < LEDGERS; i++) ck_assert_msg(!*ledger_complaint(ledgers[i]), "%s", ledger_complaint(ledgers[i]));
}

/* Every row against its blob, as the kill left them. */
static void expect_clean(bool quick) {
    char dir[100], said[4096];
    const char *const check[] = {"--check", "--data", dir, quick ? "--quick" : NULL, NULL};
    snprintf(dir, sizeof dir, "%s/data", d.dir);
    int status = daemon_try(check, said, sizeof said);
    ck_assert_msg(status == 0 && strstr(said, "good: "), "--check: %d, %s", status, said);
}

/* Mixed load, and in the middle of it the end. */
static void load_and_kill(esp_rng *rng) {
    pthread_t threads[LEDGERS];
    for (int i = 0; i < LEDGERS; i++) ck_assert_int_eq(pthread_create(&threads[i], NULL, load_main, ledgers[i]), 0);
    usleep(5000 + (useconds_t)esp_rng_below(rng, 300000));
    daemon_kill(&d);
    for (int i = 0; i < LEDGERS; i++) pthread_join(threads[i], NULL);
}

/* Seconds to the ready line. Now and then a start is killed as well. */
static double restart(esp_rng *rng) {
    if (esp_rng_below(rng, 6) == 0) daemon_start_and_kill(&d, options, (unsigned)esp_rng_below(rng, 60000));
    int64_t began = esp_clock_now_ns();
    daemon_start(&d, options);
    return esp_clock_seconds_since(began);
}

static void report(int kills, double worst_s, double sum_s) {
    if (!getenv("ESP_KILLS")) return;
    printf("%d kills; ready again after %.3f s at the most, %.3f s on average\nacknowledged:", kills, worst_s, sum_s / kills);
    for (int op = 0; op < LEDGER_N; op++) {
        long n = 0;
        for (int i = 0; i < LEDGERS; i++) n += ledger_acknowledged(ledgers[i], (ledger_op)op);
        printf("%s %ld %s", op ? "," : "", n, ledger_names[op]);
    }
    printf("\nnothing lost, nothing twice, --check clean after each\n");
}

START_TEST(kill__at_any_moment_loses_nothing_acknowledged) {
    const char *seed = getenv("ESP_SEED"), *wanted = getenv("ESP_KILLS");
    uint64_t first = seed ? strtoull(seed, NULL, 10) : 1;
    int kills = wanted ? atoi(wanted) : KILLS;
    double worst_s = 0, sum_s = 0;
    esp_rng rng;
    esp_rng_init(&rng, first, 1000);
    for (int i = 0; i < LEDGERS; i++) ledgers[i] = ledger_create(i, first);
    daemon_start(&d, options);
    for (int round = 0; round < kills; round++) {
        load_and_kill(&rng);
        expect_good();
        expect_clean(true);
        double seconds = restart(&rng);
        if (seconds > worst_s) worst_s = seconds;
        sum_s += seconds;
        for (int i = 0; i < LEDGERS; i++) {
            ledger_settle(ledgers[i], d.port);
            ledger_verify(ledgers[i], d.port, 3);
        }
        expect_good();
    }
    for (int i = 0; i < LEDGERS; i++) {
        ledger_wait_jobs(ledgers[i], d.port);
        ledger_verify(ledgers[i], d.port, -1);
        ledger_count(ledgers[i], d.port);
    }
    expect_good();
    ck_assert_int_eq(files_in_tmp(), 0);
    expect_clean(false);
    ck_assert_int_eq(daemon_stop(&d), 0);
    report(kills, worst_s, sum_s);
    for (int i = 0; i < LEDGERS; i++) ledger_free(ledgers[i]);
}
END_TEST

/* ---- an upload ---- */

START_TEST(kill__half_an_upload_leaves_nothing) {
    static const char head[] =
        "POST /v1/datasets?name=half HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-ndjson\r\nContent-Length: 100000000\r\n\r\n";
    static const char line[] = "{\"y\":[[0],[1]],\"u\":[[1]]}\n";
    daemon_start(&d, NULL);
    int fd = wire_dial(d.port);
    ck_assert_int_ge(fd, 0);
    ck_assert_int_eq(send(fd, head, sizeof head - 1, MSG_NOSIGNAL), sizeof head - 1);
    for (int i = 0; i < 50000; i++) ck_assert_int_eq(send(fd, line, sizeof line - 1, MSG_NOSIGNAL), sizeof line - 1);
    for (int tries = 0; files_in_tmp() == 0 && tries < 200; tries++) usleep(10000);
    ck_assert_int_eq(files_in_tmp(), 1);
    daemon_kill(&d);
    close(fd);
    daemon_start(&d, NULL);
    http_reply reply = http_get(&d, "/v1/datasets?name=half");
    ck_assert_uint_eq(reply_count(&reply, "/items"), 0);
    http_done(&reply);
    ck_assert_int_eq(files_in_tmp(), 0);
    ck_assert_int_eq(daemon_stop(&d), 0);
}
END_TEST

/* The client goes in the middle: the daemon forgets the upload without being restarted. */
START_TEST(kill__client_who_leaves_an_upload_leaves_nothing) {
    static const char head[] =
        "POST /v1/datasets?name=left HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-ndjson\r\nContent-Length: 1000\r\n\r\n{\"y\":[[0],[1]],";
    daemon_start(&d, NULL);
    int fd = wire_dial(d.port);
    ck_assert_int_ge(fd, 0);
    ck_assert_int_eq(send(fd, head, sizeof head - 1, MSG_NOSIGNAL), sizeof head - 1);
    for (int tries = 0; files_in_tmp() == 0 && tries < 200; tries++) usleep(10000);
    ck_assert_int_eq(files_in_tmp(), 1);
    close(fd);
    for (int tries = 0; files_in_tmp() == 1 && tries < 300; tries++) usleep(10000);
    ck_assert_int_eq(files_in_tmp(), 0);
    ck_assert_int_eq(daemon_stop(&d), 0);
}
END_TEST

static void cleanup(void) {
    daemon_finish(&d, 0);
}

int main(void) {
    wire_checks = true;
    Suite *suite = suite_create("kill");
    TCase *c = tcase_create("kill");
    tcase_set_timeout(c, getenv("ESP_KILLS") ? 7200 : 240);
    tcase_add_checked_fixture(c, NULL, cleanup);
    tcase_add_test(c, kill__at_any_moment_loses_nothing_acknowledged);
    tcase_add_test(c, kill__half_an_upload_leaves_nothing);
    tcase_add_test(c, kill__client_who_leaves_an_upload_leaves_nothing);
    suite_add_tcase(suite, c);
    return run_suite(suite);
}
