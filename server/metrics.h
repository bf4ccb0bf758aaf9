/* SPDX-License-Identifier: Apache-2.0
 * Counters, gauges and histograms, kept in atomics, rendered in the Prometheus text format. Any thread.
 * Buckets of every histogram: 0.5 ms to 60 s. */
#ifndef ESP_SERVER_METRICS_H
#define ESP_SERVER_METRICS_H

#include <stdint.h>

#include "base/buf.h"

/* COUNTER(SYMBOL, "name", "help")  GAUGE(...)  HISTOGRAM(...) : names get the prefix espalier_. */
#define ESP_METRICS                                                                                                                                  \
    COUNTER(PLANS_OPTIMAL, "plans_total{status=\"optimal\"}", "Plans answered, by status")                                                           \
    COUNTER(PLANS_FEASIBLE, "plans_total{status=\"feasible\"}", "")                                                                                  \
    COUNTER(PLANS_FALLBACK, "plans_total{status=\"fallback\"}", "")                                                                                  \
    COUNTER(PLANS_INFEASIBLE, "plans_total{status=\"infeasible\"}", "")                                                                              \
    COUNTER(PLANS_UNKNOWN, "plans_total{status=\"unknown\"}", "")                                                                                    \
    COUNTER(DEADLINE_MISSED, "deadline_missed_total", "Plans answered after their deadline")                                                         \
    COUNTER(SHED, "shed_total", "Requests refused because the service was full or draining")                                                         \
    COUNTER(WORKERS_LOST, "worker_restarts_total{cause=\"lost\"}", "Workers started again, by cause")                                                \
    COUNTER(WORKERS_KILLED, "worker_restarts_total{cause=\"killed\"}", "")                                                                           \
    COUNTER(SHARES, "plan_shares_total", "Times an idle worker took a part of another's plan")                                                       \
    COUNTER(SHARES_YIELDED, "plan_shares_yielded_total", "Those ended for work that waited")                                                         \
    COUNTER(ASKS, "asks_total", "Predictions, queries and C files asked of a worker")                                                                \
    COUNTER(ASK_FRAMES, "ask_frames_total", "Frames in which they went there, one model a frame")                                                    \
    COUNTER(JOBS_SUCCEEDED, "jobs_total{state=\"succeeded\"}", "Jobs ended, by state")                                                               \
    COUNTER(JOBS_FAILED, "jobs_total{state=\"failed\"}", "")                                                                                         \
    COUNTER(JOBS_CANCELLED, "jobs_total{state=\"cancelled\"}", "")                                                                                   \
    COUNTER(JOBS_TIMED_OUT, "jobs_total{state=\"timed_out\"}", "")                                                                                   \
    GAUGE(PLAN_QUEUE, "queue_depth{class=\"plan\"}", "Work waiting for a worker")                                                                    \
    GAUGE(ASK_QUEUE, "queue_depth{class=\"ask\"}", "")                                                                                               \
    GAUGE(JOB_QUEUE, "queue_depth{class=\"batch\"}", "")                                                                                             \
    GAUGE(WORKERS_IDLE, "workers{state=\"idle\"}", "Worker processes")                                                                               \
    GAUGE(WORKERS_BUSY, "workers{state=\"busy\"}", "")                                                                                               \
    GAUGE(WORKERS_HELPING, "workers_helping", "Busy workers that help with another's plan")                                                          \
    GAUGE(CONNECTIONS, "http_connections", "Open connections")                                                                                       \
    COUNTER(CONNECTIONS_REFUSED, "http_connections_refused_total", "Connections beyond those that their address may have")                           \
    COUNTER(CUT_HEADERS, "http_connections_cut_total{phase=\"headers\"}", "Connections closed for slowness, by what was slow")                       \
    COUNTER(CUT_BODY, "http_connections_cut_total{phase=\"body\"}", "")                                                                              \
    COUNTER(CUT_REPLY, "http_connections_cut_total{phase=\"reply\"}", "")                                                                            \
    HISTOGRAM(PLAN_QUEUE_WAIT, "queue_wait_seconds{class=\"plan\"}", "Time from arrival to a worker")                                                \
    HISTOGRAM(PLAN_SOLVE, "solve_duration_seconds{class=\"plan\"}", "Time a worker had for a plan")                                                  \
    HISTOGRAM(LAG, "lag_seconds", "How late the daemon's own threads were for what was due")                                                         \
    HISTOGRAM(REPLY_MARGIN, "reply_margin_seconds", "How long before its deadline a plan is to be answered")                                         \
    HISTOGRAM(COMMIT, "sqlite_commit_seconds", "Time of a registry commit")

typedef enum esp_metric {
#define COUNTER(symbol, name, help)   ESP_METRIC_##symbol,
#define GAUGE(symbol, name, help)     ESP_METRIC_##symbol,
#define HISTOGRAM(symbol, name, help) ESP_METRIC_##symbol,
    ESP_METRICS
#undef COUNTER
#undef GAUGE
#undef HISTOGRAM
        ESP_METRIC_COUNT
} esp_metric;

void esp_metric_add(esp_metric metric, int64_t by); /* counters and gauges */
void esp_metric_set(esp_metric metric, int64_t value); /* gauges */
void esp_metric_observe(esp_metric metric, double seconds); /* histograms */
/* http_requests_total{route,code} and http_request_duration_seconds{route}; `route` indexes esp_routes, -1 = none matched. */
void esp_metric_http(int route, int status, double seconds);
void esp_metrics_render(esp_buf *out); /* with process_* and build_info */

#endif
