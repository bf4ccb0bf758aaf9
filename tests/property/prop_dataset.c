/* SPDX-License-Identifier: Apache-2.0
 * Whatever the bytes, the reader of trajectories ends in a dataset or in an error that names a line, and how the bytes
 * were cut into pieces changes neither. */
#include <check.h>
#include <stdlib.h>
#include <string.h>

#include "data/dataset.h"
#include "support/models.h"

typedef struct outcome {
    esp_code code;
    esp_error error;
    esp_dataset *dataset;
} outcome;

/* Pieces of a random length up to `most`, each in a block of its very length. */
static outcome ingest(esp_rng *rng, esp_data_format format, const char *text, size_t len, size_t most) {
    outcome out = {0};
    esp_ingest *reader = NULL;
    out.code = esp_ingest_create(format, true, &reader, &out.error);
    for (size_t at = 0; out.code == ESP_OK && at < len;) {
        size_t n = 1 + esp_rng_below(rng, most);
        if (n > len - at) n = len - at;
        char *piece = malloc(n);
        ck_assert_ptr_nonnull(piece);
        memcpy(piece, text + at, n);
        out.code = esp_ingest_feed(reader, piece, n, &out.error);
        free(piece);
        at += n;
    }
    if (out.code == ESP_OK) out.code = esp_ingest_finish(reader, &out.error);
    if (out.code == ESP_OK) out.dataset = esp_ingest_take(reader);
    esp_ingest_free(reader);
    return out;
}

static void same(uint64_t seed, const outcome *a, const outcome *b) {
    ck_assert_msg(a->code == b->code, "seed %llu: %s and %s", (unsigned long long)seed, esp_code_name(a->code), esp_code_name(b->code));
    ck_assert_str_eq(a->error.pointer, b->error.pointer);
    ck_assert_str_eq(a->error.message, b->error.message);
    if (a->code != ESP_OK) {
        ck_assert_msg(a->code == ESP_INVALID && strncmp(a->error.pointer, "line ", 5) == 0, "seed %llu: %s at \"%s\"", (unsigned long long)seed,
                      esp_code_name(a->code), a->error.pointer);
        return;
    }
    const esp_dataset *x = a->dataset, *y = b->dataset;
    ck_assert(x->ny == y->ny && x->nu == y->nu && x->n_rows == y->n_rows && x->n_trajectories == y->n_trajectories);
    ck_assert(memcmp(x->start, y->start, (x->n_trajectories + 1) * sizeof *x->start) == 0);
    ck_assert(memcmp(x->y, y->y, x->n_rows * (size_t)x->ny * sizeof *x->y) == 0);
    if (x->nu) ck_assert(memcmp(x->u, y->u, x->n_rows * (size_t)x->nu * sizeof *x->u) == 0);
}

/* 1 to 4 trajectories in the given format. */
static void write_text(esp_rng *rng, esp_data_format format, esp_buf *text) {
    double y[64], u[64];
    size_t n = 1 + esp_rng_below(rng, 4), ny = 1 + esp_rng_below(rng, 3), nu = esp_rng_below(rng, 3), start[5] = {0};
    for (size_t i = 0; i < n; i++) start[i + 1] = start[i] + 2 + esp_rng_below(rng, 3);
    for (size_t i = 0; i < 64; i++) {
        y[i] = (double)esp_rng_below(rng, 10) / 4;
        u[i] = esp_rng_normal(rng);
    }
    esp_dataset data = {(int)ny, (int)nu, n, start[n] - n, start[n], start, y, nu ? u : NULL};
    for (size_t i = 0; i < n; i++) esp_dataset_format(&data, i, format, text);
}

START_TEST(dataset__any_bytes_in_any_pieces) {
    static const char likely[] = "0123456789,,,,..--eE+[]{}\"yu \n\r\n\0\x80";
    seed_range range = seeds(3000);
    int accepted = 0, refused = 0;
    for (uint64_t seed = range.first; seed <= range.last; seed++) {
        esp_rng rng;
        esp_rng_init(&rng, seed, 10);
        esp_data_format format = seed % 2 ? ESP_DATA_CSV : ESP_DATA_NDJSON;
        esp_buf text = {0};
        write_text(&rng, format, &text);
        size_t flips = esp_rng_below(&rng, 4);
        for (size_t k = 0; k < flips; k++) text.data[esp_rng_below(&rng, text.len)] = likely[esp_rng_below(&rng, sizeof likely - 1)];
        if (esp_rng_uniform(&rng) < 0.2) text.len = 1 + esp_rng_below(&rng, text.len);
        outcome whole = ingest(&rng, format, text.data, text.len, 1u << 20), bytes = ingest(&rng, format, text.data, text.len, 1),
                pieces = ingest(&rng, format, text.data, text.len, 40);
        same(seed, &whole, &bytes);
        same(seed, &whole, &pieces);
        if (whole.code == ESP_OK)
            accepted++;
        else
            refused++;
        if (flips == 0 && text.len > 0 && text.data[text.len - 1] == '\n' && format == ESP_DATA_NDJSON) ck_assert(whole.code == ESP_OK);
        esp_dataset_free(whole.dataset);
        esp_dataset_free(bytes.dataset);
        esp_dataset_free(pieces.dataset);
        esp_buf_done(&text);
    }
    if (range.last > range.first) ck_assert(accepted > 500 && refused > 500);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("dataset");
    TCase *tc = tcase_create("dataset");
    tcase_set_timeout(tc, 30);
    tcase_add_test(tc, dataset__any_bytes_in_any_pieces);
    suite_add_tcase(suite, tc);
    return run_suite(suite);
}
