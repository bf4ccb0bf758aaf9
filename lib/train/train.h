/* SPDX-License-Identifier: Apache-2.0
 * Training of dynamics networks: minibatch Adam on the one-step or k-step rollout error, in float.
 *
 * The loss is taken on outputs, each divided by the standard deviation of what the frame leaves unexplained, and the
 * network sees normalised inputs; both scalings are folded into the returned model's weights, so a model always works
 * in the units of the data. Same seed, same model.
 *
 * esp_train_run goes from a dataset to the dense model and then down the ladder (sparsify/ladder.h), handing every
 * model out as soon as it exists; or, from a model that is given, down the ladder only. Long and cancellable: returns CANCELLED or DEADLINE through `stop`. */
#ifndef ESP_TRAIN_TRAIN_H
#define ESP_TRAIN_TRAIN_H

#include <stdint.h>

#include "base/clock.h"
#include "base/error.h"
#include "base/parallel.h"
#include "data/dataset.h"
#include "net/model.h"

#define ESP_MAX_HIDDEN  16
#define ESP_MAX_RUNGS   32
#define ESP_MAX_ROLLOUT 1000

/* How a rung chooses the neurons that go: by the Gumbel ladder (sparsify/ladder.h), or whole ones by the L1 norm of their
 * weights (sparsify/channel.h). */
typedef enum esp_sparsify_method { ESP_SPARSIFY_GUMBEL, ESP_SPARSIFY_CHANNEL } esp_sparsify_method;
extern const char *const esp_sparsify_method_names[]; /* "gumbel", "channel", NULL */

/* How the learning rate falls within a phase: train/schedule.h. */
typedef enum esp_schedule_kind { ESP_SCHEDULE_COSINE, ESP_SCHEDULE_PLATEAU } esp_schedule_kind;
extern const char *const esp_schedule_names[]; /* "cosine", "plateau", NULL */

/* A graph network's sizes (net/graph.h): the hidden layers of both encoders and of the outputs; `width` is that of what they
 * and the messages say. */
typedef struct esp_graph_opts {
    esp_graph_layout layout;
    int width; /* 64; 0: not a graph network */
    int n_node, node[ESP_MAX_HIDDEN]; /* 64 */
    int n_edge, edge[ESP_MAX_HIDDEN]; /* 64 */
    int n_output, output[ESP_MAX_HIDDEN]; /* 64 */
} esp_graph_opts;

/* Every field of a `train` job's spec but the dataset and the name. Defaults: esp_train_opts_init. */
typedef struct esp_train_opts {
    int n_hidden;
    int hidden[ESP_MAX_HIDDEN];
    esp_graph_opts graph; /* instead of `hidden`, when its width is not 0; the frame is RESIDUAL then */
    int history; /* 1 */
    int rollout; /* 1: steps of the rollout loss */
    int n_step_weights; /* rollout; or 0, the default: all steps weigh the same */
    double step_weights[ESP_MAX_ROLLOUT]; /* of the steps' squared errors, relative to each other */
    int epochs; /* of the dense stage; 0, the default: as many as make some 16,000 minibatches, 10 to 2000 */
    int rung_epochs; /* of each rung, searching and settling together; 0, the default: the same; at least 2 are run */
    int batch; /* 256 */
    int threads; /* 1: parts of each minibatch that are worked side by side; the models are those of (seed, threads) */
    double learning_rate; /* at the start of each phase; 0, the default: 0.01, less in proportion when a layer is over 64 wide */
    esp_schedule_kind schedule; /* COSINE */
    double plateau_factor; /* 0.3 */
    int plateau_patience; /* 3 epochs */
    double plateau_threshold; /* 1e-4 */
    int early_stop; /* epochs without a better validation loss that end a phase; 0, the default: none do */
    double input_noise; /* standard deviation, in normalised units; 0 */
    double weight_decay; /* 0; decoupled, weights only */
    double clip; /* gradient norm; 0 = none */
    double validation; /* 0.1 */
    uint64_t seed;
    int n_rungs;
    int ladder[ESP_MAX_RUNGS]; /* falling ReLU counts; none = only the dense model */
    double proof_weight; /* of the relaxation gap in the loss of a rung, for models whose plans are sooner proved (train/proof.h); 0 */
    double rounding; /* share by which a rung's loss may rise, four times over, through weights that are put to 0 (train/rounding.h); 0: none are */
    int reach; /* 3: steps of the data within whose reach it is taken */
    double target_rmse; /* the ladder ends after the first model whose validation error is above this; 0: it does not */
    double target_plan_ms; /* or after the first whose plans are proved in so many milliseconds, which the caller measures and says by `enough` */
    double lambda; /* weight of R(pi) = sum pi1 + lambda_id sum pi2; 1e-4 */
    double lambda_id; /* weight of identities in R, beside ReLUs; 0.005 */
    double tau; /* Gumbel temperature, 0.5 */
    double logit_rate; /* of Adam on the masks' logits, 0.03, constant */
    bool straight_through; /* true */
    esp_frame frame; /* matrices borrowed */
    int f_in, f_out; /* the network's inputs and outputs as a LINEAR frame has them; unread otherwise */
    /* of a `sparsify` job */
    esp_sparsify_method method; /* GUMBEL */
    const esp_model *start; /* borrowed; the ladder goes down from its weights and masks, and no dense model is trained. NULL */
    double distill_weight; /* 0 .. 1: how far targets are moved to what `start` predicts (train/start.h). 0 */
} esp_train_opts;

