/* SPDX-License-Identifier: Apache-2.0
 * Private to the JSON forms of models: a network as the array of its layers, and a graph network. */
#ifndef ESP_NET_NET_JSON_H
#define ESP_NET_NET_JSON_H

#include "net/model.h"

ESP_MUST_CHECK esp_code esp_net_parse_json(const esp_reader *layers, esp_net **ret_net, esp_error *reterr);
void esp_net_format_json(const esp_net *net, const char *key, esp_jsonw *w);

/* {"ny","nu","graph"}: the whole of a graph model. */
ESP_MUST_CHECK esp_code esp_graph_parse_json(const esp_reader *root, esp_model **ret_model, esp_error *reterr);
void esp_graph_format_json(const esp_model *model, esp_jsonw *w);

#endif
