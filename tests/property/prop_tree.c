/* SPDX-License-Identifier: Apache-2.0
 * The tree search against CBC, each the other's check: the same random problems, two engines that share the model of
 * the problem and nothing of the search, one optimum. And against a bound of its own: no sampled plan costs less than
 * what the tree has proved, also when it is stopped early. */
#include <check.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "support/models.h"
#include "support/planning.h"

#define GAP 1e-4

/* A pushing-like problem: the state is drawn to a target by an l1, linf or l2sq cost, through `hidden` ReLUs. */
static plan_case make_case(esp_rng *rng, int ny, int nu, int hidden, int horizon, const char *engine, uint64_t seed) {
    double w1[64 * 8], b1[64], w2[8 * 64], b2[8];
    esp_rng_init(rng, seed, 77);
    for (int i = 0; i < hidden * (ny + nu); i++) w1[i] = esp_rng_normal(rng);
    for (int i = 0; i < hidden; i++) b1[i] = esp_rng_below(rng, 8) == 0 ? 40 : 0.5 * esp_rng_normal(rng);
    for (int i = 0; i < ny * hidden; i++) w2[i] = 0.6 / sqrt(hidden) * esp_rng_normal(rng) * (esp_rng_below(rng, 6) == 0 ? 0 : 1);
    for (int i = 0; i < ny; i++) b2[i] = 0.1 * esp_rng_normal(rng);
    esp_buf text = {0};
    esp_buf_printf(&text, "{'horizon':%d,'cost':{'stage':[{'on':'y','norm':'%s','weight':1,'target':[", horizon,
                   seed % 3 == 0   ? "linf"
                   : seed % 7 == 1 ? "l2sq"
                                   : "l1");
    for (int i = 0; i < ny; i++) esp_buf_printf(&text, "%s%.4f", i ? "," : "", esp_rng_range(rng, -1, 1));
    esp_buf_puts(&text, "]}");
    if (seed % 4 == 0) esp_buf_printf(&text, ",{'on':'du','norm':'%s','weight':0.2}", seed % 8 ? "l1" : "l2sq");
    esp_buf_puts(&text, "]},'input':{'lower':[");
    for (int i = 0; i < nu; i++) esp_buf_printf(&text, "%s-1", i ? "," : "");
    esp_buf_puts(&text, "],'upper':[");
    for (int i = 0; i < nu; i++) esp_buf_printf(&text, "%s1", i ? "," : "");
    esp_buf_puts(&text, "]");
    if (seed % 5 == 0) esp_buf_printf(&text, ",'rate':[%s]", nu == 1 ? "0.6" : "0.6,0.7");
    esp_buf_puts(&text, "}");
    if (seed % 5 == 1) {
        esp_buf_puts(&text, ",'state':{'halfspaces':[{'a':[1");
        for (int i = 1; i < ny; i++) esp_buf_puts(&text, ",0.3");
        esp_buf_puts(&text, "],'b':0.9}]}");
    }
    esp_buf_printf(&text, ",'planner':{'method':'mip','engine':'%s','gap':%g}}", engine, GAP);
    plan_case c = case_of(residual_model(ny, nu, hidden, w1, b1, w2, b2), esp_buf_text(&text));
    esp_buf_done(&text);
    return c;
}

START_TEST(tree__finds_what_cbc_finds) {
    seed_range range = seeds(25);
    for (uint64_t seed = range.first; seed <= range.last; seed++) {
        esp_rng rng;
        esp_error error = {0};
        int ny = 1 + (int)(seed % 3), nu = 1 + (int)(seed % 2), hidden = 3 + (int)(seed % 5), horizon = 2 + (int)(seed % 3);
        double y[3] = {0.3, -0.2, 0.1}, zero[2] = {0};
        esp_plan_request request = {.y = y, .u = zero, .n_u = 1};
        plan_case tree = make_case(&rng, ny, nu, hidden, horizon, "tree", seed), cbc = make_case(&rng, ny, nu, hidden, horizon, "cbc", seed);
        esp_plan_result a = {0}, b = {0};
        ck_assert_int_eq(case_run(&tree, &request, INFINITY, &a, &error), ESP_OK);
        ck_assert_int_eq(case_run(&cbc, &request, INFINITY, &b, &error), ESP_OK);
        ck_assert_msg(a.status == b.status, "seed %llu: tree %s, cbc %s", (unsigned long long)seed, esp_plan_status_names[a.status],
                      esp_plan_status_names[b.status]);
        if (a.status == ESP_PLAN_OPTIMAL) {
            double slack = 2 * GAP * (1 + fabs(b.best.objective));
            ck_assert_msg(fabs(a.best.objective - b.best.objective) <= slack, "seed %llu: tree %.9g, cbc %.9g", (unsigned long long)seed,
                          a.best.objective, b.best.objective);
            ck_assert_msg(a.lower_bound <= b.best.objective + 1e-9 && b.lower_bound <= a.best.objective + 1e-6, "seed %llu: a bound above a plan",
                          (unsigned long long)seed);
        }
        esp_plan_result_done(&a);
        esp_plan_result_done(&b);
        case_done(&tree);
        case_done(&cbc);
    }
}
END_TEST

START_TEST(tree__no_sampled_plan_is_below_the_bound) {
    seed_range range = seeds(12);
    for (uint64_t seed = range.first; seed <= range.last; seed++) {
        esp_rng rng;
        esp_error error = {0};
        enum { NY = 3, NU = 2, H = 4 };
        double y[NY] = {0.3, -0.2, 0.1}, zero[NU] = {0}, u[H * NU], excess;
        esp_plan_request request = {.y = y, .u = zero, .n_u = 1};
        plan_case c = make_case(&rng, NY, NU, 8, H, "tree", seed);
        esp_plan_result result = {0};
        ck_assert_int_eq(case_run(&c, &request, seed % 2 ? 0.05 : 0.5, &result, &error), ESP_OK);
        ck_assert(isfinite(result.lower_bound));
        for (int k = 0; k < 3000; k++) {
            bool near = k % 2 && result.best.inputs; /* half of them around the best plan, where a false bound would show */
            for (int i = 0; i < H * NU; i++) {
                u[i] = near ? result.best.inputs[i] + 0.1 * esp_rng_normal(&rng) : esp_rng_range(&rng, -1, 1);
                u[i] = fmax(-1, fmin(1, u[i]));
            }
            if (c.task->rate) continue;
            double cost = oracle_plan(c.model, c.task, &request, u, &excess);
            if (excess > 0) continue;
            ck_assert_msg(cost >= result.lower_bound - 1e-9, "seed %llu: a plan of cost %.12g under the bound %.12g", (unsigned long long)seed, cost,
                          result.lower_bound);
        }
        esp_plan_result_done(&result);
        case_done(&c);
    }
}
END_TEST

int main(void) {
    Suite *suite = suite_create("tree");
    TCase *tc = tcase_create("tree");
    tcase_set_timeout(tc, 120);
    tcase_add_test(tc, tree__finds_what_cbc_finds);
    tcase_add_test(tc, tree__no_sampled_plan_is_below_the_bound);
    suite_add_tcase(suite, tc);
    return run_suite(suite);
}
