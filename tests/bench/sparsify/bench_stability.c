/* SPDX-License-Identifier: Apache-2.0
 * What training for the planner is worth: one-step error against the time of a proof, and that time at equal error.
 *
 *     bench_stability [--seeds 3] [--proofs 4] [--seconds 4] [--transitions 50000] [--epochs 60] [--rung-epochs 60]
 *     bench_stability --same 1 [--weight 3e-5] ...
 *
 * From the dense networks of several seeds the ladder goes down in several ways, and each rung proves plans of a few pushing instances
 * (pushing.h). Two ladders part ways at their first rung, and what a rung takes to prove differs by a factor of ten between networks of
 * equal error, so small differences drown. With `--same 1` the ways begin from the same rungs, which are trained on, all for
 * the same epochs, or only written differently; then it is the same ReLUs that are compared.
 *
 * Times are CPU seconds of this thread. It is a measurement and not a test. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/rng.h"
#include "bench/sparsify/pushing.h"
#include "train/emit.h"
#include "train/trainer.h"

enum { CURVE = 5, WAYS = 5 };
static const int curve[CURVE] = {24, 18, 15, 12, 8};
static const struct { double weight, rounding; } ways[WAYS] = {{0, 0}, {3e-5, 0}, {3e-5, 0.02}, {1e-4, 0}, {1e-4, 0.02}};

typedef struct settings {
    int seeds, proofs, transitions, epochs, rung_epochs;
    double seconds, weight;
} settings;

static void print_head(const settings *s) {
    printf("%d transitions, %d seeds, %d epochs a rung; %d instances of horizon %d, %g s each\n\n", s->transitions, s->seeds, s->rung_epochs,
           s->proofs, PROOF_HORIZON, s->seconds);
}

static void print_point(const point *p) {
    printf(" %.4f | %.0f | %.3f | %.0f | %d of %d |\n", point_rmse(p), p->nonzero / p->models, point_seconds(p), point_nodes(p), p->open, p->proofs);
}

/* ---- ladders --------------------------------------------------------------------------------------------------------- */

typedef struct curve_run {
    const settings *s;
    point *points; /* CURVE, of the way in hand */
    int n;
} curve_run;

static esp_code on_rung(void *user, const esp_train_model *trained, esp_error *reterr) {
    curve_run *r = user;
    point *p = &r->points[r->n++];
    (void)reterr;
    p->rmse += trained->validation_rmse;
    prove(trained->model, r->s->proofs, r->s->seconds, p);
    return ESP_OK;
}

static void print_points(point points[WAYS][CURVE]) {
    printf("| proof_weight | rounding | ReLUs | RMSE | weights | s | nodes | not proved |\n|--:|--:|--:|--:|--:|--:|--:|--:|\n");
    for (int k = 0; k < WAYS; k++)
        for (int i = 0; i < CURVE; i++) {
            printf("| %g | %g | %d |", ways[k].weight, ways[k].rounding, curve[i]);
            print_point(&points[k][i]);
        }
}

/* Between the rungs on both sides, in the logarithm of time; NaN outside the curve. */
static double seconds_at(const point *points, double rmse) {
    for (int i = 0; i + 1 < CURVE; i++) {
        double a = point_rmse(&points[i]), b = point_rmse(&points[i + 1]), share = (rmse - a) / (b - a);
        if (a < b && share >= 0 && share <= 1) return exp((1 - share) * log(point_seconds(&points[i])) + share * log(point_seconds(&points[i + 1])));
    }
    return (double)NAN;
}

static void print_equal_errors(point points[WAYS][CURVE]) {
    printf("\n| s at RMSE |");
    for (int k = 0; k < WAYS; k++) printf(" %g, rounding %g |", ways[k].weight, ways[k].rounding);
    printf("\n|--:|");
    for (int k = 0; k < WAYS; k++) printf("--:|");
    for (int e = 34; e <= 46; e += 2) {
        printf("\n| %.3f |", 0.001 * e);
        for (int k = 0; k < WAYS; k++) {
            double seconds = seconds_at(points[k], 0.001 * e);
            if (isfinite(seconds))
                printf(" %.2f |", seconds);
            else
                printf(" |");
        }
    }
    printf("\n");
}

