/* SPDX-License-Identifier: Apache-2.0
 * Inside the jobs module.
 *
 *     jobs.c      the dispatcher thread; cancel, wait, drain       run.c     one run: claim, frames, end
 *     register.c  what a worker made becomes rows                  events.c  event streams
 *     spec.c      a job as asked for, checked                      format.c  a job as answered
 *     checkpoints.c   the files that training jobs go on from
 *
 * Locks: `lock` guards the dispatcher's state and the runs' flags; `streams_lock` the event streams. Neither is held
 * while waiting for the registry; the pool's and the HTTP layer's own locks may be taken under them. */
#ifndef ESP_SERVER_JOBS_PRIVATE_H
#define ESP_SERVER_JOBS_PRIVATE_H

#include <pthread.h>

#include "base/clock.h"
#include "jobs/jobs.h"
#include "pool/pool.h"

/* A claimed job, from the claim to its last write. The dispatcher makes it, the writer thread ends it. */
typedef struct job_run {
    esp_jobs *jobs;
    struct job_run *next; /* `lock` */
    uint64_t work; /* number in the pool */
    char id[ESP_ID_MAX]; /* `lock` until submitted: the claim sets it on the writer thread */
    bool stop_asked; /* `lock`: a cancel or a drain came before the pool had it */
    /* set by the claim, constant after */
    bool claimed, ended; /* ended: the last write moved the job to its end */
    int64_t attempt;
    double run_limit_s;
    char kind[16], name[ESP_NAME_MAX + 1], dataset[ESP_ID_MAX], model[ESP_ID_MAX], reference[ESP_ID_MAX];
    esp_buf frame; /* the JOB payload */
    /* the supervisor's */
    int64_t progress_ns;
    esp_buf progress; /* the latest that was not written */
    int64_t words_ns;
    esp_buf words; /* the worker's, not yet written */
    /* the writer thread's */
    int64_t due_ms; /* no job was there but some that wait until then; 0: none */
    char parent[ESP_ID_MAX]; /* the model registered last */
    esp_buf models; /* elements of result.models */
    esp_error failed; /* a write that was refused: the run then fails */
    /* the end, from the supervisor to the writer */
    esp_end end;
    esp_buf payload;
    esp_error error;
} job_run;

typedef struct job_waiter {
    struct job_waiter *next;
    char id[ESP_ID_MAX];
    esp_call *call;
    int status; /* of the reply */
    int64_t until_ns;
    bool due; /* the job has changed since it was looked at */
} job_waiter;

typedef struct job_stream {
    struct job_stream *next;
    esp_jobs *jobs;
    char id[ESP_ID_MAX];
    int64_t after;
    esp_stream *stream; /* `streams_lock` */
    int64_t said_ns; /* `streams_lock`: when something was sent last */
    bool beat; /* `streams_lock`: a heartbeat is due */
} job_stream;

struct esp_jobs {
    esp_server *server;
    pthread_t thread;
    bool thread_started;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    bool kicked, draining, stopping;
    int64_t retry_ns; /* when a queued job that waits may start; ESP_NEVER: there is none */
    int n_runs;
    job_run *runs;
    job_waiter *waiters;
    pthread_mutex_t streams_lock; /* recursive: a stream that cannot be made ends within its making */
    job_stream *streams;
    bool streams_stopping;
};

/* --- run.c --- */
/* Claims the next queued job and gives it to the pool; false when there was none. The dispatcher's. */
bool job_run_next(esp_jobs *jobs);
void job_run_free(job_run *run);

/* --- register.c, on the writer thread --- */
/* A train or sparsify job: its models are the result, and it has checkpoints. */
bool job_makes_rungs(const job_run *run);
/* A MODEL frame's row and its event. */
ESP_MUST_CHECK esp_code job_register_model(esp_db *db, job_run *run, const char *payload, size_t len, esp_error *reterr);
/* The result of a job that is DONE: its certificates become rows. */
ESP_MUST_CHECK esp_code job_result(esp_db *db, job_run *run, esp_buf *ret_result, esp_error *reterr);

/* What a CHECKPOINT frame says: that there is a new one, or something about one for the job's events. */
ESP_MUST_CHECK esp_code job_register_checkpoint(esp_db *db, const job_run *run, const char *payload, size_t len, esp_error *reterr);

/* --- checkpoints.c --- */
/* DIR/checkpoints/ID, which the job's worker writes and reads. */
void job_checkpoint_path(const esp_jobs *jobs, const char *id, char ret_path[4096]);
/* Makes the directory; removes what is not of a job that is to run. Before the dispatcher starts. */
ESP_MUST_CHECK esp_code job_checkpoints_open(esp_jobs *jobs, esp_error *reterr);
/* The job has ended. */
void job_checkpoint_remove(const esp_jobs *jobs, const char *id);

/* --- jobs.c --- */
/* Something about the job was committed. Any thread. */
void job_changed(esp_jobs *jobs, const char *id);
/* The run has had its last write; frees it. */
void job_run_over(esp_jobs *jobs, job_run *run);

/* --- events.c --- */
void job_streams_wake(esp_jobs *jobs, const char *id);
void job_streams_beat(esp_jobs *jobs);
void job_streams_stop(esp_jobs *jobs);

#endif
