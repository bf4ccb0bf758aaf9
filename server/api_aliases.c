/* SPDX-License-Identifier: Apache-2.0
 * /v1/models/{name}/aliases: movable pointers to versions, each move kept. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "api.h"
#include "list.h"
#include "rfc3339.h"
#include "server.h"
#include "tokens.h"

static const esp_column columns[] = {
    {"name", "a.name", ESP_COL_TEXT, 0},
    {"alias", "a.alias", ESP_COL_TEXT, ESP_COL_FILTER | ESP_COL_SORT},
    {"version", "a.version", ESP_COL_INTEGER, ESP_COL_FILTER | ESP_COL_SORT},
    {"model", "m.id", ESP_COL_TEXT, 0},
    {"at", "a.updated_ms", ESP_COL_TIME, ESP_COL_FILTER | ESP_COL_SORT},
    {NULL, NULL, ESP_COL_TEXT, 0},
};
/* the key is the event that last moved it: unique, and short enough for a cursor */
static const esp_list list = {"alias a JOIN model m ON m.name = a.name AND m.version = a.version", "a.event", "alias", columns, NULL, false};

static void make_etag(const esp_alias_row *row, char ret_etag[48]) {
    snprintf(ret_etag, 48, "\"%lld\"", (long long)row->event);
}

static void reply_row(esp_call *call, const esp_alias_row *row) {
    char at[ESP_TIME_TEXT];
    esp_buf out = {0};
    esp_jsonw w = esp_jsonw_on(&out);
    esp_time_format(row->updated_ms, at);
    esp_jsonw_object(&w, NULL);
    esp_jsonw_string(&w, "name", row->name);
    esp_jsonw_string(&w, "alias", row->alias);
    esp_jsonw_integer(&w, "version", row->version);
    esp_jsonw_string(&w, "model", row->model);
    esp_jsonw_string(&w, "at", at);
    esp_jsonw_object_end(&w);
    esp_call_reply_json(call, 200, &out);
}

/* ---- PUT ------------------------------------------------------------------------------------------------------------ */

typedef struct move {
    esp_alias_row row;
    const char *actor; /* the token's name, NULL for none */
    const char *match; /* If-Match, NULL for none */
    bool fresh; /* If-None-Match: *, the alias must be new */
} move;

static esp_code write_move(esp_db *db, void *user, esp_error *reterr) {
    move *m = user;
    char etag[48];
    esp_alias_row now = {0};
    esp_code code = m->match ? esp_alias_find(db, m->row.name, m->row.alias, -1, &now, reterr) : ESP_OK;
    if (code && code != ESP_NOT_FOUND) return code;
    make_etag(&now, etag);
    if (m->match && (code || !esp_etag_listed(m->match, etag, false)))
        return esp_fail(reterr, ESP_PRECONDITION, "alias %s@%s is not what If-Match names", m->row.name, m->row.alias);
    return esp_alias_set(db, &m->row, m->fresh ? 0 : -1, m->actor, reterr);
}

static esp_code parse_condition(const esp_call *call, move *m, esp_error *reterr) {
    const char *none = esp_call_header(call, "If-None-Match");
    if (none && strcmp(none, "*") != 0) return esp_fail_at(reterr, ESP_INVALID, "If-None-Match", "only * makes sense here");
    m->fresh = none;
    m->match = esp_call_header(call, "If-Match");
    return ESP_OK;
}

static esp_code parse_put(esp_call *call, move *m, esp_error *reterr) {
    static const char *const fields[] = {"version", NULL};
    static const char *const known[] = {NULL};
    const esp_json *json = NULL;
    esp_reader version;
    const char *name = esp_call_path(call, "name"), *alias = esp_call_path(call, "alias");
    esp_code code = esp_call_query_check(call, known, reterr);
    if (!code && !esp_name_ok(name)) code = esp_fail(reterr, ESP_NOT_FOUND, "there is no model '%.100s'", name);
    if (!code && !esp_name_ok(alias)) code = esp_fail(reterr, ESP_INVALID, "an alias is up to 128 of letters, digits and . _ -");
    if (!code) code = esp_call_json(call, &json, reterr);
    if (code) return code;
    esp_reader root = esp_reader_root(json);
    code = esp_read_object(&root, fields, reterr);
    if (!code) code = esp_read_required(&root, "version", &version, reterr);
    if (!code) code = esp_read_integer(&version, 1, INT64_C(1) << 50, &m->row.version, reterr);
    if (!code) code = parse_condition(call, m, reterr);
    if (code) return code;
    strcpy(m->row.name, name);
    strcpy(m->row.alias, alias);
    return ESP_OK;
}

void esp_api_aliases_put(struct esp_server *server, esp_call *call) {
    char etag[48];
    esp_error error = {0};
    const esp_token *token = esp_call_token(call);
    move m = {.actor = *token->id ? token->name : NULL};
    esp_code code = parse_put(call, &m, &error);
    if (!code) code = esp_registry_write(server->registry, write_move, &m, &error);
    if (code) {
        esp_call_reply_error(call, &error);
    } else {
        make_etag(&m.row, etag);
        esp_call_header_add(call, "ETag", etag);
        reply_row(call, &m.row);
    }
}

/* ---- GET ------------------------------------------------------------------------------------------------------------ */

void esp_api_aliases_get(struct esp_server *server, esp_call *call) {
    static const char *const known[] = {"at", NULL};
    char etag[48];
    esp_error error = {0};
    esp_alias_row row = {0};
    esp_db *db = NULL;
    int64_t at = -1;
    esp_code code = esp_call_query_check(call, known, &error);
    const char *text = esp_call_query(call, "at");
    if (!code && text && (!esp_time_parse(text, &at) || at < 0)) {
        code = esp_fail_at(&error, ESP_INVALID, "?at", "a time is expected, like 2026-01-31T12:00:00Z");
    }
    if (!code) code = esp_registry_read_begin(server->registry, &db, &error);
    if (!code) {
        code = esp_alias_find(db, esp_call_path(call, "name"), esp_call_path(call, "alias"), at, &row, &error);
        esp_registry_read_end(server->registry, db);
    }
    make_etag(&row, etag);
    if (code) {
        esp_call_reply_error(call, &error);
    } else if (!esp_call_not_modified(call, etag)) {
        reply_row(call, &row);
    }
}

void esp_api_aliases_list(struct esp_server *server, esp_call *call) {
    esp_error error = {0};
    esp_model_row row = {0};
    esp_db *db = NULL;
    const char *name = esp_call_path(call, "name");
    esp_code code = esp_name_ok(name) ? esp_registry_read_begin(server->registry, &db, &error)
                                      : esp_fail(&error, ESP_NOT_FOUND, "there is no model '%.100s'", name);
    if (!code) {
        code = esp_model_find(db, name, &row, &error); /* 404 for a name nobody has */
        esp_registry_read_end(server->registry, db);
        esp_model_row_done(&row);
    }
    if (code) {
        esp_call_reply_error(call, &error);
    } else {
        esp_list_reply(server, call, &list, "a.name = ?", name);
    }
}
