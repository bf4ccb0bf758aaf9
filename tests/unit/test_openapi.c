/* SPDX-License-Identifier: Apache-2.0
 * schema/api/openapi.json says what the daemon does: its paths are the route table's, its catalogues are the .def
 * files', its examples conform to its schemas, are read by the library's own parsers, and agree with each other. */
#include <check.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/arena.h"
#include "http/http.h"
#include "net/model.h"
#include "plan/task.h"
#include "support/schema.h"
#include "train/train.h"

static esp_reader document;
static char why[1024];

static void open_document(void) {
    const esp_json *json = schema_openapi(why, sizeof why);
    ck_assert_msg(json != NULL, "%s", why);
    document = esp_reader_root(json);
}

static const char *text_of(const esp_reader *reader) {
    const char *text = NULL;
    ck_assert_int_eq(esp_read_string(reader, (size_t)-1, &text, NULL), ESP_OK);
    return text ? text : "";
}

static size_t length_of(const esp_reader *array) {
    size_t n = 0;
    ck_assert_int_eq(esp_read_array(array, 0, (size_t)-1, &n, NULL), ESP_OK);
    return n;
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
        for (size_t i = 0; parameters.value && i < length_of(&parameters); i++) {
            esp_reader one = esp_read_element(&parameters, i), ref = esp_read_member(&one, "$ref");
            if (ref.value) one = at(text_of(&ref));
            esp_reader name = esp_read_member(&one, "name"), in = esp_read_member(&one, "in");
            declared += strlen(text_of(&name)) == len && strncmp(text_of(&name), p + 1, len) == 0 && strcmp(text_of(&in), "path") == 0;
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
        for (size_t i = 0; i < length_of(reader); i++) {
            value = esp_read_element(reader, i);
            n += check_refs(&value);
        }
    for (size_t i = 0; esp_reader_kind(reader) == ESP_JSON_OBJECT && esp_read_entry(reader, i, &key, &value); i++) {
        if (strcmp(key, "$ref") == 0 && ++n) (void)at(text_of(&value));
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
        value = at(text_of(&ref));
        check_closed(&value, depth + 1);
    }
    if (type.value && esp_reader_kind(&type) == ESP_JSON_STRING && strcmp(text_of(&type), "object") == 0) {
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
        for (size_t j = 0; strstr("oneOf anyOf allOf", key) && j < length_of(&value); j++) {
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
    size_t n = length_of(&list);
    for (size_t i = 0; i < n; i++) {
        esp_reader one = esp_read_element(&list, i);
        ck_assert_msg(names[i] != NULL, "%s has \"%s\" too many", pointer, text_of(&one));
        ck_assert_str_eq(text_of(&one), names[i]);
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

/* ---- examples ---- */

static size_t check_lines(const esp_reader *schema, const char *text, const char *where) {
    size_t n = 0;
    for (const char *p = text; *p; n++) {
        size_t len = strcspn(p, "\n");
        esp_json *json = NULL;
        esp_error error = {0};
        ck_assert_msg(esp_json_parse(p, len, &json, &error) == ESP_OK, "%s line %zu: %s", where, n + 1, error.message);
        esp_reader value = esp_reader_root(json);
        ck_assert_msg(schema_check(&document, schema, &value, why, sizeof why), "%s line %zu: %s", where, n + 1, why);
        esp_json_free(json);
        p += len + (p[len] == '\n');
    }
    return n;
}

static size_t check_example(const esp_reader *schema, const esp_reader *example, const char *where) {
    esp_reader line = esp_read_member(schema, "x-line"), value = esp_reader_root(example->value);
    ck_assert_msg(schema_check(&document, schema, &value, why, sizeof why), "%s: %s", where, why);
    return line.value ? check_lines(&line, text_of(example), where) : 1;
}

/* Every media type object (it has a schema and an example or examples) below `reader`. */
static size_t check_examples(const esp_reader *reader, const char *where) {
    size_t n = 0;
    const char *key, *name;
    esp_reader value, one;
    if (esp_reader_kind(reader) != ESP_JSON_OBJECT) return 0;
    esp_reader schema = esp_read_member(reader, "schema"), example = esp_read_member(reader, "example"),
               examples = esp_read_member(reader, "examples");
    if (schema.value && example.value) n += check_example(&schema, &example, where);
    for (size_t i = 0; schema.value && examples.value && esp_read_entry(&examples, i, &name, &value); i++) {
        one = esp_read_member(&value, "value");
        n += check_example(&schema, &one, where);
    }
    for (size_t i = 0; esp_read_entry(reader, i, &key, &value); i++)
        if (strncmp(key, "example", 7) != 0) n += check_examples(&value, key[0] == '/' ? key : where);
    return n;
}

START_TEST(openapi__examples_conform) {
    ck_assert_uint_gt(check_examples(&document, ""), 50);
}
END_TEST

typedef void example_fn(const char *name, const esp_reader *value);

static size_t for_examples(const char *pointer, example_fn *run) {
    esp_reader examples = at(pointer), one;
    const char *name;
    size_t n = 0;
    for (; esp_read_entry(&examples, n, &name, &one); n++) {
        esp_reader value = esp_reader_root(esp_read_member(&one, "value").value);
        run(name, &value);
    }
    return n;
}

static void check_task(const char *name, const esp_reader *value) {
    esp_arena *arena = esp_arena_create(0);
    esp_task *task = NULL;
    esp_error error = {0};
    ck_assert_msg(esp_task_parse(value, 2, 1, arena, &task, &error) == ESP_OK, "%s: %s %s", name, error.pointer, error.message);
    ck_assert_int_ge(task->horizon, 1);
    esp_arena_free(arena);
}

static void check_plan_task(const char *name, const esp_reader *value) {
    esp_reader task = esp_read_member(value, "task");
    if (esp_reader_kind(&task) == ESP_JSON_OBJECT) check_task(name, &task);
}

static void check_model(const char *name, const esp_reader *value) {
    esp_model *model = NULL;
    esp_error error = {0};
    ck_assert_msg(esp_model_parse_json(value, ESP_MODEL_DYNAMICS, &model, &error) == ESP_OK, "%s: %s %s", name, error.pointer, error.message);
    ck_assert_int_eq(model->ny, 2);
    ck_assert_int_eq(model->nu, 1);
    esp_model_free(model);
}

static void check_train(const char *name, const esp_reader *value) {
    esp_reader kind = esp_read_member(value, "kind"), spec = esp_read_member(value, "spec");
    if (strcmp(text_of(&kind), "train") != 0) return;
    esp_arena *arena = esp_arena_create(0);
    esp_train_opts opts;
    esp_error error = {0};
    ck_assert_msg(esp_train_opts_parse(&spec, 2, 1, arena, &opts, &error) == ESP_OK, "%s: %s %s", name, error.pointer, error.message);
    ck_assert_int_ge(opts.n_hidden, 1);
    esp_arena_free(arena);
}

START_TEST(openapi__library_reads_the_examples) {
    ck_assert_uint_ge(for_examples("#/paths/~1v1~1tasks/post/requestBody/content/application~1json/examples", check_task), 3);
    ck_assert_uint_ge(for_examples("#/paths/~1v1~1plans/post/requestBody/content/application~1json/examples", check_plan_task), 3);
    ck_assert_uint_ge(for_examples("#/paths/~1v1~1models/post/requestBody/content/application~1json/examples", check_model), 2);
    ck_assert_uint_ge(for_examples("#/paths/~1v1~1jobs/post/requestBody/content/application~1json/examples", check_train), 3);
}
END_TEST

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

/* ---- the carriage of the examples, by hand: position and velocity after a step of u ---- */

static void carriage(const double y[2], double u, double ret[2]) {
    double v = y[1], drag = v > 0 ? 0.05 * v : 0.02 * v;
    ret[0] = y[0] + 0.1 * v;
    ret[1] = v + 0.1 * u - drag;
}

static void read_rows(const esp_reader *matrix, size_t rows, size_t cols, double *ret) {
    esp_error error = {0};
    ck_assert_msg(esp_read_matrix(matrix, rows, cols, ret, &error) == ESP_OK, "%s", error.message);
}

START_TEST(openapi__prediction_is_the_networks) {
    double x[6], y[4], expected[2];
    esp_reader in = at("#/paths/~1v1~1models~1{ref}~1predict/post/requestBody/content/application~1json/example/x");
    esp_reader out = at("#/paths/~1v1~1models~1{ref}~1predict/post/responses/200/content/application~1json/example/y");
    esp_reader network = at("#/paths/~1v1~1models/post/requestBody/content/application~1json/examples/rail/value");
    read_rows(&in, 2, 3, x);
    read_rows(&out, 2, 2, y);
    esp_model *model = NULL;
    ck_assert_int_eq(esp_model_parse_json(&network, ESP_MODEL_DYNAMICS, &model, NULL), ESP_OK);
    for (int i = 0; i < 2; i++) {
        double f[2], work[64];
        carriage(x + 3 * i, x[3 * i + 2], expected);
        esp_net_forward(model->net, x + 3 * i, f, work);
        for (int k = 0; k < 2; k++) {
            ck_assert_double_eq_tol(y[2 * i + k], expected[k], 1e-12);
            ck_assert_double_eq_tol(y[2 * i + k], x[3 * i + k] + f[k], 1e-12);
        }
    }
    esp_model_free(model);
}
END_TEST

START_TEST(openapi__plan_is_what_it_says) {
    esp_reader plan = at("#/paths/~1v1~1plans/post/responses/200/content/application~1json/example");
    esp_reader inputs = esp_read_member(&plan, "inputs"), predicted = esp_read_member(&plan, "predicted");
    esp_reader objective = esp_read_member(&plan, "objective");
    double u[5], y[10], now[2] = {0, 0}, next[2], sum = 0, said = 0;
    read_rows(&inputs, 5, 1, u);
    read_rows(&predicted, 5, 2, y);
    ck_assert_int_eq(esp_read_number(&objective, -1e9, 1e9, &said, NULL), ESP_OK);
    for (int t = 0; t < 5; t++) {
        carriage(now, u[t], next);
        ck_assert_double_eq_tol(next[0], y[2 * t], 1e-8);
        ck_assert_double_eq_tol(next[1], y[2 * t + 1], 1e-8);
        sum += fabs(next[0] - 0.05) + 0.01 * fabs(u[t]);
        memcpy(now, next, sizeof now);
    }
    sum += 10 * fabs(now[0] - 0.05) + fabs(now[1]);
    ck_assert_double_eq_tol(sum, said, 1e-7);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("openapi");
    TCase *tcase = tcase_create("document");
    tcase_add_checked_fixture(tcase, open_document, NULL);
    tcase_add_test(tcase, openapi__documents_every_route);
    tcase_add_test(tcase, openapi__documents_no_more_than_the_routes);
    tcase_add_test(tcase, openapi__operations_are_whole);
    tcase_add_test(tcase, openapi__every_ref_resolves);
    tcase_add_test(tcase, openapi__requests_refuse_unknown_fields);
    tcase_add_test(tcase, openapi__catalogues_are_the_def_files);
    tcase_add_test(tcase, openapi__examples_conform);
    tcase_add_test(tcase, openapi__library_reads_the_examples);
    tcase_add_test(tcase, openapi__train_fields_are_the_librarys);
    tcase_add_test(tcase, openapi__task_fields_are_the_librarys);
    tcase_add_test(tcase, openapi__prediction_is_the_networks);
    tcase_add_test(tcase, openapi__plan_is_what_it_says);
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
