/* SPDX-License-Identifier: Apache-2.0
 * Pruning against the definitions written out: brute force over single weights, normal equations of the survivors, SparseGPT by
 * inverses of sub-matrices, derivatives by differences; and what must be refused. */
#include <check.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "sparsify/prune.h"
#include "support/models.h"

enum { MAX = 40, N = 60 };

static esp_error error;

static double inputs[N * MAX];

static void draw_inputs(uint64_t seed, int n_in) {
    esp_rng rng;
    esp_rng_init(&rng, seed, 77);
    for (int i = 0; i < N; i++) {
        double common = esp_rng_normal(&rng); /* inputs that hang together, about means that are not 0 */
        for (int j = 0; j < n_in; j++) inputs[i * n_in + j] = 0.5 * j + common + esp_rng_normal(&rng);
    }
}

static esp_net *draw_net(uint64_t seed, int n_layers, const int *widths, int act) {
    esp_rng rng;
    esp_rng_init(&rng, seed, 78);
    return random_net(&rng, n_layers, widths, act);
}

/* No weight is 0, so that counts are what was pruned. */
static esp_net *full_net(uint64_t seed, int n_layers, const int *widths) {
    esp_net *net = draw_net(seed, n_layers, widths, ESP_ACT_RELU);
    for (int k = 0; k < n_layers; k++) {
        esp_layer *layer = &net->layers[k];
        for (int q = 0; q < layer->n_in * layer->n_out; q++)
            if (layer->w[q] == 0) layer->w[q] = 0.3 + 0.01 * q;
        if (k == n_layers - 1) memset(layer->act, ESP_ACT_IDENTITY, (size_t)layer->n_out);
    }
    return net;
}

static esp_net *run(const esp_net *net, const esp_prune_opts *opts) {
    esp_net *pruned = NULL;
    ck_assert_msg(esp_prune_run(net, N, inputs, opts, NULL, &pruned, &error) == ESP_OK, "%s", error.message);
    return pruned;
}

/* Mean over the inputs of |f - g|^2, by the plain forward pass. */
static double mean_error(const esp_net *f, const esp_net *g) {
    double y[MAX], z[MAX], work[2 * MAX], sum = 0;
    int n_in = esp_net_inputs(f), n_out = esp_net_outputs(f);
    for (int i = 0; i < N; i++) {
        esp_net_forward(f, inputs + i * n_in, y, work);
        esp_net_forward(g, inputs + i * n_in, z, work);
        for (int o = 0; o < n_out; o++) sum += (y[o] - z[o]) * (y[o] - z[o]) / N;
    }
    return sum;
}

static int zeros_of(const esp_net *net) {
    esp_prune_opts all = ESP_PRUNE_OPTS_INIT;
    int64_t weights, zeros;
    esp_prune_count(net, &all, &weights, &zeros);
    return (int)zeros;
}

/* The ways there are: method, scope, objective. */
static const struct {
    esp_prune_method method;
    esp_prune_scope scope;
    esp_prune_objective objective;
} ways[] = {
    {ESP_PRUNE_MAGNITUDE, ESP_PRUNE_LAYER, 0},   {ESP_PRUNE_MAGNITUDE, ESP_PRUNE_NETWORK, 0},
    {ESP_PRUNE_OBD, ESP_PRUNE_LAYER, 0},         {ESP_PRUNE_OBD, ESP_PRUNE_NETWORK, 0},
    {ESP_PRUNE_OBS, ESP_PRUNE_LAYER, 0},         {ESP_PRUNE_OBS, ESP_PRUNE_LAYER, ESP_PRUNE_OF_LAYER},
    {ESP_PRUNE_OBS, ESP_PRUNE_NETWORK, 0},       {ESP_PRUNE_SPARSEGPT, ESP_PRUNE_LAYER, 0},
    {ESP_PRUNE_SPARSEGPT, ESP_PRUNE_NETWORK, 0}, {ESP_PRUNE_SPARSEGPT, ESP_PRUNE_LAYER, ESP_PRUNE_OF_LAYER},
};
enum { WAYS = sizeof ways / sizeof *ways };

static esp_prune_opts way(int i, double sparsity) {
    esp_prune_opts opts = ESP_PRUNE_OPTS_INIT;
    opts.method = ways[i].method;
    opts.scope = ways[i].scope;
    opts.objective = ways[i].objective;
    opts.sparsity = sparsity;
    return opts;
}

