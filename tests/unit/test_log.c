/* SPDX-License-Identifier: Apache-2.0
 * The log: one line an event, and never a wait for a reader that does not read. */
#include <check.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "log.h"

static int keep = -1; /* the real standard error */

static void log_to(int fd) {
    keep = dup(STDERR_FILENO);
    dup2(fd, STDERR_FILENO);
    esp_log_init(ESP_LOG_NOTICE);
}

static void log_back(void) {
    dup2(keep, STDERR_FILENO);
    close(keep);
    esp_log_init(ESP_LOG_NOTICE);
}

/* What has been written so far; how many lines. */
static size_t drain(int fd, char *ret_text, size_t room) {
    size_t len = 0, lines = 0;
    ssize_t n = 0;
    fcntl(fd, F_SETFL, O_NONBLOCK);
    while (len + 1 < room && (n = read(fd, ret_text + len, room - 1 - len)) > 0) len += (size_t)n;
    ret_text[len] = '\0';
    for (const char *c = ret_text; (c = strchr(c, '\n')); c++) lines++;
    return lines;
}

START_TEST(log__is_a_line_an_event) {
    char text[4096];
    int fds[2];
    ck_assert_int_eq(pipe(fds), 0);
    log_to(fds[1]);
    esp_log(ESP_LOG_NOTICE, "here", "n=%d text=\"two\nlines\"", 7);
    esp_log(ESP_LOG_DEBUG, "hidden", "n=8");
    log_back();
    ck_assert_uint_eq(drain(fds[0], text, sizeof text), 1);
    ck_assert_ptr_nonnull(strstr(text, "Z notice here n=7 text=\"two\\x0alines\"\n"));
}
END_TEST

enum { MANY = 20000 };

/* Returns at all; what was lost is counted once there is room. A line more or less at each end of a gap is the count's own. */
static void overfill(int write_end, int read_end) {
    static char text[4 << 20];
    long lost = 0;
    log_to(write_end);
    for (int i = 0; i < MANY; i++) esp_log(ESP_LOG_NOTICE, "many", "n=%d", i);
    size_t kept = drain(read_end, text, sizeof text);
    ck_assert_uint_gt(kept, 10);
    ck_assert_uint_lt(kept, MANY);
    ck_assert_ptr_nonnull(strstr(text, " many n=0\n"));
    esp_log(ESP_LOG_NOTICE, "after", "n=1");
    log_back();
    ck_assert_uint_eq(drain(read_end, text, sizeof text), 2);
    const char *at = strstr(text, "log_lost lines=");
    ck_assert_msg(at && sscanf(at, "log_lost lines=%ld", &lost) == 1, "%s", text);
    ck_assert_int_eq(lost + (long)kept, MANY);
    ck_assert_ptr_nonnull(strstr(text, " after n=1\n"));
    ck_assert_int_eq(fcntl(write_end, F_GETFL) & O_NONBLOCK, 0); /* others write there too */
}

START_TEST(log__is_dropped_rather_than_waited_for_in_a_pipe) {
    int fds[2];
    ck_assert_int_eq(pipe(fds), 0);
    overfill(fds[1], fds[0]);
}
END_TEST

START_TEST(log__is_dropped_rather_than_waited_for_in_a_socket) {
    int fds[2];
    ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), 0);
    overfill(fds[1], fds[0]);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("log");
    TCase *tc = tcase_create("log");
    tcase_add_test(tc, log__is_a_line_an_event);
    tcase_add_test(tc, log__is_dropped_rather_than_waited_for_in_a_pipe);
    tcase_add_test(tc, log__is_dropped_rather_than_waited_for_in_a_socket);
    suite_add_tcase(suite, tc);
    return run_suite(suite);
}
