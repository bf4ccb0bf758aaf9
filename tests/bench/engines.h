/* SPDX-License-Identifier: Apache-2.0
 * Planners and solvers of the benchmark, each run in a process of its own: what it had found and proved, and when. */
#ifndef ESP_TESTS_BENCH_ENGINES_H
#define ESP_TESTS_BENCH_ENGINES_H

#include "bench/instances.h"

#define BENCH_MAX_EVENTS 4096

/* Times are CPU seconds of the engine's process since its search began, so that others on the machine count little. */
typedef struct bench_event {
    double seconds, upper, lower; /* best cost so far, bound so far; infinite when none */
} bench_event;

typedef struct bench_trace {
    int n;
    bench_event events[BENCH_MAX_EVENTS]; /* times ascend, upper falls, lower rises */
    double seconds; /* at the end */
    char status[32]; /* the engine's own word; "killed" when it overran, "missing" when it does not run here, "failed" */
    long nodes;
} bench_trace;

/* |upper - lower| / |upper|; infinite without both. */
double bench_gap(const bench_event *event);
/* The gap known at a time; the time at which it was at most `gap`, or infinity. */
double bench_gap_at(const bench_trace *trace, double seconds);
double bench_time_to(const bench_trace *trace, double gap);

extern const char *const bench_engines[]; /* names, NULL at the end */
/* "python": interpreter with the solvers from PyPI, or NULL. seconds: CPU time given to the engine. `scratch`: a
 * directory for the MPS file. */
void bench_run(const char *engine, const bench_instance *instance, double seconds, const char *python, const char *scratch, bench_trace *ret_trace);

/* CBC as it comes, default settings but the gap of 1 % and the time limit, on stdout what it logs, and at the end the
 * line "end ..." of engines.c. */
void bench_stock_cbc(const esp_lp *lp, double seconds);

#endif
