/* SPDX-License-Identifier: Apache-2.0
 * Training for the planner: the relaxation gap against a twin in double, the compact form of a network, and what runs make of both. */
#include <check.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/rng.h"
#include "net/program.h"
#include "support/models.h"
#include "train/proof.h"

/* ---- the gap ---- */

enum { NX = 4, NR = 6, NY = 3, ROWS = 20, FLOATS = NR * NX + NR * NR + NR + NY * NR };

/* R of a program, as the header has it. */
static double twin_gap(const double *at, const double *reach, double x[ROWS][NX]) {
    const double *c = at, *d = c + NR * NX, *d0 = d + NR * NR, *b = d0 + NR;
    double e[NR], w[NR], r[NR], gap = 0;
    for (int i = 0; i < NR; i++) {
        e[i] = 0;
        for (int j = 0; j < NX; j++) e[i] += fabs(c[i * NX + j]) * reach[j];
        for (int k = 0; k < i; k++) e[i] += fabs(d[i * NR + k]) * e[k];
    }
    for (int i = NR - 1; i >= 0; i--) {
        w[i] = 0;
        for (int k = 0; k < NY; k++) w[i] += fabs(b[k * NR + i]);
        for (int k = i + 1; k < NR; k++) w[i] += fabs(d[k * NR + i]) * w[k];
    }
    for (int row = 0; row < ROWS; row++)
        for (int i = 0; i < NR; i++) {
            double p = d0[i], l, u;
            for (int j = 0; j < NX; j++) p += c[i * NX + j] * x[row][j];
            for (int k = 0; k < i; k++) p += d[i * NR + k] * r[k];
            r[i] = fmax(0, p);
            l = p - e[i], u = p + e[i];
            if (l < 0 && u > 0) gap += w[i] * u * -l / (u - l) / ROWS; /* the triangle's height at the kink */
        }
    return gap;
}

typedef struct drawn {
    float memory[FLOATS], reach[NX], x[ROWS][NX], work[9 * NR];
    const float *rows[ROWS];
    double at[FLOATS], reach_d[NX], x_d[ROWS][NX];
    esp_gap_program program;
} drawn;

static void draw(uint64_t seed, drawn *q) {
    esp_rng rng;
    esp_rng_init(&rng, seed, 1);
    q->program = esp_gap_program_at(NX, NR, NY, q->memory);
    for (int i = 0; i < FLOATS; i++) q->memory[i] = (float)esp_rng_normal(&rng);
    for (int i = 0; i < NR; i++)
        for (int k = i; k < NR; k++) q->program.d[i * NR + k] = 0;
    for (int i = 0; i < FLOATS; i++) q->at[i] = (double)q->memory[i];
    for (int j = 0; j < NX; j++) q->reach_d[j] = (double)(q->reach[j] = (float)esp_rng_uniform(&rng));
    for (int row = 0; row < ROWS; row++) {
        for (int j = 0; j < NX; j++) q->x_d[row][j] = (double)(q->x[row][j] = (float)esp_rng_normal(&rng));
        q->rows[row] = q->x[row];
    }
    ck_assert_uint_eq(esp_gap_floats(NX, NR, NY), FLOATS);
    ck_assert_uint_le(esp_gap_work(NR), sizeof q->work / sizeof *q->work);
}

