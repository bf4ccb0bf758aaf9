/* SPDX-License-Identifier: Apache-2.0
 * Law: what sampling runs on - plans side by side in float - is the replay in double within float's error: cost, and on
 * which side of the limits; and what gradient planning descends by is that cost's central difference. Over random models,
 * histories, costs and limits, some of them violated by the present. */
#include <check.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "net/split.h"
#include "plan/slope.h"
#include "plan/verify.h"
#include "support/models.h"
#include "support/planning.h"

#define N_SEEDS 300

typedef struct drawn {
    plan_case c;
    esp_program *step;
    esp_problem *problem;
    double y[16], u[16];
} drawn;

static void put_row(esp_buf *b, esp_rng *rng, int n, double least, double most) {
    esp_buf_puts(b, "[");
    for (int i = 0; i < n; i++) esp_buf_printf(b, "%s%.6f", i ? "," : "", esp_rng_range(rng, least, most));
    esp_buf_puts(b, "]");
}

static void put_terms(esp_buf *b, esp_rng *rng, int ny, int nu) {
    static const char *const ons[] = {"y", "u", "du"}, *const norms[] = {"l1", "linf", "l2sq"};
    for (int on = 0; on < 3; on++) {
        esp_buf_printf(b, "%s{'on':'%s','norm':'%s','weight':", on ? "," : "", ons[on], norms[esp_rng_below(rng, 3)]);
        put_row(b, rng, on ? nu : ny, 0, 2);
        esp_buf_puts(b, ",'target':");
        put_row(b, rng, on ? nu : ny, -1, 1);
        esp_buf_puts(b, "}");
    }
}

static void put_state(esp_buf *b, esp_rng *rng, int ny) {
    esp_buf_puts(b, ",'state':{'lower':");
    put_row(b, rng, ny, -3, 0);
    esp_buf_puts(b, ",'upper':");
    put_row(b, rng, ny, 0.2, 3);
    esp_buf_puts(b, ",'halfspaces':[{'a':");
    put_row(b, rng, ny, -1, 1);
    esp_buf_puts(b, ",'b':0.8}],'avoid':[{'index':[0],'lower':[-0.2],'upper':[0.3]}]}");
}

static void draw(drawn *d, uint64_t seed) {
    esp_rng rng;
    esp_rng_init(&rng, seed, 1);
    int ny = 1 + (int)esp_rng_below(&rng, 4), nu = 1 + (int)esp_rng_below(&rng, 3), history = 1 + (int)esp_rng_below(&rng, 3);
    esp_buf b = {0};
    esp_error error = {0};
    memset(d, 0, sizeof *d);
    esp_buf_printf(&b, "{'horizon':%d,'cost':{'stage':[", 1 + (int)esp_rng_below(&rng, 6));
    put_terms(&b, &rng, ny, nu);
    esp_buf_puts(&b, "],'terminal':[");
    put_terms(&b, &rng, ny, nu);
    esp_buf_printf(&b, "]},'input':{'lower':[-1%s],'upper':[1%s]}", nu > 2 ? ",-1,-1" : nu > 1 ? ",-1" : "", nu > 2 ? ",1,1" : nu > 1 ? ",1" : "");
    if (seed % 2) put_state(&b, &rng, ny);
    esp_buf_puts(&b, "}");
    d->c = case_of(random_dynamics(&rng, ny, nu, history), esp_buf_text(&b));
    for (int i = 0; i < 16; i++) d->y[i] = esp_rng_normal(&rng), d->u[i] = esp_rng_range(&rng, -1, 1);
    esp_plan_request request = {.y = d->y, .u = d->u, .n_u = history - 1 + (int)esp_rng_below(&rng, 2)};
    ck_assert_msg(esp_program_lower(d->c.model, &d->step, &error) == ESP_OK, "%s", error.message);
    ck_assert_msg(esp_problem_create(d->c.task, d->step, history, NULL, NULL, &request, &d->problem, &error) == ESP_OK, "seed %llu: %s",
                  (unsigned long long)seed, error.message);
    esp_buf_done(&b);
}

static void drop(drawn *d) {
    esp_problem_free(d->problem);
    esp_program_free(d->step);
    case_done(&d->c);
}

static double largest(const esp_plan *plan) {
    double most = 1;
    for (int k = 0; k < plan->horizon * plan->ny; k++) most = fmax(most, fabs(plan->predicted[k]));
    return most;
}

