/* SPDX-License-Identifier: Apache-2.0
 * The tree search without what helps it: from the plan u = 0 alone, with no sampling, no polish and no root bounds, it
 * must still arrive at the optimum, which a pruned optimum would show at once. And the two proofs it rests on: bounds
 * at arbitrary multipliers against sampled plans, squeezed ranges against the plans they must keep. */
#include <check.h>
#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "plan/tree.h"
#include "support/models.h"
#include "support/planning.h"

enum { NY = 3, NU = 2, HIDDEN = 7, H = 4, SAMPLES = 2000, SEEDS = 6 };

typedef struct fixture {
    plan_case c;
    esp_rng rng;
    esp_program *step;
    esp_problem *problem;
    esp_tightened tightened;
    esp_track track;
    double *p_lower, *u_lower; /* memory of a region */
    esp_region region;
} fixture;

static const double y_now[NY] = {0.3, -0.2, 0.1}, u_last[NU] = {0};
static const esp_plan_request request = {.y = y_now, .u = u_last, .n_u = 1};

#define COST  "{'on':'y','index':[0,2],'norm':'l1','weight':1,'target':[0.6,-0.5]}"
#define MORE  ",{'on':'y','index':[0],'norm':'l1','weight':0.5,'target':[0.1]},{'on':'du','norm':'l1','weight':0.1}"
#define LIMIT ",'state':{'upper':[2,1.5,2]}"

/* Twin outputs: rows 0 and 1 of the output layer are the same, so that their difference has no ReLUs. */
static plan_case make_case(esp_rng *rng, uint64_t seed, const char *engine) {
    double w1[HIDDEN * (NY + NU)], b1[HIDDEN], w2[NY * HIDDEN], b2[NY] = {0};
    char text[1024];
    esp_rng_init(rng, seed, 91);
    for (int i = 0; i < HIDDEN * (NY + NU); i++) w1[i] = esp_rng_normal(rng);
    for (int i = 0; i < HIDDEN; i++) b1[i] = 0.4 * esp_rng_normal(rng);
    for (int i = 0; i < NY * HIDDEN; i++) w2[i] = 0.25 * esp_rng_normal(rng);
    if (seed % 2)
        for (int j = 0; j < HIDDEN; j++) w2[HIDDEN + j] = w2[j];
    (void)snprintf(text, sizeof text,
                   "{'horizon':%d,'cost':{'stage':[" COST "%s]},'input':{'lower':[-1,-1],'upper':[1,1]}%s,'planner':{'method':'mip','engine':'%s',"
                   "'gap':1e-4}}",
                   H, seed % 3 == 0 ? MORE : "", seed % 3 == 1 ? LIMIT : "", engine);
    return case_of(residual_model(NY, NU, HIDDEN, w1, b1, w2, b2), text);
}

static void open_fixture(fixture *f, uint64_t seed) {
    *f = (fixture){0};
    f->c = make_case(&f->rng, seed, "tree");
    ck_assert_int_eq(esp_program_lower(f->c.model, &f->step, NULL), ESP_OK);
    ck_assert_int_eq(esp_problem_create(f->c.task, f->step, 1, NULL, NULL, &request, &f->problem, NULL), ESP_OK);
    ck_assert_int_eq(esp_track_init(f->problem, NULL, NULL, &f->track, NULL), ESP_OK);
    ck_assert_int_eq(esp_tighten(f->problem, true, &f->tightened, NULL), ESP_OK);
    f->p_lower = malloc(2 * H * HIDDEN * sizeof(double));
    f->u_lower = malloc(2 * H * NU * sizeof(double));
    ck_assert(f->p_lower && f->u_lower);
    f->region = (esp_region){f->p_lower, f->p_lower + H * HIDDEN, f->u_lower, f->u_lower + H * NU};
    memcpy(f->region.p_lower, f->tightened.ranges->p_lower, H * HIDDEN * sizeof(double));
    memcpy(f->region.p_upper, f->tightened.ranges->p_upper, H * HIDDEN * sizeof(double));
    memcpy(f->region.u_lower, f->problem->u_lower, H * NU * sizeof(double));
    memcpy(f->region.u_upper, f->problem->u_upper, H * NU * sizeof(double));
}

