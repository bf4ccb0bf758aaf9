/* SPDX-License-Identifier: Apache-2.0
 * The plain network as JSON: what is read, what is refused and where, and the round trip to the bit. */
#include <check.h>
#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "net/model.h"
#include "support/models.h"

static esp_code parse(const char *text, size_t len, esp_model_kind kind, esp_model **ret_model, esp_error *reterr) {
    esp_json *json = NULL;
    esp_code code = esp_json_parse(text, len, &json, reterr);
    if (code != ESP_OK) return code;
    esp_reader root = esp_reader_root(json);
    code = esp_model_parse_json(&root, kind, ret_model, reterr);
    esp_json_free(json);
    return code;
}

static esp_model *accept(const char *text, esp_model_kind kind) {
    esp_model *model = NULL;
    esp_error error = {0};
    ck_assert_msg(parse(text, strlen(text), kind, &model, &error) == ESP_OK, "%s: %s\n%s", error.pointer, error.message, text);
    return model;
}

static void refuse(const char *text, esp_model_kind kind, const char *pointer, const char *part) {
    esp_model *model = NULL;
    esp_error error = {0};
    ck_assert_msg(parse(text, strlen(text), kind, &model, &error) == ESP_INVALID, "accepted: %s", text);
    ck_assert_str_eq(error.pointer, pointer);
    ck_assert_msg(strstr(error.message, part) != NULL, "\"%s\" does not say \"%s\"", error.message, part);
    ck_assert_ptr_null(model);
}

#define DYNAMICS ESP_MODEL_DYNAMICS
#define POLICY   ESP_MODEL_POLICY

START_TEST(model_json__defaults_are_history_1_nu_0_and_relu_but_last) {
    esp_model *model = accept("{\"layers\":[{\"w\":[[1,2],[3,4],[5,6]],\"b\":[1,2,3]},{\"w\":[[1,0,0],[0,1,0]],\"b\":[0,0]}]}", DYNAMICS);
    ck_assert_int_eq(model->ny, 2);
    ck_assert_int_eq(model->nu, 0);
    ck_assert_int_eq(model->history, 1);
    ck_assert_int_eq(model->frame.kind, ESP_FRAME_NONE);
    ck_assert_int_eq(model->net->layers[0].act[2], ESP_ACT_RELU);
    ck_assert_int_eq(model->net->layers[1].act[1], ESP_ACT_IDENTITY);
    ck_assert_double_eq(model->net->layers[0].w[3], 4);
    ck_assert_double_eq(model->net->layers[0].b[2], 3);
    esp_model_free(model);
}
END_TEST

START_TEST(model_json__activations_by_layer_and_by_neuron) {
    esp_model *model = accept("{\"layers\":[{\"w\":[[1],[2],[3]],\"b\":[0,0,0],\"activation\":[\"zero\",\"identity\",\"relu\"]},"
                              "{\"w\":[[1,1,1]],\"b\":[0],\"activation\":\"relu\"}]}",
                              POLICY);
    ck_assert_int_eq(model->net->layers[0].act[0], ESP_ACT_ZERO);
    ck_assert_int_eq(model->net->layers[0].act[1], ESP_ACT_IDENTITY);
    ck_assert_int_eq(model->net->layers[0].act[2], ESP_ACT_RELU);
    ck_assert_int_eq(model->net->layers[1].act[0], ESP_ACT_RELU);
    ck_assert_int_eq(model->ny, 1);
    ck_assert_int_eq(model->nu, 1);
    esp_model_free(model);
}
END_TEST

