/* SPDX-License-Identifier: Apache-2.0
 * The network value: one block of memory, its counts and its plain forward pass. Not the form that is bounded or
 * planned over: that is program.c. */
#include "net/net.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

esp_code esp_net_create(int n_layers, const int *widths, esp_net **ret_net, esp_error *reterr) {
    if (n_layers < 1 || n_layers > ESP_MAX_LAYERS)
        return esp_fail(reterr, ESP_INVALID, "a network has 1 to %d layers, not %d", ESP_MAX_LAYERS, n_layers);
    size_t n_numbers = 0, n_neurons = 0;
    for (int l = 0; l <= n_layers; l++) {
        if (widths[l] < 1 || widths[l] > ESP_MAX_WIDTH)
            return esp_fail(reterr, ESP_INVALID, "a layer has 1 to %d neurons, not %d", ESP_MAX_WIDTH, widths[l]);
        if (l == 0) continue;
        n_numbers += (size_t)widths[l] * ((size_t)widths[l - 1] + 1);
        n_neurons += (size_t)widths[l];
    }
    if (n_numbers > ESP_MAX_PARAMETERS)
        return esp_fail(reterr, ESP_INVALID, "a network has at most %d parameters, not %zu", ESP_MAX_PARAMETERS, n_numbers);

    /* One block: the value, its layers, all numbers, all activations; each part is aligned by the one before it. */
    size_t head = sizeof(esp_net) + (size_t)n_layers * sizeof(esp_layer);
    esp_net *net = calloc(1, head + n_numbers * sizeof(double) + n_neurons);
    if (!net) return esp_fail(reterr, ESP_NOMEM, "a network of %zu parameters", n_numbers);
    net->n_layers = n_layers;
    net->layers = (esp_layer *)(net + 1);
    double *numbers = (double *)(net->layers + n_layers);
    uint8_t *act = (uint8_t *)(numbers + n_numbers);
    for (int l = 0; l < n_layers; l++) {
        size_t n_in = (size_t)widths[l], n_out = (size_t)widths[l + 1];
        net->layers[l] = (esp_layer){widths[l], widths[l + 1], numbers, numbers + n_out * n_in, act};
        memset(act, l == n_layers - 1 ? ESP_ACT_IDENTITY : ESP_ACT_RELU, n_out);
        numbers += n_out * (n_in + 1);
        act += n_out;
    }
    *ret_net = net;
    return ESP_OK;
}

esp_code esp_net_copy(const esp_net *net, esp_net **ret_net, esp_error *reterr) {
    int widths[ESP_MAX_LAYERS + 1];
    widths[0] = esp_net_inputs(net);
    for (int l = 0; l < net->n_layers; l++) widths[l + 1] = net->layers[l].n_out;
    esp_net *copy = NULL;
    esp_code code = esp_net_create(net->n_layers, widths, &copy, reterr);
    if (code != ESP_OK) return code;
    for (int l = 0; l < net->n_layers; l++) {
        const esp_layer *from = &net->layers[l];
        memcpy(copy->layers[l].w, from->w, (size_t)from->n_out * (size_t)from->n_in * sizeof(double));
        memcpy(copy->layers[l].b, from->b, (size_t)from->n_out * sizeof(double));
        memcpy(copy->layers[l].act, from->act, (size_t)from->n_out);
    }
    *ret_net = copy;
    return ESP_OK;
}

void esp_net_free(esp_net *net) {
    free(net);
}

int esp_net_widest(const esp_net *net) {
    int widest = esp_net_inputs(net);
    for (int l = 0; l < net->n_layers; l++)
        if (net->layers[l].n_out > widest) widest = net->layers[l].n_out;
    return widest;
}

int esp_net_relus(const esp_net *net) {
    int n = 0;
    for (int l = 0; l < net->n_layers; l++)
        for (int i = 0; i < net->layers[l].n_out; i++) n += net->layers[l].act[i] == ESP_ACT_RELU;
    return n;
}

int64_t esp_net_parameters(const esp_net *net) {
    int64_t n = 0;
    for (int l = 0; l < net->n_layers; l++) n += (int64_t)net->layers[l].n_out * (net->layers[l].n_in + 1);
    return n;
}

static int64_t count_nonzero(const double *values, size_t n) {
    int64_t count = 0;
    for (size_t i = 0; i < n; i++) count += values[i] != 0;
    return count;
}

int64_t esp_net_nonzero(const esp_net *net) {
    int64_t n = 0;
    for (int l = 0; l < net->n_layers; l++) {
        const esp_layer *layer = &net->layers[l];
        n += count_nonzero(layer->w, (size_t)layer->n_out * (size_t)layer->n_in) + count_nonzero(layer->b, (size_t)layer->n_out);
    }
    return n;
}

/* max(0, p) that lets a NaN through, so that an overflow is seen at the output and not taken for an inactive neuron. */
static double apply(uint8_t act, double p) {
    if (act == ESP_ACT_ZERO) return 0;
    return act == ESP_ACT_RELU && p < 0 ? 0 : p;
}

void esp_layer_forward(const esp_layer *layer, const double *in, const double *residual, double *out) {
    for (int i = 0; i < layer->n_out; i++) {
        const double *w = layer->w + (size_t)i * (size_t)layer->n_in;
        double p = layer->b[i];
        for (int j = 0; j < layer->n_in; j++) p += w[j] * in[j];
        out[i] = apply(layer->act[i], residual ? p + residual[i] : p);
    }
}

void esp_net_forward(const esp_net *net, const double *x, double *y, double *work) {
    double *const half[2] = {work, work + esp_net_widest(net)};
    const double *in = x;
    for (int l = 0; l < net->n_layers; l++) {
        const esp_layer *layer = &net->layers[l];
        double *out = l == net->n_layers - 1 ? y : half[l % 2];
        esp_layer_forward(layer, in, NULL, out);
        in = out;
    }
}

static esp_code check_finite(const double *values, size_t n, int layer, const char *what, esp_error *reterr) {
    for (size_t i = 0; i < n; i++)
        if (!isfinite(values[i])) return esp_fail(reterr, ESP_INVALID, "layer %d has a %s that is not finite", layer + 1, what);
    return ESP_OK;
}

esp_code esp_net_check(const esp_net *net, esp_error *reterr) {
    esp_code code = ESP_OK;
    for (int l = 0; code == ESP_OK && l < net->n_layers; l++) {
        const esp_layer *layer = &net->layers[l];
        code = check_finite(layer->w, (size_t)layer->n_out * (size_t)layer->n_in, l, "weight", reterr);
        if (code == ESP_OK) code = check_finite(layer->b, (size_t)layer->n_out, l, "bias", reterr);
    }
    return code;
}
