/* SPDX-License-Identifier: Apache-2.0
 * Tokens as the daemon asks for them: the records of the file, and a bucket of requests for each.
 *
 * A bucket holds a minute's worth of requests at most and fills evenly, so a token that was idle may spend its minute at
 * once and then goes on at its rate. Buckets live in memory and survive a reload; a restart fills them. */
#include "tokens.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <stdio.h>

#include "base/clock.h"
#include "ontime.h"

typedef struct bucket {
    double level; /* requests */
    int64_t at_ns; /* when it was that */
} bucket;

struct esp_tokens {
    char *dir;
    pthread_mutex_t lock; /* all below */
    bool required;
    esp_token_list list;
    bucket *buckets; /* list.n */
    struct stat seen; /* of the file as read last; zeroed for none */
};

static void look(const char *dir, struct stat *ret) {
    char path[4096];
    memset(ret, 0, sizeof *ret);
    int n = snprintf(path, sizeof path, "%s/tokens", dir);
    if (n < 0 || (size_t)n >= sizeof path || stat(path, ret) != 0) memset(ret, 0, sizeof *ret);
}

static bool same_file(const struct stat *a, const struct stat *b) {
    return a->st_ino == b->st_ino && a->st_size == b->st_size && a->st_mtim.tv_sec == b->st_mtim.tv_sec && a->st_mtim.tv_nsec == b->st_mtim.tv_nsec;
}

bool esp_tokens_stale(const esp_tokens *tokens) {
    struct stat now;
    look(tokens->dir, &now);
    return !same_file(&now, &tokens->seen); /* `seen` is only written by the thread that reloads, which is this one */
}

/* Buckets of the new list: those of the old one by id, full ones for the rest. */
static void fill_buckets(const esp_tokens *tokens, const esp_token_list *list, bucket *buckets) {
    int64_t now = esp_clock_now_ns();
    for (size_t i = 0; i < list->n; i++) {
        buckets[i] = (bucket){(double)list->items[i].requests_per_minute, now};
        for (size_t j = 0; j < tokens->list.n; j++) {
            bool same = strcmp(tokens->list.items[j].id, list->items[i].id) == 0;
            if (same && tokens->list.items[j].requests_per_minute == list->items[i].requests_per_minute) buckets[i] = tokens->buckets[j];
        }
    }
}

esp_code esp_tokens_reload(esp_tokens *tokens, esp_error *reterr) {
    esp_token_list list = {0};
    struct stat seen;
    look(tokens->dir, &seen); /* before the read: a change after it is noticed once more */
    tokens->seen = seen;
    esp_code code = esp_tokens_load(tokens->dir, &list, reterr);
    if (code) return code;
    bucket *buckets = calloc(list.n + 1, sizeof *buckets);
    if (!buckets) {
        esp_token_list_done(&list);
        return esp_fail(reterr, ESP_NOMEM, "no memory for tokens");
    }
    pthread_mutex_lock(&tokens->lock);
    fill_buckets(tokens, &list, buckets);
    esp_token_list old = tokens->list;
    bucket *old_buckets = tokens->buckets;
    tokens->list = list;
    tokens->buckets = buckets;
    tokens->required |= list.n > 0;
    pthread_mutex_unlock(&tokens->lock);
    esp_token_list_done(&old);
    free(old_buckets);
    return ESP_OK;
}

esp_code esp_tokens_open(const char *dir, esp_tokens **ret_tokens, esp_error *reterr) {
    esp_tokens *tokens = calloc(1, sizeof *tokens);
    if (!tokens || !(tokens->dir = strdup(dir))) {
        free(tokens);
        return esp_fail(reterr, ESP_NOMEM, "no memory for tokens");
    }
    esp_ontime_lock_init(&tokens->lock);
    esp_code code = esp_tokens_reload(tokens, reterr);
    if (code) {
        esp_tokens_free(tokens);
        return code;
    }
    *ret_tokens = tokens;
    return ESP_OK;
}

void esp_tokens_free(esp_tokens *tokens) {
    if (!tokens) return;
    esp_token_list_done(&tokens->list);
    free(tokens->buckets);
    pthread_mutex_destroy(&tokens->lock);
    free(tokens->dir);
    free(tokens);
}

