/* SPDX-License-Identifier: Apache-2.0
 * The planning stage: methods, statuses, limits, streams and refusals on problems whose answer is known. */
#include <check.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "support/planning.h"

static const double adder[] = {1, 1}; /* y+ = y + u */

static void run(plan_case *c, const esp_plan_request *request, double seconds, esp_plan_result *ret_result) {
    esp_error error = {0};
    esp_code code = case_run(c, request, seconds, ret_result, &error);
    ck_assert_msg(code == ESP_OK, "%s: %s", error.pointer, error.message);
    if (!ret_result->best.inputs) return;
    double excess, cost = oracle_plan(c->model, c->task, request, ret_result->best.inputs, &excess);
    ck_assert_double_eq_tol(cost, ret_result->best.objective, 1e-9 * (1 + fabs(cost)));
    ck_assert(excess <= 2e-6);
    ck_assert(ret_result->lower_bound <= ret_result->best.objective);
    ck_assert_double_eq_tol(ret_result->gap, (ret_result->best.objective - ret_result->lower_bound) / fmax(fabs(ret_result->best.objective), 1e-9),
                            1e-12);
}

static void expect_optimal(const esp_plan_result *r, double objective, double gap) {
    ck_assert_int_eq(r->status, ESP_PLAN_OPTIMAL);
    ck_assert_double_eq_tol(r->best.objective, objective, gap * (1 + fabs(objective)));
    ck_assert(r->lower_bound <= objective + 1e-6);
    ck_assert(r->ranges_sound);
}

/* y1+ = |u|, y2+ = u, by two ReLUs on top of y+ = y + f: f1 = relu(u) + relu(-u) - y1, f2 = u - y2. The terms in y
 * pass through pairs of ReLUs. */
static esp_model *absolute_model(void) {
    const double w1[] = {0, 0, 1, 0, 0, -1, 1, 0, 0, -1, 0, 0, 0, 1, 0, 0, -1, 0}, b1[6] = {0}, b2[2] = {0};
    const double w2[] = {1, 1, -1, 1, 0, 0, 1, -1, 0, 0, -1, 1};
    return residual_model(2, 1, 6, w1, b1, w2, b2);
}

static const double origin[2] = {0};

START_TEST(plan__proves_the_optimum_of_a_kinked_cost) {
    /* reach |u| = 0.5 while u is pulled to 0.2: costs 2 * .3 by giving u */
    plan_case c = case_of(
        absolute_model(),
        "{'horizon':2,'cost':{'stage':[{'on':'y','index':[0],'weight':1,'norm':'l1','target':[0.5]},{'on':'y','index':[1],'weight':2,'norm':'l1',"
        "'target':[-0.2]}]},'input':{'lower':[-1],'upper':[1]},'planner':{'engine':'cbc','gap':0.0001}}");
    esp_plan_request request = {.y = origin};
    esp_plan_result r;
    run(&c, &request, INFINITY, &r);
    expect_optimal(&r, 0.6, 1e-4);
    ck_assert_double_eq_tol(r.best.inputs[0], -0.2, 1e-4);
    ck_assert_str_eq(r.method, "mip/cbc");
    esp_plan_result_done(&r);
    case_done(&c);
}
END_TEST

START_TEST(plan__is_not_held_by_its_start) {
    static const double starts[][2] = {{-0.2, -0.2}, {0.5, 0.5}, {1, -1}, {9, -9}};
    plan_case c = case_of(
        absolute_model(),
        "{'horizon':2,'cost':{'stage':[{'on':'y','index':[0],'weight':1,'norm':'l1','target':[0.5]},{'on':'y','index':[1],'weight':2,'norm':'l1',"
        "'target':[-0.2]}]},'input':{'lower':[-1],'upper':[1]},'planner':{'engine':'tree','gap':0.0001}}");
    for (size_t k = 0; k < sizeof starts / sizeof *starts; k++) {
        esp_plan_request request = {.y = origin, .start = starts[k]};
        esp_plan_result r;
        run(&c, &request, INFINITY, &r);
        expect_optimal(&r, 0.6, 1e-4);
        esp_plan_result_done(&r);
    }
    case_done(&c);
}
END_TEST

