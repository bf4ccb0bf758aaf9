/* SPDX-License-Identifier: Apache-2.0
 * Opening a connection, running statements, and turning SQLite's failures into ours. */
#include "registry/db.h"

#include <assert.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"

/* ---- connections ---------------------------------------------------------------------------------------------------- */

static int progress(void *user) {
    const esp_db *db = user;
    return db->deadline_ns != ESP_NEVER && esp_clock_now_ns() >= db->deadline_ns;
}

static void on_change(void *user, int op, const char *database, const char *table, sqlite3_int64 rowid) {
    esp_db *db = user;
    (void)op, (void)database, (void)rowid;
    if (strcmp(table, "job") == 0 || strcmp(table, "job_event") == 0) {
        db->touched_jobs = true;
    } else {
        db->touched_rest = true;
    }
}

static int on_wal(void *user, sqlite3 *handle, const char *database, int pages) {
    (void)handle, (void)database;
    ((esp_db *)user)->wal_pages = pages;
    return SQLITE_OK;
}

/* mmap stays off and extensions stay unloadable; only the writer ever checkpoints (SQLite before 3.51.3 can corrupt a
 * WAL that two connections write or checkpoint). */
static esp_code set_up(esp_db *db, bool writer, esp_error *reterr) {
    sqlite3_extended_result_codes(db->handle, 1);
    sqlite3_busy_timeout(db->handle, 5000);
    sqlite3_limit(db->handle, SQLITE_LIMIT_ATTACHED, 0);
    sqlite3_db_config(db->handle, SQLITE_DBCONFIG_DEFENSIVE, 1, NULL);
    sqlite3_progress_handler(db->handle, 1000, progress, db);
    if (!writer) {
        sqlite3_db_config(db->handle, SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1, NULL);
        return esp_db_exec(db, "PRAGMA query_only=ON; PRAGMA mmap_size=0; PRAGMA wal_autocheckpoint=0; PRAGMA cache_size=-4096", reterr);
    }
    sqlite3_update_hook(db->handle, on_change, db);
    esp_code code = esp_db_exec(db,
                                "PRAGMA mmap_size=0; PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL; PRAGMA foreign_keys=ON;"
                                "PRAGMA wal_autocheckpoint=0; PRAGMA cache_size=-8192",
                                reterr);
    sqlite3_wal_hook(db->handle, on_wal, db);
    return code;
}

esp_code esp_db_open(const char *path, bool writer, esp_db **ret_db, esp_error *reterr) {
    esp_db *db = calloc(1, sizeof *db);
    if (!db) return esp_fail(reterr, ESP_NOMEM, "no memory for a connection");
    db->deadline_ns = ESP_NEVER;
    int flags = SQLITE_OPEN_NOMUTEX | SQLITE_OPEN_PRIVATECACHE;
    flags |= writer ? SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE : SQLITE_OPEN_READONLY;
    esp_code code = ESP_OK;
    if (sqlite3_open_v2(path, &db->handle, flags, NULL) != SQLITE_OK) {
        code = esp_db_fail(db, reterr, "open");
    } else {
        code = set_up(db, writer, reterr);
    }
    if (code) {
        esp_db_close(db);
        return code;
    }
    *ret_db = db;
    return ESP_OK;
}

esp_code esp_db_open_copy(const char *path, esp_db **ret_db, esp_error *reterr) {
    esp_db *db = calloc(1, sizeof *db);
    if (!db) return esp_fail(reterr, ESP_NOMEM, "no memory for a connection");
    db->deadline_ns = ESP_NEVER;
    if (sqlite3_open_v2(path, &db->handle, SQLITE_OPEN_NOMUTEX | SQLITE_OPEN_PRIVATECACHE | SQLITE_OPEN_READWRITE, NULL) != SQLITE_OK) {
        esp_code code = esp_db_fail(db, reterr, "open");
        esp_db_close(db);
        return code;
    }
    *ret_db = db;
    return ESP_OK;
}

static void stmt_free(esp_stmt *stmt) {
    if (!stmt) return;
    sqlite3_finalize(stmt->handle);
    free(stmt->sql);
    free(stmt);
}

void esp_db_close(esp_db *db) {
    if (!db) return;
    for (int i = 0; i < ESP_DB_STATEMENTS; i++) {
        assert(!db->table[i] || !db->table[i]->busy);
        stmt_free(db->table[i]);
    }
    sqlite3_close(db->handle);
    free(db);
}

