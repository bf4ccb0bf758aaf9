/* SPDX-License-Identifier: Apache-2.0
 * Dataset rows. */
#include <assert.h>

#include "base/clock.h"
#include "registry/rows.h"

#define COLUMNS "id, name, version, sha256, format, trajectories, transitions, ny, nu, bytes, created_ms"

static void read_row(esp_stmt *s, esp_dataset_row *row) {
    esp_stmt_copy(s, 0, row->id, sizeof row->id);
    esp_stmt_copy(s, 1, row->name, sizeof row->name);
    row->version = esp_stmt_int(s, 2);
    esp_stmt_copy(s, 3, row->sha256, sizeof row->sha256);
    esp_stmt_copy(s, 4, row->format, sizeof row->format);
    row->trajectories = esp_stmt_int(s, 5);
    row->transitions = esp_stmt_int(s, 6);
    row->ny = esp_stmt_int(s, 7);
    row->nu = esp_stmt_int(s, 8);
    row->bytes = esp_stmt_int(s, 9);
    row->created_ms = esp_stmt_int(s, 10);
}

static esp_code insert_new(esp_db *db, esp_dataset_row *row, esp_error *reterr) {
    esp_code code = esp_rows_next_version(db, "dataset", row->name, &row->version, reterr);
    if (code) return code;
    esp_id_make("dat", row->id);
    row->created_ms = esp_clock_wall_ms();
    return esp_db_run(db, reterr, "INSERT INTO dataset (" COLUMNS ") VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", "ttittiiiiii", row->id, row->name,
                      row->version, row->sha256, row->format, row->trajectories, row->transitions, row->ny, row->nu, row->bytes, row->created_ms);
}

esp_code esp_dataset_insert(esp_db *db, esp_dataset_row *row, esp_error *reterr) {
    assert(esp_name_ok(row->name));
    esp_stmt *stmt = NULL;
    esp_code code = esp_stmt_open(db, &stmt, reterr, "SELECT " COLUMNS " FROM dataset WHERE name = ? AND sha256 = ? AND format = ?", "ttt", row->name,
                                  row->sha256, row->format);
    int step = code ? code : esp_stmt_step(stmt, reterr);
    if (step == 1) read_row(stmt, row);
    esp_stmt_close(stmt);
    return step == 0 ? insert_new(db, row, reterr) : step == 1 ? ESP_OK : (esp_code)step;
}

esp_code esp_dataset_find(esp_db *db, const char *text, esp_dataset_row *ret_row, esp_error *reterr) {
    static const esp_versions versions = {"dataset", COLUMNS, "dat", false};
    esp_stmt *stmt = NULL;
    esp_code code = esp_rows_find(db, &versions, text, &stmt, reterr);
    if (!code) read_row(stmt, ret_row);
    esp_stmt_close(stmt);
    return code;
}
