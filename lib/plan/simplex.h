/* SPDX-License-Identifier: Apache-2.0
 * The simplex method for the relaxations of a tree search: the same small linear program over and over, with other
 * limits of its columns, from a basis near the optimum. Integer marks are ignored. Nothing about ReLUs is known here.
 *
 * Every variable, slacks included, has finite limits. So every basis is dual feasible once each nonbasic variable stands
 * at the limit that its reduced cost prefers, and the dual method needs no first phase:
 *
 *   dual    the basic variable that is outside its limits by most, for the length of its row, leaves; the ratio test
 *           runs past every nonbasic variable that can be flipped to its other limit without ending the ascent (the
 *           "bound flipping" or long-step rule), so one pivot does the work of several. Its value only rises: it may
 *           stop once past a limit. Where it does not rise for a while, for many reduced costs of zero, costs are perturbed; what that
 *           leaves out of place the primal method puts right.
 *   primal  for another objective over the same limits: from a feasible point, reduced costs by Devex weights, with a
 *           ratio test in two passes that prefers large pivots. Made feasible first, by the dual method with no cost.
 *
 * Nothing it says is passed on as truth. Its multipliers become a bound by weak duality with the rounding charged
 * (esp_lp_safe_bound, esp_relax_bound), its point a plan by replay; INFEASIBLE counts when the ray's bound says so. */
#ifndef ESP_PLAN_SIMPLEX_H
#define ESP_PLAN_SIMPLEX_H

#include <stddef.h>

#include "base/clock.h"
#include "plan/lp.h"

typedef struct esp_simplex esp_simplex;
typedef enum esp_simplex_status {
    ESP_SIMPLEX_OPTIMAL,
    ESP_SIMPLEX_INFEASIBLE,
    ESP_SIMPLEX_CUT, /* past the limit that was set */
    ESP_SIMPLEX_STOPPED /* by `stop`, or by rounding; the multipliers are good for a bound all the same */
} esp_simplex_status;

/* Borrows the finished LP, reads its numbers again when told so. shelf_bytes: memory for tableaus whose bases may be set again. */
ESP_MUST_CHECK esp_code esp_simplex_create(const esp_lp *lp, size_t shelf_bytes, esp_simplex **ret_simplex, esp_error *reterr);
void esp_simplex_free(esp_simplex *simplex);
void esp_simplex_limits(esp_simplex *simplex, const double *lower, const double *upper); /* of columns, n_cols each */
void esp_simplex_cost(esp_simplex *simplex, const double *cost); /* n_cols */
/* The entries or limits of an inequality row have changed in the LP. */
void esp_simplex_row(esp_simplex *simplex, int row);
/* The dual method stops as CUT once its value has passed this; INFINITY: never. */
void esp_simplex_limit(esp_simplex *simplex, double value);
/* The basis, to start from there again: one byte a column and row. */
size_t esp_simplex_basis_bytes(const esp_simplex *simplex);
void esp_simplex_basis_get(const esp_simplex *simplex, unsigned char *ret_basis);
void esp_simplex_basis_set(esp_simplex *simplex, const unsigned char *basis);

esp_simplex_status esp_simplex_dual(esp_simplex *simplex, const esp_stop *stop);
/* Stops as CUT once its value is at most `enough`, with a feasible point and multipliers of no use (-INFINITY: never); as
 * OPTIMAL once its prices say that no point is better by more than `within`. */
esp_simplex_status esp_simplex_primal(esp_simplex *simplex, double enough, double within, const esp_stop *stop);

/* A look ahead, from the optimum that the dual method has just found: the column fixed at its lower limit, the first few steps of the
 * dual method towards the new optimum, at most eight. STOPPED: there is more to do; the value is a lower estimate of where
 * that ends. Value, duals and ray are those of where it stopped until esp_simplex_back, which must follow: everything is then as it was
 * before. It hardly touches the tableau (tableau.h, mark), and costs a small part of what a solve does. */
esp_simplex_status esp_simplex_look(esp_simplex *simplex, int col);
void esp_simplex_back(esp_simplex *simplex);

/* Of the last solve; valid until the next call. */
/* At an optimum: by how much, at least, the value would rise if the column were fixed at its lower limit (the first step
 * of the dual method: the penalty of Driebeek and Tomlin, run past bound flips). INFINITY: it cannot be. */
double esp_simplex_penalty(esp_simplex *simplex, int col);
double esp_simplex_value(const esp_simplex *simplex);
const double *esp_simplex_solution(const esp_simplex *simplex); /* n_cols */
const double *esp_simplex_duals(esp_simplex *simplex); /* n_rows */
/* After INFEASIBLE: duals with which a bound of the zero cost is above 0 when the proof holds. */
const double *esp_simplex_ray(esp_simplex *simplex); /* n_rows */

#endif
