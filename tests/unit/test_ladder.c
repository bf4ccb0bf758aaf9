/* SPDX-License-Identifier: Apache-2.0
 * The Gumbel ladder: draws, gradients, the ranking rule, freezing, and what a training run emits on each rung. */
#include <check.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "sparsify/ladder.h"
#include "support/models.h"
#include "train/emit.h"
#include "train/train.h"

static esp_ladder *ladder_of(size_t n, double tau, bool straight_through) {
    esp_ladder_opts opts = {0.5, 0.1, tau, straight_through};
    esp_ladder *ladder = NULL;
    ck_assert_int_eq(esp_ladder_create(n, &opts, &ladder, NULL), ESP_OK);
    return ladder;
}

static void set_pi(esp_ladder *ladder, size_t i, double relu, double identity, double zero) {
    ladder->logits[3 * i] = (float)log(relu);
    ladder->logits[3 * i + 1] = (float)log(identity);
    ladder->logits[3 * i + 2] = (float)log(zero);
}

START_TEST(ladder__ranks_by_the_larger_of_identity_and_zero) {
    esp_ladder *ladder = ladder_of(5, 0.5, true);
    size_t frozen[5];
    set_pi(ladder, 0, 0.1, 0.45, 0.45); /* least likely ReLU, yet no class stands out */
    set_pi(ladder, 1, 0.2, 0.7, 0.1);
    set_pi(ladder, 2, 0.05, 0.15, 0.8);
    set_pi(ladder, 3, 0.9, 0.05, 0.05);
    set_pi(ladder, 4, 0.4, 0.5, 0.1);
    ck_assert_uint_eq(esp_ladder_freeze(ladder, 2, frozen), 3);
    ck_assert_uint_eq(frozen[0], 2);
    ck_assert_uint_eq(frozen[1], 1);
    ck_assert_uint_eq(frozen[2], 4);
    ck_assert_int_eq(ladder->state[2], ESP_ACT_ZERO);
    ck_assert_int_eq(ladder->state[1], ESP_ACT_IDENTITY);
    ck_assert_int_eq(ladder->state[4], ESP_ACT_IDENTITY);
    ck_assert_int_eq(ladder->state[0], ESP_UNDECIDED);
    ck_assert_int_eq(ladder->state[3], ESP_UNDECIDED);
    ck_assert_uint_eq(ladder->n_undecided, 2);
    esp_ladder_free(ladder);
}
END_TEST

START_TEST(ladder__a_tie_of_classes_is_identity_and_a_tie_of_neurons_goes_by_number) {
    esp_ladder *ladder = ladder_of(4, 0.5, true);
    size_t frozen[4];
    for (size_t i = 0; i < 4; i++) set_pi(ladder, i, 0.2, 0.4, 0.4);
    ck_assert_uint_eq(esp_ladder_freeze(ladder, 2, frozen), 2);
    ck_assert_uint_eq(frozen[0], 0);
    ck_assert_uint_eq(frozen[1], 1);
    ck_assert_int_eq(ladder->state[0], ESP_ACT_IDENTITY);
    esp_ladder_free(ladder);
}
END_TEST

START_TEST(ladder__ranks_neurons_whose_pi_rounds_to_one) {
    esp_ladder *ladder = ladder_of(3, 0.5, true);
    size_t frozen[3];
    for (size_t i = 0; i < 3; i++) {
        ladder->logits[3 * i] = 0;
        ladder->logits[3 * i + 1] = 60 + 10 * (float)i;
        ladder->logits[3 * i + 2] = 0;
    }
    ck_assert_uint_eq(esp_ladder_freeze(ladder, 1, frozen), 2);
    ck_assert_uint_eq(frozen[0], 2);
    ck_assert_uint_eq(frozen[1], 1);
    esp_ladder_free(ladder);
}
END_TEST

