/* SPDX-License-Identifier: Apache-2.0
 * The optimum of a tiny planning problem by enumeration: every pattern of ReLU phases over the horizon makes the model
 * linear, and the problem a linear program, which Clp solves. Written from the definition of model, task and cost; it
 * shares nothing with the planner but the container of a linear program (plan/lp.h).
 *
 * Takes continuous inputs and no boxes to avoid. */
#ifndef ESP_TESTS_SUPPORT_PHASES_H
#define ESP_TESTS_SUPPORT_PHASES_H

#include "plan/plan.h"

enum { PHASES_INPUTS = 8 }; /* horizon * nu at most */

typedef struct phases_optimum {
    bool whole; /* every pattern was looked at, and Clp settled each */
    int patterns;
    double least; /* of the bounds of the linear programs, by their multipliers: no plan costs less; INFINITY when all are empty */
    double cost; /* of the best plan found, replayed (oracle_plan), inside every limit exactly; INFINITY when none */
    double inputs[PHASES_INPUTS]; /* of that plan */
} phases_optimum;

/* `margin`: limits on y and rates are drawn in by that much of their size, let out when it is negative. Gives up, not
 * whole, beyond `most` patterns. */
phases_optimum phases_enumerate(const esp_model *model, const esp_task *task, const esp_plan_request *request, double margin, int most);

#endif
