/* SPDX-License-Identifier: Apache-2.0
 * What the row modules share: versions of a name, and rows by reference. */
#include "registry/rows.h"

#include <stdio.h>

esp_code esp_rows_next_version(esp_db *db, const char *table, const char *name, int64_t *ret_version, esp_error *reterr) {
    char sql[240];
    snprintf(sql, sizeof sql,
             "SELECT max(ifnull((SELECT max(version) FROM %s WHERE name = ?1), 0),"
             " ifnull((SELECT max(version) FROM tombstone WHERE kind = '%s' AND name = ?1), 0)) + 1",
             table, table);
    return esp_db_int(db, ret_version, reterr, sql, "t", name);
}

static esp_code open_ref(esp_db *db, const esp_versions *versions, const esp_ref *ref, esp_stmt **ret_stmt, esp_error *reterr) {
    static const char *const where[] = {
        [ESP_REF_ID] = "t.id = ?",
        [ESP_REF_NEWEST] = "t.name = ? ORDER BY t.version DESC LIMIT 1",
        [ESP_REF_VERSION] = "t.name = ? AND t.version = ?",
        [ESP_REF_ALIAS] = "t.name = ? AND t.version = (SELECT version FROM alias WHERE name = t.name AND alias = ?)",
    };
    static const char *const types[] = {[ESP_REF_ID] = "t", [ESP_REF_NEWEST] = "t", [ESP_REF_VERSION] = "ti", [ESP_REF_ALIAS] = "tt"};
    char sql[512];
    int n = snprintf(sql, sizeof sql, "SELECT %s FROM %s t WHERE %s", versions->columns, versions->table, where[ref->kind]);
    if (n < 0 || (size_t)n >= sizeof sql) return esp_fail(reterr, ESP_INTERNAL, "statement too long");
    if (ref->kind == ESP_REF_ALIAS) return esp_stmt_open(db, ret_stmt, reterr, sql, types[ref->kind], ref->name, ref->alias);
    return esp_stmt_open(db, ret_stmt, reterr, sql, types[ref->kind], ref->name, ref->version);
}

esp_code esp_rows_one(esp_stmt *stmt, const char *what, const char *text, esp_error *reterr) {
    int step = esp_stmt_step(stmt, reterr);
    if (step == 0) return esp_fail(reterr, ESP_NOT_FOUND, "there is no %s '%.100s'", what, text);
    return step == 1 ? ESP_OK : (esp_code)step;
}

esp_code esp_rows_find(esp_db *db, const esp_versions *versions, const char *text, esp_stmt **ret_stmt, esp_error *reterr) {
    esp_ref ref;
    esp_code code = esp_ref_parse(text, versions->prefix, &ref, reterr);
    if (!code && ref.kind == ESP_REF_ALIAS && !versions->aliases)
        code = esp_fail(reterr, ESP_INVALID, "%ss have no aliases: '%.100s'", versions->table, text);
    if (!code) code = open_ref(db, versions, &ref, ret_stmt, reterr);
    return code ? code : esp_rows_one(*ret_stmt, versions->table, text, reterr);
}
