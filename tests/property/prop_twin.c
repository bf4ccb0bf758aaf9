/* SPDX-License-Identifier: Apache-2.0
 * Laws of the difference of two networks bounded through the differences of their neurons: every sampled point, evaluated in
 * quadruple precision by the two programs apart, lies within what is proved; equal networks differ by nothing; the bound
 * shrinks with the perturbation; the record's tree covers the box and each of its leaves holds. */
#include <check.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "certify/crown.h"
#include "certify/difference.h"
#include "certify/twin.h"
#include "support/exact.h"
#include "support/models.h"

#define N_SEEDS 150
#define MOST    128

typedef struct pair {
    esp_net *net_f, *net_g;
    esp_program *f, *g, *difference;
    int pairs[MOST];
    double lower[MOST], upper[MOST];
    esp_box box;
} pair;

static esp_program *lowered(const esp_net *net) {
    esp_frame frame = {.kind = ESP_FRAME_NONE};
    esp_model *model = NULL;
    esp_program *program = NULL;
    esp_net *copy = NULL;
    ck_assert(esp_net_copy(net, &copy, NULL) == ESP_OK);
    ck_assert(esp_model_create(ESP_MODEL_POLICY, esp_net_inputs(net), esp_net_outputs(net), 1, &frame, copy, &model, NULL) == ESP_OK);
    ck_assert(esp_program_lower(model, &program, NULL) == ESP_OK);
    esp_model_free(model);
    return program;
}

/* What may be wrong with a network: nothing, rows of zeros, huge and tiny weights, neurons stuck on or off, layers scaled against
 * each other, activations that differ between the two. */
enum { PLAIN, ZERO_ROWS, EXTREME, STUCK, RESCALED, OTHER_ACTIVATIONS, KINDS };

static void spoil_layer(esp_layer *layer, esp_layer *next, int kind, esp_rng *rng) {
    for (int i = 0; i < layer->n_out; i++) {
        double *row = layer->w + i * layer->n_in, u = esp_rng_uniform(rng);
        double scale = kind == EXTREME ? pow(10, floor(esp_rng_range(rng, -12, 12))) : kind == RESCALED ? 1e8 : 1;
        if (kind == ZERO_ROWS && u < 0.4) scale = 0;
        for (int j = 0; j < layer->n_in; j++) row[j] *= scale;
        if (kind == ZERO_ROWS && u < 0.2) layer->b[i] = 0;
        if (kind == RESCALED) {
            layer->b[i] *= scale;
            for (int r = 0; r < next->n_out; r++) next->w[r * next->n_in + i] /= scale;
        }
        if (kind == STUCK && u < 0.6) layer->b[i] = u < 0.3 ? 50 : -50;
    }
}

static void spoil(esp_net *net, int kind, esp_rng *rng) {
    for (int k = 0; k + 1 < net->n_layers; k++) spoil_layer(&net->layers[k], &net->layers[k + 1], kind, rng);
}

static void perturb(esp_net *g, int kind, double t, esp_rng *rng) {
    for (int k = 0; k < g->n_layers; k++) {
        esp_layer *layer = &g->layers[k];
        for (int i = 0; i < layer->n_in * layer->n_out; i++) layer->w[i] *= esp_rng_uniform(rng) < 0.2 ? 1 - t : 1 + 0.1 * t * esp_rng_normal(rng);
        for (int i = 0; i < layer->n_out; i++) {
            layer->b[i] += 0.1 * t * fabs(layer->b[i]) * esp_rng_normal(rng);
            if (kind == OTHER_ACTIVATIONS && k + 1 < g->n_layers && esp_rng_uniform(rng) < 0.3) layer->act[i] = (uint8_t)esp_rng_below(rng, 3);
        }
    }
}

