/* SPDX-License-Identifier: Apache-2.0
 * PLAN: one planning problem with its present. Every incumbent and every bound goes up as soon as it exists, so that
 * the daemon can answer with the latest whatever this process is doing at the deadline. And HELP: a share of the search
 * of another's plan, whose incumbents and bounds go to that one. */
#include <math.h>

#include "worker/share.h"
#include "worker/worker.h"

/* The end of a run, its last check and its way up the socket take about this, and a little more after a longer one. */
#define RESERVE_NS     (1 * ESP_NS_PER_MS)
#define RESERVE_MAX_NS (5 * ESP_NS_PER_MS)

typedef struct stream {
    worker *w;
    double best, bound; /* NaN, -INFINITY: none yet */
    esp_buf text;
} stream;

static double gap_of(double objective, double bound) {
    if (isnan(objective) || isinf(bound)) return NAN;
    return esp_relative_gap(objective, bound);
}

/* Nothing when the present violates no limit. The sides of a data box have one pointer between them. */
static void put_slack(esp_jsonw *json, const esp_plan *plan) {
    const esp_slack *slack = &plan->slack;
    bool data = false;
    if (!plan->inputs || slack->n_limits == 0) return;
    esp_jsonw_object(json, "slack");
    esp_jsonw_array(json, "limits");
    for (int k = 0; k < slack->n_limits; k++) {
        char text[ESP_LIMIT_TEXT];
        bool again = data && slack->limits[k].kind == ESP_LIMIT_DATA;
        esp_limit_pointer(slack->limits[k], text);
        if (!again) esp_jsonw_string(json, NULL, text);
        data = data || slack->limits[k].kind == ESP_LIMIT_DATA;
    }
    esp_jsonw_array_end(json);
    esp_jsonw_number(json, "penalty", slack->penalty);
    esp_jsonw_number(json, "max", slack->max);
    esp_jsonw_number(json, "total", slack->total);
    esp_jsonw_vector(json, "steps", slack->steps, (size_t)plan->horizon);
    esp_jsonw_number(json, "cost", plan->cost);
    esp_jsonw_object_end(json);
}

static void put_plan(esp_jsonw *json, const esp_plan *plan) {
    esp_jsonw_matrix(json, "inputs", plan->inputs, plan->inputs ? (size_t)plan->horizon : 0, (size_t)plan->nu);
    esp_jsonw_matrix(json, "predicted", plan->predicted, plan->inputs ? (size_t)plan->horizon : 0, (size_t)plan->ny);
    esp_jsonw_number(json, "objective", plan->inputs ? plan->objective : (double)NAN);
    put_slack(json, plan);
}

static void on_incumbent(void *user, const esp_plan *plan, int64_t nodes) {
    stream *s = user;
    s->best = plan->objective;
    esp_buf_clear(&s->text);
    esp_jsonw json = esp_jsonw_on(&s->text);
    esp_jsonw_object(&json, NULL);
    put_plan(&json, plan);
    esp_jsonw_number(&json, "lower_bound", s->bound);
    esp_jsonw_number(&json, "gap", gap_of(s->best, s->bound));
    esp_jsonw_integer(&json, "nodes", nodes);
    esp_jsonw_string(&json, "method", plan->found_by);
    esp_jsonw_object_end(&json);
    worker_send(s->w, ESP_FRAME_INCUMBENT, &s->text);
}

static void on_bound(void *user, double lower_bound) {
    stream *s = user;
    s->bound = lower_bound;
    esp_buf_clear(&s->text);
    esp_jsonw json = esp_jsonw_on(&s->text);
    esp_jsonw_object(&json, NULL);
    esp_jsonw_number(&json, "lower_bound", s->bound);
    esp_jsonw_number(&json, "gap", gap_of(s->best, s->bound));
    esp_jsonw_object_end(&json);
    worker_send(s->w, ESP_FRAME_BOUND, &s->text);
}

