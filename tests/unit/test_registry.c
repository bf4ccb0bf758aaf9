/* SPDX-License-Identifier: Apache-2.0
 * The registry without a daemon: migrations, group commit, versions, references, aliases, the life of a job, blobs. */
#include <check.h>
#include <fcntl.h>
#include <ftw.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sqlite3.h>
#include <unistd.h>

#include "base/clock.h"
#include "registry/db.h"

static char dir[64];
static esp_registry *registry;

static void must(esp_code code, const esp_error *error) {
    ck_assert_msg(code == ESP_OK, "%s: %s", esp_code_name(code), error->message);
}

static void open_registry(void) {
    esp_error error = {0};
    must(esp_registry_open(dir, &registry, &error), &error);
}

static void setup(void) {
    strcpy(dir, "/tmp/espalier-registry-XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(dir));
    open_registry();
}

static int remove_entry(const char *path, const struct stat *st, int kind, struct FTW *walk) {
    (void)st, (void)kind, (void)walk;
    return remove(path);
}

static void teardown(void) {
    esp_registry_close(registry);
    nftw(dir, remove_entry, 16, FTW_DEPTH | FTW_PHYS);
}

/* A direct connection, around everything the registry checks. */
static sqlite3 *raw(void) {
    char path[128];
    sqlite3 *db = NULL;
    snprintf(path, sizeof path, "%s/registry.db", dir);
    ck_assert_int_eq(sqlite3_open(path, &db), SQLITE_OK);
    return db;
}

static int64_t count(const char *sql) {
    esp_error error = {0};
    esp_db *db = NULL;
    int64_t n = -1;
    must(esp_registry_read_begin(registry, &db, &error), &error);
    must(esp_db_int(db, &n, &error, sql, ""), &error);
    esp_registry_read_end(registry, db);
    return n;
}

/* ---- writes --------------------------------------------------------------------------------------------------------- */

static esp_code insert_dataset(esp_db *db, void *user, esp_error *reterr) {
    return esp_dataset_insert(db, user, reterr);
}

static esp_code insert_model(esp_db *db, void *user, esp_error *reterr) {
    return esp_model_insert(db, user, reterr);
}

static esp_code insert_then_fail(esp_db *db, void *user, esp_error *reterr) {
    esp_code code = esp_dataset_insert(db, user, reterr);
    return code ? code : esp_fail(reterr, ESP_UNPROCESSABLE, "on purpose");
}

static esp_dataset_row dataset(const char *name, char digit) {
    esp_dataset_row row = {.format = "ndjson", .trajectories = 1, .transitions = 2, .ny = 2, .nu = 1, .bytes = 10};
    strcpy(row.name, name);
    memset(row.sha256, digit, 64);
    return row;
}

static esp_model_row model(const char *name, char digit) {
    esp_model_row row = {.kind = "dynamics", .ny = 2, .nu = 1, .history = 1, .relu = 3, .parameters = 10, .nonzero = 5};
    strcpy(row.name, name);
    memset(row.sha256, digit, 64);
    return row;
}

START_TEST(registry__gives_versions_and_finds_by_reference) {
    esp_error error = {0};
    esp_dataset_row a = dataset("cart", 'a'), b = dataset("cart", 'b'), again = dataset("cart", 'a'), found;
    must(esp_registry_write(registry, insert_dataset, &a, &error), &error);
    must(esp_registry_write(registry, insert_dataset, &b, &error), &error);
    must(esp_registry_write(registry, insert_dataset, &again, &error), &error);
    ck_assert_int_eq(a.version, 1);
    ck_assert_int_eq(b.version, 2);
    ck_assert_str_eq(again.id, a.id);
    ck_assert_str_gt(b.id, a.id); /* ids sort by creation */
    esp_db *db = NULL;
    must(esp_registry_read_begin(registry, &db, &error), &error);
    must(esp_dataset_find(db, "cart", &found, &error), &error);
    ck_assert_str_eq(found.id, b.id);
    must(esp_dataset_find(db, "cart/1", &found, &error), &error);
    ck_assert_str_eq(found.id, a.id);
    must(esp_dataset_find(db, b.id, &found, &error), &error);
    ck_assert_int_eq(found.version, 2);
    ck_assert_int_eq(esp_dataset_find(db, "cart/3", &found, &error), ESP_NOT_FOUND);
    ck_assert_int_eq(esp_dataset_find(db, "none", &found, &error), ESP_NOT_FOUND);
    static const char *const wrong[] = {
        "", "cart/", "cart/0", "cart/01", "cart/x", "a b", "/1", "cart@x", "../etc", "cart/1/2", "cart/99999999999999999999"};
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) ck_assert_int_eq(esp_dataset_find(db, wrong[i], &found, &error), ESP_INVALID);
    esp_registry_read_end(registry, db);
}
END_TEST

