/* SPDX-License-Identifier: Apache-2.0
 * The two-norm over a box and half-spaces. */
#include "certify/two_norm.h"

#include "certify/rounding.h"

int esp_two_norm_directions(int n_y, bool parts, const double *lower, const double *upper, double *ret_d) {
    bool corners = parts && n_y == 2;
    for (int k = 0; corners && k < 4; k++, ret_d += 2) {
        ret_d[0] = k & 1 ? upper[0] : lower[0];
        ret_d[1] = k & 2 ? upper[1] : lower[1];
    }
    for (int i = 0; i < n_y; i++) ret_d[i] = lower[i] + upper[i];
    return corners ? 5 : 1;
}

/* The sum above for one t, rounded up. */
static double squares(int n_y, const double *lower, const double *upper, const double *d, double h, double t) {
    double sum = t > 0 ? t * h : 0, size = fabs(sum);
    for (int i = 0; i < n_y; i++) {
        double l = lower[i], u = upper[i], w = t * d[i], most = esp_max(fabs(l), fabs(u));
        sum += esp_max(l * l - w * l, u * u - w * u);
        size += (most + fabs(w)) * most;
    }
    double bound = sum + esp_gamma((size_t)n_y + 16) * size + 16 * (n_y + 1) * ESP_TINY;
    return bound >= 0 ? bound : bound < 0 ? 0 : HUGE_VAL;
}

/* The least of that over t. */
static double cut(int n_y, const double *lower, const double *upper, const double *d, double h) {
    double best = squares(n_y, lower, upper, d, h, 0);
    for (int i = 0; i < n_y && h <= DBL_MAX && h >= -DBL_MAX; i++) {
        double t = (lower[i] + upper[i]) / d[i];
        if (t > 0 && t <= DBL_MAX) best = esp_min(best, squares(n_y, lower, upper, d, h, t));
    }
    return best;
}

double esp_two_norm(int n_y, const double *lower, const double *upper, int n_d, const double *d, const double *h, int *ret_k) {
    double worst = -1;
    *ret_k = n_d - 1;
    const double *all = d + (size_t)(n_d - 1) * (size_t)n_y;
    if (n_d == 1) worst = cut(n_y, lower, upper, all, h[0]);
    for (int k = 0; k < n_d - 1; k++) { /* two outputs: the part of corner k */
        double l[2], u[2];
        for (int i = 0; i < 2; i++) {
            bool high = k & (1 << i);
            l[i] = high ? esp_max(lower[i], 0) : lower[i];
            u[i] = high ? upper[i] : esp_min(upper[i], 0);
        }
        if (l[0] > u[0] || l[1] > u[1]) continue;
        double own = cut(2, l, u, d + 2 * (size_t)k, h[k]), common = cut(2, l, u, all, h[n_d - 1]), least = esp_min(own, common);
        if (least > worst) *ret_k = own <= common ? k : n_d - 1;
        worst = esp_max(worst, least);
    }
    return worst >= 0 ? esp_round_up(sqrt(esp_round_up(worst, 4)), 1) : HUGE_VAL;
}
