/* SPDX-License-Identifier: Apache-2.0
 * A network's forward pass with a bound of its own rounding. */
#include "certify/layers.h"

#include <string.h>

#include "certify/norms.h"
#include "certify/rounding.h"

void esp_layer_affine(int rows, int n, const double *m, const double *b, const double *x, double *y) {
    for (int i = 0; i < rows; i++) {
        const double *restrict row = m + (size_t)i * (size_t)n;
        double s[4] = {b ? b[i] : 0, 0, 0, 0};
        int j = 0;
        for (; j + 4 <= n; j += 4) {
            for (int q = 0; q < 4; q++) s[q] += row[j + q] * x[j + q];
        }
        for (; j < n; j++) s[0] += row[j] * x[j];
        y[i] = (s[0] + s[1]) + (s[2] + s[3]);
    }
}

void esp_layer_activate(const esp_layer *layer, double *h) {
    for (int i = 0; i < layer->n_out; i++) {
        if (layer->act[i] == ESP_ACT_ZERO) h[i] = 0;
        if (layer->act[i] == ESP_ACT_RELU && h[i] < 0) h[i] = 0; /* a NaN passes and is seen */
    }
}

double esp_layer_error(const esp_layer *layer, const esp_layer_norms *norms, double error, double h_norm) {
    double terms = esp_add_up(norms->bias, esp_mul_up(norms->frobenius, h_norm));
    if (terms <= 0 && error <= 0) return 0;
    double local = esp_gamma((size_t)layer->n_in + 4) * terms + (double)(layer->n_in + 4) * (double)layer->n_out * ESP_TINY;
    return esp_add_up(esp_mul_up(norms->spectral, error), esp_round_up(local, 2));
}

/* sum of |m_ij| |x_j| over row i */
static double abs_row(int n, const double *row, const double *x) {
    double sum = 0;
    for (int j = 0; j < n; j++) sum += fabs(row[j]) * fabs(x[j]);
    return sum;
}

void esp_layer_input(const esp_model *model, const double *x, double *ret_v, double *ret_error) {
    int nf_in = esp_net_inputs(model->net), n_big_y = model->history * model->ny, n_big_u = model->history * model->nu;
    const esp_frame *frame = &model->frame;
    *ret_error = 0;
    if (model->kind == ESP_MODEL_POLICY || frame->kind != ESP_FRAME_LINEAR) {
        memcpy(ret_v, x, (size_t)nf_in * sizeof *ret_v);
        return;
    }
    const double *y = x, *u = x + n_big_y;
    int terms = n_big_y + n_big_u + 4;
    for (int i = 0; i < nf_in; i++) {
        const double *c = frame->c + (size_t)i * (size_t)n_big_y, *d = frame->d + (size_t)i * (size_t)n_big_u;
        double sum = 0;
        for (int j = 0; j < n_big_y; j++) sum += c[j] * y[j];
        for (int j = 0; j < n_big_u; j++) sum += d[j] * u[j];
        ret_v[i] = sum;
        double magnitude = abs_row(n_big_y, c, y) + abs_row(n_big_u, d, u);
        if (!(magnitude <= 0)) *ret_error += esp_gamma((size_t)terms) * magnitude + (double)terms * ESP_TINY; /* |.|_2 <= |.|_1 */
    }
    if (!(*ret_error <= 0)) *ret_error = esp_round_up(*ret_error, (size_t)nf_in);
}
