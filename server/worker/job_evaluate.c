/* SPDX-License-Identifier: Apache-2.0
 * The evaluate job: open-loop prediction error of a model on a dataset, step by step over a horizon.
 *
 * A window is `history` true observations and then `horizon` steps with the recorded actions, the model's own outputs
 * fed back. Its error at step k is the Euclidean norm of (predicted - recorded) over the outputs, in data units. Windows
 * start every `horizon` steps, so that they share no predicted step; over 4,000 of them are thinned evenly. */
#include "data/dataset.h"
#include "worker/worker.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { WINDOWS_MAX = 4000 };

typedef struct evaluation {
    const esp_model *model;
    const esp_program *program;
    const esp_dataset *data;
    size_t horizon, n_windows;
    size_t *window; /* n_windows: row of the present */
    double *error; /* horizon x n_windows */
    double *x, *y, *work, *past; /* n_x, ny, n_r, history x ny */
    esp_edge *edges; /* of a graph network, which has no program here: its edges are those of each state */
    int objects;
} evaluation;

/* y of x. */
static void step(evaluation *e) {
    const esp_graph *graph = e->model->graph;
    if (graph) {
        int n_edges = esp_graph_edges(&graph->layout, e->objects, e->x, e->edges);
        esp_graph_forward(graph, e->objects, e->edges, n_edges, e->x, e->y, e->work);
    } else {
        esp_program_forward(e->program, e->x, e->y, NULL, NULL, e->work);
    }
}

/* What a step takes: a graph network's for the objects of the data. */
static size_t work_of(evaluation *e) {
    const esp_graph *graph = e->model->graph;
    if (!graph) return (size_t)e->program->n_r + 1;
    e->objects = esp_graph_objects(&graph->layout, e->data->ny);
    return esp_graph_work(graph, e->objects, e->objects * e->objects);
}

/* Rows that have `history` observations up to them and `horizon` steps after; every `horizon`-th of each trajectory. */
static size_t find_windows(const esp_dataset *data, size_t history, size_t horizon, size_t *ret_rows) {
    size_t n = 0;
    for (size_t t = 0; t < data->n_trajectories; t++)
        for (size_t row = data->start[t] + history - 1; row + horizon < data->start[t + 1]; row += horizon) {
            if (ret_rows) ret_rows[n] = row;
            n++;
        }
    return n;
}

static void thin(evaluation *e) {
    if (e->n_windows <= WINDOWS_MAX) return;
    for (size_t i = 0; i < WINDOWS_MAX; i++) e->window[i] = e->window[i * e->n_windows / WINDOWS_MAX];
    e->n_windows = WINDOWS_MAX;
}

static esp_code prepare(evaluation *e, esp_arena *arena, esp_error *reterr) {
    size_t history = (size_t)e->model->history, ny = (size_t)e->data->ny;
    size_t work = work_of(e), most = (size_t)e->objects * (size_t)e->objects;
    e->n_windows = find_windows(e->data, history, e->horizon, NULL);
    if (!e->n_windows)
        return esp_fail_at(reterr, ESP_UNPROCESSABLE, "/spec/horizon", "no trajectory is as long as the history and the horizon together");
    e->window = ESP_NEW(arena, size_t, e->n_windows);
    if (!e->window) return esp_fail(reterr, ESP_NOMEM, "no memory for %zu windows", e->n_windows);
    find_windows(e->data, history, e->horizon, e->window);
    thin(e);
    e->error = ESP_NEW(arena, double, e->horizon * e->n_windows);
    e->x = ESP_NEW(arena, double, history *(ny + (size_t)e->data->nu));
    e->y = ESP_NEW(arena, double, ny);
    e->past = ESP_NEW(arena, double, history *ny);
    e->work = ESP_NEW(arena, double, work);
    e->edges = ESP_NEW(arena, esp_edge, most);
    bool made = e->error && e->x && e->y && e->past && e->work && e->edges;
    return made ? ESP_OK : esp_fail(reterr, ESP_NOMEM, "no memory for %zu windows", e->n_windows);
}

