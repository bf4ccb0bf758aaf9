/* SPDX-License-Identifier: Apache-2.0
 * The order of a training run: dense, then rung after rung.
 *
 * The essay. The paper trains the full network to convergence with the penalty on, freezes, trains on, freezes again.
 * Here the dense model is wanted as a plain ReLU network, so it is trained without masks and handed out; the search that
 * the paper puts at the end of one round stands at the beginning of the next, which is the same order of steps. A rung
 * from n undecided neurons to k goes down in a few waves, each
 *     search   masks drawn anew for each minibatch, weights and logits trained (section 3.3)
 *     freeze   the top of the ranking, so that the numbers left fall geometrically from n to k (section 3.4)
 *     settle   masks fixed, the undecided as ReLU; after the last wave for longer, with the roundings in it (rounding.h), and then
 *              the model is handed out.
 * With the baseline, channel pruning, a rung is one settling after the neurons are gone (sparsify/channel.h). A run may also
 * start from a model that is given (start.h): then its first rung is its first stage.
 * Many small waves because pi is measured inside the network of the moment: freeze thirty neurons on one reading and the
 * reading is out of date after the first ten. lib/train/README.md says what was tried. */
#include "train/train.h"

#include <math.h>
#include <stdio.h>

#include "sparsify/channel.h"
#include "train/checkpoint.h"
#include "train/emit.h"
#include "train/trainer.h"

/* Shares of a rung's epochs; what is left settles after the last wave. */
#define SEARCH_SHARE 0.3
#define SETTLE_SHARE 0.3
#define MAX_WAVES    8
/* Share of a rung's last settling that is before its roundings. */
#define BEFORE_SHARE 0.5

/* Automatic lengths, in minibatches, and their limits in epochs. */
#define AUTO_BATCHES 16000
#define AUTO_LEAST   10
#define AUTO_MOST    2000
/* Automatic rate: this one up to the width, falling as 1 / width beyond. */
#define AUTO_RATE       0.01
#define AUTO_RATE_WIDTH 64

