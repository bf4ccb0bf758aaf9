/* SPDX-License-Identifier: Apache-2.0
 * The two-norm over a box cut by half-spaces: no point outside, and the corner when nothing is cut. */
#include <check.h>
#include <math.h>

#include "base/rng.h"
#include "certify/two_norm.h"

/* Half-spaces that hold for the points of a random ellipse, which is all that the bound may rest on. */
START_TEST(two_norm__no_point_is_outside) {
    esp_rng rng;
    esp_rng_init(&rng, 5, 0);
    for (int run = 0; run < 3000; run++) {
        int n_y = 1 + run % 4, k;
        double l[4], u[4], centre[4], reach[4], d[4 * ESP_TWO_NORM_DIRECTIONS], h[ESP_TWO_NORM_DIRECTIONS], worst = 0, corner = 0;
        double scale = pow(10, esp_rng_range(&rng, -6, 6));
        for (int i = 0; i < n_y; i++) {
            centre[i] = scale * esp_rng_normal(&rng);
            reach[i] = scale * fabs(esp_rng_normal(&rng)) * (run % 7 > 0);
            l[i] = centre[i] - reach[i];
            u[i] = centre[i] + reach[i];
            corner = hypot(corner, fmax(fabs(l[i]), fabs(u[i])));
        }
        int n_d = esp_two_norm_directions(n_y, run % 2, l, u, d);
        for (int j = 0; j < n_d; j++) { /* the support of the ellipse, sometimes of the box, sometimes nothing known */
            double at = 0, out = 0;
            for (int i = 0; i < n_y; i++) at += d[j * n_y + i] * centre[i], out = hypot(out, d[j * n_y + i] * reach[i]);
            h[j] = run % 11 == 0 ? HUGE_VAL : (at + out) + 1e-12 * (fabs(at) + out);
        }
        double bound = esp_two_norm(n_y, l, u, n_d, d, h, &k);
        ck_assert(k >= 0 && k < n_d);
        for (int s = 0; s < 200; s++) {
            double y[4], size = 0, norm = 0;
            for (int i = 0; i < n_y; i++) y[i] = esp_rng_normal(&rng), size = hypot(size, y[i]);
            for (int i = 0; i < n_y; i++) norm = hypot(norm, centre[i] + reach[i] * y[i] / size);
            worst = fmax(worst, norm);
        }
        ck_assert_msg(worst <= bound * (1 + 1e-12), "run %d: %.17g above %.17g", run, worst, bound);
        if (n_d == 5) ck_assert_msg(bound <= corner * (1 + 1e-9), "run %d: %.17g above the corner's %.17g", run, bound, corner);
    }
}
END_TEST

/* Known from the box [-1, 1] x [-1, 1] and |y_1 + y_2| <= 1, |y_1 - y_2| <= 1: the farthest points are (1, 0) and the like. */
START_TEST(two_norm__a_diamond_has_its_corners) {
    const double l[] = {-1, -1}, u[] = {1, 1}, h[] = {1, 1, 1, 1, 0};
    double d[10];
    int k;
    ck_assert_int_eq(esp_two_norm_directions(2, true, l, u, d), 5);
    double bound = esp_two_norm(2, l, u, 5, d, h, &k);
    ck_assert(bound >= 1 && bound < 1 + 1e-12);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("two_norm");
    TCase *tc = tcase_create("two_norm");
    tcase_add_test(tc, two_norm__no_point_is_outside);
    tcase_add_test(tc, two_norm__a_diamond_has_its_corners);
    suite_add_tcase(suite, tc);
    return run_suite(suite);
}
