/* SPDX-License-Identifier: Apache-2.0
 * A large registry by direct SQL, with a dataset, a model and a task that work beside it when the daemon runs. */
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "parts.h"
#include "registry/registry.h"
#include "support/wire.h"

static const char fill_models[] =
    "WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i + 1 < ?1)"
    " INSERT INTO model (id, name, version, sha256, kind, parent, dataset, ny, nu, history, relu, parameters, nonzero, spec, metrics, created_ms)"
    " SELECT printf('mdl_%022d', i), printf('net-%04d', i / 100), i % 100 + 1, printf('%064x', i), iif(i % 10 = 9, 'policy', 'dynamics'),"
    " iif(i % 100 > 0, printf('mdl_%022d', i - 1), NULL), 'dat_bench', 2 + i % 7, 1 + i % 3, 1 + i % 4, 256 - (i * 5) % 256, 1000 + i % 5000,"
    " 1000 - (i * 7) % 990, '{\"kind\":\"train\"}', printf('{\"validation_rmse\":%.6f}', (i * 7919 % 100003) / 1e6), 1700000000000 + i * 1000 FROM n";
static const char fill_certificates[] =
    "WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i + 1 < ?1)"
    " INSERT INTO certificate (id, model, reference, kind, norm, method, strength, status, domain_sha256, value, lower, tolerance, seconds, record, "
    "created_ms)"
    " SELECT printf('cer_%022d', i), printf('mdl_%022d', i * 10007 % ?2), iif(i % 4 > 0, printf('mdl_%022d', i % ?2), NULL),"
    " rtrim(substr('difference closed_formlipschitz  range      ', 1 + 11 * (i % 4), 11)), iif(i % 3, 'linf', 'l2'),"
    " rtrim(substr('split   crown   intervaltwin    ', 1 + 8 * (i / 3 % 4), 8)), iif(i % 50, 'proved', 'empirical'), iif(i % 20, 'proved', "
    "'time_limit'),"
    " printf('%064x', i % 1000), (i * 104729 % 1000003) / 1000.0, (i * 1299709 % 1000003) / 2000.0, (i % 5) * 1e-9, (i * 31 % 10007) / 1000.0,"
    " '{\"domain\":{}}', 1700000000000 + i * 100 FROM n";

static void sql(sqlite3 *db, const char *text, long a, long b) {
    sqlite3_stmt *s = NULL;
    if (sqlite3_prepare_v2(db, text, -1, &s, NULL) != SQLITE_OK) {
        fprintf(stderr, "%s: %s\n", text, sqlite3_errmsg(db));
        exit(1);
    }
    if (sqlite3_bind_parameter_count(s) > 0) sqlite3_bind_int64(s, 1, a);
    if (sqlite3_bind_parameter_count(s) > 1) sqlite3_bind_int64(s, 2, b);
    int step;
    while ((step = sqlite3_step(s)) == SQLITE_ROW) continue;
    if (step != SQLITE_DONE) {
        fprintf(stderr, "%s\n", sqlite3_errmsg(db));
        exit(1);
    }
    sqlite3_finalize(s);
}

/* Indexes and triggers of the two tables, out of the way while they are filled: their names or their statements, one a line. */
static void parts(sqlite3 *db, const char *what, esp_buf *out) {
    char query[400];
    sqlite3_stmt *s = NULL;
    snprintf(query, sizeof query,
             "SELECT %s || char(10) || ';' FROM sqlite_schema WHERE sql NOT NULL AND tbl_name IN ('model', 'certificate') AND type IN ('index', "
             "'trigger')",
             what);
    if (sqlite3_prepare_v2(db, query, -1, &s, NULL) != SQLITE_OK) exit(1);
    while (sqlite3_step(s) == SQLITE_ROW) esp_buf_puts(out, (const char *)sqlite3_column_text(s, 0));
    sqlite3_finalize(s);
}

static void script(sqlite3 *db, const char *text) {
    char *message = NULL;
    if (sqlite3_exec(db, text, NULL, NULL, &message) == SQLITE_OK) return;
    fprintf(stderr, "%s\n", message);
    exit(1);
}

