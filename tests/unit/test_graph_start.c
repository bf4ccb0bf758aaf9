/* SPDX-License-Identifier: Apache-2.0
 * The ladder from a graph network that is given: its weights and masks in training and out again, either method with one choice
 * for all copies, distillation, checkpoints, and what is refused. */
#include <check.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "support/flock.h"
#include "support/graphs.h"
#include "train/checkpoint.h"
#include "train/graph_start.h"
#include "train/trainer.h"

enum { NODES = 4 * 10 + 12 + 9 + 8 }; /* neurons of flock_opts: four widths and three hidden layers */

/* A dense network and a rung of it, quickly. */
static void make_models(const esp_dataset *data, flock_run *ret) {
    esp_train_opts opts = flock_opts(0.7);
    opts.epochs = 6;
    opts.rung_epochs = 4;
    opts.n_rungs = 1;
    opts.ladder[0] = 30;
    flock_train(data, &opts, ret);
    ck_assert_int_eq(ret->n, 2);
    ck_assert_int_eq(esp_graph_neurons(ret->model[0]->graph), NODES);
}

static esp_train_opts opts_from(const esp_model *model, esp_sparsify_method method) {
    esp_train_opts opts;
    esp_error error = {0};
    esp_reader none = {0};
    esp_train_opts_init(&opts);
    ck_assert_msg(esp_sparsify_opts_start(&none, model, &opts, &error) == ESP_OK, "%s", error.message);
    opts.method = method;
    opts.batch = 64;
    opts.rung_epochs = 4;
    opts.n_rungs = 2;
    opts.ladder[0] = 22;
    opts.ladder[1] = 9;
    return opts;
}

static esp_trainer *trainer_of(const esp_dataset *data, const esp_train_opts *opts) {
    esp_trainer *t = NULL;
    esp_error error = {0};
    ck_assert_msg(esp_trainer_create(data, opts, NULL, NULL, &t, &error) == ESP_OK, "%s", error.message);
    return t;
}

/* Largest difference of two graph networks' steps from the data. */
static double apart(const esp_dataset *data, const esp_model *a, const esp_model *b) {
    enum { NX = FLOCK_NY + FLOCK_NU };
    double most = 0, x[NX], y[FLOCK_NY], z[FLOCK_NY];
    for (size_t r = 0; r < data->n_rows; r += 7) {
        esp_model *here[2] = {NULL, NULL};
        memcpy(x, data->y + r * FLOCK_NY, FLOCK_NY * sizeof *x);
        memcpy(x + FLOCK_NY, data->u + r * FLOCK_NU, FLOCK_NU * sizeof *x);
        ck_assert(esp_model_bind(a, FLOCK_NY, x, &here[0], NULL) == ESP_OK && esp_model_bind(b, FLOCK_NY, x, &here[1], NULL) == ESP_OK);
        graph_oracle(here[0], x, y);
        graph_oracle(here[1], x, z);
        for (int k = 0; k < FLOCK_NY; k++) most = fmax(most, fabs(y[k] - z[k]));
        esp_model_free(here[0]);
        esp_model_free(here[1]);
    }
    return most;
}

/* Neurons of the child that are not what they were in the parent, but for ReLUs that went; how many of those became identities. */
static int changed(const esp_graph *parent, const esp_graph *child, int *ret_identities) {
    int n = 0;
    *ret_identities = 0;
    for (int b = 0; b < ESP_BLOCKS; b++)
        for (int l = 0; l < parent->block[b]->n_layers; l++) {
            const esp_layer *was = &parent->block[b]->layers[l], *is = &child->block[b]->layers[l];
            for (int i = 0; i < was->n_out; i++) {
                n += was->act[i] != ESP_ACT_RELU && is->act[i] != was->act[i];
                *ret_identities += was->act[i] == ESP_ACT_RELU && is->act[i] == ESP_ACT_IDENTITY;
            }
        }
    return n;
}

/* Cases: the dense network, a rung with all three kinds of neurons. */
START_TEST(graph_start__a_model_comes_out_as_it_went_in) {
    esp_dataset *data = flock_drive(90);
    flock_run made;
    esp_model *out = NULL;
    make_models(data, &made);
    const esp_model *model = made.model[_i];
    esp_train_opts opts = opts_from(model, ESP_SPARSIFY_GUMBEL);
    esp_trainer *t = trainer_of(data, &opts);
    int identities = 0;
    ck_assert_uint_eq(t->ladder->n_undecided, _i ? 30 : NODES);
    ck_assert(esp_graph_net_emit(&t->graph, t->params, t->ladder, t->graph_data, &out, NULL) == ESP_OK);
    ck_assert_int_eq(esp_graph_neurons(out->graph), (int)t->ladder->n_undecided);
    ck_assert_int_eq(changed(model->graph, out->graph, &identities), 0);
    ck_assert_double_le(apart(data, model, out), 1e-5);
    esp_model_free(out);
    esp_trainer_free(t);
    flock_run_done(&made);
    esp_dataset_free(data);
}
END_TEST

