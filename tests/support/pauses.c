/* SPDX-License-Identifier: Apache-2.0
 * pauses.h. */
#include "support/pauses.h"

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"

/* A nap of 1 ms that ends within 1 ms more is as good as it gets. */
enum { NAP_MS = 1, SLACK_MS = 1, KEPT = 4096, CPUS = 256, PRIORITY = 50, BEFORE_MS = 10 };

typedef struct standstill {
    int64_t from_ns, to_ns;
} standstill;

typedef struct watcher {
    pthread_t thread;
    int cpu;
    pthread_mutex_t lock; /* what follows */
    standstill kept[KEPT]; /* a ring */
    size_t n; /* ever */
    int64_t seen_ns; /* watched until here */
} watcher;

static watcher watchers[CPUS];
static int n_watchers;
static atomic_bool watching, real_time;

static void note(watcher *w, int64_t due_ns, int64_t now_ns) {
    pthread_mutex_lock(&w->lock);
    if (now_ns - due_ns > SLACK_MS * ESP_NS_PER_MS) w->kept[w->n++ % KEPT] = (standstill){due_ns, now_ns};
    w->seen_ns = now_ns;
    pthread_mutex_unlock(&w->lock);
}

/* Bound to one processor: a virtual one that its host does not run stands still alone. */
static void *watch(void *user) {
    watcher *w = user;
    cpu_set_t only;
    CPU_ZERO(&only);
    CPU_SET(w->cpu, &only);
    pthread_setaffinity_np(pthread_self(), sizeof only, &only);
    struct sched_param param = {.sched_priority = PRIORITY};
    if (sched_setscheduler(0, SCHED_FIFO, &param)) atomic_store(&real_time, false);
    note(w, INT64_MAX, esp_clock_now_ns());
    while (atomic_load(&watching)) {
        int64_t due = esp_clock_now_ns() + NAP_MS * ESP_NS_PER_MS;
        const struct timespec until = {due / ESP_NS_PER_S, due % ESP_NS_PER_S};
        clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &until, NULL);
        note(w, due, esp_clock_now_ns());
    }
    return NULL;
}

static void wait_seen(watcher *w, int64_t until_ns) {
    for (bool seen = false; !seen;) {
        pthread_mutex_lock(&w->lock);
        seen = w->seen_ns >= until_ns;
        pthread_mutex_unlock(&w->lock);
        if (!seen) nanosleep(&(struct timespec){0, 500000}, NULL);
    }
}

void pauses_start(void) {
    cpu_set_t mine;
    n_watchers = 0;
    atomic_store(&watching, true);
    atomic_store(&real_time, true);
    int failed = sched_getaffinity(0, sizeof mine, &mine);
    for (int cpu = 0; !failed && cpu < CPU_SETSIZE && n_watchers < CPUS; cpu++) {
        if (!CPU_ISSET(cpu, &mine)) continue;
        watcher *w = &watchers[n_watchers++];
        *w = (watcher){.cpu = cpu};
        pthread_mutex_init(&w->lock, NULL);
        failed = pthread_create(&w->thread, NULL, watch, w);
    }
    for (int i = 0; !failed && i < n_watchers; i++) wait_seen(&watchers[i], 1);
    if (!failed) return;
    fprintf(stderr, "cannot watch the processors\n");
    exit(1);
}

void pauses_stop(void) {
    atomic_store(&watching, false);
    for (int i = 0; i < n_watchers; i++) pthread_join(watchers[i].thread, NULL);
    for (int i = 0; i < n_watchers; i++) pthread_mutex_destroy(&watchers[i].lock);
    n_watchers = 0;
}

bool pauses_real_time(void) {
    return atomic_load(&real_time);
}

static int by_start(const void *a, const void *b) {
    const standstill *x = a, *y = b;
    return (x->from_ns > y->from_ns) - (x->from_ns < y->from_ns);
}

/* The watcher's pauses that touch the span, cut to it, added to `ret`; how many. */
static size_t gather(watcher *w, int64_t from_ns, int64_t to_ns, standstill *ret) {
    size_t n = 0;
    pthread_mutex_lock(&w->lock);
    for (size_t k = w->n > KEPT ? w->n - KEPT : 0; k < w->n; k++) {
        standstill p = w->kept[k % KEPT];
        if (p.to_ns <= from_ns || p.from_ns >= to_ns) continue;
        if (p.from_ns < from_ns) p.from_ns = from_ns;
        if (p.to_ns > to_ns) p.to_ns = to_ns;
        ret[n++] = p;
    }
    pthread_mutex_unlock(&w->lock);
    return n;
}

double pauses_ms(int64_t from_ns, int64_t to_ns) {
    size_t n = 0;
    int64_t sum = 0, covered = from_ns;
    standstill *all = malloc((size_t)n_watchers * KEPT * sizeof *all);
    if (!all) return 0;
    for (int i = 0; i < n_watchers; i++) {
        wait_seen(&watchers[i], to_ns);
        n += gather(&watchers[i], from_ns, to_ns, all + n);
    }
    qsort(all, n, sizeof *all, by_start);
    for (size_t k = 0; k < n; k++) {
        int64_t begin = all[k].from_ns > covered ? all[k].from_ns : covered;
        if (all[k].to_ns > begin) sum += all[k].to_ns - begin;
        if (all[k].to_ns > covered) covered = all[k].to_ns;
    }
    free(all);
    return (double)sum * 1e-6;
}

double pauses_excuse_ms(int64_t sent_ns, int64_t got_ns, double total_ms, double deadline_ms) {
    int64_t outside_ns = got_ns - sent_ns - (int64_t)(total_ms * 1e6), due_ns = sent_ns + (int64_t)((deadline_ms - BEFORE_MS) * 1e6);
    int64_t begun_ns = sent_ns + (outside_ns > 0 ? outside_ns : 0), end_ns = got_ns - (outside_ns > 0 ? outside_ns : 0);
    int64_t from_ns = due_ns < end_ns ? due_ns : end_ns;
    return pauses_ms(sent_ns, begun_ns) + pauses_ms(from_ns > begun_ns ? from_ns : begun_ns, got_ns);
}

double pauses_stolen_s(void) {
    FILE *file = fopen("/proc/stat", "re");
    unsigned long long stolen = 0;
    if (!file) return 0;
    int n = fscanf(file, "cpu %*u %*u %*u %*u %*u %*u %*u %llu", &stolen);
    fclose(file);
    return n == 1 ? (double)stolen / (double)sysconf(_SC_CLK_TCK) : 0;
}
