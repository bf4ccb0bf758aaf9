/* SPDX-License-Identifier: Apache-2.0
 * What the handlers work with: one value made by main.c, alive until the last handler has returned. */
#ifndef ESP_SERVER_SERVER_H
#define ESP_SERVER_SERVER_H

#include <stdatomic.h>
#include <stdbool.h>

#include "config.h"
#include "http/http.h"
#include "registry/registry.h"

struct esp_pool;
struct esp_jobs;
struct esp_sessions;
struct esp_tokens;
struct esp_pages;
struct esp_names;
struct esp_asks;

typedef struct esp_server {
    esp_config config;
    esp_registry *registry;
    esp_http *http;
    struct esp_pool *pool; /* pool/pool.h */
    struct esp_jobs *jobs; /* jobs/jobs.h */
    struct esp_sessions *sessions; /* session.h */
    struct esp_tokens *tokens; /* tokens.h */
    struct esp_pages *pages; /* pages.h */
    struct esp_names *names; /* names.h */
    struct esp_asks *asks; /* ask.h */
    atomic_bool draining;
    int64_t started_ns;
} esp_server;

#endif
