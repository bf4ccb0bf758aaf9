/* SPDX-License-Identifier: Apache-2.0
 * Norms rounded up. Not an eigenvalue solver: an estimate is guessed, then proved from above.
 *
 * Why the spectral bound is one. A is scaled by a power of two (largest entry in [1/2, 1)) and laid so that k <= n with
 * G = A A' (k x k). Cheap bounds always hold: |A|_2 <= |A|_F and |A|_2^2 <= |A|_1 |A|_inf. For a tight one:
 *   1. G^ is G computed in double; |G^ - G|_2 <= gamma_n | |A| |A|' |_2 <= gamma_n |A|_F^2.
 *   2. For a trial rho let B = fl(rho I - G^); only the diagonal is rounded, so |B - (rho I - G^)|_2 <= u rho.
 *   3. If Cholesky's algorithm runs to completion on B in double, its factor satisfies R'R = B + E with
 *      |E| <= gamma_{k+1} / (1 - gamma_{k+1}) d d', d_i = sqrt(b_ii), whatever the order of its sums (Demmel 1989;
 *      Higham, theorem 10.5). R'R is positive semidefinite, hence lambda_min(B) >= -|E|_2 >= -gamma tr(B) and
 *      tr(B) <= k rho (1 + u).
 *   4. Together |A|_2^2 = lambda_max(G) <= rho (1 + u + gamma_{k+1} k (1 + u)) + gamma_n |A|_F^2.
 * The trial comes from power iteration on G^, a lower estimate; the proof does not depend on it. A first trial a little
 * above usually succeeds; when close singular values have held the iteration back, the trials go up by tens until one
 * succeeds and then bisect. The losses of step 4 are some k (k + n) u, below 1e-9 for k, n <= 1024. */
#include "certify/norms.h"

#include <stdlib.h>
#include <string.h>

#include "certify/rounding.h"

/* Largest |v|, infinity when something is not finite. */
static double largest_abs(size_t n, const double *v) {
    double largest = 0;
    for (size_t i = 0; i < n; i++) {
        double a = esp_abs(v[i]);
        if (a > largest) largest = a;
    }
    return largest;
}

/* Sum of squares of v 2^-exponent. */
static double scaled_squares(size_t n, const double *v, int exponent) {
    double sum = 0;
    for (size_t i = 0; i < n; i++) {
        double a = ldexp(v[i], -exponent);
        sum += a * a;
    }
    return sum;
}

double esp_norm2_up(size_t n, const double *v) {
    double largest = largest_abs(n, v);
    if (!(largest > 0) || !(largest <= DBL_MAX)) return largest;
    int exponent;
    (void)frexp(largest, &exponent);
    double root = esp_round_up(sqrt(esp_round_up(scaled_squares(n, v, exponent), n + 1)), 1);
    return nextafter(ldexp(root, exponent), HUGE_VAL); /* the last step pays for a subnormal result */
}

double esp_norm2_down(size_t n, const double *v) {
    double largest = largest_abs(n, v);
    if (!(largest > 0) || !(largest <= DBL_MAX)) return 0;
    int exponent;
    (void)frexp(largest, &exponent);
    double root = sqrt(scaled_squares(n, v, exponent)) * (1 - esp_gamma(n + 8));
    double down = nextafter(ldexp(root, exponent), 0);
    return down > 0 ? down : 0;
}

/* The matrix of one call: k x n with k <= n, scaled. */
typedef struct gram {
    size_t k, n;
    double *a; /* k x n */
    double *g; /* k x k, G^ */
    double *work; /* k x k */
    double *v, *gv; /* k */
    double frobenius; /* upper bounds */
    double cheap2; /* of |A|_2^2 */
} gram;

static void gram_fill(gram *w, size_t m, size_t n, const double *a, int exponent) {
    for (size_t i = 0; i < m; i++) {
        for (size_t j = 0; j < n; j++) {
            double value = ldexp(a[i * n + j], -exponent);
            if (w->k == m)
                w->a[i * w->n + j] = value;
            else
                w->a[j * w->n + i] = value;
        }
    }
}

/* |A|_F, and |A|_F^2 or |A|_1 |A|_inf, the smaller. */
static void gram_cheap(gram *w) {
    double row_max = 0, column_max = 0;
    for (size_t i = 0; i < w->k; i++) {
        double sum = 0;
        for (size_t j = 0; j < w->n; j++) sum += fabs(w->a[i * w->n + j]);
        row_max = esp_max(row_max, sum);
    }
    for (size_t j = 0; j < w->n; j++) {
        double sum = 0;
        for (size_t i = 0; i < w->k; i++) sum += fabs(w->a[i * w->n + j]);
        column_max = esp_max(column_max, sum);
    }
    w->frobenius = esp_norm2_up(w->k * w->n, w->a);
    double product = esp_mul_up(esp_round_up(row_max, w->n), esp_round_up(column_max, w->k));
    w->cheap2 = esp_min(esp_mul_up(w->frobenius, w->frobenius), product);
}

static double dot(size_t n, const double *restrict a, const double *restrict b) {
    double s[4] = {0};
    size_t i = 0;
    for (; i + 4 <= n; i += 4) {
        for (int q = 0; q < 4; q++) s[q] += a[i + q] * b[i + q];
    }
    for (; i < n; i++) s[0] += a[i] * b[i];
    return (s[0] + s[1]) + (s[2] + s[3]);
}

