/* SPDX-License-Identifier: Apache-2.0
 * Two models side by side in affine forms: where their outputs are, and how far apart, for inputs that are near each other
 * but need not be equal. Private to lib/certify. For equal inputs and one box, twin.h is the tighter.
 *
 * Every number of the two networks is held three times, as an affine form each: f's, g's and the difference d = f's - g's
 * (Teuber et al., VeryDiff, 2024). Through a layer  d' = W_f d + (W_f - W_g) x_g + (b_f - b_g),  so a difference that is
 * small stays small in proportion, which no difference of two ranges does. The networks are taken layer by layer as they
 * are in the file, without lowering, so nothing that lowering rounds is left out. */
#ifndef ESP_CERTIFY_PAIR_H
#define ESP_CERTIFY_PAIR_H

#include "certify/affine.h"
#include "net/model.h"

/* Three blocks of equally many rows on one space. */
typedef struct esp_triple {
    esp_forms *f, *g, *d;
} esp_triple;
ESP_MUST_CHECK esp_code esp_triple_create(esp_space *space, int n_rows, esp_triple *ret_triple, esp_error *reterr);
void esp_triple_done(esp_triple *triple);
/* Row i of f and of g are the same number in [lower, upper]; d is 0. */
void esp_triple_box(esp_triple *triple, int i, double lower, double upper);
void esp_triple_copy(const esp_triple *from, int j, esp_triple *to, int i);

/* Ranges of row i, each also from the two others. */
typedef struct esp_span {
    double lower, upper;
} esp_span;
typedef struct esp_spans {
    esp_span f, g, d;
} esp_spans;
esp_spans esp_triple_spans(const esp_triple *triple, int i);

typedef struct esp_pair esp_pair;
/* Models of one kind and the same ny, nu and history; the networks may differ in anything. `blame`, when not NULL, has
 * `n_blame` numbers: each relaxation adds to it how much the first symbols have to do with it. Borrows all.
 * Errors: INVALID when the models do not fit, NOMEM. */
ESP_MUST_CHECK esp_code esp_pair_create(esp_space *space, const esp_model *f, const esp_model *g, double *blame, int n_blame, esp_pair **ret_pair,
                                        esp_error *reterr);
void esp_pair_free(esp_pair *pair);
/* The models' outputs into rows 0.. of `out`, for the inputs in rows first.. of `in` (n_x of them). */
void esp_pair_run(esp_pair *pair, const esp_triple *in, int first, esp_triple *out);

/* Rows that a pair of these models holds, for choosing how many symbols there is memory for. */
int esp_pair_rows(const esp_model *f, const esp_model *g);

/* The matrices of a model's frame, v = V x, y = K x + G f(v): the identity or zero where it has none. Exact. */
typedef struct esp_maps {
    int n_x, n_v, n_f, n_y;
    double *v, *k, *g; /* n_v x n_x, n_y x n_x, n_y x n_f; one allocation, at v */
} esp_maps;
ESP_MUST_CHECK esp_code esp_maps_init(const esp_model *model, esp_maps *ret_maps, esp_error *reterr);
void esp_maps_done(esp_maps *maps);

#endif
