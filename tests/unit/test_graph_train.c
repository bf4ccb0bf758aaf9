/* SPDX-License-Identifier: Apache-2.0
 * Training of graph networks: the gradient against central differences, what is learnt of two objects and said of more, the
 * ladder's shared choices, same seed same model, and what is refused. */
#include <check.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "support/flock.h"
#include "support/graphs.h"
#include "train/graph_loss.h"
#include "train/train.h"

enum { NY = FLOCK_NY, NU = FLOCK_NU, OBJECTS = FLOCK_OBJECTS };

/* ---- the gradient ---- */

typedef struct setup {
    esp_dataset *data;
    esp_train_opts opts;
    esp_windows *windows;
    esp_graph_net net;
    esp_graph_data *graph;
    esp_graph_loss *loss;
    float *params, *grads, *pos, *neg;
    esp_slope_grads slopes;
    size_t starts[150];
} setup;

static void set_up(setup *s, double radius, int steps) {
    esp_error error = {0};
    esp_rng rng;
    *s = (setup){.data = flock_drive(90), .opts = flock_opts(radius)};
    s->opts.rollout = steps;
    ck_assert_msg(esp_windows_create(s->data, &s->opts, &s->windows, &error) == ESP_OK, "%s", error.message);
    esp_graph_net_init(&s->net, &s->opts.graph);
    ck_assert_msg(esp_graph_data_create(s->data, s->windows, &s->net.layout, &s->graph, &error) == ESP_OK, "%s", error.message);
    ck_assert(esp_graph_loss_create(&s->net, s->graph, s->windows, steps, &s->loss, &error) == ESP_OK);
    size_t n = s->net.n_params, neurons = s->net.n_neurons;
    s->params = calloc(2 * n + 4 * neurons, sizeof *s->params);
    s->grads = s->params + n;
    s->pos = s->grads + n;
    s->neg = s->pos + neurons;
    s->slopes = (esp_slope_grads){s->neg + neurons, s->neg + 2 * neurons};
    esp_rng_init(&rng, 5, 1);
    esp_graph_net_seed(&s->net, s->graph, &rng, s->params);
    for (size_t i = 0; i < neurons; i++) { /* ReLU, identity, zero, and between, as in a search */
        s->pos[i] = i % 4 == 3 ? 0 : 1;
        s->neg[i] = i % 4 == 1 ? 1 : i % 4 == 2 ? 0.3f : 0;
    }
    for (size_t i = 0; i < 150; i++) s->starts[i] = s->windows->starts[(i * 2) % s->windows->n_starts];
}

static void tear_down(setup *s) {
    free(s->params);
    esp_graph_loss_free(s->loss);
    esp_graph_data_free(s->graph);
    esp_windows_free(s->windows);
    esp_dataset_free(s->data);
}

static double loss_at(setup *s, bool grads) {
    const double weights[3] = {0.5, 1, 1.5};
    esp_rollout_call call = {.params = s->params, .pos = s->pos, .neg = s->neg, .starts = s->starts, .n = 150, .steps = s->opts.rollout};
    call.weights = s->opts.rollout > 1 ? weights : NULL;
    call.grads = grads ? s->grads : NULL;
    call.slopes = grads ? &s->slopes : NULL;
    return esp_graph_loss_run(s->loss, &call, NULL);
}

/* Between the differences to the left and to the right, which are one where there is no kink. */
static void compare(setup *s, float *at, double got, const char *what, size_t i, int *compared, int *kinks) {
    const float h = 2e-4f, keep = *at;
    double middle = loss_at(s, false);
    *at = keep + h;
    double right = (loss_at(s, false) - middle) / (double)h;
    *at = keep - h;
    double left = (middle - loss_at(s, false)) / (double)h;
    *at = keep;
    double tolerance = 2e-3 + 0.01 * fabs(got);
    ++*compared;
    *kinks += fabs(left - right) > 5 * tolerance;
    ck_assert_msg(got >= fmin(left, right) - tolerance && got <= fmax(left, right) + tolerance, "%s %zu: gradient %g, differences %g and %g", what, i,
                  got, left, right);
}

