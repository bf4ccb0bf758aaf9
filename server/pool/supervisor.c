/* SPDX-License-Identifier: Apache-2.0
 * The supervisor's loop, and the work items: queued, taken, ended.
 *
 * Every wait has an end: the loop sleeps in epoll until a socket, a death, the bell or the timer, and the timer stands
 * at the earliest of all deadlines. An item's deadline sits in a heap; the processes, being few, are scanned. */
#include "pool/supervisor.h"

#include <assert.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include "log.h"
#include "metrics.h"
#include "ontime.h"

/* A job may take this long to write what it has before it is killed; a cancel takes less than a second. */
#define JOB_GRACE_NS (800 * ESP_NS_PER_MS)
/* At the end of the daemon a worker has this long to see the end of its socket. */
#define LEAVE_NS (500 * ESP_NS_PER_MS)
/* A lost plan is not tried again in less than this. */
#define RETRY_LEAST_NS (2 * ESP_NS_PER_MS)

/* ---- the deadline heap ---- */

static void heap_put(esp_pool *pool, size_t at, item *i) {
    pool->heap[at] = i;
    i->heap_at = at;
}

static void heap_sift(esp_pool *pool, size_t at, item *i) {
    while (at && pool->heap[(at - 1) / 2]->work.deadline_ns > i->work.deadline_ns) {
        heap_put(pool, at, pool->heap[(at - 1) / 2]);
        at = (at - 1) / 2;
    }
    for (;;) {
        size_t child = 2 * at + 1;
        if (child + 1 < pool->n_heap && pool->heap[child + 1]->work.deadline_ns < pool->heap[child]->work.deadline_ns) child++;
        if (child >= pool->n_heap || pool->heap[child]->work.deadline_ns >= i->work.deadline_ns) break;
        heap_put(pool, at, pool->heap[child]);
        at = child;
    }
    heap_put(pool, at, i);
}

static void heap_add(esp_pool *pool, item *i) {
    if (i->work.deadline_ns == ESP_NEVER) return;
    assert(pool->n_heap < pool->cap_heap);
    size_t at = pool->n_heap++;
    heap_sift(pool, at, i);
}

static void heap_remove(esp_pool *pool, item *i) {
    if (i->heap_at == SIZE_MAX) return;
    size_t at = i->heap_at;
    item *last = pool->heap[--pool->n_heap];
    i->heap_at = SIZE_MAX;
    if (last != i) heap_sift(pool, at, last);
}

/* ---- items ---- */

static item **bucket(esp_pool *pool, uint64_t id) {
    return &pool->buckets[id % ITEM_BUCKETS];
}

static item *item_find(esp_pool *pool, uint64_t id) {
    item *i = *bucket(pool, id);
    while (i && i->id != id) i = i->hash_next;
    return i;
}

static void queue_remove(esp_pool *pool, item *i) {
    esp_class c = i->work.class;
    if (i->prev)
        i->prev->next = i->next;
    else
        pool->head[c] = i->next;
    if (i->next)
        i->next->prev = i->prev;
    else
        pool->tail[c] = i->prev;
    i->prev = i->next = NULL;
    pool->n_queued[c]--;
}

static void queue_add(esp_pool *pool, item *i, bool in_front) {
    esp_class c = i->work.class;
    item *next = in_front ? pool->head[c] : NULL, *prev = in_front ? NULL : pool->tail[c];
    i->next = next;
    i->prev = prev;
    if (next)
        next->prev = i;
    else
        pool->tail[c] = i;
    if (prev)
        prev->next = i;
    else
        pool->head[c] = i;
    pool->n_queued[c]++;
}

static void item_add(esp_pool *pool, item *i) {
    item **b = bucket(pool, i->id);
    i->hash_next = *b;
    *b = i;
    heap_add(pool, i);
    queue_add(pool, i, false);
}

void item_end(esp_pool *pool, item *i, esp_end end, const char *payload, size_t len, const esp_error *error) {
    int64_t now = esp_clock_now_ns();
    if (i->process)
        i->process->item = NULL;
    else
        queue_remove(pool, i);
    heap_remove(pool, i);
    item **b = bucket(pool, i->id);
    while (*b != i) b = &(*b)->hash_next;
    *b = i->hash_next;
    const esp_outcome outcome = {
        .end = end,
        .payload = payload,
        .len = len,
        .error = error,
        .waited_ns = (i->taken_ns ? i->taken_ns : now) - i->work.arrived_ns,
        .ran_ns = i->began_ns ? now - i->began_ns : 0,
    };
    esp_class class = i->work.class;
    i->work.ops->end(i->work.user, &outcome);
    share_end(pool, i);
    free(i);
    atomic_fetch_sub(&pool->pending[class], 1);
}

