/* SPDX-License-Identifier: Apache-2.0
 * The real daemon for a test: started from $ESPALIER_BUILD (build/release when unset) on port 0 with its data in a
 * directory of its own under /tmp.
 *
 *     static test_daemon d;                        int main(void) {
 *     START_TEST(x) { ... http_get(&d, "/healthz")     daemon_start(&d, NULL);
 *                                                      return daemon_finish(&d, run_suite(suite));
 *
 * Started in main, before check forks, so that every case of a file shares one daemon. */
#ifndef ESP_TESTS_DAEMON_H
#define ESP_TESTS_DAEMON_H

#include <stdbool.h>
#include <sys/types.h>

typedef struct test_daemon {
    pid_t pid; /* 0: not running */
    int port, out; /* out: its standard output */
    char dir[64]; /* data in DIR/data, log in DIR/log */
    char base[64]; /* "http://127.0.0.1:PORT" */
} test_daemon;

/* `options` NULL, or a NULL-terminated list put behind --listen and --data. Ends the program when there is no ready
 * line within 30 s, showing the log. A daemon that has a directory already (after stop or kill) is started on it again. */
void daemon_start(test_daemon *daemon, const char *const *options);
/* SIGTERM and the exit status, or -1 when a signal ended it; SIGKILL after 30 s. */
int daemon_stop(test_daemon *daemon);
void daemon_kill(test_daemon *daemon); /* SIGKILL, now */
/* A start on the daemon's directory that is killed after so many microseconds, ready or not. */
void daemon_start_and_kill(test_daemon *daemon, const char *const *options, unsigned after_us);
void daemon_dump_log(const test_daemon *daemon); /* its end, to standard error */
/* Stops it, shows the log when something failed or the stop was not clean, removes the directory; gives main's status. */
int daemon_finish(test_daemon *daemon, int failed);

/* Runs the daemon with these options to its end (it is expected to refuse): its exit status, what it said in `ret_text`. */
int daemon_try(const char *const *options, char *ret_text, size_t room);

#endif
