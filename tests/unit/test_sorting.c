/* SPDX-License-Identifier: Apache-2.0
 * The sorting world: what must hold of any push of discs. */
#include <check.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "robots/episodes.h"
#include "robots/sorting/sim.h"

static double apart(const double *a, const double *b) {
    return hypot(a[0] - b[0], a[1] - b[1]);
}

/* In front of the pusher it is moved on by what the push goes beyond it; out of reach it stays to the bit. */
START_TEST(sorting__a_push_moves_what_it_meets) {
    const double start[4] = {0, 0, 0.5, 0.5}, u[4] = {-0.4, 0, 0.4, 0};
    double y[4];
    esp_sort_world *world = esp_sort_create(2, start);
    ck_assert_ptr_nonnull(world);
    ck_assert(esp_sort_push(world, u));
    esp_sort_observe(world, y);
    ck_assert_double_eq_tol(y[0], ESP_SORT_RADIUS + ESP_SORT_PUSHER, 0.02);
    ck_assert_double_eq_tol(y[1], 0, 1e-6);
    ck_assert_mem_eq(y + 2, start + 2, 2 * sizeof *y);
    const double aside[4] = {-0.9, -0.9, 0.1, 0};
    double before[4];
    memcpy(before, y, sizeof y);
    ck_assert(!esp_sort_push(world, aside));
    esp_sort_observe(world, y);
    for (int k = 0; k < 4; k++) ck_assert_double_eq_tol(y[k], before[k], 1e-4); /* what the last push left of overlap is settled */
    esp_sort_free(world);
}
END_TEST

/* One disc pushes the next, and none ends inside another. */
START_TEST(sorting__discs_push_each_other) {
    const double start[6] = {0, 0, 0.31, 0.02, 0.62, 0}, u[4] = {-0.3, 0, 0.6, 0};
    double y[6];
    esp_sort_world *world = esp_sort_create(3, start);
    ck_assert(esp_sort_push(world, u));
    esp_sort_observe(world, y);
    ck_assert_double_gt(y[2], 0.45);
    ck_assert_double_gt(y[4], 0.7);
    for (int i = 0; i < 3; i++)
        for (int j = 0; j < i; j++) ck_assert_double_gt(apart(y + 2 * i, y + 2 * j), 2 * ESP_SORT_RADIUS - 0.02);
    esp_sort_free(world);
}
END_TEST

static char *write_data(const char *name, uint64_t seed, size_t *ret_len, int *ret_events) {
    char *text = NULL;
    esp_episodes made;
    FILE *out = open_memstream(&text, ret_len);
    ck_assert(esp_episodes_write(esp_robot_find(name), out, 240, 0, seed, NULL, NULL, &made));
    fclose(out);
    *ret_events = made.events;
    return text;
}

START_TEST(sorting__data_is_the_seeds_and_mostly_contact) {
    static const char *const names[] = {"sorting2", "sorting3", "sorting4", "sorting8"};
    size_t a_len = 0, b_len = 0, c_len = 0;
    int events = 0, other = 0;
    char *a = write_data(names[_i], 1, &a_len, &events), *b = write_data(names[_i], 1, &b_len, &other), *c = write_data(names[_i], 2, &c_len, &other);
    ck_assert_uint_eq(a_len, b_len);
    ck_assert_mem_eq(a, b, a_len);
    ck_assert(a_len != c_len || memcmp(a, c, a_len) != 0);
    ck_assert_int_gt(events, 120);
    free(a);
    free(b);
    free(c);
}
END_TEST

/* Every trial has its discs apart, and a goal for each. */
START_TEST(sorting__trials_begin_apart) {
    const esp_robot *robot = esp_robot_find("sorting8");
    for (uint64_t seed = 1; seed <= 20; seed++) {
        double goal[ESP_ROBOT_GOAL_MAX], y[ESP_ROBOT_Y_MAX];
        esp_dice dice;
        esp_dice_init(&dice, seed, 1);
        void *world = robot->start_task(&dice, goal);
        robot->observe(world, y);
        for (int i = 0; i < 8; i++) {
            ck_assert(goal[2 * i] == (i % 2 ? 0.5 : -0.5));
            for (int j = 0; j < i; j++) ck_assert_double_gt(apart(y + 2 * i, y + 2 * j), 2 * ESP_SORT_RADIUS);
        }
        robot->free(world);
    }
}
END_TEST

int main(void) {
    Suite *suite = suite_create("sorting");
    TCase *tc = tcase_create("sorting");
    tcase_add_test(tc, sorting__a_push_moves_what_it_meets);
    tcase_add_test(tc, sorting__discs_push_each_other);
    tcase_add_loop_test(tc, sorting__data_is_the_seeds_and_mostly_contact, 0, 4);
    tcase_add_test(tc, sorting__trials_begin_apart);
    suite_add_tcase(suite, tc);
    return run_suite(suite);
}
