/* SPDX-License-Identifier: Apache-2.0
 * The threads that run handlers which may block. Urgent calls (a plan) pass all others, and the first thread takes
 * nothing else, so that registry writes waiting for the disk cannot stand between a plan and its worker. */
#include "http/call.h"

#include <stdlib.h>

#include "ontime.h"
#include "server.h"

enum { QUEUE_MAX = 1024 };

typedef struct start {
    esp_http *http;
    bool urgent_only;
} start;

static esp_call *take(esp_handlers *h, bool urgent_only) {
    for (int lane = 0; lane < (urgent_only ? 1 : 2); lane++) {
        esp_call *call = h->head[lane];
        if (!call) continue;
        h->head[lane] = call->next;
        if (!call->next) h->tail[lane] = &h->head[lane];
        call->next = NULL;
        h->queued--;
        return call;
    }
    return NULL;
}

static void *handler_main(void *user) {
    start *s = user;
    esp_http *http = s->http;
    bool urgent_only = s->urgent_only;
    esp_handlers *h = &http->handlers;
    free(s);
    if (urgent_only) esp_ontime_enter(ESP_URGENCY_HTTP);
    pthread_mutex_lock(&h->lock);
    for (;;) {
        esp_call *call = take(h, urgent_only);
        if (!call) {
            if (h->stopping) break;
            pthread_cond_wait(urgent_only ? &h->urgent : &h->any, &h->lock);
            continue;
        }
        pthread_mutex_unlock(&h->lock);
        call->route->run(http->server, call);
        pthread_mutex_lock(&h->lock);
    }
    pthread_mutex_unlock(&h->lock);
    return NULL;
}

esp_code esp_handlers_start(esp_http *http, int n_threads, esp_error *reterr) {
    esp_handlers *h = &http->handlers;
    pthread_mutex_init(&h->lock, NULL);
    pthread_cond_init(&h->any, NULL);
    pthread_cond_init(&h->urgent, NULL);
    h->tail[0] = &h->head[0];
    h->tail[1] = &h->head[1];
    h->threads = calloc((size_t)n_threads + 1, sizeof *h->threads);
    if (!h->threads) return esp_fail(reterr, ESP_NOMEM, "no memory for threads");
    for (int i = 0; i <= n_threads; i++) { /* one more than asked: the urgent one */
        start *s = malloc(sizeof *s);
        if (!s) return esp_fail(reterr, ESP_NOMEM, "no memory for threads");
        *s = (start){http, i == 0};
        if (pthread_create(&h->threads[i], NULL, handler_main, s) != 0) {
            free(s);
            return esp_fail(reterr, ESP_NOMEM, "cannot start a handler thread");
        }
        h->n_threads++;
    }
    return ESP_OK;
}

bool esp_handlers_push(esp_http *http, esp_call *call) {
    esp_handlers *h = &http->handlers;
    int lane = call->route->flags & ESP_ROUTE_URGENT ? 0 : 1;
    pthread_mutex_lock(&h->lock);
    bool room = h->queued < QUEUE_MAX && !h->stopping;
    if (room) {
        call->next = NULL;
        *h->tail[lane] = call;
        h->tail[lane] = &call->next;
        h->queued++;
        if (lane == 0) pthread_cond_signal(&h->urgent);
        pthread_cond_signal(&h->any);
    }
    pthread_mutex_unlock(&h->lock);
    return room;
}

void esp_handlers_stop(esp_http *http) {
    esp_handlers *h = &http->handlers;
    if (!h->threads) return;
    pthread_mutex_lock(&h->lock);
    h->stopping = true;
    pthread_cond_broadcast(&h->any);
    pthread_cond_broadcast(&h->urgent);
    pthread_mutex_unlock(&h->lock);
    for (int i = 0; i < h->n_threads; i++) pthread_join(h->threads[i], NULL);
    pthread_cond_destroy(&h->urgent);
    pthread_cond_destroy(&h->any);
    pthread_mutex_destroy(&h->lock);
    free(h->threads);
    h->threads = NULL;
}
