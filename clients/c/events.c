/* SPDX-License-Identifier: Apache-2.0
 * A push parser for server-sent events (events.h): lines end with LF, CR or CRLF, an empty line ends an event. */
#include "c/events.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define LINE_CAP ((size_t)1 << 20)

void esp_events_init(esp_events *events, esp_on_event *on_event, void *user) {
    memset(events, 0, sizeof *events);
    events->on_event = on_event;
    events->user = user;
}

void esp_events_done(esp_events *events) {
    free(events->line);
    free(events->data);
    memset(events, 0, sizeof *events);
}

void esp_events_restart(esp_events *events) {
    events->line_len = events->data_len = 0;
    events->has_data = events->skip_newline = false;
    events->event[0] = '\0';
}

/* Appends and keeps a closing NUL behind. */
static bool append(char **text, size_t *len, size_t *cap, const char *bytes, size_t n) {
    if (*len + n + 1 > LINE_CAP) return false;
    if (*len + n + 1 > *cap) {
        size_t want = 2 * (*len + n + 1);
        char *grown = realloc(*text, want);
        if (grown == NULL) return false;
        *text = grown;
        *cap = want;
    }
    memcpy(*text + *len, bytes, n);
    *len += n;
    (*text)[*len] = '\0';
    return true;
}

static bool dispatch(esp_events *events) {
    bool go_on = true;
    if (events->has_data) go_on = events->on_event(events->user, events->id, events->event[0] != '\0' ? events->event : "message", events->data);
    events->data_len = 0;
    events->has_data = false;
    events->event[0] = '\0';
    return go_on;
}

static bool take_line(esp_events *events, const char *line, size_t len) {
    if (len == 0) return dispatch(events);
    const char *colon = memchr(line, ':', len);
    size_t name_len = colon != NULL ? (size_t)(colon - line) : len;
    const char *value = colon != NULL ? colon + 1 : line + len;
    if (*value == ' ') value++;
    size_t value_len = (size_t)(line + len - value);
    if (name_len == 4 && memcmp(line, "data", 4) == 0) {
        if (events->has_data && !append(&events->data, &events->data_len, &events->data_cap, "\n", 1)) return false;
        events->has_data = true;
        return append(&events->data, &events->data_len, &events->data_cap, value, value_len);
    }
    if (name_len == 2 && memcmp(line, "id", 2) == 0) snprintf(events->id, sizeof events->id, "%s", value);
    if (name_len == 5 && memcmp(line, "event", 5) == 0) snprintf(events->event, sizeof events->event, "%s", value);
    return true; /* comments (an empty name) and unknown fields are skipped */
}

bool esp_events_feed(esp_events *events, const char *bytes, size_t len) {
    while (len > 0) {
        if (events->skip_newline && *bytes == '\n') {
            bytes++;
            len--;
        }
        events->skip_newline = false;
        size_t n = 0;
        while (n < len && bytes[n] != '\n' && bytes[n] != '\r') n++;
        if (!append(&events->line, &events->line_len, &events->line_cap, bytes, n)) return false;
        if (n == len) return true;
        events->skip_newline = bytes[n] == '\r';
        size_t line_len = events->line_len;
        events->line_len = 0;
        if (!take_line(events, events->line, line_len)) return false;
        bytes += n + 1;
        len -= n + 1;
    }
    return true;
}
