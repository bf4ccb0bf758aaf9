/* SPDX-License-Identifier: Apache-2.0
 * /v1/jobs: submit, list, look at, wait for, follow, cancel. Running them is server/jobs. */
#include "api.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "create.h"
#include "jobs/jobs.h"
#include "list.h"
#include "ndjson.h"
#include "tokens.h"

enum { WAIT_MAX_S = 60, BATCH_MAX = 10000 };

/* N of `Prefer: wait=N`, among other preferences; 0 when it is not there or not a number. */
static double preferred_wait(const esp_call *call) {
    const char *text = esp_call_header(call, "Prefer");
    for (; text; text = strchr(text, ',')) {
        text += strspn(text, ", \t;");
        if (strncasecmp(text, "wait=", 5) != 0) continue;
        char *end = NULL;
        double seconds = strtod(text + 5, &end);
        if (end == text + 5 || !(seconds > 0)) return 0;
        return seconds < WAIT_MAX_S ? seconds : WAIT_MAX_S;
    }
    return 0;
}

static esp_code refuse_when_draining(esp_server *server, esp_error *reterr) {
    return atomic_load(&server->draining) ? esp_fail(reterr, ESP_DRAINING, "the service is shutting down") : ESP_OK;
}

static esp_code parse_job(esp_server *server, const esp_reader *root, esp_job_row *ret_row, esp_error *reterr) {
    esp_db *db = NULL;
    esp_code code = esp_registry_read_begin(server->registry, &db, reterr);
    if (code) return code;
    code = esp_job_parse(root, db, ret_row, reterr);
    esp_registry_read_end(server->registry, db);
    return code;
}

/* How many more jobs the queue takes, and the token may have in it. */
typedef struct room {
    const esp_token *token;
    int64_t queue, own;
} room;

static esp_code room_left(const esp_server *server, const esp_token *token, esp_db *db, room *ret_room, esp_error *reterr) {
    int64_t queued = 0, own = 0;
    esp_code code = esp_job_count_queued(db, "", &queued, reterr);
    if (!code && token->queued_jobs) code = esp_job_count_queued(db, token->id, &own, reterr);
    if (!code) *ret_room = (room){token, esp_config_live(server->config.job_queue) - queued, token->queued_jobs - own};
    return code;
}

static esp_code insert_checked(esp_db *db, room *left, esp_job_row *row, esp_error *reterr) {
    const esp_token *token = left->token;
    if (left->queue <= 0) return esp_fail(reterr, ESP_BUSY, "the queue of jobs is full");
    if (token->queued_jobs && left->own <= 0)
        return esp_fail_at(reterr, ESP_QUOTA, "queued_jobs", "the token '%s' has used up its queued_jobs, %lld", token->name,
                           (long long)token->queued_jobs);
    strcpy(row->token, token->id);
    left->queue--;
    left->own--;
    return esp_job_insert(db, row, reterr);
}

/* ---- POST /v1/jobs ---- */

typedef struct insertion {
    esp_server *server;
    const esp_token *token; /* the call's */
    esp_job_row row;
} insertion;

static esp_code insert_replying(esp_db *db, void *user, esp_jsonw *reply, char ret_location[ESP_LOCATION_MAX], esp_error *reterr) {
    insertion *i = user;
    room left;
    esp_code code = room_left(i->server, i->token, db, &left, reterr);
    if (!code) code = insert_checked(db, &left, &i->row, reterr);
    if (code) return code;
    snprintf(ret_location, ESP_LOCATION_MAX, "/v1/jobs/%s", i->row.id);
    esp_job_format(&i->row, reply);
    return ESP_OK;
}

/* The call waits for the job instead of being answered with it as it was accepted. */
static void reply_later(esp_server *server, esp_call *call, esp_created *made, double wait_s) {
    char id[ESP_ID_MAX];
    snprintf(id, sizeof id, "%s", strrchr(made->location, '/') + 1);
    esp_call_header_add(call, "Preference-Applied", "wait");
    esp_buf_done(&made->body);
    esp_call_keep(call, NULL, NULL);
    esp_jobs_wait(server->jobs, id, call, 202, wait_s);
}

