/* SPDX-License-Identifier: Apache-2.0
 * The dispatcher: one thread that gives queued jobs to free batch workers and answers the calls that wait for a job. */
#include "jobs/private.h"

#include <stdlib.h>
#include <string.h>

#include "log.h"
#include "metrics.h"

/* How often heartbeats are looked at, and the claim tried again after a registry failure. */
#define TURN_NS (1 * ESP_NS_PER_S)

/* ---- waiting calls ---- */

static void reply_with_job(esp_jobs *jobs, const char *id, esp_call *call, int status) {
    esp_job_row row = {0};
    esp_error error = {0};
    esp_db *db = NULL;
    esp_buf body = {0};
    esp_code code = esp_registry_read_begin(jobs->server->registry, &db, &error);
    if (!code) {
        code = esp_job_find(db, id, &row, &error);
        esp_registry_read_end(jobs->server->registry, db);
    }
    if (code) {
        esp_call_reply_error(call, &error);
        return;
    }
    esp_jsonw w = esp_jsonw_on(&body);
    esp_job_format(&row, &w);
    esp_job_row_done(&row);
    esp_call_reply_json(call, status, &body);
}

static bool job_ended(esp_jobs *jobs, const char *id) {
    esp_job_row row = {0};
    esp_db *db = NULL;
    if (esp_registry_read_begin(jobs->server->registry, &db, NULL)) return false;
    bool ended = !esp_job_find(db, id, &row, NULL) && esp_job_state_terminal(row.state);
    esp_registry_read_end(jobs->server->registry, db);
    esp_job_row_done(&row);
    return ended;
}

/* Takes one waiter that has something to look at out of the list. Under the lock. */
static job_waiter *take_due(esp_jobs *jobs, int64_t now) {
    for (job_waiter **link = &jobs->waiters; *link; link = &(*link)->next) {
        job_waiter *w = *link;
        if (!w->due && w->until_ns > now && !jobs->stopping) continue;
        *link = w->next;
        return w;
    }
    return NULL;
}

/* One call: replied to, or back in the list. The registry is read without the lock. */
static void look_at(esp_jobs *jobs, job_waiter *w) {
    pthread_mutex_lock(&jobs->lock);
    bool stopping = jobs->stopping;
    w->due = false;
    pthread_mutex_unlock(&jobs->lock);
    if (stopping || esp_clock_now_ns() >= w->until_ns || job_ended(jobs, w->id)) {
        reply_with_job(jobs, w->id, w->call, w->status);
        free(w);
        return;
    }
    pthread_mutex_lock(&jobs->lock);
    w->next = jobs->waiters;
    jobs->waiters = w;
    pthread_mutex_unlock(&jobs->lock);
}

static void answer_waiters(esp_jobs *jobs) {
    for (;;) {
        pthread_mutex_lock(&jobs->lock);
        job_waiter *w = take_due(jobs, esp_clock_now_ns());
        pthread_mutex_unlock(&jobs->lock);
        if (!w) return;
        look_at(jobs, w);
    }
}

void esp_jobs_wait(esp_jobs *jobs, const char *id, esp_call *call, int status, double wait_s) {
    job_waiter *w = calloc(1, sizeof *w);
    pthread_mutex_lock(&jobs->lock);
    bool listed = w && !jobs->stopping;
    if (listed) {
        memcpy(w->id, id, strlen(id) + 1);
        w->call = call;
        w->status = status;
        w->until_ns = esp_clock_now_ns() + (int64_t)(wait_s * 1e9);
        w->due = true; /* it may have ended before we came */
        w->next = jobs->waiters;
        jobs->waiters = w;
        pthread_cond_signal(&jobs->changed);
    }
    pthread_mutex_unlock(&jobs->lock);
    if (listed) return;
    free(w);
    reply_with_job(jobs, id, call, status);
}

/* ---- changes ---- */

void job_changed(esp_jobs *jobs, const char *id) {
    pthread_mutex_lock(&jobs->lock);
    for (job_waiter *w = jobs->waiters; w; w = w->next)
        if (strcmp(w->id, id) == 0) w->due = true;
    pthread_cond_signal(&jobs->changed);
    pthread_mutex_unlock(&jobs->lock);
    job_streams_wake(jobs, id);
}

