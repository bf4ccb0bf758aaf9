/* SPDX-License-Identifier: Apache-2.0
 * The closed forms on networks small enough to do by hand. */
#include <check.h>
#include <math.h>
#include <string.h>

#include "certify/closed_form.h"

static esp_error error;

/* A policy of the given widths with all weights and biases from the list, layer by layer, weights first. */
static esp_model *policy(int n_layers, const int *widths, const double *numbers) {
    esp_net *net = NULL;
    esp_model *model = NULL;
    esp_frame frame = {.kind = ESP_FRAME_NONE};
    ck_assert(esp_net_create(n_layers, widths, &net, &error) == ESP_OK);
    for (int k = 0; k < n_layers; k++) {
        esp_layer *layer = &net->layers[k];
        size_t n = (size_t)(layer->n_in * layer->n_out), m = (size_t)layer->n_out;
        memcpy(layer->w, numbers, n * sizeof *numbers);
        memcpy(layer->b, numbers + n, m * sizeof *numbers);
        numbers += n + m;
    }
    ck_assert(esp_model_create(ESP_MODEL_POLICY, widths[0], widths[n_layers], 1, &frame, net, &model, &error) == ESP_OK);
    return model;
}

static esp_closed_form *form_of(const esp_model *model) {
    esp_closed_form *form = NULL;
    ck_assert_msg(esp_closed_form_create(model, &form, &error) == ESP_OK, "%s", error.message);
    return form;
}

static void is(double value, double want) {
    ck_assert_msg(value >= want && value <= want * (1 + 1e-6) + 1e-300, "%.17g, by hand %.17g", value, want);
}

START_TEST(closed_form__constants_by_hand) {
    /* 2 -> 2 -> 2 -> 1: W1 = diag(2, 1), b1 = (0, -1); W2 = [[0, 3], [0, 0]], b2 = (1, 0); W3 = (1, 0), b3 = 0. */
    static const int widths[] = {2, 2, 2, 1};
    static const double numbers[] = {2, 0, 0, 1, 0, -1, 0, 3, 0, 0, 1, 0, 1, 0, 0};
    esp_model *model = policy(3, widths, numbers);
    esp_closed_form *form = form_of(model);
    double x[2] = {3, 4}, c[3], activation[3];
    esp_closed_form_at(form, x, c, activation);
    is(c[0], 3 * 1 * 5.0);
    is(c[1], 1 * (2 * 5.0 + 1));
    is(c[2], 3 * (2 * 5.0 + 1) + 1);
    is(activation[0], 3 * 5.0);
    is(activation[1], sqrt(36 + 9)); /* h1 = (6, 3) */
    is(activation[2], 10); /* h2 = (10, 0) */
    double lower[2] = {-3, 4}, upper[2] = {3, 4}, box_c[3];
    ck_assert(esp_closed_form_box(form, &(esp_box){2, lower, upper}, box_c, &error) == ESP_OK);
    is(box_c[0], 15);
    is(box_c[1], sqrt(36 + 9)); /* h1 in [0, 6] x {3}: the elementwise form is the least */
    is(box_c[2], 10);
    ck_assert_int_eq(esp_closed_form_box(form, &(esp_box){1, lower, upper}, box_c, &error), ESP_INVALID);
    lower[1] = 5;
    ck_assert_int_eq(esp_closed_form_box(form, &(esp_box){2, lower, upper}, box_c, &error), ESP_INVALID);
    esp_closed_form_free(form);
    esp_model_free(model);
}
END_TEST

START_TEST(closed_form__frame_scales_by_g_and_reads_v) {
    /* y+ = 0.5 y + 0 u + 4 f(2 y + 3 u), f(v) = v w, one layer: C = 4 |v|. */
    double a = 0.5, b = 0, c_matrix = 2, d = 3, g = 4, x[2] = {1, -2}, c, activation;
    static const int widths[] = {1, 1};
    esp_net *net = NULL;
    esp_model *model = NULL;
    esp_frame frame = {ESP_FRAME_LINEAR, &a, &b, &c_matrix, &d, &g};
    ck_assert(esp_net_create(1, widths, &net, &error) == ESP_OK);
    net->layers[0].w[0] = 7;
    ck_assert_msg(esp_model_create(ESP_MODEL_DYNAMICS, 1, 1, 1, &frame, net, &model, &error) == ESP_OK, "%s", error.message);
    esp_closed_form *form = form_of(model);
    esp_closed_form_at(form, x, &c, &activation);
    is(c, 4 * 4.0);
    is(activation, 4 * 4.0);
    double lower[2] = {0, -2}, upper[2] = {1, -1};
    ck_assert(esp_closed_form_box(form, &(esp_box){2, lower, upper}, &c, &error) == ESP_OK);
    is(c, 4 * 6.0); /* v in [-6, -1] */
    esp_closed_form_free(form);
    esp_model_free(model);
}
END_TEST

/* w1 = w2 = 1 pruned to 2, 2 at s = 1: the outputs differ by 3, and |W| with |h| of the unpruned gives 2. */
START_TEST(closed_form__candidate_does_not_mix_norms_and_activations) {
    static const int widths[] = {1, 1, 1};
    static const double ones[] = {1, 0, 1, 0}, twos[] = {2, 0, 2, 0};
    esp_model *model = policy(2, widths, ones), *candidate = policy(2, widths, twos);
    esp_closed_form *form = form_of(model);
    double x = 1, bound, actual, c[2], activation[2];
    ck_assert(esp_closed_form_candidate(form, candidate, &x, &bound, &actual, &error) == ESP_OK);
    is(bound, 3);
    ck_assert_double_eq_tol(actual, 3, 1e-12);
    esp_closed_form_at(form, &x, c, activation);
    ck_assert_double_lt(activation[0] + activation[1], 2.5); /* the mix: |D_k| = 1 each */
    esp_closed_form_free(form);
    esp_model_free(model);
    esp_model_free(candidate);
}
END_TEST

