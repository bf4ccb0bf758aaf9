/* SPDX-License-Identifier: Apache-2.0
 * The certified largest output on programs whose maximum is known, and every way a search can end. */
#include <check.h>
#include <math.h>
#include <string.h>

#include "base/rng.h"
#include "certify/difference.h"
#include "net/program_make.h"

static esp_error error;

/* y = relu(x0) + relu(-x0) - 2 relu(x0 + x1) + 0 x2; the third input does nothing. */
static esp_program *valley(void) {
    esp_program *p = NULL;
    ck_assert(esp_program_create(3, 3, 1, &p, &error) == ESP_OK);
    p->c[0] = 1;
    p->c[3] = -1;
    p->c[6] = p->c[7] = 1;
    p->b[0] = p->b[1] = 1;
    p->b[2] = -2;
    esp_program_seal(p, 0);
    return p;
}

static const double corner_lower[3] = {-1, -1, -1}, corner_upper[3] = {1, 1, 1};

typedef struct outcome {
    esp_certificate made[3];
    int n;
    double witness[3];
} outcome;

static outcome certify(const esp_program *p, const double *lower, const double *upper, const esp_certify_opts *opts, const esp_stop *stop) {
    outcome o = {.n = -1};
    double l[3], u[3];
    memcpy(l, lower, sizeof l);
    memcpy(u, upper, sizeof u);
    ck_assert_msg(esp_certify_norm(p, &(esp_box){3, l, u}, opts, stop, o.made, &o.n, o.witness, &error) == ESP_OK, "%s", error.message);
    return o;
}

START_TEST(difference__finds_the_maximum) {
    esp_program *p = valley();
    esp_certify_opts opts = ESP_CERTIFY_OPTS_INIT;
    opts.gap = 1e-6;
    outcome o = certify(p, corner_lower, corner_upper, &opts, NULL); /* |y| = 3 at (1, 1): 1 - 4 */
    ck_assert_int_eq(o.n, 3);
    ck_assert_str_eq(o.made[0].method, "interval");
    ck_assert_str_eq(o.made[1].method, "crown");
    ck_assert_str_eq(o.made[2].method, "split");
    ck_assert_double_eq_tol(o.made[0].value, 4, 1e-12); /* y in [-4, 2] */
    ck_assert(o.made[2].value >= 3 && o.made[2].value <= 3 * (1 + 2e-6));
    ck_assert(o.made[2].lower <= 3 && o.made[2].lower >= 3 - 1e-9);
    ck_assert(o.witness[0] == 1 && o.witness[1] == 1);
    for (int i = 0; i < 3; i++) {
        ck_assert_int_eq(o.made[i].strength, ESP_PROVED);
        ck_assert_str_eq(o.made[i].status, "proved");
        ck_assert(o.made[i].tolerance == 0 && o.made[i].seconds >= 0 && o.made[i].lower == o.made[2].lower);
    }
    esp_program_free(p);
}
END_TEST

START_TEST(difference__norms_are_those_asked_for) {
    esp_program *p = NULL; /* y = (x0, x0) */
    ck_assert(esp_program_create(3, 0, 2, &p, &error) == ESP_OK);
    p->a[0] = p->a[3] = 1;
    esp_program_seal(p, 0);
    esp_certify_opts opts = ESP_CERTIFY_OPTS_INIT;
    opts.norm = ESP_NORM_2;
    outcome two = certify(p, corner_lower, corner_upper, &opts, NULL);
    ck_assert(two.made[2].value >= sqrt(2) && two.made[2].value <= sqrt(2) * (1 + opts.gap) && two.made[2].norm == ESP_NORM_2);
    opts.norm = ESP_NORM_INF;
    outcome inf = certify(p, corner_lower, corner_upper, &opts, NULL);
    ck_assert(inf.made[2].value >= 1 && inf.made[2].value <= 1 + 1e-12 && inf.made[2].norm == ESP_NORM_INF);
    esp_program_free(p);
}
END_TEST

START_TEST(difference__of_a_point_is_its_value) {
    esp_program *p = valley();
    esp_certify_opts opts = ESP_CERTIFY_OPTS_INIT;
    static const double at[3] = {0.5, -0.25, 7};
    outcome o = certify(p, at, at, &opts, NULL);
    ck_assert_str_eq(o.made[2].status, "proved");
    ck_assert_double_eq_tol(o.made[2].value, 0, 1e-12); /* 0.5 + 0 - 2 * 0.25 */
    ck_assert(memcmp(o.witness, at, sizeof at) == 0);
    esp_program_free(p);
}
END_TEST

START_TEST(difference__zero_program_is_zero) {
    esp_program *p = NULL;
    ck_assert(esp_program_create(3, 2, 2, &p, &error) == ESP_OK);
    p->c[0] = 1;
    p->c[4] = 1;
    esp_program_seal(p, 0);
    esp_certify_opts opts = ESP_CERTIFY_OPTS_INIT;
    outcome o = certify(p, corner_lower, corner_upper, &opts, NULL);
    ck_assert(o.made[2].value == 0 && o.made[2].lower == 0);
    ck_assert_str_eq(o.made[2].status, "proved");
    esp_program_free(p);
}
END_TEST

static bool at_once(void *user) {
    (void)user;
    return true;
}

