/* SPDX-License-Identifier: Apache-2.0
 * ARTIFACT: the model's program as a C file (net/emit_c.h), with what is proved of it in its head.
 *
 * The head names the model, its inputs and outputs, how the file relates to what the service computes (the same bits in double, a
 * proved bound in float), and the certificates that the registry holds. Points of the self-test are drawn from the domain
 * asked for, else from that of the first certificate, else from [-1, 1]. */
#include "worker/worker.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/rng.h"
#include "certify/float_error.h"
#include "net/emit_c.h"

enum { DOMAINS_MAX = 8, INPUTS_SHOWN = 16, CERTIFICATES_MAX = 64, TEST_NUMBERS = 4096, TESTS_MIN = 2, TESTS_MAX = 8, CROWN_RELUS = 512 };
#define PARTS_WORK 3e8

typedef struct domain {
    esp_box box;
    char sha256[ESP_HASH_HEX];
} domain;

typedef struct artifact {
    const esp_model *model;
    const esp_program *program;
    const char *name, *title;
    bool single, asked; /* asked: the first domain is the request's */
    int layout;
    domain domains[DOMAINS_MAX]; /* those that fit the model's inputs */
    int n_domains;
    esp_arena *arena;
    esp_buf head;
    double *x, *tolerance;
    int n_tests;
} artifact;

static esp_code no_memory(esp_error *reterr) {
    return esp_fail(reterr, ESP_NOMEM, "no memory for an artifact");
}

/* ---- reading --------------------------------------------------------------------------------------------------------- */

/* Number of the domain, from 1, new ones added; 0 when there is none of the model's size, or no room. */
static int find_domain(artifact *a, const esp_reader *reader) {
    domain d = {0};
    if (!reader->value || a->n_domains == DOMAINS_MAX) return 0;
    if (esp_box_parse(reader, a->program->n_x, a->arena, &d.box, NULL)) return 0;
    esp_box_hash(&d.box, d.sha256);
    for (int i = 0; i < a->n_domains; i++)
        if (strcmp(a->domains[i].sha256, d.sha256) == 0) return i + 1;
    a->domains[a->n_domains] = d;
    return ++a->n_domains;
}

/* A graph network as what it is at `y`. */
static esp_code bind(worker *w, artifact *a, const esp_reader *payload, worker_model **m, esp_error *reterr) {
    esp_reader member = esp_read_member(payload, "y");
    double *y = NULL;
    size_t n = 0;
    if (!(*m)->model->graph) return ESP_OK;
    esp_code code = esp_read_vector_any(&member, ESP_MAX_WIDTH, a->arena, &y, &n, reterr);
    return code ? code : worker_model_at(w, *m, &(worker_state){.ny = (int)n, .y = y, .plain = true}, m, reterr);
}

static esp_code read_request(worker *w, artifact *a, worker_model *m, const esp_reader *payload, esp_error *reterr) {
    static const char *const precisions[] = {"double", "float", NULL};
    int precision = 0;
    esp_reader asked = esp_read_member(payload, "domain");
    esp_reader member = esp_read_member(payload, "precision"), layout = esp_read_member(payload, "layout");
    esp_code code = worker_text(payload, "name", &a->name, reterr);
    if (!code) code = worker_text(payload, "title", &a->title, reterr);
    if (!code) code = esp_read_choice(&member, precisions, &precision, reterr);
    if (!code) code = esp_read_choice(&layout, esp_emit_layout_names, &a->layout, reterr);
    if (!code) code = bind(w, a, payload, &m, reterr);
    if (!code && esp_net_relus(m->model->net) > ESP_EMIT_MAX_RELUS)
        code = esp_fail(reterr, ESP_UNPROCESSABLE, "%d ReLUs; a C file holds at most %d", esp_net_relus(m->model->net), ESP_EMIT_MAX_RELUS);
    if (!code) code = worker_model_program(m, &a->program, reterr);
    if (code) return code;
    a->model = m->model;
    a->single = precision == 1;
    a->asked = find_domain(a, &asked) > 0;
    return ESP_OK;
}

/* ---- the head -------------------------------------------------------------------------------------------------------- */

static void put_what(artifact *a) {
    const esp_model *m = a->model;
    esp_buf_printf(&a->head, "%s\n\n", a->title);
    if (m->kind == ESP_MODEL_POLICY) {
        esp_buf_printf(&a->head, "A policy: x is the state (%d numbers), y the input to apply (%d).\n\n", m->ny, m->nu);
    } else {
        esp_buf_printf(&a->head,
                       "Dynamics: x is the last %d observations of %d numbers, oldest first, then the last %d inputs of %d, the present one last;\n",
                       m->history, m->ny, m->history, m->nu);
        esp_buf_puts(&a->head, "y is the next observation. The model's frame (residual or linear part) is included.\n\n");
    }
    esp_buf_puts(&a->head, "Evaluates the ReLU program that the service lowers the model to, the form that its predictions, plans and\n"
                           "certificates work on.");
    if (!a->single)
        esp_buf_puts(&a->head, " Every operation is made in the same order: the results have the same bits, as long as nothing\n"
                               "overflows and the compiler neither fuses nor reorders (-ffp-contract=off, no -ffast-math).\n");
}