static void close_fixture(fixture *f) {
    free(f->p_lower);
    free(f->u_lower);
    esp_tightened_done(&f->tightened);
    esp_track_done(&f->track);
    esp_problem_free(f->problem);
    esp_program_free(f->step);
    case_done(&f->c);
}

/* A plan from the fixture's stream: its cost (INFINITY when it breaks a limit) and pre-activations (H x HIDDEN). */
static double sample(fixture *f, double *u, double *ret_p) {
    double excess, work[H * HIDDEN], y[H * NY];
    for (int i = 0; i < H * NU; i++) u[i] = esp_rng_range(&f->rng, -1, 1);
    esp_program_forward(f->tightened.unrolled, u, y, ret_p, NULL, work);
    double cost = oracle_plan(f->c.model, f->c.task, &request, u, &excess);
    return excess > 0 ? INFINITY : cost;
}

static double optimum_by_cbc(uint64_t seed) {
    esp_rng rng;
    plan_case c = make_case(&rng, seed, "cbc");
    esp_plan_result result = {0};
    ck_assert_int_eq(case_run(&c, &request, INFINITY, &result, NULL), ESP_OK);
    ck_assert_int_eq(result.status, ESP_PLAN_OPTIMAL);
    double objective = result.best.objective;
    esp_plan_result_done(&result);
    case_done(&c);
    return objective;
}

static void search_from_zero(uint64_t seed, double optimum, const esp_tree_options *options) {
    fixture f;
    double zero[H * NU] = {0};
    esp_root *root = NULL;
    bool exhausted = false;
    open_fixture(&f, seed);
    (void)esp_track_offer(&f.track, zero, "start");
    esp_track_bound(&f.track, 0);
    ck_assert_int_eq(esp_root_create(&f.track, &f.tightened, &root, NULL), ESP_OK);
    ck_assert_int_eq(esp_tree_search(root, options, &exhausted, NULL), ESP_OK);
    ck_assert(f.track.found);
    double slack = 3e-4 * (1 + optimum);
    ck_assert_msg(fabs(f.track.best.objective - optimum) <= slack, "seed %llu: %.9g, CBC %.9g", (unsigned long long)seed, f.track.best.objective,
                  optimum);
    ck_assert_msg(f.track.lower_bound <= optimum + 1e-6 && f.track.lower_bound >= optimum - slack, "seed %llu: bound %.9g, CBC %.9g",
                  (unsigned long long)seed, f.track.lower_bound, optimum);
    esp_root_free(root);
    close_fixture(&f);
}

START_TEST(tree__finds_the_optimum_without_heuristics) {
    seed_range range = seeds(SEEDS);
    for (uint64_t seed = range.first; seed <= range.last; seed++) {
        double optimum = optimum_by_cbc(seed);
        esp_tree_options plain = {(size_t)1 << 26, -1, 0, INT_MAX}, squeezed = {(size_t)1 << 26, 5, 10, INT_MAX}, lazy = {(size_t)1 << 26, 5, 10, 0};
        search_from_zero(seed, optimum, &plain);
        search_from_zero(seed, optimum, &squeezed);
        search_from_zero(seed, optimum, &lazy);
    }
}
END_TEST

START_TEST(tree__refuses_values) {
    double w[] = {1, 1};
    plan_case c = case_of(linear_model(1, 1, 1, w), "{'horizon':1,'cost':{'stage':[{'on':'y','weight':1,'norm':'l1'}]},"
                                                    "'input':{'lower':[-1],'upper':[1],'values':[[-1],[1]]}}");
    esp_program *step = NULL;
    esp_problem *problem = NULL;
    esp_track track;
    esp_tightened tightened;
    esp_root *root = NULL;
    esp_tree_options options = ESP_TREE_OPTIONS_INIT;
    bool exhausted = true;
    ck_assert_int_eq(esp_program_lower(c.model, &step, NULL), ESP_OK);
    ck_assert_int_eq(esp_problem_create(c.task, step, 1, NULL, NULL, &request, &problem, NULL), ESP_OK);
    ck_assert_int_eq(esp_track_init(problem, NULL, NULL, &track, NULL), ESP_OK);
    ck_assert_int_eq(esp_tighten(problem, true, &tightened, NULL), ESP_OK);
    ck_assert_int_eq(esp_root_create(&track, &tightened, &root, NULL), ESP_OK);
    ck_assert(!esp_tree_takes(problem));
    ck_assert_int_eq(esp_tree_search(root, &options, &exhausted, NULL), ESP_UNPROCESSABLE);
    ck_assert(exhausted); /* untouched */
    esp_root_free(root);
    esp_tightened_done(&tightened);
    esp_track_done(&track);
    esp_problem_free(problem);
    esp_program_free(step);
    case_done(&c);
}
END_TEST

