/* SPDX-License-Identifier: Apache-2.0
 * The loop over epochs and minibatches. */
#include "train/trainer.h"

#include <assert.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "train/checkpoint.h"
#include "train/graph_start.h"
#include "train/rounding.h"
#include "train/start.h"

#define CHECK_NS        (20 * ESP_NS_PER_MS) /* between looks at the stop request */
#define TELL_NS         (500 * ESP_NS_PER_MS) /* between reports */
#define ROUNDING_ROWS   1024 /* that the loss is taken on when weights are rounded */
#define VALIDATION_ROWS 2048 /* of the progress figure; the emitted models are measured in full */

/* Independent random streams of one seed. */
enum { STREAM_WEIGHTS = 1, STREAM_SHUFFLE, STREAM_MASKS, STREAM_NOISE };

static size_t stride_of(size_t rows) {
    return (rows + VALIDATION_ROWS - 1) / VALIDATION_ROWS;
}

static void pick_validation(esp_trainer *t) {
    const esp_windows *w = t->windows;
    size_t stride = stride_of(w->n_rows - w->validation_begin), by = stride_of(w->n_checks);
    for (size_t r = w->validation_begin; r < w->n_rows; r += stride) t->validation[t->n_validation++] = r;
    for (size_t i = 0; i < w->n_checks; i += by) t->checks[t->n_checks++] = w->checks[i];
}

static void weigh_steps(esp_trainer *t) {
    const esp_train_opts *opts = t->opts;
    double sum = 0;
    for (int k = 0; k < opts->n_step_weights; k++) sum += opts->step_weights[k];
    for (int k = 0; k < opts->rollout; k++) t->step_weights[k] = opts->n_step_weights ? opts->step_weights[k] * opts->rollout / sum : 1;
}

static esp_code allocate(esp_trainer *t, esp_error *reterr) {
    size_t n = t->n_params, neurons = t->n_neurons, logits = ESP_CLASSES * neurons;
    t->n_best = t->opts->early_stop > 0 ? n : 0;
    t->memory = calloc(4 * n + 2 * neurons + 2 * logits + t->n_best, sizeof *t->memory);
    t->starts = malloc(t->windows->n_starts * sizeof *t->starts);
    t->validation = malloc(2 * VALIDATION_ROWS * sizeof *t->validation);
    t->step_weights = malloc((size_t)t->opts->rollout * sizeof *t->step_weights);
    if (!t->memory || !t->starts || !t->validation || !t->step_weights) return esp_fail(reterr, ESP_NOMEM, "training state of %zu parameters", n);
    t->params = t->memory;
    t->grads = t->params + n;
    t->adam = (esp_adam){n, t->grads + n, t->grads + 2 * n, 0};
    t->slopes = (esp_slope_grads){t->adam.v + n, t->adam.v + n + neurons};
    t->logit_adam = (esp_adam){logits, t->slopes.negative + neurons, t->slopes.negative + neurons + logits, 0};
    t->best = t->logit_adam.v + logits;
    t->checks = t->validation + VALIDATION_ROWS;
    memcpy(t->starts, t->windows->starts, t->windows->n_starts * sizeof *t->starts);
    pick_validation(t);
    weigh_steps(t);
    return ESP_OK;
}

static void seed(esp_trainer *t) {
    esp_rng weights;
    esp_rng_init(&weights, t->opts->seed, STREAM_WEIGHTS);
    esp_rng_init(&t->shuffle_rng, t->opts->seed, STREAM_SHUFFLE);
    esp_rng_init(&t->mask_rng, t->opts->seed, STREAM_MASKS);
    esp_rng_init(&t->noise_rng, t->opts->seed, STREAM_NOISE);
    if (t->graph_loss)
        esp_graph_net_seed(&t->graph, t->graph_data, &weights, t->params);
    else
        esp_mlp_seed(&t->mlp, t->windows->live, &weights, t->params);
    t->place.rung = -1;
}

