/* SPDX-License-Identifier: Apache-2.0
 * rail.h. The random numbers are a generator of our own, so that the tests do not move when the library's does. */
#include "support/rail.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>

const char rail_long_job[] = "{\"kind\":\"train\",\"spec\":{\"dataset\":\"rail\",\"name\":\"long\",\"model\":{\"type\":\"mlp\",\"hidden\":[128,128]},"
                             "\"frame\":\"residual\",\"epochs\":5000,\"batch\":64,\"seed\":1}}";

static double uniform(unsigned *state) {
    *state = *state * 1664525u + 1013904223u;
    return (double)(*state >> 8) / (double)(1u << 23) - 1.0;
}

void rail_upload_data(const test_daemon *daemon, const char *name, int n) {
    esp_buf text = {0}, actions = {0};
    char path[128];
    unsigned state = 1;
    for (int i = 0; i < n; i++) {
        double y = uniform(&state), v = uniform(&state);
        esp_buf_clear(&actions);
        esp_buf_printf(&text, "{\"y\":[[%.9g,%.9g]", y, v);
        for (int t = 0; t < 20; t++) {
            double u = uniform(&state);
            y += 0.1 * v;
            v += 0.1 * (u - 0.5 * (v > 0 ? v * v : -v * v));
            esp_buf_printf(&text, ",[%.9g,%.9g]", y, v);
            esp_buf_printf(&actions, "%s[%.9g]", t ? "," : "", u);
        }
        esp_buf_printf(&text, "],\"u\":[%s]}\n", esp_buf_text(&actions));
    }
    snprintf(path, sizeof path, "/v1/datasets?name=%s", name);
    http_reply reply = http_post(daemon, path, "application/x-ndjson", text.data, text.len);
    expect_status(reply, 201);
    http_done(&reply);
    esp_buf_done(&text);
    esp_buf_done(&actions);
}

static void upload_model(const test_daemon *daemon, const char *name, const char *json) {
    char path[128];
    snprintf(path, sizeof path, "/v1/models?name=%s&kind=dynamics", name);
    http_reply reply = http_json(daemon, "POST", path, json);
    expect_status(reply, 201);
    http_done(&reply);
}

void rail_upload_line(const test_daemon *daemon, const char *name) {
    upload_model(daemon, name, "{\"layers\":[{\"w\":[[1,0.5]],\"b\":[0],\"activation\":\"identity\"}],\"nu\":1}");
}

static void put_layer(esp_buf *text, int out, int in, double scale, const char *activation, unsigned *state) {
    esp_buf_puts(text, "{\"w\":[");
    for (int i = 0; i < out; i++) {
        esp_buf_puts(text, i ? ",[" : "[");
        for (int j = 0; j < in; j++) esp_buf_printf(text, "%s%.6g", j ? "," : "", scale * uniform(state));
        esp_buf_puts(text, "]");
    }
    esp_buf_puts(text, "],\"b\":[");
    for (int i = 0; i < out; i++) esp_buf_printf(text, "%s%.6g", i ? "," : "", 0.3 * uniform(state));
    esp_buf_printf(text, "],\"activation\":\"%s\"}", activation);
}

void rail_upload_random(const test_daemon *daemon, const char *name, int width, unsigned seed) {
    esp_buf text = {0};
    unsigned state = seed;
    double scale = 2.0 / (width > 16 ? 8 : 4);
    esp_buf_puts(&text, "{\"layers\":[");
    put_layer(&text, width, 3, 1.0, "relu", &state);
    esp_buf_puts(&text, ",");
    put_layer(&text, width, width, scale, "relu", &state);
    esp_buf_puts(&text, ",");
    put_layer(&text, 2, width, scale * 0.3, "identity", &state);
    esp_buf_puts(&text, "],\"nu\":1,\"frame\":\"residual\"}");
    upload_model(daemon, name, esp_buf_text(&text));
    esp_buf_done(&text);
}

void rail_store_task(const test_daemon *daemon, const char *name, const char *model, int horizon) {
    char json[1024];
    snprintf(json, sizeof json,
             "{\"name\":\"%s\",\"model\":\"%s\",\"horizon\":%d,\"cost\":{\"stage\":[{\"on\":\"y\",\"index\":[0],\"weight\":1,\"norm\":\"l1\","
             "\"target\":\"goal\"},"
             "{\"on\":\"u\",\"weight\":0.01,\"norm\":\"l1\"}],\"terminal\":[]},\"input\":{\"lower\":[-1],\"upper\":[1],\"safe\":[0]}}",
             name, model, horizon);
    http_reply reply = http_json(daemon, "POST", "/v1/tasks", json);
    expect_status(reply, 201);
    http_done(&reply);
}