/* Cases: all edges or near ones; one step or three. */
START_TEST(graph_train__gradient_is_the_central_difference) {
    int compared = 0, kinks = 0;
    setup s;
    set_up(&s, _i % 2 ? 0.7 : INFINITY, _i < 2 ? 1 : 3);
    (void)loss_at(&s, true);
    for (size_t i = 0; i < s.net.n_params; i += 7) compare(&s, &s.params[i], (double)s.grads[i], "parameter", i, &compared, &kinks);
    for (size_t i = 0; i < s.net.n_neurons; i += 2) {
        compare(&s, &s.pos[i], (double)s.slopes.positive[i], "slope above", i, &compared, &kinks);
        compare(&s, &s.neg[i], (double)s.slopes.negative[i], "slope below", i, &compared, &kinks);
    }
    ck_assert_int_gt(compared, 150);
    ck_assert_int_lt(10 * kinks, compared);
    tear_down(&s);
}
END_TEST

/* What is shared is exact in the data, so it is in the model. */
START_TEST(graph_train__shared_numbers_are_fitted) {
    setup s;
    set_up(&s, INFINITY, 1);
    const double a[9] = {1, 0, 0, 0, 1, 0, 0, 0, 1}, b[6] = {0, 0, 0.5, 0, 0, 0.5}, c[3] = {0};
    ck_assert_mem_eq(s.graph->shared, a, sizeof a);
    for (int i = 0; i < 6; i++) ck_assert_double_eq(s.graph->shared[9 + i], b[i]);
    for (int i = 0; i < 3; i++) ck_assert_double_eq_tol(s.graph->shared[15 + i], c[i], 1e-9);
    tear_down(&s);
}
END_TEST

/* ---- runs ---- */

/* Root mean square error of one step of the world with n objects, where the data has them; NULL: of standing still. */
static double error_with(const esp_model *graph, int n) {
    double sum = 0;
    esp_rng rng;
    esp_rng_init(&rng, 6, 1);
    enum { POINTS = 200 };
    for (int k = 0; k < POINTS; k++) {
        double x[32], want[32], y[32];
        esp_model *m = NULL;
        int ny = 3 + 2 * n;
        x[0] = 0.25;
        for (int i = 1; i < ny; i++) x[i] = 5 + esp_rng_range(&rng, -1.1, 1.1);
        for (int i = 0; i < NU; i++) x[ny + i] = esp_rng_range(&rng, -0.6, 0.6);
        flock_step(n, x, x + ny, want);
        memcpy(y, x, sizeof y);
        if (graph) {
            ck_assert(esp_model_bind(graph, ny, x, &m, NULL) == ESP_OK);
            graph_oracle(m, x, y);
        }
        for (int i = 1; i <= 2 * n; i++) sum += (y[i] - want[i]) * (y[i] - want[i]) / (2 * n);
        esp_model_free(m);
    }
    return sqrt(sum / POINTS);
}

static int neurons_that_are_relu(const esp_model *m) {
    int n = 0;
    for (int b = 0; b < ESP_BLOCKS; b++) n += esp_net_relus(m->graph->block[b]);
    return n;
}

/* Trained with two objects it knows what four do; standing still, as a guess, is off by more than twice as much. */
START_TEST(graph_train__two_objects_teach_what_four_do) {
    esp_dataset *data = flock_drive(2000);
    esp_train_opts opts = flock_opts(0.7);
    flock_run out;
    opts.graph.width = opts.graph.node[0] = 16;
    opts.epochs = 40;
    opts.rung_epochs = 15;
    opts.n_rungs = 2;
    opts.ladder[0] = 20;
    opts.ladder[1] = 6;
    flock_train(data, &opts, &out);
    ck_assert_int_eq(out.n, 3);
    const int relus[3] = {4 * 16 + 16 + 9 + 8, 20, 6}; /* four times the width and three hidden layers; then the rungs */
    for (int k = 0; k < 3; k++) {
        const esp_graph *g = out.model[k]->graph;
        int copies[ESP_BLOCKS] = {OBJECTS, 2, 2 * 2, OBJECTS * 2, OBJECTS}, all = 0;
        for (int b = 0; b < ESP_BLOCKS; b++) all += copies[b] * esp_net_relus(g->block[b]);
        ck_assert_int_eq(neurons_that_are_relu(out.model[k]), relus[k]);
        ck_assert_int_eq(all, (int)esp_model_relus(out.model[k])); /* one choice for all copies */
    }
    double two = error_with(out.model[0], 2), four = error_with(out.model[0], 4), still = error_with(NULL, 4);
    ck_assert_msg(3 * two < error_with(NULL, 2) && 2 * four < still, "two %g, four %g, standing still %g", two, four, still);
    flock_run_done(&out);
    esp_dataset_free(data);
}
END_TEST

