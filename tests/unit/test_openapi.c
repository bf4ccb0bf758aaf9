/* SPDX-License-Identifier: Apache-2.0
 * schema/api/openapi.json says what the daemon does: its paths are the route table's, its catalogues are the .def
 * files', its field lists are those of the parsers. The examples are test_examples.c. */
#include <check.h>
#include <regex.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "http/http.h"
#include "lists.h"
#include "plan/task.h"
#include "support/schema.h"
#include "tokens.h"
#include "train/train.h"

static esp_reader document;
static char why[1024];

static void open_document(void) {
    const esp_json *json = schema_openapi(why, sizeof why);
    ck_assert_msg(json != NULL, "%s", why);
    document = esp_reader_root(json);
}

static esp_reader at(const char *pointer) {
    esp_reader found = schema_resolve(&document, pointer);
    ck_assert_msg(found.value != NULL, "nothing at %s", pointer);
    return found;
}

/* ---- routes ---- */

/* "/v1/models/{ref...}" as OpenAPI writes it. */
static void template_of(const char *pattern, char *ret, size_t size) {
    size_t n = 0;
    for (const char *p = pattern; *p && n + 1 < size; p++) {
        if (strncmp(p, "...}", 4) == 0) p += 3;
        ret[n++] = *p;
    }
    ret[n] = '\0';
}

static void lower_case(const char *method, char ret[8]) {
    size_t n = 0;
    for (; method[n] && n < 7; n++) ret[n] = (char)(method[n] | 0x20);
    ret[n] = '\0';
}

START_TEST(openapi__documents_every_route) {
    esp_reader paths = at("#/paths");
    for (const esp_route *route = esp_routes; route->method; route++) {
        char template[256], method[8];
        template_of(route->pattern, template, sizeof template);
        lower_case(route->method, method);
        esp_reader item = esp_read_member(&paths, template), operation = esp_read_member(&item, method);
        ck_assert_msg(operation.value != NULL, "%s %s is served but not documented", route->method, route->pattern);
    }
}
END_TEST

/* The scope that the route table asks for is the one documented; open on loopback, hence {} as well. */
START_TEST(openapi__scopes_are_the_routes) {
    esp_reader paths = at("#/paths");
    for (const esp_route *route = esp_routes; route->method; route++) {
        char template[256], method[8], wanted[64];
        esp_buf text = {0};
        template_of(route->pattern, template, sizeof template);
        lower_case(route->method, method);
        esp_reader item = esp_read_member(&paths, template), operation = esp_read_member(&item, method),
                   security = esp_read_member(&operation, "security");
        snprintf(wanted, sizeof wanted, route->scope == ESP_SCOPE_NONE ? "[{}]" : "[{},{\"token\":[\"%s\"]}]", esp_scope_names[route->scope]);
        if (security.value) esp_json_canonical(security.value, &text);
        ck_assert_msg(strcmp(esp_buf_text(&text), wanted) == 0, "%s %s: security is %s, not %s", route->method, template, esp_buf_text(&text),
                      wanted);
        esp_buf_done(&text);
    }
}
END_TEST

static bool served(const char *path, const char *method) {
    for (const esp_route *route = esp_routes; route->method; route++) {
        char template[256], lower[8];
        template_of(route->pattern, template, sizeof template);
        lower_case(route->method, lower);
        if (strcmp(path, template) == 0 && strcmp(method, lower) == 0) return true;
    }
    return false;
}

START_TEST(openapi__documents_no_more_than_the_routes) {
    esp_reader paths = at("#/paths"), item, operation;
    const char *path, *method;
    size_t n = 0;
    for (size_t i = 0; esp_read_entry(&paths, i, &path, &item); i++)
        for (size_t j = 0; esp_read_entry(&item, j, &method, &operation); j++, n++)
            ck_assert_msg(served(path, method), "%s %s is documented but not served", method, path);
    ck_assert_uint_gt(n, 20);
}
END_TEST

/* Every parameter in braces is declared, as a path parameter. */
static void check_parameters(const char *path, const esp_reader *operation) {
    esp_reader parameters = esp_read_member(operation, "parameters");
    for (const char *p = strchr(path, '{'); p; p = strchr(p + 1, '{')) {
        size_t len = strcspn(p + 1, "}"), declared = 0;
        for (size_t i = 0; parameters.value && i < schema_length(&parameters); i++) {
            esp_reader one = esp_read_element(&parameters, i), ref = esp_read_member(&one, "$ref");
            if (ref.value) one = at(schema_text(&ref));
            esp_reader name = esp_read_member(&one, "name"), in = esp_read_member(&one, "in");
            declared += strlen(schema_text(&name)) == len && strncmp(schema_text(&name), p + 1, len) == 0 && strcmp(schema_text(&in), "path") == 0;
        }
        ck_assert_msg(declared == 1, "%s: {%.*s} is declared %zu times", path, (int)len, p + 1, declared);
    }
}