static void send_result(worker *w, const esp_plan_result *result, esp_buf *text) {
    esp_buf_clear(text);
    esp_jsonw json = esp_jsonw_on(text);
    esp_jsonw_object(&json, NULL);
    esp_jsonw_string(&json, "status", esp_plan_status_names[result->status]);
    put_plan(&json, &result->best);
    esp_jsonw_number(&json, "lower_bound", result->lower_bound);
    esp_jsonw_number(&json, "gap", result->gap);
    esp_jsonw_string(&json, "ranges", result->ranges_sound ? "sound" : "data");
    esp_jsonw_string(&json, "method", result->method);
    esp_jsonw_integer(&json, "nodes", result->nodes);
    esp_jsonw_integer(&json, "binaries", result->binaries);
    esp_jsonw_object_end(&json);
    worker_send(w, ESP_FRAME_DONE, text);
}

/* Rows of a matrix that the daemon has checked already; 0 when it is absent. */
static esp_code read_rows(const esp_reader *payload, const char *key, esp_arena *arena, double **ret, size_t *ret_rows, size_t *ret_cols,
                          esp_error *reterr) {
    esp_reader member = esp_read_member(payload, key);
    *ret = NULL;
    *ret_rows = *ret_cols = 0;
    return member.value ? esp_read_matrix_any(&member, 4096, 4096, arena, ret, ret_rows, ret_cols, reterr) : ESP_OK;
}

/* *ret_ny: numbers of an observation. */
static esp_code read_request(const esp_reader *payload, esp_arena *arena, esp_plan_request *ret, int *ret_ny, esp_error *reterr) {
    double *y = NULL, *u = NULL, *start = NULL, *goal = NULL;
    size_t y_rows = 0, u_rows = 0, start_rows = 0, n_goal = 0, ny = 0, nu = 0;
    esp_reader member = esp_read_member(payload, "goal");
    esp_code code = read_rows(payload, "y", arena, &y, &y_rows, &ny, reterr);
    if (!code) code = read_rows(payload, "u", arena, &u, &u_rows, &nu, reterr);
    if (!code) code = read_rows(payload, "start", arena, &start, &start_rows, &nu, reterr);
    if (!code && member.value) code = esp_read_vector_any(&member, 4096, arena, &goal, &n_goal, reterr);
    if (!code) *ret = (esp_plan_request){.y = y, .u = u, .n_u = (int)u_rows, .goal = goal, .start = start};
    if (!code) *ret_ny = (int)ny;
    return code;
}

/* All that is left, less what the answer itself needs. */
static esp_code read_deadline(const esp_reader *payload, int64_t *ret_deadline_ns, esp_error *reterr) {
    double budget_ms = 0;
    esp_reader member = esp_read_member(payload, "budget_ms");
    esp_code code = esp_read_number(&member, 0, 1e9, &budget_ms, reterr);
    if (code) return code;
    int64_t budget = (int64_t)(budget_ms * (double)ESP_NS_PER_MS), reserve = RESERVE_NS + budget / 50;
    if (reserve > RESERVE_MAX_NS) reserve = RESERVE_MAX_NS;
    *ret_deadline_ns = esp_clock_now_ns() + budget - reserve;
    return ESP_OK;
}

/* What both kinds of task are given. */
typedef struct plan_task {
    stream s;
    worker_share share;
    esp_tree_hooks tree;
    esp_plan_hooks hooks;
    esp_stop stop;
    esp_planner *planner;
    esp_task *task;
    esp_plan_request request;
    esp_arena *arena;
} plan_task;

static void plan_task_done(plan_task *t) {
    worker_share_done(&t->share);
    esp_buf_done(&t->s.text);
    esp_arena_free(t->arena);
}

