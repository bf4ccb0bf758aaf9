/* SPDX-License-Identifier: Apache-2.0
 * Networks for the benchmark of certificates: trained to imitate a saturated controller, then pruned. */
#ifndef ESP_BENCH_CERTIFY_NETS_H
#define ESP_BENCH_CERTIFY_NETS_H

#include "certify/certificate.h"
#include "net/model.h"

typedef struct bench_pair {
    esp_model *f, *g; /* policies: the trained one and the pruned one */
    double lower[8], upper[8];
} bench_pair;

/* shape "4-32-32-1"; how "magnitude" (the smallest weights of each layer) or "random"; sparsity the share of the weights that
 * go, of which t: the pruned network is W + t (pruned - W). Nonzero when it failed, which has been said. */
int bench_pair_make(const char *shape, const char *how, double sparsity, double t, uint64_t seed, bench_pair *ret_pair);
void bench_pair_done(bench_pair *pair);

/* Every input in [-half, half]. */
esp_box bench_box(bench_pair *pair, double half);

/* What norms alone say of |f - g|_2 over the box: form A of several layers at once, with the box's |h| from norms alone, or (with
 * `activation`) from intervals of the activations. Nonzero when there is no bound. */
int bench_norm_bound(const bench_pair *pair, const esp_box *box, bool activation, double *ret_bound);

#endif
