/* SPDX-License-Identifier: Apache-2.0
 * The pushing robot without its network: the simulated world, the data it makes, and what its report is computed with. */
#include <check.h>
#include <jansson.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "robots/pushing/demo.h"
#include "robots/random.h"
#include "robots/stats.h"
#include "robots/svg.h"
#include "robots/table.h"

static const esp_pose upright = {2.5, 2.5, 0.0};

static void random_action(esp_dice *dice, double *u) {
    for (int i = 0; i < ESP_PUSH_NU; i++) u[i] = esp_dice_range(dice, -ESP_PUSH_U_MAX, ESP_PUSH_U_MAX);
}

START_TEST(pushing__same_calls_give_the_same_bits) {
    double y[2][ESP_PUSH_NY];
    for (int run = 0; run < 2; run++) {
        esp_push_world *world = esp_push_create((esp_pose){2.5, 2.5, 0.7}, 2.5, 2.0);
        esp_dice dice;
        esp_dice_init(&dice, (uint64_t)_i, 0);
        for (int t = 0; t < 40; t++) {
            double u[ESP_PUSH_NU];
            random_action(&dice, u);
            if (t < 3) u[1] = 0.25; /* into the box first */
            esp_push_step(world, u);
        }
        esp_push_observe(world, y[run]);
        esp_push_free(world);
    }
    ck_assert_mem_eq(y[0], y[1], sizeof y[0]);
}
END_TEST

START_TEST(pushing__pusher_moves_by_u_and_no_more) {
    esp_push_world *world = esp_push_create(upright, 2.5, 2.1);
    const double moves[][2] = {{0.3, 0.1}, {-0.123, 0.3}, {0.0, 0.0}, {5.0, -7.0}};
    double x, y, x1, y1;
    esp_push_pusher(world, &x, &y);
    for (int i = 0; i < 4; i++) {
        esp_push_step(world, moves[i]);
        esp_push_pusher(world, &x1, &y1);
        ck_assert_double_eq_tol(x1 - x, fmax(-0.3, fmin(0.3, moves[i][0])), 1e-12);
        ck_assert_double_eq_tol(y1 - y, fmax(-0.3, fmin(0.3, moves[i][1])), 1e-12);
        x = x1;
        y = y1;
    }
    esp_push_free(world);
}
END_TEST

START_TEST(pushing__box_moves_only_on_contact) {
    esp_push_world *world = esp_push_create(upright, 2.5, 1.6);
    double before[ESP_PUSH_NY], after[ESP_PUSH_NY];
    esp_push_observe(world, before);
    /* the box's lower side is at 2.25, the pusher's top at 1.65: 0.6 of free way */
    ck_assert(!esp_push_step(world, (double[]){0.0, 0.29}));
    ck_assert(!esp_push_step(world, (double[]){0.0, 0.29}));
    esp_push_observe(world, after);
    ck_assert_mem_eq(before, after, ESP_PUSH_NK * sizeof *before);
    ck_assert(esp_push_step(world, (double[]){0.0, 0.29}));
    esp_push_observe(world, after);
    ck_assert_double_gt(after[1] - before[1], 0.2);
    /* and away again: the box stays where it was pushed to */
    memcpy(before, after, sizeof before);
    esp_push_step(world, (double[]){0.0, -0.3});
    esp_push_observe(world, after);
    for (int k = 0; k < ESP_PUSH_NK; k++) ck_assert_double_eq_tol(after[k], before[k], 2e-3);
    esp_push_free(world);
}
END_TEST

START_TEST(pushing__push_through_the_centre_goes_straight) {
    /* geometry as the oracle: what the pusher moves past the gap, the box moves; drift after a push is the damping's, < 2 px */
    esp_push_world *world = esp_push_create(upright, 2.5, 2.15);
    double before[ESP_PUSH_NY], after[ESP_PUSH_NY];
    esp_push_observe(world, before);
    for (int t = 0; t < 4; t++) esp_push_step(world, (double[]){0.0, 0.2});
    esp_push_observe(world, after);
    for (int k = 0; k < ESP_PUSH_NK; k += 2) {
        ck_assert_double_eq_tol(after[k], before[k], 5e-3);
        ck_assert_double_eq_tol(after[k + 1] - before[k + 1], 0.75, 0.02);
    }
    esp_push_free(world);
}
END_TEST

START_TEST(pushing__push_off_the_centre_turns_the_box) {
    const double side[2] = {-0.15, 0.15};
    for (int i = 0; i < 2; i++) {
        esp_push_world *world = esp_push_create(upright, 2.5 + side[i], 2.15);
        double y[ESP_PUSH_NY];
        esp_push_step(world, (double[]){0.0, 0.3});
        esp_push_observe(world, y);
        double angle = atan2(y[3] - y[1], y[2] - y[0]); /* along the lower side, 0 at the start */
        ck_assert_double_gt(angle * side[i], 0.01); /* pushed on its right it turns to the left */
        esp_push_free(world);
    }
}
END_TEST