/* ---- every way ---- */

START_TEST(prune__sparsity_is_met_exactly) {
    static const int widths[] = {5, 8, 6, 2};
    static const double sparsities[] = {0, 0.1, 0.5, 0.83, 1};
    draw_inputs(1, 5);
    esp_net *net = full_net(1, 3, widths);
    for (int k = 0; k < 5; k++) {
        for (int bias = 0; bias < 2; bias++) {
            esp_prune_opts opts = way(_i, sparsities[k]);
            int expected = 0;
            opts.bias = bias;
            for (int l = 0; l < 3; l++) expected += (int)lround(sparsities[k] * widths[l] * widths[l + 1]);
            if (opts.scope == ESP_PRUNE_NETWORK) expected = (int)lround(sparsities[k] * (5 * 8 + 8 * 6 + 6 * 2));
            esp_net *pruned = run(net, &opts);
            ck_assert_int_eq(zeros_of(pruned), expected);
            if (sparsities[k] == 0) ck_assert_double_eq(mean_error(net, pruned), 0);
            esp_net_free(pruned);
        }
    }
    esp_net_free(net);
}
END_TEST

START_TEST(prune__what_is_zero_stays_zero_and_counts) {
    static const int widths[] = {5, 8, 3};
    draw_inputs(2, 5);
    esp_net *net = full_net(2, 2, widths);
    net->layers[0].w[3] = net->layers[0].w[17] = net->layers[1].w[9] = 0;
    esp_prune_opts opts = way(_i, 0.25);
    esp_net *pruned = run(net, &opts), *again = run(pruned, &opts);
    ck_assert_int_eq(zeros_of(pruned), 10 + 6);
    ck_assert_double_eq(pruned->layers[0].w[3], 0);
    ck_assert_double_eq(pruned->layers[0].w[17], 0);
    ck_assert_double_eq(pruned->layers[1].w[9], 0);
    if (opts.scope == ESP_PRUNE_LAYER) ck_assert_double_eq_tol(mean_error(pruned, again), 0, 1e-20); /* nothing is left to do */
    opts.sparsity = 0; /* fewer than there are */
    esp_net *same = run(pruned, &opts);
    ck_assert_int_eq(zeros_of(same), 16);
    esp_net_free(same);
    esp_net_free(again);
    esp_net_free(pruned);
    esp_net_free(net);
}
END_TEST

START_TEST(prune__only_chosen_layers_change) {
    static const int widths[] = {4, 6, 6, 2};
    draw_inputs(3, 4);
    esp_net *net = full_net(3, 3, widths);
    esp_prune_opts opts = way(_i, 0.5);
    opts.n_layers = 2;
    opts.layers[1] = 2;
    esp_net *pruned = run(net, &opts);
    ck_assert_int_eq(zeros_of(pruned), 12 + 6);
    ck_assert_mem_eq(pruned->layers[1].w, net->layers[1].w, 36 * sizeof(double));
    ck_assert_mem_eq(pruned->layers[1].b, net->layers[1].b, 6 * sizeof(double));
    esp_net_free(pruned);
    esp_net_free(net);
}
END_TEST

START_TEST(prune__patterns_are_exact) {
    static const int widths[] = {10, 7, 3}, groups[] = {2, 4, 8};
    draw_inputs(4, 10);
    esp_net *net = full_net(4, 2, widths);
    for (int g = 0; g < 3; g++) {
        esp_prune_opts opts = way(_i, 0);
        if (opts.scope == ESP_PRUNE_NETWORK) continue;
        opts.group = groups[g];
        opts.block = 3; /* not a multiple of any group */
        esp_net *pruned = run(net, &opts);
        for (int k = 0; k < 2; k++) {
            const esp_layer *layer = &pruned->layers[k];
            for (int i = 0; i < layer->n_out; i++) {
                for (int j = 0; j < layer->n_in; j += groups[g]) {
                    int t = layer->n_in - j < groups[g] ? layer->n_in - j : groups[g], zeros = 0;
                    for (int c = 0; c < t; c++) zeros += layer->w[i * layer->n_in + j + c] == 0;
                    ck_assert_int_eq(zeros, t / 2);
                }
            }
        }
        esp_net_free(pruned);
    }
    esp_net_free(net);
}
END_TEST

