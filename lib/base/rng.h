/* SPDX-License-Identifier: Apache-2.0
 * Seeded random numbers: xoshiro256++ (Blackman and Vigna, 2018), seeded by SplitMix64. Not for secrets.
 *
 * A stream number gives independent generators from one seed (one per worker, episode or purpose), so that the order
 * in which they are used does not change what each of them yields. */
#ifndef ESP_BASE_RNG_H
#define ESP_BASE_RNG_H

#include <stddef.h>
#include <stdint.h>

typedef struct esp_rng {
    uint64_t s[4];
} esp_rng;

void esp_rng_init(esp_rng *rng, uint64_t seed, uint64_t stream);
uint64_t esp_rng_u64(esp_rng *rng);
double esp_rng_uniform(esp_rng *rng); /* in (0, 1), never an end point */
double esp_rng_range(esp_rng *rng, double lower, double upper);
double esp_rng_normal(esp_rng *rng); /* mean 0, variance 1 */
double esp_rng_gumbel(esp_rng *rng); /* -log(-log U) */
size_t esp_rng_below(esp_rng *rng, size_t n); /* 0 .. n-1, unbiased; n > 0 */
void esp_rng_shuffle(esp_rng *rng, size_t *items, size_t n);
/* Fills n normals in float; faster than n calls. */
void esp_rng_normals_f(esp_rng *rng, float *values, size_t n);

#endif
