/* SPDX-License-Identifier: Apache-2.0
 * The daemon's log on standard error; one write a line, so that lines of two threads never mix.
 *
 * The threads that keep deadlines log too, and standard error may be a pipe or a socket that nobody reads for a while. A
 * line that does not fit into it is dropped, and the next that does is preceded by how many were. The description behind
 * standard error is shared with whoever started us, so it is not made non-blocking itself: a pipe is opened once more,
 * a socket is asked with every line. A file or a terminal is written to as it is. */
#include "log.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

static atomic_int log_level = ESP_LOG_NOTICE;
static int log_fd = STDERR_FILENO;
static bool is_socket;
static atomic_long lost;
static const char *const level_names[] = {"error", "notice", "debug"};

void esp_log_level_set(esp_log_level level) {
    atomic_store(&log_level, (int)level);
}

void esp_log_init(esp_log_level level) {
    struct stat st;
    atomic_store(&log_level, (int)level);
    if (fstat(STDERR_FILENO, &st) != 0) return;
    is_socket = S_ISSOCK(st.st_mode);
    if (log_fd != STDERR_FILENO) close(log_fd);
    log_fd = S_ISFIFO(st.st_mode) ? open("/proc/self/fd/2", O_WRONLY | O_NONBLOCK | O_CLOEXEC) : -1;
    if (log_fd < 0) log_fd = STDERR_FILENO; /* another user's pipe cannot be opened: that one blocks */
}

/* A line fits into a pipe whole or not at all, as it is no longer than PIPE_BUF. */
static bool write_line(const char *line, size_t n) {
    ssize_t done = is_socket ? send(log_fd, line, n, MSG_DONTWAIT | MSG_NOSIGNAL) : write(log_fd, line, n);
    return done >= 0 || errno != EAGAIN;
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

static void say_lost(void) {
    char line[128];
    long n = atomic_exchange(&lost, 0);
    if (!n) return;
    size_t len = put_head(line, sizeof line - 1, ESP_LOG_NOTICE, "log_lost");
    int more = snprintf(line + len, sizeof line - len, " lines=%ld\n", n);
    if (more < 0 || !write_line(line, len + (size_t)more)) atomic_fetch_add(&lost, n);
}

void esp_log(esp_log_level level, const char *event, const char *format, ...) {
    char text[2048], line[PIPE_BUF];
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
    if (atomic_load_explicit(&lost, memory_order_relaxed)) say_lost();
    if (!write_line(line, n)) atomic_fetch_add(&lost, 1);
}
