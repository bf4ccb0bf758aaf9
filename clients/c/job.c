/* SPDX-License-Identifier: Apache-2.0
 * Waiting for a job (espalier.h): its event stream first, plain questions where there is no stream.
 *
 * One round = read the event stream until it ends or tells the end, then ask for the job itself, which is the record.
 * A stream that breaks is resumed after its last event; a service without one costs a question every half second. */
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "c/events.h"
#include "c/private.h"

#define PAUSE_MS 500

typedef struct watch {
    esp_client_on_progress *on_progress;
    void *user;
    bool stopped; /* by the caller */
    bool ended; /* the stream told the end */
} watch;

static double now_ms(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return 1e3 * (double)t.tv_sec + 1e-6 * (double)t.tv_nsec;
}

static bool state_ended(const char *state) {
    static const char *const ends[] = {"succeeded", "failed", "cancelled", "timed_out"};
    for (size_t i = 0; state != NULL && i < sizeof ends / sizeof *ends; i++)
        if (strcmp(state, ends[i]) == 0) return true;
    return false;
}

/* An event's data, or the job itself: either carries "progress" or is the progress. */
static void tell(watch *w, const json_t *news) {
    const char *state = json_string_value(json_object_get(news, "state"));
    const json_t *progress = json_object_get(news, "progress");
    if (progress == NULL && json_object_get(news, "fraction") != NULL) progress = news;
    if (!json_is_object(progress)) progress = NULL;
    w->ended = state_ended(state);
    if (w->on_progress != NULL && (state != NULL || progress != NULL)) w->stopped = w->on_progress(w->user, state, progress) != 0;
}

static bool on_event(void *user, const char *id, const char *event, const char *data) {
    (void)id;
    (void)event;
    watch *w = user;
    json_t *news = json_loads(data, 0, NULL);
    if (json_is_object(news)) tell(w, news);
    json_decref(news);
    return !w->ended && !w->stopped;
}

static bool on_bytes(void *user, const char *bytes, size_t len) {
    return esp_events_feed(user, bytes, len);
}

/* True when there was a stream. Failures are not errors: the job itself is asked next. */
static bool follow(esp_client *client, const char *path, esp_events *events, int timeout_ms) {
    char events_path[256], resume[96];
    snprintf(events_path, sizeof events_path, "%s/events", path);
    snprintf(resume, sizeof resume, "Last-Event-ID: %s", events->id);
    esp_transfer transfer = {.method = "GET", .path = events_path, .accept = "text/event-stream", .timeout_ms = timeout_ms};
    transfer.header = events->id[0] != '\0' ? resume : NULL;
    transfer.on_bytes = on_bytes;
    transfer.user = events;
    esp_events_restart(events);
    esp_client_code code = esp_transfer_run(client, &transfer, NULL);
    free(transfer.reply);
    return code == ESP_CLIENT_OK && transfer.status == 200;
}

static esp_client_code finish(json_t *job, json_t **ret_job, esp_client_error *reterr) {
    const char *state = json_string_value(json_object_get(job, "state"));
    const json_t *error = json_object_get(job, "error");
    if (strcmp(state, "succeeded") == 0) {
        *ret_job = job;
        return ESP_CLIENT_OK;
    }
    const char *detail = json_string_value(json_object_get(error, "detail"));
    if (detail == NULL) detail = json_string_value(json_object_get(error, "message"));
    if (detail == NULL) detail = json_string_value(error);
    esp_client_fail(reterr, ESP_CLIENT_JOB, "job %s %s: %s", json_string_value(json_object_get(job, "id")), state,
                    detail != NULL ? detail : "no reason given");
    json_decref(job);
    return ESP_CLIENT_JOB;
}

esp_client_code esp_client_wait(esp_client *client, const char *job_id, int timeout_ms, esp_client_on_progress *on_progress, void *user,
                                json_t **ret_job, esp_client_error *reterr) {
    char path[192];
    snprintf(path, sizeof path, "/v1/jobs/%s", job_id);
    const double end = now_ms() + timeout_ms;
    watch w = {.on_progress = on_progress, .user = user};
    esp_events events;
    esp_events_init(&events, on_event, &w);
    esp_client_code code = ESP_CLIENT_OK;
    for (;;) {
        int left = (int)(end - now_ms());
        if (left <= 0) {
            code = esp_client_fail(reterr, ESP_CLIENT_TIMEOUT, "job %s has not ended within %d ms", job_id, timeout_ms);
            break;
        }
        bool streamed = follow(client, path, &events, left);
        json_t *job = NULL;
        if (!w.stopped) code = esp_client_call(client, "GET", path, NULL, 10000, &job, reterr);
        if (!w.stopped && code != ESP_CLIENT_OK) break;
        if (!w.stopped) tell(&w, job);
        if (w.stopped) {
            code = esp_client_fail(reterr, ESP_CLIENT_STOPPED, "stopped waiting for job %s", job_id);
            json_decref(job);
            break;
        }
        if (w.ended) {
            code = finish(job, ret_job, reterr);
            break;
        }
        json_decref(job);
        nanosleep(&(struct timespec){0, (streamed ? PAUSE_MS / 10 : PAUSE_MS) * 1000000L}, NULL);
    }
    esp_events_done(&events);
    return code;
}
