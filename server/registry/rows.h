/* SPDX-License-Identifier: Apache-2.0
 * What the row modules share. Private to server/registry. */
#ifndef ESP_SERVER_ROWS_H
#define ESP_SERVER_ROWS_H

#include "registry/query.h"

/* The version after the newest that this name ever had; `table` is one of ours, not input. */
ESP_MUST_CHECK esp_code esp_rows_next_version(esp_db *db, const char *table, const char *name, int64_t *ret_version, esp_error *reterr);
/* A table of named versions: `table` and `columns` are ours, not input; `prefix` of its ids. */
typedef struct esp_versions {
    const char *table, *columns, *prefix;
    bool aliases; /* a name@alias may be one of its references */
} esp_versions;
/* Opens "SELECT columns FROM table t WHERE ..." for a reference and steps to its row; the caller closes the statement, on an error too. */
ESP_MUST_CHECK esp_code esp_rows_find(esp_db *db, const esp_versions *versions, const char *text, esp_stmt **ret_stmt, esp_error *reterr);
/* Steps to the one row: NOT_FOUND names `what` and the text asked for. */
ESP_MUST_CHECK esp_code esp_rows_one(esp_stmt *stmt, const char *what, const char *text, esp_error *reterr);

#endif
