/* SPDX-License-Identifier: Apache-2.0
 * The parts of the benchmark of HTTP. */
#ifndef ESP_BENCH_HTTP_PARTS_H
#define ESP_BENCH_HTTP_PARTS_H

#include "list.h"
#include "support/daemon.h"

/* fill.c: a registry of so many rows in a fresh directory, before the daemon is started on it. */
void fill_registry(test_daemon *daemon, long models, long certificates);
/* A dataset, a model, a task, so that jobs and plans have what they need. */
void fill_things(const test_daemon *daemon);

/* survey.c: every filter and every sort of a list, both ways, and the page after the first; and how SQLite would read each. */
void survey(const test_daemon *daemon, const char *path, const esp_list *list);

/* quiet.c: what must stay small while something else goes on. */
void reads_beside_upload(const test_daemon *daemon, double seconds);
void plans_over_worker(const test_daemon *daemon, int n);
void idle_connections(const test_daemon *daemon, int n);

/* ask.c: predictions and closed-form queries, gathered and not. */
void asks_a_second(int connections, double seconds);

#endif
