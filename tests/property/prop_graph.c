/* SPDX-License-Identifier: Apache-2.0
 * Laws of graph networks over random ones, 1 to 8 objects and the edges of a state or all: the program is the network, so
 * is the plain network, numbering and place do not matter, files and JSON give back what they were made from. */
#include <check.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/hash.h"
#include "base/json.h"
#include "net/program.h"
#include "support/graphs.h"
#include "support/models.h"

#define N_SEEDS 300
#define MOST    256

static void near(uint64_t seed, const char *what, const double *got, const double *want, int n, double tolerance) {
    for (int i = 0; i < n; i++)
        ck_assert_msg(fabs(got[i] - want[i]) <= tolerance * fmax(1, fabs(want[i])), "seed %llu: %s %d is %.17g, must be %.17g",
                      (unsigned long long)seed, what, i, got[i], want[i]);
}

static double largest(const double *values, int n) {
    double most = 0;
    for (int i = 0; i < n; i++) most = fmax(most, fabs(values[i]));
    return most;
}

static esp_program *lower(const esp_model *model) {
    esp_program *program = NULL;
    esp_error error = {0};
    ck_assert_msg(esp_program_lower(model, &program, &error) == ESP_OK, "%s", error.message);
    return program;
}

static void forward(const esp_model *m, const double *x, double *y) {
    double *work = malloc(esp_graph_work(m->graph, m->n_objects, m->n_edges) * sizeof *work);
    ck_assert_ptr_nonnull(work);
    esp_graph_forward(m->graph, m->n_objects, m->edges, m->n_edges, x, y, work);
    free(work);
}

static void run(const esp_program *program, const double *x, double *y) {
    double *work = malloc(((size_t)program->n_r + 1) * sizeof *work);
    ck_assert_ptr_nonnull(work);
    esp_program_forward(program, x, y, NULL, NULL, work);
    free(work);
}

START_TEST(graph__its_program_and_its_forward_pass_are_the_definition) {
    seed_range range = seeds(N_SEEDS);
    int lonely = 0, joined = 0;
    for (uint64_t seed = range.first; seed <= range.last; seed++) {
        esp_rng rng;
        esp_rng_init(&rng, seed, 1);
        esp_model *graph = random_graph(&rng);
        double *x = NULL, want[MOST], y[MOST];
        esp_model *m = random_state(&rng, graph, 1 + (int)(seed % 8), &x);
        esp_program *program = lower(m);
        ck_assert_int_eq(program->n_x, esp_model_n_x(m));
        ck_assert_int_eq(program->n_y, m->ny);
        ck_assert_int_eq(program->n_r, (int)esp_model_relus(m));
        for (int k = 0; k < 3; k++) { /* the edges are those of the first state throughout */
            graph_oracle(m, x, want);
            double scale = fmax(1, largest(want, m->ny));
            forward(m, x, y);
            near(seed, "forward y", y, want, m->ny, 1e-12 * scale);
            run(program, x, y);
            near(seed, "program y", y, want, m->ny, 1e-10 * scale);
            for (int i = 0; i < program->n_x; i++) x[i] = esp_rng_normal(&rng);
        }
        lonely += m->n_objects > 1 && m->n_edges == 0;
        joined += m->n_edges == m->n_objects * (m->n_objects - 1) && m->n_edges > 0;
        esp_program_free(program);
        esp_model_free(m);
        esp_model_free(graph);
        free(x);
    }
    ck_assert(range.first == range.last || (lonely > 5 && joined > 50));
}
END_TEST

static void same_program(uint64_t seed, const esp_program *f, const esp_program *g) {
    size_t n_x = (size_t)f->n_x, n_r = (size_t)f->n_r, n_y = (size_t)f->n_y;
    ck_assert_int_eq(f->n_x, g->n_x);
    ck_assert_int_eq(f->n_r, g->n_r);
    ck_assert_int_eq(f->n_y, g->n_y);
    ck_assert_int_eq(f->n_levels, g->n_levels);
    size_t numbers = (n_y + n_r) * (n_x + n_r + 1);
    for (size_t i = 0; i < numbers; i++) ck_assert_msg(!(f->a[i] > g->a[i] || f->a[i] < g->a[i]), "seed %llu: %zu", (unsigned long long)seed, i);
}