START_TEST(registry__failed_write_undoes_only_itself) {
    esp_error error = {0};
    esp_dataset_row a = dataset("kept", 'a'), b = dataset("dropped", 'b');
    must(esp_registry_write(registry, insert_dataset, &a, &error), &error);
    ck_assert_int_eq(esp_registry_write(registry, insert_then_fail, &b, &error), ESP_UNPROCESSABLE);
    ck_assert_str_eq(error.message, "on purpose");
    ck_assert_int_eq(count("SELECT count(*) FROM dataset"), 1);
}
END_TEST

typedef struct flood {
    pthread_mutex_t lock;
    int done, refused;
    esp_dataset_row rows[200];
} flood;

static esp_code flood_run(esp_db *db, void *user, esp_error *reterr) {
    esp_dataset_row *row = user;
    return row->bytes % 7 == 0 ? insert_then_fail(db, row, reterr) : esp_dataset_insert(db, row, reterr);
}

static flood fl = {.lock = PTHREAD_MUTEX_INITIALIZER};

static void flood_done(void *user, esp_code code, const esp_error *error) {
    (void)user, (void)error;
    pthread_mutex_lock(&fl.lock);
    fl.done++;
    fl.refused += code != ESP_OK;
    pthread_mutex_unlock(&fl.lock);
}

START_TEST(registry__async_writes_keep_order_and_isolation_within_a_commit) {
    int expected_refused = 0;
    for (int i = 0; i < 200; i++) {
        fl.rows[i] = dataset("flood", 'a');
        snprintf(fl.rows[i].sha256, sizeof fl.rows[i].sha256, "%064d", i);
        fl.rows[i].bytes = i + 1;
        expected_refused += (i + 1) % 7 == 0;
        esp_registry_write_async(registry, flood_run, flood_done, &fl.rows[i]);
    }
    esp_error error = {0};
    esp_dataset_row last = dataset("last", 'z');
    must(esp_registry_write(registry, insert_dataset, &last, &error), &error); /* queued behind them all */
    pthread_mutex_lock(&fl.lock);
    ck_assert_int_eq(fl.done, 200);
    ck_assert_int_eq(fl.refused, expected_refused);
    pthread_mutex_unlock(&fl.lock);
    ck_assert_int_eq(count("SELECT count(*) FROM dataset WHERE name = 'flood'"), 200 - expected_refused);
    /* versions were given in the order of queueing, without gaps */
    ck_assert_int_eq(
        count(
            "SELECT count(*) FROM dataset a JOIN dataset b ON a.name = 'flood' AND b.name = 'flood' AND a.version < b.version AND a.bytes > b.bytes"),
        0);
    ck_assert_int_eq(count("SELECT max(version) FROM dataset WHERE name = 'flood'"), 200 - expected_refused);
}
END_TEST

START_TEST(registry__readers_cannot_write_and_see_one_snapshot) {
    esp_error error = {0};
    esp_db *db = NULL;
    int64_t n = -1;
    must(esp_registry_read_begin(registry, &db, &error), &error);
    must(esp_db_int(db, &n, &error, "SELECT count(*) FROM dataset", ""), &error);
    esp_dataset_row a = dataset("later", 'a');
    must(esp_registry_write(registry, insert_dataset, &a, &error), &error);
    must(esp_db_int(db, &n, &error, "SELECT count(*) FROM dataset", ""), &error);
    ck_assert_int_eq(n, 0);
    ck_assert_int_ne(esp_db_run(db, &error, "DELETE FROM dataset", ""), ESP_OK);
    esp_registry_read_end(registry, db);
    ck_assert_int_eq(count("SELECT count(*) FROM dataset"), 1);
}
END_TEST

