/* SPDX-License-Identifier: Apache-2.0
 * Job rows, their moves (schema/states.def) and their events. Running jobs is server/jobs. */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "registry/rows.h"

#define COLUMNS                                                                                                                                      \
    "id, kind, state, priority, attempt, crashes, run_limit_s, created_ms, ifnull(started_ms, 0), ifnull(ended_ms, 0), spec, progress, result, "     \
    "error, not_before_ms"
enum { PROGRESS_EVENTS_MAX = 2000, LOG_EVENTS_MAX = 64 };

/* ---- states --------------------------------------------------------------------------------------------------------- */

const char *const esp_job_state_names[ESP_JOB_STATES + 1] = {
#define STATE(symbol, name, terminal) name,
#include "states.def"
#undef STATE
    NULL,
};

bool esp_job_state_terminal(esp_job_state state) {
    static const bool ends[] = {
#define STATE(symbol, name, terminal) terminal,
#include "states.def"
#undef STATE
    };
    assert(state < ESP_JOB_STATES);
    return ends[state];
}

bool esp_job_move_allowed(esp_job_state from, esp_job_state to) {
    static const struct {
        esp_job_state from, to;
    } moves[] = {
#define MOVE(f, t, why) {ESP_JOB_##f, ESP_JOB_##t},
#include "states.def"
#undef MOVE
    };
    for (size_t i = 0; i < sizeof moves / sizeof moves[0]; i++) {
        if (moves[i].from == from && moves[i].to == to) return true;
    }
    return false;
}

static esp_job_state state_of(const char *name) {
    for (int i = 0; i < ESP_JOB_STATES; i++) {
        if (strcmp(esp_job_state_names[i], name) == 0) return (esp_job_state)i;
    }
    assert(!"a state that the table's CHECK lets through");
    return ESP_JOB_FAILED;
}

/* ---- rows ----------------------------------------------------------------------------------------------------------- */

void esp_job_row_done(esp_job_row *row) {
    if (!row) return;
    free(row->spec);
    free(row->progress);
    free(row->result);
    free(row->error);
    row->spec = row->progress = row->result = row->error = NULL;
}

static esp_code read_row(esp_stmt *s, esp_job_row *ret_row, esp_error *reterr) {
    esp_job_row row = {0};
    esp_stmt_copy(s, 0, row.id, sizeof row.id);
    esp_stmt_copy(s, 1, row.kind, sizeof row.kind);
    row.state = state_of(esp_stmt_text(s, 2, NULL));
    row.priority = esp_stmt_int(s, 3);
    row.attempt = esp_stmt_int(s, 4);
    row.crashes = esp_stmt_int(s, 5);
    row.run_limit_s = esp_stmt_real(s, 6);
    row.created_ms = esp_stmt_int(s, 7);
    row.started_ms = esp_stmt_int(s, 8);
    row.ended_ms = esp_stmt_int(s, 9);
    row.not_before_ms = esp_stmt_int(s, 14);
    char **const texts[] = {&row.spec, &row.progress, &row.result, &row.error};
    esp_code code = ESP_OK;
    for (int i = 0; i < 4 && !code; i++) code = esp_stmt_dup(s, 10 + i, texts[i], reterr);
    if (code) {
        esp_job_row_done(&row);
        return code;
    }
    *ret_row = row;
    return ESP_OK;
}

static esp_code state_event(esp_db *db, const char *id, esp_job_state state, int64_t attempt, const char *error, esp_error *reterr) {
    esp_buf text = {0};
    esp_jsonw w = esp_jsonw_on(&text);
    esp_jsonw_object(&w, NULL);
    esp_jsonw_string(&w, "state", esp_job_state_names[state]);
    esp_jsonw_integer(&w, "attempt", attempt);
    if (error) esp_jsonw_raw(&w, "error", error, strlen(error));
    esp_jsonw_object_end(&w);
    esp_code code = text.failed ? esp_fail(reterr, ESP_NOMEM, "no memory for an event") : ESP_OK;
    if (!code) code = esp_event_append(db, id, "state", esp_buf_text(&text), reterr);
    esp_buf_done(&text);
    return code;
}

esp_code esp_job_insert(esp_db *db, esp_job_row *row, esp_error *reterr) {
    esp_id_make("job", row->id);
    row->created_ms = esp_clock_wall_ms();
    row->state = ESP_JOB_QUEUED;
    row->attempt = row->crashes = row->started_ms = row->ended_ms = 0;
    free(row->progress);
    row->progress = strdup("{\"fraction\":0,\"stage\":\"queued\",\"metrics\":{}}");
    if (!row->progress) return esp_fail(reterr, ESP_NOMEM, "no memory for a job");
    esp_code code = esp_db_run(
        db, reterr,
        "INSERT INTO job (id, kind, state, priority, run_limit_s, spec, progress, token, created_ms) VALUES (?, ?, 'queued', ?, ?, ?, ?, ?, ?)",
        "ttirttei", row->id, row->kind, row->priority, row->run_limit_s, row->spec, row->progress, row->token, row->created_ms);
    return code ? code : state_event(db, row->id, ESP_JOB_QUEUED, 0, NULL, reterr);
}

