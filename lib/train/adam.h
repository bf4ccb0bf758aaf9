/* SPDX-License-Identifier: Apache-2.0
 * Adam (Kingma and Ba, 2015) with decoupled weight decay, on blocks of floats. */
#ifndef ESP_TRAIN_ADAM_H
#define ESP_TRAIN_ADAM_H

#include <stddef.h>

typedef struct esp_adam {
    size_t n;
    float *m, *v; /* n each, borrowed */
    long step;
} esp_adam;

void esp_adam_reset(esp_adam *adam);
/* One step down grads (n) at the given rate; the first n_decayed parameters shrink by rate * decay too. */
void esp_adam_step(esp_adam *adam, double rate, double decay, size_t n_decayed, const float *grads, float *params);

/* Euclidean norm of n floats, summed in double. */
double esp_block_norm(const float *values, size_t n);
void esp_block_scale(float *values, size_t n, float factor);

#endif
