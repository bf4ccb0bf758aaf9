/* SPDX-License-Identifier: Apache-2.0
 * No bytes make the model file's reader crash, and what it accepts it accepts whole: what it gives back encodes to the
 * very bytes it was given. */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/hash.h"
#include "net/model.h"
#include "support/models.h"

static void reseal(char *bytes, size_t len) {
    char hex[ESP_HASH_HEX];
    esp_hash_bytes(bytes, len - 32, hex);
    for (size_t i = 0; i < 32; i++) {
        unsigned byte;
        (void)sscanf(hex + 2 * i, "%2x", &byte);
        bytes[len - 32 + i] = (char)byte;
    }
}

/* The bytes in a block of their very length, so that the sanitizer sees a read past it. True when accepted. */
static bool decodes(uint64_t seed, const char *bytes, size_t len) {
    char *exact = malloc(len ? len : 1);
    ck_assert_ptr_nonnull(exact);
    memcpy(exact, bytes, len);
    esp_model *model = NULL;
    esp_error error = {0};
    esp_code code = esp_model_decode(exact, len, &model, &error);
    if (code == ESP_OK) {
        esp_buf again = {0};
        ck_assert(esp_model_encode(model, &again, NULL) == ESP_OK);
        ck_assert_msg(again.len == len && memcmp(again.data, exact, len) == 0, "seed %llu: accepted bytes are not its encoding",
                      (unsigned long long)seed);
        esp_buf_done(&again);
        for (int l = 0; l < model->net->n_layers; l++)
            for (int i = 0; i < model->net->layers[l].n_out; i++) ck_assert_int_le(model->net->layers[l].act[i], ESP_ACT_IDENTITY);
        ck_assert(esp_net_check(model->net, NULL) == ESP_OK);
    } else {
        ck_assert_msg(code == ESP_CORRUPT || code == ESP_INVALID, "seed %llu: %s", (unsigned long long)seed, esp_code_name(code));
        ck_assert_ptr_null(model);
        ck_assert(error.message[0] != '\0');
    }
    esp_model_free(model);
    free(exact);
    return code == ESP_OK;
}

START_TEST(model_file__every_truncation_is_refused) {
    seed_range range = seeds(10);
    for (uint64_t seed = range.first; seed <= range.last; seed++) {
        esp_rng rng;
        esp_rng_init(&rng, seed, 8);
        esp_model *model = random_model(&rng);
        esp_buf bytes = {0};
        ck_assert(esp_model_encode(model, &bytes, NULL) == ESP_OK);
        ck_assert(decodes(seed, bytes.data, bytes.len));
        for (size_t len = 0; len < bytes.len; len++) {
            ck_assert(!decodes(seed, bytes.data, len));
            if (len < 64) continue;
            char *cut = malloc(len); /* and with a checksum that holds */
            ck_assert_ptr_nonnull(cut);
            memcpy(cut, bytes.data, len);
            reseal(cut, len);
            ck_assert(!decodes(seed, cut, len));
            free(cut);
        }
        esp_buf_done(&bytes);
        esp_model_free(model);
    }
}
END_TEST

START_TEST(model_file__flipped_bytes_are_refused_or_are_another_model) {
    seed_range range = seeds(300);
    int accepted = 0, refused = 0;
    for (uint64_t seed = range.first; seed <= range.last; seed++) {
        esp_rng rng;
        esp_rng_init(&rng, seed, 9);
        esp_model *model = random_model(&rng);
        esp_buf bytes = {0};
        ck_assert(esp_model_encode(model, &bytes, NULL) == ESP_OK);
        for (int k = 0; k < 20; k++) {
            char *copy = malloc(bytes.len);
            ck_assert_ptr_nonnull(copy);
            memcpy(copy, bytes.data, bytes.len);
            /* half of the flips fall into the head, where the sizes are */
            size_t at = esp_rng_below(&rng, esp_rng_uniform(&rng) < 0.5 ? 64 : bytes.len);
            copy[at] ^= (char)(1 + esp_rng_below(&rng, 255));
            ck_assert(!decodes(seed, copy, bytes.len)); /* the checksum sees any single flip */
            reseal(copy, bytes.len);
            if (decodes(seed, copy, bytes.len))
                accepted++;
            else
                refused++;
            free(copy);
        }
        esp_buf_done(&bytes);
        esp_model_free(model);
    }
    ck_assert(range.last == range.first || (refused > 500 && accepted > 500));
}
END_TEST

int main(void) {
    Suite *suite = suite_create("model_file");
    TCase *tc = tcase_create("model_file");
    tcase_set_timeout(tc, 30);
    tcase_add_test(tc, model_file__every_truncation_is_refused);
    tcase_add_test(tc, model_file__flipped_bytes_are_refused_or_are_another_model);
    suite_add_tcase(suite, tc);
    return run_suite(suite);
}
