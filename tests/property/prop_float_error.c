/* SPDX-License-Identifier: Apache-2.0
 * What is proved of a program in float holds: its evaluation in float, done here by hand in the order of the program, fused and not, lies
 * within the bound of the box, of the single point, and of the size of the input, for ordinary and for degenerate networks. */
#include <check.h>
#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "certify/float_error.h"
#include "support/models.h"

enum { POINTS = 60, MAX = 512 };

static esp_model *policy(esp_rng *rng, int n_layers, const int *widths) {
    esp_model *model = NULL;
    esp_net *net = random_net(rng, n_layers, widths, -1);
    ck_assert_int_eq(esp_model_create(ESP_MODEL_POLICY, widths[0], widths[n_layers], 1, NULL, net, &model, NULL), ESP_OK);
    return model;
}

/* Huge and tiny weights, rows that cancel, rows of zeros, neurons that are never or always on. */
static void degrade(esp_rng *rng, esp_net *net) {
    for (int l = 0; l < net->n_layers; l++) {
        esp_layer *layer = &net->layers[l];
        for (int i = 0; i < layer->n_out; i++) {
            double *w = layer->w + (size_t)i * (size_t)layer->n_in;
            switch (esp_rng_below(rng, 12)) {
            case 0: memset(w, 0, (size_t)layer->n_in * sizeof *w); break;
            case 1: w[esp_rng_below(rng, (size_t)layer->n_in)] *= 1e6; break;
            case 2: w[esp_rng_below(rng, (size_t)layer->n_in)] *= 1e-40; break;
            case 3: layer->b[i] = -1e3; break;
            case 4: layer->b[i] = 1e4; break;
            case 5:
                if (layer->n_in > 1) w[1] = -w[0] * (1 + 1e-9);
                break;
            default: break;
            }
        }
    }
}

/* One row in float: s + c v, each product rounded, or fused into its sum. */
static float row(const double *c, const float *v, size_t n, float s, bool fused) {
    for (size_t j = 0; j < n; j++) {
        float cj = (float)c[j], product = cj * v[j];
        s = fused ? fmaf(cj, v[j], s) : s + product;
    }
    return s;
}

static void forward_float(const esp_program *p, const float *x, float *y, bool fused) {
    float r[MAX];
    size_t n_x = (size_t)p->n_x, n_r = (size_t)p->n_r;
    for (size_t i = 0; i < n_r; i++) {
        float s = row(p->d + i * n_r, r, i, row(p->c + i * n_x, x, n_x, (float)p->d0[i], fused), fused);
        r[i] = s < 0 ? 0 : s;
    }
    for (size_t k = 0; k < (size_t)p->n_y; k++) y[k] = row(p->b + k * n_r, r, n_r, row(p->a + k * n_x, x, n_x, (float)p->c0[k], fused), fused);
}

typedef struct bounds {
    double box[MAX], parts[MAX], constant[MAX], slope[MAX], radius;
} bounds;

static void prove(const esp_program *p, const esp_box *box, bool crown, double *ret) {
    esp_ranges *ranges = NULL;
    esp_error error = {0};
    ck_assert_int_eq(esp_ranges_create(p->n_r, p->n_y, &ranges, NULL), ESP_OK);
    ck_assert_int_eq(crown ? esp_bounds_crown(p, box, NULL, ranges, &error) : esp_bounds_interval(p, box, ranges, &error), ESP_OK);
    ck_assert_int_eq(esp_float_error_box(p, box, ranges, ret, &error), ESP_OK);
    esp_ranges_free(ranges);
}

static void check_point(uint64_t seed, const esp_program *p, const bounds *b, double *x) {
    double y[MAX], work[MAX], point[MAX], size = 0;
    float xf[MAX], yf[MAX];
    prove(p, &(esp_box){p->n_x, x, x}, false, point);
    esp_program_forward(p, x, y, NULL, NULL, work);
    for (int j = 0; j < p->n_x; j++) {
        xf[j] = (float)x[j];
        size = fmax(size, fabs(x[j]));
    }
    for (int fused = 0; fused < 2; fused++) {
        forward_float(p, xf, yf, fused);
        for (int k = 0; k < p->n_y; k++) {
            double error = fabs((double)yf[k] - y[k]);
            ck_assert_msg(error <= point[k] && error <= b->box[k] && error <= b->parts[k], "seed %llu: off by %g; bounds %g, %g, %g",
                          (unsigned long long)seed, error, point[k], b->box[k], b->parts[k]);
            ck_assert_msg(size > b->radius || error <= b->constant[k] + b->slope[k] * size, "seed %llu: off by %g at size %g",
                          (unsigned long long)seed, error, size);
        }
    }
}

static void check_program(uint64_t seed, esp_rng *rng, const esp_program *p) {
    double lower[MAX], upper[MAX], x[MAX];
    bounds b;
    ck_assert(p->n_x < MAX && p->n_r < MAX && p->n_y < MAX);
    double scale = pow(10, (int)esp_rng_below(rng, 6) - 3);
    for (int j = 0; j < p->n_x; j++) {
        double centre = esp_rng_below(rng, 3) ? 0 : scale * (2 * esp_rng_uniform(rng) - 1);
        lower[j] = centre - scale * esp_rng_uniform(rng);
        upper[j] = centre + scale * esp_rng_uniform(rng);
    }
    const esp_box box = {p->n_x, lower, upper};
    prove(p, &box, seed % 2, b.box);
    ck_assert_int_eq(esp_float_error_split(p, &box, 1 + (int)(seed % 6), b.parts, NULL), ESP_OK);
    ck_assert_int_eq(esp_float_error_radius(p, b.constant, b.slope, &b.radius, NULL), ESP_OK);
    for (int k = 0; k < p->n_y; k++) ck_assert(isfinite(b.box[k]) && b.parts[k] <= (seed % 2 ? b.box[k] : HUGE_VAL));
    for (int n = 0; n < POINTS; n++) {
        for (int j = 0; j < p->n_x; j++) {
            double t = n == 0 ? 0 : n == 1 ? 1 : esp_rng_uniform(rng);
            x[j] = fmin(fmax((1 - t) * lower[j] + t * upper[j], lower[j]), upper[j]);
        }
        check_point(seed, p, &b, x);
    }
}