START_TEST(closed_form__candidate_equal_to_the_model_differs_by_nothing) {
    static const int widths[] = {1, 2, 1};
    static const double numbers[] = {1, -0.3, 0.1, 0.2, 3, 4, 5};
    esp_model *model = policy(2, widths, numbers), *same = policy(2, widths, numbers);
    esp_closed_form *form = form_of(model);
    double x = 0.7, bound = 9, actual = 9;
    ck_assert(esp_closed_form_candidate(form, same, &x, &bound, &actual, &error) == ESP_OK);
    ck_assert(bound == 0 && actual == 0);
    esp_closed_form_free(form);
    esp_model_free(model);
    esp_model_free(same);
}
END_TEST

START_TEST(closed_form__candidate_may_zero_neurons_and_nothing_else) {
    static const int widths[] = {1, 2, 1}, wide[] = {1, 3, 1};
    static const double numbers[] = {1, 1, 0, 0, 1, 1, 0}, many[16] = {0};
    esp_model *model = policy(2, widths, numbers), *candidate = policy(2, widths, numbers), *other = policy(2, wide, many);
    esp_closed_form *form = form_of(model);
    double x = 2, bound = 9, actual = 9;
    candidate->net->layers[0].act[1] = ESP_ACT_ZERO;
    ck_assert(esp_closed_form_candidate(form, candidate, &x, &bound, &actual, &error) == ESP_OK);
    ck_assert_double_eq_tol(actual, 2, 1e-12);
    ck_assert(bound >= actual && bound <= 2 * sqrt(2) + 1e-6);
    bound = 9;
    candidate->net->layers[0].act[1] = ESP_ACT_IDENTITY;
    ck_assert_int_eq(esp_closed_form_candidate(form, candidate, &x, &bound, &actual, &error), ESP_UNPROCESSABLE);
    ck_assert_int_eq(esp_closed_form_candidate(form, other, &x, &bound, &actual, &error), ESP_UNPROCESSABLE);
    ck_assert(bound == 9);
    esp_closed_form_free(form);
    esp_model_free(model);
    esp_model_free(candidate);
    esp_model_free(other);
}
END_TEST

START_TEST(closed_form__candidate_must_have_the_frame) {
    static const int widths[] = {2, 1};
    esp_model *model[3] = {NULL};
    for (int i = 0; i < 3; i++) {
        esp_net *net = NULL;
        esp_frame frame = {.kind = i == 0 ? ESP_FRAME_NONE : ESP_FRAME_RESIDUAL};
        ck_assert(esp_net_create(1, widths, &net, &error) == ESP_OK);
        net->layers[0].w[0] = i;
        ck_assert(esp_model_create(ESP_MODEL_DYNAMICS, 1, 1, 1, &frame, net, &model[i], &error) == ESP_OK);
    }
    esp_closed_form *form = form_of(model[1]);
    double x[2] = {3, 1}, bound, actual;
    ck_assert_int_eq(esp_closed_form_candidate(form, model[0], x, &bound, &actual, &error), ESP_UNPROCESSABLE);
    ck_assert(esp_closed_form_candidate(form, model[2], x, &bound, &actual, &error) == ESP_OK);
    is(bound, 3);
    esp_closed_form_free(form);
    for (int i = 0; i < 3; i++) esp_model_free(model[i]);
}
END_TEST

START_TEST(norms__edges) {
    double a[6] = {0}, norm = -1;
    ck_assert(esp_norm_upper(2, 3, a, &norm, &error) == ESP_OK && norm == 0);
    a[4] = -3;
    ck_assert(esp_norm_upper(2, 3, a, &norm, &error) == ESP_OK);
    is(norm, 3);
    a[2] = NAN;
    norm = -1;
    ck_assert_int_eq(esp_norm_upper(2, 3, a, &norm, &error), ESP_NUMERIC);
    ck_assert(norm == -1);
    double v[2] = {3e-320, 4e-320};
    ck_assert(esp_norm2_up(2, v) >= 5e-320 && esp_norm2_down(2, v) <= 5e-320);
    ck_assert(esp_norm2_up(0, v) == 0);
    v[0] = NAN;
    ck_assert(esp_norm2_up(2, v) == HUGE_VAL);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("test_closed_form");
    TCase *tcase = tcase_create("closed_form");
    tcase_add_test(tcase, closed_form__constants_by_hand);
    tcase_add_test(tcase, closed_form__frame_scales_by_g_and_reads_v);
    tcase_add_test(tcase, closed_form__candidate_does_not_mix_norms_and_activations);
    tcase_add_test(tcase, closed_form__candidate_equal_to_the_model_differs_by_nothing);
    tcase_add_test(tcase, closed_form__candidate_may_zero_neurons_and_nothing_else);
    tcase_add_test(tcase, closed_form__candidate_must_have_the_frame);
    tcase_add_test(tcase, norms__edges);
    suite_add_tcase(suite, tcase);
    return run_suite(suite);
}
