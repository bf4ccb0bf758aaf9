/* SPDX-License-Identifier: Apache-2.0
 * Supervised regression: a ReLU network fitted to pairs of an input and the output wanted there, in float.
 *
 * What a policy is trained by, on inputs x and a planner's answers u. Not for dynamics: there is no frame and no rollout here
 * (train/train.h). The loss is the mean square error of outputs, each divided by its scale. Scales come from boxes that the caller
 * gives, not from the pairs, so that more pairs may be added later and training goes on from the present weights; they
 * are folded into the weights of the network that is handed out. Same pairs, options and seed: same network.
 *
 * Or it starts from a network, to fine-tune what pruning left: weights that are exactly 0 there stay exactly 0 (their gradient is
 * masked, and they are after each step), neurons that are no ReLU stay what they are, and the scales are those of the pairs. */
#ifndef ESP_TRAIN_REGRESS_H
#define ESP_TRAIN_REGRESS_H

#include "base/clock.h"
#include "base/rng.h"
#include "net/net.h"
#include "train/adam.h"
#include "train/mlp.h"

typedef struct esp_regress_opts {
    int n_hidden;
    int hidden[ESP_MAX_HIDDEN];
    int epochs; /* of one run; 0: as many as make some 8,000 minibatches, 10 to 2000 */
    int batch; /* 64; a set with fewer pairs is one batch */
    double learning_rate; /* cosine to 1 % within each run; 0: 0.01, less in proportion when a layer is over 64 wide */
    double weight_decay; /* 0; decoupled, weights only */
    uint64_t seed;
} esp_regress_opts;
#define ESP_REGRESS_OPTS_INIT ((esp_regress_opts){.batch = 64})

/* n pairs: x (n x n_in), y (n x n_out), borrowed. */
typedef struct esp_pairs {
    size_t n;
    const double *x, *y;
} esp_pairs;

/* A regression in progress; the fields are for tests. One object, one thread. */
typedef struct esp_regress {
    esp_regress_opts opts;
    esp_mlp mlp;
    double *in_mean, *in_scale; /* n_in */
    double *out_mean, *out_scale; /* n_out */
    float *params, *grads; /* mlp.n_params */
    float *pos, *neg; /* slopes: all ReLU, or those of the network it started from */
    float *keep; /* n_weights, 1 or 0: the weights that are trained; NULL: all */
    esp_adam adam;
    esp_tape tape; /* of a chunk of rows */
    float *d_out, *packed, *work; /* of a chunk; the network as its passes read it */
    esp_rng shuffle;
    float *memory;
    double *scales;
} esp_regress;

/* Boxes of the inputs (n_in) and outputs (n_out) to come, finite; a side of no width has the scale 1, and an input that never
 * varies starts without a say. Seeds the weights. Errors: INVALID (sizes), NOMEM. */
ESP_MUST_CHECK esp_code esp_regress_create(int n_in, const double *in_lower, const double *in_upper, int n_out, const double *out_lower,
                                           const double *out_upper, const esp_regress_opts *opts, esp_regress **ret_regress, esp_error *reterr);
/* From a network's weights on, with scales of the pairs (n > 0); widths in the options are not read. Errors: UNPROCESSABLE (outputs that are
 * no identity, more than ESP_MAX_HIDDEN hidden layers), NUMERIC (a weight too large for a float), INVALID, NOMEM. */
ESP_MUST_CHECK esp_code esp_regress_start(const esp_net *net, const esp_pairs *pairs, const esp_regress_opts *opts, esp_regress **ret_regress,
                                          esp_error *reterr);
void esp_regress_free(esp_regress *regress);

/* The share done and the mean loss of the last epoch (NaN within the first); called after every minibatch. */
typedef void esp_regress_told(void *user, double fraction, double loss);

/* Trains on the pairs from the present weights on; *ret_loss is the mean of the last epoch. n > 0.
 * Errors: NUMERIC (the loss is not finite), CANCELLED, DEADLINE, NOMEM. */
ESP_MUST_CHECK esp_code esp_regress_run(esp_regress *regress, const esp_pairs *pairs, const esp_stop *stop, esp_regress_told *told, void *user,
                                        double *ret_loss, esp_error *reterr);

/* The loss over the pairs that `rows` names (n of them; NULL: the first n), its gradient added to grads unless that is NULL. */
double esp_regress_loss(esp_regress *regress, const esp_pairs *pairs, const size_t *rows, size_t n, float *grads);
/* Root mean square error over all outputs in their own units; 0 for no pairs. */
double esp_regress_rmse(esp_regress *regress, const esp_pairs *pairs);

/* The network in the units of the pairs; the caller's. Errors: NOMEM, NUMERIC when a weight is not finite. */
ESP_MUST_CHECK esp_code esp_regress_net(const esp_regress *regress, esp_net **ret_net, esp_error *reterr);

#endif
