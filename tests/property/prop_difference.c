/* SPDX-License-Identifier: Apache-2.0
 * Laws of the certified largest output over a box: no sample exceeds the value, the witness reaches the lower end in exact
 * arithmetic, splitting never loosens, and with one input it closes on the true maximum. */
#include <check.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "certify/difference.h"
#include "support/exact.h"
#include "support/models.h"

#define N_SEEDS 120
#define MOST    256

typedef struct pair {
    esp_program *f, *g, *difference;
    double lower[MOST], upper[MOST];
    esp_box box;
} pair;

static esp_program *lowered(esp_model *model) {
    esp_program *program = NULL;
    ck_assert(esp_program_lower(model, &program, NULL) == ESP_OK);
    esp_model_free(model);
    return program;
}

/* A model and a pruned one: some weights zeroed, the others moved a little. */
static void make(pair *p, esp_rng *rng, int n_in) {
    esp_frame frame = {.kind = ESP_FRAME_NONE};
    const int widths[4] = {n_in, 2 + (int)esp_rng_below(rng, 7), 2 + (int)esp_rng_below(rng, 7), 1 + (int)esp_rng_below(rng, 3)};
    esp_net *net = random_net(rng, 3, widths, ESP_ACT_RELU), *pruned = NULL;
    esp_model *model = NULL, *other = NULL;
    ck_assert(esp_net_copy(net, &pruned, NULL) == ESP_OK);
    for (int k = 0; k < 3; k++)
        for (int i = 0; i < pruned->layers[k].n_in * pruned->layers[k].n_out; i++)
            pruned->layers[k].w[i] *= esp_rng_uniform(rng) < 0.2 ? 0 : 1 + 0.1 * esp_rng_normal(rng);
    ck_assert(esp_model_create(ESP_MODEL_POLICY, n_in, widths[3], 1, &frame, net, &model, NULL) == ESP_OK);
    ck_assert(esp_model_create(ESP_MODEL_POLICY, n_in, widths[3], 1, &frame, pruned, &other, NULL) == ESP_OK);
    p->f = lowered(model);
    p->g = lowered(other);
    ck_assert(esp_program_difference(p->f, p->g, &p->difference, NULL) == ESP_OK);
    for (int k = 0; k < n_in; k++) {
        p->lower[k] = esp_rng_normal(rng) - 1;
        p->upper[k] = p->lower[k] + (esp_rng_uniform(rng) < 0.1 ? 0 : 2 * esp_rng_uniform(rng));
    }
    p->box = (esp_box){n_in, p->lower, p->upper};
}

static void done(pair *p) {
    esp_program_free(p->f);
    esp_program_free(p->g);
    esp_program_free(p->difference);
}

static double norm_of(const double *y, int n, esp_norm norm) {
    double sum = 0, largest = 0;
    for (int i = 0; i < n; i++) sum += y[i] * y[i], largest = fmax(largest, fabs(y[i]));
    return norm == ESP_NORM_2 ? sqrt(sum) : largest;
}

/* |f(x) - g(x)| from the two programs, without the difference program. */
static double gap_at(const pair *p, const double *x, esp_norm norm) {
    double y[MOST], z[MOST], work[MOST];
    esp_program_forward(p->f, x, y, NULL, NULL, work);
    esp_program_forward(p->g, x, z, NULL, NULL, work);
    for (int i = 0; i < p->f->n_y; i++) y[i] -= z[i];
    return norm_of(y, p->f->n_y, norm);
}

static void check_reached(const pair *p, const double *x, esp_norm norm, double lower) {
    quad qp[MOST], qr[MOST], qy[MOST], sum = 0, largest = 0;
    for (int k = 0; k < p->box.n; k++) ck_assert(x[k] >= p->lower[k] && x[k] <= p->upper[k]);
    exact_forward(p->difference, x, qp, qr, qy);
    for (int i = 0; i < p->difference->n_y; i++) {
        quad size = qy[i] < 0 ? -qy[i] : qy[i];
        sum += size * size;
        if (size > largest) largest = size;
    }
    if (norm == ESP_NORM_INF)
        ck_assert(largest >= (quad)lower);
    else
        ck_assert(sum >= (quad)lower * (quad)lower);
}

