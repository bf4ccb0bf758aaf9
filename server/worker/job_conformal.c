/* SPDX-License-Identifier: Apache-2.0
 * The certify job of kind conformal: how large a model's prediction error is on held-out trajectories, with coverage.
 *
 * One score a trajectory. From each trajectory that is long enough a window is drawn at random: `history` true observations, then
 * `horizon` steps with the recorded actions, the model's outputs fed back; its score at step k is |predicted - recorded| in the
 * norm, its score over the horizon the largest of these. Trajectories drawn alike are exchangeable, so then are their
 * scores, and certify/conformal.h applies without a word about what happens within a trajectory. All windows of a
 * trajectory would give more numbers and no such statement. Trajectories too short for a window are left out: the claim
 * is about those that are long enough.
 *
 * Rows: one_step (the quantile at step 1) and multi_step (of the largest error over the horizon, so that it holds at all
 * steps at once); the record has the quantile of every step by itself too. */
#include "certify/conformal.h"

#include <math.h>
#include <string.h>

#include "base/rng.h"
#include "certify/norms.h"
#include "data/dataset.h"
#include "worker/certify_kinds.h"

typedef struct conformal_job {
    const esp_reader *payload;
    worker_model *model;
    const esp_program *program;
    const esp_dataset *data;
    double coverage, seconds;
    int horizon;
    esp_norm norm;
    uint64_t seed;
    size_t n; /* trajectories with a score */
    double *scores; /* (horizon + 1) x n: step by step, then the largest */
    double *quantiles; /* horizon + 1 */
    double *x, *y, *difference, *work;
} conformal_job;

static esp_code read_spec(worker *w, conformal_job *job, esp_dataset **ret_data, esp_error *reterr) {
    esp_reader spec = esp_read_member(job->payload, "spec"), model = esp_read_member(job->payload, "model");
    esp_reader dataset = esp_read_member(job->payload, "dataset"), member = esp_read_member(&spec, "norm");
    int norm = ESP_NORM_2;
    int64_t seed = 1;
    esp_code code = worker_model_get(w, &model, &job->model, reterr);
    if (!code) code = worker_model_program(job->model, &job->program, reterr);
    if (!code) code = esp_read_choice(&member, esp_norm_names, &norm, reterr);
    member = esp_read_member(&spec, "coverage");
    if (!code) code = esp_read_number(&member, 0, 1, &job->coverage, reterr);
    member = esp_read_member(&spec, "horizon");
    if (!code) code = esp_read_int(&member, 1, 1000, &job->horizon, reterr);
    member = esp_read_member(&spec, "seed");
    if (!code) code = esp_read_integer(&member, 0, INT64_MAX / 2, &seed, reterr);
    job->norm = (esp_norm)norm;
    job->seed = (uint64_t)seed;
    return code ? code : worker_dataset_load(w, &dataset, ret_data, reterr);
}

/* Presents that a window of trajectory t can begin at: how many, and the first row. */
static size_t count_windows(const conformal_job *job, size_t t, size_t *ret_first) {
    size_t history = (size_t)job->model->model->history, rows = job->data->start[t + 1] - job->data->start[t], need = history + (size_t)job->horizon;
    *ret_first = job->data->start[t] + history - 1;
    return rows >= need ? rows - need + 1 : 0;
}

static esp_code prepare(conformal_job *job, esp_arena *arena, esp_error *reterr) {
    const esp_model *m = job->model->model;
    size_t first = 0, h = (size_t)job->horizon, least = esp_conformal_least(job->coverage);
    for (size_t t = 0; t < job->data->n_trajectories; t++) job->n += count_windows(job, t, &first) > 0;
    if (job->n < least)
        return esp_fail_at(reterr, ESP_UNPROCESSABLE, "/spec/horizon",
                           "%zu trajectories are as long as the history and the horizon together; a coverage of %g takes %zu", job->n, job->coverage,
                           least);
    job->scores = ESP_NEW(arena, double, (h + 1) * job->n);
    job->quantiles = ESP_NEW(arena, double, h + 1);
    job->x = ESP_NEW(arena, double, job->program->n_x);
    job->y = ESP_NEW(arena, double, m->ny);
    job->difference = ESP_NEW(arena, double, m->ny);
    job->work = ESP_NEW(arena, double, job->program->n_r + 1);
    bool made = job->scores && job->quantiles && job->x && job->y && job->difference && job->work;
    return made ? ESP_OK : esp_fail(reterr, ESP_NOMEM, "no memory for %zu scores", job->n);
}

static double error_at(const conformal_job *job, size_t row) {
    size_t ny = (size_t)job->model->model->ny;
    double largest = 0;
    for (size_t i = 0; i < ny; i++) {
        job->difference[i] = job->y[i] - job->data->y[row * ny + i];
        largest = fmax(largest, fabs(job->difference[i]));
    }
    return job->norm == ESP_NORM_INF ? largest : esp_norm2_up(ny, job->difference);
}

