/* SPDX-License-Identifier: Apache-2.0
 * Law: products on the tile units, and whole batches with them and without, are off by no more than net/split.h says: every
 * sum by its share of the sum of sizes, and by what its sources are off. Over dense and thinned networks of 1 to 3 layers.
 * Where there are no tile units the tests of them say so. */
#include <check.h>
#include <float.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "net/batch.h"
#include "net/split.h"
#include "support/models.h"

#define N_SEEDS 200
#define SHARE   0x1p-14 /* of split products */
#define ROUND   0x1p-22 /* of each term of a sum in float */
#define MOST    512

static bool granted(void) {
    bool is = esp_split_granted();
    if (!is) puts("no tile units here: products on them are not tested");
    return is;
}

/* A number of some size, or 0 now and then. */
static float number(esp_rng *rng) {
    return esp_rng_below(rng, 8) == 0 ? 0 : (float)(esp_rng_normal(rng) * pow(10, esp_rng_range(rng, -3, 3)));
}

enum { SOURCES = ESP_SPLIT_DEEP, BLOCKS = 3, GUARD = 12345 };

typedef struct product {
    _Alignas(64) float from[SOURCES * ESP_LANES], to[(ESP_SPLIT_MOST + 1) * ESP_LANES], begin[ESP_SPLIT_MOST * ESP_LANES];
} product;

/* One block's sums against those in double. */
static void check_product(const esp_split *split, const float *weights, const product *b, uint64_t seed) {
    int rows = split->n_rows, n = split->n_sources;
    for (int i = 0; i < rows; i++)
        for (int j = 0; j < ESP_LANES; j++) {
            double sum = (double)(split->constant ? split->constant[i] : b->begin[i * ESP_LANES + j]), size = fabs(sum);
            for (int k = 0; k < n; k++) {
                double term = (double)weights[k * rows + i] * (double)b->from[k * ESP_LANES + j];
                sum += term;
                size += fabs(term);
            }
            if (split->relu) sum = fmax(sum, 0);
            double got = (double)b->to[i * ESP_LANES + j], tolerance = (SHARE + (n + 2) * ROUND) * size + 1e-30;
            ck_assert_msg(fabs(got - sum) <= tolerance, "seed %llu: row %d of %d, point %d, %d sources: %.9g, must be %.9g to %.2g",
                          (unsigned long long)seed, i, rows, j, n, got, sum, tolerance);
        }
    for (int j = 0; j < ESP_LANES; j++) ck_assert(b->to[rows * ESP_LANES + j] == GUARD);
}

/* One to three blocks, whose last pass is finished after the product or, by another product, within it. */
START_TEST(split__a_product_is_within_its_share_of_the_sizes) {
    static _Alignas(64) float weights[SOURCES * ESP_SPLIT_MOST], start[ESP_SPLIT_MOST], other[16 * ESP_LANES];
    static _Alignas(64) uint32_t packed[2 * SOURCES * ESP_SPLIT_MOST + 1024];
    static product blocks[BLOCKS];
    seed_range range = seeds(N_SEEDS);
    bool units = granted();
    for (uint64_t seed = range.first; seed <= range.last && units; seed++) {
        esp_rng rng;
        esp_rng_init(&rng, seed, 1);
        int rows = 16 * (1 + (int)esp_rng_below(&rng, 4)), n = 1 + (int)esp_rng_below(&rng, seed % 2 ? 12 : SOURCES),
            m = 1 + (int)esp_rng_below(&rng, BLOCKS);
        bool fresh = esp_rng_below(&rng, 2);
        const float *from[BLOCKS];
        float *to[BLOCKS];
        for (int i = 0; i < rows * n; i++) weights[i] = number(&rng);
        for (int i = 0; i < rows; i++) start[i] = number(&rng);
        for (int k = 0; k < m; k++) {
            product *b = &blocks[k];
            for (int i = 0; i < n * ESP_LANES; i++) b->from[i] = number(&rng);
            for (int i = 0; i < rows * ESP_LANES; i++) b->to[i] = b->begin[i] = number(&rng);
            for (int j = 0; j < ESP_LANES; j++) b->to[rows * ESP_LANES + j] = GUARD;
            from[k] = b->from;
            to[k] = b->to;
        }
        esp_split split = {.n_rows = rows, .n_sources = n, .relu = esp_rng_below(&rng, 2), .packed = packed, .constant = fresh ? start : NULL};
        esp_split_work work;
        esp_split_pack(weights, rows, n, packed);
        esp_split_ready(&work);
        esp_split_sum(&split, m, from, to, &work);
        if (esp_rng_below(&rng, 2)) esp_split_sum(&(esp_split){.n_rows = 16, .n_sources = n, .packed = packed}, 1, from, (float *[]){other}, &work);
        esp_split_finish(&work);
        esp_split_rest();
        for (int k = 0; k < m; k++) check_product(&split, weights, &blocks[k], seed);
    }
}
END_TEST