START_TEST(plan__proves_the_optimum_of_a_square) {
    /* (u0 - 1)^2 + (u0 + u1 - 1)^2 + 2 (u0^2 + u1^2): stationary at u0 = 5/11, u1 = 2/11 */
    plan_case c = case_of(linear_model(1, 1, 1, adder),
                          "{'horizon':2,'cost':{'stage':[{'on':'y','weight':1,'norm':'l2sq','target':'goal'},{'on':'u','weight':2,'norm':'l2sq'}]},"
                          "'input':{'lower':[-3],'upper':[3]},'planner':{'gap':0.0001}}");
    const double y[] = {0}, goal[] = {1};
    esp_plan_request request = {.y = y, .goal = goal};
    esp_plan_result r;
    run(&c, &request, INFINITY, &r);
    double u0 = 5.0 / 11, u1 = 2.0 / 11, best = (u0 - 1) * (u0 - 1) + (u0 + u1 - 1) * (u0 + u1 - 1) + 2 * (u0 * u0 + u1 * u1);
    expect_optimal(&r, best, 1e-4);
    esp_plan_result_done(&r);
    case_done(&c);
}
END_TEST

START_TEST(plan__proves_the_optimum_of_a_square_over_kinks) {
    /* (|u| - .5)^2 + (u + .2)^2 is least on the negative side at u = -.35 */
    plan_case c =
        case_of(absolute_model(),
                "{'horizon':1,'cost':{'stage':[{'on':'y','weight':1,'norm':'l2sq','target':[0.5,-0.2]}]},'input':{'lower':[-1],'upper':[1]},"
                "'planner':{'gap':0.0001}}");
    esp_plan_request request = {.y = origin};
    esp_plan_result r;
    run(&c, &request, INFINITY, &r);
    expect_optimal(&r, 0.045, 1e-4);
    ck_assert_double_eq_tol(r.best.inputs[0], -0.35, 0.01);
    esp_plan_result_done(&r);
    case_done(&c);
}
END_TEST

START_TEST(plan__without_time_says_what_the_starts_give) {
    plan_case c =
        case_of(absolute_model(),
                "{'horizon':2,'cost':{'stage':[{'on':'y','weight':1,'norm':'l1','target':[0.5,-0.5]}]},'input':{'lower':[-1],'upper':[1]}}");
    esp_plan_request request = {.y = origin};
    esp_plan_result r;
    run(&c, &request, -1, &r);
    ck_assert_int_eq(r.status, ESP_PLAN_FEASIBLE);
    ck_assert_double_eq(r.best.objective, 2);
    ck_assert_double_eq(r.lower_bound, 0);
    esp_plan_result_done(&r);
    case_done(&c);
}
END_TEST

/* y+ = u, from 2 where the limit holds: the next y is at most 1 */
static const double setter[] = {0, 1}, two[] = {2};
static const char *const far_away =
    "{'horizon':1,'cost':{'stage':[{'on':'y','weight':1,'norm':'l1'}]},'input':{'lower':[-1],'upper':[1]},'state':{'lower':[%g]}}";

START_TEST(plan__without_time_and_plan_is_unknown) {
    char text[256];
    (void)snprintf(text, sizeof text, far_away, 0.9);
    plan_case c = case_of(linear_model(1, 1, 1, setter), text);
    esp_plan_request request = {.y = two};
    esp_plan_result r;
    run(&c, &request, -1, &r);
    ck_assert_int_eq(r.status, ESP_PLAN_UNKNOWN);
    ck_assert_ptr_null(r.best.inputs);
    ck_assert(isnan(r.gap));
    run(&c, &request, INFINITY, &r); /* with time there is one */
    expect_optimal(&r, 0.9, 0.01);
    esp_plan_result_done(&r);
    case_done(&c);
}
END_TEST

START_TEST(plan__infeasible_by_ranges) {
    char text[256];
    (void)snprintf(text, sizeof text, far_away, 1.1);
    plan_case c = case_of(linear_model(1, 1, 1, setter), text);
    esp_plan_request request = {.y = two};
    esp_plan_result r;
    run(&c, &request, INFINITY, &r);
    ck_assert_int_eq(r.status, ESP_PLAN_INFEASIBLE);
    ck_assert_ptr_null(r.best.inputs);
    esp_plan_result_done(&r);
    case_done(&c);
}
END_TEST