static void run_curve(const settings *s) {
    static point points[WAYS][CURVE];
    for (int seed = 1; seed <= s->seeds; seed++) {
        esp_dataset *data = push_data(s->transitions, (uint64_t)seed);
        esp_train_opts opts = push_opts(s->epochs, s->rung_epochs, (uint64_t)seed);
        esp_model *dense = push_dense(data, &opts);
        opts.start = dense;
        opts.n_rungs = CURVE;
        memcpy(opts.ladder, curve, sizeof curve);
        for (int k = 0; k < WAYS; k++) {
            curve_run r = {s, points[k], 0};
            const esp_train_hooks rungs = {.user = &r, .model = on_rung};
            opts.proof_weight = ways[k].weight;
            opts.rounding = ways[k].rounding;
            must(esp_train_run(data, &opts, &rungs, NULL, &error));
            fprintf(stderr, "seed %d, weight %g, rounding %g: done after %.0f s\n", seed, ways[k].weight, ways[k].rounding, cpu_seconds());
        }
        esp_model_free(dense);
        esp_dataset_free(data);
    }
    print_head(s);
    print_points(points);
    print_equal_errors(points);
}

/* ---- the same rungs -------------------------------------------------------------------------------------------------- */

#define TUNE_EPOCHS 8 /* five times */
#define TUNE_RATE   0.005

/* What becomes of a rung: trained on, with what; or only written differently. */
typedef struct change {
    const char *name;
    double rounding, weight_decay;
    int bits; /* of the weights' fractions; 0: all */
    int scale; /* ReLUs are rescaled by powers of 2 up to this; 0: not */
} change;

static const change changes[] = {{"trained on", 0, 0, 0, 0},
                                 {"rounding 0.005", 0.005, 0, 0, 0},
                                 {"rounding 0.01", 0.01, 0, 0, 0},
                                 {"rounding 0.02", 0.02, 0, 0, 0},
                                 {"rounding 0.04", 0.04, 0, 0, 0},
                                 {"rounding 0.08", 0.08, 0, 0, 0},
                                 {"weight_decay 0.01", 0, 0.01, 0, 0},
                                 {"weight_decay 0.1", 0, 0.1, 0, 0},
                                 {"weights of 6 bits", 0, 0, 6, 0},
                                 {"weights of 4 bits", 0, 0, 4, 0},
                                 {"weights of 3 bits", 0, 0, 3, 0},
                                 {"rescaled by up to 2^6", 0, 0, 0, 6},
                                 {"rescaled by up to 2^10", 0, 0, 0, 10}};
enum { CHANGES = sizeof changes / sizeof *changes };

typedef struct same_run {
    const settings *s;
    const esp_dataset *data;
    const esp_train_opts *opts;
    esp_windows *windows;
    point (*points)[CURVE];
    int n;
} same_run;

/* The rung's model after five short phases in compact form, each but the first after a rounding if there is one. */
static esp_model *tuned(const same_run *r, const esp_model *rung, const change *c) {
    esp_train_opts opts = *r->opts;
    esp_trainer *t = NULL;
    esp_model *out = NULL;
    opts.start = rung;
    opts.n_rungs = 0;
    opts.rounding = c->rounding;
    opts.weight_decay = c->weight_decay;
    must(esp_trainer_create(r->data, &opts, NULL, NULL, &t, &error));
    t->total_epochs = (ESP_ROUNDINGS + 1) * TUNE_EPOCHS;
    for (int k = 0; k <= ESP_ROUNDINGS; k++) {
        const esp_phase phase = {.stage = "tune",
                                 .epochs = TUNE_EPOCHS,
                                 .stage_epochs = TUNE_EPOCHS,
                                 .compact = true,
                                 .round = k > 0 && c->rounding > 0,
                                 .rate = TUNE_RATE};
        t->place = (esp_place){.rung = -1, .rounding = k};
        must(esp_trainer_phase(t, &phase, &error));
    }
    must(esp_emit_model(&t->mlp, t->params, t->ladder, t->windows, &opts.frame, r->data->nu, &out, &error));
    esp_trainer_free(t);
    return out;
}

static void round_to_bits(esp_net *net, int bits) {
    for (int l = 0; l < net->n_layers; l++)
        for (size_t i = 0; i < (size_t)net->layers[l].n_out * (size_t)net->layers[l].n_in; i++) {
            int exponent;
            double fraction = frexp(net->layers[l].w[i], &exponent);
            net->layers[l].w[i] = ldexp(nearbyint(ldexp(fraction, bits)), exponent - bits);
        }
}

/* max(0, s p) = s max(0, p), exactly for powers of 2: the same function, bit by bit. */
static void rescale(esp_net *net, int most, esp_rng *rng) {
    for (int l = 0; l + 1 < net->n_layers; l++) {
        esp_layer *layer = &net->layers[l], *next = layer + 1;
        for (int i = 0; i < layer->n_out; i++) {
            if (layer->act[i] != ESP_ACT_RELU) continue;
            int by = (int)lround(esp_rng_range(rng, -most, most));
            layer->b[i] = ldexp(layer->b[i], by);
            for (int j = 0; j < layer->n_in; j++) layer->w[i * layer->n_in + j] = ldexp(layer->w[i * layer->n_in + j], by);
            for (int k = 0; k < next->n_out; k++) next->w[k * next->n_in + i] = ldexp(next->w[k * next->n_in + i], -by);
        }
    }
}

