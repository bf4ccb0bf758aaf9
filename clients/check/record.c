/* SPDX-License-Identifier: Apache-2.0
 * The certificate, read as schema/formats/certificate.md says, and what can be told of it without a model: that it is whole
 * and agrees with itself. */
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "check/check.h"

enum { BAD = 1, UNCHECKABLE = 2, BOX_MAX = 4096, STEPS_MAX = 1000, TERMS_MAX = 1000 };

static int bad(char *why, const char *what) {
    snprintf(why, 200, "the certificate is damaged: %s", what);
    return BAD;
}

static int no_check(char *why, const char *what) {
    snprintf(why, 200, "%s", what);
    return UNCHECKABLE;
}

/* A number; null is infinity. NaN when there is none. */
static double number_of(const json_t *value) {
    if (json_is_null(value)) return HUGE_VAL;
    return json_is_number(value) ? json_number_value(value) : nan("");
}

static double number_at(const json_t *object, const char *key) {
    const json_t *value = json_object_get(object, key);
    return value ? number_of(value) : nan("");
}

/* An array of n numbers (any number up to most when n is 0), malloc'ed; NULL when it is not that. */
static double *numbers_at(const json_t *object, const char *key, size_t n, size_t most, size_t *ret_n) {
    const json_t *array = json_object_get(object, key);
    size_t size = json_is_array(array) ? json_array_size(array) : 0;
    if (size == 0 || size > most || (n && size != n)) return NULL;
    double *values = calloc(size, sizeof *values);
    for (size_t i = 0; values && i < size; i++) {
        values[i] = number_of(json_array_get(array, i));
        if (!isnan(values[i])) continue;
        free(values);
        return NULL;
    }
    if (ret_n) *ret_n = size;
    return values;
}

static bool text_at(const json_t *object, const char *key, char *ret, size_t room) {
    const char *text = json_string_value(json_object_get(object, key));
    if (!text || strlen(text) >= room) return false;
    memcpy(ret, text, strlen(text) + 1);
    return true;
}

/* ---- the domain ---- */

static void put_number(double value, char *ret, size_t room) {
    snprintf(ret, room, "%.15g", value + 0.0);
    if (strtod(ret, NULL) != value) snprintf(ret, room, "%.17g", value);
}

static char *put_side(char *at, const char *key, const double *values, size_t n) {
    at += sprintf(at, "\"%s\":[", key);
    for (size_t i = 0; i < n; i++) {
        char text[40];
        put_number(values[i], text, sizeof text);
        at += sprintf(at, "%s%s", i ? "," : "", text);
    }
    return at + sprintf(at, "]");
}

static bool domain_hash(const double *lower, const double *upper, size_t n, char ret_hex[65]) {
    char *text = malloc(100 + 80 * n), *at = text;
    if (!text) return false;
    at += sprintf(at, "{");
    at = put_side(at, "lower", lower, n);
    at += sprintf(at, ",");
    at = put_side(at, "upper", upper, n);
    at += sprintf(at, "}");
    chk_sha256(text, (size_t)(at - text), ret_hex);
    free(text);
    return true;
}

static int read_domain(const json_t *row, const json_t *record, chk_claim *claim, char *why) {
    const json_t *domain = json_object_get(record, "domain");
    char named[65], hash[65];
    size_t n = 0;
    claim->lower = numbers_at(domain, "lower", 0, BOX_MAX, &n);
    claim->upper = claim->lower ? numbers_at(domain, "upper", n, BOX_MAX, NULL) : NULL;
    if (!claim->upper) return bad(why, "no domain");
    for (size_t i = 0; i < n; i++)
        if (!isfinite(claim->lower[i]) || !isfinite(claim->upper[i]) || claim->lower[i] > claim->upper[i]) return bad(why, "the domain is no box");
    claim->n_box = claim->n_domain = (int)n;
    if (!domain_hash(claim->lower, claim->upper, n, hash)) return no_check(why, "no memory");
    if (!text_at(row, "domain_sha256", named, sizeof named) || strcmp(named, hash) != 0)
        return bad(why, "the domain is not the one that its hash names");
    return 0;
}

/* ---- loops ---- */