static esp_code make_mlp(esp_trainer *t, esp_error *reterr) {
    esp_mlp_init(&t->mlp, t->windows->n_in, t->opts->hidden, t->opts->n_hidden, t->windows->n_out);
    t->n_params = t->mlp.n_params;
    t->n_weights = t->mlp.n_weights;
    t->n_neurons = t->mlp.n_neurons;
    const esp_parallel *parallel = t->opts->threads > 1 && t->hooks ? t->hooks->parallel : NULL;
    assert(t->opts->threads == 1 || (parallel && parallel->n == t->opts->threads));
    return esp_rollout_create(&t->mlp, t->windows, t->opts->rollout, parallel, &t->rollout, reterr);
}

static esp_code make_graph(esp_trainer *t, esp_error *reterr) {
    esp_graph_net_init(&t->graph, &t->opts->graph);
    t->n_params = t->graph.n_params;
    t->n_weights = t->graph.n_weights;
    t->n_neurons = t->graph.n_neurons;
    esp_code code = esp_graph_data_create(t->dataset, t->windows, &t->graph.layout, &t->graph_data, reterr);
    return code == ESP_OK ? esp_graph_loss_create(&t->graph, t->graph_data, t->windows, t->opts->rollout, &t->graph_loss, reterr) : code;
}

/* The loss of the network at hand, whichever it is. */
static double loss_of(esp_trainer *t, const esp_rollout_call *call, double *ret_squares) {
    return t->graph_loss ? esp_graph_loss_run(t->graph_loss, call, ret_squares) : esp_rollout_loss(t->rollout, call, ret_squares);
}

static esp_code load_start(esp_trainer *t, esp_error *reterr) {
    const esp_model *start = t->opts->start;
    double weight = t->opts->distill_weight;
    if (!start->graph) return esp_start_load(start, weight, &t->mlp, t->windows, t->params, t->ladder, reterr);
    return esp_graph_start_load(start->graph, weight, &t->graph, t->windows, esp_trainer_pulse, t, t->graph_data, t->params, t->ladder, reterr);
}

esp_code esp_trainer_create(const esp_dataset *dataset, const esp_train_opts *opts, const esp_train_hooks *hooks, const esp_stop *stop,
                            esp_trainer **ret_trainer, esp_error *reterr) {
    esp_ladder_opts masks = {opts->lambda, opts->lambda_id, opts->tau, opts->straight_through};
    esp_trainer *t = calloc(1, sizeof *t);
    if (!t) return esp_fail(reterr, ESP_NOMEM, "training");
    t->dataset = dataset;
    t->opts = opts;
    t->hooks = hooks;
    t->stop = stop;
    t->begin_ns = t->told_ns = t->kept_ns = esp_clock_now_ns();
    t->progress = (esp_train_progress){.stage = "data", .loss = NAN, .validation_loss = NAN, .validation_rmse = NAN, .eta_s = NAN};
    esp_code code = esp_windows_create(dataset, opts, &t->windows, reterr);
    if (code == ESP_OK) code = opts->graph.width ? make_graph(t, reterr) : make_mlp(t, reterr);
    if (code == ESP_OK) code = esp_ladder_create(t->n_neurons, &masks, &t->ladder, reterr);
    if (code == ESP_OK) code = allocate(t, reterr);
    if (code != ESP_OK) {
        esp_trainer_free(t);
        return code;
    }
    seed(t);
    if (opts->start) code = load_start(t, reterr);
    if (code != ESP_OK) {
        esp_trainer_free(t);
        return code;
    }
    *ret_trainer = t;
    return ESP_OK;
}

void esp_trainer_free(esp_trainer *t) {
    if (!t) return;
    esp_proof_free(t->proof);
    esp_ladder_free(t->ladder);
    esp_rollout_free(t->rollout);
    esp_graph_loss_free(t->graph_loss);
    esp_graph_data_free(t->graph_data);
    esp_windows_free(t->windows);
    free(t->validation);
    free(t->step_weights);
    free(t->starts);
    free(t->memory);
    esp_buf_done(&t->checkpoint);
    free(t);
}

