/* SPDX-License-Identifier: Apache-2.0
 * One thread that notices clients who go while their connection is suspended: MHD neither polls a suspended socket nor
 * times it out, so this thread polls it for POLLRDHUP. It also keeps the time for the table of connections (conn.c).
 *
 * A socket cannot be reused under the thread's hands: an entry is removed before its connection is resumed, and MHD
 * closes a socket only after that; an event of a removed entry is recognised by its id and dropped. */
#include "http/call.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/clock.h"
#include "ontime.h"

enum { TICK_MS = 250 };

int esp_connection_fd(struct MHD_Connection *connection) {
    const union MHD_ConnectionInfo *info = MHD_get_connection_info(connection, MHD_CONNECTION_INFO_CONNECTION_FD);
    return info ? info->connect_fd : -1;
}

static void poke(const esp_watch *watch) {
    uint64_t one = 1;
    ssize_t n = write(watch->wake_fd, &one, sizeof one);
    (void)n; /* EAGAIN: it is awake already */
}

static size_t find(const esp_watch *watch, uint64_t id) {
    size_t i = 0;
    while (i < watch->n && watch->entries[i].id != id) i++;
    return i;
}

static void drop(esp_watch *watch, size_t i) {
    watch->entries[i] = watch->entries[--watch->n];
}

uint64_t esp_watch_add(esp_watch *watch, int fd, bool soon, void (*hangup)(void *user), void *user) {
    uint64_t id = 0;
    pthread_mutex_lock(&watch->lock);
    if (watch->n == watch->cap) {
        size_t cap = watch->cap ? 2 * watch->cap : 64;
        esp_watch_entry *grown = realloc(watch->entries, cap * sizeof *grown);
        if (grown) {
            watch->entries = grown;
            watch->cap = cap;
        }
    }
    if (watch->n < watch->cap) {
        id = ++watch->next_id;
        watch->entries[watch->n++] = (esp_watch_entry){fd, id, hangup, user};
    }
    pthread_mutex_unlock(&watch->lock);
    if (id && soon) poke(watch);
    return id;
}

void esp_watch_remove(esp_watch *watch, uint64_t id) {
    if (!id) return;
    pthread_mutex_lock(&watch->lock);
    size_t i = find(watch, id);
    if (i < watch->n) drop(watch, i);
    bool inside = pthread_equal(pthread_self(), watch->thread);
    while (watch->running == id && !inside) pthread_cond_wait(&watch->idle, &watch->lock);
    pthread_mutex_unlock(&watch->lock);
}

/* Runs the hangup of an entry, if it is still there, without the lock. */
static void fire(esp_watch *watch, uint64_t id) {
    pthread_mutex_lock(&watch->lock);
    size_t i = find(watch, id);
    if (i == watch->n) {
        pthread_mutex_unlock(&watch->lock);
        return;
    }
    esp_watch_entry entry = watch->entries[i];
    drop(watch, i);
    watch->running = id;
    pthread_mutex_unlock(&watch->lock);
    entry.hangup(entry.user);
    pthread_mutex_lock(&watch->lock);
    watch->running = 0;
    pthread_cond_broadcast(&watch->idle);
    pthread_mutex_unlock(&watch->lock);
}

typedef struct snapshot {
    struct pollfd *fds; /* fds[0] is the wake-up */
    uint64_t *ids;
    size_t n, cap;
} snapshot;

static void take_snapshot(esp_watch *watch, snapshot *s) {
    if (watch->n + 1 > s->cap) {
        size_t cap = 2 * (watch->n + 1);
        struct pollfd *fds = realloc(s->fds, cap * sizeof *fds);
        if (fds) s->fds = fds;
        uint64_t *ids = realloc(s->ids, cap * sizeof *ids);
        if (ids) s->ids = ids;
        if (fds && ids) s->cap = cap;
    }
    s->n = 0;
    if (s->cap == 0) return;
    s->fds[s->n++] = (struct pollfd){.fd = watch->wake_fd, .events = POLLIN};
    for (size_t i = 0; i < watch->n && s->n < s->cap; i++) {
        s->ids[s->n] = watch->entries[i].id;
        s->fds[s->n++] = (struct pollfd){.fd = watch->entries[i].fd, .events = POLLRDHUP};
    }
}

static void *watch_main(void *user) {
    esp_watch *watch = user;
    snapshot s = {0};
    int64_t ticked = esp_clock_now_ns();
    esp_ontime_enter(ESP_URGENCY_HTTP); /* whoever replies waits for a hang-up that is being told */
    for (;;) {
        pthread_mutex_lock(&watch->lock);
        bool stopping = watch->stopping;
        take_snapshot(watch, &s);
        pthread_mutex_unlock(&watch->lock);
        if (stopping) break;
        int n = poll(s.fds, (nfds_t)s.n, TICK_MS);
        if (n < 0 && errno != EINTR) break; /* cannot happen: our own arrays */
        for (size_t i = 0; n > 0 && i < s.n; i++) {
            if (!s.fds[i].revents) continue;
            uint64_t count;
            if (i == 0) {
                ssize_t got = read(watch->wake_fd, &count, sizeof count);
                (void)got;
            } else if (s.fds[i].revents & (POLLRDHUP | POLLHUP | POLLERR)) {
                fire(watch, s.ids[i]);
            }
        }
        if (esp_clock_now_ns() - ticked < TICK_MS * ESP_NS_PER_MS) continue;
        ticked = esp_clock_now_ns();
        watch->tick(watch->user);
    }
    free(s.fds);
    free(s.ids);
    return NULL;
}

esp_code esp_watch_start(esp_watch *watch, void (*tick)(void *user), void *user, esp_error *reterr) {
    watch->tick = tick;
    watch->user = user;
    esp_ontime_lock_init(&watch->lock);
    pthread_cond_init(&watch->idle, NULL);
    watch->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (watch->wake_fd < 0) return esp_fail_errno(reterr, ESP_IO, "eventfd");
    if (pthread_create(&watch->thread, NULL, watch_main, watch) != 0) return esp_fail(reterr, ESP_NOMEM, "cannot start a thread");
    watch->started = true;
    return ESP_OK;
}

void esp_watch_stop(esp_watch *watch) {
    if (watch->started) {
        pthread_mutex_lock(&watch->lock);
        watch->stopping = true;
        pthread_mutex_unlock(&watch->lock);
        poke(watch);
        pthread_join(watch->thread, NULL);
    }
    if (watch->wake_fd >= 0) close(watch->wake_fd);
    free(watch->entries);
    watch->entries = NULL;
    pthread_cond_destroy(&watch->idle);
    pthread_mutex_destroy(&watch->lock);
}
