/* SPDX-License-Identifier: Apache-2.0
 * The mechanisms in MuJoCo against equations that are written down: those of gym's CartPole-v1, and Lagrange's of a two-link arm with the values
 * of Reacher-v4. Built where MuJoCo is installed. */
#include <check.h>
#include <math.h>
#include <stdlib.h>

#include "robots/mujoco/cartpole.h"
#include "robots/mujoco/reacher.h"

/* ---- cart-pole: gym/envs/classic_control/cartpole.py, with force = 10 u ------------------------------------------------------ */

static void gym_cartpole(double *y, double u) {
    const double gravity = 9.8, mass_cart = 1.0, mass_pole = 0.1, total = mass_cart + mass_pole, length = 0.5, tau = 0.02;
    double cosine = cos(y[2]), sine = sin(y[2]), force = 10.0 * u;
    double temp = (force + mass_pole * length * y[3] * y[3] * sine) / total;
    double turn = (gravity * sine - cosine * temp) / (length * (4.0 / 3.0 - mass_pole * cosine * cosine / total));
    double push = temp - mass_pole * length * turn * cosine / total;
    const double next[4] = {y[0] + tau * y[1], y[1] + tau * push, y[2] + tau * y[3], y[3] + tau * turn};
    for (int i = 0; i < 4; i++) y[i] = next[i];
}

START_TEST(cartpole__is_gyms) {
    esp_dice dice;
    esp_dice_init(&dice, 11, (uint64_t)_i);
    double y[4], seen[4];
    for (int i = 0; i < 4; i++) y[i] = esp_dice_range(&dice, -1.5, 1.5);
    esp_cartpole *cartpole = esp_cartpole_create(y);
    for (int t = 0; t < 100; t++) {
        double u = _i % 2 ? esp_dice_range(&dice, -1.0, 1.0) : t % 3 ? 1.0 : -1.0;
        gym_cartpole(y, u);
        esp_cartpole_step(cartpole, u);
        esp_cartpole_observe(cartpole, seen);
        for (int i = 0; i < 4; i++) ck_assert_double_eq_tol(seen[i], y[i], 1e-9 * (1 + fabs(y[i])));
    }
    esp_cartpole_free(cartpole);
}
END_TEST

START_TEST(cartpole__clips_the_force) {
    double y[4] = {0.1, 0.2, -0.3, 0.4}, seen[4];
    esp_cartpole *cartpole = esp_cartpole_create(y);
    esp_cartpole_step(cartpole, -7.0);
    esp_cartpole_observe(cartpole, seen);
    gym_cartpole(y, -1.0);
    for (int i = 0; i < 4; i++) ck_assert_double_eq_tol(seen[i], y[i], 1e-12);
    esp_cartpole_free(cartpole);
}
END_TEST

/* ---- reacher: Reacher-v4's bodies, by hand ------------------------------------------------------------------------------------- */

#define DENSITY 1000.0
#define RADIUS  0.01
#define LENGTH  0.1

/* A capsule's masses (cylinder, both half balls) and inertia about its middle, across its axis; a ball's. */
static const double cylinder = DENSITY * M_PI * RADIUS * RADIUS * LENGTH, ball = DENSITY * 4.0 / 3.0 * M_PI * RADIUS * RADIUS * RADIUS;

static double capsule_inertia(void) {
    return cylinder * (RADIUS * RADIUS / 4 + LENGTH * LENGTH / 12) + ball * (0.4 * RADIUS * RADIUS + LENGTH * LENGTH / 4 + 3 * LENGTH * RADIUS / 8);
}

typedef struct arm {
    double link, lower, at, inertia_upper, inertia_lower; /* masses, the lower part's centre behind the elbow, inertias about the centres */
} arm;

static arm make_arm(void) {
    arm a = {.link = cylinder + ball, .inertia_upper = capsule_inertia()};
    a.lower = a.link + ball;
    a.at = (a.link * LENGTH / 2 + ball * 0.11) / a.lower;
    a.inertia_lower = capsule_inertia() + a.link * pow(LENGTH / 2 - a.at, 2) + 0.4 * ball * RADIUS * RADIUS + ball * pow(0.11 - a.at, 2);
    return a;
}