static int read_steps(const json_t *record, const char *count, const char *radii, chk_claim *claim, char *why) {
    const json_t *steps = json_object_get(record, count);
    double largest = 0;
    if (!json_is_integer(steps) || json_integer_value(steps) < 1 || json_integer_value(steps) > STEPS_MAX) return bad(why, "no number of steps");
    claim->steps = (int)json_integer_value(steps);
    if (!radii) return 0;
    claim->radius = numbers_at(record, radii, (size_t)claim->steps, STEPS_MAX, NULL);
    if (!claim->radius) return bad(why, "not a radius for every step");
    for (int k = 0; k < claim->steps; k++) largest = fmax(largest, claim->radius[k]);
    if (claim->kind == CHK_CLOSED_LOOP && !(claim->value >= largest)) return bad(why, "its value is less than one of its radii");
    return 0;
}

/* What is claimed of all steps: a part of a tube, or all that there is. */
static int read_forever(const json_t *record, chk_claim *claim, char *why) {
    const json_t *forever = json_object_get(record, "forever"), *set = json_object_get(forever, "set");
    claim->forever = json_is_true(json_object_get(forever, "holds")) && json_is_true(json_object_get(forever, "invariant"));
    if (!claim->forever) return claim->stepwise ? bad(why, "nothing holds for ever") : 0;
    size_t n = (size_t)claim->n_domain;
    claim->forever_radius = number_at(forever, "radius");
    claim->set_lower = numbers_at(set, "lower", n, BOX_MAX, NULL);
    claim->set_upper = numbers_at(set, "upper", n, BOX_MAX, NULL);
    if (!claim->set_lower || !claim->set_upper) return bad(why, "no set that the loops stay in");
    for (size_t i = 0; i < n; i++)
        if (!isfinite(claim->set_lower[i]) || !isfinite(claim->set_upper[i]) || claim->set_lower[i] > claim->set_upper[i])
            return bad(why, "the set is no box");
    if (!(claim->forever_radius >= 0) || (claim->stepwise && !(claim->value >= claim->forever_radius)))
        return bad(why, "its value is less than its radius");
    return 0;
}

static int read_constants(const json_t *record, chk_claim *claim, char *why) {
    const json_t *layers = json_object_get(record, "layers");
    size_t n = json_is_array(layers) ? json_array_size(layers) : 0;
    if (n < 1 || n > BOX_MAX) return bad(why, "no constants");
    claim->n_layers = (int)n;
    claim->constants = calloc(n, sizeof *claim->constants);
    if (!claim->constants) return no_check(why, "no memory");
    for (size_t k = 0; k < n; k++) {
        const json_t *layer = json_array_get(layers, k);
        claim->constants[k] = number_at(layer, "c");
        if (number_at(layer, "layer") != (double)(k + 1) || !(claim->constants[k] >= 0)) return bad(why, "one of its constants");
        if (!(claim->value >= claim->constants[k])) return bad(why, "its value is less than one of its constants");
    }
    return 0;
}

static int read_term(const json_t *object, chk_term *term, int horizon) {
    static const char *const names[] = {"l1", "linf", "l2sq"};
    const char *norm = json_string_value(json_object_get(object, "norm"));
    const json_t *index = json_object_get(object, "index");
    size_t n = json_is_array(index) ? json_array_size(index) : 0;
    double first = number_at(object, "first"), last = number_at(object, "last");
    int which = 0;
    while (which < 3 && (!norm || strcmp(norm, names[which]) != 0)) which++;
    if (which == 3 || n < 1 || n > BOX_MAX || !(first >= 1) || !(last <= horizon)) return BAD;
    *term = (chk_term){.norm = (chk_cost)which, .first = (int)first, .last = (int)last, .n = (int)n, .index = calloc(n, sizeof(int))};
    term->weight = numbers_at(object, "weight", n, BOX_MAX, NULL);
    if (!term->index || !term->weight) return BAD;
    for (size_t i = 0; i < n; i++) {
        const json_t *entry = json_array_get(index, i);
        if (!json_is_integer(entry) || json_integer_value(entry) < 0 || json_integer_value(entry) >= BOX_MAX || !(term->weight[i] >= 0)) return BAD;
        term->index[i] = (int)json_integer_value(entry);
    }
    if (term->norm != CHK_L2SQ) return 0;
    term->target_lower = numbers_at(object, "target_lower", n, BOX_MAX, NULL);
    term->target_upper = numbers_at(object, "target_upper", n, BOX_MAX, NULL);
    return term->target_lower && term->target_upper ? 0 : BAD;
}

