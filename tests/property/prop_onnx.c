/* SPDX-License-Identifier: Apache-2.0
 * A model written as ONNX and read back is the same model, to the last byte; and no bytes make the reader crash or take
 * memory out of proportion, however a good file is cut, changed or grown. */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#include "net/onnx.h"
#include "support/models.h"

static void write_model(const esp_model *model, esp_buf *bytes) {
    esp_error error = {0};
    ck_assert_msg(esp_onnx_format(model, bytes, &error) == ESP_OK, "%s", error.message);
}

START_TEST(onnx__round_trip_gives_the_same_bytes) {
    seed_range range = seeds(400);
    int frames[3] = {0};
    for (uint64_t seed = range.first; seed <= range.last; seed++) {
        esp_rng rng;
        esp_rng_init(&rng, seed, 61);
        esp_model *model = random_model(&rng), *back = NULL;
        esp_buf file = {0}, again = {0}, ours = {0}, theirs = {0};
        esp_error error = {0};
        if (esp_rng_below(&rng, 2)) model->net->layers[0].b[0] = -0.0;
        write_model(model, &file);
        ck_assert_msg(esp_onnx_parse(file.data, file.len, -1, 0, &back, &error) == ESP_OK, "seed %llu: %s: %s", (unsigned long long)seed,
                      error.pointer, error.message);
        ck_assert(esp_model_encode(model, &ours, NULL) == ESP_OK && esp_model_encode(back, &theirs, NULL) == ESP_OK);
        ck_assert_msg(ours.len == theirs.len && memcmp(ours.data, theirs.data, ours.len) == 0, "seed %llu: another model came back",
                      (unsigned long long)seed);
        write_model(back, &again);
        ck_assert(again.len == file.len && memcmp(again.data, file.data, file.len) == 0);
        frames[model->frame.kind]++;
        esp_buf_done(&file);
        esp_buf_done(&again);
        esp_buf_done(&ours);
        esp_buf_done(&theirs);
        esp_model_free(model);
        esp_model_free(back);
    }
    ck_assert(range.last == range.first || (frames[0] > 20 && frames[1] > 20 && frames[2] > 20));
}
END_TEST

/* In a block of their very length, so that the sanitizer sees a read past it. */
static bool parses(uint64_t seed, const char *bytes, size_t len) {
    char *exact = malloc(len ? len : 1);
    ck_assert_ptr_nonnull(exact);
    memcpy(exact, bytes, len);
    esp_model *model = NULL;
    esp_error error = {0};
    esp_code code = esp_onnx_parse(exact, len, (int)(seed % 3) - 1, 0, &model, &error);
    if (code) {
        ck_assert_msg(code == ESP_INVALID || code == ESP_UNPROCESSABLE, "seed %llu: %s: %s", (unsigned long long)seed, esp_code_name(code),
                      error.message);
        ck_assert_ptr_null(model);
        ck_assert(error.message[0]);
    } else {
        ck_assert(esp_net_check(model->net, NULL) == ESP_OK);
        for (int l = 0; l < model->net->n_layers; l++)
            for (int i = 0; i < model->net->layers[l].n_out; i++) ck_assert_int_le(model->net->layers[l].act[i], ESP_ACT_IDENTITY);
    }
    esp_model_free(model);
    free(exact);
    return code == ESP_OK;
}

static long resident_kib(void) {
    struct rusage usage;
    ck_assert_int_eq(getrusage(RUSAGE_SELF, &usage), 0);
    return usage.ru_maxrss;
}

START_TEST(onnx__every_truncation_is_survived) {
    seed_range range = seeds(6);
    int accepted = 0, tried = 0;
    for (uint64_t seed = range.first; seed <= range.last; seed++) {
        esp_rng rng;
        esp_rng_init(&rng, seed, 62);
        esp_model *model = random_model(&rng);
        esp_buf file = {0};
        write_model(model, &file);
        for (size_t len = 0; len < file.len; len++, tried++) accepted += parses(seed, file.data, len);
        esp_buf_done(&file);
        esp_model_free(model);
    }
    ck_assert_int_lt(accepted, tried / 100 + 1); /* fields of the head may be missing, the graph not */
}
END_TEST

/* One of: a byte changed, a run removed, a run repeated, a length made huge. */
static void mutate(esp_rng *rng, esp_buf *file) {
    size_t at = esp_rng_below(rng, file->len), n = 1 + esp_rng_below(rng, 40);
    if (n > file->len - at) n = file->len - at;
    switch (esp_rng_below(rng, 4)) {
    case 0: file->data[at] ^= (char)(1 + esp_rng_below(rng, 255)); break;
    case 1:
        memmove(file->data + at, file->data + at + n, file->len - at - n);
        file->len -= n;
        break;
    case 2: {
        esp_buf grown = {0};
        esp_buf_put(&grown, file->data, at + n);
        esp_buf_put(&grown, file->data + at, file->len - at);
        esp_buf_done(file);
        *file = grown;
        break;
    }
    default: file->data[at] = (char)0xff; break;
    }
}

START_TEST(onnx__changed_files_are_refused_or_are_models) {
    seed_range range = seeds(150);
    int accepted = 0, refused = 0;
    long before = resident_kib();
    for (uint64_t seed = range.first; seed <= range.last; seed++) {
        esp_rng rng;
        esp_rng_init(&rng, seed, 63);
        esp_model *model = random_model(&rng);
        esp_buf file = {0};
        write_model(model, &file);
        for (int k = 0; k < 60; k++) {
            esp_buf copy = {0};
            esp_buf_put(&copy, file.data, file.len);
            for (size_t times = 1 + esp_rng_below(&rng, 3); times-- > 0 && copy.len > 0;) mutate(&rng, &copy);
            if (parses(seed, copy.data, copy.len))
                accepted++;
            else
                refused++;
            esp_buf_done(&copy);
        }
        esp_buf_done(&file);
        esp_model_free(model);
    }
    ck_assert(range.last == range.first || (refused > 2000 && accepted > 300));
    ck_assert_msg(resident_kib() - before < 200 << 10, "%ld KiB for files of a few", resident_kib() - before);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("onnx");
    TCase *tc = tcase_create("onnx");
    tcase_set_timeout(tc, 60);
    tcase_add_test(tc, onnx__round_trip_gives_the_same_bytes);
    tcase_add_test(tc, onnx__every_truncation_is_survived);
    tcase_add_test(tc, onnx__changed_files_are_refused_or_are_models);
    suite_add_tcase(suite, tc);
    return run_suite(suite);
}
