/* SPDX-License-Identifier: Apache-2.0
 * The Gumbel ladder against L1 channel pruning, from the same dense network of the pushing task.
 *
 *     bench_sparsify [--transitions 50000] [--epochs 60] [--rung-epochs 60] [--seed 1]
 *
 * One dense network 10-64-64-8 in the robots' frame, then the rungs 64, 36, 24, 15 by each way with the same epochs a rung;
 * the figure is the one-step root mean square error on the validation trajectories. Also how many of a rung's ReLUs are proved never
 * to bend over the data box, and go for nothing. One seed: an order of the ways, not a measurement of their distance.
 *
 * Times are CPU seconds of this thread. It is a measurement and not a test. */
#include <stdio.h>
#include <string.h>

#include "bench/sparsify/pushing.h"
#include "certify/stable.h"
#include "robots/pushing/data.h"

enum { N_X = ESP_PUSH_NY + ESP_PUSH_NU, RUNGS = 4 };
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

typedef struct outcome {
    esp_box box;
    int n;
    double rmse[RUNGS];
    int stable[RUNGS];
    esp_model *last;
} outcome;

static esp_code on_model(void *user, const esp_train_model *trained, esp_error *reterr) {
    outcome *out = user;
    esp_model *resolved = NULL;
    esp_stable stable = {0};
    esp_model_free(out->last);
    out->last = copy_of(trained->model);
    esp_code code = esp_stable_resolve(trained->model, &out->box, &resolved, &stable, reterr);
    if (!code) {
        out->rmse[out->n] = trained->validation_rmse;
        out->stable[out->n++] = stable.linear + stable.zero;
    }
    esp_model_free(resolved);
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
    double lower[N_X], upper[N_X], seconds[WAYS], begin = cpu_seconds();
    outcome dense = {.box = {N_X, lower, upper}}, out[WAYS];
    esp_dataset *data = push_data(transitions, seed);
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

int main(int argc, char **argv) {
    static const char *const names[] = {"--transitions", "--epochs", "--rung-epochs", "--seed"};
    double values[] = {50000, 60, 60, 1};
    if (!read_options(argc, argv, names, 4, values)) return 2;
    run((int)values[0], (int)values[1], (int)values[2], (uint64_t)values[3]);
    return 0;
}
