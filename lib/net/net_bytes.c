/* SPDX-License-Identifier: Apache-2.0
 * A network's layer widths, activations and numbers, to bytes and back. */
#include "net/net_bytes.h"

#include <string.h>

void esp_net_put_shape(const esp_net *net, esp_buf *out) {
    esp_buf_put_u32(out, (uint32_t)net->n_layers);
    esp_buf_put_u32(out, (uint32_t)esp_net_inputs(net));
    for (int l = 0; l < net->n_layers; l++) esp_buf_put_u32(out, (uint32_t)net->layers[l].n_out);
}

void esp_net_put_acts(const esp_net *net, esp_buf *out) {
    for (int l = 0; l < net->n_layers; l++) esp_buf_put(out, net->layers[l].act, (size_t)net->layers[l].n_out);
}

void esp_net_put_numbers(const esp_net *net, esp_buf *out) {
    for (int l = 0; l < net->n_layers; l++) {
        const esp_layer *layer = &net->layers[l];
        esp_buf_put_doubles(out, layer->w, (size_t)layer->n_out * (size_t)layer->n_in);
        esp_buf_put_doubles(out, layer->b, (size_t)layer->n_out);
    }
}

esp_code esp_net_take_shape(esp_cursor *cursor, esp_net_shape *ret_shape, esp_error *reterr) {
    esp_net_shape shape = {.n_layers = esp_cursor_u32(cursor)};
    if (shape.n_layers < 1 || shape.n_layers > ESP_MAX_LAYERS) return esp_fail(reterr, ESP_CORRUPT, "a model file of %u layers", shape.n_layers);
    for (uint32_t l = 0; l <= shape.n_layers; l++) {
        uint32_t width = esp_cursor_u32(cursor);
        if (width < 1 || width > ESP_MAX_WIDTH) return esp_fail(reterr, ESP_CORRUPT, "layer width %u of the model file", width);
        shape.widths[l] = (int)width;
        if (l == 0) continue;
        shape.n_act += width;
        shape.n_numbers += (size_t)width * ((size_t)shape.widths[l - 1] + 1);
    }
    *ret_shape = shape;
    return ESP_OK;
}

static esp_code read_acts(esp_cursor *cursor, esp_net *net, esp_error *reterr) {
    for (int l = 0; l < net->n_layers; l++) {
        esp_layer *layer = &net->layers[l];
        const void *acts = esp_cursor_bytes(cursor, (size_t)layer->n_out);
        if (!acts) return esp_fail(reterr, ESP_CORRUPT, "the model file is cut short");
        memcpy(layer->act, acts, (size_t)layer->n_out);
        for (int i = 0; i < layer->n_out; i++)
            if (layer->act[i] > ESP_ACT_IDENTITY) return esp_fail(reterr, ESP_CORRUPT, "activation %d of the model file", layer->act[i]);
    }
    return ESP_OK;
}

esp_code esp_net_take_acts(esp_cursor *cursor, const esp_net_shape *shape, esp_net **ret_net, esp_error *reterr) {
    esp_net *net = NULL;
    esp_error why = {0};
    esp_code code = esp_net_create((int)shape->n_layers, shape->widths, &net, &why);
    if (code != ESP_OK) return esp_fail(reterr, code == ESP_INVALID ? ESP_CORRUPT : code, "model file: %s", why.message);
    code = read_acts(cursor, net, reterr);
    if (code == ESP_OK)
        *ret_net = net;
    else
        esp_net_free(net);
    return code;
}

void esp_net_take_numbers(esp_cursor *cursor, esp_net *net) {
    for (int l = 0; l < net->n_layers; l++) {
        esp_layer *layer = &net->layers[l];
        esp_cursor_doubles(cursor, layer->w, (size_t)layer->n_out * (size_t)layer->n_in);
        esp_cursor_doubles(cursor, layer->b, (size_t)layer->n_out);
    }
}