START_TEST(gap__gradient_is_the_central_difference) {
    const double step = 1e-6, weight = 0.5;
    seed_range range = seeds(10);
    for (uint64_t seed = range.first; seed <= range.last; seed++) {
        drawn q;
        float memory[FLOATS];
        double difference[FLOATS], largest = 0;
        draw(seed, &q);
        esp_gap_program grads = esp_gap_program_at(NX, NR, NY, memory);
        double gap = esp_gap(&q.program, q.reach, q.rows, ROWS, (float)weight, &grads, q.work);
        ck_assert_double_eq_tol(gap, twin_gap(q.at, q.reach_d, q.x_d), 1e-4 * gap);
        for (int i = 0; i < FLOATS; i++) {
            double keep = q.at[i], above;
            q.at[i] = keep + step;
            above = twin_gap(q.at, q.reach_d, q.x_d);
            q.at[i] = keep - step;
            difference[i] = weight * (above - twin_gap(q.at, q.reach_d, q.x_d)) / (2 * step);
            q.at[i] = keep;
            largest = fmax(largest, fabs(difference[i]));
        }
        for (int i = 0; i < FLOATS; i++) {
            int at = i - NR * NX;
            if (at >= 0 && at < NR * NR && at % NR >= at / NR) continue; /* D is strictly lower */
            ck_assert_msg(fabs(difference[i] - (double)memory[i]) < 2e-3 * largest, "seed %d, entry %d: %g and %g", (int)seed, i, difference[i],
                          (double)memory[i]);
        }
    }
}
END_TEST

START_TEST(gap__does_not_see_a_rescaling) {
    drawn q;
    float memory[FLOATS];
    draw(3, &q);
    esp_gap_program grads = esp_gap_program_at(NX, NR, NY, memory);
    double before = esp_gap(&q.program, q.reach, q.rows, ROWS, 1, &grads, q.work);
    for (int i = 0; i < NR; i++) {
        float s = (float)(1 << i);
        for (int j = 0; j < NX; j++) q.program.c[i * NX + j] *= s;
        for (int k = 0; k < i; k++) q.program.d[i * NR + k] *= s;
        q.program.d0[i] *= s;
        for (int k = i + 1; k < NR; k++) q.program.d[k * NR + i] /= s;
        for (int k = 0; k < NY; k++) q.program.b[k * NR + i] /= s;
    }
    ck_assert_double_eq_tol(esp_gap(&q.program, q.reach, q.rows, ROWS, 1, &grads, q.work), before, 1e-4 * before);
}
END_TEST

/* ---- the compact form ---- */

typedef struct network {
    esp_mlp mlp;
    esp_ladder *ladder;
    float *params, *packed, *memory;
    esp_tape tape;
} network;

/* 3-9-12-9-2 with about half of its neurons ReLUs at most, the rest frozen by lot. */
static void network_draw(uint64_t seed, size_t relus, network *q) {
    static const int hidden[] = {9, 12, 9};
    const esp_ladder_opts opts = {0, 0, 0.5, true};
    esp_error error = {0};
    esp_rng rng;
    esp_rng_init(&rng, seed, 2);
    esp_mlp_init(&q->mlp, 3, hidden, 3, 2);
    ck_assert_int_eq(esp_ladder_create(q->mlp.n_neurons, &opts, &q->ladder, &error), ESP_OK);
    for (size_t i = 0; i < 3 * q->mlp.n_neurons; i++) q->ladder->logits[i] = (float)esp_rng_normal(&rng);
    esp_ladder_freeze(q->ladder, relus, NULL);
    size_t tape = esp_tape_floats(&q->mlp, ESP_TILE), packed = esp_padded(q->mlp.n_packed), params = esp_padded(q->mlp.n_params);
    q->memory = aligned_alloc(64, (tape + packed + params) * sizeof *q->memory);
    memset(q->memory, 0, (tape + packed + params) * sizeof *q->memory);
    esp_tape_init(&q->tape, &q->mlp, ESP_TILE, q->memory);
    q->packed = q->memory + tape;
    q->params = q->packed + packed;
    esp_mlp_seed(&q->mlp, (const float[]){1, 1, 1}, &rng, q->params);
}

static void network_done(network *q) {
    esp_ladder_free(q->ladder);
    free(q->memory);
}

