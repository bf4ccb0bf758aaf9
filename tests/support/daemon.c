/* SPDX-License-Identifier: Apache-2.0
 * Starting, stopping and killing the daemon under test. */
#include "support/daemon.h"

#include <fcntl.h>
#include <ftw.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { OPTIONS_MAX = 40, START_MS = 30000, STOP_MS = 30000 };

static void binary(char path[512]) {
    const char *build = getenv("ESPALIER_BUILD");
    snprintf(path, 512, "%s/espalierd", build ? build : "build/release");
}

/* The child: its output on the given descriptors, gone when the test goes. */
static void child(char **argv, int out, int err) {
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    dup2(out, STDOUT_FILENO);
    dup2(err, STDERR_FILENO);
    execv(argv[0], argv);
    perror(argv[0]);
    _exit(127);
}

static pid_t spawn(const char *const *options, int out, int err) {
    char path[512];
    const char *argv[OPTIONS_MAX + 2];
    size_t n = 0;
    binary(path);
    argv[n++] = path;
    for (; options && *options && n <= OPTIONS_MAX; options++) argv[n++] = *options;
    argv[n] = NULL;
    fflush(NULL);
    pid_t pid = fork();
    if (pid == 0) child((char **)(void *)argv, out, err);
    return pid;
}

static void die(test_daemon *daemon, const char *what) {
    fprintf(stderr, "%s\n", what);
    daemon_dump_log(daemon);
    daemon_kill(daemon);
    exit(1);
}

/* Reads standard output up to the ready line; false when it ends or the time is up. */
static bool wait_ready(test_daemon *daemon) {
    char line[256];
    size_t len = 0;
    for (int waited = 0; waited < START_MS;) {
        struct pollfd p = {.fd = daemon->out, .events = POLLIN};
        if (poll(&p, 1, 100) == 0) {
            waited += 100;
            continue;
        }
        ssize_t got = read(daemon->out, line + len, sizeof line - 1 - len);
        if (got <= 0) return false;
        len += (size_t)got;
        line[len] = '\0';
        if (sscanf(line, "espalierd ready on http://127.0.0.1:%d", &daemon->port) == 1 && strchr(line, '\n')) return true;
    }
    return false;
}

/* Its process, with its output and log in place. */
static void launch(test_daemon *daemon, const char *const *options) {
    char data[80], log[80];
    int fds[2];
    snprintf(data, sizeof data, "%s/data", daemon->dir);
    snprintf(log, sizeof log, "%s/log", daemon->dir);
    const char *argv[OPTIONS_MAX + 1] = {"--listen", "127.0.0.1:0", "--data", data, "--log-level", "2"};
    size_t n = 6;
    for (; options && *options && n < OPTIONS_MAX; options++) argv[n++] = *options;
    int err = open(log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    if (err < 0 || pipe2(fds, O_CLOEXEC) != 0) die(daemon, "cannot open the daemon's output");
    daemon->pid = spawn(argv, fds[1], err);
    daemon->out = fds[0];
    close(fds[1]);
    close(err);
    if (daemon->pid < 0) die(daemon, "the daemon cannot be started");
}

void daemon_start(test_daemon *daemon, const char *const *options) {
    if (!daemon->dir[0]) {
        strcpy(daemon->dir, "/tmp/espalier-test-XXXXXX");
        if (!mkdtemp(daemon->dir)) die(daemon, "cannot make a directory under /tmp");
    }
    launch(daemon, options);
    if (!wait_ready(daemon)) die(daemon, "the daemon did not become ready");
    snprintf(daemon->base, sizeof daemon->base, "http://127.0.0.1:%d", daemon->port);
}

void daemon_start_and_kill(test_daemon *daemon, const char *const *options, unsigned after_us) {
    launch(daemon, options);
    usleep(after_us);
    daemon_kill(daemon);
}

static void closed(test_daemon *daemon) {
    daemon->pid = 0;
    close(daemon->out);
}

int daemon_stop(test_daemon *daemon) {
    int status = 0;
    if (daemon->pid <= 0) return 0;
    kill(daemon->pid, SIGTERM);
    for (int waited = 0; waited < STOP_MS; waited += 10) {
        if (waitpid(daemon->pid, &status, WNOHANG) == daemon->pid) {
            closed(daemon);
            return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
        }
        nanosleep(&(struct timespec){0, 10000000}, NULL);
    }
    fprintf(stderr, "the daemon did not stop on SIGTERM\n");
    daemon_kill(daemon);
    return -1;
}

void daemon_kill(test_daemon *daemon) {
    if (daemon->pid <= 0) return;
    kill(daemon->pid, SIGKILL);
    waitpid(daemon->pid, NULL, 0);
    closed(daemon);
}

static void dump(const test_daemon *daemon, const char *name) {
    char path[100], text[8192];
    snprintf(path, sizeof path, "%s/%s", daemon->dir, name);
    FILE *log = fopen(path, "r");
    if (!log) return;
    if (fseek(log, -(long)sizeof text, SEEK_END) != 0) rewind(log);
    size_t n = fread(text, 1, sizeof text, log);
    fclose(log);
    fprintf(stderr, "--- the end of %s\n%.*s---\n", path, (int)n, text);
}

void daemon_dump_log(const test_daemon *daemon) {
    dump(daemon, "data/access.log");
    dump(daemon, "log");
}

static int remove_entry(const char *path, const struct stat *st, int kind, struct FTW *walk) {
    (void)st, (void)kind, (void)walk;
    return remove(path);
}

int daemon_finish(test_daemon *daemon, int failed) {
    int status = daemon_stop(daemon);
    if (status != 0) fprintf(stderr, "the daemon's exit status was %d\n", status);
    if (failed || status != 0) daemon_dump_log(daemon);
    if (daemon->dir[0]) nftw(daemon->dir, remove_entry, 16, FTW_DEPTH | FTW_PHYS);
    return failed || status != 0;
}

int daemon_try(const char *const *options, char *ret_text, size_t room) {
    int fds[2], status = 0;
    size_t len = 0;
    ssize_t got = 0;
    if (pipe2(fds, O_CLOEXEC) != 0) return -1;
    pid_t pid = spawn(options, fds[1], fds[1]);
    close(fds[1]);
    struct pollfd p = {.fd = fds[0], .events = POLLIN};
    while (len + 1 < room && poll(&p, 1, START_MS) == 1 && (got = read(fds[0], ret_text + len, room - 1 - len)) > 0) len += (size_t)got;
    ret_text[len] = '\0';
    close(fds[0]);
    kill(pid, SIGKILL); /* one that did not refuse still runs; one that has ended keeps its status */
    waitpid(pid, &status, 0);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}
