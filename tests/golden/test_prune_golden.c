/* SPDX-License-Identifier: Apache-2.0
 * Pruning against numpy's (prune.py): the same weights gone, and the same numbers left. */
#include <check.h>
#include <math.h>
#include <stdlib.h>

#include "net/model.h"
#include "sparsify/prune.h"

#define PATH      "tests/golden/prune.json"
#define TOLERANCE 1e-9 /* of the numbers left, whose size is about 1: Hessians have condition numbers up to some 1e4 */

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

static esp_prune_opts opts_of(const esp_reader *item) {
    esp_prune_opts opts = ESP_PRUNE_OPTS_INIT;
    esp_reader from = esp_read_member(item, "opts");
    int method = 0, scope = 0, objective = 0;
    esp_reader member = esp_read_member(&from, "method");
    esp_code code = esp_read_choice(&member, esp_prune_method_names, &method, &error);
    member = esp_read_member(&from, "scope");
    if (!code) code = esp_read_choice(&member, esp_prune_scope_names, &scope, &error);
    member = esp_read_member(&from, "objective");
    if (!code) code = esp_read_choice(&member, esp_prune_objective_names, &objective, &error);
    member = esp_read_member(&from, "sparsity");
    if (!code) code = esp_read_number(&member, 0, 1, &opts.sparsity, &error);
    member = esp_read_member(&from, "group");
    if (!code) code = esp_read_int(&member, 0, 64, &opts.group, &error);
    member = esp_read_member(&from, "damping");
    if (!code) code = esp_read_number(&member, 0, 1, &opts.damping, &error);
    member = esp_read_member(&from, "block");
    if (!code) code = esp_read_int(&member, 1, 4096, &opts.block, &error);
    member = esp_read_member(&from, "bias");
    if (!code) code = esp_read_bool(&member, &opts.bias, &error);
    ck_assert_msg(code == ESP_OK, "%s %s", error.pointer, error.message);
    opts.method = (esp_prune_method)method;
    opts.scope = (esp_prune_scope)scope;
    opts.objective = (esp_prune_objective)objective;
    return opts;
}

static void compare(const esp_net *ours, const esp_net *theirs, size_t result) {
    for (int k = 0; k < ours->n_layers; k++) {
        const esp_layer *a = &ours->layers[k], *b = &theirs->layers[k];
        for (int i = 0; i < a->n_out; i++) {
            ck_assert_msg(fabs(a->b[i] - b->b[i]) <= TOLERANCE, "result %zu, layer %d, bias %d: %.17g, numpy %.17g", result, k + 1, i, a->b[i],
                          b->b[i]);
            for (int j = 0; j < a->n_in; j++) {
                double x = a->w[i * a->n_in + j], y = b->w[i * a->n_in + j];
                ck_assert_msg((x == 0) == (y == 0) && fabs(x - y) <= TOLERANCE, "result %zu, layer %d, weight %d %d: %.17g, numpy %.17g", result,
                              k + 1, i, j, x, y);
            }
        }
    }
}

START_TEST(prune__equals_numpy) {
    esp_reader root = esp_reader_root(document), cases = esp_read_member(&root, "cases"), item = esp_read_element(&cases, (size_t)_i);
    esp_reader inputs = esp_read_member(&item, "inputs"), results = esp_read_member(&item, "results");
    esp_model *model = model_of(&item, "model");
    esp_arena *arena = esp_arena_create(0);
    double *x = NULL;
    size_t n = 0, n_in = 0, n_results = 0;
    ck_assert_int_eq(esp_read_matrix_any(&inputs, 1000, 1000, arena, &x, &n, &n_in, &error), ESP_OK);
    ck_assert_int_eq(n_in, esp_net_inputs(model->net));
    ck_assert_int_eq(esp_read_array(&results, 1, 100, &n_results, &error), ESP_OK);
    for (size_t k = 0; k < n_results; k++) {
        esp_reader result = esp_read_element(&results, k);
        esp_prune_opts opts = opts_of(&result);
        esp_model *expected = model_of(&result, "pruned");
        esp_net *pruned = NULL;
        ck_assert_msg(esp_prune_run(model->net, n, x, &opts, NULL, &pruned, &error) == ESP_OK, "%s", error.message);
        compare(pruned, expected->net, k);
        esp_net_free(pruned);
        esp_model_free(expected);
    }
    esp_arena_free(arena);
    esp_model_free(model);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("prune_golden");
    TCase *tc = tcase_create("golden");
    tcase_add_checked_fixture(tc, open_document, NULL);
    tcase_add_loop_test(tc, prune__equals_numpy, 0, 3);
    suite_add_tcase(suite, tc);
    return run_suite(suite);
}