static void make(pair *p, uint64_t seed, int kind, double t) {
    esp_rng rng;
    esp_rng_init(&rng, seed, 1);
    int n_in = 1 + (int)esp_rng_below(&rng, 4), layers = 2 + (int)esp_rng_below(&rng, 3);
    int widths[5] = {n_in};
    for (int k = 1; k < layers; k++) widths[k] = 1 + (int)esp_rng_below(&rng, 8);
    widths[layers] = 1 + (int)esp_rng_below(&rng, 3);
    *p = (pair){.net_f = random_net(&rng, layers, widths, kind == OTHER_ACTIVATIONS ? -1 : ESP_ACT_RELU)};
    for (int i = 0; i < widths[layers]; i++) p->net_f->layers[layers - 1].act[i] = ESP_ACT_IDENTITY;
    spoil(p->net_f, kind, &rng);
    ck_assert(esp_net_copy(p->net_f, &p->net_g, NULL) == ESP_OK);
    perturb(p->net_g, kind, t, &rng);
    p->f = lowered(p->net_f);
    p->g = lowered(p->net_g);
    ck_assert(esp_program_difference(p->f, p->g, &p->difference, NULL) == ESP_OK);
    ck_assert(esp_twin_pairs(p->net_f, p->net_g, p->pairs));
    for (int k = 0; k < n_in; k++) {
        p->lower[k] = esp_rng_normal(&rng) - 1;
        p->upper[k] = p->lower[k] + (esp_rng_uniform(&rng) < 0.1 ? 0 : 2 * esp_rng_uniform(&rng));
    }
    p->box = (esp_box){n_in, p->lower, p->upper};
}

static void done(pair *p) {
    esp_program_free(p->f);
    esp_program_free(p->g);
    esp_program_free(p->difference);
    esp_net_free(p->net_f);
    esp_net_free(p->net_g);
}

static void sample(const pair *p, esp_rng *rng, double *x) {
    for (int k = 0; k < p->box.n; k++) {
        double t = esp_rng_uniform(rng);
        if (esp_rng_uniform(rng) < 0.3) t = t < 0.5 ? 0 : 1;
        x[k] = fmax(p->lower[k], fmin(p->upper[k], p->lower[k] + t * (p->upper[k] - p->lower[k])));
    }
}

typedef struct values {
    quad pf[MOST], pg[MOST], y[MOST];
} values;

static void evaluate(const pair *p, const double *x, values *v) {
    quad r[MOST], z[MOST];
    exact_forward(p->f, x, v->pf, r, v->y);
    exact_forward(p->g, x, v->pg, r, z);
    for (int i = 0; i < p->f->n_y; i++) v->y[i] -= z[i];
}

static quad norm_of(const quad *y, int n, esp_norm norm) {
    quad sum = 0, largest = 0;
    for (int i = 0; i < n; i++) {
        quad a = y[i] < 0 ? -y[i] : y[i];
        sum += a * a;
        if (a > largest) largest = a;
    }
    return norm == ESP_NORM_INF ? largest : sum; /* the square, for L2 */
}

static bool within(quad reached, double value, esp_norm norm) {
    return norm == ESP_NORM_INF ? reached <= (quad)value : reached <= (quad)value * (quad)value;
}

