/* SPDX-License-Identifier: Apache-2.0
 * Long replies, produced piece by piece on an event thread (server-sent events, exports).
 *
 * When the producer has nothing now, the connection is suspended until esp_stream_wake; a wake that comes first leaves
 * `woken` behind, so none is lost. The socket is watched all the while: a client who goes ends a suspended stream, at
 * once; one that is being sent to is MHD's to notice. */
#include "http/call.h"

#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "ontime.h"

enum { BLOCK = 64 << 10 };

/* With the lock held. */
static void resume(esp_stream *stream) {
    if (!stream->suspended) return;
    stream->suspended = false;
    MHD_resume_connection(stream->connection);
}

static void stream_hangup(void *user) {
    esp_stream *stream = user;
    pthread_mutex_lock(&stream->lock);
    stream->gone = true;
    resume(stream);
    pthread_mutex_unlock(&stream->lock);
}

void esp_stream_wake(esp_stream *stream) {
    pthread_mutex_lock(&stream->lock);
    stream->woken = true;
    resume(stream);
    pthread_mutex_unlock(&stream->lock);
}

typedef enum parking { PARKED, WOKEN, GONE } parking;

static parking park(esp_stream *stream) {
    pthread_mutex_lock(&stream->lock);
    parking result = stream->gone ? GONE : stream->woken ? WOKEN : PARKED;
    stream->woken = false;
    if (result == PARKED) {
        stream->suspended = true;
        MHD_suspend_connection(stream->connection);
    }
    pthread_mutex_unlock(&stream->lock);
    return result;
}

static ssize_t stream_read(void *user, uint64_t pos, char *out, size_t room) {
    esp_stream *stream = user;
    (void)pos;
    while (stream->sent == stream->buf.len) {
        esp_buf_clear(&stream->buf);
        stream->sent = 0;
        if (stream->ended) return MHD_CONTENT_READER_END_OF_STREAM;
        int64_t began_ns = esp_clock_now_ns();
        int more = stream->producer.next(stream->producer.user, &stream->buf);
        esp_ontime_rest(began_ns);
        if (stream->buf.failed || more == -2) return MHD_CONTENT_READER_END_WITH_ERROR;
        stream->ended = more == 0; /* the producer is not asked again */
        if (stream->buf.len > 0) break;
        if (more >= 0) continue;
        switch (park(stream)) {
        case PARKED: return 0;
        case GONE: return MHD_CONTENT_READER_END_WITH_ERROR;
        case WOKEN: break;
        }
    }
    size_t n = stream->buf.len - stream->sent;
    if (n > room) n = room;
    memcpy(out, stream->buf.data + stream->sent, n);
    stream->sent += n;
    stream->call->sent += n;
    return (ssize_t)n;
}

static void stream_free(void *user) {
    esp_stream *stream = user;
    esp_watch_remove(&stream->http->watch, stream->watch_id);
    pthread_mutex_lock(&stream->http->lock);
    *stream->prev = stream->next;
    if (stream->next) stream->next->prev = stream->prev;
    pthread_mutex_unlock(&stream->http->lock);
    stream->producer.end(stream->producer.user);
    esp_buf_done(&stream->buf);
    esp_call_unref(stream->call);
    pthread_mutex_destroy(&stream->lock);
    free(stream);
}

static esp_stream *stream_create(esp_call *call, esp_producer producer) {
    esp_stream *stream = calloc(1, sizeof *stream);
    if (!stream) return NULL;
    esp_http *http = call->http;
    stream->http = http;
    stream->call = call;
    atomic_fetch_add(&call->refs, 1);
    stream->connection = call->connection;
    stream->producer = producer;
    pthread_mutex_init(&stream->lock, NULL);
    pthread_mutex_lock(&http->lock);
    stream->gone = http->stopping;
    stream->next = http->streams;
    stream->prev = &http->streams;
    if (http->streams) http->streams->prev = &stream->next;
    http->streams = stream;
    pthread_mutex_unlock(&http->lock);
    stream->watch_id = esp_watch_add(&http->watch, esp_connection_fd(call->connection), true, stream_hangup, stream);
    return stream;
}

void esp_call_reply_stream(esp_call *call, const char *content_type, esp_producer producer, esp_stream **ret_stream) {
    esp_stream *stream = stream_create(call, producer);
    if (!stream) producer.end(producer.user);
    struct MHD_Response *response = stream ? MHD_create_response_from_callback(MHD_SIZE_UNKNOWN, BLOCK, stream_read, stream, stream_free) : NULL;
    if (!response) {
        esp_error error = {0};
        esp_fail(&error, ESP_NOMEM, "no memory for a stream");
        if (stream) stream_free(stream);
        esp_call_reply_error(call, &error);
        return;
    }
    if (ret_stream) *ret_stream = stream;
    esp_call_set_response(call, 200, content_type, response);
    esp_call_finish(call);
}

void esp_streams_end(esp_http *http) {
    pthread_mutex_lock(&http->lock);
    http->stopping = true;
    for (esp_stream *stream = http->streams; stream; stream = stream->next) stream_hangup(stream);
    pthread_mutex_unlock(&http->lock);
}
