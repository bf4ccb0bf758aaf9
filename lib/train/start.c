/* SPDX-License-Identifier: Apache-2.0
 * Unfolding of a model's weights into those of the network in training, and the teacher's targets. */
#include "train/start.h"

#include <assert.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/linalg.h"

#define CHUNK 256 /* rows of a forward pass */

/* Row i of layer l: weights in units of the network in training, and its bias. */
static void unfold_row(const esp_layer *layer, const esp_scales *s, int i, bool first, bool last, float *ret_w, float *ret_b) {
    double b = layer->b[i], scale = last ? s->out_scale[i] : 1, mean = last ? s->out_mean[i] : 0;
    for (int j = 0; j < layer->n_in; j++) {
        double weight = layer->w[(size_t)i * (size_t)layer->n_in + (size_t)j];
        if (first) b += weight * s->in_mean[j];
        if (first) weight *= s->in_scale[j];
        ret_w[j] = scale > 0 ? (float)(weight / scale) : 0;
    }
    *ret_b = scale > 0 ? (float)((b - mean) / scale) : 0;
}

void esp_start_unfold_layer(const esp_layer *layer, const esp_scales *scales, bool first, bool last, float *ret_w, float *ret_b) {
    for (int i = 0; i < layer->n_out; i++) unfold_row(layer, scales, i, first, last, ret_w + (size_t)i * (size_t)layer->n_in, ret_b + i);
}

esp_code esp_start_check(const float *params, size_t n, esp_error *reterr) {
    for (size_t i = 0; i < n; i++)
        if (!isfinite(params[i])) return esp_fail(reterr, ESP_NUMERIC, "the model's weights are too large to be trained in single precision");
    return ESP_OK;
}

esp_code esp_start_unfold(const esp_net *net, const esp_mlp *mlp, const esp_scales *scales, float *params, esp_error *reterr) {
    for (int l = 0; l < net->n_layers; l++) {
        const esp_layer *layer = &net->layers[l];
        assert(layer->n_in == mlp->width[l] && layer->n_out == mlp->width[l + 1]);
        esp_start_unfold_layer(layer, scales, l == 0, l == net->n_layers - 1, params + mlp->weight[l], params + mlp->bias[l]);
    }
    return esp_start_check(params, mlp->n_params, reterr);
}

static esp_code begin_ladder(const esp_net *net, const esp_mlp *mlp, esp_ladder *ladder, esp_error *reterr) {
    uint8_t *acts = malloc(mlp->n_neurons + 1);
    if (!acts) return esp_fail(reterr, ESP_NOMEM, "masks of %zu neurons", mlp->n_neurons);
    for (int l = 0; l < net->n_layers - 1; l++) memcpy(acts + mlp->neuron[l], net->layers[l].act, (size_t)net->layers[l].n_out);
    esp_ladder_begin(ladder, acts);
    free(acts);
    return ESP_OK;
}

/* t = (1 - weight) t + weight g f0(v) on the training rows. */
static esp_code move_targets(double weight, const esp_mlp *mlp, const float *params, const esp_ladder *ladder, esp_windows *w, esp_error *reterr) {
    size_t n_in = (size_t)w->n_in, n_out = (size_t)w->n_out, ny = (size_t)w->ny;
    size_t tape_floats = esp_tape_floats(mlp, CHUNK), packed_floats = esp_padded(mlp->n_packed);
    esp_tape tape;
    float *memory = calloc(tape_floats + packed_floats, sizeof *memory), *packed = memory ? memory + tape_floats : NULL;
    if (!memory) return esp_fail(reterr, ESP_NOMEM, "the teacher's predictions");
    esp_tape_init(&tape, mlp, CHUNK, memory);
    esp_mlp_pack(mlp, params, ladder->pos, ladder->neg, packed);
    for (size_t row = 0; row < w->n_train_rows; row += CHUNK) {
        size_t n = w->n_train_rows - row < CHUNK ? w->n_train_rows - row : CHUNK;
        for (size_t i = 0; i < n; i++) memcpy(tape.x + i * esp_padded(n_in), w->features + (row + i) * n_in, n_in * sizeof *tape.x);
        esp_mlp_forward(mlp, packed, n, false, &tape);
        esp_sgemm(ESP_NO, ESP_T, n, ny, n_out, (float)weight, tape.h[mlp->n_layers - 1], esp_padded(n_out), w->g, n_out, (float)(1 - weight),
                  w->targets + row * ny, ny);
    }
    free(memory);
    return ESP_OK;
}

esp_code esp_start_load(const esp_model *model, double distill_weight, const esp_mlp *mlp, esp_windows *windows, float *ret_params,
                        esp_ladder *ladder, esp_error *reterr) {
    assert(model->net->n_layers == mlp->n_layers);
    const esp_scales scales = {windows->in_mean, windows->in_scale, windows->out_mean, windows->out_scale};
    esp_code code = esp_start_unfold(model->net, mlp, &scales, ret_params, reterr);
    if (code == ESP_OK) code = begin_ladder(model->net, mlp, ladder, reterr);
    if (code == ESP_OK && distill_weight > 0) code = move_targets(distill_weight, mlp, ret_params, ladder, windows, reterr);
    return code;
}
