/* SPDX-License-Identifier: Apache-2.0
 * Exchanges in the bytes of a connection. */
#include "support/traffic.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "support/schema.h"

/* ---- one message ---------------------------------------------------------------------------------------------------- */

typedef struct message {
    const char *bytes; /* what is left of the connection's; NUL-terminated behind its end */
    size_t len, head; /* head: its length, with the empty line; 0: not all there, or none */
    char method[16], path[4096], type[100]; /* of a request the first two */
    int status; /* of a reply */
    bool chunked, sound; /* sound: every line of the head is as RFC 9112 wants it */
    long length; /* Content-Length; -1 without */
    esp_buf body;
    size_t whole; /* bytes of head and body; 0: the body is not all there */
} message;

static bool is_token(const char *text, size_t len) {
    for (size_t i = 0; i < len; i++)
        if (!isalnum((unsigned char)text[i]) && (text[i] == '\0' || !strchr("!#$%&'*+-.^_`|~", text[i]))) return false;
    return len > 0;
}

static bool is_clean(const char *text, size_t len, unsigned char least) {
    for (size_t i = 0; i < len; i++)
        if (((unsigned char)text[i] < least && (least > ' ' || text[i] != '\t')) || text[i] == 0x7f) return false;
    return true;
}

/* Percent-decoding of the path, as the routes see it; what a query would begin with stays as it is. */
static void decode_path(message *m) {
    unsigned byte = 0;
    char *out = m->path;
    for (const char *in = m->path; *in; in++) {
        bool escaped = *in == '%' && isxdigit((unsigned char)in[1]) && isxdigit((unsigned char)in[2]) && sscanf(in + 1, "%2x", &byte) == 1;
        escaped = escaped && byte != 0 && byte != '?';
        *out++ = escaped ? (char)byte : *in;
        in += escaped ? 2 : 0;
        if (*in == '?') break;
    }
    *out = '\0';
}

static void read_start(message *m, const char *line, size_t len) {
    const char *target = memchr(line, ' ', len), *version = target ? memchr(target + 1, ' ', len - (size_t)(target + 1 - line)) : NULL;
    if (sscanf(line, "HTTP/1.%*1[01] %3d", &m->status) == 1) return;
    m->sound = version && is_token(line, (size_t)(target - line)) && (size_t)(target - line) < sizeof m->method && version > target + 1 &&
               (size_t)(version - target) <= sizeof m->path && is_clean(target + 1, (size_t)(version - target - 1), '!') &&
               len - (size_t)(version - line) == 9 && memcmp(version, " HTTP/1.", 8) == 0 && (version[8] == '0' || version[8] == '1');
    if (!m->sound) return;
    (void)snprintf(m->method, sizeof m->method, "%.*s", (int)(target - line), line);
    const char *path = target + 1, *host = strncasecmp(path, "http://", 7) == 0 ? path + 7 : NULL;
    if (host) path = host + strcspn(host, "/ ");
    (void)snprintf(m->path, sizeof m->path, "%.*s", (int)(version - path), path);
    decode_path(m);
}

static void read_field(message *m, const char *line, size_t len) {
    const char *colon = memchr(line, ':', len), *value = colon ? colon + 1 + strspn(colon + 1, " \t") : line;
    size_t n = (size_t)(line + len - value);
    m->sound = m->sound && colon && is_token(line, (size_t)(colon - line)) && is_clean(value, n, ' ');
    if (!m->sound) return;
    if (strncasecmp(line, "Content-Type:", 13) == 0) (void)snprintf(m->type, sizeof m->type, "%.*s", (int)n, value);
    if (strncasecmp(line, "Transfer-Encoding:", 18) == 0) m->chunked = n == 7 && strncasecmp(value, "chunked", 7) == 0;
    if (strncasecmp(line, "Content-Length:", 15) != 0) return;
    char *end = NULL;
    m->length = isdigit((unsigned char)*value) ? strtol(value, &end, 10) : -1;
    m->sound = end == line + len;
}

/* The lines up to an empty one; a request whose head is larger than the daemon takes is not sound. */
static void read_head(message *m) {
    m->sound = true;
    m->length = -1;
    for (size_t at = 0, lines = 0; at < m->len; lines++) {
        const char *line = m->bytes + at, *end = memmem(line, m->len - at, "\r\n", 2);
        if (!end) break;
        size_t len = (size_t)(end - line);
        at += len + 2;
        if (len == 0) m->head = at;
        if (len == 0) break;
        if (lines == 0)
            read_start(m, line, len);
        else
            read_field(m, line, len);
    }
    m->sound = m->sound && m->head > 0 && m->head < 24 << 10;
}