START_TEST(float_error__holds_for_any_model) {
    seed_range range = seeds(300);
    for (uint64_t seed = range.first; seed <= range.last; seed++) {
        esp_rng rng;
        esp_rng_init(&rng, seed, 81);
        esp_model *model = random_model(&rng);
        esp_program *program = NULL;
        if (seed % 3) degrade(&rng, model->net);
        ck_assert_int_eq(esp_program_lower(model, &program, NULL), ESP_OK);
        check_program(seed, &rng, program);
        esp_program_free(program);
        esp_model_free(model);
    }
}
END_TEST

START_TEST(float_error__holds_for_wide_ones) {
    static const int wide[4] = {4, 64, 64, 2}, deep[6] = {2, 24, 24, 24, 24, 1};
    seed_range range = seeds(8);
    for (uint64_t seed = range.first; seed <= range.last; seed++) {
        esp_rng rng;
        esp_rng_init(&rng, seed, 82);
        esp_model *model = seed % 2 ? policy(&rng, 3, wide) : policy(&rng, 5, deep);
        esp_program *program = NULL;
        if (seed % 4 > 1) degrade(&rng, model->net);
        ck_assert_int_eq(esp_program_lower(model, &program, NULL), ESP_OK);
        check_program(seed, &rng, program);
        esp_program_free(program);
        esp_model_free(model);
    }
}
END_TEST

/* Not so loose that it would say nothing: for a small network within 8 times of what is seen, in parts within 5. */
START_TEST(float_error__is_of_the_size_of_float) {
    esp_rng rng;
    esp_rng_init(&rng, 1, 83);
    static const int widths[3] = {3, 8, 1};
    esp_model *model = policy(&rng, 2, widths);
    esp_program *program = NULL;
    double lower[3] = {-1, -1, -1}, upper[3] = {1, 1, 1}, bound = 0, parts = 0, worst = 0, work[MAX];
    static float xf[MAX];
    ck_assert_int_eq(esp_program_lower(model, &program, NULL), ESP_OK);
    prove(program, &(esp_box){3, lower, upper}, true, &bound);
    for (int n = 0; n < 20000; n++) {
        double x[3], y;
        float yf;
        for (int j = 0; j < 3; j++) {
            x[j] = 2 * esp_rng_uniform(&rng) - 1;
            xf[j] = (float)x[j];
        }
        esp_program_forward(program, x, &y, NULL, NULL, work);
        forward_float(program, xf, &yf, false);
        worst = fmax(worst, fabs((double)yf - y));
    }
    ck_assert_msg(worst > 0 && bound < 8 * worst && bound < 1e-5, "bound %g, seen %g", bound, worst);
    ck_assert_int_eq(esp_float_error_split(program, &(esp_box){3, lower, upper}, 64, &parts, NULL), ESP_OK);
    ck_assert_msg(worst <= parts && parts < 0.7 * bound && parts < 5 * worst, "in parts %g, whole %g, seen %g", parts, bound, worst);
    esp_program_free(program);
    esp_model_free(model);
}
END_TEST

/* 1e-45 becomes 1.4e-45 in float, so the coefficient is wrong in its first digit. */
START_TEST(float_error__charges_coefficients_that_float_barely_holds) {
    static const int widths[2] = {1, 1};
    esp_rng rng;
    esp_rng_init(&rng, 1, 84);
    esp_model *model = policy(&rng, 1, widths);
    esp_program *program = NULL;
    double lower = 0, upper = 1e30;
    model->net->layers[0].w[0] = 1e-45;
    model->net->layers[0].b[0] = 0;
    model->net->layers[0].act[0] = ESP_ACT_IDENTITY;
    ck_assert_int_eq(esp_program_lower(model, &program, NULL), ESP_OK);
    bounds b;
    prove(program, &(esp_box){1, &lower, &upper}, true, b.box);
    b.parts[0] = b.box[0];
    ck_assert_int_eq(esp_float_error_radius(program, b.constant, b.slope, &b.radius, NULL), ESP_OK);
    check_point(1, program, &b, &upper);
    ck_assert_double_gt(b.box[0], 3e-16);
    ck_assert_double_lt(b.box[0], 6e-16);
    esp_program_free(program);
    esp_model_free(model);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("float_error");
    TCase *tc = tcase_create("float_error");
    tcase_set_timeout(tc, 60);
    tcase_add_test(tc, float_error__holds_for_any_model);
    tcase_add_test(tc, float_error__holds_for_wide_ones);
    tcase_add_test(tc, float_error__is_of_the_size_of_float);
    tcase_add_test(tc, float_error__charges_coefficients_that_float_barely_holds);
    suite_add_tcase(suite, tc);
    return run_suite(suite);
}
