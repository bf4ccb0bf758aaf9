/* SPDX-License-Identifier: Apache-2.0
 * One run of a job: claimed on the writer thread, given to the pool, its frames turned into writes, its end written.
 *
 *     dispatcher   claim (a write that it waits for) ---> submit
 *     supervisor   begin, PROGRESS, MODEL, end       ---> asynchronous writes, in this order
 *     writer       rows; after the last one the run is over
 *
 * Every write names the attempt, so that nothing an abandoned run left behind can change the job. */
#include "jobs/private.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "log.h"
#include "metrics.h"

#define PROGRESS_EVERY_NS (300 * ESP_NS_PER_MS)
#define WORDS_EVERY_NS    (500 * ESP_NS_PER_MS)
enum { WORDS_MAX = 4096, BACKOFF_MAX_MS = 60000 };

void job_run_free(job_run *run) {
    if (!run) return;
    esp_buf_done(&run->frame);
    esp_buf_done(&run->models);
    esp_buf_done(&run->progress);
    esp_buf_done(&run->words);
    esp_buf_done(&run->payload);
    free(run);
}

/* ---- claim: on the writer thread ---- */

/* What the spec says under `key`, an id since the job was accepted; "" when absent. */
static void copy_id(const esp_reader *object, const char *key, char ret_id[ESP_ID_MAX]) {
    const char *text = "";
    esp_reader member = esp_read_member(object, key);
    if (esp_read_string(&member, ESP_ID_MAX - 1, &text, NULL)) text = "";
    memcpy(ret_id, text, strlen(text) + 1);
}

/* What the model's inputs were when it was trained, where that is known. */
static void put_data_box(esp_jsonw *w, const esp_model_row *row) {
    esp_json *json = NULL;
    if (!row->metrics || esp_json_parse(row->metrics, strlen(row->metrics), &json, NULL)) return;
    esp_reader root = esp_reader_root(json), box = esp_read_member(&root, "data_box");
    if (box.value) esp_jsonw_value(w, "data_box", box.value);
    esp_json_free(json);
}

/* A pruned model is a version of its parent's name if it has none of its own, and its inputs are the parent's. */
static void put_parent(esp_jsonw *w, job_run *run, const esp_model_row *row) {
    put_data_box(w, row);
    memcpy(run->parent, row->id, sizeof run->parent);
    if (!*run->name) memcpy(run->name, row->name, sizeof run->name);
}

/* A sparsified one too; and how the parent was made on the same data, so that the same trajectories are kept out. */
static void put_start(esp_jsonw *w, job_run *run, const esp_model_row *row) {
    put_parent(w, run, row);
    if (row->spec && strcmp(row->dataset, run->dataset) == 0) esp_jsonw_raw(w, "spec", row->spec, strlen(row->spec));
}

/* Neurons that were resolved over the data box stay so in what is pruned: it, too, holds inside that box only. */
static esp_code put_resolved(esp_jsonw *w, const esp_model_row *row, esp_error *reterr) {
    esp_json *json = NULL;
    if (!row->spec) return ESP_OK;
    esp_code code = esp_json_parse(row->spec, strlen(row->spec), &json, reterr);
    esp_reader root = esp_reader_root(json), resolved = esp_read_member(&root, "resolved");
    if (!code && resolved.value) esp_jsonw_value(w, "resolved", resolved.value);
    esp_json_free(json);
    return code;
}

static esp_code put_model(esp_jsonw *w, job_run *run, const char *key, esp_db *db, const char *id, esp_error *reterr) {
    char path[4096];
    esp_model_row row = {0};
    if (!*id) return ESP_OK;
    esp_code code = esp_model_find(db, id, &row, reterr);
    if (code) return code;
    esp_blob_path(run->jobs->server->registry, row.sha256, path);
    esp_jsonw_object(w, key);
    esp_jsonw_string(w, "path", path);
    esp_jsonw_string(w, "sha256", row.sha256);
    if (strcmp(run->kind, "distill") == 0) put_data_box(w, &row);
    if (strcmp(run->kind, "prune") == 0) {
        put_parent(w, run, &row);
        code = put_resolved(w, &row, reterr);
    }
    if (strcmp(run->kind, "sparsify") == 0) put_start(w, run, &row);
    esp_jsonw_object_end(w);
    esp_model_row_done(&row);
    return code;
}