/* Two inputs that never vary and a neuron that never fires cost nothing: their weights go first. */
START_TEST(prune__free_weights_go_first) {
    static const int widths[] = {4, 5, 2};
    draw_inputs(5, 4);
    for (int i = 0; i < N; i++) inputs[4 * i + 1] = 0;
    esp_net *net = full_net(5, 2, widths);
    net->layers[0].b[2] = -1e6; /* off at every input */
    net->layers[0].act[4] = ESP_ACT_ZERO;
    for (int q = 0; q < 20; q++) net->layers[0].w[q] *= q % 4 == 1 || q / 4 == 4 ? 1000 : 1; /* magnitude is misled */
    esp_prune_opts opts = way(_i, 0.4); /* 4 of 10 in layer 2 are free, 8 to 12 of 20 in layer 1 */
    if (opts.method == ESP_PRUNE_MAGNITUDE || opts.scope == ESP_PRUNE_NETWORK) {
        esp_net_free(net);
        return;
    }
    esp_net *pruned = run(net, &opts);
    for (int q = 0; q < 20; q++)
        if (q % 4 != 1 && q / 4 != 2 && q / 4 != 4) ck_assert_double_ne(pruned->layers[0].w[q], 0);
    for (int o = 0; o < 2; o++) ck_assert_double_eq(pruned->layers[1].w[5 * o + 2], 0);
    ck_assert_double_eq_tol(mean_error(net, pruned), 0, 1e-18);
    esp_net_free(pruned);
    esp_net_free(net);
}
END_TEST

START_TEST(prune__one_weight) {
    static const int widths[] = {1, 1};
    draw_inputs(6, 1);
    esp_net *net = full_net(6, 1, widths);
    esp_prune_opts opts = way(_i, 1);
    esp_net *pruned = run(net, &opts);
    double mean = 0, w = net->layers[0].w[0];
    for (int i = 0; i < N; i++) mean += inputs[i] / N;
    bool shifted = (opts.method == ESP_PRUNE_OBS || opts.method == ESP_PRUNE_SPARSEGPT) && opts.scope == ESP_PRUNE_LAYER;
    if (opts.method == ESP_PRUNE_SPARSEGPT) shifted = true;
    ck_assert_double_eq(pruned->layers[0].w[0], 0);
    if (opts.method != ESP_PRUNE_OBS || shifted)
        ck_assert_double_eq_tol(pruned->layers[0].b[0], net->layers[0].b[0] + (shifted ? w * mean : 0), 1e-12);
    esp_net_free(pruned);
    esp_net_free(net);
}
END_TEST

/* Units of inputs and rescaled neurons change nothing: with W -> S W, next -> next S^-1 the same weights go. */
START_TEST(prune__units_do_not_matter) {
    static const int widths[] = {5, 6, 2};
    static const double unit[] = {1, 1024, 0.125, 1, 16};
    esp_prune_opts opts = way(_i, 0.5);
    draw_inputs(7, 5);
    esp_net *net = full_net(7, 2, widths), *scaled = NULL;
    ck_assert_int_eq(esp_net_copy(net, &scaled, &error), ESP_OK);
    for (int i = 0; i < 6; i++) {
        double s = i % 2 ? 256 : 1; /* powers of two: no rounding at all */
        for (int j = 0; j < 5; j++) scaled->layers[0].w[5 * i + j] *= s / unit[j];
        scaled->layers[0].b[i] *= s;
        for (int o = 0; o < 2; o++) scaled->layers[1].w[6 * o + i] /= s;
    }
    bool of_layer = opts.objective == ESP_PRUNE_OF_LAYER || opts.method == ESP_PRUNE_MAGNITUDE;
    if (!of_layer) {
        esp_net *pruned = run(net, &opts);
        for (int i = 0; i < N; i++)
            for (int j = 0; j < 5; j++) inputs[5 * i + j] *= unit[j];
        esp_net *other = run(scaled, &opts);
        for (int k = 0; k < 2; k++)
            for (int q = 0; q < net->layers[k].n_in * net->layers[k].n_out; q++)
                ck_assert_int_eq(pruned->layers[k].w[q] == 0, other->layers[k].w[q] == 0);
        esp_net_free(other);
        esp_net_free(pruned);
    }
    esp_net_free(scaled);
    esp_net_free(net);
}
END_TEST

/* ---- OBS ---- */

