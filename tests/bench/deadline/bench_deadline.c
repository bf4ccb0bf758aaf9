/* SPDX-License-Identifier: Apache-2.0
 * How late plans are: a real daemon with a training job in its batch worker, and two robots that plan all the time, one
 * with an exact engine and 200 ms, one by sampling and 50 ms.
 *
 *     bench_deadline [--plans N] [--job yes|no] [--robots urgent|plain] [--verbose yes|no]
 *
 * N plans of each exact engine; meanwhile the other robot makes about four times as many. The problem has thousands of
 * binaries, so that every exact plan is cut off by its deadline, and CBC is then deep inside an LP. Lateness is what the
 * client measures, over deadline_ms; the daemon's share of it is what the reply says (timing.total_ms). `net`: less the
 * time in which the machine stood still. The robots share the processors with three busy workers; with the real-time
 * priority of a control loop (where it is granted) they do not wait for one, `plain` they do. It asserts nothing: it is
 * no test. */
#include <math.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "c/espalier.h"
#include "robots/stats.h"
#include "support/pauses.h"
#include "support/rail.h"

enum { MOST = 20000, ALLOWED_MS = 10 };

typedef struct robot {
    const char *engine;
    int deadline_ms, most; /* stops by itself after so many */
    pthread_t thread;
    size_t n, excused; /* plans; those too late because the machine stood still */
    double late_ms[MOST], daemon_ms[MOST]; /* past the deadline: at the client, in the daemon */
    double late_net_ms, daemon_net_ms; /* the worst of each, less what the machine stood still */
} robot;

static test_daemon d;
static int plans = 300;
static bool job = true, urgent = true, verbose = false;
static atomic_bool over;

static void complain(const char *what) {
    fprintf(stderr, "bench_deadline: %s\n", what);
    exit(1);
}

/* How long this thread has been ready to run without a processor, all in all. */
static int64_t waited_ns(void) {
    FILE *file = fopen("/proc/thread-self/schedstat", "re");
    long long waited = 0;
    if (!file) return 0;
    if (fscanf(file, "%*d %lld", &waited) != 1) waited = 0;
    fclose(file);
    return waited;
}

static void plan(robot *r, esp_client *client) {
    json_t *reply = NULL;
    esp_client_error error = {0};
    bool samples = strcmp(r->engine, "mppi") == 0 || strcmp(r->engine, "cem") == 0;
    json_t *body = json_pack("{s:s, s:[[f,f]], s:[f], s:i, s:{s:{s:s}}}", "task", samples ? "dense" : "hard", "y", 0.001 * (double)(r->n % 1000), 0.1,
                             "goal", 0.5, "deadline_ms", r->deadline_ms, "overrides", "planner", samples ? "method" : "engine", r->engine);
    int64_t waited = waited_ns(), sent = esp_clock_now_ns();
    if (esp_client_call(client, "POST", "/v1/plans", body, 60000, &reply, &error)) complain(error.message);
    int64_t got = esp_clock_now_ns();
    waited = waited_ns() - waited;
    double total_ms = json_number_value(json_object_get(json_object_get(reply, "timing"), "total_ms"));
    double late_ms = (double)(got - sent) * 1e-6 - r->deadline_ms;
    r->late_ms[r->n] = late_ms;
    r->daemon_ms[r->n++] = total_ms - r->deadline_ms;
    double machine = late_ms > 0 ? pauses_excuse_ms(sent, got, total_ms, r->deadline_ms) : 0, daemon_ms = total_ms - r->deadline_ms;
    r->late_net_ms = fmax(r->late_net_ms, late_ms - machine);
    r->daemon_net_ms = fmax(r->daemon_net_ms, daemon_ms > 0 ? daemon_ms - machine : daemon_ms);
    r->excused += late_ms > ALLOWED_MS && late_ms - machine <= ALLOWED_MS;
    if (verbose && late_ms > ALLOWED_MS)
        fprintf(stderr,
                "%-4s %6.1f ms late: %6.1f in the daemon, %5.1f on the way; the client waited %5.1f ms to run, the machine stood still for %5.1f\n",
                r->engine, late_ms, total_ms - r->deadline_ms, late_ms + r->deadline_ms - total_ms, (double)waited * 1e-6, machine);
    json_decref(body);
    json_decref(reply);
}

static void *robot_main(void *user) {
    robot *r = user;
    esp_client *client = NULL;
    esp_client_error error = {0};
    const struct sched_param lowest = {.sched_priority = 1};
    if (urgent && sched_setscheduler(0, SCHED_RR, &lowest)) fprintf(stderr, "bench_deadline: no real-time priority for the robots\n");
    if (esp_client_open(d.base, NULL, &client, &error)) complain(error.message);
    while (r->n < (size_t)r->most && !atomic_load(&over)) plan(r, client);
    esp_client_close(client);
    return NULL;
}

