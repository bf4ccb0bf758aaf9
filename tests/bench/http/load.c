/* SPDX-License-Identifier: Apache-2.0
 * The busy client (load.h). */
#include "load.h"

#include <arpa/inet.h>
#include <glob.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"

enum { HEAD_MAX = 8192, SAMPLES_MAX = 1 << 22 };

typedef struct connection {
    int fd;
    int64_t sent_ns;
    char head[HEAD_MAX];
    size_t head_len;
    long long left; /* of the body; -1: the head is not complete */
} connection;

static void die(const char *what) {
    perror(what);
    exit(1);
}

static int connect_to(int port) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), yes = 1;
    if (fd < 0 || connect(fd, (struct sockaddr *)&address, sizeof address) != 0) die("connect");
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
    return fd;
}

static void ask(connection *c, const char *request, size_t len) {
    c->head_len = 0;
    c->left = -1;
    c->sent_ns = esp_clock_now_ns();
    if (send(c->fd, request, len, MSG_NOSIGNAL) != (ssize_t)len) die("send");
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
}

load_result load_run(int port, int daemon_pid, const char *path, const char *headers, int connections, double seconds) {
    load_result r = {0};
    char request[4096];
    float *ms = malloc(SAMPLES_MAX * sizeof *ms);
    connection *all = calloc((size_t)connections, sizeof *all);
    int epoll = epoll_create1(EPOLL_CLOEXEC);
    int len = snprintf(request, sizeof request, "GET %s HTTP/1.1\r\nHost: 127.0.0.1\r\n%s\r\n", path, headers ? headers : "");
    if (!ms || !all || epoll < 0 || len < 0 || (size_t)len >= sizeof request) die("start");
    r.client_cpu_us = -own_cpu();
    r.daemon_cpu_us = -cpu_of(daemon_pid);
    int64_t start = esp_clock_now_ns(), until = start + (int64_t)(seconds * 1e9);
    for (int i = 0; i < connections; i++) {
        all[i].fd = connect_to(port);
        struct epoll_event event = {.events = EPOLLIN, .data.ptr = &all[i]};
        epoll_ctl(epoll, EPOLL_CTL_ADD, all[i].fd, &event);
        ask(&all[i], request, (size_t)len);
    }
    for (int busy = connections; busy > 0;) {
        struct epoll_event events[64];
        int n = epoll_wait(epoll, events, 64, 10000);
        if (n <= 0) die("the daemon does not answer");
        for (int i = 0; i < n; i++) {
            connection *c = events[i].data.ptr;
            if (!take(c, &r)) continue;
            int64_t now = esp_clock_now_ns();
            if (r.replies < SAMPLES_MAX) ms[r.replies] = (float)(now - c->sent_ns) * 1e-6f;
            r.replies++;
            if (now < until)
                ask(c, request, (size_t)len);
            else
                busy--;
        }
    }
    r.seconds = esp_clock_seconds_since(start);
    r.client_cpu_us += own_cpu();
    r.daemon_cpu_us += cpu_of(daemon_pid);
    for (int i = 0; i < connections; i++) close(all[i].fd);
    close(epoll);
    finish(&r, ms);
    free(all);
    free(ms);
    return r;
}

int load_get(int port, const char *path, const char **ret_body, double *ret_ms) {
    static int fd = -1;
    static char text[4 << 20];
    char request[4096];
    size_t len = 0;
    if (fd < 0) fd = connect_to(port);
    int n = snprintf(request, sizeof request, "GET %s HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n", path);
    int64_t start = esp_clock_now_ns();
    if (send(fd, request, (size_t)n, MSG_NOSIGNAL) != n) die("send");
    for (char *end = NULL, *length = NULL; !length || len < (size_t)(end + 4 - text) + strtoul(length + 17, NULL, 10);) {
        ssize_t got = recv(fd, text + len, sizeof text - 1 - len, 0);
        if (got <= 0) die("the daemon closed a connection");
        len += (size_t)got;
        text[len] = '\0';
        end = strstr(text, "\r\n\r\n");
        length = end ? strcasestr(text, "\r\nContent-Length:") : NULL;
        *ret_body = end ? end + 4 : text;
    }
    *ret_ms = esp_clock_seconds_since(start) * 1e3;
    return atoi(text + 9);
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