START_TEST(twin__ranges_hold_every_point) {
    seed_range range = seeds(N_SEEDS);
    for (uint64_t seed = range.first; seed <= range.last; seed++) {
        pair p;
        make(&p, seed, (int)(seed % KINDS), seed % 3 ? 1 : 1e-3);
        esp_rng rng;
        esp_rng_init(&rng, seed, 2);
        int n_f = p.f->n_r, n_y = p.f->n_y;
        esp_twin *twin = NULL;
        esp_ranges *ranges = NULL;
        double lo[MOST], hi[MOST], y_lo[MOST], y_hi[MOST], weights[MOST], x[MOST];
        ck_assert(esp_twin_create(p.f, p.g, p.pairs, &twin, NULL) == ESP_OK);
        ck_assert(esp_ranges_create(p.difference->n_r, n_y, &ranges, NULL) == ESP_OK);
        ck_assert(esp_bounds_crown(p.difference, &p.box, NULL, ranges, NULL) == ESP_OK);
        for (int i = 0; i < n_f; i++) lo[i] = -HUGE_VAL, hi[i] = HUGE_VAL;
        for (int i = 0; i < n_y; i++) y_lo[i] = -HUGE_VAL, y_hi[i] = HUGE_VAL, weights[i] = esp_rng_normal(&rng);
        esp_twin_box(twin, p.lower, p.upper);
        ck_assert(esp_twin_run(twin, ranges, seed % 5 > 0, lo, hi));
        for (int i = 0; i < n_y; i++) ck_assert(esp_twin_output(twin, true, i, &y_lo[i], &y_hi[i]));
        double combined, least;
        esp_twin_combinations(twin, 1, weights, &least, &combined);
        for (int n = 0; n < 400; n++) {
            values v;
            quad sum = 0;
            sample(&p, &rng, x);
            evaluate(&p, x, &v);
            for (int i = 0; i < n_f; i++) {
                if (p.pairs[i] < 0) continue;
                quad d = v.pf[i] - v.pg[p.pairs[i]];
                ck_assert_msg(d >= (quad)lo[i] && d <= (quad)hi[i], "seed %llu: neuron %d: %.17g outside [%.17g, %.17g]", (unsigned long long)seed, i,
                              (double)d, lo[i], hi[i]);
            }
            for (int i = 0; i < n_y; i++) {
                ck_assert_msg(v.y[i] >= (quad)y_lo[i] && v.y[i] <= (quad)y_hi[i], "seed %llu: output %d: %.17g outside [%.17g, %.17g]",
                              (unsigned long long)seed, i, (double)v.y[i], y_lo[i], y_hi[i]);
                sum += (quad)weights[i] * v.y[i];
            }
            ck_assert(sum <= (quad)combined);
        }
        esp_twin_free(twin);
        esp_ranges_free(ranges);
        done(&p);
    }
}
END_TEST

static void certify(const pair *p, esp_norm norm, double gap, int max_boxes, esp_certified *made) {
    esp_certify_opts opts = ESP_CERTIFY_OPTS_INIT;
    esp_error error = {0};
    opts.norm = norm;
    opts.gap = gap;
    opts.max_boxes = max_boxes;
    ck_assert_msg(esp_certify_difference(p->f, p->g, p->pairs, &p->box, &opts, NULL, made, &error) == ESP_OK, "%s", error.message);
    ck_assert_int_eq(made->n, 4);
    ck_assert_str_eq(made->rows[2].method, "twin");
    ck_assert_str_eq(made->rows[0].kind, "difference");
}

static void check_certificates(uint64_t seed) {
    pair p;
    make(&p, seed, (int)(seed % KINDS), seed % 3 ? 1 : 1e-3);
    esp_norm norm = seed % 2 ? ESP_NORM_2 : ESP_NORM_INF;
    esp_certified made = {0};
    esp_rng rng;
    esp_rng_init(&rng, seed, 3);
    certify(&p, norm, 0.05, 300, &made);
    values v;
    double x[MOST], lower = made.rows[3].lower;
    evaluate(&p, made.witness, &v);
    quad reached = norm_of(v.y, p.f->n_y, norm);
    ck_assert(norm == ESP_NORM_INF ? reached >= (quad)lower : reached >= (quad)lower * (quad)lower);
    ck_assert(made.rows[3].value >= lower && made.rows[3].value <= fmin(made.rows[1].value, made.rows[2].value));
    for (int n = 0; n < 300; n++) {
        sample(&p, &rng, x);
        evaluate(&p, x, &v);
        reached = norm_of(v.y, p.f->n_y, norm);
        for (int r = 0; r < made.n; r++)
            ck_assert_msg(within(reached, made.rows[r].value, norm), "seed %llu: %s is exceeded", (unsigned long long)seed, made.rows[r].method);
    }
    esp_certified_done(&made);
    done(&p);
}

START_TEST(twin__certificates_hold_every_point) {
    seed_range range = seeds(N_SEEDS);
    for (uint64_t seed = range.first; seed <= range.last; seed++) check_certificates(seed);
}
END_TEST

