/* SPDX-License-Identifier: Apache-2.0
 * Trajectories: both formats in any pieces, every error by its line, the split and the box. */
#include <check.h>
#include <locale.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/rng.h"
#include "data/dataset.h"

#define NDJSON ESP_DATA_NDJSON
#define CSV    ESP_DATA_CSV

/* Feeds the text in pieces of `piece` bytes, each in a block of its own length so that a read past it is seen. */
static esp_code ingest(esp_data_format format, const char *text, size_t len, size_t piece, esp_dataset **ret_dataset, esp_error *reterr) {
    esp_ingest *reader = NULL;
    esp_code code = esp_ingest_create(format, true, &reader, reterr);
    for (size_t at = 0; code == ESP_OK && at < len; at += piece) {
        size_t n = len - at < piece ? len - at : piece;
        char *exact = malloc(n);
        ck_assert_ptr_nonnull(exact);
        memcpy(exact, text + at, n);
        code = esp_ingest_feed(reader, exact, n, reterr);
        free(exact);
    }
    if (code == ESP_OK) code = esp_ingest_finish(reader, reterr);
    if (code == ESP_OK) *ret_dataset = esp_ingest_take(reader);
    esp_ingest_free(reader);
    return code;
}

static esp_dataset *accept(esp_data_format format, const char *text) {
    esp_dataset *dataset = NULL;
    esp_error error = {0};
    ck_assert_msg(ingest(format, text, strlen(text), 1u << 20, &dataset, &error) == ESP_OK, "%s: %s\n%s", error.pointer, error.message, text);
    return dataset;
}

/* Refused, whole and byte by byte, with the same words. */
static void refuse(esp_data_format format, const char *text, const char *pointer, const char *part) {
    for (int by_byte = 0; by_byte < 2; by_byte++) {
        esp_dataset *dataset = NULL;
        esp_error error = {0};
        ck_assert_msg(ingest(format, text, strlen(text), by_byte ? 1 : 1u << 20, &dataset, &error) == ESP_INVALID, "accepted:\n%s", text);
        ck_assert_msg(strcmp(error.pointer, pointer) == 0, "pointer \"%s\", not \"%s\", for\n%s", error.pointer, pointer, text);
        ck_assert_msg(strstr(error.message, part) != NULL, "\"%s\" does not say \"%s\"", error.message, part);
        ck_assert_ptr_null(dataset);
    }
}

static void equal(const double *got, const double *want, size_t n) {
    for (size_t i = 0; i < n; i++) ck_assert_msg(got[i] == want[i], "number %zu is %g, must be %g", i, got[i], want[i]);
}

/* Two trajectories of 2 and 1 transitions, ny 2, nu 1. */
static void check_sample(const esp_dataset *data) {
    ck_assert_int_eq(data->ny, 2);
    ck_assert_int_eq(data->nu, 1);
    ck_assert_uint_eq(data->n_trajectories, 2);
    ck_assert_uint_eq(data->n_transitions, 3);
    ck_assert_uint_eq(data->n_rows, 5);
    ck_assert_uint_eq(data->start[0], 0);
    ck_assert_uint_eq(data->start[1], 3);
    ck_assert_uint_eq(data->start[2], 5);
    equal(data->y, (double[]){1, 2, 3, 4, 5, 6, -1, 0.5, 1e-3, -2.5e2}, 10);
    equal(data->u, (double[]){0.1, 0.2, 0, 7, 0}, 5);
}

static const char ndjson_sample[] = "{\"y\":[[1,2],[3,4],[5,6]],\"u\":[[0.1],[0.2]]}\n"
                                    "{\"u\":[[7]],\"y\":[[-1,0.5],[1e-3,-2.5e2]]}\n";
static const char csv_sample[] = "trajectory,step,y0,y1,u0\n"
                                 "0,0,1,2,0.1\n0,1,3,4,0.2\n0,2,5,6,\n"
                                 "17,0,-1,.5,+7\n17,1,1e-3,-2.5E2,\n";

