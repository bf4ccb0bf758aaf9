/* SPDX-License-Identifier: Apache-2.0
 * What closed_form.c and candidate.c share. Private to lib/certify. */
#ifndef ESP_CERTIFY_CLOSED_FORM_PRIVATE_H
#define ESP_CERTIFY_CLOSED_FORM_PRIVATE_H

#include "certify/closed_form.h"
#include "certify/layers.h"

#define ESP_FORM_BUFFERS 9 /* each `width` long */

struct esp_closed_form {
    const esp_model *model; /* borrowed */
    size_t width; /* longest vector of the network, its input and the model's input included */
    esp_layer_norms *norms; /* per layer */
    double *suffix; /* per layer: |G| prod_{j>k} |W_j|; heads the block that work is in */
    double *ratio; /* per layer: what rescaling makes of suffix, over suffix */
    double *work;
    double frame_norm, frame_frobenius; /* |G|_2 and |G|_F, 1 without a linear frame */
};

/* Norms of the matrix w (n_out x n_in) and vector b (n_out) in the shape of a layer. */
ESP_MUST_CHECK esp_code esp_layer_norms_of(const esp_layer *layer, const double *w, const double *b, esp_layer_norms *ret, esp_error *reterr);

/* Has the model a linear frame, and so a G? */
static inline bool esp_model_has_gain(const esp_model *model) {
    return model->kind == ESP_MODEL_DYNAMICS && model->frame.kind == ESP_FRAME_LINEAR;
}

#endif
