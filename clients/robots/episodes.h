/* SPDX-License-Identifier: Apache-2.0
 * Random transitions of a simulated robot as NDJSON, one episode a line: the dataset its model learns from. */
#ifndef ESP_ROBOTS_EPISODES_H
#define ESP_ROBOTS_EPISODES_H

#include <stdio.h>

#include "robots/robot.h"

typedef struct esp_episodes {
    int episodes, transitions;
    int events; /* transitions that met the robot's event */
} esp_episodes;

/* Called for every transition: at, from 0, its observation and its action. */
typedef void esp_episodes_see(void *user, int at, const double *y, const double *u);

/* Writes `transitions` transitions in episodes of `steps` (0: the robot's own; the last may be shorter). Same robot, numbers and seed,
 * same bytes. `see` may be NULL. False when writing failed or memory ran out. */
bool esp_episodes_write(const esp_robot *robot, FILE *out, int transitions, int steps, uint64_t seed, esp_episodes_see *see, void *user,
                        esp_episodes *ret_made);

#endif
