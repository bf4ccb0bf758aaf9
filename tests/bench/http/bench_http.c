/* SPDX-License-Identifier: Apache-2.0
 * What the daemon's HTTP costs: requests a second, of predictions and queries too, every list on a large registry, reads beside an upload and a training job,
 * what a plan takes beyond its worker, idle connections.
 *
 *     bench_http [--seconds 3] [--connections 32] [--models 100000] [--certificates 1000000] [--only PART] [--alone yes]
 *
 * The registry is made by direct SQL in a directory under /tmp: ladders of a hundred versions a name, ten certificates a model,
 * values spread over decades. The survey asks for three pages of each filter and sort, each a different one, so that none is
 * answered from memory. Processor time of the daemon is shown beside the clock's, as other programs on the machine do not change it.
 * Where a client measures how long it waits for few replies it asks for real-time priority, so that its own wait for a processor is
 * not taken for the daemon's. */
#include <sched.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "lists.h"
#include "load.h"
#include "parts.h"

static test_daemon d;
static struct {
    double seconds;
    int connections;
    long models, certificates;
    const char *only;
} opts = {3, 32, 100000, 1000000, ""};

static void load(const char *what, const char *path) {
    load_result r =
        load_run(&(load_options){.port = d.port, .pid = d.pid, .paths = {path}, .connections = opts.connections, .seconds = opts.seconds});
    printf("%-24s %9.0f/s  p50 %7.3f ms  p99 %7.3f ms  max %8.3f ms  %7.0f bytes  daemon %6.1f us, client %6.1f us of processor a reply%s\n", what,
           r.per_second, r.p50_ms, r.p99_ms, r.max_ms, r.bytes, r.daemon_cpu_us, r.client_cpu_us, r.others ? "  NOT ALL 200" : "");
    fflush(stdout);
}

/* A client that asks now and then, and measures how long it waits: at once, whatever else runs. */
static void urgent(bool on) {
    struct sched_param param = {.sched_priority = on};
    if (sched_setscheduler(0, (on ? SCHED_RR : SCHED_OTHER) | SCHED_RESET_ON_FORK, &param) != 0) printf("no real-time priority here\n");
}

static void throughput(void) {
    printf("%d connections, %.1f s each, client and daemon on the same %ld processors\n", opts.connections, opts.seconds,
           sysconf(_SC_NPROCESSORS_ONLN));
    load("GET /healthz", "/healthz");
    load("GET /v1/bounds, 100 rows", "/v1/bounds?limit=100");
    load("GET /v1/models/net-0001", "/v1/models/net-0001");
}

static void lists(void) {
    printf("every filter and sort\n");
    survey(&d, "/v1/models", &esp_list_models);
    survey(&d, "/v1/bounds", &esp_list_bounds);
}

static void beside(void) {
    urgent(true);
    reads_beside_upload(&d, 10 * opts.seconds);
    urgent(false);
}

static void plans(void) {
    urgent(true);
    plans_over_worker(&d, (int)(1000 * opts.seconds));
    urgent(false);
}

static void idle(void) {
    idle_connections(&d, 1000);
}

static void asks(void) {
    asks_a_second(opts.connections, opts.seconds);
}

static const struct {
    const char *name;
    void (*run)(void);
} parts[] = {{"throughput", throughput}, {"asks", asks}, {"plans", plans}, {"idle", idle}, {"beside", beside}, {"lists", lists}};

/* A session of its own with the greatest weight: the fair scheduler shares a machine out by sessions, so that others who compute on it
 * at the same time hardly take a processor from the daemon, its workers and this client, which share theirs as ever. */
static void be_alone(void) {
    (void)setsid();
    FILE *file = fopen("/proc/self/autogroup", "w");
    bool good = file && fputs("-20", file) >= 0;
    if (file && fclose(file) != 0) good = false;
    if (!good) printf("other programs share the processors: no session of its own here\n");
}

static void show_load(void) {
    double load[3] = {0};
    if (getloadavg(load, 3) == 3) printf("load average %.1f\n\n", load[0]);
}

int main(int argc, char **argv) {
    for (int i = 1; i + 1 < argc; i += 2) {
        if (strcmp(argv[i], "--seconds") == 0) opts.seconds = atof(argv[i + 1]);
        if (strcmp(argv[i], "--connections") == 0) opts.connections = atoi(argv[i + 1]);
        if (strcmp(argv[i], "--models") == 0) opts.models = atol(argv[i + 1]);
        if (strcmp(argv[i], "--certificates") == 0) opts.certificates = atol(argv[i + 1]);
        if (strcmp(argv[i], "--only") == 0) opts.only = argv[i + 1];
        if (strcmp(argv[i], "--alone") == 0) be_alone();
    }
    static const char *const options[] = {"--log-level", "1", NULL};
    fill_registry(&d, opts.models, opts.certificates);
    daemon_start(&d, options);
    fill_things(&d);
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) {
        if (!strstr(parts[i].name, opts.only)) continue;
        parts[i].run();
        show_load();
    }
    return daemon_finish(&d, 0);
}
