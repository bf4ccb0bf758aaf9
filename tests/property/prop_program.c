/* SPDX-License-Identifier: Apache-2.0
 * Laws of the ReLU program over random models: it is the model, unrolled it is the model step by step, and its batch
 * and its gradient are its own. */
#include <check.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "net/batch.h"
#include "support/models.h"

#define N_SEEDS 400
#define MOST    4096

static double work[MOST];

static void near(uint64_t seed, const char *what, const double *got, const double *want, int n, double tolerance) {
    for (int i = 0; i < n; i++)
        ck_assert_msg(fabs(got[i] - want[i]) <= tolerance * fmax(1, fabs(want[i])), "seed %llu: %s %d is %.17g, must be %.17g",
                      (unsigned long long)seed, what, i, got[i], want[i]);
}

static void normals(esp_rng *rng, double *values, int n) {
    for (int i = 0; i < n; i++) values[i] = esp_rng_normal(rng);
}

static esp_program *lower(const esp_model *model) {
    esp_program *program = NULL;
    esp_error error = {0};
    ck_assert_msg(esp_program_lower(model, &program, &error) == ESP_OK, "%s", error.message);
    return program;
}

/* Levels cut the ReLUs into runs that do not read themselves, and level_begin says how far back each reads. */
static void check_levels(uint64_t seed, const esp_program *program) {
    int start = 0;
    for (int l = 0; l < program->n_levels; l++) {
        int first = start;
        ck_assert_int_gt(program->level_end[l], start);
        for (int i = start; i < program->level_end[l]; i++)
            for (int j = 0; j < program->n_r; j++) {
                if (program->d[(size_t)i * (size_t)program->n_r + (size_t)j] == 0) continue;
                ck_assert_msg(j < start, "seed %llu: ReLU %d reads %d, level %d starts at %d", (unsigned long long)seed, i, j, l, start);
                if (j < first) first = j;
            }
        ck_assert_msg(program->level_begin[l] == first, "seed %llu: level %d begins at %d, not %d", (unsigned long long)seed, l, first,
                      program->level_begin[l]);
        start = program->level_end[l];
    }
    ck_assert_int_eq(start, program->n_r);
}

/* y from the frame's two halves and the network's forward pass. */
static void plain_step(const esp_model *model, const double *x, double *y) {
    double v[64], f[64];
    int n_y = esp_model_n_y(model), f_in = esp_net_inputs(model->net), f_out = esp_net_outputs(model->net);
    if (model->kind == ESP_MODEL_POLICY) {
        esp_net_forward(model->net, x, y, work);
        return;
    }
    esp_frame_input(&model->frame, model->ny, model->nu, model->history, f_in, x, v);
    esp_net_forward(model->net, v, f, work);
    esp_frame_known(&model->frame, model->ny, model->nu, model->history, x, y);
    for (int i = 0; i < n_y; i++) {
        if (model->frame.kind != ESP_FRAME_LINEAR)
            y[i] += f[i];
        else
            for (int j = 0; j < f_out; j++) y[i] += model->frame.g[i * f_out + j] * f[j];
    }
}

START_TEST(program__lowered_is_the_model_and_its_pre_activations) {
    seed_range range = seeds(N_SEEDS);
    for (uint64_t seed = range.first; seed <= range.last; seed++) {
        esp_rng rng;
        esp_rng_init(&rng, seed, 1);
        esp_model *model = random_model(&rng);
        esp_program *program = lower(model);
        double x[64], y[64], p[64], r[64], want[64], want_p[64];
        ck_assert_int_eq(program->n_x, esp_model_n_x(model));
        ck_assert_int_eq(program->n_r, esp_net_relus(model->net));
        check_levels(seed, program);
        for (int k = 0; k < 5; k++) {
            normals(&rng, x, program->n_x);
            oracle_step(model, x, want, want_p);
            esp_program_forward(program, x, y, p, r, NULL);
            near(seed, "y", y, want, program->n_y, 1e-12);
            near(seed, "p", p, want_p, program->n_r, 1e-12);
            for (int i = 0; i < program->n_r; i++) ck_assert(r[i] == (p[i] > 0 ? p[i] : 0));
            plain_step(model, x, y); /* and the library's own plain pass */
            near(seed, "plain y", y, want, program->n_y, 1e-12);
        }
        esp_program_free(program);
        esp_model_free(model);
    }
}
END_TEST

