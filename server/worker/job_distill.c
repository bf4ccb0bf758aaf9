/* SPDX-License-Identifier: Apache-2.0
 * The distill job: a task in, a ReLU policy out that was trained on what the task's planner does.
 *
 *     states drawn from the domain -> plans -> training
 *     dagger_rounds times: the policy drives -> states it meets -> plans -> training goes on
 *     the policy's loop beside the planner's -> regret
 *
 * What the network says is not clipped: whoever applies it moves it into the input box (and rate), as every loop here does. That
 * brings two outputs no further apart, so a bound on a difference holds behind it too. Seeded; but what a plan is depends on
 * the time it had, so a job that runs again may make another version. */
#include <math.h>
#include <string.h>

#include "worker/certify_kinds.h"
#include "worker/distill_parts.h"

#define TELL_NS (500 * ESP_NS_PER_MS)
/* A training run takes about as long as this share of all plans. */
#define TRAIN_SHARE 0.2

enum { STREAM_STATES = 0xd10, STREAM_SPLIT };

static esp_code no_memory(esp_error *reterr) {
    return esp_fail(reterr, ESP_NOMEM, "no memory for a job");
}

/* ---- what is told ---- */

static void tell(distilling *d) {
    esp_buf text = {0};
    esp_jsonw json = esp_jsonw_on(&text);
    esp_jsonw_object(&json, NULL);
    esp_jsonw_number(&json, "fraction", d->total > 0 ? fmin(d->done / d->total, 1) : 0);
    esp_jsonw_string(&json, "stage", d->stage);
    esp_jsonw_object(&json, "metrics");
    esp_jsonw_integer(&json, "answers", (int64_t)(d->n + d->n_held));
    esp_jsonw_integer(&json, "unplanned", (int64_t)d->unplanned);
    esp_jsonw_number(&json, "loss", d->loss);
    esp_jsonw_number(&json, "validation_rmse", d->validation_rmse);
    esp_jsonw_object_end(&json);
    esp_jsonw_object_end(&json);
    worker_send(d->p.w, ESP_FRAME_PROGRESS, &text);
    esp_buf_done(&text);
    d->told_ns = esp_clock_now_ns();
}

void distill_pulse(distilling *d) {
    if (esp_clock_now_ns() - d->told_ns >= TELL_NS) tell(d);
}

static void stage(distilling *d, const char *name) {
    d->stage = name;
    tell(d);
}

/* For esp_stop: during a plan of many seconds too the job tells how far it is, and helpers are listened to. */
static bool look(void *user) {
    distilling *d = user;
    distill_share_look(d);
    distill_pulse(d);
    return worker_cancelled(d->p.w);
}

/* ---- the spec ---- */

esp_code distill_planner_read(worker *w, const esp_reader *payload, esp_arena *arena, distill_planner *ret, esp_error *reterr) {
    esp_reader model = esp_read_member(payload, "model"), task = esp_read_member(payload, "task");
    *ret = (distill_planner){.w = w, .stop = {ESP_NEVER, worker_cancelled, w}};
    esp_code code = worker_model_get(w, &model, &ret->model, reterr);
    if (!code) code = worker_model_planner(ret->model, &ret->planner, reterr);
    if (!code) code = esp_task_parse(&task, ret->model->model->ny, ret->model->model->nu, arena, &ret->task, reterr);
    if (!code) ret->present = esp_present_of(ret->task, ret->model->model->history);
    return code;
}

static size_t most_at_once(const distilling *d) {
    return (size_t)(d->opts.samples > d->opts.round_samples ? d->opts.samples : d->opts.round_samples);
}

