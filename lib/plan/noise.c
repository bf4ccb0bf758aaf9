/* SPDX-License-Identifier: Apache-2.0
 * Vectorised normals. */
#include "plan/noise.h"

#include <assert.h>
#include <math.h>
#include <string.h>

#define LANES ESP_NOISE_LANES

void esp_noise_init(esp_noise *noise, esp_rng *rng) {
    for (int k = 0; k < 4; k++)
        for (int j = 0; j < LANES; j++) noise->s[k][j] = (uint32_t)(esp_rng_u64(rng) >> 32);
    for (int j = 0; j < LANES; j++) noise->s[0][j] |= 1; /* never all zero */
}

static void draw(esp_noise *noise, uint32_t *restrict bits) {
    for (int j = 0; j < LANES; j++) {
        uint32_t s0 = noise->s[0][j], s1 = noise->s[1][j], s2 = noise->s[2][j], s3 = noise->s[3][j];
        bits[j] = s0 + s3;
        uint32_t t = s1 << 9;
        s2 ^= s0;
        s3 ^= s1;
        noise->s[1][j] = s1 ^ s2;
        noise->s[0][j] = s0 ^ s3;
        noise->s[2][j] = s2 ^ t;
        noise->s[3][j] = (s3 << 11) | (s3 >> 21);
    }
}

/* ln of (bits + 1/2) 2^-24 for the upper 24 bits: exponent and mantissa m in [2/3, 4/3), ln m = 2 atanh((m-1)/(m+1)) by its
 * series, five terms: 1e-8 off at the ends. */
static inline float log_uniform(uint32_t bits) {
    float u = ((float)(int32_t)(bits >> 8) + 0.5f) * 0x1p-24f;
    int32_t image;
    memcpy(&image, &u, sizeof image);
    int32_t exponent = (image - 0x3f2aaaab) >> 23, shifted = image - exponent * (1 << 23);
    float m;
    memcpy(&m, &shifted, sizeof m);
    float z = (m - 1.0f) / (m + 1.0f), z2 = z * z;
    return (float)exponent * 0.693147181f + 2.0f * z * (1.0f + z2 * (0.333333333f + z2 * (0.2f + z2 * (0.142857143f + z2 * 0.111111111f))));
}

/* sin and cos of pi x, x = bits as a fraction in [-1, 1), folded to |x| <= 1/2; Taylor to 11th and 12th order, 6e-8 off. */
static inline void turn(uint32_t bits, float *ret_sin, float *ret_cos) {
    float x = (float)(int32_t)bits * 0x1p-31f, outer = fabsf(x) > 0.5f ? 1.0f : 0.0f;
    float a = 3.14159265f * (outer > 0.0f ? copysignf(1.0f, x) - x : x), q = a * a;
    float c = 1.0f + q * (-0.5f + q * (4.16666667e-2f + q * (-1.38888889e-3f + q * (2.48015873e-5f + q * (-2.75573192e-7f + q * 2.08767570e-9f)))));
    *ret_sin = a * (1.0f + q * (-1.66666667e-1f + q * (8.33333333e-3f + q * (-1.98412698e-4f + q * (2.75573192e-6f - q * 2.50521084e-8f)))));
    *ret_cos = (1.0f - 2.0f * outer) * c;
}

void esp_noise_normals(esp_noise *noise, float *values, size_t n) {
    assert(n % ESP_NOISE_CHUNK == 0);
    uint32_t first[LANES], second[LANES];
    for (float *to = values; to < values + n; to += ESP_NOISE_CHUNK) {
        draw(noise, first);
        draw(noise, second);
        for (int j = 0; j < LANES; j++) {
            float sine, cosine, radius = sqrtf(-2.0f * log_uniform(first[j]));
            turn(second[j], &sine, &cosine);
            to[j] = radius * cosine;
            to[LANES + j] = radius * sine;
        }
    }
}
