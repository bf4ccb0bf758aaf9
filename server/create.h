/* SPDX-License-Identifier: Apache-2.0
 * POSTs that create: one registry write, Idempotency-Key, 201 with Location. */
#ifndef ESP_SERVER_CREATE_H
#define ESP_SERVER_CREATE_H

#include "server.h"

#define ESP_LOCATION_MAX 256

/* Inserts inside the write's transaction and appends the reply; *ret_location, "" before, is where the thing will be. */
typedef esp_code esp_create_fn(esp_db *db, void *user, esp_jsonw *reply, char ret_location[ESP_LOCATION_MAX], esp_error *reterr);

typedef struct esp_creating {
    int status;
    const char *type; /* of the reply; NULL: application/json */
    const char *content; /* SHA-256 of an uploaded body; NULL: that of the collected one */
    esp_create_fn *insert;
    void *user;
} esp_creating;

typedef struct esp_created {
    int status;
    bool replayed; /* the reply to an earlier request under the same key */
    char location[ESP_LOCATION_MAX];
    esp_buf body; /* owned */
} esp_created;

/* With an Idempotency-Key the reply is stored in the same transaction for a day: the same request again gets it again, another
 * request under the same key is refused with CONFLICT. Blocks on the registry. */
ESP_MUST_CHECK esp_code esp_create(esp_server *server, const esp_call *call, const esp_creating *what, esp_created *ret_made, esp_error *reterr);
void esp_create_headers(esp_call *call, const esp_created *made);
/* Both, and the reply. */
void esp_create_reply(esp_server *server, esp_call *call, const esp_creating *what);

#endif
