/* SPDX-License-Identifier: Apache-2.0
 * How the indexed lists are read: SQLite's own account of each statement, for every sort and filter, must not sort or scan where
 * an index stands ready; and what is read by one way or another is the same rows as a scan finds, on tables where each way is
 * taken. */
#include <check.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "list_query.h"
#include "lists.h"

enum { MODELS = 300, CERTIFICATES = 12000 }; /* more than the few thousand from which a filter no longer drives */

static char dir[64];
static esp_registry *registry;
static esp_db *db;
static esp_error error;

static int remove_entry(const char *path, const struct stat *st, int kind, struct FTW *walk) {
    (void)st, (void)kind, (void)walk;
    return remove(path);
}

static esp_code fill(esp_db *writer, void *user, esp_error *reterr) {
    (void)user;
    esp_code code =
        esp_db_run(writer, reterr,
                   "WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i + 1 < ?)"
                   " INSERT INTO model (id, name, version, sha256, kind, parent, ny, nu, history, relu, parameters, nonzero, metrics, created_ms)"
                   " SELECT printf('mdl_%04d', i), printf('net-%d', i / 10), i % 10 + 1, printf('%064x', i), iif(i % 3, 'policy', 'dynamics'),"
                   " iif(i % 10, printf('mdl_%04d', i - 1), NULL), 1 + i % 4, i % 3, 1, i * 7 % 31, 100, i % 101, iif(i % 5, "
                   "printf('{\"validation_rmse\":%d.5}', i % 9), NULL),"
                   " 1000000 + i FROM n",
                   "i", (int64_t)MODELS);
    if (code) return code;
    return esp_db_run(writer, reterr,
                      "WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i + 1 < ?1)"
                      " INSERT INTO certificate (id, model, reference, kind, norm, method, strength, status, domain_sha256, value, lower, tolerance, "
                      "seconds, created_ms)"
                      " SELECT printf('cer_%06d', i), printf('mdl_%04d', i % ?2), iif(i % 4, printf('mdl_%04d', i * 7 % ?2), NULL), iif(i % 40 <> 1, "
                      "'difference', 'range'),"
                      " 'linf', iif(i % 2, 'crown', 'split'), 'proved', iif(i % 6000, 'proved', 'time_limit'), iif(i % 7, printf('%064x', i % 5), "
                      "''), (i * 7919 % 10007) / 8.0,"
                      " (i * 31 % 97) / 4.0, 0, 0.5, 1000000 + i * 10 FROM n",
                      "ii", (int64_t)CERTIFICATES, (int64_t)MODELS);
}