/* Two constants whose difference rounds (4331): half a unit in the last place too little, once. */
START_TEST(twin__certificates_hold_what_subtraction_rounds) {
    check_certificates(4331);
}
END_TEST

START_TEST(twin__equal_networks_differ_by_nothing) {
    seed_range range = seeds(N_SEEDS / 4);
    for (uint64_t seed = range.first; seed <= range.last; seed++) {
        pair p;
        make(&p, seed, (int)(seed % OTHER_ACTIVATIONS), 0);
        for (int k = 0; k < p.net_f->n_layers; k++)
            ck_assert(memcmp(p.net_f->layers[k].w, p.net_g->layers[k].w,
                             (size_t)(p.net_f->layers[k].n_in * p.net_f->layers[k].n_out) * sizeof(double)) == 0);
        esp_certified made = {0};
        certify(&p, seed % 2 ? ESP_NORM_2 : ESP_NORM_INF, 0, 100, &made);
        ck_assert(made.rows[2].value == 0 && made.rows[3].value == 0 && made.rows[3].lower == 0);
        ck_assert_str_eq(made.rows[3].status, "proved");
        esp_certified_done(&made);
        done(&p);
    }
}
END_TEST

/* W + t D: what one box gives, over t, stays what it was; the bound by CROWN does not. */
START_TEST(twin__vanishes_in_proportion) {
    seed_range range = seeds(N_SEEDS / 4);
    int crown_stays = 0;
    for (uint64_t seed = range.first; seed <= range.last; seed++) {
        double at_one = 0, crown = 0, lower = 0;
        for (double t = 1e-5; t > 5e-10; t *= 1e-2) {
            pair p;
            esp_certified made = {0};
            make(&p, seed, PLAIN, t);
            certify(&p, ESP_NORM_INF, 0.05, 2, &made);
            if (t > 5e-6) at_one = made.rows[2].value / t, crown = made.rows[1].value, lower = made.rows[3].lower / t;
            if (t < 5e-6 && lower > 0) {
                ck_assert_msg(made.rows[2].value <= 1.5 * at_one * t, "seed %llu: %g at %g, %g per unit before", (unsigned long long)seed,
                              made.rows[2].value, t, at_one);
                ck_assert_double_gt(made.rows[3].lower, 0);
                crown_stays += made.rows[1].value > 0.5 * crown;
            }
            esp_certified_done(&made);
            done(&p);
        }
    }
    if (range.last > range.first) ck_assert_int_gt(crown_stays, 10);
}
END_TEST

/* ---- the record ------------------------------------------------------------------------------------------------------ */

typedef struct reader {
    const pair *p;
    const char *at, *end;
    esp_twin *twin;
    esp_norm norm;
    double value, volume, sum;
    int leaves, held;
} reader;

/* A leaf's own bound, from nothing that its parents knew, by the letter's method. */
static double leaf_bound(const reader *r, double *lower, double *upper, char letter) {
    const pair *p = r->p;
    esp_ranges *ranges = NULL;
    esp_box box = {p->box.n, lower, upper};
    double lo[MOST], hi[MOST], largest = 0;
    ck_assert(esp_ranges_create(p->difference->n_r, p->f->n_y, &ranges, NULL) == ESP_OK);
    if (letter == 'i')
        ck_assert(esp_bounds_interval(p->difference, &box, ranges, NULL) == ESP_OK);
    else
        ck_assert(esp_bounds_crown(p->difference, &box, NULL, ranges, NULL) == ESP_OK);
    if (letter == 'd') {
        for (int i = 0; i < p->f->n_r; i++) lo[i] = -HUGE_VAL, hi[i] = HUGE_VAL;
        esp_twin_box(r->twin, lower, upper);
        ck_assert(esp_twin_run(r->twin, ranges, true, lo, hi));
        for (int i = 0; i < p->f->n_y; i++) ck_assert(esp_twin_output(r->twin, true, i, &ranges->y_lower[i], &ranges->y_upper[i]));
    }
    largest = esp_ranges_norm(ranges, r->norm);
    esp_ranges_free(ranges);
    return largest;
}

