/* SPDX-License-Identifier: Apache-2.0
 * Finds the route of a path: of the patterns that match, the one with the most literal text.
 *
 * {x} takes one segment; {x...} takes one or more, as few as let the rest of the pattern match to the end. The path has
 * been percent-decoded before, so name%2F3 and name/3 are one reference. */
#include <stdlib.h>
#include <string.h>

#include "http/call.h"

typedef struct match {
    int n, literal;
    const char *names[ESP_PARAMS_MAX], *values[ESP_PARAMS_MAX];
    size_t name_lens[ESP_PARAMS_MAX], value_lens[ESP_PARAMS_MAX];
} match;

static bool match_from(const char *pattern, const char *path, match *m);

/* Parameter at pattern ("{name}" or "{name...}"): tries each end it may have. */
static bool match_param(const char *pattern, const char *path, match *m) {
    const char *close = strchr(pattern, '}');
    size_t name_len = (size_t)(close - pattern) - 1;
    bool rest = name_len > 3 && memcmp(close - 3, "...", 3) == 0;
    if (m->n == ESP_PARAMS_MAX || *path == '/' || *path == '\0') return false;
    int i = m->n++, literal = m->literal;
    m->names[i] = pattern + 1;
    m->name_lens[i] = rest ? name_len - 3 : name_len;
    m->values[i] = path;
    for (const char *end = path + strcspn(path, "/");; end += 1 + strcspn(end + 1, "/")) {
        m->n = i + 1;
        m->literal = literal;
        m->value_lens[i] = (size_t)(end - path);
        if (match_from(close + 1, end, m)) return true;
        if (!rest || *end == '\0') return false;
    }
}

static bool match_from(const char *pattern, const char *path, match *m) {
    while (*pattern && *pattern != '{') {
        if (*pattern++ != *path++) return false;
        m->literal++;
    }
    return *pattern ? match_param(pattern, path, m) : *path == '\0';
}

int esp_pattern_match(const char *pattern, const char *path) {
    match m = {0};
    return match_from(pattern, path, &m) ? m.literal : -1;
}

static bool keep_params(esp_call *call, const match *m) {
    size_t room = 1;
    for (int i = 0; i < m->n; i++) room += m->value_lens[i] + 1;
    char *text = call->params_text = malloc(room);
    if (!text) return false;
    for (int i = 0; i < m->n; i++) {
        memcpy(text, m->values[i], m->value_lens[i]);
        text[m->value_lens[i]] = '\0';
        call->param_names[i] = m->names[i];
        call->param_name_lens[i] = m->name_lens[i];
        call->param_values[i] = text;
        text += m->value_lens[i] + 1;
    }
    call->n_params = m->n;
    return true;
}

static void refuse_method(esp_call *call, const char *pattern) {
    for (const esp_route *r = esp_routes; r->method; r++) {
        if (strcmp(r->pattern, pattern) != 0) continue;
        if (call->allow[0]) strcat(call->allow, ", ");
        strcat(call->allow, r->method);
        if (strcmp(r->method, "GET") == 0) strcat(call->allow, ", HEAD");
    }
    esp_fail(&call->refusal, ESP_METHOD, "%s allows %s", pattern, call->allow);
    call->refused = true;
}

void esp_call_match(esp_call *call, const char *method) {
    call->head = strcmp(method, "HEAD") == 0;
    const char *wanted = call->head ? "GET" : method;
    const esp_route *best = NULL, *exact = NULL;
    match found = {0};
    for (const esp_route *r = esp_routes; r->method; r++) {
        if (best && strcmp(best->pattern, r->pattern) == 0) {
            if (strcmp(r->method, wanted) == 0) exact = r;
            continue;
        }
        match m = {0};
        if (!match_from(r->pattern, call->path, &m) || (best && m.literal <= found.literal)) continue;
        best = r;
        found = m;
        exact = strcmp(r->method, wanted) == 0 ? r : NULL;
    }
    bool refused_before = call->refused;
    call->refused = true;
    if (!best) {
        esp_fail(&call->refusal, ESP_NOT_FOUND, "there is nothing at %.200s", call->path);
    } else if (!exact) {
        refuse_method(call, best->pattern);
    } else if (!keep_params(call, &found)) {
        esp_fail(&call->refusal, ESP_NOMEM, "no memory for a request");
    } else {
        call->route = exact;
        call->refused = refused_before;
    }
}
