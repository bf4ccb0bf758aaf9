/* SPDX-License-Identifier: Apache-2.0
 * Private to lowering: a network's neuron as an expression over [1, x, r], and its way into the program. */
#ifndef ESP_NET_LOWER_PARTS_H
#define ESP_NET_LOWER_PARTS_H

#include "net/program.h"

typedef enum esp_term_kind { ESP_TERM_NONE, ESP_TERM_X, ESP_TERM_R, ESP_TERM_ROW } esp_term_kind;

/* A neuron's output: nothing, x[index], r[index], or a row [1 | x | r]. */
typedef struct esp_term {
    esp_term_kind kind;
    int index;
    const double *row;
} esp_term;

/* A program in the making. */
typedef struct esp_lowering {
    esp_program *program; /* owned */
    size_t n_x, width; /* width = 1 + n_x + n_r */
    int n_r; /* ReLUs made so far */
    double *row; /* width: the pre-activation at hand */
} esp_lowering;

/* Errors: UNPROCESSABLE over ESP_MAX_RELUS, NOMEM. */
ESP_MUST_CHECK esp_code esp_lowering_init(esp_lowering *low, size_t n_x, size_t n_r, size_t n_y, esp_error *reterr);
void esp_lowering_done(esp_lowering *low);

/* The columns of a row that are in use by now. */
static inline size_t esp_lowering_used(const esp_lowering *low) {
    return 1 + low->n_x + (size_t)low->n_r;
}
/* row += weight * term, in the first `used` columns. */
void esp_lowering_add(const esp_lowering *low, esp_term term, double weight, size_t used, double *restrict row);
/* low->row = bias. */
void esp_lowering_begin(esp_lowering *low, double bias);
/* low->row becomes the program's next ReLU. */
esp_term esp_lowering_relu(esp_lowering *low);
/* low->row becomes output k of the program. */
void esp_lowering_output(esp_lowering *low, size_t k);

#endif
