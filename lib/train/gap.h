/* SPDX-License-Identifier: Apache-2.0
 * How loose a program's linear relaxation is near the data, as a penalty: what a proof of a plan has to branch away.
 *
 * A search over ReLU phases (plan/tree.h) bounds max(0, p) over [l, u] by a triangle, whose height at the kink is u |l| / (u - l),
 * 0 when p does not change its sign. Within reach of a point x at which the pre-activations are p, the range of p_i is taken as p_i +- e_i:
 *     e_i = sum_j |C_ij| reach_j + sum_k |D_ik| e_k            height  h_i = max(0, e_i^2 - p_i^2) / (2 e_i)
 * and what the triangles of all ReLUs let the outputs move at most, as interval arithmetic has it, is
 *     w_i = sum_k |B_ki| + sum_k |D_ki| w_k                    gap  R = mean over x of sum_i w_i h_i.
 * R does not change when a ReLU is rescaled (its row by s, its column by 1 / s). It falls when kinks lie where the data do not go, and
 * when large terms that cancel each other, which a relaxation cannot see, are replaced by small ones. */
#ifndef ESP_TRAIN_GAP_H
#define ESP_TRAIN_GAP_H

#include <stddef.h>

/* The ReLUs of a program and what they do to the outputs; x to y directly is not in it. */
typedef struct esp_gap_program {
    size_t n_x, n_r, n_y;
    float *c; /* n_r x n_x */
    float *d; /* n_r x n_r, strictly lower */
    float *d0; /* n_r */
    float *b; /* n_y x n_r */
} esp_gap_program;

/* How many floats a program takes, and one laid into them. */
size_t esp_gap_floats(size_t n_x, size_t n_r, size_t n_y);
esp_gap_program esp_gap_program_at(size_t n_x, size_t n_r, size_t n_y, float *memory);

/* At one point x (n_x): what each ReLU sees and says, n_r each. */
void esp_gap_forward(const esp_gap_program *program, const float *x, float *ret_p, float *ret_r);

/* R over n points (n_x numbers each); reach (n_x) not negative. Writes weight * dR into grads, of the same sizes.
 * work holds esp_gap_work floats. */
double esp_gap(const esp_gap_program *program, const float *reach, const float *const *rows, size_t n, float weight, esp_gap_program *grads,
               float *work);
size_t esp_gap_work(size_t n_r);

#endif
