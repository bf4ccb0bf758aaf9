/* SPDX-License-Identifier: Apache-2.0
 * Weight pruning of a network: magnitude, OBD, OBS and SparseGPT, to a given share of zeros or a given pattern.
 *
 * What stays is a network of the same shape with more exact zeros: no neuron changes its function, so every rung of the
 * ladder can be pruned too. How far the result is from the network is not said here: measure it (esp_prune_outputs) or
 * prove it (certify/difference.h). Nothing is trained here.
 *
 *     method      ranks by                         survivors      needs inputs
 *     magnitude   |w|                              unchanged      no
 *     obd         w^2 H_qq / 2                     unchanged      yes     (saliency.c)
 *     obs         w^2 / (2 [H^-1]_qq), one by one  least squares  yes     (obs.c)
 *     sparsegpt   the same, left to right          one sweep      yes     (sparsegpt.c)
 *
 * Error and Hessian. The error of a pruned network is the mean over calibration inputs of |f^ - f|^2. Its Hessian at the
 * network itself is that of Gauss and Newton, H = 2/n sum J'J, without remainder, because the residual is zero there. OBD takes
 * its diagonal, OBS over the whole network takes all of it. Layer by layer, OBS and SparseGPT take the error of the layer before
 * its ReLU, |(W^ - W) x|^2: rows do not touch each other and share H = 2/n sum x x' over the layer's inputs. The objective says
 * what a row's error counts when weights of different rows are ranked:
 *     layer   all rows alike, as in the papers of OBC and SparseGPT.
 *     output  by the mean over inputs of sum over outputs of (df_o/dp_i)^2, so that a neuron that nothing listens to counts nothing.
 * (Not by a row's own block of H: that counts only inputs where the neuron fires, so what fits it best there wakes it
 * where it should be off.)
 * The layers are done in order, each on the inputs that the layers pruned before it give.
 *
 * Biases are never pruned. In OBS and SparseGPT they take up the mean of what is lost (`bias`): then H is that of the
 * inputs about their mean, and b^ = b + (W - W^) mean.
 *
 * Damping adds lambda H_jj to each H_jj, not lambda times their mean: the result does not depend on the units of the
 * inputs, nor on rescaled neurons. An input that is always 0 (or, with `bias`, constant) is dead: its weights are free and
 * go first, as do those of neurons that are zero. Weights that come as 0 stay 0 and count as removed.
 *
 * Same network, inputs and options: same result. Life: options, run, free the network. */
#ifndef ESP_SPARSIFY_PRUNE_H
#define ESP_SPARSIFY_PRUNE_H

#include <stdbool.h>
#include <stddef.h>

#include "base/arena.h"
#include "base/clock.h"
#include "base/error.h"
#include "base/json.h"
#include "net/net.h"

typedef enum esp_prune_method { ESP_PRUNE_MAGNITUDE, ESP_PRUNE_OBD, ESP_PRUNE_OBS, ESP_PRUNE_SPARSEGPT } esp_prune_method;
#define ESP_PRUNE_METHODS 4
extern const char *const esp_prune_method_names[]; /* "magnitude", ..., NULL */

/* LAYER: each layer loses the same share. NETWORK: one ranking over all layers; SparseGPT takes from each layer what OBD
 * over the network would take. Not for patterns. */
typedef enum esp_prune_scope { ESP_PRUNE_LAYER, ESP_PRUNE_NETWORK } esp_prune_scope;
extern const char *const esp_prune_scope_names[]; /* "layer", "network", NULL */

/* Of OBS and SparseGPT layer by layer. */
typedef enum esp_prune_objective { ESP_PRUNE_OF_OUTPUT, ESP_PRUNE_OF_LAYER } esp_prune_objective;
extern const char *const esp_prune_objective_names[]; /* "output", "layer", NULL */

/* Parameters that OBS over the whole network may have in the chosen layers: it inverts a matrix of that size. */
#define ESP_PRUNE_OBS_MAX 5120
/* Numbers in n x the widest layer: what calibration holds of activations, twice. */
#define ESP_PRUNE_ACTIVATIONS_MAX ((size_t)1 << 26)

