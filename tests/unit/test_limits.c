/* SPDX-License-Identifier: Apache-2.0
 * Every kind of limit, hard and soft, against brute force: grids of inputs that close in on the best, or all values, through the tests' own
 * replay, cost and limits (support/planning.h), on a model of two outputs, one input and three ReLUs. Each limit must
 * bite - the best plan without it is cheaper - and each engine that takes it must find what the grid finds. */
#include <check.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "support/models.h"
#include "support/planning.h"

#define GAP  1e-4
#define GRID 30 /* intervals of each input's range */
#define ZOOM 3 /* finer grids around the best point, each a fifth as wide */

static const double present[] = {0.4, -0.3}, last[] = {-0.5};

/* y+ = y + W2 relu(W1 [y, u] + b1): bent in the input and in both outputs. */
static esp_model *bent_model(void) {
    const double w1[] = {0.3, 0, 1, -0.2, 0.4, -1, 0, 0.5, 0.8}, b1[] = {0.1, 0.2, -0.1}, w2[] = {0.8, -0.6, 0.1, 0.2, 0.5, -0.4}, b2[] = {0, 0};
    return residual_model(2, 1, 3, w1, b1, w2, b2);
}

#define COST "'cost':{'stage':[{'on':'y','weight':[1,0.5],'norm':'l1','target':[1.5,0]}],'terminal':[{'on':'u','weight':0.05,'norm':'l1'}]}"

/* A task of two steps; `input` and `rest` begin with a comma when they are not empty. */
static plan_case open_case(const char *input, const char *rest, const char *engine) {
    esp_buf text = {0};
    esp_buf_printf(&text, "{'horizon':2," COST ",'input':{%s}%s,'planner':{'engine':'%s','gap':%g}}", input, rest, engine, GAP);
    plan_case c = case_of(bent_model(), esp_buf_text(&text));
    esp_buf_done(&text);
    return c;
}

/* The k-th input to try around `centre`. */
static double candidate(const esp_task *task, int k, double centre, double share) {
    if (task->values) return task->values[k];
    double width = share * (task->u_upper[0] - task->u_lower[0]);
    return fmin(fmax(centre + width * ((double)k / GRID - 0.5), task->u_lower[0]), task->u_upper[0]);
}

/* Least cost over grids that close in on it; INFINITY when no point of the first is inside. */
static double brute_force(const plan_case *c, const esp_plan_request *request) {
    const esp_task *task = c->task;
    double middle = 0.5 * (task->u_lower[0] + task->u_upper[0]), best = INFINITY, at[2] = {middle, middle}, share = 1;
    int n = task->values ? task->n_values : GRID + 1;
    ck_assert(task->horizon == 2 && task->nu == 1);
    for (int round = 0; round <= ZOOM; round++, share *= 0.2) {
        double centre[2] = {at[0], at[1]}, u[2], excess;
        for (int k = 0; k < n * n; k++) {
            u[0] = candidate(task, k % n, centre[0], share);
            u[1] = candidate(task, k / n, centre[1], share);
            double cost = oracle_plan(c->model, task, request, u, &excess);
            if (excess > 1e-12 || cost >= best) continue;
            best = cost;
            memcpy(at, u, sizeof at);
        }
    }
    return best;
}

static esp_plan_result run(plan_case *c, const esp_plan_request *request) {
    esp_plan_result r = {0};
    esp_error error = {0};
    ck_assert_msg(case_run(c, request, INFINITY, &r, &error) == ESP_OK, "%s: %s", error.pointer, error.message);
    return r;
}

/* The parts of the slack go together; what it sums to is the oracle's matter. */
static void check_slack(const esp_plan *plan) {
    double total = 0, most = 0;
    for (int t = 0; t < plan->horizon; t++) {
        ck_assert(plan->slack.steps[t] >= 0);
        total += plan->slack.steps[t];
        most = fmax(most, plan->slack.steps[t]);
    }
    ck_assert_double_eq_tol(plan->slack.total, total, 1e-12 * (1 + total));
    ck_assert(plan->slack.max <= most && plan->slack.max * (plan->slack.n_limits > 1 ? plan->slack.n_limits : 1) >= most - 1e-12);
    ck_assert_double_eq_tol(plan->objective, plan->cost + plan->slack.penalty * total, 1e-12 * (1 + plan->objective));
}