static esp_code take_room(distilling *d, esp_error *reterr) {
    size_t all = esp_distill_most(&d->opts), n = (size_t)d->p.present.n, nu = (size_t)d->p.present.nu;
    d->x = ESP_NEW(d->arena, double, all *n);
    d->u = ESP_NEW(d->arena, double, all *nu);
    d->held_x = ESP_NEW(d->arena, double, all *n);
    d->held_u = ESP_NEW(d->arena, double, all *nu);
    d->rounds = ESP_NEW(d->arena, distill_round, d->opts.rounds + 1);
    d->share.answered = ESP_NEW(d->arena, uint8_t, most_at_once(d));
    d->share.u = ESP_NEW(d->arena, double, most_at_once(d) * nu);
    d->share.row = ESP_NEW(d->arena, double, nu);
    if (!d->x || !d->u || !d->held_x || !d->held_u || !d->rounds) return no_memory(reterr);
    if (!d->share.answered || !d->share.u || !d->share.row) return no_memory(reterr);
    memset(d->rounds, 0, (size_t)(d->opts.rounds + 1) * sizeof *d->rounds);
    return ESP_OK;
}

static void hash_task(const esp_reader *payload, char ret_sha256[ESP_HASH_HEX]) {
    esp_reader task = esp_read_member(payload, "task");
    esp_buf text = {0};
    esp_json_canonical(task.value, &text);
    esp_hash_bytes(text.data, text.len, ret_sha256);
    esp_buf_done(&text);
}

static esp_code read_spec(distilling *d, worker *w, const esp_reader *payload, esp_error *reterr) {
    esp_reader spec = esp_read_member(payload, "spec"), domain = esp_read_member(&spec, "domain"), model = esp_read_member(payload, "model");
    esp_code code = worker_text(payload, "blob_dir", &d->blob_dir, reterr);
    if (!code) code = worker_text(&spec, "task", &d->task_id, reterr);
    if (!code) code = worker_text(&model, "sha256", &d->model_sha256, reterr);
    if (!code) code = distill_planner_read(w, payload, d->arena, &d->p, reterr);
    if (!code) code = esp_distill_opts_parse(&spec, d->p.present.n, d->p.present.nu, &d->opts, reterr);
    if (!code) code = esp_box_parse(&domain, d->p.present.n, d->arena, &d->domain, reterr);
    if (!code) code = take_room(d, reterr);
    if (code) return code;
    const esp_task *t = d->p.task;
    uint64_t seed = d->opts.regress.seed;
    hash_task(payload, d->task_sha256);
    d->p.plan_ms = d->opts.plan_ms;
    d->p.stop = (esp_stop){ESP_NEVER, look, d};
    d->total = ((double)esp_distill_most(&d->opts) + (double)d->opts.regret_states * t->horizon) * (1 + TRAIN_SHARE);
    esp_rng_init(&d->rng, seed, STREAM_STATES);
    esp_rng_init(&d->split, seed, STREAM_SPLIT);
    return esp_regress_create(d->p.present.n, d->domain.lower, d->domain.upper, t->nu, t->u_lower, t->u_upper, &d->opts.regress, &d->regress, reterr);
}

void distill_draw(distilling *d, esp_rng *rng, double *ret) {
    for (int i = 0; i < d->domain.n; i++) {
        double share = esp_rng_uniform(rng);
        ret[i] = (1 - share) * d->domain.lower[i] + share * d->domain.upper[i];
    }
}

/* ---- training ---- */

typedef struct training {
    distilling *d;
    double begin, width; /* in `done` */
} training;

static void on_progress(void *user, double fraction, double loss) {
    const training *t = user;
    t->d->done = t->begin + fraction * t->width;
    if (!isnan(loss)) t->d->loss = loss;
    distill_pulse(t->d);
}

/* The policy of the present weights. */
static esp_code take_policy(distilling *d, esp_error *reterr) {
    esp_net *net = NULL;
    esp_code code = esp_regress_net(d->regress, &net, reterr);
    esp_model_free(d->policy);
    d->policy = NULL;
    return code ? code : esp_model_create(ESP_MODEL_POLICY, d->p.present.n, d->p.present.nu, 1, NULL, net, &d->policy, reterr);
}