/* One window from its true past on: x = [Y, U], both oldest first, u(t) last. */
static void run_window(evaluation *e, size_t index) {
    size_t history = (size_t)e->model->history, ny = (size_t)e->data->ny, nu = (size_t)e->data->nu, row = e->window[index];
    memcpy(e->past, e->data->y + (row + 1 - history) * ny, history * ny * sizeof *e->past);
    for (size_t k = 0; k < e->horizon; k++) {
        memcpy(e->x, e->past, history * ny * sizeof *e->x);
        if (nu) memcpy(e->x + history * ny, e->data->u + (row + k + 1 - history) * nu, history * nu * sizeof *e->x);
        step(e);
        memmove(e->past, e->past + ny, (history - 1) * ny * sizeof *e->past);
        memcpy(e->past + (history - 1) * ny, e->y, ny * sizeof *e->past);
        double sum = 0;
        for (size_t i = 0; i < ny; i++) {
            double d = e->y[i] - e->data->y[(row + k + 1) * ny + i];
            sum += d * d;
        }
        e->error[k * e->n_windows + index] = sqrt(sum);
    }
}

static int by_value(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* Linear interpolation between order statistics. */
static double percentile(const double *sorted, size_t n, double share) {
    double at = share * (double)(n - 1);
    size_t low = (size_t)at;
    return low + 1 < n ? sorted[low] + (at - (double)low) * (sorted[low + 1] - sorted[low]) : sorted[low];
}

static esp_code put_result(evaluation *e, esp_buf *text, esp_error *reterr) {
    esp_jsonw json = esp_jsonw_on(text);
    esp_jsonw_object(&json, NULL);
    esp_jsonw_integer(&json, "horizon", (int64_t)e->horizon);
    esp_jsonw_integer(&json, "windows", (int64_t)e->n_windows);
    esp_jsonw_array(&json, "steps");
    for (size_t k = 0; k < e->horizon; k++) {
        double *step = e->error + k * e->n_windows, mean = 0;
        for (size_t i = 0; i < e->n_windows; i++) mean += step[i] / (double)e->n_windows;
        if (!isfinite(mean)) return esp_fail(reterr, ESP_NUMERIC, "the prediction left the range of numbers at step %zu", k + 1);
        qsort(step, e->n_windows, sizeof *step, by_value);
        esp_jsonw_object(&json, NULL);
        esp_jsonw_integer(&json, "step", (int64_t)k + 1);
        esp_jsonw_number(&json, "mean", mean);
        esp_jsonw_number(&json, "p25", percentile(step, e->n_windows, 0.25));
        esp_jsonw_number(&json, "p50", percentile(step, e->n_windows, 0.50));
        esp_jsonw_number(&json, "p75", percentile(step, e->n_windows, 0.75));
        esp_jsonw_object_end(&json);
    }
    esp_jsonw_array_end(&json);
    esp_jsonw_object_end(&json);
    return ESP_OK;
}

esp_code worker_job_evaluate(worker *w, const esp_reader *payload, esp_error *reterr) {
    evaluation e = {0};
    int64_t horizon = 0;
    worker_model *m = NULL;
    esp_dataset *data = NULL;
    esp_buf text = {0};
    esp_reader spec = esp_read_member(payload, "spec"), model = esp_read_member(payload, "model"), dataset = esp_read_member(payload, "dataset");
    esp_reader member = esp_read_member(&spec, "horizon");
    esp_arena *arena = esp_arena_create(0);
    esp_code code = arena ? esp_read_integer(&member, 1, 1000, &horizon, reterr) : esp_fail(reterr, ESP_NOMEM, "no memory for a job");
    if (!code) code = worker_model_get(w, &model, &m, reterr);
    if (!code && !m->model->graph) code = worker_model_program(m, &e.program, reterr);
    if (!code) code = worker_dataset_load(w, &dataset, &data, reterr);
    e.model = m ? m->model : NULL;
    e.data = data;
    e.horizon = (size_t)horizon;
    if (!code) code = prepare(&e, arena, reterr);
    for (size_t i = 0; !code && i < e.n_windows; i++) {
        if (worker_cancelled(w)) code = esp_fail(reterr, ESP_CANCELLED, "cancelled");
        if (i % 1000 == 0) worker_progress(w, (double)i / (double)e.n_windows, "windows");
        if (!code) run_window(&e, i);
    }
    if (!code) code = put_result(&e, &text, reterr);
    if (!code) worker_progress(w, 1, "done");
    if (!code) worker_send(w, ESP_FRAME_DONE, &text);
    esp_buf_done(&text);
    esp_dataset_free(data);
    esp_arena_free(arena);
    return code;
}