static void setup(void) {
    strcpy(dir, "/tmp/espalier-plan-XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(dir));
    ck_assert_int_eq(esp_registry_open(dir, &registry, &error), ESP_OK);
}

static void begin(bool filled) {
    if (filled) ck_assert_msg(esp_registry_write(registry, fill, NULL, &error) == ESP_OK, "%s", error.message);
    ck_assert_int_eq(esp_registry_read_begin(registry, &db, &error), ESP_OK);
}

static void teardown(void) {
    esp_registry_read_end(registry, db);
    esp_registry_close(registry);
    nftw(dir, remove_entry, 16, FTW_DEPTH | FTW_PHYS);
}

/* What SQLite says it would do, one step after another. */
static void explain(const esp_list_query *query, esp_buf *ret) {
    esp_buf sql = {0};
    esp_stmt *s = NULL;
    esp_buf_puts(&sql, "EXPLAIN QUERY PLAN ");
    esp_list_sql(query, &sql);
    esp_buf_clear(ret);
    ck_assert_msg(esp_stmt_open(db, &s, &error, esp_buf_text(&sql), "") == ESP_OK, "%s: %s", error.message, esp_buf_text(&sql));
    while (esp_stmt_step(s, &error) == 1) esp_buf_printf(ret, "%s; ", esp_stmt_text(s, 3, NULL));
    esp_stmt_close(s);
    esp_buf_done(&sql);
}

static const esp_list *const lists[] = {&esp_list_models, &esp_list_bounds};

START_TEST(list_plan__no_sort_sorts) {
    static const char types[] = {'-', 'n', 't', 'i'};
    esp_buf plan = {0};
    begin(false);
    for (int l = 0; l < 2; l++)
        for (const esp_column *c = lists[l]->columns; c->field; c++)
            for (int variant = 0; c->flags & ESP_COL_SORT && variant < 8; variant++) {
                esp_list_query query = {.list = lists[l], .sort = c, .descending = variant & 1, .driver = -1, .resumes = variant >= 2};
                query.after.type = types[variant / 2];
                query.after.text = "x";
                explain(&query, &plan);
                const char *text = esp_buf_text(&plan);
                ck_assert_msg(!strstr(text, "ORDER BY") && strstr(text, "USING"), "%s %d: %s", c->field, variant, text);
            }
    esp_list_query plain = {.list = &esp_list_bounds, .descending = true, .driver = -1};
    explain(&plain, &plan);
    ck_assert_msg(!strstr(esp_buf_text(&plan), "ORDER BY"), "%s", esp_buf_text(&plan));
    esp_buf_done(&plan);
}
END_TEST

START_TEST(list_plan__every_filter_that_drives_searches) {
    esp_buf plan = {0};
    begin(false);
    for (int l = 0; l < 2; l++)
        for (const esp_column *c = lists[l]->columns; c->field; c++)
            for (int op = ESP_OP_EQ; c->flags & ESP_COL_FILTER && op <= ESP_OP_GLOB; op++) {
                if (op == ESP_OP_GLOB && c->type != ESP_COL_TEXT) continue;
                if (c->type == ESP_COL_SET && op != ESP_OP_EQ) continue;
                esp_list_query query = {.list = lists[l], .descending = true, .n_filters = 1, .driver = 0};
                query.filters[0] =
                    (esp_list_filter){.column = c, .op = (esp_list_op)op, .value = {.type = 't', .text = "x*"}, .prefix = "x", .prefix_end = "y"};
                explain(&query, &plan);
                const char *text = esp_buf_text(&plan);
                /* a column that is never NULL: the third part of "differs" is a SCAN that is left before it starts */
                const char *scan = strstr(text, l ? "SCAN c" : "SCAN m");
                bool left = scan && op == ESP_OP_NE && strncmp(scan + 6, " USING COVERING", 15) == 0 && !strstr(scan + 6, l ? "SCAN c" : "SCAN m");
                ck_assert_msg(strstr(text, "SEARCH") && (!scan || left), "%s %d: %s", c->field, op, text);
                if (op == ESP_OP_EQ && c->type != ESP_COL_SET) ck_assert_msg(!strstr(text, "ORDER BY"), "%s: %s", c->field, text);
                query.driver = -1; /* many rows are left: in order, past the filter */
                explain(&query, &plan);
                ck_assert_msg(!strstr(esp_buf_text(&plan), "ORDER BY"), "%s %d: %s", c->field, op, esp_buf_text(&plan));
            }
    esp_buf_done(&plan);
}
END_TEST

/* ---- the same rows, whatever drives --------------------------------------------------------------------------------- */

static char text[512]; /* the query keeps pointers into it */

static void parse(esp_list_query *query, const esp_list *list, const char *params, const char *cursor) {
    *query = (esp_list_query){.list = list};
    strcpy(text, params);
    for (char *p = strtok(text, "&"); p; p = strtok(NULL, "&")) {
        char *value = strchr(p, '=');
        *value++ = '\0';
        ck_assert_msg(esp_list_take(query, p, value, &error) == ESP_OK, "%s: %s", params, error.message);
    }
    ck_assert_msg(esp_list_settle(query, cursor, &error) == ESP_OK, "%s: %s", params, error.message);
}

/* Ids of a page. */
static int page(const esp_list_query *query, int limit, esp_buf *ids, esp_buf *next) {
    esp_buf sql = {0};
    esp_stmt *s = NULL;
    int n = 0;
    esp_list_sql(query, &sql);
    ck_assert_msg(esp_stmt_open(db, &s, &error, esp_buf_text(&sql), "") == ESP_OK, "%s: %s", error.message, esp_buf_text(&sql));
    esp_list_bind(query, s, limit);
    for (; esp_stmt_step(s, &error) == 1; n++) {
        esp_buf_printf(ids, "%s ", esp_stmt_text(s, 0, NULL));
        esp_buf_clear(next);
        esp_list_cursor(query, s, next);
    }
    esp_stmt_close(s);
    esp_buf_done(&sql);
    return n;
}

START_TEST(list_plan__drivers_change_no_row) {
    static const struct {
        const char *params;
        int bounds, driver; /* -1: many rows are left by each */
    } asked[] = {
        {"value__lt=3", 1, 0},
        {"value__gte=0", 1, 0},
        {"value__gte=0&tolerance=0&sort=-lower", 1, -1},
        {"kind=difference", 1, 0},
        {"kind=difference&sort=value", 1, -1},
        {"kind=range&sort=value", 1, 0},
        {"kind=difference&value__lt=20", 1, 1},
        {"kind=difference&status__ne=proved", 1, 1},
        {"kind__ne=nothing&sort=-lower", 1, -1},
        {"reference__ne=mdl_0007&sort=-reference", 1, -1},
        {"reference__lt=mdl_0020&sort=-value", 1, 0},
        {"model_name__glob=net-1*", 1, 0},
        {"model_name__glob=*-1&sort=value", 1, -1},
        {"id__glob=cer_0000*", 1, 0},
        {"method__glob=cr*", 1, 0},
        {"method__glob=cr*&sort=-created_at", 1, -1},
        {"created_at__gte=1000500", 1, -1},
        {"id__lt=cer_011000&method=crown", 1, -1},
        {"domain_sha256__gt=0&sort=-domain_sha256", 1, -1},
        {"sparsity__gt=0.995&sort=relu", 1, 0},
        {"value__gt=1200&sort=-value", 1, 0},
        {"value__gt=100&sort=-value", 1, -1},
        {"created_at__lt=1000500", 1, 0},
        {"validation_rmse__gt=2&sort=-validation_rmse", 0, 0},
        {"sort=-validation_rmse", 0, -1},
        {"sort=parent", 0, -1},
        {"name__glob=net-2?&relu__lte=20&sort=-relu", 0, 0},
    };
    begin(true);
    for (size_t i = 0; i < sizeof asked / sizeof *asked; i++) {
        const esp_list *list = asked[i].bounds ? &esp_list_bounds : &esp_list_models;
        esp_list plain = *list; /* the oracle: left to SQLite, one statement, no cursor */
        plain.indexed = false;
        esp_list_query query;
        esp_buf whole = {0}, joined = {0}, next = {0};
        parse(&query, &plain, asked[i].params, NULL);
        int all = page(&query, -1, &whole, &next), seen = 0, n = 0;
        ck_assert_msg(all > 0, "%s finds nothing", asked[i].params);
        for (char cursor[1000] = ""; seen < all; seen += n) {
            int limit = all / 5 + 1;
            parse(&query, list, asked[i].params, *cursor ? cursor : NULL);
            ck_assert_int_eq(esp_list_plan(db, &query, &error), ESP_OK);
            ck_assert_msg(query.driver == asked[i].driver, "%s: filter %d drives", asked[i].params, query.driver);
            n = page(&query, limit, &joined, &next);
            ck_assert_msg(n > 0, "%s: ends after %d of %d", asked[i].params, seen, all);
            strcpy(cursor, esp_buf_text(&next));
        }
        ck_assert_msg(strcmp(esp_buf_text(&whole), esp_buf_text(&joined)) == 0, "%s: the pages are not the whole", asked[i].params);
        esp_buf_done(&whole);
        esp_buf_done(&joined);
        esp_buf_done(&next);
    }
}
END_TEST

int main(void) {
    Suite *suite = suite_create("list_plan");
    TCase *tcase = tcase_create("plan");
    tcase_set_timeout(tcase, 30);
    tcase_add_checked_fixture(tcase, setup, teardown);
    tcase_add_test(tcase, list_plan__no_sort_sorts);
    tcase_add_test(tcase, list_plan__every_filter_that_drives_searches);
    tcase_add_test(tcase, list_plan__drivers_change_no_row);
    suite_add_tcase(suite, tcase);
    return run_suite(suite);
}
