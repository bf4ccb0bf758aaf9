/* SPDX-License-Identifier: Apache-2.0
 * Laws of pruning, over random networks (relu, identity and zero neurons, weights that are 0, layers of 1 to 8) and inputs that may
 * be constant, repeated or few: the count is exact, zeros stay, what is not asked for stays as it was, the result is finite and
 * the same each time, and the best fit to a layer is no worse than leaving the rest alone. */
#include <check.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "sparsify/prune.h"
#include "support/models.h"

enum { SEEDS = 60, MAX_N = 40, MAX_WIDTH = 8 };

static double inputs[MAX_N * MAX_WIDTH];
static esp_error error;

static esp_net *draw_net(esp_rng *rng) {
    int widths[5], n = 1 + (int)esp_rng_below(rng, 4);
    for (int k = 0; k <= n; k++) widths[k] = 1 + (int)esp_rng_below(rng, MAX_WIDTH);
    return random_net(rng, n, widths, -1);
}

/* 1 to 40 inputs; now and then a column is constant, or another's copy, or on another scale altogether. */
static size_t draw_inputs(esp_rng *rng, int n_in) {
    size_t n = 1 + esp_rng_below(rng, MAX_N);
    for (size_t i = 0; i < n * (size_t)n_in; i++) inputs[i] = esp_rng_normal(rng);
    for (int j = 0; j < n_in; j++) {
        size_t what = esp_rng_below(rng, 8);
        for (size_t i = 0; i < n; i++) {
            double *x = &inputs[i * (size_t)n_in + (size_t)j];
            if (what == 0) *x = 3.7;
            if (what == 1 && j) *x = x[-1];
            if (what == 2) *x *= 1e6;
            if (what == 3) *x *= 1e-6;
            if (what == 4) *x += 1e3;
        }
    }
    return n;
}

static esp_prune_opts draw_opts(esp_rng *rng, const esp_net *net) {
    esp_prune_opts opts = ESP_PRUNE_OPTS_INIT;
    opts.method = (esp_prune_method)esp_rng_below(rng, ESP_PRUNE_METHODS);
    opts.scope = (esp_prune_scope)esp_rng_below(rng, 2);
    opts.objective = (esp_prune_objective)esp_rng_below(rng, 2);
    opts.sparsity = esp_rng_uniform(rng);
    opts.bias = esp_rng_below(rng, 2) == 0;
    opts.block = 1 + (int)esp_rng_below(rng, 9);
    if (esp_rng_below(rng, 4) == 0) {
        opts.group = 2 << esp_rng_below(rng, 3);
        opts.scope = ESP_PRUNE_LAYER;
    }
    for (int k = 0; k < net->n_layers; k++)
        if (esp_rng_below(rng, 3)) opts.layers[opts.n_layers++] = k;
    return opts;
}

static bool chosen(const esp_prune_opts *opts, int layer) {
    for (int i = 0; i < opts->n_layers; i++)
        if (opts->layers[i] == layer) return true;
    return opts->n_layers == 0;
}

static int zeros_of(const esp_layer *layer) {
    int zeros = 0;
    for (int q = 0; q < layer->n_in * layer->n_out; q++) zeros += layer->w[q] == 0;
    return zeros;
}

static int most(int a, int b) {
    return a > b ? a : b;
}

/* Of a pattern, each group has its zeros or more, when more came so. */
static void check_groups(const esp_layer *before, const esp_layer *after, int group) {
    for (int i = 0; i < after->n_out; i++) {
        for (int j = 0; j < after->n_in; j += group) {
            int t = after->n_in - j < group ? after->n_in - j : group, had = 0, has = 0;
            for (int c = 0; c < t; c++) {
                had += before->w[i * after->n_in + j + c] == 0;
                has += after->w[i * after->n_in + j + c] == 0;
            }
            ck_assert_int_eq(has, most(had, t / 2));
        }
    }
}

static void check_counts(const esp_net *before, const esp_net *after, const esp_prune_opts *opts) {
    int weights = 0, had = 0, has = 0;
    for (int k = 0; k < before->n_layers; k++) {
        const esp_layer *from = &before->layers[k], *to = &after->layers[k];
        int n = from->n_in * from->n_out;
        ck_assert_mem_eq(from->act, to->act, (size_t)from->n_out);
        for (int q = 0; q < n; q++)
            if (from->w[q] == 0) ck_assert_double_eq(to->w[q], 0);
        if (!chosen(opts, k)) {
            ck_assert_mem_eq(from->w, to->w, (size_t)n * sizeof(double));
            ck_assert_mem_eq(from->b, to->b, (size_t)from->n_out * sizeof(double));
            continue;
        }
        weights += n;
        had += zeros_of(from);
        has += zeros_of(to);
        if (opts->group)
            check_groups(from, to, opts->group);
        else if (opts->scope == ESP_PRUNE_LAYER)
            ck_assert_int_eq(zeros_of(to), most(zeros_of(from), (int)lround(opts->sparsity * n)));
    }
    if (opts->scope == ESP_PRUNE_NETWORK) ck_assert_int_eq(has, most(had, (int)lround(opts->sparsity * weights)));
}

