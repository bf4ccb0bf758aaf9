/* SPDX-License-Identifier: Apache-2.0
 * The log of requests (access_log.h).
 *
 * The event threads put lines into memory, and a thread writes them a few times a second. A file that has reached its size is
 * moved to NAME.1, over the one before, so that the two never have more than twice that. */
#include "access_log.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/clock.h"
#include "base/json.h"
#include "log.h"
#include "ontime.h"
#include "rfc3339.h"

enum { PENDING_MAX = 4 << 20, EVERY_MS = 100 };

static struct {
    pthread_mutex_t lock; /* what follows */
    pthread_cond_t some;
    esp_buf pending;
    long lost;
    bool stopping, reopen;
    /* the thread's; constant after the start but for fd and size */
    bool on;
    pthread_t thread;
    char path[4096];
    int fd;
    uint64_t size, max;
} l = {.fd = -1};

/* ---- lines ---------------------------------------------------------------------------------------------------------- */

static void put_line(esp_buf *out, const esp_access *a, long lost) {
    char time[ESP_TIME_TEXT];
    esp_jsonw w = esp_jsonw_on(out);
    esp_time_format(esp_clock_wall_ms(), time);
    esp_jsonw_object(&w, NULL);
    esp_jsonw_string(&w, "time", time);
    esp_jsonw_string(&w, "request_id", a->request_id);
    esp_jsonw_string(&w, "address", a->address);
    esp_jsonw_string(&w, "token", *a->token ? a->token : NULL);
    esp_jsonw_string(&w, "method", a->method);
    esp_jsonw_string(&w, "path", a->path);
    esp_jsonw_string(&w, "route", a->route);
    esp_jsonw_integer(&w, "status", a->status);
    esp_jsonw_integer(&w, "bytes_in", (int64_t)a->bytes_in);
    esp_jsonw_integer(&w, "bytes_out", (int64_t)a->bytes_out);
    esp_jsonw_number(&w, "ms", (double)(int64_t)(a->ms * 1e3) * 1e-3);
    if (a->cut) esp_jsonw_bool(&w, "cut", true);
    if (lost) esp_jsonw_integer(&w, "lost", lost);
    esp_jsonw_object_end(&w);
    esp_buf_puts(out, "\n");
}

void esp_access_log(const esp_access *access) {
    if (!l.on) return;
    pthread_mutex_lock(&l.lock);
    bool first = l.pending.len == 0;
    if (l.pending.len >= PENDING_MAX || l.pending.failed) {
        l.lost++;
    } else {
        put_line(&l.pending, access, l.lost);
        l.lost = 0;
    }
    if (first) pthread_cond_signal(&l.some);
    pthread_mutex_unlock(&l.lock);
}

/* ---- the file ------------------------------------------------------------------------------------------------------- */

static int open_file(void) {
    struct stat st;
    int fd = open(l.path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    l.size = fd >= 0 && fstat(fd, &st) == 0 ? (uint64_t)st.st_size : 0;
    return fd;
}

static void open_again(void) {
    if (l.fd >= 0) close(l.fd);
    l.fd = open_file();
    if (l.fd < 0) esp_log(ESP_LOG_ERROR, "access_log", "path=%s error=\"%s\"", l.path, strerror(errno));
}

static void rotate(void) {
    char older[4100];
    snprintf(older, sizeof older, "%s.1", l.path);
    if (rename(l.path, older) != 0) esp_log(ESP_LOG_ERROR, "access_log", "path=%s error=\"%s\"", older, strerror(errno));
    open_again();
}

static void write_out(const esp_buf *lines) {
    if (l.size > 0 && l.size + lines->len > l.max) rotate();
    for (size_t done = 0; l.fd >= 0 && done < lines->len;) {
        ssize_t n = write(l.fd, lines->data + done, lines->len - done);
        if (n < 0 && errno == EINTR) continue;
        if (n <= 0) break; /* a full disk: these lines are lost, the next may not be */
        done += (size_t)n;
        l.size += (size_t)n;
    }
}

/* So that many lines go out together. */
static void rest(void) {
    int64_t until = esp_clock_now_ns() + EVERY_MS * ESP_NS_PER_MS;
    const struct timespec at = {until / ESP_NS_PER_S, until % ESP_NS_PER_S};
    pthread_mutex_lock(&l.lock);
    while (!l.stopping && esp_clock_now_ns() < until) pthread_cond_clockwait(&l.some, &l.lock, CLOCK_MONOTONIC, &at);
    pthread_mutex_unlock(&l.lock);
}

static void *writer_main(void *user) {
    esp_buf lines = {0};
    bool stopping = false;
    (void)user;
    while (!stopping) {
        pthread_mutex_lock(&l.lock);
        while (!l.stopping && !l.reopen && l.pending.len == 0) pthread_cond_wait(&l.some, &l.lock);
        stopping = l.stopping;
        bool reopen = l.reopen;
        l.reopen = false;
        esp_buf taken = l.pending;
        l.pending = lines; /* the two change places, so that neither grows anew */
        pthread_mutex_unlock(&l.lock);
        lines = taken;
        if (reopen) open_again();
        write_out(&lines);
        if (lines.failed) esp_buf_done(&lines);
        esp_buf_clear(&lines);
        if (!stopping) rest();
    }
    esp_buf_done(&lines);
    return NULL;
}

/* ---- start and stop ------------------------------------------------------------------------------------------------- */

esp_code esp_access_log_start(const esp_config *config, esp_error *reterr) {
    const char *name = config->access_log;
    if (!*name) return ESP_OK;
    int n = *name == '/' ? snprintf(l.path, sizeof l.path, "%s", name) : snprintf(l.path, sizeof l.path, "%s/%s", config->data, name);
    if (n < 0 || (size_t)n >= sizeof l.path) return esp_fail_at(reterr, ESP_INVALID, "access_log", "the access log's path is too long");
    l.max = (uint64_t)config->access_log_mib << 20;
    l.fd = open_file();
    if (l.fd < 0) return esp_fail_errno(reterr, ESP_IO, "open the access log %s", l.path);
    esp_ontime_lock_init(&l.lock);
    pthread_cond_init(&l.some, NULL);
    l.on = pthread_create(&l.thread, NULL, writer_main, NULL) == 0;
    return l.on ? ESP_OK : esp_fail(reterr, ESP_NOMEM, "cannot start the access log's thread");
}

void esp_access_log_reopen(void) {
    if (!l.on) return;
    pthread_mutex_lock(&l.lock);
    l.reopen = true;
    pthread_cond_signal(&l.some);
    pthread_mutex_unlock(&l.lock);
}

void esp_access_log_stop(void) {
    if (!l.on) return;
    pthread_mutex_lock(&l.lock);
    l.stopping = true;
    pthread_cond_signal(&l.some);
    pthread_mutex_unlock(&l.lock);
    pthread_join(l.thread, NULL);
    l.on = false;
    close(l.fd);
    esp_buf_done(&l.pending);
}
