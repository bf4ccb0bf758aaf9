/* SPDX-License-Identifier: Apache-2.0
 * Answers list requests (list.h).
 *
 * A page - JSON always, the others when `limit` is given - is put together in memory and carries the next cursor in its
 * body (JSON) or in X-Next-Cursor. CSV and NDJSON without a limit are exports: every row, streamed from one snapshot,
 * which is held for at most 30 s since a long reader keeps the WAL from being emptied. */
#include "list.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "list_query.h"
#include "pages.h"
#include "server.h"

#define PAGE_NS   ESP_NS_PER_S
#define EXPORT_NS (30 * ESP_NS_PER_S)
enum { PIECE = 48 << 10 };

static const char *const content_types[] = {
    [ESP_LIST_JSON] = "application/json", [ESP_LIST_CSV] = "text/csv; charset=utf-8; header=present", [ESP_LIST_NDJSON] = "application/x-ndjson"};

/* ---- what is asked for ---------------------------------------------------------------------------------------------- */

/* The first media type of Accept that we can make; weights are not looked at. */
static esp_code negotiate(const char *accept, esp_list_format *ret_format, esp_error *reterr) {
    static const struct {
        const char *type;
        esp_list_format format;
    } known[] = {{"text/csv", ESP_LIST_CSV},
                 {"application/x-ndjson", ESP_LIST_NDJSON},
                 {"application/ndjson", ESP_LIST_NDJSON},
                 {"application/json", ESP_LIST_JSON},
                 {"application/*", ESP_LIST_JSON},
                 {"*/*", ESP_LIST_JSON},
                 {"text/*", ESP_LIST_CSV}};
    for (const char *p = accept; p && *p; p += strcspn(p, ","), p += *p == ',') {
        p += strspn(p, " \t");
        size_t len = strcspn(p, ",; \t");
        for (size_t i = 0; i < sizeof known / sizeof known[0]; i++) {
            if (strlen(known[i].type) != len || strncasecmp(p, known[i].type, len) != 0) continue;
            *ret_format = known[i].format;
            return ESP_OK;
        }
    }
    if (!accept || !*accept) return ESP_OK;
    return esp_fail(reterr, ESP_NOT_ACCEPTABLE, "lists come as application/json, text/csv or application/x-ndjson");
}

static esp_code parse(const esp_call *call, esp_list_query *query, esp_error *reterr) {
    const char *name, *value, *cursor = NULL;
    esp_code code = ESP_OK;
    if (!esp_call_query(call, "format")) code = negotiate(esp_call_header(call, "Accept"), &query->format, reterr);
    for (size_t i = 0; !code && esp_call_query_at(call, i, &name, &value); i++) {
        bool once = strcmp(name, "cursor") == 0 || strcmp(name, "limit") == 0 || strcmp(name, "sort") == 0 || strcmp(name, "format") == 0;
        if (once && esp_call_query(call, name) != value) { /* the first of that name */
            char pointer[16];
            snprintf(pointer, sizeof pointer, "?%s", name);
            code = esp_fail_at(reterr, ESP_INVALID, pointer, "given twice");
        } else if (strcmp(name, "cursor") == 0) {
            cursor = value;
        } else {
            code = esp_list_take(query, name, value, reterr);
        }
    }
    return code ? code : esp_list_settle(query, cursor, reterr);
}

/* Lists of jobs change with jobs, the others do not. */
static bool of_jobs(const esp_list_query *query) {
    return strncmp(query->list->from, "job", 3) == 0;
}

/* Weak: the same rows may come in other bytes. Two lists agree when nothing was committed between them. */
static void make_etag(uint64_t changes, const esp_list_query *query, char ret_etag[80]) {
    uint64_t after = 14695981039346656037u;
    for (const char *p = query->resumes ? query->after_key : ""; *p; p++) after = (after ^ (unsigned char)*p) * 1099511628211u;
    snprintf(ret_etag, 80, "W/\"%llx-%llx-%x\"", (unsigned long long)changes, (unsigned long long)(query->fingerprint ^ after),
             (unsigned)(query->format * 2048 + query->limit));
}

/* ---- a page --------------------------------------------------------------------------------------------------------- */