START_TEST(plan__infeasible_by_the_relaxation) {
    /* y1 + y2 >= 1.1 against y1 - y2 >= 1.1, each within reach of the ranges, not both of |u| and u */
    plan_case c = case_of(absolute_model(), "{'horizon':1,'cost':{'stage':[{'on':'u','weight':1,'norm':'l1'}]},'input':{'lower':[-1],'upper':[1]},"
                                            "'state':{'halfspaces':[{'a':[-1,-1],'b':-1.1},{'a':[-1,1],'b':-1.1}]}}");
    const double y[] = {3, 0};
    esp_plan_request request = {.y = y};
    esp_plan_result r;
    run(&c, &request, INFINITY, &r);
    ck_assert_int_eq(r.status, ESP_PLAN_INFEASIBLE);
    esp_plan_result_done(&r);
    case_done(&c);
}
END_TEST

START_TEST(plan__infeasible_by_search) {
    /* |u| <= .4 and u not in (-.5, .5): the relaxation allows both, no phase does */
    plan_case c = case_of(absolute_model(), "{'horizon':1,'cost':{'stage':[{'on':'u','weight':1,'norm':'l1'}]},'input':{'lower':[-1],'upper':[1]},"
                                            "'state':{'upper':[0.4,null],'avoid':[{'index':[1],'lower':[-0.5],'upper':[0.5]}]}}");
    const double y[] = {0, 0.7};
    esp_plan_request request = {.y = y};
    esp_plan_result r;
    run(&c, &request, INFINITY, &r);
    ck_assert_int_eq(r.status, ESP_PLAN_INFEASIBLE);
    esp_plan_result_done(&r);
    run(&c, &request, -1, &r); /* and without time it is not said */
    ck_assert_int_eq(r.status, ESP_PLAN_UNKNOWN);
    esp_plan_result_done(&r);
    case_done(&c);
}
END_TEST

START_TEST(plan__infeasible_when_the_rate_cannot_reach_the_box) {
    plan_case c = case_of(linear_model(1, 1, 1, adder),
                          "{'horizon':2,'cost':{'stage':[{'on':'u','weight':1,'norm':'l1'}]},'input':{'lower':[-1],'upper':[1],'rate':[0.5]},"
                          "'planner':{'method':'cem'}}");
    const double near[] = {1.4}, far[] = {1.6};
    esp_plan_request request = {.y = origin, .u = far, .n_u = 1};
    esp_plan_result r;
    run(&c, &request, INFINITY, &r);
    ck_assert_int_eq(r.status, ESP_PLAN_INFEASIBLE);
    esp_plan_result_done(&r);
    request.u = near;
    run(&c, &request, INFINITY, &r);
    ck_assert_ptr_nonnull(r.best.inputs);
    ck_assert(r.best.inputs[0] >= 0.9 - 1e-8 && r.best.inputs[0] <= 1);
    esp_plan_result_done(&r);
    case_done(&c);
}
END_TEST

START_TEST(plan__goes_round_a_box) {
    /* two dimensions, y+ = y + u, |u| <= .5: from (0, 0) to (1, 0) past (.2 .. .8) x (-.3 .. .3), in four steps */
    const double w[] = {1, 0, 1, 0, 0, 1, 0, 1};
    plan_case c =
        case_of(linear_model(2, 2, 1, w),
                "{'horizon':4,'cost':{'stage':[{'on':'y','weight':1,'norm':'l1','target':[1,0]}]},'input':{'lower':[-0.5,-0.5],'upper':[0.5,0.5]},"
                "'state':{'avoid':[{'index':[0,1],'lower':[0.2,-0.3],'upper':[0.8,0.3]}]},'planner':{'gap':0.001}}");
    esp_plan_request request = {.y = origin};
    esp_plan_result r;
    run(&c, &request, INFINITY, &r);
    /* steps may jump over the box only if longer than it: x after one step .5 needs |y| >= .3: (.5, .3), (1, 0) */
    expect_optimal(&r, 0.8, 1e-3);
    esp_plan_result_done(&r);
    case_done(&c);
}
END_TEST

