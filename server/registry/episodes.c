/* SPDX-License-Identifier: Apache-2.0
 * Rows that robots and people add to models: episodes and tags. Their totals are a trigger's work (schema/db/0002_service.sql). */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "registry/rows.h"

void esp_episode_row_done(esp_episode_row *row) {
    if (!row) return;
    free(row->metrics);
    row->metrics = NULL;
}

esp_code esp_episode_insert(esp_db *db, esp_episode_row *row, esp_error *reterr) {
    if (!isfinite(row->cost)) return esp_fail(reterr, ESP_NUMERIC, "an episode's cost is not a number");
    esp_id_make("epi", row->id);
    row->created_ms = esp_clock_wall_ms();
    return esp_db_run(
        db, reterr,
        "INSERT INTO episode (id, model, task, robot, steps, cost, success, metrics, created_ms) VALUES (?, ?, ?, ?, ?, ?, nullif(?, -1), ?, ?)",
        "ttttiriti", row->id, row->model, row->task, row->robot, row->steps, row->cost, (int64_t)row->success, row->metrics, row->created_ms);
}

/* ---- tags ----------------------------------------------------------------------------------------------------------- */

bool esp_tag_ok(const char *tag) {
    static const char letters[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
    size_t len = strlen(tag);
    if (len == 0 || len > ESP_NAME_MAX || !strchr(letters, tag[0])) return false;
    for (; *tag; tag++) {
        if (!strchr(letters, *tag) && !strchr("._:=-", *tag)) return false;
    }
    return true;
}

esp_code esp_tag_set(esp_db *db, const char *model_id, const char *tag, esp_error *reterr) {
    return esp_db_run(db, reterr, "INSERT INTO tag (model, tag, at_ms) VALUES (?, ?, ?) ON CONFLICT DO NOTHING", "tti", model_id, tag,
                      esp_clock_wall_ms());
}

esp_code esp_tag_clear(esp_db *db, const char *model_id, const char *tag, esp_error *reterr) {
    return esp_db_run(db, reterr, "DELETE FROM tag WHERE model = ? AND tag = ?", "tt", model_id, tag);
}