static void tell(esp_trainer *t, int64_t now) {
    double elapsed = (double)(now - t->begin_ns) * 1e-9, interval = (double)(now - t->told_ns) * 1e-9;
    t->progress.relu = (int)t->ladder->n_undecided;
    if (t->loss_count > 0) t->progress.loss = t->loss_sum / (double)t->loss_count;
    if (interval > 0) t->progress.samples_per_s = (t->samples - t->told_samples) / interval;
    if (t->progress.fraction > 0) t->progress.eta_s = elapsed * (1 - t->progress.fraction) / t->progress.fraction;
    t->loss_sum = 0;
    t->loss_count = 0;
    t->told_ns = now;
    t->told_samples = t->samples;
    if (t->hooks && t->hooks->progress) t->hooks->progress(t->hooks->user, &t->progress);
}

void esp_trainer_finish(esp_trainer *t) {
    t->progress.fraction = 1;
    tell(t, esp_clock_now_ns());
}

esp_code esp_trainer_pulse(void *trainer, esp_error *reterr) {
    esp_trainer *t = trainer;
    int64_t now = esp_clock_now_ns();
    if (now - t->told_ns >= TELL_NS) tell(t, now);
    if (!t->stop || now - t->checked_ns < CHECK_NS) return ESP_OK;
    t->checked_ns = now;
    if (!esp_stop_now(t->stop)) return ESP_OK;
    if (t->stop->deadline_ns != ESP_NEVER && now >= t->stop->deadline_ns)
        return esp_fail(reterr, ESP_DEADLINE, "training stopped at its time limit, %.0f %% done", 100 * t->progress.fraction);
    return esp_fail(reterr, ESP_CANCELLED, "training cancelled, %.0f %% done", 100 * t->progress.fraction);
}

/* For a pass over the network that takes long: the pulse in the middle of it. */
static bool go_on(void *user) {
    esp_trainer *t = user;
    return esp_trainer_pulse(t, &t->stopped) == ESP_OK;
}

/* The error of a pass that was broken off, moved on. */
static esp_code stopped(esp_trainer *t, esp_error *reterr) {
    esp_code code = t->stopped.code;
    if (code != ESP_OK && reterr) *reterr = t->stopped;
    t->stopped = (esp_error){0};
    return code;
}

/* The loss of `steps` steps from n starts, as the network of the moment has it. */
static esp_rollout_call call_of(esp_trainer *t, const size_t *starts, size_t n, int steps) {
    return (esp_rollout_call){.params = t->params,
                              .pos = t->ladder->pos,
                              .neg = t->ladder->neg,
                              .starts = starts,
                              .n = n,
                              .steps = steps,
                              .weights = steps > 1 ? t->step_weights : NULL,
                              .go_on = go_on,
                              .user = t};
}

static esp_rollout_call batch_call(esp_trainer *t, size_t batch, int steps) {
    size_t n = (size_t)t->opts->batch;
    return call_of(t, t->starts + batch * n, n, steps);
}

/* One-step error on the validation sample in data units, and the loss there, by the float network with the undecided as ReLU. */
static esp_code validate(esp_trainer *t, esp_error *reterr) {
    double squares[ESP_MAX_WIDTH_Y], sum = 0;
    esp_ladder_relu(t->ladder);
    const esp_rollout_call one_step = call_of(t, t->validation, t->n_validation, 1), whole = call_of(t, t->checks, t->n_checks, t->opts->rollout);
    double loss = loss_of(t, &one_step, squares);
    if (t->opts->rollout > 1 && !t->stopped.code) loss = loss_of(t, &whole, NULL);
    esp_code code = stopped(t, reterr);
    if (code != ESP_OK) return code;
    for (int i = 0; i < t->windows->ny; i++) sum += squares[i] * t->windows->y_scale[i] * t->windows->y_scale[i];
    t->progress.validation_rmse = sqrt(sum / ((double)t->n_validation * (double)t->windows->ny));
    t->progress.validation_loss = loss;
    return ESP_OK;
}

