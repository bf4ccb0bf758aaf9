/* SPDX-License-Identifier: Apache-2.0
 * The error value and its catalogue. */
#include <check.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"

START_TEST(error__set_fills_every_field) {
    esp_error error = {0};
    ck_assert_int_eq(esp_fail_at(&error, ESP_INVALID, "/a/0", "bad %d", 7), ESP_INVALID);
    ck_assert_int_eq(error.code, ESP_INVALID);
    ck_assert_str_eq(error.pointer, "/a/0");
    ck_assert_str_eq(error.message, "bad 7");
    ck_assert_ptr_nonnull(strstr(error.where, "error__set"));
}
END_TEST

START_TEST(error__errno_is_kept_and_explained) {
    esp_error error = {0};
    errno = ENOENT;
    ck_assert_int_eq(esp_fail_errno(&error, ESP_IO, "open x"), ESP_IO);
    ck_assert_int_eq(error.sys_errno, ENOENT);
    ck_assert_str_eq(error.message, "open x: No such file or directory");
}
END_TEST

START_TEST(error__wrap_puts_context_in_front) {
    esp_error error = {0};
    esp_code code = esp_fail(&error, ESP_CORRUPT, "bad magic");
    ck_assert_int_eq(esp_error_wrap(&error, code, "load model %s", "m"), ESP_CORRUPT);
    ck_assert_str_eq(error.message, "load model m: bad magic");
    esp_error_prefix_pointer(&error, "/spec");
    ck_assert_str_eq(error.pointer, "/spec");
}
END_TEST

START_TEST(error__long_texts_are_cut_not_overrun) {
    esp_error error = {0};
    char longer[2000];
    memset(longer, 'x', sizeof longer - 1);
    longer[sizeof longer - 1] = '\0';
    esp_code code = esp_fail_at(&error, ESP_INVALID, longer, "%s", longer);
    code = esp_error_wrap(&error, code, "%s", longer);
    esp_error_prefix_pointer(&error, longer);
    ck_assert_int_eq(code, ESP_INVALID);
    ck_assert_uint_eq(strlen(error.message), sizeof error.message - 1);
    ck_assert_uint_eq(strlen(error.pointer), sizeof error.pointer - 1);
}
END_TEST

START_TEST(error__null_is_allowed) {
    ck_assert_int_eq(esp_fail(NULL, ESP_BUSY, "full"), ESP_BUSY);
    ck_assert_int_eq(esp_error_wrap(NULL, ESP_BUSY, "x"), ESP_BUSY);
}
END_TEST

START_TEST(error__catalogue_numbers_names_and_statuses_agree) {
    static const esp_code all[] = {
#define X(symbol, number, http, retryable, title) ESP_##symbol,
#include "errors.def"
#undef X
    };
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++) {
        ck_assert_int_eq(esp_code_from_name(esp_code_name(all[i])), all[i]);
        ck_assert_int_ge(esp_code_http(all[i]), 400);
        ck_assert_int_lt(esp_code_http(all[i]), 600);
        for (size_t j = 0; j < i; j++) ck_assert_int_ne(all[i], all[j]);
        /* what may be tried again is the service's trouble or a quota, never the request's */
        if (esp_code_retryable(all[i])) ck_assert(esp_code_http(all[i]) >= 500 || esp_code_http(all[i]) == 429);
    }
    ck_assert_int_eq(esp_code_from_name("NO_SUCH"), ESP_INTERNAL);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("error");
    TCase *tc = tcase_create("error");
    tcase_add_test(tc, error__set_fills_every_field);
    tcase_add_test(tc, error__errno_is_kept_and_explained);
    tcase_add_test(tc, error__wrap_puts_context_in_front);
    tcase_add_test(tc, error__long_texts_are_cut_not_overrun);
    tcase_add_test(tc, error__null_is_allowed);
    tcase_add_test(tc, error__catalogue_numbers_names_and_statuses_agree);
    suite_add_tcase(suite, tc);
    return run_suite(suite);
}
