/* SPDX-License-Identifier: Apache-2.0
 * Pages of lists, kept as they were sent, for as long as nothing has been committed.
 *
 * A page is kept under everything of the request that it depends on, with the registry's change counter as it stood before the
 * page was read; it is given out only while the counter stands there still. The counter moves before a write is acknowledged, so
 * nobody who knows of a change is shown a page from before it. Dashboards and scripts that ask for the same table again and
 * again are answered from here, on the event thread, without a handler or a statement. Any thread. */
#ifndef ESP_SERVER_PAGES_H
#define ESP_SERVER_PAGES_H

#include "server.h"

typedef struct esp_pages esp_pages;

esp_pages *esp_pages_create(void); /* NULL: no memory */
void esp_pages_free(esp_pages *pages);

/* Answers the call when its page is here; does not block. */
bool esp_pages_answer(esp_server *server, esp_call *call);
/* Answers the call, which has its ETag, with a fresh page, and keeps it. `changes` is esp_registry_changes(.., jobs) from before the page was read;
 * `cursor` "" for none. */
void esp_pages_reply(esp_server *server, esp_call *call, const char *content_type, const char *etag, const char *cursor, bool jobs, uint64_t changes,
                     esp_buf *take_body);

#endif
