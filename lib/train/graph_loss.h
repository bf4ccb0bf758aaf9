/* SPDX-License-Identifier: Apache-2.0
 * The loss of a minibatch of windows under a graph network, one step or k, and its gradient through the messages and through
 * time. The counterpart of train/rollout.h; the call is the same.
 *
 * A rollout goes on from its own predictions; the edges of a step are those of the state that it starts from, and no gradient goes
 * through who is near. With s an object's unit of error (train/graph_data.h), y a prediction and t what was recorded,
 *     e = (y - t) / s      loss = mean over windows, steps and the objects' numbers of w_k e^2.
 * What the objects share is linear and known before training: it is rolled out too, and is no part of the loss.
 *
 * Windows are worked in chunks: their objects are rows of one matrix, their edges of another, numbered by the first. One object,
 * one thread; nothing is allocated after creation. */
#ifndef ESP_TRAIN_GRAPH_LOSS_H
#define ESP_TRAIN_GRAPH_LOSS_H

#include "train/graph_net.h"
#include "train/rollout.h"

typedef struct esp_graph_loss esp_graph_loss;

/* Borrows all three; at most `steps` steps a window. Errors: NOMEM. */
ESP_MUST_CHECK esp_code esp_graph_loss_create(const esp_graph_net *net, const esp_graph_data *data, const esp_windows *windows, int steps,
                                              esp_graph_loss **ret_loss, esp_error *reterr);
void esp_graph_loss_free(esp_graph_loss *loss);

/* As esp_rollout_loss, noise on the features that vary. ret_squares (ny), when not NULL: sums of w_k e^2 in the units of
 * windows->y_scale, the shared numbers' too. */
double esp_graph_loss_run(esp_graph_loss *loss, const esp_rollout_call *call, double *ret_squares);

#endif
