/* SPDX-License-Identifier: Apache-2.0
 * Laws of the closed forms over random models: no perturbation moves an output further than its bound, norms are not
 * below the singular value and hardly above it, and the constants are attained where theory says they are. */
#include <check.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/linalg.h"
#include "certify/closed_form.h"
#include "certify/norms.h"
#include "support/exact.h"
#include "support/models.h"

#define N_SEEDS 300
#define MOST    64

static double svd(size_t m, size_t n, const double *a) {
    double norm = -1;
    ck_assert(esp_spectral_norm(m, n, a, &norm, NULL) == ESP_OK);
    return norm;
}

static double upper(size_t m, size_t n, const double *a) {
    double norm = -1;
    esp_error error = {0};
    ck_assert_msg(esp_norm_upper(m, n, a, &norm, &error) == ESP_OK, "%s", error.message);
    return norm;
}

/* ---- norms -------------------------------------------------------------------------------------------------------- */

static void fill_matrix(esp_rng *rng, int shape, size_t m, size_t n, double *a) {
    for (size_t i = 0; i < m * n; i++) a[i] = esp_rng_normal(rng);
    for (size_t i = 0; i < m; i++)
        for (size_t j = 0; j < n; j++) {
            double *at = &a[i * n + j];
            if (shape == 1) *at = i == j ? 1 : 0; /* all singular values equal */
            if (shape == 2) *at = (i == j ? 1 : 0) + 1e-6 * *at; /* and nearly so */
            if (shape == 3) *at = ((double)i + 1) * ((double)j - 2); /* rank one */
            if (shape == 4) *at *= 1e200;
            if (shape == 5) *at *= 1e-300;
            if (shape == 6 && esp_rng_uniform(rng) < 0.8) *at = 0;
            if (shape == 7) *at = i % 2 == j % 2 ? fabs(*at) * pow(10, (double)(i % 5)) : 0;
        }
}

START_TEST(norms__lie_between_samples_and_just_above_the_svd) {
    seed_range range = seeds(N_SEEDS);
    for (uint64_t seed = range.first; seed <= range.last; seed++) {
        esp_rng rng;
        esp_rng_init(&rng, seed, 1);
        size_t m = 1 + esp_rng_below(&rng, 24), n = 1 + esp_rng_below(&rng, 24);
        double a[24 * 24], v[24];
        fill_matrix(&rng, (int)(seed % 8), m, n, a);
        double bound = upper(m, n, a), exact = svd(m, n, a);
        ck_assert_msg(bound >= exact * (1 - 1e-13), "seed %llu: %.17g below %.17g", (unsigned long long)seed, bound, exact);
        ck_assert_msg(bound <= exact * (1 + 1e-6) + 1e-306, "seed %llu: %.17g far above %.17g", (unsigned long long)seed, bound, exact);
        for (int k = 0; k < 5; k++) {
            quad av = 0, vv = 0;
            for (size_t j = 0; j < n; j++) v[j] = esp_rng_normal(&rng);
            for (size_t j = 0; j < n; j++) vv += (quad)v[j] * (quad)v[j];
            for (size_t i = 0; i < m; i++) {
                quad sum = 0;
                for (size_t j = 0; j < n; j++) sum += (quad)a[i * n + j] * (quad)v[j];
                av += sum * sum;
            }
            ck_assert(av <= (quad)bound * (quad)bound * vv);
        }
    }
}
END_TEST

/* On matrices whose norm is an integer by construction a bound that forgot rounding would fall below it now and then. */
START_TEST(norms__of_integer_matrices_are_never_below) {
    seed_range range = seeds(N_SEEDS);
    for (uint64_t seed = range.first; seed <= range.last; seed++) {
        esp_rng rng;
        esp_rng_init(&rng, seed, 2);
        size_t n = 2 + esp_rng_below(&rng, 20);
        double a[24 * 24], product = 0;
        quad square_u = 0, square_v = 0;
        double u[24], v[24];
        for (size_t i = 0; i < n; i++) u[i] = (double)esp_rng_below(&rng, 9) - 4, v[i] = (double)esp_rng_below(&rng, 9) - 4;
        u[0] = v[0] = 1;
        for (size_t i = 0; i < n; i++) square_u += (quad)u[i] * (quad)u[i], square_v += (quad)v[i] * (quad)v[i];
        for (size_t i = 0; i < n; i++)
            for (size_t j = 0; j < n; j++) a[i * n + j] = u[i] * v[j];
        product = upper(n, n, a); /* |u v'| = |u| |v| */
        ck_assert((quad)product * (quad)product >= square_u * square_v);
    }
}
END_TEST