/* Gauss-Jordan; a (d x d) is destroyed. */
static void invert(int d, double *a, double *ret) {
    for (int i = 0; i < d * d; i++) ret[i] = i % (d + 1) == 0;
    for (int p = 0; p < d; p++) {
        double pivot = a[p * d + p];
        for (int j = 0; j < d; j++) {
            a[p * d + j] /= pivot;
            ret[p * d + j] /= pivot;
        }
        for (int i = 0; i < d; i++) {
            double factor = a[i * d + p];
            for (int j = 0; i != p && j < d; j++) {
                a[i * d + j] -= factor * a[p * d + j];
                ret[i * d + j] -= factor * ret[p * d + j];
            }
        }
    }
}

/* H = 2/n X'X, about the mean or not, damped. */
static void plain_hessian(int d, bool centred, double damping, double *h) {
    double mean[MAX] = {0};
    for (int i = 0; centred && i < N; i++)
        for (int j = 0; j < d; j++) mean[j] += inputs[i * d + j] / N;
    memset(h, 0, (size_t)(d * d) * sizeof *h);
    for (int i = 0; i < N; i++)
        for (int a = 0; a < d; a++)
            for (int b = 0; b < d; b++) h[a * d + b] += 2.0 / N * (inputs[i * d + a] - mean[a]) * (inputs[i * d + b] - mean[b]);
    for (int a = 0; a < d; a++) h[a * d + a] *= 1 + damping;
}

/* One linear layer: the first weight to go is the one whose loss w^2 / (2 [H^-1]_qq) is least, and that is the rise of the
 * error; likewise without a bias. */
START_TEST(prune__obs_takes_the_weight_that_costs_least) {
    enum { D = 6 };
    static const int widths[] = {D, 1};
    double h[D * D], inverse[D * D], best = INFINITY;
    int which = -1;
    bool bias = _i % 2;
    draw_inputs(10 + (uint64_t)_i, D);
    esp_net *net = full_net(10 + (uint64_t)_i, 1, widths);
    plain_hessian(D, bias, 0, h);
    invert(D, h, inverse);
    for (int q = 0; q < D; q++) {
        double w = net->layers[0].w[q], loss = w * w / (2 * inverse[q * D + q]);
        if (loss < best) {
            best = loss;
            which = q;
        }
    }
    for (int i = ESP_PRUNE_OF_OUTPUT; i <= ESP_PRUNE_OF_LAYER + 1; i++) { /* the third: over the network, which here is the layer */
        esp_prune_opts opts = ESP_PRUNE_OPTS_INIT;
        opts.method = ESP_PRUNE_OBS;
        opts.objective = (esp_prune_objective)(i % 2);
        opts.scope = i == 2 ? ESP_PRUNE_NETWORK : ESP_PRUNE_LAYER;
        opts.sparsity = 1.0 / D;
        opts.damping = 0;
        opts.bias = bias;
        esp_net *pruned = run(net, &opts);
        ck_assert_double_eq(pruned->layers[0].w[which], 0);
        ck_assert_double_eq_tol(mean_error(net, pruned), best, 1e-9 * (1 + best)); /* E = 1/2 dw' H dw, H = 2/n XX' */
        for (int j = 0; j < D; j++) /* the update is the OBS direction */
            ck_assert_double_eq_tol(pruned->layers[0].w[j],
                                    net->layers[0].w[j] - net->layers[0].w[which] / inverse[which * D + which] * inverse[j * D + which], 1e-9);
        esp_net_free(pruned);
    }
    esp_net_free(net);
}
END_TEST

