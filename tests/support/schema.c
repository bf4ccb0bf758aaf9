/* SPDX-License-Identifier: Apache-2.0
 * The JSON Schema checker: one function a keyword, in a table. */
#include "support/schema.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

typedef struct checker {
    const esp_reader *document;
    esp_error error; /* of the first thing that does not conform */
} checker;

static bool check(checker *c, const esp_reader *schema, const esp_reader *value);

/* esp_read_member takes null for absent; here the two differ. */
static bool member(const esp_reader *object, const char *key, esp_reader *ret_value) {
    const char *at;
    esp_reader value;
    for (size_t i = 0; esp_reader_kind(object) == ESP_JSON_OBJECT && esp_read_entry(object, i, &at, &value); i++)
        if (strcmp(at, key) == 0) {
            *ret_value = value;
            return true;
        }
    return false;
}

const char *schema_text(const esp_reader *reader) {
    const char *text = "";
    return esp_read_string(reader, (size_t)-1, &text, NULL) == ESP_OK ? text : "";
}

static double number_of(const esp_reader *reader) {
    double number = 0;
    return esp_read_number(reader, -HUGE_VAL, HUGE_VAL, &number, NULL) == ESP_OK ? number : NAN;
}

size_t schema_length(const esp_reader *array) {
    size_t n = 0;
    return esp_read_array(array, 0, (size_t)-1, &n, NULL) == ESP_OK ? n : 0;
}

static bool equal(const esp_reader *a, const esp_reader *b) {
    if (esp_reader_kind(a) == ESP_JSON_NUMBER && esp_reader_kind(b) == ESP_JSON_NUMBER) return number_of(a) == number_of(b);
    esp_buf at = {0}, bt = {0};
    esp_json_canonical(a->value, &at);
    esp_json_canonical(b->value, &bt);
    bool same = !at.failed && !bt.failed && at.len == bt.len && (at.len == 0 || memcmp(at.data, bt.data, at.len) == 0);
    esp_buf_done(&at);
    esp_buf_done(&bt);
    return same;
}

/* ---- keywords ---- */

static bool is_type(const esp_reader *value, const char *type) {
    switch (esp_reader_kind(value)) {
    case ESP_JSON_NULL: return strcmp(type, "null") == 0;
    case ESP_JSON_BOOL: return strcmp(type, "boolean") == 0;
    case ESP_JSON_STRING: return strcmp(type, "string") == 0;
    case ESP_JSON_ARRAY: return strcmp(type, "array") == 0;
    case ESP_JSON_OBJECT: return strcmp(type, "object") == 0;
    case ESP_JSON_NUMBER: break;
    }
    return strcmp(type, "number") == 0 || (strcmp(type, "integer") == 0 && floor(number_of(value)) == number_of(value));
}

static bool on_type(checker *c, const esp_reader *keyword, const esp_reader *schema, const esp_reader *value) {
    (void)schema;
    if (esp_reader_kind(keyword) == ESP_JSON_STRING) {
        if (is_type(value, schema_text(keyword))) return true;
        return esp_refuse(value, &c->error, "is not of type %s", schema_text(keyword)) == ESP_OK;
    }
    for (size_t i = 0; i < schema_length(keyword); i++) {
        esp_reader type = esp_read_element(keyword, i);
        if (is_type(value, schema_text(&type))) return true;
    }
    return esp_refuse(value, &c->error, "is of none of the types") == ESP_OK;
}

static bool on_properties(checker *c, const esp_reader *keyword, const esp_reader *schema, const esp_reader *value) {
    (void)schema;
    const char *key;
    esp_reader property, found;
    for (size_t i = 0; esp_read_entry(keyword, i, &key, &property); i++)
        if (member(value, key, &found) && !check(c, &property, &found)) return false;
    return true;
}

static bool on_required(checker *c, const esp_reader *keyword, const esp_reader *schema, const esp_reader *value) {
    (void)schema;
    esp_reader found;
    if (esp_reader_kind(value) != ESP_JSON_OBJECT) return true;
    for (size_t i = 0; i < schema_length(keyword); i++) {
        esp_reader name = esp_read_element(keyword, i);
        if (!member(value, schema_text(&name), &found)) return esp_refuse(value, &c->error, "lacks \"%s\"", schema_text(&name)) == ESP_OK;
    }
    return true;
}