START_TEST(ladder__frozen_stays_frozen_and_the_rest_starts_over) {
    esp_ladder *ladder = ladder_of(4, 0.5, true);
    esp_rng rng;
    double pi[3], fresh[3];
    esp_rng_init(&rng, 1, 1);
    esp_ladder_pi(ladder, 0, fresh);
    set_pi(ladder, 0, 0.1, 0.8, 0.1);
    set_pi(ladder, 1, 0.1, 0.1, 0.8);
    set_pi(ladder, 2, 0.9, 0.05, 0.05);
    esp_ladder_freeze(ladder, 2, NULL);
    esp_ladder_pi(ladder, 2, pi);
    for (int k = 0; k < 3; k++) ck_assert_double_eq_tol(pi[k], fresh[k], 1e-7);
    set_pi(ladder, 0, 0.999, 0.0005, 0.0005); /* of no effect: decided */
    for (int draw = 0; draw < 200; draw++) {
        esp_ladder_sample(ladder, &rng);
        ck_assert(ladder->pos[0] == 1 && ladder->neg[0] == 1 && ladder->pos[1] == 0 && ladder->neg[1] == 0);
    }
    ck_assert_uint_eq(esp_ladder_freeze(ladder, 3, NULL), 0);
    ck_assert_uint_eq(ladder->n_undecided, 2);
    ck_assert_uint_eq(esp_ladder_freeze(ladder, 0, NULL), 2);
    ck_assert_int_eq(ladder->state[0], ESP_ACT_IDENTITY);
    ck_assert_int_eq(ladder->state[1], ESP_ACT_ZERO);
    esp_ladder_free(ladder);
}
END_TEST

/* The Gumbel-max trick: the argmax of log pi + noise is class k with probability pi_k, whatever tau. */
START_TEST(ladder__hard_draws_follow_pi) {
    esp_ladder *ladder = ladder_of(1, 0.3, true);
    esp_rng rng;
    const double pi[3] = {0.6, 0.3, 0.1};
    int counts[3] = {0}, n = 40000;
    esp_rng_init(&rng, 3, 1);
    set_pi(ladder, 0, pi[0], pi[1], pi[2]);
    for (int i = 0; i < n; i++) {
        esp_ladder_sample(ladder, &rng);
        ck_assert(ladder->pos[0] == 0 || ladder->pos[0] == 1);
        counts[ladder->neg[0] == 1 ? 1 : ladder->pos[0] == 1 ? 0 : 2]++;
    }
    for (int k = 0; k < 3; k++) ck_assert_double_eq_tol((double)counts[k] / n, pi[k], 4.5 * sqrt(pi[k] * (1 - pi[k]) / n));
    esp_ladder_free(ladder);
}
END_TEST

START_TEST(ladder__soft_slopes_are_those_of_the_mask) {
    esp_ladder *ladder = ladder_of(50, 0.7, false);
    esp_rng rng;
    esp_rng_init(&rng, 4, 1);
    esp_ladder_sample(ladder, &rng);
    for (size_t i = 0; i < 50; i++) {
        const float *z = ladder->soft + 3 * i;
        ck_assert_double_eq_tol((double)(z[0] + z[1] + z[2]), 1, 1e-6);
        ck_assert_double_eq_tol((double)ladder->pos[i], (double)(z[0] + z[1]), 1e-6);
        ck_assert(ladder->neg[i] == z[1]);
    }
    esp_ladder_free(ladder);
}
END_TEST

/* Straight-through: hard slopes forward, and backwards the gradient that the soft mask would have: of the linear form
 * dz1 z1 + dz2 z2 plus the penalty, by central differences with the noise held. */
START_TEST(ladder__straight_through_passes_the_soft_gradient) {
    esp_ladder *ladder = ladder_of(8, 0.5, true);
    esp_rng rng, replay;
    float positive[8], negative[8];
    esp_rng_init(&rng, 5, 1);
    for (int i = 0; i < 24; i++) ladder->logits[i] = (float)esp_rng_normal(&rng);
    for (int i = 0; i < 8; i++) positive[i] = (float)esp_rng_normal(&rng), negative[i] = (float)esp_rng_normal(&rng);
    replay = rng;
    esp_ladder_sample(ladder, &rng);
    esp_ladder_backward(ladder, positive, negative);
    for (int i = 0; i < 8; i++) {
        double noise[3];
        for (int k = 0; k < 3; k++) noise[k] = esp_rng_gumbel(&replay);
        for (int k = 0; k < 3; k++) {
            double value[2];
            for (int side = 0; side < 2; side++) {
                double z[3], pi[3], z_sum = 0, pi_sum = 0;
                for (int c = 0; c < 3; c++) {
                    double a = (double)ladder->logits[3 * i + c] + (c == k ? (side ? 1e-5 : -1e-5) : 0);
                    z_sum += z[c] = exp((a + noise[c]) / 0.5);
                    pi_sum += pi[c] = exp(a);
                }
                value[side] = (double)positive[i] * (z[0] + z[1]) / z_sum + (double)negative[i] * z[1] / z_sum + 0.5 * (pi[0] + 0.1 * pi[1]) / pi_sum;
            }
            ck_assert_double_eq_tol((double)ladder->grads[3 * i + k], (value[1] - value[0]) / 2e-5, 1e-5);
        }
    }
    esp_ladder_free(ladder);
}
END_TEST