void fill_registry(test_daemon *daemon, long models, long certificates) {
    char data[80], path[100];
    esp_error error = {0};
    esp_registry *registry = NULL;
    sqlite3 *db = NULL;
    struct stat st;
    int64_t start = esp_clock_now_ns();
    strcpy(daemon->dir, "/tmp/espalier-test-XXXXXX");
    if (!mkdtemp(daemon->dir)) exit(1);
    snprintf(data, sizeof data, "%s/data", daemon->dir);
    snprintf(path, sizeof path, "%s/registry.db", data);
    if (esp_registry_open(data, &registry, &error)) { /* makes the schema */
        fprintf(stderr, "%s\n", error.message);
        exit(1);
    }
    esp_registry_close(registry);
    if (sqlite3_open(path, &db) != SQLITE_OK) exit(1);
    sql(db, "PRAGMA synchronous=OFF", 0, 0);
    sql(db, "PRAGMA cache_size=-200000", 0, 0);
    sql(db, "BEGIN", 0, 0);
    sql(db, "INSERT INTO dataset VALUES ('dat_bench', 'bench', 1, printf('%064d', 0), 'csv', 1, 2, 2, 1, 10, 1700000000000)", 0, 0);
    esp_buf drop = {0}, make = {0};
    parts(db, "'DROP ' || type || ' ' || name", &drop);
    parts(db, "sql", &make);
    script(db, esp_buf_text(&drop));
    sql(db, fill_models, models, 0);
    sql(db, fill_certificates, certificates, models);
    script(db, "UPDATE certificate SET (model_name, model_version, relu, sparsity) ="
               " (SELECT m.name, m.version, m.relu, 1.0 - 1.0 * m.nonzero / m.parameters FROM model m WHERE m.id = certificate.model)");
    script(db, esp_buf_text(&make));
    esp_buf_done(&drop);
    esp_buf_done(&make);
    sql(db, "COMMIT", 0, 0);
    sql(db, "PRAGMA wal_checkpoint(TRUNCATE)", 0, 0);
    sqlite3_close(db);
    if (stat(path, &st) != 0) exit(1);
    printf("%ld models, %ld certificates: %.0f MB, made in %.1f s\n\n", models, certificates, (double)st.st_size / 1e6,
           esp_clock_seconds_since(start));
}

/* ---- what works ----------------------------------------------------------------------------------------------------- */

static void make(int fd, const char *path, const char *type, const char *body, size_t len) {
    static char text[1 << 20];
    char header[80];
    const char *reply = text;
    snprintf(header, sizeof header, "Content-Type: %s\r\n", type);
    int status = wire_call(fd, &(wire_request){"POST", path, header, body, len}, text, sizeof text, &reply);
    if (status == 201) return;
    fprintf(stderr, "%s: %d %.300s\n", path, status, reply);
    exit(1);
}

void fill_things(const test_daemon *daemon) {
    static const char model[] = "{\"layers\":[{\"w\":[[1,0.5]],\"b\":[0],\"activation\":\"identity\"}],\"nu\":1}";
    static const char task[] = "{\"name\":\"reach\",\"model\":\"line\",\"horizon\":1,\"cost\":{\"stage\":[{\"on\":\"y\",\"weight\":1,\"norm\":\"l1\","
                               "\"target\":\"goal\"}],\"terminal\":[]},\"input\":{\"lower\":[-1],\"upper\":[1],\"safe\":[0]}}";
    esp_buf data = {0};
    int fd = wire_dial(daemon->port);
    for (int i = 0; i < 200; i++) {
        esp_buf_printf(&data, "{\"y\":[[%d,0]", i % 7);
        for (int t = 1; t <= 20; t++) esp_buf_printf(&data, ",[%d.%d,%d]", i % 7, t % 10, t);
        esp_buf_puts(&data, "],\"u\":[[0]");
        for (int t = 1; t < 20; t++) esp_buf_printf(&data, ",[%d]", t % 3);
        esp_buf_puts(&data, "]}\n");
    }
    make(fd, "/v1/models?name=line&kind=dynamics", "application/json", model, sizeof model - 1);
    make(fd, "/v1/tasks", "application/json", task, sizeof task - 1);
    make(fd, "/v1/datasets?name=rail", "application/x-ndjson", data.data, data.len);
    esp_buf_done(&data);
    close(fd);
}
