/* SPDX-License-Identifier: Apache-2.0
 * JSON in: strictness, and the place named by each refusal; JSON out: round trips. */
#include <check.h>
#include <math.h>
#include <stdlib.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "base/rng.h"

static esp_error error;

static esp_json *parse(const char *text) {
    esp_json *json = NULL;
    esp_code code = esp_json_parse(text, strlen(text), &json, &error);
    ck_assert_msg(code == ESP_OK, "%s: %s", text, error.message);
    return json;
}

START_TEST(json__refuses_what_is_not_strict) {
    static const char *const bad[] = {"",     "{",           "{\"a\":1,\"a\":2}",      "[1,]",     "NaN", "[Infinity]", "1e999",
                                      "{} x", "\"\\u0000\"", "[99999999999999999999]", "\"\xff\"", "nul"};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        esp_json *json = NULL;
        ck_assert_msg(esp_json_parse(bad[i], strlen(bad[i]), &json, &error) == ESP_INVALID, "%s", bad[i]);
        ck_assert_ptr_null(json);
    }
}
END_TEST

START_TEST(json__depth_is_capped_and_brackets_in_strings_are_not_depth) {
    char deep[200];
    memset(deep, '[', 33);
    memset(deep + 33, ']', 33);
    esp_json *json = NULL;
    ck_assert_int_eq(esp_json_parse(deep, 66, &json, &error), ESP_INVALID);
    ck_assert_int_eq(esp_json_parse(deep + 1, 64, &json, &error), ESP_OK);
    esp_json_free(json);
    esp_json_free(parse("\"[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[\\\"[[[\""));
}
END_TEST

START_TEST(reader__names_the_place_of_the_error) {
    static const char *const fields[] = {"cost", "input", NULL};
    static const char *const methods[] = {"mip", "cem", NULL};
    esp_json *json = parse("{\"cost\":{\"stage\":[{\"weight\":\"x\"},{\"weight\":2}]},\"in~p/t\":1,\"input\":[1,2,\"three\"]}");
    esp_reader root = esp_reader_root(json), cost = esp_read_member(&root, "cost"), stage = esp_read_member(&cost, "stage");
    esp_reader term = esp_read_element(&stage, 0), weight = esp_read_member(&term, "weight"), input = esp_read_member(&root, "input"), missing;
    double value = 0, values[3];
    int choice = 0;
    ck_assert_int_eq(esp_read_number(&weight, 0, 1, &value, &error), ESP_INVALID);
    ck_assert_str_eq(error.pointer, "/cost/stage/0/weight");
    ck_assert_int_eq(esp_read_choice(&weight, methods, &choice, &error), ESP_INVALID);
    ck_assert_ptr_nonnull(strstr(error.message, "\"mip\", \"cem\""));
    ck_assert_int_eq(esp_read_object(&root, fields, &error), ESP_INVALID);
    ck_assert_str_eq(error.pointer, "/in~0p~1t");
    ck_assert_int_eq(esp_read_vector(&input, 3, values, &error), ESP_INVALID);
    ck_assert_str_eq(error.pointer, "/input/2");
    ck_assert_int_eq(esp_read_vector(&input, 4, values, &error), ESP_INVALID);
    ck_assert_str_eq(error.pointer, "/input");
    ck_assert_int_eq(esp_read_required(&root, "model", &missing, &error), ESP_INVALID);
    ck_assert_str_eq(error.pointer, "/model");
    esp_json_free(json);
}
END_TEST