/* A rollout that explodes although each step of it is fine wants another cure than weights that have run away. */
static esp_code diverged(esp_trainer *t, const esp_phase *phase, size_t batch, esp_error *reterr) {
    esp_rollout_call one_step = batch_call(t, batch, 1);
    bool explodes = t->opts->rollout > 1 && isfinite(loss_of(t, &one_step, NULL));
    const char *clip = t->opts->clip > 0 ? "lower /clip" : "set /clip to 1";
    int64_t epoch = phase->stage_begin + t->place.epoch + 1;
    if (explodes)
        return esp_fail_at(
            reterr, ESP_NUMERIC, "/rollout",
            "the rollouts explode (stage %s, epoch %lld): one step is finite, %d steps are not: lower /rollout or /learning_rate (%g), or %s",
            phase->stage, (long long)epoch, t->opts->rollout, t->rate, clip);
    return esp_fail_at(reterr, ESP_NUMERIC, "/learning_rate",
                       "the loss is no longer finite (stage %s, epoch %lld): lower /learning_rate (%g)%s, or %s", phase->stage, (long long)epoch,
                       t->rate, t->opts->rollout > 1 ? " or /rollout" : "", clip);
}

/* Gradient of one minibatch into grads and, in a search, the ladder's. Returns the loss without the penalty. */
static double gradient(esp_trainer *t, const esp_phase *phase, size_t batch) {
    memset(t->grads, 0, t->n_params * sizeof *t->grads);
    if (phase->search) {
        memset(t->slopes.positive, 0, 2 * t->n_neurons * sizeof *t->slopes.positive);
        esp_ladder_sample(t->ladder, &t->mask_rng);
    }
    esp_rollout_call call = batch_call(t, batch, t->opts->rollout);
    call.noise = (float)t->opts->input_noise;
    call.rng = &t->noise_rng;
    call.grads = t->grads;
    call.slopes = phase->search ? &t->slopes : NULL;
    double loss = loss_of(t, &call, NULL);
    if (phase->search && !t->stopped.code) (void)esp_ladder_backward(t->ladder, t->slopes.positive, t->slopes.negative);
    if (t->proof && t->opts->proof_weight > 0 && !t->stopped.code)
        (void)esp_proof_add(t->proof, call.starts, call.n, t->opts->proof_weight, t->params, t->grads);
    return loss;
}

/* Adam starts a phase afresh, so that what never has a gradient never moves. */
static void keep_zeros(size_t n, const float *restrict params, float *restrict grads) {
    for (size_t i = 0; i < n; i++) grads[i] = params[i] == 0 ? 0 : grads[i];
}

static void update(esp_trainer *t, const esp_phase *phase, double share) {
    double rate = phase->rate * esp_schedule_rate(&t->schedule, t->opts, share), norm = 0;
    if (phase->round && t->proof) keep_zeros(t->n_weights, t->params, t->grads);
    if (t->opts->clip > 0) norm = esp_block_norm(t->grads, t->n_params);
    if (norm > t->opts->clip) esp_block_scale(t->grads, t->n_params, (float)(t->opts->clip / norm));
    esp_adam_step(&t->adam, rate, t->opts->weight_decay, t->n_weights, t->grads, t->params);
    if (t->proof) esp_proof_hold(t->proof, t->params);
    /* logits keep their rate: the last draws are worth as much as the first */
    if (phase->search) esp_adam_step(&t->logit_adam, phase->logit_rate, 0, 0, t->ladder->grads, t->ladder->logits);
}

/* One that is broken off has not begun: its random numbers are drawn again by whoever goes on. */
static esp_code run_batch(esp_trainer *t, const esp_phase *phase, size_t n_batches, esp_error *reterr) {
    size_t batch = (size_t)t->place.batch;
    const esp_rng masks = t->mask_rng, noise = t->noise_rng;
    double share = ((double)t->place.epoch + (double)batch / (double)n_batches) / phase->epochs, loss = gradient(t, phase, batch);
    esp_code code = stopped(t, reterr);
    if (code != ESP_OK) {
        t->mask_rng = masks;
        t->noise_rng = noise;
        return code;
    }
    if (!isfinite(loss)) return diverged(t, phase, batch, reterr);
    update(t, phase, share);
    t->place.batch++;
    t->loss_sum += loss;
    t->loss_count++;
    t->samples += (double)t->opts->batch * t->opts->rollout;
    t->progress.fraction = (t->epochs_done + (double)t->place.batch / (double)n_batches) / t->total_epochs;
    esp_checkpoint_if_due(t);
    return ESP_OK;
}

/* The validation error is known: the schedule sees it, the best weights are kept, and the phase may be over before its time. What a
 * search learns is in its masks, which the error of the network without them says nothing about. */