START_TEST(registry__query_past_its_deadline_is_stopped) {
    esp_error error = {0};
    esp_db *db = NULL;
    int64_t n = 0;
    must(esp_registry_read_begin(registry, &db, &error), &error);
    esp_db_deadline(db, esp_clock_now_ns() + 20 * ESP_NS_PER_MS);
    esp_code code = esp_db_int(db, &n, &error, "WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c) SELECT max(x) FROM c", "");
    ck_assert_int_eq(code, ESP_DEADLINE);
    esp_registry_read_end(registry, db);
    ck_assert_int_eq(count("SELECT 7"), 7); /* the connection is as good as before */
}
END_TEST

START_TEST(registry__change_counter_moves_with_commits_only) {
    esp_error error = {0};
    uint64_t before = esp_registry_changes(registry, false);
    ck_assert_int_eq(count("SELECT count(*) FROM dataset"), 0);
    ck_assert_uint_eq(esp_registry_changes(registry, false), before);
    esp_dataset_row a = dataset("x", 'a');
    must(esp_registry_write(registry, insert_dataset, &a, &error), &error);
    ck_assert_uint_ne(esp_registry_changes(registry, false), before);
}
END_TEST

/* ---- start ---------------------------------------------------------------------------------------------------------- */

START_TEST(registry__second_daemon_on_the_directory_is_refused) {
    esp_error error = {0};
    esp_registry *second = NULL;
    ck_assert_int_eq(esp_registry_open(dir, &second, &error), ESP_BUSY);
    ck_assert_ptr_nonnull(strstr(error.message, dir));
    ck_assert_ptr_null(second);
}
END_TEST

START_TEST(registry__newer_schema_and_foreign_file_are_refused) {
    esp_error error = {0};
    esp_registry_close(registry);
    registry = NULL;
    sqlite3 *db = raw();
    ck_assert_int_eq(sqlite3_exec(db, "PRAGMA user_version=99", NULL, NULL, NULL), SQLITE_OK);
    ck_assert_int_eq(esp_registry_open(dir, &registry, &error), ESP_STATE);
    ck_assert_int_eq(sqlite3_exec(db, "PRAGMA user_version=1; PRAGMA application_id=7", NULL, NULL, NULL), SQLITE_OK);
    ck_assert_int_eq(esp_registry_open(dir, &registry, &error), ESP_CORRUPT);
    sqlite3_close(db);
    char path[128];
    snprintf(path, sizeof path, "%s/registry.db", dir);
    FILE *file = fopen(path, "w");
    for (int i = 0; i < 1000; i++) fputs("this is no database ", file);
    fclose(file);
    ck_assert_int_eq(esp_registry_open(dir, &registry, &error), ESP_CORRUPT);
}
END_TEST

START_TEST(registry__reopens_with_what_was_committed) {
    esp_error error = {0};
    esp_dataset_row a = dataset("kept", 'a');
    must(esp_registry_write(registry, insert_dataset, &a, &error), &error);
    esp_registry_close(registry);
    open_registry();
    ck_assert_int_eq(count("SELECT count(*) FROM dataset"), 1);
    ck_assert_int_eq(count("PRAGMA user_version"), esp_schema_version());
    ck_assert(esp_registry_healthy(registry));
}
END_TEST

/* ---- blobs ---------------------------------------------------------------------------------------------------------- */

