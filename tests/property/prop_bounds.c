/* SPDX-License-Identifier: Apache-2.0
 * Laws of the ranges of a program: no value leaves them, computed or exact; CROWN is never looser than intervals; on a box
 * where every ReLU is stable they are the program's exact range. */
#include <check.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "certify/crown.h"
#include "support/exact.h"
#include "support/models.h"

#define N_SEEDS  500
#define N_POINTS 250
#define MOST     256

typedef struct sample {
    esp_rng rng;
    uint64_t seed;
    esp_program *program;
    double lower[MOST], upper[MOST];
    esp_box box;
    esp_ranges *interval, *crown;
} sample;

static esp_program *random_program(esp_rng *rng) {
    esp_error error = {0};
    esp_program *program = NULL, *step = NULL;
    if (esp_rng_uniform(rng) < 0.5) {
        esp_model *model = random_model(rng);
        ck_assert(esp_program_lower(model, &program, &error) == ESP_OK);
        esp_model_free(model);
        return program;
    }
    int ny = 1 + (int)esp_rng_below(rng, 3), nu = 1 + (int)esp_rng_below(rng, 2), horizon = 1 + (int)esp_rng_below(rng, 4);
    double past[3];
    for (int i = 0; i < ny; i++) past[i] = esp_rng_normal(rng);
    esp_model *model = random_dynamics(rng, ny, nu, 1);
    ck_assert(esp_program_lower(model, &step, &error) == ESP_OK);
    ck_assert(esp_program_unroll(step, ny, nu, 1, horizon, past, NULL, &program, &error) == ESP_OK);
    esp_program_free(step);
    esp_model_free(model);
    return program;
}

static void scale_row(esp_program *program, int i, double factor) {
    for (int k = 0; k < program->n_x; k++) program->c[(size_t)i * (size_t)program->n_x + (size_t)k] *= factor;
    for (int j = 0; j < i; j++) program->d[(size_t)i * (size_t)program->n_r + (size_t)j] *= factor;
    program->d0[i] *= factor;
}

/* What training does not produce but files may hold: huge, tiny, zero, dead, stuck and rescaled neurons. */
static void distort(esp_rng *rng, esp_program *program) {
    for (int i = 0; i < program->n_r; i++) {
        switch (esp_rng_below(rng, 12)) {
        case 0: scale_row(program, i, 1e12); break;
        case 1: scale_row(program, i, 1e-300); break;
        case 2: scale_row(program, i, 0); break;
        case 3: program->d0[i] -= 1e3; break;
        case 4: program->d0[i] += 1e3; break;
        case 5: /* the rescaling that leaves the function as it is */
            scale_row(program, i, 1e6);
            for (int j = i + 1; j < program->n_r; j++) program->d[(size_t)j * (size_t)program->n_r + (size_t)i] *= 1e-6;
            for (int k = 0; k < program->n_y; k++) program->b[(size_t)k * (size_t)program->n_r + (size_t)i] *= 1e-6;
            break;
        default: break;
        }
    }
}

static void random_box(esp_rng *rng, int n, double *lower, double *upper) {
    double scale = esp_rng_uniform(rng) < 0.2 ? 1e-9 : 1;
    for (int k = 0; k < n; k++) {
        double centre = esp_rng_normal(rng), half = scale * fabs(esp_rng_normal(rng));
        if (esp_rng_uniform(rng) < 0.2) half = 0;
        if (esp_rng_uniform(rng) < 0.1) centre = 0;
        lower[k] = centre - half;
        upper[k] = centre + half;
    }
}

static void make(sample *s, uint64_t seed, uint64_t stream) {
    esp_error error = {0};
    s->seed = seed;
    esp_rng_init(&s->rng, seed, stream);
    s->program = random_program(&s->rng);
    ck_assert_int_le(s->program->n_r, MOST);
    if (seed % 2) distort(&s->rng, s->program);
    s->box = (esp_box){s->program->n_x, s->lower, s->upper};
    random_box(&s->rng, s->box.n, s->lower, s->upper);
    ck_assert(esp_ranges_create(s->program->n_r, s->program->n_y, &s->interval, &error) == ESP_OK);
    ck_assert(esp_ranges_create(s->program->n_r, s->program->n_y, &s->crown, &error) == ESP_OK);
    ck_assert_msg(esp_bounds_interval(s->program, &s->box, s->interval, &error) == ESP_OK, "%s", error.message);
    ck_assert_msg(esp_bounds_crown(s->program, &s->box, NULL, s->crown, &error) == ESP_OK, "%s", error.message);
}

static void done(sample *s) {
    esp_program_free(s->program);
    esp_ranges_free(s->interval);
    esp_ranges_free(s->crown);
}