START_TEST(openapi__operations_are_whole) {
    esp_reader paths = at("#/paths"), item, operation;
    const char *path, *method;
    for (size_t i = 0; esp_read_entry(&paths, i, &path, &item); i++)
        for (size_t j = 0; esp_read_entry(&item, j, &method, &operation); j++) {
            esp_reader responses = esp_read_member(&operation, "responses"), other = esp_read_member(&responses, "default");
            ck_assert_msg(other.value != NULL, "%s %s: no default reply", method, path);
            ck_assert_msg(esp_read_member(&operation, "summary").value != NULL, "%s %s: no summary", method, path);
            ck_assert_msg(esp_read_member(&operation, "operationId").value != NULL, "%s %s: no operationId", method, path);
            check_parameters(path, &operation);
        }
}
END_TEST

/* ---- refs and catalogues ---- */

static size_t check_refs(const esp_reader *reader) {
    size_t n = 0;
    const char *key;
    esp_reader value;
    if (esp_reader_kind(reader) == ESP_JSON_ARRAY)
        for (size_t i = 0; i < schema_length(reader); i++) {
            value = esp_read_element(reader, i);
            n += check_refs(&value);
        }
    for (size_t i = 0; esp_reader_kind(reader) == ESP_JSON_OBJECT && esp_read_entry(reader, i, &key, &value); i++) {
        if (strcmp(key, "$ref") == 0 && ++n) (void)at(schema_text(&value));
        n += check_refs(&value);
    }
    return n;
}

START_TEST(openapi__every_ref_resolves) {
    ck_assert_uint_gt(check_refs(&document), 100);
}
END_TEST

/* Requests refuse what they do not know: every object schema under a request body says so. */
static void check_closed(const esp_reader *schema, int depth) {
    ck_assert_int_lt(depth, 20);
    const char *key;
    esp_reader value, type = esp_read_member(schema, "type"), ref = esp_read_member(schema, "$ref");
    if (ref.value) {
        value = at(schema_text(&ref));
        check_closed(&value, depth + 1);
    }
    if (type.value && esp_reader_kind(&type) == ESP_JSON_STRING && strcmp(schema_text(&type), "object") == 0) {
        bool open = true;
        esp_reader additional = esp_read_member(schema, "additionalProperties");
        ck_assert_int_eq(esp_read_bool(&additional, &open, NULL), ESP_OK);
        ck_assert_msg(!open, "an object of a request takes unknown fields");
    }
    for (size_t i = 0; esp_reader_kind(schema) == ESP_JSON_OBJECT && esp_read_entry(schema, i, &key, &value); i++) {
        const char *inner;
        esp_reader one;
        if (strcmp(key, "items") == 0 || strcmp(key, "x-line") == 0) check_closed(&value, depth + 1);
        for (size_t j = 0; strcmp(key, "properties") == 0 && esp_read_entry(&value, j, &inner, &one); j++) check_closed(&one, depth + 1);
        for (size_t j = 0; strstr("oneOf anyOf allOf", key) && j < schema_length(&value); j++) {
            one = esp_read_element(&value, j);
            check_closed(&one, depth + 1);
        }
    }
}

START_TEST(openapi__requests_refuse_unknown_fields) {
    esp_reader paths = at("#/paths"), item, operation, media;
    const char *path, *method, *type;
    size_t n = 0;
    for (size_t i = 0; esp_read_entry(&paths, i, &path, &item); i++)
        for (size_t j = 0; esp_read_entry(&item, j, &method, &operation); j++) {
            esp_reader body = esp_read_member(&operation, "requestBody"), content = esp_read_member(&body, "content");
            for (size_t k = 0; content.value && esp_read_entry(&content, k, &type, &media); k++, n++) {
                esp_reader schema = esp_read_member(&media, "schema");
                check_closed(&schema, 0);
            }
        }
    ck_assert_uint_gt(n, 8);
}
END_TEST

static void check_names(const char *pointer, const char *const *names) {
    esp_reader list = at(pointer);
    size_t n = schema_length(&list);
    for (size_t i = 0; i < n; i++) {
        esp_reader one = esp_read_element(&list, i);
        ck_assert_msg(names[i] != NULL, "%s has \"%s\" too many", pointer, schema_text(&one));
        ck_assert_str_eq(schema_text(&one), names[i]);
    }
    ck_assert_msg(names[n] == NULL, "%s lacks \"%s\"", pointer, names[n]);
}

