/* SPDX-License-Identifier: Apache-2.0
 * The C file of a model gives the bits of esp_program_forward in double, stays within the proved bound in float, passes its own
 * self-test, and compiles without a warning: every file is given to the compiler that built this test and loaded. */
#include <check.h>
#include <dlfcn.h>
#include <float.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "certify/float_error.h"
#include "net/emit_c.h"
#include "support/models.h"

#define FLAGS "-std=c99 -O2 -Wall -Wextra -Werror -pedantic -ffreestanding -ffp-contract=off"
enum { POINTS = 200, TESTS = 4 };

static char dir[] = "/tmp/espalier-emit-XXXXXX";

static void command(const char *format, const char *extra) {
    char text[512], full[600];
    snprintf(text, sizeof text, format, dir, dir);
    snprintf(full, sizeof full, "%s %s 2>%s/said", text, extra, dir);
    int status = system(full);
    if (status == 0) return;
    esp_buf said = {0};
    snprintf(text, sizeof text, "%s/said", dir);
    (void)!esp_file_read(text, 1 << 20, &said, NULL);
    ck_abort_msg("%s: status %d: %.2000s", full, status, esp_buf_text(&said));
}

typedef struct compiled {
    void *handle, *eval;
} compiled;

/* Compiled as an object that must be silent, run as its self-test, loaded as a library. */
static compiled compile(const esp_buf *text) {
    char path[64];
    compiled c = {NULL, NULL};
    esp_error error = {0};
    snprintf(path, sizeof path, "%s/m.c", dir);
    ck_assert_msg(esp_file_write(path, text->data, text->len, &error) == ESP_OK, "%s", error.message);
    command("cc " FLAGS " -fPIC -shared -o %s/m.so %s/m.c", "");
    command("cc " FLAGS " -DESPALIER_SELF_TEST -o %s/m %s/m.c", "");
    command("%s/m; test $? = 0 -a -x %s/m", "");
    snprintf(path, sizeof path, "%s/m.so", dir);
    c.handle = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    ck_assert_msg(c.handle != NULL, "%s", dlerror());
    c.eval = dlsym(c.handle, "m_1_eval");
    ck_assert_ptr_nonnull(c.eval);
    return c;
}

typedef struct instance {
    esp_model *model;
    esp_program *program;
    double *x, *y, *work, *tolerance;
    float *xf, *yf, *workf;
    esp_box box;
    esp_ranges *ranges;
    esp_rng rng;
} instance;

static void instance_init(instance *in, uint64_t seed) {
    memset(in, 0, sizeof *in);
    esp_rng_init(&in->rng, seed, 71);
    in->model = random_model(&in->rng);
    /* constants of -0, rows of zeros, numbers near the ends of the range: what leaving zeros out could get wrong */
    for (int l = 0; l < in->model->net->n_layers; l++) {
        esp_layer *layer = &in->model->net->layers[l];
        for (int i = 0; i < layer->n_out; i++) {
            if (esp_rng_below(&in->rng, 6) == 0) layer->b[i] = -0.0;
            if (esp_rng_below(&in->rng, 6) == 0) memset(layer->w + i * layer->n_in, 0, (size_t)layer->n_in * sizeof(double));
            if (esp_rng_below(&in->rng, 10) == 0) layer->w[i * layer->n_in] *= 1e-30;
        }
    }
    ck_assert_int_eq(esp_program_lower(in->model, &in->program, NULL), ESP_OK);
    size_t n_x = (size_t)in->program->n_x, n_y = (size_t)in->program->n_y, n_r = (size_t)in->program->n_r;
    in->x = calloc(TESTS * n_x + n_x, sizeof(double));
    in->y = calloc(n_y, sizeof(double));
    in->work = calloc(n_r + 1, sizeof(double));
    in->tolerance = calloc(TESTS * n_y + n_y, sizeof(double));
    in->xf = calloc(n_x, sizeof(float));
    in->yf = calloc(n_y, sizeof(float));
    in->workf = calloc(n_r + 1, sizeof(float));
    in->box = (esp_box){(int)n_x, calloc(n_x, sizeof(double)), calloc(n_x, sizeof(double))};
    ck_assert_int_eq(esp_ranges_create((int)n_r, (int)n_y, &in->ranges, NULL), ESP_OK);
}

static void instance_done(instance *in) {
    esp_ranges_free(in->ranges);
    free(in->x);
    free(in->y);
    free(in->work);
    free(in->tolerance);
    free(in->xf);
    free(in->yf);
    free(in->workf);
    free(in->box.lower);
    free(in->box.upper);
    esp_program_free(in->program);
    esp_model_free(in->model);
}