/* A plan of the engine: what it says is so by the oracle, and the grid has none that is better by more than the gap. */
static void check_plan(const plan_case *c, const esp_plan_request *request, const esp_plan_result *r, double best, esp_plan_status status,
                       const char *what) {
    double excess, cost;
    ck_assert_msg(r->status == status, "%s: %s", what, esp_plan_status_names[r->status]);
    cost = oracle_plan(c->model, c->task, request, r->best.inputs, &excess);
    ck_assert_msg(excess <= 4e-6, "%s: outside by %g", what, excess);
    ck_assert_msg(fabs(cost - r->best.objective) <= 1e-9 * (1 + cost), "%s: cost %.12g is %.12g", what, r->best.objective, cost);
    ck_assert_msg(cost <= best + GAP * best + 1e-5, "%s: costs %.9g, the grid %.9g", what, cost, best);
    ck_assert_msg(r->lower_bound <= best + 1e-9, "%s: bound %.9g, the grid %.9g", what, r->lower_bound, best);
    check_slack(&r->best);
}

typedef struct limit_case {
    const char *input, *rest;
    bool tree; /* the tree search takes it */
    bool bites;
} limit_case;

#define WIDE "'lower':[-1],'upper':[1]"

static const limit_case hard[] = {
    {"'lower':[-0.4],'upper':[0.35]", "", true, true},
    {WIDE ",'rate':[0.25]", "", true, true},
    {WIDE ",'values':[[-0.9],[-0.3],[0.2],[0.55]]", "", false, true},
    {WIDE ",'values':[[-0.9],[-0.3],[0.2],[0.55]],'rate':[0.75]", "", false, true},
    {WIDE, ",'state':{'upper':[0.9,null]}", true, true},
    {WIDE, ",'state':{'lower':[null,-0.45],'upper':[2,-0.2]}", true, true},
    {WIDE, ",'state':{'halfspaces':[{'a':[1,-1],'b':1.1}]}", true, true},
    {WIDE, ",'state':{'halfspaces':[{'a':[30,0],'b':36},{'a':[0,-2],'b':0.9}]}", true, true},
    {WIDE, ",'state':{'avoid':[{'index':[0],'lower':[1.35],'upper':[1.6]}]}", false, true},
    {WIDE, ",'state':{'avoid':[{'index':[0,1],'lower':[1.3,-0.5],'upper':[1.7,0.1]}]}", false, true},
    {WIDE, ",'trust_region':{'kind':'none'}", true, false},
    {WIDE, ",'trust_region':{'kind':'box','lower':[-1,-2],'upper':[1,2]}", true, true},
    {WIDE, ",'state':{'upper':[1.2,null]},'trust_region':{'kind':'box','lower':[-9,-0.4],'upper':[9,9]}", true, true},
};

static void check_engines(const limit_case *one, const esp_plan_request *request, int softened, bool feasible) {
    static const char *const engines[] = {"cbc", "tree"};
    for (int e = 0; e < (one->tree ? 2 : 1); e++) {
        plan_case c = open_case(one->input, one->rest, engines[e]);
        double best = brute_force(&c, request);
        ck_assert_msg(isfinite(best) == feasible, "%s: the grid says %g", one->rest, best);
        esp_plan_result r = run(&c, request);
        if (feasible) {
            check_plan(&c, request, &r, best, ESP_PLAN_OPTIMAL, *one->rest ? one->rest : one->input);
            ck_assert_int_eq(r.best.slack.n_limits, softened);
        } else {
            ck_assert_msg(r.status == ESP_PLAN_INFEASIBLE, "%s by %s: %s", one->rest, engines[e], esp_plan_status_names[r.status]);
            ck_assert_ptr_null(r.best.inputs);
        }
        esp_plan_result_done(&r);
        case_done(&c);
    }
}