/* x = [Y, U] for step t from all outputs (row 0 = the oldest past) and all inputs. */
static void window(const esp_model *model, int t, const double *all_y, const double *all_u, double *x) {
    int h = model->history, ny = model->ny, nu = model->nu;
    memcpy(x, all_y + t * ny, (size_t)(h * ny) * sizeof *x);
    if (nu) memcpy(x + h * ny, all_u + t * nu, (size_t)(h * nu) * sizeof *x);
}

START_TEST(program__unrolled_is_the_model_step_by_step) {
    seed_range range = seeds(N_SEEDS);
    for (uint64_t seed = range.first; seed <= range.last; seed++) {
        esp_rng rng;
        esp_rng_init(&rng, seed, 2);
        int ny = 1 + (int)esp_rng_below(&rng, 5), nu = (int)esp_rng_below(&rng, 4), h = 1 + (int)esp_rng_below(&rng, 3),
            horizon = 1 + (int)esp_rng_below(&rng, 6);
        esp_model *model = random_dynamics(&rng, ny, nu, h);
        esp_program *step = lower(model), *program = NULL;
        double all_y[64], all_u[64], x[64], y[64], p[512], want_p[512];
        normals(&rng, all_y, h * ny);
        normals(&rng, all_u, (h - 1 + horizon) * nu);
        ck_assert(esp_program_unroll(step, ny, nu, h, horizon, all_y, all_u, &program, NULL) == ESP_OK);
        ck_assert_int_eq(program->n_x, horizon * nu);
        ck_assert_int_eq(program->n_y, horizon * ny);
        ck_assert_int_eq(program->n_r, horizon * step->n_r);
        check_levels(seed, program);
        for (int t = 0; t < horizon; t++) {
            window(model, t, all_y, all_u, x);
            oracle_step(model, x, all_y + (h + t) * ny, want_p + t * step->n_r);
        }
        esp_program_forward(program, all_u + (h - 1) * nu, y, p, NULL, work);
        near(seed, "y", y, all_y + h * ny, horizon * ny, 1e-12);
        near(seed, "p", p, want_p, program->n_r, 1e-12);
        esp_program_free(program);
        esp_program_free(step);
        esp_model_free(model);
    }
}
END_TEST

START_TEST(program__difference_is_the_difference) {
    seed_range range = seeds(N_SEEDS);
    for (uint64_t seed = range.first; seed <= range.last; seed++) {
        esp_rng rng;
        esp_rng_init(&rng, seed, 3);
        int ny = 1 + (int)esp_rng_below(&rng, 5), nu = (int)esp_rng_below(&rng, 4), h = 1 + (int)esp_rng_below(&rng, 3);
        esp_model *f = random_dynamics(&rng, ny, nu, h), *g = random_dynamics(&rng, ny, nu, h);
        esp_program *pf = lower(f), *pg = lower(g), *program = NULL;
        double x[64], y[64], yf[64], yg[64], p[128], want_p[128];
        ck_assert(esp_program_difference(pf, pg, &program, NULL) == ESP_OK);
        check_levels(seed, program);
        normals(&rng, x, program->n_x);
        oracle_step(f, x, yf, want_p);
        oracle_step(g, x, yg, want_p + pf->n_r);
        for (int i = 0; i < ny; i++) yf[i] -= yg[i];
        esp_program_forward(program, x, y, p, NULL, work);
        near(seed, "y", y, yf, ny, 1e-12);
        near(seed, "p", p, want_p, program->n_r, 1e-12);
        esp_program_free(program);
        esp_program_free(pf);
        esp_program_free(pg);
        esp_model_free(f);
        esp_model_free(g);
    }
}
END_TEST

/* Values and gradients of a batch against those of its points one by one. A point with a pre-activation near 0 may have
 * another side in float, so its gradient is not compared. */
