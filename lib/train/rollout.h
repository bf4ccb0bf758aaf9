/* SPDX-License-Identifier: Apache-2.0
 * The loss of a minibatch of windows and its gradient: one step, or k steps with back-propagation through time.
 *
 * In the units of train/windows.h, for a window that starts at row r, with e_0 = 0 and E_k the stack of the last
 * `history` errors (those from before the start are 0, being data):
 *     x_k = v[r + k] + c E_k (+ input noise)       o_k = f(x_k)       e_{k+1} = a E_k + g o_k - t[r + k]
 *     loss = mean over windows, steps and outputs of w_k e^2, w_k the step's weight
 * Backwards, de_{k+1} is 2 w_k e_{k+1} / count plus what later steps sent; do_k = g' de_{k+1}; the network turns do_k into
 * dx_k and parameter gradients; E_k, that is the errors it stacks, receives a' de_{k+1} + c' dx_k.
 *
 * Rows are worked in chunks small enough for the cache, so a large batch takes no more memory. One object, one thread, or
 * those of an esp_parallel: then each has its share of the rows and sums of its own, which are added in a fixed order, so that what comes
 * out depends on how many there are and on nothing else. Nothing is allocated after creation. */
#ifndef ESP_TRAIN_ROLLOUT_H
#define ESP_TRAIN_ROLLOUT_H

#include "base/parallel.h"
#include "train/mlp.h"
#include "train/windows.h"

typedef struct esp_rollout esp_rollout;

/* Borrows all; at most `steps` steps a window; parallel may be NULL. Errors: NOMEM. */
ESP_MUST_CHECK esp_code esp_rollout_create(const esp_mlp *mlp, const esp_windows *windows, int steps, const esp_parallel *parallel,
                                           esp_rollout **ret_rollout, esp_error *reterr);
void esp_rollout_free(esp_rollout *rollout);

typedef struct esp_rollout_call {
    const float *params, *pos, *neg; /* of the network (train/mlp.h) */
    const size_t *starts; /* n rows */
    size_t n;
    int steps;
    const double *weights; /* steps: of their squared errors, on average 1; NULL: 1 each */
    float noise; /* deviation of the noise on network inputs that vary; 0 = none, and then rng is not read */
    esp_rng *rng;
    float *grads; /* n_params, added to; NULL for the loss alone */
    const esp_slope_grads *slopes; /* added to; may be NULL */
    bool (*go_on)(
        void *
            user); /* asked before each step of each chunk, forward and back, by the calling thread; may be NULL. false: the loss is NaN and the rest void */
    void *user;
} esp_rollout_call;

/* Returns the loss. When ret_squares (ny) is not NULL it receives the sum of w_k e^2 per output over windows and steps. */
double esp_rollout_loss(esp_rollout *rollout, const esp_rollout_call *call, double *ret_squares);

#endif