START_TEST(dataset__both_formats_in_any_pieces) {
    const char *texts[] = {ndjson_sample, csv_sample};
    for (int f = 0; f < 2; f++) {
        size_t len = strlen(texts[f]);
        for (size_t piece = 1; piece <= len; piece++) {
            esp_dataset *data = NULL;
            esp_error error = {0};
            ck_assert_msg(ingest(f == 0 ? NDJSON : CSV, texts[f], len, piece, &data, &error) == ESP_OK, "pieces of %zu: %s: %s", piece, error.pointer,
                          error.message);
            check_sample(data);
            esp_dataset_free(data);
        }
    }
}
END_TEST

START_TEST(dataset__carriage_returns_blank_lines_and_no_last_newline) {
    esp_dataset *data = accept(NDJSON, "\r\n{\"y\":[[1,2],[3,4],[5,6]],\"u\":[[0.1],[0.2]]}\r\n\n   \n{\"u\":[[7]],\"y\":[[-1,0.5],[1e-3,-2.5e2]]}");
    check_sample(data);
    esp_dataset_free(data);
    data = accept(CSV, "\ntrajectory,step,y0,y1,u0\r\n0,0,1,2,0.1\r\n0,1,3,4,0.2\r\n\r\n0,2,5,6,\r\n17,0,-1,.5,7\n17,1,1e-3,-250,");
    check_sample(data);
    esp_dataset_free(data);
}
END_TEST

START_TEST(dataset__no_inputs_at_all) {
    const char *same[] = {"{\"y\":[[1],[2]]}\n{\"y\":[[3],[4]],\"u\":[[]]}\n", "{\"y\":[[1],[2]],\"u\":[[]]}\n{\"y\":[[3],[4]]}\n"};
    for (int i = 0; i < 2; i++) {
        esp_dataset *data = accept(NDJSON, same[i]);
        ck_assert_int_eq(data->nu, 0);
        ck_assert_ptr_null(data->u);
        equal(data->y, (double[]){1, 2, 3, 4}, 4);
        esp_dataset_free(data);
    }
    esp_dataset *data = accept(CSV, "trajectory,step,y0\n5,0,1\n5,1,2\n2,0,3\n2,1,4\n");
    ck_assert_uint_eq(data->n_trajectories, 2);
    ck_assert_ptr_null(data->u);
    equal(data->y, (double[]){1, 2, 3, 4}, 4);
    esp_dataset_free(data);
}
END_TEST

