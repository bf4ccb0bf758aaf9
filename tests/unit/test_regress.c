/* SPDX-License-Identifier: Apache-2.0
 * Regression on pairs: a known piecewise-linear policy is found again, gradients are differences, runs go on and stop; and the
 * options of a distill job, read, written, refused. */
#include <check.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "train/distill.h"

enum { N = 600, IN = 2 };

static double clamp(double v, double lower, double upper) {
    return v < lower ? lower : v > upper ? upper : v;
}

/* A saturated linear law: what planning with a box on u often comes to. */
static double law(const double *x) {
    return clamp(-1.5 * (x[0] - 4) - 0.02 * x[1], -1, 1);
}

static const double in_lower[] = {2, -50}, in_upper[] = {6, 50}, out_lower[] = {-1}, out_upper[] = {1};

static void draw(esp_rng *rng, size_t n, double *x, double *y) {
    for (size_t i = 0; i < n; i++) {
        for (int j = 0; j < IN; j++) x[i * IN + j] = esp_rng_range(rng, in_lower[j], in_upper[j]);
        y[i] = law(x + i * IN);
    }
}

static esp_regress *start(uint64_t seed, int epochs) {
    esp_error error = {0};
    esp_regress *r = NULL;
    esp_regress_opts opts = ESP_REGRESS_OPTS_INIT;
    opts.n_hidden = 2;
    opts.hidden[0] = 12;
    opts.hidden[1] = 8;
    opts.seed = seed;
    opts.epochs = epochs;
    ck_assert_msg(esp_regress_create(IN, in_lower, in_upper, 1, out_lower, out_upper, &opts, &r, &error) == ESP_OK, "%s", error.message);
    return r;
}

/* The network that is handed out works in the units of the pairs. */
START_TEST(regress__finds_a_piecewise_linear_law) {
    static double x[N * IN], y[N];
    esp_error error = {0};
    esp_rng rng;
    esp_rng_init(&rng, 3, 1);
    draw(&rng, N, x, y);
    esp_regress *r = start(1, 400);
    esp_net *net = NULL;
    const esp_pairs pairs = {N, x, y};
    double loss = -1, work[2 * 12], worst = 0, sum = 0;
    ck_assert_msg(esp_regress_run(r, &pairs, NULL, NULL, NULL, &loss, &error) == ESP_OK, "%s", error.message);
    ck_assert_double_lt(loss, 1e-3);
    ck_assert_int_eq(esp_regress_net(r, &net, &error), ESP_OK);
    for (int i = 0; i < 2000; i++) {
        double v[IN], said;
        for (int j = 0; j < IN; j++) v[j] = esp_rng_range(&rng, in_lower[j], in_upper[j]);
        esp_net_forward(net, v, &said, work);
        double e = fabs(said - law(v));
        worst = fmax(worst, e);
        sum += e * e;
    }
    ck_assert_double_lt(sqrt(sum / 2000), 0.02);
    ck_assert_double_lt(worst, 0.15);
    ck_assert_double_lt(esp_regress_rmse(r, &pairs), 0.02);
    esp_net_free(net);
    esp_regress_free(r);
}
END_TEST

/* A network of all kinds of neurons with holes in every layer, trained on: the holes and the kinds stay, the rest moves and comes
 * nearer, and to the same bits a second time. */
START_TEST(regress__holes_stay_holes) {
    static const int widths[] = {IN, 12, 8, 1};
    static double x[N * IN], y[N];
    esp_error error = {0};
    esp_rng rng;
    esp_rng_init(&rng, 3, 1);
    draw(&rng, N, x, y);
    const esp_pairs pairs = {N, x, y};
    esp_regress *trained = start(1, 60);
    esp_net *net = NULL, *tuned[2] = {NULL};
    double loss = -1;
    ck_assert_int_eq(esp_regress_run(trained, &pairs, NULL, NULL, NULL, &loss, &error), ESP_OK);
    ck_assert_int_eq(esp_regress_net(trained, &net, &error), ESP_OK);
    for (int l = 0; l < 3; l++)
        for (int i = 0; i < widths[l] * widths[l + 1]; i++)
            if (esp_rng_uniform(&rng) < 0.4) net->layers[l].w[i] = i % 2 ? 0.0 : -0.0;
    net->layers[0].act[3] = net->layers[1].act[2] = ESP_ACT_IDENTITY;
    net->layers[0].act[5] = net->layers[1].act[4] = ESP_ACT_ZERO;
    esp_regress_opts opts = ESP_REGRESS_OPTS_INIT;
    opts.epochs = 40;
    opts.learning_rate = 0.005;
    opts.weight_decay = 0.01;
    for (int k = 0; k < 2; k++) {
        esp_regress *r = NULL;
        ck_assert_msg(esp_regress_start(net, &pairs, &opts, &r, &error) == ESP_OK, "%s", error.message);
        double before = esp_regress_rmse(r, &pairs);
        ck_assert_int_eq(esp_regress_run(r, &pairs, NULL, NULL, NULL, &loss, &error), ESP_OK);
        ck_assert_double_lt(esp_regress_rmse(r, &pairs), 0.5 * before);
        ck_assert_int_eq(esp_regress_net(r, &tuned[k], &error), ESP_OK);
        esp_regress_free(r);
    }
    for (int l = 0; l < 3; l++) {
        const esp_layer *was = &net->layers[l], *is = &tuned[0]->layers[l], *twin = &tuned[1]->layers[l];
        size_t n = (size_t)was->n_in * (size_t)was->n_out;
        ck_assert_mem_eq(was->act, is->act, (size_t)was->n_out);
        ck_assert_mem_eq(is->w, twin->w, n * sizeof *is->w);
        for (size_t i = 0; i < n; i++)
            ck_assert_msg((was->w[i] == 0) == (is->w[i] == 0), "layer %d, weight %zu: %g is %g", l, i, was->w[i], is->w[i]);
    }
    net->layers[2].act[0] = ESP_ACT_RELU;
    ck_assert_int_eq(esp_regress_start(net, &pairs, &opts, &trained, &error), ESP_UNPROCESSABLE);
    esp_net_free(tuned[0]);
    esp_net_free(tuned[1]);
    esp_net_free(net);
    esp_regress_free(trained);
}
END_TEST