static esp_code put_dataset(esp_jsonw *w, const job_run *run, const char *key, esp_db *db, const char *id, esp_error *reterr) {
    char path[4096];
    esp_dataset_row row;
    if (!*id) return ESP_OK;
    esp_code code = esp_dataset_find(db, id, &row, reterr);
    if (code) return code;
    esp_blob_path(run->jobs->server->registry, row.sha256, path);
    esp_jsonw_object(w, key);
    esp_jsonw_string(w, "path", path);
    esp_jsonw_string(w, "format", row.format);
    esp_jsonw_string(w, "sha256", row.sha256);
    esp_jsonw_object_end(w);
    return ESP_OK;
}

/* Where the worker keeps the job, and finds what an earlier one kept. */
static void put_checkpoint(esp_jsonw *w, const job_run *run) {
    char path[4096];
    job_checkpoint_path(run->jobs, run->id, path);
    esp_jsonw_object(w, "checkpoint");
    esp_jsonw_string(w, "path", path);
    esp_jsonw_integer(w, "every_ms", run->jobs->server->config.checkpoint_ms);
    esp_jsonw_object_end(w);
}

/* A policy is distilled on the model that its task plans with; a ladder is timed on its own. */
static esp_code put_task(esp_jsonw *w, job_run *run, esp_db *db, const char *id, esp_error *reterr) {
    esp_task_row row = {0};
    if (!*id) return ESP_OK;
    esp_code code = esp_task_find(db, id, &row, reterr);
    if (!code) esp_jsonw_raw(w, "task", row.body, strlen(row.body));
    if (!code && strcmp(run->kind, "distill") == 0) code = put_model(w, run, "model", db, row.model, reterr);
    esp_task_row_done(&row);
    return code;
}

/* The JOB payload: the spec, and where the things it names are. */
static esp_code make_frame(job_run *run, esp_db *db, const char *spec, esp_error *reterr) {
    esp_json *json = NULL;
    const char *name = "";
    char domain_dataset[ESP_ID_MAX], dynamics[ESP_ID_MAX], task[ESP_ID_MAX], blob_dir[4096];
    esp_code code = esp_json_parse(spec, strlen(spec), &json, reterr);
    if (code) return code;
    esp_reader root = esp_reader_root(json), member = esp_read_member(&root, "name"), domain = esp_read_member(&root, "domain"),
               target = esp_read_member(&root, "target");
    code = esp_read_string(&member, ESP_NAME_MAX, &name, reterr);
    memcpy(run->name, name, strlen(name) + 1);
    copy_id(&root, "dataset", run->dataset);
    copy_id(&root, "model", run->model);
    if (!*run->model) copy_id(&root, "policy", run->model);
    copy_id(&root, "dynamics", dynamics);
    copy_id(&root, "task", task);
    if (!*task && target.value) copy_id(&target, "task", task);
    copy_id(&root, "reference", run->reference);
    domain_dataset[0] = '\0';
    if (domain.value) copy_id(&domain, "dataset", domain_dataset);
    snprintf(blob_dir, sizeof blob_dir, "%s/blobs", esp_registry_dir(run->jobs->server->registry));
    esp_jsonw w = esp_jsonw_on(&run->frame);
    esp_jsonw_object(&w, NULL);
    esp_jsonw_string(&w, "kind", run->kind);
    esp_jsonw_integer(&w, "attempt", run->attempt);
    esp_jsonw_string(&w, "blob_dir", blob_dir);
    esp_jsonw_value(&w, "spec", json);
    if (!code) code = put_model(&w, run, "model", db, run->model, reterr);
    if (!code) code = put_model(&w, run, "reference", db, run->reference, reterr);
    if (!code) code = put_model(&w, run, "dynamics", db, dynamics, reterr);
    if (!code) code = put_task(&w, run, db, task, reterr);
    if (!code) code = put_dataset(&w, run, "dataset", db, *run->dataset ? run->dataset : domain_dataset, reterr);
    if (job_makes_rungs(run)) put_checkpoint(&w, run);
    if (!code && *run->dataset) code = put_dataset(&w, run, "domain_dataset", db, domain_dataset, reterr);
    esp_jsonw_object_end(&w);
    if (!code && run->frame.failed) code = esp_fail(reterr, ESP_NOMEM, "no memory for the job's frame");
    esp_json_free(json);
    return code;
}

