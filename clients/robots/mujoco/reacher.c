/* SPDX-License-Identifier: Apache-2.0
 * The reacher (reacher.h): capsules of 0.1 m and radius 0.01 m, a ball of the same radius 0.11 m behind the elbow, all of 1000 kg/m3; each joint
 * with an armature of 1 kg m2, a damping of 1 N m s and a motor of gear 200; the elbow within 3 rad; Runge-Kutta of fourth order at 0.01 s. Those are
 * Reacher-v4's values; its walls and its target, which touch nothing, are left out. */
#include "robots/mujoco/reacher.h"

#include <math.h>
#include <stdlib.h>

#include "robots/mujoco/mechanism.h"

#define TAU      6.283185307179586
#define SUBSTEPS 2
#define FAST     0.8 /* of ESP_REACHER_SPEED */

static const char description[] =
    "<mujoco model='reacher'>"
    "<compiler angle='radian' inertiafromgeom='true'/>"
    "<default><joint type='hinge' axis='0 0 1' armature='1' damping='1'/><geom contype='0' conaffinity='0' density='1000'/></default>"
    "<option gravity='0 0 -9.81' integrator='RK4' timestep='0.01'/>"
    "<worldbody><body name='upper' pos='0 0 0.01'>"
    "<joint name='shoulder'/>"
    "<geom type='capsule' fromto='0 0 0 0.1 0 0' size='0.01'/>"
    "<body name='lower' pos='0.1 0 0'>"
    "<joint name='elbow' limited='true' range='-3 3'/>"
    "<geom type='capsule' fromto='0 0 0 0.1 0 0' size='0.01'/>"
    "<body name='fingertip' pos='0.11 0 0'><geom type='sphere' size='0.01'/></body>"
    "</body></body></worldbody>"
    "<actuator>"
    "<motor joint='shoulder' ctrllimited='true' ctrlrange='-1 1' gear='200'/>"
    "<motor joint='elbow' ctrllimited='true' ctrlrange='-1 1' gear='200'/>"
    "</actuator></mujoco>";

struct esp_reacher {
    esp_mechanism *mechanism;
};

esp_reacher *esp_reacher_create(const double q[2], const double v[2]) {
    esp_reacher *reacher = calloc(1, sizeof *reacher);
    if (reacher == NULL) return NULL;
    reacher->mechanism = esp_mechanism_create(description);
    if (reacher->mechanism == NULL) {
        free(reacher);
        return NULL;
    }
    for (int i = 0; i < 2; i++) {
        esp_mechanism_q(reacher->mechanism)[i] = q[i];
        esp_mechanism_v(reacher->mechanism)[i] = v[i];
    }
    return reacher;
}

void esp_reacher_free(esp_reacher *reacher) {
    if (reacher == NULL) return;
    esp_mechanism_free(reacher->mechanism);
    free(reacher);
}

void esp_reacher_step(esp_reacher *reacher, const double u[ESP_REACHER_NU]) {
    esp_mechanism_control(reacher->mechanism, u); /* MuJoCo clips it */
    esp_mechanism_step(reacher->mechanism, SUBSTEPS);
}

void esp_reacher_state(const esp_reacher *reacher, double ret_q[2], double ret_v[2]) {
    for (int i = 0; i < 2; i++) {
        ret_q[i] = esp_mechanism_q(reacher->mechanism)[i];
        ret_v[i] = esp_mechanism_v(reacher->mechanism)[i];
    }
}

void esp_reacher_observe(const esp_reacher *reacher, double ret_y[ESP_REACHER_NY]) {
    double q[2], v[2], place[3];
    esp_reacher_state(reacher, q, v);
    for (int i = 0; i < 2; i++) {
        ret_y[ESP_REACHER_COS + i] = cos(q[i]);
        ret_y[ESP_REACHER_SIN + i] = sin(q[i]);
        ret_y[ESP_REACHER_VELOCITY + i] = v[i] / ESP_REACHER_SPEED;
    }
    esp_mechanism_place(reacher->mechanism, "fingertip", place);
    ret_y[ESP_REACHER_TIP] = place[0];
    ret_y[ESP_REACHER_TIP + 1] = place[1];
}

