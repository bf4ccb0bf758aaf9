/* SPDX-License-Identifier: Apache-2.0
 * The cart-pole (cartpole.h): CartPole-v1 is a cart of 1 kg and a uniform pole of 0.1 kg, 1 m long, under 9.8 m/s2, without friction.
 *
 * MuJoCo gives the accelerations; the step is gym's, explicit Euler with positions moved by the velocities from before the step, and not
 * MuJoCo's. tests/unit/test_mujoco.c holds both against the equations that gym has written down. */
#include "robots/mujoco/cartpole.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "robots/mujoco/mechanism.h"

/* The pole's inertia about its middle is that of a thin rod, m l2 / 12 = 0.1 / 12; about its own axis it has none to speak of. */
static const char description[] = "<mujoco model='cartpole'>"
                                  "<compiler angle='radian'/>"
                                  "<option gravity='0 0 -9.8'><flag contact='disable'/></option>"
                                  "<worldbody><body name='cart'>"
                                  "<joint name='rail' type='slide' axis='1 0 0'/>"
                                  "<inertial pos='0 0 0' mass='1' diaginertia='1 1 1'/>"
                                  "<body name='pole'>"
                                  "<joint name='hinge' type='hinge' axis='0 1 0'/>"
                                  "<inertial pos='0 0 0.5' mass='0.1' diaginertia='0.008333333333333333 0.008333333333333333 0.00001'/>"
                                  "</body></body></worldbody>"
                                  "<actuator><motor joint='rail' gear='10'/></actuator>"
                                  "</mujoco>";

struct esp_cartpole {
    esp_mechanism *mechanism;
};

esp_cartpole *esp_cartpole_create(const double y[ESP_CARTPOLE_NY]) {
    esp_cartpole *cartpole = calloc(1, sizeof *cartpole);
    if (cartpole == NULL) return NULL;
    cartpole->mechanism = esp_mechanism_create(description);
    if (cartpole->mechanism == NULL) {
        free(cartpole);
        return NULL;
    }
    double *q = esp_mechanism_q(cartpole->mechanism), *v = esp_mechanism_v(cartpole->mechanism);
    q[0] = y[ESP_CARTPOLE_X];
    q[1] = y[ESP_CARTPOLE_ANGLE];
    v[0] = y[ESP_CARTPOLE_VELOCITY];
    v[1] = y[ESP_CARTPOLE_TURN];
    return cartpole;
}

void esp_cartpole_free(esp_cartpole *cartpole) {
    if (cartpole == NULL) return;
    esp_mechanism_free(cartpole->mechanism);
    free(cartpole);
}

void esp_cartpole_step(esp_cartpole *cartpole, double u) {
    double force = fmax(-1.0, fmin(1.0, u)), *q = esp_mechanism_q(cartpole->mechanism), *v = esp_mechanism_v(cartpole->mechanism);
    esp_mechanism_control(cartpole->mechanism, &force);
    const double *a = esp_mechanism_accelerations(cartpole->mechanism);
    for (int i = 0; i < 2; i++) {
        q[i] += ESP_CARTPOLE_TAU * v[i];
        v[i] += ESP_CARTPOLE_TAU * a[i];
    }
}

void esp_cartpole_observe(const esp_cartpole *cartpole, double ret_y[ESP_CARTPOLE_NY]) {
    const double *q = esp_mechanism_q(cartpole->mechanism), *v = esp_mechanism_v(cartpole->mechanism);
    ret_y[ESP_CARTPOLE_X] = q[0];
    ret_y[ESP_CARTPOLE_ANGLE] = q[1];
    ret_y[ESP_CARTPOLE_VELOCITY] = v[0];
    ret_y[ESP_CARTPOLE_TURN] = v[1];
}

/* ---- as a robot ------------------------------------------------------------------------------------------------------ */

/* Positions are moved by velocities; the network sees angle, angular velocity and u and gives both velocities' changes. */
static double frame_a(int i, int j) {
    return i == j                                                                                                       ? 1.0
           : (i == ESP_CARTPOLE_X && j == ESP_CARTPOLE_VELOCITY) || (i == ESP_CARTPOLE_ANGLE && j == ESP_CARTPOLE_TURN) ? ESP_CARTPOLE_TAU
                                                                                                                        : 0.0;
}
static double frame_c(int i, int j) {
    return i < 2 && j == i + ESP_CARTPOLE_ANGLE;
}
static double frame_d(int i, int j) {
    return i == 2 && j == 0;
}
static double frame_g(int i, int j) {
    return i == (j == 0 ? ESP_CARTPOLE_VELOCITY : ESP_CARTPOLE_TURN);
}

static void *start(esp_dice *dice) {
    static const double reach[ESP_CARTPOLE_NY] = {1.0, 2.0, 0.8, 3.0};
    double y[ESP_CARTPOLE_NY];
    for (int i = 0; i < ESP_CARTPOLE_NY; i++) y[i] = esp_dice_range(dice, -reach[i], reach[i]);
    return esp_cartpole_create(y);
}

static void explore(esp_dice *dice, const double *y, double *u) {
    (void)y;
    if (u[0] == 0.0 || esp_dice_range(dice, 0.0, 1.0) < 0.5) u[0] = esp_dice_range(dice, -1.0, 1.0);
}

/* Upright and on the spot, from a lean. */
static void *start_task(esp_dice *dice, double *ret_goal) {
    double y[ESP_CARTPOLE_NY] = {esp_dice_range(dice, -0.5, 0.5), 0.0, esp_dice_range(dice, -0.3, 0.3), 0.0};
    memset(ret_goal, 0, 2 * sizeof *ret_goal);
    return esp_cartpole_create(y);
}

static bool step(void *world, const double *u) {
    esp_cartpole_step(world, u[0]);
    return false;
}
static void observe(const void *world, double *ret_y) {
    esp_cartpole_observe(world, ret_y);
}
static void release(void *world) {
    esp_cartpole_free(world);
}

const esp_robot esp_robot_cartpole = {.name = "cartpole",
                                      .ny = ESP_CARTPOLE_NY,
                                      .nu = 1,
                                      .u_max = 1.0,
                                      .transitions = 30000,
                                      .steps = 25,
                                      .n_in = 3,
                                      .n_out = 2,
                                      .a = frame_a,
                                      .b = esp_robot_nothing,
                                      .c = frame_c,
                                      .d = frame_d,
                                      .g = frame_g,
                                      .start = start,
                                      .explore = explore,
                                      .start_task = start_task,
                                      .n_goal = 2,
                                      .goal_index = {ESP_CARTPOLE_X, ESP_CARTPOLE_ANGLE},
                                      .horizon = 15,
                                      .step = step,
                                      .observe = observe,
                                      .free = release};
