/* SPDX-License-Identifier: Apache-2.0
 * What planning on one model instead of another can cost: eta >= |J^(u) - J(u)| for every sequence of inputs in a box and every
 * present in a box, J^ and J being the cost as the two models predict it.
 *
 * Then a plan that is best on the model loses at most 2 eta on the reference: J(u^) <= J^(u^) + eta <= J^(u) + eta <=
 * J(u) + 2 eta for every u, the reference's best plan included. (And a plan whose cost is within g of the best loses at
 * most 2 eta + g.) It holds where both models allow the same plans, that is without limits on the state. */
#ifndef ESP_CERTIFY_PLANNING_LOSS_H
#define ESP_CERTIFY_PLANNING_LOSS_H

#include "base/buf.h"
#include "certify/difference.h"
#include "net/model.h"

#define ESP_MAX_LOSS_STEPS 200

typedef enum esp_loss_norm { ESP_LOSS_L1, ESP_LOSS_LINF, ESP_LOSS_L2SQ } esp_loss_norm;

/* A term of the cost on outputs: sum_i w_i |y_i - t_i|, max_i w_i |y_i - t_i| or sum_i w_i (y_i - t_i)^2, at each of the steps
 * first .. last (of 1 .. horizon). Terms on inputs are the same for both models and are left out. */
typedef struct esp_loss_term {
    esp_loss_norm norm;
    int first, last;
    int n;
    const int *index; /* n outputs */
    const double *weight; /* n, >= 0 */
    const double *target_lower, *target_upper; /* n: where the target is; L2SQ only, the others do not depend on it */
} esp_loss_term;

typedef struct esp_loss_opts {
    double gap; /* stop when every deviation is at most what is reached times (1 + gap) */
    int max_leaves;
    uint64_t seed;
} esp_loss_opts;
#define ESP_LOSS_OPTS_INIT ((esp_loss_opts){0.05, 4096, 1})

typedef struct esp_loss {
    int horizon, n_box;
    /* By propagating both models side by side, the box split; and by the error of one step and what later steps make of it.
     * Infinite when nothing could be proved. */
    double eta, product_eta;
    double *deviation, *product; /* horizon: largest |y^(t) - y(t)|, of any output, open loop */
    double *epsilon; /* horizon: of the product, |f - g| on what either model meets at that step */
    double *lower; /* horizon: what of it is reached at least */
    double *witness; /* n_box: where the largest was */
    esp_buf tree;
    int leaves;
    const char *status;
    double *memory;
} esp_loss;

/* Numbers of the box: the present (history * ny observations, then (history - 1) * nu inputs, oldest first), then the horizon's
 * inputs, horizon * nu. */
int esp_loss_inputs(const esp_model *model, int horizon);
/* Two dynamics models of the same sizes. Errors: INVALID when something does not fit, NOMEM. */
ESP_MUST_CHECK esp_code esp_loss_run(const esp_model *model, const esp_model *reference, int horizon, const esp_box *box, int n_terms,
                                     const esp_loss_term *terms, const esp_loss_opts *opts, const esp_stop *stop, esp_loss **ret_loss,
                                     esp_error *reterr);
void esp_loss_free(esp_loss *loss);

#endif
