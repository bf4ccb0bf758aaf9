/* SPDX-License-Identifier: Apache-2.0
 * The ReLU program: substitution, order and levels on networks small enough to work out by hand. That it equals the
 * model in general is property/prop_program.c. */
#include <check.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "net/batch.h"
#include "net/program_make.h"
#include "support/models.h"

static esp_program *lower_policy(esp_net *net) {
    esp_model *model = NULL;
    esp_program *program = NULL;
    esp_error error = {0};
    ck_assert_msg(esp_model_create(ESP_MODEL_POLICY, esp_net_inputs(net), esp_net_outputs(net), 1, NULL, net, &model, &error) == ESP_OK, "%s",
                  error.message);
    ck_assert_msg(esp_program_lower(model, &program, &error) == ESP_OK, "%s", error.message);
    esp_model_free(model);
    return program;
}

static void equal(const double *got, const double *want, size_t n) {
    for (size_t i = 0; i < n; i++) ck_assert_msg(got[i] == want[i], "entry %zu is %g, must be %g", i, got[i], want[i]);
}

START_TEST(program__identity_and_zero_neurons_vanish) {
    /* h = (relu(x0 - x1 - .5), 2 x0 + .5 x1 + 1, 0); y = 3 h0 - 2 h1 + 100 h2 + .25 */
    static const int widths[] = {2, 3, 1};
    static const double w0[] = {1, -1, 2, 0.5, 7, 7}, b0[] = {-0.5, 1, 7}, w1[] = {3, -2, 100}, b1[] = {0.25};
    esp_net *net = NULL;
    ck_assert(esp_net_create(2, widths, &net, NULL) == ESP_OK);
    memcpy(net->layers[0].w, w0, sizeof w0);
    memcpy(net->layers[0].b, b0, sizeof b0);
    memcpy(net->layers[1].w, w1, sizeof w1);
    memcpy(net->layers[1].b, b1, sizeof b1);
    net->layers[0].act[1] = ESP_ACT_IDENTITY;
    net->layers[0].act[2] = ESP_ACT_ZERO;
    esp_program *program = lower_policy(net);
    ck_assert_int_eq(program->n_r, 1);
    equal(program->c, (double[]){1, -1}, 2);
    equal(program->d0, (double[]){-0.5}, 1);
    equal(program->a, (double[]){-4, -1}, 2);
    equal(program->b, (double[]){3}, 1);
    equal(program->c0, (double[]){-1.75}, 1);
    esp_program_free(program);
}
END_TEST

START_TEST(program__no_relus_leave_an_affine_map) {
    esp_rng rng;
    esp_rng_init(&rng, 1, 0);
    esp_program *program = lower_policy(random_net(&rng, 3, (int[]){3, 4, 4, 2}, ESP_ACT_IDENTITY));
    double x[3] = {1, 2, 3}, y[2], dx[3], g[2] = {1, 0};
    ck_assert_int_eq(program->n_r, 0);
    ck_assert_int_eq(program->n_levels, 0);
    esp_program_forward(program, x, y, NULL, NULL, NULL);
    ck_assert_double_eq_tol(y[1], program->c0[1] + program->a[3] + 2 * program->a[4] + 3 * program->a[5], 1e-14);
    esp_program_backward(program, NULL, g, dx, NULL);
    equal(dx, program->a, 3);
    esp_program_free(program);
}
END_TEST

/* Five layers, ReLUs in the second and the fourth only: two levels, whatever lies between. */
START_TEST(program__identity_chains_add_no_levels) {
    esp_rng rng;
    esp_rng_init(&rng, 2, 0);
    esp_net *net = random_net(&rng, 6, (int[]){3, 4, 4, 4, 4, 4, 2}, ESP_ACT_IDENTITY);
    memset(net->layers[1].act, ESP_ACT_RELU, 4);
    memset(net->layers[3].act, ESP_ACT_RELU, 4);
    esp_program *program = lower_policy(net);
    ck_assert_int_eq(program->n_r, 8);
    ck_assert_int_eq(program->n_levels, 2);
    ck_assert_int_eq(program->level_end[0], 4);
    ck_assert_int_eq(program->level_end[1], 8);
    ck_assert_int_eq(program->level_begin[0], 0);
    esp_program_free(program);
}
END_TEST

/* A second-layer ReLU fed by identity neurons only reaches nothing but x: it joins the first level. */
START_TEST(program__levels_go_by_dependence_not_by_layer) {
    esp_net *net = NULL;
    ck_assert(esp_net_create(3, (int[]){1, 2, 2, 1}, &net, NULL) == ESP_OK);
    double *w = net->layers[1].w;
    net->layers[0].w[0] = net->layers[0].w[1] = 1;
    net->layers[0].act[1] = ESP_ACT_IDENTITY;
    w[0 * 2 + 1] = 1; /* neuron 0 reads the identity */
    w[1 * 2 + 0] = 1; /* neuron 1 reads the ReLU */
    esp_program *program = lower_policy(net);
    ck_assert_int_eq(program->n_r, 3);
    ck_assert_int_eq(program->n_levels, 2);
    ck_assert_int_eq(program->level_end[0], 2);
    ck_assert_int_eq(program->level_begin[1], 0);
    esp_program_free(program);
}
END_TEST

