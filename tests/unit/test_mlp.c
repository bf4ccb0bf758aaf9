/* SPDX-License-Identifier: Apache-2.0
 * The kernels of training against naive twins in double: passes of the network in every width and with every slope, and Adam.
 * The twins are written here and share no code with them. */
#include <check.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "support/models.h"
#include "train/adam.h"
#include "train/mlp.h"

#define MAX_WIDE 200

typedef struct nets {
    esp_mlp mlp;
    size_t n;
    float *params, *pos, *neg, *packed, *memory, *d_out, *work, *grads, *dx, *positive, *negative;
    esp_tape tape;
    double *t_grads, *t_dx, *t_positive, *t_negative, *out; /* the twin's */
} nets;

static float *block(size_t n) {
    float *values = calloc(n + 1, sizeof *values);
    ck_assert_ptr_nonnull(values);
    return values;
}

static void make(nets *q, esp_rng *rng, int n_hidden, const int *widths, size_t n) {
    memset(q, 0, sizeof *q);
    esp_mlp_init(&q->mlp, widths[0], widths + 1, n_hidden, widths[n_hidden + 1]);
    const esp_mlp *mlp = &q->mlp;
    size_t rows = (n + ESP_TILE - 1) / ESP_TILE * ESP_TILE, in = esp_padded((size_t)widths[0]), out = esp_padded((size_t)widths[n_hidden + 1]);
    q->n = n;
    q->params = block(mlp->n_params), q->grads = block(mlp->n_params);
    q->pos = block(mlp->n_neurons), q->neg = block(mlp->n_neurons), q->positive = block(mlp->n_neurons), q->negative = block(mlp->n_neurons);
    q->packed = block(mlp->n_packed), q->memory = block(esp_tape_floats(mlp, rows)), q->work = block(esp_mlp_work(mlp, n));
    q->d_out = block(rows * out), q->dx = block(rows * in);
    q->t_grads = calloc(mlp->n_params, sizeof(double)), q->t_dx = calloc(rows * in, sizeof(double)), q->out = calloc(rows * out, sizeof(double));
    q->t_positive = calloc(mlp->n_neurons + 1, sizeof(double)), q->t_negative = calloc(mlp->n_neurons + 1, sizeof(double));
    for (size_t i = 0; i < mlp->n_params; i++) q->params[i] = (float)(0.3 * esp_rng_normal(rng)), q->grads[i] = (float)(q->t_grads[i] = 0.25);
    for (size_t i = 0; i < mlp->n_neurons; i++) {
        static const float slopes[4][2] = {{1, 0}, {1, 1}, {0, 0}, {0.75f, 0.25f}};
        size_t kind = esp_rng_below(rng, 4);
        q->pos[i] = slopes[kind][0], q->neg[i] = slopes[kind][1];
    }
    esp_tape_init(&q->tape, mlp, rows, q->memory);
    for (size_t i = 0; i < rows * in; i++) q->tape.x[i] = (float)esp_rng_normal(rng); /* the padding too: nothing may come of it */
    for (size_t r = 0; r < n; r++)
        for (int j = 0; j < widths[n_hidden + 1]; j++) q->d_out[r * out + (size_t)j] = (float)esp_rng_normal(rng);
}

static void unmake(nets *q) {
    float *floats[] = {q->params, q->pos, q->neg, q->packed, q->memory, q->d_out, q->work, q->grads, q->dx, q->positive, q->negative};
    double *doubles[] = {q->t_grads, q->t_dx, q->t_positive, q->t_negative, q->out};
    for (size_t i = 0; i < sizeof floats / sizeof *floats; i++) free(floats[i]);
    for (size_t i = 0; i < sizeof doubles / sizeof *doubles; i++) free(doubles[i]);
}

