/* SPDX-License-Identifier: Apache-2.0
 * The prune job: a model in, a version of it with fewer weights out, and how far the two can be apart.
 *
 * With `sparsity` or `pattern` one model is made; with a domain its difference to the parent is certified. With
 * `error_budget` each method and scope (or those asked for) looks for its sparsest model whose certified difference over the domain
 * stays within, and the sparsest of all is kept; `reached` says what each came to. With `fine_tune` the model that was made or kept is
 * trained further (prune_tune.c), before its certificate. No model keeps the budget: the result's
 * model is null, which is an answer and no failure. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "certify/lowering.h"
#include "worker/certify_kinds.h"
#include "worker/prune_parts.h"

#define NONE ((double)NAN) /* null in JSON */

/* ---- the spec ---- */

/* Numbers count from 1 in a spec. */
static esp_code check_layers(const pruning *p, const esp_reader *spec, esp_error *reterr) {
    esp_reader list = esp_read_member(spec, "layers");
    size_t n = 0;
    if (!list.value) return ESP_OK;
    esp_code code = esp_read_array(&list, 1, ESP_MAX_LAYERS, &n, reterr);
    for (size_t i = 0; !code && i < n; i++) {
        int number = 1;
        esp_reader element = esp_read_element(&list, i);
        code = esp_read_int(&element, 1, p->parent->model->net->n_layers, &number, reterr);
    }
    return code;
}

static esp_code read_spec(pruning *p, const esp_reader *payload, esp_error *reterr) {
    esp_reader spec = esp_read_member(payload, "spec"), model = esp_read_member(payload, "model"), member = esp_read_member(&spec, "norm");
    int norm = ESP_NORM_INF;
    esp_code code = worker_text(payload, "blob_dir", &p->blob_dir, reterr);
    if (!code) code = worker_model_get(p->w, &model, &p->parent, reterr);
    if (!code) code = worker_text(&model, "sha256", &p->parent_sha256, reterr);
    if (!code) code = esp_prune_spec_parse(&spec, esp_model_n_x(p->parent->model), p->arena, &p->spec, reterr);
    if (!code) code = check_layers(p, &spec, reterr);
    if (!code) code = esp_read_choice(&member, esp_norm_names, &norm, reterr);
    p->norm = (esp_norm)norm;
    p->resolved = esp_read_member(&model, "resolved");
    if (!code) code = prune_read_domain(p, payload, reterr);
    if (!code) code = prune_read_inputs(p, payload, reterr);
    if (!code && p->box.n) code = esp_lowering_slack(p->parent->model, &p->slack, reterr);
    return code;
}

/* What the parent says at the inputs that models are compared at. */
static esp_code prepare(pruning *p, esp_error *reterr) {
    size_t n_held = p->inputs.n_held, n_box = p->inputs.n_box, n_y = (size_t)esp_model_n_y(p->parent->model);
    p->held_y = ESP_NEW(p->arena, double, n_held *n_y + 1);
    p->box_y = ESP_NEW(p->arena, double, n_box *n_y + 1);
    p->y = ESP_NEW(p->arena, double, (n_held > n_box ? n_held : n_box) * n_y + 1);
    if (!p->held_y || !p->box_y || !p->y) return esp_fail(reterr, ESP_NOMEM, "no memory for outputs");
    esp_code code = prune_part(p->parent->model, n_held, p->inputs.held, p->held_y, reterr);
    if (!code) code = prune_part(p->parent->model, n_box, p->inputs.in_box, p->box_y, reterr);
    return code || !p->spec.tune.asked ? code : prune_tune_prepare(p, reterr);
}

/* ---- the new model ---- */