START_TEST(graph_train__same_seed_same_model) {
    esp_dataset *data = flock_drive(90);
    esp_train_opts opts = flock_opts(INFINITY);
    flock_run one, two, other;
    opts.epochs = 3;
    opts.rung_epochs = 3;
    opts.rollout = 2;
    opts.n_rungs = 1;
    opts.ladder[0] = 12;
    opts.input_noise = 0.01;
    flock_train(data, &opts, &one);
    flock_train(data, &opts, &two);
    opts.seed++;
    flock_train(data, &opts, &other);
    for (int k = 0; k < 2; k++) {
        ck_assert_uint_eq(one.bytes[k].len, two.bytes[k].len);
        ck_assert_mem_eq(one.bytes[k].data, two.bytes[k].data, one.bytes[k].len);
        ck_assert_mem_ne(one.bytes[k].data, other.bytes[k].data, one.bytes[k].len);
    }
    flock_run_done(&one);
    flock_run_done(&two);
    flock_run_done(&other);
    esp_dataset_free(data);
}
END_TEST

/* Taken up every nine minibatches, each time from what was kept the time before, it ends with the same models. */
START_TEST(graph_train__goes_on_from_its_checkpoints) {
    enum { APART = 9 };
    esp_dataset *data = flock_drive(90);
    esp_train_opts opts = flock_opts(INFINITY);
    flock_run whole, part = {.wanted = APART};
    int turns = 0;
    opts.epochs = 4;
    opts.rung_epochs = 3;
    opts.n_rungs = 1;
    opts.ladder[0] = 12;
    flock_train(data, &opts, &whole);
    ck_assert_int_eq(flock_resume(data, &opts, NULL, &part), ESP_OK);
    ck_assert_int_eq(part.n, 2);
    flock_expect_end(&whole, &part);
    for (; part.kept.len > 0; turns++) {
        flock_run next = {.wanted = APART};
        ck_assert_int_eq(flock_resume(data, &opts, &part.kept, &next), ESP_OK);
        ck_assert_int_eq(next.taken, part.taken - APART);
        flock_expect_end(&whole, &next);
        flock_run_done(&part);
        part = next;
    }
    ck_assert_int_ge(turns, 3);
    flock_run_done(&part);
    flock_run_done(&whole);
    esp_dataset_free(data);
}
END_TEST

/* ---- what is refused ---- */

#define Z  "[0,0,0,0,0,0,0]"
#define Z2 "[0,0]"
static const struct {
    const char *model, *rest, *pointer;
} refusals[] = {
    {"", "", "/model/objects"},
    {"'objects':{'count':2}", "", "/model/objects/size"},
    {"'objects':{'count':4,'size':2}", "", "/model/objects"},
    {"'objects':{'count':2,'size':2,'first':5}", "", "/model/objects/first"},
    {"'objects':{'count':2,'size':2,'position':[0,2]}", "", "/model/objects/position/1"},
    {"'objects':{'count':2,'size':2,'position':[1,1]}", "", "/model/objects/position"},
    {"'objects':{'count':2,'size':2,'first':1,'position':[0,1]},'points':[{'on':'y','index':[2,5]}]", "", "/model/points/0/index"},
    {"'objects':{'count':2,'size':2,'first':1,'position':[0,1]},'points':[{'on':'u','index':[0,2]}]", "", "/model/points/0/index/1"},
    {"'objects':{'count':2,'size':2},'radius':1", "", "/model/radius"},
    {"'objects':{'count':2,'size':2,'position':[0,1]},'radius':0", "", "/model/radius"},
    {"'objects':{'count':2,'size':2},'rounds':0", "", "/model/rounds"},
    {"'objects':{'count':2,'size':2},'width':0", "", "/model/width"},
    {"'objects':{'count':2,'size':2},'node':[0]", "", "/model/node/0"},
    {"'objects':{'count':2,'size':2},'hidden':[8]", "", "/model/hidden"},
    {"'objects':{'count':2,'size':2}", ",'history':2", "/history"},
    {"'objects':{'count':2,'size':2}", ",'proof_weight':0.1", "/proof_weight"},
    {"'objects':{'count':2,'size':2}", ",'rounding':0.1", "/rounding"},
    {"'objects':{'count':2,'size':2}",
     ",'frame':{'a':[" Z "," Z "," Z "," Z "," Z "," Z "," Z "],'b':[" Z2 "," Z2 "," Z2 "," Z2 "," Z2 "," Z2 "," Z2 "],'c':[" Z "],'d':[" Z2
     "],'g':[[1],[0],[0],[0],[0],[0],[0]]}",
     "/frame"},
    {"'objects':{'count':2,'size':2},'width':4,'node':[],'edge':[],'output':[3]", ",'ladder':[19]", "/ladder/0"},
};