START_TEST(program__relus_that_never_fire_are_kept) {
    esp_net *net = NULL;
    ck_assert(esp_net_create(2, (int[]){1, 3, 1}, &net, NULL) == ESP_OK);
    net->layers[0].b[0] = -1; /* no weights: relu(-1) */
    esp_program *program = lower_policy(net);
    ck_assert_int_eq(program->n_r, 3);
    esp_program_free(program);
}
END_TEST

START_TEST(program__relu_outputs_are_relus_too) {
    esp_net *net = NULL;
    double x = -3, y;
    ck_assert(esp_net_create(1, (int[]){1, 1}, &net, NULL) == ESP_OK);
    net->layers[0].w[0] = 2;
    net->layers[0].act[0] = ESP_ACT_RELU;
    esp_program *program = lower_policy(net);
    double work[1];
    esp_program_forward(program, &x, &y, NULL, NULL, work);
    ck_assert_double_eq(y, 0);
    x = 3;
    esp_program_forward(program, &x, &y, NULL, NULL, work);
    ck_assert_double_eq(y, 6);
    esp_program_free(program);
}
END_TEST

/* Certificates rest on the promised order: the sums here are written out one after the other. */
START_TEST(program__forward_keeps_its_order_of_operations) {
    esp_rng rng;
    esp_rng_init(&rng, 3, 0);
    esp_program *program = lower_policy(random_net(&rng, 3, (int[]){7, 13, 11, 5}, ESP_ACT_RELU));
    size_t n_x = (size_t)program->n_x, n_r = (size_t)program->n_r, n_y = (size_t)program->n_y;
    double x[7], y[5], p[32], r[32], want_r[32];
    for (size_t j = 0; j < n_x; j++) x[j] = esp_rng_normal(&rng) * exp(5 * esp_rng_normal(&rng));
    esp_program_forward(program, x, y, p, r, NULL);
    for (size_t i = 0; i < n_r; i++) {
        volatile double sum = program->d0[i];
        for (size_t j = 0; j < n_x; j++) sum = sum + program->c[i * n_x + j] * x[j];
        for (size_t j = 0; j < i; j++) sum = sum + program->d[i * n_r + j] * want_r[j];
        ck_assert_msg(p[i] == sum, "p %zu is %a, must be %a", i, p[i], sum);
        want_r[i] = sum > 0 ? sum : 0;
    }
    for (size_t k = 0; k < n_y; k++) {
        volatile double sum = program->c0[k];
        for (size_t j = 0; j < n_x; j++) sum = sum + program->a[k * n_x + j] * x[j];
        for (size_t j = 0; j < n_r; j++) sum = sum + program->b[k * n_r + j] * r[j];
        ck_assert_msg(y[k] == sum, "y %zu is %a, must be %a", k, y[k], sum);
    }
    esp_program_free(program);
}
END_TEST

START_TEST(program__a_relu_at_zero_counts_as_off) {
    esp_net *net = NULL;
    double x = 0, y, p, dx = 5, g = 1, work[1];
    ck_assert(esp_net_create(2, (int[]){1, 1, 1}, &net, NULL) == ESP_OK);
    net->layers[0].w[0] = net->layers[1].w[0] = 1;
    esp_program *program = lower_policy(net);
    esp_program_forward(program, &x, &y, &p, NULL, work);
    esp_program_backward(program, &p, &g, &dx, work);
    ck_assert_double_eq(dx, 0);
    x = 1;
    esp_program_forward(program, &x, &y, &p, NULL, work);
    esp_program_backward(program, &p, &g, &dx, work);
    ck_assert_double_eq(dx, 1);
    esp_program_free(program);
}
END_TEST

