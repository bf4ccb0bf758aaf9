/* SPDX-License-Identifier: Apache-2.0
 * One test of a file by its name: `make t F=test_error C=errno` runs those whose name contains "errno". Included before
 * every test (-include, see the Makefile); check itself selects whole groups only. */
#ifndef TESTS_SUPPORT_SELECT_H
#define TESTS_SUPPORT_SELECT_H

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

#endif
