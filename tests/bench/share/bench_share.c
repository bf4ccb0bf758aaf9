/* SPDX-License-Identifier: Apache-2.0
 * What a second worker is worth to one plan: the same instances through two daemons, one of which never shares a plan
 * and one that does, turn by turn.
 *
 *     bench_share [--size 15x5] [--seeds N] [--seconds S]
 *
 * Two times each: the reply's own (timing.solve_ms), and what the busier of the daemon's workers ran on a processor
 * meanwhile, which is that time on a machine without other work, but for waiting. It asserts nothing: it is no test. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench/instances.h"
#include "robots/stats.h"
#include "support/rail.h"

enum { MOST = 64, WORKERS = 2 };

typedef struct outcome {
    double seconds, cpu, gap, nodes, shares;
    bool proved;
} outcome;

static test_daemon daemons[2];
static const char *size_text = "15x5";
static int seeds_wanted = 6, seconds = 60;

static void upload(const test_daemon *d, int relus, int network, int horizon) {
    char path[128], json[700];
    esp_buf bytes = {0};
    snprintf(path, sizeof path, "tests/bench/models/push%d-%d.espm", relus, network);
    ck_assert_int_eq(esp_file_read(path, 1 << 26, &bytes, NULL), ESP_OK);
    snprintf(path, sizeof path, "/v1/models?name=net%d&kind=dynamics", network);
    http_reply reply = http_post(d, path, "application/vnd.espalier.model", bytes.data, bytes.len);
    expect_status(reply, 201);
    http_done(&reply);
    esp_buf_done(&bytes);
    snprintf(json, sizeof json,
             "{\"name\":\"task%d\",\"model\":\"net%d\",\"horizon\":%d,\"cost\":{\"stage\":[{\"on\":\"y\",\"index\":[0,1,2,3,4,5,6,7],\"weight\":1,"
             "\"norm\":\"l1\",\"target\":\"goal\"}]},\"input\":{\"lower\":[-0.3,-0.3],\"upper\":[0.3,0.3]},\"planner\":{\"engine\":\"tree\",\"gap\":"
             "0.01}}",
             network, network, horizon);
    reply = http_json(d, "POST", "/v1/tasks", json);
    expect_status(reply, 201);
    http_done(&reply);
}

static double metric(const test_daemon *d, const char *name) {
    http_reply reply = http_get(d, "/metrics");
    char line[128];
    snprintf(line, sizeof line, "\n%s ", name);
    const char *at = strstr(reply.body, line);
    double value = at ? strtod(at + strlen(line), NULL) : NAN;
    http_done(&reply);
    return value;
}

/* What process `pid` ran on a processor so far, in seconds. */
static double ran(pid_t pid) {
    char path[64];
    long long ns = 0;
    snprintf(path, sizeof path, "/proc/%d/schedstat", (int)pid);
    FILE *file = fopen(path, "re");
    if (!file) return 0;
    if (fscanf(file, "%lld", &ns) != 1) ns = 0;
    fclose(file);
    return 1e-9 * (double)ns;
}

static outcome plan(const test_daemon *d, const bench_instance *instance) {
    esp_buf json = {0};
    esp_jsonw w = esp_jsonw_on(&json);
    char task[16];
    snprintf(task, sizeof task, "task%d", instance->network);
    esp_jsonw_object(&w, NULL);
    esp_jsonw_string(&w, "task", task);
    esp_jsonw_matrix(&w, "y", instance->y, 1, 16);
    esp_jsonw_vector(&w, "goal", instance->goal, 8);
    esp_jsonw_integer(&w, "deadline_ms", 1000 * seconds);
    esp_jsonw_object_end(&w);
    double before = metric(d, "espalier_plan_shares_total");
    const http_request request = {.method = "POST", .path = "/v1/plans", .body = json.data, .len = json.len, .timeout_ms = 1000L * seconds + 30000};
    http_reply reply;
    pid_t pids[WORKERS] = {0};
    double began[WORKERS], most = 0;
    int n = rail_workers(d, RAIL_PLAN, pids, WORKERS);
    for (int k = 0; k < n; k++) began[k] = ran(pids[k]);
    http_send(d, &request, &reply);
    for (int k = 0; k < n; k++) most = fmax(most, ran(pids[k]) - began[k]);
    expect_status(reply, 200);
    outcome o = {.seconds = 1e-3 * reply_number(&reply, "/timing/solve_ms"),
                 .cpu = most,
                 .gap = reply_has(&reply, "/gap") ? reply_number(&reply, "/gap") : (double)NAN,
                 .nodes = reply_number(&reply, "/nodes"),
                 .proved = strcmp(reply_text(&reply, "/status"), "optimal") == 0};
    o.shares = metric(d, "espalier_plan_shares_total") - before;
    http_done(&reply);
    esp_buf_done(&json);
    return o;
}

