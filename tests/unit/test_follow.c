/* SPDX-License-Identifier: Apache-2.0
 * A closed loop on a model: what an input is asked for with, what is applied, what it costs. */
#include <check.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "plan/follow.h"
#include "plan/verify.h"
#include "support/planning.h"

enum { H = 5 };

#define LIMITS "'input':{'lower':[-1],'upper':[1],'rate':[0.3]}"
#define COST   "'cost':{'stage':[{'on':'y','index':[0],'weight':1,'norm':'l2sq','target':'goal'},{'on':'du','weight':0.1,'norm':'l1'}]}"

/* What the loop asked with, and the gain it is answered by. */
typedef struct driver {
    int n, calls;
    double gain, seen[H][8];
} driver;

static esp_code proportional(void *user, const double *x, int t, double *ret_u, esp_error *reterr) {
    driver *d = user;
    (void)reterr;
    memcpy(d->seen[t], x, (size_t)d->n * sizeof *x);
    d->calls++;
    ret_u[0] = d->gain * (x[d->n - 1] - x[1]); /* the goal less the newest y */
    return ESP_OK;
}

/* history 2: y(t+1) = 1.2 y(t) - 0.3 y(t-1) + 0.4 u(t) + 0.1 u(t-1). */
START_TEST(follow__applies_what_the_limits_allow) {
    static const double w[] = {-0.3, 1.2, 0.1, 0.4}, x[] = {0.1, 0.2, -0.9, 1.5};
    plan_case c = case_of(linear_model(1, 1, 2, w), "{'horizon':5," COST "," LIMITS "}");
    esp_present present = esp_present_of(c.task, 2);
    ck_assert_int_eq(present.n, 4);
    ck_assert_int_eq(present.n_u, 1);
    esp_plan_request request = esp_present_request(&present, x);
    esp_problem *problem = NULL;
    esp_plan plan = {0};
    esp_error error = {0};
    double met[H * 4], y[H + 2] = {x[0], x[1]}, u[H + 1] = {x[2]}, cost = 0;
    int steps = 0;
    driver d = {.n = 4, .gain = 2};
    ck_assert_msg(esp_planner_problem(c.planner, c.task, &request, &problem, &error) == ESP_OK, "%s", error.message);
    ck_assert_int_eq(esp_plan_create(problem, &plan, &error), ESP_OK);
    ck_assert_int_eq(esp_follow(problem, &present, x + 3, proportional, &d, &plan, met, &steps, &error), ESP_OK);
    ck_assert_int_eq(steps, H);
    ck_assert_int_eq(d.calls, H);
    for (int t = 0; t < H; t++) {
        double wanted = 2 * (1.5 - y[t + 1]);
        u[t + 1] = fmin(fmax(fmin(fmax(wanted, u[t] - 0.3), u[t] + 0.3), -1), 1);
        y[t + 2] = -0.3 * y[t] + 1.2 * y[t + 1] + 0.1 * u[t] + 0.4 * u[t + 1];
        cost += (y[t + 2] - 1.5) * (y[t + 2] - 1.5) + 0.1 * fabs(u[t + 1] - u[t]);
        const double before[] = {y[t], y[t + 1], u[t], 1.5}, after[] = {y[t + 1], y[t + 2], u[t + 1], 1.5};
        for (int k = 0; k < 4; k++) {
            ck_assert_double_eq_tol(d.seen[t][k], before[k], 1e-12);
            ck_assert_double_eq_tol(met[4 * t + k], after[k], 1e-12);
        }
        ck_assert_double_eq_tol(plan.inputs[t], u[t + 1], 1e-12);
        ck_assert_double_eq_tol(plan.predicted[t], y[t + 2], 1e-12);
    }
    ck_assert_double_eq_tol(plan.objective, cost, 1e-12);
    ck_assert_double_eq_tol(plan.objective, oracle_plan(c.model, c.task, &request, plan.inputs, &cost), 1e-12);
    ck_assert_double_eq(plan.violation, 0);
    esp_plan_done(&plan);
    esp_problem_free(problem);
    case_done(&c);
}
END_TEST

