/* SPDX-License-Identifier: Apache-2.0
 * Metrics in atomics, and their Prometheus text. No lock: a scrape may fall between two updates, which Prometheus allows. */
#include "metrics.h"

#include <assert.h>
#include <inttypes.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "http/http.h"
#include "version.h"

enum { MAX_ROUTES = 96, N_BUCKETS = 16 };

/* Upper edges in seconds: plans live between 1 ms and 1 s, jobs' calls up to a minute. */
static const double edges[N_BUCKETS] = {0.0005, 0.001, 0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60};

/* What the service answers; anything else is counted under the last. */
static const int statuses[] = {200, 201, 202, 204, 206, 304, 400, 401, 403, 404, 405, 406, 408, 409,
                               412, 413, 414, 415, 416, 422, 429, 431, 500, 502, 503, 504, 505, 0};
enum { N_STATUSES = sizeof statuses / sizeof *statuses };

typedef struct histogram {
    atomic_int_fast64_t count[N_BUCKETS + 1];
    atomic_int_fast64_t sum_ns;
} histogram;

typedef enum kind { KIND_COUNTER, KIND_GAUGE, KIND_HISTOGRAM } kind;
static const char *const kind_names[] = {"counter", "gauge", "histogram"};

static const struct {
    kind kind;
    const char *name, *help;
} metrics[ESP_METRIC_COUNT] = {
#define COUNTER(symbol, name, help)   {KIND_COUNTER, name, help},
#define GAUGE(symbol, name, help)     {KIND_GAUGE, name, help},
#define HISTOGRAM(symbol, name, help) {KIND_HISTOGRAM, name, help},
    ESP_METRICS
#undef COUNTER
#undef GAUGE
#undef HISTOGRAM
};

static atomic_int_fast64_t values[ESP_METRIC_COUNT];
static histogram histograms[ESP_METRIC_COUNT];
static atomic_int_fast64_t requests[MAX_ROUTES + 1][N_STATUSES];
static histogram request_seconds[MAX_ROUTES + 1];

void esp_metric_add(esp_metric metric, int64_t by) {
    assert(metrics[metric].kind != KIND_HISTOGRAM);
    atomic_fetch_add_explicit(&values[metric], by, memory_order_relaxed);
}

void esp_metric_set(esp_metric metric, int64_t value) {
    assert(metrics[metric].kind == KIND_GAUGE);
    atomic_store_explicit(&values[metric], value, memory_order_relaxed);
}

static void observe(histogram *h, double seconds) {
    int i = 0;
    while (i < N_BUCKETS && seconds > edges[i]) i++;
    atomic_fetch_add_explicit(&h->count[i], 1, memory_order_relaxed);
    atomic_fetch_add_explicit(&h->sum_ns, (int64_t)(seconds * 1e9), memory_order_relaxed);
}

void esp_metric_observe(esp_metric metric, double seconds) {
    assert(metrics[metric].kind == KIND_HISTOGRAM);
    observe(&histograms[metric], seconds);
}

void esp_metric_http(int route, int status, double seconds) {
    int r = route >= 0 && route < MAX_ROUTES ? route : MAX_ROUTES;
    int s = 0;
    while (s < N_STATUSES - 1 && statuses[s] != status) s++;
    atomic_fetch_add_explicit(&requests[r][s], 1, memory_order_relaxed);
    observe(&request_seconds[r], seconds);
}

static void put_type(esp_buf *out, const char *name, size_t len, const char *help, kind k) {
    esp_buf_printf(out, "# HELP espalier_%.*s %s\n# TYPE espalier_%.*s %s\n", (int)len, name, help, (int)len, name, kind_names[k]);
}

/* `labels` is `a="b"` or empty. */
static void put_histogram(esp_buf *out, const char *name, size_t len, const char *labels, histogram *h) {
    const char *comma = *labels ? "," : "";
    int64_t total = 0;
    for (int i = 0; i < N_BUCKETS; i++) {
        total += atomic_load_explicit(&h->count[i], memory_order_relaxed);
        esp_buf_printf(out, "espalier_%.*s_bucket{%s%sle=\"%g\"} %" PRId64 "\n", (int)len, name, labels, comma, edges[i], total);
    }
    total += atomic_load_explicit(&h->count[N_BUCKETS], memory_order_relaxed);
    esp_buf_printf(out, "espalier_%.*s_bucket{%s%sle=\"+Inf\"} %" PRId64 "\n", (int)len, name, labels, comma, total);
    const char *open = *labels ? "{" : "", *close = *labels ? "}" : "";
    double sum = (double)atomic_load_explicit(&h->sum_ns, memory_order_relaxed) * 1e-9;
    esp_buf_printf(out, "espalier_%.*s_sum%s%s%s %.9g\n", (int)len, name, open, labels, close, sum);
    esp_buf_printf(out, "espalier_%.*s_count%s%s%s %" PRId64 "\n", (int)len, name, open, labels, close, total);
}

