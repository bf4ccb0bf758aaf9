/* SPDX-License-Identifier: Apache-2.0
 * From a worker's frames to the reply. The latest verified incumbent is always at hand, so that an answer can be made
 * at the deadline, or when the worker dies, from what is here.
 *
 *     the worker finished        its result
 *     out of time, or it died    the latest incumbent, `feasible`; else a fallback
 *     nothing was found          the session's previous plan one step on, if the task still allows it; else the task's
 *                                safe input, held; marked `fallback`. Without either: `unknown`, no inputs */
#include "plans.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "log.h"
#include "metrics.h"
#include "ontime.h"
#include "rfc3339.h"

/* What the answer is made of. */
typedef struct answer {
    const char *status;
    const char *method, *ranges;
    bool verified;
    esp_reader source; /* payload with inputs, predicted, objective; value NULL for none */
    esp_reader bounds; /* payload with lower_bound and gap; value NULL for none */
    const double *inputs; /* of a fallback */
    int64_t nodes;
} answer;

/* ---- sessions ---- */

static const double *previous_plan(esp_plan_job *plan) {
    if (plan->previous_sought || !*plan->session) return plan->previous;
    plan->previous_sought = true;
    size_t n = (size_t)plan->task->horizon * (size_t)plan->task->nu;
    double *inputs = malloc(n * sizeof *inputs);
    if (inputs && esp_sessions_next(plan->server->sessions, plan->session, plan->task->nu, plan->task->horizon, inputs))
        plan->previous = inputs;
    else
        free(inputs);
    return plan->previous;
}

/* What the robot will do is what its next plan starts from. */
static void keep_plan(esp_plan_job *plan, const answer *a) {
    const esp_task *task = plan->task;
    size_t n = (size_t)task->horizon * (size_t)task->nu;
    if (!*plan->session) return;
    if (a->inputs) {
        esp_sessions_keep(plan->server->sessions, plan->session, task->nu, task->horizon, a->inputs);
        return;
    }
    if (!a->source.value) return;
    esp_reader inputs = esp_read_member(&a->source, "inputs");
    double *values = malloc(n * sizeof *values);
    if (values && !esp_read_matrix(&inputs, (size_t)task->horizon, (size_t)task->nu, values, NULL))
        esp_sessions_keep(plan->server->sessions, plan->session, task->nu, task->horizon, values);
    free(values);
}

/* ---- fallback ---- */

static bool is_value(const esp_task *task, const double *u) {
    for (int k = 0; k < task->n_values; k++)
        if (memcmp(task->values + (size_t)k * (size_t)task->nu, u, (size_t)task->nu * sizeof *u) == 0) return true;
    return task->n_values == 0;
}

static bool inputs_allowed(const esp_task *task, const double *inputs) {
    for (int t = 0; t < task->horizon; t++) {
        const double *u = inputs + (size_t)t * (size_t)task->nu;
        for (int i = 0; i < task->nu; i++)
            if (!(u[i] >= task->u_lower[i] && u[i] <= task->u_upper[i])) return false;
        if (!is_value(task, u)) return false;
    }
    return true;
}

static answer fall_back(esp_plan_job *plan) {
    const esp_task *task = plan->task;
    answer a = {.status = "fallback", .method = "previous", .ranges = task->trust == ESP_TRUST_DATA ? "data" : "sound"};
    const double *previous = previous_plan(plan);
    if (previous && inputs_allowed(task, previous)) {
        a.inputs = previous;
        return a;
    }
    a.method = "safe";
    double *held = task->safe ? esp_arena_array(plan->arena, (size_t)task->horizon * (size_t)task->nu, sizeof *held) : NULL;
    for (int t = 0; held && t < task->horizon; t++) memcpy(held + (size_t)t * (size_t)task->nu, task->safe, (size_t)task->nu * sizeof *held);
    a.inputs = held;
    if (held) return a;
    a.method = "none";
    a.status = "unknown";
    return a;
}

/* ---- the reply ---- */