START_TEST(graph__flattened_has_the_same_program) {
    seed_range range = seeds(N_SEEDS);
    for (uint64_t seed = range.first; seed <= range.last; seed++) {
        esp_rng rng;
        esp_rng_init(&rng, seed, 2);
        esp_model *graph = random_graph(&rng), *flat = NULL;
        esp_error error = {0};
        double *x = NULL;
        esp_model *m = random_state(&rng, graph, 1 + (int)(seed % 5), &x);
        ck_assert_msg(esp_model_flatten(m, &flat, &error) == ESP_OK, "%s", error.message);
        ck_assert_ptr_null(flat->graph);
        ck_assert_int_eq(esp_model_relus(flat), esp_model_relus(m));
        esp_program *f = lower(m), *g = lower(flat);
        same_program(seed, f, g);
        esp_program_free(f);
        esp_program_free(g);
        esp_model_free(flat);
        esp_model_free(m);
        esp_model_free(graph);
        free(x);
    }
}
END_TEST

/* Objects renumbered, and everything that is a position moved by the same step. */
START_TEST(graph__numbering_and_place_do_not_matter) {
    seed_range range = seeds(N_SEEDS);
    for (uint64_t seed = range.first; seed <= range.last; seed++) {
        esp_rng rng;
        esp_rng_init(&rng, seed, 3);
        esp_model *graph = random_graph(&rng), *other = NULL;
        const esp_graph_layout *l = &graph->graph->layout;
        int n = 2 + (int)(seed % 5);
        double *x = NULL, moved[MOST], y[MOST], z[MOST];
        size_t order[8] = {0, 1, 2, 3, 4, 5, 6, 7};
        esp_model *m = random_state(&rng, graph, n, &x);
        esp_rng_shuffle(&rng, order, (size_t)n);
        memcpy(moved, x, (size_t)esp_model_n_x(m) * sizeof *x);
        for (int i = 0; i < n; i++) memcpy(moved + l->first + i * l->size, x + l->first + (int)order[i] * l->size, (size_t)l->size * sizeof *x);
        ck_assert(esp_model_bind(graph, m->ny, moved, &other, NULL) == ESP_OK);
        ck_assert_int_eq(other->n_edges, m->n_edges);
        forward(m, x, y);
        forward(other, moved, z);
        double scale = fmax(1, largest(y, m->ny));
        for (int i = 0; i < n; i++) near(seed, "object", z + l->first + i * l->size, y + l->first + (int)order[i] * l->size, l->size, 1e-12 * scale);
        for (int d = 0; d < l->n_position; d++) { /* one dimension after the other */
            double step = 1.25 + d;
            bool clash = false; /* a column that stands for two dimensions cannot be moved in one */
            memcpy(moved, x, (size_t)esp_model_n_x(m) * sizeof *x);
            for (int i = 0; i < n; i++) moved[l->first + i * l->size + l->position[d]] += step;
            for (int p = 0; p < l->n_points; p++) {
                int k = l->points[p].index[d], at = l->points[p].on_u ? m->ny + k : esp_graph_shared(l, n, k);
                for (int q = 0; q < l->n_points; q++)
                    for (int e = 0; e < l->n_position; e++) clash |= e != d && l->points[q].on_u == l->points[p].on_u && l->points[q].index[e] == k;
                moved[at] = x[at] + step;
            }
            if (clash) continue;
            forward(m, moved, z);
            for (int i = 0; i < n; i++) z[l->first + i * l->size + l->position[d]] -= step;
            near(seed, "moved object", z + l->first, y + l->first, n * l->size, 1e-11 * scale);
        }
        esp_model_free(other);
        esp_model_free(m);
        esp_model_free(graph);
        free(x);
    }
}
END_TEST

static esp_model *through_json(const esp_model *model) {
    esp_buf text = {0};
    esp_jsonw w = esp_jsonw_on(&text);
    esp_json *json = NULL;
    esp_model *back = NULL;
    esp_error error = {0};
    esp_model_format_json(model, &w);
    ck_assert_msg(esp_json_parse(text.data, text.len, &json, &error) == ESP_OK, "%s", error.message);
    esp_reader root = esp_reader_root(json);
    ck_assert_msg(esp_model_parse_json(&root, ESP_MODEL_DYNAMICS, &back, &error) == ESP_OK, "%s %s", error.pointer, error.message);
    esp_json_free(json);
    esp_buf_done(&text);
    return back;
}

