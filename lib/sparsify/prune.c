/* SPDX-License-Identifier: Apache-2.0
 * Pruning from its options to the new network: checks, the order of the layers, and what the biases take up. */
#include "sparsify/prune.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "sparsify/prune_parts.h"

esp_code esp_prune_check_stop(const esp_stop *stop, esp_error *reterr) {
    if (!esp_stop_now(stop)) return ESP_OK;
    if (stop->cancelled && stop->cancelled(stop->user)) return esp_fail(reterr, ESP_CANCELLED, "cancelled");
    return esp_fail(reterr, ESP_DEADLINE, "pruning was stopped by its time limit");
}

void esp_prune_count(const esp_net *net, const esp_prune_opts *opts, int64_t *ret_weights, int64_t *ret_zeros) {
    int64_t weights = 0, zeros = 0;
    for (int k = 0; k < net->n_layers; k++) {
        if (!esp_prune_chosen(opts, k)) continue;
        for (size_t q = 0; q < esp_prune_weights(&net->layers[k]); q++) zeros += net->layers[k].w[q] == 0;
        weights += (int64_t)esp_prune_weights(&net->layers[k]);
    }
    *ret_weights = weights;
    *ret_zeros = zeros;
}

static esp_code check_opts(const esp_net *net, size_t n, const esp_prune_opts *opts, esp_error *reterr) {
    bool inputs = opts->method != ESP_PRUNE_MAGNITUDE;
    if (!opts->group && !(opts->sparsity >= 0 && opts->sparsity <= 1)) return esp_fail(reterr, ESP_INVALID, "sparsity lies in [0, 1]");
    if (opts->group < 0 || opts->group > 64 || opts->group == 1) return esp_fail(reterr, ESP_INVALID, "a pattern has groups of 2 to 64");
    if (!(opts->damping >= 0 && opts->damping <= 1e6)) return esp_fail(reterr, ESP_INVALID, "damping lies in [0, 1e6]");
    if (opts->block < 1) return esp_fail(reterr, ESP_INVALID, "a block has at least one column");
    if (opts->scope == ESP_PRUNE_NETWORK && opts->group) return esp_fail(reterr, ESP_INVALID, "patterns go layer by layer");
    for (int i = 0; i < opts->n_layers; i++)
        if (opts->layers[i] < 0 || opts->layers[i] >= net->n_layers || (i && opts->layers[i] <= opts->layers[i - 1]))
            return esp_fail(reterr, ESP_INVALID, "layers rise from 1 to %d", net->n_layers);
    if (inputs && !n) return esp_fail(reterr, ESP_INVALID, "%s needs calibration inputs", esp_prune_method_names[opts->method]);
    if (inputs && n > ESP_PRUNE_ACTIVATIONS_MAX / (size_t)esp_net_widest(net))
        return esp_fail(reterr, ESP_UNPROCESSABLE, "%zu calibration inputs are too many for layers of %d", n, esp_net_widest(net));
    return ESP_OK;
}

/* ---- layer by layer, on the inputs that the layers before give ---- */

typedef struct pass {
    size_t n, widest;
    const double *inputs; /* n x n_in */
    double *from, *to; /* n x the widest: into the layer at hand, out of it */
    size_t targets[ESP_MAX_LAYERS];
    esp_prune_layer job;
} pass;

static esp_code pass_init(pass *p, const esp_net *net, const esp_prune_opts *opts, const esp_stop *stop, esp_arena *arena, esp_error *reterr) {
    size_t cols = 0, weights = 0;
    for (int k = 0; k < net->n_layers; k++) {
        size_t n = esp_prune_weights(&net->layers[k]);
        p->targets[k] = esp_prune_target(opts->sparsity, n);
        if (!esp_prune_chosen(opts, k)) continue;
        if ((size_t)net->layers[k].n_in > cols) cols = (size_t)net->layers[k].n_in;
        if (n > weights) weights = n;
    }
    p->widest = (size_t)esp_net_widest(net);
    p->from = ESP_NEW(arena, double, p->n * p->widest);
    p->to = ESP_NEW(arena, double, p->n * p->widest);
    esp_prune_layer *job = &p->job;
    *job = (esp_prune_layer){.opts = opts, .stop = stop, .n = p->n};
    job->h = ESP_NEW(arena, double, cols *cols);
    job->panel = ESP_NEW(arena, double, PRUNE_PANEL *cols);
    job->importance = ESP_NEW(arena, double, p->widest);
    job->mean = ESP_NEW(arena, double, cols);
    job->dead = ESP_NEW(arena, uint8_t, cols);
    job->mask = ESP_NEW(arena, uint8_t, weights);
    if (!p->from || !p->to || !job->importance || !job->h || !job->panel || !job->mean || !job->dead || !job->mask)
        return esp_fail(reterr, ESP_NOMEM, "no memory for %zu calibration inputs", p->n);
    memcpy(p->from, p->inputs, p->n * (size_t)esp_net_inputs(net) * sizeof *p->inputs);
    if (opts->scope == ESP_PRUNE_LAYER) return ESP_OK;
    return esp_prune_shares(net, p->n, p->inputs, opts, stop, p->targets, reterr);
}