/* The box of a loss is the domain and then the inputs, for every step. */
static int read_loss(const json_t *record, chk_claim *claim, char *why) {
    const json_t *input = json_object_get(record, "input"), *terms = json_object_get(record, "terms");
    size_t nu = 0, steps = (size_t)claim->steps, n = (size_t)claim->n_domain;
    double *lower = numbers_at(input, "lower", 0, BOX_MAX, &nu), *upper = lower ? numbers_at(input, "upper", nu, BOX_MAX, NULL) : NULL;
    double *all_lower = realloc(claim->lower, (n + nu * steps) * sizeof *all_lower);
    if (all_lower) claim->lower = all_lower;
    double *all_upper = realloc(claim->upper, (n + nu * steps) * sizeof *all_upper);
    if (all_upper) claim->upper = all_upper;
    bool fine = upper && all_lower && all_upper && json_is_array(terms) && json_array_size(terms) <= TERMS_MAX;
    for (size_t i = 0; fine && i < nu * steps; i++) {
        claim->lower[n + i] = lower[i % nu];
        claim->upper[n + i] = upper[i % nu];
        fine = isfinite(lower[i % nu]) && isfinite(upper[i % nu]) && lower[i % nu] <= upper[i % nu];
    }
    free(lower);
    free(upper);
    if (!fine) return bad(why, "no inputs or no cost");
    claim->n_box = (int)(n + nu * steps);
    claim->eta = number_at(record, "eta");
    if (!(claim->value >= 2 * claim->eta)) return bad(why, "its value is less than twice its eta");
    claim->terms = calloc(json_array_size(terms) + 1, sizeof *claim->terms);
    if (!claim->terms) return no_check(why, "no memory");
    for (size_t k = 0; k < json_array_size(terms); k++) {
        claim->n_terms++;
        if (read_term(json_array_get(terms, k), &claim->terms[k], claim->steps)) return bad(why, "a term of the cost");
    }
    return 0;
}

/* ---- all of it ---- */

static int read_kind(const json_t *row, chk_claim *claim, char *why) {
    static const char *const names[] = {"difference", "range", "lipschitz", "closed_loop", "planning_loss", "closed_form"};
    char kind[40], method[40], strength[40], norm[10];
    if (!text_at(row, "kind", kind, sizeof kind) || !text_at(row, "method", method, sizeof method) || !text_at(row, "norm", norm, sizeof norm) ||
        !text_at(row, "strength", strength, sizeof strength))
        return bad(why, "no kind, method, norm or strength");
    if (strcmp(strength, "proved") != 0) return no_check(why, "it does not claim to be proved: there is nothing to prove from the models alone");
    size_t which = 0;
    while (which < sizeof names / sizeof *names && strcmp(names[which], kind) != 0) which++;
    if (which == sizeof names / sizeof *names) return no_check(why, "this program does not check certificates of this kind");
    claim->kind = (chk_kind)which;
    claim->stepwise =
        (claim->kind == CHK_CLOSED_LOOP && strcmp(method, "forever") == 0) || (claim->kind == CHK_PLANNING_LOSS && strcmp(method, "product") == 0);
    claim->two_norm = strcmp(norm, "l2") == 0;
    if (!claim->two_norm && strcmp(norm, "linf") != 0) return bad(why, "a norm that there is not");
    return claim->kind == CHK_CLOSED_FORM && !claim->two_norm ? bad(why, "its norm") : 0;
}

static int read_outputs(const json_t *record, chk_claim *claim, char *why) {
    const json_t *outputs = json_object_get(record, "outputs");
    size_t n = 0;
    if (!outputs || claim->kind != CHK_RANGE) return 0;
    claim->out_lower = numbers_at(outputs, "lower", 0, BOX_MAX, &n);
    claim->out_upper = claim->out_lower ? numbers_at(outputs, "upper", n, BOX_MAX, NULL) : NULL;
    claim->n_out = (int)n;
    return claim->out_upper ? 0 : bad(why, "its outputs");
}