START_TEST(model_json__frames_are_read) {
    esp_model *model = accept("{\"layers\":[{\"w\":[[1,2,3,4,5,6]],\"b\":[0]}],\"history\":2,\"nu\":2,\"frame\":\"residual\"}", DYNAMICS);
    ck_assert_int_eq(model->ny, 1);
    ck_assert_int_eq(model->frame.kind, ESP_FRAME_RESIDUAL);
    esp_model_free(model);

    /* ny 2, nu 1; the network is 1 to 1 */
    model = accept("{\"layers\":[{\"w\":[[3]],\"b\":[0.5]}],\"nu\":1,\"frame\":{\"a\":[[1,0.1],[0,1]],\"b\":[[0],[0.1]],\"c\":[[1,2]],\"d\":[[3]],"
                   "\"g\":[[0],[4]]}}",
                   DYNAMICS);
    double x[3] = {10, 20, 30}, y[2];
    oracle_step(model, x, y, NULL); /* v = 10 + 40 + 90, f = 420.5 */
    ck_assert_double_eq_tol(y[0], 12, 1e-12);
    ck_assert_double_eq_tol(y[1], 20 + 3 + 4 * 420.5, 1e-9);
    esp_model_free(model);

    model = accept("{\"layers\":[{\"w\":[[3]],\"b\":[0]}],\"frame\":{\"a\":[[1]],\"c\":[[1]],\"g\":[[1]],\"b\":[[]]}}", DYNAMICS);
    ck_assert_int_eq(model->nu, 0);
    esp_model_free(model);
}
END_TEST

START_TEST(model_json__shape_errors_name_their_field) {
    refuse("[]", DYNAMICS, "", "must be an object");
    refuse("{}", DYNAMICS, "/layers", "required");
    refuse("{\"layers\":[]}", DYNAMICS, "/layers", "1 to 64");
    refuse("{\"layers\":[{\"b\":[1]}]}", DYNAMICS, "/layers/0/w", "required");
    refuse("{\"layers\":[{\"w\":[[1]]}]}", DYNAMICS, "/layers/0/b", "required");
    refuse("{\"layers\":[{\"w\":[[]],\"b\":[1]}]}", DYNAMICS, "/layers/0/w/0", "1 to 4096");
    refuse("{\"layers\":[{\"w\":[[1,2],[3]],\"b\":[1,2]}]}", DYNAMICS, "/layers/0/w/1", "must have 2 elements, has 1");
    refuse("{\"layers\":[{\"w\":[[1,2]],\"b\":[1,2]}]}", DYNAMICS, "/layers/0/b", "must have 1 elements, has 2");
    refuse("{\"layers\":[{\"w\":[[1],[\"x\"]],\"b\":[1,2]}]}", DYNAMICS, "/layers/0/w/1/0", "must be a number");
    refuse("{\"layers\":[{\"w\":[[1]],\"b\":[1]},{\"w\":[[1,2]],\"b\":[1]}]}", DYNAMICS, "/layers/1/w/0", "must have 1 elements, has 2");
    refuse("{\"layers\":[{\"w\":[[1]],\"b\":[1],\"activation\":\"zero\"}]}", DYNAMICS, "/layers/0/activation", "\"relu\", \"identity\"");
    refuse("{\"layers\":[{\"w\":[[1]],\"b\":[1],\"activation\":[\"tanh\"]}]}", DYNAMICS, "/layers/0/activation/0", "tanh");
    refuse("{\"layers\":[{\"w\":[[1]],\"b\":[1],\"activation\":[\"relu\",\"relu\"]}]}", DYNAMICS, "/layers/0/activation", "must have 1 elements");
    refuse("{\"layers\":[{\"w\":[[1]],\"b\":[1],\"activation\":[1]}]}", DYNAMICS, "/layers/0/activation/0", "must be");
    refuse("{\"layers\":[{\"w\":[[1]],\"b\":[1],\"activation\":7}]}", DYNAMICS, "/layers/0/activation", "must be an array");
}
END_TEST

