/* SPDX-License-Identifier: Apache-2.0
 * The certify job of kind closed_loop: the tube between the loop of a pruned policy and that of its reference.
 *
 * Rows, each where it is finite: program, product (the two ways to a radius), tube (the least of them at each step), forever.
 * `value` is the largest radius of the steps; the record has them all. */
#include "certify/closed_loop.h"

#include <math.h>

#include "worker/certify_kinds.h"

typedef struct loop_job {
    const esp_reader *payload;
    worker_model *policy, *reference, *dynamics;
    esp_box box;
    esp_norm norm;
    int steps;
    double time_limit_s, seconds;
    esp_tube *tube;
    esp_jsonw json;
} loop_job;

static esp_code read_spec(worker *w, loop_job *job, esp_arena *arena, esp_error *reterr) {
    esp_reader spec = esp_read_member(job->payload, "spec"), domain = esp_read_member(&spec, "domain");
    esp_reader policy = esp_read_member(job->payload, "model"), reference = esp_read_member(job->payload, "reference");
    esp_reader dynamics = esp_read_member(job->payload, "dynamics"), member = esp_read_member(&spec, "norm");
    int norm = ESP_NORM_INF;
    esp_code code = worker_model_get(w, &policy, &job->policy, reterr);
    if (!code) code = worker_model_get(w, &reference, &job->reference, reterr);
    if (!code) code = worker_model_get(w, &dynamics, &job->dynamics, reterr);
    if (!code) code = esp_read_choice(&member, esp_norm_names, &norm, reterr);
    member = esp_read_member(&spec, "steps");
    if (!code) code = esp_read_int(&member, 1, ESP_MAX_LOOP_STEPS, &job->steps, reterr);
    member = esp_read_member(&spec, "time_limit_s");
    if (!code) code = esp_read_number(&member, 0, 1e6, &job->time_limit_s, reterr);
    if (code) return code;
    const esp_model *m = job->dynamics->model;
    job->norm = (esp_norm)norm;
    return esp_box_parse(&domain, m->history * m->ny + (m->history - 1) * m->nu, arena, &job->box, reterr);
}

/* Radii as a member; what is infinite is null. */
static void put_radii(loop_job *job, const char *key, const double *radii) {
    esp_jsonw_array(&job->json, key);
    for (int k = 0; k < job->steps; k++) esp_jsonw_number(&job->json, NULL, worker_raised(radii[k]));
    esp_jsonw_array_end(&job->json);
}

static void put_product(loop_job *job) {
    put_radii(job, "rho", job->tube->rho);
    put_radii(job, "gain", job->tube->gain);
    put_radii(job, "epsilon", job->tube->epsilon);
}

static void put_tree(loop_job *job) {
    esp_jsonw_string(&job->json, "tree", esp_buf_text(&job->tube->tree));
    esp_jsonw_integer(&job->json, "leaves", job->tube->leaves);
}

static void put_forever(loop_job *job) {
    const esp_forever *forever = &job->tube->forever;
    const esp_box box = {job->box.n, forever->lower, forever->upper};
    esp_jsonw_object(&job->json, "forever");
    esp_jsonw_bool(&job->json, "holds", forever->holds);
    esp_jsonw_bool(&job->json, "invariant", forever->invariant);
    esp_jsonw_number(&job->json, "rho", worker_raised(forever->rho));
    esp_jsonw_number(&job->json, "gain", worker_raised(forever->gain));
    esp_jsonw_number(&job->json, "epsilon", worker_raised(forever->epsilon));
    esp_jsonw_number(&job->json, "radius", worker_raised(forever->radius));
    if (forever->invariant) worker_row_box(&job->json, "set", &box);
    esp_jsonw_object_end(&job->json);
}

static double largest_of(const double *values, int n) {
    double largest = 0;
    for (int k = 0; k < n; k++) largest = values[k] > largest ? values[k] : largest;
    return largest;
}

typedef enum row_kind { ROW_PROGRAM, ROW_PRODUCT, ROW_TUBE, ROW_FOREVER } row_kind;

