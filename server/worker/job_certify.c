/* SPDX-License-Identifier: Apache-2.0
 * The certify job: certificates of one model over a box, or of its difference to a reference.
 *
 *     closed_form           constants C_k per layer over the box, of the model (certify/closed_form.h)
 *     interval, crown, split  the largest output, or difference (certify/difference.h)
 *
 * The box is given, or is the data box of a dataset, widened by `margin` times its width on each side. All that it
 * proved by the time limit is in the result; each certificate's record says what about, for an auditor. */
#include "base/linalg.h"
#include "certify/difference.h"
#include "data/dataset.h"
#include "version.h"
#include "worker/worker.h"

#include <stdio.h>
#include <string.h>

enum { METHOD_CLOSED_FORM, METHOD_INTERVAL, METHOD_CROWN, METHOD_SPLIT, METHODS };
static const char *const method_names[] = {"closed_form", "interval", "crown", "split", NULL};

typedef struct certifying {
    worker *w;
    worker_model *model, *reference; /* reference NULL when none */
    const char *model_sha256, *reference_sha256;
    esp_box box;
    char box_sha256[ESP_HASH_HEX];
    esp_certify_opts opts;
    double time_limit_s;
    bool wanted[METHODS];
    esp_arena *arena;
    esp_jsonw json; /* the result in the making */
} certifying;

/* ---- the spec ---- */

static esp_code box_from_dataset(certifying *c, const esp_reader *domain, const esp_reader *dataset, esp_error *reterr) {
    esp_dataset *data = NULL;
    double margin = 0;
    int n = esp_model_n_x(c->model->model);
    c->box = (esp_box){n, ESP_NEW(c->arena, double, n), ESP_NEW(c->arena, double, n)};
    if (!c->box.lower || !c->box.upper) return esp_fail(reterr, ESP_NOMEM, "no memory for the domain");
    esp_reader member = esp_read_member(domain, "margin");
    esp_code code = esp_read_number(&member, 0, 1e6, &margin, reterr);
    if (!code) code = worker_dataset_load(dataset, &data, reterr);
    if (!code) code = esp_dataset_box(data, c->model->model->history, c->box.lower, c->box.upper, reterr);
    for (int i = 0; !code && i < n; i++) {
        double more = margin * (c->box.upper[i] - c->box.lower[i]);
        c->box.lower[i] -= more;
        c->box.upper[i] += more;
    }
    esp_dataset_free(data);
    return code;
}

static esp_code read_methods(certifying *c, const esp_reader *spec, esp_error *reterr) {
    esp_reader list = esp_read_member(spec, "methods");
    size_t n = 0;
    for (int m = 0; m < METHODS; m++) c->wanted[m] = !list.value;
    if (!list.value) return ESP_OK;
    esp_code code = esp_read_array(&list, 1, METHODS, &n, reterr);
    for (size_t i = 0; !code && i < n; i++) {
        int which = 0;
        esp_reader element = esp_read_element(&list, i);
        code = esp_read_choice(&element, method_names, &which, reterr);
        if (!code) c->wanted[which] = true;
    }
    return code;
}

static esp_code read_spec(certifying *c, const esp_reader *payload, esp_error *reterr) {
    esp_reader spec = esp_read_member(payload, "spec"), model = esp_read_member(payload, "model"), reference = esp_read_member(payload, "reference");
    esp_reader domain = esp_read_member(&spec, "domain"), dataset = esp_read_member(payload, "dataset");
    int norm = ESP_NORM_INF;
    esp_code code = worker_model_get(c->w, &model, &c->model, reterr);
    if (!code) code = worker_text(&model, "sha256", &c->model_sha256, reterr);
    if (!code && reference.value) code = worker_model_get(c->w, &reference, &c->reference, reterr);
    if (!code && reference.value) code = worker_text(&reference, "sha256", &c->reference_sha256, reterr);
    if (!code && dataset.value) code = box_from_dataset(c, &domain, &dataset, reterr);
    if (!code && !dataset.value) code = esp_box_parse(&domain, esp_model_n_x(c->model->model), c->arena, &c->box, reterr);
    esp_reader member = esp_read_member(&spec, "norm");
    if (!code) code = esp_read_choice(&member, esp_norm_names, &norm, reterr);
    member = esp_read_member(&spec, "time_limit_s");
    if (!code) code = esp_read_number(&member, 0, 1e6, &c->time_limit_s, reterr);
    if (!code) code = read_methods(c, &spec, reterr);
    if (code) return code;
    c->opts.norm = (esp_norm)norm;
    esp_box_hash(&c->box, c->box_sha256);
    return ESP_OK;
}

