/* SPDX-License-Identifier: Apache-2.0
 * The daemon's log on standard error; one write(2) a line, so that lines of two threads never mix. */
#include "log.h"

#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static atomic_int log_level = ESP_LOG_NOTICE;
static const char *const level_names[] = {"error", "notice", "request", "debug"};

void esp_log_init(esp_log_level level) {
    atomic_store(&log_level, (int)level);
}

static size_t put_head(char *line, size_t room, esp_log_level level, const char *event) {
    struct timespec now;
    struct tm utc;
    clock_gettime(CLOCK_REALTIME, &now);
    gmtime_r(&now.tv_sec, &utc);
    size_t n = strftime(line, room, "%Y-%m-%dT%H:%M:%S", &utc);
    int more = snprintf(line + n, room - n, ".%03ldZ %s %s", now.tv_nsec / 1000000, level_names[level], event);
    return n + (more > 0 ? (size_t)more : 0);
}

/* A control character would forge a line; it goes out as \xNN. */
static size_t put_escaped(char *line, size_t at, size_t room, const char *text) {
    static const char hex[] = "0123456789abcdef";
    for (const unsigned char *c = (const unsigned char *)text; *c && at + 4 < room; c++) {
        if (*c >= 0x20 && *c != 0x7f) {
            line[at++] = (char)*c;
            continue;
        }
        line[at++] = '\\';
        line[at++] = 'x';
        line[at++] = hex[*c >> 4];
        line[at++] = hex[*c & 15];
    }
    return at;
}

void esp_log(esp_log_level level, const char *event, const char *format, ...) {
    char text[2048], line[4096];
    if ((int)level > atomic_load_explicit(&log_level, memory_order_relaxed)) return;
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    size_t n = put_head(line, sizeof line - 1, level, event);
    if (*text && n + 1 < sizeof line) {
        line[n++] = ' ';
        n = put_escaped(line, n, sizeof line - 1, text);
    }
    line[n++] = '\n';
    ssize_t written = write(STDERR_FILENO, line, n);
    (void)written; /* nowhere left to say that the log cannot be written */
}
