/* SPDX-License-Identifier: Apache-2.0
 * What must stay small while something else goes on (parts.h). */
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/clock.h"
#include "load.h"
#include "parts.h"
#include "support/wire.h"

enum { MIB = 1 << 20, UPLOAD_MIB = 200, READ_CONNECTIONS = 8, READ_RATE = 200 };

/* ---- reads beside an upload and a job ------------------------------------------------------------------------------- */

typedef struct uploader {
    pthread_t thread;
    int port;
    atomic_bool stop;
    int uploads;
    double seconds; /* of all of them */
} uploader;

/* One trajectory a line, each the same, but for the number of the upload: every one is a new version. */
static void make_upload(esp_buf *body, int number) {
    esp_buf_clear(body);
    esp_buf_printf(body, "{\"y\":[[%d,0],[0,1]],\"u\":[[1]]}\n", number);
    while (body->len < (size_t)UPLOAD_MIB * MIB)
        esp_buf_puts(body, "{\"y\":[[0.123456,-1.5],[0.25,0.375],[1.25e-3,77.25],[0.5,0.75]],\"u\":[[0.5],[-0.25],[1]]}\n");
}

static void *upload_main(void *user) {
    static char text[1 << 16];
    uploader *u = user;
    esp_buf body = {0};
    const char *reply = text;
    int fd = wire_dial(u->port);
    for (int i = 0; !atomic_load(&u->stop); i++) {
        make_upload(&body, i);
        int64_t began = esp_clock_now_ns();
        const wire_request request = {"POST", "/v1/datasets?name=large", "Content-Type: application/x-ndjson\r\n", body.data, body.len};
        int status = wire_call(fd, &request, text, sizeof text, &reply);
        if (status != 201) printf("the upload: %d %.200s\n", status, reply);
        if (status != 201) break;
        u->seconds += esp_clock_seconds_since(began);
        u->uploads++;
    }
    esp_buf_done(&body);
    close(fd);
    return NULL;
}

static void start_job(const test_daemon *daemon, char ret_path[100]) {
    static const char job[] =
        "{\"kind\":\"train\",\"spec\":{\"dataset\":\"rail\",\"name\":\"long\",\"model\":{\"type\":\"mlp\",\"hidden\":[128,128]},"
        "\"epochs\":100000,\"batch\":64}}";
    char text[8192], id[60] = "";
    const char *body = text;
    int fd = wire_dial(daemon->port);
    int status =
        wire_call(fd, &(wire_request){"POST", "/v1/jobs", "Content-Type: application/json\r\n", job, sizeof job - 1}, text, sizeof text, &body);
    if (status != 202 || sscanf(body, "{\"id\":\"%59[^\"]", id) != 1) printf("the job: %d %.300s\n", status, body);
    snprintf(ret_path, 100, "/v1/jobs/%s", id);
    close(fd);
}

static void end_job(const test_daemon *daemon, const char *path) {
    char text[8192];
    const char *body = text;
    int fd = wire_dial(daemon->port);
    int status = wire_call(fd, &(wire_request){.method = "DELETE", .path = path}, text, sizeof text, &body);
    if (status != 200 && status != 202) printf("the job had ended: %d %.300s\n", status, body);
    close(fd);
}

/* The table of bounds, a model, a job, health: evenly spread over time, as dashboards and scripts ask. */
void reads_beside_upload(const test_daemon *daemon, double seconds) {
    uploader u = {.port = daemon->port};
    char job[100];
    load_options o = {.port = daemon->port,
                      .pid = daemon->pid,
                      .paths = {"/v1/bounds?limit=100", "/v1/models/net-0001", NULL, "/healthz"},
                      .connections = READ_CONNECTIONS,
                      .seconds = seconds / 3,
                      .rate = READ_RATE};
    start_job(daemon, job);
    o.paths[2] = job;
    load_result before = load_run(&o);
    pthread_create(&u.thread, NULL, upload_main, &u);
    o.seconds = seconds;
    load_result r = load_run(&o);
    atomic_store(&u.stop, true);
    pthread_join(u.thread, NULL);
    end_job(daemon, job);
    printf("%d reads a second (bounds, a model, a job, health) beside a training job: p50 %.3f ms  p99 %.3f ms  max %.3f ms\n", READ_RATE,
           before.p50_ms, before.p99_ms, before.max_ms);
    printf("the same while datasets of %d MiB are uploaded (%d, %.1f s each): p50 %.3f ms  p99 %.3f ms  max %.3f ms%s\n", UPLOAD_MIB, u.uploads,
           u.seconds / (u.uploads ? u.uploads : 1), r.p50_ms, r.p99_ms, r.max_ms, r.others ? "  NOT ALL 200" : "");
    fflush(stdout);
}