/* What stays is the least-squares fit to the layer's own output: residuals are orthogonal to every input that stays. */
START_TEST(prune__obs_survivors_solve_least_squares) {
    enum { D = 8, ROWS = 5 };
    static const int widths[] = {D, ROWS};
    draw_inputs(20, D);
    esp_net *net = full_net(20, 1, widths);
    esp_prune_opts opts = ESP_PRUNE_OPTS_INIT;
    opts.method = ESP_PRUNE_OBS;
    opts.objective = (esp_prune_objective)(_i / 2);
    opts.scope = _i == 4 ? ESP_PRUNE_NETWORK : ESP_PRUNE_LAYER;
    opts.bias = _i % 2 || _i == 4;
    opts.sparsity = 0.55;
    opts.damping = 0;
    esp_net *pruned = run(net, &opts);
    for (int i = 0; i < ROWS; i++) {
        double residual[N], sum = 0;
        for (int s = 0; s < N; s++) {
            residual[s] = net->layers[0].b[i] - pruned->layers[0].b[i];
            for (int j = 0; j < D; j++) residual[s] += (net->layers[0].w[i * D + j] - pruned->layers[0].w[i * D + j]) * inputs[s * D + j];
            sum += residual[s];
        }
        if (opts.bias) ck_assert_double_eq_tol(sum, 0, 1e-8);
        for (int j = 0; j < D; j++) {
            double product = 0;
            if (pruned->layers[0].w[i * D + j] == 0) continue;
            for (int s = 0; s < N; s++) product += residual[s] * inputs[s * D + j];
            ck_assert_double_eq_tol(product, 0, 1e-8);
        }
    }
    esp_net_free(pruned);
    esp_net_free(net);
}
END_TEST

/* More weights than a batch of pivots: greedy OBS written out with a fresh inverse at each step gives the same mask. */
START_TEST(prune__obs_goes_the_greedy_way) {
    enum { D = 40 };
    static const int widths[] = {D, 1};
    static double h[D * D], sub[D * D], inverse[D * D];
    double w[D];
    bool gone[D] = {false};
    draw_inputs(30, D);
    esp_net *net = full_net(30, 1, widths);
    plain_hessian(D, true, 0.01, h);
    memcpy(w, net->layers[0].w, sizeof w);
    for (int step = 0; step < 35; step++) {
        int id[D], m = 0, best = -1;
        double least = INFINITY, copy[D];
        for (int j = 0; j < D; j++)
            if (!gone[j]) id[m++] = j;
        for (int a = 0; a < m; a++)
            for (int b = 0; b < m; b++) sub[a * m + b] = h[id[a] * D + id[b]];
        invert(m, sub, inverse);
        for (int a = 0; a < m; a++) {
            double loss = w[id[a]] * w[id[a]] / (2 * inverse[a * m + a]);
            if (loss < least) {
                least = loss;
                best = a;
            }
        }
        memcpy(copy, w, sizeof w);
        for (int a = 0; a < m; a++) w[id[a]] -= copy[id[best]] / inverse[best * m + best] * inverse[a * m + best];
        gone[id[best]] = true;
        w[id[best]] = 0;
    }
    esp_prune_opts opts = ESP_PRUNE_OPTS_INIT;
    opts.method = ESP_PRUNE_OBS;
    opts.objective = ESP_PRUNE_OF_LAYER;
    opts.sparsity = 35.0 / D;
    esp_net *pruned = run(net, &opts);
    for (int j = 0; j < D; j++) ck_assert_double_eq_tol(pruned->layers[0].w[j], w[j], 1e-8);
    esp_net_free(pruned);
    esp_net_free(net);
}
END_TEST

/* ---- SparseGPT ---- */

/* Column by column with [(H_{j:,j:})^-1] found afresh, masks by blocks: no Cholesky, no lazy updates. */
static void plain_sparsegpt(int rows, int d, int block, int target, const double *h, double *w) {
    static double sub[MAX * MAX], inverse[MAX * MAX];
    double pivot[MAX];
    bool mask[MAX * MAX];
    int gone = 0;
    for (int j = 0; j < d; j++) {
        int m = d - j;
        for (int a = 0; a < m; a++)
            for (int b = 0; b < m; b++) sub[a * m + b] = h[(j + a) * d + j + b];
        invert(m, sub, inverse);
        pivot[j] = inverse[0];
    }
    for (int j = 0; j < d; j++) {
        int m = d - j, end = j + block < d ? j + block : d;
        if (j % block == 0) {
            int want = (int)((double)target * end / d + 0.5) - gone;
            for (int i = 0; i < rows; i++)
                for (int c = j; c < end; c++) mask[i * d + c] = false;
            for (int k = 0; k < want; k++) {
                int best = -1;
                for (int i = 0; i < rows; i++) {
                    for (int c = j; c < end; c++) {
                        int q = i * d + c;
                        if (mask[q]) continue;
                        if (best < 0 || w[q] * w[q] / pivot[c] < w[best] * w[best] / pivot[best % d]) best = q;
                    }
                }
                mask[best] = true;
                gone++;
            }
        }
        for (int a = 0; a < m; a++)
            for (int b = 0; b < m; b++) sub[a * m + b] = h[(j + a) * d + j + b];
        invert(m, sub, inverse);
        for (int i = 0; i < rows; i++) {
            double value = w[i * d + j];
            if (!mask[i * d + j]) continue;
            for (int a = 0; a < m; a++) w[i * d + j + a] -= value / inverse[0] * inverse[a];
            w[i * d + j] = 0;
        }
    }
}