START_TEST(reader__ranges_types_and_defaults) {
    esp_json *json = parse("{\"i\":3,\"r\":3.0,\"b\":true,\"s\":\"text\",\"n\":null}");
    esp_reader root = esp_reader_root(json), i = esp_read_member(&root, "i"), r = esp_read_member(&root, "r"), b = esp_read_member(&root, "b"),
               s = esp_read_member(&root, "s"), n = esp_read_member(&root, "n");
    int whole = 8;
    bool flag = false;
    const char *text = NULL;
    ck_assert_int_eq(esp_read_int(&i, 0, 3, &whole, &error), ESP_OK);
    ck_assert_int_eq(whole, 3);
    ck_assert_int_eq(esp_read_int(&i, 4, 9, &whole, &error), ESP_INVALID);
    ck_assert_int_eq(esp_read_int(&r, 0, 9, &whole, &error), ESP_INVALID);
    ck_assert_int_eq(esp_read_int(&n, 5, 9, &whole, &error), ESP_OK); /* absent: the default stays */
    ck_assert_int_eq(whole, 3);
    ck_assert_int_eq(esp_read_bool(&b, &flag, &error), ESP_OK);
    ck_assert(flag);
    ck_assert_int_eq(esp_read_bool(&i, &flag, &error), ESP_INVALID);
    ck_assert_int_eq(esp_read_string(&s, 4, &text, &error), ESP_OK);
    ck_assert_str_eq(text, "text");
    ck_assert_int_eq(esp_read_string(&s, 3, &text, &error), ESP_INVALID);
    esp_json_free(json);
}
END_TEST

START_TEST(reader__matrices_must_be_rectangular_and_within_caps) {
    esp_arena *arena = esp_arena_create(0);
    double *values;
    size_t rows, cols;
    esp_json *json = parse("[[[1,2],[3,4],[5,6]],[[1,2],[3]],[]]");
    esp_reader root = esp_reader_root(json), good = esp_read_element(&root, 0), ragged = esp_read_element(&root, 1),
               empty = esp_read_element(&root, 2);
    ck_assert_int_eq(esp_read_matrix_any(&good, 3, 2, arena, &values, &rows, &cols, &error), ESP_OK);
    ck_assert(rows == 3 && cols == 2 && values[5] == 6);
    ck_assert_int_eq(esp_read_matrix_any(&good, 2, 2, arena, &values, &rows, &cols, &error), ESP_INVALID);
    ck_assert_int_eq(esp_read_matrix_any(&good, 3, 1, arena, &values, &rows, &cols, &error), ESP_INVALID);
    ck_assert_int_eq(esp_read_matrix_any(&ragged, 9, 9, arena, &values, &rows, &cols, &error), ESP_INVALID);
    ck_assert_str_eq(error.pointer, "/1/1");
    ck_assert_int_eq(esp_read_matrix_any(&empty, 9, 9, arena, &values, &rows, &cols, &error), ESP_OK);
    ck_assert(rows == 0 && cols == 0);
    esp_json_free(json);
    esp_arena_free(arena);
}
END_TEST

START_TEST(json__numbers_survive_writing_and_reading) {
    esp_rng rng;
    esp_rng_init(&rng, 77, 0);
    for (int k = 0; k < 20000; k++) {
        uint64_t bits = esp_rng_u64(&rng);
        double value, back = 0;
        memcpy(&value, &bits, sizeof value);
        if (!isfinite(value)) continue;
        if (k == 0)
            value = -0.0;
        else if (k % 3 == 0)
            value = floor(esp_rng_range(&rng, -1e6, 1e6)) / (k % 2 ? 1000 : 1);
        char text[32];
        esp_json *json = NULL;
        size_t len = esp_format_number(value, text);
        ck_assert_uint_eq(len, strlen(text));
        ck_assert_int_eq(esp_json_parse(text, len, &json, &error), ESP_OK);
        esp_reader root = esp_reader_root(json);
        ck_assert_int_eq(esp_read_number(&root, -INFINITY, INFINITY, &back, &error), ESP_OK);
        ck_assert_msg(memcmp(&value, &back, sizeof value) == 0, "%.17g became %.17g", value, back);
        esp_json_free(json);
    }
}
END_TEST

/* Written down as it is defined: 15 digits if they read back equal, otherwise 17. */
static void expect_shortest(double value) {
    char text[32], plain[32];
    (void)snprintf(plain, sizeof plain, "%.15g", value);
    if (strtod(plain, NULL) != value) (void)snprintf(plain, sizeof plain, "%.17g", value);
    ck_assert_uint_eq(esp_format_number(value, text), strlen(plain));
    ck_assert_str_eq(text, plain);
}

