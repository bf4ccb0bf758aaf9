/* SPDX-License-Identifier: Apache-2.0
 * espalierd: starts the parts in order, waits for a signal, stops them in the opposite order.
 *
 * Exit status: 0 after a drain, 1 when a part could not start, 2 for a bad option. The first SIGTERM or SIGINT drains
 * (server/README.md), a second one leaves at once. */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include "access_log.h"
#include "ask.h"
#include "base/clock.h"
#include "jobs/jobs.h"
#include "log.h"
#include "maintain.h"
#include "names.h"
#include "ontime.h"
#include "pages.h"
#include "pool/pool.h"
#include "server.h"
#include "session.h"
#include "tokens.h"
#include "version.h"

enum { EXIT_START = 1, EXIT_USAGE = 2 };

static void print_help(void) {
    esp_buf text = {0};
    esp_buf_puts(&text, "espalierd: trains, certifies and plans with sparse neural dynamics, over HTTP\n\nusage: espalierd [OPTION]...\n\n");
    esp_config_help(&text);
    esp_buf_puts(&text,
                 "  --sample-config\n        print a commented configuration file\n  --version\n  --help\n\nSIGHUP rereads the tokens and the "
                 "limits. Tokens: espalierd token create|list|revoke --data DIR\n"
                 "A data directory: espalierd --check [--quick] --data DIR, espalierd --backup FILE --data DIR, espalierd gc [--apply] --data DIR\n");
    fputs(esp_buf_text(&text), stdout);
    esp_buf_done(&text);
}

/* Options that print and leave; true when one was there. */
static bool print_option(int argc, char **argv) {
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--help") == 0) {
            print_help();
            return true;
        }
        if (strcmp(argv[i], "--version") == 0) {
            puts("espalierd " ESP_VERSION);
            return true;
        }
        if (strcmp(argv[i], "--sample-config") == 0) {
            esp_buf text = {0};
            esp_config_sample(&text);
            fputs(esp_buf_text(&text), stdout);
            esp_buf_done(&text);
            return true;
        }
    }
    return false;
}

/* A descriptor that lands on 0, 1 or 2 would be taken for a standard stream by a worker. */
static void hold_standard_streams(void) {
    int fd;
    do fd = open("/dev/null", O_RDWR | O_CLOEXEC);
    while (fd >= 0 && fd <= STDERR_FILENO);
    if (fd >= 0) close(fd);
}

/* As many descriptors as are allowed: two for a connection, and the rest of us. */
static void raise_descriptors(const esp_config *config) {
    struct rlimit files;
    if (getrlimit(RLIMIT_NOFILE, &files) != 0) return;
    files.rlim_cur = files.rlim_max;
    if (setrlimit(RLIMIT_NOFILE, &files) != 0) return;
    rlim_t wanted = (rlim_t)config->connections + 500;
    if (files.rlim_cur < wanted)
        esp_log(ESP_LOG_NOTICE, "descriptors", "limit=%llu wanted=%llu", (unsigned long long)files.rlim_cur, (unsigned long long)wanted);
}

/* espalier-worker beside this executable, when the configuration does not say where it is. */
static esp_code find_worker(esp_config *config, esp_error *reterr) {
    if (!*config->worker) {
        char self[sizeof config->worker];
        ssize_t n = readlink("/proc/self/exe", self, sizeof self - 1);
        if (n <= 0) return esp_fail_errno(reterr, ESP_IO, "cannot read /proc/self/exe");
        self[n] = '\0';
        char *slash = strrchr(self, '/');
        *slash = '\0';
        int len = snprintf(config->worker, sizeof config->worker, "%s/espalier-worker", self);
        if (len < 0 || (size_t)len >= sizeof config->worker) return esp_fail_at(reterr, ESP_INVALID, "worker", "the worker's path is too long");
    }
    if (access(config->worker, X_OK) != 0) {
        return esp_fail_errno(reterr, ESP_IO, "cannot run the worker %.200s", config->worker);
    }
    return ESP_OK;
}

