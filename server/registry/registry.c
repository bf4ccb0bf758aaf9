/* SPDX-License-Identifier: Apache-2.0
 * The registry's threads and connections: one writer with group commit, a pool of read-only connections.
 *
 * The writer takes what has queued up - at most 64 writes or 2 ms of them - into one transaction, each write inside a
 * savepoint so that a refused one undoes only itself, commits (one fsync for all), and then tells every caller. While
 * the disk syncs, the next batch gathers by itself; nothing waits on purpose. When the commit fails, all of the batch
 * have failed. Checkpoints follow the acknowledgements, on the same connection: PASSIVE past 4 MiB of WAL, TRUNCATE
 * past 64 MiB.
 *
 * Two daemons on one directory would be two writers: DIR/lock is held (flock) for as long as the registry is open. */
#include "registry/db.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "base/clock.h"
#include "metrics.h"
#include "ontime.h"

enum { BATCH = 64, READERS_MAX = 128, WAL_PASSIVE_PAGES = 1000, WAL_TRUNCATE_PAGES = 16384, DISK_RESERVE = 16 << 20 };
#define BATCH_NS (2 * ESP_NS_PER_MS)
/* A daemon that was killed while it started a worker leaves a child that has the lock until its exec. */
#define LOCK_NS (1 * ESP_NS_PER_S)

typedef struct write_op {
    esp_write_fn *run;
    esp_write_done_fn *done;
    void *user;
    esp_code code;
    esp_error error;
    struct write_op *next;
} write_op;

struct esp_registry {
    char *dir;
    int lock_fd;
    esp_db *writer;
    pthread_t thread;
    bool thread_started;
    pthread_mutex_t lock; /* all below but the atomics */
    pthread_cond_t queued, reader_back;
    write_op *head, **tail;
    bool stopping;
    esp_db *idle; /* readers */
    int readers;
    atomic_bool failed; /* the last commit did not go through */
    atomic_ullong changes_jobs, changes_rest;
};

/* ---- writer --------------------------------------------------------------------------------------------------------- */

static void run_op(esp_registry *r, write_op *op) {
    op->code = esp_db_exec(r->writer, "SAVEPOINT op", &op->error);
    if (op->code) return;
    op->code = op->run(r->writer, op->user, &op->error);
    esp_code code = ESP_OK;
    if (op->code) code = esp_db_exec(r->writer, "ROLLBACK TO op", NULL);
    if (!code) code = esp_db_exec(r->writer, "RELEASE op", op->code ? NULL : &op->error);
    if (code && !op->code) op->code = code;
}

static void fail_batch(write_op *batch, esp_code code, const esp_error *error) {
    for (write_op *op = batch; op; op = op->next) {
        if (op->code) continue; /* keeps its own reason */
        op->code = code;
        op->error = *error;
    }
}

static void count_changes(esp_registry *r) {
    if (r->writer->touched_rest) atomic_fetch_add(&r->changes_rest, 1);
    if (r->writer->touched_jobs) atomic_fetch_add(&r->changes_jobs, 1);
    r->writer->touched_rest = r->writer->touched_jobs = false;
}

/* One transaction over as much of the queue as fits; returns the writes it held. */
static write_op *run_batch(esp_registry *r) {
    write_op *batch = NULL, **end = &batch;
    esp_error error = {0};
    int64_t start = esp_clock_now_ns();
    esp_code code = esp_db_exec(r->writer, "BEGIN IMMEDIATE", &error);
    bool began = !code;
    for (int n = 0; n < BATCH && (n == 0 || esp_clock_now_ns() - start < BATCH_NS); n++) {
        pthread_mutex_lock(&r->lock);
        write_op *op = r->head;
        if (op && !(r->head = op->next)) r->tail = &r->head;
        pthread_mutex_unlock(&r->lock);
        if (!op) break;
        op->next = NULL;
        *end = op;
        end = &op->next;
        if (began) run_op(r, op);
    }
    int64_t commit = esp_clock_now_ns();
    if (began) code = esp_db_exec(r->writer, "COMMIT", &error);
    if (began && code) esp_db_rollback(r->writer);
    if (code) fail_batch(batch, code, &error);
    atomic_store(&r->failed, code != ESP_OK);
    count_changes(r);
    esp_metric_observe(ESP_METRIC_COMMIT, esp_clock_seconds_since(commit));
    return batch;
}