START_TEST(difference__stopped_is_still_a_bound) {
    esp_program *p = valley();
    esp_certify_opts opts = ESP_CERTIFY_OPTS_INIT;
    opts.gap = 0;
    esp_stop cancelled = {ESP_NEVER, at_once, NULL}, late = {esp_clock_now_ns() - 1, NULL, NULL};
    const esp_stop *stops[2] = {&cancelled, &late};
    for (int i = 0; i < 2; i++) {
        outcome o = certify(p, corner_lower, corner_upper, &opts, stops[i]);
        ck_assert_int_eq(o.n, 3);
        ck_assert_str_eq(o.made[2].status, "time_limit");
        ck_assert(o.made[2].value >= 3 && o.made[2].value <= 4 + 1e-12 && o.made[2].lower <= 3);
    }
    esp_program_free(p);
}
END_TEST

START_TEST(difference__squares_bound_the_l2_norm_better_than_ends) {
    esp_program *p = NULL; /* y = (x, 1 - x), x in [0, 1]: |y| <= 1, the ends apart give sqrt(2) */
    ck_assert(esp_program_create(3, 0, 2, &p, &error) == ESP_OK);
    p->a[0] = 1;
    p->a[3] = -1;
    p->c0[1] = 1;
    esp_program_seal(p, 0);
    esp_certify_opts opts = ESP_CERTIFY_OPTS_INIT;
    opts.norm = ESP_NORM_2;
    static const double zero[3] = {0, 0, 0};
    outcome o = certify(p, zero, corner_upper, &opts, NULL);
    ck_assert_double_eq_tol(o.made[0].value, sqrt(2), 1e-12);
    ck_assert(o.made[1].value >= 1 && o.made[1].value <= 1 + 1e-12);
    esp_program_free(p);
}
END_TEST

START_TEST(difference__box_limit_is_said) {
    esp_program *p = NULL; /* random, two layers of six */
    esp_rng rng;
    esp_rng_init(&rng, 5, 0);
    ck_assert(esp_program_create(3, 12, 1, &p, &error) == ESP_OK);
    for (int j = 0; j < 6; j++) {
        for (int k = 0; k < 3; k++) p->c[3 * j + k] = esp_rng_normal(&rng);
        for (int i = 6; i < 12; i++) p->d[12 * i + j] = esp_rng_normal(&rng);
        p->d0[j] = 0.3 * esp_rng_normal(&rng);
        p->b[6 + j] = esp_rng_normal(&rng);
    }
    esp_program_seal(p, 0);
    double most = 0, y, work[12];
    for (int i = 0; i < 27000; i++) {
        double x[3] = {(i % 30) / 14.5 - 1, (i / 30 % 30) / 14.5 - 1, (i / 900) / 14.5 - 1};
        esp_program_forward(p, x, &y, NULL, NULL, work);
        most = fmax(most, fabs(y));
    }
    esp_certify_opts opts = ESP_CERTIFY_OPTS_INIT;
    opts.gap = 1e-3;
    opts.max_boxes = 3;
    outcome few = certify(p, corner_lower, corner_upper, &opts, NULL);
    ck_assert_str_eq(few.made[2].status, "box_limit");
    ck_assert(few.made[2].value >= most);
    opts.max_boxes = 4000;
    outcome many = certify(p, corner_lower, corner_upper, &opts, NULL);
    ck_assert_str_eq(many.made[2].status, "proved");
    ck_assert(many.made[2].value >= most && many.made[2].value <= most * 1.05 && many.made[2].value < few.made[2].value);
    esp_program_free(p);
}
END_TEST

START_TEST(difference__refuses_bad_boxes_and_gaps) {
    esp_program *p = valley();
    esp_certificate made[3];
    int n = -1;
    double lower[3] = {0}, upper[3] = {1, 1, 1};
    esp_certify_opts opts = ESP_CERTIFY_OPTS_INIT;
    ck_assert_int_eq(esp_certify_norm(p, &(esp_box){2, lower, upper}, &opts, NULL, made, &n, NULL, &error), ESP_INVALID);
    lower[1] = 2;
    ck_assert_int_eq(esp_certify_norm(p, &(esp_box){3, lower, upper}, &opts, NULL, made, &n, NULL, &error), ESP_INVALID);
    lower[1] = 0;
    opts.gap = NAN;
    ck_assert_int_eq(esp_certify_norm(p, &(esp_box){3, lower, upper}, &opts, NULL, made, &n, NULL, &error), ESP_INVALID);
    ck_assert_str_eq(error.pointer, "/gap");
    ck_assert_int_eq(n, -1);
    esp_program_free(p);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("test_difference");
    TCase *tcase = tcase_create("difference");
    tcase_add_test(tcase, difference__finds_the_maximum);
    tcase_add_test(tcase, difference__norms_are_those_asked_for);
    tcase_add_test(tcase, difference__of_a_point_is_its_value);
    tcase_add_test(tcase, difference__zero_program_is_zero);
    tcase_add_test(tcase, difference__stopped_is_still_a_bound);
    tcase_add_test(tcase, difference__squares_bound_the_l2_norm_better_than_ends);
    tcase_add_test(tcase, difference__box_limit_is_said);
    tcase_add_test(tcase, difference__refuses_bad_boxes_and_gaps);
    suite_add_tcase(suite, tcase);
    return run_suite(suite);
}
