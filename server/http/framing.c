/* SPDX-License-Identifier: Apache-2.0
 * Requests that this server and a proxy before it could read as two different ones; they are refused, and their connection closed unread.
 *
 * libmicrohttpd 0.9.75 hides some of what it was sent: a value ends at its first NUL, a folded line is joined to the name above it, any
 * number of spaces parts a request line. But its names and values point into the buffer that the request was received in, where one line
 * stands right behind the other, with NULs for what ended it. So whatever is hidden is a gap: the request target must follow the method,
 * the version the target, each header its predecessor's CR LF, and the end of the head the last one's CR LF CR LF. A NUL in the place of a
 * CR is not told from it, and hides nothing. Releases from 1.0 on refuse all of this themselves, and keep what they read elsewhere.
 *
 * The lines of a chunked body and its trailers never get here. Who reads those otherwise finds its end elsewhere, so its connection is
 * closed with the reply, and what follows is not read as a request. */
#include <string.h>
#include <strings.h>

#include "http/call.h"

typedef struct framing {
    int lengths, encodings, hosts;
    bool chunked, odd; /* odd: a name that is no token, "Transfer-Encoding " say, or bytes that do not belong there */
    const char *next; /* where the next line begins */
} framing;

static bool is_token(const char *text, size_t len) {
    for (size_t i = 0; i < len; i++) {
        bool good = (text[i] >= '0' && text[i] <= '9') || ((text[i] | 0x20) >= 'a' && (text[i] | 0x20) <= 'z');
        if (!good && (text[i] == '\0' || !strchr("!#$%&'*+-.^_`|~", text[i]))) return false;
    }
    return len > 0;
}

/* A value may hold a tab, and no other control character. */
static bool is_value(const char *text, size_t len) {
    for (size_t i = 0; i < len; i++)
        if (((unsigned char)text[i] < ' ' && text[i] != '\t') || text[i] == 0x7f) return false;
    return true;
}

/* The line of a header: nothing before its name, blanks alone between its colon and its value. */
static bool in_line(framing *f, const char *name, size_t name_len, const char *value, size_t len) {
    if (MHD_VERSION >= 0x01000000) return true;
    if (name != f->next || value <= name + name_len) return false;
    for (const char *p = name + name_len + 1; p < value; p++)
        if (*p != ' ' && *p != '\t') return false;
    f->next = value + len + 2;
    return true;
}

static enum MHD_Result look_at(void *user, enum MHD_ValueKind kind, const char *name, size_t name_len, const char *value, size_t len) {
    framing *f = user;
    (void)kind;
    f->odd |= !is_token(name, name_len) || (value && !is_value(value, len));
    f->odd = f->odd || !in_line(f, name, name_len, value, len);
    if (strcasecmp(name, "Content-Length") == 0) f->lengths++;
    if (strcasecmp(name, "Host") == 0) f->hosts++;
    if (strcasecmp(name, "Transfer-Encoding") == 0) {
        f->encodings++;
        f->chunked = value && strcasecmp(value, "chunked") == 0;
    }
    return MHD_YES;
}

void esp_target_note(esp_target *target, const char *text) {
    target->begin = text;
    target->end = text;
    while ((unsigned char)*target->end > ' ' && *target->end != 0x7f) target->end++;
}

static bool target_ok(const esp_target *target, const char *method, const char *version) {
    if (MHD_VERSION >= 0x01000000 || !target) return true;
    return target->begin == method + strlen(method) + 1 && version == target->end + 1;
}

/* Nothing stands between the last header and the end of the head. */
static bool ends_well(struct MHD_Connection *connection, const char *method, const char *next) {
    static const char ended[4] = {0};
    if (MHD_VERSION >= 0x01000000) return true;
    const union MHD_ConnectionInfo *info = MHD_get_connection_info(connection, MHD_CONNECTION_INFO_REQUEST_HEADER_SIZE);
    return info && method + info->header_size == next + 2 && memcmp(next - 2, ended, sizeof ended) == 0;
}

const char *esp_framing_wrong(struct MHD_Connection *connection, const char *method, const char *version) {
    if (!target_ok(esp_conn_target(connection), method, version)) return "the request line is malformed";
    framing f = {.next = version + strlen(version) + 2};
    MHD_get_connection_values_n(connection, MHD_HEADER_KIND, look_at, &f);
    if (f.odd || !ends_well(connection, method, f.next)) return "a header is malformed, folded, or does not end with CR LF";
    if (f.hosts > 1 || (f.hosts == 0 && strcmp(version, "HTTP/1.0") != 0)) return "Host must be given once";
    if (f.lengths + f.encodings > 1 || (f.encodings == 1 && !f.chunked))
        return "Content-Length and Transfer-Encoding must be given once, and not both; the only encoding is chunked";
    return NULL;
}
