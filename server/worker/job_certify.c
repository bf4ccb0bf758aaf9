/* SPDX-License-Identifier: Apache-2.0
 * The certify job: certificates of one model over a box, or of its difference to a reference.
 *
 *     closed_form            constants C_k per layer over the box, of the model (certify/closed_form.h)
 *     interval, crown, split   the largest output, or difference (certify/difference.h); without a reference the Lipschitz
 *                              constant too (certify/lipschitz.h: interval, split), for which half of the time is kept
 *     twin                   the difference, through the differences of paired neurons (certify/twin.h)
 *     exact                  the largest output, or difference, by CBC on phases of ReLUs (plan/exact.h). Not asked for by name: only
 *                            for EXACT_RELUS and fewer, where splitting has not met its gap, and then reported if it is below
 *
 * The box is given, or is the data box of a dataset, widened by `margin` times its width on each side. All that it
 * proved by the time limit is in the result; each certificate's record says what about, for an auditor
 * (schema/formats/certificate.md). Claims are about the models as they are stored: what lowering them rounded is charged. */
#include "base/linalg.h"
#include "certify/crown.h"
#include "certify/difference.h"
#include "certify/lipschitz.h"
#include "certify/lowering.h"
#include "certify/twin.h"
#include "data/dataset.h"
#include "plan/cbc.h"
#include "plan/exact.h"
#include "version.h"
#include "worker/worker.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { METHOD_CLOSED_FORM, METHOD_INTERVAL, METHOD_CROWN, METHOD_TWIN, METHOD_SPLIT, METHOD_EXACT, METHODS };
static const char *const method_names[] = {"closed_form", "interval", "crown", "twin", "split", "exact", NULL};

#define CHECKED     1e-9 /* a value is raised by this, so that a checker need not round alike */
#define FEW_BOXES   2 /* when no splitting is asked for */
#define EXACT_RELUS 40
#define EXACT_GAP   1e-3
#define EXACT_SHARE 0.3 /* of the time of the split, where exact may come after it */
#define OVERRUN     2 /* CBC may take so many times as long as it is told */

typedef struct certifying {
    worker *w;
    worker_model *model, *reference; /* reference NULL when none */
    const char *model_sha256, *reference_sha256;
    esp_box box;
    char box_sha256[ESP_HASH_HEX];
    esp_certify_opts opts;
    double time_limit_s;
    bool wanted[METHODS], by_name; /* by_name: methods were given */
    double exact_share; /* of the time, for CBC */
    esp_arena *arena;
    esp_jsonw json; /* the result in the making */
} certifying;

/* ---- the spec ---- */

static esp_code box_from_dataset(certifying *c, const esp_reader *domain, const esp_reader *dataset, esp_error *reterr) {
    esp_dataset *data = NULL;
    double margin = 0;
    int n = 0;
    esp_reader member = esp_read_member(domain, "margin");
    esp_code code = esp_read_number(&member, 0, 1e6, &margin, reterr);
    if (!code) code = worker_dataset_load(c->w, dataset, &data, reterr);
    if (!code) {
        n = c->model->model->history * (data->ny + data->nu);
        c->box = (esp_box){n, ESP_NEW(c->arena, double, n), ESP_NEW(c->arena, double, n)};
        if (!c->box.lower || !c->box.upper) code = esp_fail(reterr, ESP_NOMEM, "no memory for the domain");
    }
    if (!code) code = esp_dataset_box(data, c->model->model->history, c->box.lower, c->box.upper, reterr);
    for (int i = 0; !code && i < n; i++) {
        double more = margin * (c->box.upper[i] - c->box.lower[i]);
        c->box.lower[i] -= more;
        c->box.upper[i] += more;
    }
    esp_dataset_free(data);
    return code;
}

/* Numbers of the domain that is given; the daemon has checked that a graph network takes them. */
static int n_of(const certifying *c, const esp_reader *domain) {
    esp_reader lower = esp_read_member(domain, "lower");
    size_t n = 0;
    bool any = c->model->model->graph && !esp_read_array(&lower, 1, ESP_MAX_WIDTH, &n, NULL);
    return any ? (int)n : esp_model_n_x(c->model->model);
}

