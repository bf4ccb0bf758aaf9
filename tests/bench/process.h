/* SPDX-License-Identifier: Apache-2.0
 * The lines that an engine's process writes for the benchmark: "t SECONDS UPPER LOWER" and, once, "end STATUS SECONDS
 * UPPER LOWER NODES". */
#ifndef ESP_TESTS_BENCH_PROCESS_H
#define ESP_TESTS_BENCH_PROCESS_H

/* CPU seconds of this process since bench_clock_start. */
void bench_clock_start(void);
double bench_clock(void);
void bench_say(double upper, double lower);
void bench_say_end(const char *status, double upper, double lower, long nodes);

#endif