/* y(t+1) = y(t) + relu(u(t) + u(t-1)): the past input enters step 0 as a number and no later step. */
START_TEST(program__unrolling_substitutes_the_past) {
    esp_net *net = NULL;
    esp_model *model = NULL;
    esp_program *step = NULL, *program = NULL;
    const esp_frame frame = {.kind = ESP_FRAME_RESIDUAL};
    ck_assert(esp_net_create(2, (int[]){4, 1, 1}, &net, NULL) == ESP_OK);
    net->layers[0].w[2] = net->layers[0].w[3] = net->layers[1].w[0] = 1; /* x = y(t-1), y(t), u(t-1), u(t) */
    ck_assert(esp_model_create(ESP_MODEL_DYNAMICS, 1, 1, 2, &frame, net, &model, NULL) == ESP_OK);
    ck_assert(esp_program_lower(model, &step, NULL) == ESP_OK);
    ck_assert(esp_program_unroll(step, 1, 1, 2, 3, (double[]){50, 7}, (double[]){0.5}, &program, NULL) == ESP_OK);
    equal(program->d0, (double[]){0.5, 0, 0}, 3);
    equal(program->c, (double[]){1, 0, 0, 1, 1, 0, 0, 1, 1}, 9);
    equal(program->c0, (double[]){7, 7, 7}, 3);
    equal(program->b, (double[]){1, 0, 0, 1, 1, 0, 1, 1, 1}, 9);
    ck_assert_int_eq(program->n_levels, 1); /* no ReLU reads another */
    esp_program_free(program);
    esp_program_free(step);
    esp_model_free(model);
}
END_TEST

START_TEST(program__too_many_relus_and_unequal_sizes_are_refused) {
    esp_net *net = NULL;
    esp_model *model = NULL;
    esp_program *step = NULL, *program = NULL, *other = lower_policy(random_net(&(esp_rng){{1, 2, 3, 4}}, 1, (int[]){3, 2}, -1));
    esp_error error = {0};
    double y[1] = {0};
    ck_assert(esp_net_create(2, (int[]){2, 1000, 1}, &net, NULL) == ESP_OK);
    ck_assert(esp_model_create(ESP_MODEL_DYNAMICS, 1, 1, 1, NULL, net, &model, NULL) == ESP_OK);
    ck_assert(esp_program_lower(model, &step, NULL) == ESP_OK);
    ck_assert(esp_program_unroll(step, 1, 1, 1, 9, y, NULL, &program, &error) == ESP_UNPROCESSABLE);
    ck_assert_ptr_nonnull(strstr(error.message, "9000 ReLUs"));
    ck_assert(esp_program_difference(step, other, &program, &error) == ESP_INVALID);
    ck_assert_ptr_null(program);
    esp_program_free(step);
    esp_program_free(other);
    esp_program_free(NULL);
    esp_model_free(model);
}
END_TEST

START_TEST(program__a_batch_of_affine_maps) {
    esp_rng rng;
    esp_rng_init(&rng, 4, 0);
    esp_program *program = lower_policy(random_net(&rng, 2, (int[]){3, 4, 2}, ESP_ACT_IDENTITY));
    esp_batch *batch = NULL;
    static _Alignas(64) float x[3 * ESP_LANES], y[2 * ESP_LANES];
    x[7] = 1;
    ck_assert(esp_batch_create(program, false, &batch, NULL) == ESP_OK);
    esp_batch_forward(batch, x, y);
    ck_assert_double_eq_tol((double)y[ESP_LANES + 7], program->c0[1] + program->a[3], 1e-6);
    ck_assert_double_eq_tol((double)y[ESP_LANES + 8], program->c0[1], 1e-6);
    esp_batch_free(batch);
    esp_batch_free(NULL);
    esp_program_free(program);
}
END_TEST

START_TEST(program__a_nan_passes_through_a_batch) {
    esp_rng rng;
    esp_rng_init(&rng, 5, 0);
    esp_program *program = lower_policy(random_net(&rng, 2, (int[]){3, 4, 2}, ESP_ACT_RELU));
    esp_batch *batch = NULL;
    static _Alignas(64) float values[7 * ESP_LANES], y[2 * ESP_LANES];
    values[9] = NAN;
    ck_assert(esp_batch_create(program, false, &batch, NULL) == ESP_OK);
    esp_batch_forward(batch, values, y);
    ck_assert(isnan(y[9]) && !isnan(y[8]));
    esp_batch_free(batch);
    esp_program_free(program);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("program");
    TCase *tc = tcase_create("program");
    tcase_add_test(tc, program__identity_and_zero_neurons_vanish);
    tcase_add_test(tc, program__no_relus_leave_an_affine_map);
    tcase_add_test(tc, program__identity_chains_add_no_levels);
    tcase_add_test(tc, program__levels_go_by_dependence_not_by_layer);
    tcase_add_test(tc, program__relus_that_never_fire_are_kept);
    tcase_add_test(tc, program__relu_outputs_are_relus_too);
    tcase_add_test(tc, program__forward_keeps_its_order_of_operations);
    tcase_add_test(tc, program__a_relu_at_zero_counts_as_off);
    tcase_add_test(tc, program__unrolling_substitutes_the_past);
    tcase_add_test(tc, program__too_many_relus_and_unequal_sizes_are_refused);
    tcase_add_test(tc, program__a_batch_of_affine_maps);
    tcase_add_test(tc, program__a_nan_passes_through_a_batch);
    suite_add_tcase(suite, tc);
    return run_suite(suite);
}
