/* SPDX-License-Identifier: Apache-2.0
 * Lists without a daemon: parameters, paging against a plain sort as the oracle, CSV; and time stamps, route patterns. */
#include <check.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "http/call.h"
#include "list_query.h"
#include "rfc3339.h"

enum { BOTH = ESP_COL_FILTER | ESP_COL_SORT };
/* made of nothing stored: 40 rows with ties, NULLs and awkward texts */
#define ROWS                                                                                                                                         \
    "(WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < 39) SELECT i, printf('k%02d', i) AS key, i % 7 AS tie,"               \
    " CASE WHEN i % 5 = 0 THEN NULL ELSE (i * 37 % 11) / 4.0 END AS part,"                                                                           \
    " CASE i % 4 WHEN 0 THEN '=1+1' WHEN 1 THEN 'a,\"b\"' WHEN 2 THEN 'x' ELSE 'line' || char(10) || 'two' END AS text FROM n) r"

static const esp_column columns[] = {
    {"key", "r.key", ESP_COL_TEXT, BOTH},     {"i", "r.i", ESP_COL_INTEGER, BOTH},    {"tie", "r.tie", ESP_COL_INTEGER, BOTH},
    {"part", "r.part", ESP_COL_REAL, BOTH},   {"text", "r.text", ESP_COL_TEXT, BOTH}, {"odd", "r.i % 2", ESP_COL_BOOL, ESP_COL_FILTER},
    {"at", "r.i * 1000", ESP_COL_TIME, BOTH}, {"hidden", "'[1,2]'", ESP_COL_JSON, 0}, {NULL, NULL, ESP_COL_TEXT, 0},
};
static const char *const texts[] = {"x", "a,\"b\"", NULL};
static const esp_choice choices[] = {{"text", texts}, {NULL, NULL}};
static const esp_list list = {ROWS, "r.key", "-at", columns, choices, false};

static char dir[64];
static esp_registry *registry;
static esp_db *db;

