/* SPDX-License-Identifier: Apache-2.0
 * Model rows and the aliases that point at them. */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/json.h"
#include "registry/rows.h"

#define COLUMNS "id, name, version, sha256, kind, parent, dataset, job, ny, nu, history, relu, parameters, nonzero, created_ms, spec, metrics, graph"

void esp_model_row_done(esp_model_row *row) {
    if (!row) return;
    free(row->spec);
    free(row->metrics);
    free(row->graph);
    row->spec = row->metrics = row->graph = NULL;
}

/* The numbers that sizes are checked by. */
static esp_code read_graph(esp_model_row *row, esp_error *reterr) {
    esp_json *json = NULL;
    if (!row->graph) return ESP_OK;
    esp_code code = esp_json_parse(row->graph, strlen(row->graph), &json, reterr);
    if (code) return code;
    esp_reader root = esp_reader_root(json), objects = esp_read_member(&root, "objects"), size = esp_read_member(&root, "size"),
               neurons = esp_read_member(&root, "neurons");
    code = esp_read_integer(&objects, 1, ESP_OBJECTS_MAX, &row->objects, reterr);
    if (!code) code = esp_read_integer(&size, 1, INT32_MAX, &row->object_size, reterr);
    if (!code) code = esp_read_integer(&neurons, 0, INT32_MAX, &row->neurons, reterr);
    esp_json_free(json);
    return code;
}

bool esp_model_row_takes(const esp_model_row *row, int64_t ny) {
    if (!row->object_size) return ny == row->ny;
    int64_t more = ny - row->ny, n = row->objects + more / row->object_size;
    return more % row->object_size == 0 && n >= 1 && n <= ESP_OBJECTS_MAX;
}

static esp_code read_row(esp_stmt *s, esp_model_row *ret_row, esp_error *reterr) {
    esp_model_row row = {0};
    esp_stmt_copy(s, 0, row.id, sizeof row.id);
    esp_stmt_copy(s, 1, row.name, sizeof row.name);
    row.version = esp_stmt_int(s, 2);
    esp_stmt_copy(s, 3, row.sha256, sizeof row.sha256);
    esp_stmt_copy(s, 4, row.kind, sizeof row.kind);
    esp_stmt_copy(s, 5, row.parent, sizeof row.parent);
    esp_stmt_copy(s, 6, row.dataset, sizeof row.dataset);
    esp_stmt_copy(s, 7, row.job, sizeof row.job);
    int64_t *const numbers[] = {&row.ny, &row.nu, &row.history, &row.relu, &row.parameters, &row.nonzero, &row.created_ms};
    for (int i = 0; i < 7; i++) *numbers[i] = esp_stmt_int(s, 8 + i);
    esp_code code = esp_stmt_dup(s, 15, &row.spec, reterr);
    if (!code) code = esp_stmt_dup(s, 16, &row.metrics, reterr);
    if (!code) code = esp_stmt_dup(s, 17, &row.graph, reterr);
    if (!code) code = read_graph(&row, reterr);
    if (code) {
        esp_model_row_done(&row);
        return code;
    }
    *ret_row = row;
    return ESP_OK;
}

static esp_code insert_new(esp_db *db, esp_model_row *row, esp_error *reterr) {
    esp_code code = esp_rows_next_version(db, "model", row->name, &row->version, reterr);
    if (code) return code;
    esp_id_make("mdl", row->id);
    row->created_ms = esp_clock_wall_ms();
    return esp_db_run(db, reterr, "INSERT INTO model (" COLUMNS ") VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                      "ttitteeeiiiiiiittt", row->id, row->name, row->version, row->sha256, row->kind, row->parent, row->dataset, row->job, row->ny,
                      row->nu, row->history, row->relu, row->parameters, row->nonzero, row->created_ms, row->spec, row->metrics, row->graph);
}

esp_code esp_model_insert(esp_db *db, esp_model_row *row, esp_error *reterr) {
    assert(esp_name_ok(row->name));
    esp_stmt *stmt = NULL;
    esp_model_row found = {0};
    esp_code code = esp_stmt_open(db, &stmt, reterr,
                                  "SELECT " COLUMNS " FROM model WHERE name = ? AND sha256 = ? AND ifnull(parent, '') = ? AND ifnull(dataset, '') = ?"
                                  " AND ifnull(spec, '') = ?",
                                  "ttttt", row->name, row->sha256, row->parent, row->dataset, row->spec ? row->spec : "");
    int step = code ? code : esp_stmt_step(stmt, reterr);
    code = step < 0 ? (esp_code)step : step == 1 ? read_row(stmt, &found, reterr) : ESP_OK;
    esp_stmt_close(stmt);
    if (code) return code;
    if (step == 0) return insert_new(db, row, reterr);
    esp_model_row_done(row);
    *row = found;
    return ESP_OK;
}