/* More rows than a chunk, in an order of their own, some twice. */
START_TEST(regress__gradient_is_the_central_difference) {
    static double x[N * IN], y[N];
    static size_t rows[N];
    esp_rng rng;
    esp_rng_init(&rng, 4, (uint64_t)_i);
    draw(&rng, N, x, y);
    for (size_t i = 0; i < N; i++) rows[i] = esp_rng_below(&rng, N);
    esp_regress *r = start((uint64_t)_i + 10, 1);
    const esp_pairs pairs = {N, x, y};
    size_t n = r->mlp.n_params;
    float *grads = calloc(n, sizeof *grads);
    double largest = 0;
    esp_regress_loss(r, &pairs, rows, N, grads);
    for (size_t k = 0; k < n; k++) largest = fmax(largest, fabs((double)grads[k]));
    ck_assert_double_gt(largest, 0);
    for (size_t k = 0; k < n; k++) {
        /* The loss is a float's work: a step that is large beside its rounding and small beside its kinks. */
        float kept = r->params[k], above = kept + 2e-3f, below = kept - 2e-3f;
        r->params[k] = above;
        double up = esp_regress_loss(r, &pairs, rows, N, NULL);
        r->params[k] = below;
        double down = esp_regress_loss(r, &pairs, rows, N, NULL);
        r->params[k] = kept;
        ck_assert_msg(fabs((up - down) / ((double)above - (double)below) - (double)grads[k]) < 0.01 * largest, "parameter %zu: %g, not %g", k,
                      (double)grads[k], (up - down) / ((double)above - (double)below));
    }
    free(grads);
    esp_regress_free(r);
}
END_TEST

static esp_net *trained(uint64_t seed, const esp_pairs *pairs) {
    esp_error error = {0};
    double loss;
    esp_net *net = NULL;
    esp_regress *r = start(seed, 3);
    ck_assert_int_eq(esp_regress_run(r, pairs, NULL, NULL, NULL, &loss, &error), ESP_OK);
    ck_assert_int_eq(esp_regress_net(r, &net, &error), ESP_OK);
    esp_regress_free(r);
    return net;
}

static bool same(const esp_net *a, const esp_net *b) {
    bool all = a->n_layers == b->n_layers;
    for (int l = 0; all && l < a->n_layers; l++)
        all = memcmp(a->layers[l].w, b->layers[l].w, (size_t)(a->layers[l].n_in * a->layers[l].n_out) * sizeof(double)) == 0;
    return all;
}

START_TEST(regress__same_seed_same_network) {
    static double x[N * IN], y[N];
    esp_rng rng;
    esp_rng_init(&rng, 5, 1);
    draw(&rng, N, x, y);
    const esp_pairs pairs = {N, x, y};
    esp_net *a = trained(1, &pairs), *b = trained(1, &pairs), *c = trained(2, &pairs);
    ck_assert(same(a, b));
    ck_assert(!same(a, c));
    esp_net_free(a);
    esp_net_free(b);
    esp_net_free(c);
}
END_TEST

