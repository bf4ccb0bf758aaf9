/* SPDX-License-Identifier: Apache-2.0
 * The options of distillation, a planner's answers into a policy: read from a job's spec and written for lineage. The
 * planning and the closed loops are the caller's, the fitting is train/regress.h. */
#ifndef ESP_TRAIN_DISTILL_H
#define ESP_TRAIN_DISTILL_H

#include "base/json.h"
#include "train/regress.h"

typedef struct esp_distill_opts {
    int samples; /* states drawn from the domain */
    int rounds; /* of DAgger; 2 */
    int round_samples; /* states that a round adds at most; half of `samples` when absent */
    int regret_states; /* that the policy's regret is measured from; 20; 0: it is not */
    double plan_ms; /* the longest that one plan may take; 50 */
    double validation; /* share of the answers that is kept out of training; 0.1 */
    esp_regress_opts regress;
} esp_distill_opts;

extern const char *const esp_distill_fields[]; /* all of a spec's, task, name and domain included, which are the caller's */
/* For a policy from n_in to n_out numbers. Errors name the field. */
ESP_MUST_CHECK esp_code esp_distill_opts_parse(const esp_reader *spec, int n_in, int n_out, esp_distill_opts *ret_opts, esp_error *reterr);
/* As members of the object that is open, defaults included. */
void esp_distill_opts_format(const esp_distill_opts *opts, esp_jsonw *w);
/* Answers that there can be in all. */
size_t esp_distill_most(const esp_distill_opts *opts);

#endif
