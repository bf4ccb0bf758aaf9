/* SPDX-License-Identifier: Apache-2.0
 * What layers see at the calibration inputs, and the Hessian of a layer's error there. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/linalg.h"
#include "sparsify/prune_parts.h"

/* An input whose deviation is below this part of its size is constant: rounding leaves some 1e-16 of it. */
#define CONSTANT 1e-12

void esp_prune_forward(const esp_layer *layer, size_t n, const double *from, double *to) {
    size_t m = (size_t)layer->n_out, k = (size_t)layer->n_in;
    for (size_t i = 0; i < n; i++) memcpy(to + i * m, layer->b, m * sizeof *to);
    esp_dgemm(ESP_NO, ESP_T, n, m, k, 1, from, k, layer->w, k, 1, to, m);
    for (size_t i = 0; i < n; i++) {
        for (size_t j = 0; j < m; j++) {
            double *p = &to[i * m + j];
            if (layer->act[j] == ESP_ACT_ZERO || (layer->act[j] == ESP_ACT_RELU && *p < 0)) *p = 0;
        }
    }
}

esp_code esp_prune_outputs(const esp_net *net, size_t n, const double *inputs, double *ret_outputs, esp_error *reterr) {
    size_t widest = (size_t)esp_net_widest(net), n_in = (size_t)esp_net_inputs(net), n_out = (size_t)esp_net_outputs(net);
    double *work = malloc(2 * PRUNE_PANEL * widest * sizeof *work);
    if (!work) return esp_fail(reterr, ESP_NOMEM, "outputs of a network");
    double *const half[2] = {work, work + PRUNE_PANEL * widest};
    for (size_t i = 0; i < n; i += PRUNE_PANEL) {
        size_t rows = n - i < PRUNE_PANEL ? n - i : PRUNE_PANEL;
        const double *from = inputs + i * n_in;
        for (int k = 0; k < net->n_layers; k++) {
            double *to = k == net->n_layers - 1 ? ret_outputs + i * n_out : half[k % 2];
            esp_prune_forward(&net->layers[k], rows, from, to);
            from = to;
        }
    }
    free(work);
    return ESP_OK;
}

void esp_prune_damp(size_t d, double damping, double *h, uint8_t *ret_dead) {
    for (size_t j = 0; j < d; j++) {
        ret_dead[j] = h[j * d + j] == 0;
        h[j * d + j] = ret_dead[j] ? 1 : h[j * d + j] * (1 + damping);
    }
}

static void find_mean(esp_prune_layer *layer) {
    size_t d = layer->cols;
    for (size_t r = 0; r < layer->n; r++)
        for (size_t j = 0; j < d; j++) layer->mean[j] += layer->x[r * d + j];
    for (size_t j = 0; j < d; j++) layer->mean[j] /= (double)layer->n;
}

/* What rounding has left of a constant input becomes exactly 0, in its row and column too. */
static void clear_constants(esp_prune_layer *layer) {
    size_t d = layer->cols;
    for (size_t j = 0; j < d; j++) {
        double deviation = sqrt(0.5 * layer->h[j * d + j]);
        if (!(deviation <= CONSTANT * fabs(layer->mean[j]))) continue;
        for (size_t k = 0; k < d; k++) layer->h[j * d + k] = layer->h[k * d + j] = 0;
    }
}

esp_code esp_prune_hessian(esp_prune_layer *layer, esp_error *reterr) {
    size_t d = layer->cols;
    memset(layer->mean, 0, d * sizeof *layer->mean);
    if (layer->opts->bias) find_mean(layer);
    for (size_t i = 0; i < layer->n; i += PRUNE_PANEL) {
        size_t rows = layer->n - i < PRUNE_PANEL ? layer->n - i : PRUNE_PANEL;
        for (size_t r = 0; r < rows; r++)
            for (size_t j = 0; j < d; j++) layer->panel[r * d + j] = layer->x[(i + r) * d + j] - layer->mean[j];
        esp_dsyrk(d, rows, 2 / (double)layer->n, layer->panel, d, i ? 1 : 0, layer->h, d);
    }
    for (size_t j = 0; j < d * d; j++)
        if (!isfinite(layer->h[j])) return esp_fail(reterr, ESP_NUMERIC, "the network's activations at the calibration inputs are too large");
    if (layer->opts->bias) clear_constants(layer);
    esp_prune_damp(d, layer->opts->damping, layer->h, layer->dead);
    return ESP_OK;
}

void esp_prune_shift_bias(esp_prune_layer *layer, size_t i, const double *before) {
    double sum = 0;
    for (size_t j = 0; j < layer->cols; j++) sum += (before[j] - layer->w[i * layer->cols + j]) * layer->mean[j];
    layer->b[i] += sum;
}
