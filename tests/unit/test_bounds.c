/* SPDX-License-Identifier: Apache-2.0
 * Ranges of small programs whose ranges are known, and what is refused. */
#include <check.h>
#include <math.h>
#include <string.h>

#include "certify/crown.h"
#include "net/program_make.h"

static esp_error error;

/* y0 = relu(x) + relu(-x), y1 = relu(x) - relu(-x), y2 = 5, one input. */
static esp_program *two_hinges(void) {
    esp_program *p = NULL;
    ck_assert(esp_program_create(1, 2, 3, &p, &error) == ESP_OK);
    p->c[0] = 1;
    p->c[1] = -1;
    p->b[0] = p->b[1] = 1;
    p->b[2] = 1;
    p->b[3] = -1;
    p->c0[2] = 5;
    esp_program_seal(p, 0);
    return p;
}

/* A chain r0 = relu(x0 - x1 + 0.5), r1 = relu(2 r0 - 1), y = r1 - x0. */
static esp_program *chain(void) {
    esp_program *p = NULL;
    ck_assert(esp_program_create(2, 2, 1, &p, &error) == ESP_OK);
    p->c[0] = 1;
    p->c[1] = -1;
    p->d0[0] = 0.5;
    p->d[2] = 2;
    p->d0[1] = -1;
    p->b[1] = 1;
    p->a[0] = -1;
    esp_program_seal(p, 0);
    return p;
}

static esp_ranges *ranges_for(const esp_program *p) {
    esp_ranges *ranges = NULL;
    ck_assert(esp_ranges_create(p->n_r, p->n_y, &ranges, &error) == ESP_OK);
    return ranges;
}

static void is(double lower, double upper, double want_lower, double want_upper) {
    ck_assert_msg(lower <= want_lower && upper >= want_upper, "[%.17g, %.17g] does not contain [%g, %g]", lower, upper, want_lower, want_upper);
    ck_assert_double_eq_tol(lower, want_lower, 1e-12);
    ck_assert_double_eq_tol(upper, want_upper, 1e-12);
}

START_TEST(bounds__of_hinges_are_those_of_the_relaxation) {
    esp_program *p = two_hinges();
    esp_ranges *ranges = ranges_for(p);
    double lower = -1, upper = 2;
    esp_box box = {1, &lower, &upper};
    ck_assert(esp_bounds_interval(p, &box, ranges, &error) == ESP_OK);
    is(ranges->p_lower[0], ranges->p_upper[0], -1, 2);
    is(ranges->y_lower[0], ranges->y_upper[0], 0, 3);
    is(ranges->y_lower[1], ranges->y_upper[1], -1, 2);
    ck_assert_int_eq(esp_ranges_unstable(ranges), 2);
    /* Upper chords 2/3 (x + 1) and 1/3 (2 - x): together 4/3 + x/3, at most 2 = |x| at the far end. */
    ck_assert(esp_bounds_crown(p, &box, NULL, ranges, &error) == ESP_OK);
    is(ranges->y_lower[0], ranges->y_upper[0], 0, 2);
    is(ranges->y_lower[1], ranges->y_upper[1], -1, 2);
    ck_assert(ranges->y_lower[2] == 5 && ranges->y_upper[2] == 5); /* a constant is exact */
    esp_ranges_free(ranges);
    esp_program_free(p);
}
END_TEST

START_TEST(bounds__of_stable_relus_are_exact) {
    esp_program *p = chain();
    esp_ranges *ranges = ranges_for(p);
    double lower[2] = {1, 0}, upper[2] = {2, 0.5};
    esp_box box = {2, lower, upper};
    ck_assert(esp_bounds_crown(p, &box, NULL, ranges, &error) == ESP_OK);
    is(ranges->p_lower[0], ranges->p_upper[0], 1, 2.5);
    is(ranges->p_lower[1], ranges->p_upper[1], 1, 4);
    is(ranges->y_lower[0], ranges->y_upper[0], 0, 2); /* x0 - 2 x1; intervals give [-1, 3] */
    ck_assert(esp_bounds_interval(p, &box, ranges, &error) == ESP_OK);
    is(ranges->y_lower[0], ranges->y_upper[0], -1, 3);
    lower[0] = upper[0] = -3; /* off: y = -x0 */
    ck_assert(esp_bounds_crown(p, &box, NULL, ranges, &error) == ESP_OK);
    is(ranges->y_lower[0], ranges->y_upper[0], 3, 3);
    ck_assert_int_eq(esp_ranges_unstable(ranges), 0);
    esp_ranges_free(ranges);
    esp_program_free(p);
}
END_TEST