/* Graph networks become what they are all over the box. */
static esp_code bind_models(certifying *c, esp_error *reterr) {
    const esp_model *model = c->model->model;
    const worker_state at = {.ny = c->box.n - model->nu, .lower = c->box.lower, .upper = c->box.upper, .plain = true};
    esp_code code = ESP_OK;
    if (model->graph) code = worker_model_at(c->w, c->model, &at, &c->model, reterr);
    if (!code && c->reference && c->reference->model->graph) code = worker_model_at(c->w, c->reference, &at, &c->reference, reterr);
    if (code && reterr && !*reterr->pointer) esp_error_prefix_pointer(reterr, "/spec/domain");
    return code;
}

static esp_code read_methods(certifying *c, const esp_reader *spec, esp_error *reterr) {
    esp_reader list = esp_read_member(spec, "methods");
    size_t n = 0;
    c->by_name = list.value != NULL;
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
    if (!code && !dataset.value) code = esp_box_parse(&domain, n_of(c, &domain), c->arena, &c->box, reterr);
    if (!code) code = bind_models(c, reterr);
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

static double raised(double value) {
    return value > 0 ? nextafter(value * (1 + CHECKED), HUGE_VAL) : value;
}

static void put_head(certifying *c, const char *kind, const esp_certificate *certificate) {
    esp_jsonw *json = &c->json;
    esp_jsonw_object(json, NULL);
    esp_jsonw_string(json, "kind", kind);
    esp_jsonw_string(json, "method", certificate->method);
    esp_jsonw_string(json, "norm", esp_norm_names[certificate->norm]);
    esp_jsonw_number(json, "value", raised(certificate->value));
    esp_jsonw_number(json, "lower", certificate->lower);
    esp_jsonw_string(json, "strength", esp_strength_names[certificate->strength]);
    esp_jsonw_number(json, "tolerance", certificate->tolerance);
    esp_jsonw_string(json, "status", certificate->status);
    esp_jsonw_number(json, "seconds", certificate->seconds);
    esp_jsonw_string(json, "domain_sha256", c->box_sha256);
    esp_jsonw_object(json, "record");
    esp_jsonw_integer(json, "version", ESP_RECORD_VERSION);
    esp_jsonw_object(json, "domain");
    esp_jsonw_vector(json, "lower", c->box.lower, (size_t)c->box.n);
    esp_jsonw_vector(json, "upper", c->box.upper, (size_t)c->box.n);
    esp_jsonw_object_end(json);
}

static void put_tail(certifying *c, bool of_both) {
    esp_jsonw *json = &c->json;
    esp_jsonw_string(json, "model_sha256", c->model_sha256);
    if (of_both) esp_jsonw_string(json, "reference_sha256", c->reference_sha256);
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
        esp_jsonw_number(&c->json, "c", raised(constants[k]));
        esp_jsonw_object_end(&c->json);
    }
    esp_jsonw_array_end(&c->json);
    put_tail(c, false);
    return ESP_OK;
}

/* What each output can be over the whole box, by CROWN, for the record of a range; a little wider, as values are. */
static esp_code put_outputs(certifying *c, const esp_program *program, esp_error *reterr) {
    esp_crown *crown = NULL;
    esp_ranges *ranges = NULL;
    esp_code code = esp_ranges_create(program->n_r, program->n_y, &ranges, reterr);
    if (!code) code = esp_crown_create(program, &crown, reterr);
    if (code) goto out;
    esp_ranges_open(ranges);
    esp_crown_box(crown, c->box.lower, c->box.upper);
    esp_crown_slack(crown, c->opts.slack_f);
    if (!esp_crown_run(crown, ESP_CROWN_BACKWARD, 0, true, ranges)) {
        code = esp_fail(reterr, ESP_INTERNAL, "the outputs have no range");
        goto out;
    }
    for (int i = 0; i < program->n_y; i++) {
        ranges->y_lower[i] -= CHECKED * fabs(ranges->y_lower[i]);
        ranges->y_upper[i] += CHECKED * fabs(ranges->y_upper[i]);
    }
    esp_jsonw_object(&c->json, "outputs");
    esp_jsonw_vector(&c->json, "lower", ranges->y_lower, (size_t)program->n_y);
    esp_jsonw_vector(&c->json, "upper", ranges->y_upper, (size_t)program->n_y);
    esp_jsonw_object_end(&c->json);
out:
    esp_crown_free(crown);
    esp_ranges_free(ranges);
    return code;
}