typedef struct esp_prune_opts {
    esp_prune_method method;
    esp_prune_scope scope;
    esp_prune_objective objective;
    double sparsity; /* of the weights of the chosen layers that are 0 afterwards, 0 .. 1; not read with a pattern */
    int group; /* 0, or m of the pattern (m/2):m: in each row, of every m inputs from the first on m/2 are 0; of a rest of t, t/2 rounded down */
    double damping; /* 0.01, at least 0 */
    int block; /* 128: columns that SparseGPT decides on together; at least 1 */
    bool bias; /* true */
    int n_layers; /* 0: all */
    int layers[ESP_MAX_LAYERS]; /* counted from 0, rising */
} esp_prune_opts;
#define ESP_PRUNE_OPTS_INIT ((esp_prune_opts){.damping = 0.01, .block = 128, .bias = true})

/* inputs: n x n_in of the network, finite; n may be 0 for magnitude only. `net` is not changed; the result is the caller's.
 * Errors: INVALID (options: which, in the message; no inputs), UNPROCESSABLE (over the two caps above), NUMERIC (activations that
 * overflow; with damping 0 a Hessian that cannot be inverted), CANCELLED, DEADLINE, NOMEM. */
ESP_MUST_CHECK esp_code esp_prune_run(const esp_net *net, size_t n, const double *inputs, const esp_prune_opts *opts, const esp_stop *stop,
                                      esp_net **ret_net, esp_error *reterr);

/* Training of what is left, on the calibration inputs; weights that are 0 stay 0 (train/regress.h, by the caller). */
typedef struct esp_prune_tune {
    bool asked;
    bool to_data; /* towards recorded outputs; else towards the outputs of the model that is pruned */
    int epochs; /* 0: as many as make some 8,000 minibatches, 10 to 2000 */
    int batch; /* 64 */
    double learning_rate; /* 0.002, cosine to 1 % */
    double weight_decay; /* 0 */
} esp_prune_tune;

/* The `spec` of a `prune` job, but for what the registry and the domain say. */
typedef struct esp_prune_spec {
    esp_prune_opts opts;
    bool any_method, any_scope; /* a budget without a method, a scope: the caller tries all */
    double error_budget; /* 0 when sparsity or pattern is given */
    double time_limit_s; /* of the search for a budget 60, of certifying otherwise 5 */
    size_t samples; /* 4000: calibration inputs drawn or taken, at most */
    uint64_t seed;
    size_t n_states;
    double *states; /* n_states x n_x, in the arena; NULL without */
    esp_prune_tune tune;
} esp_prune_spec;
/* Reads it for a model of n_x inputs; `model`, `dataset`, `domain`, `norm` and `name`, listed too, are the caller's to check.
 * Calibration inputs are required here where the method needs them. Errors: INVALID or UNPROCESSABLE, naming the field. */
extern const char *const esp_prune_fields[];
ESP_MUST_CHECK esp_code esp_prune_spec_parse(const esp_reader *spec, int n_x, esp_arena *arena, esp_prune_spec *ret_spec, esp_error *reterr);
/* The options in full, defaults included, for lineage: members of the object that is open. */
void esp_prune_opts_format(const esp_prune_opts *opts, esp_jsonw *w);
/* Likewise, as a member "fine_tune". */
void esp_prune_tune_format(const esp_prune_tune *tune, esp_jsonw *w);

/* Weights (biases not counted) of the chosen layers, and how many of them are exactly 0; layers as in the options. */
void esp_prune_count(const esp_net *net, const esp_prune_opts *opts, int64_t *ret_weights, int64_t *ret_zeros);

/* The network's outputs at n inputs (n x n_in) by matrix products: ret (n x n_out). Errors: NOMEM. */
ESP_MUST_CHECK esp_code esp_prune_outputs(const esp_net *net, size_t n, const double *inputs, double *ret_outputs, esp_error *reterr);

#endif
