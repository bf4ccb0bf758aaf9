/* SPDX-License-Identifier: Apache-2.0
 * Bytes, files, arena, random numbers, hash and linear algebra. */
#include <check.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/arena.h"
#include "base/buf.h"
#include "base/hash.h"
#include "base/linalg.h"
#include "base/rng.h"

START_TEST(buf__what_is_put_is_read_back) {
    esp_buf buf = {0};
    const double values[] = {0.0, -0.0, 1e-310, INFINITY, -3.25};
    esp_buf_put_u32(&buf, 0x01020304u);
    esp_buf_put_u64(&buf, UINT64_MAX - 1);
    esp_buf_put_doubles(&buf, values, 5);
    ck_assert_uint_eq((unsigned char)buf.data[0], 4); /* little-endian */
    esp_cursor cursor = {(const unsigned char *)buf.data, buf.len, 0, false};
    double back[5];
    ck_assert_uint_eq(esp_cursor_u32(&cursor), 0x01020304u);
    ck_assert(esp_cursor_u64(&cursor) == UINT64_MAX - 1);
    esp_cursor_doubles(&cursor, back, 5);
    ck_assert_int_eq(memcmp(values, back, sizeof values), 0);
    ck_assert(!cursor.failed);
    ck_assert_uint_eq(esp_cursor_u32(&cursor), 0);
    ck_assert(cursor.failed);
    esp_buf_done(&buf);
}
END_TEST

START_TEST(buf__printf_grows_and_take_moves) {
    esp_buf buf = {0};
    for (int i = 0; i < 1000; i++) esp_buf_printf(&buf, "%d,", i);
    esp_buf_printf(&buf, "%0500d", 7);
    size_t len, expected = 10 * 2 + 90 * 3 + 900 * 4 + 500;
    ck_assert_uint_eq(strlen(esp_buf_text(&buf)), expected);
    char *text = esp_buf_take(&buf, &len);
    ck_assert_uint_eq(len, expected);
    ck_assert_ptr_null(buf.data);
    free(text);
}
END_TEST

START_TEST(file__write_then_read_and_refuse_longer) {
    char path[] = "/tmp/espalier-test-XXXXXX";
    int fd = mkstemp(path);
    ck_assert_int_ge(fd, 0);
    close(fd);
    esp_error error;
    esp_buf back = {0};
    ck_assert_int_eq(esp_file_write(path, "hello", 5, &error), ESP_OK);
    ck_assert_int_eq(esp_file_read(path, 5, &back, &error), ESP_OK);
    ck_assert_str_eq(esp_buf_text(&back), "hello");
    esp_buf_done(&back);
    ck_assert_int_eq(esp_file_read(path, 4, &back, &error), ESP_TOO_LARGE);
    ck_assert_ptr_null(back.data);
    unlink(path);
    ck_assert_int_eq(esp_file_read(path, 4, &back, &error), ESP_NOT_FOUND);
    ck_assert_int_eq(esp_file_write("/no/such/place", "x", 1, &error), ESP_IO);
}
END_TEST

START_TEST(arena__pieces_are_zeroed_aligned_and_capped) {
    esp_arena *arena = esp_arena_create(100000);
    char *pieces[100];
    for (int i = 0; i < 100; i++) {
        pieces[i] = esp_arena_take(arena, 100);
        ck_assert_ptr_nonnull(pieces[i]);
        ck_assert_uint_eq((uintptr_t)pieces[i] % 64, 0);
        for (int j = 0; j < 100; j++) ck_assert_int_eq(pieces[i][j], 0);
        memset(pieces[i], i + 1, 100);
    }
    for (int i = 0; i < 100; i++) ck_assert(pieces[i][0] == i + 1 && pieces[i][99] == i + 1);
    ck_assert_ptr_nonnull(esp_arena_take(arena, 90000));
    ck_assert_ptr_null(esp_arena_take(arena, 1));
    ck_assert_ptr_null(esp_arena_array(arena, SIZE_MAX / 2, 8));
    esp_arena_free(arena);
    esp_arena_free(NULL);
}
END_TEST

