/* SPDX-License-Identifier: Apache-2.0
 * Law: the gradient of training is the central difference of the loss, for every frame, history, rollout length, weights of
 * its steps, mask and number of lanes, in the weights and in the masks' logits.
 *
 * The oracle is a plain double-precision twin that works on raw outputs and the frame's own matrices, where training
 * works on errors in normalised units. Differences are taken over 1e-7, so that a ReLU's kink lies between the two
 * points only with a probability of about 1e-5 per seed; the tolerance, 2e-4 of the largest entry, is what float sums over a
 * few hundred terms leave. */
#include <check.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "sparsify/ladder.h"
#include "support/models.h"
#include "train/rollout.h"

#define MAX_Y     3
#define MAX_U     2
#define MAX_H     3
#define MAX_F     6
#define MAX_WIDE  16
#define MAX_P     192
#define N_WINDOWS 300 /* more than one chunk of rows */
#define STEP      1e-7
#define TOLERANCE 2e-4

typedef struct problem {
    esp_dataset data;
    esp_train_opts opts;
    double a[MAX_Y * MAX_Y * MAX_H], b[MAX_Y * MAX_U * MAX_H], c[MAX_F * MAX_Y * MAX_H], d[MAX_F * MAX_U * MAX_H], g[MAX_Y * MAX_F];
    size_t start[64];
    int n_in, n_out;
    esp_windows *windows;
    esp_mlp mlp;
    esp_rollout *rollout;
    esp_ladder *ladder;
    size_t starts[N_WINDOWS];
    int n;
} problem;

static void normals(esp_rng *rng, double *values, size_t n, double scale) {
    for (size_t i = 0; i < n; i++) values[i] = scale * esp_rng_normal(rng);
}

static int between(esp_rng *rng, int lower, int upper) {
    return lower + (int)esp_rng_below(rng, (size_t)(upper - lower + 1));
}

static void make_data(problem *q, esp_rng *rng) {
    esp_dataset *data = &q->data;
    data->ny = between(rng, 1, MAX_Y);
    data->nu = between(rng, 0, MAX_U);
    data->n_trajectories = 40;
    data->start = q->start;
    for (size_t i = 0; i < data->n_trajectories; i++) q->start[i + 1] = q->start[i] + (size_t)between(rng, 2, 20);
    data->n_rows = q->start[data->n_trajectories];
    data->n_transitions = data->n_rows - data->n_trajectories;
    data->y = malloc(data->n_rows * (size_t)data->ny * sizeof *data->y);
    data->u = data->nu ? malloc(data->n_rows * (size_t)data->nu * sizeof *data->u) : NULL;
    normals(rng, data->y, data->n_rows * (size_t)data->ny, 2);
    if (data->nu) normals(rng, data->u, data->n_rows * (size_t)data->nu, 0.5);
    for (size_t i = 0; i < data->n_rows; i++) data->y[i * (size_t)data->ny] += 100; /* far from 0, as positions are */
}

/* The frame in full matrices, whatever its kind, for the oracle; the options get the kind. */
static void make_frame(problem *q, esp_rng *rng) {
    int ny = q->data.ny, nu = q->data.nu, h = q->opts.history, n_yh = h * ny, n_uh = h * nu, kind = between(rng, 0, 2);
    q->opts.frame.kind = (esp_frame_kind)kind;
    if (kind == ESP_FRAME_LINEAR) {
        q->n_in = between(rng, 1, MAX_F);
        q->n_out = between(rng, 1, MAX_F);
        normals(rng, q->a, (size_t)(ny * n_yh), 0.5);
        normals(rng, q->b, (size_t)(ny * n_uh), 0.5);
        normals(rng, q->c, (size_t)(q->n_in * n_yh), 0.5);
        normals(rng, q->d, (size_t)(q->n_in * n_uh), 0.5);
        normals(rng, q->g, (size_t)(ny * q->n_out), 0.5);
        q->opts.frame = (esp_frame){ESP_FRAME_LINEAR, q->a, q->b, q->c, q->d, q->g};
        q->opts.f_in = q->n_in;
        q->opts.f_out = q->n_out;
        return;
    }
    q->n_in = n_yh + n_uh;
    q->n_out = ny;
    for (int i = 0; i < ny; i++) q->g[i * ny + i] = 1;
    for (int i = 0; kind == ESP_FRAME_RESIDUAL && i < ny; i++) q->a[i * n_yh + n_yh - ny + i] = 1;
}

