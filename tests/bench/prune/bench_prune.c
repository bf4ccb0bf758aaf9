/* SPDX-License-Identifier: Apache-2.0
 * What the pruning methods cost and what they keep.
 *
 *     bench_prune [--fast]
 *
 * First the time of each method on one layer of 512 x 512 with 10,000 calibration inputs, half of the weights taken. Then, for
 * three networks, the error on inputs that calibration has not seen, against sparsity. The error is the root mean square of the
 * difference to the network, over the standard deviation of the network's outputs: 1 is as bad as a constant. Times are
 * CPU seconds of this thread; run it with OPENBLAS_NUM_THREADS=1. It is a measurement and not a test. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/rng.h"
#include "net/model.h"
#include "sparsify/prune.h"
#include "support/models.h"
#include "train/regress.h"
#include "train/train.h"

#define PI 3.14159265358979323846
enum { HELD_OUT = 4000, STEPS = 30, TRAJECTORIES = 300 };

static esp_error error;

static void must(esp_code code) {
    if (code == ESP_OK) return;
    fprintf(stderr, "bench_prune: %s\n", error.message);
    exit(1);
}

static double *room(size_t n) {
    double *values = calloc(n, sizeof *values);
    if (!values) exit(1);
    return values;
}

static double cpu_seconds(void) {
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* ---- time ---- */

static void time_layer(const char *name, esp_prune_opts opts, int width, size_t n) {
    const int widths[] = {width, width};
    esp_rng rng;
    esp_rng_init(&rng, 1, 1);
    esp_net *net = random_net(&rng, 1, widths, ESP_ACT_IDENTITY), *pruned = NULL;
    double *inputs = room(n * (size_t)width);
    for (size_t i = 0; i < n * (size_t)width; i++) inputs[i] = esp_rng_normal(&rng);
    double start = cpu_seconds();
    must(esp_prune_run(net, n, inputs, &opts, NULL, &pruned, &error));
    printf("| %s | %d x %d | %zu | %.2f |\n", name, width, width, n, cpu_seconds() - start);
    fflush(stdout);
    esp_net_free(pruned);
    esp_net_free(net);
    free(inputs);
}

static void time_all(void) {
    esp_prune_opts opts = ESP_PRUNE_OPTS_INIT;
    opts.sparsity = 0.5;
    printf("| method | layer | inputs | CPU s |\n|:--|:--|--:|--:|\n");
    for (int m = 0; m < ESP_PRUNE_METHODS; m++) {
        opts.method = (esp_prune_method)m;
        opts.objective = m == ESP_PRUNE_OBS ? ESP_PRUNE_OF_LAYER : ESP_PRUNE_OF_OUTPUT;
        time_layer(m == ESP_PRUNE_OBS ? "obs of the layer" : esp_prune_method_names[m], opts, 512, 10000);
    }
    opts.objective = ESP_PRUNE_OF_LAYER;
    time_layer("sparsegpt of the layer", opts, 512, 10000);
    opts.group = 4;
    time_layer("sparsegpt of the layer, 2:4", opts, 512, 10000);
}

/* ---- networks and their inputs ---- */

typedef struct subject {
    const char *name;
    esp_net *net;
    size_t n; /* calibration inputs; the held-out ones follow them */
    double *inputs; /* (n + HELD_OUT) x n_in */
} subject;

static subject random_policy(size_t n) {
    const int widths[] = {6, 64, 64, 2};
    esp_rng rng;
    esp_rng_init(&rng, 1, 2);
    subject s = {"a policy 6-64-64-2 with random weights", random_net(&rng, 3, widths, ESP_ACT_RELU), n, room((n + HELD_OUT) * 6)};
    for (size_t i = 0; i < (n + HELD_OUT) * 6; i++) s.inputs[i] = esp_rng_normal(&rng);
    return s;
}

/* The pushing model: box and pusher anywhere near each other, pushes of up to 0.3. */
static subject pushing(size_t n) {
    esp_model *model = NULL;
    esp_rng rng;
    esp_rng_init(&rng, 1, 3);
    must(esp_model_load("tests/bench/models/push36-1.espm", &model, &error));
    int n_in = esp_net_inputs(model->net);
    subject s = {.name = "pushing, 36 ReLUs (models/push36-1.espm)", .n = n, .inputs = room((n + HELD_OUT) * (size_t)n_in)};
    for (size_t i = 0; i < n + HELD_OUT; i++) {
        double x[18], angle = esp_rng_range(&rng, 0, 2 * PI), side = esp_rng_range(&rng, 0, 2 * PI), away = esp_rng_range(&rng, 0.3, 0.7);
        double box[2] = {esp_rng_range(&rng, 1, 4), esp_rng_range(&rng, 1, 4)};
        for (int k = 0; k < 4; k++) {
            double corner = angle + PI * (-0.75 + 0.5 * k), radius = 0.25 * sqrt(2);
            x[2 * k] = box[0] + radius * cos(corner);
            x[2 * k + 1] = box[1] + radius * sin(corner);
            x[8 + 2 * k] = x[2 * k] - box[0] - away * cos(side);
            x[9 + 2 * k] = x[2 * k + 1] - box[1] - away * sin(side);
        }
        x[16] = esp_rng_range(&rng, -0.3, 0.3);
        x[17] = esp_rng_range(&rng, -0.3, 0.3);
        esp_frame_input(&model->frame, model->ny, model->nu, model->history, n_in, x, s.inputs + i * (size_t)n_in);
    }
    must(esp_net_copy(model->net, &s.net, &error));
    esp_model_free(model);
    return s;
}

