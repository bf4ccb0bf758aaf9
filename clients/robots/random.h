/* SPDX-License-Identifier: Apache-2.0
 * Seeded random numbers for simulated robots: SplitMix64 (Steele, Lea and Flood, 2014), small and the same everywhere. */
#ifndef ESP_ROBOTS_RANDOM_H
#define ESP_ROBOTS_RANDOM_H

#include <stdint.h>

typedef struct esp_dice {
    uint64_t state;
} esp_dice;

/* Independent sequences of one seed are told apart by their stream number. */
static inline void esp_dice_init(esp_dice *dice, uint64_t seed, uint64_t stream) {
    dice->state = seed * UINT64_C(0xd1342543de82ef95) + stream * UINT64_C(0xaef17502108ef2d9) + 1;
}

static inline uint64_t esp_dice_u64(esp_dice *dice) {
    uint64_t z = dice->state += UINT64_C(0x9e3779b97f4a7c15);
    z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
    return z ^ (z >> 31);
}

/* Uniform in [lower, upper). */
static inline double esp_dice_range(esp_dice *dice, double lower, double upper) {
    return lower + (upper - lower) * ((double)(esp_dice_u64(dice) >> 11) * 0x1p-53);
}

#endif
