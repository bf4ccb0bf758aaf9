/* SPDX-License-Identifier: Apache-2.0
 * Inside espalier-worker: one process, one thread, one task at a time.
 *
 *     main.c         start, limits, the loop over frames
 *     wire.c         frames in and out of fd 3; the cancel check
 *     cache.c        models and what is made of them, kept between tasks
 *     task_plan.c    PLAN, HELP
 *     asks.c         requests of several callers in one frame; task_predict.c  PREDICT, QUERY          task_artifact.c  ARTIFACT
 *     share.c        frames about shares of a plan's search, while it runs
 *     job.c          JOB: what all kinds share; job_train.c (with job_sparsify.c), job_certify.c, job_evaluate.c,
 *                    job_prune.c (with prune_inputs.c and prune_search.c), job_distill.c (with distill_plan.c, distill_share.c and distill_loop.c)
 *
 * A task function answers with exactly one DONE itself and returns OK, or returns the error that main.c sends. */
#ifndef ESP_WORKER_H
#define ESP_WORKER_H

#include "base/clock.h"
#include "base/hash.h"
#include "base/json.h"
#include "certify/closed_form.h"
#include "net/program.h"
#include "plan/plan.h"
#include "pool/frame.h"

enum { WORKER_FD = 3, CACHE_CAP = 16 };

/* A model and what was made of it so far; made when first asked for. */
typedef struct worker_model {
    char key[2 * ESP_HASH_HEX]; /* sha256 and the hash of the data box, and of a graph's objects and edges: a planner depends on them */
    esp_model *model; /* of a graph network: as it is stored, or for one state (worker_model_at) */
    double *x_lower, *x_upper; /* n_x each, or NULL */
    esp_planner *planner;
    esp_program *program;
    esp_closed_form *form;
    esp_candidate *pair; /* the form beside the model of `paired`, compared last */
    struct worker_model *paired;
    uint64_t used; /* clock of the least-recently-used rule; 0 = empty slot */
} worker_model;

typedef struct worker {
    esp_buf in;
    size_t in_pos;
    esp_buf out;
    uint64_t task; /* in hand */
    bool cancelled, gone; /* gone: the other end is */
    int64_t polled_ns;
    bool leased; /* the task is a job, or help with one: the daemon wants to hear that it goes on */
    int64_t told_ns; /* when it heard so last */
    worker_model cache[CACHE_CAP];
    uint64_t tick;
} worker;

/* --- wire.c --- */
/* Blocks. false when the daemon is gone or sent nonsense. The payload is borrowed until the next call. */
bool worker_receive(worker *w, esp_frame_header *ret_header, const char **ret_payload);
/* The same without blocking, during a task: false when there is none at the moment. A CANCEL of the task is not handed out. */
bool worker_next(worker *w, esp_frame_header *ret_header, const char **ret_payload);
/* Until a frame comes, for a few milliseconds at most, and not past the deadline. */
void worker_wait(worker *w, int64_t deadline_ns);
/* Blocks until the socket has taken it. A payload that could not be made (failed) becomes an ERROR. */
void worker_send(worker *w, esp_frame_type type, const esp_buf *payload);
/* The same in two steps: frames that are put, of at most ESP_FRAME_MAX, go out together with the next flush or send. */
void worker_put(worker *w, esp_frame_type type, const esp_buf *payload);
void worker_put_error(worker *w, esp_frame_type type, const esp_error *error);
void worker_flush(worker *w);
/* About a share of the task. A payload that could not be made is not sent. */
void worker_send_about(worker *w, esp_frame_type type, uint64_t task, const esp_buf *payload);
void worker_send_error(worker *w, const esp_error *error);
/* For esp_stop: has a CANCEL come, or is the daemon gone? Looks at the socket at most once a millisecond. */
bool worker_cancelled(void *worker);

/* From now on nothing may be heard of the job for so long besides its lease: before what cannot be interrupted and does not look at
 * worker_cancelled, which otherwise tells of itself that the job goes on. With 0 that is over. */
void worker_lease(worker *w, double seconds);

/* The NODES that come behind HELP, copied. */
ESP_MUST_CHECK esp_code worker_receive_nodes(worker *w, esp_buf *ret, esp_error *reterr);

/* --- cache.c --- */
/* The model that {"path","sha256","data_box"?} names; borrowed until the next get. */
ESP_MUST_CHECK esp_code worker_model_get(worker *w, const esp_reader *reader, worker_model **ret_model, esp_error *reterr);
/* What a graph network is for observations of ny numbers: with the edges at y, or in all of a box, or all that there can be (both
 * NULL); `plain`: as layers, for what needs them. Another model is itself when its ny is this one. Borrowed like the first. */
typedef struct worker_state {
    int ny;
    const double *y, *lower, *upper;
    bool plain;
} worker_state;
ESP_MUST_CHECK esp_code worker_model_at(worker *w, worker_model *m, const worker_state *at, worker_model **ret_model, esp_error *reterr);
ESP_MUST_CHECK esp_code worker_model_program(worker_model *m, const esp_program **ret_program, esp_error *reterr);
ESP_MUST_CHECK esp_code worker_model_planner(worker_model *m, esp_planner **ret_planner, esp_error *reterr);
ESP_MUST_CHECK esp_code worker_model_form(worker_model *m, const esp_closed_form **ret_form, esp_error *reterr);
/* The model's closed form beside another model, whose norms are computed once; borrowed until the next get. */
ESP_MUST_CHECK esp_code worker_model_pair(worker_model *m, worker_model *other, const esp_candidate **ret_pair, esp_error *reterr);
void worker_cache_done(worker *w);

/* --- tasks --- */
typedef esp_code worker_task(worker *w, const esp_reader *payload, esp_error *reterr);
worker_task worker_plan, worker_help, worker_job, worker_help_distill;
/* `spec` and what comes with it are members of `job`. */
worker_task worker_job_train, worker_job_certify, worker_job_evaluate, worker_job_prune, worker_job_distill;

/* --- asks.c --- */
typedef struct worker_about {
    worker_model *model, *candidate; /* candidate: NULL when none */
} worker_about;
/* One request; the answer is appended. */
typedef esp_code worker_answer(worker *w, const worker_about *about, const esp_reader *request, esp_buf *ret_answer, esp_error *reterr);
worker_answer worker_predict, worker_query, worker_artifact;
/* A frame of them (worker-frames.md, Requests). */
ESP_MUST_CHECK esp_code worker_asks(worker *w, worker_answer *answer, const char *payload, size_t len, esp_error *reterr);

/* --- job.c --- */
void worker_progress(worker *w, double fraction, const char *stage);
/* BLOB_DIR/ab/abcdef..., as the registry has it; synced. */
ESP_MUST_CHECK esp_code worker_blob_write(const char *blob_dir, const esp_buf *bytes, char ret_sha256[ESP_HASH_HEX], esp_error *reterr);
struct esp_model;
/* What every MODEL payload says of its model, as members of the open object. */
void worker_put_model(const struct esp_model *model, const char *sha256, esp_jsonw *json);
struct esp_dataset;
/* {"path","format"}; the caller's. Tells that it reads, and stops when the task is cancelled. */
ESP_MUST_CHECK esp_code worker_dataset_load(worker *w, const esp_reader *reader, struct esp_dataset **ret_dataset, esp_error *reterr);
/* Borrowed text that the daemon always sends; its absence is our bug, said as such. */
ESP_MUST_CHECK esp_code worker_text(const esp_reader *object, const char *key, const char **ret_text, esp_error *reterr);

#endif
