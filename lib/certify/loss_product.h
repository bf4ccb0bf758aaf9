/* SPDX-License-Identifier: Apache-2.0
 * How far two dynamics models part under the same inputs, step by step: the error of one step, and what the steps after it
 * make of it. Private to lib/certify. */
#ifndef ESP_CERTIFY_LOSS_PRODUCT_H
#define ESP_CERTIFY_LOSS_PRODUCT_H

#include "certify/difference.h"
#include "net/model.h"

/* sets[t], t from 0 (n_x each): holds the input [Y, U] of both models at step t. ret_epsilon[t] >= |f(x) - g(x)| (largest output)
 * on it, and ret_deviation (horizon x ny) >= |y_f - y_g| output by output. Infinite where nothing is known. */
ESP_MUST_CHECK esp_code esp_loss_product(const esp_model *f, const esp_model *g, int horizon, const esp_box *sets, const esp_stop *stop,
                                         double *ret_epsilon, double *ret_deviation, esp_error *reterr);

#endif