static void gram_product(gram *w) {
    for (size_t i = 0; i < w->k; i++) {
        for (size_t j = i; j < w->k; j++) w->g[i * w->k + j] = w->g[j * w->k + i] = dot(w->n, w->a + i * w->n, w->a + j * w->n);
    }
}

/* Rayleigh quotient after some power iterations: an estimate of lambda_max(G^) from below. */
static double gram_estimate(gram *w) {
    size_t k = w->k;
    double lambda = 0;
    for (size_t i = 0; i < k; i++) w->v[i] = 1 + 0.5 * sin(1.0 + 3.7 * (double)i); /* any start that is unlikely to be orthogonal */
    for (int step = 0; step < 200; step++) {
        double square = dot(k, w->v, w->v), before = lambda;
        for (size_t i = 0; i < k; i++) w->gv[i] = dot(k, w->g + i * k, w->v);
        lambda = dot(k, w->v, w->gv) / square;
        double scale = 1 / sqrt(dot(k, w->gv, w->gv));
        if (!(scale <= DBL_MAX)) return lambda;
        for (size_t i = 0; i < k; i++) w->v[i] = w->gv[i] * scale;
        if (step > 20 && fabs(lambda - before) <= 1e-15 * lambda) break;
    }
    return lambda;
}

/* Does Cholesky's algorithm run to completion on fl(rho I - G^)? Upper factor, right-looking: the updates are of rows. */
static int gram_below(gram *w, double rho) {
    size_t k = w->k;
    for (size_t i = 0; i < k * k; i++) w->work[i] = -w->g[i];
    for (size_t i = 0; i < k; i++) w->work[i * k + i] = rho - w->g[i * k + i];
    for (size_t j = 0; j < k; j++) {
        double *pivot = w->work + j * k;
        if (!(pivot[j] > 0)) return 0;
        double root = sqrt(pivot[j]);
        for (size_t c = j; c < k; c++) pivot[c] /= root;
        for (size_t i = j + 1; i < k; i++) {
            double factor = pivot[i];
            if (factor == 0) continue;
            double *restrict row = w->work + i * k;
            for (size_t c = i; c < k; c++) row[c] -= factor * pivot[c];
        }
    }
    return 1;
}

/* The smallest rho found for which the proof goes through; cheap2 when none is below it. */
static double gram_search(gram *w) {
    double low = gram_estimate(w), high = w->cheap2;
    for (double step = 1e-8; low > 0 && low * (1 + step) < high; step *= 10) {
        double rho = low * (1 + step);
        if (gram_below(w, rho))
            high = rho;
        else
            low = rho;
    }
    while (low > 0 && high > low * (1 + 1e-7)) {
        double rho = 0.5 * (low + high);
        if (gram_below(w, rho))
            high = rho;
        else
            low = rho;
    }
    return high;
}

static double gram_bound(gram *w) {
    gram_cheap(w);
    double cheap = esp_round_up(sqrt(w->cheap2), 1);
    if (w->k > ESP_NORM_TIGHT || w->k < 2) return cheap;
    gram_product(w);
    double rho = gram_search(w), k = (double)w->k;
    double square = rho * (1 + esp_gamma(2) + k * esp_gamma(w->k + 2)) + esp_gamma(w->n + 1) * (w->frobenius * w->frobenius);
    square += k * k * (double)w->n * ESP_TINY; /* what underflowed in scaling, products and Cholesky, many times over */
    return esp_min(cheap, esp_round_up(sqrt(esp_round_up(square, 8)), 1));
}

static size_t square_of(size_t m, size_t n) {
    size_t k = m < n ? m : n;
    return k <= ESP_NORM_TIGHT ? k * k : 0;
}

size_t esp_norm_work(size_t m, size_t n) {
    return (m * n + 2 * square_of(m, n) + 2 * (m < n ? m : n) + 1) * sizeof(double);
}

double esp_norm_upper_in(size_t m, size_t n, const double *a, void *work) {
    double largest = largest_abs(m * n, a);
    if (!(largest > 0)) return 0;
    if (!(largest <= DBL_MAX)) return HUGE_VAL;
    int exponent;
    (void)frexp(largest, &exponent);
    gram w = {.k = m < n ? m : n, .n = m < n ? n : m, .a = work};
    w.g = w.a + w.k * w.n;
    w.work = w.g + square_of(m, n);
    w.v = w.work + square_of(m, n);
    w.gv = w.v + w.k;
    gram_fill(&w, m, n, a, exponent);
    return nextafter(ldexp(gram_bound(&w), exponent), HUGE_VAL);
}

esp_code esp_norm_upper(size_t m, size_t n, const double *a, double *ret_upper, esp_error *reterr) {
    if (!(largest_abs(m * n, a) <= DBL_MAX)) return esp_fail(reterr, ESP_NUMERIC, "a matrix with numbers that are not finite has no norm");
    void *work = malloc(esp_norm_work(m, n));
    if (!work) return esp_fail(reterr, ESP_NOMEM, "no memory for the norm of a %zu x %zu matrix", m, n);
    *ret_upper = esp_norm_upper_in(m, n, a, work);
    free(work);
    return ESP_OK;
}