/* `t` stays where it is. */
static esp_code plan_task_init(worker *w, const esp_reader *payload, plan_task *t, esp_error *reterr) {
    worker_model *m = NULL;
    int ny = 0;
    esp_reader model = esp_read_member(payload, "model"), member = esp_read_member(payload, "task");
    *t = (plan_task){.s = {.w = w, .best = NAN, .bound = -INFINITY}, .stop = {ESP_NEVER, worker_cancelled, w}};
    t->arena = esp_arena_create(0);
    esp_code code = t->arena ? read_deadline(payload, &t->stop.deadline_ns, reterr) : esp_fail(reterr, ESP_NOMEM, "no memory for a plan");
    if (!code) code = worker_model_get(w, &model, &m, reterr);
    if (!code) code = read_request(payload, t->arena, &t->request, &ny, reterr);
    if (!code) code = worker_model_at(w, m, &(worker_state){.ny = ny, .y = t->request.y}, &m, reterr);
    if (!code) code = worker_model_planner(m, &t->planner, reterr);
    if (!code) code = esp_task_parse(&member, m->model->ny, m->model->nu, t->arena, &t->task, reterr);
    if (code) return code;
    t->share = (worker_share){.w = w, .horizon = t->task->horizon, .nu = t->task->nu, .deadline_ns = t->stop.deadline_ns};
    t->tree = (esp_tree_hooks){&t->share, worker_share_look, worker_share_wait};
    t->hooks = (esp_plan_hooks){&t->s, on_incumbent, on_bound, &t->tree};
    return ESP_OK;
}

esp_code worker_plan(worker *w, const esp_reader *payload, esp_error *reterr) {
    plan_task t;
    esp_plan_result result = {0};
    esp_code code = plan_task_init(w, payload, &t, reterr);
    if (!code) code = esp_plan_run(t.planner, t.task, &t.request, &t.hooks, &t.stop, &result, reterr);
    if (!code) send_result(w, &result, &t.s.text);
    esp_plan_result_done(&result);
    plan_task_done(&t);
    return code;
}

/* A search reads more of them. */
esp_code worker_receive_nodes(worker *w, esp_buf *ret, esp_error *reterr) {
    esp_frame_header header;
    const char *payload = NULL;
    if (!worker_receive(w, &header, &payload) || header.type != ESP_FRAME_NODES || header.task != w->task)
        return esp_fail(reterr, ESP_CORRUPT, "no nodes came with a share");
    esp_buf_put(ret, payload, header.length);
    return ret->failed ? esp_fail(reterr, ESP_NOMEM, "no memory for a share") : ESP_OK;
}

static void send_share(worker *w, const esp_share_result *result, int lots, esp_buf *text) {
    esp_buf_clear(text);
    esp_jsonw json = esp_jsonw_on(text);
    esp_jsonw_object(&json, NULL);
    esp_jsonw_number(&json, "lower_bound", result->bound);
    esp_jsonw_integer(&json, "nodes", result->nodes);
    esp_jsonw_integer(&json, "lots", lots);
    esp_jsonw_object_end(&json);
    worker_send(w, ESP_FRAME_DONE, text);
}

/* Only a share that was searched to its end is DONE. */
esp_code worker_help(worker *w, const esp_reader *payload, esp_error *reterr) {
    plan_task t;
    esp_share_result result = {0};
    esp_buf nodes = {0};
    if (esp_read_member(payload, "kind").value) return worker_help_distill(w, payload, reterr); /* a job's */
    esp_code code = plan_task_init(w, payload, &t, reterr);
    t.hooks.bound = NULL; /* the track's is no share's, see plan/share.h */
    t.share.lots = 1;
    if (!code) code = worker_receive_nodes(w, &nodes, reterr);
    if (!code) code = esp_plan_help(t.planner, t.task, &t.request, nodes.data, nodes.len, &t.hooks, &t.stop, &result, reterr);
    if (!code && !result.exhausted) code = esp_fail(reterr, w->cancelled ? ESP_CANCELLED : ESP_DEADLINE, "the share was not searched to its end");
    if (!code) send_share(w, &result, t.share.lots, &t.s.text);
    esp_buf_done(&nodes);
    plan_task_done(&t);
    return code;
}
