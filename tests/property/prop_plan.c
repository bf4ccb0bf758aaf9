/* SPDX-License-Identifier: Apache-2.0
 * The exact planner against enumeration and sampling, on random small problems.
 *
 * With a finite set of inputs the optimum is found by trying every plan with the oracle's own replay, cost and limits:
 * the planner must find that optimum, may call nothing optimal that is not, and may call infeasible only what no plan
 * satisfies. With continuous inputs no sampled plan may cost less than the proved bound, and none may beat an `optimal`
 * plan by more than the gap. */
#include <check.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "support/models.h"
#include "support/planning.h"

#define GAP    1e-4
#define UNSURE 1e-5 /* plans this near a limit may count either way */

static int between(esp_rng *rng, int least, int most) {
    return least + (int)esp_rng_below(rng, (size_t)(most - least + 1));
}

static bool chance(esp_rng *rng, double p) {
    return esp_rng_uniform(rng) < p;
}

/* Dead, stuck, tiny and huge neurons among ordinary ones. */
static void bend(esp_rng *rng, esp_net *net) {
    for (int l = 0; l + 1 < net->n_layers; l++) {
        esp_layer *layer = &net->layers[l];
        for (int i = 0; i < layer->n_out; i++) {
            if (chance(rng, 0.1))
                layer->b[i] = -50;
            else if (chance(rng, 0.1))
                layer->b[i] = 50;
            else if (chance(rng, 0.1))
                layer->b[i] = 0;
            double scale = chance(rng, 0.1) ? 1e-6 : chance(rng, 0.05) ? 200 : 1;
            for (int j = 0; j < layer->n_in; j++) layer->w[i * layer->n_in + j] *= scale;
        }
    }
}

static void put_row(esp_buf *b, esp_rng *rng, int n, double least, double most) {
    esp_buf_puts(b, "[");
    for (int i = 0; i < n; i++) esp_buf_printf(b, "%s%.6f", i ? "," : "", esp_rng_range(rng, least, most));
    esp_buf_puts(b, "]");
}

static void put_term(esp_buf *b, esp_rng *rng, int ny, int nu) {
    static const char *const ons[] = {"y", "y", "u", "du"}, *const norms[] = {"l1", "linf", "l2sq"};
    int on = between(rng, 0, 3);
    esp_buf_printf(b, "{'on':'%s','norm':'%s','weight':", ons[on], norms[between(rng, 0, 2)]);
    put_row(b, rng, on < 2 ? ny : nu, 0, 2);
    esp_buf_puts(b, ",'target':");
    put_row(b, rng, on < 2 ? ny : nu, -1, 1);
    esp_buf_puts(b, "}");
}

static void put_state(esp_buf *b, esp_rng *rng, int ny) {
    esp_buf_puts(b, ",'state':{");
    bool first = true;
    if (chance(rng, 0.6)) {
        esp_buf_puts(b, "'lower':");
        put_row(b, rng, ny, -3, -0.5);
        esp_buf_puts(b, ",'upper':");
        put_row(b, rng, ny, 0.2, 2);
        first = false;
    }
    if (chance(rng, 0.4)) {
        esp_buf_printf(b, "%s'halfspaces':[{'a':", first ? "" : ",");
        put_row(b, rng, ny, -1, 1);
        esp_buf_puts(b, ",'b':0.4}]");
        first = false;
    }
    if (chance(rng, 0.5)) {
        esp_buf_printf(b, "%s'avoid':[{'index':[%d],'lower':[-0.2],'upper':[0.3]}]", first ? "" : ",", between(rng, 0, ny - 1));
    }
    esp_buf_puts(b, "}");
}

