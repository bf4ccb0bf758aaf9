/* SPDX-License-Identifier: Apache-2.0
 * Minibatch Adam on pairs. Rows are worked in chunks that stay in the cache, gathered and scaled from double as they come. */
#include "train/regress.h"

#include <assert.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "train/emit.h"
#include "train/start.h"

#define CHUNK           256 /* rows */
#define FINAL_RATE      0.01
#define AUTO_BATCHES    8000
#define AUTO_LEAST      10
#define AUTO_MOST       2000
#define AUTO_RATE       0.01
#define AUTO_RATE_WIDTH 64
#define PI              3.14159265358979323846

enum { STREAM_WEIGHTS = 0xd1, STREAM_SHUFFLE };

static size_t n_in(const esp_regress *r) {
    return (size_t)r->mlp.width[0];
}

static size_t n_out(const esp_regress *r) {
    return (size_t)r->mlp.width[r->mlp.n_layers];
}

/* ---- life ---- */

static esp_code allocate(esp_regress *r, esp_error *reterr) {
    size_t p = r->mlp.n_params, neurons = r->mlp.n_neurons, tape = esp_tape_floats(&r->mlp, CHUNK), packed = esp_padded(r->mlp.n_packed);
    size_t outputs = CHUNK * esp_padded(n_out(r)), floats = esp_padded(tape + outputs + packed + esp_mlp_work(&r->mlp, CHUNK) + 4 * p + 2 * neurons);
    r->memory = aligned_alloc(ESP_VECTOR * sizeof *r->memory, floats * sizeof *r->memory);
    r->scales = calloc(2 * (n_in(r) + n_out(r)), sizeof *r->scales);
    if (!r->memory || !r->scales) return esp_fail(reterr, ESP_NOMEM, "training state of %zu parameters", p);
    memset(r->memory, 0, floats * sizeof *r->memory);
    esp_tape_init(&r->tape, &r->mlp, CHUNK, r->memory);
    r->d_out = r->memory + tape;
    r->packed = r->d_out + outputs;
    r->work = r->packed + packed;
    r->params = r->work + esp_mlp_work(&r->mlp, CHUNK);
    r->grads = r->params + p;
    r->adam = (esp_adam){p, r->grads + p, r->grads + 2 * p, 0};
    r->pos = r->adam.v + p;
    r->neg = r->pos + neurons;
    for (size_t i = 0; i < neurons; i++) r->pos[i] = 1;
    r->in_mean = r->scales;
    r->in_scale = r->in_mean + n_in(r);
    r->out_mean = r->in_scale + n_in(r);
    r->out_scale = r->out_mean + n_out(r);
    return ESP_OK;
}

/* Mean and deviation of a uniform draw; 1 for a side of no width. */
static void take_scales(size_t n, const double *lower, const double *upper, double *ret_mean, double *ret_scale) {
    for (size_t i = 0; i < n; i++) {
        double half = 0.5 * upper[i] - 0.5 * lower[i];
        ret_mean[i] = 0.5 * lower[i] + 0.5 * upper[i];
        ret_scale[i] = half > 0 ? half / sqrt(3.0) : 1;
    }
}

/* Sizes, memory and scales; no weights yet. */
static esp_code prepare(int inputs, const double *in_lower, const double *in_upper, int outputs, const double *out_lower, const double *out_upper,
                        const esp_regress_opts *opts, esp_regress **ret_regress, esp_error *reterr) {
    if (inputs < 1 || inputs > ESP_MAX_WIDTH || outputs < 1 || outputs > ESP_MAX_WIDTH || opts->batch < 1)
        return esp_fail(reterr, ESP_INVALID, "a network from %d to %d numbers in batches of %d", inputs, outputs, opts->batch);
    esp_regress *r = calloc(1, sizeof *r);
    if (!r) return esp_fail(reterr, ESP_NOMEM, "a regression");
    r->opts = *opts;
    esp_mlp_init(&r->mlp, inputs, opts->hidden, opts->n_hidden, outputs);
    esp_code code = allocate(r, reterr);
    if (code != ESP_OK) {
        esp_regress_free(r);
        return code;
    }
    take_scales(n_in(r), in_lower, in_upper, r->in_mean, r->in_scale);
    take_scales(n_out(r), out_lower, out_upper, r->out_mean, r->out_scale);
    esp_rng_init(&r->shuffle, opts->seed, STREAM_SHUFFLE);
    *ret_regress = r;
    return ESP_OK;
}