void item_orphaned(esp_pool *pool, item *i, const esp_error *error) {
    if (i->stopping) {
        item_end(pool, i, i->stop_end, NULL, 0, NULL);
        return;
    }
    bool time_left = i->work.deadline_ns == ESP_NEVER || i->work.deadline_ns - esp_clock_now_ns() > RETRY_LEAST_NS;
    if (i->lost++ >= i->work.retries || !time_left || pool->stopping) {
        item_end(pool, i, ESP_END_LOST, NULL, 0, error);
        return;
    }
    share_end(pool, i);
    i->process = NULL;
    queue_add(pool, i, true);
}

/* Deadline or cancel. Attached work first stops, then ends; any other ends now and its worker stops without it. */
static void item_stop(esp_pool *pool, item *i, esp_end end) {
    process *p = i->process;
    if (i->stopping) return;
    if (!p) {
        item_end(pool, i, end, NULL, 0, NULL);
        return;
    }
    if (i->work.attached) {
        heap_remove(pool, i);
        i->stopping = true;
        i->stop_end = end;
        process_stop_task(pool, p, JOB_GRACE_NS);
        return;
    }
    item_end(pool, i, end, NULL, 0, NULL); /* the reply first */
    process_stop_task(pool, p, pool->config.worker_grace_ms * ESP_NS_PER_MS);
}

/* ---- matching work with workers ---- */

process *idle_process(esp_pool *pool, esp_class class, uint64_t affinity) {
    process *any = NULL;
    for (int k = 0; k < pool->n_processes; k++) {
        process *p = &pool->processes[k];
        if ((p->class == ESP_CLASS_BATCH) != (class == ESP_CLASS_BATCH) || p->state != PROCESS_IDLE || p->doomed || p->pinged) continue;
        if (affinity && p->affinity == affinity) return p;
        if (!any) any = p;
    }
    return any;
}

item *next_ask(const esp_pool *pool) {
    int busy = 0, brief = 0;
    for (int k = 0; k < pool->n_processes; k++) {
        const item *i = pool->processes[k].item;
        busy += i && i->work.class == ESP_CLASS_ASK;
        brief += i && i->work.class == ESP_CLASS_ASK && i->work.brief;
    }
    item *i = pool->head[ESP_CLASS_ASK];
    while (i && busy >= pool->ask_limit && (brief || !i->work.brief)) i = i->next;
    return i;
}

/* What goes next to a worker of plans: whichever came first. */
static item *next_asked(const esp_pool *pool) {
    item *plan = pool->head[ESP_CLASS_PLAN], *ask = next_ask(pool);
    if (!plan || !ask) return plan ? plan : ask;
    return plan->work.arrived_ns <= ask->work.arrived_ns ? plan : ask;
}

/* False when there is no worker for it. */
static bool dispatch_one(esp_pool *pool, item *i) {
    process *p = i ? idle_process(pool, i->work.class, i->work.affinity) : NULL;
    if (!p) return false;
    queue_remove(pool, i);
    i->began_ns = esp_clock_now_ns();
    if (!i->taken_ns) i->taken_ns = i->began_ns;
    process_run(pool, p, i);
    return true;
}

static void dispatch(esp_pool *pool) {
    if (pool->stopping) return;
    while (dispatch_one(pool, next_asked(pool))) continue;
    while (dispatch_one(pool, pool->head[ESP_CLASS_BATCH])) continue;
    share_yield(pool);
    share_idle(pool);
}

/* ---- the loop ---- */

static void take_commands(esp_pool *pool) {
    for (;;) {
        pthread_mutex_lock(&pool->lock);
        command *commands = pool->commands;
        size_t n = pool->n_commands;
        pool->commands = NULL;
        pool->n_commands = pool->cap_commands = 0;
        pool->stopping |= pool->closed;
        pthread_mutex_unlock(&pool->lock);
        for (size_t k = 0; k < n; k++) {
            item *i = commands[k].submit ? NULL : item_find(pool, commands[k].cancel);
            if (commands[k].submit)
                item_add(pool, commands[k].submit);
            else if (i)
                item_stop(pool, i, ESP_END_CANCELLED);
        }
        free(commands);
        if (!n) return;
    }
}

static void run_deadlines(esp_pool *pool) {
    int64_t now = esp_clock_now_ns();
    while (pool->n_heap && pool->heap[0]->work.deadline_ns <= now) item_stop(pool, pool->heap[0], ESP_END_EXPIRED);
    for (int k = 0; k < pool->n_processes; k++) {
        process *p = &pool->processes[k];
        if (p->timer_ns <= now) process_on_timer(pool, p, now);
    }
}