static void put_row(const robot *r, double stolen_s) {
    size_t late = 0;
    for (size_t k = 0; k < r->n; k++) late += r->late_ms[k] > ALLOWED_MS;
    printf("| %s | %d ms | %zu | %.1f | %.1f | %.1f | %.1f | %.1f | %.1f | %.1f | %zu | %zu | %.1f s |\n", r->engine, r->deadline_ms, r->n,
           esp_stats_quantile(r->late_ms, r->n, 0.5), esp_stats_quantile(r->late_ms, r->n, 0.99), esp_stats_quantile(r->late_ms, r->n, 1),
           r->late_net_ms, esp_stats_quantile(r->daemon_ms, r->n, 0.99), esp_stats_quantile(r->daemon_ms, r->n, 1), r->daemon_net_ms, late,
           r->excused, stolen_s);
}

static void run_pair(const char *exact, const char *sampling) {
    robot *robots = calloc(2, sizeof *robots);
    if (!robots) complain("no memory");
    robots[0].engine = exact;
    robots[0].deadline_ms = 200;
    robots[0].most = plans;
    robots[1].engine = sampling;
    robots[1].deadline_ms = 50;
    robots[1].most = MOST;
    for (int k = 0; k < 2; k++) robots[k].late_net_ms = robots[k].daemon_net_ms = -(double)INFINITY;
    atomic_store(&over, false);
    double stolen_s = pauses_stolen_s();
    for (int k = 0; k < 2; k++)
        if (pthread_create(&robots[k].thread, NULL, robot_main, &robots[k])) complain("cannot start a thread");
    pthread_join(robots[0].thread, NULL);
    atomic_store(&over, true);
    pthread_join(robots[1].thread, NULL);
    stolen_s = pauses_stolen_s() - stolen_s;
    for (int k = 0; k < 2; k++) put_row(&robots[k], stolen_s);
    (void)fflush(stdout);
    free(robots);
}

static void prepare(void) {
    char id[64];
    rail_upload_data(&d, "rail", 60);
    rail_upload_random(&d, "m48", 48, 1);
    rail_upload_random(&d, "m64", 64, 2); /* 128 ReLUs */
    rail_store_task(&d, "hard", "m48", 24);
    rail_store_task(&d, "dense", "m64", 24);
    if (!job) return;
    rail_submit(&d, rail_long_job, id);
    http_reply reply = rail_wait_state(&d, id, "running");
    http_done(&reply);
}

START_TEST(bench) {
    prepare();
    pauses_start();
    printf("Milliseconds past the deadline%s%s:\n\n", job ? ", a training job beside them" : "",
           pauses_real_time() ? "" : "; without real-time priority, so a pause may be another program's");
    printf("| engine | deadline | plans | p50 | p99 | max | max net | daemon p99 | max | max net | over 10 ms | machine's | stolen |\n");
    printf("|:--|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|\n");
    run_pair("cbc", "mppi");
    run_pair("tree", "cem");
    pauses_stop();
}
END_TEST

/* What tests share reports by check, so this is a test to it. */
int main(int argc, char **argv) {
    for (int i = 1; i < argc; i += 2) {
        if (i + 1 == argc) complain("usage: bench_deadline [--plans N] [--job yes|no] [--robots urgent|plain] [--verbose yes|no]");
        if (strcmp(argv[i], "--plans") == 0) plans = atoi(argv[i + 1]);
        if (strcmp(argv[i], "--job") == 0) job = strcmp(argv[i + 1], "no") != 0;
        if (strcmp(argv[i], "--robots") == 0) urgent = strcmp(argv[i + 1], "plain") != 0;
        if (strcmp(argv[i], "--verbose") == 0) verbose = strcmp(argv[i + 1], "yes") == 0;
    }
    if (plans < 1 || plans > MOST / 8) complain("--plans must be 1 to 2500");
    daemon_start(&d, NULL);
    Suite *suite = suite_create("bench");
    TCase *tc = tcase_create("bench");
    tcase_add_test(tc, bench);
    suite_add_tcase(suite, tc);
    SRunner *runner = srunner_create(suite);
    srunner_set_fork_status(runner, CK_NOFORK);
    srunner_run_all(runner, CK_SILENT);
    int failed = srunner_ntests_failed(runner);
    if (failed) srunner_print(runner, CK_NORMAL);
    srunner_free(runner);
    return daemon_finish(&d, failed);
}