void job_run_over(esp_jobs *jobs, job_run *run) {
    pthread_mutex_lock(&jobs->lock);
    job_run **link = &jobs->runs;
    while (*link != run) link = &(*link)->next;
    *link = run->next;
    jobs->n_runs--;
    jobs->kicked = true;
    pthread_mutex_unlock(&jobs->lock);
    job_changed(jobs, run->id);
    job_run_free(run);
}

void esp_jobs_kick(esp_jobs *jobs) {
    pthread_mutex_lock(&jobs->lock);
    jobs->kicked = true;
    pthread_cond_signal(&jobs->changed);
    pthread_mutex_unlock(&jobs->lock);
}

int esp_jobs_running(esp_jobs *jobs) {
    pthread_mutex_lock(&jobs->lock);
    int n = jobs->n_runs;
    pthread_mutex_unlock(&jobs->lock);
    return n;
}

/* ---- cancel ---- */

typedef struct cancel_write {
    const char *id;
    esp_job_state became;
} cancel_write;

static esp_code write_cancel(esp_db *db, void *user, esp_error *reterr) {
    cancel_write *c = user;
    esp_job_row row = {0};
    esp_code code = esp_job_find(db, c->id, &row, reterr);
    if (code) return code;
    esp_job_state state = row.state;
    esp_job_row_done(&row);
    c->became = state == ESP_JOB_QUEUED ? ESP_JOB_CANCELLED : ESP_JOB_CANCELLING;
    if (state == ESP_JOB_CANCELLING) return ESP_OK;
    if (esp_job_state_terminal(state)) return esp_fail(reterr, ESP_STATE, "job %s is %s already", c->id, esp_job_state_names[state]);
    return esp_job_move(db, c->id, -1, c->became, NULL, NULL, reterr);
}

/* The runs of one job, or of all, are told to stop. Under the lock. */
static void stop_runs(esp_jobs *jobs, const char *id) {
    for (job_run *run = jobs->runs; run; run = run->next) {
        if (id && strcmp(run->id, id) != 0) continue;
        run->stop_asked = true;
        esp_pool_cancel(jobs->server->pool, run->work);
    }
}

esp_code esp_jobs_cancel(esp_jobs *jobs, const char *id, esp_error *reterr) {
    cancel_write c = {id, ESP_JOB_CANCELLED};
    esp_code code = esp_registry_write(jobs->server->registry, write_cancel, &c, reterr);
    if (code) return code;
    if (c.became == ESP_JOB_CANCELLED) esp_metric_add(ESP_METRIC_JOBS_CANCELLED, 1);
    pthread_mutex_lock(&jobs->lock);
    if (c.became == ESP_JOB_CANCELLING) stop_runs(jobs, id);
    pthread_mutex_unlock(&jobs->lock);
    if (c.became == ESP_JOB_CANCELLED) job_checkpoint_remove(jobs, id);
    job_changed(jobs, id);
    return ESP_OK;
}

void esp_jobs_drain(esp_jobs *jobs) {
    pthread_mutex_lock(&jobs->lock);
    jobs->draining = true;
    stop_runs(jobs, NULL);
    pthread_mutex_unlock(&jobs->lock);
}

/* ---- the thread ---- */

/* A kick waits while every batch worker has a job: the end of a run kicks again. Under the lock. */
static bool can_dispatch(const esp_jobs *jobs) {
    bool wanted = jobs->kicked || esp_clock_now_ns() >= jobs->retry_ns;
    return wanted && !jobs->draining && !jobs->stopping && jobs->n_runs < jobs->server->config.batch_workers;
}

/* Sleeps until there is something to do; false at the end. */
static bool rest(esp_jobs *jobs) {
    int64_t now = esp_clock_now_ns(), until = now + TURN_NS;
    pthread_mutex_lock(&jobs->lock);
    if (jobs->retry_ns > now && jobs->retry_ns < until) until = jobs->retry_ns;
    bool due = jobs->stopping || can_dispatch(jobs);
    for (const job_waiter *w = jobs->waiters; w; w = w->next) {
        due = due || w->due;
        if (w->until_ns < until) until = w->until_ns;
    }
    if (!due && until > now) {
        struct timespec at = {until / ESP_NS_PER_S, until % ESP_NS_PER_S};
        pthread_cond_timedwait(&jobs->changed, &jobs->lock, &at);
    }
    bool stopping = jobs->stopping;
    pthread_mutex_unlock(&jobs->lock);
    return !stopping;
}