START_TEST(pushing__keypoints_stay_rigid) {
    const double side = 2 * ESP_PUSH_HALF, diagonal = side * sqrt(2.0);
    esp_push_world *world = esp_push_create((esp_pose){2.5, 2.5, 1.0}, 2.5, 2.0);
    esp_dice dice;
    esp_dice_init(&dice, 7, (uint64_t)_i);
    int contacts = 0;
    for (int t = 0; t < 100; t++) {
        double u[ESP_PUSH_NU], y[ESP_PUSH_NY], px, py;
        random_action(&dice, u);
        if (t % 5 == 0) { /* back to the box */
            esp_push_observe(world, y);
            for (int i = 0; i < 2; i++) u[i] = (y[ESP_PUSH_NK + i] + y[ESP_PUSH_NK + 4 + i]) / 2;
        }
        contacts += esp_push_step(world, u);
        esp_push_observe(world, y);
        esp_push_pusher(world, &px, &py);
        for (int k = 0; k < ESP_PUSH_KEYPOINTS; k++) {
            const double *a = y + 2 * k, *b = y + 2 * ((k + 1) % 4), *c = y + 2 * ((k + 2) % 4);
            ck_assert_double_eq_tol(hypot(b[0] - a[0], b[1] - a[1]), side, 1e-9);
            ck_assert_double_eq_tol(hypot(c[0] - a[0], c[1] - a[1]), diagonal, 1e-9);
            ck_assert_double_eq_tol(y[ESP_PUSH_NK + 2 * k], a[0] - px, 1e-12);
            ck_assert_double_eq_tol(y[ESP_PUSH_NK + 2 * k + 1], a[1] - py, 1e-12);
        }
    }
    ck_assert_int_ge(contacts, 1);
    esp_push_free(world);
}
END_TEST

START_TEST(pushing__distance_to_the_box) {
    ck_assert_double_eq_tol(esp_push_distance(upright, 2.5, 2.5), 0.0, 1e-15);
    ck_assert_double_eq_tol(esp_push_distance(upright, 2.5, 3.0), 0.25, 1e-12);
    ck_assert_double_eq_tol(esp_push_distance(upright, 3.05, 3.15), 0.5, 1e-12); /* 3-4-5 from the corner */
    /* turned by 45 degrees its corner points up, half a diagonal from the centre */
    ck_assert_double_eq_tol(esp_push_distance((esp_pose){2.5, 2.5, atan(1.0)}, 2.5, 3.0), 0.5 - 0.25 * sqrt(2.0), 1e-12);
}
END_TEST

/* ---- data -------------------------------------------------------------------------------------------------------- */

static char *generate(int transitions, uint64_t seed, esp_push_data *data) {
    char *text = NULL;
    size_t len = 0;
    FILE *out = open_memstream(&text, &len);
    ck_assert(esp_push_generate(out, transitions, seed, data));
    fclose(out);
    return text;
}

START_TEST(data__same_seed_same_bytes) {
    esp_push_data data[3];
    char *a = generate(310, 5, &data[0]), *b = generate(310, 5, &data[1]), *c = generate(310, 6, &data[2]);
    ck_assert_str_eq(a, b);
    ck_assert_str_ne(a, c);
    ck_assert_mem_eq(data[0].lower, data[1].lower, sizeof data[0].lower);
    free(a);
    free(b);
    free(c);
}
END_TEST

static double entry(const json_t *rows, size_t i, size_t j) {
    return json_number_value(json_array_get(json_array_get(rows, i), j));
}

/* One line of the data: sizes, the frame's promise about u, the data box. Gives back its transitions. */
static size_t check_line(const char *line, size_t len, const esp_push_data *data, int *moved) {
    json_t *episode = json_loadb(line, len, JSON_REJECT_DUPLICATES, NULL);
    ck_assert_ptr_nonnull(episode);
    const json_t *y = json_object_get(episode, "y"), *u = json_object_get(episode, "u");
    size_t steps = json_array_size(u);
    ck_assert_uint_eq(json_array_size(y), steps + 1);
    for (size_t t = 0; t < steps; t++) {
        ck_assert_uint_eq(json_array_size(json_array_get(y, t)), ESP_PUSH_NY);
        double step = 0.0;
        for (size_t k = 0; k < ESP_PUSH_NK; k++) {
            double world = entry(y, t + 1, k) - entry(y, t, k), relative = entry(y, t + 1, k + ESP_PUSH_NK) - entry(y, t, k + ESP_PUSH_NK);
            ck_assert_double_eq_tol(relative, world - entry(u, t, k % 2), 1e-5);
            step = fmax(step, fabs(world));
        }
        *moved += step > 1e-4;
        for (size_t k = 0; k < ESP_PUSH_NX; k++) {
            double x = k < ESP_PUSH_NY ? entry(y, t, k) : entry(u, t, k - ESP_PUSH_NY);
            ck_assert_double_ge(x, data->lower[k] - 1e-5);
            ck_assert_double_le(x, data->upper[k] + 1e-5);
        }
    }
    json_decref(episode);
    return steps;
}