static void setup(void) {
    esp_error error = {0};
    strcpy(dir, "/tmp/espalier-list-XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(dir));
    ck_assert_int_eq(esp_registry_open(dir, &registry, &error), ESP_OK);
    ck_assert_int_eq(esp_registry_read_begin(registry, &db, &error), ESP_OK);
}

static int remove_entry(const char *path, const struct stat *st, int kind, struct FTW *walk) {
    (void)st, (void)kind, (void)walk;
    return remove(path);
}

static void teardown(void) {
    esp_registry_read_end(registry, db);
    esp_registry_close(registry);
    nftw(dir, remove_entry, 16, FTW_DEPTH | FTW_PHYS);
}

/* Parameters as "name=value&name=value". */
static esp_code take(esp_list_query *query, const char *params, const char *cursor, esp_error *error) {
    static char text[512]; /* the query keeps pointers into it */
    *query = (esp_list_query){.list = &list};
    strcpy(text, params);
    for (char *p = strtok(text, "&"); p; p = strtok(NULL, "&")) {
        char *value = strchr(p, '=');
        *value++ = '\0';
        esp_code code = esp_list_take(query, p, value, error);
        if (code) return code;
    }
    return esp_list_settle(query, cursor, error);
}

/* Keys of one page, and the cursor behind it. */
static int page(const char *params, const char *cursor, int limit, char keys[64][8], esp_buf *next) {
    esp_list_query query;
    esp_error error = {0};
    esp_buf sql = {0};
    esp_stmt *stmt = NULL;
    int n = 0;
    ck_assert_msg(take(&query, params, cursor, &error) == ESP_OK, "%s %s", error.pointer, error.message);
    esp_list_sql(&query, &sql);
    ck_assert_msg(esp_stmt_open(db, &stmt, &error, esp_buf_text(&sql), "") == ESP_OK, "%s", error.message);
    esp_list_bind(&query, stmt, limit);
    while (esp_stmt_step(stmt, &error) == 1) {
        esp_stmt_copy(stmt, 0, keys[n++], 8);
        esp_buf_clear(next);
        esp_list_cursor(&query, stmt, next);
    }
    esp_stmt_close(stmt);
    esp_buf_done(&sql);
    return n;
}

START_TEST(list__pages_join_to_the_whole_for_every_sort) {
    static const char *const sorts[] = {"sort=key",
                                        "sort=-key",
                                        "sort=tie",
                                        "sort=-tie",
                                        "sort=part",
                                        "sort=-part",
                                        "sort=text",
                                        "sort=-text",
                                        "sort=at",
                                        "sort=-i",
                                        "tie__ne=3&sort=-part",
                                        "part__gte=0.5&sort=part",
                                        "odd=true&sort=-tie",
                                        "text=x&sort=i"};
    for (size_t s = 0; s < sizeof sorts / sizeof sorts[0]; s++) {
        char whole[64][8], part[64][8];
        esp_buf next = {0}, cursor = {0};
        int n = page(sorts[s], NULL, 64, whole, &next), seen = 0;
        ck_assert_int_gt(n, 0);
        for (int i = 0; i < n; i++) {
            for (int j = 0; j < i; j++) ck_assert_str_ne(whole[i], whole[j]);
        }
        for (int got = page(sorts[s], NULL, 3, part, &cursor); got > 0;) {
            for (int i = 0; i < got; i++) ck_assert_msg(strcmp(part[i], whole[seen + i]) == 0, "%s: row %d", sorts[s], seen + i);
            seen += got;
            char text[1000];
            strcpy(text, esp_buf_text(&cursor));
            got = page(sorts[s], text, 3, part, &cursor);
        }
        ck_assert_int_eq(seen, n);
        esp_buf_done(&next);
        esp_buf_done(&cursor);
    }
}
END_TEST

START_TEST(list__filters_mean_what_they_say) {
    char keys[64][8];
    esp_buf next = {0};
    ck_assert_int_eq(page("", NULL, 64, keys, &next), 40);
    ck_assert_str_eq(keys[0], "k39");
    ck_assert_int_eq(page("i__lt=10", NULL, 64, keys, &next), 10);
    ck_assert_int_eq(page("i__lte=10", NULL, 64, keys, &next), 11);
    ck_assert_int_eq(page("i__gt=10&i__lt=12", NULL, 64, keys, &next), 1);
    ck_assert_int_eq(page("key__glob=k1*", NULL, 64, keys, &next), 10);
    ck_assert_int_eq(page("key=k1*", NULL, 64, keys, &next), 0);
    ck_assert_int_eq(page("part__ne=0.25", NULL, 64, keys, &next) + page("part=0.25", NULL, 64, keys, &next), 40); /* NULL is not 0.25 */
    ck_assert_int_eq(page("at__gte=1970-01-01T00:00:30Z", NULL, 64, keys, &next), 10);
    ck_assert_int_eq(page("at=5000", NULL, 64, keys, &next), 1);
    ck_assert_int_eq(page("odd=false", NULL, 64, keys, &next), 20);
    ck_assert_int_eq(page("key='; DROP TABLE model; --", NULL, 64, keys, &next), 0);
    ck_assert_int_eq(page("text=x", NULL, 64, keys, &next) + page("text__ne=x", NULL, 64, keys, &next), 40);
    ck_assert_int_eq(page("text__gt=y", NULL, 64, keys, &next), 0); /* what is compared or matched need not be there */
    ck_assert_int_eq(page("text__glob=l*", NULL, 64, keys, &next), 10);
    esp_buf_done(&next);
}
END_TEST

START_TEST(list__refuses_and_names_the_parameter) {
    static const char *const wrong[][2] = {
        {"colour=1", "?colour"},
        {"i__near=1", "?i__near"},
        {"i__=1", "?i__"},
        {"i=1.5", "?i"},
        {"i= 1", "?i"},
        {"i=", "?i"},
        {"i__glob=1*", "?i__glob"},
        {"part=nan", "?part"},
        {"part=inf", "?part"},
        {"part=1e999", "?part"},
        {"at=yesterday", "?at"},
        {"odd=maybe", "?odd"},
        {"hidden=1", "?hidden"},
        {"sort=odd", "?sort"},
        {"sort=--i", "?sort"},
        {"sort=", "?sort"},
        {"limit=0", "?limit"},
        {"limit=1001", "?limit"},
        {"limit=x", "?limit"},
        {"limit=-1", "?limit"},
        {"format=xml", "?format"},
        {"i=99999999999999999999", "?i"},
        {"text=X", "?text"},
        {"text=", "?text"},
        {"text__ne=y", "?text__ne"},
    };
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        esp_list_query query;
        esp_error error = {0};
        ck_assert_msg(take(&query, wrong[i][0], NULL, &error) == ESP_INVALID, "%s was taken", wrong[i][0]);
        ck_assert_str_eq(error.pointer, wrong[i][1]);
    }
}
END_TEST