START_TEST(rng__streams_differ_and_seeds_repeat) {
    esp_rng a, b, c;
    esp_rng_init(&a, 1, 2);
    esp_rng_init(&b, 1, 2);
    esp_rng_init(&c, 2, 1);
    int same = 0;
    for (int i = 0; i < 100; i++) {
        uint64_t x = esp_rng_u64(&a);
        ck_assert(x == esp_rng_u64(&b));
        same += x == esp_rng_u64(&c);
    }
    ck_assert_int_eq(same, 0);
}
END_TEST

START_TEST(rng__moments_are_those_of_the_distributions) {
    enum { N = 200000 };
    esp_rng rng;
    esp_rng_init(&rng, 5, 0);
    double mean = 0, square = 0, gumbel = 0, uniform = 0, square_f = 0;
    float *floats = malloc(N * sizeof *floats);
    esp_rng_normals_f(&rng, floats, N);
    for (int i = 0; i < N; i++) {
        double x = esp_rng_normal(&rng), u = esp_rng_uniform(&rng);
        ck_assert(u > 0 && u < 1);
        mean += x / N;
        square += x * x / N;
        uniform += u / N;
        gumbel += esp_rng_gumbel(&rng) / N;
        square_f += (double)floats[i] * floats[i] / N;
    }
    free(floats);
    /* five standard errors */
    ck_assert_double_eq_tol(mean, 0, 5 / sqrt(N));
    ck_assert_double_eq_tol(square, 1, 5 * sqrt(2.0 / N));
    ck_assert_double_eq_tol(square_f, 1, 5 * sqrt(2.0 / N));
    ck_assert_double_eq_tol(uniform, 0.5, 5 * sqrt(1.0 / 12 / N));
    ck_assert_double_eq_tol(gumbel, 0.5772156649, 5 * 1.2825 / sqrt(N));
}
END_TEST

START_TEST(rng__shuffle_is_a_permutation_and_below_stays_below) {
    esp_rng rng;
    esp_rng_init(&rng, 9, 0);
    size_t items[257], seen[257] = {0};
    for (size_t i = 0; i < 257; i++) items[i] = i;
    esp_rng_shuffle(&rng, items, 257);
    size_t moved = 0;
    for (size_t i = 0; i < 257; i++) {
        seen[items[i]]++;
        moved += items[i] != i;
    }
    for (size_t i = 0; i < 257; i++) ck_assert_uint_eq(seen[i], 1);
    ck_assert_uint_gt(moved, 200);
    for (int i = 0; i < 1000; i++) ck_assert_uint_lt(esp_rng_below(&rng, 3), 3);
}
END_TEST