static double draw(instance *in, bool single) {
    double x = esp_rng_below(&in->rng, 8) ? esp_rng_uniform(&in->rng) * 4 - 2 : 0;
    return single ? (double)(float)x : x;
}

static compiled emit(instance *in, bool single, int layout) {
    esp_buf text = {0};
    esp_error error = {0};
    for (int i = 0; i < TESTS * in->program->n_x; i++) in->x[i] = draw(in, single);
    for (int k = 0; single && k < TESTS; k++) {
        memcpy(in->box.lower, in->x + k * in->program->n_x, (size_t)in->program->n_x * sizeof(double));
        memcpy(in->box.upper, in->box.lower, (size_t)in->program->n_x * sizeof(double));
        ck_assert_int_eq(esp_bounds_interval(in->program, &in->box, in->ranges, NULL), ESP_OK);
        ck_assert_int_eq(esp_float_error_box(in->program, &in->box, in->ranges, in->tolerance + k * in->program->n_y, NULL), ESP_OK);
    }
    const esp_emit_opts opts = {"m.1", single, (esp_emit_layout)layout, "A model.\n\nOf a test.\n", TESTS, in->x, in->tolerance};
    ck_assert_msg(esp_emit_c(in->program, &opts, &text, &error) == ESP_OK, "%s", error.message);
    compiled c = compile(&text);
    esp_buf_done(&text);
    return c;
}

START_TEST(emit_c__double_has_the_same_bits) {
    seed_range range = seeds(8);
    for (uint64_t seed = range.first; seed <= range.last; seed++) {
        instance in;
        instance_init(&in, seed);
        compiled c = emit(&in, false, (int)(seed % 3));
        void (*eval)(const double *, double *, double *);
        memcpy(&eval, &c.eval, sizeof eval);
        double theirs[64];
        for (int k = 0; k < POINTS; k++) {
            for (int j = 0; j < in.program->n_x; j++) in.x[j] = esp_rng_below(&in.rng, 9) ? draw(&in, false) : -0.0;
            esp_program_forward(in.program, in.x, in.y, NULL, NULL, in.work);
            eval(in.x, theirs, in.work);
            ck_assert_msg(memcmp(theirs, in.y, (size_t)in.program->n_y * sizeof(double)) == 0, "seed %llu: other bits", (unsigned long long)seed);
        }
        dlclose(c.handle);
        instance_done(&in);
    }
}
END_TEST

/* The bounds of one point against what the file computes there; the larger of error and bound in ret. */
static void check_point(instance *in, uint64_t seed, void (*eval)(const float *, float *, float *), const double *bound, double *ret_error) {
    for (int j = 0; j < in->program->n_x; j++) in->xf[j] = (float)in->x[j];
    esp_program_forward(in->program, in->x, in->y, NULL, NULL, in->work);
    eval(in->xf, in->yf, in->workf);
    for (int i = 0; i < in->program->n_y; i++) {
        double error = fabs((double)in->yf[i] - in->y[i]);
        ck_assert_msg(error <= bound[i], "seed %llu: off by %g, bound %g", (unsigned long long)seed, error, bound[i]);
        if (error > *ret_error) *ret_error = error;
    }
}

START_TEST(emit_c__float_stays_within_the_bound) {
    seed_range range = seeds(8);
    int reached = 0;
    for (uint64_t seed = range.first; seed <= range.last; seed++) {
        instance in;
        double box_bound[64], slope[64], constant[64], radius = 0, worst = 0, largest = 0;
        instance_init(&in, seed);
        compiled c = emit(&in, true, (int)(seed % 3));
        void (*eval)(const float *, float *, float *);
        memcpy(&eval, &c.eval, sizeof eval);
        for (int j = 0; j < in.program->n_x; j++) {
            in.box.lower[j] = -2;
            in.box.upper[j] = 2;
        }
        ck_assert_int_eq(esp_bounds_crown(in.program, &in.box, NULL, in.ranges, NULL), ESP_OK);
        ck_assert_int_eq(esp_float_error_box(in.program, &in.box, in.ranges, box_bound, NULL), ESP_OK);
        ck_assert_int_eq(esp_float_error_radius(in.program, constant, slope, &radius, NULL), ESP_OK);
        ck_assert_double_gt(radius, 1000);
        for (int i = 0; i < in.program->n_y; i++) largest = fmax(largest, box_bound[i]);
        for (int k = 0; k < POINTS; k++) { /* numbers that a float does not hold: their rounding is charged */
            for (int j = 0; j < in.program->n_x; j++) in.x[j] = draw(&in, false);
            check_point(&in, seed, eval, box_bound, &worst);
        }
        for (double size = 1e-3; size < 2e3; size *= 100) {
            double bound[64], none = 0;
            for (int i = 0; i < in.program->n_y; i++) bound[i] = constant[i] + slope[i] * size;
            for (int j = 0; j < in.program->n_x; j++) in.x[j] = size * (2 * esp_rng_uniform(&in.rng) - 1);
            if (size <= radius) check_point(&in, seed, eval, bound, &none);
        }
        ck_assert_msg(largest < 1e-3, "seed %llu: a bound of %g", (unsigned long long)seed, largest);
        reached += worst > largest / 100;
        dlclose(c.handle);
        instance_done(&in);
    }
    ck_assert(range.first == range.last || reached > 2); /* and is not far from what happens */
}
END_TEST

