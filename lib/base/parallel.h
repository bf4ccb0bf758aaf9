/* SPDX-License-Identifier: Apache-2.0
 * Work that can be done side by side, by whoever calls the library, which starts no threads of its own.
 *
 * The library cuts its work into n parts and leaves to `run` where each is done. What comes out depends on n and not on who was first. */
#ifndef ESP_BASE_PARALLEL_H
#define ESP_BASE_PARALLEL_H

typedef struct esp_parallel {
    int n; /* parts, at least 1 */
    void *user;
    /* Calls part(arg, 0) .. part(arg, n - 1), each once, part 0 on the calling thread; returns when all have returned. What was written
     * before the call the parts see, and what they wrote is seen after it. */
    void (*run)(void *user, void (*part)(void *arg, int i), void *arg);
} esp_parallel;

#define ESP_MAX_PARTS 16

#endif
