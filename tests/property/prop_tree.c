/* SPDX-License-Identifier: Apache-2.0
 * The tree search against CBC, each the other's check: the same random problems, two engines that share the model of
 * the problem and nothing of the search, one optimum. And against a bound of its own: no sampled plan costs less than
 * what the tree has proved, also when it is stopped early. */
#include <check.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "plan/pace.h"
#include "plan/tree.h"
#include "support/models.h"
#include "support/planning.h"

#define GAP 1e-4

/* A pushing-like problem: the state is drawn to a target, its own or the request's, by an l1, linf or l2sq cost, through `hidden` ReLUs. */
static plan_case make_towards(esp_rng *rng, int ny, int nu, int hidden, int horizon, bool goal, const char *engine, uint64_t seed) {
    double w1[64 * 8], b1[64], w2[8 * 64], b2[8];
    esp_rng_init(rng, seed, 77);
    for (int i = 0; i < hidden * (ny + nu); i++) w1[i] = esp_rng_normal(rng);
    for (int i = 0; i < hidden; i++) b1[i] = esp_rng_below(rng, 8) == 0 ? 40 : 0.5 * esp_rng_normal(rng);
    for (int i = 0; i < ny * hidden; i++) w2[i] = 0.6 / sqrt(hidden) * esp_rng_normal(rng) * (esp_rng_below(rng, 6) == 0 ? 0 : 1);
    for (int i = 0; i < ny; i++) b2[i] = 0.1 * esp_rng_normal(rng);
    esp_buf text = {0};
    esp_buf_printf(&text, "{'horizon':%d,'cost':{'stage':[{'on':'y','norm':'%s','weight':1,'target':%s", horizon,
                   seed % 3 == 0   ? "linf"
                   : seed % 7 == 1 ? "l2sq"
                                   : "l1",
                   goal ? "'goal'" : "[");
    for (int i = 0; !goal && i < ny; i++) esp_buf_printf(&text, "%s%.4f", i ? "," : "", esp_rng_range(rng, -1, 1));
    esp_buf_puts(&text, goal ? "}" : "]}");
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

static plan_case make_case(esp_rng *rng, int ny, int nu, int hidden, int horizon, const char *engine, uint64_t seed) {
    return make_towards(rng, ny, nu, hidden, horizon, false, engine, seed);
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

/* ---- cuts: no plan below the cutoff breaks one, and with them the optimum is CBC's ---- */

enum { CUT_NY = 3, CUT_NU = 2, CUT_H = 4, CUT_U = CUT_H * CUT_NU };

typedef struct cut_case {
    plan_case c;
    esp_program *step;
    esp_problem *problem;
    esp_track track;
    esp_tightened tightened;
    esp_root *root;
    int below; /* sampled plans under the cutoff */
} cut_case;

/* The goal: beyond where a plan with the same input at every step gets. */
static void set_goal(cut_case *k, esp_rng *rng, const esp_plan_request *request, double *goal) {
    esp_plan plan;
    ck_assert_int_eq(esp_plan_create(k->problem, &plan, NULL), ESP_OK);
    for (int i = 0; i < CUT_U; i++) plan.inputs[i] = i < CUT_NU ? esp_rng_range(rng, -1, 1) : plan.inputs[i - CUT_NU];
    (void)esp_verify(k->problem, &plan);
    const double *end = plan.predicted + (CUT_H - 1) * CUT_NY;
    for (int i = 0; i < CUT_NY; i++) goal[i] = end[i] + 0.3 * (end[i] - request->y[i]);
    esp_plan_done(&plan);
}

/* From a plan that is a good one and not the best, so that there are plans under the cutoff. */
static void open_cuts(cut_case *k, esp_rng *rng, uint64_t seed, const esp_plan_request *request, double *goal) {
    double u[CUT_U];
    k->c = make_towards(rng, CUT_NY, CUT_NU, 7, CUT_H, true, "tree", seed);
    ck_assert_int_eq(esp_program_lower(k->c.model, &k->step, NULL), ESP_OK);
    ck_assert_int_eq(esp_problem_create(k->c.task, k->step, 1, NULL, NULL, request, &k->problem, NULL), ESP_OK);
    set_goal(k, rng, request, goal);
    esp_problem_free(k->problem);
    ck_assert_int_eq(esp_problem_create(k->c.task, k->step, 1, NULL, NULL, request, &k->problem, NULL), ESP_OK);
    ck_assert_int_eq(esp_track_init(k->problem, NULL, NULL, &k->track, NULL), ESP_OK);
    ck_assert_int_eq(esp_tighten(k->problem, true, &k->tightened, NULL), ESP_OK);
    for (int tries = 0; tries < 60; tries++) {
        for (int i = 0; i < CUT_U; i++) u[i] = esp_rng_range(rng, -1, 1);
        (void)esp_track_offer(&k->track, u, "start");
    }
    ck_assert_int_eq(esp_root_create(&k->track, &k->tightened, &k->root, NULL), ESP_OK);
    ck_assert_int_eq(esp_root_relax(k->root, NULL), ESP_OK);
    if (!k->track.found) return;
    ck_assert_int_eq(esp_root_tighten(k->root, esp_root_cutoff(&k->track), 10, NULL), ESP_OK);
    ck_assert_int_eq(esp_pace_find(k->root, 10, NULL), ESP_OK);
}

static void close_cuts(cut_case *k) {
    esp_root_free(k->root);
    esp_tightened_done(&k->tightened);
    esp_track_done(&k->track);
    esp_problem_free(k->problem);
    esp_program_free(k->step);
    case_done(&k->c);
}

static void sample_cuts(cut_case *k, esp_rng *rng, uint64_t seed) {
    esp_plan plan;
    ck_assert_int_eq(esp_plan_create(k->problem, &plan, NULL), ESP_OK);
    for (int s = 0; s < 4000; s++) {
        bool near = s % 2;
        for (int i = 0; i < CUT_U; i++) plan.inputs[i] = near ? k->track.best.inputs[i] + 0.2 * esp_rng_normal(rng) : esp_rng_range(rng, -1.2, 1.2);
        esp_problem_project(k->problem, plan.inputs);
        if (!esp_verify(k->problem, &plan) || plan.objective >= k->root->cutoff) continue;
        k->below++;
        for (int c = 0; c < k->problem->cuts->n; c++) {
            const esp_cut *cut = &k->problem->cuts->list[c];
            double sum = 0;
            for (int i = 0; i < cut->n; i++) sum += cut->weight[i] * plan.predicted[cut->at[i]];
            ck_assert_msg(sum <= cut->most + 1e-9, "seed %llu: a plan of cost %.9g steps %.12g, no more than %.12g is said to be possible",
                          (unsigned long long)seed, plan.objective, sum, cut->most);
        }
    }
    esp_plan_done(&plan);
}

static double optimum_by_cbc(uint64_t seed, const esp_plan_request *request) {
    esp_rng rng;
    plan_case c = make_towards(&rng, CUT_NY, CUT_NU, 7, CUT_H, true, "cbc", seed);
    esp_plan_result result = {0};
    ck_assert_int_eq(case_run(&c, request, INFINITY, &result, NULL), ESP_OK);
    double objective = result.best.inputs ? result.best.objective : (double)INFINITY;
    esp_plan_result_done(&result);
    case_done(&c);
    return objective;
}

START_TEST(tree__cuts_lose_no_plan) {
    static const double y[CUT_NY] = {0.3, -0.2, 0.1}, zero[CUT_NU] = {0};
    double goal[CUT_NY] = {0};
    const esp_plan_request request = {.y = y, .u = zero, .n_u = 1, .goal = goal};
    const esp_tree_options options = ESP_TREE_OPTIONS_INIT;
    seed_range range = seeds(16);
    int cuts = 0, below = 0;
    for (uint64_t seed = range.first; seed <= range.last; seed++) {
        esp_rng rng;
        bool exhausted = false;
        cut_case k = {0};
        open_cuts(&k, &rng, seed, &request, goal);
        if (k.track.found) sample_cuts(&k, &rng, seed);
        if (k.track.found && !k.root->nothing_below) ck_assert_int_eq(esp_tree_search(k.root, &options, &exhausted, NULL), ESP_OK);
        double optimum = optimum_by_cbc(seed, &request), slack = 2 * GAP * (1 + fabs(optimum));
        if (exhausted)
            ck_assert_msg(fabs(k.track.best.objective - optimum) <= slack && k.track.lower_bound <= optimum + 1e-6,
                          "seed %llu: %.9g, bound %.9g, cbc %.9g", (unsigned long long)seed, k.track.best.objective, k.track.lower_bound, optimum);
        cuts += k.problem->cuts->n;
        below += k.below;
        close_cuts(&k);
    }
    if (range.first != range.last) ck_assert_msg(cuts > 16 && below > 1000, "%d cuts, %d plans under the cutoff", cuts, below);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("tree");
    TCase *tc = tcase_create("tree");
    tcase_set_timeout(tc, 120);
    tcase_add_test(tc, tree__finds_what_cbc_finds);
    tcase_add_test(tc, tree__no_sampled_plan_is_below_the_bound);
    tcase_add_test(tc, tree__cuts_lose_no_plan);
    suite_add_tcase(suite, tc);
    return run_suite(suite);
}
