/* SPDX-License-Identifier: Apache-2.0
 * Affine forms with the processor rounding upwards: upper ends are computed as they are, lower ends as the negative of what
 * the negated numbers give. Compiled with -frounding-math. */
#include <fenv.h>
#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "check/check.h"

void chk_round_up(void) {
    fesetround(FE_UPWARD);
}

void chk_round_nearest(void) {
    fesetround(FE_TONEAREST);
}

double chk_middle(double lower, double upper) {
    int mode = fegetround();
    fesetround(FE_TONEAREST);
    volatile double a = 0.5 * lower, b = 0.5 * upper, middle = a + b;
    fesetround(mode);
    return middle;
}

chk_form *chk_forms_create(int rows, int most) {
    chk_form *forms = calloc((size_t)rows + 1, sizeof *forms);
    double *a = calloc((size_t)rows * (size_t)most + 1, sizeof *a);
    if (!forms || !a) {
        free(forms);
        free(a);
        return NULL;
    }
    for (int i = 0; i <= rows; i++) forms[i].a = a + (i < rows ? (size_t)i * (size_t)most : 0);
    return forms;
}

void chk_forms_free(chk_form *forms) {
    if (forms) free(forms[0].a);
    free(forms);
}

static void unknown(chk_form *form) {
    form->c = 0;
    form->n = 0;
    form->e = HUGE_VAL;
}

void chk_form_zero(chk_form *form) {
    form->c = form->e = 0;
    form->n = 0;
}

void chk_form_copy(chk_form *to, const chk_form *from) {
    to->c = from->c;
    to->e = from->e;
    to->n = from->n;
    memcpy(to->a, from->a, (size_t)from->n * sizeof *to->a);
}

/* Symbol `symbol`, which is nobody else's. */
void chk_form_box(chk_space *space, chk_form *form, int symbol, double lower, double upper) {
    double middle = lower < upper ? chk_middle(lower, upper) : lower, above = upper - middle, below = middle - lower;
    for (int k = 0; k <= symbol; k++) form->a[k] = 0;
    form->c = middle;
    form->e = 0;
    form->a[symbol] = above > below ? above : below;
    form->n = symbol + 1;
    if (space->n <= symbol) space->n = symbol + 1;
}

double chk_form_radius(const chk_form *form) {
    double radius = form->e;
    for (int k = 0; k < form->n; k++) radius += fabs(form->a[k]);
    return radius <= DBL_MAX ? radius : HUGE_VAL;
}

chk_range chk_form_range(const chk_form *form) {
    double radius = chk_form_radius(form), upper = form->c + radius, lower = -(radius - form->c);
    if (!(lower <= upper)) return (chk_range){-HUGE_VAL, HUGE_VAL};
    return (chk_range){lower, upper};
}

void chk_sum_begin(chk_space *space, double lower, double upper) {
    space->c_up = upper;
    space->c_down = -lower;
    space->e = 0;
    space->used = 0;
}

void chk_sum_add(chk_space *space, double w_lower, double w_upper, const chk_form *form) {
    if ((w_lower == 0 && w_upper == 0) || (form->n == 0 && form->c == 0 && form->e == 0)) return;
    double minus = -w_lower;
    for (int k = space->used; k < form->n; k++) space->up[k] = space->down[k] = 0;
    if (form->n > space->used) space->used = form->n;
    for (int k = 0; k < form->n; k++) {
        space->up[k] += w_lower * form->a[k];
        space->down[k] += minus * form->a[k];
    }
    space->c_up += w_lower * form->c;
    space->c_down += minus * form->c;
    double size = fabs(w_lower) > fabs(w_upper) ? fabs(w_lower) : fabs(w_upper);
    if (form->e > 0 || !(form->e <= 0)) space->e += size * form->e;
    if (w_upper > w_lower) space->e += (w_upper - w_lower) * (fabs(form->c) + chk_form_radius(form));
}

void chk_sum_end(chk_space *space, chk_form *to, double noise) {
    double e = space->e + (space->c_up + space->c_down);
    for (int k = 0; k < space->used; k++) {
        to->a[k] = -space->down[k];
        e += space->up[k] + space->down[k];
    }
    to->c = -space->c_down;
    to->n = space->used;
    to->e = e;
    if (noise > 0) {
        to->e += noise;
        if (noise <= DBL_MAX && space->n < space->most) {
            to->e = e;
            for (int k = to->n; k < space->n; k++) to->a[k] = 0;
            to->a[space->n++] = noise;
            to->n = space->n;
        }
    }
    if (!(chk_form_radius(to) <= DBL_MAX) || !isfinite(to->c)) unknown(to);
}

void chk_form_settle(chk_space *space, chk_form *form) {
    double e = form->e;
    if (!(e > 0) || !(e <= DBL_MAX) || space->n >= space->most) return;
    for (int k = form->n; k < space->n; k++) form->a[k] = 0;
    form->a[space->n++] = e;
    form->n = space->n;
    form->e = 0;
}

/* Between the ends max(0, z) - s z is convex: at most its larger end, at least 0. */
void chk_form_relu(chk_space *space, const chk_form *from, chk_range range, chk_form *to) {
    double l = range.lower, u = range.upper;
    if (l >= 0) {
        chk_form_copy(to, from);
        return;
    }
    if (u <= 0) {
        chk_form_zero(to);
        return;
    }
    if (!(u <= DBL_MAX) || !(l >= -DBL_MAX)) {
        unknown(to);
        if (u <= DBL_MAX) to->e = u;
        return;
    }
    double slope = u / (u - l), at_lower = slope * -l;
    if (slope > 1) slope = 1;
    double at_upper = (1 - slope) * u, half = 0.5 * (at_lower > at_upper ? at_lower : at_upper);
    chk_sum_begin(space, half, half);
    chk_sum_add(space, slope, slope, from);
    chk_sum_end(space, to, half);
}

void chk_form_row(chk_space *space, int n, const double *w, double b, const chk_form *x, chk_form *to) {
    chk_sum_begin(space, b, b);
    for (int j = 0; j < n; j++) chk_sum_add(space, w[j], w[j], &x[j]);
    chk_sum_end(space, to, 0);
}

void chk_form_activate(chk_space *space, int act, const chk_form *from, chk_range range, chk_form *to) {
    if (act == 0) chk_form_zero(to);
    if (act == 1) chk_form_relu(space, from, range, to);
    if (act == 2) chk_form_copy(to, from);
}
