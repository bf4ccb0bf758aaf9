/* SPDX-License-Identifier: Apache-2.0
 * The operator's commands beside a daemon and without one: --check finds what was damaged, --backup is a registry, gc removes
 * what no row names and nothing else. */
#include <glob.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "registry/query.h"
#include "registry/registry.h"
#include "support/http.h"

static test_daemon d;
static const char net[] = "{\"layers\":[{\"w\":[[1,2]],\"b\":[0],\"activation\":\"relu\"}]}";
static const char data[] = "{\"y\":[[0],[1],[2]],\"u\":[[1],[1]]}\n";

static int command(char ret_said[4096], const char *a, const char *b) {
    char dir[100];
    const char *argv[] = {a, b ? b : "--data", b ? "--data" : NULL, dir, NULL};
    snprintf(dir, sizeof dir, "%s/data", d.dir);
    if (!b) argv[2] = dir, argv[3] = NULL;
    return daemon_try(argv, ret_said, 4096);
}

static void expect(int status, const char *text, const char *a, const char *b) {
    char said[4096];
    int got = command(said, a, b);
    ck_assert_msg(got == status && strstr(said, text), "%s %s: %d, not %d with \"%s\": %s", a, b ? b : "", got, status, text, said);
}

static void fill(void) {
    http_reply reply = http_json(&d, "POST", "/v1/models?name=kept&kind=policy", net);
    expect_status(reply, 201);
    http_done(&reply);
    reply = http_json(&d, "POST", "/v1/models?name=dropped&kind=policy", "{\"layers\":[{\"w\":[[3,4]],\"b\":[0],\"activation\":\"relu\"}]}");
    expect_status(reply, 201);
    http_done(&reply);
    reply = http_post(&d, "/v1/datasets?name=kept", "application/x-ndjson", data, sizeof data - 1);
    expect_status(reply, 201);
    http_done(&reply);
}

static size_t blobs(void) {
    char pattern[120];
    glob_t found;
    snprintf(pattern, sizeof pattern, "%s/data/blobs/*/*", d.dir);
    size_t n = glob(pattern, 0, NULL, &found) == 0 ? found.gl_pathc : 0;
    globfree(&found);
    return n;
}

static void blob_of(const char *path, char ret[300]) {
    http_reply reply = http_get(&d, path);
    expect_status(reply, 200);
    const char *sha256 = reply_text(&reply, "/sha256");
    snprintf(ret, 300, "%s/data/blobs/%.2s/%s", d.dir, sha256, sha256);
    http_done(&reply);
}

static esp_code run_sql(esp_db *db, void *user, esp_error *reterr) {
    return esp_db_run(db, reterr, user, "");
}

/* As by another tool, with the daemon away. */
static void tamper(const char *sql) {
    char dir[100], text[200];
    esp_registry *registry = NULL;
    esp_error error = {0};
    snprintf(dir, sizeof dir, "%s/data", d.dir);
    snprintf(text, sizeof text, "%s", sql);
    ck_assert_int_eq(esp_registry_open(dir, &registry, &error), ESP_OK);
    ck_assert_msg(esp_registry_write(registry, run_sql, text, &error) == ESP_OK, "%s: %s", sql, error.message);
    esp_registry_close(registry);
}

static void expect_rows_are_held_against_blobs(void) {
    static const char *const lies[][3] = {
        {"UPDATE dataset SET transitions = 7", "transitions is 7 in its row, 2 in its blob", "UPDATE dataset SET transitions = 2"},
        {"UPDATE dataset SET trajectories = 2", "trajectories is 2 in its row, 1", "UPDATE dataset SET trajectories = 1"},
        {"UPDATE dataset SET format = 'csv'", "line 1", "UPDATE dataset SET format = 'ndjson'"},
        {"UPDATE model SET relu = 3", "relu is 3 in its row, 1 in its blob", "UPDATE model SET relu = 1"},
        {"UPDATE model SET nonzero = 1", "nonzero is 1 in its row, 2 in its blob", "UPDATE model SET nonzero = 2"},
        {"UPDATE model SET kind = 'dynamics'", "kind is dynamics in its row, policy in its blob", "UPDATE model SET kind = 'policy'"},
    };
    for (size_t i = 0; i < sizeof lies / sizeof *lies; i++) {
        tamper(lies[i][0]);
        expect(1, lies[i][1], "--check", NULL);
        tamper(lies[i][2]);
    }
    expect(0, "good: 2 rows", "--check", NULL);
    tamper(lies[0][0]);
    expect(0, "good: 2 rows", "--check", "--quick"); /* which does not read datasets */
    tamper(lies[0][2]);
}

