/* SPDX-License-Identifier: Apache-2.0
 * The pool's door: commands for the supervisor, and the beginning and end of its thread. */
#include "pool/supervisor.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

#include "ontime.h"

/* READY takes milliseconds; a machine that is swapping or building still gets there. */
enum { START_LIMIT_S = 30, START_DEATHS = 3 };

static esp_code open_fds(esp_pool *pool, esp_error *reterr) {
    pool->epoll = epoll_create1(EPOLL_CLOEXEC);
    pool->bell = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    pool->timer = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
    if (pool->epoll < 0 || pool->bell < 0 || pool->timer < 0) return esp_fail_errno(reterr, ESP_IO, "cannot make the supervisor's descriptors");
    struct epoll_event bell = {.events = EPOLLIN, .data.u64 = (uint64_t)SOURCE_BELL << 32};
    struct epoll_event timer = {.events = EPOLLIN, .data.u64 = (uint64_t)SOURCE_TIMER << 32};
    if (epoll_ctl(pool->epoll, EPOLL_CTL_ADD, pool->bell, &bell) || epoll_ctl(pool->epoll, EPOLL_CTL_ADD, pool->timer, &timer))
        return esp_fail_errno(reterr, ESP_IO, "cannot watch the supervisor's descriptors");
    return ESP_OK;
}

static esp_code make_processes(esp_pool *pool, esp_error *reterr) {
    const esp_config *config = &pool->config;
    pool->n_processes = config->workers + config->batch_workers;
    pool->limit[ESP_CLASS_PLAN] = pool->limit[ESP_CLASS_ASK] = config->workers + config->plan_queue;
    pool->limit[ESP_CLASS_BATCH] = 2 * config->batch_workers;
    pool->ask_limit = config->workers > 1 ? config->workers - 1 : 1;
    pool->share_limit = share_limit(config);
    for (int c = 0; c < ESP_CLASSES; c++) pool->cap_heap += (size_t)pool->limit[c];
    pool->processes = calloc((size_t)pool->n_processes, sizeof *pool->processes);
    pool->heap = calloc(pool->cap_heap, sizeof *pool->heap);
    pool->spawns = calloc((size_t)pool->n_processes, sizeof *pool->spawns);
    pool->spawn_results = calloc((size_t)pool->n_processes, sizeof *pool->spawn_results);
    if (!pool->processes || !pool->heap || !pool->spawns || !pool->spawn_results) return esp_fail(reterr, ESP_NOMEM, "no memory for the pool");
    for (int k = 0; k < pool->n_processes; k++) {
        process *p = &pool->processes[k];
        p->index = k;
        p->class = k < config->workers ? ESP_CLASS_PLAN : ESP_CLASS_BATCH;
        p->pidfd = p->sock = p->words_fd = -1;
    }
    return ESP_OK;
}

static esp_code wait_ready(esp_pool *pool, esp_error *reterr) {
    struct timespec until;
    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_sec += START_LIMIT_S;
    esp_code code = ESP_OK;
    pthread_mutex_lock(&pool->lock);
    while (!code && atomic_load(&pool->ready) < pool->config.workers) {
        if (atomic_load(&pool->start_deaths) >= START_DEATHS)
            code = esp_fail(reterr, ESP_WORKER_LOST, "%.100s does not start: %.180s", pool->config.worker, pool->start_words);
        else if (pthread_cond_timedwait(&pool->started, &pool->lock, &until) == ETIMEDOUT)
            code = esp_fail(reterr, ESP_WORKER_LOST, "%.100s was not ready within %d s", pool->config.worker, START_LIMIT_S);
    }
    pthread_mutex_unlock(&pool->lock);
    return code;
}

esp_code esp_pool_start(const esp_config *config, esp_pool **ret_pool, esp_error *reterr) {
    esp_pool *pool = calloc(1, sizeof *pool);
    if (!pool) return esp_fail(reterr, ESP_NOMEM, "no memory for the pool");
    pool->config = *config;
    pool->epoll = pool->bell = pool->timer = -1;
    atomic_init(&pool->next_id, 1);
    pthread_condattr_t monotonic;
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    esp_ontime_lock_init(&pool->lock);
    pthread_cond_init(&pool->started, &monotonic);
    pthread_cond_init(&pool->spawn_asked, NULL);
    pthread_condattr_destroy(&monotonic);
    esp_code code = make_processes(pool, reterr);
    if (!code) code = open_fds(pool, reterr);
    if (!code) {
        int failed = pthread_create(&pool->spawner, NULL, spawner_main, pool);
        pool->spawner_started = !failed;
        if (!failed) failed = pthread_create(&pool->thread, NULL, supervisor_main, pool);
        pool->thread_started = pool->spawner_started && !failed;
        code = failed ? esp_fail(reterr, ESP_NOMEM, "cannot start the pool's threads: %s", strerror(failed)) : wait_ready(pool, reterr);
    }
    if (code) {
        esp_pool_stop(pool);
        esp_pool_free(pool);
        return code;
    }
    *ret_pool = pool;
    return ESP_OK;
}

