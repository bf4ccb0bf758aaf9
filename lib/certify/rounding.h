/* SPDX-License-Identifier: Apache-2.0
 * The rounding model that every proved number in this folder rests on. Private to lib/certify.
 *
 * IEEE double, to nearest: fl(a op b) = (a op b)(1 + d), |d| <= u = 2^-53, for +, -, *, /, sqrt, unless a product or a
 * quotient underflows; then the error is at most 2^-1075, far below ESP_TINY. Sums do not underflow inexactly. A sum
 * of products in which each term meets at most n roundings, in whatever order they come, is off by at most
 * gamma_n * (sum of the terms' absolute values), gamma_n = n u / (1 - n u) (Higham, Accuracy and Stability, lemma 3.1),
 * plus ESP_TINY for each product. The sum of absolute values is itself computed, low by gamma_n at most, so
 * esp_gamma gives twice gamma_n: that pays for every such second-order effect as long as n u < 0.1.
 *
 * Nothing here touches the rounding mode: it must be to nearest, as it is unless a caller changed it. */
#ifndef ESP_CERTIFY_ROUNDING_H
#define ESP_CERTIFY_ROUNDING_H

#include <float.h>
#include <math.h>
#include <stddef.h>

#define ESP_U    (DBL_EPSILON / 2)
#define ESP_TINY DBL_MIN

/* 2 n u / (1 - n u), a little more. */
static inline double esp_gamma(size_t n) {
    double nu = (double)n * ESP_U;
    return 2.0001 * nu / (1 - nu);
}

/* Not below the exact value of which x >= 0 is the computed one after at most n roundings up to and including this
 * call's own, with no underflow below ESP_TINY lost: x (1 + gamma) + n ESP_TINY. Infinity and NaN give infinity. */
static inline double esp_round_up(double x, size_t n) {
    double up = x * (1 + esp_gamma(n + 4)) + (double)n * ESP_TINY;
    return up >= 0 ? up : HUGE_VAL;
}

/* |x| as a bound: NaN counts as infinity. */
static inline double esp_abs(double x) {
    double a = fabs(x);
    return a >= 0 ? a : HUGE_VAL;
}

/* Upper bounds of a + b and a b for upper bounds a, b >= 0 of what is meant. Exactly 0 stays exactly 0. */
static inline double esp_add_up(double a, double b) {
    return a <= 0 ? esp_abs(b) : b <= 0 ? esp_abs(a) : esp_round_up(a + b, 1);
}
static inline double esp_mul_up(double a, double b) {
    return a <= 0 || b <= 0 ? 0 : esp_round_up(a * b, 1);
}

static inline double esp_max(double a, double b) {
    return a > b ? a : b;
}

static inline double esp_min(double a, double b) {
    return a < b ? a : b;
}

#endif