START_TEST(limits__hold_as_the_grid_says) {
    const limit_case *one = &hard[_i];
    esp_plan_request request = {.y = present, .u = last, .n_u = 1};
    plan_case c = open_case(one->input, one->rest, "auto"), free_case = open_case(WIDE, "", "auto");
    double best = brute_force(&c, &request), unlimited = brute_force(&free_case, &request);
    ck_assert_msg(one->bites ? best > unlimited + 0.01 : fabs(best - unlimited) <= 1e-9, "%s%s: %g with, %g without", one->input, one->rest, best,
                  unlimited);
    case_done(&c);
    case_done(&free_case);
    check_engines(one, &request, 0, true);
}
END_TEST

/* Without a known last input a rate counts from the second step on. */
START_TEST(limits__a_rate_needs_a_last_input_to_hold_at_once) {
    esp_plan_request known = {.y = present, .u = last, .n_u = 1}, unknown = {.y = present};
    plan_case c = open_case(hard[1].input, "", "auto");
    ck_assert(brute_force(&c, &unknown) < brute_force(&c, &known) - 0.01);
    case_done(&c);
    check_engines(&hard[1], &unknown, 0, true);
}
END_TEST

/* The same limits as a box: data -0.5 .. 0.5 and a quarter of its width more, and so on. */
START_TEST(limits__a_data_box_holds_with_its_margin) {
    static const char *const engines[] = {"cbc", "tree"};
    const double lower[] = {-0.5, -0.5, -9}, upper[] = {0.5, 0.7, 9};
    esp_plan_request request = {.y = present, .u = last, .n_u = 1};
    for (int e = 0; e < 2; e++) {
        plan_case c = open_case(WIDE, ",'trust_region':{'kind':'data','margin':0.25}", engines[e]),
                  twin = open_case(WIDE, ",'trust_region':{'kind':'box','lower':[-0.75,-0.8],'upper':[0.75,1]}", engines[e]);
        esp_planner_free(c.planner);
        ck_assert_int_eq(esp_planner_create(c.model, lower, upper, &c.planner, NULL), ESP_OK);
        esp_plan_result r = run(&c, &request);
        check_plan(&twin, &request, &r, brute_force(&twin, &request), ESP_PLAN_FEASIBLE, "data");
        ck_assert(!r.ranges_sound && r.gap <= GAP);
        esp_plan_result_done(&r);
        case_done(&c);
        case_done(&twin);
    }
}
END_TEST

START_TEST(limits__outside_the_data_box_is_charged_too) {
    const double lower[] = {-0.5, -0.5, -9}, upper[] = {0, 0.7, 9};
    esp_plan_request request = {.y = present, .u = last, .n_u = 1};
    plan_case c = open_case(WIDE, ",'state':{'penalty':4},'trust_region':{'kind':'data','margin':0.2}", "tree"),
              twin = open_case(WIDE, ",'state':{'penalty':4},'trust_region':{'kind':'box','lower':[-0.6,-0.74],'upper':[0.1,0.94]}", "tree");
    esp_planner_free(c.planner);
    ck_assert_int_eq(esp_planner_create(c.model, lower, upper, &c.planner, NULL), ESP_OK);
    esp_plan_result r = run(&c, &request);
    check_plan(&twin, &request, &r, brute_force(&twin, &request), ESP_PLAN_FEASIBLE, "data");
    char text[ESP_LIMIT_TEXT];
    ck_assert_int_eq(r.best.slack.n_limits, 1);
    esp_limit_pointer(r.best.slack.limits[0], text);
    ck_assert_str_eq(text, "/trust_region");
    esp_plan_result_done(&r);
    case_done(&c);
    case_done(&twin);
}
END_TEST

