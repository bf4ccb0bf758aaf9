/* SPDX-License-Identifier: Apache-2.0
 * The busy client (load.h). */
#include "load.h"

#include <glob.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "support/wire.h"

enum { HEAD_MAX = 8192, SAMPLES_MAX = 1 << 22 };

typedef struct connection {
    int fd;
    bool asked; /* and not yet answered */
    int64_t due_ns; /* when it was, or is, to ask */
    size_t path;
    int turn; /* of the bodies */
    char head[HEAD_MAX];
    size_t head_len;
    long long left; /* of the body; -1: the head is not complete */
} connection;

static void die(const char *what) {
    perror(what);
    exit(1);
}

static int connect_to(int port) {
    int fd = wire_dial(port);
    if (fd < 0) die("connect");
    return fd;
}

static int format_request(char *ret, size_t room, const char *path, const char *body) {
    if (!body) return snprintf(ret, room, "GET %s HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n", path);
    return snprintf(ret, room, "POST %s HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\nContent-Length: %zu\r\n\r\n%s", path,
                    strlen(body), body);
}

static void ask(connection *c, const load_options *o) {
    char request[4096];
    if (c->path == LOAD_PATHS || !o->paths[c->path]) c->path = 0;
    int len = format_request(request, sizeof request, o->paths[c->path++], o->bodies ? o->bodies[c->turn++ % o->n_bodies] : NULL);
    if (len < 0 || (size_t)len >= sizeof request) die("a request that is too long");
    c->head_len = 0;
    c->left = -1;
    c->asked = true;
    if (send(c->fd, request, (size_t)len, MSG_NOSIGNAL) != len) die("send");
}

/* What has come; true when the reply is whole. */
static bool take(connection *c, load_result *r) {
    static char bytes[1 << 18];
    ssize_t n = recv(c->fd, bytes, sizeof bytes, 0);
    if (n <= 0) die("the daemon closed a connection");
    r->bytes += (double)n;
    if (c->left >= 0) {
        c->left -= n;
        return c->left <= 0;
    }
    size_t part = c->head_len + (size_t)n < HEAD_MAX - 1 ? (size_t)n : HEAD_MAX - 1 - c->head_len;
    memcpy(c->head + c->head_len, bytes, part);
    c->head_len += part;
    c->head[c->head_len] = '\0';
    char *end = strstr(c->head, "\r\n\r\n"), *length = strcasestr(c->head, "\r\nContent-Length:");
    if (!end) {
        if (c->head_len >= HEAD_MAX - 1) die("a head that is too long");
        return false;
    }
    if (strncmp(c->head, "HTTP/1.1 200", 12) != 0) r->others++;
    if (!length) die("a reply without Content-Length");
    long long had = (long long)c->head_len - (end + 4 - c->head) + (long long)((size_t)n - part);
    c->left = strtoll(length + 17, NULL, 10) - had;
    return c->left <= 0;
}

static double own_cpu(void) {
    struct rusage u;
    getrusage(RUSAGE_SELF, &u);
    return (double)(u.ru_utime.tv_sec + u.ru_stime.tv_sec) + 1e-6 * (double)(u.ru_utime.tv_usec + u.ru_stime.tv_usec);
}

static double cpu_of(int pid) {
    char path[64];
    unsigned long user = 0, system = 0;
    snprintf(path, sizeof path, "/proc/%d/stat", pid);
    FILE *file = fopen(path, "re");
    if (!file) return 0;
    int n = fscanf(file, "%*d (%*[^)]) %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %lu %lu", &user, &system);
    fclose(file);
    return n == 2 ? (double)(user + system) / (double)sysconf(_SC_CLK_TCK) : 0;
}

/* Of the processes that the daemon has started: its workers. */
static double children_cpu(int daemon_pid) {
    char path[64];
    double sum = 0;
    glob_t tasks;
    snprintf(path, sizeof path, "/proc/%d/task/*/children", daemon_pid);
    if (glob(path, GLOB_NOSORT, NULL, &tasks) != 0) return 0;
    for (size_t i = 0; i < tasks.gl_pathc; i++) {
        FILE *file = fopen(tasks.gl_pathv[i], "re");
        for (int pid; file && fscanf(file, "%d", &pid) == 1;) sum += load_cpu_ms(pid) * 1e-3;
        if (file) fclose(file);
    }
    globfree(&tasks);
    return sum;
}

static int by_value(const void *a, const void *b) {
    float x = *(const float *)a, y = *(const float *)b;
    return x < y ? -1 : x > y;
}

static void finish(load_result *r, float *ms) {
    long n = r->replies < SAMPLES_MAX ? r->replies : SAMPLES_MAX;
    if (n == 0) return;
    qsort(ms, (size_t)n, sizeof *ms, by_value);
    r->p50_ms = ms[n / 2];
    r->p99_ms = ms[(long)(0.99 * (double)(n - 1))];
    r->max_ms = ms[n - 1];
    r->per_second = (double)r->replies / r->seconds;
    r->bytes /= (double)r->replies;
    r->client_cpu_us *= 1e6 / (double)r->replies;
    r->daemon_cpu_us *= 1e6 / (double)r->replies;
    r->workers_cpu_us *= 1e6 / (double)r->replies;
}