static esp_code parse(const char *model, const char *rest, esp_train_opts *ret, esp_error *reterr) {
    esp_buf text = {0};
    esp_json *json = NULL;
    esp_arena *arena = esp_arena_create(0);
    esp_buf_printf(&text, "{'model':{'type':'graph'%s%s}%s}", *model ? "," : "", model, rest);
    for (size_t i = 0; i < text.len; i++)
        if (text.data[i] == '\'') text.data[i] = '"';
    ck_assert(esp_json_parse(text.data, text.len, &json, NULL) == ESP_OK);
    esp_reader root = esp_reader_root(json);
    esp_code code = esp_train_opts_parse(&root, NY, NU, arena, ret, reterr);
    esp_json_free(json);
    esp_arena_free(arena);
    esp_buf_done(&text);
    return code;
}

START_TEST(graph_train__specs_that_are_refused) {
    esp_train_opts opts;
    esp_error error = {0};
    ck_assert_int_eq(parse(refusals[_i].model, refusals[_i].rest, &opts, &error), ESP_INVALID);
    ck_assert_msg(strcmp(error.pointer, refusals[_i].pointer) == 0, "%s: \"%s\" (%s) is blamed", refusals[_i].model, error.pointer, error.message);
}
END_TEST

START_TEST(graph_train__specs_are_read_and_written) {
    esp_train_opts opts;
    esp_error error = {0};
    esp_buf text = {0};
    esp_jsonw w = esp_jsonw_on(&text);
    ck_assert_msg(parse("'objects':{'count':2,'size':2,'first':1,'position':[0,1]},'points':[{'on':'y','index':[5,6]},{'on':'u','index':[0,1]}],"
                        "'radius':0.5,'node':[16,8],'output':[]",
                        ",'frame':'residual','ladder':[250]", &opts, &error) == ESP_OK,
                  "%s %s", error.pointer, error.message);
    esp_train_opts_format(&opts, &w);
    static const char want[] =
        "\"model\":{\"type\":\"graph\",\"objects\":{\"count\":2,\"size\":2,\"first\":1,\"position\":[0,1]},\"points\":[{\"on\":\"y\","
        "\"index\":[5,6]},{\"on\":\"u\",\"index\":[0,1]}],\"radius\":0.5,\"rounds\":2,\"node\":[16,8],\"edge\":[64],\"width\":64,"
        "\"output\":[]}";
    ck_assert_msg(strstr(esp_buf_text(&text), want) != NULL, "%s", esp_buf_text(&text));
    ck_assert_int_eq(esp_graph_node_inputs(&opts.graph.layout), 2 + 2 + 1); /* from the finger, from u, the constant */
    esp_buf_done(&text);
}
END_TEST

START_TEST(graph_train__objects_that_never_meet_are_refused) {
    esp_dataset *data = flock_drive(90);
    esp_train_opts opts = flock_opts(1e-6);
    esp_error error = {0};
    ck_assert_int_eq(esp_train_run(data, &opts, NULL, NULL, &error), ESP_INVALID);
    ck_assert_str_eq(error.pointer, "/model/radius");
    esp_dataset_free(data);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("graph_train");
    TCase *tc = tcase_create("graph_train");
    tcase_set_timeout(tc, 60);
    tcase_add_loop_test(tc, graph_train__gradient_is_the_central_difference, 0, 4);
    tcase_add_test(tc, graph_train__shared_numbers_are_fitted);
    tcase_add_test(tc, graph_train__two_objects_teach_what_four_do);
    tcase_add_test(tc, graph_train__same_seed_same_model);
    tcase_add_test(tc, graph_train__goes_on_from_its_checkpoints);
    tcase_add_loop_test(tc, graph_train__specs_that_are_refused, 0, sizeof refusals / sizeof *refusals);
    tcase_add_test(tc, graph_train__specs_are_read_and_written);
    tcase_add_test(tc, graph_train__objects_that_never_meet_are_refused);
    suite_add_tcase(suite, tc);
    return run_suite(suite);
}
