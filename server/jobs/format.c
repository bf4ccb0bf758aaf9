/* SPDX-License-Identifier: Apache-2.0
 * A job, and the error of one, as JSON. */
#include "jobs/jobs.h"

#include <string.h>

#include "rfc3339.h"

/* A stored JSON text as it stands; null when there is none. */
static void put_stored(esp_jsonw *w, const char *key, const char *json) {
    if (json)
        esp_jsonw_raw(w, key, json, strlen(json));
    else
        esp_jsonw_null(w, key);
}

/* null when 0. */
static void put_time(esp_jsonw *w, const char *key, int64_t ms) {
    char text[ESP_TIME_TEXT];
    if (ms) esp_time_format(ms, text);
    esp_jsonw_string(w, key, ms ? text : NULL);
}

void esp_job_format(const esp_job_row *row, esp_jsonw *w) {
    esp_jsonw_object(w, NULL);
    esp_jsonw_string(w, "id", row->id);
    esp_jsonw_string(w, "kind", row->kind);
    esp_jsonw_string(w, "state", esp_job_state_names[row->state]);
    put_stored(w, "spec", row->spec);
    esp_jsonw_integer(w, "priority", row->priority);
    if (row->run_limit_s > 0)
        esp_jsonw_number(w, "run_limit_s", row->run_limit_s);
    else
        esp_jsonw_null(w, "run_limit_s");
    put_stored(w, "progress", row->progress);
    put_time(w, "created_at", row->created_ms);
    put_time(w, "started_at", row->started_ms);
    put_time(w, "ended_at", row->ended_ms);
    esp_jsonw_integer(w, "attempt", row->attempt);
    esp_jsonw_integer(w, "crashes", row->crashes);
    put_time(w, "retry_at", row->not_before_ms);
    put_stored(w, "result", row->result);
    put_stored(w, "error", row->error);
    esp_jsonw_object_end(w);
}

void esp_job_error_format(const esp_error *error, esp_buf *out) {
    esp_jsonw w = esp_jsonw_on(out);
    esp_jsonw_object(&w, NULL);
    esp_jsonw_string(&w, "code", esp_code_name(error->code));
    esp_jsonw_string(&w, "title", esp_code_title(error->code));
    esp_jsonw_string(&w, "detail", error->message);
    if (*error->pointer) esp_jsonw_string(&w, "pointer", error->pointer);
    esp_jsonw_object_end(&w);
}