static void checkpoint(esp_registry *r) {
    int pages = r->writer->wal_pages;
    if (pages < WAL_PASSIVE_PAGES) return;
    r->writer->wal_pages = 0;
    sqlite3_wal_checkpoint_v2(r->writer->handle, NULL, pages > WAL_TRUNCATE_PAGES ? SQLITE_CHECKPOINT_TRUNCATE : SQLITE_CHECKPOINT_PASSIVE, NULL,
                              NULL);
}

static esp_code probe(esp_db *db, void *user, esp_error *reterr) {
    (void)user;
    return esp_db_run(db, reterr, "DELETE FROM idempotency WHERE created_ms < ?", "i", esp_clock_wall_ms() - INT64_C(86400000));
}

static void probe_done(void *user, esp_code code, const esp_error *error) {
    (void)user, (void)code, (void)error;
}

/* Waits for work; after a failed commit a probe goes in each second, so that a disk that recovers is noticed. */
static bool wait_for_work(esp_registry *r) {
    pthread_mutex_lock(&r->lock);
    bool timed_out = false;
    while (!r->head && !r->stopping && !timed_out) {
        if (!atomic_load(&r->failed)) {
            pthread_cond_wait(&r->queued, &r->lock);
            continue;
        }
        struct timespec until;
        clock_gettime(CLOCK_REALTIME, &until);
        until.tv_sec += 1;
        timed_out = pthread_cond_timedwait(&r->queued, &r->lock, &until) == ETIMEDOUT;
    }
    bool work = r->head || !r->stopping;
    pthread_mutex_unlock(&r->lock);
    if (timed_out) esp_registry_write_async(r, probe, probe_done, NULL);
    return work;
}

static void *writer_main(void *user) {
    esp_registry *r = user;
    while (wait_for_work(r)) {
        write_op *batch = run_batch(r);
        while (batch) {
            write_op *op = batch;
            batch = op->next;
            op->done(op->user, op->code, &op->error);
            free(op);
        }
        checkpoint(r);
    }
    return NULL;
}

void esp_registry_write_async(esp_registry *registry, esp_write_fn *run, esp_write_done_fn *done, void *user) {
    write_op *op = calloc(1, sizeof *op);
    if (!op) {
        esp_error error = {0};
        esp_code code = esp_fail(&error, ESP_NOMEM, "no memory for a write");
        done(user, code, &error);
        return;
    }
    op->run = run;
    op->done = done;
    op->user = user;
    pthread_mutex_lock(&registry->lock);
    *registry->tail = op;
    registry->tail = &op->next;
    pthread_cond_signal(&registry->queued);
    pthread_mutex_unlock(&registry->lock);
}

typedef struct waiter {
    esp_write_fn *run;
    void *user;
    pthread_mutex_t lock;
    pthread_cond_t cond;
    bool finished;
    esp_code code;
    esp_error error;
} waiter;

static esp_code waiter_run(esp_db *db, void *user, esp_error *reterr) {
    waiter *w = user;
    return w->run(db, w->user, reterr);
}

static void waiter_done(void *user, esp_code code, const esp_error *error) {
    waiter *w = user;
    pthread_mutex_lock(&w->lock);
    w->code = code;
    w->error = *error;
    w->finished = true;
    pthread_cond_signal(&w->cond);
    pthread_mutex_unlock(&w->lock);
}

