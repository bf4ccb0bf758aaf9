/* SPDX-License-Identifier: Apache-2.0
 * A search that is torn apart and put together again proves what it proves whole. One process plays all parts: a tree
 * gives nodes away at random moments, other trees search them, or a part of them, one after the other; some of them give
 * nodes back, some are lost with what they had, some never heard of. Oracle: CBC's optimum of the same problem. At every moment
 * the bound is below it and no plan is, and in the end both meet there. */
#include <check.h>
#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "plan/pace.h"
#include "plan/share.h"
#include "plan/tree.h"
#include "support/models.h"
#include "support/planning.h"

enum { NY = 3, NU = 2, HIDDEN = 10, H = 4, SEEDS = 40, MOST_SHARES = 4096 };
#define GAP 1e-4

static const double y_now[NY] = {0.3, -0.2, 0.1}, u_last[NU] = {0};
static const esp_plan_request request = {.y = y_now, .u = u_last, .n_u = 1};

static plan_case make_case(esp_rng *rng, uint64_t seed, const char *engine) {
    double w1[HIDDEN * (NY + NU)], b1[HIDDEN], w2[NY * HIDDEN], b2[NY] = {0};
    char text[512];
    esp_rng_init(rng, seed, 123);
    for (int i = 0; i < HIDDEN * (NY + NU); i++) w1[i] = esp_rng_normal(rng);
    for (int i = 0; i < HIDDEN; i++) b1[i] = 0.4 * esp_rng_normal(rng);
    for (int i = 0; i < NY * HIDDEN; i++) w2[i] = 0.25 * esp_rng_normal(rng);
    (void)snprintf(text, sizeof text,
                   "{'horizon':%d,'cost':{'stage':[{'on':'y','index':[0,2],'norm':'%s','weight':1,'target':[%s]}]},"
                   "'input':{'lower':[-1,-1],'upper':[1,1]},'planner':{'method':'mip','engine':'%s','gap':%g}}",
                   H, seed % 2 ? "l1" : "linf", seed % 2 ? "3,-2" : "0.6,-0.5", engine, GAP);
    return case_of(residual_model(NY, NU, HIDDEN, w1, b1, w2, b2), text);
}

static double optimum_by_cbc(uint64_t seed) {
    esp_rng rng;
    plan_case c = make_case(&rng, seed, "cbc");
    esp_plan_result result = {0};
    ck_assert_int_eq(case_run(&c, &request, INFINITY, &result, NULL), ESP_OK);
    ck_assert(result.best.inputs && result.gap < 1e-3); /* its tolerances may keep it from less */
    double objective = result.best.objective;
    esp_plan_result_done(&result);
    case_done(&c);
    return objective;
}

/* What is the case's, and what the search that answers for it has given away and not heard of again. */
typedef struct game {
    plan_case c;
    esp_rng rng;
    esp_program *step;
    esp_problem *problem;
    double optimum;
    int chance; /* of giving, in percent and node */
    uint64_t numbers[MOST_SHARES];
    esp_buf lots[MOST_SHARES]; /* one lot each */
    int n, given, searched, lost, returned, more;
} game;

static void open_game(game *g, uint64_t seed) {
    *g = (game){.optimum = optimum_by_cbc(seed), .chance = 50};
    g->c = make_case(&g->rng, seed, "tree");
    ck_assert_int_eq(esp_program_lower(g->c.model, &g->step, NULL), ESP_OK);
    ck_assert_int_eq(esp_problem_create(g->c.task, g->step, 1, NULL, NULL, &request, &g->problem, NULL), ESP_OK);
}

static void close_game(game *g) {
    for (int k = 0; k < MOST_SHARES; k++) esp_buf_done(&g->lots[k]);
    esp_problem_free(g->problem);
    esp_program_free(g->step);
    case_done(&g->c);
}

static void hear_bound(void *user, double bound) {
    const game *g = user;
    ck_assert_msg(bound <= g->optimum + 1e-6, "a bound of %.12g above the optimum %.12g", bound, g->optimum);
}

/* ---- a share's search ---- */

typedef struct helper {
    game *g;
    int left; /* looks until it is stopped; INT_MAX: never */
    bool generous; /* gives nodes back */
    double bound; /* as told last */
    esp_buf back;
} helper;

static bool is_stopped(void *user) {
    return ((const helper *)user)->left <= 0;
}

static void helper_look(void *user, esp_tree *tree) {
    helper *h = user;
    h->left -= h->left != INT_MAX;
    h->bound = esp_tree_bound(tree);
    if (!h->generous || h->back.len || esp_rng_below(&h->g->rng, 10)) return;
    esp_tree_give_back(tree, INFINITY, &h->back);
    h->g->returned++;
    h->bound = esp_tree_bound(tree);
}

static void helper_wait(void *user, esp_tree *tree) {
    (void)user;
    (void)tree;
    ck_abort_msg("a share has given nothing away that it could wait for");
}