START_TEST(model_json__unknown_fields_and_wrong_sizes_are_refused) {
    refuse("{\"layers\":[{\"w\":[[1]],\"b\":[1]}],\"colour\":1}", DYNAMICS, "/colour", "unknown field");
    refuse("{\"layers\":[{\"w\":[[1]],\"b\":[1],\"bias\":1}]}", DYNAMICS, "/layers/0/bias", "unknown field");
    refuse("{\"layers\":[{\"w\":[[1]],\"b\":[1]}],\"history\":0}", DYNAMICS, "/history", "[1, 64]");
    refuse("{\"layers\":[{\"w\":[[1]],\"b\":[1]}],\"nu\":-1}", DYNAMICS, "/nu", "must lie in");
    refuse("{\"layers\":[{\"w\":[[1,2]],\"b\":[1]}]}", DYNAMICS, "/layers/0/w", "has 2 inputs; history 1 * (ny 1 + nu 0) = 1 are needed");
    refuse("{\"layers\":[{\"w\":[[1]],\"b\":[1]}],\"nu\":1}", DYNAMICS, "/layers/0/w", "has 1 inputs");
    refuse("{\"layers\":[{\"w\":[[1]],\"b\":[1]}],\"history\":2}", POLICY, "/history", "[1, 1]");
    refuse("{\"layers\":[{\"w\":[[1]],\"b\":[1]}],\"nu\":2}", POLICY, "/nu", "[1, 1]");
    refuse("{\"layers\":[{\"w\":[[1]],\"b\":[1]}],\"frame\":\"residual\"}", POLICY, "/frame", "no frame");
    refuse("{\"layers\":[{\"w\":[[1]],\"b\":[1]}],\"frame\":\"none\"}", DYNAMICS, "/frame", "\"residual\" or an object");
    refuse("{\"layers\":[{\"w\":[[1]],\"b\":[1]}],\"frame\":{}}", DYNAMICS, "/frame/a", "required");
    refuse("{\"layers\":[{\"w\":[[1]],\"b\":[1]}],\"frame\":{\"a\":[[1]],\"c\":[[1]],\"g\":[[1]],\"e\":[[1]]}}", DYNAMICS, "/frame/e",
           "unknown field");
    refuse("{\"layers\":[{\"w\":[[1]],\"b\":[1]}],\"frame\":{\"a\":[[1]],\"c\":[[1],[2]],\"g\":[[1]]}}", DYNAMICS, "/frame",
           "c gives the network 2 inputs");
    refuse("{\"layers\":[{\"w\":[[1]],\"b\":[1]}],\"frame\":{\"a\":[[1]],\"c\":[[1]],\"g\":[[1,2]]}}", DYNAMICS, "/frame", "g takes 2 outputs");
    refuse("{\"layers\":[{\"w\":[[1]],\"b\":[1]}],\"nu\":1,\"frame\":{\"a\":[[1]],\"c\":[[1]],\"d\":[[1]],\"g\":[[1]]}}", DYNAMICS, "/frame/b",
           "required");
    refuse("{\"layers\":[{\"w\":[[1]],\"b\":[1]}],\"frame\":{\"a\":[[1,2]],\"c\":[[1]],\"g\":[[1]]}}", DYNAMICS, "/frame/a/0",
           "must have 1 elements");
    refuse("{\"layers\":[{\"w\":[[1]],\"b\":[1]}],\"frame\":{\"a\":[[1]],\"b\":[[2]],\"c\":[[1]],\"g\":[[1]]}}", DYNAMICS, "/frame/b/0",
           "must have 0 elements");
}
END_TEST

static void same_bits(const double *a, const double *b, int n) {
    ck_assert(n == 0 || memcmp(a, b, (size_t)n * sizeof *a) == 0);
}

static void same_model(const esp_model *a, const esp_model *b) {
    ck_assert(a->kind == b->kind && a->ny == b->ny && a->nu == b->nu && a->history == b->history && a->frame.kind == b->frame.kind);
    ck_assert_int_eq(a->net->n_layers, b->net->n_layers);
    for (int l = 0; l < a->net->n_layers; l++) {
        const esp_layer *x = &a->net->layers[l], *y = &b->net->layers[l];
        ck_assert(x->n_in == y->n_in && x->n_out == y->n_out);
        same_bits(x->w, y->w, x->n_in * x->n_out);
        same_bits(x->b, y->b, x->n_out);
        ck_assert(memcmp(x->act, y->act, (size_t)x->n_out) == 0);
    }
    if (a->frame.kind != ESP_FRAME_LINEAR) return;
    int f_in = esp_net_inputs(a->net), n_yh = a->history * a->ny, n_uh = a->history * a->nu;
    same_bits(a->frame.a, b->frame.a, a->ny * n_yh);
    same_bits(a->frame.b, b->frame.b, a->ny * n_uh);
    same_bits(a->frame.c, b->frame.c, f_in * n_yh);
    same_bits(a->frame.d, b->frame.d, f_in * n_uh);
    same_bits(a->frame.g, b->frame.g, a->ny * esp_net_outputs(a->net));
}

