/* SPDX-License-Identifier: Apache-2.0
 * Rescaling of neurons: the same function from layers whose norms have a smaller product. Private to lib/certify.
 *
 * ReLU, identity and zero are positively homogeneous, so W_j may become T_j W_j T_{j-1}^-1 (b_j: T_j b_j) for any positive
 * diagonal T_j inside the network without changing what it computes, while |W_L| ... |W_{k+1}| changes. Any T gives a bound; a
 * good one is looked for. */
#ifndef ESP_CERTIFY_RESCALE_H
#define ESP_CERTIFY_RESCALE_H

#include "base/error.h"
#include "net/net.h"

/* ret_suffix[k] (n_layers) >= the Lipschitz constant in the two-norm from the pre-activations of layer k (from 0) to the outputs,
 * an upper bound with every rounding charged: at most the product of the layers' norms |W_j|, j > k, which `spectral`
 * holds, and less where rescaling helps. 1 for the last layer. Errors: NOMEM. */
ESP_MUST_CHECK esp_code esp_rescaled_suffix(const esp_net *net, const double *spectral, double *ret_suffix, esp_error *reterr);

#endif
