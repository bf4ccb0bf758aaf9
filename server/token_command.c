/* SPDX-License-Identifier: Apache-2.0
 * `espalierd token create|list|revoke`: changes DIR/tokens, also beside a running daemon, which notices within a second, or at
 * once on SIGHUP. The secret is printed once, alone on standard output, and stored nowhere. */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "config.h"
#include "rfc3339.h"
#include "tokens.h"

enum { EXIT_FAILED = 1, EXIT_USAGE = 2 };

typedef struct command {
    const char *verb, *name, *scopes, *expires, *rate, *jobs;
    esp_config config;
} command;

static const char usage[] =
    "usage: espalierd token create --data DIR --name N --scopes read,plan,submit,admin [--expires TIME|30d] [--rate PER_MINUTE] [--jobs QUEUED]\n"
    "       espalierd token list --data DIR\n"
    "       espalierd token revoke --data DIR --name N (or its id)\n";

/* ---- options -------------------------------------------------------------------------------------------------------- */

static esp_code parse_count(const char *text, const char *name, int64_t *ret, esp_error *reterr) {
    char *end = NULL;
    long long value = text ? strtoll(text, &end, 10) : 0;
    if (text && (end == text || *end || value < 1 || value > 10000000))
        return esp_fail_at(reterr, ESP_INVALID, name, "%s must be a number from 1 to 10000000, not '%.40s'", name, text);
    *ret = value;
    return ESP_OK;
}

/* A time, or how long from now: 90s, 12h, 30d. */
static esp_code parse_expiry(const char *text, int64_t *ret_ms, esp_error *reterr) {
    char *end = NULL;
    long long n = text ? strtoll(text, &end, 10) : 0;
    int64_t now = esp_clock_wall_ms(), at = 0;
    if (!text) return ESP_OK;
    if (end != text && *end && !end[1] && n > 0 && n <= 100000000) {
        at = *end == 'd' ? now + n * 86400000 : *end == 'h' ? now + n * 3600000 : *end == 's' ? now + n * 1000 : 0;
    } else if (!esp_time_parse(text, &at)) {
        at = 0;
    }
    if (at <= now) return esp_fail_at(reterr, ESP_INVALID, "expires", "expires must be a time to come, or like 30d, 12h, 90s, not '%.40s'", text);
    *ret_ms = at;
    return ESP_OK;
}

static esp_code parse(int argc, char **argv, command *ret, esp_error *reterr) {
    const struct {
        const char *option;
        const char **value;
    } known[] = {{"--name", &ret->name}, {"--scopes", &ret->scopes}, {"--expires", &ret->expires}, {"--rate", &ret->rate}, {"--jobs", &ret->jobs}};
    char *rest[16] = {argv[0]};
    int n = 1;
    ret->verb = argc > 2 ? argv[2] : "";
    for (int i = 3; i < argc; i++) {
        size_t k = 0;
        while (k < sizeof known / sizeof *known && strcmp(argv[i], known[k].option) != 0) k++;
        if (k < sizeof known / sizeof *known) {
            if (i + 1 == argc) return esp_fail_at(reterr, ESP_INVALID, argv[i], "the option %s needs a value", argv[i]);
            *known[k].value = argv[++i];
        } else if (n == 16) {
            return esp_fail(reterr, ESP_INVALID, "too many options");
        } else {
            rest[n++] = argv[i];
        }
    }
    esp_config_init(&ret->config);
    return esp_config_parse(&ret->config, n, rest, reterr); /* --data, --config; other settings do no harm */
}

/* ---- the file under its lock ---------------------------------------------------------------------------------------- */

/* DIR is made when missing, so that tokens can be there before the first start. */
static esp_code take_lock(const char *dir, int *ret_fd, esp_error *reterr) {
    char path[4096];
    if ((size_t)snprintf(path, sizeof path, "%s/tokens.lock", dir) >= sizeof path) return esp_fail(reterr, ESP_INVALID, "the path is too long");
    (void)mkdir(dir, 0700);
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (fd < 0) return esp_fail_errno(reterr, ESP_IO, "open %s", path);
    if (flock(fd, LOCK_EX) != 0) {
        esp_code code = esp_fail_errno(reterr, ESP_IO, "lock %s", path);
        close(fd);
        return code;
    }
    *ret_fd = fd;
    return ESP_OK;
}

static esp_token *find_live(const esp_token_list *list, const char *name) {
    for (size_t i = 0; i < list->n; i++) {
        esp_token *token = &list->items[i];
        if (!token->revoked_ms && (strcmp(token->name, name) == 0 || strcmp(token->id, name) == 0)) return token;
    }
    return NULL;
}