START_TEST(emit_c__self_test_sees_a_changed_number) {
    instance in;
    esp_buf text = {0};
    char path[64], line[256];
    instance_init(&in, 3);
    in.program->c0[0] = 0.25;
    for (int i = 0; i < TESTS * in.program->n_x; i++) in.x[i] = draw(&in, false);
    const esp_emit_opts opts = {"3rd", false, ESP_EMIT_AUTO, NULL, TESTS, in.x, NULL};
    ck_assert_int_eq(esp_emit_c(in.program, &opts, &text, NULL), ESP_OK);
    char *at = strstr((char *)(uintptr_t)esp_buf_text(&text), "m3rd_c[");
    ck_assert_ptr_nonnull(at);
    at = strstr(at, "0.25");
    ck_assert_ptr_nonnull(at);
    at[3] = '6';
    snprintf(path, sizeof path, "%s/m.c", dir);
    ck_assert_int_eq(esp_file_write(path, text.data, text.len, NULL), ESP_OK);
    command("cc " FLAGS " -DESPALIER_SELF_TEST -o %s/m %s/m.c", "");
    snprintf(line, sizeof line, "%s/m", dir);
    ck_assert_int_ne(system(line), 0);
    esp_buf_done(&text);
    instance_done(&in);
}
END_TEST

START_TEST(emit_c__what_does_not_fit_is_refused) {
    instance in;
    esp_buf text = {0};
    esp_error error = {0};
    instance_init(&in, 5);
    esp_buf_puts(&text, "before");
    in.program->c0[0] = 1e300;
    const esp_emit_opts opts = {"m", true, ESP_EMIT_AUTO, NULL, 0, NULL, NULL};
    ck_assert_int_eq(esp_emit_c(in.program, &opts, &text, &error), ESP_UNPROCESSABLE);
    ck_assert_ptr_nonnull(strstr(error.message, "float"));
    ck_assert_str_eq(esp_buf_text(&text), "before");
    double bound[64], slope[64], radius = 1;
    for (int j = 0; j < in.program->n_x; j++) in.box.upper[j] = 1;
    ck_assert_int_eq(esp_bounds_interval(in.program, &in.box, in.ranges, NULL), ESP_OK);
    ck_assert_int_eq(esp_float_error_box(in.program, &in.box, in.ranges, bound, NULL), ESP_OK);
    ck_assert_double_infinite(bound[0]);
    ck_assert_int_eq(esp_float_error_radius(in.program, bound, slope, &radius, NULL), ESP_OK);
    ck_assert_double_eq(radius, 0);
    in.box.n++;
    ck_assert_int_eq(esp_float_error_box(in.program, &in.box, in.ranges, bound, &error), ESP_INVALID);
    esp_buf_done(&text);
    instance_done(&in);
}
END_TEST

int main(void) {
    char line[64];
    if (!mkdtemp(dir)) return EXIT_FAILURE;
    Suite *suite = suite_create("emit_c");
    TCase *tc = tcase_create("emit_c");
    tcase_set_timeout(tc, 60);
    tcase_add_test(tc, emit_c__double_has_the_same_bits);
    tcase_add_test(tc, emit_c__float_stays_within_the_bound);
    tcase_add_test(tc, emit_c__self_test_sees_a_changed_number);
    tcase_add_test(tc, emit_c__what_does_not_fit_is_refused);
    suite_add_tcase(suite, tc);
    int status = run_suite(suite);
    snprintf(line, sizeof line, "rm -r %s", dir);
    return system(line) == 0 ? status : EXIT_FAILURE;
}
