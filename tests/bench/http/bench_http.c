/* SPDX-License-Identifier: Apache-2.0
 * How many requests a second the daemon answers, and how long every list takes on a large registry.
 *
 *     bench_http [--seconds 3] [--connections 32] [--models 100000] [--certificates 1000000]
 *
 * The registry is made by direct SQL in a directory under /tmp: ladders of a hundred versions a name, ten certificates a model,
 * values spread over decades. First the load: health, the table of bounds with 100 rows, one model. Then every filter and
 * every sort that the lists of models and bounds take, both ways, and the page after the first: the longest of three each, of
 * which each is a different page, so that none is answered from memory. Times are the daemon's processor time, which other
 * programs on the machine do not change. */
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "load.h"
#include "lists.h"
#include "registry/registry.h"
#include "support/daemon.h"

static test_daemon d;
static struct {
    double seconds;
    int connections;
    long models, certificates;
} opts = {3, 32, 100000, 1000000};

/* ---- the registry --------------------------------------------------------------------------------------------------- */

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

static void fill(void) {
    char data[80], path[100];
    esp_error error = {0};
    esp_registry *registry = NULL;
    sqlite3 *db = NULL;
    struct stat st;
    int64_t start = esp_clock_now_ns();
    strcpy(d.dir, "/tmp/espalier-test-XXXXXX");
    if (!mkdtemp(d.dir)) exit(1);
    snprintf(data, sizeof data, "%s/data", d.dir);
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
    sql(db, fill_models, opts.models, 0);
    sql(db, fill_certificates, opts.certificates, opts.models);
    script(db, "UPDATE certificate SET (model_name, model_version, relu, sparsity) ="
               " (SELECT m.name, m.version, m.relu, 1.0 - 1.0 * m.nonzero / m.parameters FROM model m WHERE m.id = certificate.model)");
    script(db, esp_buf_text(&make));
    esp_buf_done(&drop);
    esp_buf_done(&make);
    sql(db, "COMMIT", 0, 0);
    sql(db, "PRAGMA wal_checkpoint(TRUNCATE)", 0, 0);
    sqlite3_close(db);
    if (stat(path, &st) != 0) exit(1);
    printf("%ld models, %ld certificates: %.0f MB, made in %.1f s\n\n", opts.models, opts.certificates, (double)st.st_size / 1e6,
           esp_clock_seconds_since(start));
}

/* ---- load ----------------------------------------------------------------------------------------------------------- */

static void load(const char *what, const char *path) {
    load_result r = load_run(d.port, d.pid, path, NULL, opts.connections, opts.seconds);
    printf("%-24s %9.0f/s  p50 %7.3f ms  p99 %7.3f ms  max %8.3f ms  %7.0f bytes  daemon %6.1f us, client %6.1f us of processor a reply%s\n", what,
           r.per_second, r.p50_ms, r.p99_ms, r.max_ms, r.bytes, r.daemon_cpu_us, r.client_cpu_us, r.others ? "  NOT ALL 200" : "");
    fflush(stdout);
}

/* ---- every filter and sort ------------------------------------------------------------------------------------------ */

typedef struct worst {
    double ms, wall_ms;
    char path[400];
    long requests, late;
} worst;

/* Processor time of the daemon for the page; the clock's in ret_wall_ms. */
static double one(const char *path, char ret_next[300], double *ret_wall_ms) {
    const char *body = NULL;
    double before = load_cpu_ms(d.pid);
    int status = load_get(d.port, path, &body, ret_wall_ms);
    double ms = load_cpu_ms(d.pid) - before;
    if (status != 200) printf("%s: %d %.300s\n", path, status, body);
    const char *next = strstr(body, "\"next\":\"");
    ret_next[0] = '\0';
    if (next) sscanf(next, "\"next\":\"%299[^\"]", ret_next);
    return ms;
}

/* The page, the one behind it, and another of a different size. */
static void look(worst *w, const char *list, const char *query) {
    char path[1400], next[300], again[300];
    for (int i = 0; i < 3; i++) {
        snprintf(path, sizeof path, i == 1 ? "%s?%s&limit=%d&cursor=%s" : "%s?%s&limit=%d", list, query, i == 2 ? 99 : 100, next);
        if (i == 1 && !*next) continue;
        double wall_ms = 0, ms = one(path, i == 0 ? next : again, &wall_ms);
        if (wall_ms > w->wall_ms) w->wall_ms = wall_ms;
        w->requests++;
        w->late += ms > 20;
        if (ms > 20) printf("    %8.1f ms  %.160s\n", ms, path);
        if (ms <= w->ms) continue;
        w->ms = ms;
        snprintf(w->path, sizeof w->path, "%.399s", path);
    }
}