esp_code esp_job_find(esp_db *db, const char *id, esp_job_row *ret_row, esp_error *reterr) {
    esp_stmt *stmt = NULL;
    esp_code code = esp_stmt_open(db, &stmt, reterr, "SELECT " COLUMNS " FROM job WHERE id = ?", "t", id);
    if (!code) code = esp_rows_one(stmt, "job", id, reterr);
    if (!code) code = read_row(stmt, ret_row, reterr);
    esp_stmt_close(stmt);
    return code;
}

esp_code esp_job_next(esp_db *db, esp_job_row *ret_row, esp_error *reterr) {
    esp_stmt *stmt = NULL;
    esp_code code = esp_stmt_open(db, &stmt, reterr,
                                  "SELECT " COLUMNS " FROM job WHERE state = 'queued' AND not_before_ms <= ? ORDER BY priority DESC, id LIMIT 1", "i",
                                  esp_clock_wall_ms());
    if (!code) code = esp_rows_one(stmt, "job", "queued", reterr);
    if (!code) code = read_row(stmt, ret_row, reterr);
    esp_stmt_close(stmt);
    return code;
}

esp_code esp_job_next_due(esp_db *db, int64_t *ret_ms, esp_error *reterr) {
    return esp_db_int(db, ret_ms, reterr, "SELECT ifnull(min(not_before_ms), 0) FROM job WHERE state = 'queued'", "");
}

esp_code esp_job_delay(esp_db *db, const char *id, int64_t until_ms, esp_error *reterr) {
    return esp_db_run(db, reterr, "UPDATE job SET not_before_ms = ? WHERE id = ? AND state = 'queued'", "it", until_ms, id);
}

/* ---- moves ---------------------------------------------------------------------------------------------------------- */

static esp_code read_state(esp_db *db, const char *id, esp_job_state *ret_state, int64_t *ret_attempt, esp_error *reterr) {
    esp_stmt *stmt = NULL;
    esp_code code = esp_stmt_open(db, &stmt, reterr, "SELECT state, attempt FROM job WHERE id = ?", "t", id);
    if (!code) code = esp_rows_one(stmt, "job", id, reterr);
    if (!code) {
        *ret_state = state_of(esp_stmt_text(stmt, 0, NULL));
        *ret_attempt = esp_stmt_int(stmt, 1);
    }
    esp_stmt_close(stmt);
    return code;
}

/* The state, and what goes with it: the attempt and start of a run, the end of an ended job. */
static esp_code write_move(esp_db *db, const char *id, esp_job_state to, const char *result, const char *error, esp_error *reterr) {
    int64_t now = esp_clock_wall_ms();
    const char *name = esp_job_state_names[to];
    if (to == ESP_JOB_RUNNING) {
        return esp_db_run(db, reterr, "UPDATE job SET state = ?, attempt = attempt + 1, started_ms = ?, not_before_ms = 0 WHERE id = ?", "tit", name,
                          now, id);
    }
    if (to == ESP_JOB_QUEUED) return esp_db_run(db, reterr, "UPDATE job SET state = ?, started_ms = NULL WHERE id = ?", "tt", name, id);
    if (!esp_job_state_terminal(to)) return esp_db_run(db, reterr, "UPDATE job SET state = ? WHERE id = ?", "tt", name, id);
    return esp_db_run(db, reterr, "UPDATE job SET state = ?, ended_ms = ?, result = ?, error = ? WHERE id = ?", "tittt", name, now, result, error,
                      id);
}

esp_code esp_job_move(esp_db *db, const char *id, int64_t attempt, esp_job_state to, const char *result, const char *error, esp_error *reterr) {
    esp_job_state from = ESP_JOB_QUEUED;
    int64_t present = 0;
    esp_code code = read_state(db, id, &from, &present, reterr);
    if (code) return code;
    if (attempt >= 0 && attempt != present) {
        return esp_fail(reterr, ESP_STATE, "job %s is at attempt %lld, not %lld", id, (long long)present, (long long)attempt);
    }
    if (!esp_job_move_allowed(from, to)) {
        return esp_fail(reterr, ESP_STATE, "job %s is %s and cannot become %s", id, esp_job_state_names[from], esp_job_state_names[to]);
    }
    code = write_move(db, id, to, result, error, reterr);
    return code ? code : state_event(db, id, to, to == ESP_JOB_RUNNING ? present + 1 : present, error, reterr);
}

/* Of one type of event only so many, the newest. */
static esp_code keep_newest(esp_db *db, const char *id, const char *type, int64_t most, esp_error *reterr) {
    int64_t count = 0;
    esp_code code = esp_db_int(db, &count, reterr, "SELECT count(*) FROM job_event WHERE job = ? AND type = ?", "tt", id, type);
    if (code || count <= most) return code;
    return esp_db_run(
        db, reterr, "DELETE FROM job_event WHERE job = ?1 AND seq IN (SELECT seq FROM job_event WHERE job = ?1 AND type = ?2 ORDER BY seq LIMIT ?3)",
        "tti", id, type, count - most);
}