static void network_run(network *q, uint64_t seed, float *ret_y) {
    esp_rng rng;
    esp_rng_init(&rng, seed, 3);
    for (int i = 0; i < ESP_TILE; i++)
        for (int j = 0; j < 3; j++) q->tape.x[i * ESP_VECTOR + j] = (float)esp_rng_normal(&rng);
    esp_mlp_pack(&q->mlp, q->params, q->ladder->pos, q->ladder->neg, q->packed);
    esp_mlp_forward(&q->mlp, q->packed, ESP_TILE, true, &q->tape);
    for (int i = 0; i < ESP_TILE; i++) memcpy(ret_y + 2 * i, q->tape.h[3] + i * ESP_VECTOR, 2 * sizeof *ret_y);
}

static size_t nonzero(const network *q) {
    size_t n = 0;
    for (size_t i = 0; i < q->mlp.n_params; i++) n += q->params[i] != 0;
    return n;
}

START_TEST(compact__is_the_same_function) {
    seed_range range = seeds(20);
    size_t n_fit = 0;
    for (uint64_t seed = range.first; seed <= range.last; seed++) {
        network q;
        float before[2 * ESP_TILE], after[2 * ESP_TILE];
        esp_error error = {0};
        network_draw(seed, seed % 8, &q);
        network_run(&q, seed, before);
        bool fits = esp_compact_fits(&q.mlp, q.ladder);
        n_fit += fits;
        if (fits) {
            size_t weights = nonzero(&q);
            ck_assert_int_eq(esp_compact_rewrite(&q.mlp, q.params, q.ladder, &error), ESP_OK);
            ck_assert_uint_eq(q.ladder->n_undecided, seed % 8);
            ck_assert_uint_lt(nonzero(&q), weights);
            network_run(&q, seed, after);
            for (int i = 0; i < 2 * ESP_TILE; i++) ck_assert_float_eq_tol(before[i], after[i], 2e-4f * (1 + fabsf(before[i])));
            size_t again = nonzero(&q);
            ck_assert_int_eq(esp_compact_rewrite(&q.mlp, q.params, q.ladder, &error), ESP_OK); /* what is compact stays so */
            ck_assert_uint_eq(nonzero(&q), again);
            network_run(&q, seed, before);
            for (int i = 0; i < 2 * ESP_TILE; i++) ck_assert_float_eq_tol(before[i], after[i], 1e-5f * (1 + fabsf(before[i])));
        }
        network_done(&q);
    }
    ck_assert_uint_ge(n_fit, (range.last - range.first + 1) / 2);
}
END_TEST

/* The program that it says it is has the pre-activations of the network, and gradients go back to where the weights came from. */
START_TEST(compact__is_the_program_it_says) {
    network q;
    float y[2 * ESP_TILE];
    esp_error error = {0};
    esp_compact *compact = NULL;
    network_draw(5, 6, &q);
    ck_assert(esp_compact_fits(&q.mlp, q.ladder));
    ck_assert_int_eq(esp_compact_rewrite(&q.mlp, q.params, q.ladder, &error), ESP_OK);
    ck_assert_int_eq(esp_compact_create(&q.mlp, q.ladder, &compact, &error), ESP_OK);
    ck_assert_uint_eq(esp_compact_relus(compact), 6);
    network_run(&q, 1, y);
    float *memory = calloc(esp_gap_floats(3, 6, 2), sizeof *memory), *grads = calloc(q.mlp.n_params, sizeof *grads);
    esp_gap_program program = esp_gap_program_at(3, 6, 2, memory);
    esp_compact_get(compact, q.params, &program);
    for (int row = 0; row < ESP_TILE; row++) {
        float r[6];
        size_t made = 0;
        for (int l = 0; l < 3; l++)
            for (int i = 0; i < q.mlp.width[l + 1]; i++) {
                if (q.ladder->state[q.mlp.neuron[l] + (size_t)i] != ESP_UNDECIDED) continue;
                float p = program.d0[made];
                for (size_t j = 0; j < 3; j++) p += program.c[made * 3 + j] * q.tape.x[row * ESP_VECTOR + (int)j];
                for (size_t k = 0; k < made; k++) p += program.d[made * 6 + k] * r[k];
                ck_assert_float_eq_tol(p, q.tape.p[l][(size_t)row * esp_padded((size_t)q.mlp.width[l + 1]) + (size_t)i], 1e-4f);
                r[made++] = fmaxf(0, p);
            }
    }
    esp_compact_add(compact, &program, grads);
    for (size_t i = 0; i < q.mlp.n_params; i++) ck_assert(grads[i] == 0 || grads[i] == q.params[i]);
    size_t carrier = 0; /* one that a step has moved is put back */
    while (q.ladder->state[carrier] != ESP_ACT_IDENTITY) carrier++;
    float kept[3], *moved = q.params + q.mlp.weight[0] + 3 * carrier;
    memcpy(kept, moved, sizeof kept);
    for (int j = 0; j < 3; j++) moved[j] += 0.25f;
    esp_compact_hold(compact, q.params);
    ck_assert_mem_eq(moved, kept, sizeof kept);
    free(memory);
    free(grads);
    esp_compact_free(compact);
    network_done(&q);
}
END_TEST