START_TEST(split__a_nan_or_an_infinity_among_the_values_gives_a_nan) {
    static _Alignas(64) float weights[16 * 40], from[40 * ESP_LANES], to[16 * ESP_LANES];
    static _Alignas(64) uint32_t packed[4096];
    if (!granted()) return;
    for (int i = 0; i < 16 * 40; i++) weights[i] = 1;
    esp_split_pack(weights, 16, 40, packed);
    esp_split_work work;
    esp_split_ready(&work);
    for (int k = 0; k < 40; k++) {
        memset(to, 0, sizeof to);
        memset(from, 0, sizeof from);
        from[k * ESP_LANES + 5] = NAN;
        from[k * ESP_LANES + 20] = INFINITY;
        esp_split_sum(&(esp_split){.n_rows = 16, .n_sources = 40, .relu = true, .packed = packed}, 1, (const float *[]){from}, (float *[]){to},
                      &work);
        esp_split_finish(&work);
        for (int i = 0; i < 16 * ESP_LANES; i++) ck_assert(isnan(to[i]) == (i % ESP_LANES == 5 || i % ESP_LANES == 20));
    }
    esp_split_rest();
}
END_TEST

/* A sum in the making: its value, the sum of sizes, and how far the sources can take it. */
typedef struct sum {
    double value, size, error;
    int terms;
} sum;

static void add(sum *s, double weight, double value, double error) {
    s->value += weight * value;
    s->size += fabs(weight) * (fabs(value) + error);
    s->error += fabs(weight) * error;
    s->terms += weight != 0;
}

/* How far it may be off: rounding a weight to float is a share 2^-24 more. */
static double off(const sum *s, bool split) {
    return s->error + ((split ? SHARE : 0) + (s->terms + 2) * ROUND) * s->size + 1e-30;
}

typedef struct point {
    double r[MOST], r_off[MOST], y[MOST], y_off[MOST];
    bool near; /* some ReLU may be on either side */
} point;

static void forward(const esp_program *p, bool split, const double *x, point *at) {
    at->near = false;
    for (int i = 0; i < p->n_r; i++) {
        sum s = {.value = p->d0[i], .size = fabs(p->d0[i])};
        for (int j = 0; j < p->n_x; j++) add(&s, p->c[i * p->n_x + j], x[j], 0);
        for (int j = 0; j < i; j++) add(&s, p->d[i * p->n_r + j], at->r[j], at->r_off[j]);
        at->r[i] = fmax(s.value, 0);
        at->r_off[i] = off(&s, split);
        at->near |= fabs(s.value) <= at->r_off[i];
    }
    for (int k = 0; k < p->n_y; k++) {
        sum s = {.value = p->c0[k], .size = fabs(p->c0[k])};
        for (int j = 0; j < p->n_x; j++) add(&s, p->a[k * p->n_x + j], x[j], 0);
        for (int j = 0; j < p->n_r; j++) add(&s, p->b[k * p->n_r + j], at->r[j], at->r_off[j]);
        at->y[k] = s.value;
        at->y_off[k] = off(&s, split);
    }
}

/* An output's twin (net/batch.h) is a sum of its own: both and their difference are off by no more than three times the larger. */
static double with_twins(const point *at, int k, int n_y) {
    double most = at->y_off[k];
    for (int j = 0; j < n_y; j++) most = fmax(most, at->y_off[j]);
    return 3 * most;
}

