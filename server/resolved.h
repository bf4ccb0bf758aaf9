/* SPDX-License-Identifier: Apache-2.0
 * Models some of whose neurons were resolved over the box of their data ("stable" of a sparsify job): inside it they are what they
 * were, outside they may predict anything. Whoever plans with one must stay inside. */
#ifndef ESP_SERVER_RESOLVED_H
#define ESP_SERVER_RESOLVED_H

#include "plan/task.h"
#include "registry/registry.h"

/* Nothing for any other model. UNPROCESSABLE, naming the task's limit, when plans could leave the box. */
ESP_MUST_CHECK esp_code esp_resolved_check(const esp_model_row *model, const esp_task *task, esp_arena *arena, esp_error *reterr);

#endif