static void put_metrics(const pruning *p, const prune_outcome *o, const prune_tuned *t, esp_jsonw *json) {
    esp_jsonw_object(json, "metrics");
    if (t->kept && !isnan(t->before_validation_rmse)) esp_jsonw_number(json, "pruned_validation_rmse", t->before_validation_rmse);
    if (t->kept) esp_jsonw_number(json, "pruned_difference_rms", t->before_rms);
    if (!isnan(o->validation_rmse)) esp_jsonw_number(json, "validation_rmse", o->validation_rmse);
    if (p->inputs.n_held) esp_jsonw_number(json, "difference_rms", o->rms);
    if (p->parent->x_lower) {
        esp_box box = {esp_model_n_x(p->parent->model), p->parent->x_lower, p->parent->x_upper};
        worker_row_box(json, "data_box", &box);
    }
    esp_jsonw_object_end(json);
}

/* How it was made, in full. */
static void put_spec(const pruning *p, const prune_outcome *o, const prune_tuned *t, esp_jsonw *json) {
    esp_jsonw_object(json, "spec");
    esp_jsonw_string(json, "method", esp_prune_method_names[o->opts.method]);
    if (p->resolved.value) esp_jsonw_value(json, "resolved", p->resolved.value);
    esp_jsonw_object(json, "prune");
    esp_prune_opts_format(&o->opts, json);
    esp_jsonw_integer(json, "inputs", (int64_t)p->inputs.n);
    esp_jsonw_integer(json, "seed", (int64_t)p->spec.seed);
    if (p->spec.error_budget > 0) {
        esp_jsonw_number(json, "error_budget", p->spec.error_budget);
        esp_jsonw_string(json, "norm", esp_norm_names[p->norm]);
    }
    if (p->box.n) worker_row_box(json, "domain", &p->box);
    if (t->kept) esp_prune_tune_format(&p->spec.tune, json);
    esp_jsonw_object_end(json);
    esp_jsonw_object_end(json);
}

static esp_code send_model(const pruning *p, const prune_outcome *o, const prune_tuned *t, char ret_sha256[ESP_HASH_HEX], esp_error *reterr) {
    const esp_model *model = o->model;
    esp_buf bytes = {0}, text = {0};
    esp_jsonw json = esp_jsonw_on(&text);
    esp_code code = esp_model_encode(model, &bytes, reterr);
    if (!code) code = worker_blob_write(p->blob_dir, &bytes, ret_sha256, reterr);
    if (!code) {
        esp_jsonw_object(&json, NULL);
        worker_put_model(model, ret_sha256, &json);
        put_spec(p, o, t, &json);
        put_metrics(p, o, t, &json);
        esp_jsonw_object_end(&json);
        worker_send(p->w, ESP_FRAME_MODEL, &text);
    }
    esp_buf_done(&bytes);
    esp_buf_done(&text);
    return code;
}

/* ---- the result ---- */

static double sparsity_of(const prune_outcome *o) {
    return o->weights ? (double)o->zeros / (double)o->weights : 0;
}

static void put_reached(const pruning *p, const prune_outcome *o, esp_jsonw *json) {
    esp_jsonw_object(json, NULL);
    esp_jsonw_string(json, "method", esp_prune_method_names[o->opts.method]);
    esp_jsonw_string(json, "scope", esp_prune_scope_names[o->opts.scope]);
    esp_jsonw_number(json, "sparsity", o->model ? sparsity_of(o) : NONE);
    esp_jsonw_integer(json, "weights", o->weights);
    esp_jsonw_number(json, "zeros", o->model ? (double)o->zeros : NONE);
    esp_jsonw_number(json, "certified", o->is_certified && o->model ? o->value : NONE);
    esp_jsonw_number(json, "lower", o->is_certified && o->model && o->certified.n ? o->certified.rows[0].lower : NONE);
    if (o->model && p->inputs.n_held) {
        esp_jsonw_object(json, "measured");
        esp_jsonw_number(json, "rms", o->rms);
        esp_jsonw_number(json, "largest", o->largest);
        esp_jsonw_integer(json, "inputs", (int64_t)p->inputs.n_held);
        esp_jsonw_object_end(json);
    } else {
        esp_jsonw_null(json, "measured");
    }
    esp_jsonw_integer(json, "tried", o->tried);
    esp_jsonw_string(json, "error", o->error.code ? o->error.message : NULL);
    esp_jsonw_object_end(json);
}