/* What the plan does outside limits that the present violates: only when there are such. */
static void put_slack(esp_jsonw *w, const answer *a) {
    esp_reader slack = a->source.value ? esp_read_member(&a->source, "slack") : (esp_reader){0};
    if (slack.value && !a->inputs) esp_jsonw_value(w, "slack", slack.value);
}

static void put_member(esp_jsonw *w, const char *key, const esp_reader *source, bool matrix) {
    esp_reader member = source->value ? esp_read_member(source, key) : (esp_reader){0};
    if (member.value) {
        esp_jsonw_value(w, key, member.value);
    } else if (matrix) {
        esp_jsonw_array(w, key);
        esp_jsonw_array_end(w);
    } else {
        esp_jsonw_null(w, key);
    }
}

/* The interface has no step length. A robot that replans at every step asks with a deadline no longer than its step, so
 * `horizon` inputs last at least `horizon` deadlines from now. */
static void put_validity(esp_jsonw *w, const esp_plan_job *plan, bool has_inputs) {
    char text[ESP_TIME_TEXT];
    esp_time_format(esp_clock_wall_ms() + (int64_t)(plan->deadline_ms * plan->task->horizon), text);
    esp_jsonw_string(w, "valid_until", has_inputs ? text : NULL);
}

static void put_timing(esp_jsonw *w, const esp_plan_job *plan, const esp_outcome *outcome) {
    esp_jsonw_object(w, "timing");
    esp_jsonw_number(w, "queue_ms", (double)(outcome->waited_ns / 1000) * 1e-3);
    esp_jsonw_number(w, "solve_ms", (double)(outcome->ran_ns / 1000) * 1e-3);
    esp_jsonw_number(w, "total_ms", (double)((esp_clock_now_ns() - plan->arrived_ns) / 1000) * 1e-3);
    esp_jsonw_object_end(w);
}

static void put_model(esp_jsonw *w, const esp_plan_job *plan) {
    esp_jsonw_object(w, "model");
    esp_jsonw_string(w, "id", plan->model.id);
    esp_jsonw_string(w, "name", plan->model.name);
    esp_jsonw_integer(w, "version", plan->model.version);
    esp_jsonw_string(w, "sha256", plan->model.sha256);
    esp_jsonw_object_end(w);
}

static void format_reply(const esp_plan_job *plan, const answer *a, const esp_outcome *outcome, esp_buf *out) {
    const esp_task *task = plan->task;
    esp_jsonw w = esp_jsonw_on(out);
    esp_jsonw_object(&w, NULL);
    esp_jsonw_string(&w, "plan_id", plan->id);
    esp_jsonw_string(&w, "status", a->status);
    if (a->inputs)
        esp_jsonw_matrix(&w, "inputs", a->inputs, (size_t)task->horizon, (size_t)task->nu);
    else
        put_member(&w, "inputs", &a->source, true);
    put_member(&w, "predicted", &a->source, true);
    put_member(&w, "objective", &a->source, false);
    put_slack(&w, a);
    put_member(&w, "lower_bound", &a->bounds, false);
    put_member(&w, "gap", &a->bounds, false);
    esp_jsonw_string(&w, "ranges", a->ranges);
    esp_jsonw_bool(&w, "verified", a->verified);
    esp_jsonw_string(&w, "method", a->method);
    put_model(&w, plan);
    put_validity(&w, plan, a->inputs || a->verified);
    put_timing(&w, plan, outcome);
    esp_jsonw_integer(&w, "nodes", a->nodes);
    esp_jsonw_object_end(&w);
}

static void count(const esp_plan_job *plan, const answer *a, const esp_outcome *outcome) {
    static const struct {
        const char *status;
        esp_metric metric;
    } counters[] = {{"optimal", ESP_METRIC_PLANS_OPTIMAL},
                    {"feasible", ESP_METRIC_PLANS_FEASIBLE},
                    {"fallback", ESP_METRIC_PLANS_FALLBACK},
                    {"infeasible", ESP_METRIC_PLANS_INFEASIBLE},
                    {"unknown", ESP_METRIC_PLANS_UNKNOWN}};
    for (size_t i = 0; i < sizeof counters / sizeof *counters; i++)
        if (strcmp(counters[i].status, a->status) == 0) esp_metric_add(counters[i].metric, 1);
    esp_metric_observe(ESP_METRIC_PLAN_QUEUE_WAIT, (double)outcome->waited_ns * 1e-9);
    if (outcome->ran_ns) esp_metric_observe(ESP_METRIC_PLAN_SOLVE, (double)outcome->ran_ns * 1e-9);
    if (esp_clock_now_ns() > plan->deadline_ns) esp_metric_add(ESP_METRIC_DEADLINE_MISSED, 1);
}