/* Limits that the present (0.4, -0.3) violates, with how many they are. */
static const struct {
    limit_case limit;
    int softened;
} soft[] = {
    {{WIDE, ",'state':{'upper':[0.1,null]}", true, true}, 1},
    {{WIDE, ",'state':{'upper':[0.1,null],'penalty':0.5}", true, true}, 1}, /* too cheap to come back for */
    {{WIDE, ",'state':{'lower':[null,0.2],'upper':[0.1,3]}", true, true}, 2},
    {{WIDE, ",'state':{'lower':[-9,0.2],'upper':[0.9,0.6],'penalty':30}", true, true}, 1},
    {{WIDE, ",'state':{'halfspaces':[{'a':[1,-1],'b':0.2}]}", true, true}, 1},
    {{WIDE, ",'state':{'halfspaces':[{'a':[40,3],'b':2},{'a':[0,1],'b':0.4}]}", true, true}, 1},
    {{WIDE, ",'state':{'upper':[0.3,null],'halfspaces':[{'a':[1,-1],'b':0.2}],'penalty':7}", true, true}, 2},
    {{WIDE, ",'state':{'avoid':[{'index':[0],'lower':[0.1],'upper':[0.9]}]}", false, true}, 1},
    {{WIDE, ",'state':{'avoid':[{'index':[0,1],'lower':[-0.5,-0.9],'upper':[1.9,0.1]}]}", false, true}, 1},
    {{WIDE, ",'state':{'avoid':[{'index':[1],'lower':[-2],'upper':[0.4]},{'index':[0],'lower':[0.8],'upper':[1.4]}],'penalty':9}", false, true}, 1},
    {{WIDE, ",'trust_region':{'kind':'box','lower':[-2,-2],'upper':[0.2,2]}", true, true}, 1},
    {{WIDE, ",'state':{'upper':[0.2,null]},'trust_region':{'kind':'box','lower':[-2,-0.1],'upper':[0.5,2]}", true, true}, 2},
    {{WIDE ",'rate':[0.3]", ",'state':{'upper':[0.1,null]}", true, true}, 1},
    {{WIDE ",'values':[[-0.9],[-0.3],[0.2],[0.55]]", ",'state':{'upper':[0.1,null]}", false, true}, 1},
};

START_TEST(limits__violated_at_the_start_cost_as_the_grid_says) {
    esp_plan_request request = {.y = present, .u = last, .n_u = 1};
    check_engines(&soft[_i].limit, &request, soft[_i].softened, true);
}
END_TEST

/* y1 is outside its box; what else is asked cannot be: the first is y2 in a band that no input leads to, from inside. */
static const limit_case impossible[] = {
    {"'lower':[0.8],'upper':[1]", ",'state':{'upper':[0.1,-0.29]}", true, true},
    {"'lower':[0.8],'upper':[1]", ",'state':{'upper':[0.1,null],'halfspaces':[{'a':[1,2],'b':0}]}", true, true},
    {"'lower':[0.8],'upper':[1]", ",'state':{'upper':[0.1,null],'avoid':[{'index':[0],'lower':[0.5],'upper':[9]}]}", false, true},
    {"'lower':[-1],'upper':[1],'values':[[0.8],[1]]", ",'state':{'lower':[2,-9],'upper':[9,-0.29]}", false, true},
};

START_TEST(limits__that_hold_are_what_infeasible_is_about) {
    esp_plan_request request = {.y = present, .u = last, .n_u = 1};
    check_engines(&impossible[_i], &request, 0, false);
}
END_TEST

/* ---- far away ---------------------------------------------------------------------------------------------------- */

/* y+ = y + u from 10, |u| <= 1, the box ends at 3 and the goal lies at 12, the wrong way: 9, 8, ... 3, 3, 3. */
static const char *const far_away =
    "{'horizon':10,'cost':{'stage':[{'on':'y','weight':1,'norm':'l1','target':[12]}]},'input':{'lower':[-1],'upper':[1]},"
    "'state':{'lower':[-1],'upper':[3]%s},'planner':{%s}}";

static esp_plan_result from_far(const char *penalty, const char *planner, plan_case *ret_case) {
    static const double adder[] = {1, 1}, y[] = {10};
    esp_plan_request request = {.y = y};
    char text[512];
    (void)snprintf(text, sizeof text, far_away, penalty, planner);
    *ret_case = case_of(linear_model(1, 1, 1, adder), text);
    return run(ret_case, &request);
}