/* Cases: either method. From a rung, two further ones: what was decided stays, and a choice is one for all copies. */
START_TEST(graph_start__each_rung_by_either_method) {
    esp_dataset *data = flock_drive(90);
    flock_run made, one, two;
    make_models(data, &made);
    const esp_train_opts opts = opts_from(made.model[1], _i ? ESP_SPARSIFY_CHANNEL : ESP_SPARSIFY_GUMBEL);
    flock_train(data, &opts, &one);
    flock_train(data, &opts, &two);
    ck_assert_int_eq(one.n, 2);
    ck_assert_int_eq(two.n, 2);
    flock_expect_end(&one, &two);
    for (int k = 0; k < 2; k++) {
        const esp_graph *parent = k ? one.model[0]->graph : made.model[1]->graph, *child = one.model[k]->graph;
        const int copies[ESP_BLOCKS] = {2, 2, 2 * 2, 2 * 2, 2}; /* two objects, two edges, two rounds */
        int all = 0, identities;
        for (int b = 0; b < ESP_BLOCKS; b++) all += copies[b] * esp_net_relus(child->block[b]);
        ck_assert_int_eq(esp_graph_neurons(child), k ? 9 : 22);
        ck_assert_int_eq((int)esp_model_relus(one.model[k]), all);
        ck_assert_int_eq(changed(parent, child, &identities), 0);
        if (_i) ck_assert_int_eq(identities, 0); /* channels vanish */
    }
    flock_run_done(&one);
    flock_run_done(&two);
    flock_run_done(&made);
    esp_dataset_free(data);
}
END_TEST

/* By the norms of the weights as they are in training: in each layer those that go have the smallest. */
START_TEST(graph_start__channels_with_the_smallest_norms_go) {
    esp_dataset *data = flock_drive(90);
    flock_run made, out;
    make_models(data, &made);
    esp_train_opts opts = opts_from(made.model[0], ESP_SPARSIFY_CHANNEL);
    esp_trainer *t = trainer_of(data, &opts);
    opts.n_rungs = 1;
    flock_train(data, &opts, &out);
    for (int b = 0; b < ESP_BLOCKS; b++)
        for (int l = 0; l < out.model[0]->graph->block[b]->n_layers; l++) {
            const esp_dense *layer = &t->graph.layer[t->graph.begin[b] + l];
            const uint8_t *act = out.model[0]->graph->block[b]->layers[l].act;
            double least_kept = INFINITY, most_gone = 0;
            for (size_t i = 0; layer->activated && i < layer->w; i++) {
                double norm = 0;
                for (size_t j = 0; j < layer->k; j++) norm += fabs((double)t->params[layer->weight + i * layer->k + j]);
                if (act[i] == ESP_ACT_RELU) least_kept = fmin(least_kept, norm);
                if (act[i] == ESP_ACT_ZERO) most_gone = fmax(most_gone, norm);
            }
            ck_assert_msg(most_gone <= least_kept, "%s, layer %d: %g went, %g stayed", esp_block_names[b], l, most_gone, least_kept);
            if (layer->activated) ck_assert(most_gone > 0);
        }
    esp_trainer_free(t);
    flock_run_done(&made);
    flock_run_done(&out);
    esp_dataset_free(data);
}
END_TEST

/* The loss on all training windows of the network as it stands. */
static double loss_of(const esp_trainer *t) {
    const esp_rollout_call call = {
        .params = t->params, .pos = t->ladder->pos, .neg = t->ladder->neg, .starts = t->windows->starts, .n = t->windows->n_starts, .steps = 1};
    return esp_graph_loss_run(t->graph_loss, &call, NULL);
}

/* Targets at weight w are (1 - w) of the way from the teacher to the data: its own loss there is (1 - w)^2 of that on the data. */
START_TEST(graph_start__distillation_moves_targets_to_the_teacher) {
    esp_dataset *data = flock_drive(90);
    flock_run made;
    make_models(data, &made);
    esp_train_opts opts = opts_from(made.model[1], ESP_SPARSIFY_GUMBEL);
    double loss[3];
    for (int k = 0; k < 3; k++) {
        opts.distill_weight = 0.5 * k;
        esp_trainer *t = trainer_of(data, &opts);
        loss[k] = loss_of(t);
        for (size_t r = t->windows->n_train_rows; r < t->windows->n_rows; r++) /* what validates is the data */
            ck_assert_mem_eq(esp_graph_data_next(t->graph_data, r), data->y + (t->graph_data->at[r] + 1) * FLOCK_NY, FLOCK_NY * sizeof(double));
        esp_trainer_free(t);
    }
    ck_assert_double_gt(loss[0], 1e-4);
    ck_assert_double_eq_tol(loss[1], 0.25 * loss[0], 1e-4 * loss[0]);
    ck_assert_double_le(loss[2], 1e-9);
    flock_run_done(&made);
    esp_dataset_free(data);
}
END_TEST

/* ---- checkpoints ---- */

/* Taken up in the search of the first rung, or in the second, it ends with the same models; a checkpoint of another start is none of
 * this run. */