/* ---- the certificates ---- */

static void put_head(certifying *c, const char *kind, const esp_certificate *certificate) {
    esp_jsonw *json = &c->json;
    esp_jsonw_object(json, NULL);
    esp_jsonw_string(json, "kind", kind);
    esp_jsonw_string(json, "method", certificate->method);
    esp_jsonw_string(json, "norm", esp_norm_names[certificate->norm]);
    esp_jsonw_number(json, "value", certificate->value);
    esp_jsonw_number(json, "lower", certificate->lower);
    esp_jsonw_string(json, "strength", esp_strength_names[certificate->strength]);
    esp_jsonw_number(json, "tolerance", certificate->tolerance);
    esp_jsonw_string(json, "status", certificate->status);
    esp_jsonw_number(json, "seconds", certificate->seconds);
    esp_jsonw_string(json, "domain_sha256", c->box_sha256);
    esp_jsonw_object(json, "record");
    esp_jsonw_object(json, "domain");
    esp_jsonw_vector(json, "lower", c->box.lower, (size_t)c->box.n);
    esp_jsonw_vector(json, "upper", c->box.upper, (size_t)c->box.n);
    esp_jsonw_object_end(json);
}

static void put_tail(certifying *c) {
    esp_jsonw *json = &c->json;
    esp_jsonw_string(json, "model_sha256", c->model_sha256);
    if (c->reference) esp_jsonw_string(json, "reference_sha256", c->reference_sha256);
    esp_jsonw_number(json, "time_limit_s", c->time_limit_s);
    esp_jsonw_object(json, "versions");
    esp_jsonw_string(json, "espalier", ESP_VERSION);
    esp_jsonw_string(json, "linalg", esp_linalg_describe());
    esp_jsonw_object_end(json);
    esp_jsonw_object_end(json); /* record */
    esp_jsonw_object_end(json);
}

/* The constants of every layer; the row's value is the largest of them. */
static esp_code closed_form(certifying *c, esp_error *reterr) {
    int64_t start = esp_clock_now_ns();
    const esp_closed_form *form = NULL;
    esp_code code = worker_model_form(c->model, &form, reterr);
    if (code) return code;
    int layers = esp_closed_form_layers(form);
    double *constants = ESP_NEW(c->arena, double, layers);
    if (!constants) return esp_fail(reterr, ESP_NOMEM, "no memory for %d constants", layers);
    code = esp_closed_form_box(form, &c->box, constants, reterr);
    if (code) return code;
    esp_certificate certificate = {.method = "closed_form", .norm = ESP_NORM_2, .strength = ESP_PROVED, .status = "proved"};
    for (int k = 0; k < layers; k++)
        if (constants[k] > certificate.value) certificate.value = constants[k];
    certificate.seconds = esp_clock_seconds_since(start);
    put_head(c, "closed_form", &certificate);
    esp_jsonw_array(&c->json, "layers");
    for (int k = 0; k < layers; k++) {
        esp_jsonw_object(&c->json, NULL);
        esp_jsonw_integer(&c->json, "layer", k + 1);
        esp_jsonw_number(&c->json, "c", constants[k]);
        esp_jsonw_object_end(&c->json);
    }
    esp_jsonw_array_end(&c->json);
    put_tail(c);
    return ESP_OK;
}