/* How a row of one box was proved, or the tree of the last (schema/formats/certificate.md). */
static void put_tree(esp_certified *made, const esp_certificate *row, esp_jsonw *json) {
    bool split = strcmp(row->method, "split") == 0;
    const char *tree = strcmp(row->method, "interval") == 0 ? "i" : strcmp(row->method, "twin") == 0 ? "d" : "c";
    if (split && !made->tree.len) {
        esp_jsonw_null(json, "tree"); /* too many leaves to keep */
        return;
    }
    esp_jsonw_string(json, "tree", split ? esp_buf_text(&made->tree) : tree);
    esp_jsonw_integer(json, "leaves", split ? made->leaves : 1);
}

static void put_certificates(const pruning *p, prune_outcome *o, const char *sha256, esp_jsonw *json) {
    esp_jsonw_array(json, "certificates");
    for (int i = 0; o && i < o->certified.n; i++) {
        esp_certificate row = o->certified.rows[i];
        if (!isfinite(row.value)) continue; /* no bound */
        row.value = worker_raised(row.value);
        worker_row_begin(json, &row, &p->box);
        put_tree(&o->certified, &row, json);
        if (row.lower > 0) esp_jsonw_vector(json, "witness", o->certified.witness, (size_t)p->box.n);
        esp_jsonw_string(json, "model_sha256", sha256);
        esp_jsonw_string(json, "reference_sha256", p->parent_sha256);
        worker_row_end(json, p->spec.time_limit_s);
    }
    esp_jsonw_array_end(json);
}

/* The sparsest; of equals the one with the smaller bound. */
static prune_outcome *choose(prune_outcome *outcomes, int n) {
    prune_outcome *best = NULL;
    for (int i = 0; i < n; i++) {
        prune_outcome *o = &outcomes[i];
        if (!o->model) continue;
        if (!best || o->zeros > best->zeros || (o->zeros == best->zeros && o->is_certified && o->value < best->value)) best = o;
    }
    return best;
}

static void put_error(const char *key, double rms, double validation_rmse, esp_jsonw *json) {
    esp_jsonw_object(json, key);
    esp_jsonw_number(json, "difference_rms", rms);
    esp_jsonw_number(json, "validation_rmse", validation_rmse);
    esp_jsonw_object_end(json);
}

static void put_tuned(const prune_tuned *t, esp_jsonw *json) {
    if (!t->done) {
        esp_jsonw_null(json, "fine_tune");
        return;
    }
    esp_jsonw_object(json, "fine_tune");
    esp_jsonw_bool(json, "kept", t->kept);
    esp_jsonw_number(json, "loss", t->loss);
    put_error("before", t->before_rms, t->before_validation_rmse, json);
    put_error("after", t->after_rms, t->after_validation_rmse, json);
    esp_jsonw_number(json, "certified", t->certified);
    esp_jsonw_object_end(json);
}

static esp_code send_result(const pruning *p, prune_outcome *outcomes, int n, prune_outcome *best, const prune_tuned *tuned, esp_error *reterr) {
    esp_buf text = {0};
    char sha256[ESP_HASH_HEX] = "";
    esp_code code = best ? send_model(p, best, tuned, sha256, reterr) : ESP_OK;
    esp_jsonw json = esp_jsonw_on(&text);
    esp_jsonw_object(&json, NULL);
    esp_jsonw_string(&json, "method", best ? esp_prune_method_names[best->opts.method] : NULL);
    esp_jsonw_number(&json, "sparsity", best ? sparsity_of(best) : NONE);
    esp_jsonw_array(&json, "reached");
    for (int i = 0; i < n; i++) put_reached(p, &outcomes[i], &json);
    esp_jsonw_array_end(&json);
    if (p->spec.tune.asked) put_tuned(tuned, &json);
    put_certificates(p, best, sha256, &json);
    esp_jsonw_object_end(&json);
    if (!code) worker_progress(p->w, 1, "done");
    if (!code) worker_send(p->w, ESP_FRAME_DONE, &text);
    esp_buf_done(&text);
    return code;
}