START_TEST(hash__known_digests) {
    /* FIPS 180-2, appendix B */
    char hex[ESP_HASH_HEX];
    esp_hash_bytes("abc", 3, hex);
    ck_assert_str_eq(hex, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    esp_hash *hash = esp_hash_create();
    for (int round = 0; round < 2; round++) { /* finishing makes it ready again */
        esp_hash_add(hash, "a", 1);
        esp_hash_add(hash, "bc", 2);
        esp_hash_finish(hash, hex);
        ck_assert_str_eq(hex, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    }
    esp_hash_free(hash);
}
END_TEST

static void fill(esp_rng *rng, double *d, float *f, size_t n) {
    for (size_t i = 0; i < n; i++) {
        d[i] = esp_rng_normal(rng);
        f[i] = (float)d[i];
    }
}

START_TEST(linalg__gemm_equals_its_naive_twin) {
    enum { M = 7, N = 11, K = 5, LD = 13 };
    esp_rng rng;
    esp_rng_init(&rng, 3, (uint64_t)_i);
    esp_trans ta = _i & 1 ? ESP_T : ESP_NO, tb = _i & 2 ? ESP_T : ESP_NO;
    double a[LD * LD], b[LD * LD], c[LD * LD], c2[LD * LD];
    float af[LD * LD], bf[LD * LD], cf[LD * LD], cf2[LD * LD];
    fill(&rng, a, af, LD * LD);
    fill(&rng, b, bf, LD * LD);
    fill(&rng, c, cf, LD * LD);
    memcpy(c2, c, sizeof c);
    memcpy(cf2, cf, sizeof cf);
    double beta = _i & 4 ? 0.5 : 0;
    esp_dgemm(ta, tb, M, N, K, 1.5, a, LD, b, LD, beta, c, LD);
    esp_ref_dgemm(ta, tb, M, N, K, 1.5, a, LD, b, LD, beta, c2, LD);
    esp_sgemm(ta, tb, M, N, K, 1.5f, af, LD, bf, LD, (float)beta, cf, LD);
    esp_ref_sgemm(ta, tb, M, N, K, 1.5f, af, LD, bf, LD, (float)beta, cf2, LD);
    for (size_t i = 0; i < LD * LD; i++) {
        ck_assert_double_eq_tol(c[i], c2[i], 1e-13 * (1 + fabs(c2[i])));
        ck_assert_double_eq_tol(cf[i], cf2[i], 1e-5 * (1 + fabs((double)cf2[i])));
    }
}
END_TEST

START_TEST(linalg__spectral_norm_of_known_matrices) {
    esp_error error;
    double norm;
    const double a[] = {1, 1, 1, -1}, b[] = {3, 0, 0, 0, 4, 0}, pruned[] = {1, 1, 1, 0};
    ck_assert_int_eq(esp_spectral_norm(2, 2, a, &norm, &error), ESP_OK);
    ck_assert_double_eq_tol(norm, sqrt(2), 1e-14);
    ck_assert_int_eq(esp_spectral_norm(2, 3, b, &norm, &error), ESP_OK);
    ck_assert_double_eq_tol(norm, 4, 1e-14);
    ck_assert_int_eq(esp_spectral_norm(2, 2, pruned, &norm, &error), ESP_OK);
    ck_assert_double_eq_tol(norm, (1 + sqrt(5)) / 2, 1e-14);
}
END_TEST

START_TEST(linalg__least_squares_is_minimum_norm) {
    esp_error error;
    /* one equation, two unknowns: x + y = 2 has its shortest solution at (1, 1) */
    double x[2];
    const double a[] = {1, 1}, b[] = {2};
    ck_assert_int_eq(esp_lstsq(1, 2, 1, a, b, x, &error), ESP_OK);
    ck_assert_double_eq_tol(x[0], 1, 1e-13);
    ck_assert_double_eq_tol(x[1], 1, 1e-13);
    /* three points on no line: the mean when only a constant is fitted */
    const double ones[] = {1, 1, 1}, values[] = {1, 2, 6};
    ck_assert_int_eq(esp_lstsq(3, 1, 1, ones, values, x, &error), ESP_OK);
    ck_assert_double_eq_tol(x[0], 3, 1e-13);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("base");
    TCase *tc = tcase_create("base");
    tcase_add_test(tc, buf__what_is_put_is_read_back);
    tcase_add_test(tc, buf__printf_grows_and_take_moves);
    tcase_add_test(tc, file__write_then_read_and_refuse_longer);
    tcase_add_test(tc, arena__pieces_are_zeroed_aligned_and_capped);
    tcase_add_test(tc, rng__streams_differ_and_seeds_repeat);
    tcase_add_test(tc, rng__moments_are_those_of_the_distributions);
    tcase_add_test(tc, rng__shuffle_is_a_permutation_and_below_stays_below);
    tcase_add_test(tc, hash__known_digests);
    tcase_add_loop_test(tc, linalg__gemm_equals_its_naive_twin, 0, 8);
    tcase_add_test(tc, linalg__spectral_norm_of_known_matrices);
    tcase_add_test(tc, linalg__least_squares_is_minimum_norm);
    suite_add_tcase(suite, tc);
    return run_suite(suite);
}