esp_code esp_regress_create(int inputs, const double *in_lower, const double *in_upper, int outputs, const double *out_lower, const double *out_upper,
                            const esp_regress_opts *opts, esp_regress **ret_regress, esp_error *reterr) {
    esp_regress *r = NULL;
    esp_code code = prepare(inputs, in_lower, in_upper, outputs, out_lower, out_upper, opts, &r, reterr);
    if (code != ESP_OK) return code;
    esp_rng weights;
    esp_rng_init(&weights, opts->seed, STREAM_WEIGHTS);
    float *live = r->tape.x; /* free until the first pass */
    for (size_t i = 0; i < n_in(r); i++) live[i] = in_upper[i] > in_lower[i] ? 1 : 0;
    esp_mlp_seed(&r->mlp, live, &weights, r->params);
    *ret_regress = r;
    return ESP_OK;
}

/* ---- from a network ---- */

/* The box of a column of n rows. */
static void take_box(size_t n, const double *rows, size_t width, double *ret_lower, double *ret_upper) {
    for (size_t j = 0; j < width; j++) ret_lower[j] = ret_upper[j] = rows[j];
    for (size_t i = 1; i < n; i++)
        for (size_t j = 0; j < width; j++) {
            ret_lower[j] = fmin(ret_lower[j], rows[i * width + j]);
            ret_upper[j] = fmax(ret_upper[j], rows[i * width + j]);
        }
}

static esp_code check_net(const esp_net *net, esp_error *reterr) {
    const esp_layer *last = &net->layers[net->n_layers - 1];
    if (net->n_layers - 1 > ESP_MAX_HIDDEN)
        return esp_fail(reterr, ESP_UNPROCESSABLE, "%d hidden layers; at most %d are trained", net->n_layers - 1, ESP_MAX_HIDDEN);
    for (int i = 0; i < last->n_out; i++)
        if (last->act[i] != ESP_ACT_IDENTITY) return esp_fail(reterr, ESP_UNPROCESSABLE, "output %d is no identity, which cannot be trained", i);
    return ESP_OK;
}

static void take_net(esp_regress *r, const esp_net *net) {
    for (int l = 0; l < net->n_layers; l++) {
        const esp_layer *layer = &net->layers[l];
        size_t weights = (size_t)layer->n_out * (size_t)layer->n_in;
        for (size_t i = 0; i < weights; i++) r->keep[r->mlp.weight[l] + i] = layer->w[i] != 0 ? 1 : 0;
        for (int i = 0; l < net->n_layers - 1 && i < layer->n_out; i++) {
            r->pos[r->mlp.neuron[l] + (size_t)i] = layer->act[i] != ESP_ACT_ZERO ? 1 : 0;
            r->neg[r->mlp.neuron[l] + (size_t)i] = layer->act[i] == ESP_ACT_IDENTITY ? 1 : 0;
        }
    }
}

esp_code esp_regress_start(const esp_net *net, const esp_pairs *pairs, const esp_regress_opts *opts, esp_regress **ret_regress, esp_error *reterr) {
    assert(pairs->n > 0);
    size_t in = (size_t)esp_net_inputs(net), out = (size_t)esp_net_outputs(net);
    esp_regress *r = NULL;
    esp_regress_opts sized = *opts;
    esp_code code = check_net(net, reterr);
    double *box = code == ESP_OK ? malloc(2 * (in + out) * sizeof *box) : NULL;
    if (code == ESP_OK && !box) code = esp_fail(reterr, ESP_NOMEM, "a regression");
    if (code == ESP_OK) {
        sized.n_hidden = net->n_layers - 1;
        for (int l = 0; l < sized.n_hidden; l++) sized.hidden[l] = net->layers[l].n_out;
        take_box(pairs->n, pairs->x, in, box, box + in);
        take_box(pairs->n, pairs->y, out, box + 2 * in, box + 2 * in + out);
        code = prepare((int)in, box, box + in, (int)out, box + 2 * in, box + 2 * in + out, &sized, &r, reterr);
    }
    free(box);
    if (code != ESP_OK) return code;
    const esp_scales scales = {r->in_mean, r->in_scale, r->out_mean, r->out_scale};
    r->keep = malloc(r->mlp.n_weights * sizeof *r->keep);
    code =
        r->keep ? esp_start_unfold(net, &r->mlp, &scales, r->params, reterr) : esp_fail(reterr, ESP_NOMEM, "a mask of %zu weights", r->mlp.n_weights);
    if (code != ESP_OK) {
        esp_regress_free(r);
        return code;
    }
    take_net(r, net);
    *ret_regress = r;
    return ESP_OK;
}

