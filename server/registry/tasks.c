/* SPDX-License-Identifier: Apache-2.0
 * Task rows. */
#include <assert.h>
#include <stdlib.h>

#include "base/clock.h"
#include "registry/rows.h"

#define COLUMNS "id, name, version, model, created_ms, body"

void esp_task_row_done(esp_task_row *row) {
    if (!row) return;
    free(row->body);
    row->body = NULL;
}

static void read_head(esp_stmt *s, esp_task_row *row) {
    esp_stmt_copy(s, 0, row->id, sizeof row->id);
    esp_stmt_copy(s, 1, row->name, sizeof row->name);
    row->version = esp_stmt_int(s, 2);
    esp_stmt_copy(s, 3, row->model, sizeof row->model);
    row->created_ms = esp_stmt_int(s, 4);
}

static esp_code insert_new(esp_db *db, esp_task_row *row, esp_error *reterr) {
    esp_code code = esp_rows_next_version(db, "task", row->name, &row->version, reterr);
    if (code) return code;
    esp_id_make("tsk", row->id);
    row->created_ms = esp_clock_wall_ms();
    return esp_db_run(db, reterr, "INSERT INTO task (" COLUMNS ") VALUES (?, ?, ?, ?, ?, ?)", "ttitit", row->id, row->name, row->version, row->model,
                      row->created_ms, row->body);
}

/* The same name, model and body as an existing version is that version. */
esp_code esp_task_insert(esp_db *db, esp_task_row *row, esp_error *reterr) {
    assert(esp_name_ok(row->name));
    esp_stmt *stmt = NULL;
    esp_code code = esp_stmt_open(db, &stmt, reterr, "SELECT " COLUMNS " FROM task WHERE name = ? AND model = ? AND body = ?", "ttt", row->name,
                                  row->model, row->body);
    int step = code ? code : esp_stmt_step(stmt, reterr);
    if (step == 1) read_head(stmt, row);
    esp_stmt_close(stmt);
    return step == 0 ? insert_new(db, row, reterr) : step == 1 ? ESP_OK : (esp_code)step;
}

esp_code esp_task_find(esp_db *db, const char *text, esp_task_row *ret_row, esp_error *reterr) {
    static const esp_versions versions = {"task", COLUMNS, "tsk", false};
    esp_stmt *stmt = NULL;
    char *body = NULL;
    esp_code code = esp_rows_find(db, &versions, text, &stmt, reterr);
    if (!code) code = esp_stmt_dup(stmt, 5, &body, reterr);
    if (!code) {
        read_head(stmt, ret_row);
        ret_row->body = body;
    }
    esp_stmt_close(stmt);
    return code;
}
