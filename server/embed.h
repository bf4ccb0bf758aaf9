/* SPDX-License-Identifier: Apache-2.0
 * The files that embed.S carries into the daemon. Each is followed by a NUL that its length does not count. */
#ifndef ESP_SERVER_EMBED_H
#define ESP_SERVER_EMBED_H

#include <stddef.h>

extern const char esp_embed_openapi[], esp_embed_openapi_end[]; /* schema/api/openapi.json */
extern const char esp_embed_db_0001[], esp_embed_db_0001_end[]; /* schema/db/0001_init.sql */
extern const char esp_embed_db_0002[], esp_embed_db_0002_end[]; /* schema/db/0002_service.sql */
extern const char esp_embed_db_0003[], esp_embed_db_0003_end[]; /* schema/db/0003_lists.sql */
extern const char esp_embed_db_0004[], esp_embed_db_0004_end[]; /* schema/db/0004_jobs.sql */
extern const char esp_embed_db_0005[], esp_embed_db_0005_end[]; /* schema/db/0005_graphs.sql */

#define esp_embed_len(name) ((size_t)(name##_end - name))

#endif