static bool is_wanted(const certifying *c, const char *method) {
    for (int m = 0; m < METHODS; m++)
        if (strcmp(method_names[m], method) == 0) return c->wanted[m];
    return true;
}

/* How the rows of one box were proved, or the tree of the last. */
static void put_tree(certifying *c, const esp_certificate *row, esp_certified *made) {
    bool split = strcmp(row->method, "split") == 0, slopes = strcmp(row->kind, "lipschitz") == 0;
    const char *tree = slopes ? "j" : strcmp(row->method, "interval") == 0 ? "i" : strcmp(row->method, "twin") == 0 ? "d" : "c";
    if (split && made->tree.len == 0) {
        esp_jsonw_null(&c->json, "tree"); /* too many leaves to keep */
        return;
    }
    esp_jsonw_string(&c->json, "tree", split ? esp_buf_text(&made->tree) : tree);
    esp_jsonw_integer(&c->json, "leaves", split ? made->leaves : 1);
}

static esp_code put_rows(certifying *c, const esp_program *f, esp_certified *made, esp_error *reterr) {
    esp_code code = ESP_OK;
    for (int i = 0; !code && i < made->n; i++) {
        const esp_certificate *row = &made->rows[i];
        if (!is_wanted(c, row->method)) continue;
        put_head(c, row->kind, row);
        put_tree(c, row, made);
        if (row->lower > 0) esp_jsonw_vector(&c->json, "witness", made->witness, (size_t)f->n_x);
        if (strcmp(row->kind, "range") == 0 && strcmp(row->method, "crown") == 0) code = put_outputs(c, f, reterr);
        put_tail(c, strcmp(row->kind, "difference") == 0);
    }
    return code;
}

/* The stop of a search that has `share` of the time. */
static esp_stop stop_after(const certifying *c, double share) {
    return (esp_stop){esp_clock_now_ns() + (int64_t)(share * c->time_limit_s * 1e9), worker_cancelled, c->w};
}

/* The row of exact, after the others; when it was not asked for by name, only if it is below `least`. */
static esp_code certify_exact(certifying *c, const esp_program *f, const esp_program *g, const int *pairs, double least, esp_error *reterr) {
    esp_exact found = {0};
    int64_t start = esp_clock_now_ns();
    const esp_stop stop = stop_after(c, c->exact_share);
    esp_certify_opts opts = c->opts;
    opts.gap = EXACT_GAP;
    worker_lease(c->w, OVERRUN * c->exact_share * c->time_limit_s);
    esp_code code = esp_exact_run(f, g, pairs, &c->box, &opts, &stop, &found, reterr);
    worker_lease(c->w, 0);
    if (!code && (c->by_name || found.value < least)) {
        const esp_certificate row = {.kind = g ? "difference" : "range",
                                     .method = "exact",
                                     .norm = c->opts.norm,
                                     .value = found.value,
                                     .lower = found.lower,
                                     .strength = found.solver ? ESP_SOLVER : ESP_PROVED,
                                     .tolerance = found.tolerance,
                                     .status = strcmp(found.status, "optimal") == 0 ? "proved" : found.status,
                                     .seconds = esp_clock_seconds_since(start)};
        put_head(c, row.kind, &row);
        if (row.lower > 0) esp_jsonw_vector(&c->json, "witness", found.witness, (size_t)f->n_x);
        esp_jsonw_string(&c->json, "solver", esp_cbc_describe());
        esp_jsonw_integer(&c->json, "binaries", found.binaries);
        esp_jsonw_integer(&c->json, "nodes", found.nodes);
        esp_jsonw_integer(&c->json, "refused", found.refused);
        put_tail(c, g != NULL);
    }
    esp_exact_done(&found);
    return code;
}