uint64_t esp_pool_id(esp_pool *pool) {
    return atomic_fetch_add_explicit(&pool->next_id, 1, memory_order_relaxed);
}

void pool_ring(esp_pool *pool) {
    const uint64_t one = 1;
    ssize_t written = write(pool->bell, &one, sizeof one);
    (void)written; /* EAGAIN: it has been ringing for 2^64 commands */
}

/* Under the lock. */
static bool push(esp_pool *pool, command c) {
    if (pool->n_commands == pool->cap_commands) {
        size_t cap = pool->cap_commands ? 2 * pool->cap_commands : 64;
        command *grown = realloc(pool->commands, cap * sizeof *grown);
        if (!grown) return false;
        pool->commands = grown;
        pool->cap_commands = cap;
    }
    pool->commands[pool->n_commands++] = c;
    return true;
}

/* Counts the item in, unless its class is full. */
static bool admit(esp_pool *pool, esp_class class) {
    if (atomic_fetch_add(&pool->pending[class], 1) < pool->limit[class]) return true;
    atomic_fetch_sub(&pool->pending[class], 1);
    return false;
}

esp_code esp_pool_submit(esp_pool *pool, uint64_t id, const esp_work *work, esp_error *reterr) {
    assert(id && work->ops && work->ops->begin && work->ops->end);
    if (!admit(pool, work->class)) return esp_fail(reterr, ESP_BUSY, "the queue for workers is full");
    item *i = calloc(1, sizeof *i);
    bool pushed = false, closed = false;
    if (i) {
        i->id = id;
        i->work = *work;
        i->heap_at = SIZE_MAX;
        pthread_mutex_lock(&pool->lock);
        closed = pool->closed;
        pushed = !closed && push(pool, (command){.submit = i});
        pthread_mutex_unlock(&pool->lock);
    }
    if (!pushed) {
        free(i);
        atomic_fetch_sub(&pool->pending[work->class], 1);
        return closed ? esp_fail(reterr, ESP_DRAINING, "the service is shutting down") : esp_fail(reterr, ESP_NOMEM, "no memory for the work");
    }
    pool_ring(pool);
    return ESP_OK;
}

void esp_pool_cancel(esp_pool *pool, uint64_t id) {
    pthread_mutex_lock(&pool->lock);
    bool pushed = !pool->closed && push(pool, (command){.cancel = id}); /* without memory its deadline ends it */
    pthread_mutex_unlock(&pool->lock);
    if (pushed) pool_ring(pool);
}

int esp_pool_ready(const esp_pool *pool) {
    return atomic_load(&pool->ready);
}

int esp_pool_pending(const esp_pool *pool) {
    int sum = 0;
    for (int c = 0; c < ESP_CLASSES; c++) sum += atomic_load(&pool->pending[c]);
    return sum;
}

static void stop_supervisor(esp_pool *pool) {
    pthread_mutex_lock(&pool->lock);
    /* `closed` reaches the supervisor with the next ring: no command, so no memory, is needed to stop. */
    pool->closed = true;
    pthread_mutex_unlock(&pool->lock);
    pool_ring(pool);
    pthread_join(pool->thread, NULL);
    pool->thread_started = false;
}

/* After the supervisor: it waits for what the spawner is making, and the workers die with this thread. */
static void stop_spawner(esp_pool *pool) {
    pthread_mutex_lock(&pool->lock);
    pool->spawner_stop = true;
    pthread_cond_signal(&pool->spawn_asked);
    pthread_mutex_unlock(&pool->lock);
    pthread_join(pool->spawner, NULL);
    pool->spawner_started = false;
}

void esp_pool_stop(esp_pool *pool) {
    if (!pool) return;
    if (pool->thread_started) stop_supervisor(pool);
    if (pool->spawner_started) stop_spawner(pool);
}

void esp_pool_free(esp_pool *pool) {
    if (!pool) return;
    assert(!pool->thread_started);
    if (pool->epoll >= 0) close(pool->epoll);
    if (pool->bell >= 0) close(pool->bell);
    if (pool->timer >= 0) close(pool->timer);
    for (int k = 0; pool->processes && k < pool->n_processes; k++) {
        esp_buf_done(&pool->processes[k].in);
        esp_buf_done(&pool->processes[k].out);
    }
    esp_buf_done(&pool->payload);
    pthread_mutex_destroy(&pool->lock);
    pthread_cond_destroy(&pool->started);
    pthread_cond_destroy(&pool->spawn_asked);
    free(pool->spawns);
    free(pool->spawn_results);
    free(pool->processes);
    free(pool->heap);
    free(pool->commands);
    free(pool);
}