/* One case: the steps build on each other, and the daemon comes and goes. */
START_TEST(maintain__checks_copies_and_collects) {
    char blob[300], away[310], copy[200], restored[200], said[4096];
    daemon_start(&d, NULL);
    fill();
    ck_assert_uint_eq(blobs(), 3);
    expect(0, "good: 3 rows", "--check", NULL);
    expect(0, "0 of 3 blobs", "gc", NULL);

    snprintf(copy, sizeof copy, "%s/copy.db", d.dir);
    expect(0, "holds the rows", "--backup", copy);
    expect(1, "already", "--backup", copy);
    expect(1, "", "--backup", "/nonexistent/copy.db");

    http_reply reply = http_delete(&d, "/v1/models/dropped");
    expect_status(reply, 204);
    http_done(&reply);
    expect(0, "would remove", "gc", NULL);
    expect(1, "in use", "gc", "--apply");
    ck_assert_uint_eq(blobs(), 3);

    blob_of("/v1/datasets/kept", blob);
    snprintf(away, sizeof away, "%s.away", blob);
    ck_assert_int_eq(rename(blob, away), 0);
    expect(1, "is missing", "--check", NULL);
    FILE *file = fopen(blob, "w");
    fputs("{\"y\":[[0],[1],[3]],\"u\":[[1],[1]]}\n", file); /* as long, and another */
    fclose(file);
    expect(1, "has the content of", "--check", NULL);
    ck_assert_int_eq(rename(away, blob), 0);
    ck_assert_int_eq(truncate(blob, 5), 0);
    expect(1, "has 5 bytes", "--check", NULL);
    file = fopen(blob, "w");
    fputs(data, file);
    fclose(file);
    expect(0, "good: 2 rows", "--check", NULL);

    ck_assert_int_eq(daemon_stop(&d), 0);
    expect(0, "1 of 3 blobs removed", "gc", "--apply");
    ck_assert_uint_eq(blobs(), 2);
    expect_rows_are_held_against_blobs();

    /* The copy is a registry of the moment before the deletion: its dropped model has lost its blob since. */
    snprintf(restored, sizeof restored, "%s/restored", d.dir);
    char move[1000];
    snprintf(move, sizeof move, "mkdir %s && cp -r %s/data/blobs %s/ && mv %s %s/registry.db", restored, d.dir, restored, copy, restored);
    ck_assert_int_eq(system(move), 0);
    const char *argv[] = {"--check", "--data", restored, NULL};
    ck_assert_int_eq(daemon_try(argv, said, sizeof said), 1);
    ck_assert_msg(strstr(said, "wrong: model") && !strstr(said, "wrong: dataset") && strstr(said, "3 rows"), "%s", said);

    daemon_start(&d, NULL);
    blob_of("/v1/models/kept", blob);
    ck_assert_int_eq(access(blob, R_OK), 0);
    ck_assert_int_eq(daemon_stop(&d), 0);
}
END_TEST

START_TEST(maintain__refuses_what_is_no_registry) {
    char said[4096];
    const char *none[] = {"--check", "--data", "/nonexistent", NULL}, *wrong[] = {"gc", "--wrokers", "3", NULL};
    ck_assert_int_eq(daemon_try(none, said, sizeof said), 1);
    ck_assert_int_eq(daemon_try(wrong, said, sizeof said), 2);
    ck_assert_ptr_nonnull(strstr(said, "--wrokers"));
}
END_TEST

int main(void) {
    Suite *suite = suite_create("maintain");
    TCase *tcase = tcase_create("maintain");
    tcase_set_timeout(tcase, 60);
    tcase_add_test(tcase, maintain__refuses_what_is_no_registry);
    tcase_add_test(tcase, maintain__checks_copies_and_collects);
    suite_add_tcase(suite, tcase);
    strcpy(d.dir, "/tmp/espalier-test-XXXXXX");
    if (!mkdtemp(d.dir)) return 1;
    return daemon_finish(&d, run_suite(suite));
}
