/* SPDX-License-Identifier: Apache-2.0
 * The loop over epochs and minibatches. */
#include "train/trainer.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define CHECK_NS        (20 * ESP_NS_PER_MS) /* between looks at the stop request */
#define TELL_NS         (500 * ESP_NS_PER_MS) /* between reports */
#define VALIDATION_ROWS 2048 /* of the progress figure; the emitted models are measured in full */
#define FINAL_RATE      0.01

/* Independent random streams of one seed. */
enum { STREAM_WEIGHTS = 1, STREAM_SHUFFLE, STREAM_MASKS, STREAM_NOISE };

static size_t pick_validation(const esp_windows *w, size_t *ret_rows) {
    size_t rows = w->n_rows - w->validation_begin, stride = (rows + VALIDATION_ROWS - 1) / VALIDATION_ROWS, n = 0;
    for (size_t r = w->validation_begin; r < w->n_rows; r += stride) ret_rows[n++] = r;
    return n;
}

static esp_code allocate(esp_trainer *t, esp_error *reterr) {
    size_t n = t->mlp.n_params, neurons = t->mlp.n_neurons, logits = ESP_CLASSES * neurons;
    t->memory = calloc(4 * n + 2 * neurons + 2 * logits, sizeof *t->memory);
    t->starts = malloc(t->windows->n_starts * sizeof *t->starts);
    t->validation = malloc(VALIDATION_ROWS * sizeof *t->validation);
    if (!t->memory || !t->starts || !t->validation) return esp_fail(reterr, ESP_NOMEM, "training state of %zu parameters", n);
    t->params = t->memory;
    t->grads = t->params + n;
    t->adam = (esp_adam){n, t->grads + n, t->grads + 2 * n, 0};
    t->slopes = (esp_slope_grads){t->adam.v + n, t->adam.v + n + neurons};
    t->logit_adam = (esp_adam){logits, t->slopes.negative + neurons, t->slopes.negative + neurons + logits, 0};
    memcpy(t->starts, t->windows->starts, t->windows->n_starts * sizeof *t->starts);
    t->n_validation = pick_validation(t->windows, t->validation);
    return ESP_OK;
}

static void seed(esp_trainer *t) {
    esp_rng weights;
    esp_rng_init(&weights, t->opts->seed, STREAM_WEIGHTS);
    esp_rng_init(&t->shuffle_rng, t->opts->seed, STREAM_SHUFFLE);
    esp_rng_init(&t->mask_rng, t->opts->seed, STREAM_MASKS);
    esp_rng_init(&t->noise_rng, t->opts->seed, STREAM_NOISE);
    esp_mlp_seed(&t->mlp, t->windows->live, &weights, t->params);
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
    t->begin_ns = t->told_ns = esp_clock_now_ns();
    t->progress = (esp_train_progress){.stage = "data", .loss = NAN, .validation_rmse = NAN, .eta_s = NAN};
    esp_code code = esp_windows_create(dataset, opts, &t->windows, reterr);
    if (code == ESP_OK) esp_mlp_init(&t->mlp, t->windows->n_in, opts->hidden, opts->n_hidden, t->windows->n_out);
    if (code == ESP_OK) code = esp_rollout_create(&t->mlp, t->windows, opts->rollout, &t->rollout, reterr);
    if (code == ESP_OK) code = esp_ladder_create(t->mlp.n_neurons, &masks, &t->ladder, reterr);
    if (code == ESP_OK) code = allocate(t, reterr);
    if (code != ESP_OK) {
        esp_trainer_free(t);
        return code;
    }
    seed(t);
    *ret_trainer = t;
    return ESP_OK;
}

void esp_trainer_free(esp_trainer *t) {
    if (!t) return;
    esp_ladder_free(t->ladder);
    esp_rollout_free(t->rollout);
    esp_windows_free(t->windows);
    free(t->validation);
    free(t->starts);
    free(t->memory);
    free(t);
}

