/* SPDX-License-Identifier: Apache-2.0
 * PREDICT: the program's outputs at given points, in double. QUERY: closed-form constants per state and layer. Here the
 * bodies are read that the callers sent, so that their errors name what stands there. */
#include "worker/worker.h"

#include <math.h>
#include <string.h>

enum { ROWS_MAX = 1 << 20 };

/* n rows of exactly `cols` numbers. */
static esp_code read_points(const esp_reader *reader, size_t cols, esp_arena *arena, double **ret, size_t *ret_n, esp_error *reterr) {
    size_t n = 0;
    esp_code code = esp_read_array(reader, 1, ROWS_MAX, &n, reterr);
    if (code) return code;
    double *points = esp_arena_array(arena, n * cols, sizeof *points);
    if (!points) return esp_fail(reterr, ESP_NOMEM, "no memory for %zu points", n);
    code = esp_read_matrix(reader, n, cols, points, reterr);
    if (code) return code;
    *ret = points;
    *ret_n = n;
    return ESP_OK;
}

static esp_code forward_all(worker *w, const esp_program *program, const double *x, size_t n, esp_arena *arena, double **ret_y, esp_error *reterr) {
    size_t n_x = (size_t)program->n_x, n_y = (size_t)program->n_y;
    double *y = esp_arena_array(arena, n * n_y, sizeof *y), *work = esp_arena_array(arena, (size_t)program->n_r + 1, sizeof *work);
    if (!y || !work) return esp_fail(reterr, ESP_NOMEM, "no memory for %zu predictions", n);
    for (size_t i = 0; i < n; i++) {
        if (worker_cancelled(w)) return esp_fail(reterr, ESP_CANCELLED, "cancelled");
        esp_program_forward(program, x + i * n_x, y + i * n_y, NULL, NULL, work);
        for (size_t k = 0; k < n_y; k++)
            if (!isfinite(y[i * n_y + k])) return esp_fail(reterr, ESP_NUMERIC, "the prediction at point %zu is not finite", i);
    }
    *ret_y = y;
    return ESP_OK;
}

/* The points of a graph network, each with the edges of its own state: by the network itself, not by a program for each. */
static esp_code forward_graph(worker *w, const esp_model *model, const double *x, size_t n, size_t cols, esp_arena *arena, double **ret_y,
                              esp_error *reterr) {
    const esp_graph *graph = model->graph;
    int n_y = (int)cols - model->nu, objects = esp_graph_objects(&graph->layout, n_y);
    size_t most = (size_t)objects * (size_t)objects;
    double *y = esp_arena_array(arena, n * (size_t)n_y, sizeof *y),
           *work = esp_arena_array(arena, esp_graph_work(graph, objects, (int)most), sizeof *work);
    esp_edge *edges = ESP_NEW(arena, esp_edge, most);
    if (!y || !work || !edges) return esp_fail(reterr, ESP_NOMEM, "no memory for %zu predictions", n);
    for (size_t i = 0; i < n; i++) {
        if (worker_cancelled(w)) return esp_fail(reterr, ESP_CANCELLED, "cancelled");
        int n_edges = esp_graph_edges(&graph->layout, objects, x + i * cols, edges);
        esp_graph_forward(graph, objects, edges, n_edges, x + i * cols, y + i * (size_t)n_y, work);
        for (int k = 0; k < n_y; k++)
            if (!isfinite(y[i * (size_t)n_y + (size_t)k])) return esp_fail(reterr, ESP_NUMERIC, "the prediction at point %zu is not finite", i);
    }
    *ret_y = y;
    return ESP_OK;
}

/* Numbers of a point: a graph network's has those of the first, when they are of whole objects. */
static size_t width_of(const esp_model *model, const esp_reader *points) {
    size_t n = 0;
    esp_reader first = esp_read_element(points, 0);
    bool any = model->graph && esp_reader_kind(points) == ESP_JSON_ARRAY && !esp_read_array(&first, 1, ESP_MAX_WIDTH, &n, NULL) &&
               esp_graph_objects(&model->graph->layout, (int)n - model->nu) > 0;
    return any ? n : (size_t)esp_model_n_x(model);
}

esp_code worker_predict(worker *w, const worker_about *about, const esp_reader *request, esp_buf *ret_answer, esp_error *reterr) {
    static const char *const fields[] = {"x", NULL};
    const esp_program *program = NULL;
    double *x = NULL, *y = NULL;
    size_t n = 0, cols = 0;
    esp_reader points = {0};
    const esp_model *model = about->model->model;
    esp_arena *arena = esp_arena_create(0);
    esp_code code = arena ? ESP_OK : esp_fail(reterr, ESP_NOMEM, "no memory for a prediction");
    if (!code && !model->graph) code = worker_model_program(about->model, &program, reterr);
    if (!code) code = esp_read_object(request, fields, reterr);
    if (!code) code = esp_read_required(request, "x", &points, reterr);
    if (!code) cols = width_of(model, &points);
    if (!code) code = read_points(&points, cols, arena, &x, &n, reterr);
    if (!code && program) code = forward_all(w, program, x, n, arena, &y, reterr);
    if (!code && !program) code = forward_graph(w, model, x, n, cols, arena, &y, reterr);
    if (!code) {
        esp_jsonw json = esp_jsonw_on(ret_answer);
        esp_jsonw_object(&json, NULL);
        esp_jsonw_matrix(&json, "y", y, n, program ? (size_t)program->n_y : cols - (size_t)model->nu);
        esp_jsonw_object_end(&json);
    }
    esp_arena_free(arena);
    return code;
}