START_TEST(compact__needs_room) {
    network q;
    network_draw(1, 30, &q); /* of 30: nobody is left to carry */
    ck_assert(!esp_compact_fits(&q.mlp, q.ladder));
    network_done(&q);
}
END_TEST

/* ---- a run ---- */

enum { STEPS = 30 };

/* A mass between two soft stops. */
static esp_dataset *drive(size_t n) {
    esp_dataset *data = calloc(1, sizeof *data);
    esp_rng rng;
    esp_rng_init(&rng, 9, 1);
    *data = (esp_dataset){.ny = 2, .nu = 1, .n_trajectories = n, .n_transitions = n * STEPS, .n_rows = n * (STEPS + 1)};
    data->start = malloc((n + 1) * sizeof *data->start);
    data->y = malloc(data->n_rows * 2 * sizeof *data->y);
    data->u = calloc(data->n_rows, sizeof *data->u);
    for (size_t i = 0; i <= n; i++) data->start[i] = (STEPS + 1) * i;
    for (size_t r = 0; r < data->n_rows; r++) {
        double *y = data->y + 2 * r;
        bool first = r % (STEPS + 1) == 0;
        double stop = first ? 0 : fmax(0, y[-2] - 0.7) - fmax(0, -y[-2] - 0.7);
        y[0] = first ? esp_rng_range(&rng, -1, 1) : y[-2] + 0.1 * y[-1];
        y[1] = first ? esp_rng_range(&rng, -1, 1) : 0.95 * y[-1] + 0.3 * data->u[r - 1] - 2 * stop;
        if (r % (STEPS + 1) < STEPS) data->u[r] = esp_rng_range(&rng, -1, 1);
    }
    return data;
}

typedef struct outcome {
    int relu;
    int64_t nonzero;
    double rmse, norm; /* norm: sum over ReLUs of what goes in times what comes out */
} outcome;

static esp_code receive(void *user, const esp_train_model *trained, esp_error *reterr) {
    outcome *out = user;
    esp_program *p = NULL;
    esp_code code = esp_program_lower(trained->model, &p, reterr);
    if (code) return code;
    *out = (outcome){.relu = trained->relu, .nonzero = esp_model_nonzero(trained->model), .rmse = trained->validation_rmse};
    for (int i = 0; i < p->n_r; i++) {
        double in = 0, to = 0;
        for (int j = 0; j < p->n_x; j++) in += fabs(p->c[i * p->n_x + j]);
        for (int k = 0; k < p->n_y; k++) to += fabs(p->b[k * p->n_r + i]);
        out->norm += in * to;
    }
    esp_program_free(p);
    return ESP_OK;
}

