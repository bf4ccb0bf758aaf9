/* SPDX-License-Identifier: Apache-2.0
 * Plans from a present that violates its limits, over random models: the tree search and CBC agree on the optimum and on
 * what is soft, no sampled plan beats what is proved, and a random present is never refused when every limit that it
 * violates is one that can be soft and nothing else is asked. Costs, penalties and limits by the tests' own replay. */
#include <check.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "support/models.h"
#include "support/planning.h"

#define GAP 1e-4

enum { NY = 3, NU = 2, MAX_HORIZON = 3 };

static esp_model *random_residual(esp_rng *rng, int hidden) {
    double w1[16 * (NY + NU)], b1[16], w2[NY * 16], b2[NY];
    for (int i = 0; i < hidden * (NY + NU); i++) w1[i] = esp_rng_normal(rng);
    for (int i = 0; i < hidden; i++) b1[i] = esp_rng_below(rng, 8) == 0 ? 40 : 0.5 * esp_rng_normal(rng);
    for (int i = 0; i < NY * hidden; i++) w2[i] = 0.5 / sqrt(hidden) * esp_rng_normal(rng);
    for (int i = 0; i < NY; i++) b2[i] = 0.1 * esp_rng_normal(rng);
    return residual_model(NY, NU, hidden, w1, b1, w2, b2);
}

static void put_state(esp_buf *b, esp_rng *rng, uint64_t seed) {
    esp_buf_printf(b, "'state':{'upper':[%.3f,null,%.3f],'lower':[-4,%.3f,null]", esp_rng_range(rng, -0.5, 0.4), esp_rng_range(rng, 0.2, 3),
                   esp_rng_range(rng, -3, 0.5));
    if (seed % 2)
        esp_buf_printf(b, ",'halfspaces':[{'a':[%.3f,%.3f,%.3f],'b':%.3f}]", esp_rng_range(rng, 0.5, 3), esp_rng_range(rng, -2, 2),
                       esp_rng_range(rng, -2, 2), esp_rng_range(rng, -1, 1));
    if (seed % 3 == 0) esp_buf_printf(b, ",'penalty':%.3f", esp_rng_range(rng, 0.2, 20));
    esp_buf_puts(b, "}");
    if (seed % 4 == 0) esp_buf_puts(b, ",'trust_region':{'kind':'box','lower':[-5,-0.1,-5],'upper':[5,5,0]}");
}

/* The same problem for each engine. */
static plan_case make_case(uint64_t seed, const char *engine, double *y) {
    esp_rng rng;
    esp_buf b = {0};
    esp_rng_init(&rng, seed, 31);
    esp_model *model = random_residual(&rng, 3 + (int)(seed % 4));
    esp_buf_printf(&b, "{'horizon':%d,'cost':{'stage':[{'on':'y','norm':'%s','weight':1,'target':[", 1 + (int)(seed % MAX_HORIZON),
                   seed % 5 == 0 ? "linf" : "l1");
    for (int i = 0; i < NY; i++) esp_buf_printf(&b, "%s%.4f", i ? "," : "", esp_rng_range(&rng, -1, 1));
    esp_buf_puts(&b, "]},{'on':'du','norm':'l1','weight':0.1}]},'input':{'lower':[-1,-1],'upper':[1,1]},");
    put_state(&b, &rng, seed);
    esp_buf_printf(&b, ",'planner':{'engine':'%s','gap':%g,'absolute_gap':1e-5}}", engine, GAP);
    for (int i = 0; i < NY; i++) y[i] = esp_rng_normal(&rng) + (i == 0);
    plan_case c = case_of(model, esp_buf_text(&b));
    esp_buf_done(&b);
    return c;
}

static esp_plan_result run(plan_case *c, const double *y, uint64_t seed) {
    static const double u[NU] = {0};
    esp_plan_request request = {.y = y, .u = u, .n_u = 1};
    esp_plan_result r = {0};
    esp_error error = {0};
    ck_assert_msg(case_run(c, &request, INFINITY, &r, &error) == ESP_OK, "seed %llu: %s", (unsigned long long)seed, error.message);
    if (!r.best.inputs) return r;
    double excess, cost = oracle_plan(c->model, c->task, &request, r.best.inputs, &excess);
    ck_assert_msg(fabs(cost - r.best.objective) <= 1e-9 * (1 + cost), "seed %llu: cost %.12g is %.12g", (unsigned long long)seed, r.best.objective,
                  cost);
    ck_assert_msg(excess <= 4e-6, "seed %llu: outside by %g", (unsigned long long)seed, excess);
    return r;
}

static void same_limits(const esp_plan_result *a, const esp_plan_result *b) {
    if (!a->best.inputs || !b->best.inputs) return;
    ck_assert_int_eq(a->best.slack.n_limits, b->best.slack.n_limits);
    ck_assert_double_eq(a->best.slack.penalty, b->best.slack.penalty);
    for (int k = 0; k < a->best.slack.n_limits; k++)
        ck_assert(a->best.slack.limits[k].kind == b->best.slack.limits[k].kind && a->best.slack.limits[k].index == b->best.slack.limits[k].index);
}

