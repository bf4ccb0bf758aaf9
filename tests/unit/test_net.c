/* SPDX-License-Identifier: Apache-2.0
 * Networks: shape, caps, counts, the plain forward pass on numbers worked out by hand. */
#include <check.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "net/net.h"

static esp_net *net_of(int n_layers, const int *widths) {
    esp_net *net = NULL;
    esp_error error = {0};
    ck_assert_msg(esp_net_create(n_layers, widths, &net, &error) == ESP_OK, "%s", error.message);
    return net;
}

/* 2 -> 3 -> 1: a relu, an identity and a zero neuron. */
static esp_net *sample(void) {
    static const int widths[] = {2, 3, 1};
    static const double w0[] = {1, -1, 2, 0.5, 7, 7}, b0[] = {-0.5, 1, 7}, w1[] = {3, -2, 100}, b1[] = {0.25};
    esp_net *net = net_of(2, widths);
    memcpy(net->layers[0].w, w0, sizeof w0);
    memcpy(net->layers[0].b, b0, sizeof b0);
    memcpy(net->layers[1].w, w1, sizeof w1);
    memcpy(net->layers[1].b, b1, sizeof b1);
    net->layers[0].act[1] = ESP_ACT_IDENTITY;
    net->layers[0].act[2] = ESP_ACT_ZERO;
    return net;
}

START_TEST(net__new_layers_are_relu_and_the_last_identity) {
    static const int widths[] = {3, 5, 4, 2};
    esp_net *net = net_of(3, widths);
    ck_assert_int_eq(esp_net_inputs(net), 3);
    ck_assert_int_eq(esp_net_outputs(net), 2);
    ck_assert_int_eq(esp_net_widest(net), 5);
    ck_assert_int_eq(esp_net_relus(net), 9);
    ck_assert_int_eq(esp_net_parameters(net), 5 * 4 + 4 * 6 + 2 * 5);
    ck_assert_int_eq(esp_net_nonzero(net), 0);
    ck_assert_int_eq(net->layers[2].act[1], ESP_ACT_IDENTITY);
    esp_net_free(net);
}
END_TEST

START_TEST(net__forward_is_what_paper_and_pencil_say) {
    esp_net *net = sample();
    double y, work[6], on[] = {2, 1}, off[] = {1, 2};
    esp_net_forward(net, on, &y, work); /* p = 2 - 1 - .5, h = 4 + .5 + 1: 3 * .5 - 2 * 5.5 + .25 */
    ck_assert_double_eq(y, -9.25);
    esp_net_forward(net, off, &y, work); /* p = 1 - 2 - .5 < 0, h = 2 + 1 + 1: -2 * 4 + .25 */
    ck_assert_double_eq(y, -7.75);
    ck_assert_int_eq(esp_net_relus(net), 1);
    ck_assert_int_eq(esp_net_nonzero(net), 6 + 3 + 3 + 1);
    esp_net_free(net);
}
END_TEST

START_TEST(net__forward_shows_a_number_that_is_not_one) {
    esp_net *net = sample();
    double y = 0, work[6], x[] = {NAN, 1};
    esp_net_forward(net, x, &y, work);
    ck_assert(isnan(y));
    esp_net_free(net);
}
END_TEST

START_TEST(net__copy_is_equal_and_separate) {
    esp_net *net = sample(), *copy = NULL;
    double y, want, work[6], x[] = {2, 1};
    ck_assert(esp_net_copy(net, &copy, NULL) == ESP_OK);
    esp_net_forward(net, x, &want, work);
    memset(net->layers[0].w, 0, 6 * sizeof(double));
    net->layers[0].act[0] = ESP_ACT_ZERO;
    esp_net_free(net);
    esp_net_forward(copy, x, &y, work);
    ck_assert_double_eq(y, want);
    esp_net_free(copy);
}
END_TEST

START_TEST(net__caps_are_kept) {
    int widths[ESP_MAX_LAYERS + 2];
    for (int i = 0; i < ESP_MAX_LAYERS + 2; i++) widths[i] = 2;
    esp_net *net = NULL;
    ck_assert(esp_net_create(ESP_MAX_LAYERS + 1, widths, &net, NULL) == ESP_INVALID);
    ck_assert(esp_net_create(0, widths, &net, NULL) == ESP_INVALID);
    widths[1] = 0;
    ck_assert(esp_net_create(2, widths, &net, NULL) == ESP_INVALID);
    widths[1] = ESP_MAX_WIDTH + 1;
    ck_assert(esp_net_create(2, widths, &net, NULL) == ESP_INVALID);
    widths[0] = widths[1] = ESP_MAX_WIDTH; /* 4096 * 4097 is over the cap on parameters */
    ck_assert(esp_net_create(1, widths, &net, NULL) == ESP_INVALID);
    ck_assert_ptr_null(net);
    esp_net_free(NULL);
}
END_TEST

START_TEST(net__check_finds_what_is_not_finite) {
    esp_net *net = sample();
    esp_error error = {0};
    ck_assert(esp_net_check(net, NULL) == ESP_OK);
    net->layers[1].b[0] = INFINITY;
    ck_assert(esp_net_check(net, &error) == ESP_INVALID);
    ck_assert_ptr_nonnull(strstr(error.message, "layer 2"));
    net->layers[1].b[0] = 0;
    net->layers[0].w[5] = NAN;
    ck_assert(esp_net_check(net, NULL) == ESP_INVALID);
    esp_net_free(net);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("net");
    TCase *tc = tcase_create("net");
    tcase_add_test(tc, net__new_layers_are_relu_and_the_last_identity);
    tcase_add_test(tc, net__forward_is_what_paper_and_pencil_say);
    tcase_add_test(tc, net__forward_shows_a_number_that_is_not_one);
    tcase_add_test(tc, net__copy_is_equal_and_separate);
    tcase_add_test(tc, net__caps_are_kept);
    tcase_add_test(tc, net__check_finds_what_is_not_finite);
    suite_add_tcase(suite, tc);
    return run_suite(suite);
}