static double largest(const double *values, int n) {
    double most = 0;
    for (int i = 0; i < n; i++) most = fmax(most, values[i]);
    return most;
}

/* Parts of a domain that are looked at one by one: as many as take a fraction of a second. */
static int domain_parts(const esp_program *program) {
    double cube = pow(program->n_r + 16, 3);
    return (int)fmax(1, fmin(256, PARTS_WORK / cube));
}

/* `tight`: with CROWN's ranges and in parts, unless those would take seconds (they cost the cube of the ReLUs). */
static esp_code domain_error(artifact *a, const esp_box *box, bool tight, double *ret_error, esp_error *reterr) {
    esp_ranges *ranges = NULL;
    if (tight && a->program->n_r <= CROWN_RELUS) return esp_float_error_split(a->program, box, domain_parts(a->program), ret_error, reterr);
    esp_code code = esp_ranges_create(a->program->n_r, a->program->n_y, &ranges, reterr);
    if (!code) code = esp_bounds_interval(a->program, box, ranges, reterr);
    if (!code) code = esp_float_error_box(a->program, box, ranges, ret_error, reterr);
    esp_ranges_free(ranges);
    return code;
}

static esp_code put_float_bounds(artifact *a, esp_error *reterr) {
    int n_y = a->program->n_y;
    double *error = ESP_NEW(a->arena, double, 2 * n_y), radius = 0;
    if (!error) return no_memory(reterr);
    esp_code code = esp_float_error_radius(a->program, error, error + n_y, &radius, reterr);
    if (code) return code;
    esp_buf_puts(&a->head, " In float, to nearest, with x rounded to float; proved, for each output, against the service's double:\n");
    if (radius > 0)
        esp_buf_printf(&a->head, "    all |x| <= R, R up to %.3g      off by at most %.9g + %.9g R\n", radius * 0.99,
                       largest(error, n_y) * (1 + 1e-8), largest(error + n_y, n_y) * (1 + 1e-8));
    else
        esp_buf_puts(&a->head, "    nothing for inputs of any size: a float may overflow\n");
    for (int i = 0; i < a->n_domains && !code; i++) {
        code = domain_error(a, &a->domains[i].box, true, error, reterr);
        if (code) break;
        double most = largest(error, n_y);
        if (most < HUGE_VAL)
            esp_buf_printf(&a->head, "    x in domain %d                  off by at most %.9g\n", i + 1, most * (1 + 1e-8));
        else
            esp_buf_printf(&a->head, "    x in domain %d                  nothing: a float may overflow\n", i + 1);
    }
    return code;
}

static void put_interval(esp_buf *out, double lower, double upper, const char *after) {
    char texts[2][32];
    esp_format_number(lower, texts[0]);
    esp_format_number(upper, texts[1]);
    esp_buf_printf(out, "[%s, %s]%s", texts[0], texts[1], after);
}

static void put_domains(artifact *a) {
    for (int i = 0; i < a->n_domains; i++) {
        const domain *d = &a->domains[i];
        esp_buf_printf(&a->head, "Domain %d%s: ", i + 1, i == 0 && a->asked ? ", asked for" : "");
        for (int j = 0; j < d->box.n && d->box.n <= INPUTS_SHOWN; j++)
            put_interval(&a->head, d->box.lower[j], d->box.upper[j], j + 1 < d->box.n ? " x " : "");
        esp_buf_printf(&a->head, "%s    SHA-256 %s\n", d->box.n > INPUTS_SHOWN ? "" : "\n", d->sha256);
    }
}

static esp_code put_certificate(artifact *a, const esp_reader *certificate, int number, esp_error *reterr) {
    const char *kind = "", *norm = "", *strength = "", *method = "", *status = "", *reference = "";
    double value = 0, lower = 0;
    struct {
        const char *key, **ret;
    } texts[] = {{"kind", &kind}, {"norm", &norm}, {"strength", &strength}, {"method", &method}, {"status", &status}, {"reference", &reference}};
    esp_code code = ESP_OK;
    for (size_t i = 0; i < sizeof texts / sizeof *texts && !code; i++) {
        esp_reader member = esp_read_member(certificate, texts[i].key);
        code = esp_read_string(&member, 512, texts[i].ret, reterr);
    }
    esp_reader member = esp_read_member(certificate, "value");
    if (!code) code = esp_read_number(&member, -INFINITY, INFINITY, &value, reterr);
    member = esp_read_member(certificate, "lower");
    if (!code) code = esp_read_number(&member, -INFINITY, INFINITY, &lower, reterr);
    if (code) return code;
    char most[32], least[32];
    esp_format_number(value, most);
    esp_format_number(lower, least);
    esp_buf_printf(&a->head, "    %s%s%s, %s: at most %s", kind, *reference ? " to " : "", reference, norm, most);
    if (lower > 0) esp_buf_printf(&a->head, ", at least %s", least);
    esp_buf_printf(&a->head, "; %s by %s (%s)", strength, method, status);
    if (number)
        esp_buf_printf(&a->head, "; domain %d\n", number);
    else
        esp_buf_puts(&a->head, "\n");
    return ESP_OK;
}