/* "host:port" or "[host]:port". */
static esp_code split_listen(const char *listen, char host[256], int *ret_port, esp_error *reterr) {
    const char *colon = strrchr(listen, ':');
    char *end = NULL;
    long port = colon ? strtol(colon + 1, &end, 10) : -1;
    if (!colon || end == colon + 1 || *end || port < 0 || port > 65535)
        return esp_fail_at(reterr, ESP_INVALID, "listen", "listen must be ADDRESS:PORT, not '%.60s'", listen);
    const char *begin = listen;
    size_t len = (size_t)(colon - listen);
    if (len >= 2 && begin[0] == '[' && begin[len - 1] == ']') {
        begin++;
        len -= 2;
    }
    if (!len || len >= 256) return esp_fail_at(reterr, ESP_INVALID, "listen", "listen must be ADDRESS:PORT, not '%.60s'", listen);
    memcpy(host, begin, len);
    host[len] = '\0';
    *ret_port = (int)port;
    return ESP_OK;
}

static esp_code start(esp_server *server, esp_error *reterr) {
    char host[256];
    int port = 0;
    esp_code code = split_listen(server->config.listen, host, &port, reterr);
    if (!code) code = find_worker(&server->config, reterr);
    if (!code && !(server->sessions = esp_sessions_create(server->config.session_idle_s)))
        code = esp_fail(reterr, ESP_NOMEM, "no memory for sessions");
    if (!code) code = esp_registry_open(server->config.data, &server->registry, reterr);
    if (!code && (!(server->pages = esp_pages_create()) || !(server->names = esp_names_create()) || !(server->asks = esp_asks_create(server))))
        code = esp_fail(reterr, ESP_NOMEM, "no memory for what is kept of the registry");
    if (!code) code = esp_tokens_open(server->config.data, &server->tokens, reterr);
    if (!code) code = esp_pool_start(&server->config, &server->pool, reterr);
    if (!code) code = esp_jobs_start(server, &server->jobs, reterr);
    if (!code) code = esp_access_log_start(&server->config, reterr);
    if (!code) code = esp_http_start(server, host, port, &server->http, reterr);
    if (code) return code;
    const char *open = strchr(host, ':') ? "[" : "", *close = *open ? "]" : "";
    printf("espalierd ready on http://%s%s%s:%d\n", open, host, close, esp_http_port(server->http));
    fflush(stdout);
    esp_log(ESP_LOG_NOTICE, "ready", "version=%s listen=%s%s%s:%d data=%s", ESP_VERSION, open, host, close, esp_http_port(server->http),
            server->config.data);
    return ESP_OK;
}

/* Waits for one of the signals; 0 when the time is up first. */
static int wait_signal(const sigset_t *signals, int64_t timeout_ns) {
    struct timespec wait = {timeout_ns / ESP_NS_PER_S, timeout_ns % ESP_NS_PER_S};
    for (;;) {
        int signal = sigtimedwait(signals, NULL, &wait);
        if (signal > 0) return signal;
        if (errno != EINTR) return 0;
    }
}

/* ---- reload --------------------------------------------------------------------------------------------------------- */

static void reload_tokens(esp_server *server) {
    esp_error error = {0};
    if (esp_tokens_reload(server->tokens, &error))
        esp_log(ESP_LOG_ERROR, "tokens", "code=%s message=\"%s\" kept=\"those before\"", esp_code_name(error.code), error.message);
    else
        esp_log(ESP_LOG_NOTICE, "tokens", "required=%d", esp_tokens_required(server->tokens));
}

/* SIGHUP: tokens, and of the settings the limits that config.def lists as LIVE; a bad file changes nothing. */
static void reload(esp_server *server, int argc, char **argv) {
    static esp_config fresh;
    esp_error error = {0};
    reload_tokens(server);
    esp_access_log_reopen();
    esp_config_init(&fresh);
    if (esp_config_parse(&fresh, argc, argv, &error)) {
        esp_log(ESP_LOG_ERROR, "reload", "code=%s message=\"%s\" kept=\"settings as they were\"", esp_code_name(error.code), error.message);
        return;
    }
    esp_config_reload(&server->config, &fresh);
    esp_log_level_set((esp_log_level)fresh.log_level);
    esp_log(ESP_LOG_NOTICE, "reload", "config=ok");
}

