/* SPDX-License-Identifier: Apache-2.0
 * The two clocks. */
#include "base/clock.h"

#include <time.h>

int64_t esp_clock_now_ns(void) {
    struct timespec now;
    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * ESP_NS_PER_S + now.tv_nsec;
}

int64_t esp_clock_wall_ms(void) {
    struct timespec now;
    (void)clock_gettime(CLOCK_REALTIME, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}