esp_code esp_db_fail(esp_db *db, esp_error *reterr, const char *what) {
    int rc = db->handle ? sqlite3_extended_errcode(db->handle) : SQLITE_NOMEM;
    const char *text = db->handle ? sqlite3_errmsg(db->handle) : "out of memory";
    switch (rc & 0xff) {
    case SQLITE_CONSTRAINT: return esp_fail(reterr, ESP_CONFLICT, "%s", text);
    case SQLITE_INTERRUPT: return esp_fail(reterr, ESP_DEADLINE, "the query took longer than it may; narrow it with filters");
    case SQLITE_NOMEM: return esp_fail(reterr, ESP_NOMEM, "registry: %s: %s", what, text);
    case SQLITE_CORRUPT:
    case SQLITE_NOTADB: return esp_fail(reterr, ESP_CORRUPT, "registry: %s: %s", what, text);
    default: return esp_fail(reterr, ESP_DB, "registry: %s: %s (%d)", what, text, rc);
    }
}

esp_code esp_db_exec(esp_db *db, const char *sql, esp_error *reterr) {
    return sqlite3_exec(db->handle, sql, NULL, NULL, NULL) == SQLITE_OK ? ESP_OK : esp_db_fail(db, reterr, "exec");
}

void esp_db_rollback(esp_db *db) {
    sqlite3_exec(db->handle, "ROLLBACK", NULL, NULL, NULL);
}

void esp_db_deadline(esp_db *db, int64_t deadline_ns) {
    db->deadline_ns = deadline_ns;
}

int64_t esp_db_changes(esp_db *db) {
    return sqlite3_changes64(db->handle);
}

/* ---- statements ----------------------------------------------------------------------------------------------------- */

static uint64_t text_hash(const char *text) {
    uint64_t hash = 14695981039346656037u; /* FNV-1a */
    for (; *text; text++) hash = (hash ^ (unsigned char)*text) * 1099511628211u;
    return hash;
}

/* A compiled statement with this text that nobody uses, or the slot where a new one may go (-1: all are in use). */
static esp_stmt *stmt_find(esp_db *db, const char *sql, uint64_t hash, int *ret_slot) {
    *ret_slot = -1;
    for (int i = 0; i < ESP_DB_STATEMENTS; i++) {
        esp_stmt *s = db->table[i];
        if (!s) {
            *ret_slot = i;
            return NULL; /* the table fills from the front */
        }
        if (s->busy) continue;
        if (s->hash == hash && strcmp(s->sql, sql) == 0) return s;
        if (*ret_slot < 0 || s->used < db->table[*ret_slot]->used) *ret_slot = i;
    }
    return NULL;
}

static esp_code stmt_prepare(esp_db *db, const char *sql, uint64_t hash, esp_stmt **ret_stmt, esp_error *reterr) {
    esp_stmt *stmt = calloc(1, sizeof *stmt);
    esp_code code = ESP_OK;
    if (!stmt || !(stmt->sql = strdup(sql))) {
        code = esp_fail(reterr, ESP_NOMEM, "no memory for a statement");
    } else if (sqlite3_prepare_v3(db->handle, sql, -1, SQLITE_PREPARE_PERSISTENT, &stmt->handle, NULL) != SQLITE_OK) {
        code = esp_db_fail(db, reterr, "prepare");
    }
    if (code) {
        stmt_free(stmt);
        return code;
    }
    stmt->db = db;
    stmt->hash = hash;
    *ret_stmt = stmt;
    return ESP_OK;
}

static esp_code stmt_take(esp_db *db, const char *sql, esp_stmt **ret_stmt, esp_error *reterr) {
    uint64_t hash = text_hash(sql);
    int slot = -1;
    esp_stmt *stmt = stmt_find(db, sql, hash, &slot);
    if (!stmt) {
        esp_code code = stmt_prepare(db, sql, hash, &stmt, reterr);
        if (code) return code;
        stmt->loose = slot < 0;
        if (slot >= 0) {
            stmt_free(db->table[slot]);
            db->table[slot] = stmt;
        }
    }
    stmt->busy = true;
    stmt->used = ++db->clock;
    *ret_stmt = stmt;
    return ESP_OK;
}

static void bind_all(esp_stmt *stmt, const char *types, va_list args) {
    for (int i = 1; *types; types++, i++) {
        switch (*types) {
        case 't': esp_stmt_bind_text(stmt, i, va_arg(args, const char *)); break;
        case 'e': {
            const char *text = va_arg(args, const char *);
            esp_stmt_bind_text(stmt, i, text && *text ? text : NULL);
            break;
        }
        case 'i': esp_stmt_bind_int(stmt, i, va_arg(args, int64_t)); break;
        case 'r': esp_stmt_bind_real(stmt, i, va_arg(args, double)); break;
        case 'b': {
            const char *text = va_arg(args, const char *);
            sqlite3_bind_text64(stmt->handle, i, text, (sqlite3_uint64)va_arg(args, int64_t), SQLITE_STATIC, SQLITE_UTF8);
            break;
        }
        default: assert(!"a type letter of esp_stmt_open");
        }
    }
}

