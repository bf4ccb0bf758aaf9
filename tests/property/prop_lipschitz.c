/* SPDX-License-Identifier: Apache-2.0
 * Laws of the certified Lipschitz constant over a box: no two sampled points are further apart in the output, by quadruple
 * precision, than it allows; the slope at the witness is had; splitting closes the gap where there are few inputs; and programs
 * whose constant is known. */
#include <check.h>
#include <math.h>
#include <string.h>

#include "certify/lipschitz.h"
#include "certify/lowering.h"
#include "net/program_make.h"
#include "support/exact.h"
#include "support/models.h"

#define N_SEEDS 150
#define MOST    64

static quad norm_of(const quad *y, int n, esp_norm norm) {
    quad sum = 0, largest = 0;
    for (int i = 0; i < n; i++) {
        quad a = y[i] < 0 ? -y[i] : y[i];
        sum += a * a;
        if (a > largest) largest = a;
    }
    return norm == ESP_NORM_INF ? largest : sum; /* the square, for L2 */
}

static double random_scale(esp_rng *rng, uint64_t seed) {
    if (seed % 5 == 1) return pow(10, floor(esp_rng_range(rng, -9, 9)));
    if (seed % 5 == 2) return esp_rng_uniform(rng) < 0.4 ? 0 : 1;
    return 1;
}

/* Any model with any frame; every fifth with huge and tiny rows, every fifth with rows of zeros. */
static esp_model *make(esp_rng *rng, uint64_t seed, esp_program **ret_program, esp_program **ret_slack, double *lower, double *upper) {
    esp_model *model = random_model(rng);
    for (int k = 0; k + 1 < model->net->n_layers; k++) {
        esp_layer *layer = &model->net->layers[k];
        for (int i = 0; i < layer->n_out; i++) {
            double scale = random_scale(rng, seed);
            for (int j = 0; j < layer->n_in; j++) layer->w[i * layer->n_in + j] *= scale;
        }
    }
    ck_assert(esp_program_lower(model, ret_program, NULL) == ESP_OK);
    ck_assert(esp_lowering_slack(model, ret_slack, NULL) == ESP_OK);
    for (int k = 0; k < (*ret_program)->n_x; k++) {
        lower[k] = esp_rng_normal(rng) - 1;
        upper[k] = lower[k] + (esp_rng_uniform(rng) < 0.1 ? 0 : 2 * esp_rng_uniform(rng));
    }
    return model;
}

static void sample(const esp_box *box, esp_rng *rng, double *x) {
    for (int k = 0; k < box->n; k++) x[k] = fmax(box->lower[k], fmin(box->upper[k], esp_rng_range(rng, box->lower[k], box->upper[k])));
}

/* |f(x) - f(z)| against L |x - z|, from the program in quadruple precision. */
static void check_points(const esp_program *p, const double *x, const double *z, const esp_certified *made, uint64_t seed) {
    quad qp[MOST], qr[MOST], y[MOST], w[MOST], d[MOST];
    exact_forward(p, x, qp, qr, y);
    exact_forward(p, z, qp, qr, w);
    for (int i = 0; i < p->n_y; i++) y[i] -= w[i];
    for (int k = 0; k < p->n_x; k++) d[k] = (quad)x[k] - (quad)z[k];
    for (int r = 0; r < made->n; r++) {
        esp_norm norm = made->rows[r].norm;
        quad value = made->rows[r].value, most = norm == ESP_NORM_INF ? value : value * value;
        ck_assert_msg(norm_of(y, p->n_y, norm) <= most * norm_of(d, p->n_x, norm), "seed %llu: %s is exceeded", (unsigned long long)seed,
                      made->rows[r].method);
    }
}

START_TEST(lipschitz__holds_between_any_two_points) {
    seed_range range = seeds(N_SEEDS);
    for (uint64_t seed = range.first; seed <= range.last; seed++) {
        esp_rng rng;
        esp_rng_init(&rng, seed, 1);
        esp_program *p = NULL, *slack = NULL;
        double lower[MOST], upper[MOST], x[MOST], z[MOST];
        esp_model *model = make(&rng, seed, &p, &slack, lower, upper);
        esp_box box = {p->n_x, lower, upper};
        esp_certify_opts opts = ESP_CERTIFY_OPTS_INIT;
        opts.norm = seed % 2 ? ESP_NORM_2 : ESP_NORM_INF;
        opts.max_boxes = 60;
        opts.slack_f = slack;
        esp_certified made = {0};
        esp_error error = {0};
        ck_assert_msg(esp_certify_lipschitz(p, &box, &opts, NULL, &made, &error) == ESP_OK, "%s", error.message);
        ck_assert_int_eq(made.n, 2);
        ck_assert(made.rows[1].value <= made.rows[0].value && made.rows[1].lower <= made.rows[1].value);
        ck_assert_str_eq(made.rows[0].kind, "lipschitz");
        for (int n = 0; n < 150; n++) {
            sample(&box, &rng, x);
            sample(&box, &rng, z);
            for (int k = 0; n % 3 == 0 && k < p->n_x; k++) z[k] = fmax(lower[k], fmin(upper[k], x[k] + 1e-3 * (z[k] - x[k])));
            check_points(p, x, z, &made, seed);
        }
        esp_certified_done(&made);
        esp_program_free(p);
        esp_program_free(slack);
        esp_model_free(model);
    }
}
END_TEST