/* ---- a plan beyond its worker --------------------------------------------------------------------------------------- */

static int by_value(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return x < y ? -1 : x > y;
}

static double at(double *values, int n, double share) {
    qsort(values, (size_t)n, sizeof *values, by_value);
    return values[(int)(share * (n - 1))];
}

static double timing(const char *body, const char *name) {
    const char *found = strstr(body, name);
    return found ? atof(found + strlen(name)) : 0;
}

/* One after another; what the client waits, less the time from the worker's having the plan to its answer. */
void plans_over_worker(const test_daemon *daemon, int n) {
    static const char plan[] = "{\"task\":\"reach\",\"y\":[[0.25]],\"goal\":[0.5],\"deadline_ms\":1000}";
    char text[1 << 14];
    const char *body = text;
    double *over = malloc((size_t)n * sizeof *over), *inside = malloc((size_t)n * sizeof *inside), *solve = malloc((size_t)n * sizeof *solve);
    int fd = wire_dial(daemon->port), good = 0;
    double cpu = load_cpu_ms(daemon->pid);
    for (int i = 0; i < n && over && inside && solve; i++) {
        int64_t began = esp_clock_now_ns();
        int status = wire_call(fd, &(wire_request){"POST", "/v1/plans", "Content-Type: application/json\r\n", plan, sizeof plan - 1}, text,
                               sizeof text, &body);
        double ms = esp_clock_seconds_since(began) * 1e3;
        good += status == 200;
        solve[i] = timing(body, "\"solve_ms\":");
        over[i] = ms - solve[i];
        inside[i] = timing(body, "\"total_ms\":") - solve[i];
    }
    cpu = load_cpu_ms(daemon->pid) - cpu;
    printf("%d plans, one after another%s: worker p50 %.3f ms, p99 %.3f ms; beyond it p50 %.3f ms, p99 %.3f ms, max %.3f ms (inside the daemon p99 "
           "%.3f ms); "
           "%.0f us of the daemon's processor each\n",
           n, good == n ? "" : ", NOT ALL 200", at(solve, n, 0.5), at(solve, n, 0.99), at(over, n, 0.5), at(over, n, 0.99), at(over, n, 1),
           at(inside, n, 0.99), cpu * 1e3 / n);
    fflush(stdout);
    free(over);
    free(inside);
    free(solve);
    close(fd);
}

/* ---- connections that do nothing ------------------------------------------------------------------------------------ */

/* Each has asked once, so that it has had its buffers. */
void idle_connections(const test_daemon *daemon, int n) {
    static char text[1 << 18];
    int *fds = malloc((size_t)n * sizeof *fds), open = 0;
    const char *body = text;
    struct rlimit files;
    getrlimit(RLIMIT_NOFILE, &files);
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);
    long before = load_rss_kib(daemon->pid);
    for (int i = 0; fds && i < n; i++) {
        fds[i] = wire_dial(daemon->port);
        open += fds[i] >= 0 && wire_call(fds[i], &(wire_request){.method = "GET", .path = "/v1/bounds?limit=100"}, text, sizeof text, &body) == 200;
    }
    long after = load_rss_kib(daemon->pid);
    load_result r = load_run(&(load_options){.port = daemon->port, .pid = daemon->pid, .paths = {"/healthz"}, .connections = 4, .seconds = 1});
    printf("%d of %d connections open and idle: %.1f MiB more in use (%.1f before); beside them /healthz on 4 others %.0f/s, p99 %.3f ms\n", open, n,
           (double)(after - before) / 1024, (double)before / 1024, r.per_second, r.p99_ms);
    fflush(stdout);
    for (int i = 0; i < n; i++) close(fds[i]);
    free(fds);
}
