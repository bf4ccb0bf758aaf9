/* SPDX-License-Identifier: Apache-2.0
 * Pushing as a robot among others (robots/robot.h): its frame and its task; the world is sim.h's, the exploration data.c's. */
#include "robots/pushing/data.h"

#define NK     (2 * ESP_PUSH_KEYPOINTS)
#define RADIAN 0.017453292519943295

/* The network sees where the keypoints are relative to the pusher, and u; keypoints move by f in the world, by f - u relative to the
 * pusher. */
static double frame_b(int i, int j) {
    return i >= NK && i % 2 == j ? -1.0 : 0.0;
}
static double frame_c(int i, int j) {
    return i < NK && j == i + NK;
}
static double frame_d(int i, int j) {
    return i == NK + j;
}
static double frame_g(int i, int j) {
    return i % NK == j;
}

/* The test distribution of the box-pushing task, px / 100. */
void esp_push_draw_task(esp_dice *dice, esp_pose *ret_start, esp_pose *ret_goal, double ret_pusher[2]) {
    ret_start->x = esp_dice_range(dice, 2.3, 2.7);
    ret_start->y = esp_dice_range(dice, 1.6, 1.8);
    ret_start->angle = esp_dice_range(dice, 30 * RADIAN, 60 * RADIAN);
    ret_goal->x = esp_dice_range(dice, 2.0, 3.0);
    ret_goal->y = esp_dice_range(dice, 2.5, 3.0);
    ret_goal->angle = esp_dice_range(dice, 90 * RADIAN, 120 * RADIAN);
    ret_pusher[0] = esp_dice_range(dice, 2.2, 2.8);
    ret_pusher[1] = esp_dice_range(dice, 1.0, 1.1);
}

static void *start_task(esp_dice *dice, double *ret_goal) {
    esp_pose start, goal;
    double pusher[2];
    esp_push_draw_task(dice, &start, &goal, pusher);
    esp_push_corners(goal, ret_goal);
    return esp_push_create(start, pusher[0], pusher[1]);
}

static bool step(void *world, const double *u) {
    return esp_push_step(world, u);
}
static void observe(const void *world, double *ret_y) {
    esp_push_observe(world, ret_y);
}
static void release(void *world) {
    esp_push_free(world);
}

const esp_robot esp_robot_pushing = {.name = "pushing",
                                     .ny = ESP_PUSH_NY,
                                     .nu = ESP_PUSH_NU,
                                     .u_max = ESP_PUSH_U_MAX,
                                     .transitions = 50000,
                                     .steps = ESP_PUSH_EPISODE_STEPS,
                                     .n_in = NK + ESP_PUSH_NU,
                                     .n_out = NK,
                                     .a = esp_robot_identity,
                                     .b = frame_b,
                                     .c = frame_c,
                                     .d = frame_d,
                                     .g = frame_g,
                                     .start = esp_push_start,
                                     .explore = esp_push_explore,
                                     .start_task = start_task,
                                     .n_goal = NK,
                                     .goal_index = {0, 1, 2, 3, 4, 5, 6, 7},
                                     .horizon = 5,
                                     .step = step,
                                     .observe = observe,
                                     .free = release,
                                     .event = "contact"};
