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
#include "certify/norms.h"
#include "net/model.h"

typedef struct esp_closed_form esp_closed_form;
/* Norms are computed once; one state then costs one forward pass. Borrows the model. The workspace is inside: one object,
 * one thread. */
ESP_MUST_CHECK esp_code esp_closed_form_create(const esp_model *model, esp_closed_form **ret_form, esp_error *reterr);
void esp_closed_form_free(esp_closed_form *form);
int esp_closed_form_layers(const esp_closed_form *form);

/* Constants at one state x (the model's input, n_x); ret_c and ret_c_activation have one entry per layer. */
void esp_closed_form_at(const esp_closed_form *form, const double *x, double *ret_c, double *ret_c_activation);
/* The same bounds from layers rescaled for the least product of norms (certify/rescale.h), which leaves the function as it is: at
 * most c_activation, of any state or set of states. They bound |pi(W) - pi(W + dW_k)| <= c |dW_k| for the dW_k of the model as
 * it is. */
void esp_closed_form_rescaled(const esp_closed_form *form, const double *c_activation, double *ret_c);
/* One constant per layer that holds at every state of the box: suffix product times a bound of |h_{k-1}| there, the least
 * of the norm form at the box's largest |v|, the centre's activations plus the Lipschitz constant times the radius, and
 * the box's elementwise intervals. Never above the largest C_k of the box. */
ESP_MUST_CHECK esp_code esp_closed_form_box(const esp_closed_form *form, const esp_box *box, double *ret_c, esp_error *reterr);

/* Several layers at once: a bound on |pi(x) - pi_pruned(x)| for a candidate with the same layer sizes and frame, and
 * the difference itself. With W^ = W + D, b^ = b + d, h^ the candidate's, and e_j >= |h^_j - h_j|,
 *
 *     e_j = min(|W^_j| e_{j-1} + |D_j h_{j-1} + d_j|,  |W_j| e_{j-1} + |D_j h^_{j-1} + d_j|),   e_0 = 0
 *
 * Both are one triangle inequality on z^_j - z_j; the first alone is form A (unpruned activations, pruned norms), the
 * second form B. Unpruned norms with unpruned activations would be no bound. A zero neuron counts as a zero row, so a
 * candidate may have zeroed neurons; elsewhere the activations must agree. */
typedef struct esp_candidate esp_candidate;
/* The candidate's norms, once. Borrows both. Errors: UNPROCESSABLE when the two cannot be compared. */
ESP_MUST_CHECK esp_code esp_candidate_create(const esp_closed_form *form, const esp_model *candidate, esp_candidate **ret_candidate,
                                             esp_error *reterr);
void esp_candidate_free(esp_candidate *candidate);
/* At one state x (n_x). *ret_bound is not below *ret_actual as computed either. */
void esp_candidate_at(const esp_candidate *candidate, const double *x, double *ret_bound, double *ret_actual);

/* The same in one call, for one state. */
ESP_MUST_CHECK esp_code esp_closed_form_candidate(const esp_closed_form *form, const esp_model *candidate, const double *x, double *ret_bound,
                                                  double *ret_actual, esp_error *reterr);

#endif