static void arm_matrix(const arm *a, double elbow, double m[3]) {
    double reach = a->lower * LENGTH * a->at * cos(elbow);
    m[2] = a->inertia_lower + a->lower * a->at * a->at;
    m[1] = m[2] + reach;
    m[0] = a->inertia_upper + a->link * LENGTH * LENGTH / 4 + m[2] + a->lower * LENGTH * LENGTH + 2 * reach;
}

/* M qdd + coriolis = 200 u - v, with 1 kg m2 of armature on the diagonal. */
static void arm_accelerations(const arm *a, const double q[2], const double v[2], const double u[2], double ret_a[2]) {
    double m[3], h = a->lower * LENGTH * a->at * sin(q[1]);
    arm_matrix(a, q[1], m);
    double m0 = m[0] + 1, m2 = m[2] + 1, det = m0 * m2 - m[1] * m[1];
    double t0 = 200 * u[0] - v[0] + h * (2 * v[0] * v[1] + v[1] * v[1]), t1 = 200 * u[1] - v[1] - h * v[0] * v[0];
    ret_a[0] = (m2 * t0 - m[1] * t1) / det;
    ret_a[1] = (m0 * t1 - m[1] * t0) / det;
}

/* Runge and Kutta's step of fourth order. */
static void arm_step(const arm *a, double q[2], double v[2], const double u[2], double dt) {
    static const double share[4] = {0, 0.5, 0.5, 1}, weight[4] = {1.0 / 6, 1.0 / 3, 1.0 / 3, 1.0 / 6};
    double dq[4][2] = {{0}}, dv[4][2] = {{0}};
    for (int s = 0; s < 4; s++) {
        double at_q[2], at_v[2];
        for (int i = 0; i < 2; i++) {
            at_q[i] = q[i] + (s ? dt * share[s] * dq[s - 1][i] : 0);
            at_v[i] = v[i] + (s ? dt * share[s] * dv[s - 1][i] : 0);
            dq[s][i] = at_v[i];
        }
        arm_accelerations(a, at_q, at_v, u, dv[s]);
    }
    for (int s = 0; s < 4; s++)
        for (int i = 0; i < 2; i++) {
            q[i] += dt * weight[s] * dq[s][i];
            v[i] += dt * weight[s] * dv[s][i];
        }
}

START_TEST(reacher__accelerates_as_lagrange_says) {
    const arm a = make_arm();
    esp_dice dice;
    esp_dice_init(&dice, 12, (uint64_t)_i);
    double q[2], v[2], u[2], want[2], got[2], m[3];
    for (int i = 0; i < 2; i++) {
        q[i] = esp_dice_range(&dice, -2.5, 2.5);
        v[i] = esp_dice_range(&dice, -10.0, 10.0);
        u[i] = esp_dice_range(&dice, -1.0, 1.0);
    }
    esp_reacher *reacher = esp_reacher_create(q, v);
    arm_accelerations(&a, q, v, u, want);
    esp_reacher_accelerations(reacher, u, got);
    for (int i = 0; i < 2; i++) ck_assert_double_eq_tol(got[i], want[i], 1e-9 * (1 + fabs(want[i])));
    ck_assert_double_eq_tol(esp_reacher_mass(reacher), 2 * (cylinder + ball) + ball, 1e-12);
    arm_matrix(&a, q[1], m);
    double energy = 0.5 * ((m[0] + 1) * v[0] * v[0] + 2 * m[1] * v[0] * v[1] + (m[2] + 1) * v[1] * v[1]);
    ck_assert_double_eq_tol(esp_reacher_kinetic(reacher), energy, 1e-9 * energy);
    esp_reacher_free(reacher);
}
END_TEST