static void render_catalogue(esp_buf *out) {
    for (int m = 0; m < ESP_METRIC_COUNT; m++) {
        const char *name = metrics[m].name;
        const char *brace = strchr(name, '{');
        size_t len = brace ? (size_t)(brace - name) : strlen(name);
        if (*metrics[m].help) put_type(out, name, len, metrics[m].help, metrics[m].kind);
        if (metrics[m].kind != KIND_HISTOGRAM) {
            esp_buf_printf(out, "espalier_%s %" PRId64 "\n", name, (int64_t)atomic_load_explicit(&values[m], memory_order_relaxed));
            continue;
        }
        char labels[128] = "";
        if (brace) snprintf(labels, sizeof labels, "%.*s", (int)strlen(brace) - 2, brace + 1);
        put_histogram(out, name, len, labels, &histograms[m]);
    }
}

static const char *route_label(int r, int n_routes, char ret[160]) {
    if (r >= n_routes)
        snprintf(ret, 160, "route=\"none\"");
    else
        snprintf(ret, 160, "route=\"%s %s\"", esp_routes[r].method, esp_routes[r].pattern);
    return ret;
}

/* The slot of an unmatched route is the last one. */
static void render_http(esp_buf *out) {
    char label[160];
    int n = 0;
    while (n < MAX_ROUTES && esp_routes[n].method) n++;
    put_type(out, "http_requests_total", 19, "Requests answered, by route and status", KIND_COUNTER);
    for (int i = 0; i <= n; i++) {
        int r = i < n ? i : MAX_ROUTES;
        for (int s = 0; s < N_STATUSES; s++) {
            int64_t count = atomic_load_explicit(&requests[r][s], memory_order_relaxed);
            if (count)
                esp_buf_printf(out, "espalier_http_requests_total{%s,code=\"%d\"} %" PRId64 "\n", route_label(r, n, label), statuses[s], count);
        }
    }
    put_type(out, "http_request_duration_seconds", 29, "Time from a request's arrival to its reply", KIND_HISTOGRAM);
    for (int i = 0; i <= n; i++) {
        int r = i < n ? i : MAX_ROUTES;
        put_histogram(out, "http_request_duration_seconds", 29, route_label(r, n, label), &request_seconds[r]);
    }
}

static void render_process(esp_buf *out) {
    FILE *file = fopen("/proc/self/stat", "re");
    unsigned long user = 0, system = 0;
    unsigned long long start = 0;
    long pages = 0;
    if (file) {
        int n = fscanf(file, "%*d (%*[^)]) %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %lu %lu %*d %*d %*d %*d %*d %*d %llu %*u %ld", &user, &system,
                       &start, &pages);
        fclose(file);
        if (n != 4) return;
    }
    double tick = (double)sysconf(_SC_CLK_TCK), page = (double)sysconf(_SC_PAGESIZE);
    double uptime = (double)esp_clock_now_ns() * 1e-9 - (double)start / tick;
    esp_buf_printf(out, "# HELP process_cpu_seconds_total Processor time of the daemon itself\n# TYPE process_cpu_seconds_total counter\n");
    esp_buf_printf(out, "process_cpu_seconds_total %.2f\n", (double)(user + system) / tick);
    esp_buf_printf(out, "# HELP process_resident_memory_bytes Memory of the daemon itself\n# TYPE process_resident_memory_bytes gauge\n");
    esp_buf_printf(out, "process_resident_memory_bytes %.0f\n", (double)pages * page);
    esp_buf_printf(out, "# HELP process_start_time_seconds Start of the daemon, since 1970\n# TYPE process_start_time_seconds gauge\n");
    esp_buf_printf(out, "process_start_time_seconds %.3f\n", (double)esp_clock_wall_ms() * 1e-3 - uptime);
    esp_buf_printf(out, "# HELP espalier_build_info What runs\n# TYPE espalier_build_info gauge\nespalier_build_info{version=\"%s\"} 1\n",
                   ESP_VERSION);
}

void esp_metrics_render(esp_buf *out) {
    render_catalogue(out);
    render_http(out);
    render_process(out);
}
