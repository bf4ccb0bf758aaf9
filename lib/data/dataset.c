/* SPDX-License-Identifier: Apache-2.0
 * Datasets in memory: load, print, split, box. Reading is ingest.c. */
#include "data/dataset.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/json.h"
#include "base/rng.h"

#define SPLIT_STREAM 0x5b117 /* this purpose's own random numbers, whatever else the seed is used for */

void esp_dataset_free(esp_dataset *dataset) {
    if (!dataset) return;
    free(dataset->start);
    free(dataset->y);
    free(dataset->u);
    free(dataset);
}

static esp_code feed_file(int fd, const char *path, esp_ingest *ingest, esp_load_pulse *pulse, void *user, esp_error *reterr) {
    char chunk[65536];
    struct stat info;
    double size = fstat(fd, &info) == 0 ? (double)info.st_size : 0, fed = 0;
    for (;;) {
        ssize_t got = read(fd, chunk, sizeof chunk);
        if (got < 0 && errno == EINTR) continue;
        if (got < 0) return esp_fail_errno(reterr, ESP_IO, "read %s", path);
        if (got == 0) return esp_ingest_finish(ingest, reterr);
        esp_code code = esp_ingest_feed(ingest, chunk, (size_t)got, reterr);
        fed += (double)got;
        if (code == ESP_OK && pulse) code = pulse(user, fed < size ? fed / size : 1, reterr);
        if (code != ESP_OK) return code;
    }
}

esp_code esp_dataset_load(const char *path, esp_data_format format, esp_dataset **ret_dataset, esp_error *reterr) {
    return esp_dataset_load_watched(path, format, NULL, NULL, ret_dataset, reterr);
}

esp_code esp_dataset_load_watched(const char *path, esp_data_format format, esp_load_pulse *pulse, void *user, esp_dataset **ret_dataset,
                                  esp_error *reterr) {
    esp_ingest *ingest = NULL;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return esp_fail_errno(reterr, errno == ENOENT ? ESP_NOT_FOUND : ESP_IO, "open %s", path);
    esp_code code = esp_ingest_create(format, true, &ingest, reterr);
    if (code == ESP_OK) code = feed_file(fd, path, ingest, pulse, user, reterr);
    if (code == ESP_OK) {
        esp_dataset *dataset = esp_ingest_take(ingest);
        if (dataset)
            *ret_dataset = dataset;
        else
            code = esp_fail(reterr, ESP_NOMEM, "load %s", path);
    }
    esp_ingest_free(ingest);
    (void)close(fd);
    return code;
}

static void format_ndjson(const esp_dataset *dataset, size_t first, size_t rows, esp_buf *out) {
    size_t ny = (size_t)dataset->ny, nu = (size_t)dataset->nu;
    esp_jsonw w = esp_jsonw_on(out);
    esp_jsonw_object(&w, NULL);
    esp_jsonw_matrix(&w, "y", dataset->y + first * ny, rows, ny);
    if (nu) esp_jsonw_matrix(&w, "u", dataset->u + first * nu, rows - 1, nu);
    esp_jsonw_object_end(&w);
    esp_buf_put(out, "\n", 1);
}

static void put_cells(const double *values, size_t n, esp_buf *out) {
    char text[32];
    for (size_t j = 0; j < n; j++) {
        esp_buf_put(out, ",", 1);
        if (values) esp_buf_put(out, text, esp_format_number(values[j], text));
    }
}

static void format_csv(const esp_dataset *dataset, size_t index, size_t first, size_t rows, esp_buf *out) {
    size_t ny = (size_t)dataset->ny, nu = (size_t)dataset->nu;
    if (index == 0) {
        esp_buf_puts(out, "trajectory,step");
        for (size_t j = 0; j < ny; j++) esp_buf_printf(out, ",y%zu", j);
        for (size_t j = 0; j < nu; j++) esp_buf_printf(out, ",u%zu", j);
        esp_buf_put(out, "\n", 1);
    }
    for (size_t t = 0; t < rows; t++) {
        esp_buf_printf(out, "%zu,%zu", index, t);
        put_cells(dataset->y + (first + t) * ny, ny, out);
        put_cells(nu && t + 1 < rows ? dataset->u + (first + t) * nu : NULL, nu, out);
        esp_buf_put(out, "\n", 1);
    }
}

void esp_dataset_format(const esp_dataset *dataset, size_t index, esp_data_format format, esp_buf *ret_text) {
    assert(index < dataset->n_trajectories);
    size_t first = dataset->start[index], rows = dataset->start[index + 1] - first;
    if (format == ESP_DATA_CSV)
        format_csv(dataset, index, first, rows, ret_text);
    else
        format_ndjson(dataset, first, rows, ret_text);
}

void esp_dataset_split(const esp_dataset *dataset, double validation_share, uint64_t seed, size_t *ret_order, size_t *ret_n_train) {
    assert(dataset->n_trajectories >= 1 && validation_share >= 0 && validation_share <= 1);
    size_t n = dataset->n_trajectories, n_validation = (size_t)(validation_share * (double)n + 0.5);
    esp_rng rng;
    esp_rng_init(&rng, seed, SPLIT_STREAM);
    for (size_t i = 0; i < n; i++) ret_order[i] = i;
    esp_rng_shuffle(&rng, ret_order, n);
    if (n_validation < 1) n_validation = 1;
    if (n_validation > n - 1) n_validation = n - 1;
    *ret_n_train = n - n_validation;
}

/* Widens [lower, upper] (cols each) by the rows first .. last of values. */
static void widen(const double *values, size_t first, size_t last, size_t cols, double *lower, double *upper) {
    for (size_t i = first; i <= last; i++)
        for (size_t j = 0; j < cols; j++) {
            double value = values[i * cols + j];
            if (value < lower[j]) lower[j] = value;
            if (value > upper[j]) upper[j] = value;
        }
}

esp_code esp_dataset_box(const esp_dataset *dataset, int history, double *ret_lower, double *ret_upper, esp_error *reterr) {
    assert(history >= 1);
    size_t h = (size_t)history, ny = (size_t)dataset->ny, nu = (size_t)dataset->nu, n_x = h * (ny + nu), longest = 0;
    for (size_t i = 0; i < dataset->n_trajectories; i++) {
        size_t steps = dataset->start[i + 1] - dataset->start[i] - 1;
        if (steps > longest) longest = steps;
    }
    if (longest < h) return esp_fail(reterr, ESP_INVALID, "history %d, but the longest trajectory has %zu transitions", history, longest);
    for (size_t j = 0; j < n_x; j++) {
        ret_lower[j] = INFINITY;
        ret_upper[j] = -INFINITY;
    }
    for (size_t i = 0; i < dataset->n_trajectories; i++) {
        size_t first = dataset->start[i], steps = dataset->start[i + 1] - first - 1;
        if (steps < h) continue;
        for (size_t k = 0; k < h; k++) { /* windows end at steps h-1 .. steps-1, so lag k runs over k .. steps-h+k */
            size_t from = first + k, to = first + steps - h + k;
            widen(dataset->y, from, to, ny, ret_lower + k * ny, ret_upper + k * ny);
            if (nu) widen(dataset->u, from, to, nu, ret_lower + h * ny + k * nu, ret_upper + h * ny + k * nu);
        }
    }
    return ESP_OK;
}
