/* SPDX-License-Identifier: Apache-2.0
 * Trajectories of a robot: read as a stream, held in memory, split and windowed for training.
 *
 * A dataset is a list of trajectories; trajectory i has T_i + 1 observations of ny numbers and T_i actions of nu (nu
 * may be 0), T_i >= 1. The stored form is the uploaded bytes themselves (NDJSON or CSV, API.md, Data).
 *
 * Reading is a push parser: create, feed bytes as they come, finish. Memory is one line plus, when the rows are kept,
 * the rows. Every error names its line. */
#ifndef ESP_DATA_DATASET_H
#define ESP_DATA_DATASET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/error.h"

#define ESP_MAX_WIDTH_Y     1024
#define ESP_MAX_WIDTH_U     1024
#define ESP_MAX_LINE_BYTES  (16u << 20)
#define ESP_MAX_LINE_VALUES (1u << 20) /* commas in a line of NDJSON: the parsed tree takes some 170 bytes for each */

typedef enum esp_data_format { ESP_DATA_NDJSON, ESP_DATA_CSV } esp_data_format;

/* Rows of all trajectories one after another; trajectory i is rows start[i] .. start[i+1]-1, its last row has no action. */
typedef struct esp_dataset {
    int ny, nu;
    size_t n_trajectories, n_transitions, n_rows; /* n_rows = n_transitions + n_trajectories */
    size_t *start; /* n_trajectories + 1 */
    double *y; /* n_rows x ny */
    double *u; /* n_rows x nu; 0 in the last row of each trajectory; NULL when nu = 0 */
} esp_dataset;

void esp_dataset_free(esp_dataset *dataset);

typedef struct esp_ingest esp_ingest;
/* keep: hold the rows for esp_ingest_take; otherwise only check and count. */
ESP_MUST_CHECK esp_code esp_ingest_create(esp_data_format format, bool keep, esp_ingest **ret_ingest, esp_error *reterr);
void esp_ingest_free(esp_ingest *ingest);
/* Errors: INVALID with pointer "line N", TOO_LARGE for a line over a cap, NOMEM. No feeding after an error. */
ESP_MUST_CHECK esp_code esp_ingest_feed(esp_ingest *ingest, const char *bytes, size_t len, esp_error *reterr);
/* End of input: a last line without its newline is still a line; no trajectory at all is an error. */
ESP_MUST_CHECK esp_code esp_ingest_finish(esp_ingest *ingest, esp_error *reterr);
/* Counts so far (the arrays are not for reading); borrowed. */
const esp_dataset *esp_ingest_counts(const esp_ingest *ingest);
/* Ownership moves, once, after finish, with keep; NULL when memory is out. */
esp_dataset *esp_ingest_take(esp_ingest *ingest);

/* Reads a stored file whole. */
ESP_MUST_CHECK esp_code esp_dataset_load(const char *path, esp_data_format format, esp_dataset **ret_dataset, esp_error *reterr);
/* The same with a look after each piece of the file: a pulse that fails stops it with its error. `fraction` is of the file. */
typedef esp_code esp_load_pulse(void *user, double fraction, esp_error *reterr);
ESP_MUST_CHECK esp_code esp_dataset_load_watched(const char *path, esp_data_format format, esp_load_pulse *pulse, void *user,
                                                 esp_dataset **ret_dataset, esp_error *reterr);
/* One trajectory as a line of NDJSON (with its newline) or as rows of CSV (header when index is 0). */
void esp_dataset_format(const esp_dataset *dataset, size_t index, esp_data_format format, esp_buf *ret_text);

/* Seeded split by trajectory: order[0 .. n_train-1] train, the rest validation; at least one each when there are two.
 * A single trajectory has nothing to spare: n_train is 1 and the caller validates on it too. order has n_trajectories
 * entries. */
void esp_dataset_split(const esp_dataset *dataset, double validation_share, uint64_t seed, size_t *ret_order, size_t *ret_n_train);

/* Per-column minimum and maximum of x = [Y, U] over every window of the dataset (the data box); each n_x =
 * history * (ny + nu). Errors: INVALID when no trajectory is as long as the history. */
ESP_MUST_CHECK esp_code esp_dataset_box(const esp_dataset *dataset, int history, double *ret_lower, double *ret_upper, esp_error *reterr);

#endif
