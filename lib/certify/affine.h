/* SPDX-License-Identifier: Apache-2.0
 * Affine forms: numbers written as  c + sum_k a_k s_k + [-e, e]  over shared symbols s_k in [-1, 1], with every rounding
 * charged to e. What a zonotope is made of. Not a verifier: networks and loops go through them in pair.h.
 *
 * Forms of one space share its symbols, so what two of them have in common cancels when one is taken from the other;
 * that is what intervals cannot do. A row is written by a sum: begin, add any number of rows of the same space with
 * weights, end. A row holds every value that exact arithmetic gives for the values the added rows hold.
 *
 * Life cycle: a space for a most of symbols; blocks of rows on it; esp_space_clear starts over, after which rows must be
 * written before they are read. Nothing allocates but the creates. One object, one thread. */
#ifndef ESP_CERTIFY_AFFINE_H
#define ESP_CERTIFY_AFFINE_H

#include <stdbool.h>

#include "base/error.h"

typedef struct esp_space {
    int n, most; /* symbols in use, and room for */
} esp_space;

typedef struct esp_forms {
    esp_space *space; /* borrowed */
    int n_rows;
    int *used; /* n_rows: symbols that a row knows of; the coefficients of later ones are 0 */
    double *c, *e, *rad; /* n_rows: centre, error, and an upper bound of sum |a| + e */
    double *a; /* n_rows x most */
} esp_forms;

ESP_MUST_CHECK esp_code esp_forms_create(esp_space *space, int n_rows, esp_forms **ret_forms, esp_error *reterr);
void esp_forms_free(esp_forms *forms);
static inline void esp_space_clear(esp_space *space) {
    space->n = 0;
}

/* Row i is anything in [lower, upper], by a new symbol when there is room and the ends differ. Finite ends. */
void esp_forms_box(esp_forms *forms, int i, double lower, double upper);
/* Contains every value of row i; infinite when nothing is known. */
void esp_forms_range(const esp_forms *forms, int i, double *ret_lower, double *ret_upper);
/* The error of row i becomes a new symbol, when there is room: it then cancels like any other. */
void esp_forms_settle(esp_forms *forms, int i);
/* Symbols from `keep` on are folded into the row's error. */
void esp_forms_fold(esp_forms *forms, int i, int keep);
void esp_forms_copy(const esp_forms *from, int j, esp_forms *to, int i);

/* A row in the making. */
typedef struct esp_sum {
    esp_forms *to;
    int row, n;
    double magnitude; /* |constant| + sum |w| |row| */
    bool any;
} esp_sum;
/* `to` row i must not be among the rows added. The constant is exact, or one that a single rounding made. */
esp_sum esp_sum_begin(esp_forms *to, int i, double constant);
/* += w times row j, for the exact w or one that a single rounding made. */
void esp_sum_add(esp_sum *sum, double w, const esp_forms *from, int j);
/* += anything in [-radius, radius], as a new symbol when there is room; once, after all adds. */
void esp_sum_noise(esp_sum *sum, double radius);
void esp_sum_end(esp_sum *sum);

/* to row i = max(0, row j), which is known to be in [lower, upper]. Returns the radius of what the relaxation added. */
double esp_forms_relu(const esp_forms *from, int j, double lower, double upper, esp_forms *to, int i);

#endif
