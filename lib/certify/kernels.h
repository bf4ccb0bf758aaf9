/* SPDX-License-Identifier: Apache-2.0
 * The loops that linear bounds spend their time in, in three streams: an expression from above, one from below, and the
 * sums of absolute values that pay for their rounding. Private to lib/certify. */
#ifndef ESP_CERTIFY_KERNELS_H
#define ESP_CERTIFY_KERNELS_H

#include <math.h>
#include <stdbool.h>

#include "certify/rounding.h"

typedef struct esp_sums {
    double up, lo, mag;
} esp_sums;

/* Largest of up' z, smallest of lo' z and mag' |z| for |z - mid| <= rad, |z| <= big, all n. Four lanes, so that the
 * sums vectorise; the order of a sum is free in the error analysis. */
static inline esp_sums esp_concretise(int n, const double *restrict up, const double *restrict lo, const double *restrict mag,
                                      const double *restrict mid, const double *restrict rad, const double *restrict big) {
    double u[4] = {0}, l[4] = {0}, m[4] = {0};
    int k = 0;
    for (; k + 4 <= n; k += 4) {
        for (int q = 0; q < 4; q++) {
            u[q] += up[k + q] * mid[k + q] + fabs(up[k + q]) * rad[k + q];
            l[q] += lo[k + q] * mid[k + q] - fabs(lo[k + q]) * rad[k + q];
            m[q] += mag[k + q] * big[k + q];
        }
    }
    for (; k < n; k++) {
        u[0] += up[k] * mid[k] + fabs(up[k]) * rad[k];
        l[0] += lo[k] * mid[k] - fabs(lo[k]) * rad[k];
        m[0] += mag[k] * big[k];
    }
    return (esp_sums){(u[0] + u[1]) + (u[2] + u[3]), (l[0] + l[1]) + (l[2] + l[3]), (m[0] + m[1]) + (m[2] + m[3])};
}

/* up += a_up row, lo += a_lo row, mag += a_mag |row|. */
static inline void esp_add_row(int n, double a_up, double a_lo, double a_mag, const double *restrict row, double *restrict up, double *restrict lo,
                               double *restrict mag) {
    for (int k = 0; k < n; k++) {
        up[k] += a_up * row[k];
        lo[k] += a_lo * row[k];
        mag[k] += a_mag * fabs(row[k]);
    }
}

/* Both expressions become the row; is anything of it not 0? */
static inline bool esp_copy_row(int n, const double *restrict row, double *restrict up, double *restrict lo, double *restrict mag) {
    int any = 0;
    for (int k = 0; k < n; k++) {
        up[k] = lo[k] = row[k];
        mag[k] = fabs(row[k]);
        any |= mag[k] > 0;
    }
    return any;
}

/* [lower, upper] inside [mid - rad, mid + rad]. Equal ends give radius 0. */
static inline void esp_centre(double lower, double upper, double *ret_mid, double *ret_rad) {
    double mid = 0.5 * lower + 0.5 * upper;
    if (!(lower < upper)) mid = lower;
    double rad = esp_max(upper - mid, mid - lower);
    *ret_mid = mid;
    *ret_rad = rad > 0 ? rad * (1 + 4 * ESP_U) : rad;
}

/* The line above max(0, p) on [l, u], l < 0 < u: slope p + offset. The slope is rounded, which any may be; the offset is
 * what that slope needs, rounded up. */
static inline void esp_chord(double l, double u, double *ret_slope, double *ret_offset) {
    double width = u - l, slope = width <= DBL_MAX ? u / width : 0;
    *ret_offset = slope > 0 ? esp_round_up(esp_max(slope * -l, (1 - slope) * u), 3) : u;
    *ret_slope = slope;
}

static inline double *esp_carve(double **at, size_t n) {
    double *piece = *at;
    *at += n;
    return piece;
}

/* Intersects [*lo, *hi] with [lower, upper], NaN counting as nothing known; false when it is empty. */
static inline bool esp_intersect(double lower, double upper, double *lo, double *hi) {
    if (lower > *lo) *lo = lower;
    if (upper < *hi) *hi = upper;
    return *lo <= *hi;
}

#endif