/* ---- in a training run ----------------------------------------------------------------------------------------------- */

/* 20 trajectories of a kinked map in two outputs and one input. */
static esp_dataset *kinked_data(void) {
    esp_dataset *data = calloc(1, sizeof *data);
    esp_rng rng;
    esp_rng_init(&rng, 11, 1);
    *data = (esp_dataset){.ny = 2, .nu = 1, .n_trajectories = 20, .n_transitions = 20 * 30, .n_rows = 20 * 31};
    data->start = malloc(21 * sizeof *data->start);
    data->y = malloc(data->n_rows * 2 * sizeof *data->y);
    data->u = calloc(data->n_rows, sizeof *data->u);
    for (size_t i = 0; i <= 20; i++) data->start[i] = 31 * i;
    for (size_t r = 0; r < data->n_rows; r++) {
        double *y = data->y + 2 * r;
        if (r % 31 == 0) {
            y[0] = 50 + esp_rng_normal(&rng);
            y[1] = esp_rng_normal(&rng);
        } else {
            double u = data->u[r - 1], before = y[-2] - 50;
            y[0] = 50 + 0.8 * before + fmax(0, u) - 0.3 * fabs(y[-1]);
            y[1] = 0.5 * y[-1] + 0.4 * fmax(before, -0.2) - u;
        }
        if (r % 31 != 30) data->u[r] = esp_rng_normal(&rng);
    }
    return data;
}

typedef struct rungs {
    int n, relu[8];
    esp_model *models[8];
} rungs;

static esp_code keep_model(void *user, const esp_train_model *out, esp_error *reterr) {
    rungs *all = user;
    esp_net *net;
    esp_code code = esp_net_copy(out->model->net, &net, reterr);
    if (code != ESP_OK) return code;
    ck_assert(isfinite(out->validation_rmse) && isfinite(out->rollout_rmse));
    all->relu[all->n] = out->relu;
    return esp_model_create(ESP_MODEL_DYNAMICS, 2, 1, 1, &out->model->frame, net, &all->models[all->n++], reterr);
}

START_TEST(ladder__every_rung_has_exactly_its_relus_and_masks_are_nested) {
    esp_dataset *data = kinked_data();
    esp_train_opts opts;
    rungs all = {0};
    esp_error error = {0};
    esp_train_opts_init(&opts);
    opts.hidden[0] = 9;
    opts.hidden[1] = 7;
    opts.batch = 32;
    opts.epochs = 3;
    opts.rung_epochs = _i == 0 ? 1 : 6; /* also when there is hardly time */
    opts.straight_through = _i != 2;
    opts.n_rungs = 5;
    memcpy(opts.ladder, (const int[]){15, 9, 4, 1, 0}, 5 * sizeof(int));
    esp_train_hooks hooks = {.user = &all, .model = keep_model};
    ck_assert_msg(esp_train_run(data, &opts, &hooks, NULL, &error) == ESP_OK, "%s", error.message);
    ck_assert_int_eq(all.n, 6);
    for (int m = 0; m < all.n; m++) {
        int expected = m == 0 ? 16 : opts.ladder[m - 1];
        ck_assert_int_eq(esp_net_relus(all.models[m]->net), expected);
        ck_assert_int_eq(all.relu[m], expected);
        for (int l = 0; m > 0 && l < 2; l++)
            for (int i = 0; i < all.models[m]->net->layers[l].n_out; i++) {
                uint8_t before = all.models[m - 1]->net->layers[l].act[i];
                if (before != ESP_ACT_RELU) ck_assert_int_eq(all.models[m]->net->layers[l].act[i], before);
            }
    }
    for (int m = 0; m < all.n; m++) esp_model_free(all.models[m]);
    esp_dataset_free(data);
}
END_TEST