/* In the order in which a worker's frames come: plans, nodes, the bound of what is left, the end. */
static void search_share(game *g, esp_tree *tree, int k) {
    uint32_t how = (uint32_t)esp_rng_below(&g->rng, 4);
    helper h = {.g = g, .left = how == 0 ? 3 + (int)esp_rng_below(&g->rng, 40) : INT_MAX, .generous = how == 1, .bound = -INFINITY};
    const esp_tree_hooks tree_hooks = {&h, helper_look, helper_wait};
    const esp_plan_hooks hooks = {&h, NULL, NULL, &tree_hooks};
    const esp_stop stop = {ESP_NEVER, is_stopped, &h};
    esp_track track;
    esp_share_result result = {0};
    ck_assert_int_eq(esp_track_init(g->problem, &hooks, &stop, &track, NULL), ESP_OK);
    ck_assert_int_eq(esp_share_search(&track, g->lots[k].data, g->lots[k].len, &result, NULL), ESP_OK);
    if (track.found) (void)esp_tree_offer(tree, track.best.inputs);
    if (h.back.len) ck_assert_int_eq(esp_tree_take(tree, h.back.data, h.back.len, NULL), ESP_OK);
    esp_tree_share_bound(tree, g->numbers[k], 1, h.bound);
    if (result.exhausted && how != 2) {
        esp_tree_share_done(tree, g->numbers[k], 1, result.bound, result.nodes);
        g->searched++;
    } else {
        esp_tree_share_lost(tree, g->numbers[k]); /* also one that was searched to its end, when its last word is lost */
        g->lost++;
    }
    esp_track_done(&track);
    esp_buf_done(&h.back);
}

/* ---- the search that answers ---- */

static void first_look(void *user, esp_tree *tree) {
    game *g = user;
    if (g->n == MOST_SHARES || (int)esp_rng_below(&g->rng, 100) >= g->chance) return;
    g->numbers[g->n] = (uint64_t)g->given + 1;
    if (!esp_tree_give(tree, g->numbers[g->n], INFINITY, &g->lots[g->n])) return;
    g->n++;
    g->given++;
    if (g->n < 8 || g->chance == 100) return;
    int k = (int)esp_rng_below(&g->rng, (uint32_t)g->n); /* one is heard of while the search goes on */
    search_share(g, tree, k);
    esp_buf_clear(&g->lots[k]);
    esp_buf kept = g->lots[k];
    g->lots[k] = g->lots[--g->n];
    g->numbers[k] = g->numbers[g->n];
    g->lots[g->n] = kept;
}

static void first_wait(void *user, esp_tree *tree) {
    game *g = user;
    uint64_t number = esp_tree_share_least(tree);
    int k = 0;
    while (k < g->n && g->numbers[k] != number) k++;
    ck_assert_int_lt(k, g->n);
    search_share(g, tree, k);
    esp_buf_clear(&g->lots[k]);
    esp_buf kept = g->lots[k];
    g->lots[k] = g->lots[--g->n];
    g->numbers[k] = g->numbers[g->n];
    g->lots[g->n] = kept;
}

/* From a plan that is worth following. */
static void find_cuts(esp_root *root) {
    ck_assert_int_eq(esp_root_relax(root, NULL), ESP_OK);
    ck_assert_int_eq(esp_root_polish(root, root->track->best.inputs, 60, NULL), ESP_OK);
    ck_assert_int_eq(esp_pace_find(root, 10, NULL), ESP_OK);
}

static void run_game(game *g, uint64_t seed, const esp_tree_options *options, int *ret_cuts) {
    const esp_tree_hooks tree_hooks = {g, first_look, first_wait};
    const esp_plan_hooks hooks = {g, NULL, hear_bound, &tree_hooks};
    double zero[H * NU] = {0};
    esp_track track;
    esp_tightened tightened;
    esp_root *root = NULL;
    bool exhausted = false;
    ck_assert_int_eq(esp_track_init(g->problem, &hooks, NULL, &track, NULL), ESP_OK);
    ck_assert_int_eq(esp_tighten(g->problem, true, &tightened, NULL), ESP_OK);
    (void)esp_track_offer(&track, zero, "start");
    esp_track_bound(&track, 0);
    ck_assert_int_eq(esp_root_create(&track, &tightened, &root, NULL), ESP_OK);
    if (seed % 2) find_cuts(root);
    *ret_cuts += g->problem->cuts->n;
    ck_assert_int_eq(esp_tree_search(root, options, &exhausted, NULL), ESP_OK);
    double best = track.best.objective, slack = 2 * GAP * best + 1e-6;
    ck_assert_msg(best >= (1 - 1e-3) * g->optimum - 1e-6 && best <= g->optimum + slack, "seed %llu: %.9g, CBC %.9g", (unsigned long long)seed, best,
                  g->optimum);
    ck_assert_msg(track.lower_bound >= best - slack, "seed %llu: bound %.9g under %.9g", (unsigned long long)seed, track.lower_bound, best);
    esp_root_free(root);
    esp_tightened_done(&tightened);
    esp_track_done(&track);
}

