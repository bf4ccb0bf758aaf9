/* SPDX-License-Identifier: Apache-2.0
 * The derivative of a model over a box, by intervals. Not a norm of it: the callers take the one they need.
 *
 * Forwards, layer by layer: J = V for the network's input, then J := S W J with S diagonal, 1 for an identity and a ReLU
 * that is always on, 0 for a zero and one that is always off, [0, 1] for a ReLU that can be either (the Clarke derivative).
 * Which is which comes from affine forms of the same network over the same box. */
#include "certify/jacobian.h"

#include <stdlib.h>
#include <string.h>

#include "certify/rounding.h"

enum { SYMBOLS = 256 };

struct esp_jacobian {
    const esp_model *model; /* borrowed */
    esp_maps maps;
    esp_space space;
    esp_forms *x, *now, *next;
    double *lo, *hi, *next_lo, *next_hi; /* widest x n_x each */
    double *memory;
};

esp_code esp_jacobian_create(const esp_model *model, esp_jacobian **ret_jacobian, esp_error *reterr) {
    int widest = esp_net_widest(model->net), n_in = esp_net_inputs(model->net), n_x = esp_model_n_x(model);
    if (n_in > widest) widest = n_in;
    esp_jacobian *j = calloc(1, sizeof *j);
    if (!j) return esp_fail(reterr, ESP_NOMEM, "no memory for a derivative");
    j->model = model;
    j->space.most = n_x + SYMBOLS;
    esp_code code = esp_maps_init(model, &j->maps, reterr);
    if (!code) code = esp_forms_create(&j->space, n_x, &j->x, reterr);
    if (!code) code = esp_forms_create(&j->space, widest, &j->now, reterr);
    if (!code) code = esp_forms_create(&j->space, widest, &j->next, reterr);
    size_t each = (size_t)widest * (size_t)n_x;
    if (!code && !(j->memory = calloc(4 * each, sizeof *j->memory))) code = esp_fail(reterr, ESP_NOMEM, "no memory for a derivative");
    if (code) {
        esp_jacobian_free(j);
        return code;
    }
    j->lo = j->memory;
    j->hi = j->lo + each;
    j->next_lo = j->hi + each;
    j->next_hi = j->next_lo + each;
    *ret_jacobian = j;
    return ESP_OK;
}

void esp_jacobian_free(esp_jacobian *jacobian) {
    if (!jacobian) return;
    esp_maps_done(&jacobian->maps);
    esp_forms_free(jacobian->x);
    esp_forms_free(jacobian->now);
    esp_forms_free(jacobian->next);
    free(jacobian->memory);
    free(jacobian);
}

/* ---- intervals ---------------------------------------------------------------------------------------------------- */

double esp_interval_size(double lower, double upper) {
    return esp_max(esp_abs(lower), esp_abs(upper));
}

/* One entry: base + sum_j w_j [lower_j, upper_j], the bounds `stride` apart. */
static void product_entry(int n, const double *w, const double *lower, const double *upper, size_t stride, double base, double *ret_lower,
                          double *ret_upper) {
    double lo = base, hi = base, magnitude = fabs(base);
    int terms = 0;
    for (int j = 0; j < n; j++) {
        double l = lower[(size_t)j * stride], u = upper[(size_t)j * stride];
        if (w[j] == 0 || (l == 0 && u == 0)) continue;
        lo += w[j] > 0 ? w[j] * l : w[j] * u;
        hi += w[j] > 0 ? w[j] * u : w[j] * l;
        magnitude += fabs(w[j]) * esp_interval_size(l, u);
        terms++;
    }
    double error = terms ? esp_gamma((size_t)terms + 4) * esp_abs(magnitude) + (double)terms * ESP_TINY : 0;
    lo -= error;
    hi += error;
    bool known = lo <= hi; /* not so for infinity minus infinity */
    *ret_lower = known ? lo : -HUGE_VAL;
    *ret_upper = known ? hi : HUGE_VAL;
}

void esp_interval_product(int rows, int n, int cols, const double *w, const double *lower, const double *upper, const double *base, double *ret_lower,
                          double *ret_upper) {
    for (int i = 0; i < rows; i++)
        for (int c = 0; c < cols; c++) {
            size_t at = (size_t)i * (size_t)cols + (size_t)c;
            product_entry(n, w + (size_t)i * (size_t)n, lower + c, upper + c, (size_t)cols, base ? base[at] : 0, &ret_lower[at], &ret_upper[at]);
        }
}

/* ---- a run -------------------------------------------------------------------------------------------------------- */

/* Row i of the affine image of the block `from`. */
static void form_row(int n, const double *w, double b, const esp_forms *from, esp_forms *to, int i) {
    esp_sum sum = esp_sum_begin(to, i, b);
    for (int j = 0; j < n; j++) esp_sum_add(&sum, w[j], from, j);
    esp_sum_end(&sum);
}

/* The activation of neuron i on its form and on row i (cols) of the derivative. */
static void activate(uint8_t act, const esp_forms *z, esp_forms *h, int i, int cols, double *lo, double *hi) {
    double lower, upper;
    if (act == ESP_ACT_IDENTITY) {
        esp_forms_copy(z, i, h, i);
        return;
    }
    esp_forms_range(z, i, &lower, &upper);
    bool off = act == ESP_ACT_ZERO || upper <= 0;
    if (off) upper = -1, lower = -1;
    esp_forms_relu(z, i, lower, upper, h, i);
    for (int c = 0; c < cols; c++) {
        if (off || (lower < 0 && lo[c] > 0)) lo[c] = 0;
        if (off || (lower < 0 && hi[c] < 0)) hi[c] = 0;
    }
}

static void run_layer(esp_jacobian *j, const esp_layer *layer) {
    int cols = j->maps.n_x;
    size_t stride = (size_t)cols;
    for (int i = 0; i < layer->n_out; i++) form_row(layer->n_in, layer->w + (size_t)i * (size_t)layer->n_in, layer->b[i], j->now, j->next, i);
    esp_interval_product(layer->n_out, layer->n_in, cols, layer->w, j->lo, j->hi, NULL, j->next_lo, j->next_hi);
    for (int i = 0; i < layer->n_out; i++)
        activate(layer->act[i], j->next, j->now, i, cols, j->next_lo + (size_t)i * stride, j->next_hi + (size_t)i * stride);
    double *lo = j->lo, *hi = j->hi;
    j->lo = j->next_lo;
    j->hi = j->next_hi;
    j->next_lo = lo;
    j->next_hi = hi;
}

void esp_jacobian_run(esp_jacobian *j, const double *lower, const double *upper, double *ret_lower, double *ret_upper) {
    const esp_maps *maps = &j->maps;
    const esp_net *net = j->model->net;
    size_t n_x = (size_t)maps->n_x;
    esp_space_clear(&j->space);
    for (int i = 0; i < maps->n_x; i++) esp_forms_box(j->x, i, lower[i], upper[i]);
    for (int i = 0; i < maps->n_v; i++) form_row(maps->n_x, maps->v + (size_t)i * n_x, 0, j->x, j->now, i);
    memcpy(j->lo, maps->v, (size_t)maps->n_v * n_x * sizeof(double));
    memcpy(j->hi, maps->v, (size_t)maps->n_v * n_x * sizeof(double));
    for (int l = 0; l < net->n_layers; l++) run_layer(j, &net->layers[l]);
    esp_interval_product(maps->n_y, maps->n_f, maps->n_x, maps->g, j->lo, j->hi, maps->k, ret_lower, ret_upper);
}
