/* SPDX-License-Identifier: Apache-2.0
 * The Gumbel ladder against L1 channel pruning, from the same dense network of the pushing task.
 *
 *     bench_sparsify [--transitions 50000] [--epochs 60] [--rung-epochs 60] [--seed 1]
 *
 * One dense network 10-64-64-8 in the robots' frame, then the rungs 64, 36, 24, 15 by each way with the same epochs a rung;
 * the figure is the one-step root mean square error on the validation trajectories. Also how many of a rung's ReLUs are proved never
 * to bend over the data box, and go for nothing. One seed: an order of the ways, not a measurement of their distance. Times
 * are CPU seconds of this thread; run it with OPENBLAS_NUM_THREADS=1. It is a measurement and not a test. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "certify/stable.h"
#include "robots/pushing/data.h"
#include "train/train.h"

enum { NY = ESP_PUSH_NY, NU = ESP_PUSH_NU, NK = 2 * ESP_PUSH_KEYPOINTS, RUNGS = 4 };
static const int ladder[RUNGS] = {64, 36, 24, 15};

static const struct {
    const char *name;
    esp_sparsify_method method;
    double distill_weight;
} ways[] = {{"gumbel", ESP_SPARSIFY_GUMBEL, 0}, {"gumbel, distilled 0.5", ESP_SPARSIFY_GUMBEL, 0.5}, {"channel", ESP_SPARSIFY_CHANNEL, 0}};
enum { WAYS = sizeof ways / sizeof *ways };

static esp_error error;

static void must(esp_code code) {
    if (code == ESP_OK) return;
    fprintf(stderr, "bench_sparsify: %s\n", error.message);
    exit(1);
}

static double cpu_seconds(void) {
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static esp_dataset *push(int transitions, uint64_t seed) {
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

typedef struct outcome {
    esp_box box;
    int n;
    double rmse[RUNGS];
    int stable[RUNGS];
    esp_model *last;
} outcome;

static esp_code on_model(void *user, const esp_train_model *trained, esp_error *reterr) {
    outcome *out = user;
    esp_buf bytes = {0};
    esp_model *resolved = NULL;
    esp_stable stable = {0};
    esp_model_free(out->last);
    out->last = NULL;
    esp_code code = esp_model_encode(trained->model, &bytes, reterr);
    if (!code) code = esp_model_decode(bytes.data, bytes.len, &out->last, reterr);
    if (!code) code = esp_stable_resolve(trained->model, &out->box, &resolved, &stable, reterr);
    if (!code) {
        out->rmse[out->n] = trained->validation_rmse;
        out->stable[out->n++] = stable.linear + stable.zero;
    }
    esp_model_free(resolved);
    esp_buf_done(&bytes);
    return code;
}

static void print_ways(const outcome *out, const double *seconds) {
    printf("| | ");
    for (int i = 0; i < RUNGS; i++) printf("%d | ", ladder[i]);
    printf("CPU s |\n|:--|");
    for (int i = 0; i <= RUNGS; i++) printf("--:|");
    for (int k = 0; k < WAYS; k++) {
        printf("\n| %s | ", ways[k].name);
        for (int i = 0; i < RUNGS; i++) printf("%.4f | ", out[k].rmse[i]);
        printf("%.0f |\n| of these stable over the data box | ", seconds[k]);
        for (int i = 0; i < RUNGS; i++) printf("%d | ", out[k].stable[i]);
        printf("|");
    }
    printf("\n");
}

static void run(int transitions, int epochs, int rung_epochs, uint64_t seed) {
    double lower[NY + NU], upper[NY + NU], seconds[WAYS], begin = cpu_seconds();
    outcome dense = {.box = {NY + NU, lower, upper}}, out[WAYS];
    esp_dataset *data = push(transitions, seed);
    esp_train_opts opts;
    const esp_train_hooks hooks = {.user = &dense, .model = on_model};
    must(esp_dataset_box(data, 1, lower, upper, &error));
    esp_train_opts_init(&opts);
    opts.epochs = epochs;
    opts.rung_epochs = rung_epochs;
    opts.seed = seed;
    opts.frame = frame();
    opts.f_in = NK + NU;
    opts.f_out = NK;
    must(esp_train_run(data, &opts, &hooks, NULL, &error));
    printf("%d transitions, seed %llu; dense 10-64-64-8, %d epochs: %.4f (%.0f s); %d epochs a rung\n\n", transitions, (unsigned long long)seed,
           epochs, dense.rmse[0], cpu_seconds() - begin, rung_epochs);
    opts.start = dense.last;
    opts.n_rungs = RUNGS;
    memcpy(opts.ladder, ladder, sizeof ladder);
    for (int k = 0; k < WAYS; k++) {
        const esp_train_hooks of_way = {.user = &out[k], .model = on_model};
        begin = cpu_seconds();
        out[k] = (outcome){.box = dense.box};
        opts.method = ways[k].method;
        opts.distill_weight = ways[k].distill_weight;
        must(esp_train_run(data, &opts, &of_way, NULL, &error));
        seconds[k] = cpu_seconds() - begin;
        esp_model_free(out[k].last);
    }
    print_ways(out, seconds);
    esp_model_free(dense.last);
    esp_dataset_free(data);
}

int main(int argc, char **argv) {
    static const char *const names[] = {"--transitions", "--epochs", "--rung-epochs", "--seed"};
    long values[] = {50000, 60, 60, 1};
    for (int i = 1; i < argc; i += 2) {
        char *end = NULL;
        int which = 0;
        while (which < 4 && strcmp(argv[i], names[which]) != 0) which++;
        long value = i + 1 < argc ? strtol(argv[i + 1], &end, 10) : 0;
        if (which == 4 || !end || *end || value < 1 || value > 10000000) {
            fprintf(stderr, "usage: bench_sparsify [--transitions N] [--epochs N] [--rung-epochs N] [--seed N]\n");
            return 2;
        }
        values[which] = value;
    }
    run((int)values[0], (int)values[1], (int)values[2], (uint64_t)values[3]);
    return 0;
}