static int page_rows(const esp_list_query *query, esp_stmt *stmt, int64_t limit, esp_buf *out, esp_buf *cursor, esp_error *reterr) {
    esp_jsonw w = esp_jsonw_on(out);
    int step = esp_stmt_step(stmt, reterr);
    for (int64_t n = 0; step == 1; n++) {
        if (query->format == ESP_LIST_CSV) {
            esp_list_row_csv(query->list, stmt, out);
        } else {
            esp_list_row_json(query->list, stmt, &w);
            if (query->format == ESP_LIST_NDJSON) {
                esp_buf_put(out, "\n", 1);
                w.comma = false;
            }
        }
        if (n + 1 == limit) {
            esp_list_cursor(query, stmt, cursor);
            step = esp_stmt_step(stmt, reterr);
            if (step == 0) esp_buf_clear(cursor); /* nothing comes after */
            break;
        }
        step = esp_stmt_step(stmt, reterr);
    }
    return step;
}

static esp_code page(esp_db *db, esp_list_query *query, esp_buf *out, esp_buf *cursor, esp_error *reterr) {
    int64_t limit = query->limit ? query->limit : ESP_LIST_LIMIT;
    esp_buf sql = {0};
    esp_stmt *stmt = NULL;
    esp_code code = esp_list_plan(db, query, reterr);
    if (code) return code;
    esp_list_sql(query, &sql);
    code = sql.failed ? esp_fail(reterr, ESP_NOMEM, "no memory for a list") : esp_stmt_open(db, &stmt, reterr, esp_buf_text(&sql), "");
    if (!code) {
        esp_list_bind(query, stmt, limit + 1);
        if (query->format == ESP_LIST_JSON) esp_buf_puts(out, "{\"items\":[");
        if (query->format == ESP_LIST_CSV) esp_list_head_csv(query->list, out);
        int step = page_rows(query, stmt, limit, out, cursor, reterr);
        if (step < 0) code = (esp_code)step;
        if (query->format == ESP_LIST_JSON) {
            esp_buf_puts(out, cursor->len ? "],\"next\":\"" : "],\"next\":null");
            if (cursor->len) esp_buf_printf(out, "%s\"", esp_buf_text(cursor));
            esp_buf_put(out, "}", 1);
        }
    }
    esp_stmt_close(stmt);
    esp_buf_done(&sql);
    return code;
}

static void reply_page(esp_server *server, esp_call *call, esp_list_query *query, uint64_t changes, const char *etag) {
    esp_error error = {0};
    esp_buf out = {0}, cursor = {0};
    esp_db *db = NULL;
    esp_code code = esp_registry_read_begin(server->registry, &db, &error);
    if (!code) {
        esp_db_deadline(db, esp_clock_now_ns() + PAGE_NS);
        code = page(db, query, &out, &cursor, &error);
        esp_registry_read_end(server->registry, db);
    }
    if (code) {
        esp_call_reply_error(call, &error);
    } else {
        const char *next = cursor.len && query->format != ESP_LIST_JSON ? esp_buf_text(&cursor) : "";
        esp_pages_reply(server, call, content_types[query->format], etag, next, of_jobs(query), changes, &out);
    }
    esp_buf_done(&cursor);
    esp_buf_done(&out);
}

/* ---- an export ------------------------------------------------------------------------------------------------------ */

typedef struct export_state {
    esp_registry *registry;
    esp_db *db;
    esp_stmt *stmt;
    esp_list_query query;
    char *where_value; /* the caller's goes before the last row does */
    bool head_due;
} export_state;

static int export_next(void *user, esp_buf *out) {
    export_state *e = user;
    esp_error error;
    esp_jsonw w = esp_jsonw_on(out);
    if (e->head_due) esp_list_head_csv(e->query.list, out);
    e->head_due = false;
    while (out->len < PIECE) {
        int step = esp_stmt_step(e->stmt, &error);
        if (step != 1) return step == 0 ? 0 : -2;
        if (e->query.format == ESP_LIST_CSV) {
            esp_list_row_csv(e->query.list, e->stmt, out);
        } else {
            w.comma = false;
            esp_list_row_json(e->query.list, e->stmt, &w);
            esp_buf_put(out, "\n", 1);
        }
    }
    return 1;
}

static void export_end(void *user) {
    export_state *e = user;
    esp_stmt_close(e->stmt);
    esp_registry_read_end(e->registry, e->db);
    free(e->where_value);
    free(e);
}

