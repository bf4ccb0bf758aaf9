/* SPDX-License-Identifier: Apache-2.0
 * Odd planning problems, small enough for enumeration: identity, zero and ReLU neurons mixed; dead, stuck, twin, huge and
 * tiny ones; any frame, history 1 or 2; inputs without width, rates down to 0, state boxes and half-spaces that bite, a
 * present outside them; every cost, weights of 0, targets out of reach, on kinks, and reached by the start already. */
#ifndef ESP_TESTS_SUPPORT_ODD_H
#define ESP_TESTS_SUPPORT_ODD_H

#include "support/planning.h"

enum { ODD_ROWS = 8 };

typedef struct odd {
    plan_case c;
    esp_plan_request request;
    double y[ODD_ROWS], u[ODD_ROWS], goal[ODD_ROWS], start[ODD_ROWS]; /* start: an input for every step, in its box */
    char *text; /* of the task */
} odd;

/* The problem of a seed, for one engine: all but that is the same. horizon * nu <= 8, at most `relus` ReLUs over the horizon. */
void odd_draw(odd *o, uint64_t seed, int relus, const char *engine);
void odd_done(odd *o);

#endif