static outcome train(const esp_dataset *data, double proof_weight, double rounding) {
    outcome out = {0};
    esp_train_opts opts;
    const esp_train_hooks hooks = {.user = &out, .model = receive};
    esp_error error = {0};
    esp_train_opts_init(&opts);
    opts.hidden[0] = opts.hidden[1] = 16;
    opts.frame.kind = ESP_FRAME_RESIDUAL;
    opts.batch = 64;
    opts.epochs = 30;
    opts.rung_epochs = 30;
    opts.n_rungs = 2;
    opts.ladder[0] = 8;
    opts.ladder[1] = 4;
    opts.proof_weight = proof_weight;
    opts.rounding = rounding;
    esp_code code = esp_train_run(data, &opts, &hooks, NULL, &error);
    ck_assert_msg(code == ESP_OK, "%s: %s", esp_code_name(code), error.message);
    return out;
}

START_TEST(run__proof_weight_makes_small_what_a_relaxation_does_not_see) {
    esp_dataset *data = drive(60);
    outcome plain = train(data, 0, 0), proof = train(data, 1e-3, 0);
    ck_assert(plain.relu == 4 && proof.relu == 4);
    ck_assert_double_lt(proof.norm, 0.7 * plain.norm);
    ck_assert_double_lt(proof.rmse, 0.05);
    esp_dataset_free(data);
}
END_TEST

/* Zeros of four roundings, trained after each: what is handed out still has them. */
START_TEST(run__rounding_leaves_weights_out) {
    esp_dataset *data = drive(60);
    outcome dense = train(data, 1e-3, 0), rounded = train(data, 1e-3, 0.02), alone = train(data, 0, 0.02);
    ck_assert(rounded.relu == 4 && alone.relu == 4);
    ck_assert_int_lt(rounded.nonzero, dense.nonzero - 3);
    ck_assert_int_lt(alone.nonzero, dense.nonzero - 3);
    ck_assert_double_lt(rounded.rmse, 0.05);
    ck_assert_double_lt(alone.rmse, 0.05);
    esp_dataset_free(data);
}
END_TEST

START_TEST(windows__reach_is_how_far_inputs_move) {
    esp_dataset *data = drive(40);
    esp_train_opts opts;
    esp_error error = {0};
    float reach[2][3];
    esp_train_opts_init(&opts);
    for (int i = 0; i < 2; i++) {
        esp_windows *w = NULL;
        opts.reach = i ? 5 : 1;
        ck_assert_int_eq(esp_windows_create(data, &opts, &w, &error), ESP_OK);
        memcpy(reach[i], w->reach, sizeof reach[i]);
        esp_windows_free(w);
    }
    for (int i = 0; i < 2; i++) ck_assert_float_eq_tol(reach[i][2], (float)M_SQRT2, 0.05f); /* drawn anew each step */
    ck_assert_float_lt(reach[0][0], 0.3f);
    ck_assert_float_gt(reach[1][0], 2 * reach[0][0]);
    esp_dataset_free(data);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("proof");
    TCase *gap = tcase_create("gap"), *compact = tcase_create("compact"), *runs = tcase_create("runs");
    tcase_set_timeout(runs, 60);
    tcase_add_test(gap, gap__gradient_is_the_central_difference);
    tcase_add_test(gap, gap__does_not_see_a_rescaling);
    tcase_add_test(compact, compact__is_the_same_function);
    tcase_add_test(compact, compact__is_the_program_it_says);
    tcase_add_test(compact, compact__needs_room);
    tcase_add_test(runs, run__proof_weight_makes_small_what_a_relaxation_does_not_see);
    tcase_add_test(runs, run__rounding_leaves_weights_out);
    tcase_add_test(runs, windows__reach_is_how_far_inputs_move);
    suite_add_tcase(suite, gap);
    suite_add_tcase(suite, compact);
    suite_add_tcase(suite, runs);
    return run_suite(suite);
}
