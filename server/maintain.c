/* SPDX-License-Identifier: Apache-2.0
 * The operator's commands on a data directory (maintain.h). Check and backup read one snapshot beside a daemon that runs or not.
 *
 * Garbage is a blob that no dataset and no model names: left by a deletion, by an upload whose row was refused, or by a crash
 * between the two. A daemon may be about to name one, so `gc --apply` wants the directory for itself; without --apply it only
 * lists what it would remove. */
#include "maintain.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/hash.h"
#include "config.h"
#include "data/dataset.h"
#include "net/model.h"
#include "registry/query.h"

enum { EXIT_WRONG = 1, EXIT_USAGE = 2, PIECE = 1 << 20, MODEL_CAP = 1 << 30 };

typedef struct audit {
    const char *dir;
    esp_db *db;
    bool quick; /* datasets are hashed, not read */
    long problems, rows, blobs, unnamed;
    long long unnamed_bytes;
} audit;

static void problem(audit *a, const char *format, ...) __attribute__((format(printf, 2, 3)));
static void problem(audit *a, const char *format, ...) {
    va_list args;
    va_start(args, format);
    fputs("wrong: ", stdout);
    vprintf(format, args);
    putchar('\n');
    va_end(args);
    a->problems++;
}

/* ---- the database itself -------------------------------------------------------------------------------------------- */

/* Every row but `good` is a problem. */
static esp_code run_pragma(audit *a, const char *name, const char *sql, const char *good, esp_error *reterr) {
    esp_stmt *s = NULL;
    esp_code code = esp_stmt_open(a->db, &s, reterr, sql, "");
    int step = code ? code : esp_stmt_step(s, reterr);
    for (; step == 1; step = esp_stmt_step(s, reterr)) {
        const char *text = esp_stmt_text(s, 0, NULL);
        if (strcmp(text, good) != 0) problem(a, "%s: %s", name, text);
    }
    esp_stmt_close(s);
    return (esp_code)step;
}

/* ---- rows against blobs --------------------------------------------------------------------------------------------- */

static bool hash_file(const char *path, char ret_sha256[ESP_HASH_HEX], long long *ret_bytes) {
    static char piece[PIECE];
    esp_hash *hash = esp_hash_create();
    FILE *file = fopen(path, "re");
    size_t n = 0;
    *ret_bytes = 0;
    while (hash && file && (n = fread(piece, 1, sizeof piece, file)) > 0) {
        esp_hash_add(hash, piece, n);
        *ret_bytes += (long long)n;
    }
    bool good = hash && file && !ferror(file);
    if (good) esp_hash_finish(hash, ret_sha256);
    if (file) fclose(file);
    esp_hash_free(hash);
    return good;
}

static void blob_path(const audit *a, const char *sha256, char ret_path[4096]) {
    snprintf(ret_path, 4096, "%s/blobs/%.2s/%s", a->dir, sha256, sha256);
}

/* `bytes` < 0: any length. */
static bool check_blob(audit *a, const char *what, const char *id, const char *sha256, long long bytes) {
    char path[4096], found[ESP_HASH_HEX];
    long long len = 0;
    blob_path(a, sha256, path);
    a->rows++;
    if (access(path, F_OK) != 0) {
        problem(a, "%s %s: its blob %s is missing", what, id, sha256);
    } else if (!hash_file(path, found, &len)) {
        problem(a, "%s %s: its blob %s cannot be read: %s", what, id, sha256, strerror(errno));
    } else if (bytes >= 0 && len != bytes) {
        problem(a, "%s %s: its blob %s has %lld bytes, not %lld", what, id, sha256, len, bytes);
    } else if (strcmp(found, sha256) != 0) {
        problem(a, "%s %s: its blob %s has the content of %s", what, id, sha256, found);
    } else {
        return true;
    }
    return false;
}

/* What the row says of its blob, from column `first` on, against what it is. */
static void compare(audit *a, const char *what, esp_stmt *s, int first, const char *const *names, const int64_t *is, int n) {
    for (int i = 0; i < n; i++) {
        if (is[i] != esp_stmt_int(s, first + i))
            problem(a, "%s %s: %s is %lld in its row, %lld in its blob", what, esp_stmt_text(s, 0, NULL), names[i],
                    (long long)esp_stmt_int(s, first + i), (long long)is[i]);
    }
}

