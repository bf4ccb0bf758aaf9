/* SPDX-License-Identifier: Apache-2.0
 * A dataset as a graph network's training sees it: which transition each window begins with, the scales of features and
 * changes, and the linear dynamics of the shared numbers.
 *
 * Scales are pooled over objects and over the edges that there are, so that no object is told from another. A change of an
 * object's number is divided by its deviation s; the error of a prediction is in the same units. The shared numbers' change is
 * fitted by least squares to them, the inputs and 1 on the training rows, and rounded to about nine digits, so that what is exact in the
 * data (a pusher that moves as it is told) is exact in the model. */
#ifndef ESP_TRAIN_GRAPH_DATA_H
#define ESP_TRAIN_GRAPH_DATA_H

#include "data/dataset.h"
#include "train/train.h"
#include "train/windows.h"

typedef struct esp_graph_data {
    const esp_dataset *dataset; /* borrowed */
    const esp_graph_layout *layout; /* borrowed */
    int n_v, n_w; /* features of an object, of an edge */
    size_t n_rows;
    size_t *at; /* n_rows: the observation that row r of the windows begins with, as a row of dataset->y and ->u */
    double *v_mean, *v_scale, *w_mean, *w_scale; /* n_v, n_w; the scale of a feature that never varies is 1 */
    float *v_live, *w_live; /* 1, or 0 for one that never varies */
    double *out_mean, *out_scale; /* size: of an object's changes */
    double *shared; /* a, b and c of net/graph.h, behind each other */
    double *scale; /* ny: the unit of an error in each column */
    double *moved; /* n_rows x ny: the y after each row, where a teacher moves it (train/graph_start.h); NULL: as recorded */
} esp_graph_data;

/* Rows are those of the windows. Errors: INVALID when no two objects ever have an edge, NUMERIC, NOMEM. */
ESP_MUST_CHECK esp_code esp_graph_data_create(const esp_dataset *dataset, const esp_windows *windows, const esp_graph_layout *layout,
                                              esp_graph_data **ret_data, esp_error *reterr);
void esp_graph_data_free(esp_graph_data *data);

/* [y, u] of row r, and the y after it, which training aims at. */
void esp_graph_data_x(const esp_graph_data *data, size_t r, double *ret_x);
static inline const double *esp_graph_data_next(const esp_graph_data *data, size_t r) {
    return data->moved ? data->moved + r * (size_t)data->dataset->ny : data->dataset->y + (data->at[r] + 1) * (size_t)data->dataset->ny;
}

#endif