START_TEST(prune__sparsegpt_is_obs_from_left_to_right) {
    enum { D = 12, ROWS = 7 };
    static const int widths[] = {D, ROWS}, blocks[] = {1, 4, 5, 128};
    double h[D * D], w[ROWS * D];
    bool bias = _i % 2;
    draw_inputs(40, D);
    esp_net *net = full_net(40, 1, widths);
    plain_hessian(D, bias, 0.01, h);
    memcpy(w, net->layers[0].w, sizeof w);
    plain_sparsegpt(ROWS, D, blocks[_i / 2] < D ? blocks[_i / 2] : D, 42, h, w);
    esp_prune_opts opts = ESP_PRUNE_OPTS_INIT;
    opts.method = ESP_PRUNE_SPARSEGPT;
    opts.sparsity = 0.5;
    opts.block = blocks[_i / 2];
    opts.bias = bias;
    for (int of = 0; of < 2; of++) { /* one linear layer: its error is the output's */
        opts.objective = (esp_prune_objective)of;
        esp_net *pruned = run(net, &opts);
        for (int q = 0; q < ROWS * D; q++) ck_assert_double_eq_tol(pruned->layers[0].w[q], w[q], 1e-9);
        esp_net_free(pruned);
    }
    esp_net_free(net);
}
END_TEST

/* Zeroing <= SparseGPT <= OBS in what they keep, on the mask of SparseGPT. */
START_TEST(prune__sparsegpt_lies_between_zeroing_and_the_optimum) {
    enum { D = 12, ROWS = 7 };
    static const int widths[] = {D, ROWS};
    draw_inputs(50 + (uint64_t)_i, D);
    esp_net *net = full_net(50 + (uint64_t)_i, 1, widths), *zeroed = NULL;
    esp_prune_opts opts = ESP_PRUNE_OPTS_INIT;
    opts.method = ESP_PRUNE_SPARSEGPT;
    opts.sparsity = 0.5;
    opts.damping = 1e-9;
    esp_net *swept = run(net, &opts);
    ck_assert_int_eq(esp_net_copy(net, &zeroed, &error), ESP_OK);
    for (int q = 0; q < ROWS * D; q++)
        if (swept->layers[0].w[q] == 0) zeroed->layers[0].w[q] = 0;
    opts.method = ESP_PRUNE_OBS; /* 0 stays 0: it keeps the mask of its input, and fits to that input; so the fit is to be made by hand */
    esp_net *best = run(net, &opts);
    double of_zeroed = mean_error(net, zeroed), of_swept = mean_error(net, swept), of_best = mean_error(net, best);
    ck_assert_double_lt(of_swept, of_zeroed);
    ck_assert_double_le(of_best, of_swept * (1 + 1e-9));
    esp_net_free(best);
    esp_net_free(zeroed);
    esp_net_free(swept);
    esp_net_free(net);
}
END_TEST

/* ---- OBD ---- */

/* The saliency w^2 H_qq / 2 with H_qq = 2/n sum (df/dw)^2, the derivative by central differences; outputs up to 20 take the
 * exact way or random signs. */
