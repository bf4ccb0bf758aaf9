/* SPDX-License-Identifier: Apache-2.0
 * The largest difference by CBC against the largest by halving inputs, and against points: the two meet, and no point is above. */
#include <check.h>
#include <math.h>
#include <stdlib.h>

#include "certify/twin.h"
#include "plan/exact.h"
#include "support/models.h"

enum { SEEDS = 24, POINTS = 2000, MOST = 8 };

typedef struct pair {
    esp_model *f, *g;
    esp_program *program_f, *program_g;
    int pairs[64];
    double lower[MOST], upper[MOST];
    esp_box box;
} pair;

/* Two networks of the same layers, g with some weights of f gone; or of their own when `apart`. */
static void make(pair *p, uint64_t seed, bool apart) {
    esp_rng rng;
    const int widths[4] = {1 + (int)(seed % 4), 4, 3, 1 + (int)(seed / 4 % 2)};
    esp_rng_init(&rng, seed, 91);
    esp_net *net_f = random_net(&rng, 3, widths, -1);
    if (!apart) esp_rng_init(&rng, seed, 91);
    esp_net *net_g = random_net(&rng, 3, widths, -1);
    for (int l = 0; !apart && l < 3; l++)
        for (int k = 0; k < net_g->layers[l].n_in * net_g->layers[l].n_out; k++)
            if (fabs(net_g->layers[l].w[k]) < 0.3) net_g->layers[l].w[k] = 0;
    ck_assert_int_eq(esp_model_create(ESP_MODEL_POLICY, widths[0], widths[3], 1, NULL, net_f, &p->f, NULL), ESP_OK);
    ck_assert_int_eq(esp_model_create(ESP_MODEL_POLICY, widths[0], widths[3], 1, NULL, net_g, &p->g, NULL), ESP_OK);
    ck_assert_int_eq(esp_program_lower(p->f, &p->program_f, NULL), ESP_OK);
    ck_assert_int_eq(esp_program_lower(p->g, &p->program_g, NULL), ESP_OK);
    (void)esp_twin_pairs(p->f->net, p->g->net, p->pairs);
    for (int k = 0; k < widths[0]; k++) {
        p->lower[k] = esp_rng_range(&rng, -2, 0);
        p->upper[k] = esp_rng_range(&rng, 0, 2);
    }
    p->box = (esp_box){widths[0], p->lower, p->upper};
}

static void done(pair *p) {
    esp_program_free(p->program_f);
    esp_program_free(p->program_g);
    esp_model_free(p->f);
    esp_model_free(p->g);
}

static void compare(const pair *p, uint64_t seed, const esp_program *g) {
    esp_certify_opts opts = ESP_CERTIFY_OPTS_INIT;
    esp_certified split = {0};
    esp_exact exact = {0};
    esp_error error = {0};
    double x[MOST], y[MOST], z[MOST] = {0}, work[256];
    esp_rng rng;
    opts.gap = 1e-3;
    ck_assert_msg(esp_certify_difference(p->program_f, g, g ? p->pairs : NULL, &p->box, &opts, NULL, &split, &error) == ESP_OK, "%s", error.message);
    ck_assert_msg(esp_exact_run(p->program_f, g, g ? p->pairs : NULL, &p->box, &opts, NULL, &exact, &error) == ESP_OK, "%s", error.message);
    ck_assert_str_eq(exact.status, "optimal");
    ck_assert_int_eq(exact.refused, 0);
    double proved = split.rows[split.n - 1].value, reached = fmax(split.rows[0].lower, exact.lower);
    ck_assert_msg(exact.value >= reached && exact.value <= reached * (1 + 2e-3) + 2 * exact.tolerance + 1e-12,
                  "seed %llu: %.9g by CBC, %.9g reached, %.9g by splitting", (unsigned long long)seed, exact.value, reached, proved);
    ck_assert(exact.lower <= proved);
    esp_rng_init(&rng, seed, 92);
    for (int n = 0; n < POINTS; n++) {
        for (int k = 0; k < p->box.n; k++) x[k] = esp_rng_range(&rng, p->lower[k], p->upper[k]);
        esp_program_forward(p->program_f, x, y, NULL, NULL, work);
        if (g) esp_program_forward(g, x, z, NULL, NULL, work);
        for (int i = 0; i < p->program_f->n_y; i++) ck_assert(fabs(y[i] - z[i]) <= exact.value + 1e-12);
    }
    esp_exact_done(&exact);
    esp_certified_done(&split);
}

START_TEST(exact__meets_splitting) {
    seed_range range = seeds(SEEDS);
    for (uint64_t seed = range.first; seed <= range.last; seed++) {
        pair p = {0};
        make(&p, seed, seed % 3 == 0);
        compare(&p, seed, seed % 5 ? p.program_g : NULL);
        done(&p);
    }
}
END_TEST

START_TEST(exact__of_equal_models_is_nothing) {
    pair p = {0};
    esp_exact exact = {0};
    const esp_certify_opts opts = ESP_CERTIFY_OPTS_INIT;
    make(&p, 7, true);
    ck_assert_int_eq(esp_twin_pairs(p.f->net, p.f->net, p.pairs), 1);
    ck_assert_int_eq(esp_exact_run(p.program_f, p.program_f, p.pairs, &p.box, &opts, NULL, &exact, NULL), ESP_OK);
    ck_assert_double_eq(exact.value, 0);
    ck_assert(!exact.solver);
    esp_exact_done(&exact);
    done(&p);
}
END_TEST

START_TEST(exact__refuses_the_two_norm_of_several_outputs) {
    pair p = {0};
    esp_exact exact = {0};
    esp_certify_opts opts = ESP_CERTIFY_OPTS_INIT;
    make(&p, 4, true); /* two outputs */
    opts.norm = ESP_NORM_2;
    ck_assert_int_eq(esp_exact_run(p.program_f, p.program_g, p.pairs, &p.box, &opts, NULL, &exact, NULL), ESP_INVALID);
    ck_assert_ptr_null(exact.witness);
    done(&p);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("exact");
    TCase *tc = tcase_create("exact");
    tcase_set_timeout(tc, 120);
    tcase_add_test(tc, exact__meets_splitting);
    tcase_add_test(tc, exact__of_equal_models_is_nothing);
    tcase_add_test(tc, exact__refuses_the_two_norm_of_several_outputs);
    suite_add_tcase(suite, tc);
    return run_suite(suite);
}