void esp_train_opts_init(esp_train_opts *opts);
/* Reads the spec's training fields (the caller has checked dataset and name, listed in esp_train_fields too);
 * frame matrices go into the arena. ny and nu are the dataset's. */
extern const char *const esp_train_fields[];
ESP_MUST_CHECK esp_code esp_train_opts_parse(const esp_reader *spec, int ny, int nu, esp_arena *arena, esp_train_opts *ret_opts, esp_error *reterr);
/* The parsed options in full, defaults included, for lineage. */
void esp_train_opts_format(const esp_train_opts *opts, esp_jsonw *w);

/* The same for a `sparsify` job: all but model, dataset and name, listed in esp_sparsify_fields too. relu is the number of
 * ReLUs of its model, of a graph network whatever their copies; *ret_stable says whether "stable" asks for neurons to be resolved over the data box. */
extern const char *const esp_sparsify_fields[];
ESP_MUST_CHECK esp_code esp_sparsify_opts_parse(const esp_reader *spec, int relu, bool graph, esp_train_opts *ret_opts, bool *ret_stable,
                                                esp_error *reterr);
/* What the options take from the model: sizes, history, frame, and the start itself; borrowed. UNPROCESSABLE, naming the
 * spec's "model", when training cannot hold it. */
ESP_MUST_CHECK esp_code esp_sparsify_opts_start(const esp_reader *spec, const esp_model *model, esp_train_opts *opts, esp_error *reterr);
void esp_sparsify_opts_format(const esp_train_opts *opts, bool stable, esp_jsonw *w);

typedef struct esp_train_progress {
    double fraction; /* of the whole run, 0 .. 1 */
    const char *stage; /* "dense", "rung 36", ... */
    int epoch, epochs;
    int relu; /* ReLUs that are still ReLU or undecided */
    double loss; /* training, normalised units, mean of the last interval */
    double validation_loss; /* the same over validation windows without noise; it is what schedules look at. NaN before the first epoch ends */
    double validation_rmse; /* one step, in data units, NaN before the first epoch ends */
    double samples_per_s, eta_s;
} esp_train_progress;

typedef struct esp_train_model {
    esp_model *model; /* borrowed during the call */
    int relu;
    double validation_rmse; /* one step, root mean square over all outputs, data units */
    double rollout_rmse; /* the same over min(10, longest) steps, open loop */
} esp_train_model;

typedef struct esp_train_hooks {
    void *user;
    /* at least once a second */
    void (*progress)(void *user, const esp_train_progress *progress);
    /* dense first, then each rung; a failure code stops the run */
    esp_code (*model)(void *user, const esp_train_model *model, esp_error *reterr);
    /* before a model is measured and handed out: may put another in its place, which is the run's then; training goes on from
     * what it had. A failure code stops the run. May be NULL, like the others */
    esp_code (*refine)(void *user, esp_model **model, esp_error *reterr);
    /* after a model was handed out: true ends the run there, well, whatever rungs are left */
    bool (*enough)(void *user);
    /* where opts->threads are more than 1: as many parts */
    const esp_parallel *parallel;
} esp_train_hooks;

/* Where a run leaves off and goes on. A checkpoint is taken between two minibatches, when it is time to and when the run is
 * told to stop; the models after it are those of an undisturbed run, to the bit. What is in one: train/checkpoint.h. */
typedef struct esp_train_checkpoints {
    void *user;
    const char *key; /* what a checkpoint must agree in beside options and data as they are seen: build, the data's hash; NULL: "" */
    const void *resume; /* resume_len bytes to go on from; NULL: from the start */
    size_t resume_len;
    int64_t every_ns; /* between two; 0: after each minibatch */
    const esp_buf *notes; /* the caller's own bytes, put into each; may be NULL */
    /* `resume` was taken; its notes and how much of the run it had done. Before anything is trained; a failure ends the run. */
    esp_code (*resumed)(void *user, const void *notes, size_t len, double fraction, esp_error *reterr);
    void (*take)(void *user, const esp_buf *bytes, double fraction); /* borrowed; may be NULL */
} esp_train_checkpoints;

/* Errors: INVALID (data too short for the history or rollout, fewer windows than a batch), NUMERIC (loss not finite:
 * says what to lower), CANCELLED, DEADLINE, NOMEM. */
ESP_MUST_CHECK esp_code esp_train_run(const esp_dataset *dataset, const esp_train_opts *opts, const esp_train_hooks *hooks, const esp_stop *stop,
                                      esp_error *reterr);
/* The same with checkpoints. One that cannot be gone on from is CORRUPT, before anything is trained. */
ESP_MUST_CHECK esp_code esp_train_resume(const esp_dataset *dataset, const esp_train_opts *opts, const esp_train_hooks *hooks,
                                         const esp_train_checkpoints *checkpoints, const esp_stop *stop, esp_error *reterr);

#endif