static esp_code open_v(esp_db *db, esp_stmt **ret_stmt, esp_error *reterr, const char *sql, const char *types, va_list args) {
    esp_code code = stmt_take(db, sql, ret_stmt, reterr);
    if (!code) bind_all(*ret_stmt, types, args);
    return code;
}

esp_code esp_stmt_open(esp_db *db, esp_stmt **ret_stmt, esp_error *reterr, const char *sql, const char *types, ...) {
    va_list args;
    va_start(args, types);
    esp_code code = open_v(db, ret_stmt, reterr, sql, types, args);
    va_end(args);
    return code;
}

void esp_stmt_bind_text(esp_stmt *stmt, int index, const char *text) {
    int rc = text ? sqlite3_bind_text(stmt->handle, index, text, -1, SQLITE_STATIC) : sqlite3_bind_null(stmt->handle, index);
    assert(rc != SQLITE_RANGE);
    (void)rc; /* NOMEM and TOOBIG leave NULL, which a NOT NULL column refuses */
}

void esp_stmt_bind_int(esp_stmt *stmt, int index, int64_t value) {
    int rc = sqlite3_bind_int64(stmt->handle, index, value);
    assert(rc != SQLITE_RANGE);
    (void)rc;
}

void esp_stmt_bind_real(esp_stmt *stmt, int index, double value) {
    int rc = sqlite3_bind_double(stmt->handle, index, value);
    assert(rc != SQLITE_RANGE);
    (void)rc;
}

int esp_stmt_step(esp_stmt *stmt, esp_error *reterr) {
    int rc = sqlite3_step(stmt->handle);
    if (rc == SQLITE_ROW) return 1;
    if (rc == SQLITE_DONE) return 0;
    return esp_db_fail(stmt->db, reterr, "step");
}

void esp_stmt_close(esp_stmt *stmt) {
    if (!stmt) return;
    sqlite3_reset(stmt->handle);
    sqlite3_clear_bindings(stmt->handle);
    stmt->busy = false;
    if (stmt->loose) stmt_free(stmt);
}

bool esp_stmt_is_null(esp_stmt *stmt, int column) {
    return sqlite3_column_type(stmt->handle, column) == SQLITE_NULL;
}

esp_value_type esp_stmt_type(esp_stmt *stmt, int column) {
    switch (sqlite3_column_type(stmt->handle, column)) {
    case SQLITE_NULL: return ESP_VALUE_NULL;
    case SQLITE_INTEGER: return ESP_VALUE_INT;
    case SQLITE_FLOAT: return ESP_VALUE_REAL;
    default: return ESP_VALUE_TEXT;
    }
}

const char *esp_stmt_text(esp_stmt *stmt, int column, size_t *ret_len) {
    const char *text = (const char *)sqlite3_column_text(stmt->handle, column);
    if (ret_len) *ret_len = text ? (size_t)sqlite3_column_bytes(stmt->handle, column) : 0;
    return text ? text : "";
}

int64_t esp_stmt_int(esp_stmt *stmt, int column) {
    return sqlite3_column_int64(stmt->handle, column);
}

double esp_stmt_real(esp_stmt *stmt, int column) {
    return sqlite3_column_double(stmt->handle, column);
}

void esp_stmt_copy(esp_stmt *stmt, int column, char *ret, size_t room) {
    size_t len = 0;
    const char *text = esp_stmt_text(stmt, column, &len);
    assert(len < room);
    memcpy(ret, text, len);
    ret[len] = '\0';
}

esp_code esp_stmt_dup(esp_stmt *stmt, int column, char **ret, esp_error *reterr) {
    if (esp_stmt_is_null(stmt, column)) {
        *ret = NULL;
        return ESP_OK;
    }
    char *copy = strdup(esp_stmt_text(stmt, column, NULL));
    if (!copy) return esp_fail(reterr, ESP_NOMEM, "no memory for a row");
    *ret = copy;
    return ESP_OK;
}

esp_code esp_db_run(esp_db *db, esp_error *reterr, const char *sql, const char *types, ...) {
    va_list args;
    va_start(args, types);
    esp_stmt *stmt = NULL;
    esp_code code = open_v(db, &stmt, reterr, sql, types, args);
    va_end(args);
    int step = code ? code : 1;
    while (step == 1) step = esp_stmt_step(stmt, reterr);
    esp_stmt_close(stmt);
    return (esp_code)step;
}

esp_code esp_db_int(esp_db *db, int64_t *ret, esp_error *reterr, const char *sql, const char *types, ...) {
    va_list args;
    va_start(args, types);
    esp_stmt *stmt = NULL;
    esp_code code = open_v(db, &stmt, reterr, sql, types, args);
    va_end(args);
    int step = code ? code : esp_stmt_step(stmt, reterr);
    if (step == 1) *ret = esp_stmt_int(stmt, 0);
    esp_stmt_close(stmt);
    return step < 0 ? (esp_code)step : ESP_OK;
}