void esp_api_jobs_create(esp_server *server, esp_call *call) {
    static const char *const query[] = {NULL};
    const esp_json *json = NULL;
    esp_error error = {0};
    insertion i = {.server = server, .token = esp_call_token(call)};
    esp_code code = refuse_when_draining(server, &error);
    if (!code) code = esp_call_query_check(call, query, &error);
    if (!code) code = esp_call_json(call, &json, &error);
    if (!code) {
        esp_reader root = esp_reader_root(json);
        code = parse_job(server, &root, &i.row, &error);
    }
    if (code) {
        esp_call_reply_error(call, &error);
        return;
    }
    esp_created made = {0};
    double wait_s = preferred_wait(call);
    code = esp_create(server, call, &(esp_creating){.status = 202, .insert = insert_replying, .user = &i}, &made, &error);
    esp_job_row_done(&i.row);
    if (code) {
        esp_call_reply_error(call, &error);
        return;
    }
    esp_jobs_kick(server->jobs);
    esp_create_headers(call, &made);
    if (wait_s > 0)
        reply_later(server, call, &made, wait_s);
    else
        esp_call_reply_json(call, made.status, &made.body);
}

/* ---- POST /v1/jobs/batch ---- */

typedef struct batch_line {
    esp_job_row row;
    esp_error error; /* code OK: the row is in */
} batch_line;

typedef struct batch {
    esp_server *server;
    const esp_call *call;
    batch_line *lines;
    size_t n;
} batch;

static void parse_batch(batch *b, const char *body, size_t len) {
    const char *text = NULL;
    size_t pos = 0, n = 0;
    while (esp_ndjson_next(body, len, &pos, &text, &n)) {
        batch_line *line = &b->lines[b->n++];
        esp_json *json = NULL;
        if (esp_json_parse(text, n, &json, &line->error)) continue;
        esp_reader root = esp_reader_root(json);
        if (parse_job(b->server, &root, &line->row, &line->error)) line->row = (esp_job_row){0};
        esp_json_free(json);
    }
}

static void format_line(const batch *b, const batch_line *line, esp_buf *out) {
    esp_jsonw w = esp_jsonw_on(out);
    if (line->error.code)
        esp_problem_format(esp_call_request_id(b->call), &line->error, out);
    else
        esp_job_format(&line->row, &w);
    esp_buf_puts(out, "\n");
}

/* All lines that were found good, in one write; a full queue or a used-up quota refuses the rest of them. */
static esp_code insert_batch(esp_db *db, void *user, esp_jsonw *reply, char ret_location[ESP_LOCATION_MAX], esp_error *reterr) {
    batch *b = user;
    room left;
    (void)ret_location; /* many places */
    esp_code code = room_left(b->server, esp_call_token(b->call), db, &left, reterr);
    for (size_t i = 0; !code && i < b->n; i++) {
        batch_line *line = &b->lines[i];
        if (!line->error.code) code = insert_checked(db, &left, &line->row, &line->error);
        if (code == ESP_BUSY || code == ESP_QUOTA)
            code = ESP_OK;
        else if (code && reterr)
            *reterr = line->error;
        if (!code) format_line(b, line, reply->out);
    }
    return code;
}

void esp_api_jobs_batch(esp_server *server, esp_call *call) {
    static const char *const query[] = {NULL};
    esp_error error = {0};
    size_t len = 0;
    const char *body = esp_call_body(call, &len);
    batch b = {.server = server, .call = call};
    size_t n = esp_ndjson_count(body, len);
    esp_code code = refuse_when_draining(server, &error);
    if (!code) code = esp_call_query_check(call, query, &error);
    if (!code && (n == 0 || n > BATCH_MAX)) code = esp_fail(&error, ESP_INVALID, "a batch has 1 to %d lines, not %zu", BATCH_MAX, n);
    if (!code) {
        b.lines = calloc(n, sizeof *b.lines);
        code = b.lines ? ESP_OK : esp_fail(&error, ESP_NOMEM, "no memory for a batch of %zu lines", n);
    }
    if (code) {
        esp_call_reply_error(call, &error);
        return;
    }
    parse_batch(&b, body, len);
    esp_create_reply(server, call, &(esp_creating){.status = 200, .type = ESP_NDJSON_TYPE, .insert = insert_batch, .user = &b});
    for (size_t i = 0; i < b.n; i++) esp_job_row_done(&b.lines[i].row);
    free(b.lines);
    esp_jobs_kick(server->jobs);
}

/* ---- GET ---- */