static bool on_additional(checker *c, const esp_reader *keyword, const esp_reader *schema, const esp_reader *value) {
    esp_reader properties, found, property;
    bool allowed = true, has = member(schema, "properties", &properties);
    bool by_schema = esp_reader_kind(keyword) == ESP_JSON_OBJECT;
    (void)!esp_read_bool(keyword, &allowed, NULL);
    if (esp_reader_kind(value) != ESP_JSON_OBJECT) return true;
    const char *key;
    for (size_t i = 0; esp_read_entry(value, i, &key, &found); i++) {
        if (has && member(&properties, key, &property)) continue;
        if (by_schema && !check(c, keyword, &found)) return false;
        if (!allowed) return esp_refuse(&found, &c->error, "is a field the schema does not know") == ESP_OK;
    }
    return true;
}

static bool on_items(checker *c, const esp_reader *keyword, const esp_reader *schema, const esp_reader *value) {
    (void)schema;
    for (size_t i = 0; i < schema_length(value); i++) {
        esp_reader item = esp_read_element(value, i);
        if (!check(c, keyword, &item)) return false;
    }
    return true;
}

static bool on_enum(checker *c, const esp_reader *keyword, const esp_reader *schema, const esp_reader *value) {
    (void)schema;
    for (size_t i = 0; i < schema_length(keyword); i++) {
        esp_reader one = esp_read_element(keyword, i);
        if (equal(&one, value)) return true;
    }
    return esp_refuse(value, &c->error, "is not in the enum") == ESP_OK;
}

static bool on_const(checker *c, const esp_reader *keyword, const esp_reader *schema, const esp_reader *value) {
    (void)schema;
    return equal(keyword, value) || esp_refuse(value, &c->error, "is not the constant") == ESP_OK;
}

/* The four limits of a number and the four of a length differ in the comparison only; schema->key is not theirs, the
 * keyword's own key is. */
static bool on_range(checker *c, const esp_reader *keyword, const esp_reader *schema, const esp_reader *value) {
    (void)schema;
    if (esp_reader_kind(value) != ESP_JSON_NUMBER) return true;
    double limit = number_of(keyword), x = number_of(value);
    bool exclusive = strncmp(keyword->key, "exclusive", 9) == 0;
    bool lower = strcmp(keyword->key, "minimum") == 0 || strcmp(keyword->key, "exclusiveMinimum") == 0;
    bool ok = lower ? x >= limit : x <= limit;
    if (exclusive && x == limit) ok = false;
    return ok || esp_refuse(value, &c->error, "%.17g is outside %s %.17g", x, keyword->key, limit) == ESP_OK;
}

/* Characters of UTF-8 text: bytes that do not continue one. */
static size_t characters(const char *text) {
    size_t n = 0;
    for (; *text; text++) n += ((unsigned char)*text & 0xC0) != 0x80;
    return n;
}

static bool on_length(checker *c, const esp_reader *keyword, const esp_reader *schema, const esp_reader *value) {
    (void)schema;
    bool of_items = strstr(keyword->key, "Items") != NULL;
    if (esp_reader_kind(value) != (of_items ? ESP_JSON_ARRAY : ESP_JSON_STRING)) return true;
    double n = (double)(of_items ? schema_length(value) : characters(schema_text(value)));
    bool ok = keyword->key[1] == 'i' ? n >= number_of(keyword) : n <= number_of(keyword);
    return ok || esp_refuse(value, &c->error, "length %.0f is outside %s %.0f", n, keyword->key, number_of(keyword)) == ESP_OK;
}

static bool on_all(checker *c, const esp_reader *keyword, const esp_reader *schema, const esp_reader *value) {
    (void)schema;
    for (size_t i = 0; i < schema_length(keyword); i++) {
        esp_reader one = esp_read_element(keyword, i);
        if (!check(c, &one, value)) return false;
    }
    return true;
}

/* anyOf and oneOf. Of the reasons of the branches that failed, the one that got furthest into the value is the likely
 * one, so the longest pointer is kept. */