/* Those that are due ask; the time until the next will. */
static struct timespec ask_due(connection *all, const load_options *o, int64_t until) {
    int64_t now = esp_clock_now_ns(), next = now + ESP_NS_PER_S;
    for (int i = 0; i < o->connections; i++) {
        connection *c = &all[i];
        if (c->asked || c->due_ns >= until) continue;
        if (c->due_ns <= now)
            ask(c, o);
        else if (c->due_ns < next)
            next = c->due_ns;
    }
    return (struct timespec){(next - now) / ESP_NS_PER_S, (next - now) % ESP_NS_PER_S};
}

static void answered(connection *c, const load_options *o, load_result *r, float *ms) {
    int64_t now = esp_clock_now_ns();
    if (r->replies < SAMPLES_MAX) ms[r->replies] = (float)(now - c->due_ns) * 1e-6f;
    r->replies++;
    c->asked = false;
    c->due_ns = o->rate > 0 ? c->due_ns + (int64_t)(1e9 * o->connections / o->rate) : now;
}

static void run(connection *all, int epoll, const load_options *o, load_result *r, float *ms) {
    int64_t start = esp_clock_now_ns(), until = start + (int64_t)(o->seconds * 1e9);
    for (int i = 0; i < o->connections; i++) {
        all[i].fd = connect_to(o->port);
        all[i].path = (size_t)i % LOAD_PATHS;
        all[i].turn = i;
        all[i].due_ns = o->rate > 0 ? start + (int64_t)(1e9 * i / o->rate) : esp_clock_now_ns();
        struct epoll_event event = {.events = EPOLLIN, .data.ptr = &all[i]};
        epoll_ctl(epoll, EPOLL_CTL_ADD, all[i].fd, &event);
    }
    for (bool busy = true; busy;) {
        struct epoll_event events[64];
        struct timespec wait = ask_due(all, o, until);
        int n = epoll_pwait2(epoll, events, 64, &wait, NULL);
        for (int i = 0; i < n; i++) {
            connection *c = events[i].data.ptr;
            if (take(c, r)) answered(c, o, r, ms);
        }
        busy = esp_clock_now_ns() < until;
        for (int i = 0; i < o->connections; i++) busy |= all[i].asked;
        if (esp_clock_now_ns() > until + 30 * ESP_NS_PER_S) die("the daemon does not answer");
    }
    r->seconds = esp_clock_seconds_since(start);
}

load_result load_run(const load_options *options) {
    load_result r = {0};
    float *ms = malloc(SAMPLES_MAX * sizeof *ms);
    connection *all = calloc((size_t)options->connections, sizeof *all);
    int epoll = epoll_create1(EPOLL_CLOEXEC);
    if (!ms || !all || epoll < 0) die("start");
    r.client_cpu_us = -own_cpu();
    r.daemon_cpu_us = -cpu_of(options->pid);
    r.workers_cpu_us = -children_cpu(options->pid);
    run(all, epoll, options, &r, ms);
    r.client_cpu_us += own_cpu();
    r.daemon_cpu_us += cpu_of(options->pid);
    r.workers_cpu_us += children_cpu(options->pid);
    for (int i = 0; i < options->connections; i++) close(all[i].fd);
    close(epoll);
    finish(&r, ms);
    free(all);
    free(ms);
    return r;
}

int load_get(int port, const char *path, const char **ret_body, double *ret_ms) {
    static int fd = -1;
    static char text[4 << 20];
    if (fd < 0) fd = connect_to(port);
    int64_t start = esp_clock_now_ns();
    int status = wire_call(fd, &(wire_request){.method = "GET", .path = path}, text, sizeof text, ret_body);
    if (!status) die(path);
    *ret_ms = esp_clock_seconds_since(start) * 1e3;
    return status;
}

double load_cpu_ms(int pid) {
    char path[64];
    glob_t tasks;
    double ns = 0;
    snprintf(path, sizeof path, "/proc/%d/task/*/schedstat", pid);
    if (glob(path, GLOB_NOSORT, NULL, &tasks) != 0) return 0;
    for (size_t i = 0; i < tasks.gl_pathc; i++) {
        unsigned long long on = 0;
        FILE *file = fopen(tasks.gl_pathv[i], "re");
        if (file && fscanf(file, "%llu", &on) == 1) ns += (double)on;
        if (file) fclose(file);
    }
    globfree(&tasks);
    return ns * 1e-6;
}

long load_rss_kib(int pid) {
    char path[64], line[200];
    long kib = 0;
    snprintf(path, sizeof path, "/proc/%d/status", pid);
    FILE *file = fopen(path, "re");
    while (file && !kib && fgets(line, sizeof line, file)) sscanf(line, "VmRSS: %ld", &kib);
    if (file) fclose(file);
    return kib;
}
