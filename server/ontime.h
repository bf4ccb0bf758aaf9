/* SPDX-License-Identifier: Apache-2.0
 * What keeps replies on time: real-time priority for the threads on a plan's way, and a record of how late these threads
 * run all the same, by which plans are answered earlier.
 *
 * The threads do little and sleep nearly always, so nobody loses by their going first. Niceness alone is not enough: the
 * fair scheduler lets a busy program finish its slice, and where it groups programs by session or container, niceness
 * counts inside the group only. A virtual processor that its host does not run is beyond any priority; that is what the
 * record is for. */
#ifndef ESP_SERVER_ONTIME_H
#define ESP_SERVER_ONTIME_H

#include <pthread.h>
#include <stdint.h>

/* The supervisor goes before the HTTP threads. */
typedef enum esp_urgency { ESP_URGENCY_HTTP = 1, ESP_URGENCY_SUPERVISOR = 2 } esp_urgency;

/* In main, before any thread: asks for niceness, finds out what is allowed, logs it once. */
void esp_ontime_init(void);
/* The calling thread becomes urgent, if that is allowed, and so do the threads it starts from then on; processes are
 * started by a thread that is not. */
void esp_ontime_enter(esp_urgency urgency);
void esp_ontime_leave(void); /* an ordinary thread again */
/* An urgent thread has done a piece of work that is no plan's since then, say a chunk of an upload: it sleeps for as long,
 * so that a processor is never its own. Not for more than 2 ms, as plans may wait for the thread. */
void esp_ontime_rest(int64_t began_ns);

/* An urgent thread that others keep busy, at each request: when it has run for more than half of the last tenth of a second it goes on as
 * an ordinary thread of ordinary niceness, so that a flood takes its share of the processors and not those of the plans, until it has
 * been nearly idle for a second. */
void esp_ontime_pace(esp_urgency urgency, int64_t now_ns);

/* A lock on a plan's way: who holds it is as urgent as who waits for it. */
void esp_ontime_lock_init(pthread_mutex_t *ret_lock);

/* Something was due and is done only now. Any thread; never blocks. */
void esp_lag_note(int64_t late_ns);
/* The longest of the last half to whole minute. Any thread; never blocks. */
int64_t esp_lag_ns(void);

#endif