esp_code esp_job_progress(esp_db *db, const char *id, int64_t attempt, const char *progress, esp_error *reterr) {
    esp_job_state state = ESP_JOB_QUEUED;
    int64_t present = 0;
    esp_code code = read_state(db, id, &state, &present, reterr);
    if (code) return code;
    if (attempt != present || esp_job_state_terminal(state) || state == ESP_JOB_QUEUED) {
        return esp_fail(reterr, ESP_STATE, "job %s does not run attempt %lld", id, (long long)attempt);
    }
    code = esp_db_run(db, reterr, "UPDATE job SET progress = ? WHERE id = ?", "tt", progress, id);
    if (!code) code = esp_event_append(db, id, "progress", progress, reterr);
    return code ? code : keep_newest(db, id, "progress", PROGRESS_EVENTS_MAX, reterr);
}

esp_code esp_job_say(esp_db *db, const char *id, int64_t attempt, const char *text, esp_error *reterr) {
    esp_buf data = {0};
    esp_jsonw w = esp_jsonw_on(&data);
    esp_jsonw_object(&w, NULL);
    esp_jsonw_integer(&w, "attempt", attempt);
    esp_jsonw_string(&w, "text", text);
    esp_jsonw_object_end(&w);
    esp_code code = data.failed ? esp_fail(reterr, ESP_NOMEM, "no memory for an event") : ESP_OK;
    if (!code) code = esp_event_append(db, id, "log", esp_buf_text(&data), reterr);
    esp_buf_done(&data);
    return code ? code : keep_newest(db, id, "log", LOG_EVENTS_MAX, reterr);
}

esp_code esp_job_crashed(esp_db *db, const char *id, esp_error *reterr) {
    return esp_db_run(db, reterr, "UPDATE job SET crashes = crashes + 1 WHERE id = ?", "t", id);
}

esp_code esp_job_kept(esp_db *db, const char *id, esp_error *reterr) {
    return esp_db_run(db, reterr, "UPDATE job SET crashes = 0 WHERE id = ? AND crashes > 0", "t", id);
}

esp_code esp_job_recover(esp_db *db, esp_error *reterr) {
    for (;;) {
        esp_stmt *stmt = NULL;
        char id[ESP_ID_MAX] = "";
        esp_job_state to = ESP_JOB_QUEUED;
        esp_code code = esp_stmt_open(db, &stmt, reterr, "SELECT id, state FROM job WHERE state IN ('running', 'cancelling') LIMIT 1", "");
        int step = code ? code : esp_stmt_step(stmt, reterr);
        if (step == 1) {
            esp_stmt_copy(stmt, 0, id, sizeof id);
            if (state_of(esp_stmt_text(stmt, 1, NULL)) == ESP_JOB_CANCELLING) to = ESP_JOB_CANCELLED;
        }
        esp_stmt_close(stmt);
        if (step != 1) return (esp_code)step;
        code = esp_job_move(db, id, -1, to, NULL, NULL, reterr);
        if (code) return code;
    }
}

/* ---- events --------------------------------------------------------------------------------------------------------- */

esp_code esp_event_append(esp_db *db, const char *job, const char *type, const char *data, esp_error *reterr) {
    return esp_db_run(db, reterr,
                      "INSERT INTO job_event (job, seq, type, data, at_ms)"
                      " SELECT ?1, ifnull(max(seq), 0) + 1, ?2, ?3, ?4 FROM job_event WHERE job = ?1",
                      "ttti", job, type, data, esp_clock_wall_ms());
}

esp_code esp_event_append_once(esp_db *db, const char *job, const char *type, const char *data, esp_error *reterr) {
    int64_t n = 0;
    esp_code code = esp_db_int(db, &n, reterr, "SELECT count(*) FROM job_event WHERE job = ? AND type = ? AND data = ?", "ttt", job, type, data);
    return code || n ? code : esp_event_append(db, job, type, data, reterr);
}

esp_code esp_event_read(esp_db *db, const char *job, int64_t after, size_t max, esp_event_row *ret_events, size_t *ret_n, esp_error *reterr) {
    esp_stmt *stmt = NULL;
    size_t n = 0;
    esp_code code = esp_stmt_open(db, &stmt, reterr, "SELECT seq, type, data FROM job_event WHERE job = ? AND seq > ? ORDER BY seq LIMIT ?", "tii",
                                  job, after, (int64_t)max);
    int step = code ? code : esp_stmt_step(stmt, reterr);
    while (step == 1) {
        esp_event_row *row = &ret_events[n];
        row->seq = esp_stmt_int(stmt, 0);
        esp_stmt_copy(stmt, 1, row->type, sizeof row->type);
        code = esp_stmt_dup(stmt, 2, &row->data, reterr);
        if (code) break;
        n++;
        step = esp_stmt_step(stmt, reterr);
    }
    esp_stmt_close(stmt);
    if (!code && step < 0) code = (esp_code)step;
    if (code) {
        for (size_t i = 0; i < n; i++) free(ret_events[i].data);
        return code;
    }
    *ret_n = n;
    return ESP_OK;
}