START_TEST(list__cursor_of_another_list_or_a_broken_one_is_refused) {
    char keys[64][8], text[1000];
    esp_buf next = {0};
    esp_list_query query;
    esp_error error = {0};
    page("sort=tie&i__gt=3", NULL, 5, keys, &next);
    strcpy(text, esp_buf_text(&next));
    ck_assert_int_eq(take(&query, "sort=tie&i__gt=3", text, &error), ESP_OK);
    ck_assert_int_eq(take(&query, "i__gt=3&sort=tie", text, &error), ESP_OK);
    ck_assert_int_eq(take(&query, "sort=-tie&i__gt=3", text, &error), ESP_INVALID);
    ck_assert_int_eq(take(&query, "sort=tie&i__gt=4", text, &error), ESP_INVALID);
    ck_assert_int_eq(take(&query, "sort=tie&i__gte=3", text, &error), ESP_INVALID);
    ck_assert_str_eq(error.pointer, "?cursor");
    static const char *const broken[] = {"", "a", "!!!!", "AAAA", "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"};
    for (size_t i = 0; i < sizeof broken / sizeof broken[0]; i++) ck_assert_int_eq(take(&query, "sort=tie&i__gt=3", broken[i], &error), ESP_INVALID);
    for (size_t i = 0; text[i]; i++) { /* cut short anywhere: refused or a cursor, never a crash */
        char cut[1000];
        strcpy(cut, text);
        cut[i] = '\0';
        (void)!take(&query, "sort=tie&i__gt=3", cut, &error);
        strcpy(cut, text);
        cut[i] = cut[i] == 'A' ? 'z' : 'A';
        (void)!take(&query, "sort=tie&i__gt=3", cut, &error);
    }
    esp_buf_done(&next);
}
END_TEST

START_TEST(list__csv_is_quoted_and_guarded) {
    esp_list_query query;
    esp_error error = {0};
    esp_buf sql = {0}, out = {0};
    esp_stmt *stmt = NULL;
    ck_assert_int_eq(take(&query, "i__lt=4&sort=i", NULL, &error), ESP_OK);
    esp_list_sql(&query, &sql);
    ck_assert_int_eq(esp_stmt_open(db, &stmt, &error, esp_buf_text(&sql), ""), ESP_OK);
    esp_list_bind(&query, stmt, -1);
    esp_list_head_csv(&list, &out);
    while (esp_stmt_step(stmt, &error) == 1) esp_list_row_csv(&list, stmt, &out);
    esp_stmt_close(stmt);
    ck_assert_str_eq(esp_buf_text(&out), "key,i,tie,part,text,odd,at,hidden\r\n"
                                         "k00,0,0,,'=1+1,false,1970-01-01T00:00:00.000Z,\"[1,2]\"\r\n"
                                         "k01,1,1,1,\"a,\"\"b\"\"\",true,1970-01-01T00:00:01.000Z,\"[1,2]\"\r\n"
                                         "k02,2,2,2,x,false,1970-01-01T00:00:02.000Z,\"[1,2]\"\r\n"
                                         "k03,3,3,0.25,\"line\ntwo\",true,1970-01-01T00:00:03.000Z,\"[1,2]\"\r\n");
    esp_buf_done(&sql);
    esp_buf_done(&out);
}
END_TEST

