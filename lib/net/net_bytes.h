/* SPDX-License-Identifier: Apache-2.0
 * Private to the model file: a network's three parts in it, which need not follow each other. */
#ifndef ESP_NET_NET_BYTES_H
#define ESP_NET_NET_BYTES_H

#include "base/buf.h"
#include "net/net.h"

typedef struct esp_net_shape {
    uint32_t n_layers;
    int widths[ESP_MAX_LAYERS + 1];
    size_t n_act, n_numbers; /* what they ask for: bytes, numbers */
} esp_net_shape;

void esp_net_put_shape(const esp_net *net, esp_buf *out); /* the number of layers and their widths */
void esp_net_put_acts(const esp_net *net, esp_buf *out);
void esp_net_put_numbers(const esp_net *net, esp_buf *out);

/* Within the caps; takes no memory. Errors: CORRUPT. */
ESP_MUST_CHECK esp_code esp_net_take_shape(esp_cursor *cursor, esp_net_shape *ret_shape, esp_error *reterr);
/* The network, without its numbers. Errors: CORRUPT, NOMEM. */
ESP_MUST_CHECK esp_code esp_net_take_acts(esp_cursor *cursor, const esp_net_shape *shape, esp_net **ret_net, esp_error *reterr);
void esp_net_take_numbers(esp_cursor *cursor, esp_net *net);

#endif