START_TEST(dataset__ndjson_errors_name_line_and_place) {
    refuse(NDJSON, "", "line 1", "without any trajectory");
    refuse(NDJSON, "\n\n", "line 2", "without any trajectory");
    refuse(NDJSON, "{\"y\":[[1],[2]],\"u\":[[1]]}\n{\"y\":[[1],[2]],\"u\":[[1]]", "line 2", "not valid JSON");
    refuse(NDJSON, "{\"y\":[[1],[NaN]],\"u\":[[1]]}", "line 1", "not valid JSON");
    refuse(NDJSON, "{\"y\":[[1],[1e999]],\"u\":[[1]]}", "line 1", "not valid JSON");
    refuse(NDJSON, "\n{\"y\":[[1],[null]],\"u\":[[1]]}", "line 2", "/y/1/0: must be a number");
    refuse(NDJSON, "[1]", "line 1", "must be an object");
    refuse(NDJSON, "{\"y\":[[1],[2]],\"u\":[[1]],\"v\":1}", "line 1", "/v: unknown field");
    refuse(NDJSON, "{\"u\":[[1]]}", "line 1", "\"y\" is required");
    refuse(NDJSON, "{\"y\":[[1]],\"u\":[]}", "line 1", "/y: must have at least 2");
    refuse(NDJSON, "{\"y\":[[],[]],\"u\":[[1]]}", "line 1", "/y/0: must have 1 to 1024");
    refuse(NDJSON, "{\"y\":[[1],[2]],\"u\":[[1],[2]]}", "line 1", "/u: has 2 rows; 1 are needed");
    refuse(NDJSON, "{\"y\":[[1],[2,3]],\"u\":[[1]]}", "line 1", "/y/1: must have 1 elements, has 2");
    refuse(NDJSON, "{\"y\":[[1],[2]],\"u\":[[1]]}\n{\"y\":[[1,2],[2,3]],\"u\":[[1]]}", "line 2", "/y/0: must have 1 elements, has 2");
    refuse(NDJSON, "{\"y\":[[1],[2]],\"u\":[[1]]}\n{\"y\":[[1],[2]],\"u\":[[1,2]]}", "line 2", "/u/0: must have 1 elements, has 2");
    refuse(NDJSON, "{\"y\":[[1],[2]],\"u\":[[1]]}\n{\"y\":[[1],[2]]}", "line 2", "\"u\" is required");
    refuse(NDJSON, "{\"y\":[[1],[2]]}\n{\"y\":[[1],[2]],\"u\":[[1]]}", "line 2", "/u/0: must have 0 elements");
    refuse(NDJSON, "{\"y\":[[1],[2]],\"y\":[[1],[2]]}", "line 1", "not valid JSON");
    refuse(NDJSON, "{\"y\":[[1],[2]]} {\"y\":[[1],[2]]}", "line 1", "not valid JSON");
}
END_TEST

#define HEAD "trajectory,step,y0,y1,u0\n"

START_TEST(dataset__csv_header_errors) {
    refuse(CSV, "", "line 1", "without any trajectory");
    refuse(CSV, HEAD, "line 1", "without any trajectory");
    refuse(CSV, "step,trajectory,y0\n", "line 1", "must begin with trajectory,step");
    refuse(CSV, "0,0,1,2,3\n", "line 1", "must begin with trajectory,step");
    refuse(CSV, "trajectory,step\n", "line 1", "0 columns y");
    refuse(CSV, "trajectory,step,u0\n", "line 1", "\"u0\" of the header: y0");
    refuse(CSV, "trajectory,step,y0,y2\n", "line 1", "\"y2\" of the header: y1 or u0");
    refuse(CSV, "trajectory,step,y0,u0,y1\n", "line 1", "\"y1\" of the header");
    refuse(CSV, "trajectory,step,y0, u0\n", "line 1", "\" u0\" of the header");
    refuse(CSV, "trajectory,step,y0,\n", "line 1", "\"\" of the header");
}
END_TEST

START_TEST(dataset__csv_row_errors_name_line_and_column) {
    refuse(CSV, HEAD "0,0,1,2\n", "line 2", "has 4 cells; the header has 5");
    refuse(CSV, HEAD "0,0,1,2,3,4\n", "line 2", "has 6 cells");
    refuse(CSV, HEAD "0,0,1,x,3\n", "line 2", "column y1: \"x\" is not a number");
    refuse(CSV, HEAD "\n0,0,1,nan,3\n", "line 3", "column y1: \"nan\"");
    refuse(CSV, HEAD "0,0,1,inf,3\n", "line 2", "column y1: \"inf\"");
    refuse(CSV, HEAD "0,0,1,0x10,3\n", "line 2", "column y1: \"0x10\"");
    refuse(CSV, HEAD "0,0,1,1e999,3\n", "line 2", "column y1: 1e999 is too large");
    refuse(CSV, HEAD "0,0,1, 2,3\n", "line 2", "column y1: \" 2\"");
    refuse(CSV, HEAD "0,0,1,\"2\",3\n", "line 2", "column y1: \"\"2\"\"");
    refuse(CSV, HEAD "0,0,1,.,3\n", "line 2", "column y1: \".\"");
    refuse(CSV, HEAD "0,0,1,1e,3\n", "line 2", "column y1: \"1e\"");
    refuse(CSV, HEAD "0,0,,2,3\n", "line 2", "column y0 is empty");
    refuse(CSV, HEAD "0,0,1,2,z\n", "line 2", "column u0: \"z\"");
    refuse(CSV, HEAD "a,0,1,2,3\n", "line 2", "column trajectory: \"a\"");
    refuse(CSV, HEAD "-1,0,1,2,3\n", "line 2", "column trajectory: \"-1\"");
    refuse(CSV, HEAD "0,0.0,1,2,3\n", "line 2", "column step: \"0.0\"");
    refuse(CSV, "trajectory,step,y0,u0,u1\n0,0,1,2,\n", "line 2", "column u1 is empty");
}
END_TEST

