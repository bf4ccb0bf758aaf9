/* SPDX-License-Identifier: Apache-2.0
 * The certify job of kind planning_loss: what planning on a model instead of its reference can cost at most.
 *
 * The horizon, the cost and the inputs are those of a stored task or of the spec itself; presents come from the domain. A
 * row for each of the two ways to eta that came to an end: program, product; `value` is 2 eta. */
#include "certify/planning_loss.h"

#include <math.h>
#include <string.h>

#include "plan/task.h"
#include "worker/certify_kinds.h"

typedef struct loss_job {
    const esp_reader *payload;
    worker_model *model, *reference;
    esp_task *task;
    esp_box domain, box; /* the present; the present and the inputs */
    double *goal_lower, *goal_upper; /* n_goal, or NULL */
    int n_terms;
    esp_loss_term *terms;
    double time_limit_s, seconds;
} loss_job;

/* The present's box, then the input's for every step. */
static esp_code make_box(loss_job *job, esp_arena *arena, esp_error *reterr) {
    const esp_task *task = job->task;
    int n = esp_loss_inputs(job->model->model, task->horizon);
    job->box = (esp_box){n, ESP_NEW(arena, double, n), ESP_NEW(arena, double, n)};
    if (!job->box.lower || !job->box.upper) return esp_fail(reterr, ESP_NOMEM, "no memory for a box of %d numbers", n);
    for (int i = 0; i < n; i++) {
        int u = i < job->domain.n || !task->nu ? 0 : (i - job->domain.n) % task->nu;
        job->box.lower[i] = i < job->domain.n ? job->domain.lower[i] : task->u_lower[u];
        job->box.upper[i] = i < job->domain.n ? job->domain.upper[i] : task->u_upper[u];
    }
    return ESP_OK;
}

static esp_code add_term(loss_job *job, const esp_term *term, int first, esp_arena *arena, esp_error *reterr) {
    static const esp_loss_norm norms[] = {[ESP_COST_L1] = ESP_LOSS_L1, [ESP_COST_LINF] = ESP_LOSS_LINF, [ESP_COST_L2SQ] = ESP_LOSS_L2SQ};
    esp_loss_term *to = &job->terms[job->n_terms];
    double *targets = ESP_NEW(arena, double, 2 * term->n + 1);
    if (term->on != ESP_ON_Y) return ESP_OK;
    if (!targets) return esp_fail(reterr, ESP_NOMEM, "no memory for a cost");
    for (int i = 0; i < term->n; i++) {
        bool goal = term->target_is_goal;
        targets[i] = !goal ? term->target[i] : job->goal_lower ? job->goal_lower[i] : 0;
        targets[term->n + i] = !goal ? term->target[i] : job->goal_upper ? job->goal_upper[i] : 0;
    }
    *to = (esp_loss_term){norms[term->norm], first, job->task->horizon, term->n, term->index, term->weight, targets, targets + term->n};
    job->n_terms++;
    return ESP_OK;
}

static esp_code make_terms(loss_job *job, esp_arena *arena, esp_error *reterr) {
    const esp_task *task = job->task;
    job->terms = ESP_NEW(arena, esp_loss_term, task->n_stage + task->n_terminal + 1);
    esp_code code = job->terms ? ESP_OK : esp_fail(reterr, ESP_NOMEM, "no memory for a cost");
    for (int k = 0; !code && k < task->n_stage; k++) code = add_term(job, &task->stage[k], 1, arena, reterr);
    for (int k = 0; !code && k < task->n_terminal; k++) code = add_term(job, &task->terminal[k], task->horizon, arena, reterr);
    return code;
}

