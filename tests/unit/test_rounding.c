/* SPDX-License-Identifier: Apache-2.0
 * Rounding of weights to zero: which go, what their rows' biases take up, and that nothing is left of one that is broken off. The loss is
 * the test's own, a price for each weight that is 0, so that the answer is known. */
#include <check.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/rng.h"
#include "train/rounding.h"

/* 2-6-2 with two ReLUs, two carriers and two zeros: 2 x 2 weights before the ReLUs and 2 x (2 + 2) before the outputs. */
enum { NX = 2, NR = 2, NY = 2, WIDTH = 6, ENTRIES = NR * NX + NY * (NX + NR), ROWS = 40, PARAMS_MAX = 64 };

typedef struct fixture {
    esp_mlp mlp;
    esp_ladder *ladder;
    esp_compact *compact;
    esp_windows windows;
    esp_compact_entry entries[ENTRIES];
    float params[PARAMS_MAX], before[PARAMS_MAX], features[ROWS * NX];
    size_t rows[ROWS];
    double price[ENTRIES];
    int asked, stop_at; /* stop_at: the question that is not answered; 0: all are */
} fixture;

static void fixture_init(fixture *f) {
    static const uint8_t acts[WIDTH] = {ESP_ACT_RELU, ESP_ACT_IDENTITY, ESP_ACT_ZERO, ESP_ACT_RELU, ESP_ACT_IDENTITY, ESP_ACT_ZERO};
    const esp_ladder_opts opts = {0, 0, 0.5, true};
    esp_rng rng;
    *f = (fixture){.windows = {.n_in = NX, .features = f->features}};
    esp_rng_init(&rng, 4, 1);
    esp_mlp_init(&f->mlp, NX, (const int[]){WIDTH}, 1, NY);
    ck_assert_uint_le(f->mlp.n_params, PARAMS_MAX);
    ck_assert_int_eq(esp_ladder_create(f->mlp.n_neurons, &opts, &f->ladder, NULL), ESP_OK);
    esp_ladder_begin(f->ladder, acts);
    esp_mlp_seed(&f->mlp, (const float[]){1, 1}, &rng, f->params);
    ck_assert_int_eq(esp_compact_rewrite(&f->mlp, f->params, f->ladder, NULL), ESP_OK);
    ck_assert_int_eq(esp_compact_create(&f->mlp, f->ladder, &f->compact, NULL), ESP_OK);
    ck_assert_uint_eq(esp_compact_entries(f->compact, NULL), ENTRIES);
    ck_assert_uint_eq(esp_compact_entries(f->compact, f->entries), ENTRIES);
    for (size_t i = 0; i < ROWS; i++) {
        f->rows[i] = i;
        for (size_t j = 0; j < NX; j++) f->features[i * NX + j] = (float)(esp_rng_normal(&rng) + (double)j);
    }
    for (int i = 0; i < ENTRIES; i++) f->price[i] = 0.01 * (1 + i * 5 % ENTRIES); /* 0.01 .. 0.12, each once */
    memcpy(f->before, f->params, sizeof f->before);
}

static void fixture_done(fixture *f) {
    esp_compact_free(f->compact);
    esp_ladder_free(f->ladder);
}

static bool is_zero(const fixture *f, int i) {
    return f->params[f->entries[i].weight] == 0;
}

static double loss(void *user) {
    fixture *f = user;
    double sum = 1;
    for (int i = 0; i < ENTRIES; i++) sum += is_zero(f, i) ? f->price[i] : 0;
    return ++f->asked == f->stop_at ? (double)NAN : sum;
}

static size_t run(fixture *f, double share) {
    size_t zeros = 99;
    const esp_rounding_call call = {&f->mlp, f->ladder, &f->windows, f->rows, ROWS, share, loss, f};
    f->asked = 0;
    ck_assert_int_eq(esp_rounding_run(&call, f->params, &zeros, NULL), ESP_OK);
    return zeros;
}

START_TEST(rounding__takes_the_cheapest_within_the_share) {
    fixture f;
    fixture_init(&f);
    ck_assert_uint_eq(run(&f, 0.005), 0); /* the cheapest is 0.01 */
    ck_assert_mem_eq(f.params, f.before, sizeof f.params);
    ck_assert_uint_eq(run(&f, 0.105), 4); /* 0.01 + 0.02 + 0.03 + 0.04 */
    for (int i = 0; i < ENTRIES; i++) ck_assert_int_eq(is_zero(&f, i), f.price[i] < 0.045);
    ck_assert_uint_eq(run(&f, 0.051), 1); /* of 1.10, which the four have cost: 0.05, and not 0.06 as well */
    ck_assert_uint_eq(run(&f, 1), ENTRIES - 5);
    ck_assert_uint_eq(run(&f, 1), 0);
    fixture_done(&f);
}
END_TEST

/* What a weight is multiplied by: an input, or the ReLU behind it. */
static double mean_of(const fixture *f, size_t from) {
    double sum = 0;
    for (int i = 0; i < ROWS; i++) {
        const float *x = f->features + i * NX;
        double p = (double)x[from % NX];
        if (from >= NX) {
            const esp_compact_entry *e = f->entries + (from - NX) * NX;
            p = (double)f->before[e->bias] + (double)f->before[e[0].weight] * (double)x[0] + (double)f->before[e[1].weight] * (double)x[1];
            p = fmax(0, p);
        }
        sum += p;
    }
    return sum / ROWS;
}

START_TEST(rounding__the_bias_takes_up_the_mean) {
    fixture f;
    double expected[PARAMS_MAX];
    fixture_init(&f);
    for (size_t i = 0; i < f.mlp.n_params; i++) expected[i] = (double)f.before[i];
    ck_assert_uint_eq(run(&f, 0.4), 8);
    for (int i = 0; i < ENTRIES; i++) {
        const esp_compact_entry *e = &f.entries[i];
        if (!is_zero(&f, i)) continue;
        expected[e->bias] += (double)f.before[e->weight] * mean_of(&f, e->from);
        expected[e->weight] = 0;
    }
    for (size_t i = 0; i < f.mlp.n_params; i++) ck_assert_double_eq_tol((double)f.params[i], expected[i], 1e-5);
    fixture_done(&f);
}
END_TEST

START_TEST(rounding__leaves_nothing_behind_when_broken_off) {
    fixture f;
    fixture_init(&f);
    ck_assert_uint_eq(run(&f, 0.105), 4);
    for (int last = f.asked, at = 1; at <= last; at++) {
        memcpy(f.params, f.before, sizeof f.params);
        f.stop_at = at;
        ck_assert_uint_eq(run(&f, 0.105), 0);
        ck_assert_int_eq(f.asked, at);
        ck_assert_mem_eq(f.params, f.before, sizeof f.params);
    }
    fixture_done(&f);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("rounding");
    TCase *c = tcase_create("rounding");
    tcase_add_test(c, rounding__takes_the_cheapest_within_the_share);
    tcase_add_test(c, rounding__the_bias_takes_up_the_mean);
    tcase_add_test(c, rounding__leaves_nothing_behind_when_broken_off);
    suite_add_tcase(suite, c);
    return run_suite(suite);
}
