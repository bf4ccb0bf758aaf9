/* SPDX-License-Identifier: Apache-2.0
 * The order of a training run: dense, then rung after rung.
 *
 * The essay. The paper trains the full network to convergence with the penalty on, freezes, trains on, freezes again.
 * Here the dense model is wanted as a plain ReLU network, so it is trained without masks and handed out; the search that
 * the paper puts at the end of one round stands at the beginning of the next, which is the same order of steps. A rung
 * from n undecided neurons to k goes down in a few waves, each
 *     search   masks drawn anew for each minibatch, weights and logits trained (section 3.3)
 *     freeze   the top of the ranking, so that the numbers left fall geometrically from n to k (section 3.4)
 *     settle   masks fixed, the undecided as ReLU; after the last wave for longer, and then the model is handed out.
 * Many small waves because pi is measured inside the network of the moment: freeze thirty neurons on one reading and the
 * reading is out of date after the first ten. lib/train/README.md has the measurements behind the shares and the start. */
#include "train/train.h"

#include <math.h>
#include <stdio.h>

#include "train/emit.h"
#include "train/trainer.h"

/* Shares of a rung's epochs; what is left settles after the last wave. */
#define SEARCH_SHARE 0.3
#define SETTLE_SHARE 0.3
#define MAX_WAVES    8

/* Automatic lengths, in minibatches, and their limits in epochs. */
#define AUTO_BATCHES 16000
#define AUTO_LEAST   10
#define AUTO_MOST    2000
/* Automatic rate: this one up to the width, falling as 1 / width beyond. */
#define AUTO_RATE       0.01
#define AUTO_RATE_WIDTH 64

static esp_code emit(esp_trainer *t, esp_error *reterr) {
    esp_train_model out = {0};
    esp_code code = esp_emit_model(&t->mlp, t->params, t->ladder, t->windows, &t->opts->frame, t->dataset->nu, &out.model, reterr);
    if (code == ESP_OK)
        code = esp_emit_errors(out.model, t->dataset, t->windows, esp_trainer_pulse, t, &out.validation_rmse, &out.rollout_rmse, reterr);
    if (code == ESP_OK && t->hooks && t->hooks->model) {
        out.relu = esp_net_relus(out.model->net);
        code = t->hooks->model(t->hooks->user, &out, reterr);
    }
    esp_model_free(out.model);
    return code;
}

/* Part i of n of a whole number, so that the parts add up to it. */
static int part(int whole, int i, int n) {
    return whole * (i + 1) / n - whole * i / n;
}

/* Undecided neurons after wave i of n from `from` to `to`: geometric in count + 1, so that 0 can be reached. */
static size_t left_after(size_t from, size_t to, int i, int n) {
    if (i == n - 1) return to;
    double ratio = ((double)to + 1) / ((double)from + 1);
    return (size_t)(((double)from + 1) * pow(ratio, (double)(i + 1) / n) - 0.5);
}

static esp_code run_rung(esp_trainer *t, size_t relu, const char *stage, esp_error *reterr) {
    int epochs = t->rung_epochs, search = (int)(SEARCH_SHARE * epochs + 0.5), settle = (int)(SETTLE_SHARE * epochs), waves = MAX_WAVES;
    size_t from = t->ladder->n_undecided, to_freeze = from > relu ? from - relu : 0;
    if (search < 1) search = 1;
    if ((size_t)waves > to_freeze) waves = (int)to_freeze;
    if (waves > search) waves = search;
    esp_phase phase = {.stage = stage, .stage_epochs = epochs, .rate = t->rate, .logit_rate = t->opts->logit_rate};
    for (int i = 0; i < waves; i++) {
        phase.search = true;
        phase.epochs = part(search, i, waves);
        esp_code code = esp_trainer_phase(t, &phase, reterr);
        if (code != ESP_OK) return code;
        phase.stage_begin += phase.epochs;
        esp_ladder_freeze(t->ladder, left_after(from, relu, i, waves), NULL);
        phase.search = false;
        phase.epochs = i == waves - 1 ? epochs - phase.stage_begin : part(settle, i, waves);
        code = esp_trainer_phase(t, &phase, reterr);
        if (code != ESP_OK) return code;
        phase.stage_begin += phase.epochs;
    }
    return emit(t, reterr);
}

static int automatic_epochs(const esp_trainer *t) {
    size_t batches = t->windows->n_starts / (size_t)t->opts->batch, epochs = AUTO_BATCHES / batches;
    return epochs < AUTO_LEAST ? AUTO_LEAST : epochs > AUTO_MOST ? AUTO_MOST : (int)epochs;
}

/* What the options left open. */
static void settle_lengths(esp_trainer *t) {
    const esp_train_opts *opts = t->opts;
    int widest = esp_mlp_widest(&t->mlp);
    t->epochs = opts->epochs > 0 ? opts->epochs : automatic_epochs(t);
    t->rung_epochs = opts->rung_epochs > 0 ? opts->rung_epochs : automatic_epochs(t);
    if (t->rung_epochs < 2) t->rung_epochs = 2; /* one to search, one to settle */
    t->rate = opts->learning_rate > 0 ? opts->learning_rate : widest > AUTO_RATE_WIDTH ? AUTO_RATE * AUTO_RATE_WIDTH / widest : AUTO_RATE;
    t->total_epochs = t->epochs + opts->n_rungs * t->rung_epochs;
}

esp_code esp_train_run(const esp_dataset *dataset, const esp_train_opts *opts, const esp_train_hooks *hooks, const esp_stop *stop,
                       esp_error *reterr) {
    char stage[24];
    esp_trainer *t = NULL;
    esp_code code = esp_trainer_create(dataset, opts, hooks, stop, &t, reterr);
    if (code != ESP_OK) return code;
    settle_lengths(t);
    code = esp_trainer_phase(t, &(esp_phase){.stage = "dense", .epochs = t->epochs, .stage_epochs = t->epochs, .rate = t->rate}, reterr);
    if (code == ESP_OK) code = emit(t, reterr);
    for (int i = 0; i < opts->n_rungs && code == ESP_OK; i++) {
        (void)snprintf(stage, sizeof stage, "rung %d", opts->ladder[i]);
        code = run_rung(t, (size_t)opts->ladder[i], stage, reterr);
    }
    if (code == ESP_OK) esp_trainer_finish(t);
    esp_trainer_free(t);
    return code;
}