static esp_code export_open(esp_server *server, const esp_list_query *query, export_state **ret_state, esp_error *reterr) {
    export_state *e = calloc(1, sizeof *e);
    esp_buf sql = {0};
    if (!e) return esp_fail(reterr, ESP_NOMEM, "no memory for a list");
    e->registry = server->registry;
    e->query = *query;
    if (query->resumes) e->query.after.text = e->query.after_text;
    if (query->where_value && !(e->query.where_value = e->where_value = strdup(query->where_value))) sql.failed = true;
    e->head_due = query->format == ESP_LIST_CSV;
    esp_code code = sql.failed ? esp_fail(reterr, ESP_NOMEM, "no memory for a list") : esp_registry_read_begin(server->registry, &e->db, reterr);
    if (!code) code = esp_list_plan(e->db, &e->query, reterr);
    if (!code) esp_list_sql(&e->query, &sql);
    if (!code && sql.failed) code = esp_fail(reterr, ESP_NOMEM, "no memory for a list");
    if (!code) code = esp_stmt_open(e->db, &e->stmt, reterr, esp_buf_text(&sql), "");
    esp_buf_done(&sql);
    if (code) {
        export_end(e);
        return code;
    }
    esp_list_bind(&e->query, e->stmt, -1);
    esp_db_deadline(e->db, esp_clock_now_ns() + EXPORT_NS);
    *ret_state = e;
    return ESP_OK;
}

static void reply_export(esp_server *server, esp_call *call, const esp_list_query *query) {
    esp_error error = {0};
    export_state *e = NULL;
    if (export_open(server, query, &e, &error)) {
        esp_call_reply_error(call, &error);
    } else {
        esp_call_reply_stream(call, content_types[query->format], (esp_producer){export_next, export_end, e}, NULL);
    }
}

void esp_list_reply(struct esp_server *server, esp_call *call, const esp_list *list, const char *where, const char *where_value) {
    esp_list_query query = {.list = list, .where = where, .where_value = where_value};
    esp_error error = {0};
    char etag[80];
    if (parse(call, &query, &error)) {
        esp_call_reply_error(call, &error);
        return;
    }
    uint64_t changes = esp_registry_changes(server->registry, of_jobs(&query)); /* before the read */
    make_etag(changes, &query, etag);
    if (esp_call_not_modified(call, etag)) return;
    if (query.format == ESP_LIST_JSON || query.limit != 0)
        reply_page(server, call, &query, changes, etag);
    else
        reply_export(server, call, &query);
}

/* ---- rows inside other replies -------------------------------------------------------------------------------------- */

static esp_code rows_open(esp_db *db, const esp_list_query *query, esp_stmt **ret_stmt, esp_error *reterr) {
    esp_buf sql = {0};
    esp_list_sql(query, &sql);
    esp_code code = sql.failed ? esp_fail(reterr, ESP_NOMEM, "no memory for a list") : esp_stmt_open(db, ret_stmt, reterr, esp_buf_text(&sql), "");
    esp_buf_done(&sql);
    if (!code) esp_list_bind(query, *ret_stmt, -1);
    return code;
}

esp_code esp_list_one(esp_db *db, const esp_list *list, const char *where, const char *where_value, esp_jsonw *w, esp_error *reterr) {
    esp_list_query query = {.list = list, .where = where, .where_value = where_value};
    esp_stmt *stmt = NULL;
    esp_code code = esp_list_settle(&query, NULL, reterr);
    if (!code) code = rows_open(db, &query, &stmt, reterr);
    int step = code ? code : esp_stmt_step(stmt, reterr);
    if (step == 1) esp_list_members_json(list, stmt, w);
    if (step == 0) step = esp_fail(reterr, ESP_NOT_FOUND, "there is no '%.100s'", where_value);
    esp_stmt_close(stmt);
    return step == 1 ? ESP_OK : (esp_code)step;
}

esp_code esp_list_all(esp_db *db, const esp_list *list, const char *where, const char *where_value, esp_jsonw *w, esp_error *reterr) {
    esp_list_query query = {.list = list, .where = where, .where_value = where_value};
    esp_stmt *stmt = NULL;
    esp_code code = esp_list_settle(&query, NULL, reterr);
    if (!code) code = rows_open(db, &query, &stmt, reterr);
    int step = code ? code : esp_stmt_step(stmt, reterr);
    for (; step == 1; step = esp_stmt_step(stmt, reterr)) esp_list_row_json(list, stmt, w);
    esp_stmt_close(stmt);
    return (esp_code)step;
}

void esp_list_reply_one(struct esp_server *server, esp_call *call, const esp_list *list, const char *where, const char *where_value) {
    static const char *const known[] = {NULL};
    esp_error error = {0};
    esp_buf out = {0};
    esp_jsonw w = esp_jsonw_on(&out);
    esp_db *db = NULL;
    esp_code code = esp_call_query_check(call, known, &error);
    if (!code) code = esp_registry_read_begin(server->registry, &db, &error);
    if (!code) {
        esp_jsonw_object(&w, NULL);
        code = esp_list_one(db, list, where, where_value, &w, &error);
        esp_jsonw_object_end(&w);
        esp_registry_read_end(server->registry, db);
    }
    esp_call_reply_made(call, code, &error, &out);
}