/* One row of the batch, forward and backward, entry by entry. */
static void twin_row(nets *q, size_t r) {
    const esp_mlp *m = &q->mlp;
    double p[8][MAX_WIDE], h[8][MAX_WIDE], d[MAX_WIDE], next[MAX_WIDE];
    size_t in = esp_padded((size_t)m->width[0]), out = esp_padded((size_t)m->width[m->n_layers]);
    for (int i = 0; i < m->width[0]; i++) h[0][i] = (double)q->tape.x[r * in + (size_t)i];
    for (int l = 0; l < m->n_layers; l++)
        for (int i = 0; i < m->width[l + 1]; i++) {
            double sum = (double)q->params[m->bias[l] + (size_t)i];
            for (int j = 0; j < m->width[l]; j++) sum += (double)q->params[m->weight[l] + (size_t)(i * m->width[l] + j)] * h[l][j];
            p[l][i] = h[l + 1][i] = sum;
            if (l == m->n_layers - 1) continue;
            size_t neuron = m->neuron[l] + (size_t)i;
            h[l + 1][i] = sum * (double)(sum > 0 ? q->pos[neuron] : q->neg[neuron]);
        }
    for (int i = 0; i < m->width[m->n_layers]; i++) {
        q->out[r * out + (size_t)i] = h[m->n_layers][i];
        d[i] = (double)q->d_out[r * out + (size_t)i];
    }
    for (int l = m->n_layers - 1; l >= 0; l--) {
        for (int j = 0; j < m->width[l]; j++) next[j] = 0;
        for (int i = 0; i < m->width[l + 1]; i++) {
            q->t_grads[m->bias[l] + (size_t)i] += d[i];
            for (int j = 0; j < m->width[l]; j++) {
                size_t at = m->weight[l] + (size_t)(i * m->width[l] + j);
                q->t_grads[at] += d[i] * h[l][j];
                next[j] += d[i] * (double)q->params[at];
            }
        }
        for (int j = 0; j < m->width[l]; j++) {
            d[j] = next[j];
            if (l == 0) {
                q->t_dx[r * in + (size_t)j] = next[j];
                continue;
            }
            size_t neuron = m->neuron[l - 1] + (size_t)j;
            double before = p[l - 1][j];
            *(before > 0 ? &q->t_positive[neuron] : &q->t_negative[neuron]) += next[j] * before;
            d[j] *= (double)(before > 0 ? q->pos[neuron] : q->neg[neuron]);
        }
    }
}

/* n floats are the twin's to 1e-4 of its largest: sums of up to 200 terms of float. */
static void near(const char *what, size_t n, const float *got, const double *want) {
    double largest = 1e-6;
    for (size_t i = 0; i < n; i++) largest = fmax(largest, fabs(want[i]));
    for (size_t i = 0; i < n; i++)
        ck_assert_msg(fabs((double)got[i] - want[i]) <= 1e-4 * largest, "%s %zu: %.9g, twin %.9g", what, i, (double)got[i], want[i]);
}

static void check_passes(nets *q, bool slopes) {
    const esp_mlp *m = &q->mlp;
    size_t in = esp_padded((size_t)m->width[0]), out = esp_padded((size_t)m->width[m->n_layers]), rows = q->n;
    esp_slope_grads into = {q->positive, q->negative};
    esp_mlp_pack(m, q->params, q->pos, q->neg, q->packed);
    esp_mlp_forward(m, q->packed, rows, slopes, &q->tape);
    esp_mlp_backward(m, q->packed, rows, &q->tape, q->d_out, q->grads, slopes ? &into : NULL, q->dx, q->work);
    for (size_t r = 0; r < rows; r++) twin_row(q, r);
    near("output", rows * out, q->tape.h[m->n_layers - 1], q->out);
    near("gradient", m->n_params, q->grads, q->t_grads);
    near("input gradient", rows * in, q->dx, q->t_dx);
    for (size_t i = 0; i < m->n_neurons && !slopes; i++) q->t_positive[i] = q->t_negative[i] = 0; /* not asked for: untouched */
    near("positive slope", m->n_neurons, q->positive, q->t_positive);
    near("negative slope", m->n_neurons, q->negative, q->t_negative);
}

static const int shapes[][6] = {{0, 3, 2},          {0, 40, 33},        {1, 10, 1, 8},           {1, 1, 16, 1},
                                {2, 10, 64, 64, 8}, {2, 17, 48, 5, 16}, {3, 5, 80, 31, 112, 20}, {2, 10, 192, 96, 8}};