esp_code esp_model_find(esp_db *db, const char *text, esp_model_row *ret_row, esp_error *reterr) {
    static const esp_versions versions = {"model", COLUMNS, "mdl", true};
    esp_stmt *stmt = NULL;
    esp_code code = esp_rows_find(db, &versions, text, &stmt, reterr);
    if (!code) code = read_row(stmt, ret_row, reterr);
    esp_stmt_close(stmt);
    return code;
}

/* ---- aliases -------------------------------------------------------------------------------------------------------- */

#define ALIAS_NOW                                                                                                                                    \
    "SELECT a.version, a.event, a.updated_ms, m.id FROM alias a JOIN model m ON m.name = a.name AND m.version = a.version"                           \
    " WHERE a.name = ? AND a.alias = ?"
#define ALIAS_THEN                                                                                                                                   \
    "SELECT e.new_version, e.seq, e.at_ms, m.id FROM alias_event e JOIN model m ON m.name = e.name AND m.version = e.new_version"                    \
    " WHERE e.name = ? AND e.alias = ? AND e.at_ms <= ? ORDER BY e.at_ms DESC, e.seq DESC LIMIT 1"

esp_code esp_alias_find(esp_db *db, const char *name, const char *alias, int64_t at_ms, esp_alias_row *ret_row, esp_error *reterr) {
    if (!esp_name_ok(name) || !esp_name_ok(alias)) return esp_fail(reterr, ESP_NOT_FOUND, "there is no such alias");
    esp_stmt *s = NULL;
    esp_code code = esp_stmt_open(db, &s, reterr, at_ms < 0 ? ALIAS_NOW : ALIAS_THEN, at_ms < 0 ? "tt" : "tti", name, alias, at_ms);
    if (!code) code = esp_rows_one(s, "alias", alias, reterr);
    if (!code) {
        esp_alias_row row = {.version = esp_stmt_int(s, 0), .event = esp_stmt_int(s, 1), .updated_ms = esp_stmt_int(s, 2)};
        strcpy(row.name, name); /* which may be ret_row's own */
        strcpy(row.alias, alias);
        esp_stmt_copy(s, 3, row.model, sizeof row.model);
        *ret_row = row;
    }
    esp_stmt_close(s);
    return code;
}

static esp_code alias_write(esp_db *db, const esp_alias_row *row, int64_t old_version, const char *actor, esp_error *reterr) {
    int64_t now = esp_clock_wall_ms(), event = 0;
    esp_code code = esp_db_int(db, &event, reterr,
                               "INSERT INTO alias_event (name, alias, old_version, new_version, actor, at_ms) VALUES (?, ?, nullif(?, 0), ?, ?, ?)"
                               " RETURNING seq",
                               "ttiiti", row->name, row->alias, old_version, row->version, actor, now);
    if (code) return code;
    return esp_db_run(db, reterr,
                      "INSERT INTO alias (name, alias, version, event, updated_ms) VALUES (?, ?, ?, ?, ?)"
                      " ON CONFLICT (name, alias) DO UPDATE SET version = excluded.version, event = excluded.event, updated_ms = excluded.updated_ms",
                      "ttiii", row->name, row->alias, row->version, event, now);
}

esp_code esp_alias_set(esp_db *db, esp_alias_row *row, int64_t expect, const char *actor, esp_error *reterr) {
    assert(esp_name_ok(row->name) && esp_name_ok(row->alias));
    int64_t exists = 0, event = 0, old_version = 0;
    esp_code code = esp_db_int(db, &exists, reterr, "SELECT 1 FROM model WHERE name = ? AND version = ?", "ti", row->name, row->version);
    if (!code && !exists) code = esp_fail_at(reterr, ESP_NOT_FOUND, "/version", "there is no model %s/%lld", row->name, (long long)row->version);
    if (!code) code = esp_db_int(db, &event, reterr, "SELECT event FROM alias WHERE name = ? AND alias = ?", "tt", row->name, row->alias);
    if (!code) code = esp_db_int(db, &old_version, reterr, "SELECT version FROM alias WHERE name = ? AND alias = ?", "tt", row->name, row->alias);
    if (code) return code;
    if (expect >= 0 && expect != event) return esp_fail(reterr, ESP_PRECONDITION, "alias %s@%s has changed since", row->name, row->alias);
    if (event == 0 || old_version != row->version) code = alias_write(db, row, old_version, actor, reterr);
    return code ? code : esp_alias_find(db, row->name, row->alias, -1, row, reterr);
}