START_TEST(limits__a_start_far_outside_gets_a_plan_back) {
    static const char *const planners[] = {"'engine':'tree','gap':0.0001", "'engine':'cbc','gap':0.0001", "'method':'cem','gap':0.001",
                                           "'method':'mppi','gap':0.001", "'method':'gradient','gap':0.001"};
    for (size_t i = 0; i < sizeof planners / sizeof *planners; i++) {
        plan_case c;
        esp_plan_result r = from_far("", planners[i], &c);
        double exact = (3 + 4 + 5 + 6 + 7 + 8 + 9 + 9 + 9 + 9) + 100 * 21.0; /* ten times ten steps of weight 1 */
        ck_assert_msg(r.best.inputs && fabs(r.best.objective - exact) <= 0.01 * exact, "%s: %g, not %g", planners[i], r.best.objective, exact);
        if (i < 2) {
            ck_assert_int_eq(r.status, ESP_PLAN_OPTIMAL);
            ck_assert_double_eq_tol(r.best.slack.total, 21, 0.003);
            ck_assert_double_eq_tol(r.best.slack.max, 6, 0.003);
            ck_assert_double_eq_tol(r.best.predicted[9], 3, 0.003);
        }
        ck_assert(r.lower_bound <= exact + 1e-6);
        check_slack(&r.best);
        esp_plan_result_done(&r);
        case_done(&c);
    }
}
END_TEST

/* y+ = y + u from 5.3 with the goal on the wrong side of the box, planned anew at every step: once the robot is inside, the
 * limit holds again, and a present on the limit itself, give or take the rounding, is neither refused nor outside. */
START_TEST(limits__hold_again_once_inside) {
    static const char *const engines[] = {"tree", "cbc"};
    static const double adder[] = {1, 1};
    for (int e = 0; e < 2; e++) {
        double y = 5.3;
        char text[512];
        (void)snprintf(text, sizeof text,
                       "{'horizon':3,'cost':{'stage':[{'on':'y','weight':1,'norm':'l1','target':[12]}]},'input':{'lower':[-1],'upper':[1]},"
                       "'state':{'lower':[-1],'upper':[3]},'planner':{'engine':'%s'}}",
                       engines[e]);
        plan_case c = case_of(linear_model(1, 1, 1, adder), text);
        for (int step = 0; step < 10; step++) {
            esp_plan_request request = {.y = &y};
            esp_plan_result r = run(&c, &request);
            ck_assert_msg(r.status == ESP_PLAN_OPTIMAL, "step %d from %.17g: %s", step, y, esp_plan_status_names[r.status]);
            ck_assert_int_eq(r.best.slack.n_limits, step < 3);
            y += r.best.inputs[0];
            ck_assert_double_eq_tol(y, fmax(3, 4.3 - step), 0.1);
            esp_plan_result_done(&r);
        }
        case_done(&c);
    }
}
END_TEST

/* Below the price of being inside the plan stays out: a unit outward at each step is worth 1. */
START_TEST(limits__a_penalty_too_small_is_paid) {
    plan_case c;
    esp_plan_result r = from_far(",'penalty':0.9", "'gap':0.0001", &c);
    ck_assert_int_eq(r.status, ESP_PLAN_OPTIMAL);
    ck_assert_double_eq_tol(r.best.objective, 1 + 0.9 * (8 + 9 * 9), 0.01); /* 11, then 12 for nine steps */
    esp_plan_result_done(&r);
    case_done(&c);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("limits");
    TCase *tc = tcase_create("limits");
    tcase_set_timeout(tc, 120);
    tcase_add_loop_test(tc, limits__hold_as_the_grid_says, 0, (int)(sizeof hard / sizeof *hard));
    tcase_add_test(tc, limits__a_rate_needs_a_last_input_to_hold_at_once);
    tcase_add_test(tc, limits__a_data_box_holds_with_its_margin);
    tcase_add_test(tc, limits__outside_the_data_box_is_charged_too);
    tcase_add_loop_test(tc, limits__violated_at_the_start_cost_as_the_grid_says, 0, (int)(sizeof soft / sizeof *soft));
    tcase_add_loop_test(tc, limits__that_hold_are_what_infeasible_is_about, 0, (int)(sizeof impossible / sizeof *impossible));
    tcase_add_test(tc, limits__a_start_far_outside_gets_a_plan_back);
    tcase_add_test(tc, limits__hold_again_once_inside);
    tcase_add_test(tc, limits__a_penalty_too_small_is_paid);
    suite_add_tcase(suite, tc);
    return run_suite(suite);
}