START_TEST(difference__value_bounds_samples_and_the_witness_reaches_lower) {
    seed_range range = seeds(N_SEEDS);
    for (uint64_t seed = range.first; seed <= range.last; seed++) {
        esp_rng rng;
        esp_rng_init(&rng, seed, 1);
        pair p;
        make(&p, &rng, 1 + (int)(seed % 4));
        esp_certify_opts opts = ESP_CERTIFY_OPTS_INIT;
        opts.norm = seed % 2 ? ESP_NORM_2 : ESP_NORM_INF;
        opts.max_boxes = 1 + (int)esp_rng_below(&rng, 200);
        esp_certificate made[3];
        int n_made = 0;
        double witness[MOST], x[MOST];
        esp_error error = {0};
        ck_assert_msg(esp_certify_norm(p.difference, &p.box, &opts, NULL, made, &n_made, witness, &error) == ESP_OK, "%s", error.message);
        ck_assert_int_eq(n_made, 3);
        ck_assert(made[0].value >= made[1].value && made[1].value >= made[2].value && made[2].value >= made[2].lower);
        check_reached(&p, witness, opts.norm, made[2].lower);
        ck_assert_double_eq_tol(gap_at(&p, witness, opts.norm), made[2].lower, 1e-9); /* and it is that point's, not less */
        for (int n = 0; n < 200; n++) {
            for (int k = 0; k < p.box.n; k++) {
                double t = n % 2 ? esp_rng_uniform(&rng) : (double)esp_rng_below(&rng, 2);
                x[k] = fmin(p.upper[k], p.lower[k] + t * (p.upper[k] - p.lower[k]));
            }
            double gap = gap_at(&p, x, opts.norm);
            ck_assert_msg(gap <= made[2].value + 1e-12, "seed %llu: %.17g exceeds %.17g", (unsigned long long)seed, gap, made[2].value);
        }
        done(&p);
    }
}
END_TEST

START_TEST(difference__with_few_inputs_closes_the_gap) {
    seed_range range = seeds(N_SEEDS / 2);
    for (uint64_t seed = range.first; seed <= range.last; seed++) {
        esp_rng rng;
        esp_rng_init(&rng, seed, 2);
        pair p;
        make(&p, &rng, 1 + (int)(seed % 2));
        esp_certify_opts opts = ESP_CERTIFY_OPTS_INIT;
        opts.norm = seed % 4 < 2 ? ESP_NORM_2 : ESP_NORM_INF;
        esp_certificate made[3];
        int n_made;
        ck_assert(esp_certify_norm(p.difference, &p.box, &opts, NULL, made, &n_made, NULL, NULL) == ESP_OK);
        ck_assert_str_eq(made[2].status, "proved");
        ck_assert_msg(made[2].value <= made[2].lower * (1 + opts.gap) + 1e-12, "seed %llu: %g to %g", (unsigned long long)seed, made[2].lower,
                      made[2].value);
        /* The true maximum by a grid, finer than the gap for one input. */
        double most = 0, x[2];
        for (int i = 0; i <= 200; i++)
            for (int j = 0; j <= (p.box.n > 1 ? 200 : 0); j++) {
                x[0] = p.lower[0] + (p.upper[0] - p.lower[0]) * i / 200;
                if (p.box.n > 1) x[1] = p.lower[1] + (p.upper[1] - p.lower[1]) * j / 200;
                most = fmax(most, gap_at(&p, x, opts.norm));
            }
        ck_assert_double_ge(made[2].value, most - 1e-12);
        ck_assert_msg(made[2].lower >= 0.95 * most, "seed %llu: the witness has %g of %g", (unsigned long long)seed, made[2].lower, most);
        done(&p);
    }
}
END_TEST