/* The norm of the derivative by the backward pass, inputs that are constants left out. */
static double slope_at(const esp_program *p, const esp_box *box, const double *x, esp_norm norm) {
    double y[MOST], pre[MOST], work[MOST], g[MOST], rows[MOST][MOST], v[MOST], jv[MOST], largest = 0;
    esp_program_forward(p, x, y, pre, NULL, work);
    for (int i = 0; i < p->n_y; i++) {
        double sum = 0;
        memset(g, 0, sizeof g);
        g[i] = 1;
        esp_program_backward(p, pre, g, rows[i], work);
        for (int k = 0; k < p->n_x; k++) sum += fabs(rows[i][k] *= box->lower[k] < box->upper[k]);
        largest = fmax(largest, sum);
    }
    if (norm == ESP_NORM_INF) return largest;
    for (int k = 0; k < p->n_x; k++) v[k] = 1 + 0.1 * k;
    double size = 0;
    for (int step = 0; step < 500; step++) {
        double length = 0;
        for (int k = 0; k < p->n_x; k++) length += v[k] * v[k];
        if (length == 0) return 0;
        size = 0;
        for (int i = 0; i < p->n_y; i++) {
            jv[i] = 0;
            for (int k = 0; k < p->n_x; k++) jv[i] += rows[i][k] * v[k] / sqrt(length);
            size += jv[i] * jv[i];
        }
        memset(v, 0, sizeof v);
        for (int i = 0; i < p->n_y; i++)
            for (int k = 0; k < p->n_x; k++) v[k] += rows[i][k] * jv[i];
    }
    return sqrt(size);
}

START_TEST(lipschitz__witness_has_the_slope_and_few_inputs_close) {
    seed_range range = seeds(N_SEEDS / 2);
    int closed = 0, n = 0;
    for (uint64_t seed = range.first; seed <= range.last; seed++) {
        esp_rng rng;
        esp_rng_init(&rng, seed, 2);
        esp_frame frame = {.kind = ESP_FRAME_NONE};
        const int widths[4] = {1 + (int)(seed % 3), 2 + (int)esp_rng_below(&rng, 7), 2 + (int)esp_rng_below(&rng, 7),
                               1 + (int)esp_rng_below(&rng, 3)};
        esp_net *net = random_net(&rng, 3, widths, ESP_ACT_RELU);
        for (int i = 0; i < widths[3]; i++) net->layers[2].act[i] = ESP_ACT_IDENTITY;
        esp_model *model = NULL;
        esp_program *p = NULL;
        ck_assert(esp_model_create(ESP_MODEL_POLICY, widths[0], widths[3], 1, &frame, net, &model, NULL) == ESP_OK);
        ck_assert(esp_program_lower(model, &p, NULL) == ESP_OK);
        double lower[3] = {-1, -1, -1}, upper[3] = {1, 0.5, -1};
        esp_box box = {widths[0], lower, upper};
        esp_certify_opts opts = ESP_CERTIFY_OPTS_INIT;
        opts.norm = seed % 2 ? ESP_NORM_2 : ESP_NORM_INF;
        opts.max_boxes = 2000;
        opts.gap = 0.1;
        esp_certified made = {0};
        int64_t give_up = esp_clock_now_ns() + ESP_NS_PER_S / 4;
        esp_stop stop = {give_up, NULL, NULL};
        ck_assert(esp_certify_lipschitz(p, &box, &opts, &stop, &made, NULL) == ESP_OK);
        double slope = slope_at(p, &box, made.witness, opts.norm);
        ck_assert_msg(made.rows[1].lower <= slope * (1 + 1e-9), "seed %llu: %g of %g", (unsigned long long)seed, made.rows[1].lower, slope);
        ck_assert_double_ge(made.rows[1].lower, slope * (1 - 1e-6));
        closed += made.rows[1].value <= 1.1 * made.rows[1].lower + 1e-12;
        n++;
        esp_certified_done(&made);
        esp_program_free(p);
        esp_model_free(model);
    }
    if (range.last > range.first) ck_assert_msg(closed > 0.9 * n, "%d of %d", closed, n);
}
END_TEST

/* y = (|x0| , 3 x1), as relu(x0) + relu(-x0). */
static esp_program *vee(void) {
    esp_program *p = NULL;
    ck_assert(esp_program_create(2, 2, 2, &p, NULL) == ESP_OK);
    p->c[0] = 1;
    p->c[2] = -1;
    p->b[0] = p->b[1] = 1;
    p->a[3] = 3;
    esp_program_seal(p, 0);
    return p;
}