static esp_code prune_one(pass *p, const esp_net *net, int k, esp_error *reterr) {
    const esp_layer *layer = &net->layers[k];
    esp_prune_layer *job = &p->job;
    job->rows = (size_t)layer->n_out;
    job->cols = (size_t)layer->n_in;
    job->w = layer->w;
    job->b = layer->b;
    job->act = layer->act;
    job->x = p->from;
    job->target = p->targets[k];
    for (size_t q = 0; q < esp_prune_weights(layer); q++) job->mask[q] = layer->w[q] == 0;
    for (size_t i = 0; i < job->rows; i++) job->importance[i] = layer->act[i] != ESP_ACT_ZERO;
    esp_code code = ESP_OK;
    if (job->opts->objective == ESP_PRUNE_OF_OUTPUT) code = esp_prune_importance(net, k, p->n, p->inputs, job->stop, job->importance, reterr);
    if (code) return code;
    return job->opts->method == ESP_PRUNE_OBS ? esp_prune_obs(job, reterr) : esp_prune_sparsegpt(job, reterr);
}

static esp_code layer_by_layer(esp_net *net, size_t n, const double *inputs, const esp_prune_opts *opts, const esp_stop *stop, esp_error *reterr) {
    pass p = {.n = n, .inputs = inputs};
    esp_arena *arena = esp_arena_create(0);
    esp_code code = arena ? pass_init(&p, net, opts, stop, arena, reterr) : esp_fail(reterr, ESP_NOMEM, "pruning");
    for (int k = 0; !code && k < net->n_layers; k++) {
        if (esp_prune_chosen(opts, k)) code = prune_one(&p, net, k, reterr);
        if (code) esp_error_wrap(reterr, code, "layer %d", k + 1);
        if (code || k == net->n_layers - 1) break;
        esp_prune_forward(&net->layers[k], n, p.from, p.to);
        double *swap = p.from;
        p.from = p.to;
        p.to = swap;
    }
    esp_arena_free(arena);
    return code;
}

/* An update that overflowed is no network. */
static esp_code check_result(const esp_net *net, esp_error *reterr) {
    return esp_net_check(net, NULL) ? esp_fail(reterr, ESP_NUMERIC, "pruning left the range of numbers") : ESP_OK;
}

esp_code esp_prune_run(const esp_net *net, size_t n, const double *inputs, const esp_prune_opts *opts, const esp_stop *stop, esp_net **ret_net,
                       esp_error *reterr) {
    esp_net *copy = NULL;
    bool ranked = opts->method == ESP_PRUNE_MAGNITUDE || opts->method == ESP_PRUNE_OBD;
    esp_code code = check_opts(net, n, opts, reterr);
    if (!code) code = esp_net_copy(net, &copy, reterr);
    if (!code && ranked)
        code = esp_prune_by_saliency(copy, n, inputs, opts, stop, reterr);
    else if (!code && opts->method == ESP_PRUNE_OBS && opts->scope == ESP_PRUNE_NETWORK)
        code = esp_prune_obs_network(copy, n, inputs, opts, stop, reterr);
    else if (!code)
        code = layer_by_layer(copy, n, inputs, opts, stop, reterr);
    if (!code) code = check_result(copy, reterr);
    if (code)
        esp_net_free(copy);
    else
        *ret_net = copy;
    return code;
}
