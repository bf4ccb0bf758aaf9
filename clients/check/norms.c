/* SPDX-License-Identifier: Apache-2.0
 * Norms of matrices of intervals, with the processor rounding upwards. Compiled with -frounding-math.
 *
 * The two-norm |M|^2 is the largest eigenvalue of G = M'M, at most the Frobenius norm of G to the power p, its p-th root: G is
 * squared again and again in intervals, scaled by powers of two in between. */
#include <float.h>
#include <math.h>
#include <stdlib.h>

#include "check/check.h"

enum { SQUARINGS = 34 };

static double larger(double a, double b) {
    return a > b ? a : b;
}

static double size_of(double up, double down) {
    double a = larger(up, down);
    return a >= 0 && a <= DBL_MAX ? a : a < 0 ? 0 : HUGE_VAL;
}

double chk_norm_rows(int m, int n, const double *up, const double *down, const bool *moves) {
    double most = 0;
    for (int i = 0; i < m; i++) {
        double sum = 0;
        for (int c = 0; c < n; c++) {
            size_t at = (size_t)i * (size_t)n + (size_t)c;
            if (!moves || moves[c]) sum += size_of(up[at], down[at]);
        }
        most = larger(most, sum);
    }
    return most;
}

/* The upper end and the negated lower end of [-ad, au] [-bd, bu]. */
void chk_interval_times(double au, double ad, double bu, double bd, double *up, double *down) {
    *up += larger(larger(au * bu, ad * bd), larger(-au * bd, -ad * bu));
    *down += larger(larger(-au * bu, -ad * bd), larger(au * bd, ad * bu));
}

/* Scales by a power of two so that the largest is near 1; the exponent taken out. INT_MIN of nothing: all are 0. */
static int scale(size_t n, double *up, double *down, bool *ret_zero) {
    double most = 0;
    int exponent = 0;
    for (size_t k = 0; k < n; k++) most = larger(most, size_of(up[k], down[k]));
    *ret_zero = most == 0;
    if (most == 0 || !(most <= DBL_MAX)) return 0;
    frexp(most, &exponent);
    for (size_t k = 0; k < n; k++) {
        up[k] = ldexp(up[k], -exponent);
        down[k] = ldexp(down[k], -exponent);
    }
    return exponent;
}

static double frobenius(size_t n, const double *up, const double *down) {
    double sum = 0;
    for (size_t k = 0; k < n; k++) {
        double a = size_of(up[k], down[k]);
        sum += a * a;
    }
    return sqrt(sum);
}

typedef struct square {
    int n;
    double *up, *down; /* n x n */
} square;

/* G = M M' or M' M, whichever is smaller. */
static void gram(int m, int n, const double *up, const double *down, const bool *moves, square *g) {
    bool of_rows = m <= n;
    for (int i = 0; i < g->n; i++)
        for (int j = 0; j < g->n; j++) {
            double high = 0, low = 0;
            for (int k = 0; k < (of_rows ? n : m); k++) {
                size_t a = (size_t)(of_rows ? i * n + k : k * n + i), b = (size_t)(of_rows ? j * n + k : k * n + j);
                bool counts = !moves || (of_rows ? moves[k] : moves[i] && moves[j]);
                if (counts) chk_interval_times(up[a], down[a], up[b], down[b], &high, &low);
            }
            g->up[i * g->n + j] = high;
            g->down[i * g->n + j] = low;
        }
}

static void multiply(const square *g, square *to) {
    int n = g->n;
    for (int i = 0; i < n; i++)
        for (int j = 0; j < n; j++) {
            double high = 0, low = 0;
            for (int k = 0; k < n; k++) chk_interval_times(g->up[i * n + k], g->down[i * n + k], g->up[k * n + j], g->down[k * n + j], &high, &low);
            to->up[i * n + j] = high;
            to->down[i * n + j] = low;
        }
}

/* The root of the norm of G^(2^rounds), G having been scaled by the exponents on its way. */
static double root_of(const square *g, int rounds, const int *exponents) {
    double root = ldexp(frobenius((size_t)g->n * (size_t)g->n, g->up, g->down), exponents[rounds]);
    for (int round = rounds - 1; round >= 0; round--) root = ldexp(sqrt(root), exponents[round]);
    return sqrt(root);
}

double chk_norm_2(int m, int n, const double *up, const double *down, const bool *moves) {
    int side = m < n ? m : n, exponents[SQUARINGS + 1];
    size_t whole = (size_t)side * (size_t)side;
    double *memory = calloc(4 * whole + 1, sizeof *memory), least = HUGE_VAL;
    square g = {side, memory, memory + whole}, next = {side, memory + 2 * whole, memory + 3 * whole};
    bool zero = false;
    if (!memory) return HUGE_VAL;
    gram(m, n, up, down, moves, &g);
    for (int round = 0; round <= SQUARINGS; round++) {
        exponents[round] = scale(whole, g.up, g.down, &zero);
        double root = zero ? 0 : root_of(&g, round, exponents);
        bool settled = root >= least * (1 - 1e-14);
        if (root < least) least = root;
        if (zero || settled) break;
        multiply(&g, &next);
        square swap = g;
        g = next;
        next = swap;
    }
    free(memory);
    return least <= DBL_MAX ? least : HUGE_VAL;
}