static esp_code count(const char *path, esp_data_format format, esp_ingest **ret_ingest, esp_error *reterr) {
    static char piece[PIECE];
    FILE *file = fopen(path, "re");
    size_t n = 0;
    esp_code code = file ? esp_ingest_create(format, false, ret_ingest, reterr) : esp_fail_errno(reterr, ESP_IO, "open %s", path);
    while (!code && (n = fread(piece, 1, sizeof piece, file)) > 0) code = esp_ingest_feed(*ret_ingest, piece, n, reterr);
    if (file) fclose(file);
    return code ? code : esp_ingest_finish(*ret_ingest, reterr);
}

static void check_dataset(audit *a, esp_stmt *s) {
    static const char *const names[] = {"trajectories", "transitions", "ny", "nu"};
    char path[4096];
    const char *id = esp_stmt_text(s, 0, NULL), *sha256 = esp_stmt_text(s, 1, NULL);
    esp_ingest *ingest = NULL;
    esp_error error = {0};
    if (!check_blob(a, "dataset", id, sha256, esp_stmt_int(s, 2)) || a->quick) return;
    blob_path(a, sha256, path);
    if (count(path, strcmp(esp_stmt_text(s, 3, NULL), "csv") == 0 ? ESP_DATA_CSV : ESP_DATA_NDJSON, &ingest, &error)) {
        problem(a, "dataset %s: its blob %s: %s %s", id, sha256, error.pointer, error.message);
    } else {
        const esp_dataset *is = esp_ingest_counts(ingest);
        compare(a, "dataset", s, 4, names, (const int64_t[]){(int64_t)is->n_trajectories, (int64_t)is->n_transitions, is->ny, is->nu}, 4);
    }
    esp_ingest_free(ingest);
}

static esp_code check_each(audit *a, const char *sql, void (*check)(audit *a, esp_stmt *s), esp_error *reterr) {
    esp_stmt *s = NULL;
    esp_code code = esp_stmt_open(a->db, &s, reterr, sql, "");
    int step = code ? code : esp_stmt_step(s, reterr);
    for (; step == 1; step = esp_stmt_step(s, reterr)) check(a, s);
    esp_stmt_close(s);
    return (esp_code)step;
}

/* The file is a model, and the row says of it what it is. */
static void check_model(audit *a, esp_stmt *s) {
    static const char *const names[] = {"ny", "nu", "history", "relu", "parameters", "nonzero"};
    char path[4096];
    const char *id = esp_stmt_text(s, 0, NULL), *sha256 = esp_stmt_text(s, 1, NULL);
    esp_buf bytes = {0};
    esp_model *model = NULL;
    esp_error error = {0};
    if (!check_blob(a, "model", id, sha256, -1)) return;
    blob_path(a, sha256, path);
    esp_code code = esp_file_read(path, MODEL_CAP, &bytes, &error);
    if (!code) code = esp_model_decode(bytes.data, bytes.len, &model, &error);
    if (code) {
        problem(a, "model %s: its blob %s: %s", id, sha256, error.message);
    } else {
        const char *row_kind = esp_stmt_text(s, 2, NULL), *kind = esp_model_kind_names[model->kind];
        if (strcmp(row_kind, kind) != 0) problem(a, "model %s: kind is %s in its row, %s in its blob", id, row_kind, kind);
        const int64_t is[] = {model->ny, model->nu, model->history, esp_model_relus(model), esp_model_parameters(model), esp_model_nonzero(model)};
        compare(a, "model", s, 3, names, is, 6);
    }
    esp_model_free(model);
    esp_buf_done(&bytes);
}

/* ---- blobs against rows --------------------------------------------------------------------------------------------- */

