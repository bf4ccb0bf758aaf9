/* SPDX-License-Identifier: Apache-2.0
 * The worker's end of the socket. Reading blocks between tasks and never during one. */
#include "worker/worker.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#define POLL_EVERY_NS (1 * ESP_NS_PER_MS)
#define TELL_EVERY_NS (500 * ESP_NS_PER_MS)
#define WAIT_MS       20
enum { CHUNK = 1 << 16 };

/* 1 read something, 0 nothing there (only with MSG_DONTWAIT), -1 the daemon is gone. */
static int read_some(worker *w, int flags) {
    static char chunk[CHUNK];
    if (w->in_pos) {
        memmove(w->in.data, w->in.data + w->in_pos, w->in.len - w->in_pos);
        w->in.len -= w->in_pos;
        w->in_pos = 0;
    }
    for (;;) {
        ssize_t n = recv(WORKER_FD, chunk, sizeof chunk, flags);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) return 0;
        if (n > 0) esp_buf_put(&w->in, chunk, (size_t)n);
        if (n > 0 && !w->in.failed) return 1;
        w->gone = true;
        return -1;
    }
}

bool worker_receive(worker *w, esp_frame_header *ret_header, const char **ret_payload) {
    for (;;) {
        int got = esp_frame_next(&w->in, &w->in_pos, ret_header, ret_payload, NULL);
        if (got > 0) return true;
        if (got < 0 || read_some(w, 0) < 0) return false;
    }
}

void worker_put(worker *w, esp_frame_type type, const esp_buf *payload) {
    esp_frame_put(&w->out, type, w->task, payload->data, (uint32_t)payload->len);
}

void worker_flush(worker *w) {
    size_t sent = 0;
    while (!w->out.failed && !w->gone && sent < w->out.len) {
        ssize_t n = send(WORKER_FD, w->out.data + sent, w->out.len - sent, MSG_NOSIGNAL);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) w->gone = true;
        sent += n > 0 ? (size_t)n : 0;
    }
    if (w->out.failed) w->gone = true; /* leaving is the one answer that needs no memory */
    esp_buf_clear(&w->out);
}

void worker_send(worker *w, esp_frame_type type, const esp_buf *payload) {
    if (payload->failed || payload->len > ESP_FRAME_MAX) {
        esp_error error = {0};
        esp_fail(&error, payload->failed ? ESP_NOMEM : ESP_TOO_LARGE, "the task's answer does not fit");
        worker_send_error(w, &error);
        return;
    }
    worker_put(w, type, payload);
    worker_flush(w);
}

void worker_send_about(worker *w, esp_frame_type type, uint64_t task, const esp_buf *payload) {
    if (payload->failed || payload->len > ESP_FRAME_MAX) return;
    esp_frame_put(&w->out, type, task, payload->data, (uint32_t)payload->len);
    worker_flush(w);
}

void worker_put_error(worker *w, esp_frame_type type, const esp_error *error) {
    /* When memory is out: the plainest error, ready made. */
    static char plain[] = "{\"code\":\"NOMEM\",\"pointer\":\"\",\"message\":\"the worker is out of memory\"}";
    static const esp_buf ready = {.data = plain, .len = sizeof plain - 1};
    esp_buf text = {0};
    esp_jsonw json = esp_jsonw_on(&text);
    esp_jsonw_object(&json, NULL);
    esp_jsonw_string(&json, "code", esp_code_name(error->code));
    esp_jsonw_string(&json, "pointer", error->pointer);
    esp_jsonw_string(&json, "message", error->message);
    esp_jsonw_object_end(&json);
    worker_put(w, type, text.failed ? &ready : &text);
    esp_buf_done(&text);
}

void worker_send_error(worker *w, const esp_error *error) {
    worker_put_error(w, ESP_FRAME_ERROR, error);
    worker_flush(w);
}

/* Frames that came during a task: a CANCEL of it is looked for; whatever else is there is for worker_next, or for later. */
static void look(worker *w) {
    esp_frame_header header;
    const char *payload = NULL;
    while (read_some(w, MSG_DONTWAIT) > 0) continue;
    size_t pos = w->in_pos;
    while (esp_frame_next(&w->in, &pos, &header, &payload, NULL) > 0)
        if (header.type == ESP_FRAME_CANCEL && header.task == w->task) w->cancelled = true;
}

static void tell(worker *w, char *text, size_t len) {
    const esp_buf payload = {.data = text, .len = len};
    worker_send(w, ESP_FRAME_LEASE, &payload);
    w->told_ns = esp_clock_now_ns();
}

void worker_lease(worker *w, double seconds) {
    char text[64];
    int n = snprintf(text, sizeof text, "{\"seconds\":%.3f}", seconds);
    if (w->leased) tell(w, text, (size_t)n);
}

bool worker_cancelled(void *user) {
    static char nothing[] = "{}";
    worker *w = user;
    if (w->cancelled || w->gone) return true;
    int64_t now = esp_clock_now_ns();
    if (now - w->polled_ns < POLL_EVERY_NS) return false;
    w->polled_ns = now;
    if (w->leased && now - w->told_ns >= TELL_EVERY_NS) tell(w, nothing, 2);
    look(w);
    return w->cancelled || w->gone;
}

bool worker_next(worker *w, esp_frame_header *ret_header, const char **ret_payload) {
    for (;;) {
        int got = esp_frame_next(&w->in, &w->in_pos, ret_header, ret_payload, NULL);
        if (got > 0 && ret_header->type == ESP_FRAME_CANCEL && ret_header->task == w->task) {
            w->cancelled = true;
            continue;
        }
        if (got) return got > 0;
        int64_t now = esp_clock_now_ns();
        if (now - w->polled_ns < POLL_EVERY_NS) return false;
        w->polled_ns = now;
        if (read_some(w, MSG_DONTWAIT) <= 0) return false;
    }
}

void worker_wait(worker *w, int64_t deadline_ns) {
    esp_frame_header header;
    const char *payload = NULL;
    size_t pos = w->in_pos;
    int64_t left_ms = deadline_ns == ESP_NEVER ? WAIT_MS : (deadline_ns - esp_clock_now_ns()) / ESP_NS_PER_MS;
    struct pollfd fd = {.fd = WORKER_FD, .events = POLLIN};
    if (left_ms > 0 && esp_frame_next(&w->in, &pos, &header, &payload, NULL) == 0) (void)poll(&fd, 1, left_ms < WAIT_MS ? (int)left_ms : WAIT_MS);
    w->polled_ns = 0; /* the next look looks */
}