START_TEST(norms__of_a_wide_layer_are_tight) {
    enum { M = 160, N = 120 };
    esp_rng rng;
    esp_rng_init(&rng, 3, 3);
    double *a = calloc(M * N, sizeof *a);
    for (int i = 0; i < M * N; i++) a[i] = esp_rng_normal(&rng);
    double bound = upper(M, N, a), exact = svd(M, N, a);
    ck_assert_double_ge(bound, exact * (1 - 1e-13));
    ck_assert_double_le(bound, exact * (1 + 1e-7));
    free(a);
}
END_TEST

/* ---- models ------------------------------------------------------------------------------------------------------- */

static esp_model *copy_model(const esp_model *model) {
    esp_net *net = NULL;
    esp_model *copy = NULL;
    ck_assert(esp_net_copy(model->net, &net, NULL) == ESP_OK);
    ck_assert(esp_model_create(model->kind, model->ny, model->nu, model->history, &model->frame, net, &copy, NULL) == ESP_OK);
    return copy;
}

static double distance(const esp_model *f, const esp_model *g, const double *x) {
    double y[MOST], z[MOST], sum = 0;
    oracle_step(f, x, y, NULL);
    oracle_step(g, x, z, NULL);
    for (int i = 0; i < esp_model_n_y(f); i++) sum += (y[i] - z[i]) * (y[i] - z[i]);
    return sqrt(sum);
}

/* What the oracle's own doubles can be off by. */
static double slack(const esp_model *model, const double *x) {
    double y[MOST], sum = 0;
    oracle_step(model, x, y, NULL);
    for (int i = 0; i < esp_model_n_y(model); i++) sum += fabs(y[i]);
    return 1e-14 * (1 + sum);
}

static void random_state(esp_rng *rng, int n, double *x) {
    for (int k = 0; k < n; k++) x[k] = 2 * esp_rng_normal(rng);
}

/* Changes layer k: prunes entries, or moves them. Returns |D|_2. */
static double change_layer(esp_rng *rng, esp_model *model, int k, double amount) {
    esp_layer *layer = &model->net->layers[k];
    size_t n = (size_t)layer->n_out * (size_t)layer->n_in;
    double *d = calloc(n, sizeof *d);
    for (size_t i = 0; i < n; i++) {
        double old = layer->w[i];
        if (esp_rng_uniform(rng) < 0.5) layer->w[i] = esp_rng_uniform(rng) < 0.5 ? 0 : old + amount * esp_rng_normal(rng);
        d[i] = layer->w[i] - old;
    }
    double norm = svd((size_t)layer->n_out, (size_t)layer->n_in, d);
    free(d);
    return norm;
}

