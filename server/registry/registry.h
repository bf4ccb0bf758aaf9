/* SPDX-License-Identifier: Apache-2.0
 * The registry: SQLite for rows, content-addressed files for blobs. The only folder that includes sqlite3.h.
 *
 * One writer thread holds the only read-write connection and does all checkpoints (SQLite before 3.51.3 can corrupt a
 * WAL written from two connections); it runs queued writes in order, many per transaction (group commit), each inside
 * its own savepoint. A write is acknowledged only after the commit. Readers use read-only connections, one per thread.
 *
 * Blobs live under DIR/blobs/ab/abcdef...; a blob is complete and synced before any row names it. */
#ifndef ESP_SERVER_REGISTRY_H
#define ESP_SERVER_REGISTRY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/error.h"
#include "base/hash.h"
#include "base/json.h"

typedef struct esp_registry esp_registry;
typedef struct esp_db esp_db; /* one connection, opaque outside this folder */

/* Creates DIR and the database when missing, migrates forward, refuses a newer schema. */
ESP_MUST_CHECK esp_code esp_registry_open(const char *dir, esp_registry **ret_registry, esp_error *reterr);
void esp_registry_close(esp_registry *registry); /* after the last call has returned; finishes queued writes */
/* The database answers and the disk takes writes. */
bool esp_registry_healthy(const esp_registry *registry);
const char *esp_registry_dir(const esp_registry *registry);

/* A write runs on the writer thread inside a transaction; a failure undoes only its own changes. */
typedef esp_code esp_write_fn(esp_db *db, void *user, esp_error *reterr);
/* Blocks until committed (or refused). */
ESP_MUST_CHECK esp_code esp_registry_write(esp_registry *registry, esp_write_fn *run, void *user, esp_error *reterr);
/* Does not block; `done` runs on the writer thread after the commit. */
typedef void esp_write_done_fn(void *user, esp_code code, const esp_error *error);
void esp_registry_write_async(esp_registry *registry, esp_write_fn *run, esp_write_done_fn *done, void *user);
/* A read-only connection of this thread for one read transaction: `esp_db *db = begin; ...; end`. */
ESP_MUST_CHECK esp_code esp_registry_read_begin(esp_registry *registry, esp_db **ret_db, esp_error *reterr);
void esp_registry_read_end(esp_registry *registry, esp_db *db);

/* A read-only connection from outside a daemon, beside one that runs or not; for esp_registry_read_release only. */
ESP_MUST_CHECK esp_code esp_registry_read_only(const char *dir, esp_db **ret_db, esp_error *reterr);
void esp_registry_read_release(esp_db *db);
/* A whole copy of the rows as they are, at `path`, which must not be there. */
ESP_MUST_CHECK esp_code esp_registry_backup(esp_db *db, const char *path, esp_error *reterr);

/* --- blobs --- */
/* A place for a new blob: the temporary file's path (room 4096). Moved into place by commit, removed by discard. */
ESP_MUST_CHECK esp_code esp_blob_temp(esp_registry *registry, char ret_path[4096], esp_error *reterr);
ESP_MUST_CHECK esp_code esp_blob_commit(esp_registry *registry, const char *temp_path, const char *sha256, esp_error *reterr);
ESP_MUST_CHECK esp_code esp_blob_put(esp_registry *registry, const void *bytes, size_t len, char ret_sha256[ESP_HASH_HEX], esp_error *reterr);
void esp_blob_path(const esp_registry *registry, const char *sha256, char ret_path[4096]);
bool esp_blob_exists(const esp_registry *registry, const char *sha256);

/* --- rows: each module's functions run on a given connection (a write fn's or a read's) --- */
#define ESP_NAME_MAX 128 /* names: [A-Za-z0-9][A-Za-z0-9._-]* */
#define ESP_ID_MAX   40 /* ids: a prefix and 16+ base-32 digits, "mdl_...", "dat_...", "job_...", "tsk_...", "cer_..." */
bool esp_name_ok(const char *name);
/* A fresh id: prefix, then time-ordered and random digits (sorts by creation). */
void esp_id_make(const char *prefix, char ret_id[ESP_ID_MAX]);

typedef struct esp_dataset_row {
    char id[ESP_ID_MAX], name[ESP_NAME_MAX + 1], sha256[ESP_HASH_HEX], format[8]; /* "ndjson", "csv" */
    int64_t version, trajectories, transitions, ny, nu, bytes, created_ms;
} esp_dataset_row;
/* Fills id, version, created_ms. The same name and hash as an existing version returns that one. */
ESP_MUST_CHECK esp_code esp_dataset_insert(esp_db *db, esp_dataset_row *row, esp_error *reterr);
/* ref: id, name, name/version. NOT_FOUND otherwise. */
ESP_MUST_CHECK esp_code esp_dataset_find(esp_db *db, const char *ref, esp_dataset_row *ret_row, esp_error *reterr);

