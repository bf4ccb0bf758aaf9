/* SPDX-License-Identifier: Apache-2.0
 * Jobs: from the queue in the registry through a batch worker back into the registry.
 *
 * The rows are the truth: whatever is in memory here can be lost. One thread, the dispatcher, claims the next queued
 * job whenever a batch worker is free, answers the calls that wait for a job and wakes event streams. The supervisor
 * turns a job's frames into asynchronous writes; the registry's writer thread applies them in order and rings here. */
#ifndef ESP_SERVER_JOBS_H
#define ESP_SERVER_JOBS_H

#include "base/json.h"
#include "registry/registry.h"
#include "server.h"

typedef struct esp_jobs esp_jobs;

/* Recovers what an earlier daemon left running and starts the dispatcher. server->pool is there. */
ESP_MUST_CHECK esp_code esp_jobs_start(esp_server *server, esp_jobs **ret_jobs, esp_error *reterr);
/* A queued job may be there. Any thread. */
void esp_jobs_kick(esp_jobs *jobs);
/* Cancels a job: at once when queued, through its worker when running. STATE when it has ended. Blocks on a write. */
ESP_MUST_CHECK esp_code esp_jobs_cancel(esp_jobs *jobs, const char *id, esp_error *reterr);
/* Replies to the call with the job when it ends, or as it is after wait_s. The call has been kept. */
void esp_jobs_wait(esp_jobs *jobs, const char *id, esp_call *call, int status, double wait_s);
/* Replies with the job's events after `after` as a stream that ends with the job. */
void esp_jobs_stream(esp_jobs *jobs, const char *id, int64_t after, esp_call *call);
/* Takes no more jobs; running ones are stopped and go back to the queue. Does not block. */
void esp_jobs_drain(esp_jobs *jobs);
/* Jobs with a worker. */
int esp_jobs_running(esp_jobs *jobs);
/* Answers the waiting calls, ends the streams, joins the dispatcher. Before the HTTP listener stops. */
void esp_jobs_stop(esp_jobs *jobs);
/* After the pool has stopped and the registry has closed. NULL is fine. */
void esp_jobs_free(esp_jobs *jobs);

/* jobs/spec.c */
extern const char *const esp_job_kind_names[]; /* "train", ..., NULL */
/* A job as it may be asked for: {"kind","spec","priority"?,"run_limit_s"?}. Fills the row but its id; refs are
 * resolved on `db`. Errors name the field: NOT_FOUND becomes UNPROCESSABLE at the ref. */
ESP_MUST_CHECK esp_code esp_job_parse(const esp_reader *reader, esp_db *db, esp_job_row *ret_row, esp_error *reterr);
/* jobs/format.c: the job as API.md has it. */
void esp_job_format(const esp_job_row *row, esp_jsonw *w);
/* {"code","title","detail","pointer"?} of an error. */
void esp_job_error_format(const esp_error *error, esp_buf *out);

#endif
