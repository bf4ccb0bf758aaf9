/* SPDX-License-Identifier: Apache-2.0
 * What every test file has: its runner, and one test of it by its name. Included before each (-include, see the
 * Makefile): `make t F=test_error C=errno` runs the tests whose name contains "errno"; check itself selects whole groups. */
#ifndef TESTS_SUPPORT_SUITE_H
#define TESTS_SUPPORT_SUITE_H

#include <check.h>
#include <stdlib.h>
#include <string.h>

static inline int test_selected(const char *name) {
    const char *wanted = getenv("ESP_CASE");
    return !wanted || strstr(name, wanted) != NULL;
}

#undef tcase_add_test
#define tcase_add_test(tc, test) tcase_add_loop_test(tc, test, 0, 1)
#undef tcase_add_loop_test
#define tcase_add_loop_test(tc, test, start, end) (test_selected(#test) ? _tcase_add_test((tc), (test), 0, 0, (start), (end)) : (void)0)

/* Takes the suite, runs it, prints the line that tests/run reads; the result of main. */
static inline int run_suite(Suite *suite) {
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}

#endif
