/* SPDX-License-Identifier: Apache-2.0
 * ONNX files made by other tools (onnx_models.py, onnx_pytorch.py): what onnxruntime and PyTorch answer for them, our program
 * answers too; and files that must be refused are, by name and place. */
#include <check.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "net/onnx.h"
#include "net/program.h"

/* of onnxruntime's own sums, which are in the file's precision */
#define ROUNDING_FLOAT  2e-6
#define ROUNDING_DOUBLE 1e-14
enum { MAX = 64, BYTES_MAX = 1 << 20 };

static esp_json *models, *pytorch;
static esp_error error;

static esp_reader list(const esp_json *document, const char *name, size_t *ret_n) {
    esp_reader root = esp_reader_root(document), member = esp_read_member(&root, name);
    ck_assert_int_eq(esp_read_array(&member, 1, 1000, ret_n, &error), ESP_OK);
    return (esp_reader){member.value, NULL, NULL, 0};
}

static const char *text_of(const esp_reader *item, const char *key) {
    const char *text = NULL;
    esp_reader member = esp_read_member(item, key);
    ck_assert_msg(esp_read_string(&member, BYTES_MAX, &text, &error) == ESP_OK, "%s: %s", key, error.message);
    return text;
}

static void check_row(const esp_reader *item, size_t i, const esp_model *model, const esp_program *program, double rounding) {
    double x[MAX], y[MAX], expected[MAX], *work = calloc((size_t)program->n_r + 1, sizeof *work);
    esp_reader xs = esp_read_member(item, "x"), ys = esp_read_member(item, "y"), x_row = esp_read_element(&xs, i), y_row = esp_read_element(&ys, i);
    ck_assert_ptr_nonnull(work);
    ck_assert_msg(esp_read_vector(&x_row, (size_t)esp_model_n_x(model), x, &error) == ESP_OK, "%s", error.message);
    ck_assert_msg(esp_read_vector(&y_row, (size_t)esp_model_n_y(model), expected, &error) == ESP_OK, "%s", error.message);
    esp_program_forward(program, x, y, NULL, NULL, work);
    for (int k = 0; k < program->n_y; k++)
        ck_assert_msg(fabs(y[k] - expected[k]) <= rounding * (1 + fabs(expected[k])), "row %zu, output %d: %.17g, expected %.17g", i, k, y[k],
                      expected[k]);
    free(work);
}

static void check_accepted(const esp_reader *item) {
    char path[128];
    esp_buf bytes = {0}, again = {0};
    esp_model *model = NULL, *back = NULL;
    esp_program *program = NULL;
    bool is_double = false;
    size_t rows = 0;
    esp_reader flag = esp_read_member(item, "double"), xs = esp_read_member(item, "x");
    int kind = strcmp(text_of(item, "kind"), "policy") == 0 ? ESP_MODEL_POLICY : ESP_MODEL_DYNAMICS;
    snprintf(path, sizeof path, "tests/golden/%s", text_of(item, "file"));
    ck_assert_int_eq(esp_read_bool(&flag, &is_double, &error), ESP_OK);
    ck_assert_msg(esp_file_read(path, 1u << 20, &bytes, &error) == ESP_OK, "%s", error.message);
    ck_assert_msg(esp_onnx_parse(bytes.data, bytes.len, kind, 0, &model, &error) == ESP_OK, "%s: %s: %s", path, error.pointer, error.message);
    ck_assert_int_eq(esp_program_lower(model, &program, &error), ESP_OK);
    ck_assert_int_eq(esp_read_array(&xs, 1, 100, &rows, &error), ESP_OK);
    for (size_t i = 0; i < rows; i++) check_row(item, i, model, program, is_double ? ROUNDING_DOUBLE : ROUNDING_FLOAT);

    esp_buf ours = {0}, theirs = {0}; /* and through a file of ours */
    ck_assert_int_eq(esp_onnx_format(model, &again, &error), ESP_OK);
    ck_assert_int_eq(esp_onnx_parse(again.data, again.len, -1, 0, &back, &error), ESP_OK);
    ck_assert(esp_model_encode(model, &ours, NULL) == ESP_OK && esp_model_encode(back, &theirs, NULL) == ESP_OK);
    ck_assert(ours.len == theirs.len && memcmp(ours.data, theirs.data, ours.len) == 0);
    esp_buf_done(&ours);
    esp_buf_done(&theirs);
    esp_buf_done(&bytes);
    esp_buf_done(&again);
    esp_program_free(program);
    esp_model_free(model);
    esp_model_free(back);
}

static void check_all_accepted(const esp_json *document, size_t at_least) {
    size_t n = 0;
    esp_reader items = list(document, "accepted", &n);
    ck_assert_uint_ge(n, at_least);
    for (size_t i = 0; i < n; i++) {
        esp_reader item = esp_read_element(&items, i);
        check_accepted(&item);
    }
}

START_TEST(onnx_golden__answers_as_onnxruntime) {
    check_all_accepted(models, 4);
}
END_TEST

