/* SPDX-License-Identifier: Apache-2.0
 * Time stamps as the interface writes them: 2026-01-31T12:00:00.123Z. */
#ifndef ESP_SERVER_RFC3339_H
#define ESP_SERVER_RFC3339_H

#include <stdbool.h>
#include <stdint.h>

#define ESP_TIME_TEXT 25

void esp_time_format(int64_t ms, char ret_text[ESP_TIME_TEXT]);
/* RFC 3339 (any offset, fraction optional) or whole milliseconds since 1970; false when it is neither. */
bool esp_time_parse(const char *text, int64_t *ret_ms);

#endif