static bool on_some(checker *c, const esp_reader *keyword, const esp_reader *schema, const esp_reader *value) {
    (void)schema;
    size_t matches = 0;
    esp_error best = {0};
    for (size_t i = 0; i < schema_length(keyword); i++) {
        esp_reader one = esp_read_element(keyword, i);
        checker inner = {.document = c->document};
        if (check(&inner, &one, value))
            matches++;
        else if (i == 0 || strlen(inner.error.pointer) > strlen(best.pointer))
            best = inner.error;
    }
    if (matches == 1 || (matches > 1 && strcmp(keyword->key, "anyOf") == 0)) return true;
    if (matches > 1) return esp_refuse(value, &c->error, "matches %zu branches of oneOf", matches) == ESP_OK;
    c->error = best;
    (void)!esp_error_wrap(&c->error, ESP_INVALID, "no branch of %s; nearest", keyword->key);
    return false;
}

static bool on_ref(checker *c, const esp_reader *keyword, const esp_reader *schema, const esp_reader *value) {
    (void)schema;
    esp_reader target = schema_resolve(c->document, schema_text(keyword));
    if (!target.value) return esp_refuse(value, &c->error, "schema: nothing at %s", schema_text(keyword)) == ESP_OK;
    return check(c, &target, value);
}

static bool on_annotation(checker *c, const esp_reader *keyword, const esp_reader *schema, const esp_reader *value) {
    (void)c, (void)keyword, (void)schema, (void)value;
    return true;
}

typedef bool keyword_fn(checker *c, const esp_reader *keyword, const esp_reader *schema, const esp_reader *value);
static const struct {
    const char *name;
    keyword_fn *run;
} keywords[] = {
    {"$ref", on_ref},
    {"type", on_type},
    {"const", on_const},
    {"enum", on_enum},
    {"required", on_required},
    {"properties", on_properties},
    {"additionalProperties", on_additional},
    {"items", on_items},
    {"minItems", on_length},
    {"maxItems", on_length},
    {"minLength", on_length},
    {"maxLength", on_length},
    {"minimum", on_range},
    {"maximum", on_range},
    {"exclusiveMinimum", on_range},
    {"exclusiveMaximum", on_range},
    {"allOf", on_all},
    {"anyOf", on_some},
    {"oneOf", on_some},
    {"title", on_annotation},
    {"description", on_annotation},
    {"default", on_annotation},
    {"example", on_annotation},
    {"examples", on_annotation},
    {"format", on_annotation},
    {"pattern", on_annotation},
    {"contentMediaType", on_annotation},
    {"contentEncoding", on_annotation},
};

static keyword_fn *keyword_of(const char *name) {
    if (strncmp(name, "x-", 2) == 0) return on_annotation;
    for (size_t i = 0; i < sizeof keywords / sizeof keywords[0]; i++)
        if (strcmp(keywords[i].name, name) == 0) return keywords[i].run;
    return NULL;
}

static bool check(checker *c, const esp_reader *schema, const esp_reader *value) {
    if (esp_reader_kind(schema) != ESP_JSON_OBJECT) return esp_refuse(value, &c->error, "schema: not an object") == ESP_OK;
    const char *name;
    esp_reader keyword;
    for (size_t i = 0; esp_read_entry(schema, i, &name, &keyword); i++) {
        keyword_fn *run = keyword_of(name);
        if (!run) return esp_refuse(value, &c->error, "schema: the checker does not know \"%s\"", name) == ESP_OK;
        if (!run(c, &keyword, schema, value)) return false;
    }
    return true;
}

bool schema_check(const esp_reader *document, const esp_reader *schema, const esp_reader *value, char *why, size_t size) {
    checker c = {.document = document};
    if (check(&c, schema, value)) return true;
    (void)snprintf(why, size, "%s: %s", c.error.pointer[0] ? c.error.pointer : "(top)", c.error.message);
    return false;
}

esp_reader schema_resolve(const esp_reader *document, const char *ref) {
    static const esp_reader nothing = {NULL, NULL, NULL, 0};
    if (strncmp(ref, "#/", 2) != 0) return nothing;
    const esp_json *at = document->value;
    char name[256];
    for (const char *p = ref + 1; *p == '/' && at;) {
        size_t n = 0;
        for (p++; *p && *p != '/' && n + 1 < sizeof name; p++) {
            if (p[0] == '~' && (p[1] == '0' || p[1] == '1'))
                name[n++] = *++p == '1' ? '/' : '~';
            else
                name[n++] = *p;
        }
        name[n] = '\0';
        esp_reader object = esp_reader_root(at);
        at = esp_read_member(&object, name).value;
    }
    return esp_reader_root(at);
}