void esp_regress_free(esp_regress *r) {
    if (!r) return;
    free(r->keep);
    free(r->memory);
    free(r->scales);
    free(r);
}

/* ---- the loss ---- */

/* A chunk of rows: forward, and the errors (scaled) into d_out. */
static void forward(esp_regress *r, const esp_pairs *pairs, const size_t *rows, size_t first, size_t n) {
    size_t in = n_in(r), out = n_out(r), in_stride = esp_padded(in), out_stride = esp_padded(out);
    for (size_t i = 0; i < n; i++) {
        const double *x = pairs->x + (rows ? rows[first + i] : first + i) * in;
        for (size_t j = 0; j < in; j++) r->tape.x[i * in_stride + j] = (float)((x[j] - r->in_mean[j]) / r->in_scale[j]);
    }
    esp_mlp_forward(&r->mlp, r->packed, n, false, &r->tape);
    const float *said = r->tape.h[r->mlp.n_layers - 1];
    for (size_t i = 0; i < n; i++) {
        const double *y = pairs->y + (rows ? rows[first + i] : first + i) * out;
        for (size_t j = 0; j < out; j++) r->d_out[i * out_stride + j] = said[i * out_stride + j] - (float)((y[j] - r->out_mean[j]) / r->out_scale[j]);
    }
}

/* The sum of e^2 over the chunk's rows, e scaled by `scale` (n_out) unless NULL. */
static double squares(const esp_regress *r, size_t n, const double *scale) {
    size_t out = n_out(r), stride = esp_padded(out);
    double sum = 0;
    for (size_t i = 0; i < n; i++)
        for (size_t j = 0; j < out; j++) {
            double e = (double)r->d_out[i * stride + j] * (scale ? scale[j] : 1);
            sum += e * e;
        }
    return sum;
}

double esp_regress_loss(esp_regress *r, const esp_pairs *pairs, const size_t *rows, size_t n, float *grads) {
    size_t stride = esp_padded(n_out(r));
    double sum = 0, count = (double)n * (double)n_out(r);
    esp_mlp_pack(&r->mlp, r->params, r->pos, r->neg, r->packed);
    for (size_t first = 0; first < n; first += CHUNK) {
        size_t m = n - first < CHUNK ? n - first : CHUNK, beyond = (ESP_TILE - m % ESP_TILE) % ESP_TILE;
        forward(r, pairs, rows, first, m);
        sum += squares(r, m, NULL);
        if (!grads) continue;
        for (size_t k = 0; k < m * stride; k++) r->d_out[k] *= (float)(2 / count);
        memset(r->d_out + m * stride, 0, beyond * stride * sizeof *r->d_out);
        esp_mlp_backward(&r->mlp, r->packed, m, &r->tape, r->d_out, grads, NULL, NULL, r->work);
    }
    return n ? sum / count : 0;
}

double esp_regress_rmse(esp_regress *r, const esp_pairs *pairs) {
    double sum = 0;
    esp_mlp_pack(&r->mlp, r->params, r->pos, r->neg, r->packed);
    for (size_t first = 0; first < pairs->n; first += CHUNK) {
        size_t m = pairs->n - first < CHUNK ? pairs->n - first : CHUNK;
        forward(r, pairs, NULL, first, m);
        sum += squares(r, m, r->out_scale);
    }
    return pairs->n ? sqrt(sum / ((double)pairs->n * (double)n_out(r))) : 0;
}

/* ---- a run ---- */

typedef struct pass {
    const esp_pairs *pairs;
    const esp_stop *stop;
    esp_regress_told *told;
    void *user;
    size_t *order;
    size_t batch, batches;
    int epochs, epoch;
    double rate, loss; /* loss: of the last whole epoch */
} pass;