START_TEST(difference__more_boxes_never_loosen) {
    seed_range range = seeds(N_SEEDS / 4);
    int shrank = 0;
    for (uint64_t seed = range.first; seed <= range.last; seed++) {
        esp_rng rng;
        esp_rng_init(&rng, seed, 3);
        pair p;
        make(&p, &rng, 4);
        double before = HUGE_VAL;
        for (int boxes = 2; boxes <= 512; boxes *= 4) {
            esp_certify_opts opts = ESP_CERTIFY_OPTS_INIT;
            esp_certificate made[3];
            int n_made;
            opts.max_boxes = boxes;
            opts.gap = 0.01;
            ck_assert(esp_certify_norm(p.difference, &p.box, &opts, NULL, made, &n_made, NULL, NULL) == ESP_OK);
            ck_assert_double_le(made[2].value, before * (1 + 0.01));
            shrank += made[2].value < 0.9 * before && isfinite(before);
            before = made[2].value;
        }
        done(&p);
    }
    if (range.last > range.first) ck_assert_int_gt(shrank, 3);
}
END_TEST

/* A network against itself pruned to nothing at all in one output: the difference is the network, known in closed form. */
START_TEST(difference__of_a_sum_of_hinges_is_exact) {
    seed_range range = seeds(N_SEEDS / 4);
    for (uint64_t seed = range.first; seed <= range.last; seed++) {
        enum { HINGES = 6 };
        esp_rng rng;
        esp_rng_init(&rng, seed, 4);
        esp_frame frame = {.kind = ESP_FRAME_NONE};
        const int widths[3] = {1, HINGES, 1};
        esp_net *net = random_net(&rng, 2, widths, ESP_ACT_RELU);
        net->layers[1].act[0] = ESP_ACT_IDENTITY;
        esp_layer *one = &net->layers[0], *two = &net->layers[1];
        double lower = -2, upper = 1.5, most = 0;
        for (int c = -2; c < HINGES; c++) { /* the ends and every kink inside */
            double x = c == -2 ? lower : c == -1 ? upper : -one->b[c] / one->w[c], y = two->b[0];
            if (!(x >= lower && x <= upper)) continue;
            for (int i = 0; i < HINGES; i++) y += two->w[i] * fmax(0, one->w[i] * x + one->b[i]);
            most = fmax(most, fabs(y));
        }
        esp_model *model = NULL;
        ck_assert(esp_model_create(ESP_MODEL_POLICY, 1, 1, 1, &frame, net, &model, NULL) == ESP_OK);
        esp_program *program = lowered(model);
        esp_box box = {1, &lower, &upper};
        esp_certify_opts opts = ESP_CERTIFY_OPTS_INIT;
        esp_certificate made[3];
        int n_made;
        opts.gap = 1e-6;
        ck_assert(esp_certify_norm(program, &box, &opts, NULL, made, &n_made, NULL, NULL) == ESP_OK);
        ck_assert_double_ge(made[2].value, most * (1 - 1e-15));
        ck_assert_double_le(made[2].value, most * (1 + 3e-6) + 1e-12);
        esp_program_free(program);
    }
}
END_TEST

int main(void) {
    Suite *suite = suite_create("prop_difference");
    TCase *tcase = tcase_create("difference");
    tcase_set_timeout(tcase, 60);
    tcase_add_test(tcase, difference__value_bounds_samples_and_the_witness_reaches_lower);
    tcase_add_test(tcase, difference__with_few_inputs_closes_the_gap);
    tcase_add_test(tcase, difference__more_boxes_never_loosen);
    tcase_add_test(tcase, difference__of_a_sum_of_hinges_is_exact);
    suite_add_tcase(suite, tcase);
    return run_suite(suite);
}
