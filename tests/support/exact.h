/* SPDX-License-Identifier: Apache-2.0
 * A program evaluated in quadruple precision, where products of doubles are exact: the oracle of everything that claims
 * to account for rounding. Shares no code with the library. */
#ifndef ESP_TESTS_EXACT_H
#define ESP_TESTS_EXACT_H

#include "net/program.h"

typedef __float128 quad;

/* p (n_r) and y (n_y) at x (n_x); r (n_r) is scratch. */
static inline void exact_forward(const esp_program *program, const double *x, quad *p, quad *r, quad *y) {
    size_t n_x = (size_t)program->n_x, n_r = (size_t)program->n_r;
    for (size_t i = 0; i < n_r; i++) {
        quad sum = program->d0[i];
        for (size_t k = 0; k < n_x; k++) sum += (quad)program->c[i * n_x + k] * (quad)x[k];
        for (size_t j = 0; j < i; j++) sum += (quad)program->d[i * n_r + j] * r[j];
        p[i] = sum;
        r[i] = sum > 0 ? sum : 0;
    }
    for (size_t i = 0; i < (size_t)program->n_y; i++) {
        quad sum = program->c0[i];
        for (size_t k = 0; k < n_x; k++) sum += (quad)program->a[i * n_x + k] * (quad)x[k];
        for (size_t j = 0; j < n_r; j++) sum += (quad)program->b[i * n_r + j] * r[j];
        y[i] = sum;
    }
}

#endif