static int read_record(const json_t *row, const json_t *record, chk_claim *claim, char *why) {
    bool two = claim->kind == CHK_DIFFERENCE || claim->kind == CHK_CLOSED_LOOP || claim->kind == CHK_PLANNING_LOSS;
    const json_t *version = json_object_get(record, "version"), *leaves = json_object_get(record, "leaves");
    if (!json_is_integer(version) || json_integer_value(version) != 1) return no_check(why, "its record is of another version");
    if (!text_at(record, "model_sha256", claim->model_sha256, 65)) return bad(why, "no model");
    if (two && !text_at(record, "reference_sha256", claim->reference_sha256, 65)) return bad(why, "no reference");
    if (claim->kind == CHK_CLOSED_LOOP && !text_at(record, "dynamics_sha256", claim->dynamics_sha256, 65)) return bad(why, "no dynamics");
    claim->value = number_at(row, "value");
    claim->reached = number_at(row, "lower");
    if (!(claim->value >= 0) || !isfinite(claim->value) || !(claim->reached <= claim->value)) return bad(why, "its value");
    int code = read_domain(row, record, claim, why);
    if (!code && claim->kind == CHK_CLOSED_LOOP) code = read_steps(record, "steps", claim->stepwise ? NULL : "radius", claim, why);
    if (!code && claim->kind == CHK_CLOSED_LOOP) code = read_forever(record, claim, why);
    if (!code && claim->kind == CHK_CLOSED_FORM) code = read_constants(record, claim, why);
    if (!code && claim->kind == CHK_PLANNING_LOSS) code = read_steps(record, "horizon", "deviation", claim, why);
    if (!code && claim->kind == CHK_PLANNING_LOSS) code = read_loss(record, claim, why);
    if (!code) code = read_outputs(record, claim, why);
    if (code) return code;
    claim->tree = json_string_value(json_object_get(record, "tree"));
    claim->leaves = json_is_integer(leaves) ? (int)json_integer_value(leaves) : 0;
    if (json_object_get(record, "witness")) {
        claim->witness = numbers_at(record, "witness", (size_t)claim->n_box, BOX_MAX, NULL);
        if (!claim->witness) return bad(why, "its witness");
    }
    if (claim->reached > 0 && !claim->witness) return bad(why, "it reaches a value without saying where");
    for (int i = 0; claim->witness && i < claim->n_box; i++)
        if (!(claim->witness[i] >= claim->lower[i] && claim->witness[i] <= claim->upper[i])) return bad(why, "its witness is not in the domain");
    return 0;
}

int chk_claim_read(const char *path, chk_claim *ret_claim, char *why) {
    size_t len = 0;
    json_error_t error;
    unsigned char *bytes = chk_file_read(path, (size_t)64 << 20, &len, why);
    if (!bytes) return UNCHECKABLE;
    json_t *row = json_loadb((const char *)bytes, len, JSON_REJECT_DUPLICATES, &error);
    free(bytes);
    *ret_claim = (chk_claim){.json = row};
    const json_t *record = json_object_get(row, "record");
    if (!json_is_object(record)) return bad(why, row ? "no record" : "not JSON");
    int code = read_kind(row, ret_claim, why);
    return code ? code : read_record(row, record, ret_claim, why);
}

void chk_claim_done(chk_claim *claim) {
    for (int k = 0; k < claim->n_terms; k++) {
        free(claim->terms[k].index);
        free(claim->terms[k].weight);
        free(claim->terms[k].target_lower);
        free(claim->terms[k].target_upper);
    }
    void *const blocks[] = {claim->lower,  claim->upper, claim->witness,   claim->out_lower, claim->out_upper,
                            claim->radius, claim->terms, claim->set_lower, claim->set_upper, claim->constants};
    for (size_t k = 0; k < sizeof blocks / sizeof *blocks; k++) free(blocks[k]);
    json_decref(claim->json);
}