static void put(const bench_instance *instance, const outcome pair[2]) {
    printf("| %s |", instance->name);
    for (int k = 0; k < 2; k++)
        printf(" %.2f%s | %.2f | %.2f | %.0f |", pair[k].cpu, pair[k].proved ? "" : "+", pair[k].seconds, 100 * pair[k].gap, pair[k].nodes);
    printf(" %.0f | %.2f | %.2f |\n", pair[1].shares, pair[0].cpu / pair[1].cpu, pair[0].seconds / pair[1].seconds);
    (void)fflush(stdout);
}

static void put_median(const char *what, double *ratios, size_t n) {
    printf("%s: median ratio %.2f (%.2f to %.2f)\n", what, esp_stats_quantile(ratios, n, 0.5), esp_stats_quantile(ratios, n, 0),
           esp_stats_quantile(ratios, n, 1));
}

START_TEST(bench) {
    bench_size size;
    double cpu[MOST], wall[MOST];
    size_t n = 0;
    ck_assert(bench_size_parse(size_text, &size) && size.family == BENCH_PUSH);
    for (int k = 0; k < 2; k++)
        for (int network = 1; network <= 2; network++) upload(&daemons[k], size.relus, network, size.horizon);
    printf(
        "| instance | one worker, CPU s | wall s | gap %% | nodes | two, busier CPU s | wall s | gap %% | nodes | shares | CPU ratio | wall ratio |\n"
        "|:--|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|\n");
    for (int seed = 1; seed <= seeds_wanted; seed++) {
        bench_instance instance = bench_instance_of(&size, 2 - seed % 2, seed);
        outcome pair[2];
        for (int k = 0; k < 2; k++) pair[(seed + k) % 2] = plan(&daemons[(seed + k) % 2], &instance);
        put(&instance, pair);
        if (!pair[0].proved || !pair[1].proved) continue;
        cpu[n] = pair[0].cpu / pair[1].cpu;
        wall[n++] = pair[0].seconds / pair[1].seconds;
    }
    printf("\n%zu of %d proved by both\n", n, seeds_wanted);
    if (n) put_median("CPU of the busier worker", cpu, n);
    if (n) put_median("wall", wall, n);
}
END_TEST

/* What tests share reports by check, so this is a test to it. */
int main(int argc, char **argv) {
    static const char *const alone[] = {"--share-after-ms", "0", NULL}, *const shared[] = {"--share-workers", "2", NULL};
    for (int i = 1; i + 1 < argc; i += 2) {
        if (strcmp(argv[i], "--size") == 0) size_text = argv[i + 1];
        if (strcmp(argv[i], "--seeds") == 0) seeds_wanted = atoi(argv[i + 1]);
        if (strcmp(argv[i], "--seconds") == 0) seconds = atoi(argv[i + 1]);
    }
    if (seeds_wanted < 1 || seeds_wanted > MOST || seconds < 1 || seconds > 600) {
        fprintf(stderr, "usage: bench_share [--size 15x5] [--seeds 1..%d] [--seconds 1..600]\n", MOST);
        return 2;
    }
    daemon_start(&daemons[0], alone);
    daemon_start(&daemons[1], shared);
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
    failed = daemon_finish(&daemons[0], failed);
    return daemon_finish(&daemons[1], failed);
}
