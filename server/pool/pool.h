/* SPDX-License-Identifier: Apache-2.0
 * The pool: worker processes, the queue of work for them, and the supervisor thread that owns both.
 *
 * One thread, the supervisor, starts the workers, reads and writes their sockets, keeps every deadline and buries the
 * dead. It never waits for a worker, for the disk or for a lock that someone holds while waiting: other threads only
 * push commands (submit, cancel, drain) and ring an eventfd. What comes of a piece of work is told to its esp_work_ops,
 * on the supervisor thread: those must not block either (reply to a call, queue an asynchronous registry write).
 *
 * Three classes of work on two of processes: PLAN for plans; ASK for what else a caller waits for, on the workers of plans;
 * BATCH for jobs, with workers of its own. Of two or more workers one is kept free of ASK work, so that plans do not wait for
 * it; only brief work goes there while the others are at long one.
 *
 * Life of a work item: submit -> [begin -> frame*]* -> end, exactly once, and the user pointer is dead to the pool.
 * Work that is not `attached` ends the moment its deadline passes or it is cancelled; the worker is then told to stop
 * and killed after a grace. Attached work (a job) ends only when its worker has stopped or is dead, so that whatever
 * the worker still delivers counts. See server/README.md for what happens when something dies. */
#ifndef ESP_SERVER_POOL_H
#define ESP_SERVER_POOL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/error.h"
#include "config.h"
#include "pool/frame.h"

typedef enum esp_class { ESP_CLASS_PLAN, ESP_CLASS_ASK, ESP_CLASS_BATCH, ESP_CLASSES } esp_class;

/* How a work item ended. */
typedef enum esp_end {
    ESP_END_DONE, /* payload: the worker's DONE frame */
    ESP_END_ERROR, /* error: what the worker said; it lives on */
    ESP_END_EXPIRED, /* the deadline passed */
    ESP_END_CANCELLED, /* esp_pool_cancel, or the pool stopped */
    ESP_END_LOST /* the worker died, and no retry was left; error says how, with its last words */
} esp_end;

typedef struct esp_outcome {
    esp_end end;
    const char *payload; /* DONE only; borrowed for the call, not NUL-terminated */
    size_t len;
    const esp_error *error; /* ERROR and LOST; borrowed */
    int64_t waited_ns; /* in the queue, until a worker first took it or it ended there */
    int64_t ran_ns; /* on the worker that answered last; 0 when none took it */
} esp_outcome;

typedef struct esp_work_ops {
    /* A worker takes the work (again after a lost one, or beside the first, see share.c): append the payload; `budget_ns` is what is left to the deadline. */
    void (*begin)(void *user, int64_t budget_ns, esp_buf *payload);
    /* A frame that is not the last: INCUMBENT, BOUND, PROGRESS, MODEL, ANSWER. May be NULL. */
    void (*frame)(void *user, esp_frame_type type, const char *payload, size_t len);
    /* What the worker wrote to its standard output and error meanwhile. May be NULL. */
    void (*words)(void *user, const char *bytes, size_t len);
    void (*end)(void *user, const esp_outcome *outcome);
} esp_work_ops;

typedef struct esp_work {
    esp_class class;
    esp_frame_type type; /* PLAN, PREDICT, QUERY, ARTIFACT or JOB */
    bool attached;
    bool brief; /* ASK work of a few milliseconds */
    bool shared; /* a PLAN or JOB that idle plan workers may help with */
    int retries; /* fresh workers to try on after a lost one */
    int64_t arrived_ns; /* monotonic; the wait is counted from here */
    int64_t deadline_ns; /* monotonic; ESP_NEVER for none */
    uint64_t affinity; /* work of equal affinity prefers the same worker; 0 = none */
    const esp_work_ops *ops;
    void *user;
} esp_work;

typedef struct esp_pool esp_pool;

/* Starts the supervisor and the workers; returns when every plan worker has said READY, or fails after 10 s. */
ESP_MUST_CHECK esp_code esp_pool_start(const esp_config *config, esp_pool **ret_pool, esp_error *reterr);

/* A number for a work item, so that it can be cancelled by someone who knew it before it was submitted. */
uint64_t esp_pool_id(esp_pool *pool);
/* Any thread; does not block. BUSY when the class's queue is full, DRAINING after esp_pool_stop: then no callback comes. */
ESP_MUST_CHECK esp_code esp_pool_submit(esp_pool *pool, uint64_t id, const esp_work *work, esp_error *reterr);
/* Any thread. The work ends CANCELLED, or as it ended if that came first; an id that is gone is fine. */
void esp_pool_cancel(esp_pool *pool, uint64_t id);

/* Plan workers that have said READY and live. */
int esp_pool_ready(const esp_pool *pool);
/* Work items that have not ended. */
int esp_pool_pending(const esp_pool *pool);

/* Ends everything that is left (CANCELLED), closes the sockets, waits briefly, kills, joins the supervisor. */
void esp_pool_stop(esp_pool *pool);
/* After stop, when nobody can submit or cancel any more. NULL is fine. */
void esp_pool_free(esp_pool *pool);

#endif