esp_code esp_registry_write(esp_registry *registry, esp_write_fn *run, void *user, esp_error *reterr) {
    assert(!pthread_equal(pthread_self(), registry->thread)); /* it would wait for itself */
    waiter w = {.run = run, .user = user};
    pthread_mutex_init(&w.lock, NULL);
    pthread_cond_init(&w.cond, NULL);
    esp_registry_write_async(registry, waiter_run, waiter_done, &w);
    pthread_mutex_lock(&w.lock);
    while (!w.finished) pthread_cond_wait(&w.cond, &w.lock);
    pthread_mutex_unlock(&w.lock);
    pthread_cond_destroy(&w.cond);
    pthread_mutex_destroy(&w.lock);
    if (w.code && reterr) *reterr = w.error;
    return w.code;
}

/* ---- readers -------------------------------------------------------------------------------------------------------- */

static esp_code reader_open(esp_registry *r, esp_db **ret_db, esp_error *reterr) {
    char path[4096];
    snprintf(path, sizeof path, "%s/registry.db", r->dir);
    return esp_db_open(path, false, ret_db, reterr);
}

esp_code esp_registry_read_begin(esp_registry *registry, esp_db **ret_db, esp_error *reterr) {
    struct timespec until;
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += 2;
    pthread_mutex_lock(&registry->lock);
    while (!registry->idle && registry->readers >= READERS_MAX) {
        if (pthread_cond_timedwait(&registry->reader_back, &registry->lock, &until) == ETIMEDOUT) {
            pthread_mutex_unlock(&registry->lock);
            return esp_fail(reterr, ESP_BUSY, "all %d read connections are in use", READERS_MAX);
        }
    }
    esp_db *db = registry->idle;
    if (db) {
        registry->idle = db->next;
    } else {
        registry->readers++;
    }
    pthread_mutex_unlock(&registry->lock);
    esp_code code = db ? ESP_OK : reader_open(registry, &db, reterr);
    if (!code) code = esp_db_run(db, reterr, "BEGIN", "");
    if (code) {
        esp_db_close(db);
        pthread_mutex_lock(&registry->lock);
        registry->readers--;
        pthread_cond_signal(&registry->reader_back);
        pthread_mutex_unlock(&registry->lock);
        return code;
    }
    *ret_db = db;
    return ESP_OK;
}

void esp_registry_read_end(esp_registry *registry, esp_db *db) {
    if (!db) return;
    esp_db_deadline(db, ESP_NEVER);
    bool good = esp_db_run(db, NULL, "COMMIT", "") == ESP_OK;
    if (!good) esp_db_close(db);
    pthread_mutex_lock(&registry->lock);
    if (good) {
        db->next = registry->idle;
        registry->idle = db;
    } else {
        registry->readers--;
    }
    pthread_cond_signal(&registry->reader_back);
    pthread_mutex_unlock(&registry->lock);
}

uint64_t esp_registry_changes(const esp_registry *registry, bool jobs) {
    return atomic_load(&registry->changes_rest) + (jobs ? atomic_load(&registry->changes_jobs) : 0);
}

/* ---- open and close ------------------------------------------------------------------------------------------------- */

static esp_code make_path(const char *dir, esp_error *reterr) {
    char path[3072];
    if ((size_t)snprintf(path, sizeof path, "%s", dir) >= sizeof path) return esp_fail(reterr, ESP_INVALID, "the data directory's path is too long");
    for (char *p = path + 1;; p++) {
        if (*p != '/' && *p != '\0') continue;
        char kept = *p;
        *p = '\0';
        if (mkdir(path, 0700) != 0 && errno != EEXIST) return esp_fail_errno(reterr, ESP_IO, "make %s", path);
        *p = kept;
        if (!kept) return ESP_OK;
    }
}

