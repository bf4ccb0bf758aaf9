/* SPDX-License-Identifier: Apache-2.0
 * Inside of the reader of trajectories: what the two formats share. Private to lib/data. */
#ifndef ESP_DATA_INGEST_H
#define ESP_DATA_INGEST_H

#include <locale.h>

#include "data/dataset.h"

/* The trajectory that CSV rows are adding to. */
typedef struct esp_csv {
    bool header, open, ended; /* header read; a trajectory has begun; its last row (no inputs) has come */
    uint64_t trajectory;
    size_t steps, line; /* rows so far; line of the newest */
} esp_csv;

struct esp_ingest {
    esp_data_format format;
    bool keep, failed, finished;
    esp_buf line; /* the start of a line whose end has not come yet */
    size_t line_number; /* of the line being read, from 1 */
    esp_dataset data;
    size_t cap_rows, cap_trajectories;
    size_t first_row; /* of the trajectory being read */
    double *y, *u; /* the row being read: ny, nu */
    locale_t locale; /* "C": a number must not depend on the process's locale */
    esp_csv csv;
};

/* One line without its end; line[len] is '\r', '\n' or NUL. The error's pointer is the caller's to set. */
ESP_MUST_CHECK esp_code esp_ndjson_line(esp_ingest *ingest, const char *line, size_t len, esp_error *reterr);
ESP_MUST_CHECK esp_code esp_csv_line(esp_ingest *ingest, const char *line, size_t len, esp_error *reterr);
/* End of the rows: the last trajectory is whole. */
ESP_MUST_CHECK esp_code esp_csv_finish(esp_ingest *ingest, esp_error *reterr);

/* The widths, known once. */
ESP_MUST_CHECK esp_code esp_ingest_shape(esp_ingest *ingest, size_t ny, size_t nu, esp_error *reterr);
/* The row in ingest->y and ->u is complete; `last`: it has no inputs. */
ESP_MUST_CHECK esp_code esp_ingest_row(esp_ingest *ingest, bool last, esp_error *reterr);
/* The rows since the last call are one trajectory. */
ESP_MUST_CHECK esp_code esp_ingest_trajectory(esp_ingest *ingest, esp_error *reterr);
/* INVALID that names a line. */
esp_code esp_ingest_refuse(size_t line, esp_error *reterr, const char *format, ...) __attribute__((format(printf, 3, 4)));
/* TOO_LARGE that names a line. */
esp_code esp_ingest_too_large(size_t line, esp_error *reterr, const char *what, unsigned cap);

#endif