static esp_code claim(esp_db *db, void *user, esp_error *reterr) {
    job_run *run = user;
    esp_job_row row = {0};
    esp_error none = {0};
    esp_code code = esp_job_next(db, &row, &none);
    if (code == ESP_NOT_FOUND) return esp_job_next_due(db, &run->due_ms, reterr);
    if (code) {
        if (reterr) *reterr = none;
        return code;
    }
    run->attempt = row.attempt + 1;
    run->run_limit_s = row.run_limit_s;
    memcpy(run->kind, row.kind, sizeof run->kind);
    code = esp_job_move(db, row.id, row.attempt, ESP_JOB_RUNNING, NULL, NULL, reterr);
    if (!code) {
        /* Known from here on to whoever cancels: a cancel is a write, so it comes after this one. */
        pthread_mutex_lock(&run->jobs->lock);
        memcpy(run->id, row.id, sizeof run->id);
        pthread_mutex_unlock(&run->jobs->lock);
        run->claimed = true;
        /* The frame of an accepted job can always be made; if not, the run fails with the reason. */
        if (make_frame(run, db, row.spec, &run->failed)) assert(run->failed.code);
    }
    esp_job_row_done(&row);
    return code;
}

/* ---- the end: on the writer thread ---- */

static const struct {
    esp_job_state state;
    esp_metric metric;
} ends[] = {{ESP_JOB_SUCCEEDED, ESP_METRIC_JOBS_SUCCEEDED},
            {ESP_JOB_FAILED, ESP_METRIC_JOBS_FAILED},
            {ESP_JOB_CANCELLED, ESP_METRIC_JOBS_CANCELLED},
            {ESP_JOB_TIMED_OUT, ESP_METRIC_JOBS_TIMED_OUT}};

static esp_code move(esp_db *db, job_run *run, esp_job_state to, const char *result, const esp_error *error, esp_error *reterr) {
    esp_buf text = {0};
    if (error) esp_job_error_format(error, &text);
    esp_code code = esp_job_move(db, run->id, run->attempt, to, result, error ? esp_buf_text(&text) : NULL, reterr);
    esp_buf_done(&text);
    if (!code) run->ended = esp_job_state_terminal(to);
    for (size_t i = 0; !code && i < sizeof ends / sizeof *ends; i++)
        if (ends[i].state == to) esp_metric_add(ends[i].metric, 1);
    return code;
}

static esp_code end_done(esp_db *db, job_run *run, esp_error *reterr) {
    esp_buf result = {0};
    esp_code code = job_result(db, run, &result, reterr);
    if (!code) code = move(db, run, ESP_JOB_SUCCEEDED, esp_buf_text(&result), NULL, reterr);
    esp_buf_done(&result);
    return code;
}

/* A lost worker: again after a while, until too many were. */
static esp_code end_lost(esp_db *db, job_run *run, const esp_job_row *row, esp_error *reterr) {
    const esp_config *config = &run->jobs->server->config;
    esp_code code = esp_job_crashed(db, run->id, reterr);
    if (code) return code;
    if (row->crashes + 1 >= esp_config_live(config->job_crashes)) return move(db, run, ESP_JOB_FAILED, NULL, &run->error, reterr);
    int64_t wait_ms = (int64_t)esp_config_live(config->job_backoff_ms) << (row->crashes < 16 ? row->crashes : 16);
    if (wait_ms > BACKOFF_MAX_MS) wait_ms = BACKOFF_MAX_MS;
    code = move(db, run, ESP_JOB_QUEUED, NULL, &run->error, reterr);
    return code || !wait_ms ? code : esp_job_delay(db, run->id, esp_clock_wall_ms() + wait_ms, reterr);
}

static esp_code end_other(esp_db *db, job_run *run, const esp_job_row *row, esp_error *reterr) {
    esp_error limit = {0};
    bool cancelling = row->state == ESP_JOB_CANCELLING;
    if (run->end == ESP_END_ERROR) return move(db, run, ESP_JOB_FAILED, NULL, &run->error, reterr);
    if (cancelling) return move(db, run, ESP_JOB_CANCELLED, NULL, NULL, reterr);
    if (run->end == ESP_END_LOST) return end_lost(db, run, row, reterr);
    if (run->end == ESP_END_CANCELLED) return move(db, run, ESP_JOB_QUEUED, NULL, NULL, reterr); /* drained */
    esp_fail(&limit, ESP_DEADLINE, "the run limit of %g s passed", run->run_limit_s);
    return move(db, run, ESP_JOB_TIMED_OUT, NULL, &limit, reterr);
}