/* The emitted model, evaluated in long double by the tests' own code, against the float network in normalised units. */
START_TEST(ladder__emitted_model_is_the_network_in_training) {
    esp_dataset *data = kinked_data();
    esp_train_opts opts;
    esp_windows *w = NULL;
    esp_mlp mlp;
    esp_ladder *ladder;
    esp_model *model;
    esp_rng rng;
    float params[256], packed[4096], memory[4096];
    double x[64], y[2];
    esp_tape tape;
    esp_error error = {0};
    esp_rng_init(&rng, 6, 1);
    esp_train_opts_init(&opts);
    opts.batch = 32;
    opts.history = 1 + _i;
    opts.frame.kind = _i == 1 ? ESP_FRAME_RESIDUAL : ESP_FRAME_NONE;
    ck_assert_msg(esp_windows_create(data, &opts, &w, &error) == ESP_OK, "%s", error.message);
    esp_mlp_init(&mlp, w->n_in, (const int[]){8, 6}, 2, w->n_out);
    ck_assert_uint_le(mlp.n_params, 256);
    esp_mlp_seed(&mlp, w->live, &rng, params);
    ladder = ladder_of(mlp.n_neurons, 0.5, true);
    for (size_t i = 0; i < 3 * mlp.n_neurons; i++) ladder->logits[i] = (float)esp_rng_normal(&rng);
    esp_ladder_freeze(ladder, 7, NULL);
    ck_assert_int_eq(esp_emit_model(&mlp, params, ladder, w, &opts.frame, 1, &model, &error), ESP_OK);
    ck_assert_int_eq(esp_net_relus(model->net), 7);

    ck_assert_uint_le(esp_tape_floats(&mlp, 16), 4096);
    ck_assert_uint_le(mlp.n_packed, 4096);
    esp_tape_init(&tape, &mlp, 16, memory);
    memset(memory, 0, sizeof memory);
    for (size_t r = 0; r < 10; r++) memcpy(tape.x + 16 * r, w->features + r * (size_t)w->n_in, (size_t)w->n_in * sizeof(float));
    esp_mlp_pack(&mlp, params, ladder->pos, ladder->neg, packed);
    esp_mlp_forward(&mlp, packed, 10, false, &tape);
    for (size_t r = 0; r < 10; r++) { /* rows of the first trajectory in the split's order */
        size_t start = data->start[w->order[0]], t = r + (size_t)opts.history - 1;
        esp_windows_x(data, opts.history, start, t, x);
        oracle_step(model, x, y, NULL);
        for (size_t i = 0; i < 2; i++) {
            double e = (double)tape.h[2][16 * r + i] * w->out_scale[i] / w->y_scale[i] - (double)w->targets[2 * r + i];
            double expected = data->y[2 * (start + t + 1) + i] + e * w->y_scale[i];
            ck_assert_double_eq_tol(y[i], expected, 1e-5 * w->y_scale[i]);
        }
    }
    esp_model_free(model);
    esp_ladder_free(ladder);
    esp_windows_free(w);
    esp_dataset_free(data);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("ladder");
    TCase *masks = tcase_create("masks"), *run = tcase_create("run");
    tcase_add_test(masks, ladder__ranks_by_the_larger_of_identity_and_zero);
    tcase_add_test(masks, ladder__a_tie_of_classes_is_identity_and_a_tie_of_neurons_goes_by_number);
    tcase_add_test(masks, ladder__ranks_neurons_whose_pi_rounds_to_one);
    tcase_add_test(masks, ladder__frozen_stays_frozen_and_the_rest_starts_over);
    tcase_add_test(masks, ladder__hard_draws_follow_pi);
    tcase_add_test(masks, ladder__soft_slopes_are_those_of_the_mask);
    tcase_add_test(masks, ladder__straight_through_passes_the_soft_gradient);
    tcase_set_timeout(run, 30);
    tcase_add_loop_test(run, ladder__every_rung_has_exactly_its_relus_and_masks_are_nested, 0, 3);
    tcase_add_loop_test(run, ladder__emitted_model_is_the_network_in_training, 0, 3);
    suite_add_tcase(suite, masks);
    suite_add_tcase(suite, run);
    return run_suite(suite);
}
