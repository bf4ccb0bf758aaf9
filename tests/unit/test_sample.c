/* SPDX-License-Identifier: Apache-2.0
 * CEM, MPPI and gradient planning on systems whose optimum is known, and their seeds. */
#include <check.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "support/planning.h"

static const char *const methods[] = {"cem", "mppi", "gradient"};

/* y+ = y + u in two dimensions. */
static const double adder[] = {1, 0, 1, 0, 0, 1, 0, 1};

static esp_plan_result run(const char *format, const char *method, int seed, double *ret_best) {
    char text[1024];
    const double y[] = {0, 1}, goal[] = {1, 1.2};
    (void)snprintf(text, sizeof text, format, method, seed);
    plan_case c = case_of(linear_model(2, 2, 1, adder), text);
    esp_plan_request request = {.y = y, .goal = goal};
    esp_plan_result result;
    esp_error error = {0};
    ck_assert_msg(case_run(&c, &request, INFINITY, &result, &error) == ESP_OK, "%s", error.message);
    ck_assert_str_eq(result.method, method);
    ck_assert_ptr_nonnull(result.best.inputs);
    double excess, cost = oracle_plan(c.model, c.task, &request, result.best.inputs, &excess);
    ck_assert_double_eq_tol(cost, result.best.objective, 1e-9);
    ck_assert(excess <= 1e-6);
    ck_assert(result.lower_bound <= result.best.objective);
    *ret_best = result.best.objective;
    case_done(&c);
    return result;
}

#define PLANNER "'planner':{'method':'%s','seed':%d,'gap':0}}"

START_TEST(sample__reaches_the_l1_optimum_at_the_edge_of_the_box) {
    double best;
    esp_plan_result result = run(
        "{'horizon':3,'cost':{'stage':[{'on':'y','weight':1,'norm':'l1','target':'goal'}]},'input':{'lower':[-0.3,-0.3],'upper':[0.3,0.3]}," PLANNER,
        methods[_i], 1, &best);
    /* first component .7 + .4 + .1, second there after one step */
    ck_assert_double_eq_tol(best, 1.2, 0.01);
    ck_assert(best >= 1.2 - 1e-9);
    esp_plan_result_done(&result);
}
END_TEST

START_TEST(sample__reaches_the_l2_optimum_inside_the_box) {
    double best;
    esp_plan_result result = run("{'horizon':1,'cost':{'stage':[{'on':'y','weight':1,'norm':'l2sq','target':'goal'},{'on':'u','weight':1,'norm':'"
                                 "l2sq'}]},'input':{'lower':[-2,-2],'upper':[2,2]}," PLANNER,
                                 methods[_i], 1, &best);
    /* min (u - d)^2 + u^2 = d^2 / 2 with d = 1 and 0.2 */
    ck_assert_double_eq_tol(best, 0.52, 1e-3);
    ck_assert(best >= 0.52 - 1e-9);
    esp_plan_result_done(&result);
}
END_TEST

START_TEST(sample__holds_limits_on_y_and_on_the_rate) {
    double best;
    esp_plan_result result = run("{'horizon':3,'cost':{'stage':[{'on':'y','index':[0],'weight':1,'norm':'l1','target':[1]}]},'input':{'lower':[-1,-1]"
                                 ",'upper':[1,1],'rate':[0.2,0.2]},"
                                 "'state':{'upper':[0.5,null]}," PLANNER,
                                 methods[_i], 3, &best);
    /* u(0) = .35 so that u(1) = .15 may stop at the limit: .65 + .5 + .5 */
    ck_assert_double_eq_tol(best, 1.65, 0.02);
    ck_assert(best >= 1.65 - 4e-6);
    esp_plan_result_done(&result);
}
END_TEST

START_TEST(sample__picks_among_values) {
    double best;
    esp_plan_result result =
        run("{'horizon':2,'cost':{'stage':[{'on':'y','weight':1,'norm':'l1','target':'goal'}]},'input':{'lower':[-1,-1],'upper':[1,1],"
            "'values':[[0,0],[0.6,0],[0.5,0.2],[-1,-1]]}," PLANNER,
            methods[_i], 5, &best);
    /* (.5, .2) then (.6, 0): .5 + .1 */
    ck_assert_double_eq_tol(best, 0.6, 1e-9);
    esp_plan_result_done(&result);
}
END_TEST

START_TEST(sample__one_seed_one_plan) {
    static const char *const text =
        "{'horizon':4,'cost':{'stage':[{'on':'y','weight':1,'norm':'l2sq','target':'goal'},{'on':'du','weight':0.3,'norm':'l1'}]},"
        "'input':{'lower':[-0.4,-0.4],'upper':[0.4,0.4]}," PLANNER;
    double first, second, other;
    esp_plan_result a = run(text, methods[_i], 7, &first), b = run(text, methods[_i], 7, &second), c = run(text, methods[_i], 8, &other);
    ck_assert_mem_eq(a.best.inputs, b.best.inputs, 8 * sizeof(double));
    ck_assert(memcmp(a.best.inputs, c.best.inputs, 8 * sizeof(double)) != 0 || _i == 2); /* the first descents draw nothing */
    ck_assert_double_eq_tol(first, other, 0.02 * first);
    esp_plan_result_done(&a);
    esp_plan_result_done(&b);
    esp_plan_result_done(&c);
}
END_TEST

START_TEST(sample__never_worse_than_the_given_start) {
    const double y[] = {0, 1}, goal[] = {1, 1.2}, start[] = {0.3, 0.2, 0.3, 0, 0.3, 0};
    char text[512];
    (void)snprintf(
        text, sizeof text,
        "{'horizon':3,'cost':{'stage':[{'on':'y','weight':1,'norm':'l1','target':'goal'}]},'input':{'lower':[-0.3,-0.3],'upper':[0.3,0.3]}," PLANNER,
        methods[_i], 1);
    plan_case c = case_of(linear_model(2, 2, 1, adder), text);
    esp_plan_request request = {.y = y, .goal = goal, .start = start};
    esp_plan_result result;
    ck_assert_int_eq(case_run(&c, &request, -1, &result, NULL), ESP_OK); /* no time: the start is all there is */
    ck_assert_str_eq(result.best.found_by, "start");
    ck_assert_double_eq_tol(result.best.objective, 1.2, 1e-12);
    esp_plan_result_done(&result);
    case_done(&c);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("sample");
    TCase *tc = tcase_create("sample");
    tcase_set_timeout(tc, 60);
    tcase_add_loop_test(tc, sample__reaches_the_l1_optimum_at_the_edge_of_the_box, 0, 3);
    tcase_add_loop_test(tc, sample__reaches_the_l2_optimum_inside_the_box, 0, 3);
    tcase_add_loop_test(tc, sample__holds_limits_on_y_and_on_the_rate, 0, 3);
    tcase_add_loop_test(tc, sample__picks_among_values, 0, 3);
    tcase_add_loop_test(tc, sample__one_seed_one_plan, 0, 3);
    tcase_add_loop_test(tc, sample__never_worse_than_the_given_start, 0, 3);
    suite_add_tcase(suite, tc);
    return run_suite(suite);
}
