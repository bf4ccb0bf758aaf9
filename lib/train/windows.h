/* SPDX-License-Identifier: Apache-2.0
 * A dataset as training sees it: one row per transition that has its history, in normalised units, and the frame in
 * the same units.
 *
 * The essay. With Y the stacked history of outputs and U of inputs, the model is y+ = A Y + B U + G f(C Y + D U).
 * For a transition of the data let
 *     v = C Y + D U            what the network reads
 *     t = y+ - A Y - B U       what the frame leaves to it
 * Both are fixed before training. A rollout starts from the data and goes on from its own predictions; write e for
 * predicted minus recorded output (0 in the starting history) and E for its stack. Since everything but f is linear,
 *     e+ = A E + G f(v + C E) - t.
 * So a rollout of any length, frame and history needs no raw outputs at all, only consecutive rows of v and t: the
 * one-step loss is the case E = 0. It also keeps float precise where outputs are large and their changes small.
 *
 * Units: v is centred and scaled per column by the training rows (an input that never varies has scale 1); e and t are
 * divided by s, the standard deviation of t; the network's raw output o stands for f = S o + m, with m and S mean and
 * deviation of the least-squares targets G^+ t. In these units, with the constant part of f moved into t,
 *     e+ = a E + g o - t,    net input = v + c E,    loss = mean of e^2.
 * An output whose t never varies has s = that of the others, so that the loss still holds it still; a network
 * output whose least-squares target never varies has S = 0 and is exact. */
#ifndef ESP_TRAIN_WINDOWS_H
#define ESP_TRAIN_WINDOWS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "data/dataset.h"
#include "train/train.h"

typedef struct esp_windows {
    int ny, history, steps; /* steps of a rollout */
    int n_in, n_out; /* of the network */
    size_t n_rows, n_train_rows; /* rows 0 .. n_train_rows-1 train; with one trajectory all rows are both */
    size_t validation_begin; /* rows validation_begin .. n_rows-1 validate */
    float *features; /* n_rows x n_in: v; ESP_VECTOR more floats may be read behind the last row (train/product.h) */
    float *targets; /* n_rows x ny: t; likewise */
    size_t n_starts;
    size_t *starts; /* training rows with steps - 1 more rows of their trajectory behind them */
    size_t n_checks;
    size_t *checks; /* the same of validation rows; the training ones' again when no validation trajectory is long enough */
    float *a; /* ny x history * ny */
    float *c; /* n_in x history * ny */
    float *g; /* ny x n_out */
    float *live; /* n_in: 1, or 0 for an input that never varies */
    float *reach; /* n_in: root mean square of what an input moves in opts->reach steps of a training trajectory, or in as many as there are */
    double *in_mean, *in_scale; /* n_in */
    double *out_mean, *out_scale; /* n_out: m and S */
    double *y_scale; /* ny: s */
    size_t n_order, n_train; /* trajectories */
    size_t *order; /* n_order: training trajectories first */
} esp_windows;

/* Errors: INVALID when no training trajectory is long enough (says how long they are), NUMERIC when a scale is not
 * finite, NOMEM. */
ESP_MUST_CHECK esp_code esp_windows_create(const esp_dataset *dataset, const esp_train_opts *opts, esp_windows **ret_windows, esp_error *reterr);
void esp_windows_free(esp_windows *windows);

/* The model's input x = [Y, U] at transition t of the trajectory that begins at `row` (t >= history - 1). */
void esp_windows_x(const esp_dataset *dataset, int history, size_t row, size_t t, double *ret_x);

#endif