/* A value of the column from the middle of the table, as it would be asked for; 0 when there is none. */
static bool sample(const char *list, const char *field, const char *cursor, char ret[200]) {
    char path[800], key[80];
    snprintf(path, sizeof path, "%s?limit=1%s%s", list, *cursor ? "&" : "", cursor);
    const char *body = NULL;
    double ms = 0;
    (void)load_get(d.port, path, &body, &ms);
    snprintf(key, sizeof key, "\"%s\":", field);
    const char *at = strstr(body, key);
    bool good = at != NULL && strncmp(at + strlen(key), "null", 4) != 0 && at[strlen(key)] != '[';
    ret[0] = '\0';
    if (good) {
        at += strlen(key);
        size_t n = 0;
        bool quoted = *at == '"';
        for (at += quoted; n < 199 && *at && (quoted ? *at != '"' : !strchr(",}", *at)); at++) ret[n++] = *at;
        ret[n] = '\0';
    }
    return good;
}

static void survey(const char *list, const esp_list *described) {
    static const char *const ops[] = {"=", "__lt=", "__lte=", "__gt=", "__gte=", "__ne="};
    worst w = {0};
    char query[600], value[200];
    for (const esp_column *c = described->columns; c->field; c++) {
        for (int down = 0; c->flags & ESP_COL_SORT && down < 2; down++) {
            snprintf(query, sizeof query, "sort=%s%s", down ? "-" : "", c->field);
            look(&w, list, query);
        }
        /* values: of a row in the middle, and of the smallest and largest rows by this column */
        snprintf(query, sizeof query, "sort=%s", c->field);
        const char *const froms[] = {"sort=-created_at&created_at__lt=1700050000000", query};
        for (int f = 0; c->flags & ESP_COL_FILTER && f < 2; f++) {
            char from[600];
            strcpy(from, f == 1 && !(c->flags & ESP_COL_SORT) ? "" : froms[f]);
            if (!sample(list, c->field, from, value)) continue;
            for (size_t o = 0; o < sizeof ops / sizeof *ops; o++) {
                char filter[400];
                snprintf(filter, sizeof filter, "%s%s%s", c->field, ops[o], value);
                look(&w, list, filter);
            }
            if (c->type == ESP_COL_TEXT && strlen(value) > 4) {
                char filter[400];
                snprintf(filter, sizeof filter, "%s__glob=%.*s*", c->field, (int)strlen(value) - 2, value);
                look(&w, list, filter);
            }
        }
    }
    printf("%-12s %ld pages, %ld over 20 ms of processor; the longest %.1f ms: %s (by the clock %.0f ms, of whichever page)\n", list, w.requests,
           w.late, w.ms, w.path, w.wall_ms);
    fflush(stdout);
}

int main(int argc, char **argv) {
    for (int i = 1; i + 1 < argc; i += 2) {
        if (strcmp(argv[i], "--seconds") == 0) opts.seconds = atof(argv[i + 1]);
        if (strcmp(argv[i], "--connections") == 0) opts.connections = atoi(argv[i + 1]);
        if (strcmp(argv[i], "--models") == 0) opts.models = atol(argv[i + 1]);
        if (strcmp(argv[i], "--certificates") == 0) opts.certificates = atol(argv[i + 1]);
    }
    static const char *const options[] = {"--log-level", "1", NULL};
    fill();
    daemon_start(&d, options);
    printf("%d connections, %.1f s each, client and daemon on the same %ld processors\n", opts.connections, opts.seconds,
           sysconf(_SC_NPROCESSORS_ONLN));
    load("GET /healthz", "/healthz");
    load("GET /v1/bounds, 100 rows", "/v1/bounds?limit=100");
    load("GET /v1/models/net-0001", "/v1/models/net-0001");
    printf("\nevery filter and sort\n");
    survey("/v1/models", &esp_list_models);
    survey("/v1/bounds", &esp_list_bounds);
    return daemon_finish(&d, 0);
}
