/* SPDX-License-Identifier: Apache-2.0
 * The closed-form constants against numpy's (closed_form.py): never below them, since ours are proved upper bounds, and above
 * them by no more than the checked norms allow. */
#include <check.h>
#include <math.h>
#include <stdlib.h>

#include "certify/closed_form.h"

#define PATH      "tests/golden/closed_form.json"
#define ROUNDING  1e-12 /* of numpy's own sums */
#define TIGHTNESS 1e-6 /* checked norms are within 5e-8 of the SVD, at most four multiply */
#define MAX       64

static esp_json *document;
static esp_error error;

static void open_document(void) {
    esp_buf text = {0};
    ck_assert_msg(esp_file_read(PATH, 1u << 24, &text, &error) == ESP_OK, "%s (run from the top of the tree)", error.message);
    ck_assert_msg(esp_json_parse(text.data, text.len, &document, &error) == ESP_OK, "%s", error.message);
    esp_buf_done(&text);
}

static esp_model *model_of(const esp_reader *item, const char *key) {
    esp_model *model = NULL;
    esp_reader member = esp_read_member(item, key);
    ck_assert_msg(esp_model_parse_json(&member, ESP_MODEL_POLICY, &model, &error) == ESP_OK, "%s %s", error.pointer, error.message);
    return model;
}

static void vector(const esp_reader *item, const char *key, int n, double *ret) {
    esp_reader member = esp_read_member(item, key);
    ck_assert_msg(esp_read_vector(&member, (size_t)n, ret, &error) == ESP_OK, "%s %s", error.pointer, error.message);
}

static double number(const esp_reader *item, const char *key) {
    double value = NAN;
    esp_reader member = esp_read_member(item, key);
    ck_assert_int_eq(esp_read_number(&member, 0, INFINITY, &value, &error), ESP_OK);
    return value;
}

static void compare(double ours, double theirs, const char *what, int layer) {
    ck_assert_msg(ours >= theirs * (1 - ROUNDING), "%s of layer %d: %.17g is below %.17g", what, layer + 1, ours, theirs);
    ck_assert_msg(ours <= theirs * (1 + TIGHTNESS), "%s of layer %d: %.17g is looser than %.17g allows", what, layer + 1, ours, theirs);
}

static void check_state(const esp_reader *state, const esp_model *model, const esp_model *pruned, const esp_closed_form *form) {
    double s[MAX], y[MAX], expected[MAX], work[2 * MAX], c[MAX], c_activation[MAX], bound, actual;
    int layers = esp_closed_form_layers(form), n_y = esp_model_n_y(model);
    vector(state, "s", esp_model_n_x(model), s);
    vector(state, "y", n_y, expected);
    esp_net_forward(model->net, s, y, work);
    for (int i = 0; i < n_y; i++) ck_assert_double_eq_tol(y[i], expected[i], 1e-12 * (1 + fabs(expected[i])));
    esp_closed_form_at(form, s, c, c_activation);
    vector(state, "c", layers, expected);
    for (int k = 0; k < layers; k++) compare(c[k], expected[k], "C", k);
    vector(state, "c_activation", layers, expected);
    for (int k = 0; k < layers; k++) compare(c_activation[k], expected[k], "C from activations", k);
    ck_assert_int_eq(esp_closed_form_candidate(form, pruned, s, &bound, &actual, &error), ESP_OK);
    ck_assert_double_eq_tol(actual, number(state, "actual"), 1e-12 * (1 + actual));
    ck_assert_double_ge(bound, number(state, "actual"));
    ck_assert_double_le(bound, number(state, "form_a") * (1 + TIGHTNESS)); /* at least as tight as form A */
}

START_TEST(closed_form__equals_numpy) {
    esp_reader root = esp_reader_root(document), cases = esp_read_member(&root, "cases"), item = esp_read_element(&cases, (size_t)_i);
    esp_reader states = esp_read_member(&item, "states");
    esp_model *model = model_of(&item, "model"), *pruned = model_of(&item, "pruned");
    esp_closed_form *form = NULL;
    size_t n = 0;
    ck_assert_int_eq(esp_closed_form_create(model, &form, &error), ESP_OK);
    ck_assert_int_eq(esp_read_array(&states, 1, 100, &n, &error), ESP_OK);
    for (size_t k = 0; k < n; k++) {
        esp_reader state = esp_read_element(&states, k);
        check_state(&state, model, pruned, form);
    }
    esp_closed_form_free(form);
    esp_model_free(model);
    esp_model_free(pruned);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("closed_form_golden");
    TCase *tc = tcase_create("golden");
    tcase_add_checked_fixture(tc, open_document, NULL);
    tcase_add_loop_test(tc, closed_form__equals_numpy, 0, 5);
    suite_add_tcase(suite, tc);
    return run_suite(suite);
}