START_TEST(model_json__round_trip_is_exact) {
    static const double hard[] = {-0.0, DBL_MIN, DBL_TRUE_MIN, -DBL_TRUE_MIN,      DBL_MAX, -DBL_MAX,
                                  0.1,  1.0 / 3, 1e15,         9007199254740993.0, 1e22,    123456789012345678.0};
    seed_range range = seeds(100);
    for (uint64_t seed = range.first; seed <= range.last; seed++) {
        esp_rng rng;
        esp_rng_init(&rng, seed, 6);
        esp_model *model = random_model(&rng), *back = NULL;
        const esp_layer *layer = &model->net->layers[0];
        for (size_t i = 0; i < sizeof hard / sizeof *hard && i < (size_t)(layer->n_in * layer->n_out); i++) layer->w[i] = hard[i];
        esp_buf text = {0};
        esp_jsonw w = esp_jsonw_on(&text);
        esp_error error = {0};
        esp_model_format_json(model, &w);
        ck_assert_msg(parse(text.data, text.len, model->kind, &back, &error) == ESP_OK, "seed %llu: %s: %s\n%s", (unsigned long long)seed,
                      error.pointer, error.message, esp_buf_text(&text));
        same_model(model, back);
        esp_buf_done(&text);
        esp_model_free(model);
        esp_model_free(back);
    }
}
END_TEST

START_TEST(model_json__create_refuses_what_does_not_fit) {
    static const struct {
        esp_model_kind kind;
        int n_in, n_out, ny, nu, history;
    } bad[] = {
        {DYNAMICS, 3, 2, 2, 1, 0},  {DYNAMICS, 3, 2, 2, 1, 65}, {DYNAMICS, 3, 2, 2, 2, 1}, {DYNAMICS, 3, 2, 3, 0, 1}, {DYNAMICS, 3, 2, 0, 3, 1},
        {DYNAMICS, 3, 2, 2, -1, 1}, {POLICY, 3, 2, 3, 1, 1},    {POLICY, 3, 2, 3, 2, 2},   {POLICY, 3, 2, 2, 2, 1},
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        esp_net *net = NULL;
        esp_model *model = NULL;
        ck_assert(esp_net_create(1, (int[]){bad[i].n_in, bad[i].n_out}, &net, NULL) == ESP_OK);
        ck_assert_msg(esp_model_create(bad[i].kind, bad[i].ny, bad[i].nu, bad[i].history, NULL, net, &model, NULL) == ESP_INVALID, "case %zu", i);
        ck_assert_ptr_null(model); /* and the network is freed, which the leak check sees */
    }
    esp_net *net = NULL;
    esp_model *model = NULL;
    double one = 1, bad_number = NAN;
    esp_frame frame = {ESP_FRAME_LINEAR, &one, NULL, &one, NULL, &bad_number};
    ck_assert(esp_net_create(1, (int[]){1, 1}, &net, NULL) == ESP_OK);
    ck_assert(esp_model_create(DYNAMICS, 1, 0, 1, &frame, net, &model, NULL) == ESP_INVALID);
    esp_model_free(NULL);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("model_json");
    TCase *tc = tcase_create("model_json");
    tcase_add_test(tc, model_json__defaults_are_history_1_nu_0_and_relu_but_last);
    tcase_add_test(tc, model_json__activations_by_layer_and_by_neuron);
    tcase_add_test(tc, model_json__frames_are_read);
    tcase_add_test(tc, model_json__shape_errors_name_their_field);
    tcase_add_test(tc, model_json__unknown_fields_and_wrong_sizes_are_refused);
    tcase_add_test(tc, model_json__round_trip_is_exact);
    tcase_add_test(tc, model_json__create_refuses_what_does_not_fit);
    suite_add_tcase(suite, tc);
    return run_suite(suite);
}
