/* SPDX-License-Identifier: Apache-2.0
 * Brings the registry's schema forward: schema/db/NNNN_*.sql in order, each in one transaction that also moves
 * user_version to NNNN, after a copy of what was there. There is no way back; a file from a newer release is refused untouched. */
#include "registry/db.h"

#include <stdio.h>

#include "embed.h"

static const struct migration {
    const char *name, *sql;
} migrations[] = {
    {"0001_init", esp_embed_db_0001}, {"0002_service", esp_embed_db_0002}, {"0003_lists", esp_embed_db_0003},
    {"0004_jobs", esp_embed_db_0004}, {"0005_graphs", esp_embed_db_0005},
};
enum { NEWEST = sizeof migrations / sizeof migrations[0] };

int esp_schema_version(void) {
    return NEWEST;
}

static esp_code apply(esp_db *db, int number, esp_error *reterr) {
    char pragma[64];
    esp_code code = esp_db_exec(db, "BEGIN EXCLUSIVE", reterr);
    if (code) return code;
    code = esp_db_exec(db, migrations[number - 1].sql, reterr);
    if (!code) {
        sqlite3_snprintf(sizeof pragma, pragma, "PRAGMA user_version=%d", number);
        code = esp_db_exec(db, pragma, reterr);
    }
    if (!code && number == 1) {
        sqlite3_snprintf(sizeof pragma, pragma, "PRAGMA application_id=%d", ESP_APPLICATION_ID);
        code = esp_db_exec(db, pragma, reterr);
    }
    if (!code) code = esp_db_exec(db, "COMMIT", reterr);
    if (code) {
        esp_db_rollback(db);
        return esp_error_wrap(reterr, code, "migration %s", migrations[number - 1].name);
    }
    return ESP_OK;
}

/* Rows that exist are copied before they are touched: there is no way back. */
static esp_code keep_copy(esp_db *db, const char *dir, int version, esp_error *reterr) {
    char path[4096];
    int n = snprintf(path, sizeof path, "%s/registry.db.before-%04d", dir, version + 1);
    if (n < 0 || (size_t)n >= sizeof path) return esp_fail(reterr, ESP_INVALID, "the data directory's path is too long");
    esp_code code = esp_db_backup(db, path, reterr);
    return code ? esp_error_wrap(reterr, code, "the copy before migrating") : ESP_OK;
}

esp_code esp_db_migrate(esp_db *db, const char *dir, esp_error *reterr) {
    int64_t version = 0, application = 0, objects = 0;
    esp_code code = esp_db_int(db, &version, reterr, "PRAGMA user_version", "");
    if (!code) code = esp_db_int(db, &application, reterr, "PRAGMA application_id", "");
    if (!code) code = esp_db_int(db, &objects, reterr, "SELECT count(*) FROM sqlite_schema", "");
    if (code) return code;
    if (application != ESP_APPLICATION_ID && (application != 0 || objects != 0)) {
        return esp_fail(reterr, ESP_CORRUPT, "registry.db is not a registry of this service (application_id %lld)", (long long)application);
    }
    if (version > NEWEST) {
        return esp_fail(reterr, ESP_STATE, "registry.db has schema %lld, newer than the %d this release knows; run the newer release",
                        (long long)version, NEWEST);
    }
    if (version > 0 && version < NEWEST) code = keep_copy(db, dir, (int)version, reterr);
    for (int number = (int)version + 1; number <= NEWEST && !code; number++) code = apply(db, number, reterr);
    return code;
}
