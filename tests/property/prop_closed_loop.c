/* SPDX-License-Identifier: Apache-2.0
 * Laws of the tube between two closed loops: no sampled pair of loops leaves it, at any step, whatever the networks look
 * like; equal policies give no tube; a smaller change gives a tube smaller in proportion; a tube for ever holds for long. */
#include <check.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "certify/closed_loop.h"
#include "support/models.h"

#define N_SEEDS 40
#define MOST    64
#define LONG    60

static esp_model *make_policy(esp_net *net, int ny, int nu) {
    const esp_frame none = {.kind = ESP_FRAME_NONE};
    esp_model *policy = NULL;
    ck_assert(esp_model_create(ESP_MODEL_POLICY, ny, nu, 1, &none, net, &policy, NULL) == ESP_OK);
    return policy;
}

/* A policy and a pruned one. `share` is how much of the change is made; some seeds have dead, stuck and rescaled neurons. */
static void make_policies(esp_rng *rng, int ny, int nu, double share, esp_model **ret_policy, esp_model **ret_pruned) {
    const int widths[] = {ny, 2 + (int)esp_rng_below(rng, 7), 2 + (int)esp_rng_below(rng, 7), nu};
    esp_net *net = random_net(rng, 3, widths, ESP_ACT_RELU), *pruned = NULL;
    esp_layer *first = &net->layers[0];
    uint64_t odd = esp_rng_below(rng, 6);
    if (odd == 0) memset(first->w, 0, (size_t)ny * sizeof(double)); /* a zero row */
    if (odd == 1) first->b[0] = -1e6; /* dead */
    if (odd == 2) first->b[0] = 1e3; /* stuck on */
    if (odd == 3) { /* rescaled */
        for (int j = 0; j < ny; j++) first->w[j] *= 1e150;
        first->b[0] *= 1e150;
        for (int i = 0; i < net->layers[1].n_out; i++) net->layers[1].w[i * first->n_out] *= 1e-150;
    }
    ck_assert(esp_net_copy(net, &pruned, NULL) == ESP_OK);
    for (int k = 0; k < 3; k++)
        for (int i = 0; i < pruned->layers[k].n_in * pruned->layers[k].n_out; i++) {
            double factor = esp_rng_uniform(rng) < 0.2 ? 0 : 1 + 0.1 * esp_rng_normal(rng);
            pruned->layers[k].w[i] *= 1 + share * (factor - 1);
        }
    if (share >= 1 && odd == 4) pruned->layers[0].act[0] = ESP_ACT_ZERO;
    if (share >= 1 && odd == 5) pruned->layers[0].act[0] = ESP_ACT_IDENTITY;
    *ret_policy = make_policy(net, ny, nu);
    *ret_pruned = make_policy(pruned, ny, nu);
}

typedef struct setting {
    esp_model *policy, *pruned, *dynamics;
    double lower[MOST], upper[MOST];
    esp_box box;
    int steps;
} setting;

static void make(setting *s, uint64_t seed, double share) {
    esp_rng rng;
    esp_rng_init(&rng, seed, 7);
    int ny = 1 + (int)esp_rng_below(&rng, 3), nu = 1 + (int)esp_rng_below(&rng, 2), history = 1 + (int)(seed % 3 == 0 ? esp_rng_below(&rng, 3) : 0);
    make_policies(&rng, ny, nu, share, &s->policy, &s->pruned);
    s->dynamics = random_dynamics(&rng, ny, nu, history);
    s->steps = 1 + (int)esp_rng_below(&rng, 6);
    s->box = (esp_box){history * ny + (history - 1) * nu, s->lower, s->upper};
    for (int k = 0; k < s->box.n; k++) {
        s->lower[k] = esp_rng_normal(&rng);
        s->upper[k] = s->lower[k] + (esp_rng_uniform(&rng) < 0.15 ? 0 : esp_rng_uniform(&rng));
    }
}

static void done(setting *s) {
    esp_model_free(s->policy);
    esp_model_free(s->pruned);
    esp_model_free(s->dynamics);
}