static void read_node(reader *r, double *lower, double *upper, double share) {
    ck_assert(r->at < r->end);
    if (strchr("icd", *r->at)) {
        r->held += leaf_bound(r, lower, upper, *r->at) <= r->value * (1 + 1e-9);
        r->sum += share;
        r->leaves++;
        r->at++;
        return;
    }
    char *after;
    long axis = strtol(r->at, &after, 10);
    ck_assert(after > r->at && *after == '/' && axis < r->p->box.n);
    r->at = after + 1;
    double l = lower[axis], u = upper[axis], middle = 0.5 * l + 0.5 * u;
    ck_assert(l < middle && middle < u);
    upper[axis] = middle;
    read_node(r, lower, upper, share / 2);
    upper[axis] = u;
    lower[axis] = middle;
    read_node(r, lower, upper, share / 2);
    lower[axis] = l;
}

START_TEST(twin__tree_covers_the_box_and_its_leaves_hold) {
    seed_range range = seeds(N_SEEDS / 3);
    int leaves = 0, held = 0;
    for (uint64_t seed = range.first; seed <= range.last; seed++) {
        pair p;
        esp_certified made = {0};
        make(&p, seed, PLAIN, 1);
        certify(&p, ESP_NORM_INF, 0.01, 400, &made);
        reader r = {&p, made.tree.data, made.tree.data + made.tree.len, NULL, ESP_NORM_INF, made.rows[3].value, 0, 0, 0, 0};
        ck_assert(esp_twin_create(p.f, p.g, p.pairs, &r.twin, NULL) == ESP_OK);
        double lower[MOST], upper[MOST];
        memcpy(lower, p.lower, sizeof lower);
        memcpy(upper, p.upper, sizeof upper);
        read_node(&r, lower, upper, 1);
        ck_assert(r.at == r.end);
        ck_assert_int_eq(r.leaves, made.leaves);
        ck_assert_double_eq(r.sum, 1); /* sums of powers of two */
        leaves += r.leaves;
        held += r.held;
        esp_twin_free(r.twin);
        esp_certified_done(&made);
        done(&p);
    }
    if (range.last > range.first) {
        ck_assert_int_gt(leaves, 200);
        ck_assert_msg(held >= 0.9 * leaves, "%d of %d leaves hold by themselves", held, leaves); /* the others by what their parents knew */
    }
}
END_TEST

START_TEST(twin__refuses_partners_that_cross) {
    pair p;
    uint64_t seed = 1;
    for (make(&p, seed, PLAIN, 1); p.f->n_r < 2; make(&p, ++seed, PLAIN, 1)) done(&p);
    esp_twin *twin = NULL;
    esp_error error = {0};
    int bad[MOST];
    memcpy(bad, p.pairs, sizeof bad);
    bad[0] = p.pairs[1];
    bad[1] = p.pairs[0];
    ck_assert_int_eq(esp_twin_create(p.f, p.g, bad, &twin, &error), ESP_INVALID);
    bad[0] = p.g->n_r;
    ck_assert_int_eq(esp_twin_create(p.f, p.g, bad, &twin, &error), ESP_INVALID);
    bad[0] = bad[1] = 0;
    ck_assert_int_eq(esp_twin_create(p.f, p.g, bad, &twin, &error), ESP_INVALID);
    ck_assert_ptr_null(twin);
    done(&p);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("prop_twin");
    TCase *tcase = tcase_create("twin");
    tcase_set_timeout(tcase, 60);
    tcase_add_test(tcase, twin__ranges_hold_every_point);
    tcase_add_test(tcase, twin__certificates_hold_every_point);
    tcase_add_test(tcase, twin__certificates_hold_what_subtraction_rounds);
    tcase_add_test(tcase, twin__equal_networks_differ_by_nothing);
    tcase_add_test(tcase, twin__vanishes_in_proportion);
    tcase_add_test(tcase, twin__tree_covers_the_box_and_its_leaves_hold);
    tcase_add_test(tcase, twin__refuses_partners_that_cross);
    suite_add_tcase(suite, tcase);
    return run_suite(suite);
}
