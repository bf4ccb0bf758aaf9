/* SPDX-License-Identifier: Apache-2.0
 * What the files of the C client share: the connection and one transfer on it. Not for users. */
#ifndef ESPALIER_PRIVATE_H
#define ESPALIER_PRIVATE_H

#include <curl/curl.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

#include "c/espalier.h"

struct esp_client {
    CURL *curl;
    char *url;
    char *authorization; /* header line, or NULL */
    double last_ms;
};

/* One request; takes the reply's bytes, or hands them on as they come. */
typedef struct esp_transfer {
    const char *method, *path;
    const char *content_type; /* of the body, NULL = none */
    const char *accept;
    const char *header; /* one more header line, or NULL */
    const char *body; /* or */
    FILE *file;
    size_t body_len;
    int timeout_ms;
    bool (*on_bytes)(void *user, const char *bytes, size_t len); /* NULL: collect; called for status 200 only */
    void *user;
    /* results */
    char *reply; /* collected, NUL-terminated; free() */
    size_t reply_len, reply_cap;
    long status;
    bool stopped; /* on_bytes said stop */
    bool no_memory;
} esp_transfer;

/* OK when the service answered with any status, or when on_bytes stopped it. */
esp_client_code esp_transfer_run(esp_client *client, esp_transfer *transfer, esp_client_error *reterr);

esp_client_code esp_client_fail(esp_client_error *reterr, esp_client_code code, const char *format, ...) __attribute__((format(printf, 3, 4)));

#endif
