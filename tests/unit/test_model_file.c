/* SPDX-License-Identifier: Apache-2.0
 * The model file: its bytes, what survives them, and that no file can lie about its sizes. */
#include <check.h>
#include <float.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/hash.h"
#include "net/model.h"
#include "support/models.h"

/* ny 1, nu 1, residual; 2 -> 2 -> 1 with a zero neuron. */
static esp_model *sample(void) {
    static const double w0[] = {-0.0, DBL_TRUE_MIN, DBL_MAX, 0.1}, b0[] = {-DBL_MIN, 1}, w1[] = {2, -3}, b1[] = {0.5};
    const esp_frame frame = {.kind = ESP_FRAME_RESIDUAL};
    esp_net *net = NULL;
    esp_model *model = NULL;
    ck_assert(esp_net_create(2, (int[]){2, 2, 1}, &net, NULL) == ESP_OK);
    memcpy(net->layers[0].w, w0, sizeof w0);
    memcpy(net->layers[0].b, b0, sizeof b0);
    memcpy(net->layers[1].w, w1, sizeof w1);
    memcpy(net->layers[1].b, b1, sizeof b1);
    net->layers[0].act[1] = ESP_ACT_ZERO;
    ck_assert(esp_model_create(ESP_MODEL_DYNAMICS, 1, 1, 1, &frame, net, &model, NULL) == ESP_OK);
    return model;
}

static esp_buf encoded(const esp_model *model) {
    esp_buf bytes = {0};
    ck_assert(esp_model_encode(model, &bytes, NULL) == ESP_OK);
    return bytes;
}

/* Writes the checksum that the rest of the bytes ask for. */
static void reseal(esp_buf *bytes) {
    char hex[ESP_HASH_HEX];
    esp_hash_bytes(bytes->data, bytes->len - 32, hex);
    for (int i = 0; i < 32; i++) {
        unsigned byte;
        (void)sscanf(hex + 2 * i, "%2x", &byte);
        bytes->data[bytes->len - 32 + i] = (char)byte;
    }
}

static void put_word(esp_buf *bytes, size_t word, uint32_t value) {
    for (int i = 0; i < 4; i++) bytes->data[4 * word + i] = (char)(value >> (8 * i));
}

static void refuse(esp_buf *bytes, esp_code want, const char *part) {
    esp_model *model = NULL;
    esp_error error = {0};
    esp_code code = esp_model_decode(bytes->data, bytes->len, &model, &error);
    ck_assert_msg(code == want, "%s is %s, not %s", part, esp_code_name(code), esp_code_name(want));
    ck_assert_msg(strstr(error.message, part) != NULL, "\"%s\" does not say \"%s\"", error.message, part);
    ck_assert_ptr_null(model);
}

/* The layout of schema/formats/model.md, byte for byte. */
START_TEST(model_file__bytes_are_as_documented) {
    esp_model *model = sample();
    esp_buf bytes = encoded(model), want = {0};
    static const uint32_t words[] = {1, 0, 1, 1, 1, 1, 2, 2, 2, 1};
    esp_buf_put(&want, "ESPM", 4);
    for (size_t i = 0; i < sizeof words / sizeof *words; i++) esp_buf_put_u32(&want, words[i]);
    esp_buf_put(&want, "\1\0\2", 3);
    esp_buf_put_doubles(&want, (double[]){-0.0, DBL_TRUE_MIN, DBL_MAX, 0.1, -DBL_MIN, 1, 2, -3, 0.5}, 9);
    ck_assert_uint_eq(bytes.len, want.len + 32);
    ck_assert(memcmp(bytes.data, want.data, want.len) == 0);
    esp_buf_done(&want);
    esp_buf_done(&bytes);
    esp_model_free(model);
}
END_TEST

START_TEST(model_file__round_trip_gives_the_same_bytes) {
    seed_range range = seeds(100);
    for (uint64_t seed = range.first; seed <= range.last; seed++) {
        esp_rng rng;
        esp_rng_init(&rng, seed, 7);
        esp_model *model = random_model(&rng), *back = NULL;
        esp_error error = {0};
        esp_buf bytes = encoded(model);
        ck_assert_msg(esp_model_decode(bytes.data, bytes.len, &back, &error) == ESP_OK, "seed %llu: %s", (unsigned long long)seed, error.message);
        double x[64], y[64], want[64];
        for (int j = 0; j < esp_model_n_x(model); j++) x[j] = esp_rng_normal(&rng);
        oracle_step(model, x, want, NULL);
        oracle_step(back, x, y, NULL);
        ck_assert(memcmp(y, want, (size_t)esp_model_n_y(model) * sizeof *y) == 0);
        esp_buf again = encoded(back);
        ck_assert_uint_eq(again.len, bytes.len);
        ck_assert(memcmp(again.data, bytes.data, bytes.len) == 0);
        esp_buf_done(&bytes);
        esp_buf_done(&again);
        esp_model_free(model);
        esp_model_free(back);
    }
}
END_TEST

