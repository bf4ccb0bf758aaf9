/* SPDX-License-Identifier: Apache-2.0
 * The kept pages: a small table, the longest unused goes first. */
#include "pages.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ontime.h"
#include "registry/query.h"

enum { PAGES = 256, KEY_MAX = 1024, PAGE_MAX = 1 << 20, TOTAL_MAX = 64 << 20 };

typedef struct page {
    uint64_t hash, changes, used;
    bool jobs;
    char *key; /* NULL: a free place */
    size_t key_len;
    const char *content_type; /* static */
    char etag[80], *cursor; /* cursor NULL for none */
    esp_shared *body;
} page;

struct esp_pages {
    pthread_mutex_t lock;
    uint64_t clock;
    size_t total; /* bytes of bodies */
    page items[PAGES];
};

esp_pages *esp_pages_create(void) {
    esp_pages *pages = calloc(1, sizeof *pages);
    if (pages) esp_ontime_lock_init(&pages->lock);
    return pages;
}

static void drop(esp_pages *pages, page *p) {
    if (!p->key) return;
    pages->total -= esp_shared_len(p->body);
    esp_shared_unref(p->body);
    free(p->key);
    free(p->cursor);
    *p = (page){0};
}

void esp_pages_free(esp_pages *pages) {
    if (!pages) return;
    for (int i = 0; i < PAGES; i++) drop(pages, &pages->items[i]);
    pthread_mutex_destroy(&pages->lock);
    free(pages);
}

/* ---- keys ----------------------------------------------------------------------------------------------------------- */

typedef struct key {
    char text[KEY_MAX];
    size_t len; /* 0: too long, not kept */
    uint64_t hash;
} key;

static bool add(key *k, const char *text) {
    size_t n = strlen(text) + 1; /* with the NUL, so that no two keys run together */
    if (k->len + n > KEY_MAX) return false;
    memcpy(k->text + k->len, text, n);
    k->len += n;
    return true;
}

static void make_key(const esp_call *call, key *k) {
    const char *name, *value, *accept = esp_call_header(call, "Accept");
    k->len = 0;
    bool fits = add(k, esp_call_url(call)) && add(k, accept ? accept : "");
    for (size_t i = 0; fits && esp_call_query_at(call, i, &name, &value); i++) fits = add(k, name) && add(k, value);
    if (!fits) k->len = 0;
    k->hash = 14695981039346656037u;
    for (size_t i = 0; i < k->len; i++) k->hash = (k->hash ^ (unsigned char)k->text[i]) * 1099511628211u;
}

/* Under the lock. */
static page *find(esp_pages *pages, const key *k) {
    for (int i = 0; i < PAGES; i++) {
        page *p = &pages->items[i];
        if (p->key && p->hash == k->hash && p->key_len == k->len && memcmp(p->key, k->text, k->len) == 0) return p;
    }
    return NULL;
}

/* ---- answers -------------------------------------------------------------------------------------------------------- */

static void send_page(esp_call *call, const char *content_type, const char *cursor, esp_shared *take_body) {
    if (*cursor) esp_call_header_add(call, "X-Next-Cursor", cursor);
    esp_call_reply_shared(call, 200, content_type, take_body);
    esp_shared_unref(take_body);
}

bool esp_pages_answer(esp_server *server, esp_call *call) {
    esp_pages *pages = server->pages;
    key k;
    char etag[80], cursor[1024] = "";
    make_key(call, &k);
    if (k.len == 0) return false;
    pthread_mutex_lock(&pages->lock);
    page *p = find(pages, &k);
    bool good = p && p->changes == esp_registry_changes(server->registry, p->jobs);
    if (p && !good) drop(pages, p);
    if (!good) {
        pthread_mutex_unlock(&pages->lock);
        return false;
    }
    p->used = ++pages->clock;
    esp_shared *body = esp_shared_ref(p->body);
    const char *content_type = p->content_type;
    memcpy(etag, p->etag, sizeof etag);
    if (p->cursor) snprintf(cursor, sizeof cursor, "%s", p->cursor);
    pthread_mutex_unlock(&pages->lock);
    if (esp_call_not_modified(call, etag))
        esp_shared_unref(body);
    else
        send_page(call, content_type, cursor, body);
    return true;
}

/* Under the lock: a place for `bytes` more. */
static page *make_room(esp_pages *pages, size_t bytes) {
    for (;;) {
        page *oldest = NULL, *place = NULL;
        for (int i = 0; i < PAGES; i++) {
            page *p = &pages->items[i];
            if (!p->key)
                place = p;
            else if (!oldest || p->used < oldest->used)
                oldest = p;
        }
        if (place && pages->total + bytes <= TOTAL_MAX) return place;
        drop(pages, oldest);
    }
}

static void keep(esp_pages *pages, const key *k, const page *fresh, const char *cursor) {
    char *text = malloc(k->len), *next = *cursor ? strdup(cursor) : NULL;
    if (!text || (*cursor && !next)) {
        free(text);
        free(next);
        return;
    }
    memcpy(text, k->text, k->len);
    pthread_mutex_lock(&pages->lock);
    page *p = find(pages, k);
    if (p) drop(pages, p);
    p = make_room(pages, esp_shared_len(fresh->body));
    *p = *fresh;
    p->hash = k->hash;
    p->key = text;
    p->key_len = k->len;
    p->cursor = next;
    p->used = ++pages->clock;
    p->body = esp_shared_ref(fresh->body);
    pages->total += esp_shared_len(p->body);
    pthread_mutex_unlock(&pages->lock);
}

void esp_pages_reply(esp_server *server, esp_call *call, const char *content_type, const char *etag, const char *cursor, bool jobs, uint64_t changes,
                     esp_buf *take_body) {
    key k;
    page fresh = {.changes = changes, .jobs = jobs, .content_type = content_type, .body = esp_shared_create(take_body)};
    if (!fresh.body) {
        esp_error error = {0};
        esp_fail(&error, ESP_NOMEM, "no memory for the reply");
        esp_call_reply_error(call, &error);
        return;
    }
    snprintf(fresh.etag, sizeof fresh.etag, "%s", etag);
    make_key(call, &k);
    if (k.len && esp_shared_len(fresh.body) <= PAGE_MAX && strlen(cursor) < 1024) keep(server->pages, &k, &fresh, cursor);
    send_page(call, content_type, cursor, fresh.body);
}