START_TEST(time__agrees_with_the_c_library) {
    for (int64_t day = -800000; day < 2900000; day += 101) { /* years -220 would not print; 0 to 9999 are what there is */
        int64_t ms = day * 86400000 + 12345678, back = 0;
        time_t seconds = (time_t)(day * 86400 + 12345);
        struct tm tm;
        char text[ESP_TIME_TEXT], expected[64];
        if (day < -719528 || day > 2932896) continue;
        gmtime_r(&seconds, &tm);
        snprintf(expected, sizeof expected, "%04d-%02d-%02dT%02d:%02d:%02d.678Z", tm.tm_year + 1900, tm.tm_mon + 1, tm.tm_mday, tm.tm_hour, tm.tm_min,
                 tm.tm_sec);
        esp_time_format(ms, text);
        ck_assert_str_eq(text, expected);
        ck_assert(esp_time_parse(text, &back));
        ck_assert_int_eq(back, ms);
    }
    int64_t ms;
    ck_assert(esp_time_parse("2026-01-31T12:00:00+01:30", &ms) && ms == 1769855400000);
    ck_assert(esp_time_parse("1769855400000", &ms) && ms == 1769855400000);
    static const char *const wrong[] = {"",
                                        "20-26",
                                        "2026-02-29T00:00:00Z",
                                        "2026-13-01T00:00:00Z",
                                        "2026-01-01",
                                        "2026-01-01T24:00:00Z",
                                        "2026-01-01T00:00:00",
                                        "2026-01-01T00:00:00Zx",
                                        "-5",
                                        "x"};
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) ck_assert_msg(!esp_time_parse(wrong[i], &ms), "%s", wrong[i]);
}
END_TEST

START_TEST(pattern__matches_by_literal_text) {
    ck_assert_int_eq(esp_pattern_match("/v1/models", "/v1/models"), 10);
    ck_assert_int_eq(esp_pattern_match("/v1/models", "/v1/models/"), -1);
    ck_assert_int_eq(esp_pattern_match("/v1/models/{ref...}", "/v1/models/a/3"), 11);
    ck_assert_int_eq(esp_pattern_match("/v1/models/{ref...}", "/v1/models/"), -1);
    ck_assert_int_eq(esp_pattern_match("/v1/models/{ref...}/artifact", "/v1/models/a/3/artifact"), 20);
    ck_assert_int_eq(esp_pattern_match("/v1/models/{ref...}/artifact", "/v1/models/artifact/artifact"), 20);
    ck_assert_int_eq(esp_pattern_match("/v1/models/{ref...}/artifact", "/v1/models/a/3/artifacts"), -1);
    ck_assert_int_eq(esp_pattern_match("/v1/models/{name}/aliases/{alias}", "/v1/models/a/aliases/b"), 20);
    ck_assert_int_eq(esp_pattern_match("/v1/models/{name}/aliases/{alias}", "/v1/models/a/b/aliases/c"), -1);
    ck_assert_int_eq(esp_pattern_match("/v1/jobs/{id}", "/v1/jobs/a/b"), -1);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("list");
    TCase *c = tcase_create("list");
    tcase_add_checked_fixture(c, setup, teardown);
    tcase_set_timeout(c, 60);
    tcase_add_test(c, list__pages_join_to_the_whole_for_every_sort);
    tcase_add_test(c, list__filters_mean_what_they_say);
    tcase_add_test(c, list__refuses_and_names_the_parameter);
    tcase_add_test(c, list__cursor_of_another_list_or_a_broken_one_is_refused);
    tcase_add_test(c, list__csv_is_quoted_and_guarded);
    suite_add_tcase(suite, c);
    TCase *plain = tcase_create("plain");
    tcase_add_test(plain, time__agrees_with_the_c_library);
    tcase_add_test(plain, pattern__matches_by_literal_text);
    suite_add_tcase(suite, plain);
    return run_suite(suite);
}
