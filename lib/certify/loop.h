/* SPDX-License-Identifier: Apache-2.0
 * Two loops side by side, step by step: y(t+1) = F(Y, U) with u(t) from a policy, or from anywhere in a box, the same for
 * both. Private to lib/certify; closed_loop.h and planning_loss.h are made of it.
 *
 * Life cycle: create for models; begin at a box of presents; any number of steps; begin again. Nothing allocates but
 * create. One object, one thread. Borrows the models. */
#ifndef ESP_CERTIFY_LOOP_H
#define ESP_CERTIFY_LOOP_H

#include "certify/certificate.h"
#include "certify/pair.h"

/* f is the loop that was changed, g the one it is compared with. */
typedef struct esp_loop_models {
    const esp_model *policy_f, *policy_g; /* both NULL: free inputs */
    const esp_model *dynamics_f, *dynamics_g;
} esp_loop_models;

typedef struct esp_loop esp_loop;

/* Numbers of a present: history * ny observations, then (history - 1) * nu inputs, oldest first. */
int esp_loop_present(const esp_loop_models *models);
/* What a loop of `steps` begins with: a present and, without policies, steps * nu inputs. */
int esp_loop_inputs(const esp_loop_models *models, int steps);

/* At most `steps` steps are made after a begin; with policies any number. Errors: INVALID when the models do not fit
 * together, NOMEM. */
ESP_MUST_CHECK esp_code esp_loop_create(const esp_loop_models *models, int steps, esp_loop **ret_loop, esp_error *reterr);
void esp_loop_free(esp_loop *loop);

/* Both loops at the same present, with the same free inputs, anywhere in the box of esp_loop_inputs numbers. */
void esp_loop_begin(esp_loop *loop, const double *lower, const double *upper);
void esp_loop_step(esp_loop *loop);

/* Since the last step, output i: where f's and g's are, and their difference. */
esp_spans esp_loop_output(const esp_loop *loop, int i);
/* The input of that step. */
esp_spans esp_loop_input(const esp_loop *loop, int i);
/* What the model input [Y, U] of that step can be, over both loops, row i of n_x. Valid until the next step. */
esp_spans esp_loop_x(const esp_loop *loop, int i);

/* Largest |d| over the outputs in the norm, rounded up; and what |d| is at least, rounded down. */
double esp_loop_distance(const esp_loop *loop, esp_norm norm);
double esp_loop_reached(const esp_loop *loop, esp_norm norm);

/* How much each number of the box had to do with relaxations since begin (esp_loop_inputs of them). Borrowed. */
const double *esp_loop_blame(const esp_loop *loop);

#endif
