/* SPDX-License-Identifier: Apache-2.0
 * Episodes of random actions (episodes.h). Each has dice of its own, so that it does not depend on those before it. */
#include "robots/episodes.h"

#include <stdlib.h>

static void write_row(FILE *out, const char *before, const double *row, int width) {
    fputs(before, out);
    for (int j = 0; j < width; j++) fprintf(out, "%s%.7g", j > 0 ? "," : "", row[j]);
    fputc(']', out);
}

static void write_rows(FILE *out, const double *rows, int n_rows, int width) {
    for (int i = 0; i < n_rows; i++) write_row(out, i > 0 ? ",[" : "[", rows + i * width, width);
}

/* y: (steps + 1) x ny, u: steps x nu. */
static bool run_episode(const esp_robot *robot, FILE *out, int steps, esp_dice *dice, double *y, double *u, int *events) {
    double action[ESP_ROBOT_U_MAX] = {0.0};
    void *world = robot->start(dice);
    if (world == NULL) return false;
    robot->observe(world, y);
    for (int t = 0; t < steps; t++) {
        robot->explore(dice, y + t * robot->ny, action);
        for (int i = 0; i < robot->nu; i++) u[t * robot->nu + i] = action[i];
        *events += robot->step(world, action);
        robot->observe(world, y + (t + 1) * robot->ny);
    }
    robot->free(world);
    fputs("{\"y\":[", out);
    write_rows(out, y, steps + 1, robot->ny);
    fputs("],\"u\":[", out);
    write_rows(out, u, steps, robot->nu);
    fputs("]}\n", out);
    return true;
}

bool esp_episodes_write(const esp_robot *robot, FILE *out, int transitions, int steps, uint64_t seed, esp_episodes_see *see, void *user,
                        esp_episodes *ret_made) {
    esp_episodes made = {0};
    if (steps <= 0) steps = robot->steps;
    double *rows = calloc((size_t)(steps + 1) * (size_t)(robot->ny + robot->nu), sizeof *rows), *u = rows + (steps + 1) * robot->ny;
    bool good = rows != NULL;
    while (good && made.transitions < transitions) {
        int left = transitions - made.transitions, n = left < steps ? left : steps;
        esp_dice dice;
        esp_dice_init(&dice, seed, (uint64_t)made.episodes);
        good = run_episode(robot, out, n, &dice, rows, u, &made.events);
        for (int t = 0; good && see != NULL && t < n; t++) see(user, made.transitions + t, rows + t * robot->ny, u + t * robot->nu);
        made.episodes++;
        made.transitions += n;
    }
    free(rows);
    if (!good || fflush(out) != 0 || ferror(out)) return false;
    *ret_made = made;
    return true;
}