START_TEST(share__torn_apart_it_proves_the_same) {
    const esp_tree_options plain = {(size_t)1 << 26, -1, 0, INT_MAX}, squeezed = {(size_t)1 << 26, 5, 10, INT_MAX};
    seed_range range = seeds(SEEDS);
    int given = 0, searched = 0, lost = 0, returned = 0, cuts = 0;
    for (uint64_t seed = range.first; seed <= range.last; seed++) {
        game *g = malloc(sizeof *g);
        ck_assert_ptr_nonnull(g);
        open_game(g, seed);
        run_game(g, seed, seed % 3 ? &plain : &squeezed, &cuts);
        given += g->given;
        searched += g->searched;
        lost += g->lost;
        returned += g->returned;
        close_game(g);
        free(g);
    }
    if (range.first == range.last) return;
    ck_assert_msg(given > 20 && searched > 10 && lost > 10 && returned > 2 && cuts > 2, "given %d, searched %d, lost %d, returned %d, cuts %d", given,
                  searched, lost, returned, cuts);
}
END_TEST

/* ---- lots, and what does not fit ---- */

typedef struct probe {
    bool done;

} probe;

/* A bound that was told before a lot was sent says nothing of it; neither does an end. */
static void probe_look(void *user, esp_tree *tree) {
    probe *p = user;
    esp_buf one = {0}, two = {0};
    double below;
    if (p->done || !esp_tree_give(tree, 7, INFINITY, &one)) {
        esp_buf_done(&one);
        return;
    }
    double least = esp_tree_bound(tree);
    ck_assert_uint_eq(esp_tree_share_least(tree), 7);
    esp_tree_share_bound(tree, 7, 2, 1e6); /* of lots that it does not have */
    ck_assert_uint_eq(esp_tree_share_least(tree), 7);
    if (esp_tree_give(tree, 7, INFINITY, &two)) {
        esp_tree_share_bound(tree, 7, 1, 1e6);
        ck_assert_uint_eq(esp_tree_share_least(tree), 7);
        ck_assert_double_ge(esp_tree_bound(tree), least);
        esp_tree_share_done(tree, 7, 1, 1e6, 5); /* the first is exhausted, the second comes back */
        ck_assert_uint_eq(esp_tree_share_least(tree), 0);
        ck_assert_int_eq(esp_tree_take(tree, one.data, one.len, NULL), ESP_OK); /* this was not true: for the search's end */
        p->done = true;
    } else {
        esp_tree_share_lost(tree, 7);
    }
    ck_assert_uint_eq(esp_tree_share_ahead(tree, &below), 0);
    ck_assert_uint_eq(esp_tree_share_behind(tree, &below), 0);
    if (p->done) {
        double bound = esp_tree_bound(tree);
        for (size_t len = 0; len < one.len; len += 1 + one.len / 97) {
            esp_error error = {0};
            ck_assert_int_eq(esp_tree_take(tree, one.data, len, &error), ESP_CORRUPT);
        }
        for (size_t at = 0; at < 36; at++) { /* magic and sizes */
            char kept = one.data[at];
            one.data[at] = (char)(kept ^ 0x11);
            ck_assert_int_eq(esp_tree_take(tree, one.data, one.len, NULL), ESP_CORRUPT);
            one.data[at] = kept;
        }
        ck_assert_double_eq(esp_tree_bound(tree), bound);
    }
    esp_buf_done(&one);
    esp_buf_done(&two);
}

static void run_probe(probe *p, uint64_t seed) {
    game *g = malloc(sizeof *g);
    const esp_tree_options plain = {(size_t)1 << 26, -1, 0, INT_MAX};
    const esp_tree_hooks tree_hooks = {p, probe_look, helper_wait};
    esp_plan_hooks hooks = {NULL, NULL, NULL, &tree_hooks};
    double zero[H * NU] = {0};
    esp_track track;
    esp_tightened tightened;
    esp_root *root = NULL;
    bool exhausted = false;
    ck_assert_ptr_nonnull(g);
    open_game(g, seed);
    ck_assert_int_eq(esp_track_init(g->problem, &hooks, NULL, &track, NULL), ESP_OK);
    ck_assert_int_eq(esp_tighten(g->problem, true, &tightened, NULL), ESP_OK);
    (void)esp_track_offer(&track, zero, "start");
    ck_assert_int_eq(esp_root_create(&track, &tightened, &root, NULL), ESP_OK);
    ck_assert_int_eq(esp_tree_search(root, &plain, &exhausted, NULL), ESP_OK);
    ck_assert(exhausted);
    ck_assert_double_le(fabs(track.best.objective - g->optimum), 1e-3 * g->optimum + 1e-6);
    esp_root_free(root);
    esp_tightened_done(&tightened);
    esp_track_done(&track);
    close_game(g);
    free(g);
}

START_TEST(share__lots_count_and_what_does_not_fit_is_refused) {
    probe p = {0};
    for (uint64_t seed = 1; seed <= 6 && !p.done; seed++) run_probe(&p, seed); /* until one tree is wide enough for two lots */
    ck_assert(p.done);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("share");
    TCase *tc = tcase_create("share");
    tcase_set_timeout(tc, 120);
    tcase_add_test(tc, share__torn_apart_it_proves_the_same);
    tcase_add_test(tc, share__lots_count_and_what_does_not_fit_is_refused);
    suite_add_tcase(suite, tc);
    return run_suite(suite);
}