static esp_code put_certificates(artifact *a, const esp_reader *payload, esp_error *reterr) {
    esp_reader list = esp_read_member(payload, "certificates");
    size_t n = 0;
    esp_code code = esp_read_array(&list, 0, CERTIFICATES_MAX, &n, reterr);
    if (code) return code;
    esp_buf_puts(&a->head, n ? "\nCertificates (of the model over the reals; what this file rounds is not in them):\n"
                             : "\nNo certificates are registered for this model.\n");
    for (size_t i = 0; i < n && !code; i++) {
        esp_reader certificate = esp_read_element(&list, i), box = esp_read_member(&certificate, "domain");
        code = put_certificate(a, &certificate, find_domain(a, &box), reterr);
    }
    return code;
}

/* ---- the self-test --------------------------------------------------------------------------------------------------- */

/* The first point is the middle, or the origin; the others uniform in the domain. */
static esp_code make_tests(artifact *a, esp_error *reterr) {
    int n_x = a->program->n_x, n_y = a->program->n_y, n = TEST_NUMBERS / (n_x + n_y);
    const esp_box *box = a->n_domains ? &a->domains[0].box : NULL;
    esp_rng rng;
    esp_rng_init(&rng, 1, 1);
    a->n_tests = n < TESTS_MIN ? TESTS_MIN : n > TESTS_MAX ? TESTS_MAX : n;
    a->x = ESP_NEW(a->arena, double, a->n_tests *n_x);
    a->tolerance = ESP_NEW(a->arena, double, a->n_tests *n_y);
    if (!a->x || !a->tolerance) return no_memory(reterr);
    for (int k = 0; k < a->n_tests * n_x; k++) {
        double lower = box ? box->lower[k % n_x] : -1, upper = box ? box->upper[k % n_x] : 1, t = k < n_x ? 0.5 : esp_rng_uniform(&rng);
        double x = (1 - t) * lower + t * upper;
        a->x[k] = a->single ? (double)(float)x : x;
        if (!isfinite(a->x[k])) return esp_fail_at(reterr, ESP_UNPROCESSABLE, "?domain", "the domain holds points that a float cannot");
    }
    esp_code code = ESP_OK;
    for (int k = 0; k < a->n_tests && a->single && !code; k++) {
        const esp_box point = {n_x, a->x + (size_t)k * (size_t)n_x, a->x + (size_t)k * (size_t)n_x};
        code = domain_error(a, &point, false, a->tolerance + (size_t)k * (size_t)n_y, reterr);
    }
    return code;
}

/* ---- all of it ------------------------------------------------------------------------------------------------------- */

static esp_code make_text(artifact *a, const esp_reader *payload, esp_buf *ret_text, esp_error *reterr) {
    esp_buf certificates = {0}, what = {0};
    put_what(a);
    what = a->head;
    a->head = (esp_buf){0};
    esp_code code = put_certificates(a, payload, reterr); /* it numbers the domains that the bounds are about */
    certificates = a->head;
    a->head = what;
    if (!code && a->single) code = put_float_bounds(a, reterr);
    if (!code) {
        esp_buf_put(&a->head, certificates.data, certificates.len);
        put_domains(a);
        code = make_tests(a, reterr);
    }
    esp_buf_done(&certificates);
    if (code) return code;
    const esp_emit_opts opts = {a->name, a->single, (esp_emit_layout)a->layout, esp_buf_text(&a->head), a->n_tests, a->x, a->tolerance};
    return a->head.failed ? no_memory(reterr) : esp_emit_c(a->program, &opts, ret_text, reterr);
}

esp_code worker_artifact(worker *w, const worker_about *about, const esp_reader *request, esp_buf *ret_answer, esp_error *reterr) {
    artifact a = {.arena = esp_arena_create(0)};
    esp_code code = a.arena ? read_request(w, &a, about->model, request, reterr) : no_memory(reterr);
    if (!code) code = make_text(&a, request, ret_answer, reterr);
    esp_buf_done(&a.head);
    esp_arena_free(a.arena);
    return code;
}
