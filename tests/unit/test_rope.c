/* SPDX-License-Identifier: Apache-2.0
 * The rope's world against what must hold of any rope: rest, energy, symmetry, inextensibility; and the data of robots in general. */
#include <check.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "robots/episodes.h"
#include "robots/rope/sim.h"

#define NY ESP_ROPE_NY

static const double pulls[][2] = {{0.3, 0.1}, {-0.2, 0.3}, {-0.3, -0.3}, {0.1, -0.25}, {0.0, 0.0}, {0.3, 0.0}};
enum { PULLS = sizeof pulls / sizeof *pulls };

/* The rope after all pulls, each turned by `turn`, mirrored in the x axis first where `mirror` is -1; relative to where the gripper began. */
static void pulled(double x, double y, double turn, double mirror, double *ret_y) {
    double c = cos(turn), s = sin(turn);
    esp_rope *rope = esp_rope_create(x, y, mirror * 0.4 + turn, mirror * 0.2);
    for (int t = 0; t < PULLS; t++) {
        /* as long as the limit allows however it is turned */
        double u[2] = {0.7 * pulls[t][0], 0.7 * mirror * pulls[t][1]};
        esp_rope_step(rope, (double[]){c * u[0] - s * u[1], s * u[0] + c * u[1]});
    }
    esp_rope_observe(rope, ret_y);
    for (int k = 0; k < NY; k++) ret_y[k] -= k % 2 ? y : x;
    esp_rope_free(rope);
}

START_TEST(rope__stays_where_it_lies) {
    double before[NY], after[NY];
    esp_rope *rope = esp_rope_create(1.0, 2.0, 0.7, 0.0);
    ck_assert_double_eq_tol(esp_rope_energy(rope), 0.0, 1e-20);
    esp_rope_observe(rope, before);
    for (int k = 0; k < NY; k++) ck_assert_double_eq_tol(before[k], k % 2 ? 2.0 + 0.4 * (k / 2) * sin(0.7) : 1.0 + 0.4 * (k / 2) * cos(0.7), 1e-12);
    for (int t = 0; t < 5; t++) esp_rope_step(rope, (double[]){0.0, 0.0});
    esp_rope_observe(rope, after);
    for (int k = 0; k < NY; k++) ck_assert_double_eq_tol(after[k], before[k], 1e-12);
    esp_rope_free(rope);
}
END_TEST

START_TEST(rope__gripper_moves_by_u_and_no_more) {
    double y[NY], before[NY];
    esp_rope *rope = esp_rope_create(2.0, 2.0, 0.0, 0.1);
    const double moves[][2] = {{0.3, -0.1}, {0.05, 0.3}, {5.0, -7.0}};
    for (int i = 0; i < 3; i++) {
        esp_rope_observe(rope, before);
        esp_rope_step(rope, moves[i]);
        esp_rope_observe(rope, y);
        for (int k = 0; k < 2; k++) ck_assert_double_eq_tol(y[k] - before[k], fmax(-0.3, fmin(0.3, moves[i][k])), 1e-12);
    }
    esp_rope_free(rope);
}
END_TEST

START_TEST(rope__does_not_care_where_it_is_and_how_it_is_turned) {
    double plain[NY], other[NY];
    pulled(2.0, 2.0, 0.0, 1.0, plain);
    pulled(-3.0, 7.5, 0.0, 1.0, other);
    for (int k = 0; k < NY; k++) ck_assert_double_eq_tol(other[k], plain[k], 1e-9);
    pulled(2.0, 2.0, 1.1, 1.0, other);
    for (int k = 0; k < NY; k += 2) {
        ck_assert_double_eq_tol(other[k], cos(1.1) * plain[k] - sin(1.1) * plain[k + 1], 1e-9);
        ck_assert_double_eq_tol(other[k + 1], sin(1.1) * plain[k] + cos(1.1) * plain[k + 1], 1e-9);
    }
    pulled(2.0, 2.0, 0.0, -1.0, other);
    for (int k = 0; k < NY; k++) ck_assert_double_eq_tol(other[k], k % 2 ? -plain[k] : plain[k], 1e-9);
}
END_TEST

START_TEST(rope__left_alone_it_loses_energy) {
    esp_rope *rope = esp_rope_create(2.0, 2.0, 0.0, 0.6);
    double energy = esp_rope_energy(rope);
    ck_assert_double_gt(energy, 1e-5); /* it is bent */
    for (int t = 0; t < 10; t++) {
        esp_rope_step(rope, (double[]){0.0, 0.0});
        double now = esp_rope_energy(rope);
        ck_assert_double_lt(now, energy);
        energy = now;
    }
    esp_rope_free(rope);
}
END_TEST