static esp_code is_named(audit *a, const char *sha256, bool *ret, esp_error *reterr) {
    int64_t n = 0;
    esp_code code = esp_db_int(
        a->db, &n, reterr, "SELECT EXISTS (SELECT 1 FROM model WHERE sha256 = ?1) OR EXISTS (SELECT 1 FROM dataset WHERE sha256 = ?1)", "t", sha256);
    *ret = n != 0;
    return code;
}

/* One file under blobs/: `each` gets those that no row names. */
static esp_code look_at(audit *a, const char *folder, const char *name,
                        esp_code (*each)(audit *a, const char *path, long long bytes, esp_error *reterr), esp_error *reterr) {
    char path[4096];
    struct stat st;
    bool named = false;
    int n = snprintf(path, sizeof path, "%s/blobs/%.2s/%s", a->dir, folder, name);
    if (n < 0 || (size_t)n >= sizeof path || stat(path, &st) != 0) return ESP_OK;
    bool shaped = strlen(name) == ESP_HASH_HEX - 1 && strspn(name, "0123456789abcdef") == ESP_HASH_HEX - 1 && strncmp(name, folder, 2) == 0;
    if (!shaped || !S_ISREG(st.st_mode)) {
        printf("note: %s is not a blob\n", path);
        return ESP_OK;
    }
    a->blobs++;
    esp_code code = is_named(a, name, &named, reterr);
    if (code || named) return code;
    a->unnamed++;
    a->unnamed_bytes += st.st_size;
    return each(a, path, (long long)st.st_size, reterr);
}

static bool is_dot(const char *name) {
    return strcmp(name, ".") == 0 || strcmp(name, "..") == 0;
}

static esp_code walk(audit *a, esp_code (*each)(audit *a, const char *path, long long bytes, esp_error *reterr), esp_error *reterr) {
    char path[4096];
    snprintf(path, sizeof path, "%s/blobs", a->dir);
    DIR *top = opendir(path);
    if (!top) return esp_fail_errno(reterr, ESP_IO, "read %s", path);
    esp_code code = ESP_OK;
    for (struct dirent *folder = readdir(top); folder && !code; folder = readdir(top)) {
        if (is_dot(folder->d_name) || strlen(folder->d_name) != 2) continue;
        snprintf(path, sizeof path, "%s/blobs/%.2s", a->dir, folder->d_name);
        DIR *dir = opendir(path);
        for (struct dirent *file = dir ? readdir(dir) : NULL; file && !code; file = readdir(dir)) {
            if (!is_dot(file->d_name)) code = look_at(a, folder->d_name, file->d_name, each, reterr);
        }
        if (dir) closedir(dir);
    }
    closedir(top);
    return code;
}

static esp_code pass_over(audit *a, const char *path, long long bytes, esp_error *reterr) {
    (void)a, (void)path, (void)bytes, (void)reterr;
    return ESP_OK;
}

static esp_code list_garbage(audit *a, const char *path, long long bytes, esp_error *reterr) {
    (void)a, (void)reterr;
    printf("would remove %s, %lld bytes\n", path, bytes);
    return ESP_OK;
}

static esp_code remove_garbage(audit *a, const char *path, long long bytes, esp_error *reterr) {
    (void)a;
    if (unlink(path) != 0) return esp_fail_errno(reterr, ESP_IO, "remove %s", path);
    printf("removed %s, %lld bytes\n", path, bytes);
    return ESP_OK;
}

/* ---- commands ------------------------------------------------------------------------------------------------------- */

static esp_code check(audit *a, esp_error *reterr) {
    esp_code code = esp_db_run(a->db, reterr, "BEGIN", ""); /* one snapshot */
    if (!code) code = run_pragma(a, "integrity_check", "PRAGMA integrity_check", "ok", reterr);
    if (!code)
        code = run_pragma(a, "foreign_key_check",
                          "SELECT \"table\" || ' of rowid ' || rowid || ' names a ' || parent || ' that is not there' FROM pragma_foreign_key_check",
                          "", reterr);
    if (!code)
        code = check_each(a, "SELECT id, sha256, bytes, format, trajectories, transitions, ny, nu FROM dataset ORDER BY id", check_dataset, reterr);
    if (!code)
        code = check_each(a, "SELECT id, sha256, kind, ny, nu, history, relu, parameters, nonzero FROM model ORDER BY id", check_model, reterr);
    if (!code) code = walk(a, pass_over, reterr);
    if (code) return code;
    printf("%s: %ld rows with a blob, %ld blobs, %ld of them named by no row (%lld bytes; espalierd gc lists them)\n",
           a->problems ? "damaged" : "good", a->rows, a->blobs, a->unnamed, a->unnamed_bytes);
    return ESP_OK;
}

