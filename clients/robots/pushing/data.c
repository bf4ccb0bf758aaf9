/* SPDX-License-Identifier: Apache-2.0
 * Random transitions of the pushing world (data.h).
 *
 * Actions drawn blindly would touch the box in few transitions and teach nothing but that free motion moves nothing.
 * So each episode starts beside the box, and each step is one of three: aimed at a random point of the box (always
 * when the pusher has strayed), the previous action again with some noise (pushes last several steps), or any action. The
 * aim is at a random point, never at a goal: the data knows no task. */
#include "robots/pushing/data.h"

#include <math.h>

#include "robots/episodes.h"

#define TAU        6.283185307179586
#define STRAY      0.8 /* pusher further than this from the box's centre: it is sent back */
#define AIM_SHARE  0.35 /* of the other steps */
#define KEEP_SHARE 0.4

static double clip(double x) {
    return fmax(-ESP_PUSH_U_MAX, fmin(ESP_PUSH_U_MAX, x));
}

static void aim(esp_dice *dice, const double *y, double *ret_u) {
    /* a random point of the box: a mean of its corners, relative to the pusher, with random weights */
    double a = esp_dice_range(dice, 0.0, 1.0), b = esp_dice_range(dice, 0.0, 1.0), dx, dy, length;
    const double *rel = y + 2 * ESP_PUSH_KEYPOINTS;
    dx = rel[0] + a * (rel[2] - rel[0]) + b * (rel[6] - rel[0]);
    dy = rel[1] + a * (rel[3] - rel[1]) + b * (rel[7] - rel[1]);
    length = fmax(1e-6, hypot(dx, dy));
    double stride = esp_dice_range(dice, 0.05, 0.4);
    ret_u[0] = clip(stride * dx / length);
    ret_u[1] = clip(stride * dy / length);
}

void esp_push_explore(esp_dice *dice, const double *y, double *u) {
    const double *rel = y + 2 * ESP_PUSH_KEYPOINTS;
    double away = hypot((rel[0] + rel[4]) / 2, (rel[1] + rel[5]) / 2), kind = esp_dice_range(dice, 0.0, 1.0);
    if (away > STRAY || kind < AIM_SHARE) {
        aim(dice, y, u);
    } else if (kind < AIM_SHARE + KEEP_SHARE && (u[0] != 0.0 || u[1] != 0.0)) {
        for (int i = 0; i < ESP_PUSH_NU; i++) u[i] = clip(u[i] + esp_dice_range(dice, -0.1, 0.1));
    } else {
        for (int i = 0; i < ESP_PUSH_NU; i++) u[i] = esp_dice_range(dice, -ESP_PUSH_U_MAX, ESP_PUSH_U_MAX);
    }
}

void *esp_push_start(esp_dice *dice) {
    esp_pose box = {esp_dice_range(dice, 2.0, 3.0), esp_dice_range(dice, 2.0, 3.0), esp_dice_range(dice, 0.0, TAU)};
    for (;;) {
        double bearing = esp_dice_range(dice, 0.0, TAU), away = esp_dice_range(dice, ESP_PUSH_HALF, STRAY);
        double x = box.x + away * cos(bearing), y = box.y + away * sin(bearing);
        if (esp_push_distance(box, x, y) > ESP_PUSH_RADIUS) return esp_push_create(box, x, y);
    }
}

/* A transition for the data box, and for the samples when its turn has come. */
typedef struct notes {
    esp_push_data *data;
    int wanted;
} notes;

static void note(void *user, int at, const double *y, const double *u) {
    const notes *n = user;
    esp_push_data *data = n->data;
    bool sampled = data->n_samples < ESP_PUSH_SAMPLES && (int64_t)at * ESP_PUSH_SAMPLES >= (int64_t)data->n_samples * n->wanted;
    for (int i = 0; i < ESP_PUSH_NX; i++) {
        double x = i < ESP_PUSH_NY ? y[i] : u[i - ESP_PUSH_NY];
        data->lower[i] = fmin(data->lower[i], x);
        data->upper[i] = fmax(data->upper[i], x);
        if (sampled) data->sample[data->n_samples][i] = x;
    }
    data->n_samples += sampled;
}

bool esp_push_generate(FILE *out, int transitions, uint64_t seed, esp_push_data *ret_data) {
    esp_push_data data = {0};
    esp_episodes made;
    for (int i = 0; i < ESP_PUSH_NX; i++) {
        data.lower[i] = INFINITY;
        data.upper[i] = -INFINITY;
    }
    if (!esp_episodes_write(&esp_robot_pushing, out, transitions, 0, seed, note, &(notes){&data, transitions}, &made)) return false;
    data.episodes = made.episodes;
    data.transitions = made.transitions;
    data.touching = made.events;
    *ret_data = data;
    return true;
}