static void settle(const esp_regress *r, pass *run) {
    int widest = esp_mlp_widest(&r->mlp);
    run->batch = (size_t)r->opts.batch < run->pairs->n ? (size_t)r->opts.batch : run->pairs->n;
    run->batches = run->pairs->n / run->batch; /* what is left over has its turn in another order */
    size_t epochs = AUTO_BATCHES / run->batches;
    run->epochs = r->opts.epochs > 0 ? r->opts.epochs : epochs < AUTO_LEAST ? AUTO_LEAST : epochs > AUTO_MOST ? AUTO_MOST : (int)epochs;
    run->rate = r->opts.learning_rate > 0 ? r->opts.learning_rate : widest > AUTO_RATE_WIDTH ? AUTO_RATE * AUTO_RATE_WIDTH / widest : AUTO_RATE;
}

static esp_code check_stop(const pass *run, esp_error *reterr) {
    if (!esp_stop_now(run->stop)) return ESP_OK;
    bool late = run->stop->deadline_ns != ESP_NEVER && esp_clock_now_ns() >= run->stop->deadline_ns;
    return esp_fail(reterr, late ? ESP_DEADLINE : ESP_CANCELLED, "training stopped in epoch %d of %d", run->epoch + 1, run->epochs);
}

static void mask(const esp_regress *r, float *values) {
    for (size_t i = 0; r->keep && i < r->mlp.n_weights; i++) values[i] *= r->keep[i];
}

static esp_code run_epoch(esp_regress *r, pass *run, esp_error *reterr) {
    double sum = 0;
    esp_rng_shuffle(&r->shuffle, run->order, run->pairs->n);
    for (size_t b = 0; b < run->batches; b++) {
        double share = ((double)run->epoch + (double)b / (double)run->batches) / run->epochs;
        double rate = run->rate * (FINAL_RATE + (1 - FINAL_RATE) * 0.5 * (1 + cos(PI * share)));
        memset(r->grads, 0, r->mlp.n_params * sizeof *r->grads);
        double loss = esp_regress_loss(r, run->pairs, run->order + b * run->batch, run->batch, r->grads);
        if (!isfinite(loss))
            return esp_fail(reterr, ESP_NUMERIC, "the loss is no longer finite (epoch %d): lower /learning_rate (%g)", run->epoch + 1, run->rate);
        mask(r, r->grads);
        esp_adam_step(&r->adam, rate, r->opts.weight_decay, r->mlp.n_weights, r->grads, r->params);
        mask(r, r->params);
        sum += loss;
        if (run->told) run->told(run->user, share, run->loss);
        esp_code code = check_stop(run, reterr);
        if (code != ESP_OK) return code;
    }
    run->loss = sum / (double)run->batches;
    return ESP_OK;
}

esp_code esp_regress_run(esp_regress *r, const esp_pairs *pairs, const esp_stop *stop, esp_regress_told *told, void *user, double *ret_loss,
                         esp_error *reterr) {
    assert(pairs->n > 0);
    pass run = {.pairs = pairs, .stop = stop, .told = told, .user = user, .loss = NAN};
    esp_code code = ESP_OK;
    settle(r, &run);
    run.order = calloc(pairs->n, sizeof *run.order);
    if (!run.order) return esp_fail(reterr, ESP_NOMEM, "an order of %zu pairs", pairs->n);
    for (size_t i = 0; i < pairs->n; i++) run.order[i] = i;
    esp_adam_reset(&r->adam);
    for (run.epoch = 0; code == ESP_OK && run.epoch < run.epochs; run.epoch++) code = run_epoch(r, &run, reterr);
    if (code == ESP_OK) *ret_loss = run.loss;
    free(run.order);
    return code;
}

/* What its slopes make of each neuron. */
static void put_masks(const esp_regress *r, esp_net *net) {
    for (int l = 0; l < net->n_layers - 1; l++)
        for (int i = 0; i < net->layers[l].n_out; i++) {
            size_t k = r->mlp.neuron[l] + (size_t)i;
            net->layers[l].act[i] = r->neg[k] > 0 ? ESP_ACT_IDENTITY : r->pos[k] > 0 ? ESP_ACT_RELU : ESP_ACT_ZERO;
        }
}

esp_code esp_regress_net(const esp_regress *r, esp_net **ret_net, esp_error *reterr) {
    const esp_scales scales = {r->in_mean, r->in_scale, r->out_mean, r->out_scale};
    esp_net *net = NULL;
    esp_code code = esp_emit_net(&r->mlp, r->params, &scales, &net, reterr);
    if (code == ESP_OK) put_masks(r, net);
    if (code == ESP_OK) code = esp_net_check(net, reterr);
    if (code == ESP_OK)
        *ret_net = net;
    else
        esp_net_free(net);
    return code;
}
