/* SPDX-License-Identifier: Apache-2.0
 * The difference of two programs: the ReLUs of f, then those of g, D block diagonal; y = f(x) - g(x). */
#include <string.h>

#include "net/program.h"
#include "net/program_make.h"

/* The ReLU rows of `part` into rows and columns from `at`. */
static void place(const esp_program *part, size_t at, esp_program *program) {
    size_t n_x = (size_t)program->n_x, n_r = (size_t)part->n_r, ld = (size_t)program->n_r;
    if (n_r == 0) return;
    memcpy(program->d0 + at, part->d0, n_r * sizeof(double));
    memcpy(program->c + at * n_x, part->c, n_r * n_x * sizeof(double));
    for (size_t i = 0; i < n_r; i++) memcpy(program->d + (at + i) * ld + at, part->d + i * n_r, i * sizeof(double));
}

esp_code esp_program_difference(const esp_program *f, const esp_program *g, esp_program **ret_program, esp_error *reterr) {
    if (f->n_x != g->n_x || f->n_y != g->n_y)
        return esp_fail(reterr, ESP_INVALID, "a model of %d to %d numbers cannot be compared with one of %d to %d", f->n_x, f->n_y, g->n_x, g->n_y);
    size_t n_x = (size_t)f->n_x, n_y = (size_t)f->n_y, n_f = (size_t)f->n_r, n_g = (size_t)g->n_r;
    esp_program *program = NULL;
    esp_code code = esp_program_create(n_x, n_f + n_g, n_y, &program, reterr);
    if (code != ESP_OK) return code;
    for (size_t k = 0; k < n_y; k++) program->c0[k] = f->c0[k] - g->c0[k];
    for (size_t k = 0; k < n_y * n_x; k++) program->a[k] = f->a[k] - g->a[k];
    for (size_t k = 0; k < n_y; k++) {
        double *row = program->b + k * (n_f + n_g);
        if (n_f) memcpy(row, f->b + k * n_f, n_f * sizeof *row);
        for (size_t j = 0; j < n_g; j++) row[n_f + j] = -g->b[k * n_g + j];
    }
    place(f, 0, program);
    place(g, n_f, program);
    esp_program_seal(program, f->n_r); /* no level spans both: each keeps its narrow band of D */
    *ret_program = program;
    return ESP_OK;
}