/* ---- which answer ---- */

static const char *text_of(const esp_reader *object, const char *key, const char *otherwise) {
    esp_reader member = esp_read_member(object, key);
    return esp_read_string(&member, 64, &otherwise, NULL) ? "" : otherwise;
}

static void read_found(answer *a, const esp_reader *payload) {
    esp_reader nodes = esp_read_member(payload, "nodes");
    a->source = a->bounds = *payload;
    a->verified = true;
    a->method = text_of(payload, "method", "");
    if (esp_read_integer(&nodes, 0, INT64_MAX / 2, &a->nodes, NULL)) a->nodes = 0;
}

/* The worker's own result. `unknown` with nothing found is no answer for a robot: that falls back. */
static answer from_result(esp_plan_job *plan, const esp_reader *result) {
    static const char *const known[] = {"optimal", "feasible", "infeasible", "unknown"};
    answer a = {.status = "unknown"};
    const char *status = text_of(result, "status", "unknown");
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (strcmp(status, known[i]) == 0) a.status = known[i];
    if (strcmp(a.status, "unknown") == 0) {
        a = fall_back(plan);
        a.bounds = *result;
        return a;
    }
    read_found(&a, result);
    a.ranges = strcmp(text_of(result, "ranges", "data"), "sound") == 0 ? "sound" : "data";
    if (strcmp(a.status, "infeasible") == 0) {
        a.source.value = NULL;
        a.verified = false;
    }
    return a;
}

/* What was streamed before the time was up or the worker died. */
static answer from_stream(esp_plan_job *plan, const esp_reader *incumbent, const esp_reader *bound) {
    answer a = {.status = "feasible", .ranges = plan->task->trust == ESP_TRUST_DATA ? "data" : "sound"};
    if (incumbent->value)
        read_found(&a, incumbent);
    else
        a = fall_back(plan);
    if (bound->value) a.bounds = *bound;
    return a;
}

static esp_json *parse_payload(const char *text, size_t len) {
    esp_json *json = NULL;
    esp_error error = {0};
    if (len && esp_json_parse(text, len, &json, &error)) esp_log(ESP_LOG_ERROR, "plan_payload", "message=\"%s\"", error.message);
    return json;
}

static bool is_request_fault(const esp_outcome *outcome) {
    return outcome->end == ESP_END_ERROR && (outcome->error->code == ESP_INVALID || outcome->error->code == ESP_UNPROCESSABLE);
}

static void answer_error(esp_plan_job *plan, const esp_error *from_worker) {
    esp_error error = *from_worker;
    bool of_present = strncmp(error.pointer, "/y", 2) == 0 || strncmp(error.pointer, "/u", 2) == 0 || strncmp(error.pointer, "/goal", 5) == 0;
    if (*error.pointer && !of_present) esp_error_prefix_pointer(&error, "/task");
    plan->answer(plan, NULL, &error);
}