/* The best of many samples, in cost and in the present extremes of every p. */
typedef struct extremes {
    double cost, p_least[H * HIDDEN], p_most[H * HIDDEN];
} extremes;

static extremes sample_extremes(fixture *f) {
    extremes e = {.cost = INFINITY};
    double u[H * NU], p[H * HIDDEN];
    for (int q = 0; q < H * HIDDEN; q++) e.p_least[q] = INFINITY, e.p_most[q] = -INFINITY;
    for (int k = 0; k < SAMPLES; k++) {
        double cost = sample(f, u, p);
        if (!isfinite(cost)) continue;
        e.cost = fmin(e.cost, cost);
        for (int q = 0; q < H * HIDDEN; q++) {
            e.p_least[q] = fmin(e.p_least[q], p[q]);
            e.p_most[q] = fmax(e.p_most[q], p[q]);
        }
    }
    return e;
}

/* Multipliers from the LP's own, by a little, to noise; for the cost and for single p, over all steps and over fewer. */
static void check_bounds(fixture *f, const extremes *e, int horizon) {
    esp_relax *relax = NULL;
    esp_encoding encoding = {0};
    ck_assert_int_eq(esp_relax_create(f->problem, f->tightened.ranges, horizon, &relax, NULL), ESP_OK);
    ck_assert_int_eq(esp_encode(f->problem, f->tightened.ranges, horizon, false, NULL, &encoding, NULL), ESP_OK);
    int rows = encoding.lp.n_rows;
    double *optimal = malloc((size_t)rows * sizeof *optimal), *duals = malloc((size_t)rows * sizeof *duals);
    ck_assert(optimal && duals);
    ck_assert_int_eq(esp_simplex_dual(esp_relax_simplex(relax), NULL), ESP_SIMPLEX_OPTIMAL);
    double bound = esp_relax_bound(relax, &f->region, NULL), value = esp_simplex_value(esp_relax_simplex(relax));
    ck_assert_msg(bound >= value - 1e-6 && bound <= e->cost, "bound %.12g, LP %.12g, sample %.12g", bound, value, e->cost);
    memcpy(optimal, esp_simplex_duals(esp_relax_simplex(relax)), (size_t)rows * sizeof *optimal);
    for (int k = 0; k < 200; k++) {
        double noise = pow(10, esp_rng_range(&f->rng, -6, 1));
        int q = (int)esp_rng_below(&f->rng, (uint32_t)(horizon * HIDDEN));
        for (int i = 0; i < rows; i++) duals[i] = (k % 2 ? optimal[i] : 0) + noise * esp_rng_normal(&f->rng);
        esp_relax_aim(relax, ESP_AIM_COST, 0, 1);
        ck_assert_double_le(esp_relax_bound(relax, &f->region, duals), e->cost);
        if (f->tightened.ranges->p_upper[q] <= 0) continue; /* no column: nothing is aimed at */
        esp_relax_aim(relax, ESP_AIM_P, q, 1);
        if (f->tightened.ranges->p_lower[q] < 0) ck_assert_double_le(esp_relax_bound(relax, &f->region, duals), e->p_least[q] + 1e-9);
        esp_relax_aim(relax, ESP_AIM_P, q, -1);
        if (f->tightened.ranges->p_lower[q] < 0) ck_assert_double_ge(-esp_relax_bound(relax, &f->region, duals), e->p_most[q] - 1e-9);
    }
    free(optimal);
    free(duals);
    esp_encoding_done(&encoding);
    esp_relax_free(relax);
}