START_TEST(plan__keeps_to_values_and_rate) {
    plan_case c = case_of(linear_model(1, 1, 1, adder),
                          "{'horizon':3,'cost':{'stage':[{'on':'y','weight':1,'norm':'l1','target':[1]},{'on':'du','weight':0.1,'norm':'l1'}]},"
                          "'input':{'lower':[-1],'upper':[1],'values':[[-1],[-0.25],[0],[0.25],[0.5],[1]],'rate':[0.5]},'planner':{'gap':0.0001}}");
    const double y[] = {0}, last[] = {0};
    esp_plan_request request = {.y = y, .u = last, .n_u = 1};
    esp_plan_result r;
    run(&c, &request, INFINITY, &r);
    /* .5, .5, 0: .5 + 0 + 0 and .1 (.5 + 0 + .5) */
    expect_optimal(&r, 0.6, 1e-4);
    ck_assert(r.best.inputs[0] == 0.5 && r.best.inputs[1] == 0.5 && r.best.inputs[2] == 0);
    esp_plan_result_done(&r);
    case_done(&c);
}
END_TEST

START_TEST(plan__reads_the_window_of_a_history) {
    /* y(t+1) = y(t-1) + u(t-1): the first input acts at the second step */
    const double w[] = {1, 0, 1, 0}, y[] = {0.3, 0.7}, u[] = {0.1};
    plan_case c = case_of(linear_model(1, 1, 2, w),
                          "{'horizon':3,'cost':{'stage':[{'on':'y','weight':1,'norm':'l1'}],'terminal':[{'on':'u','weight':1,'norm':'l1'}]},"
                          "'input':{'lower':[-1],'upper':[1]},'planner':{'gap':0.0001}}");
    esp_plan_request request = {.y = y, .u = u, .n_u = 1};
    esp_plan_result r;
    run(&c, &request, INFINITY, &r);
    expect_optimal(&r, 0.4, 1e-4); /* y(1) = .4, the rest can be steered to 0 */
    ck_assert_double_eq_tol(r.best.inputs[0], -0.7, 1e-3);
    esp_plan_result_done(&r);
    request.n_u = 0;
    esp_error error = {0};
    ck_assert_int_eq(case_run(&c, &request, 1, &r, &error), ESP_INVALID);
    ck_assert_str_eq(error.pointer, "/u");
    case_done(&c);
}
END_TEST

START_TEST(plan__data_ranges_are_never_optimal) {
    const double lower[] = {-0.2, -9}, upper[] = {0.2, 9}, goal[] = {1};
    plan_case c = case_of(linear_model(1, 1, 1, adder),
                          "{'horizon':2,'cost':{'stage':[{'on':'y','weight':1,'norm':'l1','target':'goal'}]},'input':{'lower':[-1],'upper':[1]},"
                          "'trust_region':{'kind':'data','margin':0.25}}");
    esp_plan_request request = {.y = origin, .goal = goal};
    esp_plan_result r;
    esp_error error = {0};
    ck_assert_int_eq(case_run(&c, &request, 1, &r, &error), ESP_UNPROCESSABLE); /* the data box is not known */
    ck_assert_str_eq(error.pointer, "/trust_region/kind");
    esp_planner_free(c.planner);
    ck_assert_int_eq(esp_planner_create(c.model, lower, upper, &c.planner, NULL), ESP_OK);
    run(&c, &request, INFINITY, &r);
    ck_assert_int_eq(r.status, ESP_PLAN_FEASIBLE);
    ck_assert(!r.ranges_sound);
    ck_assert_double_eq_tol(r.best.objective, 1.4, 1e-4); /* y <= .2 + .25 * .4 */
    esp_plan_result_done(&r);
    case_done(&c);
}
END_TEST

START_TEST(plan__requests_are_checked) {
    plan_case c = case_of(linear_model(1, 1, 1, adder),
                          "{'horizon':2,'cost':{'stage':[{'on':'y','weight':1,'norm':'l1','target':'goal'}]},'input':{'lower':[-1],'upper':[1]}}");
    const double good[] = {0, 0}, bad[] = {INFINITY, NAN};
    esp_plan_request requests[] = {{.y = good},
                                   {.y = bad, .goal = good},
                                   {.y = good, .goal = bad},
                                   {.y = good, .goal = good, .u = bad, .n_u = 1},
                                   {.y = good, .goal = good, .start = bad}};
    const char *const pointers[] = {"/goal", "/y", "/goal", "/u", "/start"};
    for (int i = 0; i < 5; i++) {
        esp_plan_result r;
        esp_error error = {0};
        ck_assert_int_eq(case_run(&c, &requests[i], 1, &r, &error), ESP_INVALID);
        ck_assert_str_eq(error.pointer, pointers[i]);
    }
    case_done(&c);
}
END_TEST

