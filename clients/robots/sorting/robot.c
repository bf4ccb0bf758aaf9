/* SPDX-License-Identifier: Apache-2.0
 * Sorting as robots among others (robots/robot.h): the same world with 2, 3, 4 and 8 discs. A graph network that is trained on the data of
 * two is planned with for all of them.
 *
 * Data: mostly pushes at a random disc from a random side, past its middle by chance, and now and then any push. A trial puts the
 * discs down at random; every second one belongs left, the others right. */
#include <math.h>

#include "robots/sorting/sim.h"
#include "robots/robot.h"

#define TAU       6.283185307179586
#define FIELD     0.6 /* discs begin within +- this, in x and in y */
#define AIM_SHARE 0.85
#define REACH     1.0 /* the longest push that is aimed, and both radii */
#define PILE      0.5 /* the piles are at x = -+ this, y = 0 */

static double within(double x) {
    return fmax(-ESP_SORT_U_MAX, fmin(ESP_SORT_U_MAX, x));
}

static void *scatter(esp_dice *dice, int n) {
    double c[2 * ESP_SORT_DISCS_MAX];
    for (int i = 0; i < n;) {
        bool clear = true;
        for (int k = 0; k < 2; k++) c[2 * i + k] = esp_dice_range(dice, -FIELD, FIELD);
        for (int j = 0; j < i; j++) clear = clear && hypot(c[2 * i] - c[2 * j], c[2 * i + 1] - c[2 * j + 1]) > 2 * ESP_SORT_RADIUS;
        i += clear;
    }
    return esp_sort_create(n, c);
}

static void explore_n(esp_dice *dice, const double *y, int n, double *u) {
    if (esp_dice_range(dice, 0.0, 1.0) > AIM_SHARE) {
        for (int i = 0; i < ESP_SORT_NU; i++) u[i] = esp_dice_range(dice, -0.8, 0.8);
        return;
    }
    int i = (int)fmin(n - 1, floor(esp_dice_range(dice, 0.0, n)));
    double way = esp_dice_range(dice, 0.0, TAU), side = esp_dice_range(dice, -0.2, 0.2), behind = esp_dice_range(dice, 0.2, 0.4);
    double length = esp_dice_range(dice, 0.1, 0.7), c = cos(way), s = sin(way);
    u[0] = within(y[2 * i] - behind * c - side * s);
    u[1] = within(y[2 * i + 1] - behind * s + side * c);
    u[2] = length * c;
    u[3] = length * s;
}

static void *task_n(esp_dice *dice, int n, double *ret_goal) {
    for (int i = 0; i < n; i++) {
        ret_goal[2 * i] = i % 2 ? PILE : -PILE;
        ret_goal[2 * i + 1] = 0.0;
    }
    return scatter(dice, n);
}

static bool step(void *world, const double *u) {
    return esp_sort_push(world, u);
}
static void observe(const void *world, double *ret_y) {
    esp_sort_observe(world, ret_y);
}
static void release(void *world) {
    esp_sort_free(world);
}

/* The network sees everything and gives every change: for a plain network, which these robots are not made for. */
static double input_d(int i, int j, int n) {
    return i == 2 * n + j;
}

#define SORTING(N, NAME)                                                                                                                             \
    static void *start_##N(esp_dice *dice) {                                                                                                         \
        return scatter(dice, N);                                                                                                                     \
    }                                                                                                                                                \
    static void explore_##N(esp_dice *dice, const double *y, double *u) {                                                                            \
        explore_n(dice, y, N, u);                                                                                                                    \
    }                                                                                                                                                \
    static void *task_##N(esp_dice *dice, double *ret_goal) {                                                                                        \
        return task_n(dice, N, ret_goal);                                                                                                            \
    }                                                                                                                                                \
    static double input_##N(int i, int j) {                                                                                                          \
        return input_d(i, j, N);                                                                                                                     \
    }                                                                                                                                                \
    const esp_robot esp_robot_sorting##N = {.name = NAME,                                                                                            \
                                            .ny = 2 * N,                                                                                             \
                                            .nu = ESP_SORT_NU,                                                                                       \
                                            .u_max = ESP_SORT_U_MAX,                                                                                 \
                                            .transitions = 150000,                                                                                   \
                                            .steps = 12,                                                                                             \
                                            .n_in = 2 * N + ESP_SORT_NU,                                                                             \
                                            .n_out = 2 * N,                                                                                          \
                                            .a = esp_robot_identity,                                                                                 \
                                            .b = esp_robot_nothing,                                                                                  \
                                            .c = esp_robot_identity,                                                                                 \
                                            .d = input_##N,                                                                                          \
                                            .g = esp_robot_identity,                                                                                 \
                                            .start = start_##N,                                                                                      \
                                            .explore = explore_##N,                                                                                  \
                                            .start_task = task_##N,                                                                                  \
                                            .n_goal = 2 * N,                                                                                         \
                                            .goal_index = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15},                                    \
                                            .horizon = 2,                                                                                            \
                                            .objects = N,                                                                                            \
                                            .radius = REACH,                                                                                         \
                                            .step = step,                                                                                            \
                                            .observe = observe,                                                                                      \
                                            .free = release,                                                                                         \
                                            .event = "contact"};

SORTING(2, "sorting2")
SORTING(3, "sorting3")
SORTING(4, "sorting4")
SORTING(8, "sorting8")