/* A pendulum with dry friction, pushed at random: y = angle, speed. */
static esp_dataset *swing(void) {
    esp_dataset *data = calloc(1, sizeof *data);
    size_t rows = TRAJECTORIES * (STEPS + 1);
    esp_rng rng;
    esp_rng_init(&rng, 1, 4);
    if (!data) exit(1);
    *data = (esp_dataset){.ny = 2, .nu = 1, .n_trajectories = TRAJECTORIES, .n_transitions = TRAJECTORIES * STEPS, .n_rows = rows};
    data->start = calloc(TRAJECTORIES + 1, sizeof *data->start);
    data->y = room(rows * 2);
    data->u = room(rows);
    if (!data->start) exit(1);
    for (size_t i = 0, row = 0; i < TRAJECTORIES; i++) {
        double angle = esp_rng_range(&rng, -PI, PI), speed = esp_rng_range(&rng, -2, 2);
        data->start[i] = row;
        for (int t = 0; t <= STEPS; t++, row++) {
            data->y[2 * row] = angle;
            data->y[2 * row + 1] = speed;
            if (t == STEPS) continue;
            data->u[row] = esp_rng_range(&rng, -4, 4);
            angle += 0.05 * speed;
            speed += 0.05 * (data->u[row] - 9.8 * sin(angle) - (speed > 0 ? 0.5 : -0.5));
        }
        data->start[i + 1] = row;
    }
    return data;
}

static void on_progress(void *user, const esp_train_progress *progress) {
    (void)user;
    (void)progress;
}

static esp_code on_model(void *user, const esp_train_model *model, esp_error *reterr) {
    return esp_net_copy(model->model->net, user, reterr);
}

static subject pendulum(size_t n) {
    esp_train_opts opts;
    esp_train_opts_init(&opts);
    opts.epochs = 200;
    opts.frame.kind = ESP_FRAME_RESIDUAL;
    subject s = {.name = "a pendulum, 3-64-64-2, trained here", .n = n, .inputs = room((n + HELD_OUT) * 3)};
    const esp_train_hooks hooks = {.user = &s.net, .progress = on_progress, .model = on_model};
    esp_dataset *data = swing();
    esp_rng rng;
    esp_rng_init(&rng, 1, 5);
    must(esp_train_run(data, &opts, &hooks, NULL, &error));
    for (size_t i = 0; i < n + HELD_OUT; i++) {
        size_t row = esp_rng_below(&rng, data->n_rows);
        memcpy(s.inputs + 3 * i, data->y + 2 * row, 2 * sizeof *s.inputs);
        s.inputs[3 * i + 2] = esp_rng_range(&rng, -4, 4);
    }
    esp_dataset_free(data);
    return s;
}

/* ---- the curve ---- */

static double deviation(size_t n, size_t cols, const double *y) {
    double sum = 0;
    for (size_t j = 0; j < cols; j++) {
        double mean = 0;
        for (size_t i = 0; i < n; i++) mean += y[i * cols + j] / (double)n;
        for (size_t i = 0; i < n; i++) sum += (y[i * cols + j] - mean) * (y[i * cols + j] - mean);
    }
    return sqrt(sum / (double)n);
}

/* What is left, trained on towards the network's own outputs at the calibration inputs, as `fine_tune` of a prune job. */
static esp_net *tune(const subject *s, esp_net *pruned) {
    double *y = room(s->n * (size_t)esp_net_outputs(s->net)), loss;
    const esp_pairs pairs = {s->n, s->inputs, y};
    esp_regress_opts opts = ESP_REGRESS_OPTS_INIT;
    esp_regress *r = NULL;
    esp_net *tuned = NULL;
    opts.learning_rate = 0.002;
    must(esp_prune_outputs(s->net, s->n, s->inputs, y, &error));
    must(esp_regress_start(pruned, &pairs, &opts, &r, &error));
    must(esp_regress_run(r, &pairs, NULL, NULL, NULL, &loss, &error));
    must(esp_regress_net(r, &tuned, &error));
    esp_regress_free(r);
    esp_net_free(pruned);
    free(y);
    return tuned;
}