START_TEST(model_file__strange_bytes_are_named) {
    esp_model *model = sample();
    esp_buf bytes = encoded(model);
    esp_buf none = {0};
    refuse(&none, ESP_INVALID, "not a model file");
    bytes.data[0] = 'X';
    refuse(&bytes, ESP_INVALID, "not a model file");
    bytes.data[0] = 'E';
    put_word(&bytes, 1, 3);
    refuse(&bytes, ESP_INVALID, "version 3");
    put_word(&bytes, 1, 1);
    bytes.data[60] ^= 1;
    refuse(&bytes, ESP_CORRUPT, "checksum");
    bytes.data[60] ^= 1;
    bytes.len = 20;
    refuse(&bytes, ESP_CORRUPT, "cut short");
    esp_buf_done(&bytes);
    esp_model_free(model);
}
END_TEST

/* Word numbers: 2 kind, 3 ny, 4 nu, 5 history, 6 frame, 7 layers, 8.. widths. Every checksum here is right. */
START_TEST(model_file__sizes_that_lie_are_refused_whatever_the_checksum) {
    static const struct {
        size_t word;
        uint32_t value;
        const char *part;
    } lies[] = {
        {2, 2, "model kind 2"},
        {6, 3, "frame 3"},
        {7, 0, "0 layers"},
        {7, 65, "65 layers"},
        {3, 4097, "ny 4097"},
        {3, 0xffffffff, "ny 4294967295"},
        {4, 5000, "nu 5000"},
        {5, 65, "history 65"},
        {8, 0, "layer width 0"},
        {8, 4097, "layer width"},
        {9, 0xffffffff, "width"},
        {8, 4096, "its sizes ask for"},
        {6, 2, "its sizes ask for"},
        {7, 1, "its sizes ask for"},
        {5, 0, "history must lie in"},
        {3, 0, "a model of 0 outputs"},
        {4, 2, "the network has 2 inputs"},
    };
    esp_model *model = sample();
    for (size_t i = 0; i < sizeof lies / sizeof *lies; i++) {
        esp_buf bytes = encoded(model);
        put_word(&bytes, lies[i].word, lies[i].value);
        reseal(&bytes);
        refuse(&bytes, ESP_CORRUPT, lies[i].part);
        esp_buf_done(&bytes);
    }
    esp_model_free(model);
}
END_TEST

START_TEST(model_file__bad_activations_numbers_and_trailing_bytes) {
    esp_model *model = sample();
    esp_buf bytes = encoded(model);
    bytes.data[44] = 3;
    reseal(&bytes);
    refuse(&bytes, ESP_CORRUPT, "activation 3");
    bytes.data[44] = 1;
    memset(bytes.data + 47, 0xff, 8); /* the first weight: NaN */
    reseal(&bytes);
    refuse(&bytes, ESP_CORRUPT, "not finite");
    esp_buf_done(&bytes);
    bytes = encoded(model);
    esp_buf_put(&bytes, "12345678", 8);
    refuse(&bytes, ESP_CORRUPT, "checksum");
    reseal(&bytes);
    refuse(&bytes, ESP_CORRUPT, "its sizes ask for");
    esp_buf_done(&bytes);
    esp_model_free(model);
}
END_TEST

START_TEST(model_file__load_reads_what_was_written) {
    char path[] = "/tmp/esp_model_XXXXXX";
    int fd = mkstemp(path);
    ck_assert_int_ge(fd, 0);
    (void)close(fd);
    esp_model *model = sample(), *back = NULL;
    esp_error error = {0};
    esp_buf bytes = encoded(model);
    ck_assert(esp_file_write(path, bytes.data, bytes.len, NULL) == ESP_OK);
    ck_assert(esp_model_load(path, &back, NULL) == ESP_OK);
    ck_assert_double_eq(back->net->layers[1].w[1], -3);
    esp_model_free(back);
    back = NULL;
    ck_assert(esp_file_write(path, bytes.data, bytes.len - 1, NULL) == ESP_OK);
    ck_assert(esp_model_load(path, &back, &error) == ESP_CORRUPT);
    ck_assert_ptr_nonnull(strstr(error.message, path));
    ck_assert_int_eq(unlink(path), 0);
    ck_assert(esp_model_load(path, &back, NULL) == ESP_NOT_FOUND);
    ck_assert_ptr_null(back);
    esp_buf_done(&bytes);
    esp_model_free(model);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("model_file");
    TCase *tc = tcase_create("model_file");
    tcase_add_test(tc, model_file__bytes_are_as_documented);
    tcase_add_test(tc, model_file__round_trip_gives_the_same_bytes);
    tcase_add_test(tc, model_file__strange_bytes_are_named);
    tcase_add_test(tc, model_file__sizes_that_lie_are_refused_whatever_the_checksum);
    tcase_add_test(tc, model_file__bad_activations_numbers_and_trailing_bytes);
    tcase_add_test(tc, model_file__load_reads_what_was_written);
    suite_add_tcase(suite, tc);
    return run_suite(suite);
}