static void dispatch(esp_jobs *jobs) {
    for (;;) {
        pthread_mutex_lock(&jobs->lock);
        bool more = can_dispatch(jobs);
        /* Before the claim: a job that comes after it kicks again. */
        if (more) {
            jobs->kicked = false;
            jobs->retry_ns = ESP_NEVER;
        }
        pthread_mutex_unlock(&jobs->lock);
        if (!more || !job_run_next(jobs)) return;
        esp_jobs_kick(jobs);
    }
}

static void set_gauge(esp_jobs *jobs) {
    int64_t queued = 0;
    esp_db *db = NULL;
    if (esp_registry_read_begin(jobs->server->registry, &db, NULL)) return;
    if (!esp_job_count_queued(db, "", &queued, NULL)) esp_metric_set(ESP_METRIC_JOB_QUEUE, queued);
    esp_registry_read_end(jobs->server->registry, db);
}

static void *dispatcher_main(void *user) {
    esp_jobs *jobs = user;
    while (rest(jobs)) {
        dispatch(jobs);
        answer_waiters(jobs);
        job_streams_beat(jobs);
        set_gauge(jobs);
    }
    answer_waiters(jobs);
    return NULL;
}

static esp_code recover(esp_db *db, void *user, esp_error *reterr) {
    (void)user;
    return esp_job_recover(db, reterr);
}

static void init_locks(esp_jobs *jobs) {
    pthread_condattr_t monotonic;
    pthread_mutexattr_t recursive;
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_mutexattr_init(&recursive);
    pthread_mutexattr_settype(&recursive, PTHREAD_MUTEX_RECURSIVE);
    pthread_mutex_init(&jobs->lock, NULL);
    pthread_mutex_init(&jobs->streams_lock, &recursive);
    pthread_cond_init(&jobs->changed, &monotonic);
    pthread_condattr_destroy(&monotonic);
    pthread_mutexattr_destroy(&recursive);
}

esp_code esp_jobs_start(esp_server *server, esp_jobs **ret_jobs, esp_error *reterr) {
    esp_code code = esp_registry_write(server->registry, recover, NULL, reterr);
    if (code) return esp_error_wrap(reterr, code, "recover jobs");
    esp_jobs *jobs = calloc(1, sizeof *jobs);
    if (!jobs) return esp_fail(reterr, ESP_NOMEM, "no memory for the jobs");
    jobs->server = server;
    jobs->kicked = true;
    jobs->retry_ns = ESP_NEVER;
    init_locks(jobs);
    code = job_checkpoints_open(jobs, reterr);
    if (code) {
        esp_jobs_free(jobs);
        return code;
    }
    int failed = pthread_create(&jobs->thread, NULL, dispatcher_main, jobs);
    jobs->thread_started = !failed;
    if (failed) {
        esp_jobs_free(jobs);
        return esp_fail(reterr, ESP_NOMEM, "cannot start the dispatcher: %s", strerror(failed));
    }
    *ret_jobs = jobs;
    return ESP_OK;
}

void esp_jobs_stop(esp_jobs *jobs) {
    if (!jobs || !jobs->thread_started) return;
    pthread_mutex_lock(&jobs->lock);
    jobs->draining = jobs->stopping = true;
    pthread_cond_signal(&jobs->changed);
    pthread_mutex_unlock(&jobs->lock);
    pthread_join(jobs->thread, NULL);
    jobs->thread_started = false;
    job_streams_stop(jobs);
}

void esp_jobs_free(esp_jobs *jobs) {
    if (!jobs) return;
    while (jobs->runs) {
        job_run *run = jobs->runs;
        jobs->runs = run->next;
        job_run_free(run);
    }
    pthread_mutex_destroy(&jobs->lock);
    pthread_mutex_destroy(&jobs->streams_lock);
    pthread_cond_destroy(&jobs->changed);
    free(jobs);
}