/* Three lanes, one after the other, the last first. */
static void run_by_turns(void *user, void (*part)(void *arg, int i), void *arg) {
    (void)user;
    for (int i = 3; i-- > 0;) part(arg, i);
}

static const esp_parallel by_turns = {3, NULL, run_by_turns};

static void make_problem(problem *q, uint64_t seed, int rollout, esp_rng *rng) {
    esp_error error = {0};
    esp_ladder_opts masks = {0.3, 0.2, 0.7, false};
    memset(q, 0, sizeof *q);
    esp_rng_init(rng, seed, 7);
    make_data(q, rng);
    esp_train_opts_init(&q->opts);
    q->opts.history = between(rng, 1, MAX_H);
    q->opts.rollout = rollout;
    q->opts.batch = 1;
    q->opts.seed = seed;
    for (int k = 0; k < rollout; k++) q->opts.step_weights[k] = seed % 2 ? esp_rng_uniform(rng) : 1;
    make_frame(q, rng);
    ck_assert_msg(esp_windows_create(&q->data, &q->opts, &q->windows, &error) == ESP_OK, "%s", error.message);
    int hidden[2] = {between(rng, 2, 6), between(rng, 2, 5)};
    esp_mlp_init(&q->mlp, q->n_in, hidden, 2, q->n_out);
    ck_assert_int_eq(esp_rollout_create(&q->mlp, q->windows, rollout, seed % 3 == 0 ? &by_turns : NULL, &q->rollout, &error), ESP_OK);
    ck_assert_int_eq(esp_ladder_create(q->mlp.n_neurons, &masks, &q->ladder, &error), ESP_OK);
    q->n = q->windows->n_starts < N_WINDOWS ? (int)q->windows->n_starts : N_WINDOWS;
    memcpy(q->starts, q->windows->starts, (size_t)q->n * sizeof *q->starts);
}

static void free_problem(problem *q) {
    esp_ladder_free(q->ladder);
    esp_rollout_free(q->rollout);
    esp_windows_free(q->windows);
    free(q->data.y);
    free(q->data.u);
}

/* ---- the oracle ------------------------------------------------------------------------------------------------------ */

/* The trajectory's first row and the transition of training row r. */
static void locate(const problem *q, size_t r, size_t *ret_row, size_t *ret_t) {
    for (size_t o = 0, at = 0; o < q->windows->n_order; o++) {
        size_t i = q->windows->order[o], observations = q->start[i + 1] - q->start[i], h = (size_t)q->opts.history;
        size_t rows = observations > h ? observations - h : 0;
        if (r < at + rows) {
            *ret_row = q->start[i];
            *ret_t = r - at + h - 1;
            return;
        }
        at += rows;
    }
    ck_abort_msg("row %zu is not there", r);
}

/* o of normalised v; neurons as z1 ReLU + z2 identity, z (n_neurons x 3). */
static void twin_net(const problem *q, const double *params, const double *z, const double *v, double *o) {
    double in[MAX_WIDE], out[MAX_WIDE];
    memcpy(in, v, (size_t)q->n_in * sizeof *in);
    for (int l = 0; l < 3; l++) {
        int n_in = q->mlp.width[l], n_out = q->mlp.width[l + 1];
        for (int i = 0; i < n_out; i++) {
            double p = params[q->mlp.bias[l] + (size_t)i];
            for (int j = 0; j < n_in; j++) p += params[q->mlp.weight[l] + (size_t)(i * n_in + j)] * in[j];
            const double *mask = l < 2 ? z + 3 * (q->mlp.neuron[l] + (size_t)i) : (const double[3]){0, 1, 0};
            out[i] = mask[0] * fmax(p, 0) + mask[1] * p;
        }
        memcpy(in, out, sizeof in);
    }
    memcpy(o, in, (size_t)q->n_out * sizeof *o);
}

