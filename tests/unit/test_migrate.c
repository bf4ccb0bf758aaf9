/* SPDX-License-Identifier: Apache-2.0
 * Migrations: from every earlier schema to the newest with the rows kept and a copy of what was there, all or nothing; and
 * that copy, the online backup, by itself. The files are run from schema/db, not from the daemon's own list of them. */
#include <check.h>
#include <ftw.h>
#include <glob.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "registry/db.h"

static char dir[64];

static void setup(void) {
    strcpy(dir, "/tmp/espalier-migrate-XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(dir));
}

static int remove_entry(const char *path, const struct stat *st, int kind, struct FTW *walk) {
    (void)st, (void)kind, (void)walk;
    return remove(path);
}

static void teardown(void) {
    nftw(dir, remove_entry, 16, FTW_DEPTH | FTW_PHYS);
}

static sqlite3 *raw(const char *name) {
    char path[160];
    sqlite3 *db = NULL;
    snprintf(path, sizeof path, "%s/%s", dir, name);
    ck_assert_int_eq(sqlite3_open(path, &db), SQLITE_OK);
    return db;
}

static void run(sqlite3 *db, const char *sql) {
    char *message = NULL;
    ck_assert_msg(sqlite3_exec(db, sql, NULL, NULL, &message) == SQLITE_OK, "%s", message);
}

static int number(sqlite3 *db, const char *sql) {
    sqlite3_stmt *s = NULL;
    ck_assert_int_eq(sqlite3_prepare_v2(db, sql, -1, &s, NULL), SQLITE_OK);
    int value = sqlite3_step(s) == SQLITE_ROW ? sqlite3_column_int(s, 0) : -1;
    sqlite3_finalize(s);
    return value;
}

static const char rows[] =
    "INSERT INTO dataset VALUES ('dat_1', 'rail', 1, hex(zeroblob(32)), 'csv', 1, 2, 2, 1, 10, 1000);"
    "INSERT INTO job (id, kind, state, priority, run_limit_s, spec, created_ms) VALUES ('job_1', 'train', 'queued', 0, 0, '{}', 1000);"
    "INSERT INTO model VALUES ('mdl_1', 'rail', 1, hex(zeroblob(32)), 'dynamics', NULL, 'dat_1', 'job_1', 2, 1, 1, 4, 20, 5, NULL, NULL, 1000);"
    "INSERT INTO certificate (id, model, kind, norm, method, strength, status, domain_sha256, value, lower, tolerance, seconds, created_ms)"
    " VALUES ('cer_1', 'mdl_1', 'difference', 'linf', 'crown', 'proved', 'proved', '', 0.5, 0.25, 0, 0.1, 1000)";

/* A registry as the release with schema `version` left it, with some rows. */
static void make(int version) {
    glob_t files;
    ck_assert_int_eq(glob("schema/db/[0-9]*.sql", 0, NULL, &files), 0);
    ck_assert_uint_eq(files.gl_pathc, (size_t)esp_schema_version());
    sqlite3 *db = raw("registry.db");
    for (int i = 0; i < version; i++) {
        esp_buf text = {0};
        esp_error error = {0};
        ck_assert_int_eq(esp_file_read(files.gl_pathv[i], 1 << 20, &text, &error), ESP_OK);
        run(db, esp_buf_text(&text));
        esp_buf_done(&text);
        if (i == 0) run(db, rows);
    }
    char pragma[80];
    snprintf(pragma, sizeof pragma, "PRAGMA user_version=%d; PRAGMA application_id=%d", version, ESP_APPLICATION_ID);
    run(db, pragma);
    sqlite3_close(db);
    globfree(&files);
}

START_TEST(migrate__keeps_rows_and_a_copy_of_what_was) {
    esp_registry *registry = NULL;
    esp_error error = {0};
    char copy[40];
    make(_i);
    ck_assert_msg(esp_registry_open(dir, &registry, &error) == ESP_OK, "%s", error.message);
    esp_registry_close(registry);
    sqlite3 *db = raw("registry.db");
    ck_assert_int_eq(number(db, "PRAGMA user_version"), esp_schema_version());
    ck_assert_int_eq(number(db, "SELECT (SELECT count(*) FROM model) + (SELECT count(*) FROM job) + (SELECT count(*) FROM certificate)"), 3);
    ck_assert_int_eq(number(db, "SELECT count(*) FROM pragma_foreign_key_check"), 0);
    sqlite3_close(db);
    snprintf(copy, sizeof copy, "registry.db.before-%04d", _i + 1);
    db = raw(copy);
    ck_assert_int_eq(number(db, "PRAGMA user_version"), _i);
    ck_assert_int_eq(number(db, "SELECT count(*) FROM certificate WHERE value = 0.5"), 1);
    sqlite3_close(db);
}
END_TEST

START_TEST(migrate__happens_whole_or_not_at_all) {
    esp_registry *registry = NULL;
    esp_error error = {0};
    make(1);
    sqlite3 *db = raw("registry.db");
    run(db, "CREATE TABLE episode (nonsense)"); /* in the way of 0002, behind others of its tables */
    sqlite3_close(db);
    ck_assert_int_ne(esp_registry_open(dir, &registry, &error), ESP_OK);
    ck_assert_msg(strstr(error.message, "0002"), "%s", error.message);
    db = raw("registry.db");
    ck_assert_int_eq(number(db, "PRAGMA user_version"), 1);
    ck_assert_int_eq(number(db, "SELECT count(*) FROM sqlite_schema WHERE name IN ('tag', 'tombstone', 'job_token')"), 0);
    ck_assert_int_eq(number(db, "SELECT count(*) FROM pragma_table_info('job') WHERE name = 'token'"), 0);
    sqlite3_close(db);
}
END_TEST

START_TEST(migrate__copies_nothing_of_a_new_or_newest_registry) {
    glob_t found;
    char pattern[100];
    esp_error error = {0};
    for (int i = 0; i < 2; i++) {
        esp_registry *registry = NULL;
        ck_assert_int_eq(esp_registry_open(dir, &registry, &error), ESP_OK);
        esp_registry_close(registry);
    }
    snprintf(pattern, sizeof pattern, "%s/registry.db.before*", dir);
    ck_assert_int_eq(glob(pattern, 0, NULL, &found), GLOB_NOMATCH);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("migrate");
    TCase *tcase = tcase_create("schema");
    tcase_set_timeout(tcase, 60);
    tcase_add_checked_fixture(tcase, setup, teardown);
    tcase_add_loop_test(tcase, migrate__keeps_rows_and_a_copy_of_what_was, 1, esp_schema_version());
    tcase_add_test(tcase, migrate__happens_whole_or_not_at_all);
    tcase_add_test(tcase, migrate__copies_nothing_of_a_new_or_newest_registry);
    suite_add_tcase(suite, tcase);
    return run_suite(suite);
}
