/* SPDX-License-Identifier: Apache-2.0
 * The relaxation gap and its gradient, by hand. */
#include "train/gap.h"

#include <math.h>
#include <string.h>

#define LEAST_REACH 1e-6f /* of p: a ReLU without weights has no height and no quotient by 0 */

/* Scratch by ReLU. */
typedef struct scratch {
    float *p, *r, *dp, *dr; /* of one point */
    float *reach, *weight; /* e and w */
    float *heights; /* mean of h_i */
    float *d_reach, *d_weight;
} scratch;

size_t esp_gap_floats(size_t n_x, size_t n_r, size_t n_y) {
    return n_r * n_x + n_r * n_r + n_r + n_y * n_r;
}

esp_gap_program esp_gap_program_at(size_t n_x, size_t n_r, size_t n_y, float *memory) {
    esp_gap_program program = {.n_x = n_x, .n_r = n_r, .n_y = n_y, .c = memory};
    program.d = program.c + n_r * n_x;
    program.d0 = program.d + n_r * n_r;
    program.b = program.d0 + n_r;
    return program;
}

size_t esp_gap_work(size_t n_r) {
    return 9 * n_r;
}

static scratch lay_out(size_t n, float *work) {
    return (scratch){work, work + n, work + 2 * n, work + 3 * n, work + 4 * n, work + 5 * n, work + 6 * n, work + 7 * n, work + 8 * n};
}

static float sign(float a) {
    return (float)((a > 0) - (a < 0));
}

/* e forwards, w backwards. */
static void measure(const esp_gap_program *q, const float *reach, scratch *s) {
    size_t n = q->n_r;
    for (size_t i = 0; i < n; i++) {
        float e = LEAST_REACH;
        for (size_t j = 0; j < q->n_x; j++) e += fabsf(q->c[i * q->n_x + j]) * reach[j];
        for (size_t k = 0; k < i; k++) e += fabsf(q->d[i * n + k]) * s->reach[k];
        s->reach[i] = e;
    }
    for (size_t i = n; i-- > 0;) {
        float w = 0;
        for (size_t k = 0; k < q->n_y; k++) w += fabsf(q->b[k * n + i]);
        for (size_t k = i + 1; k < n; k++) w += fabsf(q->d[k * n + i]) * s->weight[k];
        s->weight[i] = w;
    }
}

void esp_gap_forward(const esp_gap_program *q, const float *x, float *ret_p, float *ret_r) {
    for (size_t i = 0; i < q->n_r; i++) {
        float p = q->d0[i];
        for (size_t j = 0; j < q->n_x; j++) p += q->c[i * q->n_x + j] * x[j];
        for (size_t k = 0; k < i; k++) p += q->d[i * q->n_r + k] * ret_r[k];
        ret_p[i] = p;
        ret_r[i] = p > 0 ? p : 0;
    }
}

/* One point's share of the heights and of the gradient that comes through p. */
static void add_point(const esp_gap_program *q, const float *x, float share, float weight, scratch *s, esp_gap_program *grads) {
    size_t n = q->n_r;
    esp_gap_forward(q, x, s->p, s->r);
    memset(s->dr, 0, n * sizeof *s->dr);
    for (size_t i = n; i-- > 0;) {
        float p = s->p[i], e = s->reach[i], dp = p > 0 ? s->dr[i] : 0;
        if (fabsf(p) < e) {
            s->heights[i] += share * (e * e - p * p) / (2 * e);
            s->d_reach[i] += share * weight * s->weight[i] * (0.5f + p * p / (2 * e * e));
            dp -= share * weight * s->weight[i] * p / e;
        }
        grads->d0[i] += dp;
        for (size_t j = 0; j < q->n_x; j++) grads->c[i * q->n_x + j] += dp * x[j];
        for (size_t k = 0; k < i; k++) {
            grads->d[i * n + k] += dp * s->r[k];
            s->dr[k] += dp * q->d[i * n + k];
        }
    }
}

/* What comes through e, on the way back, and through w, on the way forth. */
static void add_ranges(const esp_gap_program *q, const float *reach, float weight, scratch *s, esp_gap_program *grads) {
    size_t n = q->n_r;
    for (size_t i = n; i-- > 0;) {
        for (size_t j = 0; j < q->n_x; j++) grads->c[i * q->n_x + j] += s->d_reach[i] * sign(q->c[i * q->n_x + j]) * reach[j];
        for (size_t k = 0; k < i; k++) {
            grads->d[i * n + k] += s->d_reach[i] * sign(q->d[i * n + k]) * s->reach[k];
            s->d_reach[k] += s->d_reach[i] * fabsf(q->d[i * n + k]);
        }
    }
    for (size_t i = 0; i < n; i++) {
        s->d_weight[i] += weight * s->heights[i];
        for (size_t k = 0; k < q->n_y; k++) grads->b[k * n + i] += s->d_weight[i] * sign(q->b[k * n + i]);
        for (size_t k = i + 1; k < n; k++) {
            grads->d[k * n + i] += s->d_weight[i] * sign(q->d[k * n + i]) * s->weight[k];
            s->d_weight[k] += s->d_weight[i] * fabsf(q->d[k * n + i]);
        }
    }
}

double esp_gap(const esp_gap_program *program, const float *reach, const float *const *rows, size_t n, float weight, esp_gap_program *grads,
               float *work) {
    scratch s = lay_out(program->n_r, work);
    double gap = 0;
    memset(work, 0, esp_gap_work(program->n_r) * sizeof *work);
    memset(grads->c, 0, esp_gap_floats(program->n_x, program->n_r, program->n_y) * sizeof *grads->c);
    measure(program, reach, &s);
    for (size_t i = 0; i < n; i++) add_point(program, rows[i], 1 / (float)n, weight, &s, grads);
    add_ranges(program, reach, weight, &s, grads);
    for (size_t i = 0; i < program->n_r; i++) gap += (double)s.weight[i] * (double)s.heights[i];
    return gap;
}