/* A second run starts where the first ended: after one on other pairs it is better than one from fresh weights. */
START_TEST(regress__goes_on_from_the_present_weights) {
    static double x[N * IN], y[N];
    esp_error error = {0};
    esp_rng rng;
    esp_rng_init(&rng, 6, 1);
    draw(&rng, N, x, y);
    const esp_pairs first = {N / 2, x, y}, second = {N / 2, x + N / 2 * IN, y + N / 2};
    esp_regress *twice = start(1, 20), *once = start(1, 20);
    double loss;
    ck_assert_int_eq(esp_regress_run(twice, &first, NULL, NULL, NULL, &loss, &error), ESP_OK);
    double before = esp_regress_rmse(twice, &second);
    ck_assert_int_eq(esp_regress_run(twice, &second, NULL, NULL, NULL, &loss, &error), ESP_OK);
    ck_assert_int_eq(esp_regress_run(once, &second, NULL, NULL, NULL, &loss, &error), ESP_OK);
    ck_assert_double_lt(esp_regress_rmse(twice, &second), before);
    ck_assert_double_lt(esp_regress_rmse(twice, &second), esp_regress_rmse(once, &second));
    esp_regress_free(twice);
    esp_regress_free(once);
}
END_TEST

/* A side of no width: its input has no say, its output is learned all the same. One pair is a set too. */
START_TEST(regress__takes_constants_and_single_pairs) {
    static const double lower[] = {3, 0}, upper[] = {3, 1}, u[] = {0.5}, x[] = {3, 0.25}, y[] = {0.5};
    esp_error error = {0};
    esp_regress_opts opts = ESP_REGRESS_OPTS_INIT;
    esp_regress *r = NULL;
    double loss = 1;
    opts.n_hidden = 1;
    opts.hidden[0] = 4;
    opts.epochs = 500;
    const esp_pairs pairs = {1, x, y};
    ck_assert_int_eq(esp_regress_create(2, lower, upper, 1, u, u, &opts, &r, &error), ESP_OK);
    for (int i = 0; i < 4; i++) ck_assert_float_eq(r->params[2 * i], 0);
    ck_assert_int_eq(esp_regress_run(r, &pairs, NULL, NULL, NULL, &loss, &error), ESP_OK);
    ck_assert_double_lt(loss, 1e-6);
    ck_assert_double_eq(esp_regress_rmse(r, &(esp_pairs){0, NULL, NULL}), 0);
    esp_regress_free(r);
}
END_TEST

static bool after_five(void *user) {
    int *looks = user;
    return ++*looks > 5;
}

START_TEST(regress__stops_diverges_and_refuses) {
    static double x[N * IN], y[N];
    esp_error error = {0};
    int looks = 0;
    double loss = 7;
    esp_rng rng;
    esp_rng_init(&rng, 7, 1);
    draw(&rng, N, x, y);
    const esp_pairs pairs = {N, x, y};
    esp_regress *r = start(1, 100), *none = NULL;
    ck_assert_int_eq(esp_regress_run(r, &pairs, &(esp_stop){ESP_NEVER, after_five, &looks}, NULL, NULL, &loss, &error), ESP_CANCELLED);
    ck_assert_int_eq(esp_regress_run(r, &pairs, &(esp_stop){1, NULL, NULL}, NULL, NULL, &loss, &error), ESP_DEADLINE);
    y[3] = 1e300;
    ck_assert_int_eq(esp_regress_run(r, &pairs, NULL, NULL, NULL, &loss, &error), ESP_NUMERIC);
    ck_assert_ptr_nonnull(strstr(error.message, "learning_rate"));
    ck_assert_double_eq(loss, 7);
    esp_regress_opts opts = r->opts;
    opts.batch = 0;
    ck_assert_int_eq(esp_regress_create(IN, in_lower, in_upper, 1, out_lower, out_upper, &opts, &none, &error), ESP_INVALID);
    ck_assert_ptr_null(none);
    esp_regress_free(r);
    esp_regress_free(NULL);
}
END_TEST

/* ---- options ---- */

static esp_code parse(const char *text, esp_distill_opts *ret, esp_error *reterr) {
    esp_json *json = NULL;
    ck_assert_int_eq(esp_json_parse(text, strlen(text), &json, reterr), ESP_OK);
    esp_reader root = esp_reader_root(json);
    esp_code code = esp_distill_opts_parse(&root, 3, 1, ret, reterr);
    esp_json_free(json);
    return code;
}

