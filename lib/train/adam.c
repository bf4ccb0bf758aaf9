/* SPDX-License-Identifier: Apache-2.0
 * Adam's update in the form with both bias corrections moved into the rate and into epsilon. */
#include "train/adam.h"

#include <math.h>
#include <string.h>

#define BETA1   0.9
#define BETA2   0.999
#define EPSILON 1e-8

void esp_adam_reset(esp_adam *adam) {
    memset(adam->m, 0, adam->n * sizeof *adam->m);
    memset(adam->v, 0, adam->n * sizeof *adam->v);
    adam->step = 0;
}

/* The moments of a parameter whose gradient has become exactly 0 (all those of a zero neuron) would decay into
 * subnormal numbers and stay there, where each operation costs a hundred cycles: cut off far below epsilon. */
static void update(size_t n, float rate, float epsilon, const float *restrict g, float *restrict m, float *restrict v, float *restrict p) {
    const float b1 = (float)BETA1, b2 = (float)BETA2, c1 = (float)(1 - BETA1), c2 = (float)(1 - BETA2);
    for (size_t i = 0; i < n; i++) {
        float first = b1 * m[i] + c1 * g[i], second = b2 * v[i] + c2 * g[i] * g[i];
        first = fabsf(first) > 1e-25f ? first : 0;
        second = second > 1e-30f ? second : 1e-30f;
        m[i] = first;
        v[i] = second;
        p[i] -= rate * first / (sqrtf(second) + epsilon);
    }
}

void esp_adam_step(esp_adam *adam, double rate, double decay, size_t n_decayed, const float *grads, float *params) {
    adam->step++;
    double c1 = 1 - pow(BETA1, (double)adam->step), c2 = sqrt(1 - pow(BETA2, (double)adam->step));
    if (decay > 0) esp_block_scale(params, n_decayed, (float)(1 - rate * decay));
    update(adam->n, (float)(rate * c2 / c1), (float)(EPSILON * c2), grads, adam->m, adam->v, params);
}

double esp_block_norm(const float *values, size_t n) {
    double sum = 0;
    for (size_t i = 0; i < n; i++) sum += (double)values[i] * (double)values[i];
    return sqrt(sum);
}

void esp_block_scale(float *values, size_t n, float factor) {
    for (size_t i = 0; i < n; i++) values[i] *= factor;
}
