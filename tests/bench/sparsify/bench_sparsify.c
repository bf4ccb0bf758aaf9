/* SPDX-License-Identifier: Apache-2.0
 * The Gumbel ladder against L1 channel pruning, from the same dense network of the pushing task.
 *
 *     bench_sparsify [--transitions 50000] [--epochs 60] [--rung-epochs 60] [--seed 1] [--proofs 0] [--seeds 3] [--seconds 4]
 *
 * One dense network 10-64-64-8 in the robots' frame, then the rungs 64, 36, 24, 15 by each way with the same epochs a rung;
 * the figure is the one-step root mean square error on the validation trajectories. Also how many of a rung's ReLUs are proved never
 * to bend over the data box, and go for nothing. One seed: an order of the ways, not a measurement of their distance.
 *
 * With --proofs N instead: what training for the planner is worth. From the dense networks of several seeds the ladder goes down with and
 * without `proof_weight`, and each rung proves plans of N pushing instances (bench/instances.h, horizon 5) to 1 % by the tree search, each
 * within so many seconds: error against the time of a proof, and that time at equal error.
 *
 * Times are CPU seconds of this thread; run it with OPENBLAS_NUM_THREADS=1. It is a measurement and not a test. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "bench/instances.h"
#include "certify/stable.h"
#include "robots/pushing/data.h"
#include "train/train.h"

enum { NY = ESP_PUSH_NY, NU = ESP_PUSH_NU, NK = 2 * ESP_PUSH_KEYPOINTS, RUNGS = 4 };
static const int ladder[RUNGS] = {64, 36, 24, 15};

static const struct {
    const char *name;
    esp_sparsify_method method;
    double distill_weight, logit_rate; /* 0: the default */
} ways[] = {{"gumbel", ESP_SPARSIFY_GUMBEL, 0, 0},
            {"gumbel, logit_rate 0.1", ESP_SPARSIFY_GUMBEL, 0, 0.1},
            {"gumbel, logit_rate 0.3", ESP_SPARSIFY_GUMBEL, 0, 0.3},
            {"gumbel, distilled 0.5", ESP_SPARSIFY_GUMBEL, 0.5, 0},
            {"channel", ESP_SPARSIFY_CHANNEL, 0, 0}};
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

static esp_train_opts push_opts(int epochs, int rung_epochs, uint64_t seed) {
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

static void run(int transitions, int epochs, int rung_epochs, uint64_t seed) {
    double lower[NY + NU], upper[NY + NU], seconds[WAYS], begin = cpu_seconds();
    outcome dense = {.box = {NY + NU, lower, upper}}, out[WAYS];
    esp_dataset *data = push(transitions, seed);
    esp_train_opts opts = push_opts(epochs, rung_epochs, seed);
    const double logit_rate = opts.logit_rate;
    const esp_train_hooks hooks = {.user = &dense, .model = on_model};
    must(esp_dataset_box(data, 1, lower, upper, &error));
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
        opts.logit_rate = ways[k].logit_rate > 0 ? ways[k].logit_rate : logit_rate;
        must(esp_train_run(data, &opts, &of_way, NULL, &error));
        seconds[k] = cpu_seconds() - begin;
        esp_model_free(out[k].last);
    }
    print_ways(out, seconds);
    esp_model_free(dense.last);
    esp_dataset_free(data);
}

/* ---- the time of a proof ---- */

enum { CURVE = 4, WEIGHTS = 3, HORIZON = 5 };
static const int curve[CURVE] = {24, 18, 15, 12};
static const double weights[WEIGHTS] = {0, 3e-5, 1e-4};

/* Of one rung, over seeds and instances. */
typedef struct point {
    double rmse; /* sum */
    double log_seconds, log_nodes; /* sums */
    int models, proofs, open; /* open: not proved in time */
} point;

typedef struct curve_run {
    point *points; /* CURVE, of the way in hand */
    int n, proofs;
    double seconds;
} curve_run;

static bool used_up(void *user) {
    return cpu_seconds() >= *(const double *)user;
}

static esp_model *copy_of(const esp_model *model) {
    esp_buf bytes = {0};
    esp_model *copy = NULL;
    must(esp_model_encode(model, &bytes, &error));
    must(esp_model_decode(bytes.data, bytes.len, &copy, &error));
    esp_buf_done(&bytes);
    return copy;
}

