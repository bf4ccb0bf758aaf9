/* SPDX-License-Identifier: Apache-2.0
 * One SQLite connection with its compiled statements. Private to server/registry. One thread at a time. */
#ifndef ESP_SERVER_DB_H
#define ESP_SERVER_DB_H

#include <sqlite3.h>

#include "registry/query.h"

enum { ESP_DB_STATEMENTS = 48 };

struct esp_stmt {
    sqlite3_stmt *handle;
    esp_db *db;
    char *sql;
    uint64_t hash, used; /* used: a clock for throwing out the oldest */
    bool busy, loose; /* loose: not in the table, freed on close */
};

struct esp_db {
    sqlite3 *handle;
    int64_t deadline_ns;
    uint64_t clock;
    esp_stmt *table[ESP_DB_STATEMENTS];
    struct esp_db *next; /* in the registry's list of idle readers */
    /* writer only: which tables the present transaction has touched, and the WAL's pages after its commit */
    bool touched_jobs, touched_rest;
    int wal_pages;
};

ESP_MUST_CHECK esp_code esp_db_open(const char *path, bool writer, esp_db **ret_db, esp_error *reterr);
/* A file that is to become a copy: no WAL, nothing of the registry's set-up. */
ESP_MUST_CHECK esp_code esp_db_open_copy(const char *path, esp_db **ret_db, esp_error *reterr);
void esp_db_close(esp_db *db);
/* Runs statements without parameters or results. */
ESP_MUST_CHECK esp_code esp_db_exec(esp_db *db, const char *sql, esp_error *reterr);
void esp_db_rollback(esp_db *db); /* a failure here leaves the transaction to SQLite, which has rolled back already */
/* Fills the error from the connection's last failure. */
esp_code esp_db_fail(esp_db *db, esp_error *reterr, const char *what);

/* migrate.c: brings the schema forward to the newest, refuses a newer one and a foreign file. */
#define ESP_APPLICATION_ID 0x45735031 /* "EsP1" */
int esp_schema_version(void);
/* `dir` gets a copy of what is there before it changes, registry.db.before-NNNN. */
ESP_MUST_CHECK esp_code esp_db_migrate(esp_db *db, const char *dir, esp_error *reterr);

/* backup.c: a whole copy of the database at `path`, replaced when it is there. */
ESP_MUST_CHECK esp_code esp_db_backup(esp_db *db, const char *path, esp_error *reterr);

/* blobs.c: makes the directories and removes what an earlier run left half written. */
ESP_MUST_CHECK esp_code esp_blobs_init(const char *dir, esp_error *reterr);
/* fsync of a directory, so that a new name in it survives a power cut. */
ESP_MUST_CHECK esp_code esp_dir_sync(const char *path, esp_error *reterr);
ESP_MUST_CHECK esp_code esp_file_sync(const char *path, esp_error *reterr);

#endif
