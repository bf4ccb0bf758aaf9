/* SPDX-License-Identifier: Apache-2.0
 * Inside the prune job.
 *
 *     job_prune.c   the spec, the new model, the result     prune_inputs.c   calibration and held-out inputs
 *     prune_search.c   one method at one sparsity, and the sparsest within a budget     prune_tune.c   fine-tuning */
#ifndef ESP_WORKER_PRUNE_PARTS_H
#define ESP_WORKER_PRUNE_PARTS_H

#include "certify/difference.h"
#include "sparsify/prune.h"
#include "worker/worker.h"

/* Inputs of the network (v) and, for those held out, what the model should have said. */
typedef struct prune_inputs {
    size_t n, n_held; /* 0 when there is nothing to calibrate on */
    double *v; /* n x n_in of the network */
    double *aim; /* n x n_y, as `target` */
    double *held; /* n_held x n_in */
    double *target; /* n_held x n_y: recorded output less the frame's part; NULL without recorded outputs */
    size_t n_box; /* points of the domain; 0 without one */
    double *in_box; /* n_box x n_in */
} prune_inputs;

typedef struct pruning {
    worker *w;
    worker_model *parent;
    const char *blob_dir, *parent_sha256;
    esp_reader resolved; /* what the parent's row says of neurons that were resolved over its data box */
    esp_prune_spec spec;
    esp_box box; /* n = 0: none */
    esp_norm norm;
    prune_inputs inputs;
    double *held_y, *box_y; /* the parent's part at `held`, `in_box`: n_held, n_box x n_y */
    double *y; /* room for as many */
    double *tune_y; /* n x n_out of the network: what it is fine-tuned to say at v */
    esp_program *slack; /* of lowering the parent; NULL: none */
    esp_arena *arena;
} pruning;

/* What a method came to. */
typedef struct prune_outcome {
    esp_prune_opts opts;
    esp_model *model; /* NULL: nothing within the budget; owned */
    int64_t weights, zeros; /* of the chosen layers */
    int tried;
    bool is_certified;
    esp_certified certified; /* over the box */
    double value; /* the least of its rows, raised as rows are */
    double rms, largest; /* difference to the parent at the held-out inputs */
    double validation_rmse; /* NaN without recorded outputs */
    esp_error error; /* why it came to nothing, when it is not the budget */
} prune_outcome;
void prune_outcome_done(prune_outcome *outcome); /* `= {0}` is done too */

/* What fine-tuning came to: errors at the held-out inputs before and after. */
typedef struct prune_tuned {
    bool done, kept;
    double loss; /* of the last epoch, outputs scaled by their spread */
    double before_rms, before_validation_rmse, after_rms, after_validation_rmse; /* validation: NaN without recorded outputs */
    double certified; /* NaN: not certified */
} prune_tuned;

/* --- prune_inputs.c --- */
/* The box of the spec's domain, if it has one; then the inputs. */
ESP_MUST_CHECK esp_code prune_read_domain(pruning *p, const esp_reader *payload, esp_error *reterr);
ESP_MUST_CHECK esp_code prune_read_inputs(pruning *p, const esp_reader *payload, esp_error *reterr);
/* The network's part of the model's output, G f, at n inputs: ret (n x n_y). */
ESP_MUST_CHECK esp_code prune_part(const esp_model *model, size_t n, const double *v, double *ret, esp_error *reterr);

/* --- prune_tune.c --- */
/* What to train on; refuses a network that cannot be trained. */
ESP_MUST_CHECK esp_code prune_tune_prepare(pruning *p, esp_error *reterr);
/* The best becomes the tuned one if that is better and, with a budget, certified within it; then, with a budget, the sparsest one that is found
 * by deadline_ns. Progress goes from `begin` to `end`. */
ESP_MUST_CHECK esp_code prune_tune(pruning *p, int64_t deadline_ns, double begin, double end, prune_outcome *best, prune_tuned *ret,
                                   esp_error *reterr);

/* --- prune_search.c --- */
enum { PRUNE_STEPS = 256 }; /* of sparsity, that searches go by */
/* One model by these options. */
ESP_MUST_CHECK esp_code prune_make(pruning *p, const esp_prune_opts *opts, const esp_stop *stop, prune_outcome *ret, esp_error *reterr);
/* Does the model keep the budget at the domain's points? */
ESP_MUST_CHECK esp_code prune_sieve(pruning *p, const esp_model *model, bool *ret_passes, esp_error *reterr);
/* Differences to the parent, and to recorded outputs, at the held-out inputs. */
ESP_MUST_CHECK esp_code prune_measure(pruning *p, prune_outcome *o, esp_error *reterr);
/* Certificates of the difference to the parent, by until_ns; what was there is replaced. */
ESP_MUST_CHECK esp_code prune_certify(pruning *p, int64_t until_ns, prune_outcome *o, esp_error *reterr);
/* One method at the spec's sparsity or pattern, measured. */
ESP_MUST_CHECK esp_code prune_once(pruning *p, prune_outcome *ret, esp_error *reterr);
/* The sparsest that the options' method finds by deadline_ns, whatever sparsity they have; progress goes from `begin` to `end`. A
 * method that cannot be carried out is an outcome with its error. Errors: CANCELLED, NOMEM. */
ESP_MUST_CHECK esp_code prune_search(pruning *p, const esp_prune_opts *opts, int64_t deadline_ns, double begin, double end, prune_outcome *ret,
                                     esp_error *reterr);

#endif