START_TEST(soft__tree_finds_what_cbc_finds) {
    int softened = 0, several = 0, optimal = 0, all = 0;
    seed_range range = seeds(30);
    for (uint64_t seed = range.first; seed <= range.last; seed++) {
        double y[NY];
        plan_case tree = make_case(seed, "tree", y), cbc = make_case(seed, "cbc", y);
        esp_plan_result a = run(&tree, y, seed), b = run(&cbc, y, seed);
        ck_assert_msg(a.status == b.status, "seed %llu: tree %s, cbc %s", (unsigned long long)seed, esp_plan_status_names[a.status],
                      esp_plan_status_names[b.status]);
        same_limits(&a, &b);
        if (a.status == ESP_PLAN_OPTIMAL) {
            double slack = 2 * GAP * (1 + fabs(b.best.objective));
            ck_assert_msg(fabs(a.best.objective - b.best.objective) <= slack, "seed %llu: tree %.9g, cbc %.9g", (unsigned long long)seed,
                          a.best.objective, b.best.objective);
            ck_assert_msg(a.lower_bound <= b.best.objective + 1e-9 && b.lower_bound <= a.best.objective + 1e-6, "seed %llu: a bound above a plan",
                          (unsigned long long)seed);
            softened += a.best.slack.n_limits > 0;
            several += a.best.slack.n_limits > 1;
        }
        optimal += a.status == ESP_PLAN_OPTIMAL;
        all++;
        esp_plan_result_done(&a);
        esp_plan_result_done(&b);
        case_done(&tree);
        case_done(&cbc);
    }
    if (all > 10)
        ck_assert_msg(3 * softened > all && 6 * several > all, "%d of %d softened, %d with several, %d optimal", softened, all, several, optimal);
}
END_TEST

START_TEST(soft__no_sampled_plan_is_below_the_bound) {
    seed_range range = seeds(30);
    for (uint64_t seed = range.first; seed <= range.last; seed++) {
        static const double zero[NU] = {0};
        double y[NY], u[MAX_HORIZON * NU], excess;
        plan_case c = make_case(seed, seed % 2 ? "tree" : "cbc", y);
        esp_plan_request request = {.y = y, .u = zero, .n_u = 1};
        esp_plan_result r = run(&c, y, seed);
        esp_rng rng;
        esp_rng_init(&rng, seed, 32);
        for (int k = 0; k < 2000; k++) {
            bool near = k % 2 && r.best.inputs; /* half of them around the best plan, where a false bound would show */
            for (int i = 0; i < c.task->horizon * NU; i++) {
                u[i] = near ? r.best.inputs[i] + 0.05 * esp_rng_normal(&rng) : esp_rng_range(&rng, -1, 1);
                u[i] = fmax(-1, fmin(1, u[i]));
            }
            double cost = oracle_plan(c.model, c.task, &request, u, &excess);
            if (excess > 0) continue;
            ck_assert_msg(r.status != ESP_PLAN_INFEASIBLE, "seed %llu: called infeasible, costs %g", (unsigned long long)seed, cost);
            ck_assert_msg(cost >= r.lower_bound - 1e-9, "seed %llu: a plan of cost %.12g under the bound %.12g", (unsigned long long)seed, cost,
                          r.lower_bound);
        }
        esp_plan_result_done(&r);
        case_done(&c);
    }
}
END_TEST

/* Every side that the present is inside of is drawn far out, so that only soft ones bind: there is always a plan. */
START_TEST(soft__alone_never_refuses_a_present) {
    seed_range range = seeds(30);
    for (uint64_t seed = range.first; seed <= range.last; seed++) {
        static const double u[NU] = {0};
        esp_rng rng;
        esp_rng_init(&rng, seed, 33);
        double y[NY];
        esp_buf b = {0};
        esp_model *model = random_residual(&rng, 4);
        for (int i = 0; i < NY; i++) y[i] = 3 * esp_rng_normal(&rng);
        esp_buf_puts(&b,
                     "{'horizon':2,'cost':{'stage':[{'on':'y','norm':'l1','weight':1}]},'input':{'lower':[-1,-1],'upper':[1,1]},'state':{'lower':[");
        for (int i = 0; i < NY; i++) esp_buf_printf(&b, "%s%.3f", i ? "," : "", seed % 2 ? y[i] + 0.5 : -1e4);
        esp_buf_puts(&b, "],'upper':[");
        for (int i = 0; i < NY; i++) esp_buf_printf(&b, "%s%.3f", i ? "," : "", seed % 2 ? 1e4 : y[i] - 0.25);
        esp_buf_printf(&b, "],'avoid':[{'index':[0,2],'lower':[%.3f,%.3f],'upper':[%.3f,%.3f]}]},'planner':{'gap':0.001}}", y[0] - 1, y[2] - 2,
                       y[0] + 0.5, y[2] + 0.1);
        plan_case c = case_of(model, esp_buf_text(&b));
        esp_plan_request request = {.y = y, .u = u, .n_u = 1};
        esp_plan_result r = {0};
        ck_assert_int_eq(case_run(&c, &request, INFINITY, &r, NULL), ESP_OK);
        ck_assert_msg(r.status == ESP_PLAN_OPTIMAL, "seed %llu: %s", (unsigned long long)seed, esp_plan_status_names[r.status]);
        ck_assert_int_eq(r.best.slack.n_limits, NY + 1);
        esp_plan_result_done(&r);
        case_done(&c);
        esp_buf_done(&b);
    }
}
END_TEST

int main(void) {
    Suite *suite = suite_create("soft");
    TCase *tc = tcase_create("soft");
    tcase_set_timeout(tc, 120);
    tcase_add_test(tc, soft__tree_finds_what_cbc_finds);
    tcase_add_test(tc, soft__no_sampled_plan_is_below_the_bound);
    tcase_add_test(tc, soft__alone_never_refuses_a_present);
    suite_add_tcase(suite, tc);
    return run_suite(suite);
}