START_TEST(prune__obd_ranks_by_the_outputs_curvature) {
    static const int widths[] = {4, 6, 3};
    draw_inputs(60, 4);
    esp_net *net = full_net(60, 2, widths);
    double saliency[24 + 18], step = 1e-6;
    for (int q = 0; q < 42; q++) {
        double *w = q < 24 ? &net->layers[0].w[q] : &net->layers[1].w[q - 24], before = *w, up[3], down[3], work[2 * MAX];
        saliency[q] = 0;
        for (int i = 0; i < N; i++) {
            *w = before + step;
            esp_net_forward(net, inputs + 4 * i, up, work);
            *w = before - step;
            esp_net_forward(net, inputs + 4 * i, down, work);
            for (int o = 0; o < 3; o++) saliency[q] += before * before / N * pow((up[o] - down[o]) / (2 * step), 2);
        }
        *w = before;
    }
    esp_prune_opts opts = ESP_PRUNE_OPTS_INIT;
    opts.method = ESP_PRUNE_OBD;
    opts.scope = ESP_PRUNE_NETWORK;
    opts.sparsity = 0.5;
    esp_net *pruned = run(net, &opts);
    double highest_gone = 0, lowest_kept = INFINITY;
    for (int q = 0; q < 42; q++) {
        double w = q < 24 ? pruned->layers[0].w[q] : pruned->layers[1].w[q - 24];
        if (w == 0 && saliency[q] > highest_gone) highest_gone = saliency[q];
        if (w != 0 && saliency[q] < lowest_kept) lowest_kept = saliency[q];
    }
    ck_assert_double_le(highest_gone, lowest_kept * (1 + 1e-6));
    esp_net_free(pruned);
    esp_net_free(net);
}
END_TEST

/* ---- what must be refused ---- */

START_TEST(prune__a_singular_hessian_asks_for_damping) {
    enum { D = 5 };
    static const int widths[] = {D, 3};
    draw_inputs(70, D);
    for (int i = 0; i < N; i++) inputs[D * i + 2] = inputs[D * i + 1]; /* two inputs are one */
    esp_net *net = full_net(70, 1, widths), *pruned = NULL;
    for (int i = 4; i < WAYS; i++) {
        esp_prune_opts opts = way(i, 0.4);
        if (opts.scope == ESP_PRUNE_NETWORK && opts.method == ESP_PRUNE_OBS) continue;
        opts.damping = 0;
        esp_code code = esp_prune_run(net, N, inputs, &opts, NULL, &pruned, &error);
        if (code == ESP_OK) { /* rounding may leave it just invertible: then the result must be one */
            ck_assert_int_eq(zeros_of(pruned), 6);
            esp_net_free(pruned);
        } else {
            ck_assert_int_eq(code, ESP_NUMERIC);
            ck_assert_ptr_nonnull(strstr(error.message, "damping"));
        }
        opts.damping = 0.01;
        pruned = run(net, &opts);
        ck_assert_int_eq(zeros_of(pruned), 6);
        ck_assert_double_lt(mean_error(net, pruned), 1e6);
        esp_net_free(pruned);
        pruned = NULL;
    }
    esp_net_free(net);
}
END_TEST

START_TEST(prune__fewer_inputs_than_weights_is_fine) {
    static const int widths[] = {30, 10, 2};
    esp_net *net = full_net(71, 2, widths), *pruned = NULL;
    draw_inputs(71, 30);
    esp_prune_opts opts = way(_i, 0.5);
    ck_assert_msg(esp_prune_run(net, 1, inputs, &opts, NULL, &pruned, &error) == ESP_OK, "%s", error.message);
    ck_assert_int_eq(zeros_of(pruned), 160);
    esp_net_free(pruned);
    esp_net_free(net);
}
END_TEST

static bool always(void *user) {
    (void)user;
    return true;
}

START_TEST(prune__bad_options_are_refused) {
    static const int widths[] = {5, 6, 2};
    const esp_stop stop = {ESP_NEVER, always, NULL}, late = {1, NULL, NULL};
    draw_inputs(72, 5);
    esp_net *net = full_net(72, 2, widths), *pruned = NULL;
    esp_prune_opts good = way(4, 0.5), bad[9];
    for (int i = 0; i < 9; i++) bad[i] = good;
    bad[0].sparsity = -0.1;
    bad[1].sparsity = NAN;
    bad[2].group = 1;
    bad[3].damping = -1;
    bad[4].block = 0;
    bad[5].n_layers = 1;
    bad[5].layers[0] = 2;
    bad[6].n_layers = 2; /* twice the same */
    bad[7].scope = ESP_PRUNE_NETWORK;
    bad[7].group = 4;
    bad[8].sparsity = 1.1;
    for (int i = 0; i < 9; i++) ck_assert_int_eq(esp_prune_run(net, N, inputs, &bad[i], NULL, &pruned, &error), ESP_INVALID);
    ck_assert_int_eq(esp_prune_run(net, 0, NULL, &good, NULL, &pruned, &error), ESP_INVALID);
    ck_assert_int_eq(esp_prune_run(net, ESP_PRUNE_ACTIVATIONS_MAX, inputs, &good, NULL, &pruned, &error), ESP_UNPROCESSABLE);
    ck_assert_int_eq(esp_prune_run(net, N, inputs, &good, &stop, &pruned, &error), ESP_CANCELLED);
    ck_assert_int_eq(esp_prune_run(net, N, inputs, &good, &late, &pruned, &error), ESP_DEADLINE);
    net->layers[0].w[0] = 1e308;
    net->layers[0].w[1] = 1e308;
    good.objective = ESP_PRUNE_OF_LAYER;
    ck_assert_int_eq(esp_prune_run(net, N, inputs, &good, NULL, &pruned, &error), ESP_NUMERIC);
    ck_assert_ptr_null(pruned);
    good.method = ESP_PRUNE_MAGNITUDE; /* which looks at no activation */
    ck_assert_int_eq(esp_prune_run(net, 0, NULL, &good, NULL, &pruned, &error), ESP_OK);
    esp_net_free(pruned);
    esp_net_free(net);
}
END_TEST