START_TEST(dataset__csv_order_errors) {
    refuse(CSV, HEAD "0,1,1,2,3\n", "line 2", "column step: 1 where step 0 of trajectory 0 is due");
    refuse(CSV, HEAD "0,0,1,2,3\n0,2,1,2,\n", "line 3", "column step: 2 where step 1");
    refuse(CSV, HEAD "0,0,1,2,\n1,0,1,2,3\n", "line 2", "trajectory 0 has 1 step");
    refuse(CSV, HEAD "0,0,1,2,3\n", "line 2", "trajectory 0 has 1 step");
    refuse(CSV, HEAD "0,0,1,2,3\n0,1,1,2,3\n", "line 3", "the last step of trajectory 0 must leave every u empty");
    refuse(CSV, HEAD "0,0,1,2,3\n0,1,1,2,3\n4,0,1,2,3\n", "line 3", "the last step of trajectory 0");
    refuse(CSV, HEAD "0,0,1,2,3\n0,1,1,2,\n0,2,1,2,\n", "line 4", "trajectory 0 ended at line 3");
    /* cut in two by another */
    refuse(CSV, HEAD "0,0,1,2,3\n1,0,1,2,3\n1,1,1,2,\n0,1,1,2,\n", "line 2", "trajectory 0 has 1 step");
    refuse(CSV, HEAD "0,0,1,2,3\n0,1,1,2,\n1,0,1,2,3\n1,1,1,2,\n0,2,1,2,\n", "line 6", "step 0 of trajectory 0 is due");
}
END_TEST

START_TEST(dataset__a_line_over_the_cap_is_refused) {
    esp_ingest *reader = NULL;
    esp_error error = {0};
    enum { CHUNK = 1 << 20 };
    char *spaces = malloc(CHUNK);
    ck_assert_ptr_nonnull(spaces);
    memset(spaces, ' ', CHUNK);
    ck_assert(esp_ingest_create(NDJSON, false, &reader, NULL) == ESP_OK);
    ck_assert(esp_ingest_feed(reader, "\n", 1, NULL) == ESP_OK);
    esp_code code = ESP_OK;
    int fed = 0;
    while (code == ESP_OK && fed < 100) {
        code = esp_ingest_feed(reader, spaces, CHUNK, &error);
        fed++;
    }
    ck_assert(code == ESP_TOO_LARGE);
    ck_assert_int_eq(fed, (int)(ESP_MAX_LINE_BYTES / CHUNK) + 1);
    ck_assert_str_eq(error.pointer, "line 2");
    esp_ingest_free(reader);
    free(spaces);
}
END_TEST

