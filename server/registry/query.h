/* SPDX-License-Identifier: Apache-2.0
 * Statements on a registry connection, for code that must not see sqlite3.h (lists, endpoint groups, row modules).
 *
 * `esp_code c = esp_stmt_open(db, &s, reterr, "SELECT a FROM t WHERE b = ? AND n = ?", "ti", text, n);` then
 * esp_stmt_step until it does not return 1, then esp_stmt_close, always (NULL is fine). Compiled statements are kept
 * by the connection and found again by their text. */
#ifndef ESP_SERVER_QUERY_H
#define ESP_SERVER_QUERY_H

#include <stdbool.h>
#include <stdint.h>

#include "registry/registry.h"

typedef struct esp_stmt esp_stmt;

/* `types`: one letter per `?`, taken from the arguments: t const char * (NULL binds NULL; kept by the caller until
 * close), e the same with "" binding NULL, i int64_t, r double, b a pointer and an int64_t length (text). */
ESP_MUST_CHECK esp_code esp_stmt_open(esp_db *db, esp_stmt **ret_stmt, esp_error *reterr, const char *sql, const char *types, ...);
/* For a number of parameters known only at run time, after an open with types ""; index from 1. */
void esp_stmt_bind_text(esp_stmt *stmt, int index, const char *text);
void esp_stmt_bind_int(esp_stmt *stmt, int index, int64_t value);
void esp_stmt_bind_real(esp_stmt *stmt, int index, double value);
/* 1 a row, 0 the end, else the (negative) code: CONFLICT for a broken constraint, DEADLINE past the time limit, DB,
 * CORRUPT. */
int esp_stmt_step(esp_stmt *stmt, esp_error *reterr);
void esp_stmt_close(esp_stmt *stmt);

/* Columns of the present row, from 0; texts are valid until the next step. */
bool esp_stmt_is_null(esp_stmt *stmt, int column);
const char *esp_stmt_text(esp_stmt *stmt, int column, size_t *ret_len); /* "" for NULL; ret_len may be NULL */
int64_t esp_stmt_int(esp_stmt *stmt, int column);
double esp_stmt_real(esp_stmt *stmt, int column);
typedef enum esp_value_type { ESP_VALUE_NULL, ESP_VALUE_INT, ESP_VALUE_REAL, ESP_VALUE_TEXT } esp_value_type;
esp_value_type esp_stmt_type(esp_stmt *stmt, int column);
/* Into a fixed field, NUL-terminated; a longer text is our own defect (asserted). */
void esp_stmt_copy(esp_stmt *stmt, int column, char *ret, size_t room);
/* A malloc'ed copy, NULL for NULL; NOMEM. */
ESP_MUST_CHECK esp_code esp_stmt_dup(esp_stmt *stmt, int column, char **ret, esp_error *reterr);

/* Open, step to the end, close. */
ESP_MUST_CHECK esp_code esp_db_run(esp_db *db, esp_error *reterr, const char *sql, const char *types, ...);
/* The same for the first column of at most one row; *ret is left alone when there is none. */
ESP_MUST_CHECK esp_code esp_db_int(esp_db *db, int64_t *ret, esp_error *reterr, const char *sql, const char *types, ...);
/* Rows changed by the last write on this connection. */
int64_t esp_db_changes(esp_db *db);
/* Statements that run past this monotonic time fail with DEADLINE; ESP_NEVER lifts it. read_end lifts it too. */
void esp_db_deadline(esp_db *db, int64_t deadline_ns);

/* Counts commits: equal numbers mean that nothing a reader could see has changed since. `jobs` includes commits that
 * touched nothing but jobs and their events. Take it before the read that it stands for. Starts at random, so that
 * numbers of two runs do not meet. */
uint64_t esp_registry_changes(const esp_registry *registry, bool jobs);

/* A ref split up: id, name, name/version or name@alias. */
typedef struct esp_ref {
    enum { ESP_REF_ID, ESP_REF_NEWEST, ESP_REF_VERSION, ESP_REF_ALIAS } kind;
    char name[ESP_NAME_MAX + 1]; /* or the id */
    char alias[ESP_NAME_MAX + 1];
    int64_t version;
} esp_ref;
/* `prefix` is that of the kind's ids ("mdl"). INVALID when the text is none of the forms. */
ESP_MUST_CHECK esp_code esp_ref_parse(const char *text, const char *prefix, esp_ref *ret_ref, esp_error *reterr);

#endif