static esp_code train(distilling *d, distill_round *round, esp_error *reterr) {
    const esp_pairs pairs = {d->n, d->x, d->u}, held = {d->n_held, d->held_x, d->held_u};
    const esp_stop stop = {ESP_NEVER, look, d};
    training t = {d, d->done, d->total * TRAIN_SHARE / (1 + TRAIN_SHARE) / (d->opts.rounds + 1)};
    if (!d->n)
        return esp_fail_at(reterr, ESP_UNPROCESSABLE, "/spec/domain", "none of %zu states has a plan within %g ms", d->unplanned, d->opts.plan_ms);
    stage(d, "training");
    esp_code code = esp_regress_run(d->regress, &pairs, &stop, on_progress, &t, &round->loss, reterr);
    if (!code) code = take_policy(d, reterr);
    if (code) return code;
    round->rmse = esp_regress_rmse(d->regress, &pairs);
    round->validation_rmse = held.n ? esp_regress_rmse(d->regress, &held) : (double)NAN;
    d->done = t.begin + t.width;
    d->loss = round->loss;
    d->validation_rmse = round->validation_rmse;
    return ESP_OK;
}

static esp_code run_round(distilling *d, int k, double *states, esp_error *reterr) {
    size_t most = (size_t)(k ? d->opts.round_samples : d->opts.samples), n = most;
    distill_round *round = &d->rounds[k];
    double end = d->done + (double)most;
    esp_code code = ESP_OK;
    if (k) {
        stage(d, "driving");
        code = distill_visit(d, most, states, &n, reterr);
    } else {
        for (size_t i = 0; i < n; i++) distill_draw(d, &d->rng, states + i * (size_t)d->p.present.n);
    }
    stage(d, "planning");
    if (!code) code = distill_answer(d, n, states, round, reterr);
    d->done = end; /* a policy that leaves the domain meets fewer */
    return code ? code : train(d, round, reterr);
}

static esp_code run_rounds(distilling *d, esp_error *reterr) {
    double *states = ESP_NEW(d->arena, double, most_at_once(d) * (size_t)d->p.present.n);
    esp_code code = states ? ESP_OK : no_memory(reterr);
    for (int k = 0; !code && k <= d->opts.rounds; k++) code = run_round(d, k, states, reterr);
    if (code || !d->opts.regret_states) return code;
    stage(d, "regret");
    return distill_measure(d, reterr);
}

/* ---- the result ---- */

static void put_regret(const distilling *d, esp_jsonw *json) {
    const distill_regret *r = &d->regret;
    if (!d->opts.regret_states) {
        esp_jsonw_null(json, "regret");
        return;
    }
    esp_jsonw_object(json, "regret");
    esp_jsonw_integer(json, "states", (int64_t)r->states);
    esp_jsonw_integer(json, "steps", d->p.task->horizon);
    esp_jsonw_number(json, "mean", r->mean);
    esp_jsonw_number(json, "p50", r->p50);
    esp_jsonw_number(json, "p90", r->p90);
    esp_jsonw_number(json, "largest", r->largest);
    esp_jsonw_number(json, "policy_cost", r->policy_cost);
    esp_jsonw_number(json, "planner_cost", r->planner_cost);
    esp_jsonw_number(json, "plan_objective", r->plan_objective);
    esp_jsonw_integer(json, "unplanned", (int64_t)r->unplanned);
    esp_jsonw_integer(json, "diverged", (int64_t)r->diverged);
    esp_jsonw_integer(json, "violations", (int64_t)r->violations);
    esp_jsonw_integer(json, "planner_violations", (int64_t)r->planner_violations);
    esp_jsonw_object_end(json);
}

