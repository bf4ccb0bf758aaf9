/* SPDX-License-Identifier: Apache-2.0
 * Unrolling: H steps of a lowered dynamics as one program in the inputs of the horizon, the present substituted.
 *
 * One step is   y(t+1) = A [Y, U] + B r + c,   p = C [Y, U] + D r + d,   Y = y(t-h+1) .. y(t), U = u(t-h+1) .. u(t).
 * y(s) with s <= 0 and u(s) with s < 0 are numbers; u(s) with s >= 0 is a block of x'; y(s) with s >= 1 is a row block
 * of the result that has been written already, and it reaches only u(0) .. u(s-1) and the ReLUs of steps 0 .. s-1. So
 * each step adds products of (rows of the step) x (finished rows), cut to the columns those rows can reach, straight
 * into the result: no matrix is formed besides. With the output rows of a residual or sparse A nearly empty, most
 * products vanish. */
#include <assert.h>

#include "net/program.h"
#include "net/program_make.h"

typedef struct unrolling {
    const esp_program *step;
    esp_program *program;
    size_t ny, nu, n_r, history;
    const double *y_past, *u_past;
} unrolling;

/* Rows under construction: constants, coefficients of x' and of r'. */
typedef struct rows {
    size_t n;
    double *constant, *in_x, *in_r;
} rows;

/* rows += W (n x ny, part of a step's matrix) y(s), s from 1 - history. */
static void add_output(const unrolling *un, long s, const double *w, const rows *to) {
    const esp_program *program = un->program;
    size_t ny = un->ny, ldw = (size_t)un->step->n_x, n_x = (size_t)program->n_x, n_r = (size_t)program->n_r;
    if (s <= 0) {
        const double *past = un->y_past + ((size_t)(s + (long)un->history - 1)) * ny;
        esp_program_add_product(to->n, 1, ny, w, ldw, past, 1, to->constant, 1);
        return;
    }
    size_t row = (size_t)(s - 1) * ny;
    esp_program_add_product(to->n, 1, ny, w, ldw, program->c0 + row, 1, to->constant, 1);
    esp_program_add_product(to->n, (size_t)s * un->nu, ny, w, ldw, program->a + row * n_x, n_x, to->in_x, n_x);
    esp_program_add_product(to->n, (size_t)s * un->n_r, ny, w, ldw, program->b + row * n_r, n_r, to->in_r, n_r);
}

/* rows += W (n x nu) u(s). */
static void add_input(const unrolling *un, long s, const double *w, const rows *to) {
    size_t nu = un->nu, ldw = (size_t)un->step->n_x, n_x = (size_t)un->program->n_x;
    if (s < 0) {
        const double *past = un->u_past + ((size_t)(s + (long)un->history - 1)) * nu;
        esp_program_add_product(to->n, 1, nu, w, ldw, past, 1, to->constant, 1);
        return;
    }
    for (size_t i = 0; i < to->n; i++)
        for (size_t j = 0; j < nu; j++) to->in_x[i * n_x + (size_t)s * nu + j] += w[i * ldw + j];
}

/* rows = wx (n x step->n_x) [Y, U] + wr (n x n_r) r(t) + w0, at time t. */
static void fill(const unrolling *un, long t, const double *wx, const double *wr, const double *w0, const rows *to) {
    size_t n_r = un->n_r, ldr = (size_t)un->program->n_r;
    long oldest = t - (long)un->history + 1;
    for (size_t i = 0; i < to->n; i++) {
        to->constant[i] = w0[i];
        for (size_t j = 0; j < n_r; j++) to->in_r[i * ldr + (size_t)t * n_r + j] = wr[i * n_r + j];
    }
    for (size_t k = 0; k < un->history; k++) add_output(un, oldest + (long)k, wx + k * un->ny, to);
    for (size_t k = 0; un->nu && k < un->history; k++) add_input(un, oldest + (long)k, wx + un->history * un->ny + k * un->nu, to);
}

esp_code esp_program_unroll(const esp_program *step, int ny, int nu, int history, int horizon, const double *y_past, const double *u_past,
                            esp_program **ret_program, esp_error *reterr) {
    assert(horizon >= 1 && history >= 1 && step->n_y == ny && step->n_x == history * (ny + nu));
    size_t h = (size_t)horizon, n_r = (size_t)step->n_r;
    esp_program *program = NULL;
    esp_code code = esp_program_create(h * (size_t)nu, h * n_r, h * (size_t)ny, &program, reterr);
    if (code != ESP_OK) return code;
    unrolling un = {step, program, (size_t)ny, (size_t)nu, n_r, (size_t)history, y_past, u_past};
    for (size_t t = 0; t < h; t++) {
        size_t i = t * n_r, k = t * (size_t)ny;
        rows relus = {n_r, program->d0 + i, program->c + i * (size_t)program->n_x, program->d + i * (size_t)program->n_r};
        rows outputs = {(size_t)ny, program->c0 + k, program->a + k * (size_t)program->n_x, program->b + k * (size_t)program->n_r};
        fill(&un, (long)t, step->c, step->d, step->d0, &relus);
        fill(&un, (long)t, step->a, step->b, step->c0, &outputs);
    }
    esp_program_seal(program, 0);
    *ret_program = program;
    return ESP_OK;
}