START_TEST(program__batch_is_forward_and_backward_in_float) {
    static _Alignas(64) float values[64 * ESP_LANES], y[65 * ESP_LANES], g[64 * ESP_LANES], dx[65 * ESP_LANES];
    seed_range range = seeds(N_SEEDS);
    int compared = 0;
    for (uint64_t seed = range.first; seed <= range.last; seed++) {
        esp_rng rng;
        esp_rng_init(&rng, seed, 4);
        esp_model *model = random_model(&rng);
        esp_program *program = lower(model);
        esp_batch *batch = NULL;
        ck_assert(esp_batch_create(program, false, &batch, NULL) == ESP_OK);
        int n_x = program->n_x, n_y = program->n_y, n_r = program->n_r;
        ck_assert_int_le(n_x + n_r, 64);
        for (int i = 0; i < n_x * ESP_LANES; i++) values[i] = (float)esp_rng_normal(&rng);
        for (int i = 0; i < n_y * ESP_LANES; i++) g[i] = (float)esp_rng_normal(&rng);
        for (int i = 0; i < 65 * ESP_LANES; i++) y[i] = dx[i] = 12345;
        esp_batch_forward(batch, values, y);
        esp_batch_backward(batch, values, g, dx);
        for (int j = 0; j < ESP_LANES; j++) {
            double one[64], want[64], got[64], p[64], slope[64], want_dx[64], nearest = 1;
            for (int i = 0; i < n_x; i++) one[i] = (double)values[i * ESP_LANES + j];
            for (int i = 0; i < n_y; i++) got[i] = (double)y[i * ESP_LANES + j], slope[i] = (double)g[i * ESP_LANES + j];
            esp_program_forward(program, one, want, p, NULL, work);
            near(seed, "y", got, want, n_y, 2e-5);
            for (int i = 0; i < n_r; i++) nearest = fmin(nearest, fabs(p[i]));
            if (nearest < 1e-4 && n_r > 0) continue;
            compared++;
            for (int i = 0; i < n_x; i++) got[i] = (double)dx[i * ESP_LANES + j];
            esp_program_backward(program, p, slope, want_dx, work);
            near(seed, "dx", got, want_dx, n_x, 2e-5);
        }
        for (int j = 0; j < ESP_LANES; j++) ck_assert(y[n_y * ESP_LANES + j] == 12345 && dx[n_x * ESP_LANES + j] == 12345);
        esp_batch_free(batch);
        esp_program_free(program);
        esp_model_free(model);
    }
    ck_assert_int_gt(compared, (int)(range.last - range.first + 1) * ESP_LANES / 2);
}
END_TEST

static int same_side(const double *p, const double *q, int n) {
    for (int i = 0; i < n; i++)
        if ((p[i] > 0) != (q[i] > 0)) return 0;
    return 1;
}

static double weighted(const double *g, const double *y, int n) {
    double sum = 0;
    for (int i = 0; i < n; i++) sum += g[i] * y[i];
    return sum;
}

/* The program is linear between kinks, so a central difference that crosses none is exact but for rounding. */
START_TEST(program__backward_is_the_central_difference) {
    const double h = 1e-4;
    seed_range range = seeds(N_SEEDS);
    int compared = 0, crossed = 0;
    for (uint64_t seed = range.first; seed <= range.last; seed++) {
        esp_rng rng;
        esp_rng_init(&rng, seed, 5);
        esp_model *model = random_model(&rng);
        esp_program *program = lower(model);
        int n_x = program->n_x, n_y = program->n_y, n_r = program->n_r;
        double x[64], y[64], p[64], g[64], dx[64], low[64], high[64], p_low[64], p_high[64];
        normals(&rng, x, n_x);
        normals(&rng, g, n_y);
        esp_program_forward(program, x, y, p, NULL, work);
        esp_program_backward(program, p, g, dx, work);
        for (int j = 0; j < n_x; j++) {
            double at = x[j];
            x[j] = at - h;
            esp_program_forward(program, x, low, p_low, NULL, work);
            x[j] = at + h;
            esp_program_forward(program, x, high, p_high, NULL, work);
            x[j] = at;
            if (!same_side(p_low, p_high, n_r) || !same_side(p, p_high, n_r)) {
                crossed++;
                continue;
            }
            double want = (weighted(g, high, n_y) - weighted(g, low, n_y)) / (2 * h);
            near(seed, "dx", &dx[j], &want, 1, 1e-9);
            compared++;
        }
        esp_program_free(program);
        esp_model_free(model);
    }
    if (range.last > range.first) ck_assert_int_gt(compared, 20 * crossed);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("program");
    TCase *tc = tcase_create("program");
    tcase_add_test(tc, program__lowered_is_the_model_and_its_pre_activations);
    tcase_add_test(tc, program__unrolled_is_the_model_step_by_step);
    tcase_add_test(tc, program__difference_is_the_difference);
    tcase_add_test(tc, program__batch_is_forward_and_backward_in_float);
    tcase_add_test(tc, program__backward_is_the_central_difference);
    suite_add_tcase(suite, tc);
    return run_suite(suite);
}
