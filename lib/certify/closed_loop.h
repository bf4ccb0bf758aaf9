/* SPDX-License-Identifier: Apache-2.0
 * The tube between two closed loops: how far a pruned policy can carry a model from where its reference policy would have.
 *
 *     x^(t+1) = F(x^(t), pi^(x^(t)))      x(t+1) = F(x(t), pi(x(t)))      x^(0) = x(0) anywhere in a box
 *
 * Two ways to a radius that |y^(t) - y(t)| stays within, each proved, rounding included:
 *
 *     program   both loops propagated side by side from the box, their difference as a variable of its own, the box split
 *     product   delta(t+1) = rho_t delta(t) + L_t eps_t:  eps_t the certified |pi^ - pi| on a set that holds both loops at
 *               step t, L_t the Lipschitz constant of F in u there, rho_t the least of that of x -> F(x, pi(x)) and of
 *               L_x + L_t L_pi
 *
 * and their least. The set of the product formula is the box of what both loops can reach, cut to what the radius proved so
 * far allows: x^(t) in X(t) + ball(delta(t)) and the other way round. */
#ifndef ESP_CERTIFY_CLOSED_LOOP_H
#define ESP_CERTIFY_CLOSED_LOOP_H

#include "base/buf.h"
#include "certify/difference.h"
#include "net/model.h"

#define ESP_MAX_LOOP_STEPS 200

typedef struct esp_tube_opts {
    esp_norm norm;
    double gap; /* stop when every radius is at most lower * (1 + gap) */
    int max_leaves;
    uint64_t seed; /* of the search for trajectories that part */
} esp_tube_opts;
#define ESP_TUBE_OPTS_INIT ((esp_tube_opts){ESP_NORM_INF, 0.05, 4096, 1})

/* When a box holds both loops for ever once they are in it, and the closed loop contracts there, so does the tube. */
typedef struct esp_forever {
    bool holds; /* invariant && rho < 1 */
    bool invariant; /* F(., pi(.)) and F(., pi^(.)) map the box into itself, and the domain lies in it */
    double rho; /* of x -> F(x, pi(x)) on the box, in a weighted max-norm; infinite when not known */
    double gain, epsilon; /* L_u and the policies' difference on the box, in the norm of the options */
    double radius; /* L_u eps / (1 - rho) and the like, for ever; infinite unless it holds */
    double *lower, *upper; /* n_present: the box */
} esp_forever;

typedef struct esp_tube {
    int steps, n_present; /* numbers of a present: [Y, U before now] */
    double *radius, *program, *product; /* steps: for y(1) .. y(steps); product may be infinite */
    double *rho, *gain, *epsilon; /* steps: rho_t, L_t, eps_t of the product formula, step t from y(t) */
    double *lower; /* steps: what some trajectory from the box reaches at least */
    double *witness; /* n_present: where the one that parts furthest begins */
    esp_forever forever;
    esp_buf tree; /* of the program bound */
    int leaves;
    const char *status;
    double *memory;
} esp_tube;

/* `policy` and `reference` are policies for `dynamics`; box of n_present numbers. Errors: INVALID when the models or the box do
 * not fit, CANCELLED never: what is proved when `stop` says so is the result. */
ESP_MUST_CHECK esp_code esp_tube_run(const esp_model *policy, const esp_model *reference, const esp_model *dynamics, int steps, const esp_box *box,
                                     const esp_tube_opts *opts, const esp_stop *stop, esp_tube **ret_tube, esp_error *reterr);
void esp_tube_free(esp_tube *tube);

#endif
