/* SPDX-License-Identifier: Apache-2.0
 * Verification: replay, cost and every limit, against hand-computed figures. */
#include <check.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "plan/verify.h"
#include "support/planning.h"

/* One output, one input, y+ = y + u. */
static const double adder[] = {1, 1};

typedef struct fixture {
    plan_case c;
    esp_program *step;
    esp_problem *problem;
    esp_plan plan;
} fixture;

static fixture open_fixture(const char *task, const esp_plan_request *request) {
    fixture f = {.c = case_of(linear_model(1, 1, 1, adder), task)};
    ck_assert_int_eq(esp_program_lower(f.c.model, &f.step, NULL), ESP_OK);
    ck_assert_int_eq(esp_problem_create(f.c.task, f.step, 1, NULL, NULL, request, &f.problem, NULL), ESP_OK);
    ck_assert_int_eq(esp_plan_create(f.problem, &f.plan, NULL), ESP_OK);
    return f;
}

static void close_fixture(fixture *f) {
    esp_plan_done(&f->plan);
    esp_problem_free(f->problem);
    esp_program_free(f->step);
    case_done(&f->c);
}

static bool verify(fixture *f, double u0, double u1) {
    f->plan.inputs[0] = u0;
    f->plan.inputs[1] = u1;
    return esp_verify(f->problem, &f->plan);
}

#define TASK(cost, input, more) "{'horizon':2,'cost':{" cost "},'input':{'lower':[-1],'upper':[1]" input "}" more "}"
#define L1                      "'stage':[{'on':'y','weight':1,'norm':'l1'}]"

static const double y_now[] = {0.5}, u_last[] = {0.25}, goal[] = {2};

START_TEST(verify__replays_and_adds_up_every_kind_of_term) {
    esp_plan_request request = {.y = y_now, .u = u_last, .n_u = 1, .goal = goal};
    fixture f = open_fixture(
        TASK("'stage':[{'on':'y','weight':3,'norm':'l1','target':'goal'},{'on':'u','weight':2,'norm':'l2sq'},{'on':'du','weight':5,'norm':'linf'}],"
             "'terminal':[{'on':'y','weight':7,'norm':'l2sq','target':[1]}]",
             "", ""),
        &request);
    ck_assert(verify(&f, 0.5, -1));
    ck_assert_double_eq(f.plan.predicted[0], 1);
    ck_assert_double_eq(f.plan.predicted[1], 0);
    /* l1 3 (1 + 2), l2sq 2 (.25 + 1), linf 5 (.25 + 1.5), terminal 7 */
    ck_assert_double_eq(f.plan.objective, 9 + 2.5 + 8.75 + 7);
    ck_assert_double_eq(f.plan.violation, 0);
    close_fixture(&f);
}
END_TEST

START_TEST(verify__box_of_inputs_is_exact) {
    esp_plan_request request = {.y = y_now};
    fixture f = open_fixture(TASK(L1, "", ""), &request);
    ck_assert(verify(&f, 1, -1));
    ck_assert(!verify(&f, nextafter(1, 2), 0));
    ck_assert(!verify(&f, 0, nextafter(-1, -2)));
    ck_assert(!verify(&f, NAN, 0));
    ck_assert_double_eq(f.plan.violation, INFINITY);
    close_fixture(&f);
}
END_TEST

START_TEST(verify__values_are_exact) {
    esp_plan_request request = {.y = y_now};
    fixture f = open_fixture(TASK(L1, ",'values':[[0.1],[-0.7]]", ""), &request);
    ck_assert(verify(&f, 0.1, -0.7));
    ck_assert(!verify(&f, 0.1, nextafter(0.1, 1)));
    close_fixture(&f);
}
END_TEST

START_TEST(verify__rate_counts_from_the_last_input_when_known) {
    esp_plan_request with = {.y = y_now, .u = u_last, .n_u = 1}, without = {.y = y_now};
    fixture f = open_fixture(TASK(L1, ",'rate':[0.5]", ""), &with);
    ck_assert(verify(&f, 0.75, 0.25));
    ck_assert(!verify(&f, 0.76, 0.5));
    ck_assert(!verify(&f, 0.5, -0.01));
    close_fixture(&f);
    f = open_fixture(TASK(L1, ",'rate':[0.5]", ""), &without);
    ck_assert(verify(&f, -1, -0.5));
    ck_assert(!verify(&f, -1, -0.49));
    close_fixture(&f);
}
END_TEST

START_TEST(verify__limits_on_y_hold_to_the_stated_tolerance) {
    esp_plan_request request = {.y = y_now};
    fixture f = open_fixture(TASK(L1, "", ",'state':{'upper':[1],'lower':[-200]}"), &request);
    ck_assert(verify(&f, 0.5, 0));
    ck_assert(verify(&f, 0.5 + 0.9e-6, 0));
    ck_assert(!verify(&f, 0.5 + 1.1e-6, 0));
    ck_assert_double_eq_tol(f.plan.violation, 1.1e-6, 1e-12);
    ck_assert(!verify(&f, 0, 0.6));
    close_fixture(&f);
    f = open_fixture(TASK(L1, "", ",'state':{'halfspaces':[{'a':[-100],'b':-50}]}"), &request); /* y >= 0.5, scale 100 */
    ck_assert(verify(&f, -0.9e-6, 0));
    ck_assert(!verify(&f, -1.1e-6, 0));
    close_fixture(&f);
}
END_TEST

