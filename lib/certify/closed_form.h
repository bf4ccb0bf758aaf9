/* SPDX-License-Identifier: Apache-2.0
 * Closed-form robustness constants of second-order pruning (Shamrai, 2025): per state and layer,
 *
 *     |pi(s; W) - pi(s; W + dW_k)| <= C_k(s) |dW_k|
 *     C_k     = prod_{j>k} |W_j| * alpha_{k-1}(s),   alpha_0 = |s|, alpha_j = |W_j| alpha_{j-1} + |b_j|
 *     C_k^act = prod_{j>k} |W_j| * |h_{k-1}(s)|      one forward pass
 *
 * Norms are spectral and Euclidean; every norm used is a checked upper bound, so the constants are proved.
 * Works on the network of a model; a frame's G multiplies C_k by an upper bound of |G| and the state is the network's
 * input v = C Y + D U. Identity and zero neurons are 1-Lipschitz with phi(0) = 0, so the formula holds as it stands. */
#ifndef ESP_CERTIFY_CLOSED_FORM_H
#define ESP_CERTIFY_CLOSED_FORM_H

#include "certify/certificate.h"
#include "net/model.h"

/* An upper bound of the spectral norm of A (m x n), rounding accounted for. */
ESP_MUST_CHECK esp_code esp_norm_upper(size_t m, size_t n, const double *a, double *ret_upper, esp_error *reterr);

typedef struct esp_closed_form esp_closed_form;
/* Norms are computed once; one state then costs one forward pass. Borrows the model. */
ESP_MUST_CHECK esp_code esp_closed_form_create(const esp_model *model, esp_closed_form **ret_form, esp_error *reterr);
void esp_closed_form_free(esp_closed_form *form);
int esp_closed_form_layers(const esp_closed_form *form);

/* Constants at one state x (the model's input, n_x); ret_c and ret_c_activation have one entry per layer. */
void esp_closed_form_at(const esp_closed_form *form, const double *x, double *ret_c, double *ret_c_activation);
/* An upper bound of C_k over the whole box, one per layer. */
ESP_MUST_CHECK esp_code esp_closed_form_box(const esp_closed_form *form, const esp_box *box, double *ret_c, esp_error *reterr);

/* Several layers at once: a bound on |pi(x) - pi_pruned(x)| (form A: unpruned activations, pruned downstream norms)
 * for a candidate with the same layer sizes, and the difference itself. */
ESP_MUST_CHECK esp_code esp_closed_form_candidate(const esp_closed_form *form, const esp_model *candidate, const double *x, double *ret_bound,
                                                  double *ret_actual, esp_error *reterr);

#endif