/* The outputs of `steps` steps from a present, straight from the definitions. */
static void simulate(const esp_model *policy, const esp_model *dynamics, const double *present, int steps, double *ret_y) {
    int ny = dynamics->ny, nu = dynamics->nu, n_y = dynamics->history * ny, n = n_y + (dynamics->history - 1) * nu;
    double x[MOST + 8];
    memcpy(x, present, (size_t)n * sizeof *x);
    for (int k = 0; k < steps; k++) {
        double *y = ret_y + k * ny;
        oracle_step(policy, x + n_y - ny, x + n, NULL);
        oracle_step(dynamics, x, y, NULL);
        memmove(x, x + ny, (size_t)(n_y - ny) * sizeof *x);
        memcpy(x + n_y - ny, y, (size_t)ny * sizeof *x);
        memmove(x + n_y, x + n_y + nu, (size_t)(n - n_y) * sizeof *x);
    }
}

static double distance(const double *a, const double *b, int n, esp_norm norm) {
    double sum = 0, largest = 0;
    for (int i = 0; i < n; i++) sum += (a[i] - b[i]) * (a[i] - b[i]), largest = fmax(largest, fabs(a[i] - b[i]));
    return norm == ESP_NORM_2 ? sqrt(sum) : largest;
}

static double scale_of(const double *y, int n) {
    double largest = 1;
    for (int i = 0; i < n; i++) largest = fmax(largest, fabs(y[i]));
    return largest;
}

static esp_tube *run(const setting *s, esp_norm norm, int max_leaves) {
    esp_tube_opts opts = ESP_TUBE_OPTS_INIT;
    esp_tube *tube = NULL;
    esp_error error = {0};
    opts.norm = norm;
    opts.max_leaves = max_leaves;
    ck_assert_msg(esp_tube_run(s->pruned, s->policy, s->dynamics, s->steps, &s->box, &opts, NULL, &tube, &error) == ESP_OK, "%s", error.message);
    return tube;
}

static void sample(const setting *s, esp_rng *rng, int n, double *ret_x) {
    for (int k = 0; k < s->box.n; k++) {
        double t = n % 2 ? esp_rng_uniform(rng) : (double)esp_rng_below(rng, 2);
        ret_x[k] = fmin(s->upper[k], s->lower[k] + t * (s->upper[k] - s->lower[k]));
    }
}

START_TEST(tube__holds_every_sampled_pair_of_loops) {
    seed_range range = seeds(N_SEEDS);
    static double a[LONG * MOST], b[LONG * MOST];
    int forever = 0;
    for (uint64_t seed = range.first; seed <= range.last; seed++) {
        setting s;
        esp_rng rng;
        esp_rng_init(&rng, seed, 8);
        make(&s, seed, 1);
        esp_norm norm = seed % 2 ? ESP_NORM_2 : ESP_NORM_INF;
        esp_tube *tube = run(&s, norm, seed % 4 ? 16 : 1);
        int ny = s.dynamics->ny, steps = tube->forever.holds ? LONG : s.steps;
        forever += tube->forever.holds;
        for (int n = 0; n < 60; n++) {
            double x[MOST];
            sample(&s, &rng, n, x);
            simulate(s.pruned, s.dynamics, x, steps, a);
            simulate(s.policy, s.dynamics, x, steps, b);
            for (int k = 0; k < steps; k++) {
                double radius = k < s.steps ? tube->radius[k] : tube->forever.radius;
                double apart = distance(a + k * ny, b + k * ny, ny, norm), slack = 1e-12 * (scale_of(a + k * ny, ny) + scale_of(b + k * ny, ny));
                ck_assert_msg(apart <= radius + slack, "seed %llu step %d: %.17g outside %.17g", (unsigned long long)seed, k, apart, radius);
            }
        }
        for (int k = 0; k < s.steps; k++) {
            ck_assert(tube->radius[k] <= tube->program[k] && tube->radius[k] <= tube->product[k]);
            ck_assert(tube->lower[k] <= tube->radius[k]);
        }
        esp_tube_free(tube);
        done(&s);
    }
    if (range.last > range.first) ck_assert_int_gt(forever, 0); /* the law for ever is not empty */
}
END_TEST

