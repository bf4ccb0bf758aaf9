/* SPDX-License-Identifier: Apache-2.0
 * Monotonic time in nanoseconds and deadlines on it; wall time only for time stamps. */
#ifndef ESP_BASE_CLOCK_H
#define ESP_BASE_CLOCK_H

#include <stdbool.h>
#include <stdint.h>

#define ESP_NS_PER_MS INT64_C(1000000)
#define ESP_NS_PER_S  INT64_C(1000000000)
#define ESP_NEVER     INT64_MAX

int64_t esp_clock_now_ns(void); /* CLOCK_MONOTONIC */
int64_t esp_clock_wall_ms(void); /* since 1970-01-01 UTC */
static inline double esp_clock_seconds_since(int64_t start_ns) {
    return (double)(esp_clock_now_ns() - start_ns) * 1e-9;
}

/* What a long, cancellable function (`_run`) is given to know when to stop. */
typedef struct esp_stop {
    int64_t deadline_ns; /* monotonic; ESP_NEVER for none */
    bool (*cancelled)(void *user); /* may be NULL */
    void *user;
} esp_stop;

static inline bool esp_stop_now(const esp_stop *stop) {
    return stop && ((stop->deadline_ns != ESP_NEVER && esp_clock_now_ns() >= stop->deadline_ns) || (stop->cancelled && stop->cancelled(stop->user)));
}

#endif
