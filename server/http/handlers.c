/* SPDX-License-Identifier: Apache-2.0
 * The threads that run handlers which may block. Urgent calls (a plan) pass all others, and the first thread takes
 * nothing else, so that registry writes waiting for the disk cannot stand between a plan and its worker. While it is at
 * one, any other thread takes the next, as urgent as the first for as long as that lasts. */
#include "http/call.h"

#include <stdlib.h>

#include "ontime.h"
#include "server.h"

enum { QUEUE_MAX = 1024 };

typedef struct start {
    esp_http *http;
    bool urgent_only;
} start;

static esp_call *take_from(esp_handlers *h, int lane) {
    esp_call *call = h->head[lane];
    if (!call) return NULL;
    h->head[lane] = call->next;
    if (!call->next) h->tail[lane] = &h->head[lane];
    call->next = NULL;
    h->queued--;
    return call;
}

/* The urgent thread runs at once, so the others leave it what it can take: one of them would keep a plan waiting whenever
 * it has to wait for a processor itself. */
static esp_call *take(esp_handlers *h, bool urgent_only) {
    esp_call *call = urgent_only || h->urgent_busy || h->stopping ? take_from(h, 0) : NULL;
    return call || urgent_only ? call : take_from(h, 1);
}

static bool is_urgent(const esp_call *call) {
    return call->route->flags & ESP_ROUTE_URGENT;
}

/* Without the lock. */
static void run(esp_http *http, esp_call *call, bool urgent_thread) {
    bool hurry = is_urgent(call) && !urgent_thread;
    if (hurry) esp_ontime_enter(ESP_URGENCY_HTTP);
    call->route->run(http->server, call);
    if (hurry) esp_ontime_leave();
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
        if (urgent_only) h->urgent_busy = false;
        esp_call *call = take(h, urgent_only);
        if (!call) {
            if (h->stopping) break;
            pthread_cond_wait(urgent_only ? &h->urgent : &h->any, &h->lock);
            continue;
        }
        if (urgent_only) {
            h->urgent_busy = true;
            if (h->head[0]) pthread_cond_signal(&h->any);
        }
        pthread_mutex_unlock(&h->lock);
        run(http, call, urgent_only);
        pthread_mutex_lock(&h->lock);
    }
    pthread_mutex_unlock(&h->lock);
    return NULL;
}

esp_code esp_handlers_start(esp_http *http, int n_threads, esp_error *reterr) {
    esp_handlers *h = &http->handlers;
    esp_ontime_lock_init(&h->lock);
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
    int lane = is_urgent(call) ? 0 : 1;
    pthread_mutex_lock(&h->lock);
    bool room = h->queued < QUEUE_MAX && !h->stopping;
    if (room) {
        call->next = NULL;
        *h->tail[lane] = call;
        h->tail[lane] = &call->next;
        h->queued++;
        if (lane == 0) pthread_cond_signal(&h->urgent);
        if (lane == 1 || h->urgent_busy) pthread_cond_signal(&h->any);
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