START_TEST(closed_form__bounds_any_change_of_one_layer) {
    seed_range range = seeds(N_SEEDS);
    for (uint64_t seed = range.first; seed <= range.last; seed++) {
        esp_rng rng;
        esp_rng_init(&rng, seed, 4);
        esp_model *model = random_model(&rng);
        esp_closed_form *form = NULL;
        ck_assert(esp_closed_form_create(model, &form, NULL) == ESP_OK);
        ck_assert_int_eq(esp_closed_form_layers(form), model->net->n_layers);
        for (int n = 0; n < 6; n++) {
            double x[MOST], c[ESP_MAX_LAYERS], activation[ESP_MAX_LAYERS], rescaled[ESP_MAX_LAYERS];
            int k = (int)esp_rng_below(&rng, (size_t)model->net->n_layers);
            esp_model *pruned = copy_model(model);
            double norm = change_layer(&rng, pruned, k, 0.3);
            random_state(&rng, esp_model_n_x(model), x);
            esp_closed_form_at(form, x, c, activation);
            esp_closed_form_rescaled(form, activation, rescaled);
            ck_assert_double_le(rescaled[k], activation[k]);
            ck_assert_msg(distance(model, pruned, x) - slack(model, x) <= rescaled[k] * norm * (1 + 1e-12), "seed %llu, layer %d, rescaled",
                          (unsigned long long)seed, k + 1);
            double actual = distance(model, pruned, x) - slack(model, x);
            ck_assert_double_le(activation[k], c[k]);
            ck_assert_msg(actual <= activation[k] * norm * (1 + 1e-12), "seed %llu, layer %d: moved %g, bound %g", (unsigned long long)seed, k + 1,
                          actual, activation[k] * norm);
            esp_model_free(pruned);
        }
        esp_closed_form_free(form);
        esp_model_free(model);
    }
}
END_TEST

/* Neurons scaled against each other, which leaves the function as it is and multiplies the norms, are found and scaled back: the
 * constants of the first layer are those of the balanced network, to 20 %, or better. */
START_TEST(closed_form__rescaling_undoes_a_bad_scaling) {
    seed_range range = seeds(N_SEEDS / 10);
    int gained = 0;
    for (uint64_t seed = range.first; seed <= range.last; seed++) {
        esp_rng rng;
        esp_rng_init(&rng, seed, 9);
        const int widths[5] = {4, 12, 12, 12, 2};
        esp_frame frame = {.kind = ESP_FRAME_NONE};
        esp_net *net = random_net(&rng, 4, widths, ESP_ACT_RELU), *skewed = NULL;
        ck_assert(esp_net_copy(net, &skewed, NULL) == ESP_OK);
        for (int k = 1; k < 3; k++) {
            for (int i = 0; i < 12; i++) {
                double scale = pow(2, (double)(int)esp_rng_below(&rng, 7) - 3);
                for (int j = 0; j < 12; j++) skewed->layers[k].w[i * 12 + j] *= scale;
                skewed->layers[k].b[i] *= scale;
                for (int j = 0; j < widths[k + 2]; j++) skewed->layers[k + 1].w[j * 12 + i] /= scale;
            }
        }
        esp_model *model[2] = {NULL};
        double c[2][4], activation[2][4], rescaled[2][4], x[4];
        random_state(&rng, 4, x);
        for (int m = 0; m < 2; m++) {
            esp_closed_form *form = NULL;
            ck_assert(esp_model_create(ESP_MODEL_POLICY, 4, 2, 1, &frame, m ? skewed : net, &model[m], NULL) == ESP_OK);
            ck_assert(esp_closed_form_create(model[m], &form, NULL) == ESP_OK);
            esp_closed_form_at(form, x, c[m], activation[m]);
            esp_closed_form_rescaled(form, activation[m], rescaled[m]);
            ck_assert(rescaled[m][3] == activation[m][3] && rescaled[m][2] <= activation[m][2] && rescaled[m][0] > 0);
            esp_closed_form_free(form);
        }
        ck_assert_msg(rescaled[1][0] <= 1.2 * rescaled[0][0], "seed %llu: %g skewed, %g balanced", (unsigned long long)seed, rescaled[1][0],
                      rescaled[0][0]);
        gained += rescaled[1][0] < 0.5 * activation[1][0];
        esp_model_free(model[0]);
        esp_model_free(model[1]);
    }
    if (range.last > range.first) ck_assert_int_gt(gained, N_SEEDS / 20);
}
END_TEST