START_TEST(prune__keeps_its_laws) {
    seed_range range = seeds(SEEDS);
    for (uint64_t seed = range.first; seed <= range.last; seed++) {
        esp_rng rng;
        esp_rng_init(&rng, seed, 41);
        esp_net *net = draw_net(&rng), *pruned = NULL, *again = NULL;
        size_t n = draw_inputs(&rng, esp_net_inputs(net));
        for (int i = 0; i < 20; i++) {
            esp_prune_opts opts = draw_opts(&rng, net);
            esp_code code = esp_prune_run(net, n, inputs, &opts, NULL, &pruned, &error);
            ck_assert_msg(code == ESP_OK, "seed %llu, round %d: %s", (unsigned long long)seed, i, error.message);
            ck_assert_int_eq(esp_prune_run(net, n, inputs, &opts, NULL, &again, &error), ESP_OK);
            ck_assert_int_eq(esp_net_check(pruned, &error), ESP_OK);
            check_counts(net, pruned, &opts);
            for (int k = 0; k < net->n_layers; k++)
                ck_assert_mem_eq(pruned->layers[k].w, again->layers[k].w, (size_t)(net->layers[k].n_in * net->layers[k].n_out) * sizeof(double));
            esp_net_free(pruned);
            esp_net_free(again);
        }
        esp_net_free(net);
    }
}
END_TEST

static double error_of(const esp_net *f, const esp_net *g, size_t n) {
    double y[MAX_WIDTH], z[MAX_WIDTH], work[2 * MAX_WIDTH], sum = 0;
    for (size_t i = 0; i < n; i++) {
        esp_net_forward(f, inputs + i * (size_t)esp_net_inputs(f), y, work);
        esp_net_forward(g, inputs + i * (size_t)esp_net_inputs(f), z, work);
        for (int o = 0; o < esp_net_outputs(f); o++) sum += (y[o] - z[o]) * (y[o] - z[o]);
    }
    return sum;
}

/* One linear layer: on OBS's own mask its fit is no worse than zeroing, and no weight of it can be moved to any gain. */
START_TEST(prune__obs_is_the_best_fit_on_its_mask) {
    seed_range range = seeds(SEEDS);
    for (uint64_t seed = range.first; seed <= range.last; seed++) {
        esp_rng rng;
        esp_rng_init(&rng, seed, 42);
        int widths[2] = {2 + (int)esp_rng_below(&rng, MAX_WIDTH - 1), 1 + (int)esp_rng_below(&rng, MAX_WIDTH)};
        esp_net *net = random_net(&rng, 1, widths, ESP_ACT_IDENTITY), *pruned = NULL, *zeroed = NULL;
        for (int i = 0; i < MAX_N * widths[0]; i++) inputs[i] = esp_rng_normal(&rng) + 0.5;
        esp_prune_opts opts = ESP_PRUNE_OPTS_INIT;
        opts.method = ESP_PRUNE_OBS;
        opts.sparsity = esp_rng_uniform(&rng);
        opts.damping = 1e-12;
        ck_assert_msg(esp_prune_run(net, MAX_N, inputs, &opts, NULL, &pruned, &error) == ESP_OK, "%s", error.message);
        ck_assert_int_eq(esp_net_copy(net, &zeroed, &error), ESP_OK);
        double *w = pruned->layers[0].w;
        for (int q = 0; q < widths[0] * widths[1]; q++)
            if (w[q] == 0) zeroed->layers[0].w[q] = 0;
        double best = error_of(net, pruned, MAX_N);
        ck_assert_msg(best <= error_of(net, zeroed, MAX_N) * (1 + 1e-9) + 1e-18, "seed %llu", (unsigned long long)seed);
        for (int q = 0; q < widths[0] * widths[1]; q++) {
            double before = w[q], step = 1e-3 * (1 + fabs(before));
            if (before == 0) continue;
            for (int sign = -1; sign <= 1; sign += 2) {
                w[q] = before + sign * step;
                ck_assert_msg(error_of(net, pruned, MAX_N) >= best, "seed %llu, weight %d", (unsigned long long)seed, q);
            }
            w[q] = before;
        }
        esp_net_free(zeroed);
        esp_net_free(pruned);
        esp_net_free(net);
    }
}
END_TEST

int main(void) {
    Suite *suite = suite_create("prop_prune");
    TCase *tc = tcase_create("laws");
    tcase_set_timeout(tc, 60);
    tcase_add_test(tc, prune__keeps_its_laws);
    tcase_add_test(tc, prune__obs_is_the_best_fit_on_its_mask);
    suite_add_tcase(suite, tc);
    return run_suite(suite);
}