/* A row that cannot be written (a result that does not read, a full disk) fails the run; what was written with it is
 * undone by the savepoint of a second write. */
static esp_code write_end(esp_db *db, void *user, esp_error *reterr) {
    job_run *run = user;
    esp_job_row row = {0};
    esp_code code = esp_job_find(db, run->id, &row, reterr);
    if (code) return code;
    if (run->failed.code)
        code = move(db, run, ESP_JOB_FAILED, NULL, &run->failed, reterr);
    else if (run->end == ESP_END_DONE)
        code = end_done(db, run, reterr);
    else
        code = end_other(db, run, &row, reterr);
    esp_job_row_done(&row);
    return code;
}

static void ended(void *user, esp_code code, const esp_error *error) {
    job_run *run = user;
    if (code && !run->failed.code) {
        run->failed = *error;
        esp_registry_write_async(run->jobs->server->registry, write_end, ended, run);
        return;
    }
    if (code) esp_log(ESP_LOG_ERROR, "job_end", "job=%s code=%s message=\"%s\"", run->id, esp_code_name(code), error->message);
    if (!code && run->ended) job_checkpoint_remove(run->jobs, run->id);
    job_run_over(run->jobs, run);
}

/* ---- the pool's callbacks: on the supervisor ---- */

typedef struct job_write {
    job_run *run;
    esp_frame_type type; /* 0: words */
    char *payload;
    size_t len;
} job_write;

static esp_code write_frame(esp_db *db, void *user, esp_error *reterr) {
    job_write *w = user;
    if (!w->type) return esp_job_say(db, w->run->id, w->run->attempt, w->payload, reterr);
    if (w->type == ESP_FRAME_MODEL) return job_register_model(db, w->run, w->payload, w->len, reterr);
    if (w->type == ESP_FRAME_CHECKPOINT) return job_register_checkpoint(db, w->run, w->payload, w->len, reterr);
    return esp_job_progress(db, w->run->id, w->run->attempt, w->payload, reterr);
}

/* Progress or a word about a checkpoint that is refused is no loss; a model that is refused is. */
static void frame_written(void *user, esp_code code, const esp_error *error) {
    job_write *w = user;
    if (code && w->type == ESP_FRAME_MODEL && !w->run->failed.code) w->run->failed = *error;
    if (!code) job_changed(w->run->jobs, w->run->id);
    free(w->payload);
    free(w);
}

static void on_begin(void *user, int64_t budget_ns, esp_buf *payload) {
    const job_run *run = user;
    (void)budget_ns;
    esp_buf_put(payload, run->frame.data, run->frame.len);
}

static void write_later(job_run *run, esp_frame_type type, const char *payload, size_t len) {
    job_write *w = malloc(sizeof *w);
    char *copy = malloc(len + 1);
    if (!w || !copy) {
        /* Progress is no loss. A model is: the run stops and, its job not cancelled, goes back to the queue. */
        esp_log(ESP_LOG_ERROR, "job_frame", "job=%s message=\"no memory\"", run->id);
        if (type == ESP_FRAME_MODEL) esp_pool_cancel(run->jobs->server->pool, run->work);
        free(w);
        free(copy);
        return;
    }
    memcpy(copy, payload, len);
    copy[len] = '\0';
    *w = (job_write){run, type, copy, len};
    esp_registry_write_async(run->jobs->server->registry, write_frame, frame_written, w);
}

static void write_words(job_run *run) {
    if (!run->words.len) return;
    write_later(run, 0, run->words.data, run->words.len);
    esp_buf_clear(&run->words);
    run->words_ns = esp_clock_now_ns();
}

/* A worker may say more than anyone reads: twice a second what it said last. */
static void write_words_when_due(job_run *run) {
    if (esp_clock_now_ns() - run->words_ns >= WORDS_EVERY_NS) write_words(run);
}

/* Three progress frames a second are enough for anyone who looks, and workers send two; the last one is written before the end. */
static void on_progress(job_run *run, const char *payload, size_t len) {
    int64_t now = esp_clock_now_ns();
    esp_buf_clear(&run->progress);
    if (now - run->progress_ns < PROGRESS_EVERY_NS) {
        esp_buf_put(&run->progress, payload, len);
        return;
    }
    run->progress_ns = now;
    write_later(run, ESP_FRAME_PROGRESS, payload, len);
}