/* n_values 0: continuous inputs, now and then one of them fixed. */
static void put_task(esp_buf *b, esp_rng *rng, int ny, int nu, int horizon, int n_values) {
    esp_buf_printf(b, "{'horizon':%d,'cost':{'stage':[", horizon);
    put_term(b, rng, ny, nu);
    for (int extra = between(rng, 0, 2); extra > 0; extra--) {
        esp_buf_puts(b, ",");
        put_term(b, rng, ny, nu);
    }
    esp_buf_puts(b, "],'terminal':[");
    if (chance(rng, 0.5)) put_term(b, rng, ny, nu);
    esp_buf_puts(b, "]},'input':{'lower':[");
    for (int i = 0; i < nu; i++) esp_buf_printf(b, "%s-1", i ? "," : "");
    esp_buf_puts(b, "],'upper':[");
    for (int i = 0; i < nu; i++) esp_buf_printf(b, "%s%d", i ? "," : "", chance(rng, 0.1) && n_values == 0 ? -1 : 1);
    esp_buf_puts(b, "]");
    if (n_values > 0) esp_buf_puts(b, ",'values':[");
    for (int k = 0; k < n_values; k++) {
        if (k) esp_buf_puts(b, ",");
        put_row(b, rng, nu, -1, 1);
    }
    if (n_values > 0) esp_buf_puts(b, "]");
    if (chance(rng, 0.3)) {
        esp_buf_puts(b, ",'rate':");
        put_row(b, rng, nu, 0.3, 1.5);
    }
    esp_buf_puts(b, "}");
    if (chance(rng, 0.6)) put_state(b, rng, ny);
    const char *engine = chance(rng, 0.5) ? "auto" : "cbc";
    esp_buf_printf(b, ",'planner':{'engine':'%s','gap':%g,'absolute_gap':1e-5,'seed':%d}}", engine, GAP, between(rng, 0, 1000));
}

typedef struct drawn {
    plan_case c;
    esp_plan_request request;
    double y[16], u[16];
    char *text;
} drawn;

static void draw(drawn *d, uint64_t seed, bool finite) {
    esp_rng rng;
    esp_rng_init(&rng, seed, finite ? 1 : 2);
    int ny = between(&rng, 1, 3), nu = between(&rng, 1, 2), history = between(&rng, 1, 2), horizon = between(&rng, 1, 3);
    esp_model *model = random_dynamics(&rng, ny, nu, history);
    bend(&rng, model->net);
    esp_buf b = {0};
    put_task(&b, &rng, ny, nu, horizon, finite ? between(&rng, 1, 4) : 0);
    size_t len;
    d->text = esp_buf_take(&b, &len);
    d->c = case_of(model, d->text);
    for (int i = 0; i < history * ny; i++) d->y[i] = esp_rng_normal(&rng);
    for (int i = 0; i < 16; i++) d->u[i] = esp_rng_range(&rng, -1, 1);
    d->request = (esp_plan_request){.y = d->y, .u = d->u, .n_u = history - 1 + (chance(&rng, 0.5) ? 1 : 0)};
}

static void drop(drawn *d) {
    case_done(&d->c);
    free(d->text);
}

static esp_plan_result plan(drawn *d, uint64_t seed) {
    esp_plan_result result;
    esp_error error = {0};
    esp_code code = case_run(&d->c, &d->request, INFINITY, &result, &error);
    ck_assert_msg(code == ESP_OK, "seed %llu: %s: %s", (unsigned long long)seed, error.pointer, error.message);
    if (result.best.inputs) {
        double excess, cost = oracle_plan(d->c.model, d->c.task, &d->request, result.best.inputs, &excess);
        ck_assert_msg(fabs(cost - result.best.objective) <= 1e-8 * (1 + fabs(cost)), "seed %llu: cost %.12g is %.12g", (unsigned long long)seed,
                      result.best.objective, cost);
        ck_assert_msg(excess <= 4e-6, "seed %llu: outside by %g", (unsigned long long)seed, excess);
    }
    return result;
}

/* Best cost of all plans that are inside by more than UNSURE, and of those that are not outside by more. */
typedef struct optimum {
    double strict, loose;
} optimum;

static optimum enumerate(const drawn *d) {
    const esp_task *task = d->c.task;
    int nu = task->nu, count = 1;
    double inputs[3 * 2];
    optimum best = {INFINITY, INFINITY};
    for (int t = 0; t < task->horizon; t++) count *= task->n_values;
    for (int k = 0; k < count; k++) {
        for (int t = 0, rest = k; t < task->horizon; t++, rest /= task->n_values)
            memcpy(inputs + t * nu, task->values + (rest % task->n_values) * nu, (size_t)nu * sizeof(double));
        double excess, cost = oracle_plan(d->c.model, task, &d->request, inputs, &excess);
        if (excess <= -UNSURE && cost < best.strict) best.strict = cost;
        if (excess <= UNSURE && cost < best.loose) best.loose = cost;
    }
    return best;
}