START_TEST(reacher__steps_as_runge_and_kutta) {
    const arm a = make_arm();
    esp_dice dice;
    esp_dice_init(&dice, 13, (uint64_t)_i);
    double q[2] = {esp_dice_range(&dice, -3.0, 3.0), esp_dice_range(&dice, -1.0, 1.0)}, v[2] = {3.0, -2.0}, y[ESP_REACHER_NY];
    esp_reacher *reacher = esp_reacher_create(q, v);
    for (int t = 0; t < 12; t++) { /* 0.24 s: far from the elbow's stop */
        double u[2] = {esp_dice_range(&dice, -1.0, 1.0), t % 2 ? 0.3 : -0.3};
        for (int s = 0; s < 2; s++) arm_step(&a, q, v, u, 0.01);
        esp_reacher_step(reacher, u);
        esp_reacher_observe(reacher, y);
        for (int i = 0; i < 2; i++) {
            ck_assert_double_eq_tol(y[ESP_REACHER_COS + i], cos(q[i]), 1e-9);
            ck_assert_double_eq_tol(y[ESP_REACHER_SIN + i], sin(q[i]), 1e-9);
            ck_assert_double_eq_tol(ESP_REACHER_SPEED * y[ESP_REACHER_VELOCITY + i], v[i], 1e-8);
        }
        ck_assert_double_eq_tol(y[ESP_REACHER_TIP], 0.1 * cos(q[0]) + 0.11 * cos(q[0] + q[1]), 1e-9);
        ck_assert_double_eq_tol(y[ESP_REACHER_TIP + 1], 0.1 * sin(q[0]) + 0.11 * sin(q[0] + q[1]), 1e-9);
    }
    esp_reacher_free(reacher);
}
END_TEST

START_TEST(reacher__left_alone_it_slows_down) {
    esp_reacher *reacher = esp_reacher_create((double[]){0.3, 0.5}, (double[]){2.0, -1.5});
    double energy = esp_reacher_kinetic(reacher);
    for (int t = 0; t < 50; t++) {
        esp_reacher_step(reacher, (double[]){0.0, 0.0});
        ck_assert_double_lt(esp_reacher_kinetic(reacher), energy);
        energy = esp_reacher_kinetic(reacher);
    }
    esp_reacher_free(reacher);
}
END_TEST

START_TEST(reacher__elbow_stops_and_torques_are_clipped) {
    double q[2], v[2], r[2], w[2];
    esp_reacher *reacher = esp_reacher_create((double[]){0.0, 2.5}, (double[]){0.0, 0.0});
    for (int t = 0; t < 100; t++) esp_reacher_step(reacher, (double[]){0.0, 0.2});
    esp_reacher_state(reacher, q, v);
    ck_assert_double_lt(q[1], 3.2); /* the stop is soft, and 40 N m press on it */
    ck_assert_double_gt(q[1], 2.9);
    esp_reacher_free(reacher);
    esp_reacher *over = esp_reacher_create((double[]){0.0, 0.5}, (double[]){0.0, 0.0}),
                *full = esp_reacher_create((double[]){0.0, 0.5}, (double[]){0.0, 0.0});
    esp_reacher_step(over, (double[]){5.0, -9.0});
    esp_reacher_step(full, (double[]){1.0, -1.0});
    esp_reacher_state(over, q, v);
    esp_reacher_state(full, r, w);
    for (int i = 0; i < 2; i++) ck_assert(q[i] == r[i] && v[i] == w[i]);
    esp_reacher_free(over);
    esp_reacher_free(full);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("mujoco");
    TCase *cartpole = tcase_create("cartpole"), *reacher = tcase_create("reacher");
    tcase_add_loop_test(cartpole, cartpole__is_gyms, 0, 10);
    tcase_add_test(cartpole, cartpole__clips_the_force);
    tcase_add_loop_test(reacher, reacher__accelerates_as_lagrange_says, 0, 10);
    tcase_add_loop_test(reacher, reacher__steps_as_runge_and_kutta, 0, 5);
    tcase_add_test(reacher, reacher__left_alone_it_slows_down);
    tcase_add_test(reacher, reacher__elbow_stops_and_torques_are_clipped);
    suite_add_tcase(suite, cartpole);
    suite_add_tcase(suite, reacher);
    return run_suite(suite);
}
