/* SPDX-License-Identifier: Apache-2.0
 * Affine forms with the rounding charged. Not a verifier: see pair.c.
 *
 * Rounding. A sum  v = b + sum_j w_j x_j  of n rows computes the centre and each coefficient with at most n + 2 roundings
 * a term (one of them w_j's own), so all of them together, every |s_k| <= 1, are off by at most
 * gamma_(n+3) (|b| + sum |w_j| (|c_j| + rad_j)) plus ESP_TINY for each product: that is added to e. What is not a finite
 * number ends as an infinite rad, and a row of infinite rad is everything. */
#include "certify/affine.h"

#include <stdlib.h>
#include <string.h>

#include "certify/rounding.h"

esp_code esp_forms_create(esp_space *space, int n_rows, esp_forms **ret_forms, esp_error *reterr) {
    size_t rows = (size_t)n_rows, most = (size_t)space->most;
    esp_forms *forms = calloc(1, sizeof *forms);
    double *numbers = calloc(rows * (most + 3) + 1, sizeof *numbers);
    int *used = calloc(rows + 1, sizeof *used);
    if (!forms || !numbers || !used) {
        free(forms);
        free(numbers);
        free(used);
        return esp_fail(reterr, ESP_NOMEM, "no memory for %d forms of %d symbols", n_rows, space->most);
    }
    *forms = (esp_forms){space, n_rows, used, numbers, numbers + rows, numbers + 2 * rows, numbers + 3 * rows};
    *ret_forms = forms;
    return ESP_OK;
}

void esp_forms_free(esp_forms *forms) {
    if (!forms) return;
    free(forms->c);
    free(forms->used);
    free(forms);
}

static double *row_of(const esp_forms *forms, int i) {
    return forms->a + (size_t)i * (size_t)forms->space->most;
}

/* Nothing known of row i. */
static void open_row(esp_forms *forms, int i) {
    forms->c[i] = 0;
    forms->used[i] = 0;
    forms->e[i] = forms->rad[i] = HUGE_VAL;
}

static void finish_row(esp_forms *forms, int i) {
    const double *a = row_of(forms, i);
    double sum = 0;
    for (int k = 0; k < forms->used[i]; k++) sum += fabs(a[k]);
    double rad = sum > 0 || !(sum <= 0) ? esp_round_up(sum, (size_t)forms->used[i]) : 0;
    rad = esp_add_up(rad, forms->e[i]);
    forms->rad[i] = rad;
    if (!(rad <= DBL_MAX) || !isfinite(forms->c[i])) open_row(forms, i);
}

/* A new symbol of this radius in row i; without room, error. */
static void add_noise(esp_forms *forms, int i, double radius) {
    esp_space *space = forms->space;
    if (radius <= 0) return;
    if (space->n >= space->most || !(radius <= DBL_MAX)) {
        forms->e[i] = esp_add_up(forms->e[i], radius);
        return;
    }
    double *a = row_of(forms, i);
    for (int k = forms->used[i]; k < space->n; k++) a[k] = 0;
    a[space->n++] = radius;
    forms->used[i] = space->n;
}

void esp_forms_box(esp_forms *forms, int i, double lower, double upper) {
    double mid = lower < upper ? 0.5 * lower + 0.5 * upper : lower;
    double radius = esp_max(upper - mid, mid - lower);
    forms->c[i] = mid;
    forms->e[i] = 0;
    forms->used[i] = 0;
    add_noise(forms, i, radius > 0 ? radius * (1 + 4 * ESP_U) : 0);
    finish_row(forms, i);
}

void esp_forms_range(const esp_forms *forms, int i, double *ret_lower, double *ret_upper) {
    double c = forms->c[i], rad = forms->rad[i];
    double slack = rad > 0 ? 4 * ESP_U * (fabs(c) + rad) : 0;
    *ret_lower = c - rad - slack;
    *ret_upper = c + rad + slack;
    if (!(*ret_lower <= *ret_upper)) *ret_lower = -HUGE_VAL, *ret_upper = HUGE_VAL;
}