START_TEST(plan__finds_the_optimum_of_finite_inputs) {
    int optimal = 0, infeasible = 0, all = 0;
    seed_range range = seeds(60);
    for (uint64_t seed = range.first; seed <= range.last; seed++) {
        drawn d;
        draw(&d, seed, true);
        optimum best = enumerate(&d);
        esp_plan_result result = plan(&d, seed);
        double slack = 1e-5 * (1 + fabs(best.strict));
        if (result.status == ESP_PLAN_INFEASIBLE)
            ck_assert_msg(!isfinite(best.strict), "seed %llu: called infeasible, costs %g\n%s", (unsigned long long)seed, best.strict, d.text);
        if (isfinite(best.loose))
            ck_assert_msg(result.lower_bound <= best.loose + slack, "seed %llu: bound %.9g above the optimum %.9g\n%s", (unsigned long long)seed,
                          result.lower_bound, best.loose, d.text);
        if (isfinite(best.strict)) {
            ck_assert_msg(result.best.inputs != NULL, "seed %llu: no plan, there is one\n%s", (unsigned long long)seed, d.text);
            ck_assert_msg(result.best.objective <= best.strict + GAP * fabs(best.strict) + slack, "seed %llu: %.9g, the optimum is %.9g\n%s",
                          (unsigned long long)seed, result.best.objective, best.strict, d.text);
            ck_assert_msg(result.best.objective >= best.loose - slack, "seed %llu: better than the optimum\n%s", (unsigned long long)seed, d.text);
        }
        if (!isfinite(best.loose)) ck_assert_msg(result.best.inputs == NULL, "seed %llu: a plan where none is\n%s", (unsigned long long)seed, d.text);
        optimal += result.status == ESP_PLAN_OPTIMAL;
        infeasible += result.status == ESP_PLAN_INFEASIBLE;
        all++;
        esp_plan_result_done(&result);
        drop(&d);
    }
    /* given all the time it wants it settles nearly every one */
    if (all > 10)
        ck_assert_msg(10 * (optimal + infeasible) >= 9 * all && infeasible > 0, "%d optimal and %d infeasible of %d", optimal, infeasible, all);
}
END_TEST

/* The least cost of plans drawn in the box, on its corners, and around the plan found. */
static double sampled_best(const drawn *d, const esp_plan_result *result, esp_rng *rng) {
    const esp_task *task = d->c.task;
    int nu = task->nu, hu = task->horizon * nu;
    double inputs[3 * 2], best = INFINITY;
    for (int k = 0; k < 3000; k++) {
        for (int i = 0; i < hu; i++) {
            double lower = task->u_lower[i % nu], upper = task->u_upper[i % nu];
            inputs[i] = chance(rng, 0.2) ? lower : chance(rng, 0.2) ? upper : esp_rng_range(rng, lower, upper);
            if (k % 3 == 0 && result->best.inputs) inputs[i] = fmin(fmax(result->best.inputs[i] + 0.1 * esp_rng_normal(rng), lower), upper);
        }
        double excess, cost = oracle_plan(d->c.model, task, &d->request, inputs, &excess);
        if (excess <= 0 && cost < best) best = cost;
    }
    return best;
}

START_TEST(plan__no_sample_beats_what_is_proved) {
    int optimal = 0, all = 0;
    seed_range range = seeds(60);
    for (uint64_t seed = range.first; seed <= range.last; seed++) {
        drawn d;
        esp_rng rng;
        draw(&d, seed, false);
        esp_rng_init(&rng, seed, 3);
        esp_plan_result result = plan(&d, seed);
        double best = sampled_best(&d, &result, &rng), slack = 1e-5 * (1 + fabs(best));
        if (isfinite(best)) {
            ck_assert_msg(result.status != ESP_PLAN_INFEASIBLE, "seed %llu: called infeasible, costs %g\n%s", (unsigned long long)seed, best, d.text);
            ck_assert_msg(result.lower_bound <= best + slack, "seed %llu: bound %.9g, a sample costs %.9g\n%s", (unsigned long long)seed,
                          result.lower_bound, best, d.text);
            if (result.status == ESP_PLAN_OPTIMAL)
                ck_assert_msg(result.best.objective <= best + GAP * fabs(best) + slack, "seed %llu: optimal %.9g, a sample costs %.9g\n%s",
                              (unsigned long long)seed, result.best.objective, best, d.text);
        }
        optimal += result.status == ESP_PLAN_OPTIMAL || result.status == ESP_PLAN_INFEASIBLE;
        all++;
        esp_plan_result_done(&result);
        drop(&d);
    }
    if (all > 10) ck_assert_msg(10 * optimal >= 9 * all, "%d settled of %d", optimal, all);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("plan");
    TCase *tc = tcase_create("plan");
    tcase_set_timeout(tc, 300);
    tcase_add_test(tc, plan__finds_the_optimum_of_finite_inputs);
    tcase_add_test(tc, plan__no_sample_beats_what_is_proved);
    suite_add_tcase(suite, tc);
    return run_suite(suite);
}