START_TEST(distill_opts__defaults_and_back) {
    esp_distill_opts opts, again;
    esp_error error = {0};
    esp_buf text = {0};
    ck_assert_msg(parse("{\"samples\":9,\"hidden\":[4]}", &opts, &error) == ESP_OK, "%s", error.message);
    ck_assert_int_eq(opts.rounds, 2);
    ck_assert_int_eq(opts.round_samples, 4);
    ck_assert_int_eq(opts.regret_states, 20);
    ck_assert_double_eq(opts.plan_ms, 50);
    ck_assert_double_eq(opts.validation, 0.1);
    ck_assert_uint_eq(esp_distill_most(&opts), 17);
    ck_assert_int_eq(
        parse("{\"task\":\"t\",\"name\":\"n\",\"domain\":{},\"samples\":100,\"hidden\":[16,8],\"dagger_rounds\":0,\"round_samples\":7,"
              "\"regret_states\":0,\"plan_ms\":12.5,\"validation\":0,\"epochs\":3,\"batch\":5,\"learning_rate\":0.5,\"weight_decay\":0.25,"
              "\"seed\":77}",
              &opts, &error),
        ESP_OK);
    esp_jsonw w = esp_jsonw_on(&text);
    esp_jsonw_object(&w, NULL);
    esp_distill_opts_format(&opts, &w);
    esp_jsonw_object_end(&w);
    ck_assert_int_eq(parse(esp_buf_text(&text), &again, &error), ESP_OK);
    ck_assert_int_eq(again.samples, 100);
    ck_assert_int_eq(again.rounds, 0);
    ck_assert_int_eq(again.round_samples, 7);
    ck_assert_int_eq(again.regret_states, 0);
    ck_assert_double_eq(again.plan_ms, 12.5);
    ck_assert_double_eq(again.validation, 0);
    ck_assert_int_eq(again.regress.n_hidden, 2);
    ck_assert_int_eq(again.regress.hidden[1], 8);
    ck_assert_int_eq(again.regress.epochs, 3);
    ck_assert_int_eq(again.regress.batch, 5);
    ck_assert_double_eq(again.regress.learning_rate, 0.5);
    ck_assert_double_eq(again.regress.weight_decay, 0.25);
    ck_assert_uint_eq(again.regress.seed, 77);
    esp_buf_done(&text);
}
END_TEST

static const struct {
    const char *text, *pointer;
} refused[] = {
    {"{\"hidden\":[4]}", "/samples"},
    {"{\"samples\":0,\"hidden\":[4]}", "/samples"},
    {"{\"samples\":1.5,\"hidden\":[4]}", "/samples"},
    {"{\"samples\":4}", "/hidden"},
    {"{\"samples\":4,\"hidden\":[]}", "/hidden"},
    {"{\"samples\":4,\"hidden\":[4,0]}", "/hidden/1"},
    {"{\"samples\":4,\"hidden\":[4096,4096,4096]}", "/hidden"},
    {"{\"samples\":4,\"hidden\":[4],\"dagger_rounds\":-1}", "/dagger_rounds"},
    {"{\"samples\":4,\"hidden\":[4],\"round_samples\":0}", "/round_samples"},
    {"{\"samples\":4,\"hidden\":[4],\"regret_states\":-1}", "/regret_states"},
    {"{\"samples\":4,\"hidden\":[4],\"plan_ms\":0}", "/plan_ms"},
    {"{\"samples\":4,\"hidden\":[4],\"validation\":1}", "/validation"},
    {"{\"samples\":4,\"hidden\":[4],\"epochs\":\"many\"}", "/epochs"},
    {"{\"samples\":4,\"hidden\":[4],\"batch\":0}", "/batch"},
    {"{\"samples\":4,\"hidden\":[4],\"learning_rate\":-1}", "/learning_rate"},
    {"{\"samples\":4,\"hidden\":[4],\"weight_decay\":-1}", "/weight_decay"},
    {"{\"samples\":4,\"hidden\":[4],\"seed\":-1}", "/seed"},
    {"{\"samples\":4,\"hidden\":[4],\"dagger\":1}", "/dagger"},
    {"{\"samples\":1000000,\"hidden\":[4],\"dagger_rounds\":50}", "/samples"},
};

START_TEST(distill_opts__refuses_and_names_the_field) {
    esp_distill_opts opts = {.samples = -7};
    esp_error error = {0};
    ck_assert_int_eq(parse(refused[_i].text, &opts, &error), ESP_INVALID);
    ck_assert_str_eq(error.pointer, refused[_i].pointer);
    ck_assert_int_eq(opts.samples, -7);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("regress");
    TCase *tc = tcase_create("regress");
    tcase_set_timeout(tc, 60);
    tcase_add_test(tc, regress__holes_stay_holes);
    tcase_add_test(tc, regress__finds_a_piecewise_linear_law);
    tcase_add_loop_test(tc, regress__gradient_is_the_central_difference, 0, 3);
    tcase_add_test(tc, regress__same_seed_same_network);
    tcase_add_test(tc, regress__goes_on_from_the_present_weights);
    tcase_add_test(tc, regress__takes_constants_and_single_pairs);
    tcase_add_test(tc, regress__stops_diverges_and_refuses);
    tcase_add_test(tc, distill_opts__defaults_and_back);
    tcase_add_loop_test(tc, distill_opts__refuses_and_names_the_field, 0, (int)(sizeof refused / sizeof *refused));
    suite_add_tcase(suite, tc);
    return run_suite(suite);
}
