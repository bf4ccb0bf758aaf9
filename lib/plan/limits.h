/* SPDX-License-Identifier: Apache-2.0
 * The limits on y of a planning problem: which of them hold, and which cost. Not their check: that is verify.h.
 *
 * A limit that the present satisfies holds at every predicted step. One that it violates - by the measure and tolerance
 * of verify.h - cannot be asked of the next step as well: a robot outside its box would get no plan at all. It is charged
 * for instead,
 *
 *     penalty * sum over steps of  max(0, min over its sides of a'y - b),
 *
 * an exact penalty: where the penalty is above the limit's price, the plan is inside as soon as the other limits let
 * it. A side of a box is one side, in units of its output; a half-space one, by its distance (a and b over |a|); a box to
 * avoid has one for each face, so that the way out of it is the shortest. A trust region is limits like any others.
 * Every limit is judged on its own: a trust region outside the state box still holds when only the box is violated. A
 * half-space with a = 0 is never charged for: no y changes it.
 *
 * Default penalty: 10 times the sum, over steps, terms and components, of the cost's slopes at the present - the weight,
 * for a squared term 2 weight max(1, largest distance from the target that the input box allows, or that y has now). No
 * move of a unit that later steps do not magnify gains as much. 1 when the cost has no weights. */
#ifndef ESP_PLAN_LIMITS_H
#define ESP_PLAN_LIMITS_H

#include "plan/plan.h"

struct esp_problem;

/* a'y - b over n components of y; above 0 on the wrong side. */
typedef struct esp_side {
    int n;
    int *index; /* n */
    double *a; /* n */
    double b;
} esp_side;

typedef struct esp_soft {
    esp_limit limit;
    int n_sides;
    esp_side *sides;
} esp_soft;

/* Fills the problem's limits on y, softs, penalty and ranges_sound; its pieces and past are there already. Errors:
 * UNPROCESSABLE /trust_region/kind when data ranges are asked for and none are known (NULL), NOMEM. */
ESP_MUST_CHECK esp_code esp_limits_take(struct esp_problem *problem, const double *data_lower, const double *data_upper, esp_error *reterr);

/* The side that y (ny) is nearest to the right side of; *ret_value is a'y - b there. */
const esp_side *esp_soft_nearest(const esp_soft *soft, const double *y, double *ret_value);
/* How far y violates it, >= 0. */
double esp_soft_excess(const esp_soft *soft, const double *y);
/* Bounds of that over lower <= y <= upper (ny, finite), rounded outward. */
double esp_soft_least(const esp_soft *soft, const double *lower, const double *upper);
double esp_soft_most(const esp_soft *soft, const double *lower, const double *upper);

#endif