START_TEST(blobs__are_stored_once_under_their_hash) {
    esp_error error = {0};
    char a[ESP_HASH_HEX], b[ESP_HASH_HEX], path[4096];
    must(esp_blob_put(registry, "abc", 3, a, &error), &error);
    must(esp_blob_put(registry, "abc", 3, b, &error), &error);
    ck_assert_str_eq(a, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"); /* FIPS 180-2 */
    ck_assert_str_eq(a, b);
    ck_assert(esp_blob_exists(registry, a));
    esp_blob_path(registry, a, path);
    esp_buf bytes = {0};
    must(esp_file_read(path, 100, &bytes, &error), &error);
    ck_assert_str_eq(esp_buf_text(&bytes), "abc");
    esp_buf_done(&bytes);
    a[0] = 'c';
    ck_assert(!esp_blob_exists(registry, a));
}
END_TEST

START_TEST(blobs__half_written_ones_are_swept_at_start) {
    esp_error error = {0};
    char path[4096];
    must(esp_blob_temp(registry, path, &error), &error);
    int fd = open(path, O_WRONLY | O_CREAT, 0600);
    ck_assert_int_eq(write(fd, "half", 4), 4);
    close(fd);
    esp_registry_close(registry);
    open_registry();
    ck_assert_int_ne(access(path, F_OK), 0);
}
END_TEST

/* ---- models and aliases --------------------------------------------------------------------------------------------- */

static esp_code set_alias(esp_db *db, void *user, esp_error *reterr) {
    struct {
        esp_alias_row row;
        int64_t expect;
    } *a = user;
    return esp_alias_set(db, &a->row, a->expect, NULL, reterr);
}

START_TEST(aliases__move_with_conditions_and_history) {
    esp_error error = {0};
    esp_model_row one = model("rail", 'a'), two = model("rail", 'b'), found = {0};
    must(esp_registry_write(registry, insert_model, &one, &error), &error);
    must(esp_registry_write(registry, insert_model, &two, &error), &error);
    struct {
        esp_alias_row row;
        int64_t expect;
    } a = {.row = {.name = "rail", .alias = "best", .version = 1}, .expect = 0};
    must(esp_registry_write(registry, set_alias, &a, &error), &error);
    int64_t first = a.row.event, then = a.row.updated_ms;
    ck_assert_str_eq(a.row.model, one.id);
    usleep(5000);
    a.row.version = 2;
    ck_assert_int_eq(esp_registry_write(registry, set_alias, &a, &error), ESP_PRECONDITION); /* it exists */
    a.expect = first + 1000;
    ck_assert_int_eq(esp_registry_write(registry, set_alias, &a, &error), ESP_PRECONDITION);
    a.expect = first;
    must(esp_registry_write(registry, set_alias, &a, &error), &error);
    a.row.version = 3;
    a.expect = -1;
    ck_assert_int_eq(esp_registry_write(registry, set_alias, &a, &error), ESP_NOT_FOUND);
    ck_assert_str_eq(error.pointer, "/version");
    esp_db *db = NULL;
    must(esp_registry_read_begin(registry, &db, &error), &error);
    must(esp_model_find(db, "rail@best", &found, &error), &error);
    ck_assert_str_eq(found.id, two.id);
    must(esp_alias_find(db, "rail", "best", then, &a.row, &error), &error);
    ck_assert_int_eq(a.row.version, 1);
    ck_assert_int_eq(esp_alias_find(db, "rail", "best", then - 1, &a.row, &error), ESP_NOT_FOUND);
    ck_assert_int_eq(esp_model_find(db, "rail@worst", &found, &error), ESP_NOT_FOUND);
    esp_registry_read_end(registry, db);
    esp_model_row_done(&found);
}
END_TEST

START_TEST(models__registering_twice_gives_one_version) {
    esp_error error = {0};
    esp_model_row a = model("net", 'a'), b = model("net", 'a'), other = model("net", 'a');
    a.spec = strdup("{\"seed\":1}");
    b.spec = strdup("{\"seed\":1}");
    other.spec = strdup("{\"seed\":2}");
    must(esp_registry_write(registry, insert_model, &a, &error), &error);
    must(esp_registry_write(registry, insert_model, &b, &error), &error);
    must(esp_registry_write(registry, insert_model, &other, &error), &error);
    ck_assert_str_eq(a.id, b.id);
    ck_assert_str_ne(a.id, other.id);
    ck_assert_int_eq(other.version, 2);
    esp_model_row child = model("child", 'c');
    strcpy(child.parent, "mdl_0000000000000000000000");
    ck_assert_int_eq(esp_registry_write(registry, insert_model, &child, &error), ESP_CONFLICT); /* a parent that is not there */
    esp_model_row_done(&a);
    esp_model_row_done(&b);
    esp_model_row_done(&other);
}
END_TEST

/* ---- jobs ----------------------------------------------------------------------------------------------------------- */

typedef struct step {
    char id[ESP_ID_MAX];
    int64_t attempt, priority;
    esp_job_state to;
    const char *text;
    esp_job_row row;
} step;

static esp_code job_insert(esp_db *db, void *user, esp_error *reterr) {
    step *s = user;
    esp_job_row row = {.kind = "train", .priority = s->priority, .run_limit_s = 10, .spec = strdup("{}")};
    esp_code code = esp_job_insert(db, &row, reterr);
    if (!code) strcpy(s->id, row.id);
    esp_job_row_done(&row);
    return code;
}

static esp_code job_move(esp_db *db, void *user, esp_error *reterr) {
    step *s = user;
    const char *error = s->to == ESP_JOB_FAILED || s->to == ESP_JOB_QUEUED ? s->text : NULL;
    return esp_job_move(db, s->id, s->attempt, s->to, s->to == ESP_JOB_SUCCEEDED ? s->text : NULL, error, reterr);
}

static esp_code job_progress(esp_db *db, void *user, esp_error *reterr) {
    step *s = user;
    return esp_job_progress(db, s->id, s->attempt, s->text, reterr);
}

static esp_code job_next(esp_db *db, void *user, esp_error *reterr) {
    return esp_job_next(db, &((step *)user)->row, reterr);
}

static esp_code job_find(esp_db *db, void *user, esp_error *reterr) {
    step *s = user;
    return esp_job_find(db, s->id, &s->row, reterr);
}

static esp_code job_crashed(esp_db *db, void *user, esp_error *reterr) {
    const step *s = user;
    return esp_job_crashed(db, s->id, reterr);
}

static esp_code job_recover(esp_db *db, void *user, esp_error *reterr) {
    (void)user;
    return esp_job_recover(db, reterr);
}

static esp_code write_step(esp_write_fn *run, step *s, esp_error *reterr) {
    esp_job_row_done(&s->row);
    return esp_registry_write(registry, run, s, reterr);
}

START_TEST(jobs__run_to_their_end_and_stay_there) {
    esp_error error = {0};
    step s = {0};
    must(write_step(job_insert, &s, &error), &error);
    s.to = ESP_JOB_RUNNING;
    must(write_step(job_move, &s, &error), &error);
    s.text = "{\"fraction\":0.5}";
    ck_assert_int_eq(write_step(job_progress, &s, &error), ESP_STATE); /* attempt 0 is over */
    s.attempt = 1;
    must(write_step(job_progress, &s, &error), &error);
    s.to = ESP_JOB_SUCCEEDED;
    s.text = "{\"models\":[]}";
    s.attempt = 0;
    ck_assert_int_eq(write_step(job_move, &s, &error), ESP_STATE); /* a late result */
    s.attempt = 1;
    must(write_step(job_move, &s, &error), &error);
    must(write_step(job_find, &s, &error), &error);
    ck_assert_int_eq(s.row.state, ESP_JOB_SUCCEEDED);
    ck_assert_int_eq(s.row.attempt, 1);
    ck_assert_str_eq(s.row.result, "{\"models\":[]}");
    ck_assert_str_eq(s.row.progress, "{\"fraction\":0.5}");
    ck_assert(s.row.started_ms >= s.row.created_ms && s.row.ended_ms >= s.row.started_ms);
    s.to = ESP_JOB_QUEUED;
    ck_assert_int_eq(write_step(job_move, &s, &error), ESP_STATE);
    ck_assert_int_eq(write_step(job_progress, &s, &error), ESP_STATE);
    esp_job_row_done(&s.row);
}
END_TEST

START_TEST(jobs__next_is_the_highest_priority_then_the_oldest) {
    esp_error error = {0};
    step a = {0}, b = {.priority = 5}, c = {.priority = 5}, n = {0};
    ck_assert_int_eq(write_step(job_next, &n, &error), ESP_NOT_FOUND);
    must(write_step(job_insert, &a, &error), &error);
    must(write_step(job_insert, &b, &error), &error);
    must(write_step(job_insert, &c, &error), &error);
    const char *const order[] = {b.id, c.id, a.id};
    for (int i = 0; i < 3; i++) {
        must(write_step(job_next, &n, &error), &error);
        ck_assert_str_eq(n.row.id, order[i]);
        strcpy(n.id, n.row.id);
        n.attempt = 0;
        n.to = ESP_JOB_RUNNING;
        must(write_step(job_move, &n, &error), &error);
    }
    ck_assert_int_eq(write_step(job_next, &n, &error), ESP_NOT_FOUND);
    esp_job_row_done(&n.row);
}
END_TEST

static esp_code job_delay(esp_db *db, void *user, esp_error *reterr) {
    const step *s = user;
    return esp_job_delay(db, s->id, s->attempt, reterr);
}

static esp_code job_next_due(esp_db *db, void *user, esp_error *reterr) {
    step *s = user;
    return esp_job_next_due(db, &s->attempt, reterr);
}

START_TEST(jobs__one_that_waits_lets_others_go_first) {
    esp_error error = {0};
    step first = {.priority = 5}, second = {0}, n = {0}, due = {.attempt = -1};
    must(write_step(job_insert, &first, &error), &error);
    must(write_step(job_insert, &second, &error), &error);
    first.attempt = esp_clock_wall_ms() + 100000;
    must(write_step(job_delay, &first, &error), &error);
    must(write_step(job_next, &n, &error), &error);
    ck_assert_str_eq(n.row.id, second.id);
    esp_job_row_done(&n.row);
    second.attempt = first.attempt - 1000;
    must(write_step(job_delay, &second, &error), &error);
    ck_assert_int_eq(write_step(job_next, &n, &error), ESP_NOT_FOUND);
    must(write_step(job_next_due, &due, &error), &error);
    ck_assert_int_eq(due.attempt, second.attempt);
    first.attempt = esp_clock_wall_ms();
    must(write_step(job_delay, &first, &error), &error);
    must(write_step(job_next, &n, &error), &error);
    ck_assert_str_eq(n.row.id, first.id);
    esp_job_row_done(&n.row);
}
END_TEST

static esp_code job_say(esp_db *db, void *user, esp_error *reterr) {
    const step *s = user;
    return esp_job_say(db, s->id, 1, s->text, reterr);
}

START_TEST(jobs__only_the_last_words_are_kept) {
    esp_error error = {0};
    step s = {0};
    must(write_step(job_insert, &s, &error), &error);
    for (int i = 0; i < 70; i++) {
        char words[20];
        snprintf(words, sizeof words, "line %d\n", i);
        s.text = words;
        must(write_step(job_say, &s, &error), &error);
    }
    ck_assert_int_eq(count("SELECT count(*) FROM job_event WHERE type = 'log'"), 64);
    ck_assert_int_eq(count("SELECT count(*) FROM job_event WHERE type = 'log' AND data LIKE '%\"line 69%'"), 1);
    ck_assert_int_eq(count("SELECT count(*) FROM job_event WHERE type = 'log' AND data LIKE '%\"line 5\\%'"), 0);
}
END_TEST

START_TEST(jobs__recovery_requeues_running_and_ends_cancelling) {
    esp_error error = {0};
    step run = {0}, cancel = {0};
    must(write_step(job_insert, &run, &error), &error);
    must(write_step(job_insert, &cancel, &error), &error);
    run.to = cancel.to = ESP_JOB_RUNNING;
    must(write_step(job_move, &run, &error), &error);
    must(write_step(job_move, &cancel, &error), &error);
    cancel.to = ESP_JOB_CANCELLING;
    cancel.attempt = -1;
    must(write_step(job_move, &cancel, &error), &error);
    esp_registry_close(registry);
    open_registry();
    must(write_step(job_recover, &run, &error), &error);
    must(write_step(job_find, &run, &error), &error);
    must(write_step(job_find, &cancel, &error), &error);
    ck_assert_int_eq(run.row.state, ESP_JOB_QUEUED);
    ck_assert_int_eq(run.row.crashes, 0);
    ck_assert_int_eq(run.row.started_ms, 0);
    ck_assert_int_eq(cancel.row.state, ESP_JOB_CANCELLED);
    run.to = ESP_JOB_RUNNING;
    run.attempt = -1;
    must(write_step(job_move, &run, &error), &error);
    must(write_step(job_crashed, &run, &error), &error);
    run.to = ESP_JOB_QUEUED;
    run.text = "{\"code\":\"WORKER_LOST\"}";
    must(write_step(job_move, &run, &error), &error);
    must(write_step(job_find, &run, &error), &error);
    ck_assert_int_eq(run.row.crashes, 1);
    ck_assert_int_eq(run.row.attempt, 2);
    esp_job_row_done(&run.row);
    esp_job_row_done(&cancel.row);
}
END_TEST

START_TEST(jobs__events_are_numbered_and_old_progress_goes) {
    esp_error error = {0};
    step s = {0};
    esp_event_row events[10];
    size_t n = 0;
    esp_db *db = NULL;
    must(write_step(job_insert, &s, &error), &error);
    s.to = ESP_JOB_RUNNING;
    must(write_step(job_move, &s, &error), &error);
    s.attempt = 1;
    s.text = "{\"fraction\":0.1}";
    for (int i = 0; i < 2005; i++) {
        if (i < 2004) {
            static step copies[2005];
            copies[i] = s;
            esp_registry_write_async(registry, job_progress, flood_done, &copies[i]);
        } else {
            must(write_step(job_progress, &s, &error), &error);
        }
    }
    ck_assert_int_eq(count("SELECT count(*) FROM job_event WHERE type = 'progress'"), 2000);
    ck_assert_int_eq(count("SELECT count(*) FROM job_event WHERE type = 'state'"), 2);
    ck_assert_int_eq(count("SELECT max(seq) FROM job_event"), 2007);
    must(esp_registry_read_begin(registry, &db, &error), &error);
    must(esp_event_read(db, s.id, 0, 3, events, &n, &error), &error);
    ck_assert_uint_eq(n, 3);
    ck_assert_int_eq(events[0].seq, 1);
    ck_assert_str_eq(events[0].type, "state");
    ck_assert_int_eq(events[2].seq, 8); /* progress 3 to 7 have gone */
    for (size_t i = 0; i < n; i++) free(events[i].data);
    must(esp_event_read(db, s.id, 2005, 10, events, &n, &error), &error);
    ck_assert_uint_eq(n, 2);
    for (size_t i = 0; i < n; i++) free(events[i].data);
    must(esp_event_read(db, s.id, 2007, 10, events, &n, &error), &error);
    ck_assert_uint_eq(n, 0);
    esp_registry_read_end(registry, db);
}
END_TEST

/* The trigger and states.def are two writings of one rule: every pair of states is tried against both. */
START_TEST(jobs__trigger_allows_exactly_the_moves_of_states_def) {
    static const char *const terminal[] = {"succeeded", "failed", "cancelled", "timed_out"};
    static const char *const way[][3] = {
        [ESP_JOB_QUEUED] = {NULL},
        [ESP_JOB_RUNNING] = {"running"},
        [ESP_JOB_CANCELLING] = {"running", "cancelling"},
        [ESP_JOB_SUCCEEDED] = {"running", "succeeded"},
        [ESP_JOB_FAILED] = {"running", "failed"},
        [ESP_JOB_CANCELLED] = {"cancelled"},
        [ESP_JOB_TIMED_OUT] = {"running", "timed_out"},
    };
    sqlite3 *db = raw();
    char sql[400];
    for (int from = 0; from < ESP_JOB_STATES; from++) {
        for (int to = 0; to < ESP_JOB_STATES; to++) {
            if (from == to) continue;
            ck_assert_int_eq(sqlite3_exec(db,
                                          "SAVEPOINT s; INSERT INTO job (id, kind, state, priority, run_limit_s, spec, created_ms)"
                                          " VALUES ('job_1', 'train', 'queued', 0, 0, '{}', 0)",
                                          NULL, NULL, NULL),
                             SQLITE_OK);
            for (int i = 0; i < 3 && way[from][i]; i++) {
                bool ends = i == 1 ? from != ESP_JOB_CANCELLING : from == ESP_JOB_CANCELLED;
                snprintf(sql, sizeof sql, "UPDATE job SET state = '%s', ended_ms = %s", way[from][i], ends ? "1" : "NULL");
                ck_assert_int_eq(sqlite3_exec(db, sql, NULL, NULL, NULL), SQLITE_OK);
            }
            bool ends = false;
            for (int i = 0; i < 4; i++) ends |= strcmp(terminal[i], esp_job_state_names[to]) == 0;
            ck_assert(esp_job_state_terminal((esp_job_state)to) == ends);
            snprintf(sql, sizeof sql, "UPDATE job SET state = '%s', ended_ms = %s", esp_job_state_names[to], ends ? "1" : "NULL");
            bool allowed = sqlite3_exec(db, sql, NULL, NULL, NULL) == SQLITE_OK;
            ck_assert_msg(allowed == esp_job_move_allowed((esp_job_state)from, (esp_job_state)to), "%s > %s", esp_job_state_names[from],
                          esp_job_state_names[to]);
            sqlite3_exec(db, "ROLLBACK TO s; RELEASE s", NULL, NULL, NULL);
        }
    }
    sqlite3_close(db);
}
END_TEST

START_TEST(names__and_ids) {
    static const char *const good[] = {"a", "A-1.b_c", "9", "rail", "job_runner"};
    static const char *const bad[] = {"", "-a", ".a", "_a", "a b", "a/b", "a@b", "\xc3\xa9", "a\n", "mdl_01m8125g05eddw43v8at8z"};
    char longest[140], id[ESP_ID_MAX], last[ESP_ID_MAX] = "";
    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++) ck_assert(esp_name_ok(good[i]));
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) ck_assert(!esp_name_ok(bad[i]));
    memset(longest, 'a', sizeof longest);
    longest[128] = '\0';
    ck_assert(esp_name_ok(longest));
    longest[128] = 'a';
    longest[129] = '\0';
    ck_assert(!esp_name_ok(longest));
    for (int i = 0; i < 10000; i++) {
        esp_id_make("job", id);
        ck_assert_str_gt(id, last);
        strcpy(last, id);
    }
}
END_TEST