/* How it was made, in full. */
static void put_spec(const distilling *d, esp_jsonw *json) {
    esp_jsonw_object(json, "spec");
    esp_jsonw_string(json, "method", "distill");
    esp_jsonw_object(json, "distill");
    esp_jsonw_string(json, "task", d->task_id);
    esp_jsonw_string(json, "task_sha256", d->task_sha256);
    esp_jsonw_string(json, "model_sha256", d->model_sha256);
    worker_row_box(json, "domain", &d->domain);
    esp_distill_opts_format(&d->opts, json);
    esp_jsonw_object_end(json);
    esp_jsonw_object_end(json);
}

static void put_metrics(const distilling *d, esp_jsonw *json) {
    esp_jsonw_object(json, "metrics");
    if (!isnan(d->validation_rmse)) esp_jsonw_number(json, "validation_rmse", d->validation_rmse);
    esp_jsonw_number(json, "train_rmse", d->rounds[d->opts.rounds].rmse);
    esp_jsonw_integer(json, "answers", (int64_t)(d->n + d->n_held));
    put_regret(d, json);
    worker_row_box(json, "data_box", &d->domain);
    esp_jsonw_object_end(json);
}

static esp_code send_model(const distilling *d, esp_error *reterr) {
    const esp_model *model = d->policy;
    char sha256[ESP_HASH_HEX];
    esp_buf bytes = {0}, text = {0};
    esp_jsonw json = esp_jsonw_on(&text);
    esp_code code = esp_model_encode(model, &bytes, reterr);
    if (!code) code = worker_blob_write(d->blob_dir, &bytes, sha256, reterr);
    if (!code) {
        esp_jsonw_object(&json, NULL);
        worker_put_model(model, sha256, &json);
        put_spec(d, &json);
        put_metrics(d, &json);
        esp_jsonw_object_end(&json);
        worker_send(d->p.w, ESP_FRAME_MODEL, &text);
    }
    esp_buf_done(&bytes);
    esp_buf_done(&text);
    return code;
}

static void send_result(distilling *d) {
    esp_buf text = {0};
    esp_jsonw json = esp_jsonw_on(&text);
    esp_jsonw_object(&json, NULL);
    esp_jsonw_integer(&json, "answers", (int64_t)(d->n + d->n_held));
    esp_jsonw_integer(&json, "unplanned", (int64_t)d->unplanned);
    esp_jsonw_integer(&json, "optimal", (int64_t)d->optimal);
    esp_jsonw_integer(&json, "helped", (int64_t)d->helped);
    esp_jsonw_array(&json, "rounds");
    for (int k = 0; k <= d->opts.rounds; k++) {
        const distill_round *round = &d->rounds[k];
        esp_jsonw_object(&json, NULL);
        esp_jsonw_integer(&json, "answers", (int64_t)round->answers);
        esp_jsonw_integer(&json, "unplanned", (int64_t)round->unplanned);
        esp_jsonw_number(&json, "loss", round->loss);
        esp_jsonw_number(&json, "rmse", round->rmse);
        esp_jsonw_number(&json, "validation_rmse", round->validation_rmse);
        esp_jsonw_object_end(&json);
    }
    esp_jsonw_array_end(&json);
    put_regret(d, &json);
    esp_jsonw_object_end(&json);
    d->done = d->total;
    stage(d, "done");
    worker_send(d->p.w, ESP_FRAME_DONE, &text);
    esp_buf_done(&text);
}

esp_code worker_job_distill(worker *w, const esp_reader *payload, esp_error *reterr) {
    distilling d = {.arena = esp_arena_create(0), .loss = NAN, .validation_rmse = NAN};
    worker_progress(w, 0, "reading");
    esp_code code = d.arena ? read_spec(&d, w, payload, reterr) : no_memory(reterr);
    if (!code) code = run_rounds(&d, reterr);
    if (!code) code = send_model(&d, reterr);
    if (!code) send_result(&d);
    esp_model_free(d.policy);
    esp_regress_free(d.regress);
    esp_arena_free(d.arena);
    return code;
}
