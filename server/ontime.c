/* SPDX-License-Identifier: Apache-2.0
 * ontime.h. */
#include "ontime.h"

#include <sched.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "log.h"
#include "metrics.h"

enum { NICENESS = -10, REST_LEAST_NS = 300000, REST_MOST_NS = 2000000 };

/* ---- priority ---- */

static bool allowed; /* set before there is a second thread */

/* Round robin, so that two HTTP threads that are both busy share a processor. */
static bool set_policy(esp_urgency urgency) {
    const struct sched_param param = {.sched_priority = (int)urgency};
    return sched_setscheduler(0, SCHED_RR, &param) == 0;
}

void esp_ontime_init(void) {
    bool nice = setpriority(PRIO_PROCESS, 0, NICENESS) == 0;
    allowed = set_policy(ESP_URGENCY_SUPERVISOR);
    esp_ontime_leave();
    esp_log(ESP_LOG_NOTICE, "priority", "real_time=%s nice=%s", allowed ? "yes" : "refused", nice ? "yes" : "refused");
}

void esp_ontime_enter(esp_urgency urgency) {
    if (allowed) set_policy(urgency);
}

void esp_ontime_leave(void) {
    const struct sched_param none = {0};
    if (allowed) sched_setscheduler(0, SCHED_OTHER, &none); /* the niceness stays */
}

/* A thread that laid its priority down for the piece instead would wait its turn among the workers with every one, and the
 * plans of its connections with it. */
void esp_ontime_rest(int64_t began_ns) {
    static _Thread_local int64_t owed_ns;
    if (!allowed) return;
    owed_ns += esp_clock_now_ns() - began_ns;
    if (owed_ns < REST_LEAST_NS) return;
    nanosleep(&(struct timespec){0, owed_ns < REST_MOST_NS ? owed_ns : REST_MOST_NS}, NULL);
    owed_ns = 0;
}

#define PACE_NS (100 * ESP_NS_PER_MS)
#define CALM_NS (1 * ESP_NS_PER_S)
#define BUSY    0.5 /* of the time, at which a thread is ordinary from then on, */
#define CALM    0.1 /* and under which it is idle */

static int64_t thread_ran_ns(void) {
    struct timespec ran = {0, 0};
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &ran);
    return ran.tv_sec * ESP_NS_PER_S + ran.tv_nsec;
}

void esp_ontime_pace(esp_urgency urgency, int64_t now_ns) {
    static _Thread_local struct {
        int64_t since_ns, ran_ns, calm_ns; /* calm_ns: since when it is idle; 0: it is not */
        bool ordinary;
    } t;
    if (!allowed || now_ns - t.since_ns < PACE_NS) return;
    int64_t ran_ns = thread_ran_ns();
    double share = (double)(ran_ns - t.ran_ns) / (double)(now_ns - t.since_ns);
    t.calm_ns = share >= CALM ? 0 : t.calm_ns ? t.calm_ns : t.since_ns;
    if (!t.ordinary && share > BUSY) {
        t.ordinary = true;
        esp_ontime_leave();
        setpriority(PRIO_PROCESS, (id_t)gettid(), 0);
    } else if (t.ordinary && t.calm_ns && now_ns - t.calm_ns >= CALM_NS) {
        t.ordinary = false;
        setpriority(PRIO_PROCESS, (id_t)gettid(), NICENESS);
        set_policy(urgency);
    }
    t.since_ns = now_ns;
    t.ran_ns = ran_ns;
}

void esp_ontime_lock_init(pthread_mutex_t *ret_lock) {
    pthread_mutexattr_t inherit;
    pthread_mutexattr_init(&inherit);
    pthread_mutexattr_setprotocol(&inherit, PTHREAD_PRIO_INHERIT); /* a kernel without it: an ordinary lock */
    if (pthread_mutex_init(ret_lock, &inherit)) pthread_mutex_init(ret_lock, NULL);
    pthread_mutexattr_destroy(&inherit);
}

/* ---- lag ---- */

/* A slot is the number of its half minute and the longest lag in it, in microseconds, in one word; two slots take turns. */
#define HALF_NS (30 * ESP_NS_PER_S)
enum { LAG_BITS = 32 };
static atomic_uint_fast64_t slots[2];

static uint64_t half_minute(void) {
    return (uint64_t)(esp_clock_now_ns() / HALF_NS) + 1; /* never the 0 that slots begin with */
}

void esp_lag_note(int64_t late_ns) {
    if (late_ns < 0) late_ns = 0;
    uint64_t us = (uint64_t)late_ns / 1000, most = (1ull << LAG_BITS) - 1, half = half_minute();
    uint64_t fresh = half << LAG_BITS | (us < most ? us : most);
    uint_fast64_t old = atomic_load_explicit(&slots[half & 1], memory_order_relaxed);
    /* A word of a later half minute or of a longer lag is the larger number. */
    while (old < fresh && !atomic_compare_exchange_weak_explicit(&slots[half & 1], &old, fresh, memory_order_relaxed, memory_order_relaxed)) continue;
    esp_metric_observe(ESP_METRIC_LAG, (double)late_ns * 1e-9);
}

int64_t esp_lag_ns(void) {
    uint64_t half = half_minute(), longest = 0;
    for (int k = 0; k < 2; k++) {
        uint64_t word = atomic_load_explicit(&slots[k], memory_order_relaxed), us = word & ((1ull << LAG_BITS) - 1);
        if (word >> LAG_BITS >= half - 1 && us > longest) longest = us;
    }
    return (int64_t)longest * 1000;
}
