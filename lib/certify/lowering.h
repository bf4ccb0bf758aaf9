/* SPDX-License-Identifier: Apache-2.0
 * What lowering rounded: how far the coefficients of a program can be from the exact ones of its model. Private to
 * lib/certify and to those who certify models.
 *
 * A program's coefficients are sums of products of the model's numbers (net/lower.c). Where networks have no identity neurons and
 * no linear frame every sum has one term and every product is by 1: the program is the model. Elsewhere each coefficient is
 * off by at most gamma times the sum of its products' absolute values, which is the coefficient that lowering the model of
 * absolute values gives. */
#ifndef ESP_CERTIFY_LOWERING_H
#define ESP_CERTIFY_LOWERING_H

#include "net/program.h"

/* A program of the same sizes whose entries bound the errors of the lowered model's entries; NULL when all of them are 0. */
ESP_MUST_CHECK esp_code esp_lowering_slack(const esp_model *model, esp_program **ret_slack, esp_error *reterr);
/* The slack of the difference program of f and g from theirs, NULL for none, with what subtracting their coefficients
 * rounds; NULL when nothing is off. */
ESP_MUST_CHECK esp_code esp_lowering_slack_difference(const esp_program *f, const esp_program *g, const esp_program *slack_f,
                                                      const esp_program *slack_g, esp_program **ret_slack, esp_error *reterr);

#endif