START_TEST(verify__boxes_to_avoid_are_open) {
    esp_plan_request request = {.y = y_now};
    fixture f = open_fixture(TASK(L1, "", ",'state':{'avoid':[{'index':[0],'lower':[0.75],'upper':[1.25]}]}"), &request);
    ck_assert(verify(&f, 0.25, 0.5)); /* on one face, then on the other */
    ck_assert(!verify(&f, 0.5, 0));
    ck_assert_double_eq(f.plan.violation, 0.2); /* 0.25 to the upper face, in its scale 1.25 */
    ck_assert(!verify(&f, 1, -0.4));
    close_fixture(&f);
}
END_TEST

START_TEST(verify__present_may_be_outside_the_limits) {
    esp_plan_request request = {.y = y_now};
    fixture f = open_fixture(TASK(L1, "", ",'state':{'upper':[0]}"), &request);
    ck_assert(verify(&f, -0.5, 0));
    ck_assert(!verify(&f, 0, 0));
    close_fixture(&f);
}
END_TEST

START_TEST(verify__overflow_is_no_plan) {
    const double w[] = {1e200, 1}, y[] = {1e150};
    esp_plan_request request = {.y = y};
    plan_case c = case_of(linear_model(1, 1, 1, w), TASK(L1, "", ""));
    esp_plan_result result;
    ck_assert_int_eq(case_run(&c, &request, 1, &result, NULL), ESP_OK);
    ck_assert_int_eq(result.status, ESP_PLAN_UNKNOWN);
    ck_assert_ptr_null(result.best.inputs);
    esp_plan_result_done(&result);
    case_done(&c);
}
END_TEST

START_TEST(verify__projection_fits_box_rate_and_values) {
    esp_plan_request request = {.y = y_now, .u = u_last, .n_u = 1};
    fixture f = open_fixture(TASK(L1, ",'rate':[0.5]", ""), &request);
    double inputs[2] = {9, NAN};
    esp_problem_project(f.problem, inputs);
    ck_assert_double_eq(inputs[0], 0.75);
    ck_assert_double_eq(inputs[1], 0.25);
    ck_assert(verify(&f, inputs[0], inputs[1]));
    close_fixture(&f);
    f = open_fixture(TASK(L1, ",'rate':[0.5],'values':[[-1],[-0.2],[0.3],[0.9]]", ""), &request);
    inputs[0] = 0.95;
    inputs[1] = -0.9;
    esp_problem_project(f.problem, inputs);
    ck_assert_double_eq(inputs[0], 0.3); /* 0.9 is out of the rate's reach */
    ck_assert_double_eq(inputs[1], -0.2);
    close_fixture(&f);
}
END_TEST

typedef struct heard {
    int plans, bounds;
    double plan, bound;
} heard;

static void hear_plan(void *user, const esp_plan *plan, int64_t nodes) {
    (void)nodes;
    heard *h = user;
    ck_assert(h->plans == 0 || plan->objective < h->plan);
    h->plan = plan->objective;
    h->plans++;
}

static void hear_bound(void *user, double bound) {
    heard *h = user;
    ck_assert(h->bounds == 0 || bound > h->bound);
    h->bound = bound;
    h->bounds++;
}

START_TEST(verify__track_streams_strict_improvements_only) {
    esp_plan_request request = {.y = y_now};
    fixture f = open_fixture(TASK(L1, "", ""), &request);
    heard h = {0};
    esp_plan_hooks hooks = {&h, hear_plan, hear_bound};
    esp_track track;
    ck_assert_int_eq(esp_track_init(f.problem, &hooks, NULL, &track, NULL), ESP_OK);
    const double plans[][2] = {{0, 0}, {0, 0}, {-1, -1}, {-0.5, 0}, {-0.5, 0}};
    for (int i = 0; i < 5; i++) (void)esp_track_offer(&track, plans[i], "test");
    ck_assert_int_eq(h.plans, 2);
    ck_assert_double_eq(track.best.objective, 0);
    const double bounds[] = {-1, -1, -2, NAN, -0.5, INFINITY, 3};
    for (int i = 0; i < 7; i++) esp_track_bound(&track, bounds[i]);
    ck_assert_int_eq(h.bounds, 3); /* the last is taken down to the plan's cost, 0 */
    ck_assert_double_eq(track.lower_bound, 0);
    ck_assert(esp_track_met(&track));
    esp_track_done(&track);
    close_fixture(&f);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("verify");
    TCase *tc = tcase_create("verify");
    tcase_add_test(tc, verify__replays_and_adds_up_every_kind_of_term);
    tcase_add_test(tc, verify__box_of_inputs_is_exact);
    tcase_add_test(tc, verify__values_are_exact);
    tcase_add_test(tc, verify__rate_counts_from_the_last_input_when_known);
    tcase_add_test(tc, verify__limits_on_y_hold_to_the_stated_tolerance);
    tcase_add_test(tc, verify__boxes_to_avoid_are_open);
    tcase_add_test(tc, verify__present_may_be_outside_the_limits);
    tcase_add_test(tc, verify__overflow_is_no_plan);
    tcase_add_test(tc, verify__projection_fits_box_rate_and_values);
    tcase_add_test(tc, verify__track_streams_strict_improvements_only);
    suite_add_tcase(suite, tc);
    return run_suite(suite);
}