/* One row; none when its value is infinite. */
static esp_code put_row(loop_job *job, row_kind kind, const char *method, const double *radii, esp_error *reterr) {
    const esp_tube *tube = job->tube;
    esp_jsonw *json = &job->json;
    double value = kind == ROW_FOREVER ? tube->forever.radius : largest_of(radii, job->steps);
    if (!isfinite(worker_raised(value))) return ESP_OK;
    const esp_certificate row = {.kind = "closed_loop",
                                 .method = method,
                                 .norm = job->norm,
                                 .value = worker_raised(value),
                                 .lower = largest_of(tube->lower, job->steps),
                                 .strength = ESP_PROVED,
                                 .status = kind == ROW_PROGRAM || kind == ROW_TUBE ? tube->status : "proved",
                                 .seconds = job->seconds};
    worker_row_begin(json, &row, &job->box);
    esp_code code = worker_row_sha256(json, "model_sha256", job->payload, "model", reterr);
    if (!code) code = worker_row_sha256(json, "reference_sha256", job->payload, "reference", reterr);
    if (!code) code = worker_row_sha256(json, "dynamics_sha256", job->payload, "dynamics", reterr);
    esp_jsonw_integer(json, "steps", job->steps);
    if (row.lower > 0) esp_jsonw_vector(json, "witness", tube->witness, (size_t)tube->n_present);
    if (kind != ROW_FOREVER) put_radii(job, "radius", radii);
    if (kind == ROW_TUBE) put_radii(job, "program", tube->program);
    if (kind == ROW_TUBE) put_radii(job, "product", tube->product);
    if (kind == ROW_TUBE) esp_jsonw_vector(json, "lower", tube->lower, (size_t)job->steps);
    if (kind == ROW_PRODUCT || kind == ROW_TUBE) put_product(job);
    if (kind == ROW_PROGRAM || kind == ROW_TUBE) put_tree(job);
    if (kind == ROW_FOREVER || kind == ROW_TUBE) put_forever(job);
    worker_row_end(json, job->time_limit_s);
    return code;
}

static esp_code put_rows(loop_job *job, esp_error *reterr) {
    const esp_tube *tube = job->tube;
    if (!isfinite(worker_raised(largest_of(tube->radius, job->steps))))
        return esp_fail(reterr, ESP_UNPROCESSABLE, "no finite tube was found over %d steps; try fewer, or a smaller domain", job->steps);
    esp_jsonw_object(&job->json, NULL);
    esp_jsonw_array(&job->json, "certificates");
    esp_code code = put_row(job, ROW_TUBE, "tube", tube->radius, reterr);
    if (!code) code = put_row(job, ROW_PROGRAM, "program", tube->program, reterr);
    if (!code) code = put_row(job, ROW_PRODUCT, "product", tube->product, reterr);
    if (!code && tube->forever.holds) code = put_row(job, ROW_FOREVER, "forever", NULL, reterr);
    esp_jsonw_array_end(&job->json);
    esp_jsonw_object_end(&job->json);
    return code;
}

esp_code worker_job_closed_loop(worker *w, const esp_reader *payload, esp_error *reterr) {
    esp_buf text = {0};
    esp_tube *tube = NULL;
    esp_arena *arena = esp_arena_create(0);
    loop_job job = {.payload = payload, .time_limit_s = 5, .json = esp_jsonw_on(&text)};
    worker_progress(w, 0, "reading");
    esp_code code = arena ? read_spec(w, &job, arena, reterr) : esp_fail(reterr, ESP_NOMEM, "no memory for a job");
    if (code) goto out;
    worker_progress(w, 0.1, "tube");
    int64_t start = esp_clock_now_ns();
    const esp_stop stop = {start + (int64_t)(job.time_limit_s * 1e9), worker_cancelled, w};
    esp_tube_opts opts = ESP_TUBE_OPTS_INIT;
    opts.norm = job.norm;
    code = esp_tube_run(job.policy->model, job.reference->model, job.dynamics->model, job.steps, &job.box, &opts, &stop, &tube, reterr);
    if (!code && worker_cancelled(w)) code = esp_fail(reterr, ESP_CANCELLED, "cancelled");
    if (code) goto out;
    job.tube = tube;
    job.seconds = esp_clock_seconds_since(start);
    code = put_rows(&job, reterr);
    if (!code) worker_progress(w, 1, "done");
    if (!code) worker_send(w, ESP_FRAME_DONE, &text);
out:
    esp_tube_free(tube);
    esp_buf_done(&text);
    esp_arena_free(arena);
    return code;
}