START_TEST(rollout__is_the_replay_within_floats_error) {
    seed_range range = seeds(N_SEEDS);
    int inside = 0, outside = 0, softs = 0;
    for (uint64_t seed = range.first; seed <= range.last; seed++) {
        drawn d;
        draw(&d, seed);
        const esp_problem *p = d.problem;
        esp_sampler *sampler = NULL;
        esp_plan plan;
        esp_rng rng;
        esp_rng_init(&rng, seed, 2);
        enum { N = ESP_LANES + 5 };
        ck_assert(esp_sampler_create(d.step, &sampler, NULL) == ESP_OK && esp_sampler_reserve(sampler, p, N, NULL) == ESP_OK);
        ck_assert(esp_plan_create(p, &plan, NULL) == ESP_OK);
        for (int j = 0; j < N; j++)
            for (int k = 0; k < sampler->hu; k++) *esp_sampler_at(sampler, p, j, k) = (float)esp_rng_range(&rng, -1, 1);
        esp_sampler_rollout(sampler, p, N);
        for (int j = 0; j < N; j++) {
            for (int k = 0; k < sampler->hu; k++) plan.inputs[k] = (double)*esp_sampler_at(sampler, p, j, k);
            bool holds = esp_verify(p, &plan);
            double size = largest(&plan), tolerance = 2e-5 * size * (size + fabs(plan.objective) + p->penalty);
            ck_assert_msg(fabs((double)sampler->cost[j] - plan.objective) <= tolerance, "seed %llu, plan %d: costs %.9g, in float %.9g",
                          (unsigned long long)seed, j, plan.objective, (double)sampler->cost[j]);
            if (!(sampler->violation[j] > 0)) ck_assert_msg(holds || size > 10, "seed %llu, plan %d is outside", (unsigned long long)seed, j);
            if (holds) ck_assert_msg(sampler->violation[j] <= 1e-3f * (float)size, "seed %llu, plan %d is inside", (unsigned long long)seed, j);
            inside += holds;
            outside += !holds;
            softs += p->n_softs > 0;
        }
        esp_plan_done(&plan);
        esp_sampler_free(sampler);
        drop(&d);
    }
    if (range.last > range.first) ck_assert(inside > 1000 && outside > 1000 && softs > 1000);
}
END_TEST

/* Slopes of a tile of plans, back through time: du (H*nu x LANES). */
static void slopes(const esp_problem *p, const esp_batch *batch, const esp_tile *tile, esp_arena *arena, float *du) {
    size_t n_values = (size_t)(p->step->n_x + p->step->n_r) * ESP_LANES;
    float *values = ESP_NEW(arena, float, n_values *(size_t)p->horizon), *dy = ESP_NEW(arena, float, p->horizon * p->ny * ESP_LANES);
    float *g = ESP_NEW(arena, float, (p->ny + p->step->n_r) * ESP_LANES), *dx = ESP_NEW(arena, float, p->step->n_x *ESP_LANES);
    esp_slope slope = {.dy = dy, .du = du};
    for (int t = 0; t < p->horizon; t++) esp_tile_step(tile, batch, t, values + (size_t)t * n_values);
    esp_tile_cost_slope(tile, &slope);
    esp_tile_back(tile, batch, values, n_values, &slope, g, dx);
}

static double cost_at(const esp_problem *p, esp_plan *plan, int k, double at) {
    double keep = plan->inputs[k];
    plan->inputs[k] = at;
    (void)esp_verify(p, plan);
    plan->inputs[k] = keep;
    return plan->objective;
}

/* Where the differences to the left and to the right are one there is no kink between, and the slope must be theirs. */
START_TEST(rollout__descends_by_the_central_difference) {
    const double h = 1e-6;
    seed_range range = seeds(100);
    int compared = 0, kinks = 0;
    for (uint64_t seed = range.first; seed <= range.last; seed++) {
        drawn d;
        draw(&d, seed);
        const esp_problem *p = d.problem;
        esp_batch *batch = NULL;
        esp_plan plan;
        esp_rng rng;
        esp_arena *arena = esp_arena_create(0);
        int hu = p->horizon * p->nu;
        float *y = ESP_NEW(arena, float, esp_tile_size_y(p)), *u = ESP_NEW(arena, float, esp_tile_size_u(p));
        float *du = ESP_NEW(arena, float, hu *ESP_LANES);
        ck_assert(esp_batch_create(d.step, esp_split_granted(), &batch, NULL) == ESP_OK && esp_plan_create(p, &plan, NULL) == ESP_OK);
        esp_rng_init(&rng, seed, 3);
        esp_tile tile = esp_tile_on(p, y, u);
        for (int k = 0; k < hu * ESP_LANES; k++) esp_tile_u(&tile, 0)[k] = (float)esp_rng_range(&rng, -0.9, 0.9);
        slopes(p, batch, &tile, arena, du);
        for (int j = 0; j < ESP_LANES; j += 7) {
            for (int k = 0; k < hu; k++) plan.inputs[k] = (double)esp_tile_u(&tile, 0)[k * ESP_LANES + j];
            for (int k = 0; k < hu; k++) {
                double at = plan.inputs[k], middle = cost_at(p, &plan, k, at), size = largest(&plan);
                double left = (middle - cost_at(p, &plan, k, at - h)) / h, right = (cost_at(p, &plan, k, at + h) - middle) / h;
                double tolerance = 1e-3 * (1 + p->penalty) * size, got = (double)du[k * ESP_LANES + j];
                compared++;
                if (fabs(left - right) > 0.3 * tolerance)
                    kinks++;
                else
                    ck_assert_msg(fabs(got - 0.5 * (left + right)) <= tolerance, "seed %llu, plan %d, input %d: slope %g, difference %g",
                                  (unsigned long long)seed, j, k, got, 0.5 * (left + right));
            }
        }
        esp_plan_done(&plan);
        esp_batch_free(batch);
        esp_arena_free(arena);
        drop(&d);
    }
    if (range.last > range.first) ck_assert_int_lt(20 * kinks, compared);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("rollout");
    TCase *tc = tcase_create("rollout");
    tcase_set_timeout(tc, 60);
    tcase_add_test(tc, rollout__is_the_replay_within_floats_error);
    tcase_add_test(tc, rollout__descends_by_the_central_difference);
    suite_add_tcase(suite, tc);
    return run_suite(suite);
}