static void close_epoch(esp_trainer *t, const esp_phase *phase) {
    int64_t left;
    if (esp_schedule_epoch(&t->schedule, t->opts, t->progress.validation_loss) && t->n_best) memcpy(t->best, t->params, t->n_best * sizeof *t->best);
    left = !phase->search && esp_schedule_over(&t->schedule, t->opts) ? phase->epochs - t->place.epoch : 1;
    t->epochs_done += (int)left;
    t->place.epoch += left;
    t->place.shuffled = t->place.batch = 0;
}

static esp_code run_epoch(esp_trainer *t, const esp_phase *phase, esp_error *reterr) {
    size_t n_batches = t->windows->n_starts / (size_t)t->opts->batch;
    if (!t->place.shuffled) esp_rng_shuffle(&t->shuffle_rng, t->starts, t->windows->n_starts);
    t->place.shuffled = 1;
    while ((size_t)t->place.batch < n_batches) {
        esp_code code = run_batch(t, phase, n_batches, reterr);
        if (code == ESP_OK) code = esp_trainer_pulse(t, reterr);
        if (code != ESP_OK) return code;
    }
    esp_code code = validate(t, reterr);
    if (code == ESP_OK) close_epoch(t, phase);
    return code;
}

typedef struct sample {
    esp_trainer *trainer;
    size_t rows[ROUNDING_ROWS], n;
} sample;

static double loss_of_sample(void *user) {
    sample *s = user;
    const esp_rollout_call call = call_of(s->trainer, s->rows, s->n, s->trainer->opts->rollout);
    return loss_of(s->trainer, &call, NULL);
}

/* By the loss on training rows, evenly spaced: what validates decides nothing. */
static esp_code round_weights(esp_trainer *t, esp_error *reterr) {
    size_t zeros, n = t->windows->n_starts;
    sample s = {.trainer = t, .n = n < ROUNDING_ROWS ? n : ROUNDING_ROWS};
    for (size_t i = 0; i < s.n; i++) s.rows[i] = t->windows->starts[i * n / s.n];
    const esp_rounding_call call = {&t->mlp, t->ladder, t->windows, s.rows, s.n, t->opts->rounding, loss_of_sample, &s};
    esp_code code = esp_rounding_run(&call, t->params, &zeros, reterr);
    return code == ESP_OK ? stopped(t, reterr) : code;
}

/* What a phase begins with, also one that is gone on with: its network is in compact form already. */
static esp_code begin_phase(esp_trainer *t, const esp_phase *phase, esp_error *reterr) {
    bool compact = phase->compact && esp_compact_fits(&t->mlp, t->ladder), fresh = compact && !t->place.begun;
    esp_code code = ESP_OK;
    esp_proof_free(t->proof);
    t->proof = NULL;
    if (fresh && !phase->round) code = esp_compact_rewrite(&t->mlp, t->params, t->ladder, reterr);
    if (fresh && phase->round) code = round_weights(t, reterr);
    if (compact && code == ESP_OK) code = esp_proof_create(&t->mlp, t->ladder, t->windows, &t->proof, reterr);
    if (code == ESP_OK && !t->place.begun) {
        esp_adam_reset(&t->adam);
        esp_adam_reset(&t->logit_adam);
        esp_schedule_begin(&t->schedule);
        t->place.begun = 1;
    }
    return code;
}

esp_code esp_trainer_phase(esp_trainer *t, const esp_phase *phase, esp_error *reterr) {
    esp_ladder_relu(t->ladder);
    esp_code code = begin_phase(t, phase, reterr);
    if (code != ESP_OK) return code;
    t->progress.stage = phase->stage;
    t->progress.epochs = phase->stage_epochs;
    while (t->place.epoch < phase->epochs) {
        t->progress.epoch = phase->stage_begin + (int)t->place.epoch + 1;
        code = run_epoch(t, phase, reterr);
        if (code != ESP_OK) return code;
    }
    if (t->n_best && !phase->search && isfinite(t->schedule.best)) memcpy(t->params, t->best, t->n_best * sizeof *t->best);
    return ESP_OK;
}
