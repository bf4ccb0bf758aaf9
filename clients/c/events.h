/* SPDX-License-Identifier: Apache-2.0
 * A push parser for server-sent events (WHATWG HTML, 9.2.6): bytes in as they come, events out. No I/O. */
#ifndef ESPALIER_EVENTS_H
#define ESPALIER_EVENTS_H

#include <stdbool.h>
#include <stddef.h>

/* One event; strings are borrowed during the call. Return false to stop parsing. */
typedef bool esp_on_event(void *user, const char *id, const char *event, const char *data);

typedef struct esp_events {
    esp_on_event *on_event;
    void *user;
    char *line, *data;
    size_t line_len, line_cap, data_len, data_cap;
    char id[64], event[32];
    bool has_data, skip_newline;
} esp_events;

void esp_events_init(esp_events *events, esp_on_event *on_event, void *user);
void esp_events_done(esp_events *events);
/* False when the callback stopped, memory ran out, or a line passed 1 MiB. The last id survives for a resumption. */
bool esp_events_feed(esp_events *events, const char *bytes, size_t len);
/* Forgets a half-read event when a stream broke; keeps the last id. */
void esp_events_restart(esp_events *events);

#endif
