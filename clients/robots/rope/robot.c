/* SPDX-License-Identifier: Apache-2.0
 * The rope as a robot among others (robots/robot.h).
 *
 * The network sees the three free keypoints relative to the gripper, and u, and gives their displacement in the world; the gripper
 * moves by u. An episode of data pulls the gripper along a way that wanders, with a new direction now and then. A trial's goal is where the
 * keypoints are after a random pull from the start: a shape that can be reached. */
#include <math.h>

#include "robots/rope/sim.h"

#define TAU        6.283185307179586
#define NK         (ESP_ROPE_NY - 2) /* of the free keypoints */
#define KEEP_SHARE 0.7
#define GOAL_STEPS 5

static double frame_b(int i, int j) {
    return i == j;
}
static double frame_c(int i, int j) {
    return i < NK ? (j == i + 2) - (j == i % 2) : 0.0;
}
static double frame_d(int i, int j) {
    return i == NK + j;
}
static double frame_g(int i, int j) {
    return i == j + 2;
}

static void *start(esp_dice *dice) {
    double x = esp_dice_range(dice, 1.0, 4.0), y = esp_dice_range(dice, 1.0, 4.0), angle = esp_dice_range(dice, 0.0, TAU);
    return esp_rope_create(x, y, angle, esp_dice_range(dice, -0.3, 0.3));
}

static double clip(double x) {
    return fmax(-ESP_ROPE_U_MAX, fmin(ESP_ROPE_U_MAX, x));
}

static void explore(esp_dice *dice, const double *y, double *u) {
    (void)y;
    if ((u[0] != 0.0 || u[1] != 0.0) && esp_dice_range(dice, 0.0, 1.0) < KEEP_SHARE) {
        for (int i = 0; i < ESP_ROPE_NU; i++) u[i] = clip(u[i] + esp_dice_range(dice, -0.1, 0.1));
    } else {
        for (int i = 0; i < ESP_ROPE_NU; i++) u[i] = esp_dice_range(dice, -ESP_ROPE_U_MAX, ESP_ROPE_U_MAX);
    }
}

static void *start_task(esp_dice *dice, double *ret_goal) {
    double angle = esp_dice_range(dice, 0.0, TAU), bend = esp_dice_range(dice, -0.3, 0.3), u[ESP_ROPE_NU] = {0.0};
    esp_rope *ahead = esp_rope_create(2.5, 2.5, angle, bend), *rope = ahead != NULL ? esp_rope_create(2.5, 2.5, angle, bend) : NULL;
    for (int t = 0; rope != NULL && t < GOAL_STEPS; t++) {
        explore(dice, NULL, u);
        esp_rope_step(ahead, u);
    }
    if (rope != NULL) esp_rope_observe(ahead, ret_goal);
    esp_rope_free(ahead);
    return rope;
}

static bool step(void *rope, const double *u) {
    esp_rope_step(rope, u);
    return false;
}
static void observe(const void *rope, double *ret_y) {
    esp_rope_observe(rope, ret_y);
}
static void release(void *rope) {
    esp_rope_free(rope);
}

const esp_robot esp_robot_rope = {.name = "rope",
                                  .ny = ESP_ROPE_NY,
                                  .nu = ESP_ROPE_NU,
                                  .u_max = ESP_ROPE_U_MAX,
                                  .transitions = 60000,
                                  .steps = 25,
                                  .n_in = NK + ESP_ROPE_NU,
                                  .n_out = NK,
                                  .a = esp_robot_identity,
                                  .b = frame_b,
                                  .c = frame_c,
                                  .d = frame_d,
                                  .g = frame_g,
                                  .start = start,
                                  .explore = explore,
                                  .start_task = start_task,
                                  .n_goal = ESP_ROPE_NY,
                                  .goal_index = {0, 1, 2, 3, 4, 5, 6, 7},
                                  .horizon = 5,
                                  .step = step,
                                  .observe = observe,
                                  .free = release};