/* ---- jobs ---- */

const char *rail_submit(const test_daemon *daemon, const char *json, char ret_id[64]) {
    http_reply reply = http_json(daemon, "POST", "/v1/jobs", json);
    expect_status(reply, 202);
    snprintf(ret_id, 64, "%s", reply_text(&reply, "/id"));
    http_done(&reply);
    return ret_id;
}

static bool has_ended(const char *state) {
    static const char *const ends[] = {"succeeded", "failed", "cancelled", "timed_out"};
    for (size_t i = 0; i < sizeof ends / sizeof *ends; i++)
        if (strcmp(ends[i], state) == 0) return true;
    return false;
}

http_reply rail_wait_state(const test_daemon *daemon, const char *id, const char *state) {
    char path[128];
    snprintf(path, sizeof path, "/v1/jobs/%s", id);
    for (int turn = 0;; turn++) {
        http_reply reply = http_get(daemon, path);
        expect_status(reply, 200);
        const char *now = reply_text(&reply, "/state");
        if (strcmp(now, state) == 0 || has_ended(now) || turn == 1500) return reply;
        http_done(&reply);
        nanosleep(&(struct timespec){0, 20000000}, NULL);
    }
}

http_reply rail_wait_end(const test_daemon *daemon, const char *id, int wait_s) {
    char path[128], prefer[64];
    snprintf(path, sizeof path, "/v1/jobs/%s", id);
    snprintf(prefer, sizeof prefer, "Prefer: wait=%d", wait_s);
    const char *const headers[] = {prefer, NULL};
    http_reply reply = {0};
    http_send(daemon, &(http_request){.method = "GET", .path = path, .headers = headers, .timeout_ms = 1000L * wait_s + 10000}, &reply);
    expect_status(reply, 200);
    return reply;
}

/* ---- processes ---- */

/* State and parent of a process; false when it is gone. */
static bool look_up(pid_t pid, char *ret_state, int *ret_parent) {
    char path[64], text[512] = "";
    snprintf(path, sizeof path, "/proc/%d/stat", (int)pid);
    FILE *file = fopen(path, "r");
    if (!file) return false;
    size_t n = fread(text, 1, sizeof text - 1, file);
    fclose(file);
    text[n] = '\0';
    const char *close = strrchr(text, ')'); /* the name before it may hold anything */
    return close && sscanf(close + 1, " %c %d", ret_state, ret_parent) == 2;
}

bool rail_alive(pid_t pid) {
    char state = '?';
    int parent = 0;
    return look_up(pid, &state, &parent) && state != 'Z' && state != 'X';
}

/* A worker has its own name from its exec on; before, it is still a part of the daemon's start of it. */
static bool is_worker(pid_t pid) {
    char path[64], name[32] = "";
    snprintf(path, sizeof path, "/proc/%d/comm", (int)pid);
    FILE *file = fopen(path, "r");
    if (!file) return false;
    bool read = fgets(name, sizeof name, file) != NULL;
    fclose(file);
    return read && strncmp(name, "espalier-worker", 15) == 0;
}

static bool is_child(pid_t pid, pid_t wanted) {
    char state = '?';
    int parent = 0;
    return look_up(pid, &state, &parent) && state != 'Z' && parent == (int)wanted && is_worker(pid);
}

int rail_workers(const test_daemon *daemon, rail_class class, pid_t *ret_pids, int room) {
    int n = 0;
    DIR *proc = opendir("/proc");
    ck_assert_ptr_nonnull(proc);
    for (struct dirent *entry; n < room && (entry = readdir(proc));) {
        pid_t pid = (pid_t)atoi(entry->d_name);
        if (pid <= 0 || !is_child(pid, daemon->pid)) continue;
        bool batch = getpriority(PRIO_PROCESS, (id_t)pid) >= 10;
        if (batch == (class == RAIL_BATCH)) ret_pids[n++] = pid;
    }
    closedir(proc);
    return n;
}