/* y(t+1) of the stacks Y and U. */
static void twin_step(const problem *q, const double *params, const double *z, const double *yh, const double *uh, double *y) {
    int ny = q->data.ny, n_yh = q->opts.history * ny, n_uh = q->opts.history * q->data.nu;
    bool linear = q->opts.frame.kind == ESP_FRAME_LINEAR;
    double v[MAX_WIDE], o[MAX_WIDE];
    for (int i = 0; i < q->n_in; i++) {
        v[i] = linear ? 0 : i < n_yh ? yh[i] : uh[i - n_yh];
        for (int j = 0; linear && j < n_yh; j++) v[i] += q->c[i * n_yh + j] * yh[j];
        for (int j = 0; linear && j < n_uh; j++) v[i] += q->d[i * n_uh + j] * uh[j];
        v[i] = (v[i] - q->windows->in_mean[i]) / q->windows->in_scale[i];
    }
    twin_net(q, params, z, v, o);
    for (int i = 0; i < ny; i++) {
        y[i] = 0;
        for (int j = 0; j < n_yh; j++) y[i] += q->a[i * n_yh + j] * yh[j];
        for (int j = 0; j < n_uh; j++) y[i] += q->b[i * n_uh + j] * uh[j];
        for (int j = 0; j < q->n_out; j++) y[i] += q->g[i * q->n_out + j] * (q->windows->out_scale[j] * o[j] + q->windows->out_mean[j]);
    }
}

static double twin_loss(const problem *q, const double *params, const double *z) {
    size_t ny = (size_t)q->data.ny, nu = (size_t)q->data.nu, h = (size_t)q->opts.history;
    double sum = 0, y[24][MAX_Y];
    for (int n = 0; n < q->n; n++) {
        size_t row, t;
        locate(q, q->starts[n], &row, &t);
        size_t first = row + t + 1 - h; /* y[i] stands for observation first + i, predicted from i = h on */
        for (size_t i = 0; i < h; i++) memcpy(y[i], q->data.y + (first + i) * ny, ny * sizeof(double));
        for (size_t k = 0; k < (size_t)q->opts.rollout; k++) {
            double yh[MAX_Y * MAX_H], uh[MAX_U * MAX_H] = {0};
            for (size_t i = 0; i < h; i++) memcpy(yh + i * ny, y[k + i], ny * sizeof(double));
            if (nu) memcpy(uh, q->data.u + (first + k) * nu, h * nu * sizeof(double));
            twin_step(q, params, z, yh, uh, y[k + h]);
            for (size_t i = 0; i < ny; i++) {
                double e = (y[k + h][i] - q->data.y[(first + k + h) * ny + i]) / q->windows->y_scale[i];
                sum += q->opts.step_weights[k] * e * e;
            }
        }
    }
    return sum / (q->n * q->opts.rollout * (double)ny);
}

/* ---- the law --------------------------------------------------------------------------------------------------------- */

typedef double value_of(const problem *q, double *at, const void *rest);

static double by_params(const problem *q, double *params, const void *z) {
    return twin_loss(q, params, z);
}

typedef struct masks_rest {
    const double *params, *noise; /* noise: n_neurons x 3 */
} masks_rest;

static void softmax(const double *a, double tau, double *ret) {
    double sum = 0;
    for (int k = 0; k < 3; k++) sum += ret[k] = exp(a[k] / tau);
    for (int k = 0; k < 3; k++) ret[k] /= sum;
}

/* Masks of the logits with the noise held, frozen neurons as they are. */
static void masks_of(const problem *q, const double *logits, const double *noise, double *z) {
    for (size_t i = 0; i < q->mlp.n_neurons; i++) {
        double a[3] = {logits[3 * i] + noise[3 * i], logits[3 * i + 1] + noise[3 * i + 1], logits[3 * i + 2] + noise[3 * i + 2]};
        uint8_t state = q->ladder->state[i];
        if (state == ESP_UNDECIDED)
            softmax(a, (double)q->ladder->tau, z + 3 * i);
        else
            for (int k = 0; k < 3; k++) z[3 * i + (size_t)k] = k == (state == ESP_ACT_IDENTITY ? ESP_CLASS_IDENTITY : ESP_CLASS_ZERO);
    }
}

static double by_logits(const problem *q, double *logits, const void *rest) {
    const masks_rest *m = rest;
    double z[3 * 16], penalty = 0;
    masks_of(q, logits, m->noise, z);
    for (size_t i = 0; i < q->mlp.n_neurons; i++) {
        double pi[3];
        softmax(logits + 3 * i, 1, pi);
        if (q->ladder->state[i] == ESP_UNDECIDED) penalty += (double)q->ladder->lambda * (pi[0] + (double)q->ladder->lambda_id * pi[1]);
    }
    return twin_loss(q, m->params, z) + penalty;
}

