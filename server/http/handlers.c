/* SPDX-License-Identifier: Apache-2.0
 * The threads that run handlers which may block. Urgent calls (a plan) pass all others, and the first thread takes
 * nothing else, so that registry writes waiting for the disk cannot stand between a plan and its worker. While it is at
 * one, any other thread takes the next, as urgent as the first for as long as that lasts.
 *
 * The last thread takes pieces of uploads and nothing else: to read a large dataset takes a processor for many seconds, and
 * whoever asks something small in that time must wait for none of it. Uploads share it, a piece each in turn. */
#include "http/call.h"

#include <stdlib.h>
#include <sys/resource.h>
#include <unistd.h>

#include "ontime.h"
#include "server.h"

enum { QUEUE_MAX = 1024, UPLOAD_NICENESS = 10 };
typedef enum lane_name { URGENT, REST, PIECES } lane_name;

typedef struct start {
    esp_http *http;
    lane_name lane; /* REST: what is urgent too, when its thread is busy */
} start;

static esp_call *take_from(esp_handlers *h, lane_name lane) {
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
static esp_call *take(esp_handlers *h, lane_name lane) {
    if (lane != REST) return take_from(h, lane);
    esp_call *call = h->urgent_busy || h->stopping ? take_from(h, URGENT) : NULL;
    return call ? call : take_from(h, REST);
}

static bool is_urgent(const esp_call *call) {
    return call->route->flags & ESP_ROUTE_URGENT;
}

/* Without the lock. */
static void run(esp_http *http, esp_call *call, lane_name lane) {
    if (lane == PIECES) {
        esp_call_piece(call);
        esp_call_piece_done(call);
        return;
    }
    bool hurry = is_urgent(call) && lane != URGENT;
    if (hurry) esp_ontime_enter(ESP_URGENCY_HTTP);
    esp_error error = {0};
    if (call->upload && esp_call_piece(call)) { /* what was left of it */
        error = call->refusal;
        esp_call_reply_error(call, &error);
    } else {
        call->route->run(http->server, call);
    }
    if (hurry) esp_ontime_leave();
}

static pthread_cond_t *bell(esp_handlers *h, lane_name lane) {
    return lane == URGENT ? &h->urgent : lane == REST ? &h->any : &h->pieces;
}

static void *handler_main(void *user) {
    start *s = user;
    esp_http *http = s->http;
    lane_name lane = s->lane;
    esp_handlers *h = &http->handlers;
    free(s);
    if (lane == URGENT) esp_ontime_enter(ESP_URGENCY_HTTP);
    if (lane == PIECES) setpriority(PRIO_PROCESS, (id_t)gettid(), UPLOAD_NICENESS);
    pthread_mutex_lock(&h->lock);
    for (;;) {
        if (lane == URGENT) h->urgent_busy = false;
        esp_call *call = take(h, lane);
        if (!call) {
            if (h->stopping) break;
            pthread_cond_wait(bell(h, lane), &h->lock);
            continue;
        }
        if (lane == URGENT) {
            h->urgent_busy = true;
            if (h->head[URGENT]) pthread_cond_signal(&h->any);
        }
        pthread_mutex_unlock(&h->lock);
        run(http, call, lane);
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
    pthread_cond_init(&h->pieces, NULL);
    for (int i = 0; i < ESP_LANES; i++) h->tail[i] = &h->head[i];
    h->threads = calloc((size_t)n_threads + 2, sizeof *h->threads);
    if (!h->threads) return esp_fail(reterr, ESP_NOMEM, "no memory for threads");
    for (int i = 0; i < n_threads + 2; i++) { /* two more than asked: the urgent one, and the one of uploads */
        start *s = malloc(sizeof *s);
        if (!s) return esp_fail(reterr, ESP_NOMEM, "no memory for threads");
        *s = (start){http, i == 0 ? URGENT : i <= n_threads ? REST : PIECES};
        if (pthread_create(&h->threads[i], NULL, handler_main, s) != 0) {
            free(s);
            return esp_fail(reterr, ESP_NOMEM, "cannot start a handler thread");
        }
        h->n_threads++;
    }
    return ESP_OK;
}

static bool push(esp_http *http, esp_call *call, lane_name lane) {
    esp_handlers *h = &http->handlers;
    pthread_mutex_lock(&h->lock);
    bool room = h->queued < QUEUE_MAX && !h->stopping;
    if (room) {
        call->next = NULL;
        *h->tail[lane] = call;
        h->tail[lane] = &call->next;
        h->queued++;
        pthread_cond_signal(bell(h, lane));
        if (lane == URGENT && h->urgent_busy) pthread_cond_signal(&h->any);
    }
    pthread_mutex_unlock(&h->lock);
    return room;
}

bool esp_handlers_push(esp_http *http, esp_call *call) {
    return push(http, call, is_urgent(call) ? URGENT : REST);
}

bool esp_handlers_push_piece(esp_http *http, esp_call *call) {
    return push(http, call, PIECES);
}

void esp_handlers_stop(esp_http *http) {
    esp_handlers *h = &http->handlers;
    if (!h->threads) return;
    pthread_mutex_lock(&h->lock);
    h->stopping = true;
    pthread_cond_broadcast(&h->any);
    pthread_cond_broadcast(&h->urgent);
    pthread_cond_broadcast(&h->pieces);
    pthread_mutex_unlock(&h->lock);
    for (int i = 0; i < h->n_threads; i++) pthread_join(h->threads[i], NULL);
    free(h->threads);
    h->threads = NULL;
}

void esp_handlers_done(esp_http *http) {
    esp_handlers *h = &http->handlers;
    pthread_cond_destroy(&h->pieces);
    pthread_cond_destroy(&h->urgent);
    pthread_cond_destroy(&h->any);
    pthread_mutex_destroy(&h->lock);
}