START_TEST(plan__engine_asked_for_is_used_or_refused) {
    static const char *const text =
        "{'horizon':2,'cost':{'stage':[{'on':'y','weight':1,'norm':'%s','target':[0.5,-0.2]}]},'input':{'lower':[-1],'upper':[1]%s},"
        "'planner':{'engine':'%s','gap':0.001}%s}";
    static const struct {
        const char *norm, *values, *engine, *state, *method;
    } asked[] = {{"l1", "", "tree", "", "mip/tree"},
                 {"linf", "", "cbc", "", "mip/cbc"},
                 {"l2sq", "", "tree", "", "mip/tree"},
                 {"l2sq", "", "cbc", "", "mip/cbc"},
                 {"l1", ",'values':[[0],[0.5]]", "tree", "", NULL},
                 {"l1", "", "tree", ",'state':{'avoid':[{'index':[0],'lower':[0.1],'upper':[0.2]}]}", NULL},
                 {"l2sq", "", "auto", "", "mip/tree"}};
    for (size_t i = 0; i < sizeof asked / sizeof *asked; i++) {
        char task[512];
        (void)snprintf(task, sizeof task, text, asked[i].norm, asked[i].values, asked[i].engine, asked[i].state);
        plan_case c = case_of(absolute_model(), task);
        esp_plan_request request = {.y = origin};
        esp_plan_result r;
        esp_error error = {0};
        esp_code code = case_run(&c, &request, INFINITY, &r, &error);
        ck_assert_int_eq(code, asked[i].method ? ESP_OK : ESP_UNPROCESSABLE);
        if (asked[i].method) {
            ck_assert_str_eq(r.method, asked[i].method);
            ck_assert_int_eq(r.status, ESP_PLAN_OPTIMAL);
            esp_plan_result_done(&r);
        } else {
            ck_assert_str_eq(error.pointer, "/planner/engine");
        }
        case_done(&c);
    }
}
END_TEST

START_TEST(plan__needs_a_dynamics_model_with_inputs) {
    esp_error error = {0};
    esp_planner *planner = NULL;
    int widths[2] = {1, 1};
    esp_net *net = NULL;
    esp_model *policy = NULL;
    ck_assert_int_eq(esp_net_create(1, widths, &net, NULL), ESP_OK);
    ck_assert_int_eq(esp_model_create(ESP_MODEL_POLICY, 1, 1, 1, NULL, net, &policy, &error), ESP_OK);
    ck_assert_int_eq(esp_planner_create(policy, NULL, NULL, &planner, &error), ESP_UNPROCESSABLE);
    ck_assert_str_eq(error.pointer, "/model");
    esp_model_free(policy);
}
END_TEST

typedef struct heard {
    int plans;
    double plan, bound;
    int left; /* cancels when this many plans were heard; < 0 never */
} heard;

static void hear_plan(void *user, const esp_plan *plan, int64_t nodes) {
    heard *h = user;
    ck_assert(plan->objective < h->plan && plan->violation == 0 && nodes >= 0);
    h->plan = plan->objective;
    h->plans++;
}

static void hear_bound(void *user, double bound) {
    heard *h = user;
    ck_assert(bound > h->bound && bound <= h->plan);
    h->bound = bound;
}

static bool had_enough(void *user) {
    const heard *h = user;
    return h->left >= 0 && h->plans >= h->left;
}

static const char *const kinked =
    "{'horizon':3,'cost':{'stage':[{'on':'y','weight':1,'norm':'l1','target':[0.5,-0.2]},{'on':'du','weight':0.2,'norm':'l2sq'}]},"
    "'input':{'lower':[-1],'upper':[1]},'planner':{'gap':0.0001}}";

