/* SPDX-License-Identifier: Apache-2.0
 * Normal numbers by the thousand, in float, for sampling plans. Not for statistics: the tails end at 5.8.
 *
 * 16 generators xoshiro128+ (Blackman and Vigna, 2018) side by side, then Box and Muller's transform with polynomials for
 * logarithm, sine and cosine, all in loops that the compiler turns into vectors. Same seed: same numbers on one machine. */
#ifndef ESP_PLAN_NOISE_H
#define ESP_PLAN_NOISE_H

#include "base/rng.h"

#define ESP_NOISE_LANES 16
#define ESP_NOISE_CHUNK (2 * ESP_NOISE_LANES)

typedef struct esp_noise {
    uint32_t s[4][ESP_NOISE_LANES];
} esp_noise;

void esp_noise_init(esp_noise *noise, esp_rng *rng);
/* n: a multiple of ESP_NOISE_CHUNK. */
void esp_noise_normals(esp_noise *noise, float *values, size_t n);

#endif