bool esp_tokens_required(esp_tokens *tokens) {
    pthread_mutex_lock(&tokens->lock);
    bool required = tokens->required;
    pthread_mutex_unlock(&tokens->lock);
    return required;
}

/* ---- a request ------------------------------------------------------------------------------------------------------ */

static bool equal_hashes(const char *a, const char *b) {
    unsigned char differ = 0;
    for (size_t i = 0; i < ESP_HASH_HEX; i++) differ |= (unsigned char)(a[i] ^ b[i]);
    return differ == 0;
}

/* Position of the record, list.n for none; looks at all of them whatever it finds. */
static size_t find(const esp_token_list *list, const char *sha256) {
    size_t at = list->n;
    for (size_t i = 0; i < list->n; i++) {
        if (equal_hashes(list->items[i].sha256, sha256)) at = i;
    }
    return at;
}

/* Seconds until the bucket has a request again; 0: it had one, which is taken. */
static int draw(bucket *b, int64_t per_minute) {
    int64_t now = esp_clock_now_ns();
    double rate = (double)per_minute / 60.0;
    b->level += (double)(now - b->at_ns) * 1e-9 * rate;
    if (b->level > (double)per_minute) b->level = (double)per_minute;
    b->at_ns = now;
    if (b->level < 1) return 1 + (int)((1 - b->level) / rate);
    b->level -= 1;
    return 0;
}

/* Under the lock. */
static esp_code admit(esp_tokens *tokens, const char *sha256, esp_scope scope, esp_token *ret_token, int *ret_retry_s, esp_error *reterr) {
    size_t at = find(&tokens->list, sha256);
    if (at == tokens->list.n) return esp_fail(reterr, ESP_UNAUTHORIZED, "the token is not known");
    const esp_token *token = &tokens->list.items[at];
    if (token->revoked_ms) return esp_fail(reterr, ESP_UNAUTHORIZED, "the token '%s' has been revoked", token->name);
    if (token->expires_ms && esp_clock_wall_ms() >= token->expires_ms)
        return esp_fail(reterr, ESP_UNAUTHORIZED, "the token '%s' has expired", token->name);
    if (!(token->scopes & (1u << scope | 1u << ESP_SCOPE_ADMIN)))
        return esp_fail(reterr, ESP_FORBIDDEN, "the token '%s' lacks the scope %s", token->name, esp_scope_names[scope]);
    int wait_s = token->requests_per_minute ? draw(&tokens->buckets[at], token->requests_per_minute) : 0;
    if (wait_s) {
        *ret_retry_s = wait_s;
        return esp_fail_at(reterr, ESP_QUOTA, "requests_per_minute", "the token '%s' has used up its requests_per_minute, %lld", token->name,
                           (long long)token->requests_per_minute);
    }
    *ret_token = *token;
    return ESP_OK;
}

esp_code esp_tokens_check(esp_tokens *tokens, const char *authorization, esp_scope scope, esp_token *ret_token, int *ret_retry_s, esp_error *reterr) {
    char sha256[ESP_HASH_HEX];
    if (scope == ESP_SCOPE_NONE || !esp_tokens_required(tokens)) {
        memset(ret_token, 0, sizeof *ret_token);
        return ESP_OK;
    }
    if (!authorization) return esp_fail(reterr, ESP_UNAUTHORIZED, "a token is needed: Authorization: Bearer TOKEN");
    bool bearer = strncasecmp(authorization, "Bearer ", 7) == 0;
    const char *text = authorization + (bearer ? 7 : 0);
    text += strspn(text, " ");
    size_t len = strcspn(text, " \t");
    if (!bearer || len == 0 || len > 200) return esp_fail(reterr, ESP_UNAUTHORIZED, "Authorization must be: Bearer TOKEN");
    esp_hash_bytes(text, len, sha256);
    pthread_mutex_lock(&tokens->lock);
    esp_code code = admit(tokens, sha256, scope, ret_token, ret_retry_s, reterr);
    pthread_mutex_unlock(&tokens->lock);
    return code;
}
