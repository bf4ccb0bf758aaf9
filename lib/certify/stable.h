/* SPDX-License-Identifier: Apache-2.0
 * Neurons whose kink no point of a box reaches: they become identity or zero, and the model has fewer ReLUs for nothing.
 *
 * Whether p >= 0 or p <= 0 on the whole box is proved by CROWN, what lowering rounded charged (certify/crown.h), so in exact
 * arithmetic the two models are the same function on the box; in floating point they differ by rounding, since sums are taken
 * in another order. Outside the box they may differ by anything: whoever plans with the result must stay inside (plan/task.h, esp_task_check_inside). */
#ifndef ESP_CERTIFY_STABLE_H
#define ESP_CERTIFY_STABLE_H

#include "certify/certificate.h"

typedef struct esp_stable {
    int linear, zero; /* ReLUs that became identity, and zero */
} esp_stable;

/* box: of the model's inputs x. The model that comes out is the caller's, a plain copy when nothing is stable.
 * Errors: UNPROCESSABLE over ESP_MAX_RELUS, NOMEM. */
ESP_MUST_CHECK esp_code esp_stable_resolve(const esp_model *model, const esp_box *box, esp_model **ret_model, esp_stable *ret_stable,
                                           esp_error *reterr);

#endif