/* Short values make a tree many times the size of the line, so their number has its own cap. */
START_TEST(dataset__a_line_of_too_many_values_is_refused) {
    for (int over = 0; over < 2; over++) {
        esp_ingest *reader = NULL;
        esp_error error = {0};
        esp_buf text = {0};
        esp_buf_puts(&text, "{\"y\":[");
        for (unsigned i = 0; i < ESP_MAX_LINE_VALUES + (unsigned)over; i++) esp_buf_puts(&text, over ? "1," : "[1],");
        esp_buf_puts(&text, over ? "1]}\n" : "[1]]}\n");
        ck_assert(!text.failed);
        ck_assert(esp_ingest_create(NDJSON, false, &reader, NULL) == ESP_OK);
        esp_code code = esp_ingest_feed(reader, text.data, text.len, &error);
        ck_assert_msg(code == (over ? ESP_TOO_LARGE : ESP_OK), "%s: %s", error.pointer, error.message);
        if (over)
            ck_assert_str_eq(error.pointer, "line 1");
        else
            ck_assert_uint_eq(esp_ingest_counts(reader)->n_transitions, ESP_MAX_LINE_VALUES);
        esp_ingest_free(reader);
        esp_buf_done(&text);
    }
}
END_TEST

START_TEST(dataset__counting_keeps_no_rows) {
    esp_ingest *reader = NULL;
    ck_assert(esp_ingest_create(CSV, false, &reader, NULL) == ESP_OK);
    ck_assert(esp_ingest_feed(reader, csv_sample, strlen(csv_sample), NULL) == ESP_OK);
    ck_assert(esp_ingest_finish(reader, NULL) == ESP_OK);
    const esp_dataset *counts = esp_ingest_counts(reader);
    ck_assert_uint_eq(counts->n_trajectories, 2);
    ck_assert_uint_eq(counts->n_transitions, 3);
    ck_assert_uint_eq(counts->n_rows, 5);
    ck_assert_int_eq(counts->ny, 2);
    ck_assert_ptr_null(counts->y);
    esp_ingest_free(reader);
    esp_ingest_free(NULL);
    esp_dataset_free(NULL);
}
END_TEST

START_TEST(dataset__csv_numbers_do_not_depend_on_the_locale) {
    if (!setlocale(LC_NUMERIC, "de_DE.UTF-8")) (void)setlocale(LC_NUMERIC, "C"); /* a comma for the point, where installed */
    esp_dataset *data = accept(CSV, csv_sample);
    check_sample(data);
    esp_dataset_free(data);
}
END_TEST

/* Any numbers through either format and back, to the bit. */
START_TEST(dataset__format_is_read_back) {
    esp_rng rng;
    esp_rng_init(&rng, 11, 0);
    for (int round = 0; round < 60; round++) {
        esp_data_format format = round % 2 ? CSV : NDJSON;
        size_t n = 1 + esp_rng_below(&rng, 4), ny = 1 + esp_rng_below(&rng, 3), nu = esp_rng_below(&rng, 3);
        size_t start[6] = {0};
        double y[200], u[200] = {0};
        for (size_t i = 0; i < n; i++) {
            start[i + 1] = start[i] + 2 + esp_rng_below(&rng, 4);
            for (size_t j = start[i]; j + 1 < start[i + 1]; j++)
                for (size_t k = 0; k < nu; k++) u[j * nu + k] = k ? -0.0 : esp_rng_normal(&rng);
        }
        for (size_t j = 0; j < start[n] * ny; j++) y[j] = j % 3 ? esp_rng_normal(&rng) * pow(10, round - 30) : floor(20 * esp_rng_normal(&rng));
        esp_dataset data = {(int)ny, (int)nu, n, start[n] - n, start[n], start, y, nu ? u : NULL}, *back = NULL;
        esp_buf text = {0};
        esp_error error = {0};
        for (size_t i = 0; i < n; i++) esp_dataset_format(&data, i, format, &text);
        ck_assert_msg(ingest(format, text.data, text.len, 7, &back, &error) == ESP_OK, "%s: %s\n%s", error.pointer, error.message,
                      esp_buf_text(&text));
        ck_assert_uint_eq(back->n_trajectories, n);
        ck_assert(memcmp(back->start, start, (n + 1) * sizeof *start) == 0);
        ck_assert(memcmp(back->y, y, start[n] * ny * sizeof *y) == 0);
        if (nu) ck_assert(memcmp(back->u, u, start[n] * nu * sizeof *u) == 0);
        esp_dataset_free(back);
        esp_buf_done(&text);
    }
}
END_TEST