static void add(const same_run *r, const esp_model *model, point *p) {
    double one_step = 0, rollout = 0;
    must(esp_emit_errors(model, r->data, r->windows, NULL, NULL, &one_step, &rollout, &error));
    p->rmse += one_step;
    prove(model, r->s->proofs, r->s->seconds, p);
}

static esp_code on_same(void *user, const esp_train_model *trained, esp_error *reterr) {
    same_run *r = user;
    int rung = r->n++;
    esp_model *plain = NULL;
    (void)reterr;
    for (int k = 0; rung > 0 && k < CHANGES; k++) { /* the first, of 24, hardly proves anything in time */
        const change *c = &changes[k];
        esp_rng rng;
        esp_rng_init(&rng, r->opts->seed, 1);
        esp_model *model = c->bits || c->scale ? copy_of(plain) : tuned(r, trained->model, c);
        if (c->bits) round_to_bits(model->net, c->bits);
        if (c->scale) rescale(model->net, c->scale, &rng);
        add(r, model, &r->points[k][rung]);
        if (k == 0)
            plain = model;
        else
            esp_model_free(model);
    }
    esp_model_free(plain);
    return ESP_OK;
}

/* All rungs of a change together, against those of the first. */
static point total_of(const point *points) {
    point all = {0};
    for (int i = 1; i < CURVE; i++) {
        all.rmse += points[i].rmse;
        all.log_seconds += points[i].log_seconds;
        all.log_nodes += points[i].log_nodes;
        all.models += points[i].models;
        all.proofs += points[i].proofs;
    }
    return all;
}

static void print_same(const settings *s, point points[CHANGES][CURVE]) {
    const point plain = total_of(points[0]);
    print_head(s);
    printf("proof_weight %g\n\n| | ReLUs | RMSE | weights | s | nodes | not proved |\n|:--|--:|--:|--:|--:|--:|--:|\n", s->weight);
    for (int i = 1; i < CURVE; i++)
        for (int k = 0; k < CHANGES; k++) {
            printf("| %s | %d |", changes[k].name, curve[i]);
            print_point(&points[k][i]);
        }
    printf("\n| all rungs | RMSE | s, share | nodes, share |\n|:--|--:|--:|--:|\n");
    for (int k = 0; k < CHANGES; k++) {
        const point all = total_of(points[k]);
        printf("| %s | %+.2f %% | %.2f | %.2f |\n", changes[k].name, 100 * (point_rmse(&all) / point_rmse(&plain) - 1),
               point_seconds(&all) / point_seconds(&plain), (point_nodes(&all) + 1) / (point_nodes(&plain) + 1));
    }
}

static void run_same(const settings *s) {
    static point points[CHANGES][CURVE];
    for (int seed = 1; seed <= s->seeds; seed++) {
        esp_dataset *data = push_data(s->transitions, (uint64_t)seed);
        esp_train_opts opts = push_opts(s->epochs, s->rung_epochs, (uint64_t)seed);
        esp_model *dense = push_dense(data, &opts);
        same_run r = {s, data, &opts, NULL, points, 0};
        const esp_train_hooks rungs = {.user = &r, .model = on_same};
        opts.start = dense;
        opts.n_rungs = CURVE;
        opts.proof_weight = s->weight;
        memcpy(opts.ladder, curve, sizeof curve);
        must(esp_windows_create(data, &opts, &r.windows, &error));
        must(esp_train_run(data, &opts, &rungs, NULL, &error));
        fprintf(stderr, "seed %d: done after %.0f s\n", seed, cpu_seconds());
        esp_windows_free(r.windows);
        esp_model_free(dense);
        esp_dataset_free(data);
    }
    print_same(s, points);
}

int main(int argc, char **argv) {
    static const char *const names[] = {"--seeds", "--proofs", "--seconds", "--transitions", "--epochs", "--rung-epochs", "--same", "--weight"};
    double v[] = {3, 4, 4, 50000, 60, 60, 0, 3e-5};
    if (!read_options(argc, argv, names, sizeof v / sizeof *v, v)) return 2;
    const settings s = {(int)v[0], (int)v[1], (int)v[3], (int)v[4], (int)v[5], v[2], v[7]};
    if (v[6] > 0)
        run_same(&s);
    else
        run_curve(&s);
    return 0;
}
