/* SPDX-License-Identifier: Apache-2.0
 * The Gumbel ladder: which hidden neurons stay ReLU, which become identity or zero (sections 3.2 to 3.4 of "Model-based
 * control with sparse neural dynamics").
 *
 * Only the masks live here: no weights, no data. Training (train/) asks for slopes, runs the network with them, and
 * hands back the gradients of the slopes. A neuron is described by its slopes above and below 0, (pos, neg):
 *     ReLU (1, 0)     identity (1, 1)     zero (0, 0)     mask z: z1 ReLU(p) + z2 p + z3 0, that is (z1 + z2, z2).
 *
 * Each neuron is *undecided* or *frozen*. An undecided neuron has logits a (3, in the order ReLU, identity, zero) with
 * pi = softmax(a). esp_ladder_sample draws
 *     z = softmax((log pi + Gumbel noise) / tau)                                                   (equation 6)
 * once for the whole minibatch: the paper's mask is over neurons, the draw is then one network for one batch, and 3
 * logarithms per neuron are nothing beside the batch. With straight-through the forward pass takes the one-hot of the largest z
 * and the backward pass the gradient of the soft z. The penalty is lambda (sum pi1 + lambda_id sum pi2), undecided neurons only.
 *
 * Going down one rung (esp_ladder_freeze) ranks the undecided by max(pi2, pi3), freezes the top ones to identity when
 * pi2 >= pi3 and to zero otherwise, and sets the logits of the rest back to the start. Frozen stays frozen.
 *
 * The start is pi = (0.8, 0.1, 0.1), not 1/3 each: from thirds the first draws switch off two neurons in three, the rest
 * adapts to a broken network, and the ranking is of that one.
 *
 * Life: create; relu (emit, fine-tune) or sample + backward (search); freeze; ... ; free. One object, one thread. */
#ifndef ESP_SPARSIFY_LADDER_H
#define ESP_SPARSIFY_LADDER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "base/rng.h"
#include "net/net.h"

enum { ESP_CLASS_RELU, ESP_CLASS_IDENTITY, ESP_CLASS_ZERO, ESP_CLASSES };

#define ESP_UNDECIDED 255 /* beside the values of esp_act */

/* An undecided neuron's place in the ranking. */
typedef struct esp_ranked {
    double score;
    size_t neuron;
    bool identity;
} esp_ranked;

typedef struct esp_ladder {
    size_t n, n_undecided;
    float lambda, lambda_id, tau;
    bool straight_through;
    uint8_t *state; /* n: an esp_act when frozen, or ESP_UNDECIDED */
    float *logits; /* n x 3; those of frozen neurons are unused */
    float *grads; /* n x 3, of the logits */
    float *pos, *neg; /* n: slopes to run the network with */
    float *soft; /* n x 3: z as last drawn */
    double *noise, *scratch; /* n x 3 each */
    esp_ranked *table; /* n: scratch of the ranking */
} esp_ladder;

typedef struct esp_ladder_opts {
    double lambda, lambda_id, tau;
    bool straight_through;
} esp_ladder_opts;

/* n neurons, all undecided, slopes of ReLU. Errors: NOMEM. */
ESP_MUST_CHECK esp_code esp_ladder_create(size_t n, const esp_ladder_opts *opts, esp_ladder **ret_ladder, esp_error *reterr);
void esp_ladder_free(esp_ladder *ladder);

/* Neurons that are ReLU in `acts` (n of esp_act) are undecided, the others frozen as they are; logits are reset. */
void esp_ladder_begin(esp_ladder *ladder, const uint8_t *acts);
/* All logits back to the start. */
void esp_ladder_reset(esp_ladder *ladder);
/* pi of neuron i. */
void esp_ladder_pi(const esp_ladder *ladder, size_t i, double ret_pi[ESP_CLASSES]);

/* Slopes with the undecided as ReLU: the network as it is emitted. */
void esp_ladder_relu(esp_ladder *ladder);
/* Draws masks and sets the slopes. */
void esp_ladder_sample(esp_ladder *ladder, esp_rng *rng);
/* From the slope gradients of the last draw (n each; positive = sum dh max(p,0), negative = sum dh min(p,0)) to the
 * logits' gradients, the penalty's included; overwrites grads. Returns the penalty. */
double esp_ladder_backward(esp_ladder *ladder, const float *positive, const float *negative);

/* Freezes until at most `keep` are undecided; ret_frozen (n, may be NULL) receives the neurons frozen now, in rank order.
 * Returns how many. Ties go by neuron number. Slopes are those of esp_ladder_relu after, logits reset. */
size_t esp_ladder_freeze(esp_ladder *ladder, size_t keep, size_t *ret_frozen);

#endif
