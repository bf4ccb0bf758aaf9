/* SPDX-License-Identifier: Apache-2.0
 * Random transitions of the pushing world: the dataset the model learns from, and its box. No network, no HTTP. */
#ifndef ESP_PUSHING_DATA_H
#define ESP_PUSHING_DATA_H

#include <stdint.h>
#include <stdio.h>

#include "robots/pushing/sim.h"
#include "robots/robot.h"

#define ESP_PUSH_EPISODE_STEPS 25
#define ESP_PUSH_NX            (ESP_PUSH_NY + ESP_PUSH_NU)
#define ESP_PUSH_SAMPLES       64

/* What was generated. */
typedef struct esp_push_data {
    int episodes, transitions;
    int touching; /* transitions in which the pusher touched the box */
    double lower[ESP_PUSH_NX], upper[ESP_PUSH_NX]; /* the data box of (y, u) over all transitions */
    int n_samples;
    double sample[ESP_PUSH_SAMPLES][ESP_PUSH_NX]; /* (y, u) of transitions spread evenly over the data */
} esp_push_data;

/* Start, goal and pusher of a trial. */
void esp_push_draw_task(esp_dice *dice, esp_pose *ret_start, esp_pose *ret_goal, double ret_pusher[2]);
/* The world at the beginning of an episode of data (an esp_push_world), and the next action: u holds the one before, or zeros. */
void *esp_push_start(esp_dice *dice);
void esp_push_explore(esp_dice *dice, const double *y, double *u);

/* Writes `transitions` transitions as NDJSON, one episode a line. Same seed, same bytes. False when writing failed or
 * memory ran out. */
bool esp_push_generate(FILE *out, int transitions, uint64_t seed, esp_push_data *ret_data);

#endif
