/* SPDX-License-Identifier: Apache-2.0
 * A policy of 4-64-64-2, asked for single rows and states by many connections, and by one; by a daemon that lets requests go to a worker
 * together, and by one that does not. */
#include "parts.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/json.h"
#include "base/rng.h"
#include "load.h"
#include "support/wire.h"

enum { N_X = 4, BODIES = 256 };

static void put_layer(esp_jsonw *w, esp_rng *rng, size_t n_out, size_t n_in, const char *activation) {
    double *numbers = malloc((n_out + 1) * n_in * sizeof *numbers);
    if (!numbers) exit(1);
    for (size_t i = 0; i < (n_out + 1) * n_in; i++) numbers[i] = esp_rng_normal(rng) / 8;
    esp_jsonw_object(w, NULL);
    esp_jsonw_matrix(w, "w", numbers, n_out, n_in);
    esp_jsonw_array(w, "b");
    for (size_t i = 0; i < n_out; i++) esp_jsonw_number(w, NULL, 0.1 * numbers[i]);
    esp_jsonw_array_end(w);
    esp_jsonw_string(w, "activation", activation);
    esp_jsonw_object_end(w);
    free(numbers);
}

static void upload(const test_daemon *d, const char *name, uint64_t seed) {
    char path[100], reply[4096];
    const char *said = "nobody there";
    esp_buf text = {0};
    esp_jsonw w = esp_jsonw_on(&text);
    esp_rng rng;
    esp_rng_init(&rng, seed, 0);
    esp_jsonw_object(&w, NULL);
    esp_jsonw_array(&w, "layers");
    put_layer(&w, &rng, 64, N_X, "relu");
    put_layer(&w, &rng, 64, 64, "relu");
    put_layer(&w, &rng, 2, 64, "identity");
    esp_jsonw_array_end(&w);
    esp_jsonw_object_end(&w);
    snprintf(path, sizeof path, "/v1/models?name=%s&kind=policy", name);
    int fd = wire_dial(d->port);
    if (wire_call(fd, &(wire_request){"POST", path, "Content-Type: application/json\r\n", text.data, text.len}, reply, sizeof reply, &said) != 201) {
        printf("%s\n", said);
        exit(1);
    }
    close(fd);
    esp_buf_done(&text);
}

/* Every body has a point of its own. `format` has one %s for it. */
static void run(const test_daemon *d, const char *what, const char *path, const char *format, int connections, double seconds) {
    char *bodies[BODIES];
    esp_rng rng;
    esp_rng_init(&rng, 3, 0);
    for (int i = 0; i < BODIES; i++) {
        char point[200], body[400];
        double x[N_X];
        for (int k = 0; k < N_X; k++) x[k] = esp_rng_normal(&rng);
        snprintf(point, sizeof point, "[[%.6g,%.6g,%.6g,%.6g]]", x[0], x[1], x[2], x[3]);
        snprintf(body, sizeof body, format, point);
        if (!(bodies[i] = strdup(body))) exit(1);
    }
    load_result r = load_run(&(load_options){.port = d->port,
                                             .pid = d->pid,
                                             .paths = {path},
                                             .bodies = (const char *const *)bodies,
                                             .n_bodies = BODIES,
                                             .connections = connections,
                                             .seconds = seconds});
    printf(
        "%-24s %4d connections %8.0f/s  p50 %7.3f ms  p99 %7.3f ms  max %8.3f ms  daemon %6.1f us, workers %5.1f us, client %5.1f us of processor a "
        "reply%s\n",
        what, connections, r.per_second, r.p50_ms, r.p99_ms, r.max_ms, r.daemon_cpu_us, r.workers_cpu_us, r.client_cpu_us,
        r.others ? "  NOT ALL 200" : "");
    fflush(stdout);
    for (int i = 0; i < BODIES; i++) free(bodies[i]);
}

static void run_all(const char *gather, int connections, double seconds) {
    static test_daemon d;
    const char *const options[] = {"--log-level", "1", "--gather", gather, NULL};
    d = (test_daemon){0};
    daemon_start(&d, options);
    upload(&d, "policy", 1);
    upload(&d, "candidate", 2);
    printf("at most %s together\n", gather);
    const int counts[] = {1, connections};
    for (int i = 0; i < 2; i++) {
        run(&d, "predict", "/v1/models/policy/predict", "{\"x\":%s}", counts[i], seconds);
        run(&d, "query", "/v1/bounds/query", "{\"model\":\"policy\",\"states\":%s}", counts[i], seconds);
        run(&d, "query, threshold", "/v1/bounds/query", "{\"model\":\"policy\",\"states\":%s,\"error_threshold\":0.1}", counts[i], seconds);
        run(&d, "query, candidate", "/v1/bounds/query", "{\"model\":\"policy\",\"candidate\":\"candidate\",\"states\":%s}", counts[i], seconds);
    }
    if (daemon_finish(&d, 0)) exit(1);
}

void asks_a_second(int connections, double seconds) {
    printf("a policy of 4-64-64-2, one row or state a request\n");
    run_all("64", connections, seconds);
    run_all("1", connections, seconds);
}
