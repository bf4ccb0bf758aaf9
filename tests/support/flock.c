/* SPDX-License-Identifier: Apache-2.0
 * The flock's world, its data, the options of its networks, and what comes of training them. */
#include "support/flock.h"

#include <check.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/rng.h"

enum { STEPS = 4, NY = FLOCK_NY, NU = FLOCK_NU, OBJECTS = FLOCK_OBJECTS };

static double apart(const double *a, const double *b) {
    return hypot(a[0] - b[0], a[1] - b[1]);
}

/* What an object at `at` does about something at `other`: it goes away, the nearer the faster. */
static void flee(const double *at, const double *other, double reach, double *move) {
    double d = fmax(apart(at, other), 1e-3), push = 0.3 * fmax(0, reach - d) / d;
    move[0] += push * (at[0] - other[0]);
    move[1] += push * (at[1] - other[1]);
}

void flock_step(int n, const double *y, const double *u, double *next) {
    const double *finger = y + 1 + 2 * n;
    next[0] = y[0];
    for (int i = 0; i < n; i++) {
        const double *at = y + 1 + 2 * i;
        double move[2] = {0, 0};
        flee(at, finger, 0.8, move);
        for (int j = 0; j < n; j++)
            if (j != i) flee(at, y + 1 + 2 * j, 0.6, move);
        for (int d = 0; d < 2; d++) next[1 + 2 * i + d] = at[d] + move[d];
    }
    for (int d = 0; d < 2; d++) next[1 + 2 * n + d] = finger[d] + 0.5 * u[d];
}

esp_dataset *flock_drive(size_t n) {
    esp_dataset *data = calloc(1, sizeof *data);
    esp_rng rng;
    esp_rng_init(&rng, 3, 1);
    *data = (esp_dataset){.ny = NY, .nu = NU, .n_trajectories = n, .n_transitions = n * STEPS, .n_rows = n * (STEPS + 1)};
    data->start = malloc((n + 1) * sizeof *data->start);
    data->y = malloc(data->n_rows * NY * sizeof *data->y);
    data->u = calloc(data->n_rows * NU, sizeof *data->u);
    for (size_t i = 0; i <= n; i++) data->start[i] = (STEPS + 1) * i;
    for (size_t r = 0; r < data->n_rows; r++) {
        double *y = data->y + r * NY, *u = data->u + r * NU;
        bool first = r % (STEPS + 1) == 0;
        for (int k = 0; first && k < NY; k++) y[k] = k == 0 ? 0.25 : 5 + esp_rng_range(&rng, -1.1, 1.1);
        if (!first) flock_step(OBJECTS, y - NY, u - NU, y);
        for (int k = 0; r % (STEPS + 1) != STEPS && k < NU; k++) u[k] = esp_rng_range(&rng, -0.6, 0.6);
    }
    return data;
}

esp_train_opts flock_opts(double radius) {
    esp_train_opts opts;
    esp_train_opts_init(&opts);
    esp_graph_layout l = {.objects = OBJECTS, .first = 1, .size = 2, .n_shared = 3, .nu = NU, .n_position = 2, .position = {0, 1}};
    l.n_points = 1;
    l.points[0] = (esp_point){false, {1, 2}};
    l.radius = radius;
    l.rounds = 2;
    opts.graph = (esp_graph_opts){.layout = l, .width = 10, .n_node = 1, .node = {12}, .n_edge = 1, .edge = {9}, .n_output = 1, .output = {8}};
    opts.n_hidden = 0;
    opts.frame.kind = ESP_FRAME_RESIDUAL;
    opts.epochs = 25;
    opts.rung_epochs = 12;
    opts.batch = 64;
    opts.seed = 5;
    return opts;
}

/* ---- runs ---- */

static esp_code receive(void *user, const esp_train_model *trained, esp_error *reterr) {
    flock_run *run = user;
    ck_assert_int_lt(run->n, FLOCK_MODELS);
    esp_buf *bytes = &run->bytes[run->n];
    run->rmse[run->n] = trained->validation_rmse;
    ck_assert_int_eq(trained->relu, (int)esp_model_relus(trained->model));
    esp_code code = esp_model_encode(trained->model, bytes, reterr);
    if (code == ESP_OK) code = esp_model_decode(bytes->data, bytes->len, &run->model[run->n++], reterr);
    return code;
}

static void take(void *user, const esp_buf *bytes, double fraction) {
    flock_run *run = user;
    (void)fraction;
    if (++run->taken == run->wanted) esp_buf_put(&run->kept, bytes->data, bytes->len);
}

void flock_train(const esp_dataset *data, const esp_train_opts *opts, flock_run *ret_run) {
    esp_error error = {0};
    *ret_run = (flock_run){0};
    const esp_train_hooks hooks = {.user = ret_run, .model = receive};
    ck_assert_msg(esp_train_run(data, opts, &hooks, NULL, &error) == ESP_OK, "%s", error.message);
}

esp_code flock_resume(const esp_dataset *data, const esp_train_opts *opts, const esp_buf *from, flock_run *run) {
    const esp_train_hooks hooks = {.user = run, .model = receive};
    const esp_train_checkpoints checkpoints = {.user = run, .resume = from ? from->data : NULL, .resume_len = from ? from->len : 0, .take = take};
    esp_error error = {0};
    return esp_train_resume(data, opts, &hooks, &checkpoints, NULL, &error);
}

void flock_expect_end(const flock_run *a, const flock_run *b) {
    ck_assert_int_ge(a->n, b->n);
    for (int k = 0; k < b->n; k++) {
        const esp_buf *want = &a->bytes[a->n - b->n + k], *got = &b->bytes[k];
        ck_assert_uint_eq(got->len, want->len);
        ck_assert_mem_eq(got->data, want->data, want->len);
    }
}

void flock_run_done(flock_run *run) {
    for (int k = 0; k < run->n; k++) {
        esp_model_free(run->model[k]);
        esp_buf_done(&run->bytes[k]);
    }
    esp_buf_done(&run->kept);
}