static void check_gradient(const problem *q, value_of *value, double *at, const void *rest, const float *grads, size_t n, const char *what) {
    double largest = 0, difference[MAX_P];
    ck_assert_uint_le(n, MAX_P);
    for (size_t i = 0; i < n; i++) {
        double keep = at[i];
        at[i] = keep + STEP;
        difference[i] = value(q, at, rest);
        at[i] = keep - STEP;
        difference[i] = (difference[i] - value(q, at, rest)) / (2 * STEP);
        at[i] = keep;
        largest = fmax(largest, fabs(difference[i]));
    }
    ck_assert_double_gt(largest, 1e-6); /* a gradient of nothing would agree with anything */
    for (size_t i = 0; i < n; i++)
        ck_assert_msg(fabs(difference[i] - (double)grads[i]) <= TOLERANCE * largest,
                      "%s %zu: difference %.9g, gradient %.9g, largest %.3g (frame %d, history %d)", what, i, difference[i], (double)grads[i],
                      largest, (int)q->opts.frame.kind, q->opts.history);
}

static void check_law(uint64_t seed, int rollout) {
    problem q;
    esp_rng rng, replay;
    float params[MAX_P], grads[MAX_P] = {0}, positive[16] = {0}, negative[16] = {0};
    double params_d[MAX_P], logits[48], noise[48], z[48];
    make_problem(&q, seed, rollout, &rng);
    size_t n = q.mlp.n_params, neurons = q.mlp.n_neurons;
    ck_assert_uint_le(n, MAX_P);
    esp_mlp_seed(&q.mlp, q.windows->live, &rng, params);
    esp_ladder_freeze(q.ladder, neurons - 2, NULL);
    q.ladder->state[0] = q.ladder->state[0] == ESP_UNDECIDED ? ESP_UNDECIDED : ESP_ACT_ZERO;
    for (size_t i = 0; i < 3 * neurons; i++) q.ladder->logits[i] = (float)esp_rng_normal(&rng);
    esp_rng_init(&replay, seed, 8);
    for (size_t i = 0; i < 3 * neurons; i++) noise[i] = q.ladder->state[i / 3] == ESP_UNDECIDED ? esp_rng_gumbel(&replay) : 0;
    esp_rng_init(&replay, seed, 8);
    esp_ladder_sample(q.ladder, &replay);

    esp_slope_grads slopes = {positive, negative};
    esp_rollout_call call = {.params = params,
                             .pos = q.ladder->pos,
                             .neg = q.ladder->neg,
                             .starts = q.starts,
                             .n = (size_t)q.n,
                             .steps = rollout,
                             .weights = seed % 2 ? q.opts.step_weights : NULL,
                             .grads = grads,
                             .slopes = &slopes};
    double loss = esp_rollout_loss(q.rollout, &call, NULL);
    esp_ladder_backward(q.ladder, positive, negative);
    for (size_t i = 0; i < n; i++) params_d[i] = (double)params[i];
    for (size_t i = 0; i < 3 * neurons; i++) logits[i] = (double)q.ladder->logits[i];
    masks_of(&q, logits, noise, z);
    ck_assert_double_eq_tol(loss, twin_loss(&q, params_d, z), 1e-5 * (1 + loss));
    check_gradient(&q, by_params, params_d, z, grads, n, "parameter");
    for (size_t i = 0; i < 3 * neurons; i++) ck_assert(q.ladder->state[i / 3] == ESP_UNDECIDED || q.ladder->grads[i] == 0);
    masks_rest rest = {params_d, noise};
    check_gradient(&q, by_logits, logits, &rest, q.ladder->grads, 3 * neurons, "logit");
    free_problem(&q);
}

START_TEST(gradient__one_step_is_the_central_difference) {
    seed_range range = seeds(25);
    for (uint64_t seed = range.first; seed <= range.last; seed++) check_law(seed, 1);
}
END_TEST

START_TEST(gradient__three_step_rollout_is_the_central_difference) {
    seed_range range = seeds(25);
    for (uint64_t seed = range.first; seed <= range.last; seed++) check_law(seed, 3);
}
END_TEST

START_TEST(gradient__seven_step_rollout_is_the_central_difference) {
    seed_range range = seeds(10);
    for (uint64_t seed = range.first; seed <= range.last; seed++) check_law(seed, 7);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("gradient");
    TCase *law = tcase_create("law");
    tcase_set_timeout(law, 60);
    tcase_add_test(law, gradient__one_step_is_the_central_difference);
    tcase_add_test(law, gradient__three_step_rollout_is_the_central_difference);
    tcase_add_test(law, gradient__seven_step_rollout_is_the_central_difference);
    suite_add_tcase(suite, law);
    return run_suite(suite);
}