void esp_reacher_accelerations(esp_reacher *reacher, const double u[ESP_REACHER_NU], double ret_a[2]) {
    esp_mechanism_control(reacher->mechanism, u);
    const double *a = esp_mechanism_accelerations(reacher->mechanism);
    ret_a[0] = a[0];
    ret_a[1] = a[1];
}

double esp_reacher_kinetic(const esp_reacher *reacher) {
    return esp_mechanism_kinetic(reacher->mechanism);
}
double esp_reacher_mass(const esp_reacher *reacher) {
    return esp_mechanism_mass(reacher->mechanism);
}

/* ---- as a robot ------------------------------------------------------------------------------------------------------ */

/* The network sees all but the fingertip's place, and u, and gives the changes of everything. */
static double frame_c(int i, int j) {
    return i < ESP_REACHER_TIP && i == j;
}
static double frame_d(int i, int j) {
    return i == ESP_REACHER_TIP + j;
}

static void *start(esp_dice *dice) {
    double q[2] = {esp_dice_range(dice, 0.0, TAU), esp_dice_range(dice, -2.5, 2.5)}, v[2];
    for (int i = 0; i < 2; i++) v[i] = esp_dice_range(dice, -8.0, 8.0);
    return esp_reacher_create(q, v);
}

/* Any torque, often one that brakes: what is drawn blindly winds the arm up against its stop. */
static void explore(esp_dice *dice, const double *y, double *u) {
    for (int i = 0; i < ESP_REACHER_NU; i++) {
        bool brake = fabs(y[ESP_REACHER_VELOCITY + i]) > FAST || (i == 1 && y[ESP_REACHER_COS + 1] < -0.85);
        double any = esp_dice_range(dice, -1.0, 1.0);
        u[i] = brake ? -copysign(fabs(any), y[ESP_REACHER_VELOCITY + i]) : any;
    }
}

/* The fingertip to a place within the arm's reach, from rest. */
static void *start_task(esp_dice *dice, double *ret_goal) {
    double q[2] = {esp_dice_range(dice, 0.0, TAU), esp_dice_range(dice, -2.0, 2.0)}, bearing = esp_dice_range(dice, 0.0, TAU);
    double reach = esp_dice_range(dice, 0.08, 0.2);
    ret_goal[0] = reach * cos(bearing);
    ret_goal[1] = reach * sin(bearing);
    return esp_reacher_create(q, (double[]){0.0, 0.0});
}

static bool step(void *world, const double *u) {
    esp_reacher_step(world, u);
    return false;
}
static void observe(const void *world, double *ret_y) {
    esp_reacher_observe(world, ret_y);
}
static void release(void *world) {
    esp_reacher_free(world);
}

const esp_robot esp_robot_reacher = {.name = "reacher",
                                     .ny = ESP_REACHER_NY,
                                     .nu = ESP_REACHER_NU,
                                     .u_max = 1.0,
                                     .transitions = 40000,
                                     .steps = 25,
                                     .n_in = ESP_REACHER_TIP + ESP_REACHER_NU,
                                     .n_out = ESP_REACHER_NY,
                                     .a = esp_robot_identity,
                                     .b = esp_robot_nothing,
                                     .c = frame_c,
                                     .d = frame_d,
                                     .g = esp_robot_identity,
                                     .start = start,
                                     .explore = explore,
                                     .start_task = start_task,
                                     .n_goal = 2,
                                     .goal_index = {ESP_REACHER_TIP, ESP_REACHER_TIP + 1},
                                     .horizon = 8,
                                     .step = step,
                                     .observe = observe,
                                     .free = release};