START_TEST(relax__any_multipliers_bound_every_sampled_plan) {
    seed_range range = seeds(SEEDS);
    for (uint64_t seed = range.first; seed <= range.last; seed++) {
        fixture f;
        open_fixture(&f, seed);
        extremes e = sample_extremes(&f);
        check_bounds(&f, &e, H);
        check_bounds(&f, &e, H - 2);
        close_fixture(&f);
    }
}
END_TEST

/* A problem of squares alone: y+ = y + u. */
static void open_squares(fixture *f, const char *text) {
    double w[] = {1, 1};
    static const double y[] = {0.4};
    static const esp_plan_request here = {.y = y, .u = u_last, .n_u = 1};
    *f = (fixture){.c = case_of(linear_model(1, 1, 1, w), text)};
    ck_assert_int_eq(esp_program_lower(f->c.model, &f->step, NULL), ESP_OK);
    ck_assert_int_eq(esp_problem_create(f->c.task, f->step, 1, NULL, NULL, &here, &f->problem, NULL), ESP_OK);
    ck_assert_int_eq(esp_track_init(f->problem, NULL, NULL, &f->track, NULL), ESP_OK);
    ck_assert_int_eq(esp_tighten(f->problem, true, &f->tightened, NULL), ESP_OK);
}

#define SQUARES                                                                                                                                      \
    "{'horizon':3,'cost':{'stage':[{'on':'u','norm':'l2sq','weight':50,'target':[0.3]},{'on':'y','norm':'l2sq',"                                     \
    "'weight':7,'target':[-0.6]},{'on':'u','norm':'l1','weight':3}]},'input':{'lower':[-1],'upper':[1]},"                                            \
    "'planner':{'gap':1e-5,'engine':'tree'}}"

/* A tangent more never lowers the relaxation, also when it takes the place of another; and it comes to an end. */
START_TEST(relax__tangents_close_in_on_the_optimum) {
    fixture f;
    esp_relax *relax = NULL;
    int rounds = 0, added = 1;
    open_squares(&f, SQUARES);
    ck_assert_int_eq(esp_relax_create(f.problem, f.tightened.ranges, 3, &relax, NULL), ESP_OK);
    esp_simplex *simplex = esp_relax_simplex(relax);
    for (double before = 0; added > 0; rounds++) {
        ck_assert_int_lt(rounds, 60);
        ck_assert_int_eq(esp_simplex_dual(simplex, NULL), ESP_SIMPLEX_OPTIMAL);
        ck_assert_msg(esp_simplex_value(simplex) >= before - 1e-6, "round %d: %.12g after %.12g", rounds, esp_simplex_value(simplex), before);
        before = esp_simplex_value(simplex);
        added = esp_relax_refine(relax, 1e-9);
    }
    ck_assert_int_gt(rounds, ESP_SPARE_TANGENTS);
    double u[3];
    esp_relax_inputs(relax, u);
    ck_assert(esp_track_offer(&f.track, u, "relaxation"));
    ck_assert_double_eq_tol(f.track.best.objective, esp_simplex_value(simplex), 1e-6 * f.track.best.objective);
    esp_relax_free(relax);
    close_fixture(&f);
}
END_TEST

#define STEEP                                                                                                                                        \
    "{'horizon':1,'cost':{'stage':[{'on':'u','norm':'l2sq','weight':900,'target':[0.3]},{'on':'u','norm':'l1',"                                      \
    "'weight':0.01,'target':[-0.5]}]},'input':{'lower':[-1],'upper':[1]},'planner':{'gap':1e-4,'engine':'tree'}}"

/* From a plan that costs far more than the optimum, nothing to branch on. */
START_TEST(tree__closes_a_leaf_of_squares) {
    fixture f;
    double poor[] = {-1};
    esp_root *root = NULL;
    bool exhausted = false;
    esp_tree_options plain = {(size_t)1 << 26, -1, 0, INT_MAX};
    open_squares(&f, STEEP);
    ck_assert(esp_track_offer(&f.track, poor, "start"));
    ck_assert_int_eq(esp_root_create(&f.track, &f.tightened, &root, NULL), ESP_OK);
    ck_assert_int_eq(esp_tree_search(root, &plain, &exhausted, NULL), ESP_OK);
    ck_assert_msg(esp_track_met(&f.track), "%.12g over %.12g", f.track.best.objective, f.track.lower_bound);
    esp_root_free(root);
    close_fixture(&f);
}
END_TEST

