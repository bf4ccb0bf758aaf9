/* SPDX-License-Identifier: Apache-2.0
 * Ranges of a model's ReLUs over a box, and the neurons that they settle. */
#include "certify/stable.h"

#include <assert.h>
#include <stdbool.h>

#include "certify/crown.h"
#include "certify/lowering.h"

/* Ranges of p that hold for the model itself and not only for its program. */
static esp_code find_ranges(const esp_model *model, const esp_box *box, esp_ranges **ret_ranges, esp_error *reterr) {
    esp_program *program = NULL, *slack = NULL;
    esp_crown *crown = NULL;
    esp_ranges *ranges = NULL;
    esp_code code = esp_program_lower(model, &program, reterr);
    if (!code) code = esp_lowering_slack(model, &slack, reterr);
    if (!code) code = esp_crown_create(program, &crown, reterr);
    if (!code) code = esp_ranges_create(program->n_r, program->n_y, &ranges, reterr);
    if (code) goto out;
    esp_ranges_open(ranges);
    esp_crown_slack(crown, slack);
    esp_crown_box(crown, box->lower, box->upper);
    bool some = esp_crown_run(crown, ESP_CROWN_BACKWARD, 0, false, ranges);
    assert(some); /* nothing was assumed of p, so that no intersection can be empty */
    (void)some;
    *ret_ranges = ranges;
    ranges = NULL;
out:
    esp_ranges_free(ranges);
    esp_crown_free(crown);
    esp_program_free(slack);
    esp_program_free(program);
    return code;
}

/* A zero neuron's weights have no effect: they are zero too and are not counted. */
static void clear(esp_net *net, int l, int i) {
    esp_layer *layer = &net->layers[l];
    for (int j = 0; j < layer->n_in; j++) layer->w[(size_t)i * (size_t)layer->n_in + (size_t)j] = 0;
    layer->b[i] = 0;
    if (l + 1 == net->n_layers) return;
    esp_layer *next = layer + 1;
    for (int k = 0; k < next->n_out; k++) next->w[(size_t)k * (size_t)next->n_in + (size_t)i] = 0;
}

static esp_stable settle(esp_net *net, const esp_ranges *ranges) {
    esp_stable made = {0};
    int r = 0;
    for (int l = 0; l < net->n_layers; l++)
        for (int i = 0; i < net->layers[l].n_out; i++) {
            uint8_t *act = &net->layers[l].act[i];
            if (*act != ESP_ACT_RELU) continue;
            bool on = ranges->p_lower[r] >= 0, off = ranges->p_upper[r] <= 0;
            r++;
            if (off) {
                *act = ESP_ACT_ZERO;
                clear(net, l, i);
                made.zero++;
            } else if (on) {
                *act = ESP_ACT_IDENTITY;
                made.linear++;
            }
        }
    assert(r == ranges->n_r);
    return made;
}

esp_code esp_stable_resolve(const esp_model *model, const esp_box *box, esp_model **ret_model, esp_stable *ret_stable, esp_error *reterr) {
    esp_ranges *ranges = NULL;
    esp_net *net = NULL;
    esp_model *made = NULL;
    assert(box->n == esp_model_n_x(model));
    esp_code code = find_ranges(model, box, &ranges, reterr);
    if (!code) code = esp_net_copy(model->net, &net, reterr);
    if (!code) {
        esp_stable stable = settle(net, ranges);
        code = esp_model_create(model->kind, model->ny, model->nu, model->history, &model->frame, net, &made, reterr); /* takes net */
        if (!code) *ret_stable = stable;
    }
    if (!code) *ret_model = made;
    esp_ranges_free(ranges);
    return code;
}