enum { ESP_OBJECTS_MAX = 64 }; /* that an observation of a graph network has */

typedef struct esp_model_row {
    char id[ESP_ID_MAX], name[ESP_NAME_MAX + 1], sha256[ESP_HASH_HEX], kind[12];
    char parent[ESP_ID_MAX], dataset[ESP_ID_MAX], job[ESP_ID_MAX]; /* "" for none */
    int64_t version, ny, nu, history, relu, parameters, nonzero, created_ms;
    int64_t objects, object_size; /* of a graph network: what ny is for; 0 for a plain one */
    int64_t neurons; /* of a graph network: ReLUs, copies counted once */
    char *spec, *metrics, *graph; /* JSON texts, owned: esp_model_row_done; NULL for none */
} esp_model_row;
/* May observations of a model have ny numbers? A graph network takes any whole number of objects. */
bool esp_model_row_takes(const esp_model_row *row, int64_t ny);
void esp_model_row_done(esp_model_row *row);
/* A model version is unique by (name, sha256, parent, dataset, spec): inserting an equal one again returns it, so that a job that runs twice registers once. */
ESP_MUST_CHECK esp_code esp_model_insert(esp_db *db, esp_model_row *row, esp_error *reterr);
/* ref: id, name, name/version, name@alias. */
ESP_MUST_CHECK esp_code esp_model_find(esp_db *db, const char *ref, esp_model_row *ret_row, esp_error *reterr);

/* Deleted for good: CONFLICT naming what refers to it. `actor`, may be NULL, is who asked. The blob stays (espalierd gc). */
ESP_MUST_CHECK esp_code esp_model_delete(esp_db *db, const char *ref, const char *actor, esp_error *reterr);
ESP_MUST_CHECK esp_code esp_dataset_delete(esp_db *db, const char *ref, const char *actor, esp_error *reterr);

/* Labels of a model: [A-Za-z0-9][A-Za-z0-9._:=-]*, "robot=arm-3". Setting one that is there, or clearing one that is not, changes
 * nothing. */
bool esp_tag_ok(const char *tag);
ESP_MUST_CHECK esp_code esp_tag_set(esp_db *db, const char *model_id, const char *tag, esp_error *reterr);
ESP_MUST_CHECK esp_code esp_tag_clear(esp_db *db, const char *model_id, const char *tag, esp_error *reterr);

/* A movable pointer to a model version, with its history. */
typedef struct esp_alias_row {
    char name[ESP_NAME_MAX + 1], alias[ESP_NAME_MAX + 1], model[ESP_ID_MAX];
    int64_t version, event, updated_ms; /* event: number of the change that set it */
} esp_alias_row;
/* at_ms < 0: as it stands now; otherwise as it stood then. */
ESP_MUST_CHECK esp_code esp_alias_find(esp_db *db, const char *name, const char *alias, int64_t at_ms, esp_alias_row *ret_row, esp_error *reterr);
/* Points row->name's row->alias at row->version and fills the rest. `expect`: -1 whatever it is now, 0 it must not
 * exist, else its present event; PRECONDITION otherwise. */
ESP_MUST_CHECK esp_code esp_alias_set(esp_db *db, esp_alias_row *row, int64_t expect, const char *actor, esp_error *reterr);

typedef struct esp_certificate_row {
    char id[ESP_ID_MAX], model[ESP_ID_MAX], reference[ESP_ID_MAX], job[ESP_ID_MAX];
    char kind[24], norm[8], method[24], strength[16], status[24], domain_sha256[ESP_HASH_HEX];
    double value, lower, tolerance, seconds;
    char *record; /* JSON: domain, witness, constants per layer, versions; owned */
    int64_t created_ms;
} esp_certificate_row;
void esp_certificate_row_done(esp_certificate_row *row);
ESP_MUST_CHECK esp_code esp_certificate_insert(esp_db *db, esp_certificate_row *row, esp_error *reterr);

typedef struct esp_task_row {
    char id[ESP_ID_MAX], name[ESP_NAME_MAX + 1], model[ESP_ID_MAX]; /* the model resolved when stored */
    int64_t version, created_ms;
    char *body; /* canonical JSON, owned */
} esp_task_row;
void esp_task_row_done(esp_task_row *row);
ESP_MUST_CHECK esp_code esp_task_insert(esp_db *db, esp_task_row *row, esp_error *reterr);
ESP_MUST_CHECK esp_code esp_task_find(esp_db *db, const char *ref, esp_task_row *ret_row, esp_error *reterr);