static void point(sample *s, int kind, double *x) {
    for (int k = 0; k < s->box.n; k++) {
        double t = kind == 0 ? esp_rng_uniform(&s->rng) : (double)esp_rng_below(&s->rng, 2);
        x[k] = fmin(s->upper[k], fmax(s->lower[k], s->lower[k] + t * (s->upper[k] - s->lower[k])));
        if (kind == 1) x[k] = t > 0.5 ? s->upper[k] : s->lower[k];
    }
}

static void inside(const sample *s, const char *what, int i, quad value, double lower, double upper) {
    ck_assert_msg(value >= (quad)lower && value <= (quad)upper, "seed %llu: %s %d = %.17g leaves [%.17g, %.17g]", (unsigned long long)s->seed, what,
                  i, (double)value, lower, upper);
}

static void check_computed(const sample *s, const esp_ranges *ranges, const double *x) {
    double y[MOST], p[MOST], work[MOST];
    esp_program_forward(s->program, x, y, p, NULL, work);
    for (int j = 0; j < ranges->n_r; j++) inside(s, "computed p", j, p[j], ranges->p_lower[j], ranges->p_upper[j]);
    for (int i = 0; i < ranges->n_y; i++) inside(s, "computed y", i, y[i], ranges->y_lower[i], ranges->y_upper[i]);
}

static void check_point(const sample *s, const esp_ranges *ranges, const double *x) {
    quad p[MOST], r[MOST], y[MOST];
    check_computed(s, ranges, x);
    exact_forward(s->program, x, p, r, y);
    for (int j = 0; j < ranges->n_r; j++) inside(s, "exact p", j, p[j], ranges->p_lower[j], ranges->p_upper[j]);
    for (int i = 0; i < ranges->n_y; i++) inside(s, "exact y", i, y[i], ranges->y_lower[i], ranges->y_upper[i]);
}

START_TEST(bounds__contain_every_sampled_value) {
    seed_range range = seeds(N_SEEDS);
    for (uint64_t seed = range.first; seed <= range.last; seed++) {
        sample s;
        double x[MOST];
        make(&s, seed, 1);
        for (int n = 0; n < N_POINTS; n++) {
            point(&s, n % 2, x);
            if (n < N_POINTS / 5)
                check_point(&s, s.crown, x);
            else
                check_computed(&s, s.crown, x);
            if (n < N_POINTS / 25) check_point(&s, s.interval, x);
        }
        done(&s);
    }
}
END_TEST

START_TEST(bounds__of_a_point_contain_it_and_are_narrow) {
    seed_range range = seeds(N_SEEDS);
    for (uint64_t seed = range.first; seed <= range.last; seed++) {
        sample s;
        esp_error error = {0};
        make(&s, 2 * seed, 2); /* even seeds: not distorted, so that the values are of size 1 */
        for (int n = 0; n < 4; n++) {
            double x[MOST];
            point(&s, n % 2, x);
            esp_box at = {s.box.n, x, x};
            ck_assert(esp_bounds_crown(s.program, &at, NULL, s.crown, &error) == ESP_OK);
            check_point(&s, s.crown, x);
            for (int i = 0; i < s.crown->n_y; i++) ck_assert_double_lt(s.crown->y_upper[i] - s.crown->y_lower[i], 1e-9);
        }
        done(&s);
    }
}
END_TEST

START_TEST(bounds__crown_lies_within_interval) {
    seed_range range = seeds(N_SEEDS);
    int tighter = 0;
    for (uint64_t seed = range.first; seed <= range.last; seed++) {
        sample s;
        make(&s, seed, 3);
        for (int j = 0; j < s.crown->n_r; j++) {
            ck_assert_double_ge(s.crown->p_lower[j], s.interval->p_lower[j]);
            ck_assert_double_le(s.crown->p_upper[j], s.interval->p_upper[j]);
        }
        for (int i = 0; i < s.crown->n_y; i++) {
            double wide = s.interval->y_upper[i] - s.interval->y_lower[i], width = s.crown->y_upper[i] - s.crown->y_lower[i];
            ck_assert_double_ge(s.crown->y_lower[i], s.interval->y_lower[i]);
            ck_assert_double_le(s.crown->y_upper[i], s.interval->y_upper[i]);
            tighter += width < 0.9 * wide;
        }
        done(&s);
    }
    if (range.last > range.first) ck_assert_int_gt(tighter, N_SEEDS / 10); /* or the law would hold of intervals alone */
}
END_TEST

