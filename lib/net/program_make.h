/* SPDX-License-Identifier: Apache-2.0
 * How programs are made inside the library: create, write the numbers, seal. Private to lowering, unrolling and
 * differences, and to tests that want a program by hand. */
#ifndef ESP_NET_PROGRAM_MAKE_H
#define ESP_NET_PROGRAM_MAKE_H

#include <stddef.h>

#include "net/program.h"

/* All numbers zero, no levels yet. Errors: UNPROCESSABLE over ESP_MAX_RELUS, NOMEM. */
ESP_MUST_CHECK esp_code esp_program_create(size_t n_x, size_t n_r, size_t n_y, esp_program **ret_program, esp_error *reterr);

/* Finds the levels of the finished D: in order, a ReLU opens a new level when it reads a ReLU of the current one.
 * `forced` (may be 0): a level also ends before this ReLU. */
void esp_program_seal(esp_program *program, int forced);

/* C (m x n, stride ldc) += A (m x k, stride lda) B (k x n, stride ldb); zeros of A cost nothing. */
void esp_program_add_product(size_t m, size_t n, size_t k, const double *a, size_t lda, const double *b, size_t ldb, double *c, size_t ldc);

#endif