START_TEST(tube__reaches_what_it_says_is_reached) {
    seed_range range = seeds(N_SEEDS / 2);
    for (uint64_t seed = range.first; seed <= range.last; seed++) {
        setting s;
        make(&s, seed, 1);
        esp_tube *tube = run(&s, ESP_NORM_INF, 1);
        static double a[MOST * MOST], b[MOST * MOST];
        double most = 0, apart = 0;
        simulate(s.pruned, s.dynamics, tube->witness, s.steps, a);
        simulate(s.policy, s.dynamics, tube->witness, s.steps, b);
        for (int k = 0; k < s.steps; k++) {
            most = fmax(most, tube->lower[k]);
            apart = fmax(apart, distance(a + k * s.dynamics->ny, b + k * s.dynamics->ny, s.dynamics->ny, ESP_NORM_INF));
        }
        for (int k = 0; k < s.box.n; k++) ck_assert(tube->witness[k] >= s.lower[k] && tube->witness[k] <= s.upper[k]);
        ck_assert_msg(apart >= most * (1 - 1e-9) - 1e-12, "seed %llu: %.17g, not %.17g", (unsigned long long)seed, apart, most);
        esp_tube_free(tube);
        done(&s);
    }
}
END_TEST

START_TEST(tube__shrinks_with_the_change) {
    seed_range range = seeds(12);
    for (uint64_t seed = range.first; seed <= range.last; seed++) {
        setting whole, little, none;
        make(&whole, seed, 1e-2);
        make(&little, seed, 1e-6);
        make(&none, seed, 0);
        esp_tube *a = run(&whole, ESP_NORM_INF, 1), *b = run(&little, ESP_NORM_INF, 1), *c = run(&none, ESP_NORM_INF, 1);
        for (int k = 0; k < whole.steps; k++) {
            ck_assert_msg(b->radius[k] <= 1e-3 * a->radius[k] + 1e-9, "seed %llu: %g against %g", (unsigned long long)seed, b->radius[k],
                          a->radius[k]);
            ck_assert_double_eq(c->radius[k], 0);
        }
        esp_tube_free(a);
        esp_tube_free(b);
        esp_tube_free(c);
        done(&whole);
        done(&little);
        done(&none);
    }
}
END_TEST

START_TEST(tube__refuses_what_does_not_fit) {
    setting s;
    make(&s, 1, 1);
    esp_tube_opts opts = ESP_TUBE_OPTS_INIT;
    esp_tube *tube = NULL;
    esp_error error = {0};
    esp_box small = {s.box.n - 1, s.lower, s.upper};
    ck_assert(esp_tube_run(s.pruned, s.policy, s.dynamics, 2, &small, &opts, NULL, &tube, &error) == ESP_INVALID);
    ck_assert(esp_tube_run(s.pruned, s.policy, s.dynamics, 0, &s.box, &opts, NULL, &tube, &error) == ESP_INVALID);
    ck_assert(esp_tube_run(s.pruned, s.policy, s.policy, 2, &s.box, &opts, NULL, &tube, &error) == ESP_INVALID);
    ck_assert(esp_tube_run(s.dynamics, s.dynamics, s.dynamics, 2, &s.box, &opts, NULL, &tube, &error) == ESP_INVALID);
    s.upper[0] = INFINITY;
    ck_assert(esp_tube_run(s.pruned, s.policy, s.dynamics, 2, &s.box, &opts, NULL, &tube, &error) == ESP_INVALID);
    ck_assert_ptr_null(tube);
    done(&s);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("closed_loop");
    TCase *tc = tcase_create("laws");
    tcase_set_timeout(tc, 60);
    tcase_add_test(tc, tube__holds_every_sampled_pair_of_loops);
    tcase_add_test(tc, tube__reaches_what_it_says_is_reached);
    tcase_add_test(tc, tube__shrinks_with_the_change);
    tcase_add_test(tc, tube__refuses_what_does_not_fit);
    suite_add_tcase(suite, tc);
    return run_suite(suite);
}