START_TEST(mlp__passes_are_those_of_the_twin) {
    static const size_t batches[] = {1, 7, 8, 30};
    for (size_t b = 0; b < 4; b++)
        for (int slopes = 0; slopes < 2; slopes++) {
            nets q;
            esp_rng rng;
            esp_rng_init(&rng, (uint64_t)_i, b);
            make(&q, &rng, shapes[_i][0], shapes[_i] + 1, batches[b]);
            check_passes(&q, slopes);
            unmake(&q);
        }
}
END_TEST

/* A second pass over the same memory, with fewer rows, knows nothing of the first. */
START_TEST(mlp__rows_of_an_earlier_batch_leave_no_trace) {
    nets q;
    esp_rng rng;
    esp_rng_init(&rng, 5, 5);
    make(&q, &rng, 2, (const int[]){6, 20, 12, 3}, 13);
    float *first = block(q.mlp.n_params), *again = block(q.mlp.n_params);
    memset(q.d_out + 9 * esp_padded(3), 0, 4 * esp_padded(3) * sizeof(float));
    esp_mlp_pack(&q.mlp, q.params, q.pos, q.neg, q.packed);
    for (int pass = 0; pass < 2; pass++) {
        float *grads = pass ? again : first;
        if (pass == 0) { /* all 13 rows */
            esp_mlp_forward(&q.mlp, q.packed, 13, false, &q.tape);
            esp_mlp_backward(&q.mlp, q.packed, 13, &q.tape, q.d_out, q.grads, NULL, NULL, q.work);
        }
        esp_mlp_forward(&q.mlp, q.packed, 9, false, &q.tape);
        esp_mlp_backward(&q.mlp, q.packed, 9, &q.tape, q.d_out, grads, NULL, NULL, q.work);
        for (size_t i = 9 * esp_padded(6); i < 16 * esp_padded(6); i++) q.tape.x[i] = -3; /* rows beyond the ninth */
    }
    ck_assert_int_eq(memcmp(first, again, q.mlp.n_params * sizeof *first), 0);
    free(first);
    free(again);
    unmake(&q);
}
END_TEST

/* Algorithm 1 of Kingma and Ba, with the decay of Loshchilov and Hutter, in double. */
START_TEST(adam__steps_are_those_of_the_twin) {
    enum { N = 37, DECAYED = 20 };
    float p[N], g[N], m[N], v[N];
    double tp[N], tm[N] = {0}, tv[N] = {0};
    esp_rng rng;
    esp_rng_init(&rng, 9, 1);
    esp_adam adam = {N, m, v, 7};
    esp_adam_reset(&adam);
    for (int i = 0; i < N; i++) tp[i] = (double)(p[i] = (float)esp_rng_normal(&rng));
    for (int t = 1; t <= 50; t++) {
        for (int i = 0; i < N; i++) g[i] = (float)(esp_rng_normal(&rng) * pow(10, -i % 5));
        esp_adam_step(&adam, 0.02, 0.1, DECAYED, g, p);
        for (int i = 0; i < N; i++) {
            if (i < DECAYED) tp[i] -= 0.02 * 0.1 * tp[i];
            tm[i] = 0.9 * tm[i] + 0.1 * (double)g[i];
            tv[i] = 0.999 * tv[i] + 0.001 * (double)g[i] * (double)g[i];
            tp[i] -= 0.02 * (tm[i] / (1 - pow(0.9, t))) / (sqrt(tv[i] / (1 - pow(0.999, t))) + 1e-8);
        }
        for (int i = 0; i < N; i++) ck_assert_double_eq_tol((double)p[i], tp[i], 2e-5);
    }
}
END_TEST

int main(void) {
    Suite *suite = suite_create("mlp");
    TCase *passes = tcase_create("passes");
    tcase_set_timeout(passes, 30);
    tcase_add_loop_test(passes, mlp__passes_are_those_of_the_twin, 0, sizeof shapes / sizeof *shapes);
    tcase_add_test(passes, mlp__rows_of_an_earlier_batch_leave_no_trace);
    tcase_add_test(passes, adam__steps_are_those_of_the_twin);
    suite_add_tcase(suite, passes);
    return run_suite(suite);
}