/* The scores of one window, its present at `row`. */
static void score(conformal_job *job, size_t row, size_t index) {
    const esp_model *m = job->model->model;
    size_t history = (size_t)m->history, ny = (size_t)m->ny, nu = (size_t)m->nu, n_y = history * ny, n = job->n;
    double *largest = &job->scores[(size_t)job->horizon * n + index];
    memcpy(job->x, job->data->y + (row + 1 - history) * ny, n_y * sizeof *job->x);
    *largest = 0;
    for (size_t k = 0; k < (size_t)job->horizon; k++) {
        if (nu) memcpy(job->x + n_y, job->data->u + (row + k + 1 - history) * nu, history * nu * sizeof *job->x);
        esp_program_forward(job->program, job->x, job->y, NULL, NULL, job->work);
        memmove(job->x, job->x + ny, (n_y - ny) * sizeof *job->x);
        memcpy(job->x + n_y - ny, job->y, ny * sizeof *job->x);
        double error = error_at(job, row + k + 1);
        job->scores[k * n + index] = isnan(error) ? HUGE_VAL : error;
        *largest = fmax(*largest, job->scores[k * n + index]);
    }
}

static esp_code run(worker *w, conformal_job *job, esp_error *reterr) {
    esp_rng rng;
    size_t index = 0;
    esp_code code = ESP_OK;
    esp_rng_init(&rng, job->seed, 0);
    for (size_t t = 0; !code && t < job->data->n_trajectories; t++) {
        size_t first = 0, windows = count_windows(job, t, &first);
        if (!windows) continue;
        if (worker_cancelled(w)) code = esp_fail(reterr, ESP_CANCELLED, "cancelled");
        score(job, first + esp_rng_below(&rng, windows), index++);
    }
    for (size_t k = 0; !code && k <= (size_t)job->horizon; k++)
        code = esp_conformal_quantile(job->scores + k * job->n, job->n, job->coverage, &job->quantiles[k], reterr);
    if (!code && !isfinite(job->quantiles[job->horizon]))
        code = esp_fail(reterr, ESP_UNPROCESSABLE, "the predictions do not stay finite over the horizon");
    return code;
}

static esp_code put_row(const conformal_job *job, const char *kind, double value, bool every_step, esp_jsonw *json, esp_error *reterr) {
    const esp_certificate row = {.kind = kind,
                                 .method = "conformal",
                                 .norm = job->norm,
                                 .value = value,
                                 .strength = ESP_STATISTICAL,
                                 .status = "sampled",
                                 .seconds = job->seconds};
    const char *dataset = NULL;
    esp_reader spec = esp_read_member(job->payload, "spec");
    worker_row_begin(json, &row, NULL);
    esp_code code = worker_row_sha256(json, "model_sha256", job->payload, "model", reterr);
    if (!code) code = worker_text(&spec, "dataset", &dataset, reterr);
    esp_jsonw_string(json, "dataset", dataset);
    esp_jsonw_number(json, "coverage", job->coverage);
    esp_jsonw_integer(json, "sample_size", (int64_t)job->n);
    esp_jsonw_integer(json, "rank", (int64_t)esp_conformal_rank(job->n, job->coverage));
    esp_jsonw_string(json, "exchangeable", "trajectories, one random window of each");
    esp_jsonw_integer(json, "horizon", every_step ? job->horizon : 1);
    esp_jsonw_integer(json, "seed", (int64_t)job->seed);
    if (every_step) esp_jsonw_vector(json, "steps", job->quantiles, (size_t)job->horizon);
    worker_row_end(json, 0);
    return code;
}

esp_code worker_job_conformal(worker *w, const esp_reader *payload, esp_error *reterr) {
    esp_buf text = {0};
    esp_dataset *data = NULL;
    esp_arena *arena = esp_arena_create(0);
    conformal_job job = {.payload = payload, .horizon = 1};
    esp_jsonw json = esp_jsonw_on(&text);
    worker_progress(w, 0, "reading");
    esp_code code = arena ? read_spec(w, &job, &data, reterr) : esp_fail(reterr, ESP_NOMEM, "no memory for a job");
    job.data = data;
    int64_t start = esp_clock_now_ns();
    if (!code) code = prepare(&job, arena, reterr);
    if (!code) worker_progress(w, 0.2, "windows");
    if (!code) code = run(w, &job, reterr);
    job.seconds = esp_clock_seconds_since(start);
    esp_jsonw_object(&json, NULL);
    esp_jsonw_array(&json, "certificates");
    if (!code) code = put_row(&job, "one_step", job.quantiles[0], false, &json, reterr);
    if (!code && job.horizon > 1) code = put_row(&job, "multi_step", job.quantiles[job.horizon], true, &json, reterr);
    esp_jsonw_array_end(&json);
    esp_jsonw_object_end(&json);
    if (!code) worker_progress(w, 1, "done");
    if (!code) worker_send(w, ESP_FRAME_DONE, &text);
    esp_dataset_free(data);
    esp_buf_done(&text);
    esp_arena_free(arena);
    return code;
}