/* What a present holds: the past inputs only where they matter. */
START_TEST(present__holds_what_an_answer_depends_on) {
    static const double w[] = {1, 0.5};
    plan_case plain =
        case_of(linear_model(1, 1, 1, w), "{'horizon':2,'cost':{'stage':[{'on':'y','weight':1,'norm':'l1'}]},'input':{'lower':[-1],'upper':[1]}}");
    plan_case rated = case_of(linear_model(1, 1, 1, w), "{'horizon':2," COST "," LIMITS "}");
    static const double x[] = {0.5, -0.5, 2};
    esp_present a = esp_present_of(plain.task, 1), b = esp_present_of(rated.task, 1);
    ck_assert_int_eq(a.n, 1);
    ck_assert_int_eq(b.n, 3);
    esp_plan_request request = esp_present_request(&a, x);
    ck_assert_int_eq(request.n_u, 0);
    ck_assert_ptr_null(request.goal);
    request = esp_present_request(&b, x);
    ck_assert_int_eq(request.n_u, 1);
    ck_assert_double_eq(request.y[0], 0.5);
    ck_assert_double_eq(request.u[0], -0.5);
    ck_assert_double_eq(request.goal[0], 2);
    case_done(&plain);
    case_done(&rated);
}
END_TEST

static esp_code at_most_three(void *user, const double *x, int t, double *ret_u, esp_error *reterr) {
    int *calls = user;
    (void)x;
    ++*calls;
    if (t == 3) return esp_fail(reterr, ESP_CANCELLED, "cancelled");
    ret_u[0] = NAN; /* counts as 0 */
    return ESP_OK;
}

/* A failure of the input ends the loop; leaving the numbers ends it too, with what was met before. */
START_TEST(follow__ends_early) {
    static const double wild[] = {1e200, 1}, x[] = {1};
    plan_case c =
        case_of(linear_model(1, 1, 1, wild), "{'horizon':5,'cost':{'stage':[{'on':'y','weight':1,'norm':'l1'}]},'input':{'lower':[-1],'upper':[1]}}");
    esp_present present = esp_present_of(c.task, 1);
    esp_plan_request request = esp_present_request(&present, x);
    esp_problem *problem = NULL;
    esp_plan plan = {0};
    esp_error error = {0};
    double met[H];
    int steps = -1, calls = 0;
    ck_assert_int_eq(esp_planner_problem(c.planner, c.task, &request, &problem, &error), ESP_OK);
    ck_assert_int_eq(esp_plan_create(problem, &plan, &error), ESP_OK);
    ck_assert_int_eq(esp_follow(problem, &present, NULL, at_most_three, &calls, &plan, met, &steps, &error), ESP_OK);
    ck_assert_int_eq(steps, 1); /* 1e200, then no number */
    ck_assert_double_eq(met[0], 1e200);
    ck_assert(isinf(plan.violation));
    esp_plan_done(&plan);
    esp_problem_free(problem);
    case_done(&c);
    static const double tame[] = {0.5, 1};
    c = case_of(linear_model(1, 1, 1, tame), "{'horizon':5,'cost':{'stage':[{'on':'y','weight':1,'norm':'l1'}]},'input':{'lower':[-1],'upper':[1]}}");
    ck_assert_int_eq(esp_planner_problem(c.planner, c.task, &request, &problem, &error), ESP_OK);
    ck_assert_int_eq(esp_plan_create(problem, &plan, &error), ESP_OK);
    steps = -1;
    ck_assert_int_eq(esp_follow(problem, &present, NULL, at_most_three, &calls, &plan, NULL, &steps, &error), ESP_CANCELLED);
    ck_assert_int_eq(steps, -1);
    esp_plan_done(&plan);
    esp_problem_free(problem);
    case_done(&c);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("follow");
    TCase *tc = tcase_create("follow");
    tcase_add_test(tc, follow__applies_what_the_limits_allow);
    tcase_add_test(tc, present__holds_what_an_answer_depends_on);
    tcase_add_test(tc, follow__ends_early);
    suite_add_tcase(suite, tc);
    return run_suite(suite);
}