START_TEST(rope__follows_its_end_at_its_length) {
    esp_rope *rope = esp_rope_create(2.0, 2.0, 0.0, 0.0);
    /* pulled upwards for two lengths of it: it comes to lie behind the gripper, a little stretched by the drag */
    for (int t = 0; t < 12; t++) esp_rope_step(rope, (double[]){0.0, 0.2});
    for (int b = 1; b < ESP_ROPE_BEADS; b++) {
        double x0, y0, x1, y1;
        esp_rope_bead(rope, b - 1, &x0, &y0);
        esp_rope_bead(rope, b, &x1, &y1);
        ck_assert_double_gt(hypot(x1 - x0, y1 - y0), 0.95 * ESP_ROPE_SPACING);
        ck_assert_double_lt(hypot(x1 - x0, y1 - y0), 1.25 * ESP_ROPE_SPACING);
        ck_assert_double_gt(y0 - y1, 0.0);
    }
    esp_rope_free(rope);
}
END_TEST

/* ---- robots in general ------------------------------------------------------------------------------------------------ */

static char *episodes(const esp_robot *robot, int transitions, uint64_t seed, esp_episodes *ret_made) {
    char *text = NULL;
    size_t len = 0;
    FILE *out = open_memstream(&text, &len);
    ck_assert(esp_episodes_write(robot, out, transitions, 7, seed, NULL, NULL, ret_made));
    fclose(out);
    return text;
}

START_TEST(robots__data_is_by_the_seed) {
    for (int i = 0; esp_robots[i] != NULL; i++) {
        if (esp_robots[i]->start == NULL) continue;
        esp_episodes made;
        char *text = episodes(esp_robots[i], 30, 4, &made), *again = episodes(esp_robots[i], 30, 4, &made);
        char *other = episodes(esp_robots[i], 30, 5, &made), *longer = episodes(esp_robots[i], 35, 4, &made);
        ck_assert_int_eq(made.episodes, 5);
        ck_assert_int_eq(made.transitions, 35);
        ck_assert_str_eq(text, again);
        ck_assert_str_ne(text, other);
        /* the first four episodes, all but the short last one, do not depend on how many follow */
        char *end = text;
        for (int line = 0; line < 4; line++) end = strchr(end, '\n') + 1;
        ck_assert_mem_eq(text, longer, end - text);
        free(text), free(again), free(other), free(longer);
    }
}
END_TEST

/* The frame's known part: where f has no say, y+ = A y + B u exactly. */
START_TEST(robots__frames_hold_where_the_network_has_no_say) {
    for (int i = 0; esp_robots[i] != NULL; i++) {
        const esp_robot *r = esp_robots[i];
        if (r->start == NULL) continue;
        esp_dice dice;
        esp_dice_init(&dice, 3, (uint64_t)i);
        double y[ESP_ROBOT_Y_MAX], next[ESP_ROBOT_Y_MAX], u[ESP_ROBOT_U_MAX] = {0};
        void *world = r->start(&dice);
        for (int t = 0; t < 10; t++) {
            r->observe(world, y);
            r->explore(&dice, y, u);
            r->step(world, u);
            r->observe(world, next);
            for (int k = 0; k < r->ny; k++) {
                double known = 0, say = 0;
                for (int j = 0; j < r->n_out; j++) say += fabs(r->g(k, j));
                for (int j = 0; j < r->ny; j++) known += r->a(k, j) * y[j];
                for (int j = 0; j < r->nu; j++) known += r->b(k, j) * u[j];
                if (say == 0) ck_assert_double_eq_tol(next[k], known, 1e-12);
            }
        }
        r->free(world);
    }
}
END_TEST

int main(void) {
    Suite *suite = suite_create("rope");
    TCase *world = tcase_create("world"), *robots = tcase_create("robots");
    tcase_add_test(world, rope__stays_where_it_lies);
    tcase_add_test(world, rope__gripper_moves_by_u_and_no_more);
    tcase_add_test(world, rope__does_not_care_where_it_is_and_how_it_is_turned);
    tcase_add_test(world, rope__left_alone_it_loses_energy);
    tcase_add_test(world, rope__follows_its_end_at_its_length);
    tcase_add_test(robots, robots__data_is_by_the_seed);
    tcase_add_test(robots, robots__frames_hold_where_the_network_has_no_say);
    suite_add_tcase(suite, world);
    suite_add_tcase(suite, robots);
    return run_suite(suite);
}
