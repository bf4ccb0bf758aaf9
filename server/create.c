/* SPDX-License-Identifier: Apache-2.0
 * POSTs that create (create.h). */
#include "create.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/hash.h"
#include "registry/query.h"
#include "tokens.h"

enum { KEY_MAX = 128 };
#define KEPT_MS INT64_C(86400000)

typedef struct creation {
    const esp_creating *what;
    const char *key, *route; /* key NULL: not asked for */
    char own_key[KEY_MAX + ESP_ID_MAX + 2]; /* "TOKEN KEY": nobody is shown another's reply */
    char fingerprint[ESP_HASH_HEX];
    esp_created made;
} creation;

/* What makes two requests the same: the path, the query and the content. */
static esp_code fingerprint(const esp_call *call, const char *content, char ret_hex[ESP_HASH_HEX], esp_error *reterr) {
    const char *name, *value;
    char own[ESP_HASH_HEX];
    size_t len = 0;
    esp_hash *hash = esp_hash_create();
    if (!hash) return esp_fail(reterr, ESP_NOMEM, "no memory for a hash");
    if (!content) {
        const char *body = esp_call_body(call, &len);
        esp_hash_bytes(body, len, own);
        content = own;
    }
    esp_hash_add(hash, content, strlen(content));
    for (size_t i = 0; esp_call_query_at(call, i, &name, &value); i++) {
        esp_hash_add(hash, name, strlen(name) + 1);
        esp_hash_add(hash, value, strlen(value) + 1);
    }
    esp_hash_finish(hash, ret_hex);
    esp_hash_free(hash);
    return ESP_OK;
}

/* 1: this key has been here, and `c` holds its reply; 0: it has not. */
static int find_earlier(esp_db *db, creation *c, esp_error *reterr) {
    esp_stmt *s = NULL;
    esp_code code = esp_stmt_open(
        db, &s, reterr, "SELECT fingerprint, status, ifnull(location, ''), body FROM idempotency WHERE key = ? AND route = ? AND created_ms > ?",
        "tti", c->key, c->route, esp_clock_wall_ms() - KEPT_MS);
    int step = code ? code : esp_stmt_step(s, reterr);
    if (step == 1 && strcmp(esp_stmt_text(s, 0, NULL), c->fingerprint) != 0) {
        step = esp_fail_at(reterr, ESP_UNPROCESSABLE, "Idempotency-Key", "this key was used for a different request");
    } else if (step == 1) {
        c->made.replayed = true;
        c->made.status = (int)esp_stmt_int(s, 1);
        esp_stmt_copy(s, 2, c->made.location, sizeof c->made.location);
        esp_buf_puts(&c->made.body, esp_stmt_text(s, 3, NULL));
    }
    esp_stmt_close(s);
    return step;
}

static esp_code run(esp_db *db, void *user, esp_error *reterr) {
    creation *c = user;
    int earlier = c->key ? find_earlier(db, c, reterr) : 0;
    if (earlier != 0) return earlier < 0 ? (esp_code)earlier : ESP_OK;
    esp_created *made = &c->made;
    esp_jsonw w = esp_jsonw_on(&made->body);
    made->status = c->what->status;
    esp_code code = c->what->insert(db, c->what->user, &w, made->location, reterr);
    if (!code && made->body.failed) code = esp_fail(reterr, ESP_NOMEM, "no memory for the reply");
    if (code || !c->key) return code;
    code = esp_db_run(db, reterr, "DELETE FROM idempotency WHERE created_ms < ?", "i", esp_clock_wall_ms() - KEPT_MS);
    if (code) return code;
    return esp_db_run(db, reterr,
                      "INSERT OR REPLACE INTO idempotency (key, route, fingerprint, status, location, body, created_ms) VALUES (?, ?, ?, ?, ?, ?, ?)",
                      "tttiebi", c->key, c->route, c->fingerprint, (int64_t)made->status, made->location, made->body.data, (int64_t)made->body.len,
                      esp_clock_wall_ms());
}

/* The key of the request as it is kept, and what the request is. */
static esp_code take_key(const esp_call *call, creation *c, esp_error *reterr) {
    const char *key = esp_call_header(call, "Idempotency-Key");
    if (!key) return ESP_OK;
    if (strlen(key) == 0 || strlen(key) > KEY_MAX)
        return esp_fail_at(reterr, ESP_INVALID, "Idempotency-Key", "1 to %d characters are expected", KEY_MAX);
    const esp_token *token = esp_call_token(call);
    snprintf(c->own_key, sizeof c->own_key, "%s%s%s", token->id, *token->id ? " " : "", key);
    c->key = c->own_key;
    c->route = esp_call_route(call);
    return fingerprint(call, c->what->content, c->fingerprint, reterr);
}

esp_code esp_create(esp_server *server, const esp_call *call, const esp_creating *what, esp_created *ret_made, esp_error *reterr) {
    creation c = {.what = what};
    esp_code code = take_key(call, &c, reterr);
    if (!code) code = esp_registry_write(server->registry, run, &c, reterr);
    if (code)
        esp_buf_done(&c.made.body);
    else
        *ret_made = c.made;
    return code;
}

void esp_create_headers(esp_call *call, const esp_created *made) {
    if (*made->location) esp_call_header_add(call, "Location", made->location);
    if (made->replayed) esp_call_header_add(call, "Idempotent-Replayed", "true");
}

void esp_create_reply(esp_server *server, esp_call *call, const esp_creating *what) {
    esp_error error = {0};
    esp_created made = {0};
    if (esp_create(server, call, what, &made, &error)) {
        esp_call_reply_error(call, &error);
        return;
    }
    esp_create_headers(call, &made);
    esp_call_reply(call, made.status, what->type ? what->type : "application/json", &made.body);
}