void esp_api_jobs_list(esp_server *server, esp_call *call) {
    static const esp_column columns[] = {
        {"id", "job.id", ESP_COL_TEXT, ESP_COL_FILTER | ESP_COL_SORT},
        {"kind", "job.kind", ESP_COL_TEXT, ESP_COL_FILTER | ESP_COL_SORT},
        {"state", "job.state", ESP_COL_TEXT, ESP_COL_FILTER | ESP_COL_SORT},
        {"priority", "job.priority", ESP_COL_INTEGER, ESP_COL_FILTER | ESP_COL_SORT},
        {"progress", "job.progress", ESP_COL_JSON, 0},
        {"created_at", "job.created_ms", ESP_COL_TIME, ESP_COL_FILTER | ESP_COL_SORT},
        {"started_at", "job.started_ms", ESP_COL_TIME, ESP_COL_FILTER | ESP_COL_SORT},
        {"ended_at", "job.ended_ms", ESP_COL_TIME, ESP_COL_FILTER | ESP_COL_SORT},
        {"attempt", "job.attempt", ESP_COL_INTEGER, ESP_COL_FILTER | ESP_COL_SORT},
        {"crashes", "job.crashes", ESP_COL_INTEGER, ESP_COL_FILTER | ESP_COL_SORT},
        {"retry_at", "nullif(job.not_before_ms, 0)", ESP_COL_TIME, 0},
        {"spec", "job.spec", ESP_COL_JSON, 0},
        {"result", "job.result", ESP_COL_JSON, 0},
        {"error", "job.error", ESP_COL_JSON, 0},
        {NULL, NULL, ESP_COL_TEXT, 0},
    };
    static const esp_choice choices[] = {{"kind", esp_job_kind_names}, {"state", esp_job_state_names}, {NULL, NULL}};
    static const esp_list list = {"job", "job.rowid", NULL, columns, choices, false};
    esp_list_reply(server, call, &list, NULL, NULL);
}

static esp_code find_job(esp_server *server, const char *id, esp_job_row *ret_row, esp_error *reterr) {
    esp_db *db = NULL;
    esp_code code = esp_registry_read_begin(server->registry, &db, reterr);
    if (code) return code;
    code = esp_job_find(db, id, ret_row, reterr);
    esp_registry_read_end(server->registry, db);
    return code;
}

static void reply_job(esp_call *call, int status, esp_job_row *row) {
    esp_buf body = {0};
    esp_jsonw w = esp_jsonw_on(&body);
    esp_job_format(row, &w);
    esp_job_row_done(row);
    esp_call_reply_json(call, status, &body);
}

void esp_api_jobs_get(esp_server *server, esp_call *call) {
    esp_error error = {0};
    esp_job_row row = {0};
    double wait_s = preferred_wait(call);
    if (find_job(server, esp_call_path(call, "id"), &row, &error)) {
        esp_call_reply_error(call, &error);
        return;
    }
    if (wait_s <= 0 || esp_job_state_terminal(row.state)) {
        reply_job(call, 200, &row);
        return;
    }
    esp_job_row_done(&row);
    esp_call_header_add(call, "Preference-Applied", "wait");
    esp_call_keep(call, NULL, NULL);
    esp_jobs_wait(server->jobs, row.id, call, 200, wait_s);
}

/* ---- DELETE: cancel ---- */

/* 200 when the job is cancelled, 202 when its worker has still to stop. */
void esp_api_jobs_delete(esp_server *server, esp_call *call) {
    esp_error error = {0};
    esp_job_row row = {0};
    const char *id = esp_call_path(call, "id");
    esp_code code = esp_jobs_cancel(server->jobs, id, &error);
    if (!code) code = find_job(server, id, &row, &error);
    if (code)
        esp_call_reply_error(call, &error);
    else
        reply_job(call, esp_job_state_terminal(row.state) ? 200 : 202, &row);
}

/* ---- events ---- */

void esp_api_jobs_events(esp_server *server, esp_call *call) {
    esp_error error = {0};
    esp_job_row row = {0};
    long long after = 0;
    const char *last = esp_call_header(call, "Last-Event-ID");
    esp_code code = find_job(server, esp_call_path(call, "id"), &row, &error);
    if (!code && last) {
        char *end = NULL;
        after = strtoll(last, &end, 10);
        if (end == last || *end || after < 0) code = esp_fail_at(&error, ESP_INVALID, "Last-Event-ID", "Last-Event-ID must be a sequence number");
    }
    esp_job_row_done(&row);
    if (code)
        esp_call_reply_error(call, &error);
    else
        esp_jobs_stream(server->jobs, row.id, after, call);
}
