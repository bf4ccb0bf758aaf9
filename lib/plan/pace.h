/* SPDX-License-Identifier: Apache-2.0
 * How far one step can take a plan: cuts for long horizons.
 *
 * The relaxation of a late step is loose: its ReLUs are unstable over everything that can be reached by then, and the
 * linear program covers in one step what takes a plan three. Branching can only repair that below every node anew. But the most that step t
 * can gain in a direction a,
 *
 *     most(t) = max a'(y(t-1) - y(t))    over all plans,
 *
 * is a planning problem of its own, of t + 1 steps and a linear cost, and far easier than the whole: the same search
 * bounds it in a fraction of a second. The inequality a'(y(t-1) - y(t)) <= most(t) is then a row of the relaxation. With a the
 * slope of step t's cost where the best plan is before it, it says how much cheaper the step can be than the one before.
 *
 * The tree does not branch with these rows in its linear programs: a bound that rests on them does not move when a ReLU is fixed, so
 * nothing would say which to fix. It lifts the bound of a node by them once its branching is chosen (tree.c). */
#ifndef ESP_PLAN_PACE_H
#define ESP_PLAN_PACE_H

#include "plan/root.h"

/* Adds cuts to the problem, in order of steps, for at most that long; the root, which has a plan and is tightened, gets
 * its relaxation anew. They hold for plans below the root's cutoff, as its ranges do. Ends early when a step's bound
 * does not come near what plans do, and when the next step's search would take longer than is left. Errors: NOMEM. */
ESP_MUST_CHECK esp_code esp_pace_find(esp_root *root, double seconds, esp_error *reterr);

#endif
