/* SPDX-License-Identifier: Apache-2.0
 * The box: what is read, what is refused and where, and its identity. */
#include <check.h>
#include <string.h>

#include "certify/certificate.h"

static esp_code parse(const char *text, int n, esp_arena *arena, esp_box *ret, esp_error *reterr) {
    esp_json *json = NULL;
    ck_assert(esp_json_parse(text, strlen(text), &json, reterr) == ESP_OK);
    esp_reader reader = esp_reader_root(json);
    esp_code code = esp_box_parse(&reader, n, arena, ret, reterr);
    esp_json_free(json);
    return code;
}

START_TEST(box__is_read) {
    esp_arena *arena = esp_arena_create(0);
    esp_box box = {0};
    esp_error error = {0};
    ck_assert(parse("{\"lower\":[-1,2.5],\"upper\":[1,2.5]}", 2, arena, &box, &error) == ESP_OK);
    ck_assert_int_eq(box.n, 2);
    ck_assert(box.lower[0] == -1 && box.lower[1] == 2.5 && box.upper[0] == 1 && box.upper[1] == 2.5);
    esp_arena_free(arena);
}
END_TEST

START_TEST(box__refuses_what_is_no_box) {
    static const struct {
        const char *text, *pointer;
    } bad[] = {{"{\"lower\":[0,3],\"upper\":[1,2]}", "/upper/1"},
               {"{\"lower\":[0],\"upper\":[1,2]}", "/lower"},
               {"{\"lower\":[0,1]}", "/upper"},
               {"{\"lower\":[0,1],\"upper\":[1,2],\"centre\":[0,0]}", "/centre"},
               {"{\"lower\":[0,\"a\"],\"upper\":[1,2]}", "/lower/1"}};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        esp_arena *arena = esp_arena_create(0);
        esp_box box = {-7, NULL, NULL};
        esp_error error = {0};
        ck_assert_int_eq(parse(bad[i].text, 2, arena, &box, &error), ESP_INVALID);
        ck_assert_msg(strcmp(error.pointer, bad[i].pointer) == 0, "%s: %s instead of %s", bad[i].text, error.pointer, bad[i].pointer);
        ck_assert_int_eq(box.n, -7); /* untouched */
        esp_arena_free(arena);
    }
}
END_TEST

START_TEST(box__hash_is_of_the_set) {
    double zero[2] = {0, 1}, minus[2] = {-0.0, 1}, upper[2] = {2, 3}, other[2] = {2, 3.0000000000000004};
    char a[ESP_HASH_HEX], b[ESP_HASH_HEX], c[ESP_HASH_HEX], want[ESP_HASH_HEX];
    esp_box_hash(&(esp_box){2, zero, upper}, a);
    esp_box_hash(&(esp_box){2, minus, upper}, b);
    esp_box_hash(&(esp_box){2, zero, other}, c);
    static const char text[] = "{\"lower\":[0,1],\"upper\":[2,3]}";
    esp_hash_bytes(text, sizeof text - 1, want);
    ck_assert_str_eq(a, want);
    ck_assert_str_eq(a, b);
    ck_assert_str_ne(a, c);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("test_certificate");
    TCase *tcase = tcase_create("box");
    tcase_add_test(tcase, box__is_read);
    tcase_add_test(tcase, box__refuses_what_is_no_box);
    tcase_add_test(tcase, box__hash_is_of_the_set);
    suite_add_tcase(suite, tcase);
    return run_suite(suite);
}