/* ---- QUERY ---- */

typedef struct query {
    const esp_closed_form *form;
    const esp_candidate *candidate; /* NULL when none */
    double threshold; /* NaN when none */
    double *c, *c_activation, *c_rescaled; /* one per layer */
} query;

/* One state's entry of `results`. max_norm, the largest |dW| that keeps the threshold, has no value where C is 0. */
static void put_state(const query *q, const double *x, esp_jsonw *json) {
    esp_closed_form_at(q->form, x, q->c, q->c_activation);
    esp_closed_form_rescaled(q->form, q->c_activation, q->c_rescaled);
    esp_jsonw_object(json, NULL);
    esp_jsonw_array(json, "layers");
    for (int k = 0; k < esp_closed_form_layers(q->form); k++) {
        esp_jsonw_object(json, NULL);
        esp_jsonw_integer(json, "layer", k + 1);
        esp_jsonw_number(json, "c", q->c[k]);
        esp_jsonw_number(json, "c_activation", q->c_activation[k]);
        esp_jsonw_number(json, "c_rescaled", q->c_rescaled[k]);
        if (!isnan(q->threshold)) esp_jsonw_number(json, "max_norm", q->threshold / q->c_activation[k]);
        esp_jsonw_object_end(json);
    }
    esp_jsonw_array_end(json);
    if (q->candidate) {
        double bound, actual;
        esp_candidate_at(q->candidate, x, &bound, &actual);
        esp_jsonw_number(json, "bound", bound);
        esp_jsonw_number(json, "actual", actual);
    }
    esp_jsonw_object_end(json);
}

static esp_code put_states(worker *w, const query *q, const double *x, size_t n, size_t n_x, esp_buf *text, esp_error *reterr) {
    esp_jsonw json = esp_jsonw_on(text);
    esp_jsonw_object(&json, NULL);
    esp_jsonw_array(&json, "results");
    for (size_t i = 0; i < n; i++) {
        if (worker_cancelled(w)) return esp_fail(reterr, ESP_CANCELLED, "cancelled");
        put_state(q, x + i * n_x, &json);
    }
    esp_jsonw_array_end(&json);
    esp_jsonw_object_end(&json);
    return ESP_OK;
}

/* The constants are of layers. */
static esp_code check_plain(const worker_model *m, const char *pointer, esp_error *reterr) {
    if (!m || !m->model->graph) return ESP_OK;
    return esp_fail_at(reterr, ESP_UNPROCESSABLE, pointer,
                       "is a graph network; the constants are those of a plain one: upload its plain form for a state");
}

static esp_code read_query(const worker_about *about, const esp_reader *request, esp_arena *arena, query *ret, esp_error *reterr) {
    static const char *const fields[] = {"model", "states", "error_threshold", "candidate", NULL};
    esp_reader threshold = esp_read_member(request, "error_threshold");
    query q = {.threshold = NAN};
    esp_code code = esp_read_object(request, fields, reterr);
    if (!code) code = esp_read_number(&threshold, 0, 1e300, &q.threshold, reterr);
    if (!code) code = check_plain(about->model, "/model", reterr);
    if (!code) code = check_plain(about->candidate, "/candidate", reterr);
    if (!code) code = worker_model_form(about->model, &q.form, reterr);
    if (!code && about->candidate) {
        code = worker_model_pair(about->model, about->candidate, &q.candidate, reterr);
        if (code) esp_error_prefix_pointer(reterr, "/candidate");
    }
    if (code) return code;
    size_t layers = (size_t)esp_closed_form_layers(q.form);
    q.c = esp_arena_array(arena, layers, sizeof *q.c);
    q.c_activation = esp_arena_array(arena, layers, sizeof *q.c_activation);
    q.c_rescaled = esp_arena_array(arena, layers, sizeof *q.c_rescaled);
    if (!q.c || !q.c_activation || !q.c_rescaled) return esp_fail(reterr, ESP_NOMEM, "no memory for a query");
    *ret = q;
    return ESP_OK;
}

esp_code worker_query(worker *w, const worker_about *about, const esp_reader *request, esp_buf *ret_answer, esp_error *reterr) {
    size_t n_x = (size_t)esp_model_n_x(about->model->model), n = 0;
    query q = {0};
    double *x = NULL;
    esp_reader states;
    esp_arena *arena = esp_arena_create(0);
    esp_code code = arena ? read_query(about, request, arena, &q, reterr) : esp_fail(reterr, ESP_NOMEM, "no memory for a query");
    if (!code) code = esp_read_required(request, "states", &states, reterr);
    if (!code) code = read_points(&states, n_x, arena, &x, &n, reterr);
    if (!code) code = put_states(w, &q, x, n, n_x, ret_answer, reterr);
    esp_arena_free(arena);
    return code;
}
