/* SPDX-License-Identifier: Apache-2.0
 * A program as one self-contained C99 file, for a microcontroller or anything else that cannot speak HTTP.
 *
 * The file evaluates what esp_program_forward evaluates, in double with the same operations in the same order: the same bits, as long
 * as nothing overflows and the compiler neither fuses nor reorders (the file says so, and refuses to compile where it can tell).
 * It has no state, takes no memory and calls nothing. */
#ifndef ESP_NET_EMIT_C_H
#define ESP_NET_EMIT_C_H

#include <stdbool.h>

#include "base/buf.h"
#include "net/program.h"

/* What a file may hold; more is refused. */
enum { ESP_EMIT_MAX_RELUS = 2048, ESP_EMIT_MAX_NUMBERS = 1 << 18, ESP_EMIT_MAX_NAME = 40 };

typedef enum esp_emit_layout { ESP_EMIT_AUTO, ESP_EMIT_SPARSE, ESP_EMIT_DENSE } esp_emit_layout;
extern const char *const esp_emit_layout_names[]; /* "auto", "sparse", "dense", NULL */

typedef struct esp_emit_opts {
    const char *name; /* becomes the prefix of every symbol; letters, digits and _ stay, the rest becomes _ */
    bool single; /* float instead of double */
    esp_emit_layout layout; /* of each matrix; AUTO: the smaller */
    const char *head; /* lines for the head comment, each ended with a newline; no comment marks in it; may be NULL */
    int n_tests; /* points of the self-test, 0 for none */
    const double *x; /* n_tests x n_x; for a single file numbers that a float holds */
    const double *tolerance; /* n_tests x n_y, single only: how far the float result may lie from esp_program_forward's */
} esp_emit_opts;

/* Appends the file. Deterministic. Errors: UNPROCESSABLE (too large, or a number that is not finite in the precision asked for), NOMEM. */
ESP_MUST_CHECK esp_code esp_emit_c(const esp_program *program, const esp_emit_opts *opts, esp_buf *ret_text, esp_error *reterr);

#endif