START_TEST(closed_form__candidate_bound_is_not_below_the_difference) {
    seed_range range = seeds(N_SEEDS);
    double best = 0;
    for (uint64_t seed = range.first; seed <= range.last; seed++) {
        esp_rng rng;
        esp_rng_init(&rng, seed, 5);
        esp_model *model = random_model(&rng), *pruned = copy_model(model);
        esp_closed_form *form = NULL;
        esp_candidate *candidate = NULL;
        double amount = pow(10, -esp_rng_range(&rng, 0, 17)); /* down to changes of the size of rounding */
        for (int k = 0; k < model->net->n_layers; k++) {
            esp_layer *layer = &pruned->net->layers[k];
            if (esp_rng_uniform(&rng) < 0.3) continue;
            for (int i = 0; i < layer->n_out * layer->n_in; i++) layer->w[i] *= 1 + amount * esp_rng_normal(&rng);
            for (int i = 0; i < layer->n_out; i++) {
                layer->b[i] += amount * esp_rng_normal(&rng);
                if (amount > 0.1 && esp_rng_uniform(&rng) < 0.2) layer->act[i] = ESP_ACT_ZERO;
            }
        }
        ck_assert(esp_closed_form_create(model, &form, NULL) == ESP_OK);
        ck_assert(esp_candidate_create(form, pruned, &candidate, NULL) == ESP_OK);
        for (int n = 0; n < 20; n++) {
            double x[MOST], bound = -1, actual = -1, again = -1, same = -1;
            random_state(&rng, esp_model_n_x(model), x);
            esp_candidate_at(candidate, x, &bound, &actual);
            double oracle = distance(model, pruned, x), off = slack(model, x);
            ck_assert_msg(bound >= actual && bound >= oracle - off, "seed %llu: %.17g bounds %.17g (%.17g)", (unsigned long long)seed, bound, actual,
                          oracle);
            ck_assert_double_le(fabs(actual - oracle), off + 1e-12 * oracle);
            if (oracle > 1e-6) best = fmax(best, actual / bound);
            ck_assert(esp_closed_form_candidate(form, pruned, x, &again, &same, NULL) == ESP_OK);
            ck_assert(again == bound && same == actual);
        }
        esp_candidate_free(candidate);
        esp_closed_form_free(form);
        esp_model_free(model);
        esp_model_free(pruned);
    }
    if (range.last > range.first) ck_assert_double_gt(best, 0.5); /* one that is always far off would pass as well */
}
END_TEST

START_TEST(closed_form__box_constant_holds_in_the_box_and_is_no_looser_than_the_norm_form) {
    seed_range range = seeds(N_SEEDS);
    for (uint64_t seed = range.first; seed <= range.last; seed++) {
        esp_rng rng;
        esp_rng_init(&rng, seed, 6);
        esp_model *model = random_model(&rng);
        esp_closed_form *form = NULL;
        double lower[MOST], high[MOST], far[MOST], x[MOST], box_c[ESP_MAX_LAYERS], c[ESP_MAX_LAYERS], activation[ESP_MAX_LAYERS];
        int n_x = esp_model_n_x(model);
        ck_assert(esp_closed_form_create(model, &form, NULL) == ESP_OK);
        for (int k = 0; k < n_x; k++) {
            lower[k] = esp_rng_normal(&rng);
            high[k] = lower[k] + (esp_rng_uniform(&rng) < 0.2 ? 0 : fabs(esp_rng_normal(&rng)));
            far[k] = fmax(fabs(lower[k]), fabs(high[k]));
        }
        esp_box box = {n_x, lower, high};
        ck_assert(esp_closed_form_box(form, &box, box_c, NULL) == ESP_OK);
        if (model->frame.kind != ESP_FRAME_LINEAR || model->kind == ESP_MODEL_POLICY) {
            esp_closed_form_at(form, far, c, activation);
            for (int k = 0; k < model->net->n_layers; k++) ck_assert_double_le(box_c[k], c[k] * (1 + 1e-12));
        }
        for (int n = 0; n < 30; n++) {
            for (int k = 0; k < n_x; k++) x[k] = n % 2 ? esp_rng_range(&rng, lower[k], high[k]) : esp_rng_below(&rng, 2) ? high[k] : lower[k];
            esp_closed_form_at(form, x, c, activation);
            for (int k = 0; k < model->net->n_layers; k++)
                /* The state's constant carries the rounding of its own forward pass, which the box may not need. */
                ck_assert_msg(activation[k] <= box_c[k] * (1 + 1e-12) + 1e-12 * c[k], "seed %llu: %g in the box, %g for it", (unsigned long long)seed,
                              activation[k], box_c[k]);
        }
        esp_closed_form_free(form);
        esp_model_free(model);
    }
}
END_TEST