START_TEST(bounds__zero_rows_are_exactly_zero) {
    esp_program *p = NULL;
    ck_assert(esp_program_create(2, 3, 2, &p, &error) == ESP_OK);
    p->d0[1] = 0.25;
    p->b[1] = 4;
    esp_program_seal(p, 0);
    esp_ranges *ranges = ranges_for(p);
    double lower[2] = {-1, -1}, upper[2] = {1, 1};
    ck_assert(esp_bounds_crown(p, &(esp_box){2, lower, upper}, NULL, ranges, &error) == ESP_OK);
    ck_assert(ranges->p_lower[0] == 0 && ranges->p_upper[0] == 0 && ranges->p_lower[1] == 0.25 && ranges->p_upper[1] == 0.25);
    is(ranges->y_lower[0], ranges->y_upper[0], 1, 1);
    ck_assert(ranges->y_lower[1] == 0 && ranges->y_upper[1] == 0);
    ck_assert_int_eq(esp_ranges_unstable(ranges), 0);
    esp_ranges_free(ranges);
    esp_program_free(p);
}
END_TEST

START_TEST(bounds__overflow_gives_infinite_ranges) {
    esp_program *p = chain();
    p->c[0] = 1e308;
    p->c[1] = 1e308;
    p->d[2] = 1e300;
    esp_ranges *ranges = ranges_for(p);
    double lower[2] = {-100, -100}, upper[2] = {100, 100};
    ck_assert(esp_bounds_crown(p, &(esp_box){2, lower, upper}, NULL, ranges, &error) == ESP_OK);
    ck_assert(ranges->p_lower[0] == -HUGE_VAL && ranges->p_upper[0] == HUGE_VAL);
    ck_assert(ranges->y_lower[0] <= -100 && ranges->y_upper[0] == HUGE_VAL);
    ck_assert(esp_ranges_norm(ranges, ESP_NORM_2) == HUGE_VAL);
    esp_ranges_free(ranges);
    esp_program_free(p);
}
END_TEST

START_TEST(bounds__known_ranges_act_as_constraints) {
    esp_program *p = two_hinges();
    esp_ranges *known = ranges_for(p), *ranges = ranges_for(p);
    double lower = -1, upper = 2;
    esp_box box = {1, &lower, &upper};
    esp_ranges_open(known);
    known->p_upper[1] = 0; /* the second is off */
    ck_assert(esp_bounds_crown(p, &box, known, ranges, &error) == ESP_OK);
    ck_assert(ranges->p_upper[1] == 0);
    is(ranges->y_lower[1], ranges->y_upper[1], 0, 2);
    known->p_lower[1] = -3;
    known->p_upper[1] = -2.5; /* but -x is in [-2, 1] */
    ranges->y_upper[1] = 77;
    ck_assert_int_eq(esp_bounds_crown(p, &box, known, ranges, &error), ESP_UNPROCESSABLE);
    ck_assert(ranges->y_upper[1] == 77); /* untouched */
    esp_ranges_free(known);
    esp_ranges_free(ranges);
    esp_program_free(p);
}
END_TEST

START_TEST(bounds__refuse_what_does_not_fit) {
    esp_program *p = chain();
    esp_ranges *ranges = ranges_for(p), *wrong = NULL;
    double lower[2] = {0, 0}, upper[2] = {1, 1};
    ck_assert(esp_ranges_create(5, 1, &wrong, &error) == ESP_OK);
    ck_assert_int_eq(esp_bounds_crown(p, &(esp_box){1, lower, upper}, NULL, ranges, &error), ESP_INVALID);
    ck_assert_int_eq(esp_bounds_crown(p, &(esp_box){2, lower, upper}, NULL, wrong, &error), ESP_INVALID);
    ck_assert_int_eq(esp_bounds_crown(p, &(esp_box){2, lower, upper}, wrong, ranges, &error), ESP_INVALID);
    upper[1] = -1;
    ck_assert_int_eq(esp_bounds_interval(p, &(esp_box){2, lower, upper}, ranges, &error), ESP_INVALID);
    upper[1] = HUGE_VAL;
    ck_assert_int_eq(esp_bounds_interval(p, &(esp_box){2, lower, upper}, ranges, &error), ESP_INVALID);
    upper[1] = NAN;
    ck_assert_int_eq(esp_bounds_interval(p, &(esp_box){2, lower, upper}, ranges, &error), ESP_INVALID);
    esp_ranges_free(wrong);
    esp_ranges_free(ranges);
    esp_program_free(p);
}
END_TEST