/* The task: stored, or the members of the spec that make one. */
static esp_code read_task(loss_job *job, const esp_reader *spec, esp_arena *arena, esp_error *reterr) {
    static const char *const keys[] = {"horizon", "cost", "input", NULL};
    const esp_model *m = job->model->model;
    esp_reader stored = esp_read_member(job->payload, "task");
    if (stored.value) return esp_task_parse(&stored, m->ny, m->nu, arena, &job->task, reterr);
    esp_buf text = {0};
    esp_json *json = NULL;
    esp_jsonw w = esp_jsonw_on(&text);
    esp_jsonw_object(&w, NULL);
    for (int k = 0; keys[k]; k++) {
        esp_reader member = esp_read_member(spec, keys[k]);
        if (member.value) esp_jsonw_value(&w, keys[k], member.value);
    }
    esp_jsonw_object_end(&w);
    esp_code code = text.failed ? esp_fail(reterr, ESP_NOMEM, "no memory for a task") : esp_json_parse(text.data, text.len, &json, reterr);
    if (!code) {
        esp_reader root = esp_reader_root(json);
        code = esp_task_parse(&root, m->ny, m->nu, arena, &job->task, reterr);
    }
    esp_json_free(json);
    esp_buf_done(&text);
    return code;
}

static esp_code read_spec(worker *w, loss_job *job, esp_arena *arena, esp_error *reterr) {
    esp_reader spec = esp_read_member(job->payload, "spec"), domain = esp_read_member(&spec, "domain"), goal = esp_read_member(&spec, "goal");
    esp_reader model = esp_read_member(job->payload, "model"), reference = esp_read_member(job->payload, "reference");
    esp_reader member = esp_read_member(&spec, "time_limit_s");
    esp_box box = {0};
    esp_code code = worker_model_get(w, &model, &job->model, reterr);
    if (!code) code = worker_model_get(w, &reference, &job->reference, reterr);
    if (!code) code = esp_read_number(&member, 0, 1e6, &job->time_limit_s, reterr);
    if (!code) code = read_task(job, &spec, arena, reterr);
    if (!code) code = esp_box_parse(&domain, esp_loss_inputs(job->model->model, 0), arena, &job->domain, reterr);
    if (!code && goal.value) code = esp_box_parse(&goal, job->task->n_goal, arena, &box, reterr);
    if (code) return code;
    job->goal_lower = box.lower;
    job->goal_upper = box.upper;
    code = make_box(job, arena, reterr);
    return code ? code : make_terms(job, arena, reterr);
}

/* ---- the row ------------------------------------------------------------------------------------------------------ */

static void put_terms(const loss_job *job, esp_jsonw *json) {
    static const char *const norms[] = {[ESP_LOSS_L1] = "l1", [ESP_LOSS_LINF] = "linf", [ESP_LOSS_L2SQ] = "l2sq"};
    esp_jsonw_array(json, "terms");
    for (int k = 0; k < job->n_terms; k++) {
        const esp_loss_term *term = &job->terms[k];
        esp_jsonw_object(json, NULL);
        esp_jsonw_string(json, "norm", norms[term->norm]);
        esp_jsonw_integer(json, "first", term->first);
        esp_jsonw_integer(json, "last", term->last);
        esp_jsonw_array(json, "index");
        for (int i = 0; i < term->n; i++) esp_jsonw_integer(json, NULL, term->index[i]);
        esp_jsonw_array_end(json);
        esp_jsonw_vector(json, "weight", term->weight, (size_t)term->n);
        if (term->norm == ESP_LOSS_L2SQ) esp_jsonw_vector(json, "target_lower", term->target_lower, (size_t)term->n);
        if (term->norm == ESP_LOSS_L2SQ) esp_jsonw_vector(json, "target_upper", term->target_upper, (size_t)term->n);
        esp_jsonw_object_end(json);
    }
    esp_jsonw_array_end(json);
}

typedef enum loss_method { LOSS_PROGRAM, LOSS_PRODUCT } loss_method;