START_TEST(openapi__catalogues_are_the_def_files) {
    static const char *const codes[] = {
#define X(symbol, number, http, retryable, title) #symbol,
#include "errors.def"
#undef X
        NULL};
    static const char *const states[] = {
#define STATE(symbol, name, terminal) name,
#include "states.def"
#undef STATE
        NULL};
    check_names("#/components/schemas/Problem/properties/code/enum", codes);
    check_names("#/components/schemas/Job/properties/state/enum", states);
}
END_TEST

/* ---- fields ---- */

/* Every field of the train spec is in the schema, and the reverse. */
START_TEST(openapi__train_fields_are_the_librarys) {
    esp_reader properties = at("#/components/schemas/TrainSpec/properties"), value;
    const char *key;
    size_t n = 0, known = 0;
    for (; esp_read_entry(&properties, n, &key, &value); n++) {
        const char *const *field = esp_train_fields;
        while (*field && strcmp(*field, key) != 0) field++;
        ck_assert_msg(*field != NULL, "the library does not know \"%s\"", key);
    }
    for (const char *const *field = esp_train_fields; *field; field++, known++)
        ck_assert_msg(esp_read_member(&properties, *field).value != NULL, "\"%s\" is not documented", *field);
    ck_assert_uint_eq(n, known);
}
END_TEST

START_TEST(openapi__task_fields_are_the_librarys) {
    esp_reader properties = at("#/components/schemas/TaskRequest/properties"), value;
    const char *key;
    size_t n = 0, known = 0;
    while (esp_read_entry(&properties, n, &key, &value)) n++;
    for (const char *const *field = esp_task_fields; *field; field++, known++)
        ck_assert_msg(esp_read_member(&properties, *field).value != NULL, "\"%s\" is not documented", *field);
    ck_assert_uint_eq(n, known);
}
END_TEST

/* The filters that a list takes are the columns that may be filtered by, as far as the list is known outside its file. */
static void check_filters(const char *pointer, const esp_column *columns) {
    esp_reader parameters = at(pointer), pattern = {NULL, NULL, NULL, 0};
    regex_t regex;
    for (size_t i = 0; i < schema_length(&parameters); i++) {
        esp_reader one = esp_read_element(&parameters, i), schema = esp_read_member(&one, "schema"),
                   names = esp_read_member(&schema, "propertyNames");
        if (names.value) pattern = esp_reader_root(esp_read_member(&names, "pattern").value);
    }
    ck_assert_msg(pattern.value != NULL, "%s: no filter", pointer);
    ck_assert_int_eq(regcomp(&regex, schema_text(&pattern), REG_EXTENDED | REG_NOSUB), 0);
    for (const esp_column *c = columns; c->field; c++) {
        bool documented = regexec(&regex, c->field, 0, NULL, 0) == 0, filtered = (c->flags & ESP_COL_FILTER) != 0;
        ck_assert_msg(documented == filtered, "%s: filter %s is %s", pointer, c->field, filtered ? "not documented" : "documented but not taken");
    }
    ck_assert_int_ne(regexec(&regex, "nonsense", 0, NULL, 0), 0);
    regfree(&regex);
}

START_TEST(openapi__filters_are_the_columns) {
    check_filters("#/paths/~1v1~1models/get/parameters", esp_list_models.columns);
    check_filters("#/paths/~1v1~1bounds/get/parameters", esp_list_bounds.columns);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("openapi");
    TCase *tcase = tcase_create("document");
    tcase_add_checked_fixture(tcase, open_document, NULL);
    tcase_add_test(tcase, openapi__documents_every_route);
    tcase_add_test(tcase, openapi__documents_no_more_than_the_routes);
    tcase_add_test(tcase, openapi__scopes_are_the_routes);
    tcase_add_test(tcase, openapi__operations_are_whole);
    tcase_add_test(tcase, openapi__every_ref_resolves);
    tcase_add_test(tcase, openapi__requests_refuse_unknown_fields);
    tcase_add_test(tcase, openapi__catalogues_are_the_def_files);
    tcase_add_test(tcase, openapi__train_fields_are_the_librarys);
    tcase_add_test(tcase, openapi__task_fields_are_the_librarys);
    tcase_add_test(tcase, openapi__filters_are_the_columns);
    suite_add_tcase(suite, tcase);
    return run_suite(suite);
}