START_TEST(dataset__formats_are_as_documented) {
    esp_dataset *data = accept(NDJSON, ndjson_sample);
    esp_buf text = {0};
    esp_dataset_format(data, 1, NDJSON, &text);
    ck_assert_str_eq(esp_buf_text(&text), "{\"y\":[[-1,0.5],[0.001,-250]],\"u\":[[7]]}\n");
    esp_buf_clear(&text);
    esp_dataset_format(data, 0, CSV, &text);
    esp_dataset_format(data, 1, CSV, &text);
    ck_assert_str_eq(esp_buf_text(&text), "trajectory,step,y0,y1,u0\n0,0,1,2,0.1\n0,1,3,4,0.2\n0,2,5,6,\n1,0,-1,0.5,7\n1,1,0.001,-250,\n");
    esp_buf_done(&text);
    esp_dataset_free(data);
}
END_TEST

START_TEST(dataset__load_reads_a_file) {
    char path[] = "/tmp/esp_data_XXXXXX";
    int fd = mkstemp(path);
    esp_dataset *data = NULL;
    ck_assert_int_ge(fd, 0);
    ck_assert_int_eq(write(fd, csv_sample, strlen(csv_sample)), (ssize_t)strlen(csv_sample));
    (void)close(fd);
    ck_assert(esp_dataset_load(path, CSV, &data, NULL) == ESP_OK);
    check_sample(data);
    esp_dataset_free(data);
    data = NULL;
    ck_assert(esp_dataset_load(path, NDJSON, &data, NULL) == ESP_INVALID);
    ck_assert_int_eq(unlink(path), 0);
    ck_assert(esp_dataset_load(path, CSV, &data, NULL) == ESP_NOT_FOUND);
    ck_assert_ptr_null(data);
}
END_TEST

static size_t split(size_t n, double share, uint64_t seed, size_t *order) {
    esp_dataset data = {.ny = 1, .n_trajectories = n};
    size_t n_train = 0, seen[64] = {0};
    esp_dataset_split(&data, share, seed, order, &n_train);
    for (size_t i = 0; i < n; i++) seen[order[i]]++;
    for (size_t i = 0; i < n; i++) ck_assert_uint_eq(seen[i], 1);
    return n_train;
}

typedef struct watch {
    int calls, stop_at;
    double last;
    bool falls;
} watch;

static esp_code on_piece(void *user, double fraction, esp_error *reterr) {
    watch *w = user;
    w->falls |= fraction < w->last || fraction > 1;
    w->last = fraction;
    return ++w->calls == w->stop_at ? esp_fail(reterr, ESP_CANCELLED, "enough") : ESP_OK;
}

START_TEST(dataset__load_is_watched_and_can_be_stopped) {
    char path[] = "/tmp/espalier-watch-XXXXXX";
    int fd = mkstemp(path);
    FILE *file = fdopen(fd, "w");
    for (int i = 0; i < 20000; i++) fprintf(file, "{\"y\":[[%d],[1]],\"u\":[[2]]}\n", i);
    fclose(file);
    esp_dataset *data = NULL;
    esp_error error = {0};
    watch w = {0};
    ck_assert(esp_dataset_load_watched(path, NDJSON, on_piece, &w, &data, NULL) == ESP_OK);
    ck_assert(w.calls > 3 && !w.falls && w.last == 1 && data->n_trajectories == 20000);
    esp_dataset_free(data);
    data = NULL;
    w = (watch){.stop_at = 3};
    ck_assert(esp_dataset_load_watched(path, NDJSON, on_piece, &w, &data, &error) == ESP_CANCELLED);
    ck_assert(w.calls == 3 && w.last < 1 && !data && strcmp(error.message, "enough") == 0);
    unlink(path);
}
END_TEST

