/* SPDX-License-Identifier: Apache-2.0
 * Bearer tokens: who may do what, how often.
 *
 * They are kept in DIR/tokens (schema/formats/tokens.md), not in the registry: `espalierd token` writes the file beside a
 * running daemon, and the registry has one writer. A token is 256 random bits, so its SHA-256 alone is stored and no slow
 * hash is needed; what is presented is hashed and compared with every record in constant time.
 *
 * No file: the daemon is open, and listens on loopback only. Once there was a record, revoked and expired ones included,
 * a token is needed, until the file is gone and the daemon restarted. */
#ifndef ESP_SERVER_TOKENS_H
#define ESP_SERVER_TOKENS_H

#include "http/http.h"
#include "registry/registry.h"

#define ESP_TOKEN_TEXT 69 /* "esp_", 64 hex digits, the NUL */
enum { ESP_TOKENS_MAX = 1000 };
extern const char *const esp_scope_names[]; /* by esp_scope; "none" first, ends with NULL */

typedef struct esp_token {
    char id[ESP_ID_MAX], name[ESP_NAME_MAX + 1], sha256[ESP_HASH_HEX];
    unsigned scopes; /* 1 << esp_scope; admin stands for all */
    int64_t created_ms, expires_ms, revoked_ms; /* 0: never */
    int64_t requests_per_minute, queued_jobs; /* 0: no limit */
} esp_token;

/* ---- token_file.c: the file ---- */
typedef struct esp_token_list {
    esp_token *items; /* esp_token_list_done */
    size_t n;
} esp_token_list;
void esp_token_list_done(esp_token_list *list);
/* No file gives an empty list. */
ESP_MUST_CHECK esp_code esp_tokens_load(const char *dir, esp_token_list *ret_list, esp_error *reterr);
ESP_MUST_CHECK esp_code esp_tokens_save(const char *dir, const esp_token_list *list, esp_error *reterr);
/* "plan,read". */
ESP_MUST_CHECK esp_code esp_scopes_parse(const char *text, unsigned *ret_scopes, esp_error *reterr);
void esp_scopes_format(unsigned scopes, char ret_text[64]);
/* A fresh secret and its hash. */
ESP_MUST_CHECK esp_code esp_token_make(char ret_text[ESP_TOKEN_TEXT], char ret_sha256[ESP_HASH_HEX], esp_error *reterr);

/* ---- tokens.c: what a daemon asks; any thread ---- */
typedef struct esp_tokens esp_tokens;
ESP_MUST_CHECK esp_code esp_tokens_open(const char *dir, esp_tokens **ret_tokens, esp_error *reterr);
void esp_tokens_free(esp_tokens *tokens);
/* Reads the file again; an unreadable one leaves everything as it was. */
ESP_MUST_CHECK esp_code esp_tokens_reload(esp_tokens *tokens, esp_error *reterr);
/* The file is another one than was read last. */
bool esp_tokens_stale(const esp_tokens *tokens);
bool esp_tokens_required(esp_tokens *tokens);
/* `authorization` is the header, may be NULL. UNAUTHORIZED, FORBIDDEN naming the scope, or QUOTA with the seconds after
 * which to try again. *ret_token is zeroed when no token is needed. */
ESP_MUST_CHECK esp_code esp_tokens_check(esp_tokens *tokens, const char *authorization, esp_scope scope, esp_token *ret_token, int *ret_retry_s,
                                         esp_error *reterr);

/* ---- token_command.c: `espalierd token ...`; the exit status ---- */
int esp_token_command(int argc, char **argv);

#endif
