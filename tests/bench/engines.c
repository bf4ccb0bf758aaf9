/* SPDX-License-Identifier: Apache-2.0
 * Engines in processes of their own, and the traces read from their output.
 *
 * Ours and CBC are forked from here; HiGHS, Gurobi and SCIP run in tests/bench/peers.py on the MPS file of the same
 * model. Nothing an engine does can reach the next one, and one that overruns is killed. */
#include "bench/engines.h"

#include <math.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "bench/process.h"

const char *const bench_engines[] = {"tree", "cbc", "stock-cbc", "stock-cbc-sampled", "highs", "gurobi", "scip", "mppi", "cem", NULL};

static double clock_zero;

static double cpu_seconds(void) {
    struct timespec now;
    (void)clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

void bench_clock_start(void) {
    clock_zero = cpu_seconds();
}

double bench_clock(void) {
    return cpu_seconds() - clock_zero;
}

void bench_say(double upper, double lower) {
    printf("t %.6f %.9g %.9g\n", bench_clock(), upper, lower);
}

void bench_say_end(const char *status, double upper, double lower, long nodes) {
    printf("end %s %.6f %.9g %.9g %ld\n", status, bench_clock(), upper, lower, nodes);
    (void)fflush(stdout);
}

double bench_gap(const bench_event *event) {
    if (!isfinite(event->upper) || !isfinite(event->lower)) return (double)INFINITY;
    return fmax(0.0, (event->upper - event->lower) / fmax(fabs(event->upper), 1e-9));
}

double bench_gap_at(const bench_trace *trace, double seconds) {
    double gap = (double)INFINITY;
    for (int i = 0; i < trace->n && trace->events[i].seconds <= seconds; i++) gap = bench_gap(&trace->events[i]);
    return gap;
}

double bench_time_to(const bench_trace *trace, double gap) {
    for (int i = 0; i < trace->n; i++)
        if (bench_gap(&trace->events[i]) <= gap * (1 + 1e-6)) return trace->events[i].seconds;
    return (double)INFINITY;
}

/* ---- in the engine's process ---- */

typedef struct known {
    double upper, lower;
} known;

static void on_incumbent(void *user, const esp_plan *plan, int64_t nodes) {
    known *k = user;
    (void)nodes;
    k->upper = plan->objective;
    bench_say(k->upper, k->lower);
}

static void on_bound(void *user, double lower) {
    known *k = user;
    k->lower = lower;
    bench_say(k->upper, k->lower);
}

static bool used_up(void *user) {
    return bench_clock() >= *(const double *)user;
}

/* The limit is one of CPU time, as for the others; CBC within the planner knows only the deadline. */
static void run_ours(const char *engine, const bench_instance *instance, double seconds) {
    bool exact = strcmp(engine, "tree") == 0 || strcmp(engine, "cbc") == 0;
    char planner[96];
    (void)snprintf(planner, sizeof planner, exact ? "{'engine':'%s','gap':0.01}" : "{'method':'%s'}", engine);
    plan_case c = bench_case(instance, planner);
    esp_plan_request request = bench_request(instance);
    known k = {(double)INFINITY, -(double)INFINITY};
    esp_plan_hooks hooks = {&k, on_incumbent, on_bound, NULL};
    double wall = strcmp(engine, "tree") == 0 ? 2 * seconds : seconds;
    esp_stop stop = {esp_clock_now_ns() + (int64_t)(wall * 1e9), used_up, &seconds};
    esp_plan_result result;
    esp_error error = {0};
    bench_clock_start();
    if (esp_plan_run(c.planner, c.task, &request, &hooks, &stop, &result, &error) != ESP_OK) {
        printf("error %s %s\n", error.pointer, error.message);
        _exit(EXIT_FAILURE);
    }
    bench_say_end(esp_plan_status_names[result.status], result.best.objective, result.lower_bound, (long)result.nodes);
    esp_plan_result_done(&result);
    case_done(&c);
}

static void run_model(const char *engine, const bench_instance *instance, double seconds, const char *python, const char *scratch) {
    plan_case c = bench_case(instance, "{}");
    esp_encoding model = {0};
    bench_model(&c, instance, strcmp(engine, "stock-cbc-sampled") == 0, &model);
    if (strncmp(engine, "stock-cbc", 9) == 0) {
        bench_clock_start();
        bench_stock_cbc(&model.lp, seconds);
    } else if (python) {
        char path[256], limit[32];
        (void)snprintf(path, sizeof path, "%s/%s.mps", scratch, instance->name);
        (void)snprintf(limit, sizeof limit, "%g", seconds);
        if (!bench_write_mps(&model.lp, path)) _exit(EXIT_FAILURE);
        (void)execlp(python, python, "tests/bench/peers.py", engine, path, limit, (char *)NULL);
        _exit(EXIT_FAILURE);
    }
    esp_encoding_done(&model);
    case_done(&c);
}

static bool is_ours(const char *engine) {
    return strcmp(engine, "tree") == 0 || strcmp(engine, "cbc") == 0 || strcmp(engine, "mppi") == 0 || strcmp(engine, "cem") == 0;
}

static pid_t start(const char *engine, const bench_instance *instance, double seconds, const char *python, const char *scratch, int *ret_fd) {
    int ends[2];
    if (pipe(ends) != 0) abort();
    (void)fflush(NULL);
    pid_t pid = fork();
    if (pid < 0) abort();
    if (pid == 0) {
        (void)dup2(ends[1], STDOUT_FILENO);
        (void)close(ends[0]);
        (void)close(ends[1]);
        (void)setvbuf(stdout, NULL, _IOLBF, BUFSIZ);
        if (is_ours(engine))
            run_ours(engine, instance, seconds);
        else
            run_model(engine, instance, seconds, python, scratch);
        (void)fflush(stdout);
        _exit(EXIT_SUCCESS);
    }
    (void)close(ends[1]);
    *ret_fd = ends[0];
    return pid;
}

/* ---- in the benchmark's ---- */

static void note(bench_trace *trace, double seconds, double upper, double lower) {
    bench_event last = {0, (double)INFINITY, -(double)INFINITY};
    if (trace->n > 0) last = trace->events[trace->n - 1];
    upper = fmin(isnan(upper) ? (double)INFINITY : upper, last.upper);
    lower = fmax(isnan(lower) ? -(double)INFINITY : lower, last.lower);
    if (upper == last.upper && lower == last.lower) return;
    if (trace->n == BENCH_MAX_EVENTS) trace->n--; /* the latest matters most */
    trace->events[trace->n++] = (bench_event){fmax(seconds, last.seconds), upper, lower};
}

/* CBC's log: "... (1.25 seconds)" ends the lines that tell of a solution or of the bound. */
static void note_cbc(bench_trace *trace, const char *line) {
    const char *clock = strrchr(line, '('), *found = strstr(line, "Integer solution of "), *best = strstr(line, "on tree, ");
    const char *root = strstr(line, "Continuous objective value is ");
    double seconds = 0, upper = (double)INFINITY, lower = -(double)INFINITY;
    if (root && sscanf(root, "Continuous objective value is %lf - %lf", &lower, &seconds) == 2) note(trace, seconds, upper, lower);
    if (!clock || sscanf(clock, "(%lf seconds)", &seconds) != 1) return;
    if (found && sscanf(found, "Integer solution of %lf", &upper) == 1) note(trace, seconds, upper, lower);
    if (best && sscanf(best, "on tree, %lf best solution, best possible %lf", &upper, &lower) == 2)
        note(trace, seconds, upper < 1e40 ? upper : (double)INFINITY, lower);
}

static void read_line(bench_trace *trace, const char *line) {
    double seconds, upper, lower;
    if (strncmp(line, "Cbc", 3) == 0 || strncmp(line, "Continuous", 10) == 0) {
        note_cbc(trace, line);
    } else if (sscanf(line, "t %lf %lf %lf", &seconds, &upper, &lower) == 3) {
        note(trace, seconds, upper, lower);
    } else if (sscanf(line, "end %31s %lf %lf %lf %ld", trace->status, &seconds, &upper, &lower, &trace->nodes) == 5) {
        note(trace, seconds, upper, lower);
        trace->seconds = seconds;
    } else if (strncmp(line, "error ", 6) == 0) {
        fprintf(stderr, "bench: %s\n", line);
    }
}

/* Lines from fd until its end or `kill_at`; false when it is time to kill. */
static bool follow(int fd, int64_t kill_at, bench_trace *trace) {
    char text[8192];
    size_t length = 0;
    for (;;) {
        int64_t left = (kill_at - esp_clock_now_ns()) / ESP_NS_PER_MS;
        struct pollfd ready = {.fd = fd, .events = POLLIN};
        if (left <= 0) return false;
        if (poll(&ready, 1, (int)left) <= 0) continue;
        ssize_t n = read(fd, text + length, sizeof text - 1 - length);
        if (n <= 0) return true;
        length += (size_t)n;
        text[length] = 0;
        char *line = text, *end;
        while ((end = strchr(line, '\n'))) {
            *end = 0;
            read_line(trace, line);
            line = end + 1;
        }
        length -= (size_t)(line - text);
        memmove(text, line, length);
        if (length == sizeof text - 1) length = 0;
    }
}

void bench_run(const char *engine, const bench_instance *instance, double seconds, const char *python, const char *scratch, bench_trace *ret_trace) {
    int fd = -1, status = 0;
    *ret_trace = (bench_trace){.seconds = seconds, .status = "missing"};
    if (!python && (strcmp(engine, "highs") == 0 || strcmp(engine, "gurobi") == 0 || strcmp(engine, "scip") == 0)) return;
    pid_t pid = start(engine, instance, seconds, python, scratch, &fd);
    bool ended = follow(fd, esp_clock_now_ns() + (int64_t)((3 * seconds + 5) * 1e9), ret_trace);
    if (!ended) {
        (void)kill(pid, SIGKILL);
        (void)snprintf(ret_trace->status, sizeof ret_trace->status, "killed");
    }
    (void)close(fd);
    struct rusage used = {0};
    (void)wait4(pid, &status, 0, &used);
    if (!ended)
        ret_trace->seconds = (double)(used.ru_utime.tv_sec + used.ru_stime.tv_sec) + 1e-6 * (double)(used.ru_utime.tv_usec + used.ru_stime.tv_usec);
    if (ended && status != 0)
        (void)snprintf(ret_trace->status, sizeof ret_trace->status, WIFEXITED(status) && WEXITSTATUS(status) == 3 ? "missing" : "failed");
}
