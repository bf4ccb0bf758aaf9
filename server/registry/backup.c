/* SPDX-License-Identifier: Apache-2.0
 * A copy of the database while it is in use, by SQLite's online backup: one read snapshot, all of its pages.
 *
 * The copy goes to a temporary name, is checked, synced and renamed, so a file under the wanted name is whole. It holds rows
 * only. Blobs are copied after it: they never change, and rows never name one that is not there, so whatever the rows of
 * the copy name is under DIR/blobs by then (unless garbage was collected in between, for which the daemon must be down). */
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include <fcntl.h>

#include "registry/db.h"

static esp_code copy_pages(esp_db *from, esp_db *to, esp_error *reterr) {
    sqlite3_backup *backup = sqlite3_backup_init(to->handle, "main", from->handle, "main");
    if (!backup) return esp_db_fail(to, reterr, "backup");
    int rc = sqlite3_backup_step(backup, -1);
    int end = sqlite3_backup_finish(backup);
    if (rc != SQLITE_DONE || end != SQLITE_OK) return esp_db_fail(to, reterr, "backup");
    return ESP_OK;
}

/* One file, without a WAL beside it, and sound. */
static esp_code settle(esp_db *db, esp_error *reterr) {
    esp_stmt *stmt = NULL;
    esp_code code = esp_db_exec(db, "PRAGMA journal_mode=DELETE", reterr);
    if (!code) code = esp_stmt_open(db, &stmt, reterr, "PRAGMA quick_check(1)", "");
    int step = code ? code : esp_stmt_step(stmt, reterr);
    if (step == 1 && strcmp(esp_stmt_text(stmt, 0, NULL), "ok") != 0)
        step = esp_fail(reterr, ESP_CORRUPT, "the copy is damaged: %s", esp_stmt_text(stmt, 0, NULL));
    esp_stmt_close(stmt);
    return step < 0 ? (esp_code)step : ESP_OK;
}

esp_code esp_db_backup(esp_db *db, const char *path, esp_error *reterr) {
    char temp[4096];
    esp_db *copy = NULL;
    if ((size_t)snprintf(temp, sizeof temp, "%s.partial", path) >= sizeof temp) return esp_fail(reterr, ESP_INVALID, "the backup's path is too long");
    (void)unlink(temp);
    int fd = open(temp, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (fd < 0) return esp_fail_errno(reterr, ESP_IO, "make %s", temp);
    close(fd);
    esp_code code = esp_db_open_copy(temp, &copy, reterr);
    if (!code) code = copy_pages(db, copy, reterr);
    if (!code) code = settle(copy, reterr);
    esp_db_close(copy);
    if (!code) code = esp_file_sync(temp, reterr);
    if (!code && rename(temp, path) != 0) code = esp_fail_errno(reterr, ESP_IO, "move the backup to %s", path);
    if (code) (void)unlink(temp);
    return code;
}

/* ---- from outside a daemon ------------------------------------------------------------------------------------------ */

/* It neither writes nor checkpoints, so it does no harm beside the writer of a daemon that runs. */
esp_code esp_registry_read_only(const char *dir, esp_db **ret_db, esp_error *reterr) {
    char path[4096];
    int64_t version = 0, application = 0;
    esp_db *db = NULL;
    if ((size_t)snprintf(path, sizeof path, "%s/registry.db", dir) >= sizeof path) return esp_fail(reterr, ESP_INVALID, "the path is too long");
    if (access(path, R_OK) != 0) return esp_fail_errno(reterr, ESP_IO, "read %s", path);
    esp_code code = esp_db_open(path, false, &db, reterr);
    if (!code) code = esp_db_int(db, &application, reterr, "PRAGMA application_id", "");
    if (!code) code = esp_db_int(db, &version, reterr, "PRAGMA user_version", "");
    if (!code && application != ESP_APPLICATION_ID) code = esp_fail(reterr, ESP_CORRUPT, "%s is not a registry of this service", path);
    if (!code && version != esp_schema_version())
        code = esp_fail(reterr, ESP_STATE, "%s has schema %lld, this release knows %d; %s", path, (long long)version, esp_schema_version(),
                        version > esp_schema_version() ? "run the newer release" : "start the daemon of this release once");
    if (code) {
        esp_db_close(db);
        return code;
    }
    *ret_db = db;
    return ESP_OK;
}

void esp_registry_read_release(esp_db *db) {
    esp_db_close(db);
}

esp_code esp_registry_backup(esp_db *db, const char *path, esp_error *reterr) {
    if (access(path, F_OK) == 0) return esp_fail(reterr, ESP_CONFLICT, "%s is there already", path);
    return esp_db_backup(db, path, reterr);
}