START_TEST(prune__obs_over_a_large_network_is_refused) {
    static const int widths[] = {2, 80, 80, 2};
    draw_inputs(73, 2);
    esp_net *net = full_net(73, 3, widths), *pruned = NULL;
    esp_prune_opts opts = way(6, 0.5);
    ck_assert_int_eq(esp_prune_run(net, N, inputs, &opts, NULL, &pruned, &error), ESP_UNPROCESSABLE);
    opts.n_layers = 1; /* the first alone is small */
    pruned = run(net, &opts);
    ck_assert_int_eq(zeros_of(pruned), 80);
    esp_net_free(pruned);
    esp_net_free(net);
}
END_TEST

START_TEST(prune__outputs_equal_the_plain_forward_pass) {
    static const int widths[] = {5, 9, 7, 3};
    double y[N * 3], one[3], work[2 * MAX];
    draw_inputs(80, 5);
    esp_net *net = draw_net(80, 3, widths, -1);
    ck_assert_int_eq(esp_prune_outputs(net, N, inputs, y, &error), ESP_OK);
    for (int i = 0; i < N; i++) {
        esp_net_forward(net, inputs + 5 * i, one, work);
        for (int o = 0; o < 3; o++) ck_assert_double_eq_tol(y[3 * i + o], one[o], 1e-12);
    }
    esp_net_free(net);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("prune");
    TCase *all = tcase_create("every way"), *methods = tcase_create("methods"), *refused = tcase_create("refused");
    tcase_add_loop_test(all, prune__sparsity_is_met_exactly, 0, WAYS);
    tcase_add_loop_test(all, prune__what_is_zero_stays_zero_and_counts, 0, WAYS);
    tcase_add_loop_test(all, prune__only_chosen_layers_change, 0, WAYS);
    tcase_add_loop_test(all, prune__patterns_are_exact, 0, WAYS);
    tcase_add_loop_test(all, prune__free_weights_go_first, 0, WAYS);
    tcase_add_loop_test(all, prune__one_weight, 0, WAYS);
    tcase_add_loop_test(all, prune__units_do_not_matter, 0, WAYS);
    tcase_add_loop_test(all, prune__fewer_inputs_than_weights_is_fine, 0, WAYS);
    tcase_add_loop_test(methods, prune__obs_takes_the_weight_that_costs_least, 0, 8);
    tcase_add_loop_test(methods, prune__obs_survivors_solve_least_squares, 0, 5);
    tcase_add_test(methods, prune__obs_goes_the_greedy_way);
    tcase_add_loop_test(methods, prune__sparsegpt_is_obs_from_left_to_right, 0, 8);
    tcase_add_loop_test(methods, prune__sparsegpt_lies_between_zeroing_and_the_optimum, 0, 6);
    tcase_add_test(methods, prune__obd_ranks_by_the_outputs_curvature);
    tcase_add_test(refused, prune__a_singular_hessian_asks_for_damping);
    tcase_add_test(refused, prune__bad_options_are_refused);
    tcase_add_test(refused, prune__obs_over_a_large_network_is_refused);
    tcase_add_test(refused, prune__outputs_equal_the_plain_forward_pass);
    suite_add_tcase(suite, all);
    suite_add_tcase(suite, methods);
    suite_add_tcase(suite, refused);
    return run_suite(suite);
}
