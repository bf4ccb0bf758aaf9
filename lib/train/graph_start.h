/* SPDX-License-Identifier: Apache-2.0
 * Training that starts from a graph network: start.h for five networks. The scales are those of the data that it is trained on now;
 * what the objects share is fitted to that data, too (train/graph_data.h), and not taken from the model.
 *
 * Distillation moves the targets of the training rows to t = (1 - beta) t + beta f0(x), f0 the model in double with the edges at x. */
#ifndef ESP_TRAIN_GRAPH_START_H
#define ESP_TRAIN_GRAPH_START_H

#include "train/graph_net.h"
#include "train/windows.h"

/* The graph's weights into params (n_params), its masks into the ladder; its sizes are those of net. Targets of the data are moved when
 * distill_weight is over 0; `pulse` is called before each row of that and stops the work when it fails. Errors: NUMERIC when a
 * weight is not finite as a float, NOMEM, those of pulse. */
ESP_MUST_CHECK esp_code esp_graph_start_load(const esp_graph *graph, double distill_weight, const esp_graph_net *net, const esp_windows *windows,
                                             esp_code (*pulse)(void *user, esp_error *reterr), void *user, esp_graph_data *data, float *ret_params,
                                             esp_ladder *ladder, esp_error *reterr);

#endif