/* Also next to decimals of few digits and to powers of two, where half an ulp is the most 17th digits. */
START_TEST(json__numbers_are_the_shorter_of_two) {
    esp_rng rng;
    esp_rng_init(&rng, 78, 0);
    for (int k = 0; k < 20000; k++) {
        double scale = pow(10, floor(esp_rng_range(&rng, -12, 12))), digits = floor(esp_rng_range(&rng, 1, 1e15)) + 0.5;
        double value = k % 4 == 0 ? digits * scale : k % 4 == 1 ? floor(digits / 1e9) * scale + 0.25 : ldexp(1 + 1e-15 * (k % 50), k % 90 - 60);
        if (k % 4 == 3) value = esp_rng_range(&rng, -1, 1) * scale;
        if (value == floor(value)) continue; /* integers are written as such */
        expect_shortest(value);
        expect_shortest(nextafter(value, 0));
        expect_shortest(-nextafter(value, HUGE_VAL));
    }
}
END_TEST

START_TEST(json__writer_makes_strict_json) {
    esp_buf out = {0};
    esp_jsonw w = esp_jsonw_on(&out);
    const double m[] = {1, 2.5, NAN, -0.0};
    esp_jsonw_object(&w, NULL);
    esp_jsonw_string(&w, "text \"q\"", "a\\b\n\x01\xc3\xa9\xff");
    esp_jsonw_matrix(&w, "m", m, 2, 2);
    esp_jsonw_array(&w, "empty");
    esp_jsonw_array_end(&w);
    esp_jsonw_bool(&w, "yes", true);
    esp_jsonw_raw(&w, "raw", "[1]", 3);
    esp_jsonw_string(&w, "none", NULL);
    esp_jsonw_object_end(&w);
    ck_assert_str_eq(
        esp_buf_text(&out),
        "{\"text "
        "\\\"q\\\"\":\"a\\\\b\\u000a\\u0001\xc3\xa9\\ufffd\",\"m\":[[1,2.5],[null,-0.0]],\"empty\":[],\"yes\":true,\"raw\":[1],\"none\":null}");
    esp_json *json = parse(esp_buf_text(&out));
    esp_json_free(json);
    esp_buf_done(&out);
}
END_TEST

START_TEST(json__canonical_does_not_depend_on_order_or_space) {
    esp_buf a = {0}, b = {0};
    esp_json *x = parse("{\"b\":[1, 2.50],\"a\":{\"d\":null,\"c\":\"e\"}}"), *y = parse(" { \"a\":{\"c\":\"e\",\"d\":null}, \"b\":[1,2.5]} ");
    esp_json_canonical(x, &a);
    esp_json_canonical(y, &b);
    ck_assert_str_eq(esp_buf_text(&a), esp_buf_text(&b));
    ck_assert_str_eq(esp_buf_text(&a), "{\"a\":{\"c\":\"e\",\"d\":null},\"b\":[1,2.5]}");
    esp_json_free(x);
    esp_json_free(y);
    esp_buf_done(&a);
    esp_buf_done(&b);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("json");
    TCase *tc = tcase_create("json");
    tcase_add_test(tc, json__refuses_what_is_not_strict);
    tcase_add_test(tc, json__depth_is_capped_and_brackets_in_strings_are_not_depth);
    tcase_add_test(tc, reader__names_the_place_of_the_error);
    tcase_add_test(tc, reader__ranges_types_and_defaults);
    tcase_add_test(tc, reader__matrices_must_be_rectangular_and_within_caps);
    tcase_add_test(tc, json__numbers_survive_writing_and_reading);
    tcase_add_test(tc, json__numbers_are_the_shorter_of_two);
    tcase_add_test(tc, json__writer_makes_strict_json);
    tcase_add_test(tc, json__canonical_does_not_depend_on_order_or_space);
    suite_add_tcase(suite, tc);
    return run_suite(suite);
}
