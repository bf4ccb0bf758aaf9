/* SPDX-License-Identifier: Apache-2.0
 * What the files that parse a task share. Not for others: plan/task.h is the interface. */
#ifndef ESP_PLAN_TASK_PARTS_H
#define ESP_PLAN_TASK_PARTS_H

#include "plan/task.h"

/* Numbers of a task stay below this, so that costs and big-M coefficients stay far from overflow. */
#define ESP_TASK_LARGEST 1e9

/* Exactly n numbers, into the arena. */
ESP_MUST_CHECK esp_code esp_task_vector(const esp_reader *reader, size_t n, esp_arena *arena, double **ret, esp_error *reterr);
/* One to `limit` distinct component numbers, each in [0, limit). */
ESP_MUST_CHECK esp_code esp_task_index(const esp_reader *reader, int limit, esp_arena *arena, int **ret_index, int *ret_n, esp_error *reterr);
/* "cost": fills the terms and n_goal. */
ESP_MUST_CHECK esp_code esp_task_parse_cost(const esp_reader *reader, esp_arena *arena, esp_task *task, esp_error *reterr);

#endif