static void prove(const esp_model *model, int seed, double seconds, point *p) {
    static const char text[] = "{'horizon':5,'cost':{'stage':[{'on':'y','index':[0,1,2,3,4,5,6,7],'weight':1,'norm':'l1','target':'goal'}]},"
                               "'input':{'lower':[-0.3,-0.3],'upper':[0.3,0.3]},'planner':{'engine':'tree','gap':0.01}}";
    const bench_size size = {.family = BENCH_PUSH, .relus = esp_net_relus(model->net), .horizon = HORIZON};
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

static esp_code on_rung(void *user, const esp_train_model *trained, esp_error *reterr) {
    curve_run *r = user;
    point *p = &r->points[r->n++];
    (void)reterr;
    p->rmse += trained->validation_rmse;
    p->models++;
    for (int i = 1; i <= r->proofs; i++) prove(trained->model, i, r->seconds, p);
    return ESP_OK;
}

static esp_code keep(void *user, const esp_train_model *trained, esp_error *reterr) {
    esp_model **dense = user;
    (void)reterr;
    *dense = copy_of(trained->model);
    return ESP_OK;
}

static double rmse_of(const point *p) {
    return p->rmse / p->models;
}

static double seconds_of(const point *p) {
    return exp(p->log_seconds / p->proofs);
}

static void print_points(point points[WEIGHTS][CURVE]) {
    printf("| proof_weight | ReLUs | RMSE | s | nodes | not proved |\n|--:|--:|--:|--:|--:|--:|\n");
    for (int k = 0; k < WEIGHTS; k++)
        for (int i = 0; i < CURVE; i++) {
            const point *p = &points[k][i];
            printf("| %g | %d | %.4f | %.2f | %.0f | %d of %d |\n", weights[k], curve[i], rmse_of(p), seconds_of(p),
                   exp(p->log_nodes / p->proofs) - 1, p->open, p->proofs);
        }
}

/* Between the rungs on both sides, in the logarithm of time; NaN outside the curve. */
static double seconds_at(const point *points, double rmse) {
    for (int i = 0; i + 1 < CURVE; i++) {
        double a = rmse_of(&points[i]), b = rmse_of(&points[i + 1]), share = (rmse - a) / (b - a);
        if (a < b && share >= 0 && share <= 1) return exp((1 - share) * log(seconds_of(&points[i])) + share * log(seconds_of(&points[i + 1])));
    }
    return (double)NAN;
}

static void print_equal_errors(point points[WEIGHTS][CURVE]) {
    printf("\n| s at RMSE |");
    for (int k = 0; k < WEIGHTS; k++) printf(" weight %g |", weights[k]);
    printf("\n|--:|");
    for (int k = 0; k < WEIGHTS; k++) printf("--:|");
    for (int e = 34; e <= 44; e += 2) {
        printf("\n| %.3f |", 0.001 * e);
        for (int k = 0; k < WEIGHTS; k++) {
            double seconds = seconds_at(points[k], 0.001 * e);
            if (isfinite(seconds))
                printf(" %.2f |", seconds);
            else
                printf(" |");
        }
    }
    printf("\n");
}

static void run_curve(int transitions, int epochs, int rung_epochs, int seeds, int proofs, double seconds) {
    point points[WEIGHTS][CURVE] = {0};
    for (int seed = 1; seed <= seeds; seed++) {
        esp_model *dense = NULL;
        esp_dataset *data = push(transitions, (uint64_t)seed);
        esp_train_opts opts = push_opts(epochs, rung_epochs, (uint64_t)seed);
        const esp_train_hooks hooks = {.user = &dense, .model = keep};
        must(esp_train_run(data, &opts, &hooks, NULL, &error));
        opts.start = dense;
        opts.n_rungs = CURVE;
        memcpy(opts.ladder, curve, sizeof curve);
        for (int k = 0; k < WEIGHTS; k++) {
            curve_run r = {points[k], 0, proofs, seconds};
            const esp_train_hooks rungs = {.user = &r, .model = on_rung};
            opts.proof_weight = weights[k];
            must(esp_train_run(data, &opts, &rungs, NULL, &error));
            fprintf(stderr, "seed %d, weight %g: done after %.0f s\n", seed, weights[k], cpu_seconds());
        }
        esp_model_free(dense);
        esp_dataset_free(data);
    }
    printf("%d transitions, %d seeds, %d epochs a rung; %d instances of horizon %d, %g s each\n\n", transitions, seeds, rung_epochs, proofs, HORIZON,
           seconds);
    print_points(points);
    print_equal_errors(points);
}

int main(int argc, char **argv) {
    static const char *const names[] = {"--transitions", "--epochs", "--rung-epochs", "--seed", "--proofs", "--seeds", "--seconds"};
    enum { OPTIONS = sizeof names / sizeof *names };
    long values[OPTIONS] = {50000, 60, 60, 1, 0, 3, 4};
    for (int i = 1; i < argc; i += 2) {
        char *end = NULL;
        int which = 0;
        while (which < OPTIONS && strcmp(argv[i], names[which]) != 0) which++;
        long value = i + 1 < argc ? strtol(argv[i + 1], &end, 10) : 0;
        if (which == OPTIONS || !end || *end || value < 1 || value > 10000000) {
            fprintf(stderr,
                    "usage: bench_sparsify [--transitions N] [--epochs N] [--rung-epochs N] [--seed N] [--proofs N] [--seeds N] [--seconds N]\n");
            return 2;
        }
        values[which] = value;
    }
    if (values[4])
        run_curve((int)values[0], (int)values[1], (int)values[2], (int)values[5], (int)values[4], (double)values[6]);
    else
        run((int)values[0], (int)values[1], (int)values[2], (uint64_t)values[3]);
    return 0;
}
