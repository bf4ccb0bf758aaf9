/* SPDX-License-Identifier: Apache-2.0
 * A job's events as a stream (text/event-stream): `id:` the sequence number, `event:` its type, `data:` its JSON. The
 * events are rows, so a client that comes back with Last-Event-ID misses nothing that was kept. */
#include "jobs/private.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

enum { EVENTS_AT_ONCE = 32, BEAT_S = 15 };

static void put_event(esp_buf *out, const esp_event_row *event) {
    esp_buf_printf(out, "id: %" PRId64 "\nevent: %s\ndata: ", event->seq, event->type);
    esp_buf_puts(out, event->data); /* canonical JSON: one line */
    esp_buf_puts(out, "\n\n");
}

/* Appends what is new; *ret_over when the job has ended and all of it has been said. */
static esp_code put_news(job_stream *s, esp_buf *out, size_t *ret_n, bool *ret_over) {
    esp_event_row events[EVENTS_AT_ONCE];
    esp_job_row row = {0};
    esp_db *db = NULL;
    size_t n = 0;
    esp_registry *registry = s->jobs->server->registry;
    esp_code code = esp_registry_read_begin(registry, &db, NULL);
    if (code) return code;
    code = esp_job_find(db, s->id, &row, NULL);
    if (!code) code = esp_event_read(db, s->id, s->after, EVENTS_AT_ONCE, events, &n, NULL);
    esp_registry_read_end(registry, db);
    for (size_t i = 0; i < n; i++) {
        put_event(out, &events[i]);
        s->after = events[i].seq;
        free(events[i].data);
    }
    if (!code) *ret_over = n < EVENTS_AT_ONCE && esp_job_state_terminal(row.state);
    esp_job_row_done(&row);
    *ret_n = n;
    return code;
}

/* On an event thread. A registry that cannot be read ends the stream; the client comes back for the rest. */
static int stream_next(void *user, esp_buf *out) {
    job_stream *s = user;
    size_t n = 0;
    bool over = false;
    pthread_mutex_lock(&s->jobs->streams_lock);
    bool stopping = s->jobs->streams_stopping, beat = s->beat;
    s->beat = false;
    pthread_mutex_unlock(&s->jobs->streams_lock);
    if (stopping || put_news(s, out, &n, &over)) return 0;
    if (n || beat) {
        pthread_mutex_lock(&s->jobs->streams_lock);
        s->said_ns = esp_clock_now_ns();
        pthread_mutex_unlock(&s->jobs->streams_lock);
    }
    if (over) return 0;
    if (n) return 1;
    if (beat) esp_buf_puts(out, ": \n\n");
    return -1;
}

static void stream_end(void *user) {
    job_stream *s = user;
    pthread_mutex_lock(&s->jobs->streams_lock);
    job_stream **link = &s->jobs->streams;
    while (*link != s) link = &(*link)->next;
    *link = s->next;
    pthread_mutex_unlock(&s->jobs->streams_lock);
    free(s);
}

void esp_jobs_stream(esp_jobs *jobs, const char *id, int64_t after, esp_call *call) {
    job_stream *s = calloc(1, sizeof *s);
    if (!s) {
        esp_error error = {0};
        esp_fail(&error, ESP_NOMEM, "no memory for a stream");
        esp_call_reply_error(call, &error);
        return;
    }
    s->jobs = jobs;
    memcpy(s->id, id, strlen(id) + 1);
    s->after = after;
    s->said_ns = esp_clock_now_ns();
    esp_call_header_add(call, "Cache-Control", "no-store");
    esp_call_header_add(call, "X-Accel-Buffering", "no");
    /* Under the lock, so that nobody wakes it before its handle is there. */
    pthread_mutex_lock(&jobs->streams_lock);
    s->next = jobs->streams;
    jobs->streams = s;
    esp_call_reply_stream(call, "text/event-stream", (esp_producer){stream_next, stream_end, s}, &s->stream);
    pthread_mutex_unlock(&jobs->streams_lock);
}

void job_streams_wake(esp_jobs *jobs, const char *id) {
    pthread_mutex_lock(&jobs->streams_lock);
    for (job_stream *s = jobs->streams; s; s = s->next)
        if (s->stream && strcmp(s->id, id) == 0) esp_stream_wake(s->stream);
    pthread_mutex_unlock(&jobs->streams_lock);
}

void job_streams_beat(esp_jobs *jobs) {
    int64_t now = esp_clock_now_ns();
    pthread_mutex_lock(&jobs->streams_lock);
    for (job_stream *s = jobs->streams; s; s = s->next) {
        if (!s->stream || s->beat || now - s->said_ns < BEAT_S * ESP_NS_PER_S) continue;
        s->beat = true;
        esp_stream_wake(s->stream);
    }
    pthread_mutex_unlock(&jobs->streams_lock);
}

void job_streams_stop(esp_jobs *jobs) {
    pthread_mutex_lock(&jobs->streams_lock);
    jobs->streams_stopping = true;
    for (job_stream *s = jobs->streams; s; s = s->next)
        if (s->stream) esp_stream_wake(s->stream);
    pthread_mutex_unlock(&jobs->streams_lock);
}
