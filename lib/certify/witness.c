/* SPDX-License-Identifier: Apache-2.0
 * Points where |program(x)| is large: sampling and gradient ascent. */
#include "certify/witness.h"

#include <stdlib.h>
#include <string.h>

#include "certify/norms.h"
#include "certify/rounding.h"

esp_code esp_witness_init(esp_witness *witness, const esp_program *program, esp_norm norm, esp_error *reterr) {
    size_t n_x = (size_t)program->n_x, n_y = (size_t)program->n_y, n_r = (size_t)program->n_r;
    double *at = calloc(4 * n_x + 2 * n_y + 2 * n_r + 1, sizeof *at);
    if (!at) return esp_fail(reterr, ESP_NOMEM, "no memory for a search over %d inputs", program->n_x);
    *witness = (esp_witness){.program = program, .norm = norm, .best = -1, .memory = at};
    witness->best_x = at;
    witness->x = witness->best_x + n_x;
    witness->trial = witness->x + n_x;
    witness->dx = witness->trial + n_x;
    witness->y = witness->dx + n_x;
    witness->g = witness->y + n_y;
    witness->p = witness->g + n_y;
    witness->work = witness->p + n_r;
    return ESP_OK;
}

void esp_witness_done(esp_witness *witness) {
    free(witness->memory);
    witness->memory = NULL;
}

static double size_of(const esp_witness *w) {
    double sum = 0, largest = 0;
    for (int i = 0; i < w->program->n_y; i++) {
        sum += w->y[i] * w->y[i];
        largest = esp_max(fabs(w->y[i]), largest);
    }
    double size = w->norm == ESP_NORM_INF ? largest : sqrt(sum);
    return isfinite(size) ? size : 0;
}

double esp_witness_try(esp_witness *w, const double *x) {
    esp_program_forward(w->program, x, w->y, w->p, NULL, w->work);
    double size = size_of(w);
    if (size > w->best) {
        w->best = size;
        memcpy(w->best_x, x, (size_t)w->program->n_x * sizeof *x);
    }
    return size;
}

/* The gradient of |y|, as far as it matters for a direction, at the point last tried. */
static void gradient(esp_witness *w) {
    int largest = 0, n_y = w->program->n_y;
    for (int i = 0; i < n_y; i++) {
        if (fabs(w->y[i]) > fabs(w->y[largest])) largest = i;
        w->g[i] = w->norm == ESP_NORM_INF ? 0 : w->y[i];
    }
    if (w->norm == ESP_NORM_INF) w->g[largest] = w->y[largest] < 0 ? -1 : 1;
    esp_program_backward(w->program, w->p, w->g, w->dx, w->work);
}

void esp_witness_ascend(esp_witness *w, const double *lower, const double *upper, int steps) {
    int n_x = w->program->n_x;
    size_t bytes = (size_t)n_x * sizeof(double);
    for (int step = 0; step < steps; step++) {
        double from = esp_witness_try(w, w->x), reached = from;
        gradient(w);
        /* By the sign, as far as the corner first: the function is piecewise linear, its maxima lie at corners of pieces. */
        for (double reach = 1; reach > 1e-3 && reached <= from; reach *= 0.4) {
            for (int k = 0; k < n_x; k++) {
                double to = w->dx[k] > 0 ? upper[k] : w->dx[k] < 0 ? lower[k] : w->x[k];
                w->trial[k] = esp_min(upper[k], esp_max(lower[k], w->x[k] + reach * (to - w->x[k])));
            }
            reached = esp_witness_try(w, w->trial);
        }
        if (reached <= from * (1 + 1e-9)) return;
        memcpy(w->x, w->trial, bytes);
    }
}

void esp_witness_sample(esp_witness *w, const double *lower, const double *upper, int points, esp_rng *rng, const esp_stop *stop) {
    int n_x = w->program->n_x;
    for (int s = 0; s < points && !esp_stop_now(stop); s++) {
        for (int k = 0; k < n_x; k++) {
            double t = s == 0 ? 0.5 : esp_rng_uniform(rng);
            if (s % 2 == 1) t = t < 0.5 ? 0 : 1;
            w->x[k] = esp_min(upper[k], lower[k] + t * (upper[k] - lower[k]));
        }
        esp_witness_ascend(w, lower, upper, 12);
    }
}

double esp_witness_least(const esp_witness *w, const esp_ranges *ranges) {
    double largest = 0;
    for (int i = 0; i < w->program->n_y; i++) { /* the least |y_i| can be, into g */
        double least = esp_max(0, esp_max(ranges->y_lower[i], -ranges->y_upper[i]));
        w->g[i] = least;
        largest = esp_max(largest, least);
    }
    return w->norm == ESP_NORM_INF ? largest : esp_norm2_down((size_t)w->program->n_y, w->g);
}

double esp_witness_reached(const esp_witness *w, esp_crown *crown, esp_ranges *scratch) {
    if (w->best < 0) return 0;
    esp_ranges_open(scratch);
    esp_crown_box(crown, w->best_x, w->best_x);
    if (!esp_crown_run(crown, ESP_CROWN_INTERVAL, 0, true, scratch)) return 0;
    return esp_witness_least(w, scratch);
}