START_TEST(bounds__are_exact_where_every_relu_is_stable) {
    seed_range range = seeds(N_SEEDS);
    int met = 0;
    for (uint64_t seed = range.first; seed <= range.last; seed++) {
        sample s;
        make(&s, 2 * seed, 4);
        if (s.box.n <= 8 && esp_ranges_unstable(s.crown) == 0) {
            double least[MOST], most[MOST], x[MOST], y[MOST], work[MOST];
            for (int corner = 0; corner < 1 << s.box.n; corner++) {
                for (int k = 0; k < s.box.n; k++) x[k] = corner >> k & 1 ? s.upper[k] : s.lower[k];
                esp_program_forward(s.program, x, y, NULL, NULL, work);
                for (int i = 0; i < s.crown->n_y; i++) {
                    least[i] = corner ? fmin(least[i], y[i]) : y[i];
                    most[i] = corner ? fmax(most[i], y[i]) : y[i];
                }
            }
            for (int i = 0; i < s.crown->n_y; i++) {
                ck_assert_double_eq_tol(s.crown->y_lower[i], least[i], 1e-9 * fmax(1, fabs(least[i])));
                ck_assert_double_eq_tol(s.crown->y_upper[i], most[i], 1e-9 * fmax(1, fabs(most[i])));
            }
            met++;
        }
        done(&s);
    }
    if (range.last > range.first) ck_assert_int_gt(met, N_SEEDS / 20);
}
END_TEST

START_TEST(bounds__known_ranges_only_tighten_and_a_later_start_stays_sound) {
    seed_range range = seeds(N_SEEDS);
    for (uint64_t seed = range.first; seed <= range.last; seed++) {
        sample s;
        esp_error error = {0};
        esp_ranges *again = NULL;
        double x[MOST];
        make(&s, seed, 5);
        ck_assert(esp_ranges_create(s.program->n_r, s.program->n_y, &again, &error) == ESP_OK);
        ck_assert(esp_bounds_crown(s.program, &s.box, s.crown, again, &error) == ESP_OK);
        for (int i = 0; i < again->n_y; i++) ck_assert(again->y_lower[i] >= s.crown->y_lower[i] && again->y_upper[i] <= s.crown->y_upper[i]);
        int first = (int)esp_rng_below(&s.rng, (size_t)s.program->n_r + 1);
        esp_ranges_copy(s.interval, again);
        ck_assert(esp_bounds_crown_from(s.program, &s.box, first, again, &error) == ESP_OK);
        for (int j = 0; j < first; j++) ck_assert(again->p_lower[j] == s.interval->p_lower[j] && again->p_upper[j] == s.interval->p_upper[j]);
        for (int n = 0; n < 20; n++) {
            point(&s, n % 2, x);
            check_point(&s, again, x);
        }
        esp_ranges_free(again);
        done(&s);
    }
}
END_TEST

/* Linear functionals of x and r, the planner's costs, against samples. */
START_TEST(bounds__contain_functionals) {
    seed_range range = seeds(N_SEEDS);
    for (uint64_t seed = range.first; seed <= range.last; seed++) {
        sample s;
        esp_error error = {0};
        esp_crown *crown = NULL;
        double ax[MOST], ar[MOST], weights[MOST], x[MOST], lower, upper;
        quad total[20] = {0};
        quad qp[MOST], qr[MOST], qy[MOST];
        make(&s, seed, 6);
        for (int k = 0; k < s.program->n_x; k++) ax[k] = esp_rng_normal(&s.rng);
        for (int j = 0; j < s.program->n_r; j++) ar[j] = esp_rng_normal(&s.rng);
        for (int i = 0; i < s.program->n_y; i++) weights[i] = esp_rng_normal(&s.rng);
        ck_assert(esp_crown_create(s.program, &crown, &error) == ESP_OK);
        esp_crown_box(crown, s.lower, s.upper);
        ck_assert(esp_crown_run(crown, ESP_CROWN_BACKWARD, 0, false, s.crown));
        esp_crown_bound(crown, 0.25, ax, ar, &lower, &upper, NULL, NULL);
        for (int n = 0; n < 20; n++) {
            quad value = 0.25;
            point(&s, n % 2, x);
            exact_forward(s.program, x, qp, qr, qy);
            for (int k = 0; k < s.program->n_x; k++) value += (quad)ax[k] * (quad)x[k];
            for (int j = 0; j < s.program->n_r; j++) value += (quad)ar[j] * qr[j];
            inside(&s, "functional", 0, value, lower, upper);
            for (int i = 0; i < s.program->n_y; i++) total[n] += (quad)weights[i] * qy[i];
        }
        upper = esp_crown_combination(crown, weights);
        for (int n = 0; n < 20; n++) inside(&s, "combination", 0, total[n], -HUGE_VAL, upper);
        esp_crown_free(crown);
        done(&s);
    }
}
END_TEST

int main(void) {
    Suite *suite = suite_create("prop_bounds");
    TCase *tcase = tcase_create("bounds");
    tcase_set_timeout(tcase, 60);
    tcase_add_test(tcase, bounds__contain_every_sampled_value);
    tcase_add_test(tcase, bounds__of_a_point_contain_it_and_are_narrow);
    tcase_add_test(tcase, bounds__crown_lies_within_interval);
    tcase_add_test(tcase, bounds__are_exact_where_every_relu_is_stable);
    tcase_add_test(tcase, bounds__known_ranges_only_tighten_and_a_later_start_stays_sound);
    tcase_add_test(tcase, bounds__contain_functionals);
    suite_add_tcase(suite, tcase);
    return run_suite(suite);
}