START_TEST(lipschitz__of_known_programs) {
    esp_program *p = vee();
    double lower[2] = {-1, -1}, upper[2] = {1, 1};
    esp_box box = {2, lower, upper};
    for (int norm = 0; norm < 2; norm++) {
        esp_certify_opts opts = ESP_CERTIFY_OPTS_INIT;
        esp_certified made = {0};
        opts.norm = (esp_norm)norm;
        opts.gap = 1e-9;
        ck_assert(esp_certify_lipschitz(p, &box, &opts, NULL, &made, NULL) == ESP_OK);
        ck_assert(made.rows[1].value >= 3 && made.rows[1].value <= 3 * (1 + 2e-7));
        ck_assert(made.rows[1].lower <= 3 && made.rows[1].lower >= 3 * (1 - 1e-9));
        esp_certified_done(&made);
    }
    upper[1] = lower[1]; /* x1 is a constant: only |x0| is left */
    esp_certify_opts opts = ESP_CERTIFY_OPTS_INIT;
    esp_certified made = {0};
    ck_assert(esp_certify_lipschitz(p, &box, &opts, NULL, &made, NULL) == ESP_OK);
    ck_assert(made.rows[1].value >= 1 && made.rows[1].value <= 1 + 1e-9 && made.rows[1].lower >= 1 - 1e-9);
    ck_assert_str_eq(made.rows[1].status, "proved");
    esp_certified_done(&made);
    esp_program_free(p);
}
END_TEST

START_TEST(lipschitz__refuses_bad_boxes) {
    esp_program *p = vee();
    double lower[2] = {-1, 2}, upper[2] = {1, 1};
    esp_certify_opts opts = ESP_CERTIFY_OPTS_INIT;
    esp_certified made = {0};
    ck_assert_int_eq(esp_certify_lipschitz(p, &(esp_box){2, lower, upper}, &opts, NULL, &made, NULL), ESP_INVALID);
    ck_assert_int_eq(esp_certify_lipschitz(p, &(esp_box){1, lower, upper}, &opts, NULL, &made, NULL), ESP_INVALID);
    ck_assert_ptr_null(made.witness);
    esp_program_free(p);
}
END_TEST

/* Models with identities and frames: the exact model, in long double, stays within bounds whose slack is what lowering rounded. */
START_TEST(lowering__slack_is_kept) {
    seed_range range = seeds(N_SEEDS);
    int loose = 0;
    for (uint64_t seed = range.first; seed <= range.last; seed++) {
        esp_rng rng;
        esp_rng_init(&rng, seed, 3);
        esp_program *p = NULL, *slack = NULL;
        double lower[MOST], upper[MOST];
        esp_model *model = make(&rng, seed, &p, &slack, lower, upper);
        loose += slack != NULL;
        if (slack) {
            ck_assert(slack->n_r == p->n_r && slack->n_x == p->n_x && slack->n_y == p->n_y);
            size_t numbers = (size_t)(p->n_y + p->n_r) * (size_t)(p->n_x + p->n_r + 1);
            for (size_t i = 0; i < numbers; i++) {
                ck_assert(slack->a[i] >= 0 && slack->a[i] >= 1e-17 * fabs(p->a[i]));
                ck_assert(p->a[i] == 0 || slack->a[i] > 0);
            }
        }
        esp_box box = {p->n_x, lower, upper};
        esp_certify_opts opts = ESP_CERTIFY_OPTS_INIT;
        esp_certified made = {0};
        opts.slack_f = slack;
        opts.max_boxes = 20;
        ck_assert(esp_certify_difference(p, NULL, NULL, &box, &opts, NULL, &made, NULL) == ESP_OK);
        for (int n = 0; n < 50; n++) {
            double x[MOST], y[MOST], largest = 0;
            sample(&box, &rng, x);
            oracle_step(model, x, y, NULL);
            for (int i = 0; i < p->n_y; i++) largest = fmax(largest, fabs(y[i]));
            ck_assert_double_le(largest, made.rows[2].value * (1 + 4e-16)); /* y is rounded to double once */
        }
        esp_certified_done(&made);
        esp_program_free(p);
        esp_program_free(slack);
        esp_model_free(model);
    }
    if (range.last > range.first) ck_assert_int_gt(loose, 20);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("prop_lipschitz");
    TCase *tcase = tcase_create("lipschitz");
    tcase_set_timeout(tcase, 60);
    tcase_add_test(tcase, lipschitz__holds_between_any_two_points);
    tcase_add_test(tcase, lipschitz__witness_has_the_slope_and_few_inputs_close);
    tcase_add_test(tcase, lipschitz__of_known_programs);
    tcase_add_test(tcase, lipschitz__refuses_bad_boxes);
    tcase_add_test(tcase, lowering__slack_is_kept);
    suite_add_tcase(suite, tcase);
    return run_suite(suite);
}
