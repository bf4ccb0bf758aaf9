/* SPDX-License-Identifier: Apache-2.0
 * xoshiro256++ seeded by SplitMix64. */
#include "base/rng.h"

#include <assert.h>
#include <math.h>

static uint64_t splitmix(uint64_t *state) {
    uint64_t z = (*state += UINT64_C(0x9e3779b97f4a7c15));
    z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
    return z ^ (z >> 31);
}

void esp_rng_init(esp_rng *rng, uint64_t seed, uint64_t stream) {
    uint64_t state = stream;
    state = seed ^ splitmix(&state); /* the stream is scrambled first, so that (1, 2) and (2, 1) have nothing in common */
    for (int i = 0; i < 4; i++) rng->s[i] = splitmix(&state);
}

static uint64_t rotate(uint64_t x, int k) {
    return (x << k) | (x >> (64 - k));
}

uint64_t esp_rng_u64(esp_rng *rng) {
    uint64_t *s = rng->s;
    uint64_t result = rotate(s[0] + s[3], 23) + s[0], t = s[1] << 17;
    s[2] ^= s[0];
    s[3] ^= s[1];
    s[1] ^= s[2];
    s[0] ^= s[3];
    s[2] ^= t;
    s[3] = rotate(s[3], 45);
    return result;
}

double esp_rng_uniform(esp_rng *rng) {
    return ((double)(esp_rng_u64(rng) >> 12) + 0.5) * 0x1p-52;
}

double esp_rng_range(esp_rng *rng, double lower, double upper) {
    return lower + (upper - lower) * esp_rng_uniform(rng);
}

/* Box and Muller; the second of the pair is dropped so that the generator keeps no hidden state. */
double esp_rng_normal(esp_rng *rng) {
    double radius = sqrt(-2.0 * log(esp_rng_uniform(rng)));
    return radius * cos(6.283185307179586 * esp_rng_uniform(rng));
}

double esp_rng_gumbel(esp_rng *rng) {
    return -log(-log(esp_rng_uniform(rng)));
}

size_t esp_rng_below(esp_rng *rng, size_t n) {
    assert(n > 0);
    uint64_t bound = n, limit = UINT64_MAX - UINT64_MAX % bound, draw;
    do draw = esp_rng_u64(rng);
    while (draw >= limit);
    return (size_t)(draw % bound);
}

void esp_rng_shuffle(esp_rng *rng, size_t *items, size_t n) {
    for (size_t i = n; i > 1; i--) {
        size_t j = esp_rng_below(rng, i), item = items[i - 1];
        items[i - 1] = items[j];
        items[j] = item;
    }
}

void esp_rng_normals_f(esp_rng *rng, float *values, size_t n) {
    for (size_t i = 0; i < n; i += 2) {
        uint64_t bits = esp_rng_u64(rng);
        float u = ((float)(bits >> 40) + 0.5f) * 0x1p-24f, angle = (float)(bits & 0xffffff) * (0x1p-24f * 6.2831853f);
        float radius = sqrtf(-2.0f * logf(u));
        values[i] = radius * cosf(angle);
        if (i + 1 < n) values[i + 1] = radius * sinf(angle);
    }
}