static esp_code create(const command *c, esp_token_list *list, char ret_text[ESP_TOKEN_TEXT], esp_error *reterr) {
    esp_token token = {.created_ms = esp_clock_wall_ms()};
    if (!c->name || !esp_name_ok(c->name))
        return esp_fail_at(reterr, ESP_INVALID, "name", "--name is needed: up to %d of letters, digits and . _ -", ESP_NAME_MAX);
    if (!c->scopes) return esp_fail_at(reterr, ESP_INVALID, "scopes", "--scopes is needed, of read, plan, submit, admin");
    esp_code code = esp_scopes_parse(c->scopes, &token.scopes, reterr);
    if (!code) code = parse_expiry(c->expires, &token.expires_ms, reterr);
    if (!code) code = parse_count(c->rate, "rate", &token.requests_per_minute, reterr);
    if (!code) code = parse_count(c->jobs, "jobs", &token.queued_jobs, reterr);
    if (!code && find_live(list, c->name))
        code = esp_fail_at(reterr, ESP_CONFLICT, "name", "there is a token '%s' already; revoke it first", c->name);
    if (!code && list->n >= ESP_TOKENS_MAX) code = esp_fail(reterr, ESP_TOO_LARGE, "there are %d tokens already", ESP_TOKENS_MAX);
    if (!code) code = esp_token_make(ret_text, token.sha256, reterr);
    if (code) return code;
    strcpy(token.name, c->name);
    esp_id_make("tok", token.id);
    esp_token *grown = realloc(list->items, (list->n + 1) * sizeof *grown);
    if (!grown) return esp_fail(reterr, ESP_NOMEM, "no memory for tokens");
    list->items = grown;
    list->items[list->n++] = token;
    return ESP_OK;
}

static esp_code withdraw(const command *c, const esp_token_list *list, esp_error *reterr) {
    esp_token *token = c->name ? find_live(list, c->name) : NULL;
    if (!c->name) return esp_fail_at(reterr, ESP_INVALID, "name", "--name is needed: the token's name or id");
    if (!token) return esp_fail_at(reterr, ESP_NOT_FOUND, "name", "there is no token '%.100s' that could be revoked", c->name);
    token->revoked_ms = esp_clock_wall_ms();
    return ESP_OK;
}

static void print_list(const esp_token_list *list) {
    int64_t now = esp_clock_wall_ms();
    puts("id\tname\tscopes\trequests_per_minute\tqueued_jobs\tcreated_at\texpires_at\tstate");
    for (size_t i = 0; i < list->n; i++) {
        const esp_token *t = &list->items[i];
        char scopes[64], created[ESP_TIME_TEXT], expires[ESP_TIME_TEXT] = "never";
        esp_scopes_format(t->scopes, scopes);
        esp_time_format(t->created_ms, created);
        if (t->expires_ms) esp_time_format(t->expires_ms, expires);
        printf("%s\t%s\t%s\t%lld\t%lld\t%s\t%s\t%s\n", t->id, t->name, scopes, (long long)t->requests_per_minute, (long long)t->queued_jobs, created,
               expires,
               t->revoked_ms                           ? "revoked"
               : t->expires_ms && t->expires_ms <= now ? "expired"
                                                       : "valid");
    }
}

static esp_code run(const command *c, esp_error *reterr) {
    const char *dir = c->config.data;
    esp_token_list list = {0};
    char secret[ESP_TOKEN_TEXT];
    int lock = -1;
    bool makes = strcmp(c->verb, "create") == 0, takes = strcmp(c->verb, "revoke") == 0;
    esp_code code = makes || takes ? take_lock(dir, &lock, reterr) : ESP_OK;
    if (!code) code = esp_tokens_load(dir, &list, reterr);
    if (!code && makes) code = create(c, &list, secret, reterr);
    if (!code && takes) code = withdraw(c, &list, reterr);
    if (!code && (makes || takes)) code = esp_tokens_save(dir, &list, reterr);
    if (!code && makes) puts(secret);
    if (!code && !makes && !takes) print_list(&list);
    esp_token_list_done(&list);
    if (lock >= 0) close(lock);
    return code;
}

int esp_token_command(int argc, char **argv) {
    static command c;
    esp_error error = {0};
    esp_code code = parse(argc, argv, &c, &error);
    if (!code && strcmp(c.verb, "create") != 0 && strcmp(c.verb, "list") != 0 && strcmp(c.verb, "revoke") != 0) {
        fputs(usage, stderr);
        return EXIT_USAGE;
    }
    if (!code) code = run(&c, &error);
    if (code) fprintf(stderr, "espalierd: %s\n", error.message);
    if (fflush(stdout) != 0) return EXIT_FAILED;
    return code == ESP_INVALID ? EXIT_USAGE : code ? EXIT_FAILED : 0;
}