START_TEST(graph_start__goes_on_from_its_checkpoints) {
    esp_dataset *data = flock_drive(90);
    flock_run made, whole = {.wanted = _i ? 30 : 3}, rest = {0}, none = {0};
    make_models(data, &made);
    esp_train_opts opts = opts_from(made.model[0], ESP_SPARSIFY_GUMBEL);
    opts.distill_weight = 0.3;
    ck_assert_int_eq(flock_resume(data, &opts, NULL, &whole), ESP_OK);
    ck_assert_uint_gt(whole.kept.len, 0);
    ck_assert_int_eq(flock_resume(data, &opts, &whole.kept, &rest), ESP_OK);
    ck_assert_int_eq(rest.n, _i ? 1 : 2);
    flock_expect_end(&whole, &rest);
    opts.start = made.model[1];
    ck_assert_int_eq(flock_resume(data, &opts, &whole.kept, &none), ESP_CORRUPT);
    flock_run_done(&whole);
    flock_run_done(&rest);
    flock_run_done(&made);
    esp_dataset_free(data);
}
END_TEST

/* ---- what is refused ---- */

static const struct refusal {
    const char *spec, *pointer;
} refusals[] = {
    {"{\"ladder\":[40]}", "/ladder/0"},
    {"{\"ladder\":[6],\"stable\":\"data_box\"}", "/stable"},
    {"{\"ladder\":[6],\"proof_weight\":0.1}", "/proof_weight"},
    {"{\"ladder\":[6],\"rounding\":0.1}", "/rounding"},
    {"{\"ladder\":[6],\"threads\":2}", "/threads"},
};

START_TEST(graph_start__specs_that_are_refused) {
    esp_train_opts opts = {.batch = -7};
    esp_error error = {0};
    esp_json *json = NULL;
    bool stable = false;
    ck_assert(esp_json_parse(refusals[_i].spec, strlen(refusals[_i].spec), &json, NULL) == ESP_OK);
    esp_reader root = esp_reader_root(json);
    ck_assert_int_eq(esp_sparsify_opts_parse(&root, 40, true, &opts, &stable, &error), ESP_INVALID);
    ck_assert_str_eq(error.pointer, refusals[_i].pointer);
    ck_assert_int_eq(opts.batch, -7);
    esp_json_free(json);
}
END_TEST

/* An uploaded graph network may have any layers; its start, or the word of the refusal that names what is in the way. */
static const char *expected_of(const esp_graph *g) {
    const esp_net *output = g->block[ESP_OUTPUT];
    const esp_layer *last = &output->layers[output->n_layers - 1];
    int width = esp_net_outputs(g->block[ESP_NODE]);
    if (g->block[ESP_MESSAGE]->n_layers > 1) return "messages";
    if (g->block[ESP_UPDATE]->n_layers > 1) return "updates";
    if (esp_net_outputs(g->block[ESP_EDGE]) != width || esp_net_outputs(g->block[ESP_MESSAGE]) != width) return "widths";
    for (int i = 0; i < last->n_out; i++)
        if (last->act[i] != ESP_ACT_IDENTITY) return "linear";
    return NULL;
}

START_TEST(graph_start__networks_that_cannot_be_trained_are_named) {
    int refused = 0;
    for (uint64_t seed = 1; seed <= 300; seed++) {
        esp_rng rng;
        esp_rng_init(&rng, seed, 1);
        esp_model *model = random_graph(&rng);
        const char *word = expected_of(model->graph);
        esp_train_opts opts = {.batch = -7};
        esp_error error = {0};
        esp_reader none = {0};
        esp_code code = esp_sparsify_opts_start(&none, model, &opts, &error);
        ck_assert_msg(code == (word ? ESP_UNPROCESSABLE : ESP_OK), "seed %d: %s", (int)seed, error.message);
        ck_assert_msg(!word || strstr(error.message, word), "seed %d: \"%s\" is not about %s", (int)seed, error.message, word);
        ck_assert(word ? !opts.start && opts.batch == -7 : opts.start == model);
        refused += word != NULL;
        esp_model_free(model);
    }
    ck_assert_int_gt(refused, 100);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("graph_start");
    TCase *tc = tcase_create("graph_start");
    tcase_set_timeout(tc, 60);
    tcase_add_loop_test(tc, graph_start__a_model_comes_out_as_it_went_in, 0, 2);
    tcase_add_loop_test(tc, graph_start__each_rung_by_either_method, 0, 2);
    tcase_add_test(tc, graph_start__channels_with_the_smallest_norms_go);
    tcase_add_test(tc, graph_start__distillation_moves_targets_to_the_teacher);
    tcase_add_loop_test(tc, graph_start__goes_on_from_its_checkpoints, 0, 2);
    tcase_add_loop_test(tc, graph_start__specs_that_are_refused, 0, sizeof refusals / sizeof *refusals);
    tcase_add_test(tc, graph_start__networks_that_cannot_be_trained_are_named);
    suite_add_tcase(suite, tc);
    return run_suite(suite);
}