START_TEST(plan__streams_what_it_returns) {
    plan_case c = case_of(absolute_model(), kinked);
    esp_plan_request request = {.y = origin};
    heard h = {.plan = INFINITY, .bound = -INFINITY, .left = -1};
    esp_plan_hooks hooks = {&h, hear_plan, hear_bound, NULL};
    esp_plan_result r;
    ck_assert_int_eq(esp_plan_run(c.planner, c.task, &request, &hooks, NULL, &r, NULL), ESP_OK);
    ck_assert_int_eq(r.status, ESP_PLAN_OPTIMAL);
    ck_assert(h.plans > 1);
    ck_assert_double_eq(h.plan, r.best.objective);
    ck_assert_double_eq(h.bound, r.lower_bound);
    esp_plan_result_done(&r);
    case_done(&c);
}
END_TEST

START_TEST(plan__cancelled_keeps_what_it_has) {
    plan_case c = case_of(absolute_model(), kinked);
    esp_plan_request request = {.y = origin};
    heard h = {.plan = INFINITY, .bound = -INFINITY, .left = 2};
    esp_plan_hooks hooks = {&h, hear_plan, hear_bound, NULL};
    esp_stop stop = {.deadline_ns = ESP_NEVER, .cancelled = had_enough, .user = &h};
    esp_plan_result r;
    ck_assert_int_eq(esp_plan_run(c.planner, c.task, &request, &hooks, &stop, &r, NULL), ESP_OK);
    ck_assert_int_eq(r.status, ESP_PLAN_FEASIBLE);
    ck_assert_int_eq(h.plans, 2);
    ck_assert_double_eq(h.plan, r.best.objective);
    esp_plan_result_done(&r);
    case_done(&c);
}
END_TEST

START_TEST(plan__planner_is_reusable) {
    plan_case c = case_of(absolute_model(), kinked),
              longer = case_of(absolute_model(), "{'horizon':5,'cost':{'stage':[{'on':'y','weight':1,'norm':'l1','target':[0.5,-0.2]}]},"
                                                 "'input':{'lower':[-1],'upper':[1]},'planner':{'method':'cem'}}");
    esp_plan_request request = {.y = origin};
    esp_plan_result first, other, again;
    run(&c, &request, INFINITY, &first);
    ck_assert_int_eq(esp_plan_run(c.planner, longer.task, &request, NULL, NULL, &other, NULL), ESP_OK);
    run(&c, &request, INFINITY, &again);
    ck_assert_mem_eq(first.best.inputs, again.best.inputs, 3 * sizeof(double));
    ck_assert_double_eq(first.lower_bound, again.lower_bound);
    esp_plan_result_done(&first);
    esp_plan_result_done(&other);
    esp_plan_result_done(&again);
    case_done(&c);
    case_done(&longer);
}
END_TEST

static void add_answers(TCase *tc) {
    tcase_add_test(tc, plan__proves_the_optimum_of_a_kinked_cost);
    tcase_add_test(tc, plan__is_not_held_by_its_start);
    tcase_add_test(tc, plan__proves_the_optimum_of_a_square);
    tcase_add_test(tc, plan__proves_the_optimum_of_a_square_over_kinks);
    tcase_add_test(tc, plan__without_time_says_what_the_starts_give);
    tcase_add_test(tc, plan__without_time_and_plan_is_unknown);
    tcase_add_test(tc, plan__infeasible_by_ranges);
    tcase_add_test(tc, plan__infeasible_by_the_relaxation);
    tcase_add_test(tc, plan__infeasible_by_search);
    tcase_add_test(tc, plan__infeasible_when_the_rate_cannot_reach_the_box);
    tcase_add_test(tc, plan__goes_round_a_box);
    tcase_add_test(tc, plan__keeps_to_values_and_rate);
    tcase_add_test(tc, plan__reads_the_window_of_a_history);
    tcase_add_test(tc, plan__data_ranges_are_never_optimal);
}

int main(void) {
    Suite *suite = suite_create("plan");
    TCase *tc = tcase_create("plan");
    tcase_set_timeout(tc, 60);
    add_answers(tc);
    tcase_add_test(tc, plan__requests_are_checked);
    tcase_add_test(tc, plan__engine_asked_for_is_used_or_refused);
    tcase_add_test(tc, plan__needs_a_dynamics_model_with_inputs);
    tcase_add_test(tc, plan__streams_what_it_returns);
    tcase_add_test(tc, plan__cancelled_keeps_what_it_has);
    tcase_add_test(tc, plan__planner_is_reusable);
    suite_add_tcase(suite, tc);
    return run_suite(suite);
}
