/* SPDX-License-Identifier: Apache-2.0
 * Calls that a plan worker answers: arithmetic that a caller waits for. Small ones about the same model go together.
 *
 * A request that finds a worker free goes to it at once. While none is, those that come for the same model wait together, and
 * the next worker takes them all in one frame (schema/formats/worker-frames.md), up to a number and a size: what a busy
 * service spends on a request - waking a worker, waking for its answer - is spent once for all. Each is read, answered and
 * refused by itself, to the same bits as alone. A frame lasts 2 ms and one request at most; what is not answered then waits
 * again, behind what has come meanwhile, so that nobody, a plan least of all, waits long for a crowd.
 *
 * A request may wait 10 s in all; then DEADLINE. When a worker dies under a frame, what it has not answered is tried once
 * more, each request alone, so that the one that kills workers takes no other with it. A caller who hangs up is dropped from
 * those that wait; a frame that nobody waits for any more is cancelled. */
#ifndef ESP_SERVER_ASK_H
#define ESP_SERVER_ASK_H

#include "pool/frame.h"
#include "server.h"

typedef struct esp_asks esp_asks;

/* What is asked. */
typedef struct esp_question {
    esp_frame_type type; /* PREDICT, QUERY or ARTIFACT */
    const char *model, *candidate; /* their SHA-256; candidate "" for none */
    const char *text; /* the request's JSON, valid until the reply: the call's body, or: */
    size_t len;
    esp_buf *take_text; /* not NULL: text to be kept, instead */
    const char *content_type; /* of the answer, static */
} esp_question;

esp_asks *esp_asks_create(esp_server *server); /* NULL: no memory */
/* After the pool's stop. */
void esp_asks_free(esp_asks *asks);

/* Keeps the call and answers it: with the worker's answer as it stands, or with an error. Does not block. */
void esp_ask(esp_server *server, esp_call *call, const esp_question *question);
/* A request of so many bytes may go together with others. */
bool esp_ask_is_small(size_t len);

#endif
