/* SPDX-License-Identifier: Apache-2.0
 * The ReLU program: the one form that everything downstream of training works on.
 *
 *     p = C x + D r + d        r = max(0, p)        y = A x + B r + c        D strictly lower triangular
 *
 * Neurons that are identity or zero have vanished into A, B, C, D by substitution. A network, a model with its frame,
 * an unrolled horizon and the difference of two models are all programs; bounding propagates a set through one,
 * certifying bounds a difference program, planning minimises a cost over an unrolled one.
 *
 * ReLUs are ordered so that each depends on earlier ones only, and grouped into levels: the ReLUs of one level do not
 * depend on each other, so a level's rows can be summed side by side. Many points at once: net/batch.h.
 *
 * Storage is dense and row-major; a program has at most a few thousand ReLUs (ESP_MAX_RELUS). Immutable once made.
 * Sizes: x (n_x), r and p (n_r), y (n_y). */
#ifndef ESP_NET_PROGRAM_H
#define ESP_NET_PROGRAM_H

#include "base/error.h"
#include "net/model.h"

#define ESP_MAX_RELUS 8192

typedef struct esp_program {
    int n_x, n_r, n_y;
    double *a; /* n_y x n_x */
    double *b; /* n_y x n_r */
    double *c0; /* n_y: the constant c */
    double *c; /* n_r x n_x */
    double *d; /* n_r x n_r, strictly lower triangular; use row i's first i entries only */
    double *d0; /* n_r: the constant d */
    int n_levels;
    int *level_end; /* n_levels: level l is ReLUs level_end[l-1] .. level_end[l]-1 */
    int *level_begin; /* n_levels: first column of D that any row of level l uses, level_end[l-1] when none; columns before it are all zero there */
} esp_program;

void esp_program_free(esp_program *program);

/* The program of a model, x = [Y, U] (policy: x = y). Every ReLU neuron of the network is one ReLU here, in layer order,
 * also one that can be seen never to fire. Errors: UNPROCESSABLE over ESP_MAX_RELUS, NOMEM. */
ESP_MUST_CHECK esp_code esp_program_lower(const esp_model *model, esp_program **ret_program, esp_error *reterr);

/* The program of a graph network for n objects with these edges, in the order of esp_graph_edges: x = [y, u]. ReLUs stand layer
 * by layer, within one object by object or edge by edge. Errors: UNPROCESSABLE over ESP_MAX_RELUS, NOMEM. */
ESP_MUST_CHECK esp_code esp_graph_lower(const esp_graph *graph, int n, const esp_edge *edges, int n_edges, esp_program **ret_program,
                                        esp_error *reterr);

/* The horizon unrolled: x' = [u(0), ..., u(H-1)] (H * nu), y' = [y(1), ..., y(H)] (H * ny), for a given present.
 * `step` is the lowered dynamics; y_past is history x ny, oldest first, the present last; u_past is (history-1) x nu,
 * oldest first. ReLUs are ordered by time: step t owns t * step->n_r .. (t+1) * step->n_r - 1.
 * Errors: UNPROCESSABLE over ESP_MAX_RELUS in all, NOMEM. */
ESP_MUST_CHECK esp_code esp_program_unroll(const esp_program *step, int ny, int nu, int history, int horizon, const double *y_past,
                                           const double *u_past, esp_program **ret_program, esp_error *reterr);

/* y = f(x) - g(x) for two programs of the same n_x and n_y: the ReLUs of f come first, then those of g.
 * Errors: INVALID (sizes differ), UNPROCESSABLE over ESP_MAX_RELUS in all, NOMEM. */
ESP_MUST_CHECK esp_code esp_program_difference(const esp_program *f, const esp_program *g, esp_program **ret_program, esp_error *reterr);

/* One point in double. p and r may be NULL; r, when NULL, uses work (n_r doubles).
 * The order of operations is promised, certificates rest on it: every number is one running sum, without BLAS, fused
 * products or reordering,
 *     p_i = ((d0_i + c_i0 x_0) + c_i1 x_1 + ...) + d_ij r_j + ...   j ascending, the columns of D that are zero for the
 *     y_k = ((c0_k + a_k0 x_0) + a_k1 x_1 + ...) + b_kj r_j + ...   whole level left out (for finite r they add 0)
 * A NaN pre-activation stays NaN in r. */
void esp_program_forward(const esp_program *program, const double *x, double *y, double *p, double *r, double *work);

/* Gradient of g' y(x) in x, at the point last given to esp_program_forward (its p): g (n_y), ret (n_x),
 * work (n_r). At p = 0 the ReLU counts as off. */
void esp_program_backward(const esp_program *program, const double *p, const double *g, double *ret_dx, double *work);

#endif