/* What one choice of options leaves on the held-out inputs; NaN when it is not to be had. */
static double held_out_error(const subject *s, const esp_prune_opts *opts, bool tuned) {
    size_t n_out = (size_t)esp_net_outputs(s->net), n_in = (size_t)esp_net_inputs(s->net);
    const double *inputs = s->inputs + s->n * n_in;
    esp_net *pruned = NULL;
    if (esp_prune_run(s->net, s->n, s->inputs, opts, NULL, &pruned, &error)) return NAN;
    if (tuned) pruned = tune(s, pruned);
    double *y = room(HELD_OUT * n_out), *y2 = room(HELD_OUT * n_out), sum = 0;
    must(esp_prune_outputs(s->net, HELD_OUT, inputs, y, &error));
    must(esp_prune_outputs(pruned, HELD_OUT, inputs, y2, &error));
    for (size_t i = 0; i < HELD_OUT * n_out; i++) sum += (y[i] - y2[i]) * (y[i] - y2[i]);
    sum = sqrt(sum / HELD_OUT) / deviation(HELD_OUT, n_out, y);
    free(y);
    free(y2);
    esp_net_free(pruned);
    return sum;
}

static const struct {
    const char *name;
    esp_prune_method method;
    esp_prune_scope scope;
    esp_prune_objective objective;
    bool tuned;
} columns[] = {
    {"magnitude", ESP_PRUNE_MAGNITUDE, ESP_PRUNE_LAYER, ESP_PRUNE_OF_OUTPUT, false},
    {"OBD", ESP_PRUNE_OBD, ESP_PRUNE_LAYER, ESP_PRUNE_OF_OUTPUT, false},
    {"OBS of the layer", ESP_PRUNE_OBS, ESP_PRUNE_LAYER, ESP_PRUNE_OF_LAYER, false},
    {"SparseGPT of the layer", ESP_PRUNE_SPARSEGPT, ESP_PRUNE_LAYER, ESP_PRUNE_OF_LAYER, false},
    {"OBS", ESP_PRUNE_OBS, ESP_PRUNE_LAYER, ESP_PRUNE_OF_OUTPUT, false},
    {"SparseGPT", ESP_PRUNE_SPARSEGPT, ESP_PRUNE_LAYER, ESP_PRUNE_OF_OUTPUT, false},
    {"magnitude, network", ESP_PRUNE_MAGNITUDE, ESP_PRUNE_NETWORK, ESP_PRUNE_OF_OUTPUT, false},
    {"OBD, network", ESP_PRUNE_OBD, ESP_PRUNE_NETWORK, ESP_PRUNE_OF_OUTPUT, false},
    {"OBS, network", ESP_PRUNE_OBS, ESP_PRUNE_NETWORK, ESP_PRUNE_OF_OUTPUT, false},
    {"SparseGPT, network", ESP_PRUNE_SPARSEGPT, ESP_PRUNE_NETWORK, ESP_PRUNE_OF_OUTPUT, false},
    {"magnitude, tuned", ESP_PRUNE_MAGNITUDE, ESP_PRUNE_LAYER, ESP_PRUNE_OF_OUTPUT, true},
    {"SparseGPT, tuned", ESP_PRUNE_SPARSEGPT, ESP_PRUNE_LAYER, ESP_PRUNE_OF_OUTPUT, true},
    {"SparseGPT, network, tuned", ESP_PRUNE_SPARSEGPT, ESP_PRUNE_NETWORK, ESP_PRUNE_OF_OUTPUT, true},
};
enum { COLUMNS = sizeof columns / sizeof *columns };

static bool fast; /* without OBS over the network */

/* OBS over a whole network takes half a minute for some thousand parameters: every other row must do. */
static void put_row(const subject *s, const char *label, esp_prune_opts opts) {
    int percent = (int)lround(100 * opts.sparsity);
    printf("| %s |", label);
    for (int c = 0; c < COLUMNS; c++) {
        opts.method = columns[c].method;
        opts.scope = columns[c].scope;
        opts.objective = columns[c].objective;
        bool slow = opts.method == ESP_PRUNE_OBS && opts.scope == ESP_PRUNE_NETWORK;
        double e = slow && (fast || percent % 20 == 0) ? NAN : held_out_error(s, &opts, columns[c].tuned);
        printf(isnan(e) ? " - |" : " %.4f |", e);
        fflush(stdout);
    }
    printf("\n");
}

static void put_head(void) {
    printf("| sparsity |");
    for (int c = 0; c < COLUMNS; c++) printf(" %s |", columns[c].name);
    printf("\n|:--|");
    for (int c = 0; c < COLUMNS; c++) printf("--:|");
    printf("\n");
}

static void curve(subject s) {
    char label[16];
    esp_prune_opts opts = ESP_PRUNE_OPTS_INIT;
    printf("\n%s, %zu calibration inputs\n\n", s.name, s.n);
    put_head();
    for (int percent = 10; percent <= 90; percent += 10) {
        opts.sparsity = 0.01 * percent;
        snprintf(label, sizeof label, "%d %%", percent);
        put_row(&s, label, opts);
    }
    opts.group = 4;
    put_row(&s, "2:4", opts);
    esp_net_free(s.net);
    free(s.inputs);
}

int main(int argc, char **argv) {
    const size_t n = 2000;
    fast = argc == 2 && strcmp(argv[1], "--fast") == 0;
    if (argc > 1 && !fast) {
        fprintf(stderr, "usage: bench_prune [--fast]\n");
        return 2;
    }
    time_all();
    curve(pendulum(n));
    curve(random_policy(n));
    curve(pushing(n));
    return 0;
}