static void backward(const esp_program *p, bool split, const point *at, const double *g, double *ret_dx, double *ret_off) {
    static double dp[MOST], dp_off[MOST];
    for (int i = p->n_r - 1; i >= 0; i--) {
        sum s = {0};
        for (int k = 0; k < p->n_y; k++) add(&s, p->b[k * p->n_r + i], g[k], 0);
        for (int j = i + 1; j < p->n_r; j++) add(&s, p->d[j * p->n_r + i], dp[j], dp_off[j]);
        dp[i] = at->r[i] > 0 ? s.value : 0;
        dp_off[i] = at->r[i] > 0 ? off(&s, split) : 0;
    }
    for (int i = 0; i < p->n_x; i++) {
        sum s = {0};
        for (int k = 0; k < p->n_y; k++) add(&s, p->a[k * p->n_x + i], g[k], 0);
        for (int j = 0; j < p->n_r; j++) add(&s, p->c[j * p->n_x + i], dp[j], dp_off[j]);
        ret_dx[i] = s.value;
        ret_off[i] = off(&s, split);
    }
}

/* A network of 1 to 3 layers, as wide as groups of sources, whose ReLUs then go on in pieces, or not; some of its weights left out. */
static esp_program *draw(esp_rng *rng) {
    int widths[4], layers = 1 + (int)esp_rng_below(rng, 3);
    bool groups = esp_rng_below(rng, 2);
    for (int l = 0; l <= layers; l++) {
        bool hidden = l > 0 && l < layers;
        widths[l] = hidden && groups ? ESP_SPLIT_GROUP * (1 + (int)esp_rng_below(rng, 5)) : 1 + (int)esp_rng_below(rng, hidden ? 100 : 40);
    }
    esp_net *net = random_net(rng, layers, widths, ESP_ACT_RELU);
    double kept = esp_rng_below(rng, 2) ? 1 : esp_rng_range(rng, 0.05, 1);
    for (int l = 0; l < layers; l++)
        for (int i = 0; i < widths[l] * widths[l + 1]; i++)
            if (esp_rng_uniform(rng) > kept) net->layers[l].w[i] = 0;
    esp_model *model = NULL;
    esp_program *program = NULL;
    ck_assert(esp_model_create(ESP_MODEL_POLICY, widths[0], widths[layers], 1, NULL, net, &model, NULL) == ESP_OK);
    ck_assert(esp_program_lower(model, &program, NULL) == ESP_OK);
    esp_model_free(model);
    return program;
}

static void check_outputs(uint64_t seed, const char *what, const point *at, int n_y, const float *y, int lane) {
    for (int k = 0; k < n_y; k++) {
        double got = (double)y[k * ESP_LANES + lane], most = with_twins(at, k, n_y);
        ck_assert_msg(fabs(got - at->y[k]) <= most, "seed %llu, %s: y %d is %.9g, must be %.9g to %.2g", (unsigned long long)seed, what, k, got,
                      at->y[k], most);
    }
}

static void check_batch(uint64_t seed, bool split, const esp_program *p, esp_rng *rng, int *ret_compared) {
    static _Alignas(64) float values[MOST * ESP_LANES], y[MOST * ESP_LANES], g[MOST * ESP_LANES], dx[MOST * ESP_LANES], kept[MOST * ESP_LANES];
    static point at;
    const char *what = split ? "split" : "plain";
    double x[MOST], slope[MOST], want[MOST], tolerance[MOST];
    esp_batch *batch = NULL;
    ck_assert(esp_batch_create(p, split, &batch, NULL) == ESP_OK);
    for (int i = 0; i < p->n_x * ESP_LANES; i++) values[i] = (float)esp_rng_normal(rng);
    for (int i = 0; i < p->n_y * ESP_LANES; i++) g[i] = (float)esp_rng_normal(rng);
    for (int j = 0; j < ESP_LANES; j++) y[p->n_y * ESP_LANES + j] = dx[p->n_x * ESP_LANES + j] = GUARD;
    memcpy(kept, g, sizeof g);
    esp_batch_forward(batch, values, y);
    esp_batch_backward(batch, values, g, dx);
    esp_batch_rest(batch);
    for (int j = 0; j < ESP_LANES; j++) {
        for (int i = 0; i < p->n_x; i++) x[i] = (double)values[i * ESP_LANES + j];
        forward(p, split, x, &at);
        check_outputs(seed, what, &at, p->n_y, y, j);
        if (at.near) continue;
        for (int i = 0; i < p->n_r; i++) {
            double r = (double)values[(p->n_x + i) * ESP_LANES + j];
            ck_assert_msg(fabs(r - at.r[i]) <= at.r_off[i], "seed %llu, %s: r %d is %.9g, must be %.9g", (unsigned long long)seed, what, i, r,
                          at.r[i]);
        }
        for (int k = 0; k < p->n_y; k++) slope[k] = (double)kept[k * ESP_LANES + j];
        backward(p, split, &at, slope, want, tolerance);
        for (int i = 0; i < p->n_x; i++) {
            double got = (double)dx[i * ESP_LANES + j];
            ck_assert_msg(fabs(got - want[i]) <= tolerance[i], "seed %llu, %s: dx %d is %.9g, must be %.9g to %.2g", (unsigned long long)seed, what,
                          i, got, want[i], tolerance[i]);
        }
        ++*ret_compared;
    }
    for (int j = 0; j < ESP_LANES; j++) ck_assert(y[p->n_y * ESP_LANES + j] == GUARD && dx[p->n_x * ESP_LANES + j] == GUARD);
    esp_batch_free(batch);
}

