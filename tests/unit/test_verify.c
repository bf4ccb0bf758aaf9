/* SPDX-License-Identifier: Apache-2.0
 * Verification: replay, cost and every limit, against hand-computed figures. */
#include <check.h>
#include <math.h>
#include <stdio.h>
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

START_TEST(verify__a_limit_that_the_present_violates_costs) {
    esp_plan_request request = {.y = y_now};
    fixture f = open_fixture(TASK(L1, "", ",'state':{'lower':[-0.5],'upper':[0],'penalty':7}"), &request);
    ck_assert(verify(&f, -0.25, -0.125)); /* 0.25 and 0.125 above */
    ck_assert_double_eq(f.plan.cost, 0.375);
    ck_assert_double_eq(f.plan.objective, 0.375 + 7 * 0.375);
    ck_assert_double_eq(f.plan.violation, 0);
    ck_assert(f.plan.slack.n_limits == 1 && f.plan.slack.limits[0].kind == ESP_LIMIT_UPPER && f.plan.slack.limits[0].index == 0);
    ck_assert(f.plan.slack.steps[0] == 0.25 && f.plan.slack.steps[1] == 0.125);
    ck_assert(f.plan.slack.max == 0.25 && f.plan.slack.total == 0.375 && f.plan.slack.penalty == 7);
    ck_assert(verify(&f, -0.5, 0)); /* inside again */
    ck_assert(f.plan.objective == 0 && f.plan.slack.total == 0 && f.plan.slack.max == 0);
    ck_assert(!verify(&f, -1, -0.25)); /* the side that it satisfies holds */
    close_fixture(&f);
}
END_TEST

START_TEST(verify__a_limit_violated_by_less_than_the_tolerance_holds) {
    esp_plan_request request = {.y = y_now};
    fixture f = open_fixture(TASK(L1, "", ",'state':{'upper':[0.4999995]}"), &request);
    ck_assert_int_eq(f.plan.slack.n_limits, 0);
    ck_assert(!verify(&f, 0.25, 0));
    close_fixture(&f);
    f = open_fixture(TASK(L1, "", ",'state':{'upper':[0.499998]}"), &request);
    ck_assert_int_eq(f.plan.slack.n_limits, 1);
    ck_assert(verify(&f, 0.25, 0));
    close_fixture(&f);
}
END_TEST

/* Every kind of limit, its pointer, its unit, and the default penalty. */
START_TEST(verify__every_kind_of_limit_can_cost) {
    static const struct {
        const char *more, *pointer;
        double first, penalty; /* violation of y = 0.75; the default is 10 (1 + 1) */
    } kinds[] = {{",'state':{'upper':[0.25]}", "/state/upper/0", 0.5, 20},
                 {",'state':{'lower':[2],'penalty':3}", "/state/lower/0", 1.25, 3},
                 {",'state':{'halfspaces':[{'a':[1],'b':9},{'a':[-4],'b':-4}]}", "/state/halfspaces/1", 0.25, 20}, /* y >= 1 */
                 {",'state':{'avoid':[{'index':[0],'lower':[-1],'upper':[1.25]}]}", "/state/avoid/0", 0.5, 20},
                 {",'trust_region':{'kind':'box','upper':[0.25],'lower':[-1]}", "/trust_region/upper/0", 0.5, 20},
                 {",'state':{'penalty':5},'trust_region':{'kind':'box','upper':[3],'lower':[1]}", "/trust_region/lower/0", 0.25, 5}};
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        esp_plan_request request = {.y = y_now};
        char task[512], text[ESP_LIMIT_TEXT];
        (void)snprintf(task, sizeof task, TASK(L1, "", "%s"), kinds[i].more);
        fixture f = open_fixture(task, &request);
        ck_assert(verify(&f, 0.25, 0.0));
        ck_assert_int_eq(f.plan.slack.n_limits, 1);
        esp_limit_pointer(f.plan.slack.limits[0], text);
        ck_assert_str_eq(text, kinds[i].pointer);
        ck_assert_double_eq(f.plan.slack.steps[0], kinds[i].first);
        ck_assert_double_eq(f.plan.slack.penalty, kinds[i].penalty);
        close_fixture(&f);
    }
}
END_TEST

/* A square counts twice its weight times how far it is. */
START_TEST(verify__default_penalty_follows_the_squares) {
    esp_plan_request request = {.y = y_now, .goal = goal};
    fixture f = open_fixture(TASK("'stage':[{'on':'y','weight':3,'norm':'l2sq','target':[10.5]},{'on':'u','weight':1,'norm':'l2sq'}],"
                                  "'terminal':[{'on':'du','weight':2,'norm':'l1'}]",
                                  "", ",'state':{'upper':[0]}"),
                             &request);
    ck_assert_double_eq(f.plan.slack.penalty, 10 * (2 * (2 * 3 * 10 + 2 * 1 * 1) + 2));
    close_fixture(&f);
}
END_TEST

/* Of a trust region and the state box, each side is judged on its own; a half-space that no y changes never costs. */
START_TEST(verify__limits_are_judged_one_by_one) {
    esp_plan_request request = {.y = y_now};
    fixture f = open_fixture(TASK(L1, "", ",'state':{'upper':[0]},'trust_region':{'kind':'box','upper':[0.75],'lower':[-2]}"), &request);
    ck_assert_int_eq(f.plan.slack.n_limits, 1);
    ck_assert(verify(&f, 0.25, 0));
    ck_assert(!verify(&f, 0.5, 0));
    close_fixture(&f);
    f = open_fixture(TASK(L1, "", ",'state':{'halfspaces':[{'a':[0],'b':-1}]}"), &request);
    ck_assert_int_eq(f.plan.slack.n_limits, 0);
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
    esp_plan_hooks hooks = {&h, hear_plan, hear_bound, NULL};
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

/* A cost of nothing but rounding is within any gap of a bound of 0, in what ends a search as in what is told of it. */
START_TEST(verify__gap_of_a_cost_of_nothing) {
    esp_plan_request request = {.y = y_now};
    fixture f = open_fixture(TASK(L1, "", ""), &request);
    esp_track track;
    ck_assert_int_eq(esp_track_init(f.problem, NULL, NULL, &track, NULL), ESP_OK);
    track.found = true;
    esp_track_bound(&track, 0);
    double gap = f.problem->task->gap;
    ck_assert_double_gt(gap, 0);
    for (int k = 0; k < 2; k++) {
        track.best.objective = k ? 1e-8 : 1e-16;
        track.lower_bound = 0;
        ck_assert_int_eq(esp_track_met(&track), k == 0);
        ck_assert_int_eq(esp_relative_gap(track.best.objective, 0) <= gap, k == 0);
    }
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
    tcase_add_test(tc, verify__a_limit_that_the_present_violates_costs);
    tcase_add_test(tc, verify__a_limit_violated_by_less_than_the_tolerance_holds);
    tcase_add_test(tc, verify__every_kind_of_limit_can_cost);
    tcase_add_test(tc, verify__default_penalty_follows_the_squares);
    tcase_add_test(tc, verify__limits_are_judged_one_by_one);
    tcase_add_test(tc, verify__overflow_is_no_plan);
    tcase_add_test(tc, verify__projection_fits_box_rate_and_values);
    tcase_add_test(tc, verify__track_streams_strict_improvements_only);
    tcase_add_test(tc, verify__gap_of_a_cost_of_nothing);
    suite_add_tcase(suite, tc);
    return run_suite(suite);
}