/* What each output can be, for the record of a range. */
static esp_code put_outputs(certifying *c, const esp_program *program, esp_error *reterr) {
    esp_ranges *ranges = NULL;
    esp_code code = esp_ranges_create(program->n_r, program->n_y, &ranges, reterr);
    if (!code) code = esp_bounds_crown(program, &c->box, NULL, ranges, reterr);
    if (!code) {
        esp_jsonw_object(&c->json, "outputs");
        esp_jsonw_vector(&c->json, "lower", ranges->y_lower, (size_t)program->n_y);
        esp_jsonw_vector(&c->json, "upper", ranges->y_upper, (size_t)program->n_y);
        esp_jsonw_object_end(&c->json);
    }
    esp_ranges_free(ranges);
    return code;
}

static bool is_wanted(const certifying *c, const char *method) {
    for (int m = 0; m < METHODS; m++)
        if (strcmp(method_names[m], method) == 0) return c->wanted[m];
    return true;
}

static esp_code largest_output(certifying *c, const esp_program *program, esp_error *reterr) {
    esp_certificate found[3];
    int n = 0;
    const char *kind = c->reference ? "difference" : "range";
    /* Without splitting there is nothing to wait for. */
    int64_t limit = c->wanted[METHOD_SPLIT] ? (int64_t)(c->time_limit_s * 1e9) : 0;
    const esp_stop stop = {esp_clock_now_ns() + limit, worker_cancelled, c->w};
    double *witness = ESP_NEW(c->arena, double, program->n_x);
    if (!witness) return esp_fail(reterr, ESP_NOMEM, "no memory for a witness");
    esp_code code = esp_certify_norm(program, &c->box, &c->opts, &stop, found, &n, witness, reterr);
    for (int i = 0; !code && i < n; i++) {
        if (!is_wanted(c, found[i].method)) continue;
        put_head(c, kind, &found[i]);
        if (found[i].lower > 0) esp_jsonw_vector(&c->json, "witness", witness, (size_t)program->n_x);
        if (!c->reference && strcmp(found[i].method, "crown") == 0) code = put_outputs(c, program, reterr);
        put_tail(c);
    }
    return code;
}

static esp_code certify_program(certifying *c, esp_error *reterr) {
    const esp_program *f = NULL, *g = NULL;
    esp_program *difference = NULL;
    if (!c->wanted[METHOD_INTERVAL] && !c->wanted[METHOD_CROWN] && !c->wanted[METHOD_SPLIT]) return ESP_OK;
    esp_code code = worker_model_program(c->model, &f, reterr);
    if (!code && c->reference) code = worker_model_program(c->reference, &g, reterr);
    if (!code && c->reference) code = esp_program_difference(f, g, &difference, reterr);
    if (!code) code = largest_output(c, difference ? difference : f, reterr);
    esp_program_free(difference);
    return code;
}

esp_code worker_job_certify(worker *w, const esp_reader *payload, esp_error *reterr) {
    esp_buf text = {0};
    certifying c = {.w = w, .time_limit_s = 5, .opts = ESP_CERTIFY_OPTS_INIT, .arena = esp_arena_create(0), .json = esp_jsonw_on(&text)};
    worker_progress(w, 0, "reading");
    esp_code code = c.arena ? read_spec(&c, payload, reterr) : esp_fail(reterr, ESP_NOMEM, "no memory for a job");
    esp_jsonw_object(&c.json, NULL);
    esp_jsonw_array(&c.json, "certificates");
    if (!code && c.wanted[METHOD_CLOSED_FORM]) code = closed_form(&c, reterr);
    if (!code) worker_progress(w, 0.1, "bounds");
    if (!code) code = certify_program(&c, reterr);
    if (!code && worker_cancelled(w)) code = esp_fail(reterr, ESP_CANCELLED, "cancelled");
    esp_jsonw_array_end(&c.json);
    esp_jsonw_object_end(&c.json);
    if (!code) worker_progress(w, 1, "done");
    if (!code) worker_send(w, ESP_FRAME_DONE, &text);
    esp_buf_done(&text);
    esp_arena_free(c.arena);
    return code;
}
