/* SPDX-License-Identifier: Apache-2.0
 * Deleting a model or a dataset: refused while anything refers to it, and then for good.
 *
 * A model's own certificates and tags go with it. What refers to it are other models trained or pruned from it, aliases,
 * tasks, certificates that compare with it, episodes, and jobs that wait or run. The version is kept in a tombstone and never
 * given again; the blob stays until garbage is collected. */
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "registry/rows.h"

enum { NAMED = 6 };

/* ?1 is the id. Each row names one reference. */
#define LIVE_JOBS "SELECT 'job ' || j.id FROM job j WHERE j.state IN ('queued', 'running', 'cancelling') AND instr(j.spec, '\"' || ?1 || '\"') > 0"
#define MODEL_REFERENCES                                                                                                                             \
    "SELECT 'model ' || c.name || '/' || c.version FROM model c WHERE c.parent = ?1"                                                                 \
    " UNION ALL SELECT 'alias ' || a.name || '@' || a.alias FROM model m JOIN alias a ON a.name = m.name AND a.version = m.version WHERE m.id = ?1"  \
    " UNION ALL SELECT 'task ' || t.name || '/' || t.version FROM task t WHERE t.model = ?1"                                                         \
    " UNION ALL SELECT 'certificate ' || c.id FROM certificate c WHERE c.reference = ?1 AND c.model <> ?1"                                           \
    " UNION ALL SELECT sum(e.episodes) || ' episodes of task ' || e.task FROM episode_total e WHERE e.model = ?1 GROUP BY e.task"                    \
    " UNION ALL " LIVE_JOBS                                                                                                                          \
    " UNION ALL SELECT 'job ' || j.id FROM model m JOIN job j ON j.id = m.job WHERE m.id = ?1 AND j.state IN ('running', 'cancelling')"
#define DATASET_REFERENCES "SELECT 'model ' || m.name || '/' || m.version FROM model m WHERE m.dataset = ?1 UNION ALL " LIVE_JOBS

/* CONFLICT naming the first few. */
static esp_code refuse_referenced(esp_db *db, const char *sql, const char *id, const char *what, const char *name, int64_t version,
                                  esp_error *reterr) {
    esp_stmt *stmt = NULL;
    char named[220] = "";
    size_t len = 0, n = 0;
    esp_code code = esp_stmt_open(db, &stmt, reterr, sql, "t", id);
    int step = code ? code : esp_stmt_step(stmt, reterr);
    for (; step == 1; step = esp_stmt_step(stmt, reterr), n++) {
        if (n >= NAMED || len >= sizeof named) continue;
        int more = snprintf(named + len, sizeof named - len, "%s%s", n ? ", " : "", esp_stmt_text(stmt, 0, NULL));
        len += more > 0 ? (size_t)more : 0;
    }
    esp_stmt_close(stmt);
    if (step < 0) return (esp_code)step;
    if (n == 0) return ESP_OK;
    return esp_fail(reterr, ESP_CONFLICT, "%s %.60s/%lld is referred to by %zu: %s%s", what, name, (long long)version, n, named,
                    n > NAMED ? ", ..." : "");
}

static esp_code bury(esp_db *db, const char *kind, const char *id, const char *name, int64_t version, const char *sha256, const char *actor,
                     esp_error *reterr) {
    return esp_db_run(db, reterr, "INSERT INTO tombstone (id, kind, name, version, sha256, actor, at_ms) VALUES (?, ?, ?, ?, ?, ?, ?)", "tttitti", id,
                      kind, name, version, sha256, actor, esp_clock_wall_ms());
}

esp_code esp_model_delete(esp_db *db, const char *ref, const char *actor, esp_error *reterr) {
    esp_model_row row = {0};
    esp_code code = esp_model_find(db, ref, &row, reterr);
    if (code) return code;
    esp_model_row_done(&row);
    code = refuse_referenced(db, MODEL_REFERENCES, row.id, "model", row.name, row.version, reterr);
    if (!code) code = esp_db_run(db, reterr, "DELETE FROM certificate WHERE model = ?", "t", row.id);
    if (!code) code = esp_db_run(db, reterr, "DELETE FROM tag WHERE model = ?", "t", row.id);
    if (!code) code = esp_db_run(db, reterr, "DELETE FROM model WHERE id = ?", "t", row.id);
    return code ? code : bury(db, "model", row.id, row.name, row.version, row.sha256, actor, reterr);
}

esp_code esp_dataset_delete(esp_db *db, const char *ref, const char *actor, esp_error *reterr) {
    esp_dataset_row row;
    esp_code code = esp_dataset_find(db, ref, &row, reterr);
    if (!code) code = refuse_referenced(db, DATASET_REFERENCES, row.id, "dataset", row.name, row.version, reterr);
    if (!code) code = esp_db_run(db, reterr, "DELETE FROM dataset WHERE id = ?", "t", row.id);
    return code ? code : bury(db, "dataset", row.id, row.name, row.version, row.sha256, actor, reterr);
}