static esp_code take_lock(esp_registry *r, esp_error *reterr) {
    char path[4096];
    snprintf(path, sizeof path, "%s/lock", r->dir);
    r->lock_fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (r->lock_fd < 0) return esp_fail_errno(reterr, ESP_IO, "open %s", path);
    int64_t until = esp_clock_now_ns() + LOCK_NS;
    int failed = flock(r->lock_fd, LOCK_EX | LOCK_NB);
    while (failed && errno == EWOULDBLOCK && esp_clock_now_ns() < until) {
        usleep(10000);
        failed = flock(r->lock_fd, LOCK_EX | LOCK_NB);
    }
    if (!failed) return ESP_OK;
    if (errno == EWOULDBLOCK) return esp_fail(reterr, ESP_BUSY, "%s is in use by another espalierd", r->dir);
    return esp_fail_errno(reterr, ESP_IO, "lock %s", path);
}

static esp_code open_writer(esp_registry *r, esp_error *reterr) {
    char path[4096];
    snprintf(path, sizeof path, "%s/registry.db", r->dir);
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600); /* SQLite would make it with the umask's mode */
    if (fd < 0) return esp_fail_errno(reterr, ESP_IO, "open %s", path);
    close(fd);
    esp_code code = esp_db_open(path, true, &r->writer, reterr);
    if (!code) code = esp_db_migrate(r->writer, r->dir, reterr);
    return code;
}

static esp_code start_writer(esp_registry *r, esp_error *reterr) {
    uint64_t seed = 0;
    if (getrandom(&seed, sizeof seed, 0) != sizeof seed) seed = (uint64_t)esp_clock_wall_ms();
    atomic_store(&r->changes_rest, seed >> 16);
    atomic_store(&r->changes_jobs, seed >> 16);
    if (pthread_create(&r->thread, NULL, writer_main, r) != 0) return esp_fail(reterr, ESP_NOMEM, "cannot start the writer thread");
    r->thread_started = true;
    return ESP_OK;
}

esp_code esp_registry_open(const char *dir, esp_registry **ret_registry, esp_error *reterr) {
    esp_registry *r = calloc(1, sizeof *r);
    if (!r || !(r->dir = strdup(dir))) {
        free(r);
        return esp_fail(reterr, ESP_NOMEM, "no memory for the registry");
    }
    r->lock_fd = -1;
    r->tail = &r->head;
    esp_ontime_lock_init(&r->lock);
    pthread_cond_init(&r->queued, NULL);
    pthread_cond_init(&r->reader_back, NULL);
    esp_code code = make_path(dir, reterr);
    if (!code) code = take_lock(r, reterr);
    if (!code) code = esp_blobs_init(dir, reterr);
    if (!code) code = open_writer(r, reterr);
    if (!code) code = esp_dir_sync(dir, reterr);
    if (!code) code = start_writer(r, reterr);
    if (code) {
        esp_registry_close(r);
        return esp_error_wrap(reterr, code, "registry");
    }
    *ret_registry = r;
    return ESP_OK;
}

void esp_registry_close(esp_registry *registry) {
    if (!registry) return;
    if (registry->thread_started) {
        pthread_mutex_lock(&registry->lock);
        registry->stopping = true;
        pthread_cond_signal(&registry->queued);
        pthread_mutex_unlock(&registry->lock);
        pthread_join(registry->thread, NULL);
    }
    while (registry->idle) {
        esp_db *db = registry->idle;
        registry->idle = db->next;
        esp_db_close(db);
    }
    esp_db_close(registry->writer); /* last, so that it may checkpoint and remove the WAL */
    pthread_cond_destroy(&registry->reader_back);
    pthread_cond_destroy(&registry->queued);
    pthread_mutex_destroy(&registry->lock);
    if (registry->lock_fd >= 0) close(registry->lock_fd);
    free(registry->dir);
    free(registry);
}

bool esp_registry_healthy(const esp_registry *registry) {
    struct statvfs disk;
    if (atomic_load(&registry->failed) || statvfs(registry->dir, &disk) != 0) return false;
    return (uint64_t)disk.f_bavail * disk.f_frsize >= DISK_RESERVE;
}

const char *esp_registry_dir(const esp_registry *registry) {
    return registry->dir;
}
