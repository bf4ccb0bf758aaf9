/* SPDX-License-Identifier: Apache-2.0
 * Names of models and what they name now, kept for as long as nothing has been committed that could change it.
 *
 * Kept with the registry's change counter as it stood before the name was looked up, and given out only while it stands there
 * still; so whoever moves an alias or registers a version and then asks is never shown the one before. Any thread. */
#ifndef ESP_SERVER_NAMES_H
#define ESP_SERVER_NAMES_H

#include "server.h"

enum { ESP_REF_MAX = 2 * ESP_NAME_MAX + 32 };

typedef struct esp_names esp_names;

/* Of a model, what a question about it needs. */
typedef struct esp_name {
    char sha256[ESP_HASH_HEX], kind[12];
    int64_t ny, nu, history;
} esp_name;

esp_names *esp_names_create(void); /* NULL: no memory */
void esp_names_free(esp_names *names);

/* From memory; false when it is not there. Does not block. */
bool esp_name_known(esp_server *server, const char *ref, esp_name *ret);
/* From memory or the registry, for which it may wait. */
ESP_MUST_CHECK esp_code esp_name_find(esp_server *server, const char *ref, esp_name *ret, esp_error *reterr);

#endif