/* Chunks, from the head on; whole stays 0 when they are not all there, or are none. */
static void read_chunks(message *m) {
    for (size_t at = m->head;;) {
        char *after = NULL;
        const char *line = m->bytes + at, *end = at < m->len ? memmem(line, m->len - at, "\r\n", 2) : NULL;
        size_t size = end && isxdigit((unsigned char)*line) ? strtoul(line, &after, 16) : 0;
        if (!after || after != end || size > m->len) return;
        at += (size_t)(end + 2 - line);
        if (at + size + 2 > m->len) return;
        esp_buf_put(&m->body, m->bytes + at, size);
        at += size + 2;
        if (size == 0) m->whole = at;
        if (size == 0) return;
    }
}

static void read_body(message *m, bool none) {
    size_t rest = m->len - m->head, len = m->length >= 0 ? (size_t)m->length : m->status ? rest : 0;
    if (none) len = 0;
    if (m->chunked && !none) {
        read_chunks(m);
    } else if (len <= rest) {
        esp_buf_put(&m->body, m->bytes + m->head, len);
        m->whole = m->head + len;
    }
}

/* ---- a request and its reply ---------------------------------------------------------------------------------------- */

static bool is_problem(const message *reply, char *why, size_t size) {
    esp_reader document = esp_reader_root(schema_openapi(why, size)), problem = schema_resolve(&document, "#/components/schemas/Problem");
    esp_json *json = NULL;
    bool good = strcmp(reply->type, "application/problem+json") == 0 && esp_json_parse(reply->body.data, reply->body.len, &json, NULL) == ESP_OK;
    esp_reader value = esp_reader_root(json);
    if (!good) (void)snprintf(why, size, "a %d of type '%s' is no problem", reply->status, reply->type);
    good = good && schema_check(&document, &problem, &value, why, size);
    esp_json_free(json);
    return good;
}

/* What is no request, or to nowhere. libmicrohttpd says itself what it cannot read, on a page without a content type. */
static bool refusal_conforms(const message *request, const message *reply, char *why, size_t size) {
    if (reply->status >= 400 && !request->sound && !*reply->type) return true;
    if (reply->status >= 400) return reply->body.len == 0 || is_problem(reply, why, size);
    (void)snprintf(why, size, "what is no request was answered with %d", reply->status);
    return false;
}

static bool reply_conforms(const message *request, const message *reply, char *why, size_t size) {
    bool nowhere = reply->status == 405 || (reply->status == 404 && memmem(reply->body.data, reply->body.len, "there is nothing at", 19));
    if (!request->sound || nowhere) return refusal_conforms(request, reply, why, size);
    const schema_exchange exchange = {
        .method = request->method,
        .path = request->path,
        .request_type = request->type,
        .request = request->body.data,
        .request_len = request->whole ? request->body.len : 0,
        .status = reply->status,
        .type = reply->type,
        .body = reply->body.data,
        .len = reply->body.len,
    };
    return schema_check_exchange(&exchange, why, size);
}

static void take_request(const char *bytes, size_t len, message *ret) {
    *ret = (message){.bytes = bytes, .len = len};
    read_head(ret);
    if (ret->head) read_body(ret, false);
    if (!ret->whole && ret->chunked) ret->sound = ret->sound && ret->head == ret->len; /* chunks that are none, or cut short */
}

static void take_reply(const char *bytes, size_t len, const message *request, message *ret) {
    *ret = (message){.bytes = bytes, .len = len};
    read_head(ret);
    bool none = (ret->status >= 100 && ret->status < 200) || ret->status == 204 || ret->status == 304 || strcmp(request->method, "HEAD") == 0;
    if (ret->head) read_body(ret, none);
}

static char *copy_text(const char *bytes, size_t len) {
    char *copy = malloc(len + 1);
    if (!copy) abort();
    if (len) memcpy(copy, bytes, len);
    copy[len] = '\0';
    return copy;
}

bool traffic_check(const char *sent, size_t sent_len, const char *got, size_t got_len, char *why, size_t size) {
    char *out = copy_text(sent, sent_len), *in = copy_text(got, got_len);
    size_t asked = 0, answered = 0;
    bool good = true;
    while (good && answered < got_len) {
        message request, reply;
        take_request(out + asked, sent_len - asked, &request);
        take_reply(in + answered, got_len - answered, &request, &reply);
        bool interim = reply.status >= 100 && reply.status < 200, whole = reply.whole && reply.status;
        if (whole && !interim) good = reply_conforms(&request, &reply, why, size);
        answered = whole ? answered + reply.whole : got_len;
        if (!interim) asked = request.whole ? asked + request.whole : sent_len;
        esp_buf_done(&request.body);
        esp_buf_done(&reply.body);
    }
    free(out);
    free(in);
    return good;
}
