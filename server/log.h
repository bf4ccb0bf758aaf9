/* SPDX-License-Identifier: Apache-2.0
 * The daemon's log: one line an event on standard error, `time level event key=value ...`. Any thread. */
#ifndef ESP_SERVER_LOG_H
#define ESP_SERVER_LOG_H

typedef enum esp_log_level { ESP_LOG_ERROR, ESP_LOG_NOTICE, ESP_LOG_DEBUG } esp_log_level;

void esp_log_level_set(esp_log_level level);
void esp_log_init(esp_log_level level);
/* format gives the `key=value` part; control characters in it are escaped. */
void esp_log(esp_log_level level, const char *event, const char *format, ...) __attribute__((format(printf, 3, 4)));

#endif