/* What a robot reports of a closed loop that has ended. Totals by model and task follow by themselves. */
typedef struct esp_episode_row {
    char id[ESP_ID_MAX], model[ESP_ID_MAX], task[ESP_ID_MAX], robot[ESP_NAME_MAX + 1];
    int64_t steps, created_ms;
    double cost;
    int success; /* 0, 1; -1 not said */
    char *metrics; /* JSON, owned; NULL for none */
} esp_episode_row;
void esp_episode_row_done(esp_episode_row *row);
ESP_MUST_CHECK esp_code esp_episode_insert(esp_db *db, esp_episode_row *row, esp_error *reterr);

typedef enum esp_job_state {
#define STATE(symbol, name, terminal) ESP_JOB_##symbol,
#include "states.def"
#undef STATE
    ESP_JOB_STATES
} esp_job_state;
extern const char *const esp_job_state_names[ESP_JOB_STATES + 1];
bool esp_job_state_terminal(esp_job_state state);
bool esp_job_move_allowed(esp_job_state from, esp_job_state to);

typedef struct esp_job_row {
    char id[ESP_ID_MAX], kind[16];
    esp_job_state state;
    int64_t priority, attempt, crashes, created_ms, started_ms, ended_ms; /* 0 = not yet */
    int64_t not_before_ms; /* a queued job waits until then; 0: for nothing */
    double run_limit_s;
    char token[ESP_ID_MAX]; /* who submitted it, written once and not read back; "" for nobody in particular */
    char *spec, *progress, *result, *error; /* JSON, owned; NULL for none */
} esp_job_row;
void esp_job_row_done(esp_job_row *row);
ESP_MUST_CHECK esp_code esp_job_insert(esp_db *db, esp_job_row *row, esp_error *reterr);
ESP_MUST_CHECK esp_code esp_job_find(esp_db *db, const char *id, esp_job_row *ret_row, esp_error *reterr);
/* The one way to change a job's state: checks the move against states.def and the attempt (a late result of an earlier
 * attempt is refused with STATE), sets the clocks, stores result or error (may be NULL) and appends a "state" event.
 * `attempt` is the row's present one, < 0 for whichever it is; the move to running counts it up. */
ESP_MUST_CHECK esp_code esp_job_move(esp_db *db, const char *id, int64_t attempt, esp_job_state to, const char *result, const char *error,
                                     esp_error *reterr);
/* Progress: replaces the row's and appends a "progress" event (the oldest progress events go when there are over 2,000). */
ESP_MUST_CHECK esp_code esp_job_progress(esp_db *db, const char *id, int64_t attempt, const char *progress, esp_error *reterr);
/* What a worker has said: a "log" event, of which the newest 64 are kept. */
ESP_MUST_CHECK esp_code esp_job_say(esp_db *db, const char *id, int64_t attempt, const char *text, esp_error *reterr);
/* Jobs that are queued; those of a token, when it is not "". */
ESP_MUST_CHECK esp_code esp_job_count_queued(esp_db *db, const char *token, int64_t *ret_n, esp_error *reterr);
/* The queued job to run next (highest priority, then oldest) of those that wait for nothing; NOT_FOUND when none. */
ESP_MUST_CHECK esp_code esp_job_next(esp_db *db, esp_job_row *ret_row, esp_error *reterr);
/* When the first of those that wait may start; 0: none does. */
ESP_MUST_CHECK esp_code esp_job_next_due(esp_db *db, int64_t *ret_ms, esp_error *reterr);
/* A queued job is not to start before then. */
ESP_MUST_CHECK esp_code esp_job_delay(esp_db *db, const char *id, int64_t until_ms, esp_error *reterr);
/* At start: every running or cancelling job goes back to queued (or to cancelled). */
ESP_MUST_CHECK esp_code esp_job_recover(esp_db *db, esp_error *reterr);
/* A running job's worker was lost. */
ESP_MUST_CHECK esp_code esp_job_crashed(esp_db *db, const char *id, esp_error *reterr);
/* Work was kept that a next attempt need not do again: the workers lost so far count no more. */
ESP_MUST_CHECK esp_code esp_job_kept(esp_db *db, const char *id, esp_error *reterr);

typedef struct esp_event_row {
    int64_t seq; /* of the job, from 1 */
    char type[16]; /* "state", "progress", "model", "log" */
    char *data; /* JSON, owned by the caller after a read: free() */
} esp_event_row;
ESP_MUST_CHECK esp_code esp_event_append(esp_db *db, const char *job, const char *type, const char *data, esp_error *reterr);
/* The same unless the job has this very event already. */
ESP_MUST_CHECK esp_code esp_event_append_once(esp_db *db, const char *job, const char *type, const char *data, esp_error *reterr);
/* Up to max events after `after`, oldest first. */
ESP_MUST_CHECK esp_code esp_event_read(esp_db *db, const char *job, int64_t after, size_t max, esp_event_row *ret_events, size_t *ret_n,
                                       esp_error *reterr);

#endif