/* ---- the job ---- */

enum { WAYS = ESP_PRUNE_METHODS * 2 };
#define SEARCH_SHARE 0.75 /* of the time and the progress, when fine-tuning follows */

/* The methods and scopes to try. */
static int list_ways(const pruning *p, esp_prune_opts ret[WAYS]) {
    int n = 0;
    for (int i = 0; i < WAYS; i++) {
        ret[n] = p->spec.opts;
        if (p->spec.any_method) ret[n].method = (esp_prune_method)(i / 2);
        if (p->spec.any_scope) ret[n].scope = (esp_prune_scope)(i % 2);
        bool again = (!p->spec.any_method && i >= 2) || (!p->spec.any_scope && i % 2);
        n += !again;
    }
    return n;
}

/* Each way has an equal part of the time that is left. One that cannot be carried out fails the job if it was asked for. */
static esp_code search_all(pruning *p, prune_outcome outcomes[WAYS], int *ret_n, esp_error *reterr) {
    esp_prune_opts ways[WAYS];
    int n = list_ways(p, ways);
    double share = p->spec.tune.asked ? SEARCH_SHARE : 1;
    int64_t end = esp_clock_now_ns() + (int64_t)(share * p->spec.time_limit_s * 1e9);
    esp_code code = ESP_OK;
    for (int i = 0; !code && i < n; i++) {
        int64_t now = esp_clock_now_ns(), deadline = now + (end - now) / (n - i);
        code = prune_search(p, &ways[i], deadline, share * i / n, share * (i + 1) / n, &outcomes[i], reterr);
        *ret_n = i + 1;
    }
    if (!code && n == 1 && outcomes[0].error.code) {
        if (reterr) *reterr = outcomes[0].error;
        return outcomes[0].error.code;
    }
    return code;
}

/* The model to be registered: tuned if asked for, with a budget in the time that is left of the limit, and certified if there is a domain. */
static esp_code finish(pruning *p, int64_t began_ns, prune_outcome *best, prune_tuned *ret_tuned, esp_error *reterr) {
    bool budget = p->spec.error_budget > 0;
    int64_t deadline_ns = budget ? began_ns + (int64_t)(p->spec.time_limit_s * 1e9) : ESP_NEVER;
    esp_code code = ESP_OK;
    if (!best) return ESP_OK;
    if (p->spec.tune.asked) code = prune_tune(p, deadline_ns, budget ? SEARCH_SHARE : 0, 0.95, best, ret_tuned, reterr);
    if (!code && !budget && p->box.n) code = prune_certify(p, esp_clock_now_ns() + (int64_t)(p->spec.time_limit_s * 1e9), best, reterr);
    return code;
}

esp_code worker_job_prune(worker *w, const esp_reader *payload, esp_error *reterr) {
    pruning p = {.w = w, .arena = esp_arena_create(0)};
    prune_outcome outcomes[WAYS] = {0};
    prune_tuned tuned = {0};
    int n = 0;
    worker_progress(w, 0, "reading");
    esp_code code = p.arena ? read_spec(&p, payload, reterr) : esp_fail(reterr, ESP_NOMEM, "no memory for a job");
    if (!code) code = prepare(&p, reterr);
    int64_t began_ns = esp_clock_now_ns();
    if (!code && p.spec.error_budget > 0)
        code = search_all(&p, outcomes, &n, reterr);
    else if (!code)
        code = prune_once(&p, &outcomes[n++], reterr);
    prune_outcome *best = code ? NULL : choose(outcomes, n);
    if (!code) code = finish(&p, began_ns, best, &tuned, reterr);
    if (!code) code = send_result(&p, outcomes, n, best, &tuned, reterr);
    for (int i = 0; i < WAYS; i++) prune_outcome_done(&outcomes[i]);
    esp_program_free(p.slack);
    esp_arena_free(p.arena);
    return code;
}