START_TEST(data__transitions_are_as_promised) {
    esp_push_data data;
    char *text = generate(2010, 1, &data);
    size_t transitions = 0;
    int lines = 0, moved = 0;
    for (char *line = text, *end; (end = strchr(line, '\n')) != NULL; line = end + 1, lines++)
        transitions += check_line(line, (size_t)(end - line), &data, &moved);
    ck_assert_uint_eq(transitions, 2010);
    ck_assert_int_eq(data.transitions, 2010);
    ck_assert_int_eq(lines, data.episodes);
    ck_assert_int_eq(data.n_samples, ESP_PUSH_SAMPLES);
    ck_assert_int_ge(moved, 2010 * 4 / 10);
    ck_assert_int_ge(data.touching, moved);
    ck_assert_int_le(data.touching, 2010 * 9 / 10); /* free motion is in it too */
    free(text);
}
END_TEST

START_TEST(episodes__are_drawn_by_number_alone) {
    esp_push_episode *a = malloc(sizeof *a), *b = malloc(sizeof *b);
    esp_push_draw_episode(3, _i, a);
    esp_push_draw_episode(3, _i, b);
    ck_assert_mem_eq(a, b, sizeof *a);
    esp_push_draw_episode(3, _i + 1, b);
    ck_assert(fabs(a->start.x - b->start.x) > 1e-9);
    ck_assert(a->start.x >= 2.3 && a->start.x <= 2.7 && a->goal.y >= 2.5 && a->goal.y <= 3.0 && a->pusher[1] >= 1.0 && a->pusher[1] <= 1.1);
    ck_assert_double_gt(esp_push_distance(a->start, a->pusher[0], a->pusher[1]), ESP_PUSH_RADIUS);
    double y[ESP_PUSH_NK];
    esp_push_corners(a->goal, y);
    ck_assert_double_eq_tol(esp_push_error(y, a->goal), 0.0, 1e-15);
    for (int k = 0; k < ESP_PUSH_NK; k += 2) {
        y[k] += 0.3;
        y[k + 1] -= 0.4;
    }
    ck_assert_double_eq_tol(esp_push_error(y, a->goal), 0.5, 1e-12);
    free(a);
    free(b);
}
END_TEST

/* ---- report ------------------------------------------------------------------------------------------------------ */

START_TEST(stats__quantiles) {
    const double values[] = {4, 1, 3, 2, 10};
    ck_assert_double_eq_tol(esp_stats_quantile(values, 5, 0.5), 3.0, 1e-15);
    ck_assert_double_eq_tol(esp_stats_quantile(values, 5, 0.25), 2.0, 1e-15);
    ck_assert_double_eq_tol(esp_stats_quantile(values, 5, 0.9), 7.6, 1e-12);
    ck_assert_double_eq_tol(esp_stats_quantile(values, 5, 1.0), 10.0, 1e-15);
    ck_assert_double_eq_tol(esp_stats_mean(values, 5), 4.0, 1e-15);
    ck_assert(isnan(esp_stats_quantile(values, 0, 0.5)));
}
END_TEST

/* The oracle tries every sign pattern; ranks by counting, so nothing is shared with the convolution. */
static double p_by_enumeration(const double *d, int n) {
    double rank[16], total = 0.0, positive = 0.0;
    for (int i = 0; i < n; i++) {
        rank[i] = 0.5;
        for (int j = 0; j < n; j++) rank[i] += fabs(d[j]) < fabs(d[i]) ? 1.0 : fabs(d[j]) > fabs(d[i]) ? 0.0 : 0.5;
        total += rank[i];
        if (d[i] > 0) positive += rank[i];
    }
    double centre = total / 2, seen = fabs(positive - centre);
    int as_far = 0;
    for (int pattern = 0; pattern < 1 << n; pattern++) {
        double sum = 0.0;
        for (int i = 0; i < n; i++) sum += (pattern >> i & 1) * rank[i];
        as_far += fabs(sum - centre) >= seen - 1e-9;
    }
    return as_far / (double)(1 << n);
}

