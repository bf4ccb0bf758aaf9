/* SPDX-License-Identifier: Apache-2.0
 * What a simulated robot tells the rest: its sizes, the known part of its dynamics, its world, how it explores, and its task.
 *
 * One constant value a robot (robots.c lists them). Data (episodes.h) and figures (figures/) are made from it alone, so a new
 * robot is a world and one such value. No network and no HTTP here. */
#ifndef ESP_ROBOTS_ROBOT_H
#define ESP_ROBOTS_ROBOT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "robots/random.h"

#define ESP_ROBOT_Y_MAX    16
#define ESP_ROBOT_U_MAX    4
#define ESP_ROBOT_IN_MAX   20
#define ESP_ROBOT_GOAL_MAX 16

typedef struct esp_robot {
    const char *name;
    int ny, nu;
    double u_max; /* |u_i| <= u_max for every input */
    int transitions; /* the paper's number of pairs, where it names one */
    int steps; /* of an episode of data */

    /* y+ = A y + B u + G f(C y + D u), entry by entry: C is n_in x ny, G is ny x n_out */
    int n_in, n_out;
    double (*a)(int i, int j), (*b)(int i, int j), (*c)(int i, int j), (*d)(int i, int j), (*g)(int i, int j);

    /* An episode of data: a world at a random place, then random actions. No task is in it. */
    void *(*start)(esp_dice *dice); /* NULL when there is no memory */
    void (*explore)(esp_dice *dice, const double *y, double *u); /* u: the last action, zeros at first, to the next */

    /* A trial of the task: the same for the same dice. The cost of a step is sum_k |y[goal_index[k]] - goal[k]|. */
    void *(*start_task)(esp_dice *dice, double *ret_goal);
    int n_goal, goal_index[ESP_ROBOT_GOAL_MAX];
    int horizon; /* of a plan, in steps */
    int objects; /* like ones, that a graph network is for: how many y is of; 0: the model is a plain one */
    double radius; /* of them: who is further apart cannot meet within a step */

    bool (*step)(void *world, const double *u); /* each |u_i| clipped to u_max; true when the step met what `event` names */
    void (*observe)(const void *world, double *ret_y);
    void (*free)(void *world);
    const char *event; /* "contact"; NULL: there is none */
} esp_robot;

/* A robot by its name, NULL when there is none; all of them, ended by NULL. One whose simulator was not there when this was built
 * has no `start`. */
const esp_robot *esp_robot_find(const char *name);
extern const esp_robot *const esp_robots[];

extern const esp_robot esp_robot_pushing, esp_robot_rope, esp_robot_cartpole, esp_robot_reacher, esp_robot_sorting2, esp_robot_sorting3,
    esp_robot_sorting4, esp_robot_sorting8;

/* Entries of A and others that several robots share. */
static inline double esp_robot_identity(int i, int j) {
    return i == j;
}
static inline double esp_robot_nothing(int i, int j) {
    (void)i, (void)j;
    return 0.0;
}

#endif
