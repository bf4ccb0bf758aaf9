/* SPDX-License-Identifier: Apache-2.0
 * A client that keeps many connections busy with one request: one thread, epoll, keep-alive. */
#ifndef ESP_BENCH_LOAD_H
#define ESP_BENCH_LOAD_H

#include <stddef.h>

typedef struct load_result {
    long replies, others; /* others: a status that is not 200 */
    double seconds, per_second, p50_ms, p99_ms, max_ms;
    double bytes; /* of a reply, on average */
    double client_cpu_us, daemon_cpu_us; /* processor time a reply */
} load_result;

/* Repeats "GET path" on `connections` connections for `seconds`. Ends the program when the daemon does not answer. */
load_result load_run(int port, int daemon_pid, const char *path, const char *headers, int connections, double seconds);

/* Processor time of all threads of a process so far, in milliseconds. */
double load_cpu_ms(int pid);
/* One GET on a connection that is kept: its status; the body is valid until the next one. */
int load_get(int port, const char *path, const char **ret_body, double *ret_ms);

#endif