START_TEST(dataset__split_is_a_seeded_permutation) {
    size_t a[64], b[64], c[64];
    ck_assert_uint_eq(split(50, 0.1, 1, a), 45);
    ck_assert_uint_eq(split(50, 0.1, 1, b), 45);
    ck_assert_uint_eq(split(50, 0.1, 2, c), 45);
    ck_assert(memcmp(a, b, 50 * sizeof *a) == 0);
    ck_assert(memcmp(a, c, 50 * sizeof *a) != 0);
    ck_assert_uint_eq(split(2, 0, 1, a), 1); /* one each at least */
    ck_assert_uint_eq(split(2, 1, 1, a), 1);
    ck_assert_uint_eq(split(3, 0.01, 1, a), 2);
    ck_assert_uint_eq(split(1, 0.5, 1, a), 1);
}
END_TEST

START_TEST(dataset__box_covers_every_window_and_no_more) {
    esp_dataset *data = accept(NDJSON, "{\"y\":[[1],[5],[2],[9]],\"u\":[[10],[-10],[3]]}\n{\"y\":[[-7],[-8]],\"u\":[[99]]}\n");
    double lower[8], upper[8];
    ck_assert(esp_dataset_box(data, 1, lower, upper, NULL) == ESP_OK);
    equal(lower, (double[]){-7, -10}, 2); /* the last output of a trajectory, without an input, is in no window */
    equal(upper, (double[]){5, 99}, 2);
    ck_assert(esp_dataset_box(data, 2, lower, upper, NULL) == ESP_OK);
    equal(lower, (double[]){1, 2, -10, -10}, 4); /* y(t-1), y(t), u(t-1), u(t); the short trajectory has no window */
    equal(upper, (double[]){5, 5, 10, 3}, 4);
    ck_assert(esp_dataset_box(data, 3, lower, upper, NULL) == ESP_OK);
    equal(lower, (double[]){1, 5, 2, 10, -10, 3}, 6);
    equal(upper, lower, 6);
    lower[0] = 42;
    esp_error error = {0};
    ck_assert(esp_dataset_box(data, 4, lower, upper, &error) == ESP_INVALID);
    ck_assert_ptr_nonnull(strstr(error.message, "history 4"));
    ck_assert_double_eq(lower[0], 42);
    esp_dataset_free(data);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("dataset");
    TCase *tc = tcase_create("dataset");
    tcase_set_timeout(tc, 60);
    tcase_add_test(tc, dataset__both_formats_in_any_pieces);
    tcase_add_test(tc, dataset__carriage_returns_blank_lines_and_no_last_newline);
    tcase_add_test(tc, dataset__no_inputs_at_all);
    tcase_add_test(tc, dataset__ndjson_errors_name_line_and_place);
    tcase_add_test(tc, dataset__csv_header_errors);
    tcase_add_test(tc, dataset__csv_row_errors_name_line_and_column);
    tcase_add_test(tc, dataset__csv_order_errors);
    tcase_add_test(tc, dataset__a_line_over_the_cap_is_refused);
    tcase_add_test(tc, dataset__a_line_of_too_many_values_is_refused);
    tcase_add_test(tc, dataset__counting_keeps_no_rows);
    tcase_add_test(tc, dataset__csv_numbers_do_not_depend_on_the_locale);
    tcase_add_test(tc, dataset__format_is_read_back);
    tcase_add_test(tc, dataset__formats_are_as_documented);
    tcase_add_test(tc, dataset__load_reads_a_file);
    tcase_add_test(tc, dataset__load_is_watched_and_can_be_stopped);
    tcase_add_test(tc, dataset__split_is_a_seeded_permutation);
    tcase_add_test(tc, dataset__box_covers_every_window_and_no_more);
    suite_add_tcase(suite, tc);
    return run_suite(suite);
}
