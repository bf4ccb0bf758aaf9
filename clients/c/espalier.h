/* SPDX-License-Identifier: Apache-2.0
 * A small C client of Espalier's HTTP interface for robots and scripts: libcurl for HTTP, jansson for JSON, nothing of the service itself.
 *
 * A client is one keep-alive connection: open, any number of calls, close. One client, one thread; several may be open.
 * Every call has a time limit of its own and gives back either the parsed reply or an error that says who failed: the
 * service refused (with its problem document), the network, the clock, or a reply that is not what was promised.
 * Nothing is retried behind the caller's back. Functions leave their results untouched on failure. */
#ifndef ESPALIER_H
#define ESPALIER_H

#include <jansson.h>

typedef enum esp_client_code {
    ESP_CLIENT_OK = 0,
    ESP_CLIENT_REFUSED, /* the service answered with a problem: status, name and message are its own */
    ESP_CLIENT_NETWORK, /* no connection, or it broke */
    ESP_CLIENT_TIMEOUT, /* the call's time limit passed */
    ESP_CLIENT_FORMAT, /* the reply is not JSON, or lacks what it must have */
    ESP_CLIENT_JOB, /* the job ended without success; message is the job's error */
    ESP_CLIENT_FILE, /* a local file cannot be read */
    ESP_CLIENT_STOPPED, /* the caller's callback asked to stop */
    ESP_CLIENT_NOMEM
} esp_client_code;

typedef struct esp_client_error {
    esp_client_code code;
    long status; /* HTTP status of a refusal, else 0 */
    char name[32]; /* the service's error code, such as "NOT_FOUND" */
    char message[480]; /* one line for people, field pointers included */
    char request_id[64]; /* for the service's log */
} esp_client_error;

typedef struct esp_client esp_client;

/* url: "http://host:port", no trailing path. token: bearer token or NULL. Does not connect yet. */
esp_client_code esp_client_open(const char *url, const char *token, esp_client **ret_client, esp_client_error *reterr);
void esp_client_close(esp_client *client);

/* One request. path starts with "/"; body may be NULL. ret_reply (may be NULL) receives the parsed reply, the caller's
 * reference, or JSON null for an empty one. */
esp_client_code esp_client_call(esp_client *client, const char *method, const char *path, const json_t *body, int timeout_ms, json_t **ret_reply,
                                esp_client_error *reterr);
/* POSTs a file as it is, streamed. */
esp_client_code esp_client_upload(esp_client *client, const char *path, const char *content_type, const char *file, int timeout_ms,
                                  json_t **ret_reply, esp_client_error *reterr);
/* Wall time of the last call as this side saw it, connection included, in milliseconds. */
double esp_client_last_ms(const esp_client *client);

/* What a job said on its way; borrowed during the callback. progress is {"fraction","stage","metrics"} or NULL. Return 0 to
 * go on, anything else to stop waiting (the job goes on). */
typedef int esp_client_on_progress(void *user, const char *state, const json_t *progress);
/* Waits until a job has ended, over its event stream, resumed when it breaks, and by asking where there is none.
 * ret_job receives the job, the caller's reference; a job that did not succeed is ESP_CLIENT_JOB. */
esp_client_code esp_client_wait(esp_client *client, const char *job_id, int timeout_ms, esp_client_on_progress *on_progress, void *user,
                                json_t **ret_job, esp_client_error *reterr);

/* The error a reply of this HTTP status and body stands for (problem+json or not). Exposed for tests. */
void esp_client_read_problem(long status, const char *body, size_t len, esp_client_error *ret_error);

#endif