START_TEST(bounds__of_a_program_without_relus_or_inputs) {
    esp_program *p = NULL;
    ck_assert(esp_program_create(0, 0, 1, &p, &error) == ESP_OK);
    p->c0[0] = -3;
    esp_program_seal(p, 0);
    esp_ranges *ranges = ranges_for(p);
    ck_assert(esp_bounds_crown(p, &(esp_box){0, NULL, NULL}, NULL, ranges, &error) == ESP_OK);
    ck_assert(ranges->y_lower[0] == -3 && ranges->y_upper[0] == -3);
    ck_assert(esp_ranges_norm(ranges, ESP_NORM_INF) == 3);
    esp_ranges_free(ranges);
    esp_program_free(p);
}
END_TEST

static bool at_once(void *user) {
    (void)user;
    return true;
}

START_TEST(bounds__stopped_run_is_the_interval_one) {
    esp_program *p = two_hinges();
    esp_ranges *ranges = ranges_for(p);
    esp_crown *crown = NULL;
    double lower = -1, upper = 2;
    esp_stop stop = {ESP_NEVER, at_once, NULL};
    ck_assert(esp_crown_create(p, &crown, &error) == ESP_OK);
    esp_crown_box(crown, &lower, &upper);
    esp_crown_stop(crown, &stop);
    esp_ranges_open(ranges);
    ck_assert(esp_crown_run(crown, ESP_CROWN_BACKWARD, 0, true, ranges));
    is(ranges->y_lower[0], ranges->y_upper[0], 0, 3);
    esp_crown_stop(crown, NULL);
    ck_assert(esp_crown_run(crown, ESP_CROWN_BACKWARD, 0, true, ranges));
    is(ranges->y_lower[0], ranges->y_upper[0], 0, 2);
    esp_crown_free(crown);
    esp_ranges_free(ranges);
    esp_program_free(p);
}
END_TEST

START_TEST(ranges__norm_is_rounded_up) {
    esp_ranges *ranges = NULL;
    ck_assert(esp_ranges_create(0, 3, &ranges, &error) == ESP_OK);
    ck_assert(esp_ranges_norm(ranges, ESP_NORM_2) == 0);
    ranges->y_lower[0] = -3, ranges->y_upper[0] = 1;
    ranges->y_lower[1] = 0, ranges->y_upper[1] = 4;
    ck_assert(esp_ranges_norm(ranges, ESP_NORM_INF) == 4);
    double norm = esp_ranges_norm(ranges, ESP_NORM_2);
    ck_assert(norm >= 5 && norm < 5 + 1e-13);
    ranges->y_upper[1] = 4e300, ranges->y_lower[0] = -3e300; /* squares overflow */
    norm = esp_ranges_norm(ranges, ESP_NORM_2);
    ck_assert(norm >= 5e300 && norm < 5.0000001e300);
    ranges->y_upper[1] = 4e-310, ranges->y_lower[0] = -3e-310, ranges->y_upper[0] = 0; /* and underflow */
    norm = esp_ranges_norm(ranges, ESP_NORM_2);
    ck_assert(norm >= 5e-310 && norm < 5.1e-310);
    esp_ranges_free(ranges);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("test_bounds");
    TCase *tcase = tcase_create("bounds");
    tcase_add_test(tcase, bounds__of_hinges_are_those_of_the_relaxation);
    tcase_add_test(tcase, bounds__of_stable_relus_are_exact);
    tcase_add_test(tcase, bounds__zero_rows_are_exactly_zero);
    tcase_add_test(tcase, bounds__overflow_gives_infinite_ranges);
    tcase_add_test(tcase, bounds__known_ranges_act_as_constraints);
    tcase_add_test(tcase, bounds__refuse_what_does_not_fit);
    tcase_add_test(tcase, bounds__of_a_program_without_relus_or_inputs);
    tcase_add_test(tcase, bounds__stopped_run_is_the_interval_one);
    tcase_add_test(tcase, ranges__norm_is_rounded_up);
    suite_add_tcase(suite, tcase);
    return run_suite(suite);
}