static esp_code hold(const char *dir, int *ret_fd, esp_error *reterr) {
    char path[4096];
    if ((size_t)snprintf(path, sizeof path, "%s/lock", dir) >= sizeof path) return esp_fail(reterr, ESP_INVALID, "the path is too long");
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (fd < 0) return esp_fail_errno(reterr, ESP_IO, "open %s", path);
    if (flock(fd, LOCK_EX | LOCK_NB) != 0) {
        close(fd);
        return esp_fail(reterr, ESP_BUSY, "%s is in use by an espalierd; stop it first, or leave out --apply to see what would go", dir);
    }
    *ret_fd = fd;
    return ESP_OK;
}

static esp_code collect(audit *a, bool apply, esp_error *reterr) {
    esp_code code = walk(a, apply ? remove_garbage : list_garbage, reterr);
    if (!code) printf("%ld of %ld blobs %s, %lld bytes\n", a->unnamed, a->blobs, apply ? "removed" : "would be removed", a->unnamed_bytes);
    return code;
}

typedef struct wish {
    bool check, quick, gc, apply;
    const char *backup;
} wish;

static esp_code run(const esp_config *config, const wish *w, bool *ret_good, esp_error *reterr) {
    audit a = {.dir = config->data, .quick = w->quick};
    int lock = -1;
    esp_code code = w->gc && w->apply ? hold(a.dir, &lock, reterr) : ESP_OK;
    if (!code) code = esp_registry_read_only(a.dir, &a.db, reterr);
    if (!code && w->check) code = check(&a, reterr);
    if (!code && w->backup) code = esp_registry_backup(a.db, w->backup, reterr);
    if (!code && w->backup) printf("%s holds the rows; now copy %s/blobs\n", w->backup, a.dir);
    if (!code && w->gc) code = collect(&a, w->apply, reterr);
    esp_registry_read_release(a.db);
    if (lock >= 0) close(lock);
    *ret_good = a.problems == 0;
    return code;
}

/* Takes our own options out of the line; the rest are settings. */
static esp_code parse(int argc, char **argv, esp_config *config, wish *ret, esp_error *reterr) {
    char *rest[32] = {argv[0]};
    int n = 1;
    for (int i = 1; i < argc; i++) {
        if (i == 1 && strcmp(argv[i], "gc") == 0)
            ret->gc = true;
        else if (ret->gc && strcmp(argv[i], "--apply") == 0)
            ret->apply = true;
        else if (strcmp(argv[i], "--check") == 0)
            ret->check = true;
        else if (ret->check && strcmp(argv[i], "--quick") == 0)
            ret->quick = true;
        else if (strcmp(argv[i], "--backup") == 0 && i + 1 < argc)
            ret->backup = argv[++i];
        else if (n < 32)
            rest[n++] = argv[i];
    }
    if (!ret->gc && !ret->check && !ret->backup) return ESP_OK;
    esp_config_init(config);
    return esp_config_parse(config, n, rest, reterr);
}

bool esp_maintain_command(int argc, char **argv, int *ret_status) {
    static esp_config config;
    esp_error error = {0};
    wish w = {0};
    bool good = true;
    esp_code code = parse(argc, argv, &config, &w, &error);
    if (!w.gc && !w.check && !w.backup) return false;
    if (!code) code = run(&config, &w, &good, &error);
    if (code) fprintf(stderr, "espalierd: %s\n", error.message);
    bool said = fflush(stdout) == 0;
    *ret_status = code == ESP_INVALID ? EXIT_USAGE : code || !good || !said ? EXIT_WRONG : 0;
    return true;
}
