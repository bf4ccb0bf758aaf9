/* SPDX-License-Identifier: Apache-2.0
 * When the machine itself stood still: a virtual processor that its host did not run, as the clock shows it.
 *
 * A thread on each processor sleeps for a millisecond again and again and notes when it wakes too late. The threads ask
 * for real-time priority, above the daemon's, so that no other program holds them up; refused, they are ordinary threads
 * with the niceness of their process, and a pause may be another program's. */
#ifndef ESP_TESTS_PAUSES_H
#define ESP_TESTS_PAUSES_H

#include <stdbool.h>
#include <stdint.h>

/* Returns when every processor is watched. On failure the program ends: nothing can be measured without. One at a time. */
void pauses_start(void);
void pauses_stop(void);
bool pauses_real_time(void); /* real-time priority was granted */

/* Milliseconds of [from_ns, to_ns] during which at least one processor stood still. Waits until to_ns has been watched to
 * its end, as a pause is known when it is over. The last few thousand pauses are remembered. */
double pauses_ms(int64_t from_ns, int64_t to_ns);
/* How much of a plan's lateness may be the machine's: pauses before the daemon can have seen the request, from 10 ms before
 * the deadline on, and for as long as the reply was under way. total_ms: what the daemon says it took. In between a
 * pause takes time from the plan and adds none. */
double pauses_excuse_ms(int64_t sent_ns, int64_t got_ns, double total_ms, double deadline_ms);

/* Seconds that the hypervisor says it has taken since the machine started, all processors together (/proc/stat); 0 when unknown. */
double pauses_stolen_s(void);

#endif