START_TEST(stats__signed_rank_is_exact) {
    double a[12], b[12], d[12];
    esp_dice dice;
    esp_dice_init(&dice, 11, (uint64_t)_i);
    for (int i = 0; i < 12; i++) {
        a[i] = floor(esp_dice_range(&dice, 0, 9)); /* whole numbers: equal ranks happen */
        b[i] = a[i] + floor(esp_dice_range(&dice, 1, 6)) * (esp_dice_range(&dice, 0, 1) < 0.7 ? 1 : -1);
        d[i] = a[i] - b[i];
    }
    esp_paired paired = esp_stats_paired(a, b, 12, 0.0);
    ck_assert_double_eq_tol(paired.p_value, fmin(1.0, p_by_enumeration(d, 12)), 1e-12);
    ck_assert_int_eq(paired.a_better + paired.b_better, 12);
}
END_TEST

START_TEST(stats__ties_say_nothing) {
    const double a[] = {1, 2, 3}, b[] = {1.001, 1.999, 3};
    esp_paired paired = esp_stats_paired(a, b, 3, 0.01);
    ck_assert_int_eq(paired.a_better + paired.b_better, 0);
    ck_assert_double_eq_tol(paired.p_value, 1.0, 1e-15);
}
END_TEST

static char *print_table(const esp_table *table, bool markdown) {
    char *text = NULL;
    size_t len = 0;
    FILE *out = open_memstream(&text, &len);
    if (markdown)
        esp_table_markdown(table, out);
    else
        esp_table_print(table, out);
    fclose(out);
    return text;
}

START_TEST(table__is_aligned) {
    esp_table *table = malloc(sizeof *table);
    esp_table_init(table);
    esp_table_column(table, "name", 'l');
    esp_table_column(table, "n", 'r');
    int row = esp_table_row(table);
    esp_table_set(table, row, 0, "%s", "x");
    esp_table_set(table, row, 1, "%d", 125);
    esp_table_set(table, row, 2, "no such column");
    char *plain = print_table(table, false), *markdown = print_table(table, true);
    ck_assert_str_eq(plain, "name    n\n----  ---\nx     125\n");
    ck_assert_str_eq(markdown, "| name |   n |\n|:--|--:|\n| x    | 125 |\n");
    free(plain);
    free(markdown);
    free(table);
}
END_TEST

START_TEST(svg__axes_and_escapes) {
    esp_axis x = {.from = 10, .to = 1000, .logarithmic = true, .start = 50, .length = 200}, y = {.from = 0, .to = 10, .start = 300, .length = -100};
    ck_assert_double_eq_tol(esp_axis_map(&x, 100), 150, 1e-9);
    ck_assert_double_eq_tol(esp_axis_map(&y, 2.5), 275, 1e-9);
    ck_assert_double_eq_tol(esp_axis_step(&y, 5), 2.0, 1e-12);
    esp_svg svg = {.clips = 0};
    char *text = NULL;
    size_t len = 0;
    svg.out = open_memstream(&text, &len);
    esp_svg_text(&svg, 1, 2, 12, "end", "#000", "%s", "a<b & c");
    ck_assert(esp_svg_close(&svg));
    ck_assert_ptr_nonnull(strstr(text, ">a&lt;b &amp; c</text>"));
    free(text);
    ck_assert(!esp_svg_open("/nonexistent/picture.svg", 1, 1, &svg));
}
END_TEST

int main(void) {
    Suite *suite = suite_create("pushing");
    TCase *world = tcase_create("world"), *data = tcase_create("data"), *report = tcase_create("report");
    tcase_add_loop_test(world, pushing__same_calls_give_the_same_bits, 0, 5);
    tcase_add_test(world, pushing__pusher_moves_by_u_and_no_more);
    tcase_add_test(world, pushing__box_moves_only_on_contact);
    tcase_add_test(world, pushing__push_through_the_centre_goes_straight);
    tcase_add_test(world, pushing__push_off_the_centre_turns_the_box);
    tcase_add_loop_test(world, pushing__keypoints_stay_rigid, 0, 3);
    tcase_add_test(world, pushing__distance_to_the_box);
    tcase_add_test(data, data__same_seed_same_bytes);
    tcase_add_test(data, data__transitions_are_as_promised);
    tcase_add_loop_test(data, episodes__are_drawn_by_number_alone, 0, 20);
    tcase_add_test(report, stats__quantiles);
    tcase_add_loop_test(report, stats__signed_rank_is_exact, 0, 10);
    tcase_add_test(report, stats__ties_say_nothing);
    tcase_add_test(report, table__is_aligned);
    tcase_add_test(report, svg__axes_and_escapes);
    suite_add_tcase(suite, world);
    suite_add_tcase(suite, data);
    suite_add_tcase(suite, report);
    return run_suite(suite);
}