void esp_forms_settle(esp_forms *forms, int i) {
    double e = forms->e[i];
    if (!(e > 0) || !(e <= DBL_MAX) || forms->space->n >= forms->space->most) return;
    forms->e[i] = 0;
    add_noise(forms, i, e);
    finish_row(forms, i);
}

void esp_forms_fold(esp_forms *forms, int i, int keep) {
    const double *a = row_of(forms, i);
    double sum = 0;
    int n = forms->used[i] - keep;
    if (n <= 0) return;
    for (int k = keep; k < forms->used[i]; k++) sum += fabs(a[k]);
    if (sum > 0) forms->e[i] = esp_add_up(forms->e[i], esp_round_up(sum, (size_t)n));
    forms->used[i] = keep;
    finish_row(forms, i);
}

void esp_forms_copy(const esp_forms *from, int j, esp_forms *to, int i) {
    memcpy(row_of(to, i), row_of(from, j), (size_t)from->used[j] * sizeof(double));
    to->used[i] = from->used[j];
    to->c[i] = from->c[j];
    to->e[i] = from->e[j];
    to->rad[i] = from->rad[j];
}

esp_sum esp_sum_begin(esp_forms *to, int i, double constant) {
    to->c[i] = constant;
    to->e[i] = 0;
    to->used[i] = 0;
    return (esp_sum){to, i, 0, fabs(constant), constant != 0};
}

void esp_sum_add(esp_sum *sum, double w, const esp_forms *from, int j) {
    esp_forms *to = sum->to;
    int i = sum->row, used = from->used[j];
    double size = fabs(from->c[j]) + from->rad[j];
    if (w == 0 || size == 0) return;
    sum->any = true;
    sum->n++;
    sum->magnitude += fabs(w) * size;
    to->c[i] += w * from->c[j];
    to->e[i] += fabs(w) * from->e[j];
    double *restrict a = row_of(to, i);
    const double *restrict b = row_of(from, j);
    for (int k = to->used[i]; k < used; k++) a[k] = 0;
    if (used > to->used[i]) to->used[i] = used;
    for (int k = 0; k < used; k++) a[k] += w * b[k];
}

/* Charges the roundings so far, once. */
static void charge(esp_sum *sum) {
    esp_forms *to = sum->to;
    if (!sum->any) return;
    size_t n = (size_t)sum->n;
    double e = to->e[sum->row] > 0 || !(to->e[sum->row] <= 0) ? esp_round_up(to->e[sum->row], n + 2) : 0;
    double rounding = esp_gamma(n + 3) * esp_round_up(sum->magnitude, n + 3) + (double)n * (double)(to->space->most + 3) * ESP_TINY;
    to->e[sum->row] = esp_add_up(e, rounding);
    sum->any = false;
}

void esp_sum_noise(esp_sum *sum, double radius) {
    charge(sum);
    add_noise(sum->to, sum->row, radius);
}

void esp_sum_end(esp_sum *sum) {
    charge(sum);
    finish_row(sum->to, sum->row);
}

/* On [l, u] with l < 0 < u the convex max(0, z) - s z is largest at an end and at least 0, for any s in [0, 1]. */
double esp_forms_relu(const esp_forms *from, int j, double lower, double upper, esp_forms *to, int i) {
    if (lower >= 0) {
        esp_forms_copy(from, j, to, i);
        return 0;
    }
    bool off = upper <= 0, wide = !(upper - lower <= DBL_MAX);
    double slope = off || wide ? 0 : upper / (upper - lower);
    double most = off ? 0 : wide ? upper : esp_round_up(esp_max(slope * -lower, (1 - slope) * upper), 3);
    if (!(most <= DBL_MAX)) {
        open_row(to, i);
        return HUGE_VAL;
    }
    double half = esp_round_up(0.5 * most, 1);
    esp_sum sum = esp_sum_begin(to, i, off ? 0 : half);
    esp_sum_add(&sum, slope, from, j);
    if (!off) esp_sum_noise(&sum, half);
    esp_sum_end(&sum);
    return off ? 0 : half;
}