/* Is there to be a search by CBC, or may one come? */
static bool is_exact(const certifying *c, const esp_program *f, const esp_program *g) {
    bool linear = c->opts.norm == ESP_NORM_INF || f->n_y == 1;
    return c->wanted[METHOD_EXACT] && linear && (c->by_name || f->n_r + (g ? g->n_r : 0) <= EXACT_RELUS);
}

static esp_code certify_difference(certifying *c, const esp_program *f, const esp_program *g, esp_error *reterr) {
    esp_certified made = {0};
    int *pairs = ESP_NEW(c->arena, int, f->n_r + 1);
    if (!pairs) return esp_fail(reterr, ESP_NOMEM, "no memory for %d ReLUs", f->n_r);
    if (g) (void)esp_twin_pairs(c->model->model->net, c->reference->model->net, pairs);
    bool exact = is_exact(c, f, g),
         others = c->wanted[METHOD_INTERVAL] || c->wanted[METHOD_CROWN] || c->wanted[METHOD_TWIN] || c->wanted[METHOD_SPLIT];
    double share = g ? 1 : 0.5, kept = !exact ? 0 : !others ? share : c->by_name ? share / 2 : EXACT_SHARE * share, least = HUGE_VAL;
    bool met = false;
    const esp_stop stop = stop_after(c, share - kept);
    esp_code code = others ? esp_certify_difference(f, g, pairs, &c->box, &c->opts, &stop, &made, reterr) : ESP_OK;
    if (!code && others) code = put_rows(c, f, &made, reterr);
    for (int i = 0; !code && i < made.n; i++) {
        least = fmin(least, made.rows[i].value);
        met = strcmp(made.rows[i].method, "split") == 0 && strcmp(made.rows[i].status, "proved") == 0;
    }
    c->exact_share = kept;
    if (!code && exact && (c->by_name || !met)) code = certify_exact(c, f, g, g ? pairs : NULL, least, reterr);
    esp_certified_done(&made);
    return code;
}

static esp_code certify_lipschitz(certifying *c, const esp_program *f, esp_error *reterr) {
    esp_certified made = {0};
    if (!c->wanted[METHOD_INTERVAL] && !c->wanted[METHOD_SPLIT]) return ESP_OK;
    const esp_stop stop = stop_after(c, 0.5);
    esp_code code = esp_certify_lipschitz(f, &c->box, &c->opts, &stop, &made, reterr);
    if (!code) code = put_rows(c, f, &made, reterr);
    esp_certified_done(&made);
    return code;
}

static esp_code certify_programs(certifying *c, esp_error *reterr) {
    const esp_program *f = NULL, *g = NULL;
    esp_program *slack_f = NULL, *slack_g = NULL;
    bool any = false;
    for (int m = METHOD_INTERVAL; m < METHODS; m++) any = any || c->wanted[m];
    if (!any) return ESP_OK;
    esp_code code = worker_model_program(c->model, &f, reterr);
    if (!code) code = esp_lowering_slack(c->model->model, &slack_f, reterr);
    if (!code && c->reference) code = worker_model_program(c->reference, &g, reterr);
    if (!code && c->reference) code = esp_lowering_slack(c->reference->model, &slack_g, reterr);
    c->opts.slack_f = slack_f;
    c->opts.slack_g = slack_g;
    if (!c->wanted[METHOD_SPLIT]) c->opts.max_boxes = FEW_BOXES;
    if (!code) code = certify_difference(c, f, g, reterr);
    if (!code && !g) code = certify_lipschitz(c, f, reterr);
    c->opts.slack_f = c->opts.slack_g = NULL;
    esp_program_free(slack_f);
    esp_program_free(slack_g);
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
    if (!code) code = certify_programs(&c, reterr);
    if (!code && worker_cancelled(w)) code = esp_fail(reterr, ESP_CANCELLED, "cancelled");
    esp_jsonw_array_end(&c.json);
    esp_jsonw_object_end(&c.json);
    if (!code) worker_progress(w, 1, "done");
    if (!code) worker_send(w, ESP_FRAME_DONE, &text);
    esp_buf_done(&text);
    esp_arena_free(c.arena);
    return code;
}