/* Until the first signal to stop. The file of tokens is looked at each second, as `espalierd token` does not know of us. */
static void serve(esp_server *server, const sigset_t *signals, int argc, char **argv) {
    for (;;) {
        int signal = wait_signal(signals, ESP_NS_PER_S);
        if (signal == SIGHUP)
            reload(server, argc, argv);
        else if (signal)
            return;
        else if (esp_tokens_stale(server->tokens))
            reload_tokens(server);
    }
}

/* ---- the end -------------------------------------------------------------------------------------------------------- */

/* New work is refused from here on; plans that run may finish, jobs go back to the queue. */
static void drain(esp_server *server, const sigset_t *signals) {
    int64_t until = esp_clock_now_ns() + esp_config_live(server->config.drain_s) * ESP_NS_PER_S;
    esp_log(ESP_LOG_NOTICE, "drain", "pending=%d", esp_pool_pending(server->pool));
    atomic_store(&server->draining, true);
    esp_jobs_drain(server->jobs);
    while ((esp_pool_pending(server->pool) || esp_jobs_running(server->jobs)) && esp_clock_now_ns() < until) {
        int signal = wait_signal(signals, 20 * ESP_NS_PER_MS);
        if (!signal || signal == SIGHUP) continue;
        esp_log(ESP_LOG_NOTICE, "exit", "reason=\"second signal\"");
        _exit(EXIT_START); /* the workers' parent-death signal takes them along */
    }
    esp_http_quiesce(server->http); /* till here /readyz and refusals could be heard */
}

/* The opposite order of start: what replies to calls stops before the listener, the registry last but for its users. */
static void stop(esp_server *server) {
    esp_pool_stop(server->pool);
    esp_jobs_stop(server->jobs);
    if (server->http) esp_http_stop(server->http);
    esp_access_log_stop();
    if (server->registry) esp_registry_close(server->registry);
    esp_jobs_free(server->jobs);
    esp_pool_free(server->pool);
    esp_sessions_free(server->sessions);
    esp_tokens_free(server->tokens);
    esp_asks_free(server->asks);
    esp_names_free(server->names);
    esp_pages_free(server->pages);
}

int main(int argc, char **argv) {
    esp_server server = {.started_ns = esp_clock_now_ns()};
    esp_error error = {0};
    hold_standard_streams();
    if (argc > 1 && strcmp(argv[1], "token") == 0) return esp_token_command(argc, argv);
    int done = 0;
    if (esp_maintain_command(argc, argv, &done)) return done;
    if (print_option(argc, argv)) return fflush(stdout) ? EXIT_START : 0;
    esp_config_init(&server.config);
    if (esp_config_parse(&server.config, argc, argv, &error)) {
        fprintf(stderr, "espalierd: %s\n", error.message);
        return EXIT_USAGE;
    }
    esp_log_init((esp_log_level)server.config.log_level);
    esp_ontime_init();
    raise_descriptors(&server.config);

    /* Blocked in every thread; only sigtimedwait takes them. */
    sigset_t signals;
    sigemptyset(&signals);
    sigaddset(&signals, SIGTERM);
    sigaddset(&signals, SIGINT);
    sigaddset(&signals, SIGHUP);
    pthread_sigmask(SIG_BLOCK, &signals, NULL);
    signal(SIGPIPE, SIG_IGN);

    int status = 0;
    if (start(&server, &error)) {
        esp_log(ESP_LOG_ERROR, "start", "code=%s message=\"%s\"", esp_code_name(error.code), error.message);
        status = error.code == ESP_INVALID ? EXIT_USAGE : EXIT_START;
    } else {
        serve(&server, &signals, argc, argv);
        drain(&server, &signals);
    }
    pthread_sigmask(SIG_UNBLOCK, &signals, NULL); /* a stop that hangs can still be ended by hand */
    stop(&server);
    esp_log(ESP_LOG_NOTICE, "exit", "status=%d", status);
    return status;
}
