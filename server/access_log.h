/* SPDX-License-Identifier: Apache-2.0
 * The log of requests: one JSON object a line, in a file of its own. */
#ifndef ESP_SERVER_ACCESS_LOG_H
#define ESP_SERVER_ACCESS_LOG_H

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"
#include "config.h"

typedef struct esp_access {
    const char *request_id, *method, *path, *route, *token; /* route NULL: none matched; token "": none was needed */
    char address[48];
    int status;
    uint64_t bytes_in, bytes_out; /* of bodies */
    double ms;
    bool cut; /* the client went, or was cut off, before the end of the reply */
} esp_access;

/* Opens the file and starts the thread that writes; with `access_log` empty nothing is logged. */
ESP_MUST_CHECK esp_code esp_access_log_start(const esp_config *config, esp_error *reterr);
/* Any thread; never waits for the disk. What does not fit into memory is dropped and counted in the next line that does. */
void esp_access_log(const esp_access *access);
/* Opens the file anew, for one that was moved away by others. */
void esp_access_log_reopen(void);
void esp_access_log_stop(void); /* after the last request; writes what is left */

#endif
