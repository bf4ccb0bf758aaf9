/* SPDX-License-Identifier: Apache-2.0
 * The largest |y|_2 over what some half-spaces leave of a box. Private to lib/certify; where half-spaces come from is the caller's.
 *
 * The norm of the farthest corner is far off where outputs are not at their ends all at once. The squares are bounded
 * together: for y in [l, u] and any w, y^2 <= w y + max(l^2 - w l, u^2 - w u) (a square less a line is convex), so with
 * d'y <= h and w = t d, t >= 0,
 *
 *     |y|^2 <= t h + sum_i max(l_i^2 - t d_i l_i, u_i^2 - t d_i u_i),
 *
 * convex and piecewise linear in t: the best t is 0 or some (l_i + u_i) / d_i. With two outputs it is taken over the four
 * parts of the box by the outputs' signs, since the square is far from its chord on a range that spans 0. */
#ifndef ESP_CERTIFY_TWO_NORM_H
#define ESP_CERTIFY_TWO_NORM_H

#include <stdbool.h>

#define ESP_TWO_NORM_DIRECTIONS 5

/* Directions of half-spaces worth having for outputs in [lower, upper] (n_y, finite): each n_y numbers; how many. One, or, with
 * `parts` and two outputs, one for each corner and one for all. */
int esp_two_norm_directions(int n_y, bool parts, const double *lower, const double *upper, double *ret_d);

/* An upper bound of |y|_2 for y in [lower, upper] with d_k'y <= h_k for all of the n_d directions above, taken of a box around this
 * one. *ret_k: the direction that the bound hangs on. */
double esp_two_norm(int n_y, const double *lower, const double *upper, int n_d, const double *d, const double *h, int *ret_k);

#endif