/* One-step error on the validation sample in data units, by the float network with the undecided as ReLU. */
static double validate(esp_trainer *t) {
    double squares[ESP_MAX_WIDTH_Y], sum = 0;
    esp_ladder_relu(t->ladder);
    esp_rollout_call call = {
        .params = t->params, .pos = t->ladder->pos, .neg = t->ladder->neg, .starts = t->validation, .n = t->n_validation, .steps = 1};
    esp_rollout_loss(t->rollout, &call, squares);
    for (int i = 0; i < t->windows->ny; i++) sum += squares[i] * t->windows->y_scale[i] * t->windows->y_scale[i];
    return sqrt(sum / ((double)t->n_validation * (double)t->windows->ny));
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

static esp_code diverged(const esp_trainer *t, const esp_phase *phase, int epoch, esp_error *reterr) {
    return esp_fail(reterr, ESP_NUMERIC, "the loss is no longer finite (stage %s, epoch %d): lower /learning_rate (%g)%s%s", phase->stage,
                    phase->stage_begin + epoch + 1, t->rate, t->opts->rollout > 1 ? " or /rollout" : "",
                    t->opts->clip > 0 ? "" : ", or set /clip to 1");
}

/* Gradient of one minibatch into grads and, in a search, the ladder's. Returns the loss without the penalty. */
static double gradient(esp_trainer *t, const esp_phase *phase, size_t batch) {
    size_t n = (size_t)t->opts->batch;
    memset(t->grads, 0, t->mlp.n_params * sizeof *t->grads);
    if (phase->search) {
        memset(t->slopes.positive, 0, 2 * t->mlp.n_neurons * sizeof *t->slopes.positive);
        esp_ladder_sample(t->ladder, &t->mask_rng);
    }
    esp_rollout_call call = {.params = t->params,
                             .pos = t->ladder->pos,
                             .neg = t->ladder->neg,
                             .starts = t->starts + batch * n,
                             .n = n,
                             .steps = t->opts->rollout,
                             .noise = (float)t->opts->input_noise,
                             .rng = &t->noise_rng,
                             .grads = t->grads,
                             .slopes = phase->search ? &t->slopes : NULL};
    double loss = esp_rollout_loss(t->rollout, &call, NULL);
    if (phase->search) (void)esp_ladder_backward(t->ladder, t->slopes.positive, t->slopes.negative);
    return loss;
}

static void update(esp_trainer *t, const esp_phase *phase, double share) {
    double cosine = FINAL_RATE + (1 - FINAL_RATE) * 0.5 * (1 + cos(M_PI * share)), norm = 0;
    if (t->opts->clip > 0) norm = esp_block_norm(t->grads, t->mlp.n_params);
    if (norm > t->opts->clip) esp_block_scale(t->grads, t->mlp.n_params, (float)(t->opts->clip / norm));
    esp_adam_step(&t->adam, phase->rate * cosine, t->opts->weight_decay, t->mlp.n_weights, t->grads, t->params);
    /* logits keep their rate: the last draws are worth as much as the first */
    if (phase->search) esp_adam_step(&t->logit_adam, phase->logit_rate, 0, 0, t->ladder->grads, t->ladder->logits);
}

static esp_code run_epoch(esp_trainer *t, const esp_phase *phase, int epoch, esp_error *reterr) {
    size_t n_batches = t->windows->n_starts / (size_t)t->opts->batch;
    esp_rng_shuffle(&t->shuffle_rng, t->starts, t->windows->n_starts);
    for (size_t b = 0; b < n_batches; b++) {
        double share = ((double)epoch + (double)b / (double)n_batches) / phase->epochs, loss = gradient(t, phase, b);
        if (!isfinite(loss)) return diverged(t, phase, epoch, reterr);
        update(t, phase, share);
        t->loss_sum += loss;
        t->loss_count++;
        t->samples += (double)t->opts->batch * t->opts->rollout;
        t->progress.fraction = (t->epochs_done + (double)(b + 1) / (double)n_batches) / t->total_epochs;
        esp_code code = esp_trainer_pulse(t, reterr);
        if (code != ESP_OK) return code;
    }
    return ESP_OK;
}

esp_code esp_trainer_phase(esp_trainer *t, const esp_phase *phase, esp_error *reterr) {
    esp_adam_reset(&t->adam);
    esp_adam_reset(&t->logit_adam);
    t->progress.stage = phase->stage;
    t->progress.epochs = phase->stage_epochs;
    esp_ladder_relu(t->ladder);
    for (int epoch = 0; epoch < phase->epochs; epoch++) {
        t->progress.epoch = phase->stage_begin + epoch + 1;
        esp_code code = run_epoch(t, phase, epoch, reterr);
        if (code != ESP_OK) return code;
        t->epochs_done++;
        t->progress.validation_rmse = validate(t);
    }
    return ESP_OK;
}
