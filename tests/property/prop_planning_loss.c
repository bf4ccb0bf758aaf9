/* SPDX-License-Identifier: Apache-2.0
 * Laws of the planning loss: no sampled plan costs further apart than eta on the two models, outputs stay within the
 * deviations, and the best of sampled plans on the one model loses at most 2 eta on the other. */
#include <check.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "certify/planning_loss.h"
#include "support/models.h"

#define N_SEEDS 40
#define MOST    64
#define PLANS   60

typedef struct setting {
    esp_model *model, *reference;
    double lower[MOST], upper[MOST], weight[3][4], target[3][4];
    int index[4];
    esp_box box;
    int horizon, n_terms;
    esp_loss_term terms[3];
} setting;

static esp_model *pruned(const esp_model *model, esp_rng *rng) {
    esp_net *net = NULL;
    esp_model *made = NULL;
    ck_assert(esp_net_copy(model->net, &net, NULL) == ESP_OK);
    for (int k = 0; k < net->n_layers; k++)
        for (int i = 0; i < net->layers[k].n_in * net->layers[k].n_out; i++)
            net->layers[k].w[i] *= esp_rng_uniform(rng) < 0.2 ? 0 : 1 + 0.1 * esp_rng_normal(rng);
    ck_assert(esp_model_create(model->kind, model->ny, model->nu, model->history, &model->frame, net, &made, NULL) == ESP_OK);
    return made;
}

static void make(setting *s, uint64_t seed) {
    esp_rng rng;
    esp_rng_init(&rng, seed, 9);
    int ny = 1 + (int)esp_rng_below(&rng, 3), nu = (int)esp_rng_below(&rng, 3), history = 1 + (int)esp_rng_below(&rng, 2);
    s->reference = random_dynamics(&rng, ny, nu, history);
    s->model = seed % 5 ? pruned(s->reference, &rng) : random_dynamics(&rng, ny, nu, history); /* now and then quite another one */
    s->horizon = 1 + (int)esp_rng_below(&rng, 5);
    s->box = (esp_box){esp_loss_inputs(s->model, s->horizon), s->lower, s->upper};
    ck_assert_int_eq(s->box.n, history * ny + (history - 1 + s->horizon) * nu);
    for (int k = 0; k < s->box.n; k++) {
        s->lower[k] = esp_rng_normal(&rng);
        s->upper[k] = s->lower[k] + (esp_rng_uniform(&rng) < 0.2 ? 0 : esp_rng_uniform(&rng));
    }
    s->n_terms = 3;
    for (int i = 0; i < ny; i++) s->index[i] = i;
    for (int k = 0; k < 3; k++) {
        for (int i = 0; i < ny; i++) {
            s->weight[k][i] = esp_rng_uniform(&rng) < 0.2 ? 0 : esp_rng_uniform(&rng);
            s->target[k][i] = esp_rng_normal(&rng);
        }
        int first = 1 + (int)esp_rng_below(&rng, (size_t)s->horizon);
        s->terms[k] = (esp_loss_term){(esp_loss_norm)k, first, s->horizon, ny, s->index, s->weight[k], s->target[k], s->target[k]};
    }
}

static void done(setting *s) {
    esp_model_free(s->model);
    esp_model_free(s->reference);
}

/* The outputs and the cost of a present and a plan, straight from the definitions. */
static double cost_of(const setting *s, const esp_model *m, const double *plan, double *ret_y) {
    int ny = m->ny, nu = m->nu, n_y = m->history * ny, n_u = m->history * nu, present = n_y + n_u - nu;
    double x[2 * MOST], cost = 0;
    memcpy(x, plan, (size_t)present * sizeof *x);
    for (int t = 0; t < s->horizon; t++) {
        double *y = ret_y + t * ny;
        memcpy(x + n_y + n_u - nu, plan + present + t * nu, (size_t)nu * sizeof *x);
        oracle_step(m, x, y, NULL);
        memmove(x, x + ny, (size_t)(n_y - ny) * sizeof *x);
        memcpy(x + n_y - ny, y, (size_t)ny * sizeof *x);
        memmove(x + n_y, x + n_y + nu, (size_t)(n_u - nu) * sizeof *x);
        for (int k = 0; k < s->n_terms; k++) {
            const esp_loss_term *term = &s->terms[k];
            double largest = 0;
            for (int i = 0; i < ny && term->first <= t + 1; i++) {
                double off = y[i] - s->target[k][i];
                if (term->norm == ESP_LOSS_L1) cost += term->weight[i] * fabs(off);
                if (term->norm == ESP_LOSS_L2SQ) cost += term->weight[i] * off * off;
                largest = fmax(largest, term->weight[i] * fabs(off));
            }
            if (term->norm == ESP_LOSS_LINF) cost += largest;
        }
    }
    return cost;
}