/* The deadline of a plan that was hung up on has no meaning; whoever hung up does not read the answer either. */
static void plan_end(void *user, const esp_outcome *outcome) {
    esp_plan_job *plan = user;
    esp_buf body = {0};
    if (is_request_fault(outcome)) {
        answer_error(plan, outcome->error);
        return;
    }
    if (outcome->error)
        esp_log(outcome->end == ESP_END_LOST ? ESP_LOG_NOTICE : ESP_LOG_ERROR, "plan_failed", "plan=%s code=%s message=\"%s\"", plan->id,
                esp_code_name(outcome->error->code), outcome->error->message);
    esp_json *result = parse_payload(outcome->payload, outcome->payload ? outcome->len : 0);
    esp_json *incumbent = result ? NULL : parse_payload(plan->incumbent.data, plan->incumbent.len);
    esp_json *bound = result ? NULL : parse_payload(plan->bound.data, plan->bound.len);
    esp_reader result_root = esp_reader_root(result), incumbent_root = esp_reader_root(incumbent), bound_root = esp_reader_root(bound);
    answer a = result ? from_result(plan, &result_root) : from_stream(plan, &incumbent_root, &bound_root);
    format_reply(plan, &a, outcome, &body);
    keep_plan(plan, &a);
    count(plan, &a, outcome);
    esp_json_free(result);
    esp_json_free(incumbent);
    esp_json_free(bound);
    plan->answer(plan, &body, NULL);
}

/* ---- towards the worker ---- */

static void plan_begin(void *user, int64_t budget_ns, esp_buf *payload) {
    esp_plan_job *plan = user;
    const double *previous = previous_plan(plan);
    esp_buf_put(payload, plan->request.data, plan->request.len);
    esp_jsonw w = {payload, true};
    if (previous) esp_jsonw_matrix(&w, "start", previous, (size_t)plan->task->horizon, (size_t)plan->task->nu);
    esp_jsonw_number(&w, "budget_ms", budget_ns > 0 ? (double)(budget_ns / 1000) * 1e-3 : 0);
    esp_jsonw_object_end(&w);
}

static void keep_payload(esp_buf *kept, const char *payload, size_t len) {
    esp_buf_clear(kept);
    esp_buf_put(kept, payload, len);
    if (kept->failed) esp_buf_done(kept);
}

static void plan_frame(void *user, esp_frame_type type, const char *payload, size_t len) {
    esp_plan_job *plan = user;
    if (type == ESP_FRAME_BOUND) keep_payload(&plan->bound, payload, len);
    if (type != ESP_FRAME_INCUMBENT) return;
    keep_payload(&plan->incumbent, payload, len);
    esp_buf_clear(&plan->bound);
}

static uint64_t affinity_of(const char *sha256) {
    char head[17] = {0};
    memcpy(head, sha256, 16);
    return strtoull(head, NULL, 16) | 1;
}

/* How long before its deadline a plan is answered: the way back, and by how much the daemon has been late of late, so that
 * a processor that is taken away in chunks makes replies early rather than late. What a plan has to find its answer in is
 * worth more than that: no more than a quarter of its time goes, or half of it for the way. */
static int64_t margin_ns(const esp_plan_job *plan, int64_t whole_ns) {
    int64_t way = plan->server->config.reply_margin_ms * ESP_NS_PER_MS, lag = esp_lag_ns();
    if (way > whole_ns / 2) way = whole_ns / 2;
    int64_t most = way > whole_ns / 4 ? way : whole_ns / 4;
    return way + lag < most ? way + lag : most;
}

esp_code esp_plan_job_submit(esp_plan_job *plan, int64_t arrived_ns, esp_error *reterr) {
    static const esp_work_ops ops = {.begin = plan_begin, .frame = plan_frame, .end = plan_end};
    int64_t whole = (int64_t)(plan->deadline_ms * (double)ESP_NS_PER_MS), margin = margin_ns(plan, whole);
    esp_metric_observe(ESP_METRIC_REPLY_MARGIN, (double)margin * 1e-9);
    plan->arrived_ns = arrived_ns;
    plan->deadline_ns = arrived_ns + whole;
    const esp_work work = {
        .class = ESP_CLASS_PLAN,
        .type = ESP_FRAME_PLAN,
        .shared = plan->task->method == ESP_METHOD_MIP && plan->task->engine != ESP_ENGINE_CBC,
        .retries = 1,
        .arrived_ns = arrived_ns,
        .deadline_ns = plan->deadline_ns - margin,
        .affinity = affinity_of(plan->model.sha256),
        .ops = &ops,
        .user = plan,
    };
    return esp_pool_submit(plan->server->pool, plan->work, &work, reterr);
}