static double width(const fixture *f) {
    double sum = 0;
    for (int q = 0; q < H * HIDDEN; q++) sum += f->region.p_upper[q] - f->region.p_lower[q];
    for (int k = 0; k < H * NU; k++) sum += f->region.u_upper[k] - f->region.u_lower[k];
    return sum;
}

static bool kept(const fixture *f, const double *u, const double *p) {
    bool inside = true;
    for (int q = 0; q < H * HIDDEN; q++) inside = inside && p[q] >= f->region.p_lower[q] - 1e-9 && p[q] <= f->region.p_upper[q] + 1e-9;
    for (int k = 0; k < H * NU; k++) inside = inside && u[k] >= f->region.u_lower[k] - 1e-9 && u[k] <= f->region.u_upper[k] + 1e-9;
    return inside;
}

START_TEST(squeeze__keeps_every_plan_below_the_cutoff) {
    seed_range range = seeds(SEEDS);
    for (uint64_t seed = range.first; seed <= range.last; seed++) {
        for (int horizon = H - 1; horizon <= H; horizon++) {
            fixture f;
            double u[H * NU], p[H * HIDDEN];
            esp_squeezer *squeezer = NULL;
            open_fixture(&f, seed);
            double cutoff = 1.05 * sample_extremes(&f).cost, before = width(&f);
            int below = 0;
            ck_assert_int_eq(esp_squeezer_create(f.problem, f.tightened.ranges, horizon, &squeezer, NULL), ESP_OK);
            ck_assert(esp_squeeze_pass(squeezer, horizon - 1, NULL, cutoff, NULL, &f.region));
            ck_assert_double_lt(width(&f), 0.99 * before);
            for (uint64_t stream = 1; stream <= 2; stream++) { /* the first samples again, then new ones */
                esp_rng rng = f.rng;
                esp_rng again;
                plan_case same = make_case(&again, seed, "tree");
                case_done(&same);
                f.rng = stream == 1 ? again : rng;
                for (int k = 0; k < SAMPLES; k++) {
                    if (sample(&f, u, p) >= cutoff) continue;
                    below++;
                    ck_assert_msg(kept(&f, u, p), "seed %llu, %d steps: a plan below the cutoff is outside", (unsigned long long)seed, horizon);
                }
                f.rng = rng;
            }
            ck_assert_int_gt(below, 0);
            esp_squeezer_free(squeezer);
            close_fixture(&f);
        }
    }
}
END_TEST

START_TEST(squeeze__says_when_nothing_is_left) {
    fixture f;
    esp_squeezer *squeezer = NULL;
    open_fixture(&f, 1);
    ck_assert_int_eq(esp_squeezer_create(f.problem, f.tightened.ranges, H, &squeezer, NULL), ESP_OK);
    ck_assert(!esp_squeeze_pass(squeezer, H - 1, NULL, 1e-3, NULL, &f.region)); /* the first step alone costs more */
    esp_squeezer_free(squeezer);
    close_fixture(&f);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("tree");
    TCase *tc = tcase_create("tree");
    tcase_set_timeout(tc, 120);
    tcase_add_test(tc, tree__finds_the_optimum_without_heuristics);
    tcase_add_test(tc, tree__refuses_values);
    tcase_add_test(tc, tree__closes_a_leaf_of_squares);
    tcase_add_test(tc, relax__tangents_close_in_on_the_optimum);
    tcase_add_test(tc, relax__any_multipliers_bound_every_sampled_plan);
    tcase_add_test(tc, squeeze__keeps_every_plan_below_the_cutoff);
    tcase_add_test(tc, squeeze__says_when_nothing_is_left);
    suite_add_tcase(suite, tc);
    return run_suite(suite);
}