START_TEST(graph__files_and_json_give_it_back) {
    seed_range range = seeds(N_SEEDS);
    for (uint64_t seed = range.first; seed <= range.last; seed++) {
        esp_rng rng;
        esp_rng_init(&rng, seed, 4);
        esp_model *model = random_graph(&rng), *decoded = NULL, *parsed = through_json(model);
        esp_buf bytes[3] = {{0}};
        esp_error error = {0};
        ck_assert(esp_model_encode(model, &bytes[0], NULL) == ESP_OK);
        ck_assert_msg(esp_model_decode(bytes[0].data, bytes[0].len, &decoded, &error) == ESP_OK, "%s", error.message);
        ck_assert_int_eq(decoded->n_edges, model->n_edges);
        ck_assert_int_eq(esp_model_parameters(decoded), esp_model_parameters(model));
        ck_assert(esp_model_encode(decoded, &bytes[1], NULL) == ESP_OK);
        ck_assert(esp_model_encode(parsed, &bytes[2], NULL) == ESP_OK);
        for (int k = 1; k < 3; k++) {
            ck_assert_uint_eq(bytes[k].len, bytes[0].len);
            ck_assert_mem_eq(bytes[k].data, bytes[0].data, bytes[0].len);
        }
        for (int k = 0; k < 3; k++) esp_buf_done(&bytes[k]);
        esp_model_free(model);
        esp_model_free(decoded);
        esp_model_free(parsed);
    }
}
END_TEST

/* Puts a checksum that holds behind changed bytes. */
static void reseal(char *bytes, size_t len) {
    char hex[ESP_HASH_HEX];
    esp_hash_bytes(bytes, len - 32, hex);
    for (int i = 0; i < 32; i++) {
        char two[3] = {hex[2 * i], hex[2 * i + 1], 0};
        bytes[len - 32 + (size_t)i] = (char)strtol(two, NULL, 16);
    }
}

START_TEST(graph__files_that_were_changed_are_refused_or_are_another_model) {
    seed_range range = seeds(100);
    int accepted = 0, refused = 0;
    for (uint64_t seed = range.first; seed <= range.last; seed++) {
        esp_rng rng;
        esp_rng_init(&rng, seed, 5);
        esp_model *model = random_graph(&rng);
        esp_buf bytes = {0};
        ck_assert(esp_model_encode(model, &bytes, NULL) == ESP_OK);
        for (int k = 0; k < 60; k++) {
            size_t len = k < 30 ? bytes.len : esp_rng_below(&rng, bytes.len); /* cut short, too */
            char *copy = malloc(bytes.len);
            esp_model *back = NULL;
            esp_error error = {0};
            ck_assert_ptr_nonnull(copy);
            memcpy(copy, bytes.data, bytes.len);
            if (k < 30) copy[esp_rng_below(&rng, k % 2 ? len : 160) % len] ^= (char)(1 + esp_rng_below(&rng, 255));
            ck_assert(esp_model_decode(copy, len, &back, &error) != ESP_OK);
            if (len > 64) reseal(copy, len);
            esp_code code = esp_model_decode(copy, len, &back, &error);
            ck_assert(k < 30 || code != ESP_OK);
            if (code == ESP_OK) {
                esp_program *program = NULL;
                ck_assert(!back->graph || esp_graph_layout_check(&back->graph->layout, NULL) == ESP_OK);
                if (esp_program_lower(back, &program, NULL) == ESP_OK) esp_program_free(program);
            } else {
                ck_assert(*error.message);
            }
            accepted += code == ESP_OK;
            refused += code != ESP_OK;
            esp_model_free(back);
            free(copy);
        }
        esp_buf_done(&bytes);
        esp_model_free(model);
    }
    ck_assert(range.first == range.last || (accepted > 500 && refused > 1000));
}
END_TEST

int main(void) {
    Suite *suite = suite_create("graph");
    TCase *tc = tcase_create("graph");
    tcase_set_timeout(tc, 60);
    tcase_add_test(tc, graph__its_program_and_its_forward_pass_are_the_definition);
    tcase_add_test(tc, graph__flattened_has_the_same_program);
    tcase_add_test(tc, graph__numbering_and_place_do_not_matter);
    tcase_add_test(tc, graph__files_and_json_give_it_back);
    tcase_add_test(tc, graph__files_that_were_changed_are_refused_or_are_another_model);
    suite_add_tcase(suite, tc);
    return run_suite(suite);
}
