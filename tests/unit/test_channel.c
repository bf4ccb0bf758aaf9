/* SPDX-License-Identifier: Apache-2.0
 * Channel pruning: which neurons go, how many of each layer, and that a neuron without weights is no loss. */
#include <check.h>
#include <string.h>

#include "sparsify/channel.h"
#include "support/suite.h"

static esp_ladder *ladder_of(size_t n) {
    esp_ladder_opts opts = {0.5, 0.1, 0.5, true};
    esp_ladder *ladder = NULL;
    ck_assert_int_eq(esp_ladder_create(n, &opts, &ladder, NULL), ESP_OK);
    return ladder;
}

/* Norms by hand: first layer 3, 0.5, 2, 2; second 4, 5, 0.25, 1. */
static const float first[] = {1, -2, 0.25f, 0.25f, -2, 0, 1, 1}, second[] = {1, 1, 1, 1, -5, 0, 0, 0, 0, 0, 0.25f, 0, 0.5f, 0, -0.5f, 0};
static const esp_channel_layer layers[] = {{0, 4, 2, first}, {4, 4, 4, second}};

START_TEST(channel__the_smallest_of_each_layer_go) {
    esp_ladder *ladder = ladder_of(8);
    size_t pruned[8];
    ck_assert_uint_eq(esp_channel_prune(ladder, layers, 2, 4, pruned), 4);
    ck_assert(pruned[0] == 1 && pruned[1] == 2 && pruned[2] == 6 && pruned[3] == 7); /* of the equal norms 2 and 2 the earlier */
    for (size_t i = 0; i < 8; i++) {
        bool gone = i == 1 || i == 2 || i == 6 || i == 7;
        ck_assert_int_eq(ladder->state[i], gone ? ESP_ACT_ZERO : ESP_UNDECIDED);
        ck_assert(ladder->pos[i] == (gone ? 0 : 1) && ladder->neg[i] == 0);
    }
    ck_assert_uint_eq(ladder->n_undecided, 4);
    ck_assert_uint_eq(esp_channel_prune(ladder, layers, 2, 2, pruned), 2); /* what is gone stays gone */
    ck_assert(pruned[0] == 3 && pruned[1] == 4);
    esp_ladder_free(ladder);
}
END_TEST

START_TEST(channel__nothing_to_prune_changes_nothing) {
    esp_ladder *ladder = ladder_of(8);
    ck_assert_uint_eq(esp_channel_prune(ladder, layers, 2, 8, NULL), 0);
    ck_assert_uint_eq(ladder->n_undecided, 8);
    ck_assert_uint_eq(esp_channel_prune(ladder, layers, 2, 0, NULL), 8);
    ck_assert_uint_eq(ladder->n_undecided, 0);
    esp_ladder_free(ladder);
}
END_TEST

START_TEST(channel__an_identity_stays) {
    esp_ladder *ladder = ladder_of(8);
    uint8_t acts[8];
    memset(acts, ESP_ACT_RELU, sizeof acts);
    acts[1] = ESP_ACT_IDENTITY; /* the smallest norm of its layer */
    acts[6] = ESP_ACT_ZERO;
    size_t pruned[8];
    esp_ladder_begin(ladder, acts);
    ck_assert_uint_eq(ladder->n_undecided, 6);
    ck_assert(ladder->pos[1] == 1 && ladder->neg[1] == 1 && ladder->pos[6] == 0);
    ck_assert_uint_eq(esp_channel_prune(ladder, layers, 2, 4, pruned), 2);
    ck_assert(pruned[0] == 2 && pruned[1] == 7);
    ck_assert_int_eq(ladder->state[1], ESP_ACT_IDENTITY);
    esp_ladder_free(ladder);
}
END_TEST

/* Layers of the given widths with no weights; what each keeps. */
static const struct sharing {
    int n_layers;
    size_t width[4], keep, kept[4];
} sharings[] = {
    {2, {64, 64}, 64, {32, 32}},      {2, {64, 64}, 15, {8, 7}},    {3, {10, 20, 30}, 12, {2, 4, 6}},         {3, {1, 100, 1}, 3, {1, 1, 1}},
    {3, {1, 100, 1}, 50, {1, 48, 1}}, {3, {8, 8, 8}, 2, {1, 1, 0}}, {4, {96, 192, 192, 96}, 4, {1, 1, 1, 1}},
};

START_TEST(channel__layers_lose_the_same_share) {
    const struct sharing *s = &sharings[_i];
    static const float zeros[256];
    esp_channel_layer of[4];
    size_t n = 0;
    for (int l = 0; l < s->n_layers; n += s->width[l++]) of[l] = (esp_channel_layer){n, s->width[l], 1, zeros};
    esp_ladder *ladder = ladder_of(n);
    esp_channel_prune(ladder, of, s->n_layers, s->keep, NULL);
    for (int l = 0; l < s->n_layers; l++) {
        size_t kept = 0;
        for (size_t i = 0; i < s->width[l]; i++) kept += ladder->state[of[l].first + i] == ESP_UNDECIDED;
        ck_assert_uint_eq(kept, s->kept[l]);
    }
    esp_ladder_free(ladder);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("channel");
    TCase *tc = tcase_create("channel");
    tcase_add_test(tc, channel__the_smallest_of_each_layer_go);
    tcase_add_test(tc, channel__nothing_to_prune_changes_nothing);
    tcase_add_test(tc, channel__an_identity_stays);
    tcase_add_loop_test(tc, channel__layers_lose_the_same_share, 0, sizeof sharings / sizeof *sharings);
    suite_add_tcase(suite, tc);
    return run_suite(suite);
}
