/* SPDX-License-Identifier: Apache-2.0
 * Stable neurons over a box: which ones are resolved, that the function stays inside and may not outside. */
#include <check.h>
#include <math.h>
#include <string.h>

#include "certify/stable.h"
#include "support/models.h"

/* y+ = f(y): hidden p = y + 2, y - 2, y, 3 - y; each counts 1, 10, 100, 1000 in the sum. */
static esp_model *by_hand(void) {
    esp_net *net = NULL;
    esp_model *model = NULL;
    const esp_frame none = {.kind = ESP_FRAME_NONE};
    ck_assert_int_eq(esp_net_create(2, (const int[]){1, 4, 1}, &net, NULL), ESP_OK);
    memcpy(net->layers[0].w, (const double[]){1, 1, 1, -1}, 4 * sizeof(double));
    memcpy(net->layers[0].b, (const double[]){2, -2, 0, 3}, 4 * sizeof(double));
    memcpy(net->layers[1].w, (const double[]){1, 10, 100, 1000}, 4 * sizeof(double));
    ck_assert_int_eq(esp_model_create(ESP_MODEL_DYNAMICS, 1, 0, 1, &none, net, &model, NULL), ESP_OK);
    return model;
}

static double value(const esp_model *model, double x) {
    double y = NAN;
    oracle_step(model, &x, &y, NULL);
    return y;
}

START_TEST(stable__what_cannot_bend_in_the_box_does_not) {
    esp_model *model = by_hand(), *resolved = NULL;
    esp_stable stable = {0};
    const esp_box box = {1, (double[]){-1}, (double[]){1}};
    ck_assert_int_eq(esp_stable_resolve(model, &box, &resolved, &stable, NULL), ESP_OK);
    const uint8_t *act = resolved->net->layers[0].act;
    ck_assert(act[0] == ESP_ACT_IDENTITY && act[1] == ESP_ACT_ZERO && act[2] == ESP_ACT_RELU && act[3] == ESP_ACT_IDENTITY);
    ck_assert(stable.linear == 2 && stable.zero == 1);
    ck_assert(resolved->net->layers[0].w[1] == 0 && resolved->net->layers[0].b[1] == 0 && resolved->net->layers[1].w[1] == 0);
    for (int i = -10; i <= 10; i++) ck_assert_double_eq(value(resolved, i / 10.0), value(model, i / 10.0));
    ck_assert_double_ne(value(resolved, 5), value(model, 5)); /* outside nothing is promised */
    ck_assert_int_eq(esp_net_relus(model->net), 4);
    esp_model_free(resolved);
    esp_model_free(model);
}
END_TEST

START_TEST(stable__a_wider_box_resolves_nothing) {
    esp_model *model = by_hand(), *resolved = NULL;
    esp_stable stable = {7, 7};
    const esp_box box = {1, (double[]){-9}, (double[]){9}};
    ck_assert_int_eq(esp_stable_resolve(model, &box, &resolved, &stable, NULL), ESP_OK);
    ck_assert(stable.linear == 0 && stable.zero == 0);
    ck_assert_int_eq(esp_net_relus(resolved->net), 4);
    esp_model_free(resolved);
    esp_model_free(model);
}
END_TEST

/* Any model, small boxes: the same outputs inside, and no ReLU settled that sampling sees on the other side. */
START_TEST(stable__random_models_are_the_same_inside) {
    seed_range range = seeds(60);
    int settled = 0;
    for (uint64_t seed = range.first; seed <= range.last; seed++) {
        esp_rng rng;
        double lower[64], upper[64], x[64], y[64], z[64];
        esp_stable stable = {0};
        esp_model *resolved = NULL;
        esp_rng_init(&rng, seed, 9);
        esp_model *model = random_model(&rng);
        int n_x = esp_model_n_x(model), n_y = esp_model_n_y(model);
        ck_assert(n_x <= 64 && n_y <= 64);
        for (int i = 0; i < n_x; i++) {
            lower[i] = esp_rng_range(&rng, -1, 1);
            upper[i] = lower[i] + esp_rng_range(&rng, 0, 0.5);
        }
        const esp_box box = {n_x, lower, upper};
        ck_assert_int_eq(esp_stable_resolve(model, &box, &resolved, &stable, NULL), ESP_OK);
        ck_assert_int_eq(esp_net_relus(resolved->net), esp_net_relus(model->net) - stable.linear - stable.zero);
        settled += stable.linear + stable.zero;
        for (int k = 0; k < 200; k++) {
            for (int i = 0; i < n_x; i++) x[i] = k % 3 ? esp_rng_range(&rng, lower[i], upper[i]) : esp_rng_uniform(&rng) < 0.5 ? lower[i] : upper[i];
            oracle_step(model, x, y, NULL);
            oracle_step(resolved, x, z, NULL);
            for (int i = 0; i < n_y; i++)
                ck_assert_msg(fabs(y[i] - z[i]) <= 1e-9 * (1 + fabs(y[i])), "seed %llu: %g, %g", (unsigned long long)seed, y[i], z[i]);
        }
        esp_model_free(resolved);
        esp_model_free(model);
    }
    if (range.first != range.last) ck_assert_int_gt(settled, 20);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("stable");
    TCase *tc = tcase_create("stable");
    tcase_add_test(tc, stable__what_cannot_bend_in_the_box_does_not);
    tcase_add_test(tc, stable__a_wider_box_resolves_nothing);
    tcase_add_test(tc, stable__random_models_are_the_same_inside);
    suite_add_tcase(suite, tc);
    return run_suite(suite);
}
