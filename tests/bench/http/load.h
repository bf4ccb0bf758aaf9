/* SPDX-License-Identifier: Apache-2.0
 * A client that keeps many connections busy with requests of a kind: one thread, epoll, keep-alive. */
#ifndef ESP_BENCH_LOAD_H
#define ESP_BENCH_LOAD_H

typedef struct load_result {
    long replies, others; /* others: a status that is not 200 */
    double seconds, per_second, p50_ms, p99_ms, max_ms;
    double bytes; /* of a reply, on average */
    double client_cpu_us, daemon_cpu_us, workers_cpu_us; /* processor time a reply; workers: of all that the daemon has */
} load_result;

enum { LOAD_PATHS = 4 };
typedef struct load_options {
    int port, pid; /* of the daemon */
    const char *paths[LOAD_PATHS]; /* asked for in turn; NULL after the last */
    const char *const *bodies; /* NULL: GET; else these are posted as JSON, in turn */
    int n_bodies;
    int connections;
    double seconds;
    double rate; /* requests a second, evenly, over all connections; a reply's time counts from when it was due. 0: as fast as it goes */
} load_options;

/* Requests on all connections. Ends the program when the daemon does not answer. */
load_result load_run(const load_options *options);

/* Processor time of all threads of a process so far, in milliseconds. */
double load_cpu_ms(int pid);
/* Memory of the process that is in use, in KiB. */
long load_rss_kib(int pid);
/* One GET on a connection that is kept: its status; the body is valid until the next one. */
int load_get(int port, const char *path, const char **ret_body, double *ret_ms);

#endif