int main(void) {
    Suite *suite = suite_create("registry");
    TCase *c = tcase_create("registry");
    tcase_add_checked_fixture(c, setup, teardown);
    tcase_set_timeout(c, 60);
    tcase_add_test(c, registry__gives_versions_and_finds_by_reference);
    tcase_add_test(c, registry__failed_write_undoes_only_itself);
    tcase_add_test(c, registry__async_writes_keep_order_and_isolation_within_a_commit);
    tcase_add_test(c, registry__readers_cannot_write_and_see_one_snapshot);
    tcase_add_test(c, registry__query_past_its_deadline_is_stopped);
    tcase_add_test(c, registry__change_counter_moves_with_commits_only);
    tcase_add_test(c, registry__second_daemon_on_the_directory_is_refused);
    tcase_add_test(c, registry__newer_schema_and_foreign_file_are_refused);
    tcase_add_test(c, registry__reopens_with_what_was_committed);
    tcase_add_test(c, blobs__are_stored_once_under_their_hash);
    tcase_add_test(c, blobs__half_written_ones_are_swept_at_start);
    tcase_add_test(c, aliases__move_with_conditions_and_history);
    tcase_add_test(c, models__registering_twice_gives_one_version);
    tcase_add_test(c, jobs__run_to_their_end_and_stay_there);
    tcase_add_test(c, jobs__next_is_the_highest_priority_then_the_oldest);
    tcase_add_test(c, jobs__one_that_waits_lets_others_go_first);
    tcase_add_test(c, jobs__only_the_last_words_are_kept);
    tcase_add_test(c, jobs__recovery_requeues_running_and_ends_cancelling);
    tcase_add_test(c, jobs__events_are_numbered_and_old_progress_goes);
    tcase_add_test(c, jobs__trigger_allows_exactly_the_moves_of_states_def);
    tcase_add_test(c, names__and_ids);
    suite_add_tcase(suite, c);
    return run_suite(suite);
}