static esp_code emit(esp_trainer *t, esp_error *reterr) {
    esp_train_model out = {0};
    esp_code code = t->graph_loss ? esp_graph_net_emit(&t->graph, t->params, t->ladder, t->graph_data, &out.model, reterr)
                                  : esp_emit_model(&t->mlp, t->params, t->ladder, t->windows, &t->opts->frame, t->dataset->nu, &out.model, reterr);
    if (code == ESP_OK && t->hooks && t->hooks->refine) code = t->hooks->refine(t->hooks->user, &out.model, reterr);
    if (code == ESP_OK)
        code = esp_emit_errors(out.model, t->dataset, t->windows, esp_trainer_pulse, t, &out.validation_rmse, &out.rollout_rmse, reterr);
    if (code == ESP_OK && t->hooks && t->hooks->model) {
        out.relu = (int)esp_model_relus(out.model);
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
    if (i >= n - 1) return to;
    double ratio = ((double)to + 1) / ((double)from + 1);
    return (size_t)(((double)from + 1) * pow(ratio, (double)(i + 1) / n) - 0.5);
}

/* ---- the order ---- */

/* A rung's phases: waves of search and settle. All of it follows from the options and from how many were undecided when the rung
 * began, so that a run can be taken up at any place. */
typedef struct rung {
    int search, settle; /* epochs, over all waves but the last settling */
    int waves;
} rung;

static rung rung_of(const esp_trainer *t) {
    size_t from = (size_t)t->place.from, relu = (size_t)t->opts->ladder[t->place.rung], to_freeze = from > relu ? from - relu : 0;
    if (t->opts->method == ESP_SPARSIFY_CHANNEL) return (rung){.waves = 1};
    rung r = {(int)(SEARCH_SHARE * t->rung_epochs + 0.5), (int)(SETTLE_SHARE * t->rung_epochs), MAX_WAVES};
    if (r.search < 1) r.search = 1;
    if ((size_t)r.waves > to_freeze) r.waves = (int)to_freeze;
    if (r.waves > r.search) r.waves = r.search;
    return r;
}

/* The last settling, cut by its roundings. `all`: its epochs, with and between them. */
static void cut_settling(const esp_trainer *t, int all, esp_phase *phase) {
    int before = t->opts->rounding > 0 ? (int)(BEFORE_SHARE * all) : all, done = (int)t->place.rounding - 1;
    phase->round = done >= 0;
    phase->epochs = before;
    for (int i = 0; i <= done; i++) {
        phase->stage_begin += phase->epochs;
        phase->epochs = part(all - before, i, ESP_ROUNDINGS);
    }
}

/* The phase that the trainer's place is in. */
static esp_phase phase_at(const esp_trainer *t, const char *stage) {
    if (t->place.rung < 0) return (esp_phase){.stage = stage, .epochs = t->epochs, .stage_epochs = t->epochs, .rate = t->rate};
    const rung r = rung_of(t);
    int wave = (int)t->place.wave;
    esp_phase phase = {.stage = stage, .stage_epochs = t->rung_epochs, .rate = t->rate, .logit_rate = t->opts->logit_rate};
    phase.search = !t->place.settling;
    phase.compact = t->place.settling && (t->opts->proof_weight > 0 || t->opts->rounding > 0);
    phase.stage_begin = r.search * wave / r.waves + r.settle * wave / r.waves;
    phase.epochs = part(phase.search ? r.search : r.settle, wave, r.waves);
    if (phase.search) return phase;
    phase.stage_begin += part(r.search, wave, r.waves);
    if (wave == r.waves - 1) cut_settling(t, t->rung_epochs - phase.stage_begin, &phase);
    return phase;
}

/* The layers whose neurons the ladder decides about, in order; a graph network's once each, whatever their copies. Returns how many. */
static int channel_layers(const esp_trainer *t, esp_channel_layer *ret) {
    const esp_mlp *mlp = &t->mlp;
    const esp_graph_net *graph = &t->graph;
    int n = 0;
    for (int l = 0; t->graph_loss && l < graph->begin[ESP_BLOCKS]; l++) {
        const esp_dense *layer = &graph->layer[l];
        if (layer->activated) ret[n++] = (esp_channel_layer){layer->neuron, layer->w, layer->k, t->params + layer->weight};
    }
    for (int l = 0; !t->graph_loss && l < mlp->n_layers - 1; l++)
        ret[n++] = (esp_channel_layer){mlp->neuron[l], (size_t)mlp->width[l + 1], (size_t)mlp->width[l], t->params + mlp->weight[l]};
    return n;
}

/* The baseline's whole choice: neurons go at once, by the norms of their weights as they are now. */
static void prune_channels(esp_trainer *t, size_t relu) {
    esp_channel_layer layers[ESP_MAX_DENSE];
    esp_channel_prune(t->ladder, layers, channel_layers(t, layers), relu, NULL);
}

/* Channel pruning has nothing to search: its rungs settle from their beginning. */
static void begin_rung(esp_trainer *t, int64_t number) {
    bool channel = t->opts->method == ESP_SPARSIFY_CHANNEL && number < t->opts->n_rungs;
    t->place = (esp_place){.rung = number, .from = (int64_t)t->ladder->n_undecided, .settling = channel};
    if (channel) prune_channels(t, (size_t)t->opts->ladder[number]);
}

/* What is done at a phase's end, and the place of the next one. */
static esp_code close_phase(esp_trainer *t, esp_error *reterr) {
    esp_place next = {.rung = t->place.rung, .wave = t->place.wave, .from = t->place.from};
    bool in_rung = t->place.rung >= 0;
    const rung r = in_rung ? rung_of(t) : (rung){0};
    if (in_rung && !t->place.settling) {
        size_t relu = (size_t)t->opts->ladder[t->place.rung];
        esp_ladder_freeze(t->ladder, left_after((size_t)t->place.from, relu, (int)t->place.wave, r.waves), NULL);
        next.settling = 1;
    } else if (in_rung && t->place.wave + 1 < r.waves) {
        next.wave++;
    } else if (in_rung && t->opts->rounding > 0 && t->place.rounding < ESP_ROUNDINGS) {
        next.settling = 1;
        next.rounding = t->place.rounding + 1;
    } else {
        esp_code code = emit(t, reterr);
        if (code != ESP_OK) return code;
        bool enough = t->hooks && t->hooks->enough && t->hooks->enough(t->hooks->user);
        begin_rung(t, enough ? t->opts->n_rungs : t->place.rung + 1);
        next = t->place;
    }
    t->place = next;
    esp_checkpoint_if_due(t);
    return ESP_OK;
}

static int automatic_epochs(const esp_trainer *t) {
    size_t batches = t->windows->n_starts / (size_t)t->opts->batch, epochs = AUTO_BATCHES / batches;
    return epochs < AUTO_LEAST ? AUTO_LEAST : epochs > AUTO_MOST ? AUTO_MOST : (int)epochs;
}

/* What the options left open. */
static void settle_lengths(esp_trainer *t) {
    const esp_train_opts *opts = t->opts;
    int widest = t->graph_loss ? esp_graph_net_widest(&t->graph) : esp_mlp_widest(&t->mlp);
    t->epochs = opts->epochs > 0 ? opts->epochs : automatic_epochs(t);
    t->rung_epochs = opts->rung_epochs > 0 ? opts->rung_epochs : automatic_epochs(t);
    if (t->rung_epochs < 2) t->rung_epochs = 2; /* one to search, one to settle */
    t->rate = opts->learning_rate > 0 ? opts->learning_rate : widest > AUTO_RATE_WIDTH ? AUTO_RATE * AUTO_RATE_WIDTH / widest : AUTO_RATE;
    if (opts->start) t->epochs = 0; /* it is the dense model */
    t->total_epochs = t->epochs + opts->n_rungs * t->rung_epochs;
}

static esp_code resume(esp_trainer *t, esp_error *reterr) {
    const esp_train_checkpoints *c = t->checkpoints;
    const void *notes = NULL;
    size_t n_notes = 0;
    if (!c || !c->resume) return ESP_OK;
    esp_code code = esp_checkpoint_restore(t, c->resume, c->resume_len, &notes, &n_notes, reterr);
    return code == ESP_OK && c->resumed ? c->resumed(c->user, notes, n_notes, t->progress.fraction, reterr) : code;
}

static esp_code run(esp_trainer *t, esp_error *reterr) {
    char stage[24] = "dense";
    esp_code code = ESP_OK;
    while (code == ESP_OK && t->place.rung < t->opts->n_rungs) {
        if (t->place.rung >= 0) (void)snprintf(stage, sizeof stage, "rung %d", t->opts->ladder[t->place.rung]);
        const esp_phase phase = phase_at(t, stage);
        code = esp_trainer_phase(t, &phase, reterr);
        if (code == ESP_OK) code = close_phase(t, reterr);
    }
    if (code == ESP_OK) esp_trainer_finish(t);
    /* Told to stop, but perhaps not for good. */
    if (code == ESP_CANCELLED || code == ESP_DEADLINE) esp_checkpoint_take(t);
    return code;
}

esp_code esp_train_resume(const esp_dataset *dataset, const esp_train_opts *opts, const esp_train_hooks *hooks,
                          const esp_train_checkpoints *checkpoints, const esp_stop *stop, esp_error *reterr) {
    esp_trainer *t = NULL;
    esp_code code = esp_trainer_create(dataset, opts, hooks, stop, &t, reterr);
    if (code != ESP_OK) return code;
    t->checkpoints = checkpoints;
    settle_lengths(t);
    if (opts->start) begin_rung(t, 0);
    code = resume(t, reterr);
    if (code == ESP_OK) code = run(t, reterr);
    esp_trainer_free(t);
    return code;
}

esp_code esp_train_run(const esp_dataset *dataset, const esp_train_opts *opts, const esp_train_hooks *hooks, const esp_stop *stop,
                       esp_error *reterr) {
    return esp_train_resume(dataset, opts, hooks, NULL, stop, reterr);
}
