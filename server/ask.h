/* SPDX-License-Identifier: Apache-2.0
 * A call that is answered by a plan worker: arithmetic that a caller waits for.
 *
 * It may wait 10 s, queueing included; then DEADLINE. A worker that dies costs one try on another. The request's text is made
 * before, so nothing of the call's is needed on the way. */
#ifndef ESP_SERVER_ASK_H
#define ESP_SERVER_ASK_H

#include "pool/frame.h"
#include "server.h"

typedef struct esp_asking {
    esp_server *server;
    esp_call *call;
    uint64_t work;
    esp_buf request; /* JSON */
    /* Replies to the call with the worker's result, on the supervisor thread; NULL: the result as it stands. */
    void (*answer)(esp_call *call, const char *payload, size_t len);
} esp_asking;

/* DRAINING or NOMEM. */
ESP_MUST_CHECK esp_code esp_asking_create(esp_server *server, esp_call *call, esp_asking **ret_asking, esp_error *reterr);
void esp_asking_free(esp_asking *asking);

/* Gives the request to a worker and the asking away: the call is answered from there, or here when that cannot be. Requests about
 * equal `sha256` prefer the same worker. */
void esp_ask(esp_asking *take_asking, esp_frame_type type, const char *sha256);

/* "key":{"path","sha256"}, as workers take it. */
void esp_ask_put_model(esp_jsonw *w, const char *key, const esp_server *server, const esp_model_row *row);

#endif
