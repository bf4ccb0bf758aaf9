/* SPDX-License-Identifier: Apache-2.0
 * Data, options, proofs. */
#include "bench/sparsify/pushing.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "bench/instances.h"
#include "robots/pushing/data.h"

enum { NY = ESP_PUSH_NY, NU = ESP_PUSH_NU, NK = 2 * ESP_PUSH_KEYPOINTS };

esp_error error;

void must(esp_code code) {
    if (code == ESP_OK) return;
    fprintf(stderr, "%s\n", error.message);
    exit(1);
}

double cpu_seconds(void) {
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

esp_dataset *push_data(int transitions, uint64_t seed) {
    char path[] = "/tmp/bench_sparsify.XXXXXX";
    esp_push_data made;
    esp_dataset *data = NULL;
    int fd = mkstemp(path);
    FILE *out = fd >= 0 ? fdopen(fd, "w") : NULL;
    bool written = out && esp_push_generate(out, transitions, seed, &made);
    if (out && fclose(out) != 0) written = false;
    esp_code code = written ? esp_dataset_load(path, ESP_DATA_NDJSON, &data, &error) : esp_fail(&error, ESP_IO, "no data in %s", path);
    unlink(path);
    must(code);
    return data;
}

/* The robots' frame: the network sees where the keypoints are relative to the pusher, and u; keypoints move by f in the world, by
 * f - u relative to the pusher. */
static esp_frame frame(void) {
    static double a[NY * NY], b[NY * NU], c[(NK + NU) * NY], d[(NK + NU) * NU], g[NY * NK];
    for (int i = 0; i < NY; i++) {
        a[i * NY + i] = 1;
        g[i * NK + i % NK] = 1;
        if (i >= NK) b[i * NU + i % 2] = -1;
    }
    for (int i = 0; i < NK; i++) c[i * NY + i + NK] = 1;
    for (int i = 0; i < NU; i++) d[(NK + i) * NU + i] = 1;
    return (esp_frame){ESP_FRAME_LINEAR, a, b, c, d, g};
}

esp_train_opts push_opts(int epochs, int rung_epochs, uint64_t seed) {
    esp_train_opts opts;
    esp_train_opts_init(&opts);
    opts.epochs = epochs;
    opts.rung_epochs = rung_epochs;
    opts.seed = seed;
    opts.frame = frame();
    opts.f_in = NK + NU;
    opts.f_out = NK;
    return opts;
}

esp_model *copy_of(const esp_model *model) {
    esp_buf bytes = {0};
    esp_model *copy = NULL;
    must(esp_model_encode(model, &bytes, &error));
    must(esp_model_decode(bytes.data, bytes.len, &copy, &error));
    esp_buf_done(&bytes);
    return copy;
}

static esp_code keep(void *user, const esp_train_model *trained, esp_error *reterr) {
    esp_model **dense = user;
    (void)reterr;
    *dense = copy_of(trained->model);
    return ESP_OK;
}

esp_model *push_dense(const esp_dataset *data, const esp_train_opts *opts) {
    esp_model *dense = NULL;
    const esp_train_hooks hooks = {.user = &dense, .model = keep};
    must(esp_train_run(data, opts, &hooks, NULL, &error));
    return dense;
}

/* ---- proofs ---------------------------------------------------------------------------------------------------------- */

static bool used_up(void *user) {
    return cpu_seconds() >= *(const double *)user;
}

static void prove_one(const esp_model *model, int seed, double seconds, point *p) {
    static const char text[] = "{'horizon':5,'cost':{'stage':[{'on':'y','index':[0,1,2,3,4,5,6,7],'weight':1,'norm':'l1','target':'goal'}]},"
                               "'input':{'lower':[-0.3,-0.3],'upper':[0.3,0.3]},'planner':{'engine':'tree','gap':0.01}}";
    const bench_size size = {.family = BENCH_PUSH, .relus = esp_net_relus(model->net), .horizon = PROOF_HORIZON};
    const bench_instance instance = bench_instance_of(&size, 1, seed);
    plan_case c = case_of(copy_of(model), text);
    const esp_plan_request request = bench_request(&instance);
    esp_plan_result result;
    double begin = cpu_seconds(), until = begin + seconds;
    const esp_stop stop = {ESP_NEVER, used_up, &until};
    must(esp_plan_run(c.planner, c.task, &request, NULL, &stop, &result, &error));
    p->log_seconds += log(cpu_seconds() - begin);
    p->log_nodes += log((double)result.nodes + 1);
    p->open += !(result.gap <= 0.01 * (1 + 1e-6));
    p->proofs++;
    esp_plan_result_done(&result);
    case_done(&c);
}

void prove(const esp_model *model, int n, double seconds, point *p) {
    p->models++;
    p->nonzero += (double)esp_model_nonzero(model);
    for (int i = 1; i <= n; i++) prove_one(model, i, seconds, p);
}

double point_rmse(const point *p) {
    return p->rmse / p->models;
}

double point_seconds(const point *p) {
    return exp(p->log_seconds / p->proofs);
}

double point_nodes(const point *p) {
    return exp(p->log_nodes / p->proofs) - 1;
}

bool read_options(int argc, char **argv, const char *const *names, int n, double *values) {
    for (int i = 1; i < argc; i += 2) {
        char *end = NULL;
        int which = 0;
        while (which < n && strcmp(argv[i], names[which]) != 0) which++;
        double value = i + 1 < argc ? strtod(argv[i + 1], &end) : 0;
        if (which == n || !end || *end || !(value >= 0 && value <= 1e7)) {
            fprintf(stderr, "options:");
            for (int k = 0; k < n; k++) fprintf(stderr, " [%s %g]", names[k], values[k]);
            fprintf(stderr, "\n");
            return false;
        }
        values[which] = value;
    }
    return true;
}