/* Outputs alone: one to five blocks of points, as many at a time as may be, over the same workspace. */
static void check_many(uint64_t seed, bool split, const esp_program *p, esp_rng *rng) {
    enum { MANY = 5 };
    static _Alignas(64) float x[MANY][40 * ESP_LANES], y[MANY][41 * ESP_LANES], values[ESP_BATCH_MOST][MOST * ESP_LANES];
    static point at;
    int n = 1 + (int)esp_rng_below(rng, MANY);
    esp_batch *batch = NULL;
    esp_split_work work;
    ck_assert(esp_batch_create(p, split, &batch, NULL) == ESP_OK);
    for (int k = 0; k < n; k++) {
        for (int i = 0; i < p->n_x * ESP_LANES; i++) x[k][i] = (float)esp_rng_normal(rng);
        for (int j = 0; j < ESP_LANES; j++) y[k][p->n_y * ESP_LANES + j] = GUARD;
    }
    esp_batch_ready(batch, &work);
    for (int first = 0, m; first < n; first += m) {
        float *at_once[ESP_BATCH_MOST], *outputs[ESP_BATCH_MOST];
        m = n - first < ESP_BATCH_MOST ? n - first : ESP_BATCH_MOST;
        for (int k = 0; k < m; k++) {
            memcpy(values[k], x[first + k], (size_t)(p->n_x * ESP_LANES) * sizeof(float));
            at_once[k] = values[k];
            outputs[k] = y[first + k];
        }
        esp_batch_outputs(batch, m, at_once, outputs, &work);
    }
    esp_batch_finish(batch, &work);
    esp_batch_rest(batch);
    for (int k = 0; k < n; k++)
        for (int j = 0; j < ESP_LANES; j++) {
            double point_x[40];
            for (int i = 0; i < p->n_x; i++) point_x[i] = (double)x[k][i * ESP_LANES + j];
            forward(p, split, point_x, &at);
            check_outputs(seed, split ? "split, outputs alone" : "plain, outputs alone", &at, p->n_y, y[k], j);
            ck_assert(y[k][p->n_y * ESP_LANES + j] == GUARD);
        }
    esp_batch_free(batch);
}

START_TEST(split__a_batch_with_tiles_and_without_is_the_program) {
    seed_range range = seeds(N_SEEDS);
    bool units = granted();
    int compared = 0;
    for (uint64_t seed = range.first; seed <= range.last; seed++) {
        esp_rng rng;
        esp_rng_init(&rng, seed, 2);
        esp_program *p = draw(&rng);
        for (int split = 0; split <= units; split++) {
            check_batch(seed, split, p, &rng, &compared);
            check_many(seed, split, p, &rng);
        }
        esp_program_free(p);
    }
    if (range.last > range.first) ck_assert_int_gt(compared, 1000);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("split");
    TCase *tc = tcase_create("split");
    tcase_set_timeout(tc, 60);
    tcase_add_test(tc, split__a_product_is_within_its_share_of_the_sizes);
    tcase_add_test(tc, split__a_nan_or_an_infinity_among_the_values_gives_a_nan);
    tcase_add_test(tc, split__a_batch_with_tiles_and_without_is_the_program);
    suite_add_tcase(suite, tc);
    return run_suite(suite);
}