START_TEST(onnx_golden__answers_as_pytorch) {
    check_all_accepted(pytorch, 2);
}
END_TEST

START_TEST(onnx_golden__residual_is_seen_as_such) {
    esp_buf bytes = {0};
    esp_model *model = NULL;
    ck_assert_int_eq(esp_file_read("tests/golden/onnx_pytorch_dynamics.onnx", 1u << 20, &bytes, &error), ESP_OK);
    ck_assert_int_eq(esp_onnx_parse(bytes.data, bytes.len, ESP_MODEL_DYNAMICS, 0, &model, &error), ESP_OK);
    ck_assert_int_eq(model->frame.kind, ESP_FRAME_RESIDUAL);
    ck_assert_int_eq(esp_net_relus(model->net), 16);
    esp_model_free(model);
    model = NULL;
    esp_buf_done(&bytes);
    ck_assert_int_eq(esp_file_read("tests/golden/onnx_residual_dynamics.onnx", 1u << 20, &bytes, &error), ESP_OK);
    ck_assert_int_eq(esp_onnx_parse(bytes.data, bytes.len, ESP_MODEL_DYNAMICS, 0, &model, &error), ESP_OK);
    ck_assert_int_eq(model->frame.kind, ESP_FRAME_RESIDUAL);
    ck_assert_int_eq(model->ny, 3);
    ck_assert_int_eq(model->nu, 2);
    esp_model_free(model);
    model = NULL;
    ck_assert_int_eq(esp_onnx_parse(bytes.data, bytes.len, ESP_MODEL_DYNAMICS, 2, &model, &error), ESP_INVALID); /* 5 inputs, twice 3 outputs */
    ck_assert_str_eq(error.pointer, "?history");
    ck_assert_int_eq(esp_onnx_parse(bytes.data, bytes.len, -1, 0, &model, &error), ESP_INVALID);
    ck_assert_str_eq(error.pointer, "?kind");
    ck_assert_int_eq(esp_onnx_parse(bytes.data, bytes.len, ESP_MODEL_POLICY, 0, &model, &error), ESP_UNPROCESSABLE); /* a policy has no frame */
    ck_assert_ptr_null(model);
    esp_buf_done(&bytes);
}
END_TEST

static void check_refused(const esp_reader *item) {
    const char *name = text_of(item, "name"), *hex = text_of(item, "hex");
    int64_t repeat = 1;
    esp_buf bytes = {0};
    esp_model *model = NULL;
    esp_reader member = esp_read_member(item, "repeat");
    ck_assert_int_eq(esp_read_integer(&member, 1, BYTES_MAX, &repeat, &error), ESP_OK);
    for (int64_t k = 0; k < repeat; k++) {
        for (const char *at = hex; *at; at += 2) {
            char two[3] = {at[0], at[1], 0}, byte = (char)strtol(two, NULL, 16);
            esp_buf_put(&bytes, &byte, 1);
        }
    }
    esp_code code = esp_onnx_parse(bytes.data, bytes.len, ESP_MODEL_POLICY, 0, &model, &error);
    ck_assert_msg(strcmp(esp_code_name(code), text_of(item, "code")) == 0, "%s: %s (%s)", name, esp_code_name(code), error.message);
    ck_assert_msg(strcmp(error.pointer, text_of(item, "pointer")) == 0, "%s: at \"%s\" (%s)", name, error.pointer, error.message);
    ck_assert_msg(strstr(error.message, text_of(item, "part")) != NULL, "%s: %s", name, error.message);
    ck_assert_ptr_null(model);
    esp_buf_done(&bytes);
    error = (esp_error){0};
}

START_TEST(onnx_golden__the_rest_is_refused_by_name) {
    size_t n = 0;
    esp_reader items = list(models, "refused", &n);
    ck_assert_uint_ge(n, 20);
    for (size_t i = 0; i < n; i++) {
        esp_reader item = esp_read_element(&items, i);
        check_refused(&item);
    }
}
END_TEST

static esp_json *load(const char *path) {
    esp_buf text = {0};
    esp_json *json = NULL;
    if (esp_file_read(path, 1u << 24, &text, &error) || esp_json_parse(text.data, text.len, &json, &error))
        fprintf(stderr, "%s: %s (run from the top of the tree)\n", path, error.message);
    esp_buf_done(&text);
    return json;
}

int main(void) {
    models = load("tests/golden/onnx_models.json");
    pytorch = load("tests/golden/onnx_pytorch.json");
    if (!models || !pytorch) return EXIT_FAILURE;
    Suite *suite = suite_create("onnx_golden");
    TCase *tc = tcase_create("onnx_golden");
    tcase_add_test(tc, onnx_golden__answers_as_onnxruntime);
    tcase_add_test(tc, onnx_golden__answers_as_pytorch);
    tcase_add_test(tc, onnx_golden__residual_is_seen_as_such);
    tcase_add_test(tc, onnx_golden__the_rest_is_refused_by_name);
    suite_add_tcase(suite, tc);
    int status = run_suite(suite);
    esp_json_free(models);
    esp_json_free(pytorch);
    return status;
}