static void on_frame(void *user, esp_frame_type type, const char *payload, size_t len) {
    job_run *run = user;
    write_words_when_due(run);
    if (type == ESP_FRAME_PROGRESS) on_progress(run, payload, len);
    if (type == ESP_FRAME_MODEL || type == ESP_FRAME_CHECKPOINT) write_later(run, type, payload, len);
}

static void on_words(void *user, const char *bytes, size_t len) {
    job_run *run = user;
    esp_buf_put(&run->words, bytes, len);
    if (run->words.len > WORDS_MAX) {
        memmove(run->words.data, run->words.data + run->words.len - WORDS_MAX, WORDS_MAX);
        run->words.len = WORDS_MAX;
    }
    write_words_when_due(run);
}

static void on_end(void *user, const esp_outcome *outcome) {
    job_run *run = user;
    if (run->progress.len) write_later(run, ESP_FRAME_PROGRESS, run->progress.data, run->progress.len);
    write_words(run);
    run->end = outcome->end;
    if (outcome->payload) esp_buf_put(&run->payload, outcome->payload, outcome->len);
    if (outcome->error) run->error = *outcome->error;
    esp_registry_write_async(run->jobs->server->registry, write_end, ended, run);
}

static const esp_work_ops job_ops = {.begin = on_begin, .frame = on_frame, .words = on_words, .end = on_end};

/* ---- the dispatcher's part ---- */

static void forget(esp_jobs *jobs, job_run *run) {
    pthread_mutex_lock(&jobs->lock);
    job_run **link = &jobs->runs;
    while (*link != run) link = &(*link)->next;
    *link = run->next;
    jobs->n_runs--;
    pthread_mutex_unlock(&jobs->lock);
    job_run_free(run);
}

/* The pool would not have it: as if it had ended there. */
static void end_unsubmitted(job_run *run, esp_end end) {
    const esp_outcome outcome = {.end = end};
    on_end(run, &outcome);
}

static void submit(job_run *run) {
    int64_t now = esp_clock_now_ns();
    const esp_work work = {
        .class = ESP_CLASS_BATCH,
        .type = ESP_FRAME_JOB,
        .attached = true,
        .shared = strcmp(run->kind, "distill") == 0,
        .arrived_ns = now,
        .deadline_ns = run->run_limit_s > 0 ? now + (int64_t)(run->run_limit_s * 1e9) : ESP_NEVER,
        .ops = &job_ops,
        .user = run,
    };
    esp_jobs *jobs = run->jobs;
    uint64_t id = run->work;
    /* Decided before the submit: after it the run may be over. A stop that comes later finds it in the pool. */
    pthread_mutex_lock(&jobs->lock);
    bool stop = run->stop_asked;
    esp_code code = stop ? ESP_OK : esp_pool_submit(jobs->server->pool, id, &work, NULL);
    pthread_mutex_unlock(&jobs->lock);
    if (stop || code) end_unsubmitted(run, ESP_END_CANCELLED);
}

bool job_run_next(esp_jobs *jobs) {
    esp_error error = {0};
    job_run *run = calloc(1, sizeof *run);
    if (!run) return false;
    run->jobs = jobs;
    run->work = esp_pool_id(jobs->server->pool);
    pthread_mutex_lock(&jobs->lock);
    run->next = jobs->runs;
    jobs->runs = run;
    jobs->n_runs++;
    pthread_mutex_unlock(&jobs->lock);
    esp_code code = esp_registry_write(jobs->server->registry, claim, run, &error);
    if (code) esp_log(ESP_LOG_ERROR, "job_claim", "code=%s message=\"%s\"", esp_code_name(code), error.message);
    if (code || !run->claimed) {
        pthread_mutex_lock(&jobs->lock);
        jobs->retry_ns = run->due_ms ? esp_clock_now_ns() + (run->due_ms - esp_clock_wall_ms()) * ESP_NS_PER_MS : ESP_NEVER;
        pthread_mutex_unlock(&jobs->lock);
        forget(jobs, run);
        return false;
    }
    job_changed(jobs, run->id);
    if (run->failed.code)
        end_unsubmitted(run, ESP_END_ERROR);
    else
        submit(run);
    return true;
}