static void check_seed(uint64_t seed) {
    setting s;
    esp_loss *loss = NULL;
    esp_rng rng;
    esp_loss_opts opts = ESP_LOSS_OPTS_INIT;
    double y_hat[MOST], y[MOST], plan[MOST];
    make(&s, seed);
    esp_rng_init(&rng, seed, 10);
    opts.max_leaves = seed % 3 ? 30 : 1;
    ck_assert(esp_loss_run(s.model, s.reference, s.horizon, &s.box, s.n_terms, s.terms, &opts, NULL, &loss, NULL) == ESP_OK);
    ck_assert(isfinite(loss->eta) && isfinite(loss->product_eta));
    int present = s.box.n - s.horizon * s.model->nu;
    double best_hat = INFINITY, at_best = 0, best = INFINITY;
    for (int n = 0; n < PLANS; n++) {
        for (int k = n < PLANS / 2 || n == PLANS / 2 ? 0 : present; k < s.box.n; k++) {
            double t = n % 2 ? esp_rng_uniform(&rng) : (double)esp_rng_below(&rng, 2);
            plan[k] = fmin(s.upper[k], s.lower[k] + t * (s.upper[k] - s.lower[k]));
        }
        double j_hat = cost_of(&s, s.model, plan, y_hat), j = cost_of(&s, s.reference, plan, y), slack = 1e-10 * (1 + fabs(j) + fabs(j_hat));
        double eta = fmin(loss->eta, loss->product_eta);
        ck_assert_msg(fabs(j_hat - j) <= eta + slack, "seed %llu: %.17g beyond %.17g", (unsigned long long)seed, fabs(j_hat - j), eta);
        for (int t = 0; t < s.horizon; t++)
            for (int i = 0; i < s.model->ny; i++) {
                double apart = fabs(y_hat[t * s.model->ny + i] - y[t * s.model->ny + i]);
                double bound = fmin(loss->deviation[t], loss->product[t]);
                ck_assert_msg(apart <= bound + slack, "seed %llu step %d: %g beyond %g", (unsigned long long)seed, t, apart, bound);
            }
        if (n < PLANS / 2) continue; /* from here on the present stands */
        if (j_hat < best_hat) best_hat = j_hat, at_best = j;
        best = fmin(best, j);
    }
    ck_assert(at_best <= best + 2 * fmin(loss->eta, loss->product_eta) + 1e-10 * (1 + fabs(best)));
    for (int t = 0; t < s.horizon; t++) ck_assert(loss->lower[t] <= fmin(loss->deviation[t], loss->product[t]));
    esp_loss_free(loss);
    done(&s);
}

START_TEST(loss__bounds_every_sampled_plan) {
    seed_range range = seeds(N_SEEDS);
    for (uint64_t seed = range.first; seed <= range.last; seed++) check_seed(seed);
}
END_TEST

START_TEST(loss__of_a_model_against_itself_is_none) {
    setting s;
    esp_loss *loss = NULL;
    esp_loss_opts opts = ESP_LOSS_OPTS_INIT;
    make(&s, 3);
    ck_assert(esp_loss_run(s.reference, s.reference, s.horizon, &s.box, s.n_terms, s.terms, &opts, NULL, &loss, NULL) == ESP_OK);
    ck_assert_double_eq(loss->eta, 0);
    ck_assert_int_eq(loss->leaves, 1);
    esp_loss_free(loss);
    done(&s);
}
END_TEST

START_TEST(loss__refuses_what_does_not_fit) {
    setting s;
    esp_loss *loss = NULL;
    esp_loss_opts opts = ESP_LOSS_OPTS_INIT;
    make(&s, 1);
    esp_box small = {s.box.n - 1, s.lower, s.upper};
    ck_assert(esp_loss_run(s.model, s.reference, s.horizon, &small, s.n_terms, s.terms, &opts, NULL, &loss, NULL) == ESP_INVALID);
    ck_assert(esp_loss_run(s.model, s.reference, 0, &s.box, s.n_terms, s.terms, &opts, NULL, &loss, NULL) == ESP_INVALID);
    s.terms[1].last = s.horizon + 1;
    ck_assert(esp_loss_run(s.model, s.reference, s.horizon, &s.box, s.n_terms, s.terms, &opts, NULL, &loss, NULL) == ESP_INVALID);
    s.terms[1].last = s.horizon;
    s.weight[0][0] = -1;
    ck_assert(esp_loss_run(s.model, s.reference, s.horizon, &s.box, s.n_terms, s.terms, &opts, NULL, &loss, NULL) == ESP_INVALID);
    ck_assert_ptr_null(loss);
    done(&s);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("planning_loss");
    TCase *tc = tcase_create("laws");
    tcase_set_timeout(tc, 60);
    tcase_add_test(tc, loss__bounds_every_sampled_plan);
    tcase_add_test(tc, loss__of_a_model_against_itself_is_none);
    tcase_add_test(tc, loss__refuses_what_does_not_fit);
    suite_add_tcase(suite, tc);
    return run_suite(suite);
}
