/* SPDX-License-Identifier: Apache-2.0
 * Content identity: SHA-256 (through Nettle), as 64 lower-case hex digits. */
#ifndef ESP_BASE_HASH_H
#define ESP_BASE_HASH_H

#include <stddef.h>

#define ESP_HASH_HEX 65 /* 64 digits and the NUL */

typedef struct esp_hash esp_hash;

esp_hash *esp_hash_create(void); /* NULL when memory is out */
void esp_hash_free(esp_hash *hash);
void esp_hash_add(esp_hash *hash, const void *bytes, size_t len);
void esp_hash_finish(esp_hash *hash, char ret_hex[ESP_HASH_HEX]); /* ready for new input after */
void esp_hash_bytes(const void *bytes, size_t len, char ret_hex[ESP_HASH_HEX]);

#endif
