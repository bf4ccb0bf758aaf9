/* SPDX-License-Identifier: Apache-2.0
 * Rescaling of neurons for the least product of norms.
 *
 * The scales between layer j and j + 1, for j >= 2: those between the first two are of no use, since the norms downstream of
 * layer 1 begin with W_2, and of a product |T_2 W_2 T_1^-1| |T_1| the least is |T_2 W_2|. The search: with u, v the top singular
 * vectors of M_j = T_j W_j T_{j-1}^-1,
 *
 *     d log |M_j| / d log t_j = u^2        d log |M_j| / d log t_{j-1} = -v^2        (entrywise)
 *
 * so log t_j goes down by a step times u^2 of M_j minus v^2 of M_{j+1}. Nothing of that is trusted: for the scales it ends
 * with the norms are proved from above as any others (norms.c). Entries of a scaled matrix are rounded, three times at most, which
 * is charged by 8 u |M|_F. The constant from layer k on is the least of |T_{k+1} W_{k+1}| prod_{j>k+1} |M_j| and |W_{k+1}| times
 * the constant from layer k + 1. */
#include "certify/rescale.h"

#include <stdlib.h>
#include <string.h>

#include "certify/norms.h"
#include "certify/rounding.h"

#define STEPS  60
#define POWERS 4

typedef struct rescaling {
    const esp_net *net;
    size_t width; /* of the widest layer */
    double *t; /* n_layers x width: scales of each layer's outputs; 1 in the first and the last */
    double *v, *u; /* n_layers x width: singular vectors, not normed until used */
    double *m; /* the largest matrix */
} rescaling;

static double *scales(const rescaling *r, int layer) {
    return r->t + (size_t)layer * r->width;
}

/* M = T_k W_k T_{k-1}^-1, or T_k W_k. */
static void scaled_matrix(const rescaling *r, int k, int right, double *ret_m) {
    const esp_layer *layer = &r->net->layers[k];
    const double *rows = scales(r, k), *columns = k > 0 && right ? scales(r, k - 1) : NULL;
    for (int i = 0; i < layer->n_out; i++) {
        for (int j = 0; j < layer->n_in; j++) {
            size_t at = (size_t)i * (size_t)layer->n_in + (size_t)j;
            ret_m[at] = columns ? rows[i] * layer->w[at] / columns[j] : rows[i] * layer->w[at];
        }
    }
}

/* Some power steps from the vectors of before; v and u are of norm 1 after. */
static void singular(const rescaling *r, int k, double *v, double *u) {
    const esp_layer *layer = &r->net->layers[k];
    size_t n_in = (size_t)layer->n_in, n_out = (size_t)layer->n_out;
    scaled_matrix(r, k, 1, r->m);
    for (int step = 0; step < POWERS; step++) {
        for (size_t i = 0; i < n_out; i++) {
            u[i] = 0;
            for (size_t j = 0; j < n_in; j++) u[i] += r->m[i * n_in + j] * v[j];
        }
        double size = esp_norm2_up(n_out, u);
        for (size_t i = 0; i < n_out; i++) u[i] /= size > 0 ? size : 1;
        memset(v, 0, n_in * sizeof *v);
        for (size_t i = 0; i < n_out; i++)
            for (size_t j = 0; j < n_in; j++) v[j] += r->m[i * n_in + j] * u[i];
        size = esp_norm2_up(n_in, v);
        for (size_t j = 0; j < n_in; j++) v[j] = size > 0 ? v[j] / size : 1 / sqrt((double)n_in);
    }
}

static void search(rescaling *r) {
    int n = r->net->n_layers;
    for (int step = 0; step < STEPS; step++) {
        double reach = 1.0 / (1 + 0.1 * step);
        for (int k = 1; k < n; k++) singular(r, k, r->v + (size_t)k * r->width, r->u + (size_t)k * r->width);
        for (int k = 1; k + 1 < n; k++) {
            const double *u = r->u + (size_t)k * r->width, *v = r->v + (size_t)(k + 1) * r->width;
            double *t = scales(r, k);
            for (int i = 0; i < r->net->layers[k].n_out; i++) {
                double to = t[i] * exp(-reach * (u[i] * u[i] - v[i] * v[i]));
                if (to > 1e-100 && to < 1e100) t[i] = to;
            }
        }
    }
}

/* An upper bound of |T_k W_k T_{k-1}^-1| (right) or |T_k W_k|, for the exact products. */
static esp_code norm_of(const rescaling *r, int k, int right, double *ret_norm, esp_error *reterr) {
    size_t m = (size_t)r->net->layers[k].n_out, n = (size_t)r->net->layers[k].n_in;
    scaled_matrix(r, k, right, r->m);
    esp_code code = esp_norm_upper(m, n, r->m, ret_norm, NULL);
    if (code == ESP_NUMERIC) { /* scaled out of range: no bound by these */
        *ret_norm = HUGE_VAL;
        return ESP_OK;
    }
    if (code) return esp_fail(reterr, code, "no memory for the norm of layer %d", k + 1);
    /* what underflowed in three operations is below ESP_TINY times the largest scale and its inverse, 1e200 */
    double rounding = esp_add_up(esp_mul_up(8 * ESP_U, esp_norm2_up(m * n, r->m)), (double)(m * n) * 1e-100);
    *ret_norm = esp_add_up(*ret_norm, rounding);
    return ESP_OK;
}

static esp_code suffixes(const rescaling *r, const double *spectral, double *ret_suffix, esp_error *reterr) {
    int n = r->net->n_layers;
    double scaled = 1, left, both; /* scaled: prod of |M_j| from the layer after next on */
    ret_suffix[n - 1] = 1;
    for (int k = n - 2; k >= 0; k--) {
        ret_suffix[k] = esp_mul_up(spectral[k + 1], ret_suffix[k + 1]);
        if (n < 3) continue;
        esp_code code = norm_of(r, k + 1, 0, &left, reterr);
        if (!code) code = norm_of(r, k + 1, 1, &both, reterr);
        if (code) return code;
        ret_suffix[k] = esp_min(ret_suffix[k], esp_mul_up(left, scaled));
        scaled = esp_mul_up(scaled, both);
    }
    return ESP_OK;
}

esp_code esp_rescaled_suffix(const esp_net *net, const double *spectral, double *ret_suffix, esp_error *reterr) {
    size_t largest = 1, width = (size_t)esp_net_widest(net), layers = (size_t)net->n_layers;
    if ((size_t)esp_net_inputs(net) > width) width = (size_t)esp_net_inputs(net);
    for (int k = 0; k < net->n_layers; k++) {
        size_t size = (size_t)net->layers[k].n_in * (size_t)net->layers[k].n_out;
        if (size > largest) largest = size;
    }
    double *memory = malloc((3 * layers * width + largest) * sizeof *memory);
    if (!memory) return esp_fail(reterr, ESP_NOMEM, "no memory to rescale %zu layers", layers);
    rescaling r = {net, width, memory, memory + layers * width, memory + 2 * layers * width, memory + 3 * layers * width};
    for (size_t i = 0; i < layers * width; i++) {
        r.t[i] = 1;
        r.v[i] = 1 + 0.5 * sin(1.0 + 3.7 * (double)i);
    }
    search(&r);
    esp_code code = suffixes(&r, spectral, ret_suffix, reterr);
    free(memory);
    return code;
}