/* Rank-one layers with aligned non-negative singular vectors: every inequality of the theorem is an equality. */
START_TEST(closed_form__is_attained_on_an_aligned_chain) {
    enum { L = 3, N = 4 };
    seed_range range = seeds(20);
    for (uint64_t seed = range.first; seed <= range.last; seed++) {
        esp_rng rng;
        esp_rng_init(&rng, seed, 7);
        const int widths[L + 1] = {N, N, N, N};
        double u[L + 1][N], x[N], c[L], activation[L], size = 0.7;
        esp_net *net = random_net(&rng, L, widths, ESP_ACT_RELU);
        for (int l = 0; l <= L; l++) {
            double sum = 0;
            for (int i = 0; i < N; i++) u[l][i] = esp_rng_uniform(&rng), sum += u[l][i] * u[l][i];
            for (int i = 0; i < N; i++) u[l][i] /= sqrt(sum);
        }
        for (int l = 0; l < L; l++) {
            memset(net->layers[l].b, 0, sizeof(double) * N);
            for (int i = 0; i < N * N; i++) net->layers[l].w[i] = (1.5 + l) * u[l + 1][i / N] * u[l][i % N];
            memset(net->layers[l].act, ESP_ACT_RELU, N);
        }
        esp_frame frame = {.kind = ESP_FRAME_NONE};
        esp_model *model = NULL;
        esp_closed_form *form = NULL;
        ck_assert(esp_model_create(ESP_MODEL_POLICY, N, N, 1, &frame, net, &model, NULL) == ESP_OK);
        ck_assert(esp_closed_form_create(model, &form, NULL) == ESP_OK);
        for (int i = 0; i < N; i++) x[i] = size * u[0][i];
        esp_closed_form_at(form, x, c, activation);
        for (int k = 0; k < L; k++) {
            esp_model *pruned = copy_model(model);
            for (int i = 0; i < N * N; i++) pruned->net->layers[k].w[i] += 0.25 * u[k + 1][i / N] * u[k][i % N];
            double actual = distance(model, pruned, x), bound, same;
            ck_assert_double_eq_tol(actual, 0.25 * c[k], 1e-6 * actual);
            ck_assert_double_eq_tol(actual, 0.25 * activation[k], 1e-6 * actual);
            ck_assert(esp_closed_form_candidate(form, pruned, x, &bound, &same, NULL) == ESP_OK);
            ck_assert_double_eq_tol(bound, actual, 1e-6 * actual);
            esp_model_free(pruned);
        }
        esp_closed_form_free(form);
        esp_model_free(model);
    }
}
END_TEST

int main(void) {
    Suite *suite = suite_create("prop_closed_form");
    TCase *tcase = tcase_create("closed_form");
    tcase_set_timeout(tcase, 60);
    tcase_add_test(tcase, norms__lie_between_samples_and_just_above_the_svd);
    tcase_add_test(tcase, norms__of_integer_matrices_are_never_below);
    tcase_add_test(tcase, norms__of_a_wide_layer_are_tight);
    tcase_add_test(tcase, closed_form__bounds_any_change_of_one_layer);
    tcase_add_test(tcase, closed_form__rescaling_undoes_a_bad_scaling);
    tcase_add_test(tcase, closed_form__candidate_bound_is_not_below_the_difference);
    tcase_add_test(tcase, closed_form__box_constant_holds_in_the_box_and_is_no_looser_than_the_norm_form);
    tcase_add_test(tcase, closed_form__is_attained_on_an_aligned_chain);
    suite_add_tcase(suite, tcase);
    return run_suite(suite);
}
