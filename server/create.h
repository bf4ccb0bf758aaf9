/* SPDX-License-Identifier: Apache-2.0
 * POSTs that create: one registry write, Idempotency-Key, 201 with Location. */
#ifndef ESP_SERVER_CREATE_H
#define ESP_SERVER_CREATE_H

#include "server.h"

#define ESP_LOCATION_MAX 256

/* Inserts inside the write's transaction and appends the reply's JSON; *ret_location is where the thing will be. */
typedef esp_code esp_create_fn(esp_db *db, void *user, esp_jsonw *reply, char ret_location[ESP_LOCATION_MAX], esp_error *reterr);

/* Answers the call with `status`. With an Idempotency-Key the reply is stored in the same transaction for a day: the
 * same request again gets it again, another request under the same key is refused with CONFLICT. `content` is the
 * SHA-256 of an uploaded body; NULL = that of the collected one. Blocks on the registry. */
void esp_create_reply(esp_server *server, esp_call *call, int status, const char *content, esp_create_fn *insert, void *user);

#endif
