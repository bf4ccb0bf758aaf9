/* SPDX-License-Identifier: Apache-2.0
 * Random models and their oracle. */
#include "support/models.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

seed_range seeds(uint64_t n) {
    const char *one = getenv("ESP_SEED"), *times = getenv("ESP_TIMES");
    if (!one) return (seed_range){1, n * (times ? strtoull(times, NULL, 10) : 1)};
    uint64_t seed = strtoull(one, NULL, 10);
    return (seed_range){seed, seed};
}

static void must(esp_code code, const esp_error *error) {
    if (code == ESP_OK) return;
    fprintf(stderr, "random model: %s\n", error->message);
    abort();
}

static int between(esp_rng *rng, int least, int most) {
    return least + (int)esp_rng_below(rng, (size_t)(most - least + 1));
}

static void fill(esp_rng *rng, double *values, size_t n, double scale) {
    for (size_t i = 0; i < n; i++) values[i] = esp_rng_uniform(rng) < 0.15 ? 0 : scale * esp_rng_normal(rng);
}

esp_net *random_net(esp_rng *rng, int n_layers, const int *widths, int act) {
    esp_error error = {0};
    esp_net *net = NULL;
    must(esp_net_create(n_layers, widths, &net, &error), &error);
    for (int l = 0; l < n_layers; l++) {
        esp_layer *layer = &net->layers[l];
        fill(rng, layer->w, (size_t)layer->n_out * (size_t)layer->n_in, 1 / sqrt(layer->n_in));
        fill(rng, layer->b, (size_t)layer->n_out, 0.3);
        if (l == n_layers - 1 && esp_rng_uniform(rng) < 0.8) break; /* mostly identity outputs */
        for (int i = 0; i < layer->n_out; i++) layer->act[i] = (uint8_t)(act >= 0 ? act : between(rng, 0, 2));
    }
    return net;
}

static esp_net *net_between(esp_rng *rng, int n_in, int n_out) {
    int n_layers = between(rng, 1, 4), widths[5] = {n_in};
    for (int l = 1; l < n_layers; l++) widths[l] = between(rng, 1, 8);
    widths[n_layers] = n_out;
    return random_net(rng, n_layers, widths, -1);
}

static double *random_matrix(esp_rng *rng, int rows, int cols) {
    double *values = calloc((size_t)rows * (size_t)cols + 1, sizeof *values);
    if (!values) abort();
    fill(rng, values, (size_t)rows * (size_t)cols, cols ? 1 / sqrt(cols) : 0);
    return values;
}

esp_model *random_dynamics(esp_rng *rng, int ny, int nu, int history) {
    esp_error error = {0};
    esp_model *model = NULL;
    esp_frame frame = {.kind = (esp_frame_kind)between(rng, 0, 2)};
    int n_yh = history * ny, n_uh = history * nu, f_in = n_yh + n_uh, f_out = ny;
    if (frame.kind == ESP_FRAME_LINEAR) {
        f_in = between(rng, 1, 6);
        f_out = between(rng, 1, 5);
        frame.a = random_matrix(rng, ny, n_yh);
        frame.b = random_matrix(rng, ny, n_uh);
        frame.c = random_matrix(rng, f_in, n_yh);
        frame.d = random_matrix(rng, f_in, n_uh);
        frame.g = random_matrix(rng, ny, f_out);
    }
    must(esp_model_create(ESP_MODEL_DYNAMICS, ny, nu, history, &frame, net_between(rng, f_in, f_out), &model, &error), &error);
    free(frame.a);
    free(frame.b);
    free(frame.c);
    free(frame.d);
    free(frame.g);
    return model;
}

esp_model *random_model(esp_rng *rng) {
    if (esp_rng_uniform(rng) < 0.8) return random_dynamics(rng, between(rng, 1, 5), between(rng, 0, 3), between(rng, 1, 3));
    esp_error error = {0};
    esp_model *model = NULL;
    int ny = between(rng, 1, 5), nu = between(rng, 1, 3);
    must(esp_model_create(ESP_MODEL_POLICY, ny, nu, 1, NULL, net_between(rng, ny, nu), &model, &error), &error);
    return model;
}

/* ret (m) = M (m x n) v + ret */
static void add(int m, int n, const double *matrix, const long double *v, long double *ret) {
    for (int i = 0; i < m; i++)
        for (int j = 0; j < n; j++) ret[i] += (long double)matrix[i * n + j] * v[j];
}

static void oracle_net(const esp_net *net, long double *v, double **p) {
    for (int l = 0; l < net->n_layers; l++) {
        const esp_layer *layer = &net->layers[l];
        long double out[ESP_MAX_WIDTH];
        for (int i = 0; i < layer->n_out; i++) out[i] = layer->b[i];
        add(layer->n_out, layer->n_in, layer->w, v, out);
        for (int i = 0; i < layer->n_out; i++) {
            if (layer->act[i] == ESP_ACT_RELU && *p) *(*p)++ = (double)out[i];
            if (layer->act[i] == ESP_ACT_ZERO || (layer->act[i] == ESP_ACT_RELU && out[i] < 0)) out[i] = 0;
        }
        memcpy(v, out, (size_t)layer->n_out * sizeof *v);
    }
}

void oracle_step(const esp_model *model, const double *x, double *y, double *p) {
    static long double in[ESP_MAX_WIDTH], v[ESP_MAX_WIDTH], out[ESP_MAX_WIDTH];
    const esp_frame *frame = &model->frame;
    int ny = model->ny, n_x = esp_model_n_x(model), n_yh = model->history * ny, n_uh = n_x - n_yh, n_y = esp_model_n_y(model);
    int f_in = esp_net_inputs(model->net), f_out = esp_net_outputs(model->net);
    memset(v, 0, sizeof v);
    memset(out, 0, sizeof out);
    for (int j = 0; j < n_x; j++) in[j] = x[j];
    if (frame->kind == ESP_FRAME_LINEAR) {
        add(f_in, n_yh, frame->c, in, v);
        add(f_in, n_uh, frame->d, in + n_yh, v);
        add(ny, n_yh, frame->a, in, out);
        add(ny, n_uh, frame->b, in + n_yh, out);
    } else {
        memcpy(v, in, (size_t)n_x * sizeof *v);
        if (frame->kind == ESP_FRAME_RESIDUAL) memcpy(out, in + n_yh - ny, (size_t)ny * sizeof *out);
    }
    oracle_net(model->net, v, &p);
    if (frame->kind == ESP_FRAME_LINEAR)
        add(ny, f_out, frame->g, v, out);
    else
        for (int i = 0; i < n_y; i++) out[i] += v[i];
    for (int i = 0; i < n_y; i++) y[i] = (double)out[i];
}