/* At what is due next, which is returned. */
static int64_t set_timer(esp_pool *pool) {
    int64_t next = pool->n_heap ? pool->heap[0]->work.deadline_ns : ESP_NEVER;
    for (int k = 0; k < pool->n_processes; k++)
        if (pool->processes[k].timer_ns < next) next = pool->processes[k].timer_ns;
    if (next <= 0) next = 1; /* 0 would disarm it */
    struct itimerspec at = {.it_value = {next / ESP_NS_PER_S, next % ESP_NS_PER_S}};
    if (next == ESP_NEVER) at.it_value = (struct timespec){0, 0};
    timerfd_settime(pool->timer, TFD_TIMER_ABSTIME, &at, NULL);
    return next;
}

static void set_gauges(esp_pool *pool) {
    int idle = 0, busy = 0, helping = 0;
    for (int k = 0; k < pool->n_processes; k++) {
        idle += pool->processes[k].state == PROCESS_IDLE;
        busy += pool->processes[k].state == PROCESS_BUSY || pool->processes[k].state == PROCESS_STOPPING;
        helping += pool->processes[k].helps != NULL;
    }
    esp_metric_set(ESP_METRIC_WORKERS_HELPING, helping);
    esp_metric_set(ESP_METRIC_WORKERS_IDLE, idle);
    esp_metric_set(ESP_METRIC_WORKERS_BUSY, busy);
    esp_metric_set(ESP_METRIC_PLAN_QUEUE, pool->n_queued[ESP_CLASS_PLAN]);
    esp_metric_set(ESP_METRIC_ASK_QUEUE, pool->n_queued[ESP_CLASS_ASK]);
}

static void drain_counter(int fd) {
    uint64_t count;
    ssize_t n = read(fd, &count, sizeof count);
    (void)n;
}

static void handle(esp_pool *pool, uint64_t data) {
    process *p = &pool->processes[data & 0xffffffff];
    switch ((source)(data >> 32)) {
    case SOURCE_BELL: drain_counter(pool->bell); break;
    case SOURCE_TIMER: drain_counter(pool->timer); break;
    case SOURCE_SOCKET: process_on_socket(pool, p); break;
    case SOURCE_DEATH: process_on_death(pool, p); break;
    case SOURCE_WORDS: process_on_words(pool, p); break;
    }
}

/* One turn; deadlines go before and after the sockets, so that a chatty worker cannot hold up a reply. */
static void turn(esp_pool *pool) {
    struct epoll_event events[64];
    int64_t due = set_timer(pool);
    int n = epoll_wait(pool->epoll, events, 64, -1);
    int64_t now = esp_clock_now_ns();
    if (now >= due) esp_lag_note(now - due);
    run_deadlines(pool);
    for (int k = 0; k < n; k++) handle(pool, events[k].data.u64);
    take_commands(pool);
    for (int k = 0; k < pool->n_processes; k++) process_adopt(pool, &pool->processes[k]);
    run_deadlines(pool);
    dispatch(pool);
    set_gauges(pool);
}

static bool any_alive(const esp_pool *pool) {
    for (int k = 0; k < pool->n_processes; k++)
        if (pool->processes[k].pid || pool->processes[k].state == PROCESS_SPAWNING) return true;
    return false;
}

/* Also one that was only just started. */
static void send_off(esp_pool *pool, process *p, int64_t kill_at) {
    if (!p->pid) {
        p->timer_ns = ESP_NEVER;
    } else if (p->sock >= 0) {
        p->state = PROCESS_STOPPING;
        p->timer_ns = kill_at;
        process_close_fd(pool, &p->sock);
    }
}

/* Everything ends; the workers see the end of their socket, and are killed when that is not enough. */
static void leave(esp_pool *pool) {
    for (esp_class c = 0; c < ESP_CLASSES; c++)
        while (pool->head[c]) item_end(pool, pool->head[c], ESP_END_CANCELLED, NULL, 0, NULL);
    for (int k = 0; k < pool->n_processes; k++) {
        item *i = pool->processes[k].item;
        if (i) item_end(pool, i, i->stopping ? i->stop_end : ESP_END_CANCELLED, NULL, 0, NULL);
    }
    int64_t kill_at = esp_clock_now_ns() + LEAVE_NS;
    do {
        for (int k = 0; k < pool->n_processes; k++) send_off(pool, &pool->processes[k], kill_at);
        turn(pool);
    } while (any_alive(pool));
}

void *supervisor_main(void *user) {
    esp_pool *pool = user;
    esp_ontime_enter(ESP_URGENCY_SUPERVISOR);
    for (int k = 0; k < pool->n_processes; k++) process_start(pool, &pool->processes[k]);
    while (!pool->stopping) turn(pool);
    leave(pool);
    return NULL;
}