static esp_code put_row(const loss_job *job, esp_loss *loss, loss_method method, esp_jsonw *json, esp_error *reterr) {
    bool program = method == LOSS_PROGRAM;
    double eta = program ? loss->eta : loss->product_eta;
    const double *deviation = program ? loss->deviation : loss->product;
    const esp_task *task = job->task;
    const esp_box input = {task->nu, task->u_lower, task->u_upper};
    const esp_certificate row = {.kind = "planning_loss",
                                 .method = program ? "program" : "product",
                                 .norm = ESP_NORM_INF,
                                 .value = worker_raised(2 * worker_raised(eta)),
                                 .strength = ESP_PROVED,
                                 .status = program ? loss->status : "proved",
                                 .seconds = job->seconds};
    double reached = 0;
    if (!isfinite(row.value)) return ESP_OK;
    for (int t = 0; t < loss->horizon; t++) reached = loss->lower[t] > reached ? loss->lower[t] : reached;
    worker_row_begin(json, &row, &job->domain);
    esp_code code = worker_row_sha256(json, "model_sha256", job->payload, "model", reterr);
    if (!code) code = worker_row_sha256(json, "reference_sha256", job->payload, "reference", reterr);
    esp_jsonw_integer(json, "horizon", loss->horizon);
    worker_row_box(json, "input", &input);
    put_terms(job, json);
    esp_jsonw_number(json, "eta", worker_raised(eta));
    esp_jsonw_array(json, "deviation");
    for (int t = 0; t < loss->horizon; t++) esp_jsonw_number(json, NULL, worker_raised(deviation[t]));
    esp_jsonw_array_end(json);
    esp_jsonw_vector(json, "deviation_lower", loss->lower, (size_t)loss->horizon);
    if (reached > 0) esp_jsonw_vector(json, "witness", loss->witness, (size_t)loss->n_box);
    if (program) esp_jsonw_string(json, "tree", esp_buf_text(&loss->tree));
    if (program) esp_jsonw_integer(json, "leaves", loss->leaves);
    if (!program) esp_jsonw_array(json, "epsilon");
    for (int t = 0; !program && t < loss->horizon; t++) esp_jsonw_number(json, NULL, worker_raised(loss->epsilon[t]));
    if (!program) esp_jsonw_array_end(json);
    worker_row_end(json, job->time_limit_s);
    return code;
}

static esp_code put_result(const loss_job *job, esp_loss *loss, esp_buf *text, esp_error *reterr) {
    esp_jsonw made = esp_jsonw_on(text);
    double eta = loss->eta < loss->product_eta ? loss->eta : loss->product_eta;
    if (!isfinite(worker_raised(2 * worker_raised(eta))))
        return esp_fail(reterr, ESP_UNPROCESSABLE, "no finite bound was found; try a shorter horizon, or a smaller domain");
    esp_jsonw_object(&made, NULL);
    esp_jsonw_array(&made, "certificates");
    esp_code code = put_row(job, loss, LOSS_PROGRAM, &made, reterr);
    if (!code) code = put_row(job, loss, LOSS_PRODUCT, &made, reterr);
    esp_jsonw_array_end(&made);
    esp_jsonw_object_end(&made);
    return code;
}

esp_code worker_job_planning_loss(worker *w, const esp_reader *payload, esp_error *reterr) {
    esp_buf text = {0};
    esp_loss *loss = NULL;
    esp_arena *arena = esp_arena_create(0);
    loss_job job = {.payload = payload, .time_limit_s = 5};
    worker_progress(w, 0, "reading");
    esp_code code = arena ? read_spec(w, &job, arena, reterr) : esp_fail(reterr, ESP_NOMEM, "no memory for a job");
    if (code) goto out;
    worker_progress(w, 0.1, "loss");
    int64_t start = esp_clock_now_ns();
    const esp_stop stop = {start + (int64_t)(job.time_limit_s * 1e9), worker_cancelled, w};
    const esp_loss_opts opts = ESP_LOSS_OPTS_INIT;
    code = esp_loss_run(job.model->model, job.reference->model, job.task->horizon, &job.box, job.n_terms, job.terms, &opts, &stop, &loss, reterr);
    if (!code && worker_cancelled(w)) code = esp_fail(reterr, ESP_CANCELLED, "cancelled");
    if (code) goto out;
    job.seconds = esp_clock_seconds_since(start);
    code = put_result(&job, loss, &text, reterr);
    if (!code) worker_progress(w, 1, "done");
    if (!code) worker_send(w, ESP_FRAME_DONE, &text);
out:
    esp_loss_free(loss);
    esp_buf_done(&text);
    esp_arena_free(arena);
    return code;
}
